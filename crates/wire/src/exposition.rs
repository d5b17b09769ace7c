//! What a target says of itself: the Prometheus text format 0.0.4 and 1.0.0, OpenMetrics 1.0
//! and 2.0, and the protobuf exposition.
//!
//! A target is scraped every few seconds and names the same series each time, so [`Parser`]
//! lends a series as its raw bytes, by which a scraper finds it again, and leaves their syntax
//! to [`Sample::labels_into`], which is needed once for each series. Nothing is allocated per
//! sample of the text format. [`read`] goes over any of the formats and gives what all of them
//! have in common: samples, native histograms, exemplars, start times, and what is said of the
//! families. It holds OpenMetrics to the rules for families too. Sources: the page "Exposition
//! formats" of the Prometheus documentation, the OpenMetrics 1.0 and 2.0 specifications, and
//! `io.prometheus.client`'s `metrics.proto`.

mod composite;
mod cursor;
mod encode;
mod family;
mod nhcb;
mod open_metrics;
mod protobuf;
mod read;
mod writer;

use std::borrow::Cow;

use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{LabelError, Labels, TimestampMs};

pub use encode::{FamilyEncoder, PROTOBUF_CONTENT_TYPE};
pub use family::Family;
pub use read::{Entry, Options, ScrapedExemplar, read};
pub use writer::Writer;

use crate::float::{parse_float, push_label_float};
use crate::label_text::label_name_len;
use crate::proto::Malformed;
use cursor::{Cursor, unescaped};

/// What the `Content-Type` header says of [`Writer`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why a text, or a series in it, cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpositionError {
    /// Something else was met than wanted.
    #[error("malformed metrics at line {line}, byte {column}: expected {wanted}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The byte in the line, from 1.
        column: usize,
        /// What should have been there.
        wanted: &'static str,
    },
    /// A series has too many labels.
    #[error("line {line}: more than {max} labels")]
    TooMany {
        /// The line, from 1.
        line: usize,
        /// How many are allowed, the metric's name included.
        max: usize,
    },
    /// A series' labels are no set.
    #[error("line {line}: {source}")]
    Labels {
        /// The line, from 1.
        line: usize,
        /// What is wrong with them.
        source: LabelError,
    },
    /// A family is not as its type must be.
    #[error("line {line}: family {name:?}: {problem}")]
    Family {
        /// The line at which that was seen, from 1.
        line: usize,
        /// The family.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A protobuf exposition cannot be read.
    #[error(transparent)]
    Protobuf(#[from] Malformed),
}

/// Which format a text is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Version 0.0.4: times in ms, blanks as one likes.
    Prometheus,
    /// OpenMetrics 1.0: times in seconds, one blank, `# EOF` at the end.
    OpenMetrics,
    /// OpenMetrics 2.0: whole histograms and summaries in a line, start times inline.
    OpenMetrics2,
    /// Families of `io.prometheus.client`, each with its length in front.
    Protobuf,
}

impl Format {
    /// The format that a `Content-Type` header names; Prometheus' for all that is not known.
    pub fn of_content_type(content_type: &str) -> Self {
        Self::known_content_type(content_type).unwrap_or(Self::Prometheus)
    }

    /// The format that a `Content-Type` header names, if it is one of them.
    pub fn known_content_type(content_type: &str) -> Option<Self> {
        let mut parts = content_type.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        match media_type.as_str() {
            "application/openmetrics-text" => {
                let version = parts.find_map(|part| part.strip_prefix("version="));
                Some(match version {
                    Some(version) if version.trim_matches('"').starts_with("2.") => {
                        Self::OpenMetrics2
                    }
                    _ => Self::OpenMetrics,
                })
            }
            "application/vnd.google.protobuf" => Some(Self::Protobuf),
            "text/plain" => Some(Self::Prometheus),
            _ => None,
        }
    }

    fn is_open_metrics(self) -> bool {
        matches!(self, Self::OpenMetrics | Self::OpenMetrics2)
    }
}

/// What a family measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetricType {
    /// Only rises, or starts again.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts per bucket.
    Histogram,
    /// Counts per bucket that rise and fall.
    GaugeHistogram,
    /// Quantiles.
    Summary,
    /// Facts as labels.
    Info,
    /// One of several states.
    StateSet,
    /// Not said.
    #[default]
    Unknown,
}

impl MetricType {
    /// The type as [`Format::OpenMetrics`] names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }

