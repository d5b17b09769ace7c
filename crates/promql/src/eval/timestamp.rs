//! `timestamp` and `start_timestamp`: when a sample was taken, and when its counting began.

use kittiwake_model::{STALE_NAN_BITS, SelectHint, is_stale_nan, stale_nan};
use kittiwake_vector::Series;

use super::select::{Buckets, newest};
use super::{Evaluator, Findings};
use crate::ast::{Call, Expr, Selector};
use crate::error::EvalError;

impl Evaluator<'_> {
    pub(super) fn timestamp(
        &self,
        call: &Call,
        findings: &mut Findings,
    ) -> Result<Vec<Series>, EvalError> {
        let is_start = call.function.name == "start_timestamp";
        if let Expr::Vector(selector) = call.args[0].unwrapped() {
            return self.of_samples(selector, is_start, findings);
        }
        let mut series = self.series(&call.args[0], findings)?;
        if is_start {
            // What was calculated has no start.
            return Ok(Vec::new());
        }
        for one in &mut series {
            for step in 0..self.steps.count {
                if one.has(step) {
                    one.floats[step] = self.steps.at(step) as f64 / 1000.0;
                }
            }
            one.drop_histograms();
            self.drop_name(one);
        }
        Ok(series)
    }

    fn of_samples(
        &self,
        selector: &Selector,
        is_start: bool,
        findings: &mut Findings,
    ) -> Result<Vec<Series>, EvalError> {
        let look = self.look(&selector.shift)?;
        let lookback = self.query.options.lookback_ms;
        let hint = SelectHint::default();
        let mut reader = self.open(&selector.matchers, look, lookback, 0, hint, Buckets::Kept)?;
        let mut all = Vec::new();
        while let Some((labels, columns)) = reader.next()? {
            let mut series = Series::of(labels, vec![stale_nan(); self.steps.count]);
            let is_stale = |index: usize| {
                let place = columns
                    .histograms
                    .binary_search_by_key(&(index as u32), |(at, _)| *at);
                match place {
                    Ok(place) => is_stale_nan(columns.histograms[place].1.sum),
                    Err(_) => columns.values[index].to_bits() == STALE_NAN_BITS,
                }
            };
            newest(&columns, self.steps, look, lookback, |step, index| {
                if is_stale(index) {
                    return;
                }
                let time = if is_start {
                    columns.starts.get(index).copied().unwrap_or(0)
                } else {
                    columns.times[index]
                };
                series.floats[step] = time as f64 / 1000.0;
                findings.samples[step] += 1;
            });
            if !series.is_empty() {
                self.drop_name(&mut series);
                self.hold(std::slice::from_ref(&series))?;
                all.push(series);
            }
        }
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(all)
    }
}
