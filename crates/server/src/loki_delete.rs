//! `/loki/api/v1/delete`: deleting lines, as Loki's API has it, behind
//! `--web.enable-admin-api`. Lines are hidden at once; they can be had back until they have
//! left the disk. Source: Loki's HTTP API reference.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use kittiwake_logql::{Expr, LineQuery};
use kittiwake_model::TimeRange;

use crate::admin_api::{check, run};
use crate::app::App;
use crate::loki_api::{Answer, eval_problem, parse};
use crate::prometheus_api::params;
use crate::reply::{Problem, json, push_json_str, push_seconds};

/// `POST`: deletes the lines of a query without stages after its line filters.
pub async fn delete(State(app): State<App>, request: Request<Body>) -> Answer {
    check(&app)?;
    let params = params(request).await?;
    let query = params.get("query").unwrap_or("").to_owned();
    if query.is_empty() {
        return Err(Problem::bad_data("query not set").into());
    }
    let Expr::Log(expr) = parse(&query)? else {
        return Err(Problem::bad_data("only queries for lines can be deleted").into());
    };
    let lines = LineQuery::new(&expr).map_err(eval_problem)?;
    let Some((selector, filters)) = lines.as_filters() else {
        let problem = "only a selector and line filters can be deleted by";
        return Err(Problem::bad_data(problem).into());
    };
    let Some(start) = params.time_ns("start")? else {
        return Err(Problem::bad_data("start time not set").into());
    };
    let end = params.time_ns("end")?.unwrap_or_else(|| app.now_ns());
    if end < start {
        return Err(Problem::bad_data("start time can't be greater than end time").into());
    }
    let (selector, filters) = (selector.to_vec(), filters.to_vec());
    let range = TimeRange::new(start, end);
    run(&app.logs, move |store| {
        store.delete(&query, selector, filters, range)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET`: all deletions.
pub async fn list(State(app): State<App>) -> Response {
    let mut out = String::from("[");
    for deletion in app.logs.deletions() {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(r#"{"request_id":"#);
        push_json_str(&mut out, &deletion.id);
        for (name, time_ns) in [
            ("start_time", deletion.range.start),
            ("end_time", deletion.range.end),
            ("created_at", deletion.created_ns),
        ] {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            push_seconds(&mut out, time_ns.div_euclid(1_000_000));
        }
        out.push_str(r#","query":"#);
        push_json_str(&mut out, &deletion.query);
        out.push_str(if deletion.is_done {
            r#","status":"processed"}"#
        } else {
            r#","status":"received"}"#
        });
    }
    out.push(']');
    json(out)
}

/// `DELETE`: takes a deletion back that is not done.
pub async fn cancel(State(app): State<App>, request: Request<Body>) -> Answer {
    check(&app)?;
    let params = params(request).await?;
    let id = params.get("request_id").unwrap_or("").to_owned();
    let known = app.logs.deletions();
    if !known.iter().any(|d| d.id == id) {
        let problem = "could not find delete request with given id";
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", problem).into());
    }
    if !run(&app.logs, move |store| store.cancel_deletion(&id)).await? {
        let problem = "deletion of request which is in process or already processed is not allowed";
        return Err(Problem::bad_data(problem).into());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
