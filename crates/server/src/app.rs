//! The server's state and its routes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use kittiwake_alertmanager::Alertmanager;
use kittiwake_env::Clock;
use kittiwake_logstore as logs;
use kittiwake_rules::Manager;
use kittiwake_tsdb as metrics;
use tokio::sync::{Notify, Semaphore, watch};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate as _, SizeAbove};

use crate::access::{Access, guard};
use crate::active_queries::ActiveQueries;
use crate::body::Room;
use crate::cors::{self, Cors};
use crate::ingest::Ingest;
use crate::live_config::LiveConfig;
use crate::notifications::{self, Notifications};
use crate::own_metrics::OwnMetrics;
use crate::pool::{Limits, QueryPool, hold_answers};
use crate::reply::{Problem, not_found};
use crate::rules::{self, AlertRouter, Alertmanagers, BuiltIn, RuleOptions};
use crate::status_api::Nodes;
use crate::{
    admin_api, alertmanager_api, lifecycle, loki_api, loki_delete, loki_fields, loki_index,
    loki_other, loki_patterns, names_search, page, prometheus_api, prometheus_status, query_tree,
    read_api, search_api, series_api, status_api, tail, targets_api, write_api,
};

/// Requests with data that are worked on at once; others wait.
const INGEST_MAX: usize = 32;

/// What all requests share.
#[derive(Clone)]
pub struct App {
    /// Time series.
    pub metrics: Arc<metrics::Store>,
    /// Log lines.
    pub logs: Arc<logs::Store>,
    /// What comes in.
    pub ingest: Arc<Ingest>,
    /// Where queries run.
    pub queries: QueryPool,
    /// Places for tails.
    pub tails: Arc<Semaphore>,
    /// The program's own metrics.
    pub own: Arc<OwnMetrics>,
    /// What is known of the nodes.
    pub nodes: Arc<Nodes>,
    /// The rules.
    pub rules: Arc<Manager>,
    /// Where their alerts go.
    pub alerts: Arc<AlertRouter>,
    /// The Alertmanagers that the configuration names.
    pub alertmanagers: Arc<Alertmanagers>,
    /// The configuration.
    pub config: Arc<LiveConfig>,
    /// Who is told of alerts.
    pub alertmanager: Arc<Alertmanager>,
    /// What the command line says.
    pub options: Arc<Options>,
    /// What an operator should know.
    pub notifications: Arc<Notifications>,
    /// Told when somebody asks the server to stop.
    pub quit: Arc<Notify>,
    /// When the program started.
    pub started: Instant,
    /// Becomes true when the server stops.
    pub stop: watch::Receiver<bool>,
    /// Places for requests with data.
    pub(crate) ingesting: Arc<Semaphore>,
    /// For bodies with data.
    pub(crate) room: Room,
    clock: Arc<dyn Clock>,
}

/// What the command line says of how to serve.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// All flags, as they are shown.
    pub flags: BTreeMap<String, String>,
    /// Whether `/-/reload` and `/-/quit` do something.
    pub is_lifecycle_enabled: bool,
    /// Whether series may be deleted and snapshots taken.
    pub is_admin_enabled: bool,
    /// How far back a query looks, in ms; 0 is five minutes.
    pub lookback_ms: i64,
    /// How long data is kept, as it is shown.
    pub retention: String,
    /// Bounds of queries.
    pub queries: Limits,
    /// Whose pages may read.
    pub cors: Cors,
    /// Where data lies.
    pub storage: PathBuf,
    /// What is said of rules.
    pub rules: RuleOptions,
}

impl Options {
    /// How far back a query looks, in ms.
    pub fn lookback_ms(&self) -> i64 {
        match self.lookback_ms {
            0 => 5 * 60 * 1000,
            lookback_ms => lookback_ms,
        }
    }
}

