//! The functions of `line_format` and `label_format`.

mod decimal;
mod time;

use kittiwake_model::duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use kittiwake_template::{Functions, Value};

use crate::units;

/// Texts that functions make at most, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

const NAMES: [&str; 67] = [
    "ToLower",
    "ToUpper",
    "Replace",
    "Trim",
    "TrimLeft",
    "TrimRight",
    "TrimPrefix",
    "TrimSuffix",
    "TrimSpace",
    "regexReplaceAll",
    "regexReplaceAllLiteral",
    "count",
    "urldecode",
    "urlencode",
    "bytes",
    "duration",
    "duration_seconds",
    "unixEpochMillis",
    "unixEpochNanos",
    "toDateInZone",
    "unixToTime",
    "alignLeft",
    "alignRight",
    "b64dec",
    "b64enc",
    "lower",
    "upper",
    "title",
    "trunc",
    "substr",
    "contains",
    "hasPrefix",
    "hasSuffix",
    "indent",
    "nindent",
    "replace",
    "repeat",
    "trim",
    "trimAll",
    "trimSuffix",
    "trimPrefix",
    "int",
    "float64",
    "add",
    "sub",
    "mul",
    "div",
    "mod",
    "addf",
    "subf",
    "mulf",
    "divf",
    "max",
    "min",
    "maxf",
    "minf",
    "ceil",
    "floor",
    "round",
    "fromJson",
    "date",
    "toDate",
    "now",
    "unixEpoch",
    "default",
    "__line__",
    "__timestamp__",
];

/// The functions, with the line that they are about.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogFunctions {
    pub(crate) line: String,
    pub(crate) time_ns: i64,
}

type Answer = Result<Value, String>;

impl Functions for LogFunctions {
    fn has(&self, name: &str) -> bool {
        !name.is_empty() && NAMES.contains(&name)
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Answer {
        let args = Arguments {
            name,
            values: arguments,
        };
        match name {
            "__line__" => Ok(Value::text(&self.line)),
            "__timestamp__" => Ok(Value::Time(self.time_ns, 0)),
            "now" | "date" | "toDate" | "unixEpoch" | "unixEpochMillis" | "unixEpochNanos"
            | "toDateInZone" | "unixToTime" => time::call(name, &args, self.time_ns),
            "int" | "float64" | "add" | "sub" | "mul" | "div" | "mod" | "addf" | "subf"
            | "mulf" | "divf" | "max" | "min" | "maxf" | "minf" | "ceil" | "floor" | "round" => {
                arithmetic(name, &args)
            }
            _ => texts(name, &args),
        }
    }
}

/// The arguments of one call.
struct Arguments<'a> {
    name: &'a str,
    values: &'a [Value],
}

impl Arguments<'_> {
    fn get(&self, at: usize) -> Result<&Value, String> {
        self.values.get(at).ok_or_else(|| {
            format!(
                "wrong number of args for {}: want at least {} got {}",
                self.name,
                at + 1,
                self.values.len()
            )
        })
    }

    fn exactly(&self, count: usize) -> Result<(), String> {
        if self.values.len() == count {
            return Ok(());
        }
        Err(format!(
            "wrong number of args for {}: want {count} got {}",
            self.name,
            self.values.len()
        ))
    }

    fn text(&self, at: usize) -> Result<&str, String> {
        let value = self.get(at)?;
        value.as_text().ok_or_else(|| {
            format!(
                "wrong type for value; expected string; got {}",
                value.type_name()
            )
        })
    }

    fn int(&self, at: usize) -> Result<i64, String> {
        match self.get(at)? {
            Value::Int(int) => Ok(*int),
            other => Err(format!(
                "wrong type for value; expected int; got {}",
                other.type_name()
            )),
        }
    }
}

