//! Loki's HTTP API under `/loki/api/v1`. Its errors are plain text, as Loki's are.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kittiwake_logql::{self as logql, Expr, LineQuery, Window};
use kittiwake_model::{Direction, Labels, LogStore as _, Matcher, TimeRange};
use kittiwake_wire::label_text;

use crate::app::App;
use crate::loki_streams::streams_data;
use crate::params::{InPath, Params};
use crate::prometheus_api::{from_logql, params, render};
use crate::reply::{Problem, push_json_labels, push_json_strs, success};

/// Lines of an answer at most, and without a limit in the request.
pub const LINES_MAX: usize = 5000;
/// Lines of an answer when the request does not say.
pub const LINES: usize = 100;
pub(crate) const POINTS_MAX: i64 = 11_000;
pub(crate) const HOUR_NS: i64 = 3_600_000_000_000;

/// A problem in Loki's form.
#[derive(Debug)]
pub struct LokiProblem(Problem);

impl<T: Into<Problem>> From<T> for LokiProblem {
    fn from(problem: T) -> Self {
        Self(problem.into())
    }
}

impl IntoResponse for LokiProblem {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        // Loki's 422s are 400s.
        let status = match self.0.status {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        (status, kind, format!("{}\n", self.0.message)).into_response()
    }
}

pub(crate) type Answer = Result<Response, LokiProblem>;

/// Start and end of a request; `since` counts back from the end.
pub(crate) fn range(app: &App, params: &Params, default_ns: i64) -> Result<(i64, i64), Problem> {
    let end = params.time_ns("end")?.unwrap_or_else(|| app.now_ns());
    let since_ns = params
        .duration_ms("since")?
        .map_or(default_ns, |ms| ms.saturating_mul(1_000_000));
    let start = params
        .time_ns("start")?
        .unwrap_or_else(|| end.saturating_sub(since_ns));
    if end < start {
        return Err(Problem::bad_data(
            "end timestamp must not be before or equal to start time",
        ));
    }
    Ok((start, end))
}

pub(crate) fn direction(params: &Params) -> Result<Direction, Problem> {
    match params
        .get("direction")
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        None | Some("backward") => Ok(Direction::Backward),
        Some("forward") => Ok(Direction::Forward),
        Some(other) => Err(Problem::bad_data(format!("invalid direction '{other}'"))),
    }
}

pub(crate) fn limit(params: &Params) -> Result<usize, Problem> {
    let limit = params.number("limit")?.unwrap_or(LINES);
    if limit == 0 {
        return Err(Problem::bad_data("limit must be a positive value"));
    }
    if limit > LINES_MAX {
        return Err(Problem::bad_data(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > {LINES_MAX})"
        )));
    }
    Ok(limit)
}

pub(crate) fn parse(query: &str) -> Result<Expr, Problem> {
    logql::parse(query).map_err(|e| Problem::bad_data(e.to_string()))
}

pub(crate) fn eval_problem(error: logql::EvalError) -> Problem {
    match error {
        logql::EvalError::Store(error) => error.into(),
        error => Problem::bad_data(error.to_string()),
    }
}

/// Whether the client wants to know where each label comes from.
pub(crate) fn categorizes(headers: &HeaderMap) -> bool {
    let flags = headers.get_all("x-loki-response-encoding-flags");
    let mut flags = flags.iter().filter_map(|v| v.to_str().ok());
    flags.any(|value| value.split(',').any(|f| f.trim() == "categorize-labels"))
}

/// `/loki/api/v1/query_range`
pub async fn query_range(State(app): State<App>, request: Request<Body>) -> Answer {
    let by_category = categorizes(request.headers());
    let params = params(request).await?;
    let expr = parse(params.get("query").unwrap_or(""))?;
    let (start_ns, end_ns) = range(&app, &params, HOUR_NS)?;
    let step_ms = step_ms(&params, start_ns, end_ns)?;
    let store = app.logs.clone();
    let data = match expr {
        Expr::Log(expr) => {
            let window = Window {
                start_ns,
                end_ns,
                direction: direction(&params)?,
                limit: limit(&params)?,
                interval_ns: interval_ns(&params)?,
            };
            let find = move |context: &_| {
                LineQuery::new(&expr)
                    .and_then(|query| query.run(store.as_ref(), &window, context))
                    .map(|streams| streams_data(streams, by_category, window.direction))
                    .map_err(eval_problem)
            };
            app.queries.run(None, find).await?
        }
        Expr::Metric(expr) => {
            let step_ns = step_ms.saturating_mul(1_000_000);
            if end_ns.saturating_sub(start_ns) / step_ns > POINTS_MAX {
                return Err(Problem::bad_data("exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter").into());
            }
            // The steps are whole multiples of their width, as in Loki.
            let start_ns = start_ns - start_ns.rem_euclid(step_ns);
            let end_ns = end_ns.saturating_add((step_ns - end_ns.rem_euclid(step_ns)) % step_ns);
            let evaluate = move |context: &_| {
                logql::range(&expr, store.as_ref(), start_ns, end_ns, step_ns, context)
                    .map(|value| with_stats(&render(from_logql(value), 0)))
                    .map_err(eval_problem)
            };
            app.queries.run(None, evaluate).await?
        }
    };
    Ok(success(&data))
}

