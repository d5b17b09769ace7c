//! One request's lines on their way into the store.

use std::ops::Range;

use kittiwake_model::{Labels, SeriesHash};

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) time_ns: i64,
    pub(crate) line: Range<usize>,
    pub(crate) metadata: Option<Labels>,
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) labels: Labels,
    /// As the store hashes it; none when who wrote it does not know.
    pub(crate) hash: Option<SeriesHash>,
    pub(crate) rows: Range<usize>,
}

/// Lines grouped by stream. Reused, it keeps its memory.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) runs: Vec<Run>,
    pub(crate) rows: Vec<Row>,
    pub(crate) text: String,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The lines that follow are of this stream.
    pub fn start(&mut self, labels: Labels) {
        self.start_run(labels, None);
    }

    /// As [`Batch::start`], of a stream that [`crate::Store::hash`] was asked for before.
    pub fn start_known(&mut self, labels: Labels, hash: SeriesHash) {
        self.start_run(labels, Some(hash));
    }

    fn start_run(&mut self, labels: Labels, hash: Option<SeriesHash>) {
        let at = self.rows.len();
        self.runs.push(Run {
            labels,
            hash,
            rows: at..at,
        });
    }

    /// A line of the current stream; before any stream it is lost. Lines of one stream and
    /// time keep the order in which they are given.
    pub fn line(&mut self, time_ns: i64, line: &str, metadata: Option<Labels>) {
        let Some(run) = self.runs.last_mut() else {
            return;
        };
        let start = self.text.len();
        self.text.push_str(line);
        self.rows.push(Row {
            time_ns,
            line: start..self.text.len(),
            metadata: metadata.filter(|m| !m.is_empty()),
        });
        run.rows.end = self.rows.len();
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of all lines.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Forgets all lines, keeps the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.rows.clear();
        self.text.clear();
    }
}