/// What a server is made of.
pub struct Parts {
    /// Time series.
    pub metrics: Arc<metrics::Store>,
    /// Log lines.
    pub logs: Arc<logs::Store>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What is known of the nodes.
    pub nodes: Arc<Nodes>,
    /// The configuration.
    pub config: Arc<LiveConfig>,
    /// Who is told of alerts.
    pub alertmanager: Arc<Alertmanager>,
    /// The log of queries.
    pub active: ActiveQueries,
    /// What the command line says.
    pub options: Options,
    /// Becomes true when the server stops.
    pub stop: watch::Receiver<bool>,
}

impl App {
    /// The state of a server over its stores.
    pub fn new(parts: Parts) -> anyhow::Result<Self> {
        let Parts {
            metrics,
            logs,
            clock,
            nodes,
            config,
            alertmanager,
            active,
            options,
            stop,
        } = parts;
        let ingest = Arc::new(Ingest::new(
            Arc::clone(&metrics),
            Arc::clone(&logs),
            Arc::clone(&clock),
        ));
        let own = Arc::new(OwnMetrics::new(
            Arc::clone(&metrics),
            Arc::clone(&logs),
            Arc::clone(&ingest),
            Arc::clone(&nodes),
        )?);
        let alerts: Arc<AlertRouter> = Arc::default();
        let rules = rules::manager(&metrics, &logs, clock.clone(), &options, alerts.clone());
        let alertmanagers: Arc<Alertmanagers> = Arc::default();
        alerts.connect(alertmanagers.clone());
        alerts.connect(Arc::new(BuiltIn(Arc::clone(&alertmanager))));
        own.show(&rules, &alertmanagers, &config);
        Ok(Self {
            rules,
            alerts,
            alertmanagers,
            ingest,
            metrics,
            logs,
            queries: QueryPool::new(options.queries, active),
            tails: tail::places(),
            own,
            nodes,
            config,
            alertmanager,
            options: Arc::new(options),
            notifications: Arc::default(),
            quit: Arc::default(),
            started: Instant::now(),
            stop,
            clock,
            ingesting: Arc::new(Semaphore::new(INGEST_MAX)),
            room: Room::default(),
        })
    }

    /// Takes up the rules of the configuration as it is now.
    pub fn load_rules(&self) -> Result<(), String> {
        let config = self.config.now().config;
        self.alerts.configure(&config);
        self.alertmanagers.configure(&config);
        rules::load(&self.rules, &config)
    }

    /// The time in ms.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The time in ns.
    pub fn now_ns(&self) -> i64 {
        self.clock.now_ns()
    }
}

/// Prometheus' API, under `/api/v1`.
fn prometheus_routes() -> Router<App> {
    Router::new()
        .route(
            "/query",
            get(prometheus_api::query).post(prometheus_api::query),
        )
        .route(
            "/query_range",
            get(prometheus_api::query_range).post(prometheus_api::query_range),
        )
        .route(
            "/format_query",
            get(query_tree::format_query).post(query_tree::format_query),
        )
        .route(
            "/parse_query",
            get(query_tree::parse_query).post(query_tree::parse_query),
        )
        .route(
            "/query_exemplars",
            get(query_tree::query_exemplars).post(query_tree::query_exemplars),
        )
        .route("/series", get(series_api::series).post(series_api::series))
        .route("/labels", get(series_api::labels).post(series_api::labels))
        .route("/label/{name}/values", get(series_api::label_values))
        .route("/metadata", get(series_api::metadata))
        .route(
            "/search/metric_names",
            get(names_search::metric_names).post(names_search::metric_names),
        )
        .route(
            "/search/label_names",
            get(names_search::label_names).post(names_search::label_names),
        )
        .route(
            "/search/label_values",
            get(names_search::label_values).post(names_search::label_values),
        )
        .route("/scrape_pools", get(targets_api::scrape_pools))
        .route("/scrape_pools/config", get(targets_api::scrape_pool_config))
        .route("/targets", get(targets_api::targets))
        .route("/targets/metadata", get(targets_api::metadata))
        .route("/targets/relabel_steps", get(targets_api::relabel_steps))
        .route("/alertmanagers", get(rules::api::alertmanagers))
        .route("/alerts", get(rules::api::alerts))
        .route("/rules", get(rules::api::rules))
        .route("/status/config", get(prometheus_status::config))
        .route("/status/flags", get(prometheus_status::flags))
        .route("/status/buildinfo", get(prometheus_status::build_info))
        .route("/status/runtimeinfo", get(prometheus_status::runtime_info))
        .route("/status/tsdb", get(prometheus_status::tsdb))
        .route("/status/tsdb/blocks", get(admin_api::blocks))
        .route(
            "/admin/tsdb/delete_series",
            post(admin_api::delete_series).put(admin_api::delete_series),
        )
        .route(
            "/admin/tsdb/clean_tombstones",
            post(admin_api::clean_tombstones).put(admin_api::clean_tombstones),
        )
        .route(
            "/admin/tsdb/snapshot",
            post(admin_api::snapshot).put(admin_api::snapshot),
        )
        .route("/status/walreplay", get(prometheus_status::wal_replay))
        .route("/status/self_metrics", get(prometheus_status::self_metrics))
        .route("/features", get(prometheus_status::features))
        .route("/notifications", get(notifications::list))
        .route("/notifications/live", get(notifications::live))
        .route("/read", post(read_api::read))
        .route("/write", post(write_api::remote_write))
        .route("/otlp/v1/metrics", post(write_api::otlp_metrics))
}

