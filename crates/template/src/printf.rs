//! Go's `fmt.Sprintf`, for the verbs that make sense of template values.

use crate::Value;
use kittiwake_model::quote;
use std::fmt::Write as _;

/// Padding at most, so that a width cannot fill the memory.
const WIDTH_MAX: usize = 10_000;

#[derive(Debug, Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats values as Go's `Sprintf` does.
pub fn sprintf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut next = 0;
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                _ => break,
            }
            chars.next();
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            if chars.peek() == Some(&'*') {
                chars.next();
                let value = arguments.get(next).cloned();
                next += 1;
                return match value {
                    Some(Value::Int(int)) => Some(int),
                    _ => None,
                };
            }
            let mut found = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                found = Some((found.unwrap_or(0) * 10 + i64::from(digit)).min(WIDTH_MAX as i64));
            }
            found
        };
        if let Some(width) = number(&mut chars) {
            flags.minus |= width < 0;
            flags.width = Some((width.unsigned_abs() as usize).min(WIDTH_MAX));
        }
        if chars.peek() == Some(&'.') {
            chars.next();
            let precision = number(&mut chars).unwrap_or(0).max(0);
            flags.precision = Some((precision as usize).min(WIDTH_MAX));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = arguments.get(next) else {
            let _ = write!(out, "%!{verb}(MISSING)");
            continue;
        };
        next += 1;
        push(&mut out, verb, &flags, value);
    }
    if next < arguments.len() {
        out.push_str("%!(EXTRA ");
        for (index, value) in arguments[next..].iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            let _ = write!(out, "{}={value}", value.type_name());
        }
        out.push(')');
    }
    out
}

fn push(out: &mut String, verb: char, flags: &Flags, value: &Value) {
    let (text, is_number) = match (verb, value) {
        ('v', Value::Text(_)) if flags.sharp => (quote(&value.to_string()), false),
        ('v' | 's', Value::Text(text)) => (cut(text, flags), false),
        ('s', Value::Time(..)) => (value.to_string(), false),
        ('s', Value::List(_) | Value::Map(..)) => (value.to_string(), false),
        ('v', Value::Float(number)) => (signed(general(*number, flags.precision), flags), true),
        ('v' | 'd', Value::Int(int)) => (signed(int.to_string(), flags), true),
        ('v', _) => (value.to_string(), false),
        ('t', Value::Bool(truth)) => (truth.to_string(), false),
        ('q', Value::Text(text)) => (quote(text), false),
        ('q', Value::Int(int)) => {
            let c = u32::try_from(*int).ok().and_then(char::from_u32);
            (format!("{:?}", c.unwrap_or('\u{fffd}')), false)
        }
        ('x' | 'X', Value::Text(text)) => {
            let mut hex = String::new();
            for byte in text.bytes() {
                let _ = write!(hex, "{byte:02x}");
            }
            (cased(&hex, verb), false)
        }
        ('x' | 'X', Value::Int(int)) => {
            let sign = if *int < 0 { "-" } else { "" };
            let prefix = if flags.sharp { "0x" } else { "" };
            let text = format!("{sign}{prefix}{:x}", int.unsigned_abs());
            (cased(&text, verb), true)
        }
        ('o', Value::Int(int)) => (format!("{int:o}"), true),
        ('b', Value::Int(int)) => (format!("{int:b}"), true),
        ('c', Value::Int(int)) => {
            let c = u32::try_from(*int).ok().and_then(char::from_u32);
            (c.unwrap_or('\u{fffd}').to_string(), false)
        }
        ('U', Value::Int(int)) => (format!("U+{int:04X}"), false),
        ('f' | 'F', Value::Float(number)) => {
            let text = special(*number)
                .unwrap_or_else(|| format!("{number:.*}", flags.precision.unwrap_or(6)));
            (signed(text, flags), true)
        }
        ('e' | 'E', Value::Float(number)) => {
            let text = special(*number).unwrap_or_else(|| {
                exponent(&format!("{number:.*e}", flags.precision.unwrap_or(6)))
            });
            (
                signed(cased(&text, if verb == 'E' { 'X' } else { 'x' }), flags),
                true,
            )
        }
        ('g' | 'G', Value::Float(number)) => {
            (signed(general(*number, flags.precision), flags), true)
        }
        (_, Value::Nil) => (format!("%!{verb}(<nil>)"), false),
        _ => (format!("%!{verb}({}={value})", value.type_name()), false),
    };
    let len = text.chars().count();
    let Some(pad) = flags.width.and_then(|w| w.checked_sub(len)) else {
        out.push_str(&text);
        return;
    };
    if flags.minus {
        out.push_str(&text);
        out.extend(std::iter::repeat_n(' ', pad));
    } else if flags.zero {
        let digits = text.trim_start_matches(['-', '+']);
        if is_number {
            out.push_str(&text[..text.len() - digits.len()]);
        }
        out.extend(std::iter::repeat_n('0', pad));
        out.push_str(if is_number { digits } else { &text });
    } else {
        out.extend(std::iter::repeat_n(' ', pad));
        out.push_str(&text);
    }
}

fn cut(text: &str, flags: &Flags) -> String {
    match flags.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    }
}

fn signed(text: String, flags: &Flags) -> String {
    if text.starts_with(['-', '+']) {
        text
    } else if flags.plus {
        format!("+{text}")
    } else if flags.space {
        format!(" {text}")
    } else {
        text
    }
}

fn cased(text: &str, verb: char) -> String {
    if verb.is_uppercase() {
        text.to_uppercase()
    } else {
        text.to_owned()
    }
}

fn special(number: f64) -> Option<String> {
    if number.is_nan() {
        Some("NaN".to_owned())
    } else if number.is_infinite() {
        Some(if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned())
    } else {
        None
    }
}

/// Rust's `1.5e7` as Go's `1.5e+07`.
fn exponent(text: &str) -> String {
    let Some((digits, power)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, power) = match power.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', power),
    };
    format!("{digits}e{sign}{power:0>2}")
}

/// A number as Go's `%v` or `%g` writes it: the shortest digits, with an exponent below
/// 1e-4 and from 1e21 on (with a precision: from that many digits on).
pub(crate) fn general(number: f64, precision: Option<usize>) -> String {
    if let Some(text) = special(number) {
        return text;
    }
    if number == 0.0 {
        return if number.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let Some(precision) = precision else {
        let power = format!("{number:e}")
            .split_once('e')
            .and_then(|(_, power)| power.parse::<i32>().ok())
            .unwrap_or(0);
        // As with six digits, also where more are shown.
        return if (-4..6).contains(&power) {
            number.to_string()
        } else {
            exponent(&format!("{number:e}"))
        };
    };
    let precision = precision.max(1);
    let scientific = format!("{number:.*e}", precision - 1);
    let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let trimmed = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if power < -4 || power >= precision as i32 {
        exponent(&format!("{}e{power}", trimmed(digits)))
    } else {
        let decimals = (precision as i32 - 1 - power).max(0) as usize;
        trimmed(&format!("{number:.decimals$}"))
    }
}
