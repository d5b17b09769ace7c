//! Subqueries: an expression over steps of its own, read like a selector with a range.

use std::sync::Arc;

use kittiwake_model::histogram::ResetHint;
use kittiwake_model::{FloatHistogram, STALE_NAN_BITS};
use kittiwake_vector::Series;

use super::range_call::RangeCall;
use super::select::{FloatPoints, HistogramPoint, Raw};
use super::{Evaluator, Findings, Steps, points};
use crate::MatrixSeries;
use crate::ast::Subquery;
use crate::error::EvalError;

/// More steps than this are refused.
const STEPS_MAX: i64 = 10_000_000;

impl Evaluator<'_> {
    /// The steps at which a subquery evaluates what is in it: multiples of its step.
    fn subquery_steps(&self, subquery: &Subquery) -> Result<Steps, EvalError> {
        let look = self.look(&subquery.shift)?;
        let range_ms = self.length(&subquery.range, false)?;
        let step_ms = match &subquery.step {
            Some(step) => self.length(step, false)?,
            None => 0,
        };
        let step_ms = if step_ms == 0 {
            self.query.options.subquery_step_ms
        } else {
            step_ms
        };
        let step_ms = step_ms.max(1);
        let first = self.looked(0, look).saturating_sub(range_ms);
        let end = self.looked(self.steps.count - 1, look);
        // Division rounds to zero, as in Prometheus.
        let mut start_ms = step_ms * (first / step_ms);
        if start_ms <= first {
            start_ms += step_ms;
        }
        let count = if end < start_ms {
            0
        } else {
            (end - start_ms) / step_ms + 1
        };
        if count > STEPS_MAX {
            return Err(EvalError::new(format!(
                "a subquery has more than {STEPS_MAX} steps"
            )));
        }
        Ok(Steps {
            start_ms,
            step_ms,
            count: count as usize,
        })
    }

    fn subquery(
        &self,
        subquery: &Subquery,
        findings: &mut Findings,
    ) -> Result<(Vec<Series>, Steps, u64), EvalError> {
        let steps = self.subquery_steps(subquery)?;
        let mut inner = self.over(steps);
        inner.needs_buckets = true;
        let mut found = Findings::new(steps);
        let series = inner.series(&subquery.inner, &mut found)?;
        findings.annotations.merge(found.annotations);
        Ok((series, steps, found.samples.iter().sum()))
    }

    /// A subquery that is the whole query.
    pub(super) fn subquery_points(
        &self,
        subquery: &Subquery,
        findings: &mut Findings,
    ) -> Result<Vec<MatrixSeries>, EvalError> {
        let (series, steps, samples) = self.subquery(subquery, findings)?;
        findings.samples[0] += samples;
        let series = super::finish(series)?;
        let mut matrix: Vec<MatrixSeries> =
            series.into_iter().map(|one| points(one, steps)).collect();
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(matrix)
    }

    /// A function over a subquery.
    pub(super) fn over_subquery(
        &self,
        call: &RangeCall<'_>,
        subquery: &Subquery,
        findings: &mut Findings,
    ) -> Result<Vec<Series>, EvalError> {
        let (series, steps, _) = self.subquery(subquery, findings)?;
        let mut result = Vec::with_capacity(series.len());
        self.release(&series);
        for one in series {
            let computed = call.series(self, &raw(one, steps), findings)?;
            if !computed.is_empty() {
                self.hold(std::slice::from_ref(&computed))?;
                result.push(computed);
            }
        }
        Ok(result)
    }
}

/// The values of a subquery as samples.
fn raw(series: Series, steps: Steps) -> Raw {
    let mut floats = FloatPoints::default();
    for (step, value) in series.floats.iter().enumerate() {
        if value.to_bits() != STALE_NAN_BITS {
            floats.times.push(steps.at(step));
            floats.values.push(*value);
        }
    }
    let histograms = series.histograms.into_iter().enumerate();
    let histograms = histograms.filter_map(|(step, histogram)| {
        Some(HistogramPoint {
            time: steps.at(step),
            histogram: without_hint(histogram?),
            start: 0,
        })
    });
    Raw {
        labels: series.labels,
        drops_name: series.drops_name,
        floats,
        histograms: histograms.collect(),
        thinned: Vec::new(),
    }
}

/// What a hint says of the sample before is not true of the step before.
fn without_hint(histogram: Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    if !matches!(histogram.reset_hint, ResetHint::Yes | ResetHint::No) {
        return histogram;
    }
    let mut histogram = Arc::unwrap_or_clone(histogram);
    histogram.reset_hint = ResetHint::Unknown;
    Arc::new(histogram)
}
