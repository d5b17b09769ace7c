//! The evaluator: from the tree to values at all steps.

use std::collections::HashMap;

use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{
    Labels, LabelsBuilder, MatchOp, Matcher, MetricsStore, QueryContext, SelectHint, is_stale_nan,
    pattern,
};
use kittiwake_vector::{
    Aggregate, Grouping, Matching, Operator, Series, aggregate, binary, join_equal, set,
};

use crate::ast::{AggregateOp, Expr, Node, Shift, ValueType};
use crate::error::EvalError;
use crate::functions::{Function, Kind, Special, histogram_quantile};
use crate::over_time::{OverTime, Window};
use crate::select::{Raw, Steps};
use crate::{Options, Value, dates};

/// The step of a subquery that names none, in ms.
const SUBQUERY_STEP_MS: i64 = 60_000;
/// Steps of a subquery at most.
const SUBQUERY_STEPS_MAX: i64 = 1 << 24;

type Result<T> = std::result::Result<T, EvalError>;

pub(crate) struct Evaluator<'a> {
    pub(crate) store: &'a dyn MetricsStore,
    pub(crate) options: &'a Options,
    pub(crate) context: &'a QueryContext,
    pub(crate) steps: Steps,
}

/// Values at all steps.
enum Evaluated {
    Scalar(Vec<f64>),
    Text(String),
    Series(Vec<Series>),
}

pub(crate) fn instant(
    expr: &Expr,
    store: &dyn MetricsStore,
    time_ms: i64,
    options: &Options,
    context: &QueryContext,
) -> Result<Value> {
    let evaluator = Evaluator {
        store,
        options,
        context,
        steps: Steps {
            start_ms: time_ms,
            step_ms: 0,
            count: 1,
            query_start_ms: time_ms,
            query_end_ms: time_ms,
        },
    };
    if expr.value_type() == ValueType::Matrix {
        return evaluator.samples(&expr.0);
    }
    Ok(match evaluator.eval(&expr.0)? {
        Evaluated::Scalar(values) => Value::Scalar(time_ms, values[0]),
        Evaluated::Text(text) => Value::String(time_ms, text),
        Evaluated::Series(series) => {
            let values = series.into_iter();
            let values = values.filter_map(|s| Some((s.labels, time_ms, s.values[0]?)));
            Value::Vector(values.collect())
        }
    })
}

pub(crate) fn range(
    expr: &Expr,
    store: &dyn MetricsStore,
    (start_ms, end_ms, step_ms): (i64, i64, i64),
    options: &Options,
    context: &QueryContext,
) -> Result<Value> {
    let step_ms = step_ms.max(1);
    let value_type = expr.value_type();
    if !matches!(value_type, ValueType::Scalar | ValueType::Vector) {
        return Err(EvalError::Execution(format!(
            "invalid expression type {:?} for range query, must be Scalar or instant Vector",
            value_type.to_string()
        )));
    }
    let steps = Steps {
        start_ms,
        step_ms,
        count: usize::try_from(end_ms.saturating_sub(start_ms) / step_ms).unwrap_or(0) + 1,
        query_start_ms: start_ms,
        query_end_ms: end_ms,
    };
    let evaluator = Evaluator {
        store,
        options,
        context,
        steps,
    };
    let mut matrix: Vec<(Labels, Vec<(i64, f64)>)> = match evaluator.eval(&expr.0)? {
        Evaluated::Scalar(values) => {
            let points = values.into_iter().enumerate();
            vec![(
                Labels::empty(),
                points.map(|(i, v)| (steps.at(i), v)).collect(),
            )]
        }
        Evaluated::Text(_) => Vec::new(),
        Evaluated::Series(series) => series
            .into_iter()
            .map(|s| {
                let points = s.values.into_iter().enumerate();
                let points = points.filter_map(|(i, v)| Some((steps.at(i), v?)));
                (s.labels, points.collect())
            })
            .collect(),
    };
    matrix.retain(|(_, points)| !points.is_empty());
    matrix.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Value::Matrix(matrix))
}

