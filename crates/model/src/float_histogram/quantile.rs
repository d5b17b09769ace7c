//! Quantiles and fractions of native histograms, and of classic ones (cumulative counts per
//! upper bound).

use super::{Bucket, FloatHistogram};

/// Observations that are NaN are in no bucket; what that did to a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NanEffect {
    /// The quantile lies among them.
    QuantileIsNan,
    /// The quantile is higher than that of the numbers.
    QuantileIsHigher,
    /// They are in no fraction.
    NotInFraction,
}

/// A cumulative classic histogram went down from one bucket to the next and was corrected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forced {
    /// Least upper bound of a corrected bucket.
    pub min_bucket: f64,
    /// Greatest upper bound of a corrected bucket.
    pub max_bucket: f64,
    /// Greatest correction.
    pub max_difference: f64,
}

impl FloatHistogram {
    /// The φ-quantile, interpolated within its bucket.
    pub fn quantile(&self, phi: f64) -> (f64, Option<NanEffect>) {
        if phi < 0.0 {
            return (f64::NEG_INFINITY, None);
        }
        if phi > 1.0 {
            return (f64::INFINITY, None);
        }
        if self.count == 0.0 || phi.is_nan() {
            return (f64::NAN, None);
        }
        // From the nearer end, unless NaN observations are missing at the upper one.
        let is_forward = self.sum.is_nan() || phi < 0.5;
        let mut rank = if is_forward { phi } else { 1.0 - phi } * self.count;
        let mut buckets = self.buckets();
        let mut next = || {
            if is_forward {
                buckets.next()
            } else {
                buckets.next_back()
            }
        };
        let mut bucket = Bucket {
            lower: 0.0,
            upper: 0.0,
            has_lower: false,
            has_upper: false,
            count: 0.0,
        };
        let mut count = 0.0;
        while let Some(candidate) = next() {
            bucket = candidate;
            if bucket.count == 0.0 {
                continue;
            }
            count += bucket.count;
            if count >= rank {
                break;
            }
        }
        if self.has_custom_buckets() {
            if bucket.lower == f64::NEG_INFINITY {
                if bucket.upper <= 0.0 {
                    return (bucket.upper, None);
                }
                bucket.lower = 0.0;
            } else if bucket.upper == f64::INFINITY {
                return (bucket.lower, None);
            }
        } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
            self.narrow_zero(&mut bucket);
        }
        count = count.min(self.count);
        if count < rank {
            return if self.sum.is_nan() {
                (f64::NAN, Some(NanEffect::QuantileIsNan))
            } else {
                (bucket.upper, None)
            };
        }
        rank = if is_forward {
            rank - (count - bucket.count)
        } else {
            count - rank
        };
        let mut effect = None;
        if self.sum.is_nan() {
            let rest: f64 = std::iter::from_fn(next).map(|bucket| bucket.count).sum();
            if count + rest < self.count {
                effect = Some(NanEffect::QuantileIsHigher);
            }
        }
        let fraction = rank / bucket.count;
        if self.has_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
            let value = bucket.lower + (bucket.upper - bucket.lower) * fraction;
            return (value, effect);
        }
        let (low, high) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        let value = if bucket.lower > 0.0 {
            (low + (high - low) * fraction).exp2()
        } else {
            -(high + (low - high) * (1.0 - fraction)).exp2()
        };
        (value, effect)
    }

    /// Without observations on one side, the zero bucket lies on the other.
    fn narrow_zero(&self, bucket: &mut Bucket) {
        match (self.negative.is_empty(), self.positive.is_empty()) {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
    }

    /// The share of observations from `lower` to `upper`.
    pub fn fraction(&self, lower: f64, upper: f64) -> (f64, Option<NanEffect>) {
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return (f64::NAN, None);
        }
        if lower >= upper {
            return (0.0, None);
        }
        let (mut count, mut rank) = (0.0, 0.0);
        let (mut lower_rank, mut upper_rank) = (None, None);
        let mut buckets = self.buckets();
        for mut bucket in buckets.by_ref() {
            count += bucket.count;
            let is_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
            if is_zero {
                self.narrow_zero(&mut bucket);
            }
            let is_linear = self.has_custom_buckets() || is_zero;
            let rank_at = |value: f64| {
                if bucket.lower >= value {
                    Some(rank)
                } else if bucket.upper > value {
                    Some(if is_linear && bucket.lower == f64::NEG_INFINITY {
                        bucket.count
                    } else {
                        rank + bucket.count * bucket.fraction_below(value, is_linear)
                    })
                } else {
                    None
                }
            };
            lower_rank = lower_rank.or_else(|| rank_at(lower));
            upper_rank = upper_rank.or_else(|| rank_at(upper));
            if lower_rank.is_some() && upper_rank.is_some() {
                break;
            }
            rank += bucket.count;
        }
        let mut effect = None;
        if self.sum.is_nan() {
            count += buckets.map(|bucket| bucket.count).sum::<f64>();
            if count < self.count {
                effect = Some(NanEffect::NotInFraction);
            }
        } else {
            count = self.count;
        }
        let within = |rank: Option<f64>| rank.filter(|r| *r <= count).unwrap_or(count);
        let (lower_rank, upper_rank) = (within(lower_rank), within(upper_rank));
        ((upper_rank - lower_rank) / self.count, effect)
    }
}

