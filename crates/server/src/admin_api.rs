//! What an operator does to the store of series, behind `--web.enable-admin-api`, and how its
//! blocks look.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use kittiwake_tsdb::{OpenError, Store};
use serde_json::{Value, json};

use crate::app::App;
use crate::prometheus_api::params;
use crate::reply::{Problem, success};
use crate::series_api::{range, series_selectors};
use crate::targets_api::{parse_bool, rfc3339};

pub(crate) fn check(app: &App) -> Result<(), Problem> {
    if app.options.is_admin_enabled {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "unavailable",
        "admin APIs disabled",
    ))
}

/// Work on a store, away from the threads that answer.
pub(crate) async fn run<S, T, E>(
    store: &Arc<S>,
    work: impl FnOnce(&S) -> Result<T, E> + Send + 'static,
) -> Result<T, Problem>
where
    S: Send + Sync + 'static,
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || work(&store))
        .await
        .map_err(|_| Problem::internal("the request failed unexpectedly"))?
        .map_err(|e| Problem::internal(e.to_string()))
}

/// `/api/v1/admin/tsdb/delete_series`
pub async fn delete_series(
    State(app): State<App>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    check(&app)?;
    let params = params(request).await?;
    let selectors = series_selectors(&params)?;
    if selectors.is_empty() {
        return Err(Problem::bad_data("no match[] parameter provided"));
    }
    let range = range(&params)?;
    run(&app.metrics, move |store| store.delete(&selectors, range)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `/api/v1/admin/tsdb/clean_tombstones`
pub async fn clean_tombstones(State(app): State<App>) -> Result<Response, Problem> {
    check(&app)?;
    run(&app.metrics, Store::clean_tombstones).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `/api/v1/admin/tsdb/snapshot`
pub async fn snapshot(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    check(&app)?;
    let params = params(request).await?;
    if let Some(text) = params.get("skip_head")
        && parse_bool(text).is_none()
    {
        return Err(Problem::bad_data(format!(
            "invalid parameter \"skip_head\": unable to parse boolean {text:?}"
        )));
    }
    let now_ms = app.now_ms();
    let plain: String = rfc3339(now_ms)
        .chars()
        .take_while(|c| *c != '.' && *c != 'Z')
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let name = format!("{plain}Z-{:016x}", app.now_ns().unsigned_abs());
    let named = name.clone();
    run(&app.metrics, move |store| store.snapshot(&named)).await?;
    Ok(success(&json!({ "name": name }).to_string()))
}

/// `/api/v1/status/tsdb/blocks`
pub async fn blocks(State(app): State<App>) -> Result<Response, Problem> {
    let blocks = run(&app.metrics, |store| Ok::<_, OpenError>(all_blocks(store))).await?;
    Ok(success(&json!({ "blocks": blocks }).to_string()))
}

fn all_blocks(store: &Store) -> Vec<Value> {
    store
        .blocks()
        .into_iter()
        .map(|(meta, block)| {
            let ulid = ulid(meta.end, meta.id);
            // A block that cannot be read has none that could be shown.
            let series = block
                .select(&[], kittiwake_model::TimeRange::ALL)
                .map_or(0, |series| series.len());
            json!({
                "ulid": ulid,
                "minTime": meta.start,
                // Theirs end before it.
                "maxTime": meta.end.saturating_add(1),
                "stats": {
                    "numSamples": meta.rows,
                    "numSeries": series,
                    "numChunks": series,
                },
                "compaction": { "level": kittiwake_tsdb::block_kind(meta.level).1 + 1, "sources": [ulid] },
                "version": 1,
            })
        })
        .collect()
}

/// A block's number as an identifier of Prometheus' form: a time and a number, in base 32.
fn ulid(time_ms: i64, number: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let time = time_ms.max(0) as u128 & 0xffff_ffff_ffff;
    let value = time << 80 | u128::from(number);
    (0..26)
        .rev()
        .map(|place| DIGITS[(value >> (5 * place)) as usize & 31] as char)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_the_form_of_ulids() {
        let text = ulid(1_469_918_176_385, 7);
        assert!(text.starts_with("01ARYZ6S41"), "{text}");
        assert_eq!((text.len(), text.ends_with('7')), (26, true));
        assert!(ulid(1, 2) < ulid(2, 1));
    }
}
