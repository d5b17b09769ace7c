//! `/api/search/context`: the lines around one of them in its stream.

use std::ops::ControlFlow;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use kittiwake_model::{
    Direction, EntryId, LogStore, MatchOp, Matcher, QueryContext, Scan, StoreError, TimeRange,
    each_entry,
};

use super::entries::{push_entry, read_id};
use crate::app::App;
use crate::prometheus_api::params;
use crate::reply::{Problem, json, not_found};

/// Lines on either side unless the request says otherwise, and at most.
const LINES: usize = 10;
const LINES_MAX: usize = 1_000;

/// `/api/search/context`: `id` of an entry, how many lines `before` and `after` it.
pub async fn context(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let text = params.required("id")?;
    let id = read_id(text).ok_or_else(|| {
        Problem::bad_data(format!(
            "invalid parameter \"id\": {text:?} did not come from an answer"
        ))
    })?;
    let count = |name: &str| match params.number(name)?.unwrap_or(LINES) {
        count if count <= LINES_MAX => Ok(count),
        _ => Err(Problem::bad_data(format!(
            "invalid parameter {name:?}: from 0 to {LINES_MAX}"
        ))),
    };
    let (before, after) = (count("before")?, count("after")?);
    let store = app.logs.clone();
    let find = move |context: &QueryContext| {
        let store: &dyn LogStore = store.as_ref();
        let Some((selector, entry)) = entry(store, id, context)? else {
            return Ok(None);
        };
        let around = |direction, count| around(store, id, &selector, direction, count, context);
        let mut earlier = around(Direction::Backward, before)?;
        earlier.reverse();
        let later = around(Direction::Forward, after)?;
        let (earlier, later) = (earlier.join(","), later.join(","));
        Ok(Some(format!(
            r#"{{"before":[{earlier}],"entry":{entry},"after":[{later}]}}"#
        )))
    };
    match app.queries.run(None, find).await? {
        Some(found) => Ok(json(found)),
        None => Err(Problem {
            message: format!("there is no entry {text}"),
            ..not_found(text)
        }),
    }
}

/// An entry as answers have it, with what selects its stream.
fn entry(
    store: &dyn LogStore,
    id: EntryId,
    context: &QueryContext,
) -> Result<Option<(Vec<Matcher>, String)>, StoreError> {
    let range = TimeRange::new(id.time_ns, id.time_ns);
    let mut found = None;
    let scan = Scan::new(Vec::new(), range, Direction::Forward);
    each_entry(store, &scan, context, |batch, index| {
        if batch.id(index) != id {
            return ControlFlow::Continue(());
        }
        let labels = batch.labels(index).iter();
        let selector =
            labels.filter_map(|(name, value)| Matcher::new(MatchOp::Equal, name, value).ok());
        let mut text = String::new();
        push_entry(&mut text, batch, index, None);
        found = Some((selector.collect(), text));
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// The next entries of the stream on one side.
fn around(
    store: &dyn LogStore,
    id: EntryId,
    selector: &[Matcher],
    direction: Direction,
    count: usize,
    context: &QueryContext,
) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    if count == 0 {
        return Ok(found);
    }
    let range = match direction {
        Direction::Forward => TimeRange::new(id.time_ns, i64::MAX),
        Direction::Backward => TimeRange::new(i64::MIN, id.time_ns),
    };
    let mut scan = Scan::new(selector.to_vec(), range, direction);
    scan.after = Some(id);
    each_entry(store, &scan, context, |batch, index| {
        // Streams with more labels match, too.
        if batch.id(index).stream == id.stream {
            let mut text = String::new();
            push_entry(&mut text, batch, index, None);
            found.push(text);
            if found.len() == count {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
