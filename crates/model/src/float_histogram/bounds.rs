//! Where buckets lie, and how much of one lies below a value.

use std::sync::LazyLock;

use super::{FloatHistogram, Slot};
use crate::histogram::CUSTOM_BUCKETS_SCHEMA;

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound itself belongs to it.
    pub has_lower: bool,
    /// Whether the upper bound itself belongs to it.
    pub has_upper: bool,
    /// Observations in it.
    pub count: f64,
}

impl Bucket {
    /// The share of the bucket below `value`, by even distribution over the bounds or over
    /// their logarithms.
    pub fn fraction_below(&self, value: f64, is_linear: bool) -> f64 {
        if is_linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let (low, high) = (self.lower.abs().log2(), self.upper.abs().log2());
        let at = value.abs().log2();
        if value > 0.0 {
            (at - low) / (high - low)
        } else {
            1.0 - (at - high) / (low - high)
        }
    }
}

/// Significands of the bounds of schema 8 in [0.5, 1); those of coarser schemas are among them.
static SIGNIFICANDS: LazyLock<[f64; 256]> = LazyLock::new(|| std::array::from_fn(significand));

/// A significand to the last bit of Prometheus' own, which are not the nearest to the powers
/// that they stand for: each finer schema's are its coarser neighbour's times a root of two.
fn significand(index: usize) -> f64 {
    let (mut significand, mut root) = (0.5, 2_f64);
    for schema in 1..=8 {
        root = root.sqrt();
        if index & (256 >> schema) == 0 {
            continue;
        }
        significand = if schema == 1 {
            1.0 / root
        } else {
            significand * root
        };
    }
    significand
}

/// `significand * 2^exponent`, in steps that do not overflow on the way.
fn scaled(significand: f64, exponent: i64) -> f64 {
    let exponent = exponent.clamp(-2200, 2200) as i32;
    let half = exponent / 2;
    significand * 2_f64.powi(half) * 2_f64.powi(exponent - half)
}

/// The upper bound of an exponential bucket of positive values.
pub(super) fn exponential_bound(index: i32, schema: i32) -> f64 {
    let index = i64::from(index);
    if schema < 0 {
        let exponent = index << (-schema).min(16);
        return if exponent == 1024 {
            f64::MAX
        } else {
            scaled(1.0, exponent)
        };
    }
    let schema = schema.min(8) as u32;
    let within = index & ((1 << schema) - 1);
    let significand = SIGNIFICANDS[(within << (8 - schema)) as usize];
    let exponent = (index >> schema) + 1;
    if significand == 0.5 && exponent == 1025 {
        return f64::MAX;
    }
    scaled(significand, exponent)
}

/// The upper bound of a bucket; that of the bucket before is the lower one.
fn bound(index: i32, schema: i32, custom: &[f64]) -> f64 {
    if schema != CUSTOM_BUCKETS_SCHEMA {
        return exponential_bound(index, schema);
    }
    match usize::try_from(index) {
        Err(_) => f64::NEG_INFINITY,
        Ok(index) => custom.get(index).copied().unwrap_or(f64::INFINITY),
    }
}

impl FloatHistogram {
    pub(super) fn positive_bucket(&self, slot: Slot) -> Bucket {
        let bound = |index| bound(index, self.schema, &self.custom_bounds);
        let (lower, upper) = (bound(slot.index.wrapping_sub(1)), bound(slot.index));
        let is_custom = self.has_custom_buckets();
        Bucket {
            lower,
            upper,
            has_lower: is_custom && slot.index == 0,
            has_upper: true,
            count: slot.count,
        }
    }

    pub(super) fn negative_bucket(&self, slot: Slot) -> Bucket {
        Bucket {
            lower: -exponential_bound(slot.index, self.schema),
            upper: -exponential_bound(slot.index.wrapping_sub(1), self.schema),
            has_lower: true,
            has_upper: false,
            count: slot.count,
        }
    }

    pub(super) fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            has_lower: true,
            has_upper: true,
            count: self.zero_count,
        }
    }

    /// All buckets in ascending order, empty ones included, the zero bucket when it is not
    /// empty. Buckets that reach into the zero bucket begin where it ends.
    pub fn buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        let threshold = self.zero_threshold;
        let negative = self.negative.iter().rev().map(move |slot| {
            let mut bucket = self.negative_bucket(*slot);
            if bucket.upper < 0.0 && bucket.upper > -threshold {
                bucket.upper = -threshold;
            }
            bucket
        });
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        let positive = self.positive.iter().map(move |slot| {
            let mut bucket = self.positive_bucket(*slot);
            if bucket.lower > 0.0 && bucket.lower < threshold {
                bucket.lower = threshold;
            }
            bucket
        });
        negative.chain(zero).chain(positive)
    }
}