impl Evaluator<'_> {
    fn eval(&self, node: &Node) -> Result<Evaluated> {
        self.context.check()?;
        let count = self.steps.count;
        Ok(match node {
            Node::Number(number) => Evaluated::Scalar(vec![*number; count]),
            Node::Text(text) => Evaluated::Text(text.clone()),
            Node::Vector { matchers, shift } => Evaluated::Series(
                self.selected(matchers, *shift)?
                    .into_iter()
                    .map(|(labels, values)| Series {
                        labels,
                        values: values.into_iter().map(|v| v.map(|(_, v)| v)).collect(),
                    })
                    .collect(),
            ),
            Node::Matrix { .. } | Node::Subquery { .. } => {
                return Err(EvalError::Execution(
                    "a range vector has no single value at a time".to_owned(),
                ));
            }
            Node::Call { function, args } => self.call(function, args)?,
            Node::Aggregate {
                op,
                param,
                grouping,
                inner,
            } => Evaluated::Series(self.aggregate(*op, param.as_deref(), grouping, inner)?),
            Node::Binary {
                op,
                returns_bool,
                matching,
                left,
                right,
            } => self.binary(*op, *returns_bool, matching, left, right)?,
            Node::Negate(inner) => match self.eval(inner)? {
                Evaluated::Scalar(values) => {
                    Evaluated::Scalar(values.into_iter().map(|v| -v).collect())
                }
                Evaluated::Series(series) => {
                    Evaluated::Series(map_values(series, |_, v| Some(-v))?)
                }
                text @ Evaluated::Text(_) => text,
            },
            Node::Brackets(inner) => self.eval(inner)?,
        })
    }

    fn series(&self, node: &Node) -> Result<Vec<Series>> {
        match self.eval(node)? {
            Evaluated::Series(series) => Ok(series),
            // The parser checked the types.
            _ => Ok(Vec::new()),
        }
    }

    fn scalars(&self, node: &Node) -> Result<Vec<f64>> {
        match self.eval(node)? {
            Evaluated::Scalar(values) => Ok(values),
            _ => Ok(vec![f64::NAN; self.steps.count]),
        }
    }

    fn text(&self, node: &Node) -> Result<String> {
        match self.eval(node)? {
            Evaluated::Text(text) => Ok(text),
            _ => Ok(String::new()),
        }
    }

    /// The newest samples of a selector's series at each step, with their times.
    #[allow(clippy::type_complexity)]
    fn selected(
        &self,
        matchers: &[Matcher],
        shift: Shift,
    ) -> Result<Vec<(Labels, Vec<Option<(i64, f64)>>)>> {
        let mut found = Vec::new();
        let hint = SelectHint::default();
        self.read(matchers, shift, self.options.lookback_ms, hint, |raw| {
            let values = self.newest(&raw, shift);
            if values.iter().any(Option::is_some) {
                found.push((raw.labels, values));
            }
            Ok(())
        })?;
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Reads what a range vector is made of, and its range and shift.
    fn raw(
        &self,
        node: &Node,
        function: &str,
        mut each: impl FnMut(Raw, i64, Shift) -> Result<()>,
    ) -> Result<()> {
        match node {
            Node::Brackets(inner) => self.raw(inner, function, each),
            Node::Matrix {
                matchers,
                range_ms,
                shift,
            } => {
                let hint = SelectHint {
                    function: Some(function.to_owned()),
                    window_ms: *range_ms,
                    grouping: None,
                };
                self.read(matchers, *shift, *range_ms, hint, |mut raw| {
                    if raw.values.iter().any(|v| is_stale_nan(*v)) {
                        let kept = raw.times.iter().zip(&raw.values);
                        let kept = kept.filter(|(_, v)| !is_stale_nan(**v));
                        (raw.times, raw.values) = kept.map(|(t, v)| (*t, *v)).unzip();
                    }
                    each(raw, *range_ms, *shift)
                })
            }
            Node::Subquery {
                inner,
                range_ms,
                step_ms,
                shift,
            } => {
                for raw in self.subquery(inner, *range_ms, *step_ms, *shift)? {
                    each(raw, *range_ms, *shift)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Evaluates below a subquery at its own steps, which are multiples of its step.
    fn subquery(
        &self,
        inner: &Node,
        range_ms: i64,
        step_ms: Option<i64>,
        shift: Shift,
    ) -> Result<Vec<Raw>> {
        let step_ms = step_ms.unwrap_or(SUBQUERY_STEP_MS);
        let last = self.steps.count.saturating_sub(1);
        let begin = self.steps.shifted(0, shift).saturating_sub(range_ms);
        let end = self.steps.shifted(last, shift);
        let mut start = begin / step_ms * step_ms;
        if start <= begin {
            start += step_ms;
        }
        if end < start {
            return Ok(Vec::new());
        }
        let count = (end - start) / step_ms + 1;
        if count > SUBQUERY_STEPS_MAX {
            return Err(EvalError::Execution(format!(
                "a subquery has more than {SUBQUERY_STEPS_MAX} steps"
            )));
        }
        let below = Evaluator {
            store: self.store,
            options: self.options,
            context: self.context,
            steps: Steps {
                start_ms: start,
                step_ms,
                count: count as usize,
                ..self.steps
            },
        };
        let series = match below.eval(inner)? {
            Evaluated::Series(series) => series,
            Evaluated::Scalar(values) => vec![Series {
                labels: Labels::empty(),
                values: values.into_iter().map(Some).collect(),
            }],
            Evaluated::Text(_) => Vec::new(),
        };
        let raw = series.into_iter().map(|s| {
            let points = s.values.into_iter().enumerate();
            let points = points.filter_map(|(i, v)| Some((below.steps.at(i), v?)));
            let (times, values): (Vec<i64>, Vec<f64>) = points.unzip();
            Raw {
                labels: s.labels,
                times,
                values,
            }
        });
        let raw: Vec<Raw> = raw.collect();
        for one in &raw {
            self.context.count_samples(one.times.len() as u64)?;
        }
        Ok(raw)
    }

    /// A range vector by itself: its samples at an instant.
    fn samples(&self, node: &Node) -> Result<Value> {
        let mut matrix = Vec::new();
        self.raw(node, "", |raw, range_ms, shift| {
            self.windows(&raw.times, shift, range_ms, |_, window, _| {
                let times = raw.times[window.clone()].iter().copied();
                let points = times.zip(raw.values[window].iter().copied());
                matrix.push((raw.labels.clone(), points.collect::<Vec<_>>()));
            });
            Ok(())
        })?;
        matrix.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Value::Matrix(matrix))
    }

    fn call(&self, function: &Function, args: &[Node]) -> Result<Evaluated> {
        Ok(match function.kind {
            Kind::OverTime(f, keeps_name) => {
                Evaluated::Series(self.over_time(function.name, f, keeps_name, args)?)
            }
            Kind::Map(f) => {
                Evaluated::Series(map_values(self.series(&args[0])?, |_, v| Some(f(v)))?)
            }
            Kind::With(f) => {
                let params: Vec<Vec<f64>> = args[1..]
                    .iter()
                    .map(|a| self.scalars(a))
                    .collect::<Result<_>>()?;
                let mut at_step = Vec::with_capacity(params.len());
                let series = map_values(self.series(&args[0])?, |step, v| {
                    at_step.clear();
                    at_step.extend(params.iter().map(|p| p[step]));
                    f(v, &at_step)
                })?;
                Evaluated::Series(series)
            }
            Kind::Date => {
                let series = match args.first() {
                    Some(arg) => self.series(arg)?,
                    None => vec![self.times()],
                };
                let name = function.name;
                Evaluated::Series(map_values(series, |_, v| Some(dates::part(name, v)))?)
            }
            Kind::Special(special) => self.special(special, args)?,
        })
    }

    fn times(&self) -> Series {
        Series {
            labels: Labels::empty(),
            values: self.time_values().into_iter().map(Some).collect(),
        }
    }

    fn time_values(&self) -> Vec<f64> {
        let steps = 0..self.steps.count;
        steps.map(|i| self.steps.at(i) as f64 / 1000.0).collect()
    }

    fn over_time(
        &self,
        name: &str,
        f: OverTime,
        keeps_name: bool,
        args: &[Node],
    ) -> Result<Vec<Series>> {
        let (ranges, scalars): (Vec<&Node>, Vec<&Node>) = args
            .iter()
            .partition(|a| a.value_type() == ValueType::Matrix);
        let params = match scalars.first() {
            Some(node) => self.scalars(node)?,
            None => Vec::new(),
        };
        let mut found: Vec<Series> = Vec::new();
        let Some(ranged) = ranges.first() else {
            return Ok(found);
        };
        self.raw(ranged, name, |raw, range_ms, shift| {
            let mut values = vec![None; self.steps.count];
            self.windows(&raw.times, shift, range_ms, |step, window, at| {
                values[step] = f(&Window {
                    times: &raw.times[window.clone()],
                    values: &raw.values[window],
                    start_ms: at - range_ms,
                    end_ms: at,
                    step_ms: self.steps.at(step),
                    param: params.get(step).copied().unwrap_or(0.0),
                });
            });
            if values.iter().any(Option::is_some) {
                let labels = if keeps_name {
                    raw.labels
                } else {
                    without_name(&raw.labels)
                };
                found.push(Series { labels, values });
            }
            Ok(())
        })?;
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(join_equal(found)?)
    }

    fn special(&self, special: Special, args: &[Node]) -> Result<Evaluated> {
        let count = self.steps.count;
        Ok(match special {
            Special::Pi => Evaluated::Scalar(vec![std::f64::consts::PI; count]),
            Special::Time => Evaluated::Scalar(self.time_values()),
            Special::Vector => Evaluated::Series(vec![Series {
                labels: Labels::empty(),
                values: self.scalars(&args[0])?.into_iter().map(Some).collect(),
            }]),
            Special::Scalar => {
                let series = self.series(&args[0])?;
                let at_step = |step: usize| {
                    let mut values = series.iter().filter_map(|s| s.values[step]);
                    match (values.next(), values.next()) {
                        (Some(only), None) => only,
                        _ => f64::NAN,
                    }
                };
                Evaluated::Scalar((0..count).map(at_step).collect())
            }
            Special::Timestamp => Evaluated::Series(self.timestamps(&args[0])?),
            Special::Absent => {
                let series = self.series(&args[0])?;
                let is_there = |step: usize| series.iter().any(|s| s.values[step].is_some());
                Evaluated::Series(self.absent(&args[0], is_there))
            }
            Special::AbsentOverTime => {
                let mut there = vec![false; count];
                self.raw(&args[0], "absent_over_time", |raw, range_ms, shift| {
                    self.windows(&raw.times, shift, range_ms, |step, _, _| there[step] = true);
                    Ok(())
                })?;
                Evaluated::Series(self.absent(&args[0], |step| there[step]))
            }
            Special::Sort { descending } => {
                let mut series = self.series(&args[0])?;
                // Order means something at a single time only. NaN comes last.
                if count == 1 {
                    series.retain(|s| s.values[0].is_some());
                    series.sort_by(|a, b| {
                        let (a, b) = (a.values[0].unwrap_or(0.0), b.values[0].unwrap_or(0.0));
                        let by_value = a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal);
                        a.is_nan().cmp(&b.is_nan()).then(if descending {
                            by_value.reverse()
                        } else {
                            by_value
                        })
                    });
                }
                Evaluated::Series(series)
            }
            Special::HistogramQuantile => {
                let phi = self.scalars(&args[0])?;
                Evaluated::Series(histogram_quantiles(&phi, self.series(&args[1])?))
            }
            Special::LabelReplace => Evaluated::Series(self.label_replace(args)?),
            Special::LabelJoin => Evaluated::Series(self.label_join(args)?),
        })
    }

    fn timestamps(&self, arg: &Node) -> Result<Vec<Series>> {
        let mut inner = arg;
        while let Node::Brackets(below) = inner {
            inner = below;
        }
        let seconds = |ms: i64| ms as f64 / 1000.0;
        if let Node::Vector { matchers, shift } = inner {
            let selected = self.selected(matchers, *shift)?.into_iter();
            let series = selected.map(|(labels, values)| Series {
                labels: without_name(&labels),
                values: values
                    .into_iter()
                    .map(|v| v.map(|(time, _)| seconds(time)))
                    .collect(),
            });
            return Ok(join_equal(series.collect())?);
        }
        map_values(self.series(inner)?, |step, _| {
            Some(seconds(self.steps.at(step)))
        })
    }

    /// 1 where nothing is there, under the labels that the selector fixes.
    fn absent(&self, arg: &Node, is_there: impl Fn(usize) -> bool) -> Vec<Series> {
        let matchers = match arg {
            Node::Vector { matchers, .. } | Node::Matrix { matchers, .. } => &matchers[..],
            _ => &[],
        };
        let mut builder = LabelsBuilder::new();
        let mut named: HashMap<&str, usize> = HashMap::new();
        for matcher in matchers {
            *named.entry(matcher.name()).or_default() += 1;
        }
        for matcher in matchers {
            let is_fixed = matcher.op() == MatchOp::Equal
                && matcher.name() != METRIC_NAME
                && named[matcher.name()] == 1;
            if is_fixed {
                builder.set(matcher.name(), matcher.value());
            }
        }
        let values = (0..self.steps.count).map(|step| (!is_there(step)).then_some(1.0));
        vec![Series {
            labels: builder.build().unwrap_or_else(|_| Labels::empty()),
            values: values.collect(),
        }]
    }

    fn label_replace(&self, args: &[Node]) -> Result<Vec<Series>> {
        let series = self.series(&args[0])?;
        let texts: Vec<String> = args[1..]
            .iter()
            .map(|a| self.text(a))
            .collect::<Result<_>>()?;
        let [to, replacement, from, expression] = &texts[..] else {
            return Ok(series);
        };
        let regex = pattern::anchored(expression).map_err(|_| {
            EvalError::Execution(format!(
                "invalid regular expression in label_replace(): {expression}"
            ))
        })?;
        if to.is_empty() {
            return Err(EvalError::Execution(format!(
                "invalid destination label name in label_replace(): {to}"
            )));
        }
        let replaced = series.into_iter().map(|s| {
            let value = s.labels.get(from).unwrap_or("");
            let Some(captures) = regex.captures(value) else {
                return s;
            };
            let mut new = String::new();
            captures.expand(replacement, &mut new);
            let mut builder = s.labels.to_builder();
            builder.set(to, &new);
            Series {
                labels: builder.build().unwrap_or(s.labels),
                values: s.values,
            }
        });
        Ok(join_equal(replaced.collect())?)
    }

    fn label_join(&self, args: &[Node]) -> Result<Vec<Series>> {
        let series = self.series(&args[0])?;
        let texts: Vec<String> = args[1..]
            .iter()
            .map(|a| self.text(a))
            .collect::<Result<_>>()?;
        let [to, separator, from @ ..] = &texts[..] else {
            return Ok(series);
        };
        if to.is_empty() {
            return Err(EvalError::Execution(format!(
                "invalid destination label name in label_join(): {to}"
            )));
        }
        let joined = series.into_iter().map(|s| {
            let values: Vec<&str> = from.iter().map(|n| s.labels.get(n).unwrap_or("")).collect();
            let mut builder = s.labels.to_builder();
            builder.set(to, &values.join(separator));
            Series {
                labels: builder.build().unwrap_or(s.labels),
                values: s.values,
            }
        });
        Ok(join_equal(joined.collect())?)
    }

    fn aggregate(
        &self,
        op: AggregateOp,
        param: Option<&Node>,
        grouping: &Grouping,
        inner: &Node,
    ) -> Result<Vec<Series>> {
        let series = self.series(inner)?;
        let by = match op {
            AggregateOp::Sum => Aggregate::Sum,
            AggregateOp::Avg => Aggregate::Avg,
            AggregateOp::Min => Aggregate::Min,
            AggregateOp::Max => Aggregate::Max,
            AggregateOp::Count => Aggregate::Count,
            AggregateOp::Group => Aggregate::Group,
            AggregateOp::Stddev => Aggregate::Stddev,
            AggregateOp::Stdvar => Aggregate::Stdvar,
            AggregateOp::CountValues => {
                let label = match param {
                    Some(node) => self.text(node)?,
                    None => String::new(),
                };
                return count_values(&label, grouping, &series);
            }
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Quantile => {
                let params = match param {
                    Some(node) => self.scalars(node)?,
                    None => Vec::new(),
                };
                return aggregate_by_step(op, &params, grouping, &series);
            }
        };
        Ok(aggregate(&series, grouping, by))
    }

    fn binary(
        &self,
        op: Operator,
        returns_bool: bool,
        matching: &Matching,
        left: &Node,
        right: &Node,
    ) -> Result<Evaluated> {
        let keeps_name = matches!(op, Operator::Comparison(_)) && !returns_bool;
        let named = |series: Vec<Series>| {
            if keeps_name {
                Ok(series)
            } else {
                unnamed(series)
            }
        };
        Ok(match (self.eval(left)?, self.eval(right)?) {
            (Evaluated::Scalar(a), Evaluated::Scalar(b)) => {
                let values = a.into_iter().zip(b);
                let apply = |(a, b)| op.apply(returns_bool, a, b).unwrap_or(f64::NAN);
                Evaluated::Scalar(values.map(apply).collect())
            }
            (Evaluated::Series(series), Evaluated::Scalar(b)) => {
                let series = change_values(series, |step, v| op.apply(returns_bool, v, b[step]));
                Evaluated::Series(named(series)?)
            }
            (Evaluated::Scalar(a), Evaluated::Series(series)) => {
                let series = change_values(series, |step, v| {
                    let result = op.apply(returns_bool, a[step], v)?;
                    // A comparison keeps the vector's value, whichever side it is on.
                    Some(if keeps_name { v } else { result })
                });
                Evaluated::Series(named(series)?)
            }
            (Evaluated::Series(l), Evaluated::Series(r)) => Evaluated::Series(match op {
                Operator::Set(op) => set(op, &l, &r, &matching.on),
                _ => binary(op, returns_bool, &l, &r, matching)?,
            }),
            _ => Evaluated::Series(Vec::new()),
        })
    }
}

fn without_name(labels: &Labels) -> Labels {
    labels.without(|name| name == METRIC_NAME)
}

/// The same series without the metric's name.
fn unnamed(series: Vec<Series>) -> Result<Vec<Series>> {
    let unnamed = series.into_iter().map(|s| Series {
        labels: without_name(&s.labels),
        values: s.values,
    });
    Ok(join_equal(unnamed.collect())?)
}

fn change_values(
    mut series: Vec<Series>,
    mut f: impl FnMut(usize, f64) -> Option<f64>,
) -> Vec<Series> {
    for one in &mut series {
        for (step, value) in one.values.iter_mut().enumerate() {
            *value = value.and_then(|v| f(step, v));
        }
    }
    series.retain(|s| s.values.iter().any(Option::is_some));
    series
}

/// Values changed one by one; the metric's name goes, since it is no longer that metric.
fn map_values(
    series: Vec<Series>,
    f: impl FnMut(usize, f64) -> Option<f64>,
) -> Result<Vec<Series>> {
    unnamed(change_values(series, f))
}

fn count_values(label: &str, grouping: &Grouping, series: &[Series]) -> Result<Vec<Series>> {
    let is_name = label
        .bytes()
        .enumerate()
        .all(|(i, b)| b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit()));
    if label.is_empty() || !is_name {
        return Err(EvalError::Execution(format!(
            "invalid label name {label:?}"
        )));
    }
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut found: Vec<Series> = Vec::new();
    for one in series {
        let group = grouping.key(&one.labels);
        for (step, value) in one.values.iter().enumerate() {
            let Some(value) = value else {
                continue;
            };
            let text = if value.is_infinite() {
                if *value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
            } else {
                value.to_string()
            };
            let mut builder = group.to_builder();
            builder.set(label, &text);
            let labels = builder.build().unwrap_or_else(|_| group.clone());
            let next = found.len();
            let place = *places.entry(labels.clone()).or_insert(next);
            if place == next {
                found.push(Series {
                    labels,
                    values: vec![None; one.values.len()],
                });
            }
            let slot = &mut found[place].values[step];
            *slot = Some(slot.unwrap_or(0.0) + 1.0);
        }
    }
    Ok(found)
}

/// Aggregations whose parameter can differ from step to step: once per distinct parameter.
fn aggregate_by_step(
    op: AggregateOp,
    params: &[f64],
    grouping: &Grouping,
    series: &[Series],
) -> Result<Vec<Series>> {
    let of = |param: f64| -> Result<Aggregate> {
        if op == AggregateOp::Quantile {
            return Ok(Aggregate::Quantile(param));
        }
        if param.is_nan() {
            return Err(EvalError::Execution("Parameter value is NaN".to_owned()));
        }
        if param >= i64::MAX as f64 || param <= i64::MIN as f64 {
            return Err(EvalError::Execution(format!(
                "Scalar value {param} overflows int64"
            )));
        }
        let k = param.max(0.0) as usize;
        Ok(if op == AggregateOp::Topk {
            Aggregate::Topk(k)
        } else {
            Aggregate::Bottomk(k)
        })
    };
    let Some(first) = params.first() else {
        return Ok(Vec::new());
    };
    if params.iter().all(|p| p.to_bits() == first.to_bits()) {
        return Ok(aggregate(series, grouping, of(*first)?));
    }
    let mut found = Vec::new();
    let mut distinct: Vec<f64> = params.to_vec();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup_by_key(|p| p.to_bits());
    for param in distinct {
        let at_param = series.iter().map(|s| Series {
            labels: s.labels.clone(),
            values: s
                .values
                .iter()
                .zip(params)
                .map(|(v, p)| v.filter(|_| p.to_bits() == param.to_bits()))
                .collect(),
        });
        let at_param: Vec<Series> = at_param.collect();
        found.extend(aggregate(&at_param, grouping, of(param)?));
    }
    Ok(join_equal(found)?)
}

/// A bucket's upper bound, and its counts at all steps.
type Bucket = (f64, Vec<Option<f64>>);

/// Quantiles of classic histograms: series that differ in `le` only are one.
fn histogram_quantiles(phi: &[f64], series: Vec<Series>) -> Vec<Series> {
    let mut groups: HashMap<Labels, Vec<Bucket>> = HashMap::new();
    let mut order = Vec::new();
    for one in series {
        let Some(bound) = one.labels.get("le").and_then(|le| le.parse::<f64>().ok()) else {
            continue;
        };
        let key = one.labels.without(|n| n == "le" || n == METRIC_NAME);
        let group = groups.entry(key.clone()).or_insert_with(|| {
            order.push(key);
            Vec::new()
        });
        group.push((bound, one.values));
    }
    let quantiles = order.into_iter().map(|labels| {
        let buckets = groups.remove(&labels).unwrap_or_default();
        let values = phi.iter().enumerate().map(|(step, phi)| {
            let at_step = buckets.iter().filter_map(|(le, v)| Some((*le, v[step]?)));
            let mut at_step: Vec<(f64, f64)> = at_step.collect();
            (!at_step.is_empty()).then(|| histogram_quantile(*phi, &mut at_step))
        });
        Series {
            values: values.collect(),
            labels,
        }
    });
    quantiles.collect()
}