    fn from_name(name: &[u8], format: Format) -> Option<Self> {
        Some(match name {
            b"counter" => Self::Counter,
            b"gauge" => Self::Gauge,
            b"histogram" => Self::Histogram,
            b"gaugehistogram" => Self::GaugeHistogram,
            b"summary" => Self::Summary,
            b"info" => Self::Info,
            b"stateset" => Self::StateSet,
            b"unknown" => Self::Unknown,
            b"untyped" if format == Format::Prometheus => Self::Unknown,
            _ => return None,
        })
    }
}

/// A line that says something.
#[derive(Debug, Clone, PartialEq)]
pub enum Item<'a> {
    /// What a family is about.
    Help {
        /// The family.
        name: Cow<'a, str>,
        /// The text. Bytes that are not UTF-8 are replaced.
        text: Cow<'a, str>,
    },
    /// What a family measures.
    Type {
        /// The family.
        name: Cow<'a, str>,
        /// The type.
        kind: MetricType,
    },
    /// In what a family measures. Only in OpenMetrics.
    Unit {
        /// The family.
        name: Cow<'a, str>,
        /// The unit, which the family's name ends in; may be empty.
        unit: &'a str,
    },
    /// A sample.
    Sample(Sample<'a>),
    /// A whole histogram or summary: its series, times and exemplars, with NaN for a value,
    /// and what stands between the braces. Only in OpenMetrics 2.0.
    Composite(Sample<'a>, &'a [u8]),
}

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// Name and labels as they stand in the line: equal bytes are the same series. Their
    /// syntax has not been looked at.
    pub series: &'a [u8],
    /// The value.
    pub value: f64,
    /// When, if the target says so.
    pub time_ms: Option<TimestampMs>,
    /// When its counting began, if the target says so.
    pub start_ms: Option<TimestampMs>,
    /// Its exemplars as they stand in the line, from the first `#`; their syntax is right.
    exemplars: &'a [u8],
    /// The type that was named last.
    kind: MetricType,
    /// The line, from 1.
    pub line: usize,
    /// The byte in the line at which the series starts, from 0.
    column: usize,
    format: Format,
}

impl<'a> Sample<'a> {
    /// Replaces `into` by the labels, sorted by name, `__name__` among them, without those
    /// whose value is empty. The bounds of buckets and quantiles are written as Prometheus 3
    /// stores them: `1.0`, not `1`.
    pub fn labels_into(
        &self,
        labels_max: usize,
        into: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
    ) -> Result<(), ExpositionError> {
        self.raw_labels_into(labels_max, into)?;
        let bound = match self.kind {
            MetricType::Histogram => "le",
            MetricType::Summary => "quantile",
            _ => return Ok(()),
        };
        for (_, value) in into.iter_mut().filter(|(name, _)| name == bound) {
            if let Some(number) = parse_float(value.as_bytes()) {
                let mut text = String::new();
                push_label_float(&mut text, number);
                *value = text.into();
            }
        }
        Ok(())
    }

    /// The labels as [`Self::labels_into`] gives them, with all values as they stand there.
    fn raw_labels_into(
        &self,
        labels_max: usize,
        into: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
    ) -> Result<(), ExpositionError> {
        into.clear();
        let line = self.line;
        let mut cursor = Cursor::new(self.series, line, self.column, self.format);
        if let Some(name) = cursor.take_name(metric_name_len(self.series)) {
            into.push((METRIC_NAME.into(), name.into()));
        }
        cursor.blanks();
        if !cursor.at_end() {
            braces_into(&mut cursor, self.format, labels_max, into)?;
        }
        if into.len() > labels_max {
            let max = labels_max;
            return Err(ExpositionError::TooMany { line, max });
        }
        let sorted = into.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !sorted {
            into.sort_by(|a, b| a.0.cmp(&b.0));
            if let Some(pair) = into.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                let source = LabelError::Duplicate(pair[0].0.clone().into_owned());
                return Err(ExpositionError::Labels { line, source });
            }
        }
        if into.iter().all(|(name, _)| name != METRIC_NAME) {
            return Err(cursor.wanted_at(0, "a metric name"));
        }
        into.retain(|(_, value)| !value.is_empty());
        Ok(())
    }

    /// The labels as a set that can be kept.
    pub fn labels(&self, labels_max: usize) -> Result<Labels, ExpositionError> {
        let mut pairs = Vec::new();
        self.labels_into(labels_max, &mut pairs)?;
        let line = self.line;
        Labels::from_pairs(pairs).map_err(|source| ExpositionError::Labels { line, source })
    }
}

