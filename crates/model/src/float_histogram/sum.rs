//! Sums of many histograms that keep what rounding would drop.

use std::sync::Arc;

use super::merge::{Compensated, IncompatibleSchemas, Merged, above, reduced_with_lost};
use super::{FloatHistogram, Slot, custom};

/// A running sum of histograms, each number with its lost low-order part carried along, after
/// Kahan and Neumaier.
#[derive(Debug, Clone)]
pub struct HistogramSum {
    sum: FloatHistogram,
    lost: Lost,
}

#[derive(Debug, Clone, Default)]
struct Lost {
    zero: f64,
    count: f64,
    sum: f64,
    /// One per bucket of the sum.
    positive: Vec<f64>,
    negative: Vec<f64>,
}

impl Lost {
    fn map(&mut self, map: impl Fn(f64) -> f64) {
        let totals = [&mut self.zero, &mut self.count, &mut self.sum];
        let slots = self.positive.iter_mut().chain(&mut self.negative);
        totals.into_iter().chain(slots).for_each(|v| *v = map(*v));
    }
}

fn add_to(sum: &mut f64, lost: &mut f64, values: [f64; 2]) {
    let mut total = Compensated(*sum, *lost);
    total.add(values[0]);
    if values[1] != 0.0 {
        total.add(values[1]);
    }
    (*sum, *lost) = (total.0, total.1);
}

impl HistogramSum {
    /// A sum that begins with one histogram.
    pub fn new(first: FloatHistogram) -> Self {
        let lost = Lost {
            positive: vec![0.0; first.positive.len()],
            negative: vec![0.0; first.negative.len()],
            ..Lost::default()
        };
        Self { sum: first, lost }
    }

    /// Adds a histogram. After an error the sum is as before.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Merged, IncompatibleSchemas> {
        let (sum, lost) = (&mut self.sum, &mut self.lost);
        if sum.has_custom_buckets() != other.has_custom_buckets() {
            return Err(IncompatibleSchemas);
        }
        let mut merged = Merged {
            hints_collide: sum.merge_hint(other.reset_hint),
            bounds_reconciled: false,
        };
        if !sum.has_custom_buckets() {
            let (zero, zero_lost) = sum.reconcile_zero(
                other,
                &mut lost.positive,
                &mut lost.negative,
                Some(&mut lost.zero),
            );
            add_to(&mut sum.zero_count, &mut lost.zero, [zero, zero_lost]);
        }
        add_to(&mut sum.count, &mut lost.count, [other.count, 0.0]);
        add_to(&mut sum.sum, &mut lost.sum, [other.sum, 0.0]);
        if sum.has_custom_buckets() {
            if sum.custom_bounds == other.custom_bounds {
                merge(&mut sum.positive, &mut lost.positive, &other.positive, &[]);
            } else {
                merged.bounds_reconciled = true;
                let shared = custom::shared_bounds(&sum.custom_bounds, &other.custom_bounds);
                let (mut slots, mut slots_lost) = custom::remap_with_lost(
                    &sum.positive,
                    &lost.positive,
                    &sum.custom_bounds,
                    &shared,
                );
                let (others, others_lost) =
                    custom::remap_with_lost(&other.positive, &[], &other.custom_bounds, &shared);
                merge(&mut slots, &mut slots_lost, &others, &others_lost);
                sum.positive = slots;
                lost.positive = slots_lost;
                sum.custom_bounds = Arc::clone(&shared);
            }
            return Ok(merged);
        }
        let schema = other.schema.min(sum.schema);
        if schema < sum.schema {
            let reduce =
                |slots: &[Slot], lost: &[f64], from| reduced_with_lost(slots, lost, from, schema);
            (sum.positive, lost.positive) = reduce(&sum.positive, &lost.positive, sum.schema);
            (sum.negative, lost.negative) = reduce(&sum.negative, &lost.negative, sum.schema);
            sum.schema = schema;
        }
        for (own, own_lost, theirs) in [
            (&mut sum.positive, &mut lost.positive, &other.positive),
            (&mut sum.negative, &mut lost.negative, &other.negative),
        ] {
            let (slots, slots_lost) = reduced_with_lost(theirs, &[], other.schema, schema);
            let total = slots.len();
            let slots = above(slots, schema, sum.zero_threshold);
            let slots_lost = &slots_lost[total - slots.len()..];
            merge(own, own_lost, &slots, slots_lost);
        }
        Ok(merged)
    }

    /// Multiplies the sum.
    pub fn scale(&mut self, factor: f64) {
        self.sum.scale(factor);
        self.lost.map(|lost| lost * factor);
    }

    /// Divides the sum.
    pub fn divide(&mut self, divisor: f64) {
        self.sum.divide(divisor);
        self.lost.map(|lost| lost / divisor);
    }

    /// Whether a number of the sum became infinite.
    pub fn has_overflow(&self) -> bool {
        self.sum.has_overflow()
    }

    /// The sum with what was carried along.
    pub fn finish(self) -> FloatHistogram {
        let Self { mut sum, lost } = self;
        sum.zero_count += lost.zero;
        sum.count += lost.count;
        sum.sum += lost.sum;
        for (slots, lost) in [
            (&mut sum.positive, lost.positive),
            (&mut sum.negative, lost.negative),
        ] {
            for (slot, lost) in slots.iter_mut().zip(lost) {
                slot.count += lost;
            }
        }
        sum
    }
}

fn merge(own: &mut Vec<Slot>, own_lost: &mut Vec<f64>, other: &[Slot], other_lost: &[f64]) {
    let lost_of = |at: usize| other_lost.get(at).copied().unwrap_or(0.0);
    if own.len() == other.len() && own.iter().zip(other).all(|(a, b)| a.index == b.index) {
        let pairs = own.iter_mut().zip(own_lost.iter_mut());
        for (at, ((slot, lost), theirs)) in pairs.zip(other).enumerate() {
            add_to(&mut slot.count, lost, [theirs.count, lost_of(at)]);
        }
        return;
    }
    let mut result = Vec::with_capacity(own.len() + other.len());
    let mut result_lost = Vec::with_capacity(own.len() + other.len());
    let mut mine = own.iter().copied().zip(own_lost.iter().copied()).peekable();
    for (at, slot) in other.iter().enumerate() {
        while let Some((next, lost)) = mine.next_if(|(m, _)| m.index < slot.index) {
            result.push(next);
            result_lost.push(lost);
        }
        let mut next = *slot;
        let mut lost = lost_of(at);
        if let Some((before, before_lost)) = mine.next_if(|(m, _)| m.index == slot.index) {
            (next.count, lost) = (before.count, before_lost);
            add_to(&mut next.count, &mut lost, [slot.count, lost_of(at)]);
        }
        result.push(next);
        result_lost.push(lost);
    }
    for (next, lost) in mine {
        result.push(next);
        result_lost.push(lost);
    }
    *own = result;
    *own_lost = result_lost;
}
