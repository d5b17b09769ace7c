//! Values as JSON, as Go writes them.

use std::collections::BTreeMap;

use kittiwake_template::Value;

use super::data::rfc3339;

/// The fields of an alert and of all data with their names in JSON, in order.
const ALERT: [(&str, &str); 7] = [
    ("Status", "status"),
    ("Labels", "labels"),
    ("Annotations", "annotations"),
    ("StartsAt", "startsAt"),
    ("EndsAt", "endsAt"),
    ("GeneratorURL", "generatorURL"),
    ("Fingerprint", "fingerprint"),
];
const DATA: [(&str, &str); 7] = [
    ("Receiver", "receiver"),
    ("Status", "status"),
    ("Alerts", "alerts"),
    ("GroupLabels", "groupLabels"),
    ("CommonLabels", "commonLabels"),
    ("CommonAnnotations", "commonAnnotations"),
    ("ExternalURL", "externalURL"),
];

/// A value as JSON.
pub(super) fn json_text(value: &Value) -> String {
    let mut out = String::new();
    push(&mut out, value);
    out
}

fn push(out: &mut String, value: &Value) {
    match value {
        Value::Nil => out.push_str("null"),
        Value::Bool(_) | Value::Int(_) => out.push_str(&value.to_string()),
        Value::Duration(ns) => out.push_str(&ns.to_string()),
        Value::Float(number) => {
            out.push_str(&serde_json::Value::from(*number).to_string());
        }
        Value::Text(text) | Value::Marked(_, text) => {
            out.push_str(&kittiwake_template::json_text(text));
        }
        Value::Time(ns, _) => out.push_str(&kittiwake_template::json_text(&rfc3339(*ns))),
        Value::List(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push(out, value);
            }
            out.push(']');
        }
        Value::Map(fields, _) => push_map(out, fields),
    }
}

fn push_map(out: &mut String, fields: &BTreeMap<String, Value>) {
    let known = [&DATA, &ALERT]
        .into_iter()
        .find(|known| known.iter().all(|(name, _)| fields.contains_key(*name)));
    let named: Vec<(&str, &Value)> = match known {
        Some(known) => known
            .iter()
            .filter_map(|(name, json)| Some((*json, fields.get(*name)?)))
            .collect(),
        None => fields.iter().map(|(n, v)| (n.as_str(), v)).collect(),
    };
    out.push('{');
    for (index, (name, value)) in named.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&kittiwake_template::json_text(name));
        out.push(':');
        push(out, value);
    }
    out.push('}');
}

/// A number of seconds from what may stand for one.
pub(super) fn seconds(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Duration(ns) => Some(*ns as f64 / 1e9),
        Value::Text(text) | Value::Marked(_, text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Most values inside each other.
const DEPTH_MAX: usize = 32;

/// A setting of any shape with its texts rendered. A text that reads as something else in YAML
/// becomes that.
pub(crate) fn rendered(
    value: &serde_json::Value,
    render: &dyn Fn(&str) -> String,
) -> serde_json::Value {
    match value {
        serde_json::Value::String(text) => from_yaml(&render(text), 0),
        serde_json::Value::Array(items) => items
            .iter()
            .map(|item| rendered(item, render))
            .collect::<Vec<_>>()
            .into(),
        serde_json::Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (render(name), rendered(value, render)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// What a text means in YAML 1.1; a text that is nothing else stays as it is.
fn from_yaml(text: &str, depth: usize) -> serde_json::Value {
    let plain = text.trim();
    match plain {
        "" | "~" | "null" | "Null" | "NULL" => return serde_json::Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return true.into();
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return false.into();
        }
        _ => {}
    }
    let read = serde_saphyr::from_str::<serde_json::Value>(text);
    match read {
        Ok(serde_json::Value::String(_)) | Err(_) => serde_json::Value::from(text),
        Ok(value) if depth < DEPTH_MAX => inner(value, depth + 1),
        Ok(_) => serde_json::Value::from(text),
    }
}

/// Texts inside are read once more, as Alertmanager does.
fn inner(value: serde_json::Value, depth: usize) -> serde_json::Value {
    match value {
        serde_json::Value::String(text) => from_yaml(&text, depth),
        serde_json::Value::Array(items) => {
            let items = items.into_iter().map(|item| inner(item, depth));
            items.collect::<Vec<_>>().into()
        }
        serde_json::Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, inner(value, depth)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}
