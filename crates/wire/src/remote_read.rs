//! Prometheus remote read: what is asked for, and the two forms of answers: all samples at
//! once, or frames of chunks as Prometheus stores them. Source: Prometheus'
//! `prompb/remote.proto`, `prompb/types.proto` and the remote read page of its documentation.

mod chunk;

use kittiwake_model::Matcher;
use kittiwake_model::matcher::MatchOp;
use kittiwake_model::{Columns, Labels, TimestampMs};

pub use chunk::{Chunk, ChunkKind};

use crate::proto::{
    Field, Fields, Malformed, Message, put_bytes_field, put_message, put_varint, put_varint_field,
};
use crate::remote_write::{RequestEncoder, SeriesParts};
use crate::snappy::{SnappyError, compress};

/// What the `Content-Type` header says of frames of chunks.
pub const STREAMED: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
/// Bytes of a frame, about.
const FRAME_BYTES: usize = 1 << 20;
/// Queries of a request.
const QUERIES_MAX: usize = 1000;

/// Why a request cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The bytes are no request.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A matcher's expression is none.
    #[error("matcher of label {label:?}: {reason}")]
    Matcher {
        /// The label.
        label: String,
        /// What is wrong with it.
        reason: String,
    },
    /// None of the forms that the client takes is known.
    #[error("server does not support any of the requested response types")]
    Form,
}

/// In which form the answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All samples at once.
    Samples,
    /// Frames of chunks.
    Chunks,
}

/// One of the questions.
#[derive(Debug, Clone)]
pub struct Query {
    /// First time in ms.
    pub start_ms: TimestampMs,
    /// Last time in ms.
    pub end_ms: TimestampMs,
    /// All must match.
    pub matchers: Vec<Matcher>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// The questions.
    pub queries: Vec<Query>,
    /// The form of the answer.
    pub form: Form,
}

impl ReadRequest {
    /// Decodes a decompressed body.
    pub fn decode(body: &[u8]) -> Result<Self, ReadError> {
        let whole = Message {
            bytes: body,
            base: 0,
        };
        let (mut queries, mut forms) = (Vec::new(), Vec::new());
        let mut fields = Fields::new(whole, "ReadRequest");
        while let Some(field) = fields.next()? {
            match field.number {
                1 if queries.len() >= QUERIES_MAX => {
                    return Err(field.wanted("queries", "at most 1000 queries").into());
                }
                1 => queries.push(query(&field)?),
                2 => field.varints("accepted_response_types", &mut forms)?,
                _ => {}
            }
        }
        let known = |form: &u64| match form {
            0 => Some(Form::Samples),
            1 => Some(Form::Chunks),
            _ => None,
        };
        let form = if forms.is_empty() {
            Form::Samples
        } else {
            forms.iter().find_map(known).ok_or(ReadError::Form)?
        };
        Ok(Self { queries, form })
    }
}

fn query(field: &Field<'_>) -> Result<Query, ReadError> {
    let mut query = Query {
        start_ms: 0,
        end_ms: 0,
        matchers: Vec::new(),
    };
    let mut fields = Fields::new(field.message("queries")?, "queries");
    while let Some(part) = fields.next()? {
        match part.number {
            1 => query.start_ms = part.varint("queries.start_timestamp_ms")? as i64,
            2 => query.end_ms = part.varint("queries.end_timestamp_ms")? as i64,
            3 => query.matchers.push(matcher(&part)?),
            _ => {}
        }
    }
    Ok(query)
}

fn matcher(field: &Field<'_>) -> Result<Matcher, ReadError> {
    const NAME: &str = "queries.matchers";
    let (mut op, mut name, mut value) = (MatchOp::Equal, "", "");
    let mut fields = Fields::new(field.message(NAME)?, NAME);
    while let Some(part) = fields.next()? {
        match part.number {
            1 => {
                op = match part.varint("queries.matchers.type")? {
                    0 => MatchOp::Equal,
                    1 => MatchOp::NotEqual,
                    2 => MatchOp::Regex,
                    3 => MatchOp::NotRegex,
                    _ => return Err(part.wanted(NAME, "a type from 0 to 3").into()),
                }
            }
            2 => name = part.text("queries.matchers.name")?,
            3 => value = part.text("queries.matchers.value")?,
            _ => {}
        }
    }
    Matcher::new(op, name, value).map_err(|error| ReadError::Matcher {
        label: name.to_owned(),
        reason: error.to_string(),
    })
}

