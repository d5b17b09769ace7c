//! Loki's push API: streams of log lines, as a snappy block around a `logproto.PushRequest`
//! or as JSON.
//!
//! The protobuf reader lends slices of the decompressed body: a stream gives its labels' text,
//! by which a store can know it again without parsing it. [`decode`] and [`decode_json`] give
//! the same whole values for both formats. A line or a piece of metadata whose bytes are not
//! UTF-8 is kept with U+FFFD in their place and counted, because a refused request would lose
//! its other lines. Source: Loki's HTTP API reference and its `push.proto`.

mod encode;
mod json;

use std::borrow::Cow;

use kittiwake_model::{Entry, LabelError, Labels};

pub use encode::PushEncoder;
pub use json::decode_json;

use crate::label_text::{self, LabelTextError};
use crate::proto::{Field, Fields, Malformed, Message};

/// A name and a value, lent where they need no change.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// What a request may hold at most. Its size in bytes is the body's reader's to bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Labels of one stream.
    pub labels_max: usize,
    /// Pieces of structured metadata of one line.
    pub metadata_max: usize,
    /// Streams of a request.
    pub streams_max: usize,
    /// Lines of a request.
    pub entries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            labels_max: 64,
            metadata_max: 128,
            streams_max: 20_000,
            entries_max: 200_000,
        }
    }
}

/// Why a request cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The bytes are not the protobuf message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The bytes are not the JSON object.
    #[error("malformed request at byte {at}, field {field}: expected {wanted}")]
    Json {
        /// The offset into the body.
        at: usize,
        /// The field, with those around it.
        field: &'static str,
        /// What should have been there.
        wanted: &'static str,
    },
    /// A stream's labels are not as they should be.
    #[error("byte {at}, field streams.labels: {source}")]
    LabelText {
        /// The offset of the stream in the body.
        at: usize,
        /// What is wrong with them.
        source: LabelTextError,
    },
    /// Labels or metadata are no set.
    #[error("byte {at}, field {field}: {source}")]
    Labels {
        /// The offset of the stream or line in the body.
        at: usize,
        /// The field, with those around it.
        field: &'static str,
        /// What is wrong with them.
        source: LabelError,
    },
    /// The request holds too many of something.
    #[error("byte {at}, field {field}: more than {max}")]
    TooMany {
        /// The offset of the first one too many, or of what it belongs to.
        at: usize,
        /// The field, with those around it.
        field: &'static str,
        /// How many are allowed.
        max: usize,
    },
}

/// A stream with its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedStream {
    /// What names it.
    pub labels: Labels,
    /// Its lines in the order in which they are sent.
    pub entries: Vec<Entry>,
    /// In how many lines something was not UTF-8 and was replaced.
    pub replaced_count: usize,
}

/// Decodes a decompressed protobuf body.
pub fn decode(body: &[u8], limits: &Limits) -> Result<Vec<PushedStream>, PushError> {
    let (mut streams, mut pairs) = (Vec::new(), Vec::new());
    let none = Labels::empty();
    let mut room = limits.entries_max;
    for stream in PushRequest::new(body).streams() {
        let stream = stream?;
        let at = stream.at();
        if streams.len() == limits.streams_max {
            return Err(too_many(at, "streams", limits.streams_max));
        }
        room = room.checked_sub(stream.entry_count()).ok_or(too_many(
            at,
            "streams.entries",
            limits.entries_max,
        ))?;
        let mut pushed = PushedStream {
            labels: stream.labels(limits.labels_max)?,
            entries: Vec::with_capacity(stream.entry_count()),
            replaced_count: 0,
        };
        for entry in stream.entries() {
            let entry = entry?;
            let mut replaced = matches!(entry.line, Cow::Owned(_));
            let metadata = if entry.metadata_count == 0 {
                none.clone()
            } else {
                replaced |= entry.metadata_into(limits.metadata_max, &mut pairs)?;
                set_of(&mut pairs, entry.at(), METADATA)?
            };
            pushed.replaced_count += usize::from(replaced);
            pushed.entries.push(Entry {
                time_ns: entry.time_ns,
                line: entry.line.into_owned(),
                metadata,
            });
        }
        streams.push(pushed);
    }
    Ok(streams)
}

const METADATA: &str = "streams.entries.structuredMetadata";

fn too_many(at: usize, field: &'static str, max: usize) -> PushError {
    PushError::TooMany { at, field, max }
}

/// A set of pairs of which the last of each name counts, as it does in a JSON object.
fn set_of(pairs: &mut Vec<Pair<'_>>, at: usize, field: &'static str) -> Result<Labels, PushError> {
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            std::mem::swap(&mut later.1, &mut earlier.1);
        }
        same
    });
    Labels::from_pairs(pairs.drain(..)).map_err(|source| PushError::Labels { at, field, source })
}

/// A decompressed protobuf request, read in place.
#[derive(Debug, Clone, Copy)]
pub struct PushRequest<'a>(Message<'a>);

impl<'a> PushRequest<'a> {
    /// A request over a decompressed body, not looked at yet.
    pub fn new(body: &'a [u8]) -> Self {
        Self(Message {
            bytes: body,
            base: 0,
        })
    }

    /// The streams in order. The first error ends them.
    pub fn streams(&self) -> impl Iterator<Item = Result<Stream<'a>, Malformed>> + use<'a> {
        let mut fields = Fields::new(self.0, "PushRequest");
        std::iter::from_fn(move || {
            let stream = find(&mut fields, 1).and_then(|field| field.map(Stream::new).transpose());
            if stream.is_err() {
                fields.close();
            }
            stream.transpose()
        })
    }
}

