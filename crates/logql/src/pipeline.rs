//! What a line goes through: compiled once per query, run once per line.

mod field_test;
mod functions;
mod ip;
pub(crate) mod json;
pub(crate) mod json_scan;
mod label_filter;
mod labels;
pub(crate) mod logfmt;
mod pattern;

use std::borrow::Cow;

use kittiwake_model::{FieldFilter, LineFilter};
use kittiwake_template::{Limits, Template, Value};
use regex::Regex;

use crate::ast::{NamedMatcher, Stage, TextFilter, TextOp, Unwrap, Wanted};
pub(crate) use field_test::OneField;
use functions::LogFunctions;
use label_filter::CompiledFilter;
pub(crate) use labels::{Category, Hints, LineLabels, sanitized};

/// The label that tells which error a line met.
pub(crate) const ERROR: &str = "__error__";
/// The label that tells more of it.
pub(crate) const ERROR_DETAILS: &str = "__error_details__";
/// Marks lines with errors that the query asked to see.
pub(crate) const PRESERVE_ERROR: &str = "__preserve_error__";

const JSON_ERROR: &str = "JSONParserErr";
const LOGFMT_ERROR: &str = "LogfmtParserErr";
const TEMPLATE_ERROR: &str = "TemplateFormatErr";
const FILTER_ERROR: &str = "LabelFilterErr";
pub(crate) const SAMPLE_ERROR: &str = "SampleExtractionErr";

/// Escape sequences of terminals: an introducer, then either a string up to BEL or
/// parameters and a final byte.
const ANSI: &str = "[\u{1b}\u{9b}][\\[\\]()#;?]*(?:(?:(?:[a-zA-Z\\d]*(?:;[a-zA-Z\\d]*)*)?\u{7})|(?:(?:\\d{1,4}(?:;\\d{0,4})*)?[\\dA-PRZcf-ntqry=><~]))";

/// Stages, ready to run.
#[derive(Debug, Clone)]
pub struct Pipeline {
    stages: Vec<Compiled>,
    /// Labels that the stages read.
    pub(crate) required: Vec<String>,
}

#[derive(Debug, Clone)]
enum Compiled {
    Store(LineFilter),
    Text(Vec<TextMatch>, bool),
    Json,
    JsonPaths(Vec<(String, Vec<json::Step>)>),
    Logfmt {
        strict: bool,
        keep_empty: bool,
    },
    LogfmtFields {
        strict: bool,
        fields: Vec<(String, String)>,
    },
    Regexp(Regex, Vec<(usize, String)>),
    Pattern(pattern::Pattern),
    Unpack,
    Label(CompiledFilter),
    LineFormat(Template),
    LabelFormat(Vec<(String, Format)>),
    Decolorize(Regex),
    Drop(Vec<NamedMatcher>),
    Keep(Vec<NamedMatcher>),
}

#[derive(Debug, Clone)]
enum TextMatch {
    Text(String),
    Regex(Regex),
    Pattern(pattern::Pattern),
    Ip(ip::IpMatcher),
}

impl TextMatch {
    fn is_in(&self, line: &str) -> bool {
        match self {
            Self::Text(text) => line.contains(text.as_str()),
            Self::Regex(regex) => regex.is_match(line),
            Self::Pattern(pattern) => pattern.matches_whole(line),
            Self::Ip(ip) => ip.is_in(line),
        }
    }
}

#[derive(Debug, Clone)]
enum Format {
    Rename(String),
    Template(Template),
}

/// Compiles the filters behind `unwrap`, to see that they make sense.
pub(crate) fn check_filters(unwrap: Option<&Unwrap>) -> Result<(), String> {
    for filter in unwrap.iter().flat_map(|u| &u.filters) {
        CompiledFilter::new(filter)?;
    }
    Ok(())
}

impl Pipeline {
    /// Compiles stages.
    pub fn new(stages: &[Stage]) -> Result<Self, String> {
        let mut required = Vec::new();
        let stages = stages.iter().map(|stage| compile(stage, &mut required));
        Ok(Self {
            stages: stages.collect::<Result<_, _>>()?,
            required,
        })
    }

