//! `info`: labels of info metrics, found by the labels that identify a target.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{Labels, LabelsBuilder, MatchOp, Matcher, stale_nan};
use kittiwake_vector::{Series, join_equal};

use super::select::{Buckets, hint, newest};
use super::{Evaluator, Findings, Look};
use crate::ast::{Call, Expr, Shift};
use crate::error::EvalError;

const TARGET_INFO: &str = "target_info";
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// An info series: per step when its sample was taken, as a number, or the stale marker.
struct Info {
    labels: Labels,
    times: Vec<f64>,
}

/// The offset and `@` of the first selector of an expression, with what is outside of it.
fn first_shift(expr: &Expr, outside: &mut Vec<Shift>) -> Option<Vec<Shift>> {
    match expr {
        Expr::Vector(selector) => {
            let mut shifts = outside.clone();
            shifts.push(selector.shift.clone());
            Some(shifts)
        }
        Expr::Matrix(matrix) => {
            let mut shifts = outside.clone();
            shifts.push(matrix.selector.shift.clone());
            Some(shifts)
        }
        Expr::Subquery(subquery) => {
            outside.push(subquery.shift.clone());
            let found = first_shift(&subquery.inner, outside);
            outside.pop();
            found
        }
        Expr::Call(call) => call.args.iter().find_map(|arg| first_shift(arg, outside)),
        Expr::Aggregate(aggregation) => first_shift(&aggregation.inner, outside).or_else(|| {
            let param = aggregation.param.as_ref()?;
            first_shift(param, outside)
        }),
        Expr::Binary(binary) => {
            first_shift(&binary.left, outside).or_else(|| first_shift(&binary.right, outside))
        }
        Expr::Unary(unary) => first_shift(&unary.inner, outside),
        Expr::Paren(paren) => first_shift(&paren.inner, outside),
        Expr::Number(_) | Expr::Text(_) => None,
    }
}

/// The matchers that an info metric's name must satisfy.
fn name_matchers(given: &[Matcher]) -> Vec<Matcher> {
    let is_positive = |m: &Matcher| matches!(m.op(), MatchOp::Equal | MatchOp::Regex);
    if given.iter().any(is_positive) {
        return given.to_vec();
    }
    if given.is_empty() {
        return vec![Matcher::equal(METRIC_NAME, TARGET_INFO)];
    }
    let mut matchers: Vec<Matcher> = Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info")
        .into_iter()
        .collect();
    matchers.extend(given.iter().cloned());
    matchers
}

fn identity(labels: &Labels) -> Labels {
    labels.filtered(|name| IDENTIFYING.contains(&name))
}