/// All routes with the access rules around them.
pub fn routes(app: App, access: Arc<Access>) -> Router {
    let prometheus = prometheus_routes();
    let loki = Router::new()
        .route("/query", get(loki_api::query).post(loki_api::query))
        .route(
            "/query_range",
            get(loki_api::query_range).post(loki_api::query_range),
        )
        .route("/labels", get(loki_api::labels).post(loki_api::labels))
        .route("/label", get(loki_api::labels).post(loki_api::labels))
        .route(
            "/label/{name}/values",
            get(loki_api::label_values).post(loki_api::label_values),
        )
        .route("/series", get(loki_api::series).post(loki_api::series))
        .route(
            "/index/stats",
            get(loki_index::stats).post(loki_index::stats),
        )
        .route(
            "/index/volume",
            get(loki_index::volume).post(loki_index::volume),
        )
        .route(
            "/index/volume_range",
            get(loki_index::volume_range).post(loki_index::volume_range),
        )
        .route(
            "/index/shards",
            get(loki_index::shards).post(loki_index::shards),
        )
        .route(
            "/detected_labels",
            get(loki_index::detected_labels).post(loki_index::detected_labels),
        )
        .route(
            "/detected_fields",
            get(loki_fields::fields).post(loki_fields::fields),
        )
        .route(
            "/detected_field/{name}/values",
            get(loki_fields::values).post(loki_fields::values),
        )
        .route(
            "/patterns",
            get(loki_patterns::patterns).post(loki_patterns::patterns),
        )
        .route(
            "/format_query",
            get(loki_other::format_query).post(loki_other::format_query),
        )
        .route("/drilldown-limits", get(loki_other::drilldown_limits))
        .route("/config", get(loki_other::config))
        .route("/rules", get(rules::loki::rules))
        .route("/rules/{*rest}", get(rules::loki::rules_below))
        .route("/status/buildinfo", get(loki_api::build_info))
        .route("/tail", get(tail::tail))
        .route(
            "/delete",
            get(loki_delete::list)
                .post(loki_delete::delete)
                .put(loki_delete::delete)
                .delete(loki_delete::cancel),
        )
        .route("/push", post(write_api::loki_push));
    // Compression of small answers costs more than it saves, and a tail is not compressed.
    let compressed = SizeAbove::new(512)
        .and(NotForContentType::new("image/png"))
        .and(NotForContentType::SSE);
    Router::new()
        .nest("/api/v1", prometheus)
        .nest("/loki/api/v1", loki)
        .nest("/alertmanager", alertmanager_api::routes())
        .route("/ready", get(async || "ready\n"))
        .route("/flush", post(loki_other::flush))
        .route(
            "/prometheus/api/v1/rules",
            get(rules::loki::prometheus_rules),
        )
        .route(
            "/prometheus/api/v1/alerts",
            get(rules::loki::prometheus_alerts),
        )
        .route(
            "/api/search",
            get(search_api::search).post(search_api::search),
        )
        .route("/api/search/tail", get(search_api::tail))
        .route("/api/search/context", get(search_api::context))
        .route("/api/search/openapi.json", get(search_api::openapi))
        .route("/v1/metrics", post(write_api::otlp_metrics))
        .route("/v1/logs", post(write_api::otlp_logs))
        .route("/otlp/v1/logs", post(write_api::otlp_logs))
        .route("/loki/otlp/v1/logs", post(write_api::otlp_logs))
        .route("/api/status", get(status_api::status))
        .route("/federate", get(read_api::federate))
        .route("/metrics", get(own_metrics))
        .route("/-/healthy", get(async || "Kittiwake is healthy.\n"))
        .route("/-/ready", get(async || "Kittiwake is ready.\n"))
        .route(
            "/-/reload",
            post(lifecycle::post_reload).put(lifecycle::post_reload),
        )
        .route(
            "/-/quit",
            post(lifecycle::post_quit).put(lifecycle::post_quit),
        )
        .fallback(other)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(
            app.queries.clone(),
            hold_answers,
        ))
        .layer(CompressionLayer::new().compress_when(compressed))
        .layer(middleware::from_fn_with_state(access, guard))
        .layer(middleware::from_fn_with_state(
            app.options.cors.clone(),
            cors::allow,
        ))
        .layer(middleware::from_fn_with_state(app.clone(), count))
        .with_state(app)
}