fn texts(name: &str, args: &Arguments<'_>) -> Answer {
    let count = match name {
        "Replace" => 4,
        "regexReplaceAll" | "regexReplaceAllLiteral" | "substr" | "replace" => 3,
        "ToLower" | "ToUpper" | "TrimSpace" | "urldecode" | "urlencode" | "bytes" | "duration"
        | "duration_seconds" | "b64dec" | "b64enc" | "lower" | "upper" | "title" | "trim"
        | "fromJson" => 1,
        _ => 2,
    };
    args.exactly(count)?;
    let all_of = |chars: &str| {
        let chars: Vec<char> = chars.chars().collect();
        move |c: char| chars.contains(&c)
    };
    Ok(match name {
        "ToLower" | "lower" => Value::text(args.text(0)?.to_lowercase()),
        "ToUpper" | "upper" => Value::text(args.text(0)?.to_uppercase()),
        "title" => Value::text(title(args.text(0)?)),
        "Replace" => Value::text(replace(
            args.text(0)?,
            args.text(1)?,
            args.text(2)?,
            args.int(3)?,
        )?),
        "replace" => Value::text(replace(args.text(2)?, args.text(0)?, args.text(1)?, -1)?),
        "Trim" => Value::text(args.text(0)?.trim_matches(all_of(args.text(1)?))),
        "TrimLeft" => Value::text(args.text(0)?.trim_start_matches(all_of(args.text(1)?))),
        "TrimRight" => Value::text(args.text(0)?.trim_end_matches(all_of(args.text(1)?))),
        "trimAll" => Value::text(args.text(1)?.trim_matches(all_of(args.text(0)?))),
        "TrimPrefix" => without_prefix(args.text(0)?, args.text(1)?),
        "trimPrefix" => without_prefix(args.text(1)?, args.text(0)?),
        "TrimSuffix" => without_suffix(args.text(0)?, args.text(1)?),
        "trimSuffix" => without_suffix(args.text(1)?, args.text(0)?),
        "TrimSpace" | "trim" => Value::text(args.text(0)?.trim()),
        "contains" => Value::Bool(args.text(1)?.contains(args.text(0)?)),
        "hasPrefix" => Value::Bool(args.text(1)?.starts_with(args.text(0)?)),
        "hasSuffix" => Value::Bool(args.text(1)?.ends_with(args.text(0)?)),
        "regexReplaceAll" => {
            let regex = super::compile_regex(args.text(0)?)?;
            Value::text(regex.replace_all(args.text(1)?, args.text(2)?))
        }
        "regexReplaceAllLiteral" => {
            let regex = super::compile_regex(args.text(0)?)?;
            let literal = regex::NoExpand(args.text(2)?);
            Value::text(regex.replace_all(args.text(1)?, literal))
        }
        "count" => {
            let regex = super::compile_regex(args.text(0)?)?;
            Value::Int(regex.find_iter(args.text(1)?).count() as i64)
        }
        "urlencode" => Value::text(kittiwake_template::urlquery(args.text(0)?)),
        "urldecode" => Value::text(urldecode(args.text(0)?)?),
        "bytes" => Value::Float(units::parse_bytes(args.text(0)?)? as f64),
        "duration" | "duration_seconds" => {
            Value::Float(duration::parse(args.text(0)?)? as f64 / 1e9)
        }
        "b64enc" => {
            let engine = base64::engine::general_purpose::STANDARD;
            Value::text(engine.encode(args.text(0)?))
        }
        "b64dec" => {
            let mut text = args.text(0)?.to_owned();
            let rest = text.len() % 4;
            if rest > 1 {
                text.extend(std::iter::repeat_n('=', 4 - rest));
            }
            let engine = base64::engine::general_purpose::STANDARD;
            match engine.decode(text) {
                Ok(bytes) => Value::text(String::from_utf8_lossy(&bytes)),
                Err(error) => Value::text(base64_error(&error)),
            }
        }
        "trunc" => Value::text(trunc(args.int(0)?, args.text(1)?)),
        "substr" => Value::text(substr(args.int(0)?, args.int(1)?, args.text(2)?)?),
        "alignLeft" | "alignRight" => {
            Value::text(align(args.int(0)?, args.text(1)?, name == "alignLeft")?)
        }
        "indent" | "nindent" => {
            let count = bounded(args.int(0)?)?;
            let pad = " ".repeat(count);
            let lines = args.text(1)?.replace('\n', &format!("\n{pad}"));
            let newline = if name == "nindent" { "\n" } else { "" };
            Value::text(format!("{newline}{pad}{lines}"))
        }
        "repeat" => {
            let (count, text) = (bounded(args.int(0)?)?, args.text(1)?);
            if count.saturating_mul(text.len()) > TEXT_BYTES_MAX {
                return Err("too long a text".to_owned());
            }
            Value::text(text.repeat(count))
        }
        "default" => {
            let given = args.get(1)?;
            if given.is_true() {
                given.clone()
            } else {
                args.get(0)?.clone()
            }
        }
        "fromJson" => {
            let json = serde_json::from_str(args.text(0)?).unwrap_or(serde_json::Value::Null);
            from_json(&json)
        }
        other => return Err(format!("function {other:?} not defined")),
    })
}

