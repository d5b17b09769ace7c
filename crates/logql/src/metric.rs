//! Evaluating queries that give numbers.
//!
//! Each range aggregation reads its lines once for the whole query; what stands above it is the
//! algebra that PromQL shares.

use std::collections::HashMap;

use kittiwake_model::{Direction, EntryBatch, Labels, LogStore, MatchOp, QueryContext, stale_nan};
use kittiwake_vector::{
    Grouping, Groups, Matching, Notes, Operator, Series, binary, rank, set, with_scalar,
};

use crate::ast::{Aggregate, LogExpr, MetricExpr, RangeOp};
use crate::error::EvalError;
use crate::lines::with_metadata;

/// Series of one answer at most.
const SERIES_MAX: usize = 100_000;

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
struct Steps {
    start_ns: i64,
    step_ns: i64,
    count: usize,
}

impl Steps {
    fn at(&self, index: usize) -> i64 {
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
            Value::Vector(values.collect())
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
                let points = (0..s.floats.len()).filter_map(|i| Some((time_ms(i), s.float(i)?)));
                let points = points.collect();
                (s.labels, points)
            })
            .collect(),
    };
    matrix.retain(|(_, points): &(Labels, Vec<_>)| !points.is_empty());
    matrix.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Value::Matrix(matrix))
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
        MetricExpr::Range {
            op,
            log,
            window_ns,
            offset_ns,
        } => over_time(*op, log, *window_ns, *offset_ns, store, steps, context)
            .map(Evaluated::Series),
        MetricExpr::Aggregate {
            by,
            grouping,
            inner,
        } => match evaluate(inner, store, steps, context)? {
            Evaluated::Number(_) => Err(EvalError::Execution(
                "an aggregation needs series, not a number".to_owned(),
            )),
            Evaluated::Series(series) => {
                Ok(Evaluated::Series(aggregate(series, grouping, *by, steps)))
            }
        },
        MetricExpr::Binary {
            op,
            returns_bool,
            matching,
            left,
            right,
        } => {
            let left = evaluate(left, store, steps, context)?;
            let right = evaluate(right, store, steps, context)?;
            combine(*op, *returns_bool, matching, left, right, steps.count)
        }
    }
}

/// Times, in order, and weights of the lines of one series.
type Weighted = Vec<(i64, f64)>;

fn over_time(
    op: RangeOp,
    log: &LogExpr,
    window_ns: i64,
    offset_ns: i64,
    store: &dyn LogStore,
    steps: Steps,
    context: &QueryContext,
) -> Result<Vec<Series>, EvalError> {
    let first = steps.at(0).saturating_sub(offset_ns);
    let last = steps.at(steps.count - 1).saturating_sub(offset_ns);
    let from = first.saturating_sub(window_ns).saturating_add(1);
    let mut scan = log.scan(from, last, Direction::Forward, 0);
    let counts_bytes = matches!(op, RangeOp::BytesOverTime | RangeOp::BytesRate);
    scan.needs_line = counts_bytes;
    scan.ordered = false;
    let mut cursor = store.scan(&scan, context)?;
    let mut series: HashMap<Labels, Weighted> = HashMap::new();
    let mut batch = EntryBatch::default();
    while cursor.next_batch(&mut batch)? {
        context.check()?;
        for (index, entry) in batch.entries.iter().enumerate() {
            let labels = with_metadata(batch.labels(index), &entry.metadata);
            let weight = if counts_bytes {
                entry.line.len() as f64
            } else {
                1.0
            };
            series
                .entry(labels)
                .or_default()
                .push((entry.time_ns, weight));
        }
        if series.len() > SERIES_MAX {
            return Err(EvalError::Execution(format!(
                "maximum number of series ({SERIES_MAX}) reached for a single query"
            )));
        }
    }
    let mut all: Vec<(Labels, Weighted)> = series.into_iter().collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let per_second = match op {
        RangeOp::Rate | RangeOp::BytesRate => window_ns as f64 / 1e9,
        _ => 1.0,
    };
    let mut found = Vec::with_capacity(all.len());
    for (labels, mut lines) in all {
        context.check()?;
        // Streams of several label sets can make one series.
        lines.sort_by_key(|(time_ns, _)| *time_ns);
        let (mut begin, mut end) = (0, 0);
        let mut values = vec![stale_nan(); steps.count];
        for (index, value) in values.iter_mut().enumerate() {
            let at = steps.at(index).saturating_sub(offset_ns);
            // Left open, right closed, as in Loki: `t - window < time <= t`.
            while end < lines.len() && lines[end].0 <= at {
                end += 1;
            }
            while begin < end && lines[begin].0 <= at.saturating_sub(window_ns) {
                begin += 1;
            }
            if begin < end {
                let total: f64 = if counts_bytes {
                    lines[begin..end].iter().map(|(_, weight)| weight).sum()
                } else {
                    (end - begin) as f64
                };
                *value = total / per_second;
            }
        }
        found.push(Series::of(labels, values));
    }
    if op == RangeOp::AbsentOverTime {
        let is_there = |step: usize| found.iter().any(|s| s.has(step));
        let value = |step| if is_there(step) { stale_nan() } else { 1.0 };
        let values = (0..steps.count).map(value).collect();
        return Ok(vec![Series::of(absent_labels(log), values)]);
    }
    Ok(found)
}

