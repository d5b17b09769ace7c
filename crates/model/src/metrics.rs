//! The metrics port: what an engine asks of a store of time series.
//!
//! It is synchronous and pull-based. A select pins what it sees; its cursor then gives one
//! series after the other, each as batches of columns in order of time. A cursor can fail
//! halfway (the store may be on another machine), and a select can be slow.

use std::sync::Arc;

use crate::{Histogram, Labels, Matcher, QueryContext, StoreError, TimeRange};

/// The bits of the NaN by which Prometheus marks a series as ended.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The value that marks a series as ended.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether a value marks a series as ended. Other NaNs are ordinary values.
pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// What is done with the samples, so that a store can answer from summaries or skip columns.
/// A store may ignore all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelectHint {
    /// The function directly above the selector, if any (`rate`).
    pub function: Option<String>,
    /// The range of a range-vector selector in ms; 0 for an instant vector.
    pub window_ms: i64,
    /// The grouping of the aggregation above, and whether it is `by` (else `without`).
    pub grouping: Option<(Vec<String>, bool)>,
    /// Of a value it matters only that it is there, not what it is. In place of a number any
    /// other but the stale marker may be given.
    pub only_presence: bool,
}

/// A request for series.
#[derive(Debug, Clone)]
pub struct Select {
    /// All must match. A matcher that accepts the empty value also accepts a missing label.
    pub matchers: Vec<Matcher>,
    /// Samples wanted, in ms, both ends included.
    pub range: TimeRange,
    /// The step of the evaluation in ms; 0 for an instant.
    pub step_ms: i64,
    /// What is done with the samples.
    pub hint: SelectHint,
    /// Series wanted at most; 0 for all.
    pub limit: usize,
}

impl Select {
    /// A select without hints or limit.
    pub fn new(matchers: Vec<Matcher>, range: TimeRange) -> Self {
        Self {
            matchers,
            range,
            step_ms: 0,
            hint: SelectHint::default(),
            limit: 0,
        }
    }
}

/// Samples of one series as columns of equal length, in order of time, no time twice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// Times in ms.
    pub times: Vec<i64>,
    /// Values; NaN where the sample is a histogram.
    pub values: Vec<f64>,
    /// The samples that are native histograms: index into the columns and the histogram, in
    /// order of the index.
    pub histograms: Vec<(u32, Arc<Histogram>)>,
    /// When the counting began that each sample belongs to, in ms, 0 where that is not known.
    /// Empty where it is known of none, else as long as the times.
    pub starts: Vec<i64>,
    /// Of how many samples each value is the sum, where a store has thinned them out and a sum,
    /// a mean or a count was asked for. Empty where each is one, else as long as the times.
    pub weights: Vec<f64>,
    /// Where samples were thinned out, coarsest and oldest first.
    pub thinned: Vec<Thinned>,
}

/// What is left of old samples: one or two of each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thinned {
    /// Up to this time, in ms, included.
    pub until_ms: i64,
    /// The length of the windows, in ms.
    pub window_ms: i64,
}

/// A single observation that stands for others, with what leads to its trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Labels of the exemplar itself.
    pub labels: Labels,
    /// The value that was observed.
    pub value: f64,
    /// When.
    pub time_ms: i64,
}

/// What is said of all series of one metric name. The text is the exporter's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Metadata {
    /// `counter`, `gauge`, `histogram`, `gaugehistogram`, `summary`, `info`, `stateset` or
    /// `unknown`.
    pub kind: String,
    /// What it counts.
    pub help: String,
    /// Its unit, often empty.
    pub unit: String,
}

impl Columns {
    /// Forgets all samples, keeps the memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.histograms.clear();
        self.starts.clear();
        self.weights.clear();
        self.thinned.clear();
    }

    /// Appends a float sample.
    pub fn push(&mut self, time_ms: i64, value: f64) {
        self.times.push(time_ms);
        self.values.push(value);
        if !self.starts.is_empty() {
            self.starts.push(0);
        }
    }

    /// Says when the counting of the newest sample began, in ms; 0 is not known.
    pub fn set_start(&mut self, start_ms: i64) {
        if start_ms != 0 && self.starts.is_empty() {
            self.starts.resize(self.times.len(), 0);
        }
        if let Some(last) = self.starts.last_mut() {
            *last = start_ms;
        }
    }

    /// Appends a native histogram.
    pub fn push_histogram(&mut self, time_ms: i64, histogram: Arc<Histogram>) {
        self.histograms.push((self.times.len() as u32, histogram));
        self.push(time_ms, f64::NAN);
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }
}

/// Walks the answer of a select.
pub trait SeriesCursor: Send {
    /// Goes to the next series and gives its labels, or `None` at the end. Series come in no
    /// set order, each once. A series without samples in the range may come.
    fn next_series(&mut self) -> Result<Option<Labels>, StoreError>;

    /// Appends the next samples of the current series to `into`; `false` when it has no more.
    /// Samples of one series come in order of time and never twice.
    fn next_batch(&mut self, into: &mut Columns) -> Result<bool, StoreError>;

    /// Shares out the series that were not yet given among at most so many cursors, to be read
    /// by as many threads: the same series in the same way each time. Empty where that is not
    /// worth it or not possible; this cursor then goes on as before.
    fn split(&mut self, _parts: usize) -> Vec<Box<dyn SeriesCursor>> {
        Vec::new()
    }
}

/// A store of time series, as engines see it.
pub trait MetricsStore: Send + Sync {
    /// Pins what is visible now and walks the series that match.
    fn select(
        &self,
        select: &Select,
        context: &QueryContext,
    ) -> Result<Box<dyn SeriesCursor>, StoreError>;

    /// The label sets that match any of the given selectors (each a list of matchers), sorted.
    /// No selector means all. `limit` 0 means no limit.
    fn series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
        context: &QueryContext,
    ) -> Result<Vec<Labels>, StoreError>;

    /// The exemplars in the range of series that match any of the selectors, per series and in
    /// order of time. A store that keeps none has none.
    fn exemplars(
        &self,
        _selectors: &[Vec<Matcher>],
        _range: TimeRange,
        _context: &QueryContext,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        Ok(Vec::new())
    }

    /// What is known of metric names, or of one: each name with all that was said of it,
    /// sorted by name. A store that keeps none has none.
    fn metadata(
        &self,
        _name: Option<&str>,
        _context: &QueryContext,
    ) -> Result<Vec<(String, Vec<Metadata>)>, StoreError> {
        Ok(Vec::new())
    }

    /// The names of labels on series that match, sorted.
    fn label_names(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        context: &QueryContext,
    ) -> Result<Vec<String>, StoreError> {
        let mut names = std::collections::BTreeSet::new();
        for labels in self.series(selectors, range, 0, context)? {
            for (name, _) in &labels {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    /// The values of a label on series that match, sorted.
    fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        context: &QueryContext,
    ) -> Result<Vec<String>, StoreError> {
        let mut values = std::collections::BTreeSet::new();
        for labels in self.series(selectors, range, 0, context)? {
            if let Some(value) = labels.get(name)
                && !values.contains(value)
            {
                values.insert(value.to_owned());
            }
        }
        Ok(values.into_iter().collect())
    }
}
