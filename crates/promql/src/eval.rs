//! Evaluation of a tree at all steps at once.

mod absent;
mod aggregate;
mod binary;
mod calls;
mod classic;
mod duration;
mod extended;
mod findings;
mod info;
mod invariant;
mod labels;
mod over_time;
mod pipeline;
mod range_call;
mod rate;
mod regression;
mod resets;
mod select;
mod simple;
mod sliding;
mod subquery;
mod timestamp;

use std::sync::Arc;

use kittiwake_model::{Labels, MetricsStore, QueryContext, STALE_NAN_BITS};
use kittiwake_vector::{Sample, Series, is_metadata, join_equal};

use crate::ast::{At, Expr, Shift, ValueType};
use crate::error::EvalError;
use crate::{Answer, MatrixSeries, Options, Point, Value};
pub(crate) use findings::Findings;
pub use findings::Stats;

/// More steps than this are refused.
const STEPS_MAX: i64 = 10_000_000;

/// The steps of an evaluation, in ms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) start_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) count: usize,
}

impl Steps {
    pub(crate) fn at(&self, index: usize) -> i64 {
        self.start_ms
            .saturating_add(self.step_ms.saturating_mul(index as i64))
    }
}

/// Values at all steps.
#[derive(Debug)]
pub(crate) enum Evaluated {
    Scalar(Vec<f64>),
    Series(Vec<Series>),
    Text(String),
}

/// What does not change during a query, subqueries included.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    pub(crate) store: &'a dyn MetricsStore,
    pub(crate) context: &'a QueryContext,
    pub(crate) options: &'a Options,
    /// Start, end and step of the whole query in ms.
    pub(crate) range: (i64, i64, i64),
}

/// Evaluates over some steps.
#[derive(Clone, Copy)]
pub(crate) struct Evaluator<'a> {
    pub(crate) query: Query<'a>,
    pub(crate) steps: Steps,
    /// A function above wants counts and sums of histograms only.
    pub(crate) wants_stats: bool,
    /// Something above needs the buckets of histograms, whatever else is wanted.
    pub(crate) needs_buckets: bool,
}

/// A selector's time: for each step where it looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// The time for all steps, if it is fixed.
    pub(crate) fixed: Option<i64>,
    pub(crate) offset_ms: i64,
}

impl Look {
    /// The time that a step looks at.
    pub(crate) fn at(self, steps: Steps, index: usize) -> i64 {
        match self.fixed {
            Some(at) => at,
            None => steps.at(index).saturating_sub(self.offset_ms),
        }
    }
}

