//! Delivery over HTTP to a server, Kittiwake's or any that speaks remote write and Loki push.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use kittiwake_wire::remote_write::v2;
use kittiwake_wire::snappy;

use crate::frame::Kind;
use crate::series;
use crate::ship::{Outcome, Request, Shipper};

const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
const ANSWER_BYTES_MAX: usize = 64 << 10;
const PLAIN_BYTES_MAX: usize = 64 << 20;
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// Where to send, and as whom.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The server's address, with or without a path in front of the APIs.
    pub server: String,
    /// A file with the bearer token, read for each request, so that it can be changed.
    pub token_file: Option<PathBuf>,
    /// PEM with the authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// Sends requests over HTTP.
#[derive(Debug)]
pub struct HttpShipper {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    metrics: Uri,
    logs: Uri,
    token_file: Option<PathBuf>,
    /// Whether the receiver has said that it knows only remote write 1.0.
    is_old: AtomicBool,
}

/// What an answer to remote write 2.0 means beside its outcome.
enum Spoke {
    /// The receiver understood.
    Understood(Outcome),
    /// It knows only 1.0.
    OldVersion,
}

impl HttpShipper {
    /// A shipper to a server.
    pub fn new(settings: &HttpSettings) -> Result<Self> {
        let base = settings.server.trim_end_matches('/');
        if !base.starts_with("http://") && !base.starts_with("https://") {
            bail!(
                "--server {:?} is not an address: write http://HOST:7766 or https://HOST:7766",
                settings.server
            );
        }
        let uri = |path: &str| {
            format!("{base}{path}")
                .parse::<Uri>()
                .with_context(|| format!("--server {:?}", settings.server))
        };
        if let Some(file) = &settings.token_file {
            read_token(file)?;
        }
        let mut roots = rustls::RootCertStore::empty();
        // A system without authorities still reaches plain servers and those of --server.ca-file.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(file) = &settings.ca_file {
            let what = || format!("--server.ca-file {}", file.display());
            let authorities = CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .with_context(what)?;
            if authorities.is_empty() {
                bail!("{} has no certificate", what());
            }
            for authority in authorities {
                roots.add(authority).with_context(what)?;
            }
        }
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .context("TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            metrics: uri("/api/v1/write")?,
            logs: uri("/loki/api/v1/push")?,
            token_file: settings.token_file.clone(),
            is_old: AtomicBool::new(false),
        })
    }

    /// Sends a request, rewritten where the receiver knows only remote write 1.0.
    async fn send(&self, mut request: Request) -> Result<Outcome> {
        if request.kind == Kind::Metrics {
            if !self.is_old.load(Ordering::Relaxed) {
                match self.send_once(request.clone()).await? {
                    Spoke::Understood(outcome) => return Ok(outcome),
                    Spoke::OldVersion => {
                        tracing::info!("the server takes remote write 1.0 only: no start times");
                        self.is_old.store(true, Ordering::Relaxed);
                    }
                }
            }
            let mut plain = Vec::new();
            let old = snappy::decompress(&request.body, PLAIN_BYTES_MAX, &mut plain)
                .ok()
                .and_then(series::downgrade);
            let Some(old) = old else {
                return Ok(Outcome::Refused("the frame does not decode".to_owned()));
            };
            request.kind = Kind::MetricsV1;
            request.body = old.into();
        }
        match self.send_once(request).await? {
            Spoke::Understood(outcome) => Ok(outcome),
            Spoke::OldVersion => Ok(Outcome::Retry {
                reason: "the server does not take remote write".to_owned(),
                after: None,
            }),
        }
    }

    async fn send_once(&self, request: Request) -> Result<Spoke> {
        let (uri, content_type, version) = match request.kind {
            Kind::Metrics => (&self.metrics, v2::CONTENT_TYPE, "2.0.0"),
            Kind::MetricsV1 => (&self.metrics, "application/x-protobuf", "0.1.0"),
            Kind::Logs => (&self.logs, "application/x-protobuf", ""),
        };
        let mut builder = hyper::Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(CONTENT_TYPE, content_type)
            .header(
                USER_AGENT,
                concat!("kittiwake-collector/", env!("CARGO_PKG_VERSION")),
            );
        if !version.is_empty() {
            builder = builder
                .header(CONTENT_ENCODING, "snappy")
                .header("x-prometheus-remote-write-version", version);
        }
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(file) = &self.token_file {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", read_token(file)?)).context("token")?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        let answer = self
            .client
            .request(builder.body(Full::new(request.body.clone()))?);
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, answer)
            .await
            .context("no answer in time")??;
        let status = answer.status();
        // A receiver that knows 2.0 says how much it has written; one that does not may take
        // the request for an empty one.
        let says_written = WRITTEN
            .iter()
            .any(|name| answer.headers().contains_key(*name));
        let is_misread =
            status.is_success() && !says_written || status == StatusCode::UNSUPPORTED_MEDIA_TYPE;
        if request.kind == Kind::Metrics && is_misread {
            return Ok(Spoke::OldVersion);
        }
        let after = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
        let text = match tokio::time::timeout(REQUEST_TIMEOUT, body).await {
            Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes())
                .chars()
                .take(300)
                .collect(),
            _ => String::new(),
        };
        Ok(Spoke::Understood(outcome(status, &text, after)))
    }
}

