//! Rule files, in Prometheus' format. A group may say `type: logql`, and its expressions are of
//! LogQL then.
//!
//! A file is checked whole: each mistake is found, with its place, in the words of Prometheus.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kittiwake_config::{Interval, NameScheme, Shape, first_document, read_file};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::engine::{Engine, Language, Query};
use crate::text;

/// Rules that a file may have.
pub const RULES_MAX: usize = 1_000_000;

const TEXTS: Shape = Shape::MapOf(&Shape::Any);
const RULE: Shape = Shape::Fields(
    "rulefmt.Rule",
    &[
        ("record", &Shape::Any),
        ("alert", &Shape::Any),
        ("expr", &Shape::Any),
        ("for", &Shape::Any),
        ("keep_firing_for", &Shape::Any),
        ("labels", &TEXTS),
        ("annotations", &TEXTS),
    ],
);
const GROUP: Shape = Shape::Fields(
    "rulefmt.RuleGroup",
    &[
        ("name", &Shape::Any),
        ("type", &Shape::Any),
        ("interval", &Shape::Any),
        ("query_offset", &Shape::Any),
        ("limit", &Shape::Any),
        ("rules", &Shape::List(&RULE)),
        ("labels", &TEXTS),
    ],
);
const FILE: Shape = Shape::Fields("rulefmt.RuleGroups", &[("groups", &Shape::List(&GROUP))]);

type Texts = Option<BTreeMap<String, Option<String>>>;

#[derive(Debug, Default, Deserialize)]
struct FileFields {
    groups: Option<Vec<Spanned<GroupFields>>>,
}

#[derive(Debug, Deserialize)]
struct GroupFields {
    name: Option<String>,
    #[serde(rename = "type")]
    language: Option<Spanned<String>>,
    interval: Option<Interval>,
    query_offset: Option<Interval>,
    limit: Option<i64>,
    rules: Option<Vec<Spanned<RuleFields>>>,
    labels: Texts,
}

#[derive(Debug, Deserialize)]
struct RuleFields {
    record: Option<Spanned<String>>,
    alert: Option<Spanned<String>>,
    expr: Option<Spanned<String>>,
    #[serde(rename = "for")]
    hold: Option<Interval>,
    keep_firing_for: Option<Interval>,
    labels: Texts,
    annotations: Texts,
}

/// A line and a column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    line: u64,
    column: u64,
}

