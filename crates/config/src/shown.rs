//! A configuration as it may be shown: YAML without its secrets.

use std::fmt::Write as _;

use serde_json::Value;

/// What stands in place of a secret, as Prometheus writes it.
const SECRET: &str = "<secret>";
/// Fields that hold secrets wherever they stand.
const SECRETS: [&str; 12] = [
    "password",
    "credentials",
    "bearer_token",
    "client_secret",
    "secret",
    "secrets",
    "key",
    "secret_key",
    "private_key",
    "token",
    "api_key",
    "service_key",
];
/// Levels of nesting that are shown.
const DEPTH_MAX: usize = 64;

/// The text of a configuration file with `<secret>` for its secrets; empty where it is no YAML.
pub fn without_secrets(text: &str) -> String {
    without_secrets_in(text, &|_, name| SECRETS.contains(&name))
}

/// As [`without_secrets`]; a field is a secret if `is_secret` says so of it and of the name of
/// the list or the map that it stands in.
pub fn without_secrets_in(text: &str, is_secret: &dyn Fn(&str, &str) -> bool) -> String {
    let mut value: Value = serde_saphyr::from_str(text).unwrap_or(Value::Null);
    mask(&mut value, is_secret, "", 0);
    let mut out = String::new();
    if !value.is_null() {
        push(&mut out, &value, 0, false);
    }
    out
}

/// A value as YAML.
pub fn yaml_of(value: &Value) -> String {
    let mut out = String::new();
    push(&mut out, value, 0, false);
    out
}

/// One job of a configuration, whose secrets are gone already.
pub fn job_without_secrets(shown: &str, job_name: &str) -> String {
    let value: Value = serde_saphyr::from_str(shown).unwrap_or(Value::Null);
    let jobs = value.get("scrape_configs").and_then(Value::as_array);
    let mut jobs = jobs.into_iter().flatten();
    let job = jobs.find(|job| job.get("job_name").and_then(Value::as_str) == Some(job_name));
    let mut out = String::new();
    if let Some(job) = job {
        push(&mut out, job, 0, false);
    } else {
        // It stands in a file of its own.
        out.push_str("job_name: ");
        push_text(&mut out, job_name);
        out.push('\n');
    }
    out
}

fn mask(value: &mut Value, is_secret: &dyn Fn(&str, &str) -> bool, within: &str, depth: usize) {
    if depth > DEPTH_MAX {
        *value = Value::Null;
        return;
    }
    match value {
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| mask(item, is_secret, within, depth + 1)),
        Value::Object(fields) => {
            for (name, field) in fields {
                if is_secret(within, name) && !field.is_null() {
                    *field = Value::from(SECRET);
                } else {
                    mask(field, is_secret, name, depth + 1);
                }
            }
        }
        _ => {}
    }
}

/// Appends a value as a block, or as what stands behind a key or a dash.
fn push(out: &mut String, value: &Value, indent: usize, is_inline: bool) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            if is_inline {
                out.push('\n');
            }
            for item in items {
                push_indent(out, indent);
                out.push('-');
                push_item(out, item, indent);
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            if is_inline {
                out.push('\n');
            }
            push_fields(out, fields.iter(), indent, true);
        }
        scalar => {
            if is_inline {
                out.push(' ');
            }
            push_scalar(out, scalar);
            out.push('\n');
        }
    }
}

fn push_fields<'v>(
    out: &mut String,
    fields: impl Iterator<Item = (&'v String, &'v Value)>,
    indent: usize,
    mut is_indented: bool,
) {
    for (name, value) in fields {
        if is_indented {
            push_indent(out, indent);
        }
        is_indented = true;
        push_text(out, name);
        out.push(':');
        let deeper = if value.is_array() { indent } else { indent + 2 };
        push(out, value, deeper, true);
    }
}

fn push_item(out: &mut String, item: &Value, indent: usize) {
    match item {
        // The first field stands behind the dash.
        Value::Object(fields) if !fields.is_empty() => {
            out.push(' ');
            push_fields(out, fields.iter(), indent + 2, false);
        }
        other => push(out, other, indent + 2, true),
    }
}

fn push_indent(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn push_scalar(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => push_text(out, text),
        // Writing to a text cannot fail.
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

/// A text, in quotes unless it is surely read back as the same text.
fn push_text(out: &mut String, text: &str) {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if is_plain || text == SECRET {
        out.push_str(text);
    } else {
        // Strings of JSON are strings of YAML.
        let _ = write!(out, "{}", Value::from(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown_and_the_rest_reads_back() {
        let text = "global:\n  scrape_interval: 15s\nscrape_configs:\n- job_name: 'a b'\n  basic_auth: {username: u, password: hunter2}\n  static_configs:\n  - targets: ['h:1', x]\n    labels: {a: 'true'}\n  params: {m: []}\n";
        let shown = without_secrets(text);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("password: <secret>"), "{shown}");
        let config = crate::PrometheusConfig::parse(&shown, std::path::Path::new("/")).unwrap();
        assert_eq!(config.scrape_configs[0].job_name, "a b");
        let read: Value = serde_saphyr::from_str(&shown).unwrap();
        let before: Value = serde_saphyr::from_str(&text.replace("hunter2", "<secret>")).unwrap();
        assert_eq!(read, before);
        assert_eq!(without_secrets(""), "");
    }
}
