//! Which fields lines have: structured metadata, and what `| json` or `| logfmt` find.

use std::collections::{BTreeMap, BTreeSet};

use kittiwake_model::{Labels, duration};

use crate::ast::Stage;
use crate::lines::Line;
use crate::pipeline::{ERROR, ERROR_DETAILS, Hints, LineLabels, Pipeline};
use crate::units;

/// What is known of one field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Field {
    /// Its values.
    pub values: BTreeSet<String>,
    /// What its last value looked like: `int`, `float`, `boolean`, `duration`, `bytes` or
    /// `string`.
    pub kind: &'static str,
    /// The parsers that find it; none for structured metadata.
    pub parsers: Vec<&'static str>,
    /// Its path in a JSON line.
    pub json_path: Vec<String>,
}

/// Finds fields in lines, one after the other.
#[derive(Debug)]
pub struct FieldFinder {
    json: Pipeline,
    logfmt: Pipeline,
    fields_max: usize,
    /// What was found so far, by name.
    pub fields: BTreeMap<String, Field>,
}

impl FieldFinder {
    /// A finder of so many fields at most.
    pub fn new(fields_max: usize) -> Result<Self, String> {
        let logfmt = Stage::Logfmt {
            strict: false,
            keep_empty: false,
            fields: Vec::new(),
        };
        Ok(Self {
            json: Pipeline::new(&[Stage::Json(Vec::new())])?,
            logfmt: Pipeline::new(&[logfmt])?,
            fields_max,
            fields: BTreeMap::new(),
        })
    }

    /// Looks at a line.
    pub fn add(&mut self, line: &Line) {
        for (name, value) in &line.metadata {
            self.note(name, value, None, &[]);
        }
        for (name, value) in &line.parsed {
            if name != ERROR && name != ERROR_DETAILS {
                self.note(name, value, None, &[]);
            }
        }
        let (labels, parser) = match parsed(&self.json, line) {
            Some(labels) => (labels, "json"),
            None => match parsed(&self.logfmt, line) {
                Some(labels) => (labels, "logfmt"),
                None => return,
            },
        };
        let paths = if parser == "json" {
            json_paths(&line.text)
        } else {
            BTreeMap::new()
        };
        let none = Vec::new();
        for (name, value) in &labels {
            let plain = name.strip_suffix("_extracted").unwrap_or(name);
            let path = paths
                .get(name)
                .or_else(|| paths.get(plain))
                .unwrap_or(&none);
            self.note(name, value, Some(parser), path);
        }
    }

    fn note(&mut self, name: &str, value: &str, parser: Option<&'static str>, path: &[String]) {
        if !self.fields.contains_key(name) && self.fields.len() >= self.fields_max {
            return;
        }
        let field = self.fields.entry(name.to_owned()).or_default();
        field.kind = kind(value);
        field.values.insert(value.to_owned());
        if let Some(parser) = parser
            && !field.parsers.contains(&parser)
        {
            field.parsers.push(parser);
        }
        if !path.is_empty() {
            field.json_path = path.to_vec();
        }
    }
}

/// The labels that a parser finds, if it can read the line.
fn parsed(pipeline: &Pipeline, line: &Line) -> Option<Labels> {
    let mut labels = LineLabels::new(line.stream.clone(), &Labels::empty());
    pipeline.run(line.time_ns, &line.text, &mut labels, &Hints::default())?;
    let [_, _, parsed] = labels.by_category();
    labels.error.is_empty().then_some(parsed)
}

/// The paths of all fields of a JSON line by the names of their labels.
fn json_paths(line: &str) -> BTreeMap<String, Vec<String>> {
    use crate::pipeline::json_scan::{Kind, Stop, each};
    fn walk(
        text: &str,
        path: &mut Vec<String>,
        found: &mut BTreeMap<String, Vec<String>>,
    ) -> Result<(), Stop> {
        if path.len() > 100 {
            return Ok(());
        }
        each(text, |key, raw, kind| {
            path.push(key.to_owned());
            if kind == Kind::Object {
                walk(raw, path, found)?;
            } else {
                let name: Vec<String> =
                    path.iter().map(|p| crate::pipeline::sanitized(p)).collect();
                found.entry(name.join("_")).or_insert_with(|| path.clone());
            }
            path.pop();
            Ok(())
        })
    }
    let mut found = BTreeMap::new();
    let _ = walk(line, &mut Vec::new(), &mut found);
    found
}

fn kind(value: &str) -> &'static str {
    if value.parse::<i64>().is_ok() {
        "int"
    } else if units::parse_float(value).is_ok() {
        "float"
    } else if matches!(
        value,
        "t" | "T" | "TRUE" | "true" | "True" | "f" | "F" | "FALSE" | "false" | "False"
    ) {
        "boolean"
    } else if duration::parse(value).is_ok() {
        "duration"
    } else if units::parse_bytes(value).is_ok() {
        "bytes"
    } else {
        "string"
    }
}
