//! Whether two answers are the same.

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

/// Which order of an instant vector is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    None,
    /// That of the values; equal ones stand in any order.
    Values,
    /// By these labels, then by all.
    Labels(Vec<String>),
}

pub fn kind(answer: &Answer) -> Kind {
    let json = answer.json();
    if json["status"] != "success" {
        return Kind::Error;
    }
    match json["data"]["result"].as_array() {
        Some(result) if result.is_empty() => Kind::Empty,
        _ => Kind::Full,
    }
}

/// Whether some series of a result have a label, and others don't.
fn is_mixed(result: &Value, name: &str) -> bool {
    let mut has = result.as_array().into_iter().flatten();
    let mut has = || {
        has.next()
            .map(|series| series["metric"].get(name).is_some())
    };
    let first = has();
    std::iter::from_fn(has).any(|other| Some(other) != first)
}

/// Says what differs.
pub fn compare(ours: &Answer, theirs: &Answer, order: Order) -> Result<(), String> {
    let (a, b) = (ours.json(), theirs.json());
    let differ = |what: &str, a: &Value, b: &Value| Err(format!("{what}: {a}, Prometheus: {b}"));
    if a["status"] != b["status"] || a["errorType"] != b["errorType"] {
        return differ("status", &short(&a), &short(&b));
    }
    if ours.status != theirs.status {
        return Err(format!(
            "HTTP {}, Prometheus: {}",
            ours.status, theirs.status
        ));
    }
    if a["status"] != "success" {
        return Ok(());
    }
    for notes in ["warnings", "infos"] {
        if sorted(&a[notes]) != sorted(&b[notes]) {
            return differ(notes, &a[notes], &b[notes]);
        }
    }
    let (a, b) = (&a["data"], &b["data"]);
    if a["resultType"] != b["resultType"] {
        return differ("type", &a["resultType"], &b["resultType"]);
    }
    let (a, b) = (&a["result"], &b["result"]);
    match order {
        Order::None => {}
        // Between a label and none Prometheus' comparison says "behind" whichever comes first, so
        // that its algorithm decides (tests/deviations.md).
        Order::Labels(names) if names.iter().any(|name| is_mixed(a, name)) => {}
        Order::Labels(_) => {
            let labels = |v: &Value| -> Vec<Value> {
                let all = v.as_array().into_iter().flatten();
                all.map(|s| s["metric"].clone()).collect()
            };
            if labels(a) != labels(b) {
                return differ("order", a, b);
            }
        }
        Order::Values => {
            let values = |v: &Value| -> Vec<Value> {
                let all = v.as_array().into_iter().flatten();
                all.map(|s| s["value"][1].clone()).collect()
            };
            let (a, b) = (values(a), values(b));
            if a.len() != b.len() || !a.iter().zip(&b).all(|(a, b)| same(a, b)) {
                return differ("order", &Value::from(a), &Value::from(b));
            }
        }
    }
    let (Some(a), Some(b)) = (by_labels(a), by_labels(b)) else {
        return if same(a, b) {
            Ok(())
        } else {
            differ("value", a, b)
        };
    };
    for (labels, value) in &a {
        match b.get(labels) {
            None => return Err(format!("not in Prometheus: {labels} {value}")),
            Some(other) if !same(value, other) => return differ(labels, value, other),
            Some(_) => {}
        }
    }
    match b.iter().find(|(labels, _)| !a.contains_key(*labels)) {
        Some((labels, value)) => Err(format!("only in Prometheus: {labels} {value}")),
        None => Ok(()),
    }
}

fn short(answer: &Value) -> Value {
    if answer["status"] == "success" {
        return Value::from("success");
    }
    answer.clone()
}

/// Without the count of samples, which Prometheus doubles with every step.
fn uncounted(note: &str) -> String {
    let parts = note.split_once(", over ");
    let parts = parts.and_then(|(a, rest)| Some((a, rest.split_once(" samples ")?.1)));
    parts.map_or_else(
        || note.to_owned(),
        |(before, behind)| format!("{before} {behind}"),
    )
}

fn sorted(notes: &Value) -> Vec<String> {
    let notes = notes.as_array().into_iter().flatten();
    let mut notes: Vec<String> = notes.map(|note| uncounted(&note.to_string())).collect();
    notes.sort();
    // Which ten of many are told is chance.
    if notes.len() > 10 {
        vec!["many".to_owned()]
    } else {
        notes
    }
}

/// Series, or streams of lines, by their labels; `None` when the result has none.
pub fn by_labels(result: &Value) -> Option<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for series in result.as_array()? {
        let mut rest = series.as_object()?.clone();
        let labels = rest.remove("metric").or_else(|| rest.remove("stream"))?;
        let labels = labels.to_string();
        // A series that comes twice must come twice in both.
        let mut key = labels.clone();
        while found.contains_key(&key) {
            key.push('+');
        }
        found.insert(key, Value::Object(rest));
    }
    Some(found)
}

/// Equal, numbers to 1e-9 of their size.
pub fn same(a: &Value, b: &Value) -> bool {
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
        (Value::String(a), Value::String(b))
            if a.len() == 19 && a.starts_with("1700") && !a.contains('.') =>
        {
            a == b
        }
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
    // What should be zero may be what rounding leaves of numbers around one.
    a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) || (a.abs() < 1e-10 && b.abs() < 1e-10)
}
