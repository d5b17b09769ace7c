//! Building a request, for a collector that ships.

use kittiwake_model::{Labels, TimestampNs};

use super::NANOS_PER_SECOND;
use crate::label_text;
use crate::proto::{put_bytes_field, put_message, put_varint_field};
use crate::snappy::{SnappyError, compress};

/// Builds requests. The same calls always give the same bytes, so that a frame that is sent
/// again is the frame that was sent.
#[derive(Debug, Default)]
pub struct PushEncoder {
    plain: Vec<u8>,
    text: String,
}

impl PushEncoder {
    /// An encoder without streams.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a stream with its lines: time in ns, text, structured metadata.
    pub fn stream<'e>(
        &mut self,
        labels: &Labels,
        entries: impl IntoIterator<Item = (TimestampNs, &'e str, &'e Labels)>,
    ) {
        self.text.clear();
        label_text::push(&mut self.text, labels);
        let text = self.text.as_bytes();
        put_message(&mut self.plain, 1, |out| {
            put_bytes_field(out, 1, text);
            for (time_ns, line, metadata) in entries {
                put_message(out, 2, |out| entry(out, time_ns, line, metadata));
            }
        });
    }

    /// The size so far in bytes, uncompressed: what a receiver's limit counts.
    pub fn size_bytes(&self) -> usize {
        self.plain.len()
    }

    /// Whether there is no stream.
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

fn entry(out: &mut Vec<u8>, time_ns: TimestampNs, line: &str, metadata: &Labels) {
    put_message(out, 1, |out| {
        // Zeros are left out as proto3 does.
        let seconds = time_ns.div_euclid(NANOS_PER_SECOND);
        if seconds != 0 {
            put_varint_field(out, 1, seconds as u64);
        }
        let nanos = time_ns.rem_euclid(NANOS_PER_SECOND);
        if nanos != 0 {
            put_varint_field(out, 2, nanos as u64);
        }
    });
    put_bytes_field(out, 2, line.as_bytes());
    for (name, value) in metadata {
        put_message(out, 3, |out| {
            put_bytes_field(out, 1, name.as_bytes());
            put_bytes_field(out, 2, value.as_bytes());
        });
    }
}
