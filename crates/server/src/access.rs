//! Who may do what.
//!
//! With users or tokens configured, each request but the health checks must bring one that is
//! good for what it asks. Without them the server listens on loopback, where the danger is a
//! page of another site in the user's browser: an unknown Host is refused (a name that was
//! made to point here), and so is what another site's page wants to change or to follow.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use kittiwake_config::{Role, WebConfig};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::cors::Cors;
use crate::fair_queue::ASKER;
use crate::listener::Peer;
use crate::reply::Problem;

/// Password checks that are remembered, since each costs a tenth of a second.
const CHECKED_MAX: usize = 1024;
/// The hash against which a password of an unknown user is checked, so that the answer takes
/// as long as for a known one.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuWLUZqLEq4pJkpPiNWXcwDq1GrSlYqjK";

/// Who sent a request.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The name of the user or token; empty without access rules.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// The rules.
#[derive(Debug)]
pub struct Access {
    web: WebConfig,
    is_loopback: bool,
    external_host: Option<String>,
    cors: Cors,
    /// Whether a user's password was right, by a salted hash of both.
    checked: Mutex<HashMap<[u8; 32], bool>>,
    salt: [u8; 16],
}

impl Access {
    /// Rules of a server. `external_url` is the address by which users reach it.
    pub fn new(
        web: WebConfig,
        is_loopback: bool,
        external_url: Option<&str>,
        cors: Cors,
        salt: [u8; 16],
    ) -> Self {
        let host = external_url.and_then(|url| {
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            let host = rest.split('/').next()?;
            Some(without_port(host).to_ascii_lowercase())
        });
        Self {
            web,
            is_loopback,
            external_host: host,
            cors,
            checked: Mutex::default(),
            salt,
        }
    }

    /// Who sends these headers, or why they are not let in.
    async fn principal(self: &Arc<Self>, headers: &HeaderMap) -> Result<Principal, Problem> {
        if self.web.users.is_empty() && self.web.tokens.is_empty() {
            return Ok(Principal {
                name: String::new(),
                role: Role::Admin,
            });
        }
        let refused = || {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "this needs a user or a token",
            )
        };
        let value = headers.get(header::AUTHORIZATION).ok_or_else(refused)?;
        let (scheme, credentials) = value
            .to_str()
            .ok()
            .and_then(|v| v.split_once(' '))
            .ok_or_else(refused)?;
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            let digest: [u8; 32] = Sha256::digest(credentials.as_bytes()).into();
            let token = self
                .web
                .tokens
                .iter()
                .find(|t| bool::from(t.sha256.ct_eq(&digest)));
            let token = token.ok_or_else(refused)?;
            return Ok(Principal {
                name: token.name.clone(),
                role: token.role,
            });
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(refused());
        }
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(credentials)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(refused)?;
        let (user, password) = decoded.split_once(':').ok_or_else(refused)?;
        if self.is_right(user, password).await {
            Ok(Principal {
                name: user.to_owned(),
                role: Role::Admin,
            })
        } else {
            Err(refused())
        }
    }

    /// Who sends these headers, if they may do what they ask for.
    async fn let_in(
        self: &Arc<Self>,
        headers: &HeaderMap,
        is_admin: bool,
        is_write: bool,
    ) -> Result<Principal, Problem> {
        let principal = self.principal(headers).await?;
        let may = match (is_admin, is_write) {
            (true, _) => principal.role == Role::Admin,
            (false, true) => principal.role.may_write(),
            (false, false) => principal.role.may_read(),
        };
        if may {
            return Ok(principal);
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("the role of {:?} does not allow this", principal.name),
        ))
    }

    async fn is_right(self: &Arc<Self>, user: &str, password: &str) -> bool {
        let mut hasher = Sha256::new();
        hasher.update(self.salt);
        hasher.update((user.len() as u64).to_le_bytes());
        hasher.update(user.as_bytes());
        hasher.update(password.as_bytes());
        let key: [u8; 32] = hasher.finalize().into();
        if let Some(known) = self.checked.lock().get(&key) {
            return *known;
        }
        let hash = self.web.users.get(user);
        let (is_known, hash) = (
            hash.is_some(),
            hash.map_or(NOBODY, String::as_str).to_owned(),
        );
        let password = password.to_owned();
        let check = tokio::task::spawn_blocking(move || {
            // A hash that cannot be read lets nobody in.
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        let is_right = check.await.unwrap_or(false) && is_known;
        let mut checked = self.checked.lock();
        if checked.len() >= CHECKED_MAX {
            checked.clear();
        }
        checked.insert(key, is_right);
        is_right
    }

    /// On loopback only names of this machine are served: another name was made to point here.
    fn check_host(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if !self.is_loopback {
            return Ok(());
        }
        let host = text(headers, &header::HOST).unwrap_or("");
        let name = without_port(host).to_ascii_lowercase();
        let is_ours = name.is_empty()
            || name == "localhost"
            || name.ends_with(".localhost")
            || name
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
            || self.external_host.as_deref() == Some(&name);
        if is_ours {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!(
                "this server does not answer for host {name:?}; --web.external-url adds a name"
            ),
        ))
    }

    /// What comes from a page of another site may not change or follow anything.
    fn check_origin(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        if self.cors.allows(headers) {
            return Ok(());
        }
        let only_reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
            && !headers.contains_key(header::UPGRADE);
        if only_reads {
            return Ok(());
        }
        let site = headers.get("sec-fetch-site").and_then(|v| v.to_str().ok());
        let other_site = site.is_some_and(|s| s != "same-origin" && s != "none");
        let other_origin = text(headers, &header::ORIGIN).is_some_and(|origin| {
            let origin = origin.split_once("://").map_or(origin, |(_, rest)| rest);
            let is_host = text(headers, &header::HOST) == Some(origin);
            let is_external = self.external_host.as_deref() == Some(without_port(origin));
            !is_host && !is_external
        });
        if other_site || other_origin {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "a page of another site may not do this",
            ));
        }
        Ok(())
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// What a path asks for.
fn is_write(path: &str) -> bool {
    matches!(
        path,
        "/api/v1/write"
            | "/loki/api/v1/push"
            | "/v1/metrics"
            | "/api/v1/otlp/v1/metrics"
            | "/v1/logs"
            | "/otlp/v1/logs"
            | "/loki/otlp/v1/logs"
    )
}

