//! Prometheus' HTTP API under `/api/v1`.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use kittiwake_model::{FloatHistogram, Matcher, MetricsStore as _, TimeRange};
use kittiwake_promql::{self as promql, Answer, EvalError, MatrixSeries, Point, Value};

use crate::app::App;
use crate::body;
use crate::params::Params;
use crate::reply::{
    Problem, push_json_labels, push_json_strs, push_seconds, push_value, success, success_with,
};

/// Points per series that a range query may give.
const POINTS_MAX: i64 = 11_000;

/// The parameters of a request, a POST's form included.
pub async fn params(request: Request<Body>) -> Result<Params, Problem> {
    let (parts, body) = request.into_parts();
    let form = if parts.method == Method::POST {
        body::read(body, body::FORM_BYTES_MAX).await?
    } else {
        bytes::Bytes::new()
    };
    Ok(Params::of(&parts.uri, &form))
}

fn timeout(params: &Params) -> Result<Option<std::time::Duration>, Problem> {
    Ok(params
        .duration_ms("timeout")?
        .map(|ms| std::time::Duration::from_millis(ms.max(0) as u64)))
}

fn options(params: &Params) -> Result<promql::Options, Problem> {
    let mut options = promql::Options::default();
    if let Some(lookback_ms) = params.duration_ms("lookback_delta")?.filter(|ms| *ms > 0) {
        options.lookback_ms = lookback_ms;
    }
    Ok(options)
}

fn parse(query: &str) -> Result<promql::Expr, Problem> {
    promql::parse(query).map_err(|e| Problem::bad_data(format!("invalid parameter \"query\": {e}")))
}

/// An evaluation's error as the API reports it.
fn eval_problem(error: EvalError) -> Problem {
    match error {
        EvalError::Store(error) => error.into(),
        error @ EvalError::Execution(_) => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "execution",
            error.to_string(),
        ),
    }
}

/// `/api/v1/query`
pub async fn query(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let time_ms = params.time_ms("time")?.unwrap_or_else(|| app.now_ms());
    let query = params.required("query")?.to_owned();
    let expr = parse(&query)?;
    let options = options(&params)?;
    let limit = params.number("limit")?.unwrap_or(0);
    let store = app.metrics.clone();
    let evaluate = move |context: &_| {
        promql::instant(&expr, store.as_ref(), time_ms, &options, context)
            .map(|answer| rendered(answer, &query, limit))
            .map_err(eval_problem)
    };
    let answer = app.queries.run(timeout(&params)?, evaluate).await?;
    Ok(success_with(&answer.data, &answer.warnings, &answer.infos))
}

