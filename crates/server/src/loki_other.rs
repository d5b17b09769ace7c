//! The smaller parts of Loki's API: formatting, limits, rules, flushing.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use kittiwake_logql as logql;

use crate::app::App;
use crate::loki_api::{Answer, LINES_MAX, LokiProblem, parse};
use crate::prometheus_api::params;
use crate::reply::{Problem, json, push_json_str, success};

/// `/loki/api/v1/format_query`
pub async fn format_query(State(_): State<App>, request: Request<Body>) -> Answer {
    let params = params(request).await?;
    let expr = parse(params.get("query").unwrap_or(""))?;
    let mut out = String::new();
    push_json_str(&mut out, &logql::pretty(&expr));
    Ok(success(&out))
}

/// `/flush`: what is in memory goes into a part.
pub async fn flush(State(app): State<App>) -> Result<StatusCode, LokiProblem> {
    let flushed = tokio::task::spawn_blocking(move || app.logs.flush()).await;
    let flushed = flushed.map_err(|e| Problem::internal(e.to_string()))?;
    flushed.map_err(|e| Problem::internal(e.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `/loki/api/v1/drilldown-limits`
pub async fn drilldown_limits() -> Response {
    json(format!(
        r#"{{"limits":{{"discover_log_levels":true,"discover_service_name":[],"log_level_fields":["level","LEVEL","Level","log.level","severity","SEVERITY","Severity","SeverityText","lvl","LVL","Lvl","severity_text","Severity_Text","SEVERITY_TEXT"],"max_entries_limit_per_query":{LINES_MAX},"max_line_size_truncate":false,"max_query_bytes_read":"0B","max_query_length":"30d1h","max_query_lookback":"0s","max_query_range":"0s","max_query_series":{},"metric_aggregation_enabled":false,"otlp_config":{{}},"pattern_persistence_enabled":false,"query_timeout":"2m","retention_period":"0s","retention_stream":[],"volume_enabled":true,"volume_max_series":1000}},"pattern_ingester_enabled":false,"version":"3.7.8"}}"#,
        logql::SERIES_MAX
    ))
}

/// `/config` and `/loki/api/v1/config`: what a client of Loki's looks for in its settings.
pub async fn config() -> Response {
    let kind = [(
        axum::http::header::CONTENT_TYPE,
        "text/plain; charset=utf-8",
    )];
    let text = format!(
        "target: all\nauth_enabled: false\nlimits_config:\n  max_entries_limit_per_query: {LINES_MAX}\n  max_query_series: {}\n  allow_structured_metadata: true\n  volume_enabled: true\n",
        logql::SERIES_MAX
    );
    (kind, text).into_response()
}
