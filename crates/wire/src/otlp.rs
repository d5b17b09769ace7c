//! Metrics and logs of OpenTelemetry: the body of an export request, in protobuf or JSON.
//!
//! Points are kept as they are sent; what becomes of them is for who stores them to say.
//! Source: `opentelemetry/proto/metrics/v1/metrics.proto` and the OTLP specification.

mod json;
pub mod logs;
mod protobuf;
mod value;

pub use value::AnyValue;

use crate::json::JsonError;
use crate::proto::{Malformed, put_bytes_field, put_message, put_varint_field};

/// Points of one request at most.
pub const POINTS_MAX: usize = 1_000_000;

/// Attributes: a key and its value as a text.
pub type Attributes = Vec<(String, AnyValue)>;

/// Why a body is no export request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// The bytes are no message.
    #[error(transparent)]
    Protobuf(#[from] Malformed),
    /// The text is no JSON of that form.
    #[error("malformed request at byte {}: expected {}", .0.at, .0.wanted)]
    Json(JsonError),
}

impl From<JsonError> for OtlpError {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

/// Metrics of one resource.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResourceMetrics {
    /// What the resource is.
    pub attributes: Attributes,
    /// What it says, by who measured it.
    pub scopes: Vec<ScopeMetrics>,
}

/// Metrics of one instrumentation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScopeMetrics {
    /// The instrumentation's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// The schema that its names follow.
    pub schema_url: String,
    /// The metrics.
    pub metrics: Vec<Metric>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// In what it is measured.
    pub unit: String,
    /// Its points.
    pub data: Data,
}

/// Over which time a point counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Temporality {
    /// Not said.
    #[default]
    Unspecified,
    /// Since the point before.
    Delta,
    /// Since the start time.
    Cumulative,
}

/// The points of a metric.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Data {
    /// None, or of a kind that is not known.
    #[default]
    None,
    /// Values.
    Gauge(Vec<Point<f64>>),
    /// Sums.
    Sum {
        /// The points.
        points: Vec<Point<f64>>,
        /// Over which time.
        temporality: Temporality,
        /// Whether they only rise.
        is_monotonic: bool,
    },
    /// Histograms with explicit bounds.
    Histogram {
        /// The points.
        points: Vec<Point<Explicit>>,
        /// Over which time.
        temporality: Temporality,
    },
    /// Histograms with exponential buckets.
    Exponential {
        /// The points.
        points: Vec<Point<Exponential>>,
        /// Over which time.
        temporality: Temporality,
    },
    /// Quantiles.
    Summary(Vec<Point<Summary>>),
}

/// A point in time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Point<V> {
    /// What tells it from other points of the metric.
    pub attributes: Attributes,
    /// When its counting began, in ns; 0 is not said.
    pub start_ns: u64,
    /// When it was measured, in ns.
    pub time_ns: u64,
    /// Whether there was nothing to measure: the series has ended.
    pub is_gone: bool,
    /// Exemplars.
    pub exemplars: Vec<Exemplar>,
    /// What was measured.
    pub value: V,
}

/// A histogram with explicit bounds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Explicit {
    /// Observations in all.
    pub count: u64,
    /// Their sum, if it is known.
    pub sum: Option<f64>,
    /// Observations per bucket: one more than there are bounds.
    pub buckets: Vec<u64>,
    /// Upper bounds, ascending.
    pub bounds: Vec<f64>,
}

/// A histogram with exponential buckets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Exponential {
    /// Observations in all.
    pub count: u64,
    /// Their sum, if it is known.
    pub sum: Option<f64>,
    /// The resolution.
    pub scale: i32,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// Breadth of the zero bucket.
    pub zero_threshold: f64,
    /// Observations above zero.
    pub positive: Buckets,
    /// Observations below zero.
    pub negative: Buckets,
}

/// Neighbouring buckets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Buckets {
    /// Index of the first.
    pub offset: i32,
    /// Observations in each.
    pub counts: Vec<u64>,
}

/// Quantiles with sum and count.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// Observations in all.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Quantile and value.
    pub quantiles: Vec<(f64, f64)>,
}

/// An exemplar.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Exemplar {
    /// Attributes that the point does not have.
    pub attributes: Attributes,
    /// When it was observed, in ns.
    pub time_ns: u64,
    /// What was observed.
    pub value: f64,
    /// The trace, as hexadecimal digits; may be empty.
    pub trace_id: String,
    /// The span, as hexadecimal digits; may be empty.
    pub span_id: String,
}

/// Decodes a request in protobuf.
pub fn decode(body: &[u8]) -> Result<Vec<ResourceMetrics>, OtlpError> {
    Ok(protobuf::decode(body)?)
}

/// Decodes a request in JSON. Members that are not known are passed over.
pub fn decode_json(body: &[u8]) -> Result<Vec<ResourceMetrics>, OtlpError> {
    Ok(json::decode(body)?)
}

/// The body of an answer in protobuf: empty, or how many points were refused and why.
pub fn encode_answer(refused: u64, refusal: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(text) = refusal {
        put_message(&mut out, 1, |out| {
            put_varint_field(out, 1, refused);
            put_bytes_field(out, 2, text.as_bytes());
        });
    }
    out
}

/// The flag of points at which nothing was measured.
const NO_RECORDED_VALUE: u64 = 1;

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    if bytes.iter().all(|byte| *byte == 0) {
        return text;
    }
    for byte in bytes {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
