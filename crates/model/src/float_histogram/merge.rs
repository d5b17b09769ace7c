//! Sums and differences of two histograms, and what must be brought together for them: schema,
//! zero bucket, custom bounds, hints of resets.

use super::bounds::exponential_bound;
use super::custom;
use super::{FloatHistogram, Slot};
use crate::histogram::ResetHint;

/// Exponential and custom buckets do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot apply this operation on histograms with a mix of exponential and custom bucket schemas"
)]
pub struct IncompatibleSchemas;

/// What was noticed when two histograms were merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// One said that it was reset, the other that it was not.
    pub hints_collide: bool,
    /// Custom bounds differed: only those that both have are left.
    pub bounds_reconciled: bool,
}

impl FloatHistogram {
    /// Adds another histogram.
    pub fn add(&mut self, other: &Self) -> Result<Merged, IncompatibleSchemas> {
        self.merge(other, 1.0)
    }

    /// Subtracts another histogram. Counts may become negative.
    pub fn subtract(&mut self, other: &Self) -> Result<Merged, IncompatibleSchemas> {
        self.merge(other, -1.0)
    }

    fn merge(&mut self, other: &Self, sign: f64) -> Result<Merged, IncompatibleSchemas> {
        if self.has_custom_buckets() != other.has_custom_buckets() {
            return Err(IncompatibleSchemas);
        }
        let mut merged = Merged {
            hints_collide: self.merge_hint(other.reset_hint),
            bounds_reconciled: false,
        };
        if !self.has_custom_buckets() {
            let (zero, _) = self.reconcile_zero(other, &mut Vec::new(), &mut Vec::new(), None);
            self.zero_count += sign * zero;
        }
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        if self.has_custom_buckets() {
            if self.custom_bounds == other.custom_bounds {
                merge_slots(&mut self.positive, &other.positive, sign);
            } else {
                merged.bounds_reconciled = true;
                let shared = custom::shared_bounds(&self.custom_bounds, &other.custom_bounds);
                let mut slots = custom::remap(&self.positive, &self.custom_bounds, &shared);
                let others = custom::remap(&other.positive, &other.custom_bounds, &shared);
                merge_slots(&mut slots, &others, sign);
                slots.retain(|slot| slot.count != 0.0);
                self.positive = slots;
                self.custom_bounds = shared;
            }
            return Ok(merged);
        }
        self.reduce_resolution(other.schema.min(self.schema));
        let reduced = |slots: &[Slot]| {
            let slots = reduced(slots, other.schema, self.schema);
            above(slots, self.schema, self.zero_threshold)
        };
        let (positive, negative) = (reduced(&other.positive), reduced(&other.negative));
        merge_slots(&mut self.positive, &positive, sign);
        merge_slots(&mut self.negative, &negative, sign);
        Ok(merged)
    }

    /// Takes over what another's hint says; `true` when the two contradict.
    pub(super) fn merge_hint(&mut self, other: ResetHint) -> bool {
        let own = self.reset_hint;
        self.reset_hint = match (own, other) {
            _ if own == other => own,
            (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        };
        matches!(
            (own, other),
            (ResetHint::Yes, ResetHint::No) | (ResetHint::No, ResetHint::Yes)
        )
    }

    /// Merges buckets until the resolution is no finer than `schema`.
    pub fn reduce_resolution(&mut self, schema: i32) {
        if self.has_custom_buckets() || schema >= self.schema {
            return;
        }
        self.positive = reduced(&self.positive, self.schema, schema);
        self.negative = reduced(&self.negative, self.schema, schema);
        self.schema = schema;
    }

    /// Widens the narrower of two zero buckets until both are equally wide; gives the other's
    /// count and what rounding lost of it. `lost` are the compensations of this one's buckets,
    /// empty when there are none, and `lost_zero` that of its zero count.
    pub(super) fn reconcile_zero(
        &mut self,
        other: &Self,
        lost_positive: &mut Vec<f64>,
        lost_negative: &mut Vec<f64>,
        mut lost_zero: Option<&mut f64>,
    ) -> (f64, f64) {
        let (mut count, mut lost_count) = (other.zero_count, 0.0);
        let mut threshold = other.zero_threshold;
        while threshold != self.zero_threshold {
            if threshold.is_nan() || self.zero_threshold.is_nan() {
                break;
            }
            if self.zero_threshold > threshold {
                (count, threshold, lost_count) =
                    other.zero_count_within(self.zero_threshold, &[], &[], 0.0);
            }
            if threshold > self.zero_threshold {
                let lost = lost_zero.as_deref().copied().unwrap_or(0.0);
                let (own, widened, lost) =
                    self.zero_count_within(threshold, lost_positive, lost_negative, lost);
                self.zero_count = own;
                self.zero_threshold = widened;
                if let Some(zero) = lost_zero.as_deref_mut() {
                    *zero = lost;
                }
                let schema = self.schema;
                let within =
                    |index: i32| exponential_bound(index.wrapping_sub(1), schema) < widened;
                drop_within(&mut self.positive, lost_positive, within);
                drop_within(&mut self.negative, lost_negative, within);
            }
        }
        (count, lost_count)
    }

    /// The count of a zero bucket of at least the given threshold, that threshold (widened to
    /// the end of a bucket that it would cut), and what rounding lost.
    pub(super) fn zero_count_within(
        &self,
        threshold: f64,
        lost_positive: &[f64],
        lost_negative: &[f64],
        lost_zero: f64,
    ) -> (f64, f64, f64) {
        if threshold == self.zero_threshold {
            return (self.zero_count, threshold, lost_zero);
        }
        let mut threshold = threshold;
        'widen: loop {
            let mut total = Compensated(self.zero_count, lost_zero);
            for (slots, lost) in [
                (&self.positive, lost_positive),
                (&self.negative, lost_negative),
            ] {
                for (at, slot) in slots.iter().enumerate() {
                    if exponential_bound(slot.index.wrapping_sub(1), self.schema) >= threshold {
                        break;
                    }
                    total.add(slot.count);
                    if let Some(lost) = lost.get(at) {
                        total.add(*lost);
                    }
                    let upper = exponential_bound(slot.index, self.schema);
                    if upper > threshold {
                        if slot.count != 0.0 {
                            threshold = upper;
                            continue 'widen;
                        }
                        break;
                    }
                }
            }
            return (total.0, threshold, total.1);
        }
    }
}

