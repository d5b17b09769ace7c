//! An HTTP client as Prometheus' settings describe it: who we are, whom we trust, which headers
//! go along, whether redirects are followed.
//!
//! Secrets that stand in files are read for each request, so that they can be changed. They stay
//! with the host that they were written for: a redirect to another host does not carry them.

mod tls;
mod verify;

use std::io::Read as _;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, USER_AGENT,
};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kittiwake_config::{Auth, HttpClient, SecretSource, TlsClient};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;

pub use tls::client_config;

const REDIRECTS_MAX: usize = 10;
const SECRET_BYTES_MAX: u64 = 1 << 20;

type HttpsClient = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why an answer could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A setting cannot be used.
    #[error("{what}: {reason}")]
    Setting {
        /// The setting, or the file that it names.
        what: String,
        /// Why.
        reason: String,
    },
    /// The connection failed.
    #[error("{0}")]
    Transport(String),
    /// Redirects without end.
    #[error("more than {REDIRECTS_MAX} redirects, or one to nowhere")]
    Redirect,
    /// The answer is larger than the limit.
    #[error("its answer is larger than {0} bytes")]
    TooLarge(u64),
}

pub(crate) fn setting(what: impl Into<String>) -> impl FnOnce(String) -> ClientError {
    let what = what.into();
    move |reason| ClientError::Setting { what, reason }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// Where to.
    pub uri: Uri,
    /// Headers beside those of the settings.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Bytes of the answer's body at most.
    pub body_bytes_max: u64,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as it was sent.
    pub body: Bytes,
}

/// A client with its connections.
#[derive(Debug)]
pub struct Client {
    settings: HttpClient,
    /// Made at the first use, and tried again when its certificates could not be read.
    https: Mutex<Option<HttpsClient>>,
}

impl Client {
    /// A client of these settings.
    pub fn new(settings: HttpClient) -> Self {
        Self {
            settings,
            https: Mutex::new(None),
        }
    }

    fn https(&self) -> Result<HttpsClient, ClientError> {
        let mut https = self.https.lock();
        if let Some(https) = &*https {
            return Ok(https.clone());
        }
        let made = https_of(&self.settings.tls)?;
        *https = Some(made.clone());
        Ok(made)
    }