impl Evaluator<'_> {
    pub(crate) fn look(&self, shift: &Shift) -> Result<Look, EvalError> {
        let offset_ms = self.length(&shift.offset, true)?;
        let at = shift.at.map(|at| match at {
            At::Time(ms) => ms,
            At::Start => self.query.range.0,
            At::End => self.query.range.1,
        });
        Ok(Look {
            fixed: at.map(|at| at.saturating_sub(offset_ms)),
            offset_ms,
        })
    }

    /// The time at which a selector looks for a step.
    pub(crate) fn looked(&self, index: usize, look: Look) -> i64 {
        look.at(self.steps, index)
    }

    /// Whether histograms may be read without their buckets.
    pub(crate) fn skips_buckets(&self) -> bool {
        self.wants_stats && !self.needs_buckets
    }

    /// The same at other steps.
    pub(crate) fn over(&self, steps: Steps) -> Self {
        Self { steps, ..*self }
    }

    /// Says that a series loses its name: now, or at the end of the query.
    pub(crate) fn drop_name(&self, series: &mut Series) {
        series.drops_name = true;
        if !self.query.options.delays_name_removal {
            series.labels = series.labels.without(is_metadata);
        }
    }

    /// Counts values that are kept against the memory that the query may take.
    pub(crate) fn hold(&self, series: &[Series]) -> Result<(), EvalError> {
        Ok(self.query.context.hold_memory(size_bytes(series))?)
    }

    pub(crate) fn release(&self, series: &[Series]) {
        self.query.context.release_memory(size_bytes(series));
    }

    /// Evaluates to series; a number becomes one without labels.
    pub(crate) fn series(
        &self,
        expr: &Expr,
        findings: &mut Findings,
    ) -> Result<Vec<Series>, EvalError> {
        Ok(match self.evaluate(expr, findings)? {
            Evaluated::Series(series) => series,
            Evaluated::Scalar(values) => vec![Series::of(Labels::empty(), values)],
            Evaluated::Text(_) => Vec::new(),
        })
    }

    /// Evaluates to a number per step.
    pub(crate) fn scalar(
        &self,
        expr: &Expr,
        findings: &mut Findings,
    ) -> Result<Vec<f64>, EvalError> {
        match self.evaluate(expr, findings)? {
            Evaluated::Scalar(values) => Ok(values),
            _ => Ok(vec![f64::NAN; self.steps.count]),
        }
    }

    pub(crate) fn evaluate(
        &self,
        expr: &Expr,
        findings: &mut Findings,
    ) -> Result<Evaluated, EvalError> {
        self.query.context.check()?;
        if self.steps.count == 0 {
            return Ok(match expr.value_type() {
                ValueType::Scalar => Evaluated::Scalar(Vec::new()),
                ValueType::String => Evaluated::Text(String::new()),
                _ => Evaluated::Series(Vec::new()),
            });
        }
        if self.steps.count > 1 && invariant::is_invariant(expr) {
            return self.evaluate_once(expr, findings);
        }
        if let Some(pipeline) = self.pipeline(expr, findings)? {
            return Ok(Evaluated::Series(pipeline.collect(findings)?));
        }
        match expr {
            Expr::Number(number) => Ok(Evaluated::Scalar(vec![number.value; self.steps.count])),
            Expr::Text(text) => Ok(Evaluated::Text(text.value.clone())),
            Expr::Paren(paren) => self.evaluate(&paren.inner, findings),
            Expr::Unary(unary) => self.unary(unary, findings),
            Expr::Binary(binary) => self.binary(binary, findings),
            Expr::Aggregate(aggregation) => self.aggregate(aggregation, findings),
            Expr::Call(call) => self.call(call, findings),
            Expr::Vector(selector) => Ok(Evaluated::Series(self.smoothed(selector, findings)?)),
            Expr::Matrix(_) | Expr::Subquery(_) => {
                Err(EvalError::new("a range cannot be evaluated over steps"))
            }
        }
    }

    /// What does not depend on time is evaluated at the first step only.
    fn evaluate_once(&self, expr: &Expr, findings: &mut Findings) -> Result<Evaluated, EvalError> {
        let first = Steps {
            count: 1,
            ..self.steps
        };
        let count = self.steps.count;
        let mut once = Findings::new(first);
        let evaluated = self.over(first).evaluate(expr, &mut once)?;
        findings.take_for_all_steps(once);
        Ok(match evaluated {
            Evaluated::Scalar(values) => Evaluated::Scalar(vec![values[0]; count]),
            Evaluated::Text(text) => Evaluated::Text(text),
            Evaluated::Series(series) => {
                self.release(&series);
                let repeated = series.into_iter().map(|mut one| {
                    one.floats = vec![one.floats[0]; count];
                    if let Some(histogram) = one.histograms.first().cloned() {
                        one.histograms = vec![histogram; count];
                    }
                    one
                });
                let repeated: Vec<Series> = repeated.collect();
                self.hold(&repeated)?;
                Evaluated::Series(repeated)
            }
        })
    }
}

pub(crate) fn size_bytes(series: &[Series]) -> u64 {
    let size = |one: &Series| {
        let histograms = one.histograms.iter().flatten();
        let histograms: usize = histograms.map(|h| 16 * h.size_in_samples()).sum();
        let slots = 8 * (one.floats.len() + one.histograms.len());
        std::mem::size_of::<Series>() + one.labels.as_packed().len() + slots + histograms
    };
    series.iter().map(size).sum::<usize>() as u64
}

/// Names that were kept to the end go; what is then the same series becomes one.
fn finish(mut series: Vec<Series>) -> Result<Vec<Series>, EvalError> {
    for one in series.iter_mut().filter(|one| one.drops_name) {
        one.labels = one.labels.without(is_metadata);
    }
    Ok(join_equal(series)?)
}