/// The answer with all samples, query by query.
#[derive(Debug, Default)]
pub struct SamplesAnswer {
    plain: Vec<u8>,
    query: RequestEncoder,
}

impl SamplesAnswer {
    /// An answer to no query yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a series to the answer to the current query.
    pub fn series(&mut self, labels: &Labels, samples: &Columns) {
        let mut histograms = Vec::new();
        let mut next = samples.histograms.iter().peekable();
        let mut floats = Vec::with_capacity(samples.len());
        for (index, (time_ms, value)) in samples.times.iter().zip(&samples.values).enumerate() {
            match next.next_if(|(at, _)| *at as usize == index) {
                Some((_, histogram)) => histograms.push((*time_ms, 0, histogram.clone())),
                None => floats.push((*time_ms, *value)),
            }
        }
        let parts = SeriesParts {
            histograms: &histograms,
            exemplars: &[],
        };
        self.query.mixed(labels, floats, &parts);
    }

    /// Ends the answer to the current query.
    pub fn end_query(&mut self) {
        // A query's result has its series as a write request has them.
        let series = self.query.take_plain();
        put_bytes_field(&mut self.plain, 1, &series);
    }

    /// The body, compressed with snappy.
    pub fn finish(self) -> Result<Vec<u8>, SnappyError> {
        compress(&self.plain)
    }
}

/// The frames of one series, with the number of its query.
pub fn frames(labels: &Labels, chunks: &[Chunk], query: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = chunks;
    while !rest.is_empty() {
        let mut bytes = 0;
        let mut count = 0;
        while count < rest.len() && (count == 0 || bytes < FRAME_BYTES) {
            bytes += rest[count].data.len() + 16;
            count += 1;
        }
        let (now, later) = rest.split_at(count);
        rest = later;
        let mut message = Vec::with_capacity(bytes + labels.as_packed().len() + 64);
        put_message(&mut message, 1, |out| {
            for (name, value) in labels {
                put_message(out, 1, |out| {
                    put_bytes_field(out, 1, name.as_bytes());
                    put_bytes_field(out, 2, value.as_bytes());
                });
            }
            for chunk in now {
                put_message(out, 2, |out| {
                    put_varint_field(out, 1, chunk.min_ms as u64);
                    put_varint_field(out, 2, chunk.max_ms as u64);
                    put_varint_field(out, 3, chunk.kind.number());
                    put_bytes_field(out, 4, &chunk.data);
                });
            }
        });
        put_varint_field(&mut message, 2, query as u64);
        let mut frame = Vec::with_capacity(message.len() + 16);
        put_varint(&mut frame, message.len() as u64);
        frame.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
        frame.extend_from_slice(&message);
        frames.push(frame);
    }
    frames
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(form: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        put_message(&mut out, 1, |out| {
            put_varint_field(out, 1, 5);
            put_varint_field(out, 2, 9);
            put_message(out, 3, |out| {
                put_varint_field(out, 1, 2);
                put_bytes_field(out, 2, b"job");
                put_bytes_field(out, 3, b"a.*");
            });
        });
        if let Some(forms) = form {
            put_bytes_field(&mut out, 2, forms);
        }
        out
    }

    #[test]
    fn requests_say_what_and_in_which_form() {
        let read = ReadRequest::decode(&request(None)).unwrap();
        assert_eq!(read.form, Form::Samples);
        let query = &read.queries[0];
        assert_eq!((query.start_ms, query.end_ms), (5, 9));
        assert!(query.matchers[0].matches("ab") && !query.matchers[0].matches("b"));
        let form = |forms: &[u8]| ReadRequest::decode(&request(Some(forms))).map(|r| r.form);
        assert_eq!(form(&[1, 0]), Ok(Form::Chunks));
        assert_eq!(form(&[7, 0]), Ok(Form::Samples));
        assert_eq!(form(&[7]), Err(ReadError::Form));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(at in 0_usize..60, byte: u8, cut in 0_usize..60) {
            let mut bytes = request(Some(&[1, 0]));
            if let Some(there) = bytes.get_mut(at) {
                *there = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let _ = ReadRequest::decode(&bytes);
        }
    }
}
