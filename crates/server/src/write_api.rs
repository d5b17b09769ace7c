//! Requests with data: remote write, OTLP and Loki push.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use kittiwake_model::delivery::Origin;
use kittiwake_wire::{delivery, otlp};

use crate::access::Principal;
use crate::app::App;
use crate::body;
use crate::ingest::{Ingest, Taken};
use crate::loki_api;
use crate::reply::Problem;

/// Runs a piece of ingest on a worker thread, a bounded number at once. What a sender that
/// numbers its frames has sent wrong is not told to it: it would only send the same again.
pub(crate) async fn ingest(
    app: &App,
    principal: &Principal,
    headers: &HeaderMap,
    take: impl FnOnce(&Ingest, Option<&Origin>) -> Result<Taken, Problem> + Send + 'static,
) -> Result<Taken, Problem> {
    let get = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let origin =
        delivery::parse(get, &principal.name).map_err(|e| Problem::bad_data(e.to_string()))?;
    let is_numbered = origin.is_some();
    let _place = app
        .ingesting
        .acquire()
        .await
        .map_err(|_| Problem::unavailable("the server is stopping"))?;
    let ingest = Arc::clone(&app.ingest);
    let mut taken = tokio::task::spawn_blocking(move || take(&ingest, origin.as_ref()))
        .await
        .map_err(|_| Problem::internal("the request failed unexpectedly"))??;
    if is_numbered {
        taken.refusal = None;
    }
    Ok(taken)
}

/// The answer to a request of which all or some was stored.
fn answer(taken: Taken) -> Result<Response, Problem> {
    match taken.refusal {
        Some(refusal) => Err(Problem::bad_data(refusal)),
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Which version of remote write a `Content-Type` header names.
fn version(content_type: &str) -> Option<u8> {
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or("");
    if !media_type.is_empty() && !media_type.eq_ignore_ascii_case("application/x-protobuf") {
        return None;
    }
    match parts.find_map(|part| part.strip_prefix("proto=")) {
        None | Some("prometheus.WriteRequest") => Some(1),
        Some("io.prometheus.write.v2.Request") => Some(2),
        Some(_) => None,
    }
}

/// `/api/v1/write`
pub async fn remote_write(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|v| v.to_str().ok()).unwrap_or("");
    let encoding = body::token(&headers, header::CONTENT_ENCODING);
    let unsupported =
        |what: String| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_data", what);
    let version = version(kind).ok_or_else(|| {
        unsupported(format!(
            "content type {kind:?} is not supported; send application/x-protobuf;proto=io.prometheus.write.v2.Request or application/x-protobuf;proto=prometheus.WriteRequest"
        ))
    })?;
    if !matches!(encoding.as_str(), "snappy" | "") {
        return Err(unsupported(format!(
            "content encoding {encoding:?} is not supported; send snappy"
        )));
    }
    let body = app.room.read(body).await?;
    if version == 1 {
        let take =
            move |ingest: &Ingest, origin: Option<&Origin>| ingest.remote_write(&body, origin);
        return ingest(&app, &principal, &headers, take)
            .await
            .and_then(answer);
    }
    let take = move |ingest: &Ingest, origin: Option<&Origin>| ingest.remote_write_2(&body, origin);
    let taken = ingest(&app, &principal, &headers, take).await;
    let [samples, histograms, exemplars] = taken.as_ref().map_or([0; 3], |taken| {
        [taken.samples, taken.histograms, taken.exemplars]
    });
    let mut response = taken.and_then(answer).into_response();
    for (name, count) in [
        ("x-prometheus-remote-write-samples-written", samples),
        ("x-prometheus-remote-write-histograms-written", histograms),
        ("x-prometheus-remote-write-exemplars-written", exemplars),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from(count));
    }
    Ok(response)
}

/// `/v1/metrics` and `/api/v1/otlp/v1/metrics`
pub async fn otlp_metrics(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let config = app.config.now().config;
    let lookback_ms = app.options.lookback_ms();
    let take = move |ingest: &Ingest, _: Option<&Origin>, is_json: bool, plain: &[u8]| {
        let decoded = if is_json {
            otlp::decode_json(plain)
        } else {
            otlp::decode(plain)
        };
        let all = decoded.map_err(|e| Problem::bad_data(e.to_string()))?;
        ingest.otlp(&all, &config.otlp, lookback_ms)
    };
    export(&app, &principal, &headers, body, "rejectedDataPoints", take).await
}