/// Goes to the next field of a number.
fn find<'a>(fields: &mut Fields<'a>, number: u64) -> Result<Option<Field<'a>>, Malformed> {
    while let Some(field) = fields.next()? {
        if field.number == number {
            return Ok(Some(field));
        }
    }
    Ok(None)
}

/// A stream of a protobuf request.
#[derive(Debug, Clone, Copy)]
pub struct Stream<'a> {
    message: Message<'a>,
    labels_text: &'a str,
    entry_count: usize,
}

impl<'a> Stream<'a> {
    fn new(field: Field<'a>) -> Result<Self, Malformed> {
        let mut stream = Self {
            message: field.message("streams")?,
            labels_text: "",
            entry_count: 0,
        };
        let mut fields = Fields::new(stream.message, "streams");
        while let Some(field) = fields.next()? {
            match field.number {
                1 => stream.labels_text = field.text("streams.labels")?,
                2 => stream.entry_count += 1,
                _ => {}
            }
        }
        Ok(stream)
    }

    /// The offset of the stream in the decompressed body.
    pub fn at(&self) -> usize {
        self.message.base
    }

    /// The labels as they are sent: equal texts are equal labels.
    pub fn labels_text(&self) -> &'a str {
        self.labels_text
    }

    /// The labels, of which there may be `labels_max`.
    pub fn labels(&self, labels_max: usize) -> Result<Labels, PushError> {
        let at = self.at();
        label_text::parse(self.labels_text, labels_max)
            .map_err(|source| PushError::LabelText { at, source })
    }

    /// How many lines there are.
    pub fn entry_count(&self) -> usize {
        self.entry_count
    }

    /// The lines in the order in which they are sent. The first error ends them.
    pub fn entries(&self) -> impl Iterator<Item = Result<RawEntry<'a>, Malformed>> + use<'a> {
        let mut fields = Fields::new(self.message, "streams");
        std::iter::from_fn(move || {
            let entry = find(&mut fields, 2).and_then(|field| field.map(RawEntry::new).transpose());
            if entry.is_err() {
                fields.close();
            }
            entry.transpose()
        })
    }
}

/// A line of a protobuf request.
#[derive(Debug, Clone)]
pub struct RawEntry<'a> {
    /// When, in ns.
    pub time_ns: i64,
    /// The line. Owned only where bytes were not UTF-8 and were replaced.
    pub line: Cow<'a, str>,
    message: Message<'a>,
    metadata_count: usize,
}

impl<'a> RawEntry<'a> {
    #[inline]
    fn new(field: Field<'a>) -> Result<Self, Malformed> {
        let message = field.message("streams.entries")?;
        let mut entry = Self {
            time_ns: 0,
            line: Cow::Borrowed(""),
            message,
            metadata_count: 0,
        };
        let mut fields = Fields::new(message, "streams.entries");
        while let Some(field) = fields.next()? {
            match field.number {
                1 => entry.time_ns = time_ns(&field)?,
                2 => {
                    let line = field.message("streams.entries.line")?;
                    entry.line = String::from_utf8_lossy(line.bytes);
                }
                3 => entry.metadata_count += 1,
                _ => {}
            }
        }
        Ok(entry)
    }

    /// The offset of the line's message in the decompressed body.
    pub fn at(&self) -> usize {
        self.message.base
    }

    /// How many pieces of structured metadata there are.
    pub fn metadata_count(&self) -> usize {
        self.metadata_count
    }

    /// Replaces `into` by the structured metadata as it is sent. The answer says whether
    /// something was not UTF-8 and was replaced.
    pub fn metadata_into(
        &self,
        metadata_max: usize,
        into: &mut Vec<Pair<'a>>,
    ) -> Result<bool, PushError> {
        into.clear();
        if self.metadata_count > metadata_max {
            return Err(too_many(self.at(), METADATA, metadata_max));
        }
        let mut replaced = false;
        let mut fields = Fields::new(self.message, "streams.entries");
        while let Some(field) = find(&mut fields, 3)? {
            let mut pair = (Cow::Borrowed(""), Cow::Borrowed(""));
            let mut fields = Fields::new(field.message(METADATA)?, METADATA);
            while let Some(field) = fields.next()? {
                let part = match field.number {
                    1 => &mut pair.0,
                    2 => &mut pair.1,
                    _ => continue,
                };
                *part = String::from_utf8_lossy(field.message(METADATA)?.bytes);
                replaced |= matches!(part, Cow::Owned(_));
            }
            into.push(pair);
        }
        Ok(replaced)
    }
}

#[inline]
fn time_ns(field: &Field<'_>) -> Result<i64, Malformed> {
    const NAME: &str = "streams.entries.timestamp";
    let (mut seconds, mut nanos) = (0, 0);
    let mut fields = Fields::new(field.message(NAME)?, NAME);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => seconds = field.varint("streams.entries.timestamp.seconds")? as i64,
            2 => nanos = field.varint("streams.entries.timestamp.nanos")? as i64,
            _ => {}
        }
    }
    if !(0..NANOS_PER_SECOND).contains(&nanos) {
        return Err(field.wanted(
            "streams.entries.timestamp.nanos",
            "nanoseconds from 0 to 999999999",
        ));
    }
    // In 128 bits, since the earliest times pass below the range before nanoseconds are added.
    let time_ns = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
    i64::try_from(time_ns).map_err(|_| field.wanted(NAME, "a time from 1677 to 2262"))
}

const NANOS_PER_SECOND: i64 = 1_000_000_000;

#[cfg(test)]
mod tests;
