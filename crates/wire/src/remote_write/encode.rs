//! Building a request, for a collector that ships.

use kittiwake_model::{Histogram, Labels, TimestampMs};

use super::histogram;
use crate::proto::{put_bytes_field, put_double_field, put_message, put_varint_field};
use crate::snappy::{SnappyError, compress};

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
        self.mixed(labels, samples, std::iter::empty());
    }

    /// Appends a series with float samples and histograms.
    pub fn mixed<'h>(
        &mut self,
        labels: &Labels,
        samples: impl IntoIterator<Item = (TimestampMs, f64)>,
        histograms: impl IntoIterator<Item = (TimestampMs, &'h Histogram)>,
    ) {
        put_message(&mut self.plain, 1, |out| {
            for (name, value) in labels {
                put_message(out, 1, |out| {
                    put_bytes_field(out, 1, name.as_bytes());
                    put_bytes_field(out, 2, value.as_bytes());
                });
            }
            for (time_ms, value) in samples {
                put_message(out, 2, |out| {
                    // Zeros are left out as proto3 does; a negative zero is none.
                    if value.to_bits() != 0 {
                        put_double_field(out, 1, value);
                    }
                    if time_ms != 0 {
                        put_varint_field(out, 2, time_ms as u64);
                    }
                });
            }
            for (time_ms, histogram) in histograms {
                put_message(out, 4, |out| histogram::encode(time_ms, histogram, out));
            }
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

    /// The request's body, compressed. The encoder is empty afterwards and keeps its memory.
    pub fn finish(&mut self) -> Result<Vec<u8>, SnappyError> {
        let body = compress(&self.plain);
        self.plain.clear();
        body
    }
}
