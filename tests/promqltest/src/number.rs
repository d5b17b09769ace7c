//! Numbers and durations in scripts.

use kittiwake_promql::text::parse_duration;

/// A duration in ms.
pub(crate) fn duration_ms(text: &str) -> Result<i64, String> {
    parse_duration(text).map_err(|error| format!("invalid duration {text:?}: {error}"))
}

/// Whether two numbers are equal up to a relative error of 1e-6.
pub(crate) fn is_near(a: f64, b: f64) -> bool {
    const EPSILON: f64 = 1e-6;
    if kittiwake_model::is_stale_nan(a) || kittiwake_model::is_stale_nan(b) {
        return kittiwake_model::is_stale_nan(a) && kittiwake_model::is_stale_nan(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}