impl Place {
    fn of<T>(value: &Spanned<T>) -> Self {
        Self {
            line: value.referenced.line(),
            column: value.referenced.column(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One mistake of a rule file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{message}", file_text(file), places_text(places))]
pub struct FileError {
    /// The file; empty for what is read from standard input.
    pub file: PathBuf,
    /// Where; empty where no place can be named.
    pub places: Vec<Place>,
    /// What.
    pub message: String,
}

fn file_text(file: &Path) -> String {
    if file.as_os_str().is_empty() {
        String::new()
    } else {
        format!("{}: ", file.display())
    }
}

fn places_text(places: &[Place]) -> String {
    let texts: Vec<String> = places.iter().map(|place| format!("{place}: ")).collect();
    texts.concat()
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleKind {
    /// It writes series.
    Record,
    /// It raises alerts.
    Alert,
}

/// A checked rule.
#[derive(Debug, Clone)]
pub struct RuleSpec {
    /// What it does.
    pub kind: RuleKind,
    /// The series' name, or the alert's.
    pub name: String,
    /// The expression.
    pub query: Arc<dyn Query>,
    /// How long something must be wrong before its alert fires.
    pub hold: Duration,
    /// How long an alert fires after nothing is wrong any more.
    pub keep_firing_for: Duration,
    /// Labels as written.
    pub labels: BTreeMap<String, String>,
    /// Annotations as written.
    pub annotations: BTreeMap<String, String>,
}

/// A checked group.
#[derive(Debug, Clone)]
pub struct GroupSpec {
    /// Its name, unique in the file.
    pub name: String,
    /// What its expressions are written in.
    pub language: Language,
    /// How often it runs, where it says.
    pub interval: Option<Duration>,
    /// How far back its expressions look, where it says.
    pub query_offset: Option<Duration>,
    /// Series or alerts of a rule at most; 0 or less is no limit.
    pub limit: i64,
    /// Labels of all its rules.
    pub labels: BTreeMap<String, String>,
    /// The rules in order.
    pub rules: Vec<RuleSpec>,
}

/// A checked file.
#[derive(Debug, Clone, Default)]
pub struct RuleFile {
    /// The groups in order.
    pub groups: Vec<GroupSpec>,
    /// Whether documents behind the first were passed over.
    pub has_more_documents: bool,
}

/// How a file is checked.
#[derive(Clone, Copy)]
pub struct Check<'a> {
    /// Knows the languages.
    pub engine: &'a dyn Engine,
    /// Which names are allowed.
    pub names: NameScheme,
    /// Whether fields that are not known are passed over.
    pub ignores_unknown_fields: bool,
}

impl Check<'_> {
    fn is_label(&self, name: &str) -> bool {
        self.names.label_is_valid(name) && name != "__name__"
    }

    /// Reads and checks a file.
    pub fn load(&self, file: &Path) -> Result<RuleFile, Vec<FileError>> {
        let text = read_file(file).map_err(|error| {
            vec![FileError {
                file: PathBuf::new(),
                places: Vec::new(),
                message: error.to_string(),
            }]
        })?;
        self.parse(&text, file)
    }

    /// Checks a text; `file` is what errors name.
    pub fn parse(&self, text: &str, file: &Path) -> Result<RuleFile, Vec<FileError>> {
        let (text, has_more_documents) = first_document(text);
        let mut checker = Checker {
            check: *self,
            file,
            errors: Vec::new(),
        };
        if !self.ignores_unknown_fields
            && let Err(problem) = FILE.check(text)
        {
            checker.report(Vec::new(), problem.to_string());
            return Err(checker.errors);
        }
        let fields = match serde_saphyr::from_str::<Option<FileFields>>(text) {
            Ok(fields) => fields.unwrap_or_default(),
            Err(error) => {
                let place = error.location().map(|location| Place {
                    line: location.line(),
                    column: location.column(),
                });
                let message = error.without_snippet().to_string();
                checker.report(place.into_iter().collect(), message);
                return Err(checker.errors);
            }
        };
        let groups = checker.groups(fields.groups.unwrap_or_default());
        if checker.errors.is_empty() {
            Ok(RuleFile {
                groups,
                has_more_documents,
            })
        } else {
            Err(checker.errors)
        }
    }
}

struct Checker<'a> {
    check: Check<'a>,
    file: &'a Path,
    errors: Vec<FileError>,
}

/// Where a rule stands, as errors name it.
struct Named<'a> {
    group: &'a str,
    number: usize,
    rule: &'a str,
}

fn texts(fields: Texts) -> BTreeMap<String, String> {
    let fields = fields.unwrap_or_default().into_iter();
    fields
        .map(|(name, value)| (name, value.unwrap_or_default()))
        .collect()
}

impl Checker<'_> {
    fn report(&mut self, places: Vec<Place>, message: String) {
        self.errors.push(FileError {
            file: self.file.to_owned(),
            places,
            message,
        });
    }

    fn report_rule(&mut self, places: Vec<Place>, at: &Named<'_>, message: &str) {
        let (group, rule) = (
            kittiwake_model::quote(at.group),
            kittiwake_model::quote(at.rule),
        );
        let number = at.number;
        self.report(
            places,
            format!("group {group}, rule {number}, {rule}: {message}"),
        );
    }

    fn groups(&mut self, groups: Vec<Spanned<GroupFields>>) -> Vec<GroupSpec> {
        let mut names = HashSet::new();
        let mut checked = Vec::with_capacity(groups.len());
        for group in groups {
            let place = Place::of(&group);
            let group = group.value;
            let name = group.name.unwrap_or_default();
            if name.is_empty() {
                self.report(vec![place], "Groupname must not be empty".to_owned());
            }
            if !names.insert(name.clone()) {
                let message = format!("groupname: \"{name}\" is repeated in the same file");
                self.report(vec![place], message);
            }
            let language = self.language(group.language);
            let (check, labels) = (self.check, texts(group.labels));
            for label in labels.keys().filter(|label| !check.is_label(label)) {
                self.errors.push(FileError {
                    file: self.file.to_owned(),
                    places: vec![place],
                    message: format!("invalid label name: {label}"),
                });
            }
            let rules = group.rules.unwrap_or_default().into_iter().enumerate();
            let rules = rules
                .take(RULES_MAX)
                .filter_map(|(index, rule)| self.rule(rule, &name, index + 1, language))
                .collect();
            checked.push(GroupSpec {
                name,
                language,
                interval: group.interval.map(|i| i.0).filter(|i| !i.is_zero()),
                query_offset: group.query_offset.map(|offset| offset.0),
                limit: group.limit.unwrap_or(0),
                labels,
                rules,
            });
        }
        checked
    }

    fn language(&mut self, given: Option<Spanned<String>>) -> Language {
        let Some(given) = given else {
            return Language::PromQl;
        };
        match given.value.as_str() {
            "promql" | "prometheus" | "" => Language::PromQl,
            "logql" | "loki" => Language::LogQl,
            other => {
                let other = kittiwake_model::quote(other);
                let message = format!("type {other} of a group is not known; use promql or logql");
                self.report(vec![Place::of(&given)], message);
                Language::PromQl
            }
        }
    }

