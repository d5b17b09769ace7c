//! RFC 3339 times to nanoseconds and back, without a calendar library in the path of a line.

use kittiwake_model::calendar::{civil, days_from_civil, days_in_month};

const DAY_S: i64 = 86_400;

/// Nanoseconds since the Unix epoch of an RFC 3339 time with up to nine digits of fraction
/// (more are cut), in UTC (`Z`) or with an offset. `None` when it is none, or lies outside
/// what 64 bits of nanoseconds hold (1677 to 2262).
pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    let (seconds, nanos) = parts(text)?;
    // In 128 bits, since the earliest times pass below the range before the fraction is added.
    i64::try_from(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).ok()
}

/// As [`parse_rfc3339`] in milliseconds, of any year of four digits.
pub fn parse_rfc3339_ms(text: &[u8]) -> Option<i64> {
    let (seconds, nanos) = parts(text)?;
    Some(seconds * 1000 + nanos / 1_000_000)
}

/// Seconds since the epoch and nanoseconds beyond them.
fn parts(text: &[u8]) -> Option<(i64, i64)> {
    let year = digits(text.get(0..4)?)?;
    let month = digits(text.get(5..7)?)?;
    let day = digits(text.get(8..10)?)?;
    let hour = digits(text.get(11..13)?)?;
    let minute = digits(text.get(14..16)?)?;
    let second = digits(text.get(17..19)?)?;
    let marks = [text[4], text[7], text[13], text[16]];
    if marks != *b"--::" || !matches!(text[10], b'T' | b't' | b' ') {
        return None;
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = &text[19..];
    let mut nanos = 0;
    if let Some((b'.', fraction)) = rest.split_first() {
        let count = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        for place in 0..9 {
            let digit = fraction[..count].get(place).map_or(0, |b| b - b'0');
            nanos = nanos * 10 + i64::from(digit);
        }
        rest = &fraction[count..];
    }
    let offset_s = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 3600 + minutes * 60;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let seconds =
        days_from_civil(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second - offset_s;
    Some((seconds, nanos))
}

/// Appends a time as RFC 3339 in UTC, its fraction without trailing zeros, as Go's
/// RFC3339Nano has it.
pub fn push_rfc3339(out: &mut String, time_ns: i64) {
    use std::fmt::Write;
    let seconds = time_ns.div_euclid(1_000_000_000);
    let nanos = time_ns.rem_euclid(1_000_000_000);
    let (year, month, day) = civil(seconds.div_euclid(DAY_S));
    let of_day = seconds.rem_euclid(DAY_S);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
    if nanos > 0 {
        let _ = write!(out, ".{nanos:09}");
        out.truncate(out.trim_end_matches('0').len());
    }
    out.push('Z');
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2000-02-29T12:00:00.5Z", 951_825_600, 500_000_000),
            ("2024-03-01T00:00:00.000000001Z", 1_709_251_200, 1),
            ("2024-03-01T01:30:00+01:30", 1_709_251_200, 0),
            ("2024-02-29T19:00:00-05:00", 1_709_251_200, 0),
            ("1969-12-31T23:59:59Z", -1, 0),
        ] {
            let expected = seconds * 1_000_000_000 + nanos;
            assert_eq!(parse_rfc3339(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00Zx",
            "2024-01-01T00:00:00+1:00",
            "3000-01-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_time_round_trips(time_ns: i64) {
            let mut text = String::new();
            push_rfc3339(&mut text, time_ns);
            prop_assert_eq!(parse_rfc3339(text.as_bytes()), Some(time_ns), "{}", text);
        }

        #[test]
        fn any_bytes_parse_or_do_not(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_rfc3339(&bytes);
        }
    }
}
