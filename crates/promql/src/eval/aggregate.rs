//! Aggregations.

use kittiwake_model::float_histogram::FloatHistogram;
use kittiwake_vector::{Fold, Grouping, Groups, Notes, Rank, Sample, count_values, rank};

use super::{Evaluated, Evaluator, Findings};
use crate::ast::{AggregateOp, Aggregation, Expr};
use crate::error::EvalError;
use crate::text;

/// Numbers that Go's conversion to an integer can take.
const INTEGER_LIMITS: (f64, f64) = (-9_223_372_036_854_775_808.0, 9_223_372_036_854_774_784.0);

impl Evaluator<'_> {
    pub(super) fn aggregate(
        &self,
        aggregation: &Aggregation,
        findings: &mut Findings,
    ) -> Result<Evaluated, EvalError> {
        let mut names = aggregation.grouping.clone();
        let series = match aggregation.op {
            AggregateOp::CountValues => {
                let label = match aggregation.param.as_deref().map(Expr::unwrapped) {
                    Some(param @ Expr::Text(text)) => {
                        if text.value.is_empty() || text.bytes.is_some() {
                            return Err(EvalError::new(format!("invalid label name {param}")));
                        }
                        text.value.as_str()
                    }
                    _ => return Err(EvalError::new("invalid label name \"\"")),
                };
                let grouping = if aggregation.is_without {
                    Grouping::Without(names)
                } else {
                    names.push(label.to_owned());
                    Grouping::By(names)
                };
                // The label tells the buckets too.
                let below = Self {
                    needs_buckets: true,
                    ..*self
                };
                let series = below.series(&aggregation.inner, findings)?;
                let counted =
                    count_values(&series, &grouping, label, self.steps.count, shown_value);
                self.release(&series);
                counted
            }
            AggregateOp::Fold(fold) => self.fold(aggregation, fold, findings)?,
            AggregateOp::Rank(kind) => self.ranked(aggregation, kind, findings)?,
        };
        self.hold(&series)?;
        Ok(Evaluated::Series(series))
    }

    /// The parameter per step.
    fn aggregate_param(
        &self,
        aggregation: &Aggregation,
        findings: &mut Findings,
    ) -> Result<Vec<f64>, EvalError> {
        match &aggregation.param {
            Some(param) => self.scalar(param, findings),
            None => Ok(Vec::new()),
        }
    }

    fn fold(
        &self,
        aggregation: &Aggregation,
        fold: Fold,
        findings: &mut Findings,
    ) -> Result<Vec<kittiwake_vector::Series>, EvalError> {
        let params = self.aggregate_param(aggregation, findings)?;
        let inner = &aggregation.inner;
        if fold == Fold::Quantile {
            check_quantiles(aggregation, &params, findings);
        }
        let grouping = grouping(aggregation);
        let is_invariant = self.steps.count > 1 && super::invariant::is_invariant(inner);
        let pipeline = if is_invariant {
            None
        } else {
            self.distinct_pipeline(inner, findings)?
        };
        let groups = if let Some(mut pipeline) = pipeline {
            if matches!(fold, Fold::Count | Fold::Group) {
                pipeline.only_presence();
            }
            pipeline.fold(fold, &grouping, findings)?
        } else {
            let series = self.series(inner, findings)?;
            let mut groups = Groups::new(fold, grouping, self.steps.count);
            self.release(&series);
            for one in series {
                groups.add(one);
            }
            groups
        };
        let held = groups.size_bytes() as u64;
        let (mut result, notes) = groups.finish(&params);
        self.query.context.release_memory(held);
        note(aggregation, notes, inner.place(), findings);
        result.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(result)
    }

    fn ranked(
        &self,
        aggregation: &Aggregation,
        kind: Rank,
        findings: &mut Findings,
    ) -> Result<Vec<kittiwake_vector::Series>, EvalError> {
        let params = self.aggregate_param(aggregation, findings)?;
        let series = self.series(&aggregation.inner, findings)?;
        let max = params.iter().copied().fold(f64::MIN, f64::max);
        let min = params.iter().copied().fold(f64::MAX, f64::min);
        let has_nan = params.iter().any(|param| param.is_nan());
        let place = aggregation.param.as_ref().map(|param| param.place());
        let place = place.unwrap_or(aggregation.place);
        if kind == Rank::LimitRatio {
            if has_nan {
                return Err(EvalError::new("Ratio value is NaN"));
            }
            if max > 1.0 {
                findings.annotations.invalid_ratio(max, 1.0, place);
            }
            if min < -1.0 {
                findings.annotations.invalid_ratio(min, -1.0, place);
            }
        } else {
            if max < 1.0 && !has_nan {
                self.release(&series);
                return Ok(Vec::new());
            }
            if has_nan {
                return Err(EvalError::new("Parameter value is NaN"));
            }
            let (least, most) = INTEGER_LIMITS;
            if min <= least {
                let shown = kittiwake_model::float_histogram::shortest(min);
                return Err(EvalError::new(format!(
                    "Scalar value {shown} underflows int64"
                )));
            }
            if max >= most {
                let shown = kittiwake_model::float_histogram::shortest(max);
                return Err(EvalError::new(format!(
                    "Scalar value {shown} overflows int64"
                )));
            }
        }
        self.release(&series);
        let mut notes = Notes::default();
        let picked = rank(kind, &series, &grouping(aggregation), &params, &mut notes);
        note(aggregation, notes, aggregation.place, findings);
        Ok(picked)
    }
}

fn note(
    aggregation: &Aggregation,
    notes: Notes,
    place: crate::ast::Place,
    findings: &mut Findings,
) {
    for note in notes {
        let name = aggregation.op.as_str();
        findings.annotations.note(note, name, place);
    }
}

fn check_quantiles(aggregation: &Aggregation, phis: &[f64], findings: &mut Findings) {
    let Some(param) = &aggregation.param else {
        return;
    };
    let place = param.place();
    let notes = &mut findings.annotations;
    if phis.iter().any(|phi| phi.is_nan()) {
        notes.invalid_quantile(f64::NAN, place);
    }
    let max = phis.iter().copied().fold(f64::MIN, f64::max);
    let min = phis.iter().copied().fold(f64::MAX, f64::min);
    if max > 1.0 {
        notes.invalid_quantile(max, place);
    }
    if min < 0.0 {
        notes.invalid_quantile(min, place);
    }
}

fn grouping(aggregation: &Aggregation) -> Grouping {
    let names = aggregation.grouping.clone();
    if aggregation.is_without {
        Grouping::Without(names)
    } else {
        Grouping::By(names)
    }
}

fn shown_value(sample: Sample<'_>) -> String {
    match sample {
        Sample::Float(value) => text::number(value),
        Sample::Histogram(histogram) => FloatHistogram::to_string(histogram),
    }
}
