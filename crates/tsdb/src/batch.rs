//! One request's samples on their way into the store.

use std::ops::Range;

use kittiwake_model::{Labels, SeriesHash};

use crate::registry::SeriesRef;

/// A series that the store knew when it was asked.
#[derive(Debug, Clone)]
pub struct KnownSeries {
    pub(crate) series: SeriesRef,
    pub(crate) hash: SeriesHash,
    pub(crate) labels: Labels,
}

#[derive(Debug)]
pub(crate) enum Named {
    Known(KnownSeries),
    /// Its labels, and the hash of the bytes that they were parsed from.
    Labels(Labels, Option<u128>),
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) named: Named,
    pub(crate) samples: Range<usize>,
}

/// Samples grouped by series. Reused, it keeps its memory.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) runs: Vec<Run>,
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The samples that follow are of this series, as [`crate::Store::known`] gave it.
    pub fn start_known(&mut self, series: KnownSeries) {
        self.start_run(Named::Known(series));
    }

    /// The samples that follow are of the series with these labels. `raw_hash` is
    /// [`crate::Store::raw_hash`] of the bytes that the labels were parsed from: the store
    /// will know the series by it.
    pub fn start(&mut self, labels: Labels, raw_hash: Option<u128>) {
        self.start_run(Named::Labels(labels, raw_hash));
    }

    /// A sample of the current series; before any series it is lost.
    pub fn sample(&mut self, time_ms: i64, value: f64) {
        if let Some(run) = self.runs.last_mut() {
            self.times.push(time_ms);
            self.values.push(value);
            run.samples.end = self.times.len();
        }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Forgets all samples, keeps the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.times.clear();
        self.values.clear();
    }

    fn start_run(&mut self, named: Named) {
        let at = self.times.len();
        self.runs.push(Run {
            named,
            samples: at..at,
        });
    }
}
