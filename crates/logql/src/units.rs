//! Numbers, durations and sizes as Go reads and writes them, with the errors that it gives:
//! they show in `__error_details__`.

use std::fmt::Write as _;

use kittiwake_model::{duration, quote};

fn digits_len(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len())
}

/// A duration in the query's text: Go's form, or Prometheus' with days, weeks and years.
pub(crate) fn parse_query_duration(text: &str) -> Result<i64, String> {
    duration::parse(text).or_else(|go_error| {
        const UNITS: [(&str, i64); 7] = [
            ("y", 31_536_000_000_000_000),
            ("w", 604_800_000_000_000),
            ("d", 86_400_000_000_000),
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
        ];
        let (mut rest, mut total, mut next) = (text, 0_i64, 0);
        while !rest.is_empty() {
            let len = digits_len(rest);
            let count: i64 = rest[..len].parse().map_err(|_| go_error.clone())?;
            rest = &rest[len..];
            let letters = digits_start(rest);
            let place = UNITS[next..]
                .iter()
                .position(|(u, _)| *u == &rest[..letters]);
            let place = next + place.ok_or_else(|| go_error.clone())?;
            total = count
                .checked_mul(UNITS[place].1)
                .and_then(|ns| ns.checked_add(total))
                .ok_or_else(|| go_error.clone())?;
            next = place + 1;
            rest = &rest[letters..];
        }
        Ok(total)
    })
}

fn digits_start(text: &str) -> usize {
    text.find(|c: char| c.is_ascii_digit())
        .unwrap_or(text.len())
}

/// Bytes as the humanize package reads them: `1.5MB` (powers of 1000), `2KiB` (of 1024).
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 27] = [
        ("", 1.0),
        ("b", 1.0),
        ("k", 1e3),
        ("kb", 1e3),
        ("ki", 1024.0),
        ("kib", 1024.0),
        ("m", 1e6),
        ("mb", 1e6),
        ("mi", 1_048_576.0),
        ("mib", 1_048_576.0),
        ("g", 1e9),
        ("gb", 1e9),
        ("gi", 1_073_741_824.0),
        ("gib", 1_073_741_824.0),
        ("t", 1e12),
        ("tb", 1e12),
        ("ti", 1_099_511_627_776.0),
        ("tib", 1_099_511_627_776.0),
        ("p", 1e15),
        ("pb", 1e15),
        ("pi", 1_125_899_906_842_624.0),
        ("pib", 1_125_899_906_842_624.0),
        ("e", 1e18),
        ("eb", 1e18),
        ("ei", 1_152_921_504_606_846_976.0),
        ("eib", 1_152_921_504_606_846_976.0),
        ("bytes", 1.0),
    ];
    let len = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))
        .unwrap_or(text.len());
    let digits = text[..len].replace(',', "");
    let number = parse_float(&digits)?;
    let unit = text[len..].trim().to_lowercase();
    let Some((_, size)) = UNITS[..26].iter().find(|(name, _)| *name == unit) else {
        return Err(format!("unhandled size name: {unit}"));
    };
    let bytes = number * size;
    if bytes >= u64::MAX as f64 {
        return Err(format!("too large: {text}"));
    }
    Ok(bytes as u64)
}

/// A number as Go's `strconv.ParseFloat` reads it.
pub(crate) fn parse_float(text: &str) -> Result<f64, String> {
    let invalid = || {
        Err(format!(
            "strconv.ParseFloat: parsing {}: invalid syntax",
            quote(text)
        ))
    };
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    let lower = unsigned.to_ascii_lowercase();
    match lower.as_str() {
        "inf" | "infinity" => return Ok(sign * f64::INFINITY),
        "nan" if unsigned.len() == text.len() => return Ok(f64::NAN),
        _ => {}
    }
    if let Some(hex) = lower.strip_prefix("0x") {
        return match parse_hex(hex) {
            Some(value) => Ok(sign * value),
            None => invalid(),
        };
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return invalid();
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_infinite() => Err(format!(
            "strconv.ParseFloat: parsing {}: value out of range",
            quote(text)
        )),
        Ok(value) => Ok(value),
        Err(_) => invalid(),
    }
}

/// `1.8p3`: hexadecimal digits and a power of two, which Go demands.
fn parse_hex(text: &str) -> Option<f64> {
    let (digits, power) = text.split_once('p')?;
    let power: i32 = power.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (mut value, mut scale) = (0.0, 1.0);
    for c in whole.chars() {
        value = value * 16.0 + f64::from(c.to_digit(16)?);
    }
    for c in fraction.chars() {
        scale /= 16.0;
        value += f64::from(c.to_digit(16)?) * scale;
    }
    Some(value * f64::from(power).exp2())
}

/// A duration as Prometheus writes it: `1h30m`, `1d`; ns below a ms are lost.
pub(crate) fn prometheus_duration(ns: i64) -> String {
    let mut ms = ns.unsigned_abs() / 1_000_000;
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    if ns < 0 {
        text.push('-');
    }
    for (unit, size, is_exact) in [
        ("y", 31_536_000_000, true),
        ("w", 604_800_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1_000, false),
        ("ms", 1, false),
    ] {
        if is_exact && !ms.is_multiple_of(size) {
            continue;
        }
        let count = ms / size;
        if count > 0 {
            let _ = write!(text, "{count}{unit}");
            ms -= count * size;
        }
    }
    text
}

/// Bytes as the humanize package writes them, without the space: `1.5MB`, `12B`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes}B");
    }
    let power = ((bytes as f64).ln() / 1000_f64.ln()).floor();
    let value = (bytes as f64 / 1000_f64.powf(power) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[(power as usize).min(6)];
    if value < 10.0 {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

/// A number as Go's `%v` writes it.
pub(crate) fn go_float(number: f64) -> String {
    kittiwake_template::Value::Float(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        assert_eq!(parse_query_duration("1d12h"), Ok(129_600_000_000_000));
        assert_eq!(parse_bytes("5MiB"), Ok(5 << 20));
        assert_eq!(parse_bytes("1.5 KB"), Ok(1500));
        assert!(parse_bytes("1x").is_err());
        assert_eq!(parse_float("1e3"), Ok(1000.0));
        assert_eq!(parse_float("-Inf"), Ok(f64::NEG_INFINITY));
        assert!(parse_float("a").unwrap_err().contains("invalid syntax"));
        assert_eq!(parse_float("0x1p4"), Ok(16.0));
    }

    #[test]
    fn writes_what_go_writes() {
        assert_eq!(prometheus_duration(5_400_000_000_000), "1h30m");
        assert_eq!(prometheus_duration(129_600_000_000_000), "1d12h");
        assert_eq!(human_bytes(1_000_000), "1.0MB");
        assert_eq!(human_bytes(20_000), "20kB");
        assert_eq!(quote("a\"b\n"), "\"a\\\"b\\n\"");
    }
}