impl Evaluator<'_> {
    pub(super) fn info(
        &self,
        call: &Call,
        findings: &mut Findings,
    ) -> Result<Vec<Series>, EvalError> {
        let look = self.info_look(&call.args[0])?;
        let base = self.series(&call.args[0], findings)?;
        let mut wanted: BTreeMap<String, Vec<Matcher>> = BTreeMap::new();
        let mut names = Vec::new();
        match call.args.get(1).map(Expr::unwrapped) {
            Some(Expr::Vector(selector)) => {
                for matcher in &selector.matchers {
                    if matcher.name() == METRIC_NAME {
                        names.push(matcher.clone());
                    } else {
                        let of_label = wanted.entry(matcher.name().to_owned()).or_default();
                        of_label.push(matcher.clone());
                    }
                }
            }
            _ => names.push(Matcher::equal(METRIC_NAME, TARGET_INFO)),
        }
        let names = name_matchers(&names);
        // Info metrics themselves are left as they are.
        let is_info = |labels: &Labels| {
            let name = labels.metric_name().unwrap_or("");
            names.iter().all(|matcher| matcher.matches(name))
        };
        let ignored: HashSet<usize> = (0..base.len())
            .filter(|index| is_info(&base[*index].labels))
            .collect();
        let infos = self.info_series(&base, &ignored, &wanted, names, look, findings)?;
        self.release(&base);
        let combined = self.with_infos(base, &ignored, &infos, &wanted)?;
        Ok(join_equal(combined)?)
    }

    /// Where info series are looked for: as the first selector of the expression does.
    fn info_look(&self, expr: &Expr) -> Result<Look, EvalError> {
        let shifts = first_shift(expr, &mut Vec::new()).unwrap_or_default();
        let mut look = Look {
            fixed: None,
            offset_ms: 0,
        };
        for shift in shifts.iter().rev() {
            let one = self.look(shift)?;
            look.offset_ms += one.offset_ms;
            if let Some(fixed) = one.fixed {
                look.fixed = Some(fixed + one.offset_ms - look.offset_ms);
                break;
            }
        }
        Ok(look)
    }

    fn info_series(
        &self,
        base: &[Series],
        ignored: &HashSet<usize>,
        wanted: &BTreeMap<String, Vec<Matcher>>,
        names: Vec<Matcher>,
        look: Look,
        findings: &mut Findings,
    ) -> Result<Vec<Info>, EvalError> {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (index, one) in base.iter().enumerate() {
            if ignored.contains(&index) {
                continue;
            }
            for name in IDENTIFYING {
                if let Some(value) = one.labels.get(name) {
                    values.entry(name).or_default().insert(value);
                }
            }
        }
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let mut matchers = names;
        for (name, values) in values {
            let quoted: Vec<String> = values.into_iter().map(regex::escape).collect();
            let matcher = Matcher::new(MatchOp::Regex, name, quoted.join("|"));
            matchers.push(matcher.map_err(|error| EvalError::new(error.to_string()))?);
        }
        matchers.extend(wanted.values().flatten().cloned());
        let lookback = self.query.options.lookback_ms;
        let mut reader = self.open(&matchers, look, lookback, 0, hint("info", 0), Buckets::Kept)?;
        let mut infos = Vec::new();
        while let Some((labels, columns)) = reader.next()? {
            let mut times = vec![stale_nan(); self.steps.count];
            let mut has_histogram = false;
            newest(&columns, self.steps, look, lookback, |step, index| {
                let is_histogram = columns
                    .histograms
                    .binary_search_by_key(&(index as u32), |(at, _)| *at)
                    .is_ok();
                has_histogram |= is_histogram;
                if !kittiwake_model::is_stale_nan(columns.values[index]) {
                    times[step] = columns.times[index] as f64;
                    findings.samples[step] += 1;
                }
            });
            if has_histogram {
                return Err(EvalError::new(format!(
                    "this should be an info metric, with float samples: {labels}"
                )));
            }
            infos.push(Info { labels, times });
        }
        infos.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(infos)
    }

    fn with_infos(
        &self,
        base: Vec<Series>,
        ignored: &HashSet<usize>,
        infos: &[Info],
        wanted: &BTreeMap<String, Vec<Matcher>>,
    ) -> Result<Vec<Series>, EvalError> {
        let mut of_identity: HashMap<Labels, Vec<&Info>> = HashMap::new();
        for info in infos {
            let key = identity(&info.labels);
            of_identity.entry(key).or_default().push(info);
        }
        let needs_info = wanted.values().flatten().any(|m| !m.matches_empty());
        let mut results: Vec<Series> = Vec::new();
        for (index, one) in base.into_iter().enumerate() {
            if ignored.contains(&index) {
                results.push(one);
                continue;
            }
            let none = Vec::new();
            let matching = of_identity.get(&identity(&one.labels)).unwrap_or(&none);
            let mut places: HashMap<Labels, usize> = HashMap::new();
            for step in 0..self.steps.count {
                let Some(sample) = one.get(step) else {
                    continue;
                };
                let newest = newest_infos(matching, step)?;
                if newest.is_empty() && needs_info {
                    continue;
                }
                let labels = enriched(&one.labels, &newest, wanted)?;
                let place = *places.entry(labels).or_insert_with_key(|labels| {
                    let mut series = Series::new(labels.clone(), self.steps.count);
                    series.drops_name = one.drops_name;
                    results.push(series);
                    results.len() - 1
                });
                results[place].set(step, sample);
            }
        }
        Ok(results)
    }
}

/// Of each info metric the series that was last seen.
fn newest_infos<'i>(infos: &[&'i Info], step: usize) -> Result<Vec<&'i Labels>, EvalError> {
    let mut newest: BTreeMap<&str, &Info> = BTreeMap::new();
    for info in infos {
        let time = info.times[step];
        if kittiwake_model::is_stale_nan(time) {
            continue;
        }
        let name = info.labels.metric_name().unwrap_or("");
        match newest.get(name) {
            Some(other) if other.times[step] > time => {}
            Some(other) if other.times[step] == time => {
                let (old, new) = (&other.labels, &info.labels);
                return Err(EvalError::new(format!(
                    "found duplicate series for info metric: existing {} @ {time}, new {} @ {time}",
                    shown(old),
                    shown(new)
                )));
            }
            _ => {
                newest.insert(name, info);
            }
        }
    }
    Ok(newest.into_values().map(|info| &info.labels).collect())
}

/// Labels as Prometheus prints them, with the name in front of the braces left inside.
fn shown(labels: &Labels) -> String {
    labels.to_string()
}

/// A series' labels and those of the infos that are wanted and that it has not.
fn enriched(
    base: &Labels,
    infos: &[&Labels],
    wanted: &BTreeMap<String, Vec<Matcher>>,
) -> Result<Labels, EvalError> {
    let mut added = LabelsBuilder::new();
    for info in infos {
        for (name, value) in *info {
            if name == METRIC_NAME || (!wanted.is_empty() && !wanted.contains_key(name)) {
                continue;
            }
            if added.get(name).is_some_and(|other| other != value) {
                return Err(EvalError::new(format!("conflicting label: {name}")));
            }
            if base.get(name).is_none() {
                added.set(name, value);
            }
        }
    }
    let mut labels = base.to_builder();
    for (name, value) in added.iter() {
        labels.set(name, value);
    }
    labels
        .build()
        .map_err(|error| EvalError::new(error.to_string()))
}
