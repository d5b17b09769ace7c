//! The logs port: what an engine asks of a store of log lines.
//!
//! A line's identity is its stream, its time and its ordinal among the lines of that stream
//! and time. Order, cursors and documents' ids build on it.

use std::ops::ControlFlow;

use crate::{Labels, Matcher, QueryContext, SeriesHash, StoreError, TimeRange};

/// One log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, in ns.
    pub time_ns: i64,
    /// The line without its newline.
    pub line: String,
    /// Structured metadata: labels of the line that do not name its stream.
    pub metadata: Labels,
}

/// What tells a line from all others, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// When, in ns. Ids sort by time first.
    pub time_ns: i64,
    /// The hash of the stream's labels under the store's key.
    pub stream: SeriesHash,
    /// Which of the lines of that stream and time.
    pub ordinal: u32,
}

/// Order of time in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    #[default]
    Backward,
}

/// A filter on a line's text.
#[derive(Debug, Clone)]
pub enum LineFilter {
    /// The line has one of these substrings, byte for byte.
    Contains(Vec<String>),
    /// The line has none of these substrings.
    NotContains(Vec<String>),
    /// One of these regular expressions matches somewhere in the line.
    Matches(Vec<regex::Regex>),
    /// None of these regular expressions matches anywhere in the line.
    NotMatches(Vec<regex::Regex>),
}

impl LineFilter {
    /// Whether a line passes.
    pub fn accepts(&self, line: &str) -> bool {
        match self {
            Self::Contains(texts) => texts.iter().any(|t| line.contains(t.as_str())),
            Self::NotContains(texts) => !texts.iter().any(|t| line.contains(t.as_str())),
            Self::Matches(regexes) => regexes.iter().any(|r| r.is_match(line)),
            Self::NotMatches(regexes) => !regexes.iter().any(|r| r.is_match(line)),
        }
    }
}

/// What is known of lines that have a field of some value (JSON's, logfmt's): the text is in
/// the line with no letter, digit or `_` next to it. All others can be passed over, unless they
/// have a backslash, which may stand for anything, or the label already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFilter {
    /// Lines that have this label by their stream or metadata pass.
    pub name: String,
    /// The value of the field, or a part of it. Not empty.
    pub text: String,
}

impl FieldFilter {
    /// Whether a line without the label may have the field.
    pub fn accepts(&self, line: &str) -> bool {
        line.contains(self.text.as_str()) || line.contains('\\')
    }
}

/// A request for lines.
#[derive(Debug, Clone)]
pub struct Scan {
    /// All must match the stream's labels.
    pub selector: Vec<Matcher>,
    /// All must accept the line.
    pub filters: Vec<LineFilter>,
    /// A store may pass over lines that one of these refuses, or leave it.
    pub field_filters: Vec<FieldFilter>,
    /// Lines wanted, in ns, both ends included.
    pub range: TimeRange,
    /// Order of time.
    pub direction: Direction,
    /// Whether entries come in this order (else in any).
    pub ordered: bool,
    /// Only entries strictly beyond this one in the scan's direction.
    pub after: Option<EntryId>,
    /// Entries wanted at most; 0 for all.
    pub limit: usize,
    /// Whether the answer needs the lines' text (a count does not).
    pub needs_line: bool,
    /// Whether the answer needs the lines' metadata.
    pub needs_metadata: bool,
}

impl Scan {
    /// An ordered scan without filters or limit.
    pub fn new(selector: Vec<Matcher>, range: TimeRange, direction: Direction) -> Self {
        Self {
            selector,
            filters: Vec::new(),
            field_filters: Vec::new(),
            range,
            direction,
            ordered: true,
            after: None,
            limit: 0,
            needs_line: true,
            needs_metadata: true,
        }
    }
}

/// Entries in the order of the scan. `streams` and the columns refer to one batch only.
#[derive(Debug, Clone, Default)]
pub struct EntryBatch {
    /// The streams that occur in this batch.
    pub streams: Vec<(SeriesHash, Labels)>,
    /// Per entry, the index of its stream.
    pub stream: Vec<u32>,
    /// Per entry, its ordinal among the entries of its stream and time.
    pub ordinal: Vec<u32>,
    /// Per entry, time, line (empty where the scan does not need it) and metadata.
    pub entries: Vec<Entry>,
}

impl EntryBatch {
    /// Forgets all entries, keeps the memory.
    pub fn clear(&mut self) {
        self.streams.clear();
        self.stream.clear();
        self.ordinal.clear();
        self.entries.clear();
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The labels of an entry's stream.
    ///
    /// # Panics
    /// When `index` is not below [`EntryBatch::len`].
    pub fn labels(&self, index: usize) -> &Labels {
        &self.streams[self.stream[index] as usize].1
    }

    /// The identity of an entry.
    ///
    /// # Panics
    /// When `index` is not below [`EntryBatch::len`].
    pub fn id(&self, index: usize) -> EntryId {
        EntryId {
            time_ns: self.entries[index].time_ns,
            stream: self.streams[self.stream[index] as usize].0,
            ordinal: self.ordinal[index],
        }
    }

    /// Appends an entry, adding its stream when this batch does not have it yet.
    pub fn push(&mut self, hash: SeriesHash, labels: &Labels, ordinal: u32, entry: Entry) {
        // Neighbours mostly share a stream, so the newest ones are looked at first.
        let index = self
            .streams
            .iter()
            .rposition(|(h, _)| *h == hash)
            .unwrap_or_else(|| {
                self.streams.push((hash, labels.clone()));
                self.streams.len() - 1
            });
        self.stream.push(index as u32);
        self.ordinal.push(ordinal);
        self.entries.push(entry);
    }
}

/// What of lines is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// How many there are.
    Lines,
    /// Bytes of their text.
    Bytes,
}

