//! One test: rules are evaluated over its series, and what comes of it is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kittiwake_config::{NameScheme, format_duration};
use kittiwake_model::{Labels, duration, quote};
use kittiwake_promql::notation;
use kittiwake_rules::file::Check;
use kittiwake_rules::{AlertState, Environment, Group, Rule, RuleKind, SampleValue};

use super::RulesTest;
use super::file::{AlertTest, ExpectedAlert, ExpressionTest, TestFile, TestGroup};
use super::world::World;
use crate::rules::api::exponent;

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Runs a test; gives what went otherwise.
pub(super) fn run(group: &TestGroup, file: &TestFile, test: &RulesTest) -> Vec<String> {
    match run_checked(group, file, test) {
        Ok(errors) => errors,
        Err(errors) => errors,
    }
}

fn run_checked(
    group: &TestGroup,
    file: &TestFile,
    test: &RulesTest,
) -> Result<Vec<String>, Vec<String>> {
    let one = |error: String| vec![error];
    let delays = test
        .features
        .iter()
        .any(|f| f == "promql-delayed-name-removal");
    let mut world = World::new(group, file.evaluation_interval, delays).map_err(one)?;
    let environment = world.environment(group).map_err(one)?;
    let rules = load(group, file, test, &world)?;
    if let Some(alert) = group.alerts.iter().find(|alert| alert.name.is_empty()) {
        let at = format_duration(alert.time);
        let name = match group.name.as_str() {
            "" => String::new(),
            name => format!(" (in TestGroup {name})"),
        };
        return Err(one(format!(
            "an item under alert_rule_test misses required attribute alertname at eval_time {at}{name}"
        )));
    }
    let mut errors = Vec::new();
    let evaluated = evaluate(
        group,
        file,
        test,
        &rules,
        &environment,
        &mut world,
        &mut errors,
    );
    if !evaluated {
        return Ok(errors);
    }
    for expression in &group.expressions {
        errors.extend(check_expression(expression, group, file, &world));
    }
    if test.debug {
        dump(group, &world);
    }
    Ok(errors)
}

/// The groups of rules in the order in which they are evaluated.
fn load(
    group: &TestGroup,
    file: &TestFile,
    test: &RulesTest,
    world: &World,
) -> Result<Vec<Group>, Vec<String>> {
    let check = Check {
        engine: world.engine(),
        names: NameScheme::Utf8,
        ignores_unknown_fields: test.ignore_unknown_fields,
    };
    let mut groups = BTreeMap::new();
    let mut number = 0;
    for path in &file.rule_files {
        let loaded = check.load(path).map_err(|errors| {
            let errors = errors.iter().map(ToString::to_string);
            errors.collect::<Vec<_>>()
        })?;
        let path = path.display().to_string();
        for spec in &loaded.groups {
            let rules = Group::new(&path, spec, group.interval);
            groups.insert((path.clone(), spec.name.clone()), (number, rules));
            number += 1;
        }
    }
    let mut groups: Vec<(usize, Group)> = groups.into_values().collect();
    groups.sort_by_key(|(number, rules)| {
        let place = file.order.iter().position(|name| *name == rules.name);
        (place.unwrap_or(0), *number)
    });
    let groups: Vec<Group> = groups.into_iter().map(|(_, rules)| rules).collect();
    groups
        .iter()
        .flat_map(|g| &g.rules)
        .for_each(Rule::set_restored);
    Ok(groups)
}

