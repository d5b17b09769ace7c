//! Pages of other sites that may read: `--web.cors.origin`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use kittiwake_model::pattern;
use regex::Regex;

/// The origins that are let in; none unless configured.
#[derive(Debug, Clone, Default)]
pub struct Cors(Option<Arc<Regex>>);

impl Cors {
    /// Origins that match an expression as a whole.
    pub fn new(expression: &str) -> Result<Self, regex::Error> {
        Ok(Self(Some(Arc::new(pattern::anchored(expression)?))))
    }

    /// Whether requests come from an origin that is let in.
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(header::ORIGIN).and_then(|v| v.to_str().ok());
        match (&self.0, origin) {
            (Some(pattern), Some(origin)) => pattern.is_match(origin),
            _ => false,
        }
    }
}

/// Answers what browsers ask before, and marks answers.
pub async fn allow(State(cors): State<Cors>, request: Request<Body>, next: Next) -> Response {
    if !cors.allows(request.headers()) {
        return next.run(request).await;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    for (name, value) in [
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Accept, Authorization, Content-Type, Origin",
        ),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
        (header::VARY, "Origin"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    response
}