/// What is known of streams that are not there: the labels that must be equal to something.
fn absent_labels(log: &LogExpr) -> Labels {
    let equal = log.selector.iter().filter(|m| m.op() == MatchOp::Equal);
    Labels::from_pairs(equal.map(|m| (m.name(), m.value()))).unwrap_or_else(|_| Labels::empty())
}

fn aggregate(series: Vec<Series>, grouping: &Grouping, by: Aggregate, steps: Steps) -> Vec<Series> {
    match by {
        Aggregate::Fold(fold) => {
            let mut groups = Groups::new(fold, grouping.clone(), steps.count);
            for one in series {
                groups.add(one);
            }
            groups.finish(&[]).0
        }
        Aggregate::Rank(kind, k) => {
            let params = vec![k as f64; steps.count];
            rank(kind, &series, grouping, &params, &mut Notes::default())
        }
    }
}

fn combine(
    op: Operator,
    returns_bool: bool,
    matching: &Matching,
    left: Evaluated,
    right: Evaluated,
    steps: usize,
) -> Result<Evaluated, EvalError> {
    let notes = &mut Notes::default();
    let each = |mut series: Vec<Series>, number: f64, is_swapped: bool, notes: &mut Notes| {
        let numbers = vec![number; steps];
        for one in &mut series {
            with_scalar(op, returns_bool, one, &numbers, is_swapped, notes);
        }
        Evaluated::Series(series)
    };
    Ok(match (left, right) {
        (Evaluated::Series(left), Evaluated::Series(right)) => Evaluated::Series(match op {
            Operator::Set(op) => set(op, left, right, &matching.on),
            _ => binary(
                op,
                returns_bool,
                &left,
                &right,
                matching,
                steps,
                true,
                notes,
            )
            .map_err(|e| EvalError::Execution(e.to_string()))?,
        }),
        _ if matches!(op, Operator::Set(_)) => {
            return Err(EvalError::Execution(
                "set operators need series on both sides".to_owned(),
            ));
        }
        // Of two numbers a comparison tells 1 or 0.
        (Evaluated::Number(a), Evaluated::Number(b)) => {
            Evaluated::Number(op.apply(true, a, b).unwrap_or(f64::NAN))
        }
        (Evaluated::Series(series), Evaluated::Number(b)) => each(series, b, false, notes),
        (Evaluated::Number(a), Evaluated::Series(series)) => each(series, a, true, notes),
    })
}
