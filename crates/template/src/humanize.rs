//! Numbers, durations and times as people read them, in the forms of Prometheus' templates.

use crate::{Value, sprintf};

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];
const BINARY: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];

fn short(value: f64) -> String {
    sprintf("%.4g", &[Value::Float(value)])
}

/// Divides until the number is short; gives the prefix that says how often.
fn reduced(mut value: f64, base: f64, prefixes: &[&'static str]) -> (f64, &'static str) {
    let mut prefix = "";
    for next in prefixes {
        if value.abs() < base {
            break;
        }
        prefix = next;
        value /= base;
    }
    (value, prefix)
}

fn enlarged(mut value: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in SMALL {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    (value, prefix)
}

/// `1.234k`, `5m`.
pub fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return short(value);
    }
    let (value, prefix) = if value.abs() >= 1.0 {
        reduced(value, 1000.0, &LARGE)
    } else {
        enlarged(value)
    };
    short(value) + prefix
}

/// `1.5Mi`.
pub fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return short(value);
    }
    let (value, prefix) = reduced(value, 1024.0, &BINARY);
    short(value) + prefix
}

/// `1d 2h 3m 4s`, `12.5ms`.
pub fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return short(value);
    }
    if value == 0.0 {
        return short(value) + "s";
    }
    if value.abs() < 1.0 {
        let (value, prefix) = enlarged(value);
        return format!("{}{prefix}s", short(value));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let value = value.abs();
    let whole = value as i64;
    let (seconds, minutes) = (whole % 60, whole / 60 % 60);
    let (hours, days) = (whole / 3600 % 24, whole / 86_400);
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        format!("{sign}{}s", short(value))
    }
}

/// `12.34%` of `0.1234`.
pub fn humanize_percentage(value: f64) -> String {
    short(value * 100.0) + "%"
}

/// The time of seconds since 1970; the error is Prometheus'. Its resolution is a millisecond.
pub fn time(seconds: f64) -> Result<Value, String> {
    if !seconds.is_finite() {
        return Err("value is NaN or Inf".to_owned());
    }
    let ns = seconds * 1e9;
    if ns > i64::MAX as f64 || ns < i64::MIN as f64 {
        return Err(format!(
            "{} cannot be represented as a nanoseconds timestamp since it overflows int64",
            Value::Float(seconds)
        ));
    }
    Ok(Value::Time(ns as i64 / 1_000_000 * 1_000_000, 0))
}

/// `2026-11-24 10:00:00 +0000 UTC`.
pub fn humanize_timestamp(seconds: f64) -> Result<String, String> {
    if !seconds.is_finite() {
        return Ok(short(seconds));
    }
    Ok(time(seconds)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(humanize(1_234_567.0), "1.235M");
        assert_eq!(humanize(0.00123), "1.23m");
        assert_eq!(humanize(0.0), "0");
        assert_eq!(humanize(f64::INFINITY), "+Inf");
        assert_eq!(humanize(1e30), "1e+06Y");
        assert_eq!(humanize_1024(1_048_576.0), "1Mi");
        assert_eq!(humanize_1024(0.5), "0.5");
        assert_eq!(humanize_percentage(-0.12345), "-12.35%");
    }

    #[test]
    fn durations_and_times() {
        for (seconds, want) in [
            (0.0, "0s"),
            (1.0, "1s"),
            (12.345_678, "12.35s"),
            (60.0, "1m 0s"),
            (3600.0, "1h 0m 0s"),
            (-86_400.0, "-1d 0h 0m 0s"),
            (0.1, "100ms"),
            (0.000_05, "50us"),
        ] {
            assert_eq!(humanize_duration(seconds), want);
        }
        assert_eq!(
            humanize_timestamp(1_435_065_584.128).unwrap(),
            "2015-06-23 13:19:44.128 +0000 UTC"
        );
        assert!(humanize_timestamp(1e11).is_err());
    }
}