    /// The request as it is sent; `is_same_host` says whether it may carry secrets.
    pub fn request(
        &self,
        ask: &Ask,
        is_same_host: bool,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.uri_mut() = ask.uri.clone();
        *request.method_mut() = ask.method.clone();
        let headers = request.headers_mut();
        let agent = concat!("kittiwake/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let given = ask.headers.iter();
        for (name, value) in given.filter(|(name, _)| is_same_host || **name != AUTHORIZATION) {
            headers.insert(name, value.clone());
        }
        if !is_same_host {
            return Ok(request);
        }
        if let Some(auth) = &self.settings.auth {
            headers.insert(
                AUTHORIZATION,
                sensitive(&authorization(auth)?, "credentials")?,
            );
        } else if let Some(pair) = user_info(&ask.uri)
            && !headers.contains_key(AUTHORIZATION)
        {
            headers.insert(AUTHORIZATION, sensitive(&basic(&pair), "url")?);
        }
        for header in &self.settings.headers {
            let name: HeaderName = header
                .name
                .parse()
                .map_err(|_| setting("http_headers")(format!("{:?} is no name", header.name)))?;
            for value in &header.values {
                headers.append(&name, sensitive(secret(value)?.trim(), &header.name)?);
            }
        }
        Ok(request)
    }

    /// Asks, and follows redirects where the settings say so. There is no time limit.
    pub async fn send(&self, ask: Ask) -> Result<Answer, ClientError> {
        let https = self.https()?;
        let first = ask.uri.clone();
        let mut ask = ask;
        for _ in 0..=REDIRECTS_MAX {
            let request = self.request(&ask, ask.uri.authority() == first.authority())?;
            let answer = https.request(request).await;
            let answer = answer.map_err(|e| ClientError::Transport(causes(&e)))?;
            let status = answer.status();
            if status.is_redirection() && self.settings.follow_redirects {
                let location = answer.headers().get(LOCATION);
                let location = location.and_then(|l| l.to_str().ok());
                ask.uri = location
                    .and_then(|l| redirected(&ask.uri, l))
                    .ok_or(ClientError::Redirect)?;
                if !matches!(status.as_u16(), 307 | 308) && ask.method != Method::HEAD {
                    // As browsers do, and Go's client after them.
                    ask.method = Method::GET;
                    ask.body = Bytes::new();
                    ask.headers.remove(CONTENT_TYPE);
                    ask.headers.remove(CONTENT_LENGTH);
                }
                continue;
            }
            let headers = answer.headers().clone();
            let limit = ask.body_bytes_max;
            let most = usize::try_from(limit).unwrap_or(usize::MAX);
            let body = Limited::new(answer.into_body(), most).collect().await;
            let body = body.map_err(|e| {
                if e.is::<LengthLimitError>() {
                    ClientError::TooLarge(limit)
                } else {
                    ClientError::Transport(causes(&*e))
                }
            })?;
            return Ok(Answer {
                status,
                headers,
                body: body.to_bytes(),
            });
        }
        Err(ClientError::Redirect)
    }
}

/// Where a redirect leads: an address, a path, or a name beside the path's last part.
fn redirected(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    if location.starts_with("http://") || location.starts_with("https://") {
        return location.parse().ok();
    }
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if location
        .split_once(':')
        .is_some_and(|(scheme, _)| scheme.chars().all(is_of_scheme))
    {
        // Of another scheme.
        return None;
    }
    if location.starts_with("//") {
        return format!("{scheme}:{location}").parse().ok();
    }
    if location.starts_with('/') {
        return format!("{scheme}://{authority}{location}").parse().ok();
    }
    let dir = from.path().rsplit_once('/').map_or("", |(dir, _)| dir);
    format!("{scheme}://{authority}{dir}/{location}")
        .parse()
        .ok()
}

/// The whole chain: the outermost error of a client says only that it failed.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn sensitive(text: &str, what: &str) -> Result<HeaderValue, ClientError> {
    let value = HeaderValue::from_str(text);
    let mut value = value
        .map_err(|_| setting(what)("it has characters that a header cannot hold".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The text of a secret, as it stands in its place.
pub fn secret(source: &SecretSource) -> Result<String, ClientError> {
    let file = match source {
        SecretSource::Inline(secret) => return Ok(secret.expose().to_owned()),
        SecretSource::File(file) => file,
    };
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|f| f.take(SECRET_BYTES_MAX).read_to_string(&mut text))
        .map_err(|e| setting(file.display().to_string())(e.to_string()))?;
    Ok(text)
}

fn basic(pair: &[u8]) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {encoded}")
}

/// `user:password` of an address that has them, without its escapes.
fn user_info(uri: &Uri) -> Option<Vec<u8>> {
    let (info, _) = uri.authority()?.as_str().rsplit_once('@')?;
    let mut rest = info.as_bytes();
    let mut pair = Vec::with_capacity(rest.len() + 1);
    while let Some((byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *byte == b'%');
        let escaped = digits.and_then(|digits| str::from_utf8(digits).ok());
        let escaped = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        pair.push(escaped.unwrap_or(*byte));
        rest = &behind[if escaped.is_some() { 2 } else { 0 }..];
    }
    if !pair.contains(&b':') {
        pair.push(b':');
    }
    Some(pair)
}

fn authorization(auth: &Auth) -> Result<String, ClientError> {
    let of = |source: &Option<SecretSource>| match source {
        Some(source @ SecretSource::File(_)) => Ok(secret(source)?.trim().to_owned()),
        Some(source) => secret(source),
        None => Ok(String::new()),
    };
    Ok(match auth {
        Auth::Basic { username, password } => {
            basic(format!("{}:{}", of(username)?, of(password)?).as_bytes())
        }
        Auth::Token {
            scheme,
            credentials,
        } => format!("{scheme} {}", secret(credentials)?.trim()),
    })
}

fn https_of(tls: &TlsClient) -> Result<HttpsClient, ClientError> {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(client_config(tls)?)
        .https_or_http();
    let connector = match &tls.server_name {
        None => connector.enable_http1().build(),
        Some(name) => {
            let name = ServerName::try_from(name.clone())
                .map_err(|e| setting("tls_config")(e.to_string()))?;
            connector
                .with_server_name_resolver(FixedServerNameResolver::new(name))
                .enable_http1()
                .build()
        }
    };
    let builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
    Ok(builder.build(connector))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(uri: &'static str) -> Ask {
        Ask {
            method: Method::GET,
            uri: Uri::from_static(uri),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            body_bytes_max: 1 << 10,
        }
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let from: Uri = "http://h:1/a/b?c".parse().unwrap();
        for (location, want) in [
            ("https://x/y", "https://x/y"),
            ("//x/y", "http://x/y"),
            ("/y", "http://h:1/y"),
            ("y", "http://h:1/a/y"),
        ] {
            assert_eq!(redirected(&from, location).unwrap(), want);
        }
        assert!(redirected(&from, "http://").is_none());
        assert!(redirected(&from, "file:///etc/passwd").is_none());
    }

    #[test]
    fn credentials_do_not_follow_to_another_host() {
        let client = Client::new(HttpClient {
            auth: Some(Auth::Token {
                scheme: "Bearer".to_owned(),
                credentials: SecretSource::Inline(kittiwake_config::Secret::new("t")),
            }),
            ..HttpClient::default()
        });
        let ask = ask("http://h/m");
        let own = client.request(&ask, true).unwrap();
        assert_eq!(own.headers()[AUTHORIZATION], "Bearer t");
        let other = client.request(&ask, false).unwrap();
        assert!(!other.headers().contains_key(AUTHORIZATION));
    }

    #[test]
    fn credentials_of_an_address_are_sent() {
        let client = Client::new(HttpClient::default());
        let request = client.request(&ask("http://u:p%40w@h/m"), true).unwrap();
        // "u:p@w"
        assert_eq!(request.headers()[AUTHORIZATION], "Basic dTpwQHc=");
        let request = client.request(&ask("http://u@h/m"), true).unwrap();
        assert_eq!(request.headers()[AUTHORIZATION], "Basic dTo=");
        let request = client.request(&ask("http://h/m"), true).unwrap();
        assert!(!request.headers().contains_key(AUTHORIZATION));
    }
}