/// Lets time go by; compares alerts on the way. False: an evaluation failed.
fn evaluate(
    group: &TestGroup,
    file: &TestFile,
    test: &RulesTest,
    rules: &[Group],
    environment: &Environment,
    world: &mut World,
    errors: &mut Vec<String>,
) -> bool {
    let interval_ns = i128::from(nanos(file.evaluation_interval).max(1));
    let times = group.alerts.iter().map(|alert| alert.time);
    let alert_times: BTreeSet<Duration> = times.clone().collect();
    let longest = times.chain(group.expressions.iter().map(|e| e.time)).max();
    let end_ns = i128::from(nanos(longest.unwrap_or(Duration::ZERO)));
    let mut alert_times = alert_times.into_iter().peekable();
    let mut passed_ns = 0_i128;
    while passed_ns <= end_ns {
        let time_ns = i128::from(group.start_ns) + passed_ns;
        let time_ns = i64::try_from(time_ns).unwrap_or(i64::MAX);
        world.advance(time_ns.div_euclid(1_000_000));
        let mut failed = false;
        for one in rules {
            one.evaluate(time_ns, environment);
            for rule in &one.rules {
                if let Some(error) = rule.status().last_error {
                    failed = true;
                    let (name, at) = (&rule.name, duration::text(time_ns));
                    errors.push(format!("    rule: {name}, time: {at}, err: {error}"));
                }
            }
        }
        if failed {
            return false;
        }
        let next_ns = passed_ns + interval_ns;
        while let Some(time) = alert_times.next_if(|time| i128::from(nanos(*time)) < next_ns) {
            for alert in group.alerts.iter().filter(|alert| alert.time == time) {
                errors.extend(check_alerts(alert, group, rules, test.diff));
            }
        }
        passed_ns = next_ns;
    }
    true
}

fn check_alerts(
    wanted: &AlertTest,
    group: &TestGroup,
    rules: &[Group],
    shows_diff: bool,
) -> Option<String> {
    let rules = rules.iter().flat_map(|group| &group.rules);
    let rules = rules.filter(|r| r.kind == RuleKind::Alert && r.name == wanted.name);
    let alerts = rules.flat_map(Rule::active_alerts);
    let firing = alerts.filter(|alert| alert.state == AlertState::Firing);
    let mut got: Vec<ExpectedAlert> = firing
        .map(|alert| ExpectedAlert {
            labels: pairs(&alert.labels),
            annotations: alert.annotations.as_ref().clone(),
        })
        .collect();
    got.sort();
    if got == wanted.expected {
        return None;
    }
    let name = match group.name.as_str() {
        "" => String::new(),
        name => format!("    name: {name},\n"),
    };
    let (alert, time) = (&wanted.name, format_duration(wanted.time));
    let head = format!("{name}    alertname: {alert}, time: {time}, ");
    let (expected, got) = (alerts_text(&wanted.expected), alerts_text(&got));
    if shows_diff {
        let diff = difference(&expected, &got);
        return Some(format!("{head}\n        diff: {}", indented(&diff, 12)));
    }
    Some(format!(
        "{head}\n        exp:{}, \n        got:{}",
        indented(&expected, 12),
        indented(&got, 12)
    ))
}

fn pairs(labels: &Labels) -> BTreeMap<String, String> {
    let pairs = labels.iter();
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Every line but the first moved to the right.
fn indented(text: &str, by: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(by)))
}

fn alerts_text(alerts: &[ExpectedAlert]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let texts: Vec<String> = alerts
        .iter()
        .enumerate()
        .map(|(index, alert)| {
            let labels = map_text(&alert.labels);
            let annotations = map_text(&alert.annotations);
            format!("{index}:\n  Labels:{labels}\n  Annotations:{annotations}")
        })
        .collect();
    format!("[\n{}\n]", texts.join(",\n"))
}