/// Whose turn it is in the queue of queries: by name, else by address.
fn asker(principal: Option<&Principal>, request: &Request<Body>) -> String {
    match principal {
        Some(principal) if !principal.name.is_empty() => principal.name.clone(),
        _ => {
            let peer = request.extensions().get::<ConnectInfo<Peer>>();
            peer.map_or_else(String::new, |ConnectInfo(Peer(peer))| peer.ip().to_string())
        }
    }
}

/// Lets a request through, with its [`Principal`], or answers why not.
pub async fn guard(
    State(access): State<Arc<Access>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let is_open = matches!(
        path,
        "/-/healthy" | "/-/ready" | "/alertmanager/-/healthy" | "/alertmanager/-/ready"
    );
    let is_read = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    // Who can silence alerts, or page people by a test, can hide or fake all others.
    let is_of_alerts = path.starts_with("/alertmanager/") && !is_read;
    let is_alert = is_of_alerts && path == "/alertmanager/api/v2/alerts";
    let (is_write, is_admin) = (
        is_write(path) || is_alert,
        is_of_alerts && !is_alert
            || (path.starts_with("/-/") || path.starts_with("/alertmanager/-/")) && !is_open
            || path.starts_with("/api/v1/admin/")
            || matches!(path, "/flush" | "/loki/api/v1/delete"),
    );
    let headers = request.headers().clone();
    let checked = access
        .check_host(&headers)
        .and_then(|()| access.check_origin(request.method(), &headers));
    let checked = match checked {
        Ok(()) if is_open => Ok(None),
        Ok(()) => access.let_in(&headers, is_admin, is_write).await.map(Some),
        Err(problem) => Err(problem),
    };
    match checked {
        Ok(principal) => {
            let asker = asker(principal.as_ref(), &request);
            if let Some(principal) = principal {
                request.extensions_mut().insert(principal);
            }
            let mut response = ASKER.scope(asker, next.run(request)).await;
            for (name, value) in &access.web.headers {
                let pair = (
                    name.parse::<header::HeaderName>(),
                    HeaderValue::from_str(value),
                );
                if let (Ok(name), Ok(value)) = pair {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        }
        Err(problem) => {
            let needs_login = problem.status == StatusCode::UNAUTHORIZED;
            let mut response = problem.into_response();
            if needs_login {
                response.headers_mut().insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Basic realm=\"kittiwake\", charset=\"UTF-8\""),
                );
            }
            response
        }
    }
}
