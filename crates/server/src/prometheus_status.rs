//! What Prometheus' page asks about the server: `/api/v1/status/*` and `/api/v1/features`.

use std::collections::{BTreeMap, HashMap};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{Labels, MetricsStore as _, TimeRange, pattern};
use prometheus::proto::MetricType;
use serde_json::{Value, json};

use crate::app::App;
use crate::prometheus_api::params;
use crate::reply::{Problem, success};
use crate::targets_api::rfc3339;

/// Entries of each list of `/api/v1/status/tsdb` at most.
const TSDB_LIMIT_MAX: usize = 10_000;

/// `/api/v1/status/config`
pub async fn config(State(app): State<App>) -> Response {
    success(&json!({ "yaml": app.config.now().shown }).to_string())
}

/// `/api/v1/status/flags`
pub async fn flags(State(app): State<App>) -> Response {
    success(&json!(app.options.flags).to_string())
}

/// `/api/v1/status/buildinfo`: which version's API this is, for clients that choose by it.
pub async fn build_info() -> Response {
    success(&format!(
        r#"{{"version":"3.16.0","revision":"kittiwake-{}","branch":"","buildUser":"","buildDate":"","goVersion":""}}"#,
        env!("CARGO_PKG_VERSION")
    ))
}

/// `/api/v1/status/runtimeinfo`
pub async fn runtime_info(State(app): State<App>) -> Response {
    let loaded = app.config.now();
    let now_ms = app.now_ms();
    let uptime_ms = i64::try_from(app.started.elapsed().as_millis()).unwrap_or(0);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let cwd = std::env::current_dir().unwrap_or_default();
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let data = json!({
        "startTime": rfc3339(now_ms - uptime_ms),
        "CWD": cwd.display().to_string(),
        "hostname": hostname.trim(),
        "serverTime": rfc3339(now_ms),
        "reloadConfigSuccess": loaded.is_last_ok,
        "lastConfigTime": rfc3339(loaded.time_ms),
        "corruptionCount": app.metrics.stats().set_aside,
        // There are no goroutines here; threads are their nearest kin.
        "goroutineCount": threads,
        "GOMAXPROCS": cores,
        "GOMEMLIMIT": i64::MAX,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": app.options.retention,
    });
    success(&data.to_string())
}

