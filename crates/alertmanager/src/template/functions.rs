//! The functions that Alertmanager's templates may call, and the methods of their values.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::Offset;
use kittiwake_model::pattern;
use kittiwake_template::humanize::humanize_duration;
use kittiwake_template::{Functions, Mark, Value, time};

use super::json::{json_text, seconds};
use crate::config::zone;

/// The set of functions, at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    /// Now, in ns.
    pub now_ns: i64,
}

const NAMES: [&str; 18] = [
    "toUpper",
    "toLower",
    "title",
    "trimSpace",
    "join",
    "match",
    "safeHtml",
    "safeUrl",
    "urlUnescape",
    "reReplaceAll",
    "stringSlice",
    "date",
    "tz",
    "since",
    "humanizeDuration",
    "toJson",
    "list",
    "dict",
];

impl Functions for Set {
    fn has(&self, name: &str) -> bool {
        NAMES.contains(&name)
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Result<Value, String> {
        let args = Args { name, arguments };
        let count = match name {
            "stringSlice" | "list" | "dict" => arguments.len(),
            "join" | "match" | "date" | "tz" => 2,
            "reReplaceAll" => 3,
            _ => 1,
        };
        if arguments.len() != count {
            return Err(format!(
                "wrong number of args for {name}: want {count} got {}",
                arguments.len()
            ));
        }
        Ok(match name {
            "toUpper" => Value::text(args.text(0)?.to_uppercase()),
            "toLower" => Value::text(args.text(0)?.to_lowercase()),
            "title" => Value::text(title(args.text(0)?)),
            "trimSpace" => Value::text(args.text(0)?.trim()),
            "join" => Value::text(args.texts(1)?.join(args.text(0)?)),
            "match" => Value::Bool(regex(args.text(0)?)?.is_match(args.text(1)?)),
            "safeHtml" => Value::Marked(Mark::Html, Arc::from(args.text(0)?)),
            "safeUrl" => Value::Marked(Mark::Url, Arc::from(args.text(0)?)),
            "urlUnescape" => Value::text(url_unescape(args.text(0)?)?),
            "reReplaceAll" => {
                let expression = regex(args.text(0)?)?;
                Value::text(expression.replace_all(args.text(2)?, args.text(1)?))
            }
            "stringSlice" => {
                for at in 0..arguments.len() {
                    args.text(at)?;
                }
                Value::list(arguments.iter().cloned())
            }
            "list" => Value::list(arguments.iter().cloned()),
            "dict" => dict(&args)?,
            "date" => {
                let (ns, offset) = args.time(1)?;
                Value::text(time::format(args.text(0)?, ns, offset))
            }
            "tz" => in_zone(args.text(0)?, args.time(1)?)?,
            "since" => Value::Duration(self.now_ns.saturating_sub(args.time(0)?.0)),
            "humanizeDuration" => {
                let value = &arguments[0];
                let seconds = seconds(value)
                    .ok_or_else(|| format!("can't convert {} to float", value.type_name()))?;
                Value::text(humanize_duration(seconds))
            }
            "toJson" => Value::text(json_text(&arguments[0])),
            other => return Err(format!("function {other:?} not defined")),
        })
    }

    fn method(
        &self,
        value: &Value,
        name: &str,
        arguments: &[Value],
    ) -> Option<Result<Value, String>> {
        match value {
            Value::Map(pairs, true) => kv_method(pairs, name, arguments),
            Value::Map(fields, false) if !fields.contains_key(name) => {
                let of = if fields.contains_key("GroupLabels") {
                    "*template.Data"
                } else if fields.contains_key("Fingerprint") {
                    "template.Alert"
                } else {
                    return None;
                };
                Some(Err(format!("can't evaluate field {name} in type {of}")))
            }
            Value::List(items) => list_method(items, name),
            other => kittiwake_template::method(other, name, arguments),
        }
    }

    fn show(&self, value: &Value) -> Option<String> {
        let pairs = match value {
            Value::Map(pairs, true) => sorted_pairs(pairs),
            Value::List(items) if items.first().and_then(pair).is_some() => {
                items.iter().filter_map(pair).collect()
            }
            _ => return None,
        };
        let texts: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
        Some(texts.join(", "))
    }
}

struct Args<'a> {
    name: &'a str,
    arguments: &'a [Value],
}

impl<'a> Args<'a> {
    fn wrong(&self, wanted: &str, at: usize) -> String {
        let got = self.arguments.get(at).map_or("nothing", Value::type_name);
        let _ = self.name;
        format!("wrong type for value; expected {wanted}; got {got}")
    }

    fn text(&self, at: usize) -> Result<&'a str, String> {
        let argument = self.arguments.get(at);
        argument
            .and_then(Value::as_text)
            .ok_or_else(|| self.wrong("string", at))
    }

    fn texts(&self, at: usize) -> Result<Vec<&'a str>, String> {
        let wrong = || self.wrong("[]string", at);
        match self.arguments.get(at) {
            Some(Value::List(items)) => items
                .iter()
                .map(|item| item.as_text().ok_or_else(wrong))
                .collect(),
            _ => Err(wrong()),
        }
    }

    fn time(&self, at: usize) -> Result<(i64, i32), String> {
        match self.arguments.get(at) {
            Some(Value::Time(ns, offset)) => Ok((*ns, *offset)),
            _ => Err(self.wrong("time.Time", at)),
        }
    }
}

