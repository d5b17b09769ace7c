//! The functions that Go builds into templates. `and` and `or` stop early and are therefore
//! evaluated elsewhere.

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::Value;
use crate::printf::sprintf;
use kittiwake_model::quote;

pub(crate) fn is_builtin(name: &str) -> bool {
    matches!(
        name,
        "and"
            | "or"
            | "not"
            | "len"
            | "index"
            | "slice"
            | "print"
            | "printf"
            | "println"
            | "html"
            | "js"
            | "urlquery"
            | "eq"
            | "ne"
            | "lt"
            | "le"
            | "gt"
            | "ge"
    )
}

pub(crate) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let needed = match name {
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => 2,
        "print" | "println" | "html" | "js" | "urlquery" => 0,
        _ => 1,
    };
    if arguments.len() < needed {
        return Err(if name == "eq" && arguments.len() == 1 {
            "missing argument for comparison".to_owned()
        } else {
            format!(
                "wrong number of args for {name}: want {needed} got {}",
                arguments.len()
            )
        });
    }
    if matches!(name, "not" | "len") && arguments.len() > 1
        || matches!(name, "ne" | "lt" | "le" | "gt" | "ge") && arguments.len() > 2
    {
        return Err(format!(
            "wrong number of args for {name}: want {needed} got {}",
            arguments.len()
        ));
    }
    Ok(match name {
        "not" => Value::Bool(!arguments[0].is_true()),
        "len" => Value::Int(len(&arguments[0])? as i64),
        "index" => index(arguments)?,
        "slice" => slice(arguments)?,
        "print" => Value::text(print(arguments)),
        "println" => {
            let texts: Vec<String> = arguments.iter().map(Value::to_string).collect();
            Value::text(format!("{}\n", texts.join(" ")))
        }
        "printf" => match &arguments[0] {
            Value::Text(format) => Value::text(sprintf(format, &arguments[1..])),
            other => {
                return Err(format!(
                    "wrong type for value; expected string; got {}",
                    other.type_name()
                ));
            }
        },
        "html" => Value::text(html(&print(arguments))),
        "js" => Value::text(js(&print(arguments))),
        "urlquery" => Value::text(urlquery(&print(arguments))),
        "eq" => Value::Bool(arguments[1..].iter().try_fold(false, |found, other| {
            Ok::<bool, String>(found || equal(&arguments[0], other)?)
        })?),
        "ne" => Value::Bool(!equal(&arguments[0], &arguments[1])?),
        "lt" => Value::Bool(order(&arguments[0], &arguments[1])? == Some(Ordering::Less)),
        "le" => Value::Bool(matches!(
            order(&arguments[0], &arguments[1])?,
            Some(Ordering::Less | Ordering::Equal)
        )),
        "gt" => Value::Bool(order(&arguments[0], &arguments[1])? == Some(Ordering::Greater)),
        "ge" => Value::Bool(matches!(
            order(&arguments[0], &arguments[1])?,
            Some(Ordering::Greater | Ordering::Equal)
        )),
        other => return Err(format!("function {other:?} not defined")),
    })
}

/// As `fmt.Sprint`: a space between neighbours of which neither is a text.
fn print(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in arguments.iter().enumerate() {
        let is_text = |v: &Value| matches!(v, Value::Text(_));
        if index > 0 && !is_text(value) && !is_text(&arguments[index - 1]) {
            out.push(' ');
        }
        out.push_str(&value.to_string());
    }
    out
}

fn len(value: &Value) -> Result<usize, String> {
    match value {
        Value::Text(text) => Ok(text.len()),
        Value::List(values) => Ok(values.len()),
        Value::Map(values, _) => Ok(values.len()),
        Value::Nil => Err("len of nil pointer".to_owned()),
        other => Err(format!("len of type {}", other.type_name())),
    }
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let mut value = arguments[0].clone();
    for at in &arguments[1..] {
        value = match (&value, at) {
            (Value::Map(values, zero), Value::Text(name)) => values
                .get(&**name)
                .cloned()
                .unwrap_or(if *zero { Value::text("") } else { Value::Nil }),
            (Value::List(values), Value::Int(at)) => usize::try_from(*at)
                .ok()
                .and_then(|at| values.get(at).cloned())
                .ok_or_else(|| beyond(*at, values.len(), "slice"))?,
            (Value::Text(text), Value::Int(at)) => usize::try_from(*at)
                .ok()
                .and_then(|at| text.as_bytes().get(at))
                .map(|byte| Value::Int(i64::from(*byte)))
                .ok_or_else(|| beyond(*at, text.len(), "string"))?,
            (Value::Nil, _) => return Err("index of untyped nil".to_owned()),
            (Value::List(_) | Value::Text(_), other) => {
                return Err(format!(
                    "cannot index slice/array with type {}",
                    other.type_name()
                ));
            }
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

/// Go's own check lets the place behind the end pass; what it calls then does not.
fn beyond(at: i64, len: usize, what: &str) -> String {
    if usize::try_from(at).is_ok_and(|at| at == len) {
        format!("reflect: {what} index out of range")
    } else {
        format!("index out of range: {at}")
    }
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let all = len(&arguments[0])?;
    let mut bounds = [0, all];
    if arguments.len() > 3 {
        return Err(format!("too many slice indexes: {}", arguments.len() - 1));
    }
    for (bound, at) in bounds.iter_mut().zip(&arguments[1..]) {
        let Value::Int(at) = at else {
            return Err(format!(
                "cannot index slice/array with type {}",
                at.type_name()
            ));
        };
        *bound = usize::try_from(*at)
            .ok()
            .filter(|at| *at <= all)
            .ok_or_else(|| format!("index out of range: {at}"))?;
    }
    let [start, end] = bounds;
    if start > end {
        return Err(format!("invalid slice index: {start} > {end}"));
    }
    match &arguments[0] {
        Value::Text(text) => Ok(Value::text(String::from_utf8_lossy(
            &text.as_bytes()[start..end],
        ))),
        Value::List(values) => Ok(Value::list(values[start..end].iter().cloned())),
        other => Err(format!("can't slice item of type {}", other.type_name())),
    }
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::List(_) | Value::Map(..), _) | (_, Value::List(_) | Value::Map(..)) => {
            Err("non-comparable type".to_owned())
        }
        (Value::Time(a, _), Value::Time(b, _)) => Ok(a == b),
        _ if std::mem::discriminant(a) == std::mem::discriminant(b) => Ok(a == b),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.cmp(b))),
        _ if std::mem::discriminant(a) == std::mem::discriminant(b) => {
            Err("invalid type for comparison".to_owned())
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            // Writing to a string cannot fail.
            c if "<>&=".contains(c) || (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// A text as a part of a URL's query, as Go's `url.QueryEscape` writes it.
pub fn urlquery(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// A constant as an error shows it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => quote(text),
        other => other.to_string(),
    }
}
/// A text as Go's `encoding/json` writes it, safe in HTML.
pub fn json_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || "<>&\u{2028}\u{2029}".contains(c) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