/// Relative differences between counts below this are rounding.
const TOLERANCE: f64 = 1e-12;

/// Sorts by upper bound and joins equal bounds.
fn in_order(buckets: &mut Vec<(f64, f64)>) {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        if is_same {
            kept.1 += next.1;
        }
        is_same
    });
}

fn make_monotonic(buckets: &mut [(f64, f64)]) -> Option<Forced> {
    let mut forced: Option<Forced> = None;
    let mut before = buckets[0].1;
    for (bound, count) in &mut buckets[1..] {
        let difference = (before - *count).abs();
        let total = before.abs() + count.abs();
        let is_near = if before == 0.0 || *count == 0.0 || total < f64::MIN_POSITIVE {
            difference < TOLERANCE * f64::MIN_POSITIVE
        } else {
            difference / total.min(f64::MAX) < TOLERANCE
        };
        if *count == before {
            continue;
        }
        if is_near {
            *count = before;
        } else if *count < before {
            let forced = forced.get_or_insert(Forced {
                min_bucket: f64::INFINITY,
                max_bucket: f64::NEG_INFINITY,
                max_difference: 0.0,
            });
            forced.min_bucket = forced.min_bucket.min(*bound);
            forced.max_bucket = forced.max_bucket.max(*bound);
            forced.max_difference = forced.max_difference.max(before - *count);
            *count = before;
        } else {
            before = *count;
        }
    }
    forced
}

/// The φ-quantile of a classic histogram given as upper bounds and cumulative counts.
pub fn bucket_quantile(phi: f64, buckets: &mut Vec<(f64, f64)>) -> (f64, Option<Forced>) {
    if phi.is_nan() || buckets.is_empty() {
        return (f64::NAN, None);
    }
    if phi < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if phi > 1.0 {
        return (f64::INFINITY, None);
    }
    in_order(buckets);
    let last = buckets.len() - 1;
    if buckets[last].0 != f64::INFINITY {
        return (f64::NAN, None);
    }
    let forced = make_monotonic(buckets);
    let observations = buckets[last].1;
    if last == 0 || observations == 0.0 || observations.is_nan() {
        return (f64::NAN, forced);
    }
    let mut rank = phi * observations;
    let at = buckets[..last].partition_point(|(_, count)| *count < rank);
    let value = if at == last {
        buckets[last - 1].0
    } else if at == 0 && buckets[0].0 <= 0.0 {
        buckets[0].0
    } else {
        let (end, mut count) = buckets[at];
        let mut start = 0.0;
        if let Some((bound, below)) = at.checked_sub(1).map(|before| buckets[before]) {
            start = bound;
            count -= below;
            rank -= below;
        }
        start + (end - start) * (rank / count)
    };
    (value, forced)
}

/// The share of observations of a classic histogram from `lower` to `upper`.
pub fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<(f64, f64)>) -> f64 {
    in_order(buckets);
    let Some(&(last, count)) = buckets.last() else {
        return f64::NAN;
    };
    if last != f64::INFINITY || count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut rank = 0.0;
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut start = if buckets[0].0 <= 0.0 {
        f64::NEG_INFINITY
    } else {
        0.0
    };
    for (end, cumulative) in buckets.iter().copied() {
        let rank_at = |value: f64| {
            if start >= value {
                Some(rank)
            } else if end > value {
                Some(if start == f64::NEG_INFINITY {
                    cumulative
                } else {
                    rank + (cumulative - rank) * (value - start) / (end - start)
                })
            } else {
                None
            }
        };
        lower_rank = lower_rank.or_else(|| rank_at(lower));
        upper_rank = upper_rank.or_else(|| rank_at(upper));
        rank = cumulative;
        start = end;
    }
    let within = |rank: Option<f64>| rank.filter(|r| *r <= count).unwrap_or(count);
    (within(upper_rank) - within(lower_rank)) / count
}