/// What an answer means for a frame.
fn outcome(status: StatusCode, text: &str, after: Option<Duration>) -> Outcome {
    let reason = format!("{status}: {}", text.trim());
    match status.as_u16() {
        200..300 => Outcome::Stored,
        400 | 422 => Outcome::Refused(reason),
        413 => Outcome::TooLarge,
        _ => Outcome::Retry { reason, after },
    }
}

#[async_trait]
impl Shipper for HttpShipper {
    async fn ship(&self, request: Request) -> Outcome {
        self.send(request)
            .await
            .unwrap_or_else(|error| Outcome::Retry {
                reason: format!("{error:#}"),
                after: None,
            })
    }
}

fn read_token(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("--token-file {}", file.display()))?;
    let token = text.trim();
    if token.is_empty() {
        bail!("--token-file {} is empty", file.display());
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_never_work_is_given_up() {
        let of = |code: u16| outcome(StatusCode::from_u16(code).unwrap(), "x", None);
        assert_eq!(of(204), Outcome::Stored);
        assert_eq!(of(413), Outcome::TooLarge);
        for code in [400, 422] {
            assert!(matches!(of(code), Outcome::Refused(_)), "{code}");
        }
        for code in [301, 401, 403, 404, 408, 415, 429, 500, 503] {
            assert!(matches!(of(code), Outcome::Retry { .. }), "{code}");
        }
    }

    /// Answers each request by what it says of its content, and tells what that was.
    fn receiver(knows_2: bool) -> (String, std::sync::mpsc::Receiver<String>) {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = vec![0; 64 << 10];
                let mut len = 0;
                // Heads and bodies here are small.
                let head = loop {
                    len += stream.read(&mut bytes[len..]).unwrap();
                    let text = String::from_utf8_lossy(&bytes[..len]).to_lowercase();
                    let head = text.split("\r\n\r\n").next().unwrap().to_owned();
                    let body = head.split("content-length: ").nth(1).unwrap_or("0");
                    let body: usize = body.lines().next().unwrap().parse().unwrap();
                    if text.contains("\r\n\r\n") && len >= head.len() + 4 + body {
                        break head;
                    }
                };
                let is_2 = head.contains("write.v2.request");
                let answer = match (is_2, knows_2) {
                    (true, false) => "415 no",
                    (true, true) => "204 ok\r\nx-prometheus-remote-write-samples-written: 1",
                    _ => "204 ok",
                };
                let answer = format!("HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
                if tell.send(if is_2 { "2" } else { "1" }.to_owned()).is_err() {
                    return;
                }
            }
        });
        (format!("http://{address}"), told)
    }

    #[tokio::test]
    async fn a_receiver_of_the_old_version_gets_the_old_version() {
        let mut batch = kittiwake_sources::SampleBatch::default();
        let labels = kittiwake_model::Labels::from_pairs([("__name__", "a")]).unwrap();
        batch.samples.push((labels, 1.0));
        let body: Bytes = series::bodies(&batch).remove(0).1.unwrap().into();
        for (knows_2, want) in [(true, ["2", "2"].as_slice()), (false, &["2", "1", "1"])] {
            let (server, told) = receiver(knows_2);
            let settings = HttpSettings {
                server,
                token_file: None,
                ca_file: None,
            };
            let shipper = HttpShipper::new(&settings).unwrap();
            for _ in 0..2 {
                let request = Request {
                    kind: Kind::Metrics,
                    body: body.clone(),
                    headers: std::array::from_fn(|_| ("x-a", "b".to_owned())),
                };
                assert_eq!(shipper.ship(request).await, Outcome::Stored);
            }
            let seen: Vec<String> = want.iter().map(|_| told.recv().unwrap()).collect();
            assert_eq!(seen, want);
        }
    }

    #[test]
    fn settings_are_checked() {
        let settings = |server: &str, token: Option<&str>| HttpSettings {
            server: server.to_owned(),
            token_file: token.map(PathBuf::from),
            ca_file: None,
        };
        assert!(HttpShipper::new(&settings("http://h:7766/", None)).is_ok());
        let error = HttpShipper::new(&settings("h:7766", None)).unwrap_err();
        assert!(error.to_string().contains("http://HOST"), "{error}");
        let error = HttpShipper::new(&settings("http://h", Some("/nonexistent"))).unwrap_err();
        assert!(format!("{error:#}").contains("--token-file"), "{error:#}");
    }
}