    fn rule(
        &mut self,
        rule: Spanned<RuleFields>,
        group: &str,
        number: usize,
        language: Language,
    ) -> Option<RuleSpec> {
        let place = Place::of(&rule);
        let rule = rule.value;
        let given = |field: &Option<Spanned<String>>| {
            let field = field.as_ref().filter(|field| !field.value.is_empty());
            field.map(|field| (field.value.clone(), Place::of(field)))
        };
        let (record, alert, expr) = (given(&rule.record), given(&rule.alert), given(&rule.expr));
        let name = alert.as_ref().or(record.as_ref());
        let name = name.map(|(name, _)| name.clone()).unwrap_or_default();
        let at = Named {
            group,
            number,
            rule: &name,
        };
        match (&record, &alert) {
            (Some((_, record)), Some((_, alert))) => {
                let message = "only one of 'record' and 'alert' must be set";
                self.report_rule(vec![*record, *alert], &at, message);
            }
            (None, None) => {
                self.report_rule(vec![place], &at, "one of 'record' or 'alert' must be set");
            }
            _ => {}
        }
        let query = match &expr {
            None => {
                self.report_rule(vec![place], &at, "field 'expr' must be set in rule");
                None
            }
            Some((expr, place)) => match self.check.engine.compile(language, expr) {
                Ok(query) => Some(query),
                Err(error) => {
                    let message = format!("could not parse expression: {error}");
                    self.report_rule(vec![*place], &at, &message);
                    None
                }
            },
        };
        let check = self.check;
        let (labels, annotations) = (texts(rule.labels), texts(rule.annotations));
        let hold = rule.hold.map_or(Duration::ZERO, |i| i.0);
        let keep_firing_for = rule.keep_firing_for.map_or(Duration::ZERO, |i| i.0);
        if let Some((name, place)) = &record {
            for (field, is_set) in [
                ("annotations", !annotations.is_empty()),
                ("for", !hold.is_zero()),
                ("keep_firing_for", !keep_firing_for.is_zero()),
            ] {
                if is_set {
                    let message = format!("invalid field '{field}' in recording rule");
                    self.report_rule(vec![*place], &at, &message);
                }
            }
            self.record_name(name, *place, &at);
        }
        for label in labels.keys().filter(|label| !check.is_label(label)) {
            let message = format!("invalid label name: {label}");
            self.report_rule(vec![place], &at, &message);
        }
        for label in annotations.keys() {
            if !self.check.names.label_is_valid(label) {
                let message = format!("invalid annotation name: {label}");
                self.report_rule(vec![place], &at, &message);
            }
        }
        if let Some((alert, _)) = &alert {
            for (what, all) in [("label", &labels), ("annotation", &annotations)] {
                for (label, value) in all {
                    if let Err(error) = text::check(alert, value) {
                        let label = kittiwake_model::quote(label);
                        let message = format!("{what} {label}: {error}");
                        self.report_rule(vec![place], &at, &message);
                    }
                }
            }
        }
        Some(RuleSpec {
            kind: if alert.is_some() {
                RuleKind::Alert
            } else {
                RuleKind::Record
            },
            name,
            query: query?,
            hold,
            keep_firing_for,
            labels,
            annotations,
        })
    }

    fn record_name(&mut self, name: &str, place: Place, at: &Named<'_>) {
        let is_valid = match self.check.names {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => {
                !name.starts_with(|c: char| c.is_ascii_digit())
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
            }
        };
        if !is_valid {
            let message = format!("invalid recording rule name: {name}");
            self.report_rule(vec![place], at, &message);
        }
        // A common mistake: an expression where a name belongs.
        if name.contains(['{', '}']) {
            let message =
                format!("braces present in the recording rule name; should it be in expr?: {name}");
            self.report_rule(vec![place], at, &message);
        }
    }
}

/// A recording or alerting rule that another one has the name and labels of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duplicate {
    /// The series' name, or the alert's.
    pub name: String,
    /// The labels, the group's among them.
    pub labels: BTreeMap<String, String>,
}

/// Rules of a file that have the same name and labels, each once, sorted.
pub fn duplicates(groups: &[GroupSpec]) -> Vec<Duplicate> {
    let mut all: Vec<Duplicate> = Vec::new();
    for group in groups {
        all.extend(group.rules.iter().map(|rule| {
            let mut labels = group.labels.clone();
            labels.extend(rule.labels.clone());
            Duplicate {
                name: rule.name.clone(),
                labels,
            }
        }));
    }
    all.sort();
    let mut found: Vec<Duplicate> = Vec::new();
    for pair in all.windows(2) {
        if pair[0] == pair[1] && found.last() != Some(&pair[0]) {
            found.push(pair[0].clone());
        }
    }
    found
}