    /// Appends filters on labels.
    pub(crate) fn push_filters(
        &mut self,
        filters: &[crate::ast::LabelFilter],
    ) -> Result<(), String> {
        for filter in filters {
            filter.names(&mut self.required);
            self.stages
                .push(Compiled::Label(CompiledFilter::new(filter)?));
        }
        Ok(())
    }

    /// Takes the filters that a store can do off the start.
    pub(crate) fn take_filters(&mut self) -> Vec<LineFilter> {
        let is_store = |stage: &Compiled| matches!(stage, Compiled::Store(_));
        let count = self.stages.iter().take_while(|s| is_store(s)).count();
        let filters = self.stages.drain(..count);
        filters
            .filter_map(|stage| match stage {
                Compiled::Store(filter) => Some(filter),
                _ => None,
            })
            .collect()
    }

    /// What lines must have for labels of them to equal what is asked: told by the filters that
    /// come before anything but parsers of fields.
    pub(crate) fn field_filters(&self) -> Vec<FieldFilter> {
        let mut found = Vec::new();
        for stage in &self.stages {
            match stage {
                Compiled::Json
                | Compiled::JsonPaths(_)
                | Compiled::Logfmt { .. }
                | Compiled::LogfmtFields { .. }
                | Compiled::Store(_)
                | Compiled::Text(..) => {}
                Compiled::Label(filter) => filter.equalities(&mut |matcher| {
                    let name = matcher.name();
                    // Parsers make a space of what was no UTF-8.
                    let pieces = matcher.value().split(' ');
                    let text = pieces.max_by_key(|p| p.len()).unwrap_or_default();
                    let is_field = !name.starts_with("__") && !name.ends_with("_extracted");
                    if is_field && !text.is_empty() {
                        found.push(FieldFilter {
                            name: name.to_owned(),
                            text: text.to_owned(),
                        });
                    }
                }),
                _ => break,
            }
        }
        found
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Takes a line through all stages; nothing when one drops it.
    pub(crate) fn run<'a>(
        &self,
        time_ns: i64,
        line: &'a str,
        labels: &mut LineLabels,
        hints: &Hints,
    ) -> Option<Cow<'a, str>> {
        let mut line = Cow::Borrowed(line);
        for stage in &self.stages {
            if !stage.run(time_ns, &mut line, labels, hints) {
                return None;
            }
        }
        Some(line)
    }
}

fn compile(stage: &Stage, required: &mut Vec<String>) -> Result<Compiled, String> {
    Ok(match stage {
        Stage::Line(filter) => text_filter(filter)?,
        Stage::Json(fields) if fields.is_empty() => Compiled::Json,
        Stage::Json(fields) => {
            let paths = fields.iter().map(|field| {
                let path = json::path(&field.path)
                    .map_err(|e| format!("cannot parse expression [{}]: {e}", field.path))?;
                Ok((field.name.clone(), path))
            });
            Compiled::JsonPaths(paths.collect::<Result<_, String>>()?)
        }
        Stage::Logfmt {
            strict,
            keep_empty,
            fields,
        } if fields.is_empty() => Compiled::Logfmt {
            strict: *strict,
            keep_empty: *keep_empty,
        },
        Stage::Logfmt { strict, fields, .. } => Compiled::LogfmtFields {
            strict: *strict,
            fields: fields
                .iter()
                .map(|field| {
                    if field.path.is_empty() || field.path.contains(['=', ' ', '"']) {
                        return Err(format!("cannot parse expression [{}]", field.path));
                    }
                    Ok((field.name.clone(), field.path.clone()))
                })
                .collect::<Result<_, String>>()?,
        },
        Stage::Regexp(text) => regexp(text)?,
        Stage::Pattern(text) => {
            let pattern = pattern::Pattern::parser(text)
                .map_err(|e| format!("invalid pattern parser: {e}"))?;
            Compiled::Pattern(pattern)
        }
        Stage::Unpack => Compiled::Unpack,
        Stage::Label(filter) => {
            filter.names(required);
            Compiled::Label(CompiledFilter::new(filter)?)
        }
        Stage::LineFormat(text) => {
            let template = Template::parse(text, &LogFunctions::default()).map_err(|e| {
                format!("stage '{stage}' : invalid line template: template: line:{e}")
            })?;
            required.extend(template.fields());
            Compiled::LineFormat(template)
        }
        Stage::LabelFormat(formats) => {
            let mut compiled: Vec<(String, Format)> = Vec::with_capacity(formats.len());
            for format in formats {
                let name = &format.name;
                if name == ERROR {
                    return Err(format!("stage '{stage}' : {name} cannot be formatted"));
                }
                if compiled.iter().any(|(n, _)| n == name) {
                    return Err(format!(
                        "stage '{stage}' : multiple label name '{name}' not allowed in a single format operation"
                    ));
                }
                let format = if format.is_rename {
                    required.push(format.value.clone());
                    Format::Rename(format.value.clone())
                } else {
                    let template = Template::parse(&format.value, &LogFunctions::default())
                        .map_err(|e| {
                            format!(
                                "stage '{stage}' : invalid template for label '{name}': template: label:{e}"
                            )
                        })?;
                    required.extend(template.fields());
                    Format::Template(template)
                };
                compiled.push((name.clone(), format));
            }
            Compiled::LabelFormat(compiled)
        }
        Stage::Decolorize => Compiled::Decolorize(
            kittiwake_model::pattern::unanchored(ANSI).map_err(|e| e.to_string())?,
        ),
        Stage::Drop(names) => Compiled::Drop(names.clone()),
        Stage::Keep(names) => Compiled::Keep(names.clone()),
    })
}