/// Appends the labels between braces; a name alone in quotes is the metric's.
fn braces_into<'a>(
    cursor: &mut Cursor<'a>,
    format: Format,
    labels_max: usize,
    into: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
) -> Result<(), ExpositionError> {
    let mut named = !into.is_empty();
    cursor.expect(b'{', "`{` or a blank and a value")?;
    let mut first = true;
    loop {
        cursor.blanks();
        // OpenMetrics has no comma behind the last label.
        if (first || format == Format::Prometheus) && cursor.take(b'}') {
            break;
        }
        first = false;
        if into.len() > labels_max {
            let (line, max) = (cursor.line(), labels_max);
            return Err(ExpositionError::TooMany { line, max });
        }
        let start = cursor.position();
        let quoted = cursor.peek() == Some(b'"');
        let name = if quoted {
            cursor.quoted()?
        } else {
            let len = label_name_len(cursor.rest());
            cursor
                .take_name(len)
                .ok_or_else(|| cursor.wanted("a label name or `}`"))?
                .into()
        };
        if name.is_empty() {
            return Err(cursor.wanted_at(start, "a name that is not empty"));
        }
        cursor.blanks();
        if quoted && !named && cursor.peek() != Some(b'=') {
            into.push((METRIC_NAME.into(), name));
            named = true;
        } else {
            cursor.expect(b'=', "`=`")?;
            cursor.blanks();
            into.push((name, cursor.quoted()?));
        }
        cursor.blanks();
        if !cursor.take(b',') {
            cursor.expect(b'}', "`,` or `}`")?;
            break;
        }
    }
    if cursor.at_end() {
        return Ok(());
    }
    Err(cursor.wanted("a blank and a value"))
}

/// How many bytes at the start are a metric's name: a label's, or `:`.
pub(crate) fn metric_name_len(bytes: &[u8]) -> usize {
    if bytes.first().is_some_and(u8::is_ascii_digit) {
        return 0;
    }
    bytes
        .iter()
        .position(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'_' | b':'))
        .unwrap_or(bytes.len())
}

/// Walks the lines of a text. The first error ends them.
#[derive(Debug, Clone)]
pub struct Parser<'a> {
    rest: &'a [u8],
    line: usize,
    format: Format,
    kind: MetricType,
    ended: bool,
}

impl<'a> Parser<'a> {
    /// A parser at the start of a text.
    pub fn new(text: &'a [u8], format: Format) -> Self {
        Self {
            rest: text,
            line: 0,
            format,
            kind: MetricType::Unknown,
            ended: false,
        }
    }

    fn step(&mut self) -> Result<Option<Item<'a>>, ExpositionError> {
        while !self.ended && !self.rest.is_empty() {
            self.line += 1;
            let len = memchr::memchr(b'\n', self.rest);
            let (line, rest) = match len {
                Some(len) => (&self.rest[..len], &self.rest[len + 1..]),
                None => (self.rest, &self.rest[..0]),
            };
            self.rest = rest;
            if let Some(item) = self.item(line)? {
                return Ok(Some(item));
            }
        }
        if self.format.is_open_metrics() && !self.ended {
            return Err(Cursor::new(&[], self.line + 1, 0, self.format).wanted("`# EOF`"));
        }
        if !self.rest.is_empty() {
            let after = Cursor::new(self.rest, self.line + 1, 0, self.format);
            self.rest = &[];
            return Err(after.wanted("nothing after `# EOF`"));
        }
        Ok(None)
    }

    #[inline]
    fn item(&mut self, line: &'a [u8]) -> Result<Option<Item<'a>>, ExpositionError> {
        let mut cursor = Cursor::new(line, self.line, 0, self.format);
        let item = if self.format.is_open_metrics() {
            match line.first() {
                Some(b'#') => self.open_metrics_comment(cursor)?,
                _ => Some(open_metrics::sample(cursor, self.format, self.kind)?),
            }
        } else {
            cursor.trim_return();
            cursor.blanks();
            match cursor.peek() {
                None => None,
                Some(b'#') => comment(cursor)?,
                Some(_) => Some(sample(cursor, self.kind)?),
            }
        };
        if let Some(Item::Type { kind, .. }) = item {
            self.kind = kind;
        }
        Ok(item)
    }

    /// The line that was read last, from 1.
    fn line(&self) -> usize {
        self.line
    }

    fn open_metrics_comment(
        &mut self,
        mut cursor: Cursor<'a>,
    ) -> Result<Option<Item<'a>>, ExpositionError> {
        const WANTED: &str = "`# HELP `, `# TYPE `, `# UNIT ` or `# EOF`";
        if cursor.rest() == b"# EOF" {
            self.ended = true;
            return Ok(None);
        }
        cursor.expect(b'#', WANTED)?;
        cursor.expect(b' ', WANTED)?;
        let keyword = cursor.word();
        if !matches!(keyword, b"HELP" | b"TYPE" | b"UNIT") {
            return Err(cursor.wanted_at(2, WANTED));
        }
        cursor.expect(b' ', "a blank")?;
        let name = family_name(&mut cursor)?;
        cursor.expect(b' ', "a blank")?;
        if keyword == b"HELP" {
            let text = unescaped(cursor.rest(), true);
            return Ok(Some(Item::Help { name, text }));
        }
        let start = cursor.position();
        let word = cursor.word();
        cursor.expect_end()?;
        if keyword == b"TYPE" {
            let kind = MetricType::from_name(word, self.format)
                .ok_or_else(|| cursor.wanted_at(start, "a type of metric"))?;
            return Ok(Some(Item::Type { name, kind }));
        }
        let unit = std::str::from_utf8(word).ok().filter(|unit| {
            let stem = name.strip_suffix(unit);
            self.format == Format::OpenMetrics2
                || unit.is_empty()
                || stem.is_some_and(|stem| stem.ends_with('_'))
        });
        let unit = unit.ok_or_else(|| cursor.wanted_at(start, "the unit that the name ends in"))?;
        Ok(Some(Item::Unit { name, unit }))
    }
}