/// The width of a step; without one in the request, such that there are some 250.
pub(crate) fn step_ms(params: &Params, start_ns: i64, end_ns: i64) -> Result<i64, Problem> {
    let default_ms = (end_ns.saturating_sub(start_ns) / 250 / 1_000_000_000).max(1) * 1000;
    let step_ms = params.duration_ms("step")?.unwrap_or(default_ms);
    if step_ms <= 0 {
        return Err(Problem::bad_data(
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    Ok(step_ms)
}

fn interval_ns(params: &Params) -> Result<i64, Problem> {
    let interval_ms = params.duration_ms("interval")?.unwrap_or(0);
    if interval_ms < 0 {
        return Err(Problem::bad_data("interval must be >= 0"));
    }
    Ok(interval_ms.saturating_mul(1_000_000))
}

/// `/loki/api/v1/query`
pub async fn query(State(app): State<App>, request: Request<Body>) -> Answer {
    let params = params(request).await?;
    let Expr::Metric(expr) = parse(params.get("query").unwrap_or(""))? else {
        return Err(Problem::bad_data("log queries are not supported as an instant query type, please change your query to a range query type").into());
    };
    let time_ns = params.time_ns("time")?.unwrap_or_else(|| app.now_ns());
    let store = app.logs.clone();
    let evaluate = move |context: &_| {
        logql::instant(&expr, store.as_ref(), time_ns, context)
            .map(|value| with_stats(&render(from_logql(scalar_time(value, time_ns)), 0)))
            .map_err(eval_problem)
    };
    let data = app.queries.run(None, evaluate).await?;
    Ok(success(&data))
}

/// Loki multiplies the time of a bare number beyond 64 bits; clients have come to ignore it.
/// What is left is part of its answers.
fn scalar_time(value: logql::Value, time_ns: i64) -> logql::Value {
    match value {
        logql::Value::Scalar(_, number) => {
            let seconds = time_ns.wrapping_mul(1000) / 1_000_000;
            logql::Value::Scalar(seconds.saturating_mul(1000), number)
        }
        value => value,
    }
}

/// The same data with an empty `stats`, which clients look for.
fn with_stats(data: &str) -> String {
    format!(
        "{},\"stats\":{{}}}}",
        data.strip_suffix('}').unwrap_or(data)
    )
}

pub(crate) fn selectors(params: &Params, name: &str) -> Result<Vec<Vec<Matcher>>, Problem> {
    params
        .all(name)
        .filter(|text| text.trim() != "{}")
        .map(|text| logql::parse_selector(text).map_err(|e| Problem::bad_data(e.to_string())))
        .collect()
}

/// The streams of a request, given to `pick`.
async fn streams(
    app: &App,
    params: &Params,
    selectors: Vec<Vec<Matcher>>,
    pick: impl FnOnce(Vec<Labels>) -> String + Send + 'static,
) -> Answer {
    let (start, end) = range(app, params, 6 * HOUR_NS)?;
    let store = app.logs.clone();
    let find = move |context: &_| {
        Ok(pick(store.streams(
            &selectors,
            TimeRange::new(start, end),
            context,
        )?))
    };
    let data = app.queries.run(None, find).await?;
    if data.is_empty() {
        return Ok(crate::reply::json(r#"{"status":"success"}"#.to_owned()));
    }
    Ok(success(&data))
}

/// Texts as a list; nothing of none, which Loki leaves out.
fn texts(texts: BTreeSet<&str>) -> String {
    let mut out = String::new();
    if !texts.is_empty() {
        push_json_strs(&mut out, texts);
    }
    out
}

/// `/loki/api/v1/labels`
pub async fn labels(State(app): State<App>, request: Request<Body>) -> Answer {
    let params = params(request).await?;
    let selectors = selectors(&params, "query")?;
    let pick = |streams: Vec<Labels>| {
        let names = streams.iter().flatten().map(|(name, _)| name);
        texts(names.collect())
    };
    streams(&app, &params, selectors, pick).await
}

/// `/loki/api/v1/label/{name}/values`
pub async fn label_values(
    State(app): State<App>,
    InPath(name): InPath,
    request: Request<Body>,
) -> Answer {
    if !label_text::is_label_name(name.as_bytes()) {
        return Err(Problem::bad_data(format!("invalid label name {name:?}")).into());
    }
    let params = params(request).await?;
    let selectors = selectors(&params, "query")?;
    let pick = move |streams: Vec<Labels>| {
        let values = streams.iter().filter_map(|labels| labels.get(&name));
        texts(values.collect())
    };
    streams(&app, &params, selectors, pick).await
}

/// `/loki/api/v1/series`
pub async fn series(State(app): State<App>, request: Request<Body>) -> Answer {
    let params = params(request).await?;
    let mut all = selectors(&params, "match[]")?;
    all.extend(selectors(&params, "match")?);
    let pick = |streams: Vec<Labels>| {
        let mut out = String::from("[");
        for (index, labels) in streams.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_json_labels(&mut out, labels);
        }
        out.push(']');
        out
    };
    streams(&app, &params, all, pick).await
}

/// `/loki/api/v1/status/buildinfo`: which version's API this is.
pub async fn build_info() -> Response {
    crate::reply::json(format!(
        r#"{{"version":"3.7.8","revision":"kittiwake-{}","branch":"","buildUser":"","buildDate":"","goVersion":""}}"#,
        env!("CARGO_PKG_VERSION")
    ))
}
