//! Whether two answers of Loki's API are the same.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::Answer;

/// What an answer is worth to the count of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Full,
    Empty,
    Error,
}

pub fn kind(answer: &Answer) -> Kind {
    if answer.status != 200 {
        return Kind::Error;
    }
    match answer.json()["data"]["result"].as_array() {
        Some(result) if result.is_empty() => Kind::Empty,
        _ => Kind::Full,
    }
}

/// What kind of error a text tells of.
fn error_kind(text: &str) -> &'static str {
    let text = text.trim();
    let kinds = [
        ("pipeline error", "pipeline"),
        ("parse error", "parse"),
        ("maximum number of series", "series"),
        ("multiple matches for labels", "matching"),
        ("many-to-many", "matching"),
        ("many-to-one", "matching"),
    ];
    let known = kinds.iter().find(|(part, _)| text.contains(part));
    known.map_or("other", |(_, kind)| kind)
}

/// Says what differs. With `is_sorted` the values of an instant vector come in order.
pub fn compare(ours: &Answer, theirs: &Answer, is_sorted: bool) -> Result<(), String> {
    if ours.status != theirs.status {
        return Err(format!(
            "HTTP {} {}, Loki: {} {}",
            ours.status, ours.text, theirs.status, theirs.text
        ));
    }
    if ours.status != 200 {
        let (a, b) = (error_kind(&ours.text), error_kind(&theirs.text));
        if a == b {
            return Ok(());
        }
        return Err(format!("error {:?}, Loki: {:?}", ours.text, theirs.text));
    }
    let (a, b) = (whole(ours), whole(theirs));
    let (a, b) = (&a["data"], &b["data"]);
    if a["resultType"] != b["resultType"] {
        return Err(format!(
            "type {}, Loki: {}",
            a["resultType"], b["resultType"]
        ));
    }
    let (a, b) = (&a["result"], &b["result"]);
    if is_sorted {
        let values = |v: &Value| -> Vec<Value> {
            let all = v.as_array().into_iter().flatten();
            all.map(|s| s["value"][1].clone()).collect()
        };
        let (a, b) = (values(a), values(b));
        if a.len() != b.len() || !a.iter().zip(&b).all(|(a, b)| same(a, b)) {
            return Err(format!("order {a:?}, Loki: {b:?}"));
        }
    }
    let (Some(a), Some(b)) = (by_labels(a), by_labels(b)) else {
        return if same(a, b) {
            Ok(())
        } else {
            Err(format!("{a}, Loki: {b}"))
        };
    };
    let mut shared = a.iter().filter_map(|(key, a)| Some((key, a, b.get(key)?)));
    if let Some((labels, a, b)) = shared.find(|(_, a, b)| !same(a, b)) {
        return Err(format!("{labels} {a}\n  Loki: {b}"));
    }
    let ours = a.iter().find(|(key, _)| !b.contains_key(*key));
    let theirs = b.iter().find(|(key, _)| !a.contains_key(*key));
    if ours.is_none() && theirs.is_none() {
        return Ok(());
    }
    let told = |one: Option<(&String, &Value)>| one.map(|(labels, a)| format!("{labels} {a}"));
    let (ours, theirs) = (told(ours), told(theirs));
    Err(format!("alone {ours:?}\n  Loki alone: {theirs:?}"))
}

/// The answer, in which what was no UTF-8 is one character, however long.
fn whole(answer: &Answer) -> Value {
    let mut text = answer.text.replace("\\ufffd", "\u{fffd}");
    while text.contains("\u{fffd}\u{fffd}") {
        text = text.replace("\u{fffd}\u{fffd}", "\u{fffd}");
    }
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Series or streams by their labels; `None` when the result has none.
fn by_labels(result: &Value) -> Option<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for series in result.as_array()? {
        let mut rest = series.as_object()?.clone();
        let labels = rest.remove("metric").or_else(|| rest.remove("stream"))?;
        let mut key = labels.to_string();
        while found.contains_key(&key) {
            key.push('+');
        }
        found.insert(key, Value::Object(rest));
    }
    Some(found)
}

/// Equal, numbers to 1e-9 of their size.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        // A time in ns has all its digits.
        (Value::String(a), Value::String(b)) if a.len() > 18 && !a.contains('.') => a == b,
        (Value::String(a), Value::String(b)) => {
            let numbers = a.parse::<f64>().ok().zip(b.parse::<f64>().ok());
            a == b || numbers.is_some_and(|(a, b)| close(a, b))
        }
        (a, b) => a == b,
    }
}

fn close(a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) || (a.abs() < 1e-9 && b.abs() < 1e-9)
}