fn regex(text: &str) -> Result<regex::Regex, String> {
    pattern::unanchored_go(text).map_err(|e| {
        let text = e.to_string();
        text.lines().last().unwrap_or_default().trim().to_owned()
    })
}

/// Each word with a capital first letter and small others.
fn title(text: &str) -> String {
    let mut out = String::new();
    let mut is_inside = false;
    for c in text.chars() {
        if is_inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        is_inside = c.is_alphanumeric() || c == '_' || (is_inside && matches!(c, '\'' | '’' | '.'));
    }
    out
}

fn url_unescape(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let code = text.get(at + 1..at + 3);
                let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
                let end = (at + 3).min(text.len());
                let shown = String::from_utf8_lossy(&bytes[at..end]);
                out.push(code.ok_or_else(|| format!("invalid URL escape {shown:?}"))?);
                at += 3;
                continue;
            }
            b'+' => out.push(b' '),
            byte => out.push(*byte),
        }
        at += 1;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn dict(args: &Args<'_>) -> Result<Value, String> {
    if !args.arguments.len().is_multiple_of(2) {
        return Err("invalid dict call: the number of arguments must be even".to_owned());
    }
    let mut values = BTreeMap::new();
    for at in (0..args.arguments.len()).step_by(2) {
        values.insert(args.text(at)?.to_owned(), args.arguments[at + 1].clone());
    }
    Ok(Value::Map(Arc::new(values), false))
}

fn in_zone(name: &str, (ns, _): (i64, i32)) -> Result<Value, String> {
    let zone = zone(name)?;
    let offset =
        Timestamp::from_nanosecond(i128::from(ns)).map_or(Offset::UTC, |time| zone.to_offset(time));
    Ok(Value::Time(ns, offset.seconds()))
}

/// The pairs in order of names, that of the alert first.
fn sorted_pairs(pairs: &BTreeMap<String, Value>) -> Vec<(&str, &str)> {
    let all = || {
        let texts = pairs.iter();
        texts.map(|(name, value)| (name.as_str(), value.as_text().unwrap_or_default()))
    };
    let (first, rest): (Vec<_>, Vec<_>) = all().partition(|(name, _)| *name == "alertname");
    first.into_iter().chain(rest).collect()
}

fn pair(value: &Value) -> Option<(&str, &str)> {
    let Value::Map(fields, false) = value else {
        return None;
    };
    if fields.len() != 2 {
        return None;
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_text);
    Some((text("Name")?, text("Value")?))
}

fn kv_method(
    pairs: &BTreeMap<String, Value>,
    name: &str,
    arguments: &[Value],
) -> Option<Result<Value, String>> {
    let sorted = || sorted_pairs(pairs);
    Some(Ok(match name {
        "SortedPairs" => Value::list(sorted().into_iter().map(|(name, value)| {
            let fields = [("Name", name), ("Value", value)];
            let fields = fields.map(|(n, v)| (n.to_owned(), Value::text(v)));
            Value::Map(Arc::new(BTreeMap::from(fields)), false)
        })),
        "Names" => Value::list(sorted().into_iter().map(|(name, _)| Value::text(name))),
        "Values" => Value::list(sorted().into_iter().map(|(_, value)| Value::text(value))),
        "Remove" => {
            let args = Args { name, arguments };
            let names = match args.texts(0) {
                Ok(names) => names,
                Err(error) => return Some(Err(error)),
            };
            let kept = pairs.iter().filter(|(n, _)| !names.contains(&n.as_str()));
            let kept = kept.map(|(n, v)| (n.clone(), v.clone())).collect();
            Value::Map(Arc::new(kept), true)
        }
        "String" => {
            let texts: Vec<String> = sorted().iter().map(|(n, v)| format!("{n}={v}")).collect();
            Value::text(texts.join(", "))
        }
        _ => return None,
    }))
}

fn list_method(items: &[Value], name: &str) -> Option<Result<Value, String>> {
    let wanted = match name {
        "Firing" => "firing",
        "Resolved" => "resolved",
        "Names" => return Some(Ok(column(items, |(name, _)| name))),
        "Values" => return Some(Ok(column(items, |(_, value)| value))),
        _ => return None,
    };
    let is_wanted = |item: &&Value| match item {
        Value::Map(fields, false) => fields.get("Status").and_then(Value::as_text) == Some(wanted),
        _ => false,
    };
    Some(Ok(Value::list(items.iter().filter(is_wanted).cloned())))
}

fn column<'a>(items: &'a [Value], part: impl Fn((&'a str, &'a str)) -> &'a str) -> Value {
    Value::list(items.iter().filter_map(pair).map(|p| Value::text(part(p))))
}
