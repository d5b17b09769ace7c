//! Native histograms: exponential buckets, or custom bounds, with integer or float counts.
//!
//! Counts are kept as absolute numbers per bucket; formats that store deltas convert at their
//! edge. A sample of either kind travels whole, so that what came in goes out again.

/// The schema of a histogram whose buckets have explicit bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// Whether a histogram's counter was reset since the sample before, as far as its sender knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetHint {
    /// Compare with the sample before.
    #[default]
    Unknown,
    /// It was reset.
    Yes,
    /// It was not reset.
    No,
    /// The histogram is a gauge: resets have no meaning.
    Gauge,
}

/// A run of neighbouring buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Gap to the span before; for the first span, the index of its first bucket.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// Counts of either kind, per bucket, absolute.
#[derive(Debug, Clone, PartialEq)]
pub enum Counts {
    /// Integer counts.
    Integer {
        /// Observations in all.
        count: u64,
        /// Observations in the zero bucket.
        zero: u64,
        /// Per positive bucket.
        positive: Vec<u64>,
        /// Per negative bucket.
        negative: Vec<u64>,
    },
    /// Float counts.
    Float {
        /// Observations in all.
        count: f64,
        /// Observations in the zero bucket.
        zero: f64,
        /// Per positive bucket.
        positive: Vec<f64>,
        /// Per negative bucket.
        negative: Vec<f64>,
    },
}

impl Counts {
    /// Whether they are floats.
    pub fn is_float(&self) -> bool {
        matches!(self, Self::Float { .. })
    }

    /// Observations in all.
    pub fn total(&self) -> f64 {
        match self {
            Self::Integer { count, .. } => *count as f64,
            Self::Float { count, .. } => *count,
        }
    }
}

/// One native histogram sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Resolution, -4 to 8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Breadth of the zero bucket.
    pub zero_threshold: f64,
    /// Sum of all observations.
    pub sum: f64,
    /// Where the positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Upper bounds, ascending, when the schema is [`CUSTOM_BUCKETS_SCHEMA`].
    pub custom_bounds: Vec<f64>,
    /// The counts.
    pub counts: Counts,
    /// What the sender knew of a reset.
    pub reset_hint: ResetHint,
}

/// Coarsest resolution of exponential buckets.
pub const SCHEMA_MIN: i32 = -4;
/// Finest one.
pub const SCHEMA_MAX: i32 = 8;

impl Histogram {
    /// Buckets that are listed.
    pub fn buckets_len(&self) -> usize {
        match &self.counts {
            Counts::Integer {
                positive, negative, ..
            } => positive.len() + negative.len(),
            Counts::Float {
                positive, negative, ..
            } => positive.len() + negative.len(),
        }
    }

    /// Joins exponential buckets until their resolution is not finer than `schema`. Custom ones
    /// stay.
    pub fn coarsen(&mut self, schema: i32) {
        if self.schema == CUSTOM_BUCKETS_SCHEMA || self.schema <= schema {
            return;
        }
        let halvings = (self.schema - schema.max(SCHEMA_MIN)).clamp(0, 31) as u32;
        let (above, below) = (&mut self.positive_spans, &mut self.negative_spans);
        match &mut self.counts {
            Counts::Integer {
                positive, negative, ..
            } => {
                joined(above, positive, halvings, u64::saturating_add);
                joined(below, negative, halvings, u64::saturating_add);
            }
            Counts::Float {
                positive, negative, ..
            } => {
                joined(above, positive, halvings, |a, b| a + b);
                joined(below, negative, halvings, |a, b| a + b);
            }
        }
        self.schema -= halvings as i32;
    }
}

/// Two buckets become one, so many times. A bucket's index is that of its upper bound.
fn joined<T: Copy>(
    spans: &mut Vec<Span>,
    counts: &mut Vec<T>,
    halvings: u32,
    add: impl Fn(T, T) -> T,
) {
    let (old_spans, old_counts) = (std::mem::take(spans), std::mem::take(counts));
    let mut next = 0_i64;
    let mut newest: Option<i64> = None;
    let mut rest = old_counts.into_iter();
    for span in old_spans {
        next += i64::from(span.offset);
        for count in rest.by_ref().take(span.length as usize) {
            let index = ((next - 1) >> halvings) + 1;
            next += 1;
            match (newest, counts.last_mut(), spans.last_mut()) {
                (Some(last), Some(into), _) if last == index => *into = add(*into, count),
                (Some(last), _, Some(run)) if last + 1 == index => {
                    run.length += 1;
                    counts.push(count);
                }
                _ => {
                    // The gap to the bucket behind the last one; of the first, its own index.
                    let gap = newest.map_or(index, |last| index - last - 1);
                    spans.push(Span {
                        offset: gap as i32,
                        length: 1,
                    });
                    counts.push(count);
                }
            }
            newest = Some(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::FloatHistogram;

    proptest! {
        #[test]
        fn buckets_join_as_those_of_calculations_do(
            counts in proptest::collection::vec((0_u32..4, 0_u64..9), 0..40),
            first in -40_i32..40,
            from in -3_i32..=8,
            by in 0_i32..6,
        ) {
            let mut histogram = Histogram {
                schema: from,
                zero_threshold: 0.0,
                sum: 1.0,
                positive_spans: Vec::new(),
                negative_spans: Vec::new(),
                custom_bounds: Vec::new(),
                counts: Counts::Integer {
                    count: counts.iter().map(|(_, n)| n).sum(),
                    zero: 0,
                    positive: counts.iter().map(|(_, n)| *n).collect(),
                    negative: Vec::new(),
                },
                reset_hint: ResetHint::Unknown,
            };
            for (at, (gap, _)) in counts.iter().enumerate() {
                match histogram.positive_spans.last_mut() {
                    Some(last) if *gap == 0 => last.length += 1,
                    _ => histogram.positive_spans.push(Span {
                        offset: if at == 0 { first } else { *gap as i32 },
                        length: 1,
                    }),
                }
            }
            let to = (from - by).max(SCHEMA_MIN);
            let before = FloatHistogram::from(&histogram);
            histogram.coarsen(to);
            prop_assert_eq!(histogram.schema, to);
            let after = FloatHistogram::from(&histogram);
            // Cumulative counts at the bounds that both have.
            let up_to = |h: &FloatHistogram, bound: f64| -> f64 {
                h.buckets().filter(|b| b.upper <= bound).map(|b| b.count).sum()
            };
            for bucket in after.buckets() {
                prop_assert_eq!(up_to(&after, bucket.upper), up_to(&before, bucket.upper));
            }
            prop_assert!(histogram.buckets_len() <= counts.len());
        }
    }
}
