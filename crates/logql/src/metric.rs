//! Evaluating queries that give numbers.
//!
//! Each range aggregation reads its lines once for the whole query; what stands above it is the
//! algebra that PromQL shares.

use kittiwake_model::{Labels, LogStore, QueryContext, pattern, stale_nan};
use kittiwake_vector::{
    Arithmetic, Fold, Grouping, Groups, Matching, Notes, Operator, Rank, Series, binary, rank, set,
};

use crate::ast::{MetricExpr, RangeExpr, RangeOp, VectorOp};
use crate::error::EvalError;
use crate::over_time::over_time;

/// Series of one answer at most, as Loki's default has it.
pub const SERIES_MAX: usize = 500;

/// The label that tells variants apart.
const VARIANT: &str = "__variant__";

/// What a query gives. Times are in ms.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number, at a time.
    Scalar(i64, f64),
    /// One value per series.
    Vector(Vec<(Labels, i64, f64)>),
    /// Values over time per series.
    Matrix(Vec<(Labels, Vec<(i64, f64)>)>),
}

/// The steps of an evaluation, in ns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) start_ns: i64,
    pub(crate) step_ns: i64,
    pub(crate) count: usize,
}

impl Steps {
    pub(crate) fn at(&self, index: usize) -> i64 {
        self.start_ns + self.step_ns * index as i64
    }
}

/// Values at all steps.
enum Evaluated {
    Number(f64),
    Series(Vec<Series>),
}

/// Evaluates at one time.
pub fn instant(
    expr: &MetricExpr,
    store: &dyn LogStore,
    time_ns: i64,
    context: &QueryContext,
) -> Result<Value, EvalError> {
    let steps = Steps {
        start_ns: time_ns,
        step_ns: 0,
        count: 1,
    };
    let time_ms = time_ns.div_euclid(1_000_000);
    Ok(match evaluate(expr, store, steps, context)? {
        Evaluated::Number(number) => Value::Scalar(time_ms, number),
        Evaluated::Series(series) => {
            let values = series.into_iter();
            let values = values.filter_map(|s| Some((s.labels.clone(), time_ms, s.float(0)?)));
            let values: Vec<_> = values.collect();
            check_len(values.len())?;
            Value::Vector(values)
        }
    })
}

/// Evaluates at `start`, `start + step`, ... up to `end`.
pub fn range(
    expr: &MetricExpr,
    store: &dyn LogStore,
    start_ns: i64,
    end_ns: i64,
    step_ns: i64,
    context: &QueryContext,
) -> Result<Value, EvalError> {
    let step_ns = step_ns.max(1);
    let steps = Steps {
        start_ns,
        step_ns,
        count: usize::try_from(end_ns.saturating_sub(start_ns) / step_ns).unwrap_or(0) + 1,
    };
    let time_ms = |index: usize| steps.at(index).div_euclid(1_000_000);
    let mut matrix: Vec<(Labels, Vec<(i64, f64)>)> = match evaluate(expr, store, steps, context)? {
        Evaluated::Number(number) => {
            let points = (0..steps.count).map(|index| (time_ms(index), number));
            vec![(Labels::empty(), points.collect())]
        }
        Evaluated::Series(series) => series
            .into_iter()
            .map(|s| {
                let points = (0..steps.count).filter_map(|i| Some((time_ms(i), s.float(i)?)));
                let points = points.collect();
                (s.labels, points)
            })
            .collect(),
    };
    matrix.retain(|(_, points): &(Labels, Vec<_>)| !points.is_empty());
    check_len(matrix.len())?;
    matrix.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Value::Matrix(matrix))
}

fn check_len(series: usize) -> Result<(), EvalError> {
    if series > SERIES_MAX {
        return Err(EvalError::SeriesLimit(SERIES_MAX));
    }
    Ok(())
}