pub(crate) fn instant(
    expr: &Expr,
    store: &dyn MetricsStore,
    time_ms: i64,
    options: &Options,
    context: &QueryContext,
) -> Result<Answer, EvalError> {
    let evaluator = Evaluator {
        query: Query {
            store,
            context,
            options,
            range: (time_ms, time_ms, 0),
        },
        steps: Steps {
            start_ms: time_ms,
            // As Prometheus, so that `step()` is 0 and no division is by it.
            step_ms: 1,
            count: 1,
        },
        wants_stats: false,
        needs_buckets: false,
    };
    let mut findings = Findings::new(evaluator.steps);
    let value = match expr.unwrapped() {
        Expr::Matrix(matrix) => Value::Matrix(evaluator.matrix(matrix, &mut findings)?),
        Expr::Subquery(subquery) => {
            let series = evaluator.subquery_points(subquery, &mut findings)?;
            Value::Matrix(series)
        }
        _ => match evaluator.evaluate(expr, &mut findings)? {
            Evaluated::Scalar(values) => Value::Scalar(time_ms, values[0]),
            Evaluated::Text(text) => Value::String(time_ms, text),
            Evaluated::Series(series) => {
                let samples = finish(series)?.into_iter().filter_map(|one| {
                    let point = match one.get(0)? {
                        Sample::Float(value) => Point::Float(value),
                        Sample::Histogram(histogram) => Point::Histogram(Arc::clone(histogram)),
                    };
                    Some((one.labels, time_ms, point))
                });
                Value::Vector(samples.collect())
            }
        },
    };
    Ok(findings.answer(value, context))
}

/// Fails for what cannot be asked over steps.
pub(crate) fn check_range_query(expr: &Expr) -> Result<(), EvalError> {
    let kind = expr.value_type();
    if matches!(kind, ValueType::Vector | ValueType::Scalar) {
        return Ok(());
    }
    Err(EvalError::new(format!(
        "invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
    )))
}

pub(crate) fn range(
    expr: &Expr,
    store: &dyn MetricsStore,
    (start_ms, end_ms, step_ms): (i64, i64, i64),
    options: &Options,
    context: &QueryContext,
) -> Result<Answer, EvalError> {
    check_range_query(expr)?;
    let step_ms = step_ms.max(1);
    let steps = end_ms.saturating_sub(start_ms).max(-1) / step_ms + 1;
    if end_ms >= start_ms && steps > STEPS_MAX {
        return Err(EvalError::new(format!("more than {STEPS_MAX} steps")));
    }
    let evaluator = Evaluator {
        query: Query {
            store,
            context,
            options,
            range: (start_ms, end_ms, step_ms),
        },
        steps: Steps {
            start_ms,
            step_ms,
            count: if end_ms < start_ms { 0 } else { steps as usize },
        },
        wants_stats: false,
        needs_buckets: false,
    };
    let mut findings = Findings::new(evaluator.steps);
    let mut series = match evaluator.evaluate(expr, &mut findings)? {
        Evaluated::Scalar(values) => vec![Series::of(Labels::empty(), values)],
        Evaluated::Series(series) => finish(series)?,
        Evaluated::Text(_) => Vec::new(),
    };
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    let matrix = series
        .into_iter()
        .map(|one| points(one, evaluator.steps))
        .collect();
    Ok(findings.answer(Value::Matrix(matrix), context))
}

/// A series with its times.
pub(crate) fn points(series: Series, steps: Steps) -> MatrixSeries {
    let floats = series.floats.iter().enumerate();
    let floats = floats.filter(|(_, value)| value.to_bits() != STALE_NAN_BITS);
    let floats = floats
        .map(|(step, value)| (steps.at(step), *value))
        .collect();
    let histograms = series.histograms.into_iter().enumerate();
    let histograms = histograms.filter_map(|(step, h)| Some((steps.at(step), h?)));
    MatrixSeries {
        labels: series.labels,
        floats,
        histograms: histograms.collect(),
    }
}
