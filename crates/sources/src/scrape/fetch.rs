//! Fetching a target's text over HTTP, as the job's settings say.

use std::fmt::Write as _;
use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue,
};
use hyper::{HeaderMap, Method, StatusCode, Uri};
use kittiwake_client::{Ask, Client, ClientError};
use kittiwake_config::{Formats, ScrapeConfig};
use kittiwake_wire::exposition::Format;

/// Bytes of an answer, uncompressed, unless the job says otherwise.
pub(super) const BODY_BYTES_MAX: u64 = 64 << 20;

/// Why a target's text could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Client(ClientError),
    #[error("it answers {0}")]
    Status(StatusCode),
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

impl From<ClientError> for FetchError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::TooLarge(limit) => Self::TooLarge(limit),
            other => Self::Client(other),
        }
    }
}

/// The client of one job.
#[derive(Debug)]
pub(super) struct Fetcher {
    accept: String,
    fallback: Option<Format>,
    asks_for_gzip: bool,
    body_bytes_max: u64,
    client: Client,
}

impl Fetcher {
    pub(super) fn new(job: &ScrapeConfig) -> Self {
        Self {
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
            client: Client::new(job.http.clone()),
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

    fn headers(&self, timeout: Duration) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(ACCEPT, accept);
        }
        let encoding = if self.asks_for_gzip {
            "gzip"
        } else {
            "identity"
        };
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        let seconds = HeaderValue::from_str(&timeout.as_secs_f64().to_string());
        if let Ok(seconds) = seconds {
            headers.insert("x-prometheus-scrape-timeout-seconds", seconds);
        }
        headers
    }

    async fn fetch_slowly(
        &self,
        uri: &Uri,
        timeout: Duration,
    ) -> Result<(Vec<u8>, Format), FetchError> {
        let limit = self.body_bytes_max;
        let ask = Ask {
            method: Method::GET,
            uri: uri.clone(),
            headers: self.headers(timeout),
            body: Bytes::new(),
            body_bytes_max: limit,
        };
        let answer = self.client.send(ask).await?;
        if answer.status != StatusCode::OK {
            return Err(FetchError::Status(answer.status));
        }
        let text = |name: HeaderName| {
            let value = answer.headers.get(name);
            let value = value.and_then(|v| v.to_str().ok());
            value.unwrap_or_default().trim().to_ascii_lowercase()
        };
        let content_type = text(CONTENT_TYPE);
        let format = Format::known_content_type(&content_type)
            .or(self.fallback)
            .ok_or(FetchError::Type(content_type))?;
        let encoding = text(CONTENT_ENCODING);
        match encoding.as_str() {
            "" | "identity" => Ok((answer.body.to_vec(), format)),
            "gzip" => Ok((unpacked(&answer.body, limit)?, format)),
            _ => Err(FetchError::Encoding(encoding)),
        }
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

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
    fn a_small_answer_cannot_grow_without_bound() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&vec![b' '; 1 << 20]).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(unpacked(&packed, 1 << 20).unwrap().len(), 1 << 20);
        let error = unpacked(&packed, (1 << 20) - 1).unwrap_err();
        assert!(matches!(error, FetchError::TooLarge(_)), "{error}");
        assert!(unpacked(&packed[..100], 1 << 20).is_err());
    }
}