/// Counts requests by what they ask for and how they end.
async fn count(State(app): State<App>, request: Request<Body>, next: middleware::Next) -> Response {
    let started = Instant::now();
    // The route, not the path: paths are without number.
    let handler = group(request.uri().path());
    let response = next.run(request).await;
    app.own
        .request(handler, response.status(), started.elapsed());
    response
}

fn group(path: &str) -> &'static str {
    match path {
        "/api/v1/write" => "remote_write",
        "/v1/metrics" | "/api/v1/otlp/v1/metrics" => "otlp_metrics",
        "/v1/logs" | "/otlp/v1/logs" => "otlp_logs",
        "/loki/api/v1/push" => "loki_push",
        "/api/v1/query" | "/api/v1/query_range" => "promql",
        "/loki/api/v1/query" | "/loki/api/v1/query_range" => "logql",
        "/loki/api/v1/tail" | "/api/search/tail" => "tail",
        "/api/search" => "search",
        path if path.starts_with("/alertmanager/") => "alertmanager",
        path if path.starts_with("/api/") || path.starts_with("/loki/") => "metadata",
        _ => "other",
    }
}

async fn own_metrics(State(app): State<App>) -> Result<Response, Problem> {
    let text = app
        .own
        .text()
        .map_err(|e| Problem::internal(e.to_string()))?;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn other(request: Request<Body>) -> Response {
    let path = request.uri().path();
    let is_api = [
        "/api",
        "/loki",
        "/elasticsearch",
        "/alertmanager",
        "/v1",
        "/-",
    ]
    .iter()
    .any(|p| {
        path.strip_prefix(p)
            .is_some_and(|r| r.is_empty() || r.starts_with('/'))
    });
    let is_read = [axum::http::Method::GET, axum::http::Method::HEAD].contains(request.method());
    if !is_api
        && is_read
        && let Some(file) = page::file(path.trim_start_matches('/'))
    {
        return file;
    }
    not_found(path).into_response()
}

async fn wrong_method(request: Request<Body>) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "bad_data",
        format!(
            "{} does not take {}",
            request.uri().path(),
            request.method()
        ),
    )
}