/// Names and values as labels are written.
fn map_text(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map
        .iter()
        .map(|(name, value)| {
            let is_plain = NameScheme::Legacy.label_is_valid(name);
            let name = if is_plain { name.clone() } else { quote(name) };
            format!("{name}={}", quote(value))
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Lines that only one of two texts has, in colour.
fn difference(expected: &str, got: &str) -> String {
    let (expected, got): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), got.lines().collect());
    let mut lines = vec![String::new()];
    for line in &expected {
        if got.contains(line) {
            lines.push(format!(" {line}"));
        } else {
            lines.push(format!("\x1b[0;31m-{line}\x1b[0m"));
        }
    }
    for line in got.iter().filter(|line| !expected.contains(line)) {
        lines.push(format!("\x1b[0;32m+{line}\x1b[0m"));
    }
    lines.join("\n")
}

/// A sample to compare.
#[derive(Debug, Clone)]
struct Compared {
    labels: Labels,
    value: f64,
    histogram: String,
}

impl Compared {
    fn is_same(&self, other: &Self, is_fuzzy: bool) -> bool {
        let (a, b) = (self.value, other.value);
        let is_near = || a == b || (is_fuzzy && (a.next_down() == b || a.next_up() == b));
        self.labels == other.labels && self.histogram == other.histogram && is_near()
    }

    fn text(&self) -> String {
        match self.histogram.as_str() {
            "" => format!("{} {}", self.labels, exponent(self.value, 'E')),
            histogram => format!("{} {histogram}", self.labels),
        }
    }
}

fn check_expression(
    wanted: &ExpressionTest,
    group: &TestGroup,
    file: &TestFile,
    world: &World,
) -> Option<String> {
    let head = format!(
        "    expr: {}, time: {},",
        quote(&wanted.expr),
        format_duration(wanted.time)
    );
    let time_ns = group.start_ns.saturating_add(nanos(wanted.time));
    let got = match world.query(&wanted.expr, time_ns.div_euclid(1_000_000)) {
        Ok(got) => got,
        Err(error) => return Some(format!("{head} err: {error}")),
    };
    let mut got: Vec<Compared> = got
        .into_iter()
        .map(|sample| Compared {
            labels: sample.labels,
            value: sample.value.float(),
            histogram: match &sample.value {
                SampleValue::Float(_) => String::new(),
                SampleValue::Histogram(histogram) => notation::histogram_text(histogram),
            },
        })
        .collect();
    let mut expected = Vec::new();
    for (labels, value, histogram) in &wanted.expected {
        match expected_sample(labels, *value, histogram) {
            Ok(sample) => expected.push(sample),
            Err(error) => return Some(format!("{head} err: labels {}: {error}", quote(labels))),
        }
    }
    got.sort_by(|a, b| a.labels.cmp(&b.labels));
    expected.sort_by(|a, b| a.labels.cmp(&b.labels));
    let is_same = got.len() == expected.len()
        && expected
            .iter()
            .zip(&got)
            .all(|(a, b)| a.is_same(b, file.is_fuzzy));
    if is_same {
        return None;
    }
    let text = |samples: &[Compared]| match samples {
        [] => "nil".to_owned(),
        samples => {
            let texts: Vec<String> = samples.iter().map(Compared::text).collect();
            texts.join(", ")
        }
    };
    Some(format!(
        "{head}\n        exp: {}\n        got: {}",
        text(&expected),
        text(&got)
    ))
}

fn expected_sample(labels: &str, value: f64, histogram: &str) -> Result<Compared, String> {
    let labels = match labels.trim() {
        "" => Labels::empty(),
        "{}" => Labels::empty(),
        text => notation::labels(text)?,
    };
    if histogram.is_empty() {
        return Ok(Compared {
            labels,
            value,
            histogram: String::new(),
        });
    }
    match notation::values(histogram)?.as_slice() {
        [notation::Value::Histogram(histogram, _)] => Ok(Compared {
            labels,
            value: 0.0,
            histogram: notation::histogram_text(histogram),
        }),
        [_] => Err("expected histogram".to_owned()),
        values => Err(format!("expected 1 value, got {}", values.len())),
    }
}

/// What all series hold at the end.
fn dump(group: &TestGroup, world: &World) {
    let times = group.alerts.iter().map(|alert| alert.time);
    let longest = times.chain(group.expressions.iter().map(|e| e.time)).max();
    let time_ns = group
        .start_ns
        .saturating_add(nanos(longest.unwrap_or(Duration::ZERO)));
    eprintln!(
        "DEBUG: values of all series of test {:?} at its end:",
        group.name
    );
    match world.query("{__name__=~\".+\"}", time_ns.div_euclid(1_000_000)) {
        Ok(samples) => {
            for sample in samples {
                match &sample.value {
                    SampleValue::Float(value) => eprintln!("{} => {value}", sample.labels),
                    SampleValue::Histogram(value) => eprintln!("{} => {value}", sample.labels),
                }
            }
        }
        Err(error) => eprintln!("DEBUG: {error}"),
    }
}
