//! `/api/search/context`: the lines around one of them in its stream.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use kittiwake_model::{
    Direction, EntryBatch, EntryId, LogStore, MatchOp, Matcher, QueryContext, Scan, StoreError,
    TimeRange,
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
    let mut cursor = store.scan(&Scan::new(Vec::new(), range, Direction::Forward), context)?;
    let mut batch = EntryBatch::default();
    while cursor.next_batch(&mut batch)? {
        context.check()?;
        if let Some(index) = (0..batch.len()).find(|index| batch.id(*index) == id) {
            let labels = batch.labels(index).iter();
            let selector =
                labels.filter_map(|(name, value)| Matcher::new(MatchOp::Equal, name, value).ok());
            let mut text = String::new();
            push_entry(&mut text, &batch, index, None);
            return Ok(Some((selector.collect(), text)));
        }
    }
    Ok(None)
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
    let mut cursor = store.scan(&scan, context)?;
    let mut batch = EntryBatch::default();
    while cursor.next_batch(&mut batch)? {
        context.check()?;
        // Streams with more labels match, too.
        for index in (0..batch.len()).filter(|index| batch.id(*index).stream == id.stream) {
            let mut text = String::new();
            push_entry(&mut text, &batch, index, None);
            found.push(text);
            if found.len() == count {
                return Ok(found);
            }
        }
    }
    Ok(found)
}