/// In Go's words.
fn base64_error(error: &base64::DecodeError) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _)
        | base64::DecodeError::InvalidLastSymbol { offset: at, .. }
        | base64::DecodeError::InvalidLength(at) => *at,
        base64::DecodeError::InvalidPadding => 0,
    };
    format!("illegal base64 data at input byte {at}")
}

fn bounded(count: i64) -> Result<usize, String> {
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    if count > TEXT_BYTES_MAX {
        return Err("too long a text".to_owned());
    }
    Ok(count)
}

fn replace(text: &str, old: &str, new: &str, count: i64) -> Result<String, String> {
    let found = if old.is_empty() {
        text.chars().count() + 1
    } else {
        text.matches(old).count()
    };
    if found.saturating_mul(new.len()) > TEXT_BYTES_MAX {
        return Err("too long a text".to_owned());
    }
    Ok(match usize::try_from(count) {
        Ok(count) => text.replacen(old, new, count),
        Err(_) => text.replace(old, new),
    })
}

fn without_prefix(text: &str, prefix: &str) -> Value {
    Value::text(text.strip_prefix(prefix).unwrap_or(text))
}

fn without_suffix(text: &str, suffix: &str) -> Value {
    Value::text(text.strip_suffix(suffix).unwrap_or(text))
}

fn title(text: &str) -> String {
    let mut starts = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if starts {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        starts = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    out
}

/// The first `count` characters, or the last `-count`.
/// Text of bytes, of which those that are cut off their character become U+FFFD each.
fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n('\u{fffd}', chunk.invalid().len()));
    }
    text
}

/// In bytes, like all of this library's functions.
fn trunc(count: i64, text: &str) -> String {
    let (bytes, len) = (text.as_bytes(), text.len() as i64);
    if count < 0 && len + count > 0 {
        return text_of(&bytes[(len + count) as usize..]);
    }
    if (0..len).contains(&count) {
        return text_of(&bytes[..count as usize]);
    }
    text.to_owned()
}

fn substr(start: i64, end: i64, text: &str) -> Result<String, String> {
    let (bytes, len) = (text.as_bytes(), text.len() as i64);
    let beyond = |bounds: String| format!("runtime error: slice bounds out of range {bounds}");
    if start < 0 {
        if end > len {
            return Err(beyond(format!("[:{end}] with length {len}")));
        }
        if end < 0 {
            return Err(beyond(format!("[:{end}]")));
        }
        return Ok(text_of(&bytes[..end as usize]));
    }
    let end = if end < 0 || end > len { len } else { end };
    if start > end {
        return Err(beyond(format!("[{start}:{end}]")));
    }
    Ok(text_of(&bytes[start as usize..end as usize]))
}

fn align(count: i64, text: &str, is_left: bool) -> Result<String, String> {
    let chars: Vec<char> = text.chars().collect();
    if count < 0 {
        return Ok(text.to_owned());
    }
    let count = bounded(count)?;
    let Some(pad) = count.checked_sub(chars.len()) else {
        let kept = if is_left {
            &chars[..count]
        } else {
            &chars[chars.len() - count..]
        };
        return Ok(kept.iter().collect());
    };
    let pad = " ".repeat(pad);
    Ok(if is_left {
        format!("{text}{pad}")
    } else {
        format!("{pad}{text}")
    })
}

fn urldecode(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
                let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
                    let shown: String = text[at..].chars().take(3).collect();
                    return Err(format!(
                        "invalid URL escape {}",
                        kittiwake_model::quote(&shown)
                    ));
                };
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            byte => out.push(*byte),
        }
        at += 1;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        // Go decodes every number as a float.
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::text(text),
        serde_json::Value::Array(values) => Value::list(values.iter().map(from_json)),
        serde_json::Value::Object(values) => {
            let values = values.iter().map(|(k, v)| (k.clone(), from_json(v)));
            Value::Map(Arc::new(values.collect::<BTreeMap<_, _>>()), false)
        }
    }
}

