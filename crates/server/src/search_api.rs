//! `/api/search`: Kittiwake's own search over all logs, newest first, page by page.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use kittiwake_logql as logql;
use kittiwake_model::{EntryBatch, EntryId, LogStore as _, Scan, SeriesHash, TimeRange};

use crate::app::App;
use crate::loki_api;
use crate::params::Params;
use crate::prometheus_api::params;
use crate::reply::{Problem, json, push_json_labels, push_json_str};

/// `/api/search`: words in `query`, `start` and `end` (the end is not included), `limit`,
/// `selector` (`{container="web"}`), `direction`, and `cursor` from the page before.
pub async fn search(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let scan = scan_of(&app, &params)?;
    let limit = scan.limit;
    let store = app.logs.clone();
    let find = move |context: &_| {
        let mut cursor = store.scan(&scan, context)?;
        let (mut batch, mut count, mut last) = (EntryBatch::default(), 0, None);
        let mut out = String::from(r#"{"entries":["#);
        while cursor.next_batch(&mut batch)? {
            for index in 0..batch.len() {
                if count > 0 {
                    out.push(',');
                }
                count += 1;
                let id = batch.id(index);
                push_entry(&mut out, &batch, index, id);
                last = Some(id);
            }
        }
        out.push_str("],\"cursor\":");
        // A page that is not full is the last one.
        match last.filter(|_| count == limit) {
            Some(id) => push_json_str(&mut out, &write_id(id)),
            None => out.push_str("null"),
        }
        out.push('}');
        Ok(out)
    };
    Ok(json(app.queries.run(None, find).await?))
}

fn scan_of(app: &App, params: &Params) -> Result<Scan, Problem> {
    let filters = logql::search::parse(params.get("query").unwrap_or(""))
        .map_err(|e| Problem::bad_data(format!("invalid parameter \"query\": {e}")))?;
    let selector = match params.get("selector") {
        None => Vec::new(),
        Some(text) if text.trim() == "{}" => Vec::new(),
        Some(text) => logql::parse_selector(text)
            .map_err(|e| Problem::bad_data(format!("invalid parameter \"selector\": {e}")))?,
    };
    let end = params.time_ns("end")?.map_or_else(
        || app.now_ns().saturating_add(60_000_000_000),
        |end| end.saturating_sub(1),
    );
    let start = params.time_ns("start")?.unwrap_or(i64::MIN);
    if end < start.saturating_sub(1) {
        return Err(Problem::bad_data(
            "invalid parameter \"end\": it must not be before \"start\"",
        ));
    }
    let after = params
        .get("cursor")
        .map(|text| {
            read_id(text).ok_or_else(|| {
                Problem::bad_data(format!(
                    "invalid parameter \"cursor\": {text:?} did not come from an answer"
                ))
            })
        })
        .transpose()?;
    Ok(Scan {
        filters,
        after,
        limit: loki_api::limit(params)?,
        ..Scan::new(
            selector,
            TimeRange::new(start, end),
            loki_api::direction(params)?,
        )
    })
}

fn push_entry(out: &mut String, batch: &EntryBatch, index: usize, id: EntryId) {
    let entry = &batch.entries[index];
    out.push_str(r#"{"time":""#);
    out.push_str(&entry.time_ns.to_string());
    out.push_str(r#"","line":"#);
    push_json_str(out, &entry.line);
    out.push_str(r#","labels":"#);
    push_json_labels(out, batch.labels(index));
    if !entry.metadata.is_empty() {
        out.push_str(r#","metadata":"#);
        push_json_labels(out, &entry.metadata);
    }
    out.push_str(r#","id":"#);
    push_json_str(out, &write_id(id));
    out.push('}');
}

fn write_id(id: EntryId) -> String {
    format!("{}-{:032x}-{}", id.time_ns, id.stream.0, id.ordinal)
}

fn read_id(text: &str) -> Option<EntryId> {
    let mut from_end = text.rsplitn(3, '-');
    let ordinal = from_end.next()?.parse().ok()?;
    let stream = u128::from_str_radix(from_end.next()?, 16).ok()?;
    let time_ns = from_end.next()?.parse().ok()?;
    Some(EntryId {
        time_ns,
        stream: SeriesHash(stream),
        ordinal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back() {
        for time_ns in [0, -5, i64::MAX] {
            let id = EntryId {
                time_ns,
                stream: SeriesHash(0xab),
                ordinal: 3,
            };
            assert_eq!(read_id(&write_id(id)), Some(id));
        }
        for bad in ["", "1", "1-2", "x-2-3", "1-z-3"] {
            assert_eq!(read_id(bad), None, "{bad}");
        }
    }
}
