//! The histograms of one group at one step.

use std::sync::Arc;

use kittiwake_model::FloatHistogram;
use kittiwake_model::float_histogram::HistogramSum;
use kittiwake_model::histogram::ResetHint;

use crate::{HistogramOperation, Note, Notes};

#[derive(Debug)]
pub(super) struct HistogramGroup {
    /// The sum, or the mean once a sum of it would overflow.
    sum: Option<HistogramSum>,
    count: f64,
    is_mean: bool,
    is_incremental: bool,
    /// Both kinds of buckets were seen: there is no result.
    pub(super) is_lost: bool,
    was_reset: bool,
    was_not_reset: bool,
}

impl HistogramGroup {
    pub(super) fn new(first: &Arc<FloatHistogram>, is_mean: bool) -> Self {
        let mut group = Self {
            sum: Some(HistogramSum::new(first.as_ref().clone())),
            count: 1.0,
            is_mean,
            is_incremental: false,
            is_lost: false,
            was_reset: false,
            was_not_reset: false,
        };
        group.see(first);
        group
    }

    fn see(&mut self, histogram: &FloatHistogram) {
        self.was_reset |= histogram.reset_hint == ResetHint::Yes;
        self.was_not_reset |= histogram.reset_hint == ResetHint::No;
    }

    pub(super) fn add(&mut self, histogram: &FloatHistogram, name: &str, notes: &mut Notes) {
        if self.is_lost {
            return;
        }
        self.see(histogram);
        self.count += 1.0;
        let Some(sum) = &mut self.sum else {
            return;
        };
        let result = if self.is_mean {
            add_to_mean(sum, histogram, self.count, &mut self.is_incremental)
        } else {
            sum.add(histogram)
        };
        match result {
            Ok(merged) if merged.bounds_reconciled => {
                notes.add(Note::BoundsReconciled(HistogramOperation::Aggregate));
            }
            Ok(_) => {}
            Err(_) => {
                notes.add(Note::MixedSchemas(name.to_owned()));
                self.is_lost = true;
            }
        }
    }

    pub(super) fn finish(self, notes: &mut Notes) -> Option<FloatHistogram> {
        if self.is_lost {
            return None;
        }
        if self.was_reset && self.was_not_reset {
            notes.add(Note::ResetsCollide(HistogramOperation::Aggregate));
        }
        let mut sum = self.sum?;
        if self.is_mean && !self.is_incremental {
            sum.divide(self.count);
        }
        let mut result = sum.finish();
        result.compact();
        Some(result)
    }
}

/// Adds the `count`th histogram to a mean that is kept as a sum while that does not overflow.
pub fn add_to_mean(
    sum: &mut HistogramSum,
    histogram: &FloatHistogram,
    count: f64,
    is_incremental: &mut bool,
) -> Result<
    kittiwake_model::float_histogram::Merged,
    kittiwake_model::float_histogram::IncompatibleSchemas,
> {
    if !*is_incremental {
        let mut next = sum.clone();
        let merged = next.add(histogram)?;
        if !next.has_overflow() {
            *sum = next;
            return Ok(merged);
        }
        *is_incremental = true;
        sum.divide(count - 1.0);
    }
    sum.scale((count - 1.0) / count);
    let mut share = histogram.clone();
    share.divide(count);
    sum.add(&share)
}