/// `/api/v1/query_range`
pub async fn query_range(
    State(app): State<App>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let params = params(request).await?;
    params.required("start")?;
    params.required("end")?;
    params.required("step")?;
    let start_ms = params.time_ms("start")?.unwrap_or(0);
    let end_ms = params.time_ms("end")?.unwrap_or(0);
    let step_ms = params.duration_ms("step")?.unwrap_or(0);
    if end_ms < start_ms {
        return Err(Problem::bad_data(
            "invalid parameter \"end\": end timestamp must not be before start time",
        ));
    }
    if step_ms <= 0 {
        return Err(Problem::bad_data(
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if (end_ms - start_ms) / step_ms > POINTS_MAX {
        return Err(Problem::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let query = params.required("query")?.to_owned();
    let expr = parse(&query)?;
    let options = options(&params)?;
    let limit = params.number("limit")?.unwrap_or(0);
    let store = app.metrics.clone();
    let evaluate = move |context: &_| {
        promql::range(
            &expr,
            store.as_ref(),
            start_ms,
            end_ms,
            step_ms,
            &options,
            context,
        )
        .map(|answer| rendered(answer, &query, limit))
        .map_err(eval_problem)
    };
    let answer = app.queries.run(timeout(&params)?, evaluate).await?;
    Ok(success_with(&answer.data, &answer.warnings, &answer.infos))
}

/// An answer as JSON and texts.
struct Rendered {
    data: String,
    warnings: Vec<String>,
    infos: Vec<String>,
}

fn rendered(answer: Answer, query: &str, limit: usize) -> Rendered {
    let (warnings, infos) = answer.annotations.texts(query);
    Rendered {
        data: render(answer.value, limit),
        warnings,
        infos,
    }
}

/// A value as `{"resultType":...,"result":...}`.
pub(crate) fn render(value: Value, limit: usize) -> String {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut out = String::new();
    match value {
        Value::Scalar(time_ms, value) => {
            out.push_str(r#"{"resultType":"scalar","result":"#);
            push_point(&mut out, time_ms, value);
        }
        Value::String(time_ms, text) => {
            out.push_str(r#"{"resultType":"string","result":["#);
            push_seconds(&mut out, time_ms);
            out.push(',');
            crate::reply::push_json_str(&mut out, &text);
            out.push(']');
        }
        Value::Vector(samples) => {
            out.push_str(r#"{"resultType":"vector","result":["#);
            for (index, (labels, time_ms, point)) in samples.into_iter().take(limit).enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(r#"{"metric":"#);
                push_json_labels(&mut out, &labels);
                match point {
                    Point::Float(value) => {
                        out.push_str(r#","value":"#);
                        push_point(&mut out, time_ms, value);
                    }
                    Point::Histogram(histogram) => {
                        out.push_str(r#","histogram":"#);
                        push_histogram(&mut out, time_ms, &histogram);
                    }
                }
                out.push('}');
            }
            out.push(']');
        }
        Value::Matrix(series) => {
            out.push_str(r#"{"resultType":"matrix","result":["#);
            for (index, series) in series.into_iter().take(limit).enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_matrix_series(&mut out, &series);
            }
            out.push(']');
        }
    }
    out.push('}');
    out
}

/// LogQL's values have the same shapes.
pub(crate) fn from_logql(value: kittiwake_logql::Value) -> Value {
    match value {
        kittiwake_logql::Value::Scalar(time_ms, number) => Value::Scalar(time_ms, number),
        kittiwake_logql::Value::Vector(vector) => {
            let points = vector.into_iter();
            let points = points.map(|(labels, time_ms, v)| (labels, time_ms, Point::Float(v)));
            Value::Vector(points.collect())
        }
        kittiwake_logql::Value::Matrix(matrix) => {
            let series = matrix.into_iter().map(|(labels, floats)| MatrixSeries {
                labels,
                floats,
                histograms: Vec::new(),
            });
            Value::Matrix(series.collect())
        }
    }
}

fn push_matrix_series(out: &mut String, series: &MatrixSeries) {
    out.push_str(r#"{"metric":"#);
    push_json_labels(out, &series.labels);
    if !series.floats.is_empty() {
        out.push_str(r#","values":["#);
        for (index, (time_ms, value)) in series.floats.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_point(out, *time_ms, *value);
        }
        out.push(']');
    }
    if !series.histograms.is_empty() {
        out.push_str(r#","histograms":["#);
        for (index, (time_ms, histogram)) in series.histograms.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_histogram(out, *time_ms, histogram);
        }
        out.push(']');
    }
    out.push('}');
}

/// `[time,{count,sum,buckets}]`; a bucket is which of its bounds belong to it (0 the upper, 1
/// the lower, 2 none, 3 both), the bounds and the count. Empty buckets are left out.
fn push_histogram(out: &mut String, time_ms: i64, histogram: &FloatHistogram) {
    out.push('[');
    push_seconds(out, time_ms);
    out.push_str(r#",{"count":""#);
    push_value(out, histogram.count);
    out.push_str(r#"","sum":""#);
    push_value(out, histogram.sum);
    out.push('"');
    let buckets = histogram.buckets().filter(|bucket| bucket.count != 0.0);
    for (index, bucket) in buckets.enumerate() {
        out.push_str(if index == 0 { r#","buckets":["# } else { "," });
        let bounds = match (bucket.has_lower, bucket.has_upper) {
            (false, true) => "0",
            (true, false) => "1",
            (false, false) => "2",
            (true, true) => "3",
        };
        out.push('[');
        out.push_str(bounds);
        for value in [bucket.lower, bucket.upper, bucket.count] {
            out.push_str(",\"");
            push_value(out, value);
            out.push('"');
        }
        out.push(']');
    }
    if histogram.buckets().any(|bucket| bucket.count != 0.0) {
        out.push(']');
    }
    out.push_str("}]");
}

fn push_point(out: &mut String, time_ms: i64, value: f64) {
    out.push('[');
    push_seconds(out, time_ms);
    out.push_str(",\"");
    push_value(out, value);
    out.push_str("\"]");
}

fn selectors(params: &Params) -> Result<Vec<Vec<Matcher>>, Problem> {
    params
        .all("match[]")
        .map(|text| {
            promql::parse_selector(text)
                .map_err(|e| Problem::bad_data(format!("invalid parameter \"match[]\": {e}")))
        })
        .collect()
}

fn range(params: &Params) -> Result<TimeRange, Problem> {
    let range = TimeRange::new(
        params.time_ms("start")?.unwrap_or(i64::MIN),
        params.time_ms("end")?.unwrap_or(i64::MAX),
    );
    if range.is_empty() {
        return Err(Problem::bad_data(
            "invalid parameter \"end\": end timestamp must not be before start timestamp",
        ));
    }
    Ok(range)
}

/// `/api/v1/series`
pub async fn series(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let (selectors, range) = (selectors(&params)?, range(&params)?);
    if selectors.is_empty() {
        return Err(Problem::bad_data("no match[] parameter provided"));
    }
    let limit = params.number("limit")?.unwrap_or(0);
    let store = app.metrics.clone();
    let find = move |context: &_| {
        let found = store.series(&selectors, range, limit, context)?;
        let mut out = String::from("[");
        for (index, labels) in found.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_json_labels(&mut out, labels);
        }
        out.push(']');
        Ok(out)
    };
    let data = app.queries.run(timeout(&params)?, find).await?;
    Ok(success(&data))
}

/// `/api/v1/labels`
pub async fn labels(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let (selectors, range) = (selectors(&params)?, range(&params)?);
    let store = app.metrics.clone();
    names(&app, &params, move |context| {
        store.label_names(&selectors, range, context)
    })
    .await
}

/// `/api/v1/label/{name}/values`
pub async fn label_values(
    State(app): State<App>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let params = params(request).await?;
    // Names with characters of old are given as they are, others escaped with `U__`.
    let name = unescape_name(&name);
    if name.is_empty() {
        return Err(Problem::bad_data("invalid label name: \"\""));
    }
    let (selectors, range) = (selectors(&params)?, range(&params)?);
    let store = app.metrics.clone();
    names(&app, &params, move |context| {
        store.label_values(&name, &selectors, range, context)
    })
    .await
}

async fn names(
    app: &App,
    params: &Params,
    find: impl FnOnce(
        &kittiwake_model::QueryContext,
    ) -> Result<Vec<String>, kittiwake_model::StoreError>
    + Send
    + 'static,
) -> Result<Response, Problem> {
    let limit = params
        .number("limit")?
        .filter(|l| *l > 0)
        .unwrap_or(usize::MAX);
    let find = move |context: &_| {
        let mut out = String::new();
        push_json_strs(&mut out, find(context)?.into_iter().take(limit));
        Ok(out)
    };
    let data = app.queries.run(timeout(params)?, find).await?;
    Ok(success(&data))
}

/// Prometheus' escaping of names: `U__` in front, `_xHH_` for a character, `__` for `_`.
fn unescape_name(name: &str) -> String {
    let Some(rest) = name.strip_prefix("U__") else {
        return name.to_owned();
    };
    let mut out = String::new();
    let mut rest = rest;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let Some((code, after)) = rest.split_once('_') else {
            return name.to_owned();
        };
        match u32::from_str_radix(code, 16).ok().and_then(char::from_u32) {
            Some(c) => out.push(c),
            None => return name.to_owned(),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `/api/v1/status/buildinfo`: which version's API this is, for clients that choose by it.
pub async fn build_info() -> Response {
    success(&format!(
        r#"{{"version":"3.16.0","revision":"kittiwake-{}","branch":"","buildUser":"","buildDate":"","goVersion":""}}"#,
        env!("CARGO_PKG_VERSION")
    ))
}

/// `/api/v1/metadata`: none is kept yet.
pub async fn metadata() -> Response {
    success("{}").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_come_back() {
        assert_eq!(unescape_name("job"), "job");
        assert_eq!(unescape_name("U__http_2e_status"), "http.status");
        assert_eq!(unescape_name("U__a__b"), "a_b");
        assert_eq!(unescape_name("U__a_zz_"), "U__a_zz_");
    }
}