fn evaluate(
    expr: &MetricExpr,
    store: &dyn LogStore,
    steps: Steps,
    context: &QueryContext,
) -> Result<Evaluated, EvalError> {
    context.check()?;
    match expr {
        MetricExpr::Number(number) => Ok(Evaluated::Number(*number)),
        MetricExpr::Vector(number) => Ok(Evaluated::Series(vec![Series::of(
            Labels::empty(),
            vec![*number; steps.count],
        )])),
        MetricExpr::Range(range) => {
            over_time(range, None, store, steps, context).map(Evaluated::Series)
        }
        MetricExpr::LabelReplace {
            inner,
            dst,
            replacement,
            src,
            regex,
        } => match evaluate(inner, store, steps, context)? {
            Evaluated::Series(series) => {
                label_replace(series, dst, replacement, src, regex).map(Evaluated::Series)
            }
            number @ Evaluated::Number(_) => Ok(number),
        },
        MetricExpr::Aggregate {
            op,
            grouping,
            inner,
        } => {
            let grouping = grouping.clone().unwrap_or(Grouping::By(Vec::new()));
            let inner = match inner.as_ref() {
                MetricExpr::Range(range) if sums_on_the_way(*op, range) => {
                    Evaluated::Series(over_time(range, Some(&grouping), store, steps, context)?)
                }
                inner => evaluate(inner, store, steps, context)?,
            };
            let Evaluated::Series(series) = inner else {
                return Err(EvalError::Execution(
                    "an aggregation needs series, not a number".to_owned(),
                ));
            };
            Ok(Evaluated::Series(match op {
                VectorOp::Fold(by) => folded(series, grouping, *by, steps.count),
                VectorOp::Rank(by, k) => ranked(&series, &grouping, *by, *k, steps.count),
                VectorOp::ApproxTopk(k) => ranked(&series, &grouping, Rank::Topk, *k, steps.count),
                VectorOp::Sort => sorted(series, false),
                VectorOp::SortDesc => sorted(series, true),
            }))
        }
        MetricExpr::Variants { variants, of } => {
            let mut all = Vec::new();
            for (index, variant) in variants.iter().enumerate() {
                let own = variant_of(variant, of)?;
                if let Evaluated::Series(series) = evaluate(&own, store, steps, context)? {
                    all.extend(series.into_iter().map(|one| numbered(one, index)));
                }
            }
            Ok(Evaluated::Series(all))
        }
        MetricExpr::Binary {
            op,
            returns_bool,
            matching,
            left,
            right,
        } => {
            let left = evaluate(left, store, steps, context)?;
            let right = evaluate(right, store, steps, context)?;
            let matching = matching.clone().unwrap_or_default();
            combine(*op, *returns_bool, &matching, left, right, steps.count)
        }
    }
}

/// A variant over the lines that are common to all. Stages of its own count only within an
/// aggregation, as in Loki.
fn variant_of(variant: &MetricExpr, of: &RangeExpr) -> Result<MetricExpr, EvalError> {
    let over = |range: &RangeExpr, has_stages: bool| {
        let mut range = range.clone();
        let own = std::mem::replace(&mut range.log, of.log.clone());
        if has_stages {
            range.log.stages.extend(own.stages);
        }
        MetricExpr::Range(range)
    };
    match variant {
        MetricExpr::Range(range) => Ok(over(range, false)),
        MetricExpr::Aggregate {
            op,
            grouping,
            inner,
        } if let MetricExpr::Range(range) = inner.as_ref() => Ok(MetricExpr::Aggregate {
            op: *op,
            grouping: grouping.clone(),
            inner: Box::new(over(range, true)),
        }),
        _ => Err(EvalError::Execution(
            "a variant is an aggregation of lines, or an aggregation of one".to_owned(),
        )),
    }
}

fn numbered(mut series: Series, index: usize) -> Series {
    let mut labels = series.labels.to_builder();
    labels.set(VARIANT, &index.to_string());
    if let Ok(labels) = labels.build() {
        series.labels = labels;
    }
    series
}

fn folded(series: Vec<Series>, grouping: Grouping, by: Fold, steps: usize) -> Vec<Series> {
    let is_without = matches!(grouping, Grouping::Without(_));
    let mut groups = Groups::new(by, grouping, steps);
    for one in series {
        groups.add(if is_without { valued(one) } else { one });
    }
    groups.finish(&[]).0
}

/// A series without the labels that have no value, which parsers make.
fn valued(mut series: Series) -> Series {
    if series.labels.iter().any(|(_, value)| value.is_empty()) {
        series.labels = Labels::from_pairs(&series.labels).unwrap_or_default();
    }
    series
}

fn ranked(series: &[Series], grouping: &Grouping, by: Rank, k: usize, steps: usize) -> Vec<Series> {
    let params = vec![k as f64; steps];
    rank(by, series, grouping, &params, &mut Notes::default())
}

