//! Alertmanager's API, under `/alertmanager`: version 2 as Alertmanager 0.30 has it, its health
//! checks, and a test of a receiver.

mod alerts;
mod silences;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use jiff::Timestamp;
use kittiwake_alertmanager::Alertmanager;
use kittiwake_alertmanager::alert::{Alert, Annotations};
use kittiwake_alertmanager::template::{Data, Told};
use kittiwake_model::Labels;
use serde_json::{Value, json};

use crate::app::App;
use crate::lifecycle::reloaded;
use crate::reply::json as json_body;

/// The longest that a test of an integration may take.
/// Matchers of one silence, and filters of one request, at most: an expression can be slow to
/// compile and large.
const MATCHERS_MAX: usize = 32;
const TEST_TIMEOUT: Duration = Duration::from_secs(15);

/// All routes, to be put under `/alertmanager`.
pub fn routes() -> Router<App> {
    let v2 = Router::new()
        .route("/status", get(status))
        .route("/receivers", get(receivers))
        .route("/receivers/{name}/test", post(test))
        .route("/alerts", get(alerts::list).post(alerts::put))
        .route("/alerts/groups", get(alerts::groups))
        .route("/silences", get(silences::list).post(silences::set))
        .route("/silence/{id}", get(silences::one).delete(silences::expire))
        .route("/{*path}", any(no_path))
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(uncached));
    Router::new()
        .nest("/api/v2", v2)
        .route("/-/healthy", get(async || "OK"))
        .route("/-/ready", get(async || "OK"))
        .route("/-/reload", post(reload).put(reload))
        .route("/metrics", get(metrics))
}

/// Answers are of the moment.
async fn uncached(request: Request<Body>, next: Next) -> Response {
    let mut response = next.run(request).await;
    let value = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
    response
}

/// An error as the API's code tells it: a text.
fn refused(status: StatusCode, text: impl Into<String>) -> Response {
    (status, json_body(Value::from(text.into()).to_string())).into_response()
}

async fn no_path(uri: OriginalUri) -> Response {
    let text = format!("path {} was not found", uri.path());
    invalid(StatusCode::NOT_FOUND, 404, text)
}

async fn no_method(method: Method) -> Response {
    let text = format!("method {method} is not allowed");
    invalid(StatusCode::METHOD_NOT_ALLOWED, 405, text)
}

/// The answer to a body that says it is no JSON.
fn wrong_type(headers: &HeaderMap) -> Option<Response> {
    let kind = crate::body::token(headers, header::CONTENT_TYPE);
    if kind.is_empty() || kind == "application/json" {
        return None;
    }
    let text = format!("unsupported media type {kind:?}, only [application/json] are allowed");
    Some(invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, 415, text))
}

/// A text that says what is wrong with a request.
type Bad = String;

/// An error as the API's frame tells it, before its code is reached.
fn invalid(status: StatusCode, code: u16, message: impl Into<String>) -> Response {
    let body = json!({ "code": code, "message": message.into() });
    (status, json_body(body.to_string())).into_response()
}

fn answer(value: &Value) -> Response {
    json_body(value.to_string())
}