/// Which metadata tells lines of one stream apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Apart {
    /// All of it.
    All,
    /// Only that of lines with metadata under one of these names.
    By(Vec<String>),
}

/// What fields of lines are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldFormat {
    /// A JSON object.
    Json,
    /// Pairs of logfmt.
    Logfmt,
}

/// A test that an engine makes of one field of each line.
pub trait FieldTest: std::fmt::Debug + Send + Sync {
    /// What the field is written in.
    fn format(&self) -> FieldFormat;

    /// The label that the field becomes.
    fn name(&self) -> &str;

    /// Whether a line passes in which the field has this value, or is not there: the line is
    /// well-formed, and neither its stream nor its metadata have the label. Nothing when the
    /// line itself must be asked.
    fn accepts(&self, value: Option<&str>) -> Option<bool>;

    /// Whether a line passes.
    fn accepts_line(&self, stream: &Labels, metadata: &Labels, line: &str) -> bool;
}

/// A request for amounts of lines over time, without the lines.
#[derive(Debug, Clone)]
pub struct Count {
    /// Which lines. Order, limit and place do not count.
    pub scan: Scan,
    /// What they must pass besides.
    pub test: Option<std::sync::Arc<dyn FieldTest>>,
    /// Times in ascending order: slot `k` is from after `edges[k]` up to `edges[k + 1]`.
    pub edges: Vec<i64>,
    /// What is added up.
    pub amount: Amount,
    /// By what, beside the streams. A store may tell more apart.
    pub apart: Apart,
}

/// Amounts of lines of one stream and metadata; the same ones can come several times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The stream.
    pub stream: Labels,
    /// The metadata, as far as it was asked for.
    pub metadata: Labels,
    /// Slots that have lines, and how much.
    pub slots: Vec<(usize, u64)>,
}

/// Walks the answer of a count.
pub trait CountCursor: Send {
    /// Replaces `into` by the next amounts; `false` at the end.
    fn next_counts(&mut self, into: &mut Vec<Counted>) -> Result<bool, StoreError>;

    /// Cursors, so many at most, that share what is still to come, each taking the next piece
    /// when it has done one. Empty where that is not worth it: then this one goes on.
    fn split(&mut self, _parts: usize) -> Vec<Box<dyn CountCursor>> {
        Vec::new()
    }
}

/// Walks the answer of a scan.
pub trait EntryCursor: Send {
    /// Replaces `into` by the next entries; `false` at the end.
    fn next_batch(&mut self, into: &mut EntryBatch) -> Result<bool, StoreError>;

    /// Of a scan without order or limit: cursors, so many at most, that share what is still to
    /// come, each taking the next piece when it has done one. Empty where that is not worth it:
    /// then this one goes on.
    fn split(&mut self, _parts: usize) -> Result<Vec<Box<dyn EntryCursor>>, StoreError> {
        Ok(Vec::new())
    }
}

/// Follows what arrives from now on.
pub trait FollowCursor: Send {
    /// Replaces `into` by entries that arrived since the last call, in order of arrival,
    /// without waiting. Says how many were passed over because the follower was too slow.
    fn poll(&mut self, into: &mut EntryBatch) -> Result<u64, StoreError>;
}

/// A store of log lines, as engines see it.
pub trait LogStore: Send + Sync {
    /// Pins what is visible now and walks the lines that match.
    fn scan(&self, scan: &Scan, context: &QueryContext)
    -> Result<Box<dyn EntryCursor>, StoreError>;

    /// Pins what is visible now and adds up the lines that match. Nothing when the store does
    /// not do that: then a scan does.
    fn count(
        &self,
        _count: &Count,
        _context: &QueryContext,
    ) -> Result<Option<Box<dyn CountCursor>>, StoreError> {
        Ok(None)
    }

    /// Follows lines that arrive from now on, whatever their time. Range, direction, order
    /// and limit of the scan do not count.
    fn follow(&self, scan: &Scan) -> Result<Box<dyn FollowCursor>, StoreError>;

    /// The streams that match any of the selectors (none means all) and have lines in the
    /// range, sorted.
    fn streams(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        context: &QueryContext,
    ) -> Result<Vec<Labels>, StoreError>;
}

/// Gives each entry that a scan finds, as its batch and its place there, to a visitor, which says
/// whether to go on.
pub fn each_entry(
    store: &dyn LogStore,
    scan: &Scan,
    context: &QueryContext,
    mut visit: impl FnMut(&EntryBatch, usize) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut cursor = store.scan(scan, context)?;
    let mut batch = EntryBatch::default();
    while cursor.next_batch(&mut batch)? {
        context.check()?;
        for index in 0..batch.len() {
            if visit(&batch, index).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}
