//! Histograms as text, as Prometheus writes them.

use std::fmt::{self, Write as _};

use super::{Bucket, FloatHistogram};

/// A number in the fewest digits that tell it, as Go's `%g` writes it.
pub fn shortest(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    } else {
        value.to_string()
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char(if self.has_lower { '[' } else { '(' })?;
        write!(f, "{},{}", shortest(self.lower), shortest(self.upper))?;
        f.write_char(if self.has_upper { ']' } else { ')' })?;
        write!(f, ":{}", shortest(self.count))
    }
}

impl fmt::Display for FloatHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, sum) = (shortest(self.count), shortest(self.sum));
        write!(f, "{{count:{count}, sum:{sum}")?;
        let negative = self.negative.iter().rev();
        let negative = negative.map(|slot| self.negative_bucket(*slot));
        let zero = (self.zero_count != 0.0).then(|| self.zero_bucket());
        let positive = self.positive.iter().map(|slot| self.positive_bucket(*slot));
        for bucket in negative.chain(zero).chain(positive) {
            if bucket.count != 0.0 {
                write!(f, ", {bucket}")?;
            }
        }
        f.write_char('}')
    }
}