/// `/api/v1/status/walreplay`: answers come only after the log is replayed.
pub async fn wal_replay() -> Response {
    success(r#"{"min":0,"max":0,"current":0}"#)
}

/// `/api/v1/status/tsdb`: which names and labels make the most series.
pub async fn tsdb(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let limit = match params.get("limit") {
        None => 10,
        Some(text) => text
            .parse::<usize>()
            .ok()
            .filter(|limit| *limit > 0)
            .ok_or_else(|| Problem::bad_data("limit must be a positive number"))?,
    };
    if limit > TSDB_LIMIT_MAX {
        return Err(Problem::bad_data(format!(
            "limit must not exceed {TSDB_LIMIT_MAX}"
        )));
    }
    let store = app.metrics.clone();
    let find = move |context: &_| {
        let all = store.series(&[], TimeRange::ALL, 0, context)?;
        let stats = store.stats();
        let mut data = cardinality(&all, limit);
        data["headStats"]["numSeries"] = Value::from(stats.series);
        data["headStats"]["chunkCount"] = Value::from(stats.head_samples.div_ceil(120));
        // An empty head has times that nothing is between.
        let range = stats
            .head_range
            .unwrap_or(TimeRange::new(i64::MAX, i64::MIN));
        data["headStats"]["minTime"] = Value::from(range.start);
        data["headStats"]["maxTime"] = Value::from(range.end);
        Ok(data.to_string())
    };
    let data = app.queries.run(None, find).await?;
    Ok(success(&data))
}

fn cardinality(all: &[Labels], limit: usize) -> Value {
    let mut by_name: HashMap<&str, u64> = HashMap::new();
    let mut by_pair: HashMap<(&str, &str), u64> = HashMap::new();
    for labels in all {
        for (name, value) in labels {
            *by_pair.entry((name, value)).or_default() += 1;
            if name == METRIC_NAME {
                *by_name.entry(value).or_default() += 1;
            }
        }
    }
    let mut values: HashMap<&str, u64> = HashMap::new();
    let mut bytes: HashMap<&str, u64> = HashMap::new();
    for ((name, value), count) in &by_pair {
        *values.entry(name).or_default() += 1;
        *bytes.entry(name).or_default() += value.len() as u64 * count;
    }
    let pairs = by_pair
        .iter()
        .map(|((n, v), count)| (format!("{n}={v}"), *count));
    let list = |counts: &HashMap<&str, u64>| {
        largest(counts.iter().map(|(n, c)| ((*n).to_owned(), *c)), limit)
    };
    json!({
        "headStats": {
            "numSeries": all.len(),
            "numLabelPairs": by_pair.len(),
            "chunkCount": 0,
        },
        "seriesCountByMetricName": list(&by_name),
        "labelValueCountByLabelName": list(&values),
        "memoryInBytesByLabelName": list(&bytes),
        "seriesCountByLabelValuePair": largest(pairs, limit),
    })
}

fn largest(counts: impl Iterator<Item = (String, u64)>, limit: usize) -> Vec<Value> {
    let mut counts: Vec<(String, u64)> = counts.collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
        .into_iter()
        .take(limit)
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect()
}

/// `/api/v1/status/self_metrics`: the program's own metrics as JSON.
pub async fn self_metrics(
    State(app): State<App>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let params = params(request).await?;
    let wanted = params
        .get("metric_name_pattern")
        .map(pattern::anchored)
        .transpose()
        .map_err(|e| Problem::bad_data(format!("invalid metric_name_pattern: {e}")))?;
    let families = app.own.families();
    let mut out = Vec::new();
    for family in &families {
        if wanted.as_ref().is_some_and(|w| !w.is_match(family.name())) {
            continue;
        }
        let kind = family.get_field_type();
        let metrics = family.get_metric().iter();
        let metrics: Vec<Value> = metrics.map(|metric| metric_json(kind, metric)).collect();
        out.push(json!({
            "name": family.name(),
            "help": family.help(),
            "type": match kind {
                MetricType::COUNTER => "COUNTER",
                MetricType::GAUGE => "GAUGE",
                MetricType::SUMMARY => "SUMMARY",
                MetricType::UNTYPED => "UNTYPED",
                MetricType::HISTOGRAM => "HISTOGRAM",
            },
            "metric": metrics,
        }));
    }
    Ok(success(&Value::Array(out).to_string()))
}

/// A double as protobuf's JSON has it.
fn double(value: f64) -> Value {
    if value.is_nan() {
        Value::from("NaN")
    } else if value.is_infinite() {
        Value::from(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        Value::from(value)
    }
}

fn metric_json(kind: MetricType, metric: &prometheus::proto::Metric) -> Value {
    let label = metric.get_label().iter();
    let label: Vec<Value> = label
        .map(|pair| json!({ "name": pair.name(), "value": pair.value() }))
        .collect();
    let mut out = json!({ "label": label });
    if kind == MetricType::COUNTER {
        out["counter"] = json!({ "value": double(metric.get_counter().get_value()) });
    }
    if kind == MetricType::GAUGE {
        out["gauge"] = json!({ "value": double(metric.get_gauge().get_value()) });
    }
    if kind == MetricType::HISTOGRAM {
        let histogram = metric.get_histogram();
        let buckets = histogram.get_bucket().iter();
        let buckets: Vec<Value> = buckets
            .map(|bucket| {
                json!({
                    // Integers of 64 bits are texts there.
                    "cumulativeCount": bucket.cumulative_count().to_string(),
                    "upperBound": double(bucket.upper_bound()),
                })
            })
            .collect();
        out["histogram"] = json!({
            "sampleCount": histogram.get_sample_count().to_string(),
            "sampleSum": double(histogram.get_sample_sum()),
            "bucket": buckets,
        });
    }
    out
}

/// `/api/v1/features`
pub async fn features(State(app): State<App>) -> Response {
    let on = |names: &[&str]| -> BTreeMap<String, bool> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), true))
            .collect()
    };
    let mut api = on(&[
        "remote_write_receiver",
        "otlp_write_receiver",
        "search",
        "search_fuzz_alg_subsequence",
        "search_fuzz_alg_jarowinkler",
        "label_values_match",
        "query_warnings",
        "query_stats",
        "time_range_series",
        "time_range_labels",
        "exclude_alerts",
    ]);
    api.insert("lifecycle".to_owned(), app.options.is_lifecycle_enabled);
    api.insert("admin".to_owned(), app.options.is_admin_enabled);
    let mut otlp = on(&["delta_conversion"]);
    otlp.insert("native_delta_ingestion".to_owned(), false);
    let mut prometheus = on(&["server_mode"]);
    prometheus.insert("agent_mode".to_owned(), false);
    let functions = kittiwake_promql::FUNCTIONS.iter();
    let functions: BTreeMap<&str, bool> = functions.map(|f| (f.name, true)).collect();
    let data = json!({
        "promql_functions": functions,
        "api": api,
        "otlp_receiver": otlp,
        "prometheus": prometheus,
        "promql": on(&[
            "at_modifier",
            "negative_offset",
            "per_query_lookback_delta",
            "subqueries",
        ]),
        "scrape": on(&["extra_scrape_metrics", "start_timestamps"]),
        "service_discovery_providers": on(&["docker", "file", "static"]),
        "tsdb": on(&["exemplar_storage", "native_histograms", "st_storage"]),
    });
    success(&data.to_string())
}