/// A sum and what rounding lost of it, by Neumaier.
#[derive(Clone, Copy)]
pub(super) struct Compensated(pub(super) f64, pub(super) f64);

impl Compensated {
    pub(super) fn add(&mut self, value: f64) {
        let next = self.0 + value;
        if next.is_infinite() {
            self.1 = 0.0;
        } else if self.0.abs() >= value.abs() {
            self.1 += (self.0 - next) + value;
        } else {
            self.1 += (value - next) + self.0;
        }
        self.0 = next;
    }
}

/// Drops the leading buckets that lie in the zero bucket, and all empty ones.
fn drop_within(slots: &mut Vec<Slot>, lost: &mut Vec<f64>, within: impl Fn(i32) -> bool) {
    let has_lost = !lost.is_empty();
    let mut kept = Vec::with_capacity(slots.len());
    let mut kept_lost = Vec::new();
    let mut is_leading = true;
    for (at, slot) in slots.iter().enumerate() {
        is_leading = is_leading && within(slot.index);
        let lost = lost.get(at).copied().unwrap_or(0.0);
        if !is_leading && (slot.count != 0.0 || lost != 0.0) {
            kept.push(*slot);
            kept_lost.push(lost);
        }
    }
    *slots = kept;
    if has_lost {
        *lost = kept_lost;
    }
}

/// The index of the bucket of a coarser schema that a bucket falls into.
fn coarser(index: i32, from: i32, to: i32) -> i32 {
    ((i64::from(index) - 1) >> (from - to).clamp(0, 60)) as i32 + 1
}

/// Buckets of one schema as those of a coarser one.
pub(super) fn reduced(slots: &[Slot], from: i32, to: i32) -> Vec<Slot> {
    if to >= from {
        return slots.to_vec();
    }
    joined(slots, |index| coarser(index, from, to))
}

/// Buckets under other numbers, which keep their order; those that become one are added.
pub(super) fn joined(slots: &[Slot], number: impl Fn(i32) -> i32) -> Vec<Slot> {
    let mut result: Vec<Slot> = Vec::with_capacity(slots.len());
    for slot in slots {
        let index = number(slot.index);
        match result.last_mut() {
            Some(last) if last.index == index => last.count += slot.count,
            _ => result.push(Slot {
                index,
                count: slot.count,
            }),
        }
    }
    result
}

/// As [`reduced`], with what rounding lost of each bucket.
pub(super) fn reduced_with_lost(
    slots: &[Slot],
    lost: &[f64],
    from: i32,
    to: i32,
) -> (Vec<Slot>, Vec<f64>) {
    let mut result: Vec<Slot> = Vec::with_capacity(slots.len());
    let mut result_lost: Vec<f64> = Vec::with_capacity(slots.len());
    for (at, slot) in slots.iter().enumerate() {
        let index = coarser(slot.index, from, to);
        let own_lost = lost.get(at).copied().unwrap_or(0.0);
        match (result.last_mut(), result_lost.last_mut()) {
            (Some(last), Some(last_lost)) if last.index == index => {
                let mut total = Compensated(last.count, *last_lost);
                total.add(slot.count);
                total.add(own_lost);
                (last.count, *last_lost) = (total.0, total.1);
            }
            _ => {
                result.push(Slot {
                    index,
                    count: slot.count,
                });
                result_lost.push(own_lost);
            }
        }
    }
    (result, result_lost)
}

/// Without the leading buckets that end within the zero bucket.
pub(super) fn above(slots: Vec<Slot>, schema: i32, threshold: f64) -> Vec<Slot> {
    let inside = slots
        .iter()
        .take_while(|slot| exponential_bound(slot.index, schema) <= threshold)
        .count();
    if inside == 0 {
        slots
    } else {
        slots[inside..].to_vec()
    }
}

fn merge_slots(own: &mut Vec<Slot>, other: &[Slot], sign: f64) {
    if own.len() == other.len() && own.iter().zip(other).all(|(a, b)| a.index == b.index) {
        for (a, b) in own.iter_mut().zip(other) {
            a.count += sign * b.count;
        }
        return;
    }
    let mut result = Vec::with_capacity(own.len() + other.len());
    let mut mine = own.iter().copied().peekable();
    for slot in other {
        while let Some(next) = mine.next_if(|m| m.index < slot.index) {
            result.push(next);
        }
        let before = mine.next_if(|m| m.index == slot.index);
        let count = match before {
            Some(before) => before.count + sign * slot.count,
            None => sign * slot.count,
        };
        result.push(Slot {
            index: slot.index,
            count,
        });
    }
    result.extend(mine);
    *own = result;
}
