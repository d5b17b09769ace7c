//! `| json` and `| unpack`.

use super::json_scan::{Kind, Stop, each, elements, label_value, unescape, value};
use super::labels::{Category, Hints, LineLabels, push_sanitized, sanitized};
use super::{JSON_ERROR, json_scan};

/// Objects within each other that are looked into.
const DEPTH_MAX: usize = 100;
/// The key under which a packed line has its text.
const PACKED: &str = "_entry";

/// One step of a path into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// Reads a path like `a.b[0]["c d"]`.
pub(crate) fn path(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = text;
    let bad = || format!("unexpected {text:?}");
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            if let Some(quoted) = inside.strip_prefix('"') {
                let end = quoted.find("\"]").ok_or_else(bad)?;
                steps.push(Step::Key(quoted[..end].to_owned()));
                rest = &quoted[end + 2..];
            } else {
                let end = inside.find(']').ok_or_else(bad)?;
                steps.push(Step::Index(inside[..end].parse().map_err(|_| bad())?));
                rest = &inside[end + 1..];
            }
            continue;
        }
        if let Some(field) = rest.strip_prefix('.') {
            if steps.is_empty() {
                return Err(bad());
            }
            rest = field;
        } else if !steps.is_empty() {
            return Err(bad());
        }
        let is_name =
            |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '@' | '/' | ':' | '$');
        let len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        if len == 0 {
            return Err(bad());
        }
        steps.push(Step::Key(rest[..len].to_owned()));
        rest = &rest[len..];
    }
    if steps.is_empty() {
        return Err(bad());
    }
    Ok(steps)
}

/// All fields become labels; those of nested objects with their path as name.
pub(crate) fn all(line: &str, labels: &mut LineLabels, hints: &Hints) {
    if labels.needs_nothing(hints) {
        return;
    }
    let mut prefix = String::new();
    match object(line, &mut prefix, labels, hints, 0) {
        Ok(()) | Err(Stop::Enough) => {}
        Err(Stop::Error(details)) => labels.parser_error(JSON_ERROR, details, hints),
    }
}

fn object(
    text: &str,
    prefix: &mut String,
    labels: &mut LineLabels,
    hints: &Hints,
    depth: usize,
) -> Result<(), Stop> {
    if depth > DEPTH_MAX {
        return Ok(());
    }
    each(text, |key, raw, kind| {
        match kind {
            Kind::Text | Kind::Number | Kind::Bool => {
                let name = joined(prefix, key);
                if !name.is_empty() {
                    labels.extract(&name, &label_value(raw, kind), hints);
                }
            }
            Kind::Object => {
                let len = prefix.len();
                *prefix = joined(prefix, key);
                let done = if hints.wants_prefix(prefix) {
                    object(raw, prefix, labels, hints, depth + 1)
                } else {
                    Ok(())
                };
                prefix.truncate(len);
                return done;
            }
            _ => {}
        }
        if labels.has_all(hints) {
            return Err(Stop::Enough);
        }
        Ok(())
    })
}

fn joined(prefix: &str, key: &str) -> String {
    if prefix.is_empty() {
        return sanitized(key);
    }
    let mut name = prefix.to_owned();
    if !key.trim().is_empty() {
        name.push('_');
        push_sanitized(&mut name, key);
    }
    name
}

/// The fields at some paths become labels; those that are not there become empty ones.
pub(crate) fn paths(
    line: &str,
    paths: &[(String, Vec<Step>)],
    labels: &mut LineLabels,
    hints: &Hints,
) {
    if line.is_empty() || labels.needs_nothing(hints) {
        return;
    }
    if !line.starts_with(['"', '{', '[']) {
        labels.parser_error(JSON_ERROR, "", hints);
        return;
    }
    let mut found = 0;
    for (name, path) in paths {
        let (raw, kind) = match at(line, path) {
            Ok(Some(value)) => value,
            Ok(None) => continue,
            Err(details) => {
                labels.parser_error(JSON_ERROR, details, hints);
                continue;
            }
        };
        found += 1;
        let name = labels.parsed_name(name);
        let value = match kind {
            Kind::Null => String::new(),
            Kind::Object => raw.to_owned(),
            Kind::Array => unescape(raw).unwrap_or_default(),
            _ => label_value(raw, kind),
        };
        labels.set(Category::Parsed, &name, &value);
    }
    if found < paths.len() {
        for (name, _) in paths {
            if labels.get(name).is_none() {
                labels.set(Category::Parsed, name, "");
            }
        }
    }
}

/// The value at a path. The line is looked into even where its end is cut: only the value
/// itself must be whole.
pub(crate) fn at<'a>(
    line: &'a str,
    path: &[Step],
) -> Result<Option<(&'a str, Kind)>, &'static str> {
    let Some((step, rest)) = path.split_first() else {
        return value(line, 0).map(|(raw, kind, _)| Some((raw, kind)));
    };
    let line = line.trim_start_matches([' ', '\n', '\r', '\t']);
    match step {
        Step::Key(wanted) if line.starts_with('{') => {
            let Some(inner) = json_scan::behind_key(line, wanted) else {
                return Ok(None);
            };
            at(inner, rest)
        }
        Step::Index(wanted) if line.starts_with('[') => {
            let (mut index, mut found) = (0, None);
            elements(line, |inner, kind| {
                if index == *wanted {
                    found = Some((inner, kind));
                    return false;
                }
                index += 1;
                true
            });
            match found {
                Some(value) if rest.is_empty() => Ok(Some(value)),
                Some((inner, _)) => at(inner, rest),
                None => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

/// The labels and the text of a packed line. A line that is none stays.
pub(crate) fn unpack(line: &str, labels: &mut LineLabels, hints: &Hints) -> Option<String> {
    if line.is_empty() || labels.needs_nothing(hints) {
        return None;
    }
    if !line.starts_with('{') {
        labels.parser_error(JSON_ERROR, "expecting json object(6), but it is not", hints);
        return None;
    }
    let (mut entry, mut found) = (None, Vec::new());
    let walked = json_scan::each(line, |key, raw, kind| {
        if kind != Kind::Text {
            return Ok(());
        }
        if key == PACKED {
            entry = Some(unescape(raw).ok_or(Stop::Error(json_scan::MALFORMED))?);
            return Ok(());
        }
        let name = labels.parsed_name(key);
        if labels.is_wanted(&name, hints) {
            found.push((sanitized(&name), label_value(raw, kind)));
        }
        Ok(())
    });
    if let Err(Stop::Error(details)) = walked {
        labels.parser_error(JSON_ERROR, details, hints);
        return None;
    }
    let entry = entry?;
    for (name, value) in found {
        labels.set(Category::Parsed, &name, &value);
    }
    Some(entry)
}
