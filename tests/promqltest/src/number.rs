//! Numbers and durations in scripts.

use kittiwake_promql::text::parse_duration;

/// A number as Go reads it in a script.
pub(crate) fn number(text: &str) -> Option<f64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    if unsigned.len() + 1 < text.len() || unsigned.is_empty() {
        return None;
    }
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    let lower = unsigned.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return Some(sign * i64::from_str_radix(hex, 16).ok()? as f64);
    }
    if !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && !matches!(lower.as_str(), "inf" | "infinity" | "nan")
    {
        return None;
    }
    lower.parse::<f64>().ok().map(|value| sign * value)
}

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
