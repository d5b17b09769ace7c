//! Texts, numbers and durations as PromQL writes them.

use std::fmt::Write as _;

use kittiwake_model::quote;

/// Units of a duration and their ms, in the order in which they must stand.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// The ms of a duration such as `1h30m`. An error says what is wrong.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    match text {
        "0" => return Ok(0),
        "" => return Err("empty duration string".to_owned()),
        _ => {}
    }
    let invalid = || format!("not a valid duration string: {}", quote(text));
    let (mut total, mut rest, mut from) = (0_i64, text, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..]
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let unit = &rest[digits..digits + letters];
        let place = UNITS.iter().position(|(name, _)| *name == unit);
        let place = place.filter(|place| *place >= from && digits > 0);
        let place = place.ok_or_else(invalid)?;
        from = place + 1;
        let out_of_range = || "duration out of range".to_owned();
        let number: i64 = rest[..digits].parse().map_err(|_| out_of_range())?;
        total = number
            .checked_mul(UNITS[place].1)
            .and_then(|ms| total.checked_add(ms))
            // Prometheus counts in ns.
            .filter(|ms| *ms <= i64::MAX / 1_000_000)
            .ok_or_else(out_of_range)?;
        rest = &rest[digits + letters..];
    }
    Ok(total)
}

/// A duration as Prometheus writes it: `1h30m`, weeks and years only when they are whole.
pub fn duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut rest = ms.unsigned_abs();
    let mut out = String::new();
    if ms < 0 {
        out.push('-');
    }
    for (unit, unit_ms) in UNITS {
        let unit_ms = unit_ms.unsigned_abs();
        let is_exact = matches!(unit, "y" | "w");
        if rest < unit_ms || (is_exact && !rest.is_multiple_of(unit_ms)) {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = write!(out, "{}{unit}", rest / unit_ms);
        rest %= unit_ms;
    }
    out
}

/// A number without an exponent, as Go's `%f` with the fewest digits.
pub fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// A character in single quotes, as Go quotes it.
pub(crate) fn quoted_char(c: char) -> String {
    match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        c => {
            let text = quote(&c.to_string());
            format!("'{}'", &text[1..text.len() - 1])
        }
    }
}

/// Bytes in double quotes, as Go quotes them.
pub(crate) fn quoted_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let text = quote(chunk.valid());
        out.push_str(&text[1..text.len() - 1]);
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// What a quoted text says; `None` when it is not well-formed or no UTF-8.
pub fn unquoted(text: &str) -> Option<String> {
    String::from_utf8(unquoted_bytes(text)?).ok()
}

/// What a quoted text says, in bytes; `None` when it is not well-formed.
pub(crate) fn unquoted_bytes(text: &str) -> Option<Vec<u8>> {
    let quote = text.chars().next()?;
    let inner = text.get(1..)?.strip_suffix(quote)?;
    if quote == '`' {
        return Some(inner.replace('\r', "").into_bytes());
    }
    if !matches!(quote, '"' | '\'') {
        return None;
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            let mut buffer = [0; 4];
            out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        let escaped = chars.next()?;
        let digits = |chars: &mut std::str::Chars<'_>, first: &str, count: usize, radix| {
            let text: String = first.chars().chain(chars.take(count)).collect();
            let is_whole = text.len() == first.len() + count;
            u32::from_str_radix(&text, radix).ok().filter(|_| is_whole)
        };
        match escaped {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            '0'..='7' => {
                let first = escaped.to_string();
                out.push(u8::try_from(digits(&mut chars, &first, 2, 8)?).ok()?);
            }
            'x' => out.push(u8::try_from(digits(&mut chars, "", 2, 16)?).ok()?),
            'u' | 'U' => {
                let count = if escaped == 'u' { 4 } else { 8 };
                let c = char::from_u32(digits(&mut chars, "", count, 16)?)?;
                let mut buffer = [0; 4];
                out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            }
            c if c == quote => out.push(c as u8),
            _ => return None,
        }
    }
    Some(out)
}

/// Whether a label name can stand without quotes.
pub fn is_plain_label(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_both_ways() {
        for (text, ms) in [
            ("0s", 0),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1d12h", 129_600_000),
            ("2w", 14 * 86_400_000),
            ("1m5s10ms", 65_010),
        ] {
            assert_eq!(parse_duration(text), Ok(ms));
            assert_eq!(duration(ms), text);
        }
        assert_eq!(parse_duration("0"), Ok(0));
        assert_eq!(parse_duration("1y2w"), Ok(379 * 86_400_000));
        for bad in ["", "5", "m", "5m1h", "5mm", "300000y"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn quotes_both_ways() {
        for text in ["", "a\"b", "ä\n\t\\", "\u{1}"] {
            assert_eq!(unquoted(&quote(text)).as_deref(), Some(text));
        }
        assert_eq!(unquoted(r"'\x41\101\u00e4'").as_deref(), Some("AAä"));
        assert_eq!(unquoted(r#""\q""#), None);
        assert_eq!(unquoted("`a\\n`").as_deref(), Some("a\\n"));
    }
}
