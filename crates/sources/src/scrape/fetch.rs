//! Fetching a target's text over HTTP, as the job's settings say.

use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName,
    HeaderValue, LOCATION, USER_AGENT,
};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kittiwake_config::{
    Auth, Formats, HttpClient, ScrapeConfig, SecretSource, TlsClient, TlsVersion,
};
use kittiwake_wire::exposition::Format;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::verify::NoVerification;

/// Bytes of an answer, uncompressed, unless the job says otherwise.
pub(super) const BODY_BYTES_MAX: u64 = 64 << 20;
const REDIRECTS_MAX: usize = 10;
const SECRET_BYTES_MAX: u64 = 1 << 20;

type HttpsClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Why a target's text could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{what}: {reason}")]
    Setting { what: String, reason: String },
    #[error("{0}")]
    Transport(String),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("more than {REDIRECTS_MAX} redirects, or one to nowhere")]
    Redirect,
    #[error("its answer is larger than {0} bytes (body_size_limit)")]
    TooLarge(u64),
    #[error("its answer cannot be unpacked: {0}")]
    Gzip(#[from] std::io::Error),
    #[error("its answer is encoded as {0}, which was not asked for")]
    Encoding(String),
    #[error(
        "its answer's Content-Type {0:?} is no format of metrics; fallback_scrape_protocol can name one"
    )]
    Type(String),
    #[error("no answer within scrape_timeout")]
    Timeout,
}

fn setting(what: impl Into<String>) -> impl FnOnce(String) -> FetchError {
    let what = what.into();
    move |reason| FetchError::Setting { what, reason }
}

/// The client of one job.
#[derive(Debug)]
pub(super) struct Fetcher {
    http: HttpClient,
    accept: String,
    fallback: Option<Format>,
    asks_for_gzip: bool,
    body_bytes_max: u64,
    /// Made at the first use, and tried again when its certificates could not be read.
    client: Mutex<Option<HttpsClient>>,
}

impl Fetcher {
    pub(super) fn new(job: &ScrapeConfig) -> Self {
        Self {
            http: job.http.clone(),
            accept: accept(&job.formats),
            fallback: job
                .formats
                .fallback
                .map(|protocol| Format::of_content_type(protocol.content_type())),
            asks_for_gzip: job.enable_compression,
            body_bytes_max: if job.limits.body_bytes == 0 {
                BODY_BYTES_MAX
            } else {
                job.limits.body_bytes
            },
            client: Mutex::new(None),
        }
    }

    /// The text of a target and its format.
    pub(super) async fn fetch(
        &self,
        uri: &Uri,
        timeout: Duration,
    ) -> Result<(Vec<u8>, Format), FetchError> {
        let fetching = self.fetch_slowly(uri, timeout);
        let answer = tokio::time::timeout(timeout, fetching).await;
        answer.unwrap_or(Err(FetchError::Timeout))
    }

    fn client(&self) -> Result<HttpsClient, FetchError> {
        let mut client = self.client.lock();
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = client_of(&self.http.tls)?;
        *client = Some(made.clone());
        Ok(made)
    }

