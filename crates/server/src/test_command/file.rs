//! The files with tests of rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kittiwake_config::{Interval, Shape, glob, read_file};
use serde::Deserialize;

const ANY: &Shape = &Shape::Any;
const FILE: Shape = Shape::Fields(
    "main.unitTestFile",
    &[
        ("rule_files", ANY),
        ("evaluation_interval", ANY),
        ("group_eval_order", ANY),
        ("tests", &Shape::List(&GROUP)),
        ("fuzzy_compare", ANY),
    ],
);
const GROUP: Shape = Shape::Fields(
    "main.testGroup",
    &[
        ("interval", ANY),
        ("input_series", &Shape::List(&SERIES)),
        ("alert_rule_test", &Shape::List(&ALERTS)),
        ("promql_expr_test", &Shape::List(&EXPRESSION)),
        ("external_labels", ANY),
        ("external_url", ANY),
        ("name", ANY),
        ("start_timestamp", ANY),
    ],
);
const SERIES: Shape = Shape::Fields("main.series", &[("series", ANY), ("values", ANY)]);
const ALERTS: Shape = Shape::Fields(
    "main.alertTestCase",
    &[
        ("eval_time", ANY),
        ("alertname", ANY),
        ("exp_alerts", &Shape::List(&ALERT)),
    ],
);
const ALERT: Shape = Shape::Fields(
    "main.alert",
    &[("exp_labels", ANY), ("exp_annotations", ANY)],
);
const EXPRESSION: Shape = Shape::Fields(
    "main.promqlTestCase",
    &[
        ("expr", ANY),
        ("eval_time", ANY),
        ("exp_samples", &Shape::List(&SAMPLE)),
    ],
);
const SAMPLE: Shape = Shape::Fields(
    "main.sample",
    &[("labels", ANY), ("value", ANY), ("histogram", ANY)],
);

type Texts = Option<BTreeMap<String, Option<String>>>;

