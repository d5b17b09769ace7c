//! Durations as Prometheus writes them: `1d12h`, `5m`, `1h30m15s`, `250ms`, `0`.
//!
//! Units come from long to short, each at most once, without spaces, signs or fractions. A day
//! is always 24 hours and a year 365 days. The resolution is a millisecond and the longest is
//! about 292 years, what Go's nanosecond durations hold, so that a file that Prometheus refuses
//! is refused here.

use std::time::Duration;

/// Longest duration taken, in ms.
pub const DURATION_MS_MAX: u64 = i64::MAX as u64 / 1_000_000;

/// Units from long to short: name, ms, and whether it is printed only for whole multiples.
const UNITS: [(&str, u64, bool); 7] = [
    ("y", 365 * 24 * 3_600_000, true),
    ("w", 7 * 24 * 3_600_000, true),
    ("d", 24 * 3_600_000, false),
    ("h", 3_600_000, false),
    ("m", 60_000, false),
    ("s", 1_000, false),
    ("ms", 1, false),
];

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// There is no text.
    #[error("empty duration; write one like 30s, 5m or 1d12h")]
    Empty,
    /// It does not follow the form.
    #[error(
        "{0:?} is no duration: write whole numbers with units y, w, d, h, m, s, ms, \
         from long to short, like 30s, 5m or 1d12h"
    )]
    Form(String),
    /// It is longer than [`DURATION_MS_MAX`].
    #[error("duration {0:?} is longer than 292 years")]
    TooLong(String),
}

/// Reads a duration.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let shown = || text.chars().take(64).collect::<String>();
    let form = || DurationError::Form(shown());
    let too_long = || DurationError::TooLong(shown());
    let (mut rest, mut units, mut total_ms) = (text, &UNITS[..], 0_u64);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len()
            - tail
                .trim_start_matches(|c: char| c.is_ascii_lowercase())
                .len();
        let (unit, tail) = tail.split_at(letters);
        let at = units.iter().position(|u| u.0 == unit);
        let (Some(at), false) = (at, number.is_empty()) else {
            return Err(form());
        };
        let count: u64 = number.parse().map_err(|_| too_long())?;
        total_ms = count
            .checked_mul(units[at].1)
            .and_then(|ms| ms.checked_add(total_ms))
            .filter(|ms| *ms <= DURATION_MS_MAX)
            .ok_or_else(too_long)?;
        units = &units[at + 1..];
        rest = tail;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration so that [`parse_duration`] reads it, cut to whole ms.
pub fn format_duration(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, unit_ms, whole_only) in UNITS {
        let count = rest_ms / unit_ms;
        if count == 0 || (whole_only && rest_ms % unit_ms != 0) {
            continue;
        }
        text.push_str(&count.to_string());
        text.push_str(unit);
        rest_ms -= count * unit_ms;
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_add_up() {
        let ms = |text| parse_duration(text).unwrap().as_millis();
        assert_eq!(ms("0"), 0);
        assert_eq!(ms("0s"), 0);
        assert_eq!(ms("5m"), 300_000);
        assert_eq!(ms("1d12h"), 36 * 3_600_000);
        assert_eq!(
            ms("1y1w1d1h1m1s1ms"),
            31_536_000_000 + 604_800_000 + 90_061_001
        );
        assert_eq!(ms("10ms"), 10);
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "1", "5", "-1h", "1.5h", "1h 5m", "5m1h", "1h1h", "h", "1µs", "1H", " 1h", "1hm",
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(matches!(error, DurationError::Form(_)), "{text}: {error}");
        }
        assert_eq!(parse_duration(""), Err(DurationError::Empty));
        for text in ["293y", "99999999999999999999s", "18446744073709551615y"] {
            let error = parse_duration(text).unwrap_err();
            assert!(
                matches!(error, DurationError::TooLong(_)),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn years_and_weeks_are_printed_only_when_whole() {
        for (text, printed) in [
            ("7d", "1w"),
            ("8d", "8d"),
            ("365d", "1y"),
            ("366d", "366d"),
            ("90m", "1h30m"),
            ("1500ms", "1s500ms"),
            ("0", "0s"),
        ] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), printed);
        }
    }

    proptest! {
        #[test]
        fn round_trips(ms in 0..=DURATION_MS_MAX) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_answered(text in "[0-9ywdhms. é-]{0,24}") {
            if let Ok(duration) = parse_duration(&text) {
                prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            }
        }
    }
}