    fn request(
        &self,
        uri: &Uri,
        timeout: Duration,
        is_same_host: bool,
    ) -> Result<Request<Empty<Bytes>>, FetchError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(ACCEPT, accept);
        }
        let encoding = if self.asks_for_gzip {
            "gzip"
        } else {
            "identity"
        };
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        let agent = concat!("kittiwake/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let seconds = HeaderValue::from_str(&timeout.as_secs_f64().to_string());
        if let Ok(seconds) = seconds {
            headers.insert("x-prometheus-scrape-timeout-seconds", seconds);
        }
        // Secrets stay with the host that they were written for.
        if !is_same_host {
            return Ok(request);
        }
        if let Some(auth) = &self.http.auth {
            headers.insert(
                AUTHORIZATION,
                sensitive(&authorization(auth)?, "credentials")?,
            );
        }
        for header in &self.http.headers {
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

    async fn fetch_slowly(
        &self,
        uri: &Uri,
        timeout: Duration,
    ) -> Result<(Vec<u8>, Format), FetchError> {
        let client = self.client()?;
        let mut at = uri.clone();
        for _ in 0..=REDIRECTS_MAX {
            let request = self.request(&at, timeout, at.authority() == uri.authority())?;
            let answer = client.request(request).await;
            let answer = answer.map_err(|e| FetchError::Transport(causes(&e)))?;
            let status = answer.status();
            if status.is_redirection() && self.http.follow_redirects {
                let location = answer.headers().get(LOCATION);
                let location = location.and_then(|l| l.to_str().ok());
                at = location
                    .and_then(|l| redirected(&at, l))
                    .ok_or(FetchError::Redirect)?;
                continue;
            }
            if status != StatusCode::OK {
                return Err(FetchError::Status(status));
            }
            let text = |name| {
                let value: Option<&HeaderValue> = answer.headers().get(name);
                let value = value.and_then(|v| v.to_str().ok());
                value.unwrap_or_default().trim().to_ascii_lowercase()
            };
            let content_type = text(CONTENT_TYPE);
            let format = Format::known_content_type(&content_type)
                .or(self.fallback)
                .ok_or(FetchError::Type(content_type))?;
            let encoding = text(CONTENT_ENCODING);
            let limit = self.body_bytes_max;
            let most = usize::try_from(limit).unwrap_or(usize::MAX);
            let body = Limited::new(answer.into_body(), most).collect().await;
            let body = body.map_err(|e| {
                if e.is::<http_body_util::LengthLimitError>() {
                    FetchError::TooLarge(limit)
                } else {
                    FetchError::Transport(causes(&*e))
                }
            })?;
            let body = body.to_bytes();
            return match encoding.as_str() {
                "" | "identity" => Ok((body.to_vec(), format)),
                "gzip" => Ok((unpacked(&body, limit)?, format)),
                _ => Err(FetchError::Encoding(encoding)),
            };
        }
        Err(FetchError::Redirect)
    }
}

/// What is asked for, with falling weights, as Prometheus asks.
fn accept(formats: &Formats) -> String {
    const FIRST: usize = 6;
    let mut accept = String::new();
    let mut weight = FIRST;
    for protocol in &formats.protocols {
        accept.push_str(protocol.content_type());
        if protocol.has_escaping() {
            accept.push_str(";escaping=");
            accept.push_str(formats.escaping.as_str());
        }
        // Writing to a text cannot fail.
        let _ = write!(accept, ";q=0.{weight},");
        weight = weight.saturating_sub(1).max(1);
    }
    let _ = write!(accept, "*/*;q=0.{weight}");
    accept
}

fn unpacked(body: &[u8], limit: u64) -> Result<Vec<u8>, FetchError> {
    let mut text = Vec::new();
    let packed = flate2::read::MultiGzDecoder::new(body);
    packed
        .take(limit.saturating_add(1))
        .read_to_end(&mut text)?;
    if text.len() as u64 > limit {
        return Err(FetchError::TooLarge(limit));
    }
    Ok(text)
}

/// Where a redirect leads: an address, a path, or a name beside the path's last part.
fn redirected(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    if location.starts_with("http://") || location.starts_with("https://") {
        return location.parse().ok();
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
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn sensitive(text: &str, what: &str) -> Result<HeaderValue, FetchError> {
    let value = HeaderValue::from_str(text);
    let mut value = value
        .map_err(|_| setting(what)("it has characters that a header cannot hold".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn secret(source: &SecretSource) -> Result<String, FetchError> {
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

fn authorization(auth: &Auth) -> Result<String, FetchError> {
    let of = |source: &Option<SecretSource>| match source {
        Some(source @ SecretSource::File(_)) => Ok(secret(source)?.trim().to_owned()),
        Some(source) => secret(source),
        None => Ok(String::new()),
    };
    Ok(match auth {
        Auth::Basic { username, password } => {
            let pair = format!("{}:{}", of(username)?, of(password)?);
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            format!("Basic {encoded}")
        }
        Auth::Token {
            scheme,
            credentials,
        } => format!("{scheme} {}", secret(credentials)?.trim()),
    })
}

fn client_of(tls: &TlsClient) -> Result<HttpsClient, FetchError> {
    let failed = |reason: String| setting("tls_config")(reason);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let min = tls.min_version.unwrap_or(TlsVersion::Tls12);
    let max = tls.max_version.unwrap_or(TlsVersion::Tls13);
    let mut versions = Vec::new();
    if max >= TlsVersion::Tls13 {
        versions.push(&rustls::version::TLS13);
    }
    if min <= TlsVersion::Tls12 && max >= TlsVersion::Tls12 {
        versions.push(&rustls::version::TLS12);
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|e| failed(e.to_string()))?;
    let builder = if tls.insecure_skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NoVerification::new(&provider)))
    } else {
        let mut roots = rustls::RootCertStore::empty();
        if let Some(source) = &tls.authorities {
            for certificate in certificates(source)? {
                roots.add(certificate).map_err(|e| failed(e.to_string()))?;
            }
        } else {
            // Without the system's authorities plain targets are still reached.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        builder.with_root_certificates(roots)
    };
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(secret(key)?.as_bytes());
            let key = key.map_err(|e| failed(e.to_string()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key)
                .map_err(|e| failed(e.to_string()))?
        }
    };
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http();
    let connector = match &tls.server_name {
        None => connector.enable_http1().build(),
        Some(name) => {
            let name = ServerName::try_from(name.clone()).map_err(|e| failed(e.to_string()))?;
            connector
                .with_server_name_resolver(FixedServerNameResolver::new(name))
                .enable_http1()
                .build()
        }
    };
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

fn certificates(source: &SecretSource) -> Result<Vec<CertificateDer<'static>>, FetchError> {
    let pem = secret(source)?;
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| setting("tls_config")(e.to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use kittiwake_config::PrometheusConfig;

    use super::*;

    #[test]
    fn formats_are_asked_for_as_prometheus_asks() {
        assert_eq!(
            accept(&Formats::default()),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
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
    }

    #[test]
    fn a_small_answer_cannot_grow_without_bound() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&vec![b' '; 1 << 20]).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(unpacked(&packed, 1 << 20).unwrap().len(), 1 << 20);
        let error = unpacked(&packed, (1 << 20) - 1).unwrap_err();
        assert!(matches!(error, FetchError::TooLarge(_)), "{error}");
        assert!(unpacked(&packed[..100], 1 << 20).is_err());
    }

    #[test]
    fn credentials_do_not_follow_to_another_host() {
        let http = HttpClient {
            auth: Some(Auth::Token {
                scheme: "Bearer".to_owned(),
                credentials: SecretSource::Inline(kittiwake_config::Secret::new("t")),
            }),
            ..HttpClient::default()
        };
        let config = "scrape_configs: [{job_name: j}]";
        let config = PrometheusConfig::parse(config, std::path::Path::new("/")).unwrap();
        let fetcher = Fetcher::new(&ScrapeConfig {
            http,
            ..config.scrape_configs[0].clone()
        });
        let uri = Uri::from_static("http://h/m");
        let timeout = Duration::from_secs(1);
        let own = fetcher.request(&uri, timeout, true).unwrap();
        assert_eq!(own.headers()[AUTHORIZATION], "Bearer t");
        let other = fetcher.request(&uri, timeout, false).unwrap();
        assert!(!other.headers().contains_key(AUTHORIZATION));
    }
}