/// A time as the API writes it: with three digits of a fraction.
fn time(ns: i64) -> String {
    let ms = ns.div_euclid(1_000_000);
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

/// `/alertmanager/api/v2/status`
async fn status(State(app): State<App>) -> Response {
    let alertmanager = &app.alertmanager;
    let version = concat!("0.30.0+kittiwake-", env!("CARGO_PKG_VERSION"));
    answer(&json!({
        "cluster": { "status": "disabled", "peers": [] },
        "versionInfo": {
            "version": version,
            "revision": "",
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
        },
        "config": { "original": alertmanager.config().shown },
        "uptime": time(alertmanager.started_ns()),
    }))
}

/// `/alertmanager/api/v2/receivers`
async fn receivers(State(app): State<App>) -> Response {
    let config = app.alertmanager.config();
    let receivers = config.receivers.iter();
    answer(
        &receivers
            .map(|receiver| json!({ "name": receiver.name }))
            .collect(),
    )
}

/// Does something with the Alertmanager away from the threads that serve: who asks may have it
/// compile expressions or look through many alerts.
async fn aside(
    app: &App,
    work: impl FnOnce(&Alertmanager) -> Response + Send + 'static,
) -> Response {
    let alertmanager = Arc::clone(&app.alertmanager);
    let done = tokio::task::spawn_blocking(move || work(&alertmanager)).await;
    done.unwrap_or_else(|_| {
        let text = "the request failed unexpectedly";
        refused(StatusCode::INTERNAL_SERVER_ERROR, text)
    })
}

/// `/alertmanager/-/reload`
async fn reload(State(app): State<App>) -> Response {
    let alertmanager = Arc::clone(&app.alertmanager);
    reloaded(tokio::task::spawn_blocking(move || reload_now(&alertmanager)).await)
}

/// Reads its configuration anew and logs how that went.
pub fn reload_now(alertmanager: &Alertmanager) -> Result<(), String> {
    let reloaded = alertmanager.reload();
    match &reloaded {
        Ok(()) => tracing::info!("the alertmanager's configuration was reloaded"),
        Err(error) => {
            tracing::error!(%error, "the alertmanager's configuration was not reloaded, the one before stays");
        }
    }
    reloaded.map_err(|error| error.to_string())
}

/// `/alertmanager/metrics`
async fn metrics(State(app): State<App>) -> Response {
    let text = app.alertmanager.with(|engine| {
        let (alerts, groups, silences) = engine.sizes();
        let mut text = engine.stats().text();
        for (name, help, value) in [
            ("alertmanager_alerts", "How many alerts there are.", alerts),
            (
                "alertmanager_dispatcher_aggregation_groups",
                "Number of active aggregation groups",
                groups,
            ),
            (
                "alertmanager_silences",
                "How many silences there are.",
                silences,
            ),
        ] {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"
            );
        }
        text
    });
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// `/alertmanager/api/v2/receivers/{name}/test`: sends one alert to every integration of a
/// receiver, and tells how each of them went. The body may give the alert's labels and
/// annotations.
async fn test(
    State(app): State<App>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Response {
    let body = match crate::body::read(request.into_body(), crate::body::FORM_BYTES_MAX).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let given: Value = match &body[..] {
        [] => Value::Null,
        body => match serde_json::from_slice(body) {
            Ok(given) => given,
            Err(error) => return invalid(StatusCode::BAD_REQUEST, 400, error.to_string()),
        },
    };
    let pairs = |of: &str, default: (&str, &str)| -> Vec<(String, String)> {
        match given[of].as_object() {
            Some(fields) => fields
                .iter()
                .map(|(name, value)| {
                    let value = value.as_str().map(str::to_owned);
                    (name.clone(), value.unwrap_or_default())
                })
                .collect(),
            None => vec![(default.0.to_owned(), default.1.to_owned())],
        }
    };
    let labels = Labels::from_pairs(pairs("labels", ("alertname", "TestNotification")));
    let labels = match labels {
        Ok(labels) => labels,
        Err(error) => return refused(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let summary = ("summary", "A test of this receiver, asked for by hand.");
    let now_ns = app.alertmanager.now_ns();
    let alert = Alert {
        annotations: Annotations::from_pairs(pairs("annotations", summary)),
        starts_ns: now_ns,
        ends_ns: now_ns.saturating_add(300_000_000_000),
        generator_url: String::new(),
        updated_ns: now_ns,
        is_timeout: false,
        labels: labels.clone(),
    };
    let data = Data {
        receiver: name.clone(),
        alerts: vec![Told {
            alert: Arc::new(alert),
            is_resolved: false,
        }],
        group_labels: labels.filtered(|name| name == "alertname"),
        external_url: app.alertmanager.external_url().to_owned(),
    };
    match app.alertmanager.test(&name, data, TEST_TIMEOUT).await {
        None => refused(StatusCode::NOT_FOUND, format!("no receiver {name:?}")),
        Some(tested) => answer(
            &tested
                .iter()
                .map(|tested| {
                    json!({
                        "integration": tested.integration,
                        "ok": tested.error.is_none(),
                        "error": tested.error.as_ref().map(|error| error.message.clone()),
                    })
                })
                .collect(),
        ),
    }
}
