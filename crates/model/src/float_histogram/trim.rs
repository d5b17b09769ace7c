//! Cutting a histogram off above or below a value.

use super::{Bucket, FloatHistogram};

/// The value that stands for what is left of a bucket.
fn midpoint(lower: f64, upper: f64, is_positive: bool, is_linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if is_linear => f64::midpoint(lower, upper),
        (false, false) => {
            let mean = (lower * upper).abs().sqrt();
            if is_positive { mean } else { -mean }
        }
    }
}

/// What is kept of a bucket that the cut goes through: its count and the value it stands for.
fn cut(
    bucket: &Bucket,
    at: f64,
    keeps_lower: bool,
    is_positive: bool,
    is_linear: bool,
) -> (f64, f64) {
    if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
        return cut_infinite(bucket, at, keeps_lower);
    }
    let below = if at <= bucket.lower {
        0.0
    } else if at >= bucket.upper {
        bucket.count
    } else {
        bucket.count * bucket.fraction_below(at, is_linear)
    };
    if keeps_lower {
        (below, midpoint(bucket.lower, at, is_positive, is_linear))
    } else {
        let value = midpoint(at, bucket.upper, is_positive, is_linear);
        (bucket.count - below, value)
    }
}

fn cut_infinite(bucket: &Bucket, at: f64, keeps_lower: bool) -> (f64, f64) {
    let finite = |value: f64| if value.is_infinite() { 0.0 } else { value };
    let (lower, upper, count) = (bucket.lower, bucket.upper, bucket.count);
    match (lower == f64::NEG_INFINITY, keeps_lower) {
        (true, true) if at >= upper => (count, 0.0),
        (true, true) if at > 0.0 && upper > 0.0 && upper != f64::INFINITY => {
            (count * at / upper, at / 2.0)
        }
        (true, true) if upper <= 0.0 => (count, at),
        (true, true) => (0.0, finite(upper)),
        (true, false) if at <= lower => (count, 0.0),
        (true, false) if at >= 0.0 && upper > at && upper != f64::INFINITY => {
            (count * (1.0 - at / upper), f64::midpoint(at, upper))
        }
        (true, false) => (0.0, finite(upper)),
        (false, false) if at >= lower => (count, at),
        (false, _) => (0.0, finite(lower)),
    }
}

fn cut_zero(zero: &Bucket, at: f64, keeps_lower: bool, sides: (bool, bool)) -> (f64, f64) {
    let (mut lower, mut upper) = (zero.lower, zero.upper);
    match sides {
        (true, false) => upper = 0.0,
        (false, true) => lower = 0.0,
        _ => {}
    }
    let whole = (zero.count, f64::midpoint(lower, upper));
    match (at <= lower, at >= upper, keeps_lower) {
        (true, _, true) | (false, true, false) => (0.0, 0.0),
        (true, _, false) | (false, true, true) => whole,
        (false, false, true) => (
            zero.count * ((at - lower) / (upper - lower)),
            f64::midpoint(lower, at),
        ),
        (false, false, false) => (
            zero.count * ((upper - at) / (upper - lower)),
            f64::midpoint(at, upper),
        ),
    }
}

impl FloatHistogram {
    /// Drops the observations above (`keeps_lower`) or below `at`, estimated where the cut goes
    /// through a bucket. Count and sum are estimated anew when anything was dropped.
    pub fn trim(&mut self, at: f64, keeps_lower: bool) {
        let is_linear = self.has_custom_buckets();
        let (mut count, mut sum) = (0.0, 0.0);
        let mut was_trimmed = false;
        let mut has = [false, false];
        for (side, has) in has.iter_mut().enumerate() {
            let is_positive = side == 0;
            let slots = if is_positive {
                self.positive.len()
            } else {
                self.negative.len()
            };
            for place in 0..slots {
                let bucket = if is_positive {
                    self.positive_bucket(self.positive[place])
                } else {
                    self.negative_bucket(self.negative[place])
                };
                if bucket.count == 0.0 {
                    continue;
                }
                *has = true;
                let (is_inside, is_outside) = if keeps_lower {
                    (bucket.upper <= at, bucket.lower >= at || at.is_nan())
                } else {
                    (bucket.lower >= at, bucket.upper <= at || at.is_nan())
                };
                let (kept, value) = if is_inside {
                    let value = midpoint(bucket.lower, bucket.upper, is_positive, is_linear);
                    (bucket.count, value)
                } else if is_outside {
                    (0.0, 0.0)
                } else {
                    cut(&bucket, at, keeps_lower, is_positive, is_linear)
                };
                count += kept;
                sum += value * kept;
                if kept != bucket.count {
                    was_trimmed = true;
                    let slots = if is_positive {
                        &mut self.positive
                    } else {
                        &mut self.negative
                    };
                    slots[place].count = kept;
                }
            }
        }
        if self.zero_count > 0.0 {
            let sides = (has[1], has[0]);
            let (kept, value) = cut_zero(&self.zero_bucket(), at, keeps_lower, sides);
            was_trimmed |= kept != self.zero_count;
            self.zero_count = kept;
            count += kept;
            sum += value * kept;
        }
        if was_trimmed {
            self.count = count;
            self.sum = sum;
            self.compact();
        }
    }
}
