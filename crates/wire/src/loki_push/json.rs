//! The JSON form: `{"streams": [{"stream": {..}, "values": [["ns", "line", {metadata}]]}]}`.

use kittiwake_model::{Entry, Labels};

use super::{Limits, METADATA, Pair, PushError, PushedStream, set_of, too_many};
use crate::json::{JsonError, Reader};

const LABELS: &str = "streams.stream";
const VALUES: &str = "streams.values";
const TIME: &str = "streams.values.timestamp";
const LINE: &str = "streams.values.line";

/// Says in which field JSON is wrong.
trait InField<T> {
    fn in_field(self, field: &'static str) -> Result<T, PushError>;
}

impl<T> InField<T> for Result<T, JsonError> {
    fn in_field(self, field: &'static str) -> Result<T, PushError> {
        self.map_err(|JsonError { at, wanted }| PushError::Json { at, field, wanted })
    }
}

/// Decodes a JSON body. Members that are not known are passed over.
pub fn decode_json(body: &[u8], limits: &Limits) -> Result<Vec<PushedStream>, PushError> {
    let mut decoder = Decoder {
        reader: Reader::new(body),
        limits,
        room: limits.entries_max,
        none: Labels::empty(),
    };
    let mut streams = Vec::new();
    decoder.open(b'{', "an object", "request")?;
    let mut first = true;
    while let Some(key) = decoder.reader.next_key(&mut first).in_field("request")? {
        if key == "streams" {
            decoder.streams(&mut streams)?;
        } else {
            decoder.reader.skip_value().in_field("request")?;
        }
    }
    decoder.reader.end().in_field("request")?;
    Ok(streams)
}

struct Decoder<'a> {
    reader: Reader<'a>,
    limits: &'a Limits,
    /// How many more lines may come.
    room: usize,
    /// Shared by all lines without metadata.
    none: Labels,
}

impl<'a> Decoder<'a> {
    fn open(
        &mut self,
        bracket: u8,
        wanted: &'static str,
        field: &'static str,
    ) -> Result<(), PushError> {
        self.reader.expect(bracket, wanted).in_field(field)
    }

    /// Goes into an array, or behind a `null` (true), which is how Go writes one that it never
    /// made.
    fn open_array(&mut self, field: &'static str) -> Result<bool, PushError> {
        if self.reader.peek() != Some(b'n') {
            self.open(b'[', "an array", field)?;
            return Ok(false);
        }
        self.reader.scalar().in_field(field).map(|_| true)
    }

    fn streams(&mut self, streams: &mut Vec<PushedStream>) -> Result<(), PushError> {
        if self.open_array("streams")? {
            return Ok(());
        }
        let mut first = true;
        while self.reader.next_element(&mut first).in_field("streams")? {
            if streams.len() == self.limits.streams_max {
                let at = self.reader.position();
                return Err(too_many(at, "streams", self.limits.streams_max));
            }
            streams.push(self.stream()?);
        }
        Ok(())
    }

    fn stream(&mut self) -> Result<PushedStream, PushError> {
        self.open(b'{', "an object", "streams")?;
        let mut labels = None;
        let (mut entries, mut replaced_count) = (Vec::new(), 0);
        let mut first = true;
        while let Some(key) = self.reader.next_key(&mut first).in_field("streams")? {
            match &*key {
                "stream" => {
                    labels = Some(self.pairs(LABELS, self.limits.labels_max)?);
                }
                "values" => {
                    if self.open_array(VALUES)? {
                        continue;
                    }
                    let mut first = true;
                    while self.reader.next_element(&mut first).in_field(VALUES)? {
                        let (entry, replaced) = self.entry()?;
                        entries.push(entry);
                        replaced_count += usize::from(replaced);
                    }
                }
                _ => self.reader.skip_value().in_field("streams")?,
            }
        }
        let labels = labels
            .ok_or_else(|| self.reader.wanted("a member `stream` before the end"))
            .in_field("streams")?;
        Ok(PushedStream {
            labels,
            entries,
            replaced_count,
        })
    }

    fn entry(&mut self) -> Result<(Entry, bool), PushError> {
        let Some(room) = self.room.checked_sub(1) else {
            let at = self.reader.position();
            return Err(too_many(at, VALUES, self.limits.entries_max));
        };
        self.room = room;
        self.open(b'[', "an array of time, line and metadata", VALUES)?;
        let time_ns = self.time_ns()?;
        self.open(b',', "`,` and a line", LINE)?;
        let mut line = String::new();
        let replaced = self.reader.string_into(&mut line).in_field(LINE)?;
        let mut metadata = self.none.clone();
        if self.reader.take(b',') {
            if self.reader.peek() == Some(b'{') {
                metadata = self.pairs(METADATA, self.limits.metadata_max)?;
            } else if self.reader.scalar().in_field(METADATA)? != b"null" {
                return Err(self.reader.wanted("an object or null")).in_field(METADATA);
            }
        }
        self.open(b']', "`]`", VALUES)?;
        let entry = Entry {
            time_ns,
            line,
            metadata,
        };
        Ok((entry, replaced))
    }

    /// Nanoseconds, as a string or as a number.
    fn time_ns(&mut self) -> Result<i64, PushError> {
        let quoted = self.reader.peek() == Some(b'"');
        let at = self.reader.position();
        let time_ns = if quoted {
            self.reader.string().in_field(TIME)?.parse().ok()
        } else {
            let digits = self.reader.scalar().in_field(TIME)?;
            std::str::from_utf8(digits)
                .ok()
                .and_then(|d| d.parse().ok())
        };
        time_ns.ok_or(PushError::Json {
            at,
            field: TIME,
            wanted: "nanoseconds since 1970, a whole number of 64 bits",
        })
    }

    /// An object of texts.
    fn pairs(&mut self, field: &'static str, max: usize) -> Result<Labels, PushError> {
        self.reader.peek();
        let at = self.reader.position();
        self.open(b'{', "an object", field)?;
        let mut pairs: Vec<Pair<'a>> = Vec::new();
        let mut first = true;
        while let Some(name) = self.reader.next_key(&mut first).in_field(field)? {
            if pairs.len() == max {
                return Err(too_many(at, field, max));
            }
            pairs.push((name, self.reader.string().in_field(field)?));
        }
        set_of(&mut pairs, at, field)
    }
}