/// `/v1/logs` and `/otlp/v1/logs`
pub async fn otlp_logs(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let take = move |ingest: &Ingest, origin: Option<&Origin>, is_json: bool, plain: &[u8]| {
        let decoded = if is_json {
            otlp::logs::decode_json(plain)
        } else {
            otlp::logs::decode(plain)
        };
        let all = decoded.map_err(|e| Problem::bad_data(e.to_string()))?;
        ingest.otlp_logs(&all, origin)
    };
    export(&app, &principal, &headers, body, "rejectedLogRecords", take).await
}

/// Takes an OTLP export; `take` gets its bytes and whether they are JSON. `rejected` names what
/// the answer counts as refused.
async fn export(
    app: &App,
    principal: &Principal,
    headers: &HeaderMap,
    body: Body,
    rejected: &str,
    take: impl FnOnce(&Ingest, Option<&Origin>, bool, &[u8]) -> Result<Taken, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let is_json = is_json(headers)?;
    let encoding = body::token(headers, header::CONTENT_ENCODING);
    let body = app.room.read(body).await?;
    let take = move |ingest: &Ingest, origin: Option<&Origin>| {
        let plain = body::decompress(&encoding, &body)?;
        take(ingest, origin, is_json, &plain)
    };
    let taken = ingest(app, principal, headers, take).await?;
    let (refused, refusal) = (taken.refused, taken.refusal.as_deref());
    Ok(exported(is_json, rejected, refused, refusal))
}

/// Whether an export comes in JSON, not in protobuf.
fn is_json(headers: &HeaderMap) -> Result<bool, Problem> {
    match body::token(headers, header::CONTENT_TYPE).as_str() {
        "application/json" => Ok(true),
        "application/x-protobuf" => Ok(false),
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "bad_data",
            format!(
                "content type {other:?} is not supported; send application/x-protobuf or application/json"
            ),
        )),
    }
}

/// The answer to an export, with what was refused of it.
fn exported(is_json: bool, what: &str, refused: u64, refusal: Option<&str>) -> Response {
    if is_json {
        let body = match refusal {
            None => "{}".to_owned(),
            Some(text) => serde_json::json!({
                // Integers of 64 bits are texts there.
                "partialSuccess": { what: refused.to_string(), "errorMessage": text },
            })
            .to_string(),
        };
        return crate::reply::json(body);
    }
    let body = otlp::encode_answer(refused, refusal);
    let kind = "application/x-protobuf";
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// `/loki/api/v1/push`
pub async fn loki_push(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, loki_api::LokiProblem> {
    let kind = body::token(&headers, header::CONTENT_TYPE);
    let encoding = body::token(&headers, header::CONTENT_ENCODING);
    let body = app.room.read(body).await?;
    let is_json = match kind.as_str() {
        "application/json" => true,
        "application/x-protobuf" | "" => false,
        other => {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "bad_data",
                format!(
                    "content type {other:?} is not supported; send application/json or application/x-protobuf"
                ),
            )
            .into());
        }
    };
    let take = move |ingest: &Ingest, origin: Option<&Origin>| {
        if is_json && encoding != "snappy" {
            return ingest.loki_json(&body::decompress(&encoding, &body)?, origin);
        }
        // Protobuf is compressed with snappy, whatever the header says of it, unless it names
        // another way.
        if matches!(encoding.as_str(), "" | "snappy" | "identity") {
            let plain = body::unsnap(&body)?;
            return if is_json {
                ingest.loki_json(&plain, origin)
            } else {
                ingest.loki_protobuf(&plain, origin)
            };
        }
        ingest.loki_protobuf(&body::decompress(&encoding, &body)?, origin)
    };
    let answered = ingest(&app, &principal, &headers, take)
        .await
        .and_then(answer);
    Ok(answered?)
}