fn as_float(value: &Value) -> f64 {
    match value {
        Value::Int(int) => *int as f64,
        Value::Float(float) => *float,
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        Value::Text(text) => units::parse_float(text).unwrap_or(0.0),
        _ => 0.0,
    }
}

fn as_int(value: &Value) -> i64 {
    match value {
        Value::Int(int) => *int,
        Value::Float(float) => *float as i64,
        Value::Bool(truth) => i64::from(*truth),
        Value::Text(text) => {
            let digits = text.bytes().filter(|b| *b != b'.').count();
            let whole = match text.split_once('.') {
                Some((whole, rest)) if rest.bytes().all(|b| b.is_ascii_digit()) && digits > 0 => {
                    whole
                }
                _ => text,
            };
            go_int(whole).unwrap_or(0)
        }
        _ => 0,
    }
}

/// An integer as Go's source code has it: `0x`, `0o`, `0b` and a leading 0 tell the base, `_`
/// may stand between digits.
fn go_int(text: &str) -> Option<i64> {
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let prefixes = [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)];
    let prefix = prefixes
        .iter()
        .find(|(sign, _)| lower.len() > sign.len() && lower.starts_with(sign));
    let (sign, base) = prefix.copied().unwrap_or(("", 10));
    let rest = &lower[sign.len()..];
    let is_torn =
        rest.contains("__") || rest.ends_with('_') || (base == 10 && rest.starts_with('_'));
    if is_torn || rest.starts_with(['+', '-']) {
        return None;
    }
    let whole = i128::from_str_radix(&rest.replace('_', ""), base).ok()?;
    i64::try_from(if is_negative { -whole } else { whole }).ok()
}

fn arithmetic(name: &str, args: &Arguments<'_>) -> Answer {
    args.get(0)?;
    let ints = || args.values.iter().map(as_int);
    let floats = || args.values.iter().map(as_float);
    let from_first = |of: fn(f64, f64) -> f64| {
        let mut values = floats();
        let first = values.next().unwrap_or_default();
        Value::Float(values.fold(first, of))
    };
    let two = |of: fn(i64, i64) -> Option<i64>| -> Answer {
        args.exactly(2)?;
        of(as_int(args.get(0)?), as_int(args.get(1)?))
            .map(Value::Int)
            .ok_or_else(|| "runtime error: integer divide by zero".to_owned())
    };
    Ok(match name {
        "int" => Value::Int(as_int(args.get(0)?)),
        "float64" => Value::Float(as_float(args.get(0)?)),
        "add" => Value::Int(ints().fold(0, i64::wrapping_add)),
        "mul" => Value::Int(ints().fold(1, i64::wrapping_mul)),
        "sub" => return two(|a, b| Some(a.wrapping_sub(b))),
        "div" => return two(i64::checked_div),
        "mod" => return two(i64::checked_rem),
        "addf" => from_first(decimal::add),
        "mulf" => from_first(decimal::multiply),
        "subf" => from_first(decimal::subtract),
        "divf" => {
            if floats().skip(1).any(|divisor| divisor == 0.0) {
                return Err("decimal division by 0".to_owned());
            }
            from_first(decimal::divide)
        }
        "max" => Value::Int(ints().max().unwrap_or_default()),
        "min" => Value::Int(ints().min().unwrap_or_default()),
        "maxf" => from_first(f64::max),
        "minf" => from_first(f64::min),
        "ceil" => Value::Float(as_float(args.get(0)?).ceil()),
        "floor" => Value::Float(as_float(args.get(0)?).floor()),
        _ => {
            let places = as_int(args.get(1)?).clamp(-30, 30) as i32;
            let half = args.values.get(2).map_or(0.5, as_float);
            let scale = 10_f64.powi(places);
            let scaled = as_float(args.get(0)?) * scale;
            let rounded = if scaled.fract().abs() >= half {
                scaled.signum() * scaled.abs().ceil()
            } else {
                scaled.trunc()
            };
            Value::Float(rounded / scale)
        }
    })
}
