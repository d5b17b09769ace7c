//! One request's samples on their way into the store.

use std::ops::Range;
use std::sync::Arc;

use kittiwake_model::{Columns, Exemplar, Histogram, Labels, Metadata, SeriesHash};

use crate::registry::SeriesRef;

/// A series that the store knew when it was asked.
#[derive(Debug, Clone, Copy)]
pub struct KnownSeries {
    pub(crate) series: SeriesRef,
    /// Half of its hash, by which it is told from another that has its number by now.
    pub(crate) check: u64,
}

impl KnownSeries {
    pub(crate) fn new(series: SeriesRef, hash: SeriesHash) -> Self {
        Self {
            series,
            check: hash.0 as u64,
        }
    }

    pub(crate) fn is(&self, hash: SeriesHash) -> bool {
        self.check == hash.0 as u64
    }
}

/// Small, because a request has one for each of thousands of series.
#[derive(Debug)]
pub(crate) enum Named {
    Known(KnownSeries),
    Labels(Box<NewLabels>),
}

/// Labels, and the hash of the bytes that they were parsed from.
#[derive(Debug)]
pub(crate) struct NewLabels {
    pub(crate) labels: Labels,
    pub(crate) raw_hash: Option<u128>,
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) named: Named,
    first: u32,
    end: u32,
}

impl Run {
    pub(crate) fn samples(&self) -> Range<usize> {
        self.first as usize..self.end as usize
    }
}

/// Samples grouped by series, with what came beside them. Reused, it keeps its memory.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) runs: Vec<Run>,
    pub(crate) columns: Columns,
    /// Each with the index of its run.
    pub(crate) exemplars: Vec<(usize, Exemplar)>,
    pub(crate) metadata: Vec<(String, Metadata)>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The samples that follow are of this series, as [`crate::Names::known`] gave it.
    pub fn start_known(&mut self, series: KnownSeries) {
        self.start_run(Named::Known(series));
    }

    /// The samples that follow are of the series with these labels. `raw_hash` is
    /// [`crate::Store::raw_hash`] of the bytes that the labels were parsed from: the store
    /// will know the series by it.
    pub fn start(&mut self, labels: Labels, raw_hash: Option<u128>) {
        self.start_run(Named::Labels(Box::new(NewLabels { labels, raw_hash })));
    }

    /// A sample of the current series; before any series it is lost.
    #[inline]
    pub fn sample(&mut self, time_ms: i64, value: f64) {
        if let Some(run) = self.runs.last_mut() {
            self.columns.push(time_ms, value);
            run.end = self.columns.len() as u32;
        }
    }

    /// As [`Batch::sample`], of a count that began at `start_ms`; 0 is not known.
    pub fn sample_from(&mut self, time_ms: i64, value: f64, start_ms: i64) {
        self.sample(time_ms, value);
        self.set_start(start_ms);
    }

    /// A native histogram of the current series, of a count that began at `start_ms`; 0 is not
    /// known.
    pub fn histogram(&mut self, time_ms: i64, histogram: Arc<Histogram>, start_ms: i64) {
        if let Some(run) = self.runs.last_mut() {
            self.columns.push_histogram(time_ms, histogram);
            run.end = self.columns.len() as u32;
            self.set_start(start_ms);
        }
    }

    /// An exemplar of the current series; before any series it is lost.
    pub fn exemplar(&mut self, exemplar: Exemplar) {
        if let Some(run) = self.runs.len().checked_sub(1) {
            self.exemplars.push((run, exemplar));
        }
    }

    /// What is said of all series of a metric name.
    pub fn metadata(&mut self, name: &str, metadata: Metadata) {
        self.metadata.push((name.to_owned(), metadata));
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.exemplars.is_empty() && self.metadata.is_empty()
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.columns.clear();
        self.exemplars.clear();
        self.metadata.clear();
    }

    fn set_start(&mut self, start_ms: i64) {
        if !self.runs.is_empty() {
            self.columns.set_start(start_ms);
        }
    }

    fn start_run(&mut self, named: Named) {
        let at = self.columns.len() as u32;
        self.runs.push(Run {
            named,
            first: at,
            end: at,
        });
    }
}
