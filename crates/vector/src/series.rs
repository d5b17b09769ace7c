//! A series over the steps of a query.

use std::collections::HashMap;
use std::sync::Arc;

use kittiwake_model::{FloatHistogram, Labels, STALE_NAN_BITS, stale_nan};

/// A value at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample<'a> {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(&'a Arc<FloatHistogram>),
}

/// Values of one series over all steps.
#[derive(Debug, Clone)]
pub struct Series {
    /// The series.
    pub labels: Labels,
    /// Whether the metric's name goes when the query is done.
    pub drops_name: bool,
    /// A number per step. The stale marker stands where there is none: no calculation can give
    /// it, since it is a signalling NaN.
    pub floats: Vec<f64>,
    /// A native histogram per step where there is one; empty when there is none at all.
    pub histograms: Vec<Option<Arc<FloatHistogram>>>,
}

/// Bit for bit: a NaN is the same as itself.
impl PartialEq for Series {
    fn eq(&self, other: &Self) -> bool {
        let bits =
            |series: &Self| -> Vec<u64> { series.floats.iter().map(|v| v.to_bits()).collect() };
        self.labels == other.labels
            && self.drops_name == other.drops_name
            && bits(self) == bits(other)
            && self.histograms == other.histograms
    }
}

impl Series {
    /// A series without values.
    pub fn new(labels: Labels, steps: usize) -> Self {
        Self::of(labels, vec![stale_nan(); steps])
    }

    /// A series of numbers, the stale marker where there is none.
    pub fn of(labels: Labels, floats: Vec<f64>) -> Self {
        Self {
            labels,
            drops_name: false,
            floats,
            histograms: Vec::new(),
        }
    }

    /// The number at a step, if there is one.
    pub fn float(&self, step: usize) -> Option<f64> {
        let value = self.floats[step];
        (value.to_bits() != STALE_NAN_BITS).then_some(value)
    }

    /// What there is at a step.
    pub fn get(&self, step: usize) -> Option<Sample<'_>> {
        if let Some(value) = self.float(step) {
            return Some(Sample::Float(value));
        }
        let histogram = self.histograms.get(step)?.as_ref()?;
        Some(Sample::Histogram(histogram))
    }

    /// Whether there is a value at a step.
    pub fn has(&self, step: usize) -> bool {
        self.get(step).is_some()
    }

    /// Sets a native histogram.
    pub fn set_histogram(&mut self, step: usize, histogram: Arc<FloatHistogram>) {
        if self.histograms.is_empty() {
            self.histograms.resize(self.floats.len(), None);
        }
        self.histograms[step] = Some(histogram);
    }

    /// Sets a value of either kind.
    pub fn set(&mut self, step: usize, sample: Sample<'_>) {
        match sample {
            Sample::Float(value) => self.floats[step] = value,
            Sample::Histogram(histogram) => self.set_histogram(step, Arc::clone(histogram)),
        }
    }

    /// Removes the value at a step.
    pub fn remove(&mut self, step: usize) {
        self.floats[step] = stale_nan();
        if let Some(histogram) = self.histograms.get_mut(step) {
            *histogram = None;
        }
    }

    /// Whether there is no value at any step.
    pub fn is_empty(&self) -> bool {
        self.floats.iter().all(|v| v.to_bits() == STALE_NAN_BITS)
            && self.histograms.iter().all(Option::is_none)
    }

    /// The same values without histograms.
    pub fn drop_histograms(&mut self) {
        self.histograms = Vec::new();
    }
}

/// Two series with the same labels have a value at the same step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("vector cannot contain metrics with the same labelset")]
pub struct SameLabels;

/// Joins series that have the same labels, which must not meet at any step. Series without
/// values go.
pub fn join_equal(mut series: Vec<Series>) -> Result<Vec<Series>, SameLabels> {
    if series
        .windows(2)
        .all(|pair| pair[0].labels < pair[1].labels)
    {
        series.retain(|one| !one.is_empty());
        return Ok(series);
    }
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(series.len());
    let mut joined: Vec<Series> = Vec::with_capacity(series.len());
    for one in series {
        if one.is_empty() {
            continue;
        }
        let next = joined.len();
        let place = *places.entry(one.labels.clone()).or_insert(next);
        if place == next {
            joined.push(one);
            continue;
        }
        let there = &mut joined[place];
        for step in 0..one.floats.len() {
            if let Some(sample) = one.get(step) {
                if there.has(step) {
                    return Err(SameLabels);
                }
                there.set(step, sample);
            }
        }
    }
    Ok(joined)
}
