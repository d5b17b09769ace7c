//! Durations as Go reads and writes them.

use crate::quote;

const NS_UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3_600e9),
];

/// A duration in ns as Go's `time.ParseDuration` reads it (`1h30m`, `-1.5s`, `0`); the error is
/// Go's.
pub fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (is_negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let whole_len = digits_len(rest);
        let whole = &rest[..whole_len];
        rest = &rest[whole_len..];
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            let len = digits_len(after);
            fraction = &after[..len];
            rest = &after[len..];
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_len = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = &rest[..unit_len];
        rest = &rest[unit_len..];
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let Some((_, unit_ns)) = NS_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!(
                "time: unknown unit {} in duration {}",
                quote(unit),
                quote(text)
            ));
        };
        let count: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        let part: f64 = format!("0.{fraction}0").parse().unwrap_or(0.0);
        total = count
            .checked_mul(*unit_ns as i128)
            .and_then(|ns| ns.checked_add((part * unit_ns) as i128))
            .and_then(|ns| ns.checked_add(total))
            .filter(|ns| *ns <= i128::from(i64::MAX))
            .ok_or_else(invalid)?;
    }
    let ns = total as i64;
    Ok(if is_negative { -ns } else { ns })
}

fn digits_len(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len())
}

/// A duration of so many ns as Go's `Duration.String` writes it: `1h2m3.5s`, `1.5ms`, `0s`.
pub fn text(ns: i64) -> String {
    let size = ns.unsigned_abs();
    let sign = if ns < 0 { "-" } else { "" };
    let fraction = |whole: u64, rest: u64, digits: usize| {
        let text = format!("{whole}.{rest:0digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match size {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", fraction(size / 1_000, size % 1_000, 3)),
        1_000_000..1_000_000_000 => {
            format!(
                "{sign}{}ms",
                fraction(size / 1_000_000, size % 1_000_000, 6)
            )
        }
        _ => {
            let (whole, rest) = (size / 1_000_000_000, size % 1_000_000_000);
            let seconds = fraction(whole % 60, rest, 9);
            match (whole / 3600, whole / 60 % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_what_go_does() {
        assert_eq!(parse("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(parse("-1.5s"), Ok(-1_500_000_000));
        assert_eq!(parse("87us"), Ok(87_000));
        assert!(parse("5").unwrap_err().contains("missing unit"));
        assert!(parse("5d").unwrap_err().contains("unknown unit"));
        assert!(parse("").is_err());
        assert_eq!(text(5_400_000_000_000), "1h30m0s");
        assert_eq!(text(3_600_500_000_000), "1h0m0.5s");
        assert_eq!(text(1_500_000), "1.5ms");
        assert_eq!(text(-75_000_000_000), "-1m15s");
        assert_eq!(text(0), "0s");
    }
}
