//! The page, as it was built into the program.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

include!(concat!(env!("OUT_DIR"), "/page_files.rs"));

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
);
const MISSING: &str = "<!doctype html><meta charset=utf-8><title>Kittiwake</title>\
<p>This server was built without its page. <code>cargo xtask run</code> in the project's \
folder builds both; or <code>npm ci &amp;&amp; npm run build</code> in <code>ui/</code>, and \
then the server again. The APIs work: see <a href=/metrics>/metrics</a>.\n";

/// Whether the page was built into the program.
pub fn is_there() -> bool {
    FILES.iter().any(|(name, _)| *name == "index.html")
}

/// A file of the page; the empty path is the page itself.
pub fn file(path: &str) -> Option<Response> {
    let name = if path.is_empty() { "index.html" } else { path };
    let Some((_, bytes)) = FILES.iter().find(|(n, _)| *n == name) else {
        return (name == "index.html").then(|| html(StatusCode::OK, MISSING.as_bytes()));
    };
    if name == "index.html" {
        return Some(html(StatusCode::OK, bytes));
    }
    let mut response = (*bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(name)));
    // Names in assets/ carry a hash of their content.
    let cache = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    Some(response)
}

fn html(status: StatusCode, bytes: &'static [u8]) -> Response {
    let mut response = (status, bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "map") => "application/json",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
