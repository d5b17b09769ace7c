//! Building a request, for a collector that ships.

use std::sync::Arc;

use kittiwake_model::{Exemplar, Histogram, Labels, Metadata, TimestampMs};

use super::{histogram, kind_number};
use crate::proto::{put_bytes_field, put_double_field, put_message, put_varint_field};
use crate::snappy::{SnappyError, compress};

/// What a series has beside its float samples.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeriesParts<'a> {
    /// Native histograms: time in ms, start in ms (0: not known), histogram. Version 1.0 has
    /// no starts.
    pub histograms: &'a [(TimestampMs, TimestampMs, Arc<Histogram>)],
    /// Exemplars.
    pub exemplars: &'a [Exemplar],
}

/// Appends the value and time of a sample.
pub(super) fn put_value(out: &mut Vec<u8>, value: f64, time_ms: TimestampMs) {
    // Zeros are left out as proto3 does; a negative zero is none.
    if value.to_bits() != 0 {
        put_double_field(out, 1, value);
    }
    if time_ms != 0 {
        put_varint_field(out, 2, time_ms as u64);
    }
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    for (name, value) in labels {
        put_message(out, 1, |out| {
            put_bytes_field(out, 1, name.as_bytes());
            put_bytes_field(out, 2, value.as_bytes());
        });
    }
}

/// Builds requests. The same calls always give the same bytes, so that a frame that is sent
/// again is the frame that was sent.
#[derive(Debug, Default)]
pub struct RequestEncoder {
    plain: Vec<u8>,
}

impl RequestEncoder {
    /// An encoder without series.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a series with its float samples, which should be in order of time.
    pub fn series(
        &mut self,
        labels: &Labels,
        samples: impl IntoIterator<Item = (TimestampMs, f64)>,
    ) {
        self.mixed(labels, samples, &SeriesParts::default());
    }

    /// Appends a series with float samples and more.
    pub fn mixed(
        &mut self,
        labels: &Labels,
        samples: impl IntoIterator<Item = (TimestampMs, f64)>,
        parts: &SeriesParts<'_>,
    ) {
        put_message(&mut self.plain, 1, |out| {
            put_labels(out, labels);
            for (time_ms, value) in samples {
                put_message(out, 2, |out| put_value(out, value, time_ms));
            }
            for exemplar in parts.exemplars {
                put_message(out, 3, |out| {
                    put_labels(out, &exemplar.labels);
                    put_double_field(out, 2, exemplar.value);
                    put_varint_field(out, 3, exemplar.time_ms as u64);
                });
            }
            for (time_ms, _, histogram) in parts.histograms {
                put_message(out, 4, |out| histogram::encode(*time_ms, 0, histogram, out));
            }
        });
    }

    /// Appends what is said of a metric name.
    pub fn metadata(&mut self, name: &str, metadata: &Metadata) {
        put_message(&mut self.plain, 3, |out| {
            put_varint_field(out, 1, kind_number(&metadata.kind));
            put_bytes_field(out, 2, name.as_bytes());
            put_bytes_field(out, 4, metadata.help.as_bytes());
            put_bytes_field(out, 5, metadata.unit.as_bytes());
        });
    }

    /// The size so far in bytes, uncompressed: what a receiver's limit counts.
    pub fn size_bytes(&self) -> usize {
        self.plain.len()
    }

    /// Whether there is no series.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty()
    }

    /// The series as they stand in a request. The encoder is empty afterwards.
    pub(crate) fn take_plain(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plain)
    }

    /// The request's body, compressed. The encoder is empty afterwards and keeps its memory.
    pub fn finish(&mut self) -> Result<Vec<u8>, SnappyError> {
        let body = compress(&self.plain);
        self.plain.clear();
        body
    }
}