/// Each series with a label that is made of another one's value.
fn label_replace(
    mut series: Vec<Series>,
    dst: &str,
    replacement: &str,
    src: &str,
    regex: &str,
) -> Result<Vec<Series>, EvalError> {
    let regex = pattern::anchored(regex).map_err(|e| EvalError::Execution(e.to_string()))?;
    for one in &mut series {
        let Some(found) = regex.captures(one.labels.get(src).unwrap_or_default()) else {
            continue;
        };
        let mut value = String::new();
        found.expand(replacement, &mut value);
        let mut labels = one.labels.to_builder();
        labels.set(dst, &value);
        if let Ok(labels) = labels.build() {
            one.labels = labels;
        }
    }
    Ok(series)
}

/// Series by their value at the one step of an instant query; NaN comes last.
fn sorted(mut series: Vec<Series>, is_descending: bool) -> Vec<Series> {
    if series.first().is_some_and(|s| s.floats.len() == 1) {
        series.sort_by(|a, b| match (a.float(0), b.float(0)) {
            (Some(a), Some(b)) => a.is_nan().cmp(&b.is_nan()).then_with(|| {
                let order = a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal);
                if is_descending {
                    order.reverse()
                } else {
                    order
                }
            }),
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
    }
    series
}

/// Whether a sum around a range aggregation can be done while the lines are read.
fn sums_on_the_way(op: VectorOp, range: &RangeExpr) -> bool {
    op == VectorOp::Fold(Fold::Sum)
        && range.grouping.is_none()
        && matches!(
            range.op,
            RangeOp::BytesOverTime
                | RangeOp::BytesRate
                | RangeOp::SumOverTime
                | RangeOp::Rate
                | RangeOp::CountOverTime
        )
}

/// The operator with what Loki adds: by zero nothing is divided.
fn apply(op: Operator, returns_bool: bool, a: f64, b: f64) -> Option<f64> {
    if divides(op) && b == 0.0 {
        return Some(f64::NAN);
    }
    op.apply(returns_bool, a, b)
}

fn divides(op: Operator) -> bool {
    matches!(
        op,
        Operator::Arithmetic(Arithmetic::Divide | Arithmetic::Modulo)
    )
}

fn join(
    op: Operator,
    returns_bool: bool,
    matching: &Matching,
    left: Vec<Series>,
    mut right: Vec<Series>,
    steps: usize,
) -> Result<Vec<Series>, EvalError> {
    if let Operator::Set(op) = op {
        return Ok(set(op, left, right, &matching.on));
    }
    if divides(op) {
        let values = right.iter_mut().flat_map(|s| s.floats.iter_mut());
        values.filter(|v| **v == 0.0).for_each(|v| *v = f64::NAN);
    }
    let notes = &mut Notes::default();
    let joined = binary(
        op,
        returns_bool,
        &left,
        &right,
        matching,
        steps,
        true,
        notes,
    )
    .map_err(|e| EvalError::Execution(e.to_string()))?;
    Ok(joined.into_iter().map(valued).collect())
}

fn combine(
    op: Operator,
    returns_bool: bool,
    matching: &Matching,
    left: Evaluated,
    right: Evaluated,
    steps: usize,
) -> Result<Evaluated, EvalError> {
    let is_filter = matches!(op, Operator::Comparison(_)) && !returns_bool;
    Ok(match (left, right) {
        (Evaluated::Series(left), Evaluated::Series(right)) => {
            Evaluated::Series(join(op, returns_bool, matching, left, right, steps)?)
        }
        _ if matches!(op, Operator::Set(_)) => {
            return Err(EvalError::Execution(
                "set operators need series on both sides".to_owned(),
            ));
        }
        // Of two numbers a comparison tells 1 or 0.
        (Evaluated::Number(a), Evaluated::Number(b)) => {
            Evaluated::Number(apply(op, true, a, b).unwrap_or(f64::NAN))
        }
        (Evaluated::Series(series), Evaluated::Number(b)) => {
            each(series, |v| apply(op, returns_bool, v, b))
        }
        (Evaluated::Number(a), Evaluated::Series(series)) => each(series, |v| {
            // A comparison keeps the series' value, whichever side it is on.
            let result = apply(op, returns_bool, a, v)?;
            Some(if is_filter { v } else { result })
        }),
    })
}

fn each(mut series: Vec<Series>, apply: impl Fn(f64) -> Option<f64>) -> Evaluated {
    for one in &mut series {
        for step in 0..one.floats.len() {
            one.floats[step] = one.float(step).and_then(&apply).unwrap_or_else(stale_nan);
        }
    }
    Evaluated::Series(series)
}
