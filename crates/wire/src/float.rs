//! Numbers as text, as Go writes and reads them: what exporters and their readers agree on.

/// The NaN that samples hold, by its bits. It is Prometheus' own, so that a NaN that came as
/// text is not taken for the mark of a stale series.
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Longest text of a number that is read, in bytes. The longest that Go writes has 24.
pub const NUMBER_BYTES_MAX: usize = 1024;

/// Appends the shortest text that reads back as `value`: plain from 0.0001 to below 1e6, else
/// with an exponent of at least two digits; `NaN`, `+Inf`, `-Inf`. This is Go's format `g` with
/// the precision -1, as `strconv` documents it.
pub fn push_float(out: &mut String, value: f64) {
    use std::fmt::Write;
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    // Writing to a String cannot fail, here and below.
    if value == 0.0 || (1e-4..1e6).contains(&value.abs()) {
        let _ = write!(out, "{value}");
        return;
    }
    let start = out.len();
    let _ = write!(out, "{value:e}");
    let Some(mark) = out[start..].find('e') else {
        return;
    };
    let exponent = out.split_off(start + mark + 1);
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent.as_str()),
    };
    let _ = write!(out, "{sign}{digits:0>2}");
}

/// Appends a bound of a bucket or a quantile as a label has it: as [`push_float`] does, with
/// `.0` behind a whole number.
pub fn push_label_float(out: &mut String, value: f64) {
    let start = out.len();
    push_float(out, value);
    let is_whole = out[start..]
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_whole {
        out.push_str(".0");
    }
}

/// Reads a decimal number, `NaN` or an infinity (in any case, `inf` or `infinity`). `None` for
/// anything else, and for a number that a double cannot hold.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    if let Some(value) = parse_short_integer(text) {
        return Some(value);
    }
    if text.len() > NUMBER_BYTES_MAX {
        return None;
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if value.is_nan() {
        // Go knows no sign of it.
        return matches!(text.first(), Some(b'n' | b'N'))
            .then_some(f64::from_bits(NORMAL_NAN_BITS));
    }
    let overflown = value.is_infinite() && text.iter().any(u8::is_ascii_digit);
    (!overflown).then_some(value)
}

/// Most samples are whole numbers that a double holds exactly.
#[inline]
fn parse_short_integer(text: &[u8]) -> Option<f64> {
    if text.is_empty() || text.len() > 15 {
        return None;
    }
    let mut value = 0_u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: f64) -> String {
        let mut out = String::from("x");
        push_float(&mut out, value);
        out.split_off(1)
    }

    #[test]
    fn numbers_as_go_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (100_000.0, "100000"),
            (123_456_789.0, "1.23456789e+08"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (999_999.0, "999999"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1.234e-7, "1.234e-07"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn numbers_as_go_reads_them() {
        for (text, expected) in [
            ("1", 1.0),
            ("0012", 12.0),
            ("+1.5e3", 1500.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("9007199254740993", 9_007_199_254_740_992.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e-400", 0.0),
        ] {
            assert_eq!(parse_float(text.as_bytes()), Some(expected), "{text}");
        }
        let nan = parse_float(b"nan").unwrap();
        assert_eq!(nan.to_bits(), NORMAL_NAN_BITS);
        for text in [
            "", "a", "1_2", "0x1", "0x1p-3", "0b1", "1e400", "-nan", " 1", "1 ", "--1", "\u{663}",
        ] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_number_round_trips(bits: u64) {
            let value = f64::from_bits(bits);
            let bits = if value.is_nan() { NORMAL_NAN_BITS } else { bits };
            prop_assert_eq!(parse_float(text(value).as_bytes()).unwrap().to_bits(), bits);
        }

        #[test]
        fn any_whole_number_round_trips(value in 0_u64..1 << 50) {
            prop_assert_eq!(parse_float(value.to_string().as_bytes()), Some(value as f64));
        }
    }
}
