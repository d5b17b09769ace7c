//! Queries of Prometheus' HTTP API under `/api/v1`.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use kittiwake_model::{FloatHistogram, QueryContext};
use kittiwake_promql::{self as promql, Answer, EvalError, MatrixSeries, Point, Value};

use crate::app::App;
use crate::body;
use crate::params::Params;
use crate::reply::{Problem, TRUNCATED, push_json_labels, push_seconds, push_value, success_noted};
use crate::series_api::limit;

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

/// The time that a query may take, if the request says.
pub fn timeout(params: &Params) -> Result<Option<std::time::Duration>, Problem> {
    Ok(params
        .duration_ms("timeout")?
        .map(|ms| std::time::Duration::from_millis(ms.max(0) as u64)))
}

fn options(app: &App, params: &Params) -> Result<promql::Options, Problem> {
    let mut options = promql::Options::default();
    options.lookback_ms = app.options.lookback_ms();
    if let Some(lookback_ms) = params.duration_ms("lookback_delta")?.filter(|ms| *ms > 0) {
        options.lookback_ms = lookback_ms;
    }
    Ok(options)
}

pub(crate) fn parse(query: &str) -> Result<promql::Expr, Problem> {
    promql::parse(query).map_err(|e| invalid_query(&e))
}

fn invalid_query(error: &dyn std::error::Error) -> Problem {
    Problem::bad_data(format!("invalid parameter \"query\": {error}"))
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

/// Runs a query and notes it while it runs.
async fn run(
    app: &App,
    params: &Params,
    evaluate: impl FnOnce(&QueryContext) -> Result<Response, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let text = params.get("query").unwrap_or("").to_owned();
    let noted = Some((text, app.now_ms()));
    app.queries
        .run_noted(noted, timeout(params)?, evaluate)
        .await
}

/// Whether the answer says what the query cost.
struct Stats {
    is_wanted: bool,
    /// Also per step.
    is_whole: bool,
    warning: Option<String>,
}

impl Stats {
    fn of(params: &Params) -> Self {
        let text = params.get("stats");
        let warning = text.filter(|text| !matches!(*text, "true" | "all"));
        Self {
            is_wanted: text.is_some(),
            is_whole: text == Some("all"),
            warning: warning.map(|text| {
                format!("value {text:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\"")
            }),
        }
    }
}

/// What a query cost.
struct Evaluated {
    waited: Duration,
    took: Duration,
}

impl Evaluated {
    fn new(started: Instant, begun: Instant) -> Self {
        Self {
            waited: begun - started,
            took: begun.elapsed(),
        }
    }

    /// Prometheus' statistics, whose phases are one here.
    fn json(&self, stats: &promql::Stats, is_whole: bool) -> serde_json::Value {
        let mut samples = serde_json::json!({
            "totalQueryableSamples": stats.total_samples,
            "peakSamples": stats.samples_read,
        });
        if is_whole {
            let steps = stats.samples_per_step.iter();
            let steps = steps.map(|(ms, count)| serde_json::json!([*ms as f64 / 1e3, count]));
            samples["totalQueryableSamplesPerStep"] = steps.collect();
        }
        let (waited, took) = (self.waited.as_secs_f64(), self.took.as_secs_f64());
        serde_json::json!({
            "timings": {
                "evalTotalTime": took,
                "resultSortTime": 0.0,
                "queryPreparationTime": 0.0,
                "innerEvalTime": took,
                "execQueueTime": waited,
                "execTotalTime": waited + took,
            },
            "samples": samples,
        })
    }
}

/// The answer to a query: its value, of at most so many series, and what is to be said of it.
fn answered(
    mut answer: Answer,
    query: &str,
    limit: usize,
    stats: &Stats,
    evaluated: &Evaluated,
) -> Response {
    let (mut warnings, infos) = answer.annotations.texts(query);
    let count = match &mut answer.value {
        Value::Vector(samples) if limit > 0 => {
            let count = samples.len();
            samples.truncate(limit);
            count
        }
        Value::Matrix(series) if limit > 0 => {
            let count = series.len();
            series.truncate(limit);
            count
        }
        _ => 0,
    };
    if count > limit {
        warnings.push(TRUNCATED.to_owned());
    }
    warnings.extend(stats.warning.clone());
    let mut data = render(answer.value, 0);
    if stats.is_wanted {
        data.pop();
        data.push_str(",\"stats\":");
        data.push_str(&evaluated.json(&answer.stats, stats.is_whole).to_string());
        data.push('}');
    }
    success_noted(&data, &warnings, &infos)
}

/// `/api/v1/query`
pub async fn query(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let time_ms = params.time_ms("time")?.unwrap_or_else(|| app.now_ms());
    let query = params.required("query")?.to_owned();
    let expr = parse(&query)?;
    let options = options(&app, &params)?;
    let (limit, stats) = (limit(&params)?, Stats::of(&params));
    let store = app.metrics.clone();
    let started = Instant::now();
    let evaluate = move |context: &QueryContext| {
        let begun = Instant::now();
        let answer = promql::instant(&expr, store.as_ref(), time_ms, &options, context)
            .map_err(eval_problem)?;
        let evaluated = Evaluated::new(started, begun);
        Ok(answered(answer, &query, limit, &stats, &evaluated))
    };
    run(&app, &params, evaluate).await
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
    promql::check_range_query(&expr).map_err(|e| invalid_query(&e))?;
    let options = options(&app, &params)?;
    let (limit, stats) = (limit(&params)?, Stats::of(&params));
    let store = app.metrics.clone();
    let started = Instant::now();
    let evaluate = move |context: &QueryContext| {
        let begun = Instant::now();
        let answer = promql::range(
            &expr,
            store.as_ref(),
            start_ms,
            end_ms,
            step_ms,
            &options,
            context,
        )
        .map_err(eval_problem)?;
        let evaluated = Evaluated::new(started, begun);
        hold_text(&answer, context)?;
        Ok(answered(answer, &query, limit, &stats, &evaluated))
    };
    run(&app, &params, evaluate).await
}

/// Bytes of a point in an answer, about.
const POINT_BYTES: u64 = 32;

/// Counts the text of an answer before it is made.
fn hold_text(answer: &Answer, context: &QueryContext) -> Result<(), Problem> {
    if let Value::Matrix(all) = &answer.value {
        let points = |series: &MatrixSeries| series.floats.len() + 16 * series.histograms.len();
        let points: usize = all.iter().map(points).sum();
        context.hold_memory(points as u64 * POINT_BYTES)?;
    }
    Ok(())
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
