//! Whether a counter histogram was reset between two samples.

use super::merge::{above, reduced};
use super::{FloatHistogram, Slot, custom};
use crate::histogram::ResetHint;

impl FloatHistogram {
    /// Whether this histogram cannot be the continuation of the one before: it says so, or a
    /// count went down, or the buckets became finer, the zero bucket narrower.
    pub fn is_reset_after(&self, previous: &Self) -> bool {
        match self.reset_hint {
            ResetHint::Yes => return true,
            ResetHint::No => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.has_custom_buckets() {
            if !previous.has_custom_buckets() {
                return true;
            }
            if self.custom_bounds != previous.custom_bounds {
                let shared = custom::shared_bounds(&self.custom_bounds, &previous.custom_bounds);
                let now = custom::remap(&self.positive, &self.custom_bounds, &shared);
                let before = custom::remap(&previous.positive, &previous.custom_bounds, &shared);
                return went_down(&now, &before);
            }
            return went_down(&self.positive, &previous.positive);
        }
        if previous.has_custom_buckets()
            || self.schema > previous.schema
            || self.zero_threshold < previous.zero_threshold
        {
            return true;
        }
        let (zero_before, threshold, _) =
            previous.zero_count_within(self.zero_threshold, &[], &[], 0.0);
        if threshold != self.zero_threshold || self.zero_count < zero_before {
            return true;
        }
        let outside = |slots: Vec<Slot>| above(slots, self.schema, self.zero_threshold);
        let before = |slots: &[Slot]| outside(reduced(slots, previous.schema, self.schema));
        let now = |slots: &[Slot]| outside(slots.to_vec());
        went_down(&now(&self.positive), &before(&previous.positive))
            || went_down(&now(&self.negative), &before(&previous.negative))
    }

    /// The hint that a store of Prometheus gives a sample that follows `previous`: that it was
    /// not reset, where that can be told, else unknown.
    pub fn hint_after(&self, previous: Option<&Self>) -> ResetHint {
        if self.reset_hint == ResetHint::Gauge {
            return ResetHint::Gauge;
        }
        let continues = previous.is_some_and(|previous| {
            previous.reset_hint != ResetHint::Gauge
                && self.reset_hint != ResetHint::Yes
                && self.schema == previous.schema
                && self.zero_threshold == previous.zero_threshold
                && self.custom_bounds == previous.custom_bounds
                && !Self {
                    reset_hint: ResetHint::Unknown,
                    ..self.clone()
                }
                .is_reset_after(previous)
        });
        if continues {
            ResetHint::No
        } else {
            ResetHint::Unknown
        }
    }
}

/// Whether a bucket of `before` has fewer observations in `now`.
fn went_down(now: &[Slot], before: &[Slot]) -> bool {
    let mut now = now.iter().peekable();
    before.iter().any(|slot| {
        while now.next_if(|n| n.index < slot.index).is_some() {}
        match now.peek() {
            Some(n) if n.index == slot.index => n.count < slot.count,
            _ => slot.count != 0.0,
        }
    })
}
