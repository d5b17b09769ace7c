//! Whether two answers of Loki's API are the same.

use serde_json::Value;

use crate::answers::{Kind, by_labels, same};
use crate::harness::Answer;

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
    let is_matching = |answer: &Answer| error_kind(&answer.text) == "matching";
    if (ours.status, theirs.status) == (400, 500) && is_matching(ours) && is_matching(theirs) {
        // See `tests/deviations.md`.
        return Ok(());
    }
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
    let (Some(mut a), Some(mut b)) = (by_labels(a), by_labels(b)) else {
        return if same(a, b) {
            Ok(())
        } else {
            Err(format!("{a}, Loki: {b}"))
        };
    };
    // Loki may give several series of the same labels: see `tests/deviations.md`.
    let repeated = b
        .iter()
        .filter(|(key, series)| key.ends_with('+') || has_times_twice(series));
    let repeated: Vec<String> = repeated.map(|(key, _)| key.clone()).collect();
    for key in repeated {
        let labels = key.trim_end_matches('+');
        a.remove(labels);
        b.remove(labels);
        b.remove(&key);
    }
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

/// Whether a series of a matrix has two values of one time.
fn has_times_twice(series: &Value) -> bool {
    let values = series["values"].as_array().into_iter().flatten();
    let times: Vec<&Value> = values.map(|value| &value[0]).collect();
    times.first().is_some_and(|time| time.is_number())
        && times.windows(2).any(|pair| pair[0] == pair[1])
}

/// The answer, in which what was no UTF-8 is one character, however long.
fn whole(answer: &Answer) -> Value {
    let mut text = answer.text.replace("\\ufffd", "\u{fffd}");
    while text.contains("\u{fffd}\u{fffd}") {
        text = text.replace("\u{fffd}\u{fffd}", "\u{fffd}");
    }
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}
