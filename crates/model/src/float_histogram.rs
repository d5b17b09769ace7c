//! The arithmetic of native histograms, as PromQL defines it.
//!
//! Buckets are kept as pairs of index and count in order of the index, whatever spans they came
//! in: a merge of two histograms is then a merge of two sorted lists. Bounds and formulas are
//! those of Prometheus' specification of native histograms.

mod bounds;
mod custom;
mod merge;
mod quantile;
mod reset;
mod shown;
mod sum;
mod trim;

use std::sync::Arc;

pub use bounds::Bucket;
pub use merge::{IncompatibleSchemas, Merged};
pub use quantile::{Forced, NanEffect, bucket_fraction, bucket_quantile};
pub use shown::shortest;
pub use sum::HistogramSum;

use crate::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, Span};

/// The count of one bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot {
    /// Which bucket, by the schema.
    pub index: i32,
    /// Observations in it.
    pub count: f64,
}

/// A native histogram with float counts, to calculate with.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatHistogram {
    /// Resolution, -4 to 8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Breadth of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// Observations in all.
    pub count: f64,
    /// Sum of all observations.
    pub sum: f64,
    /// Buckets of positive observations, or all with custom bounds, in order of index.
    pub positive: Vec<Slot>,
    /// Buckets of negative observations in order of index.
    pub negative: Vec<Slot>,
    /// Upper bounds, ascending, when the schema is [`CUSTOM_BUCKETS_SCHEMA`].
    pub custom_bounds: Arc<[f64]>,
    /// What is known of a reset since the sample before.
    pub reset_hint: ResetHint,
}

impl Default for FloatHistogram {
    fn default() -> Self {
        Self {
            schema: 0,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: Vec::new(),
            negative: Vec::new(),
            custom_bounds: Arc::from([]),
            reset_hint: ResetHint::Unknown,
        }
    }
}

impl FloatHistogram {
    /// Whether the buckets have explicit bounds.
    pub fn has_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Multiplies every count and the sum. A negative factor makes it a gauge.
    pub fn scale(&mut self, factor: f64) {
        self.map_counts(|count| count * factor);
        if factor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
    }

    /// Divides every count and the sum. Division by zero leaves no buckets.
    pub fn divide(&mut self, divisor: f64) {
        self.map_counts(|count| count / divisor);
        if divisor == 0.0 {
            self.positive.clear();
            self.negative.clear();
        } else if divisor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
    }

    fn map_counts(&mut self, map: impl Fn(f64) -> f64) {
        self.zero_count = map(self.zero_count);
        self.count = map(self.count);
        self.sum = map(self.sum);
        for slot in self.positive.iter_mut().chain(&mut self.negative) {
            slot.count = map(slot.count);
        }
    }

    /// Drops empty buckets.
    pub fn compact(&mut self) {
        self.positive.retain(|slot| slot.count != 0.0);
        self.negative.retain(|slot| slot.count != 0.0);
    }

    /// Whether a count or the sum is infinite.
    pub fn has_overflow(&self) -> bool {
        let mut slots = self.positive.iter().chain(&self.negative);
        self.zero_count.is_infinite()
            || self.count.is_infinite()
            || self.sum.is_infinite()
            || slots.any(|slot| slot.count.is_infinite())
    }

    /// Whether schema, buckets and counts are the same, bit for bit; resets do not matter.
    pub fn same_as(&self, other: &Self) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let same_slots = |a: &[Slot], b: &[Slot]| {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| a.index == b.index && same(a.count, b.count))
        };
        self.schema == other.schema
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && self.zero_threshold == other.zero_threshold
            && same(self.zero_count, other.zero_count)
            && (!self.has_custom_buckets() || self.custom_bounds == other.custom_bounds)
            && same_slots(&self.positive, &other.positive)
            && same_slots(&self.negative, &other.negative)
    }

    /// How many float samples it counts for where samples are limited.
    pub fn size_in_samples(&self) -> usize {
        let spans = spans_of(&self.positive).len() + spans_of(&self.negative).len();
        let words = spans + self.positive.len() + self.negative.len() + self.custom_bounds.len();
        (168 + 8 * words + 8) / 16
    }

    /// Count and sum alone, for functions that need no buckets.
    #[must_use]
    pub fn without_buckets(&self) -> Self {
        Self {
            schema: self.schema,
            count: self.count,
            sum: self.sum,
            reset_hint: self.reset_hint,
            ..Self::default()
        }
    }
}

/// Neighbouring buckets as spans.
fn spans_of(slots: &[Slot]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0_i32;
    for slot in slots {
        match spans.last_mut() {
            Some(span) if slot.index == next => span.length += 1,
            _ => spans.push(Span {
                offset: slot.index.wrapping_sub(next),
                length: 1,
            }),
        }
        next = slot.index.wrapping_add(1);
    }
    spans
}

fn slots_of(spans: &[Span], counts: impl IntoIterator<Item = f64>) -> Vec<Slot> {
    let mut counts = counts.into_iter();
    let mut slots = Vec::new();
    let mut index = 0_i32;
    for span in spans {
        index = index.wrapping_add(span.offset);
        for _ in 0..span.length {
            let Some(count) = counts.next() else {
                return slots;
            };
            slots.push(Slot { index, count });
            index = index.wrapping_add(1);
        }
    }
    slots
}

impl From<&Histogram> for FloatHistogram {
    fn from(histogram: &Histogram) -> Self {
        let (count, zero_count, positive, negative) = match &histogram.counts {
            Counts::Integer {
                count,
                zero,
                positive,
                negative,
            } => {
                let float = |counts: &[u64]| counts.iter().map(|c| *c as f64).collect();
                let (positive, negative): (Vec<f64>, Vec<f64>) = (float(positive), float(negative));
                (*count as f64, *zero as f64, positive, negative)
            }
            Counts::Float {
                count,
                zero,
                positive,
                negative,
            } => (*count, *zero, positive.clone(), negative.clone()),
        };
        Self {
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero_count,
            count,
            sum: histogram.sum,
            positive: slots_of(&histogram.positive_spans, positive),
            negative: slots_of(&histogram.negative_spans, negative),
            custom_bounds: Arc::from(histogram.custom_bounds.as_slice()),
            reset_hint: histogram.reset_hint,
        }
    }
}

impl From<&FloatHistogram> for Histogram {
    fn from(histogram: &FloatHistogram) -> Self {
        let counts = |slots: &[Slot]| slots.iter().map(|slot| slot.count).collect();
        Self {
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            sum: histogram.sum,
            positive_spans: spans_of(&histogram.positive),
            negative_spans: spans_of(&histogram.negative),
            custom_bounds: histogram.custom_bounds.to_vec(),
            counts: Counts::Float {
                count: histogram.count,
                zero: histogram.zero_count,
                positive: counts(&histogram.positive),
                negative: counts(&histogram.negative),
            },
            reset_hint: histogram.reset_hint,
        }
    }
}

#[cfg(test)]
mod tests;