impl<'a> Iterator for Parser<'a> {
    type Item = Result<Item<'a>, ExpositionError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step();
        if item.is_err() {
            self.ended = true;
            self.rest = &[];
        }
        item.transpose()
    }
}

fn family_name<'a>(cursor: &mut Cursor<'a>) -> Result<Cow<'a, str>, ExpositionError> {
    if cursor.peek() == Some(b'"') {
        return cursor.quoted();
    }
    let len = metric_name_len(cursor.rest());
    match cursor.take_name(len) {
        Some(name) => Ok(name.into()),
        None => Err(cursor.wanted("a metric name")),
    }
}

/// A comment of 0.0.4. One that says neither `HELP` nor `TYPE` says nothing.
fn comment(mut cursor: Cursor<'_>) -> Result<Option<Item<'_>>, ExpositionError> {
    cursor.take(b'#');
    let blank = matches!(cursor.peek(), Some(b' ' | b'\t'));
    cursor.blanks();
    let keyword = cursor.word();
    cursor.blanks();
    if !blank || !matches!(keyword, b"HELP" | b"TYPE") || cursor.at_end() {
        return Ok(None);
    }
    let name = family_name(&mut cursor)?;
    let start = cursor.position();
    cursor.blanks();
    if cursor.position() == start && !cursor.at_end() {
        return Err(cursor.wanted("a blank behind the metric's name"));
    }
    if keyword == b"HELP" {
        let text = unescaped(cursor.rest(), false);
        return Ok(Some(Item::Help { name, text }));
    }
    let start = cursor.position();
    let kind = MetricType::from_name(cursor.word(), Format::Prometheus)
        .ok_or_else(|| cursor.wanted_at(start, "a type of metric"))?;
    cursor.blanks();
    cursor.expect_end()?;
    Ok(Some(Item::Type { name, kind }))
}

const VALUE: &str = "a number, NaN, +Inf or -Inf";

/// A sample of 0.0.4. Neither a value nor a time has a brace, so that the labels' end is found
/// from the line's end, without looking into them.
#[inline]
fn sample(mut cursor: Cursor<'_>, kind: MetricType) -> Result<Item<'_>, ExpositionError> {
    let column = cursor.position();
    let rest = cursor.rest();
    let len = match memchr::memrchr(b'}', rest) {
        Some(brace) => brace + 1,
        None => memchr::memchr2(b' ', b'\t', rest).unwrap_or(rest.len()),
    };
    let series = cursor.advance(len);
    cursor.blanks();
    let start = cursor.position();
    let value = parse_float(cursor.word()).ok_or_else(|| cursor.wanted_at(start, VALUE))?;
    cursor.blanks();
    let mut time_ms = None;
    if !cursor.at_end() {
        let start = cursor.position();
        let ms = std::str::from_utf8(cursor.word())
            .ok()
            .and_then(|t| t.parse().ok());
        time_ms = Some(ms.ok_or_else(|| cursor.wanted_at(start, "a time in ms, a whole number"))?);
        cursor.blanks();
        cursor.expect_end()?;
    }
    Ok(Item::Sample(Sample {
        series,
        value,
        time_ms,
        start_ms: None,
        exemplars: &[],
        kind,
        line: cursor.line(),
        column,
        format: Format::Prometheus,
    }))
}

#[cfg(test)]
mod tests;
