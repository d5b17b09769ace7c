//! The sections `storage`, `tracing` and `runtime`: checked as Prometheus checks them. What they
//! say is said here on the command line.

use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::error::{Located, Problem};
use crate::http_client::{HttpFields, TlsFields};
use crate::remote::check_headers;
use crate::scalar::{Interval, Size, Texts};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuntimeFields {
    #[allow(dead_code, reason = "Go's own")]
    gogc: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StorageFields {
    tsdb: Option<TsdbFields>,
    #[allow(dead_code, reason = "not obeyed yet")]
    exemplars: Option<ExemplarsFields>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExemplarsFields {
    #[allow(dead_code, reason = "not obeyed yet")]
    max_exemplars: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TsdbFields {
    #[allow(dead_code, reason = "not obeyed yet")]
    out_of_order_time_window: Option<Interval>,
    #[allow(dead_code, reason = "not obeyed yet")]
    stale_series_compaction_threshold: Option<f64>,
    chunk_encoding: Option<EncodingFields>,
    retention: Option<RetentionFields>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncodingFields {
    floats: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionFields {
    #[allow(dead_code, reason = "not obeyed yet")]
    time: Option<Interval>,
    size: Option<String>,
    percentage: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TracingFields {
    client_type: Option<String>,
    endpoint: Option<String>,
    #[allow(dead_code, reason = "not obeyed yet")]
    sampling_fraction: Option<f64>,
    #[allow(dead_code, reason = "not obeyed yet")]
    insecure: Option<bool>,
    tls_config: Option<Spanned<TlsFields>>,
    headers: Option<Texts>,
    compression: Option<String>,
    #[allow(dead_code, reason = "not obeyed yet")]
    timeout: Option<Interval>,
}

fn wrong(line: u64, text: impl Into<String>) -> Located {
    Located::new(line, Problem::Yaml(text.into()))
}

impl StorageFields {
    pub(crate) fn check(&self, line: u64) -> Result<(), Located> {
        let Some(tsdb) = &self.tsdb else {
            return Ok(());
        };
        let floats = tsdb
            .chunk_encoding
            .as_ref()
            .and_then(|e| e.floats.as_deref());
        if let Some(floats) = floats
            && !["", "xor", "xor2"].contains(&floats)
        {
            let floats = kittiwake_model::quote(floats);
            return Err(wrong(
                line,
                format!(
                    "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely, got {floats}"
                ),
            ));
        }
        let Some(retention) = &tsdb.retention else {
            return Ok(());
        };
        if let Some(size) = &retention.size {
            if size.starts_with('-') {
                return Err(wrong(
                    line,
                    format!(
                        "'storage.tsdb.retention.size' must be greater than or equal to 0, got {size}"
                    ),
                ));
            }
            Size::parse(size).map_err(|text| wrong(line, text))?;
        }
        match retention.percentage {
            Some(percentage) if !(0.0..=100.0).contains(&percentage) => Err(wrong(
                line,
                format!(
                    "'storage.tsdb.retention.percentage' must be in the range [0, 100], got {percentage}"
                ),
            )),
            _ => Ok(()),
        }
    }
}

impl TracingFields {
    pub(crate) fn check(self, line: u64, dir: &Path) -> Result<(), Located> {
        if let Some(kind) = &self.client_type
            && !["http", "grpc"].contains(&kind.as_str())
        {
            let text =
                format!("expected tracing client type to be to be http or grpc, but got {kind}");
            return Err(wrong(line, text));
        }
        let authorization = "custom authorization header configuration is not yet supported";
        check_headers(self.headers.as_ref(), line, authorization)?;
        if self.endpoint.is_none_or(|endpoint| endpoint.is_empty()) {
            return Err(wrong(line, "tracing endpoint must be set"));
        }
        if let Some(compression) = &self.compression
            && !["", "gzip"].contains(&compression.as_str())
        {
            let text =
                format!("invalid compression type {compression} provided, valid options: gzip");
            return Err(wrong(line, text));
        }
        let tls = HttpFields {
            tls_config: self.tls_config,
            ..HttpFields::default()
        };
        tls.check(line, dir).map(|_| ())
    }
}
