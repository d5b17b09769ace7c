//! Evaluating queries that give lines.

use std::borrow::Cow;
use std::collections::HashMap;

use kittiwake_model::{
    Direction, Entry, EntryBatch, Labels, LineFilter, LogStore, Matcher, QueryContext, Scan,
    TimeRange,
};

use crate::ast::LogExpr;
use crate::error::EvalError;
use crate::pipeline::{Hints, LineLabels, Pipeline};

/// Lines of one label set, in the order of the query.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamLines {
    /// The stream's labels, the lines' structured metadata and what was parsed of them.
    pub labels: Labels,
    /// The lines.
    pub lines: Vec<Line>,
}

/// A line as a query shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// When, in ns.
    pub time_ns: i64,
    /// The text.
    pub text: String,
    /// The labels of its stream.
    pub stream: Labels,
    /// Its structured metadata.
    pub metadata: Labels,
    /// Labels that were parsed of it.
    pub parsed: Labels,
}

/// Which lines are wanted, and how.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The first instant, in ns.
    pub start_ns: i64,
    /// The first instant that is not wanted any more.
    pub end_ns: i64,
    /// Which lines come first.
    pub direction: Direction,
    /// Lines at most.
    pub limit: usize,
    /// The least distance between two lines, in ns; 0 for all lines.
    pub interval_ns: i64,
}

/// A log query that is ready to run.
#[derive(Debug, Clone)]
pub struct LineQuery {
    scan: Scan,
    pipeline: Pipeline,
}

impl LineQuery {
    /// Prepares a query.
    pub fn new(expr: &LogExpr) -> Result<Self, EvalError> {
        let mut pipeline = Pipeline::new(&expr.stages).map_err(EvalError::Execution)?;
        let range = TimeRange::new(i64::MIN, i64::MAX);
        let mut scan = Scan::new(expr.selector.clone(), range, Direction::Backward);
        scan.filters = pipeline.take_filters();
        scan.field_filters = pipeline.field_filters();
        Ok(Self { scan, pipeline })
    }

    /// What is asked of a store: all that a store can do of this query.
    pub fn scan(&self, window: &Window) -> Scan {
        let mut scan = self.scan.clone();
        // A range of no length still has its one instant, as in Loki.
        let last_ns = window.end_ns.saturating_sub(1).max(window.start_ns);
        scan.range = TimeRange::new(window.start_ns, last_ns);
        scan.direction = window.direction;
        if self.pipeline.is_empty() && window.interval_ns == 0 {
            scan.limit = window.limit;
        }
        scan
    }

    /// Selector and filters, when the query is nothing else.
    pub fn as_filters(&self) -> Option<(&[Matcher], &[LineFilter])> {
        let scan = &self.scan;
        let is_all = self.pipeline.is_empty();
        is_all.then_some((scan.selector.as_slice(), scan.filters.as_slice()))
    }

    /// A line as the query shows it, with all its labels; nothing when a stage drops it.
    pub fn show(&self, stream: &Labels, entry: &Entry) -> Option<(Labels, Line)> {
        let mut labels = LineLabels::new(stream.clone(), &entry.metadata);
        let text = self
            .pipeline
            .run(entry.time_ns, &entry.line, &mut labels, &Hints::default())?;
        let [stream, metadata, parsed] = labels.by_category();
        let line = Line {
            time_ns: entry.time_ns,
            text: match text {
                Cow::Borrowed(text) => text.to_owned(),
                Cow::Owned(text) => text,
            },
            stream,
            metadata,
            parsed,
        };
        Some((labels.result(), line))
    }

    /// The first lines of a window, by label set.
    pub fn run(
        &self,
        store: &dyn LogStore,
        window: &Window,
        context: &QueryContext,
    ) -> Result<Vec<StreamLines>, EvalError> {
        let mut cursor = store.scan(&self.scan(window), context)?;
        let mut batch = EntryBatch::default();
        let mut found = Vec::new();
        let mut last_ns: Option<i64> = None;
        let mut plain = Plain::default();
        'all: while cursor.next_batch(&mut batch)? {
            context.check()?;
            for (index, entry) in batch.entries.iter().enumerate() {
                let shown = if self.pipeline.is_empty() {
                    Some(plain.show(batch.labels(index), entry))
                } else {
                    self.show(batch.labels(index), entry)
                };
                let Some(shown) = shown else {
                    continue;
                };
                let distance = last_ns.map(|last| entry.time_ns.abs_diff(last));
                if distance.is_some_and(|d| d < window.interval_ns.unsigned_abs()) {
                    continue;
                }
                last_ns = Some(entry.time_ns);
                found.push(shown);
                if window.limit > 0 && found.len() == window.limit {
                    break 'all;
                }
            }
        }
        Ok(group(found))
    }
}

/// Lines that go through no stage. What they are shown under is known by their stream and
/// metadata, and most lines share these with one shortly before.
#[derive(Debug, Default)]
struct Plain(Vec<Known>);

#[derive(Debug)]
struct Known {
    of: (Labels, Labels),
    labels: Labels,
    categories: [Labels; 3],
}

/// Streams with metadata that are remembered.
const KNOWN_MAX: usize = 64;

impl Plain {
    fn show(&mut self, stream: &Labels, entry: &Entry) -> (Labels, Line) {
        let is_it = |known: &Known| known.of.0 == *stream && known.of.1 == entry.metadata;
        let place = self.0.iter().rposition(is_it);
        let place = place.unwrap_or_else(|| {
            if self.0.len() == KNOWN_MAX {
                self.0.clear();
            }
            let labels = LineLabels::new(stream.clone(), &entry.metadata);
            self.0.push(Known {
                of: (stream.clone(), entry.metadata.clone()),
                labels: labels.result(),
                categories: labels.by_category(),
            });
            self.0.len() - 1
        });
        let known = &self.0[place];
        let [stream, metadata, parsed] = known.categories.clone();
        let line = Line {
            time_ns: entry.time_ns,
            text: entry.line.clone(),
            stream,
            metadata,
            parsed,
        };
        (known.labels.clone(), line)
    }
}

/// Lines by what they are shown under. Label sets come in their order, lines in that given.
pub fn group(lines: impl IntoIterator<Item = (Labels, Line)>) -> Vec<StreamLines> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut streams: Vec<StreamLines> = Vec::new();
    for (labels, line) in lines {
        let place = *places.entry(labels).or_insert_with_key(|labels| {
            streams.push(StreamLines {
                labels: labels.clone(),
                lines: Vec::new(),
            });
            streams.len() - 1
        });
        streams[place].lines.push(line);
    }
    streams.sort_by(|a, b| a.labels.cmp(&b.labels));
    streams
}