/// A regular expression in which a dot matches no newline, as in Loki's stages.
fn compile_regex(text: &str) -> Result<Regex, String> {
    kittiwake_model::pattern::unanchored(&format!("(?-s:{text})"))
        .map_err(|e| format!("error parsing regexp: {e}"))
}

fn text_filter(filter: &TextFilter) -> Result<Compiled, String> {
    let mut matches = Vec::new();
    for wanted in &filter.alternatives {
        matches.push(match (wanted, filter.op) {
            (Wanted::Ip(pattern), TextOp::Contains | TextOp::NotContains) => {
                TextMatch::Ip(ip::IpMatcher::new(pattern)?)
            }
            (Wanted::Ip(_), _) => {
                return Err("ip: invalid operation: only |= and != take ip()".to_owned());
            }
            (Wanted::Text(text), TextOp::Matches | TextOp::NotMatches) => {
                TextMatch::Regex(compile_regex(text)?)
            }
            (Wanted::Text(text), TextOp::Like | TextOp::NotLike) => {
                TextMatch::Pattern(pattern::Pattern::filter(text)?)
            }
            (Wanted::Text(text), _) => TextMatch::Text(text.clone()),
        });
    }
    let is_negated = filter.op.is_negated();
    Ok(match filter.for_store() {
        Some(LineFilter::Matches(_) | LineFilter::NotMatches(_)) => {
            let regexes = matches.into_iter().filter_map(|m| match m {
                TextMatch::Regex(regex) => Some(regex),
                _ => None,
            });
            let regexes = regexes.collect();
            Compiled::Store(if is_negated {
                LineFilter::NotMatches(regexes)
            } else {
                LineFilter::Matches(regexes)
            })
        }
        Some(filter) => Compiled::Store(filter),
        None => Compiled::Text(matches, is_negated),
    })
}

fn regexp(text: &str) -> Result<Compiled, String> {
    let invalid = |e: String| format!("invalid regexp parser: {e}");
    let regex = compile_regex(text).map_err(invalid)?;
    let mut names: Vec<(usize, String)> = Vec::new();
    for (index, name) in regex.capture_names().enumerate() {
        let Some(name) = name else { continue };
        if names.iter().any(|(_, n)| n == name) {
            return Err(invalid(format!("duplicate extracted label name '{name}'")));
        }
        names.push((index, name.to_owned()));
    }
    if names.is_empty() {
        return Err(invalid(
            "at least one named capture must be supplied".to_owned(),
        ));
    }
    Ok(Compiled::Regexp(regex, names))
}

