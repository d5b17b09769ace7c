//! `/api/search`: Kittiwake's own search over all logs, newest first, page by page. Its
//! language is that of [`kittiwake_logql::search`]; `openapi.json` beside this file describes it.

mod context;
mod counts;
mod entries;
mod stream;
mod tail;

use std::ops::ControlFlow;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use kittiwake_logql as logql;
use kittiwake_logql::search::Search;
use kittiwake_model::{
    EntryBatch, EntryId, LogStore, QueryContext, Scan, StoreError, TimeRange, each_entry,
};

pub use context::context;
pub use tail::tail;

use crate::app::App;
use crate::loki_api;
use crate::params::Params;
use crate::prometheus_api::params;
use crate::reply::{Problem, json, push_json_str};
use counts::Counts;
use entries::{push_entry, read_id, write_id};

/// What a request looks for.
#[derive(Debug, Clone)]
struct Wanted {
    search: Search,
    /// Whether what the store finds must be looked at again.
    is_partial: bool,
    /// Without limit.
    scan: Scan,
}

impl Wanted {
    fn new(app: &App, params: &Params) -> Result<Self, Problem> {
        let invalid = |name: &str, why: &dyn std::fmt::Display| {
            Problem::bad_data(format!("invalid parameter {name:?}: {why}"))
        };
        let search = Search::parse(params.get("query").unwrap_or(""))
            .map_err(|error| invalid("query", &error))?;
        let selector = match params.get("selector") {
            None => Vec::new(),
            Some(text) if text.trim() == "{}" => Vec::new(),
            Some(text) => {
                logql::parse_selector(text).map_err(|error| invalid("selector", &error))?
            }
        };
        let end = params.time_ns("end")?.map_or_else(
            || app.now_ns().saturating_add(60_000_000_000),
            |end| end.saturating_sub(1),
        );
        let start = params.time_ns("start")?.unwrap_or(i64::MIN);
        if end < start.saturating_sub(1) {
            return Err(invalid("end", &"it must not be before \"start\""));
        }
        let read_cursor = |text: &str| {
            let why = format!("{text:?} did not come from an answer");
            read_id(text).ok_or_else(|| invalid("cursor", &why))
        };
        let (filters, is_all) = search.filters();
        let scan = Scan {
            filters,
            after: params.get("cursor").map(read_cursor).transpose()?,
            ..Scan::new(
                selector,
                TimeRange::new(start, end),
                loki_api::direction(params)?,
            )
        };
        Ok(Self {
            search,
            is_partial: !is_all,
            scan,
        })
    }

    /// Gives each entry that is found to a visitor, which says whether to go on.
    fn each(
        &self,
        store: &dyn LogStore,
        scan: &Scan,
        context: &QueryContext,
        mut visit: impl FnMut(&EntryBatch, usize) -> bool,
    ) -> Result<(), StoreError> {
        each_entry(store, scan, context, |batch, index| {
            if self.finds(batch, index) && !visit(batch, index) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
    }

    /// Whether an entry that the store found is one.
    fn finds(&self, batch: &EntryBatch, index: usize) -> bool {
        let accepts = || {
            self.search
                .accepts(batch.labels(index), &batch.entries[index])
        };
        !self.is_partial || accepts()
    }

    /// The scan of one page.
    fn page(&self, limit: usize) -> Scan {
        let mut scan = self.scan.clone();
        if !self.is_partial {
            scan.limit = limit;
        }
        scan
    }
}

/// `/api/search`: what is looked for in `query`, `start` and `end` (the end is not included),
/// `limit`, `selector` (`{container="web"}`), `direction`, and `cursor` from the page before.
/// With `histogram` or `facet` all that is found is counted, too. `Accept:
/// application/x-ndjson` gives an entry a line as they are found, however many.
pub async fn search(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let is_streamed = wants_lines(request.headers());
    let params = params(request).await?;
    let wanted = Wanted::new(&app, &params)?;
    if is_streamed {
        return stream::streamed(&app, wanted, &params);
    }
    let limit = loki_api::limit(&params)?;
    let counts = Counts::new(&params, &wanted.scan)?;
    let store = app.logs.clone();
    let find = move |context: &QueryContext| {
        let (mut count, mut last) = (0, None);
        let mut out = String::from(r#"{"entries":["#);
        wanted.each(
            store.as_ref(),
            &wanted.page(limit),
            context,
            |batch, index| {
                if count > 0 {
                    out.push(',');
                }
                count += 1;
                push_entry(&mut out, batch, index, Some(&wanted.search));
                last = Some(batch.id(index));
                count < limit
            },
        )?;
        out.push_str("],");
        push_cursor(&mut out, last.filter(|_| count == limit));
        if let Some(mut counts) = counts {
            counts.count(&wanted, store.as_ref(), context)?;
            counts.push(&mut out);
        }
        out.push('}');
        Ok(out)
    };
    Ok(json(app.queries.run(None, find).await?))
}

/// A page that is not full is the last one.
fn push_cursor(out: &mut String, next: Option<EntryId>) {
    out.push_str("\"cursor\":");
    match next {
        Some(id) => push_json_str(out, &write_id(id)),
        None => out.push_str("null"),
    }
}

fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains("application/x-ndjson"))
}

/// `/api/search/openapi.json`: the description of this API.
pub async fn openapi() -> Response {
    json(include_str!("search_api/openapi.json").to_owned())
}