#[derive(Debug, Default, Deserialize)]
struct FileFields {
    rule_files: Option<Vec<String>>,
    evaluation_interval: Option<Interval>,
    group_eval_order: Option<Vec<String>>,
    tests: Option<Vec<GroupFields>>,
    fuzzy_compare: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct GroupFields {
    interval: Option<Interval>,
    input_series: Option<Vec<SeriesFields>>,
    alert_rule_test: Option<Vec<AlertsFields>>,
    promql_expr_test: Option<Vec<ExpressionFields>>,
    external_labels: Texts,
    external_url: Option<String>,
    name: Option<String>,
    start_timestamp: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SeriesFields {
    series: Option<String>,
    values: Option<String>,
}

#[derive(Debug, Deserialize)]
struct AlertsFields {
    eval_time: Option<Interval>,
    alertname: Option<String>,
    exp_alerts: Option<Vec<AlertFields>>,
}

#[derive(Debug, Deserialize)]
struct AlertFields {
    exp_labels: Texts,
    exp_annotations: Texts,
}

#[derive(Debug, Deserialize)]
struct ExpressionFields {
    expr: Option<String>,
    eval_time: Option<Interval>,
    exp_samples: Option<Vec<SampleFields>>,
}

#[derive(Debug, Deserialize)]
struct SampleFields {
    labels: Option<String>,
    value: Option<f64>,
    histogram: Option<String>,
}

/// A file with tests.
#[derive(Debug)]
pub(super) struct TestFile {
    pub(super) rule_files: Vec<PathBuf>,
    pub(super) evaluation_interval: Duration,
    /// Groups that are evaluated in this order.
    pub(super) order: Vec<String>,
    pub(super) groups: Vec<TestGroup>,
    /// Whether numbers may differ in their last digit.
    pub(super) is_fuzzy: bool,
}

/// Series and what is expected of them.
#[derive(Debug)]
pub(super) struct TestGroup {
    pub(super) name: String,
    pub(super) interval: Duration,
    /// Name with labels, and values.
    pub(super) input: Vec<(String, String)>,
    pub(super) alerts: Vec<AlertTest>,
    pub(super) expressions: Vec<ExpressionTest>,
    pub(super) external_labels: BTreeMap<String, String>,
    pub(super) external_url: String,
    pub(super) start_ns: i64,
}

/// The firing alerts of a name at a time after the start.
#[derive(Debug)]
pub(super) struct AlertTest {
    pub(super) time: Duration,
    pub(super) name: String,
    /// Labels and annotations.
    pub(super) expected: Vec<ExpectedAlert>,
}

/// Labels and annotations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExpectedAlert {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// What an expression gives at a time after the start.
#[derive(Debug)]
pub(super) struct ExpressionTest {
    pub(super) expr: String,
    pub(super) time: Duration,
    /// Labels, value, histogram.
    pub(super) expected: Vec<(String, f64, String)>,
}

fn texts(fields: Texts) -> BTreeMap<String, String> {
    let fields = fields.unwrap_or_default().into_iter();
    fields
        .map(|(name, value)| (name, value.unwrap_or_default()))
        .collect()
}

fn time(field: Option<Interval>) -> Duration {
    field.map_or(Duration::ZERO, |interval| interval.0)
}

impl TestFile {
    /// Reads a file, and finds the rule files that it names.
    pub(super) fn load(file: &Path) -> Result<Self, String> {
        let text = read_file(file).map_err(|error| error.to_string())?;
        FILE.check(&text).map_err(|error| error.to_string())?;
        let fields: Option<FileFields> = serde_saphyr::from_str(&text).map_err(|error| {
            let line = error.location().map_or(0, |location| location.line());
            format!("{}:{line}: {}", file.display(), error.without_snippet())
        })?;
        let fields = fields.unwrap_or_default();
        let mut rule_files = Vec::new();
        let dir = file.parent().unwrap_or(Path::new(""));
        for pattern in fields.rule_files.unwrap_or_default() {
            let pattern = dir.join(pattern);
            let found = glob::matching_files(&pattern).map_err(|error| error.to_string())?;
            if found.is_empty() {
                eprintln!("  WARNING: no file match pattern {}", pattern.display());
            }
            rule_files.extend(found);
        }
        let interval = Some(time(fields.evaluation_interval)).filter(|i| !i.is_zero());
        let evaluation_interval = interval.unwrap_or(Duration::from_mins(1));
        let order = fields.group_eval_order.unwrap_or_default();
        for (index, name) in order.iter().enumerate() {
            if order[..index].contains(name) {
                return Err(format!("group name repeated in evaluation order: {name}"));
            }
        }
        let groups = fields.tests.unwrap_or_default().into_iter();
        let groups = groups.map(|group| group.checked(evaluation_interval));
        Ok(Self {
            rule_files,
            evaluation_interval,
            order,
            groups: groups.collect::<Result<_, _>>()?,
            is_fuzzy: fields.fuzzy_compare.unwrap_or(false),
        })
    }
}

impl GroupFields {
    fn checked(self, evaluation_interval: Duration) -> Result<TestGroup, String> {
        let interval = Some(time(self.interval)).filter(|i| !i.is_zero());
        let series = self.input_series.unwrap_or_default().into_iter();
        let alerts = self.alert_rule_test.unwrap_or_default().into_iter();
        let expressions = self.promql_expr_test.unwrap_or_default().into_iter();
        let start_ns = match &self.start_timestamp {
            None => 0,
            Some(text) => start(text)?,
        };
        Ok(TestGroup {
            name: self.name.unwrap_or_default(),
            interval: interval.unwrap_or(evaluation_interval),
            input: series
                .map(|one| {
                    (
                        one.series.unwrap_or_default(),
                        one.values.unwrap_or_default(),
                    )
                })
                .collect(),
            alerts: alerts.map(AlertsFields::plain).collect(),
            expressions: expressions.map(ExpressionFields::plain).collect(),
            external_labels: texts(self.external_labels),
            external_url: self.external_url.unwrap_or_default(),
            start_ns,
        })
    }
}

/// A time as RFC 3339 or in seconds since 1970; in ns.
fn start(text: &str) -> Result<i64, String> {
    let time_ms = crate::params::parse_time_ms(text)
        .ok_or_else(|| format!("cannot parse {text:?} to a valid timestamp"))?;
    Ok(time_ms.saturating_mul(1_000_000))
}

impl AlertsFields {
    fn plain(self) -> AlertTest {
        let name = self.alertname.unwrap_or_default();
        let alerts = self.exp_alerts.unwrap_or_default().into_iter();
        let mut expected: Vec<ExpectedAlert> = alerts
            .map(|alert| {
                let mut labels = texts(alert.exp_labels);
                labels.insert("alertname".to_owned(), name.clone());
                ExpectedAlert {
                    labels,
                    annotations: texts(alert.exp_annotations),
                }
            })
            .collect();
        expected.sort();
        AlertTest {
            time: time(self.eval_time),
            name,
            expected,
        }
    }
}

impl ExpressionFields {
    fn plain(self) -> ExpressionTest {
        let samples = self.exp_samples.unwrap_or_default().into_iter();
        ExpressionTest {
            expr: self.expr.unwrap_or_default(),
            time: time(self.eval_time),
            expected: samples
                .map(|sample| {
                    (
                        sample.labels.unwrap_or_default(),
                        sample.value.unwrap_or(0.0),
                        sample.histogram.unwrap_or_default(),
                    )
                })
                .collect(),
        }
    }
}