impl Compiled {
    fn run(
        &self,
        time_ns: i64,
        line: &mut Cow<'_, str>,
        labels: &mut LineLabels,
        hints: &Hints,
    ) -> bool {
        match self {
            Self::Store(filter) => return filter.accepts(line),
            Self::Text(wanted, is_negated) => {
                return wanted.iter().any(|w| w.is_in(line)) != *is_negated;
            }
            Self::Json => json::all(line, labels, hints),
            Self::JsonPaths(paths) => json::paths(line, paths, labels, hints),
            Self::Logfmt { strict, keep_empty } => {
                logfmt::all(line, *strict, *keep_empty, labels, hints);
            }
            Self::LogfmtFields { strict, fields } => {
                logfmt::fields(line, *strict, fields, labels, hints);
            }
            Self::Regexp(regex, names) => {
                if let Some(found) = regex.captures(line) {
                    for (index, name) in names {
                        let value = found.get(*index).map_or("", |m| m.as_str());
                        labels.extract(&labels::sanitized(name), value, hints);
                    }
                }
            }
            Self::Pattern(pattern) => {
                if !labels.needs_nothing(hints) {
                    for (name, value) in pattern.captures(line) {
                        labels.extract(name, value, hints);
                    }
                }
            }
            Self::Unpack => {
                if let Some(entry) = json::unpack(line, labels, hints) {
                    *line = Cow::Owned(entry);
                }
            }
            Self::Label(filter) => return filter.accepts(labels),
            Self::LineFormat(template) => line_format(template, time_ns, line, labels),
            Self::LabelFormat(formats) => label_format(formats, time_ns, line, labels),
            Self::Decolorize(regex) => {
                if let Cow::Owned(plain) = regex.replace_all(line, "") {
                    *line = Cow::Owned(plain);
                }
            }
            Self::Drop(names) => drop_labels(names, labels),
            Self::Keep(names) => keep_labels(names, labels),
        }
        true
    }
}

fn line_format(
    template: &Template,
    time_ns: i64,
    line: &mut Cow<'_, str>,
    labels: &mut LineLabels,
) {
    if let Some(name) = template.as_field() {
        *line = Cow::Owned(labels.get(name).unwrap_or_default().to_owned());
        return;
    }
    let dot = Value::texts(labels.all());
    let functions = LogFunctions {
        line: line.to_string(),
        time_ns,
    };
    let mut out = String::new();
    match template.render(&dot, &functions, &Limits::default(), &mut out) {
        Ok(()) => *line = Cow::Owned(out),
        Err(error) => labels.set_error(TEMPLATE_ERROR, &error.told("line")),
    }
}

fn label_format(formats: &[(String, Format)], time_ns: i64, line: &str, labels: &mut LineLabels) {
    let mut dot = None;
    for (name, format) in formats {
        match format {
            Format::Rename(from) => {
                if let Some(value) = labels.get(from).map(str::to_owned) {
                    labels.set(Category::Parsed, name, &value);
                    labels.delete(from);
                }
            }
            Format::Template(template) => {
                let dot = dot.get_or_insert_with(|| Value::texts(labels.all()));
                let functions = LogFunctions {
                    line: line.to_owned(),
                    time_ns,
                };
                let mut out = String::new();
                match template.render(dot, &functions, &Limits::default(), &mut out) {
                    Ok(()) => labels.set(Category::Parsed, name, &out),
                    Err(error) => {
                        labels.set_error(TEMPLATE_ERROR, &error.told("label"));
                    }
                }
            }
        }
    }
}

fn drop_labels(names: &[NamedMatcher], labels: &mut LineLabels) {
    for one in names {
        let (name, matcher) = match one {
            NamedMatcher::Name(name) => (name.as_str(), None),
            NamedMatcher::Matcher(matcher) => (matcher.name(), Some(matcher)),
        };
        let slot = match name {
            ERROR => Some(&mut labels.error),
            ERROR_DETAILS => Some(&mut labels.error_details),
            _ => None,
        };
        if let Some(slot) = slot {
            if matcher.is_none_or(|m| m.matches(slot)) {
                slot.clear();
            }
        } else if match matcher {
            Some(matcher) => matcher.matches(labels.get(name).unwrap_or_default()),
            None => labels.get(name).is_some(),
        } {
            labels.delete(name);
        }
    }
}

fn keep_labels(names: &[NamedMatcher], labels: &mut LineLabels) {
    for (name, value) in labels.all() {
        let keeps = |one: &NamedMatcher| match one {
            NamedMatcher::Name(wanted) => *wanted == name,
            NamedMatcher::Matcher(matcher) => matcher.name() == name && matcher.matches(&value),
        };
        let is_special = name == ERROR || name == ERROR_DETAILS;
        if !is_special && !names.iter().any(keeps) {
            labels.delete(&name);
        }
    }
}
