//! Writing the protobuf exposition, as far as federation needs it: values without a type, and
//! histograms.

use kittiwake_model::Histogram;
use kittiwake_model::TimestampMs;
use kittiwake_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, ResetHint, Span};

use crate::proto::{
    put_bytes_field, put_double_field, put_message, put_varint, put_varint_field, zigzag,
};

/// What the `Content-Type` header says of [`FamilyEncoder`]'s bytes.
pub const PROTOBUF_CONTENT_TYPE: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

const UNTYPED: u64 = 3;
const HISTOGRAM: u64 = 4;
const GAUGE_HISTOGRAM: u64 = 5;

/// Writes families; metrics of one name and type should come in a row.
#[derive(Debug, Default)]
pub struct FamilyEncoder {
    out: Vec<u8>,
    name: String,
    kind: u64,
    family: Vec<u8>,
}

impl FamilyEncoder {
    /// An encoder without families.
    pub fn new() -> Self {
        Self::default()
    }

    fn begin(&mut self, name: &str, kind: u64) {
        if self.name == name && self.kind == kind && !self.family.is_empty() {
            return;
        }
        self.end();
        name.clone_into(&mut self.name);
        self.kind = kind;
        put_bytes_field(&mut self.family, 1, name.as_bytes());
        put_varint_field(&mut self.family, 3, kind);
    }

    fn end(&mut self) {
        if !self.family.is_empty() {
            put_varint(&mut self.out, self.family.len() as u64);
            self.out.append(&mut self.family);
        }
    }

    fn metric(
        &mut self,
        labels: &[(&str, &str)],
        time_ms: TimestampMs,
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        put_message(&mut self.family, 4, |out| {
            for (name, value) in labels {
                put_message(out, 1, |out| {
                    put_bytes_field(out, 1, name.as_bytes());
                    put_bytes_field(out, 2, value.as_bytes());
                });
            }
            value(out);
            put_varint_field(out, 6, time_ms as u64);
        });
    }

    /// Appends a value whose type is not known.
    pub fn untyped(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
        time_ms: TimestampMs,
    ) {
        self.begin(name, UNTYPED);
        self.metric(labels, time_ms, |out| {
            put_message(out, 5, |out| put_double_field(out, 1, value));
        });
    }

    /// Appends a histogram: with its native buckets, or as a classic one where they have bounds.
    pub fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        histogram: &Histogram,
        time_ms: TimestampMs,
    ) {
        let is_gauge = histogram.reset_hint == ResetHint::Gauge;
        self.begin(name, if is_gauge { GAUGE_HISTOGRAM } else { HISTOGRAM });
        self.metric(labels, time_ms, |out| {
            put_message(out, 7, |out| {
                put_double_field(out, 2, histogram.sum);
                put_double_field(out, 4, histogram.counts.total());
                if histogram.schema == CUSTOM_BUCKETS_SCHEMA {
                    for (bound, cumulative) in classic_buckets(histogram) {
                        put_message(out, 3, |out| {
                            put_double_field(out, 2, bound);
                            put_double_field(out, 4, cumulative);
                        });
                    }
                } else {
                    native(out, histogram);
                }
            });
        });
    }

    /// The bytes, to be sent as [`PROTOBUF_CONTENT_TYPE`].
    pub fn finish(mut self) -> Vec<u8> {
        self.end();
        self.out
    }
}

/// Counts as numbers: zero bucket, positive, negative.
fn floats(histogram: &Histogram) -> (f64, Vec<f64>, Vec<f64>) {
    match &histogram.counts {
        Counts::Integer {
            zero,
            positive,
            negative,
            ..
        } => {
            let of = |counts: &[u64]| counts.iter().map(|count| *count as f64).collect();
            (*zero as f64, of(positive), of(negative))
        }
        Counts::Float {
            zero,
            positive,
            negative,
            ..
        } => (*zero, positive.clone(), negative.clone()),
    }
}

/// Upper bounds and cumulative counts of custom buckets, the last without bound.
pub(super) fn classic_buckets(histogram: &Histogram) -> Vec<(f64, f64)> {
    let (_, counts, _) = floats(histogram);
    let mut counts = counts.into_iter();
    let mut per_bucket = vec![0.0; histogram.custom_bounds.len() + 1];
    let mut index = 0_i64;
    for span in &histogram.positive_spans {
        index += i64::from(span.offset);
        for _ in 0..span.length {
            let count = counts.next().unwrap_or(0.0);
            let place = usize::try_from(index).ok();
            if let Some(bucket) = place.and_then(|place| per_bucket.get_mut(place)) {
                *bucket = count;
            }
            index += 1;
        }
    }
    let bounds = histogram.custom_bounds.iter().copied();
    let mut cumulative = 0.0;
    bounds
        .chain([f64::INFINITY])
        .zip(per_bucket)
        .map(|(bound, count)| {
            cumulative += count;
            (bound, cumulative)
        })
        .collect()
}

fn native(out: &mut Vec<u8>, histogram: &Histogram) {
    let (zero, positive, negative) = floats(histogram);
    put_varint_field(out, 5, zigzag(i64::from(histogram.schema)));
    put_double_field(out, 6, histogram.zero_threshold);
    put_double_field(out, 8, zero);
    put_spans(out, 9, &histogram.negative_spans);
    put_counts(out, 11, &negative);
    put_spans(out, 12, &histogram.positive_spans);
    put_counts(out, 14, &positive);
    let has_buckets = !positive.is_empty() || !negative.is_empty();
    if !has_buckets && histogram.zero_threshold == 0.0 && zero == 0.0 {
        // An empty span tells it from a classic histogram.
        let none = Span {
            offset: 0,
            length: 0,
        };
        put_spans(out, 12, &[none]);
    }
}

fn put_spans(out: &mut Vec<u8>, number: u64, spans: &[Span]) {
    for span in spans {
        put_message(out, number, |out| {
            put_varint_field(out, 1, zigzag(i64::from(span.offset)));
            put_varint_field(out, 2, u64::from(span.length));
        });
    }
}

fn put_counts(out: &mut Vec<u8>, number: u64, counts: &[f64]) {
    if !counts.is_empty() {
        let bytes: Vec<u8> = counts.iter().flat_map(|c| c.to_le_bytes()).collect();
        put_bytes_field(out, number, &bytes);
    }
}
