//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, of native histograms and
//! of classic ones: series of cumulative counts with their upper bound as the label `le`.

use std::collections::HashMap;

use kittiwake_model::float_histogram::{bucket_fraction, bucket_quantile};
use kittiwake_model::{FloatHistogram, Labels};
use kittiwake_vector::{Sample, Series};

use super::{Evaluator, Findings, labels};
use crate::ast::{Call, Place};
use crate::error::EvalError;
use crate::text;

const BUCKET: &str = "le";

/// Upper bounds and the series that count up to them.
type Members = Vec<(f64, usize)>;

/// The series of a vector as histograms.
struct Histograms {
    /// Native ones: labels and the series.
    natives: Vec<usize>,
    /// Classic ones: labels without the bound, and the members.
    classics: Vec<(Labels, Members)>,
    /// Index among the classic ones by labels.
    places: HashMap<Labels, usize>,
}

/// Reads a number as Go's `ParseFloat` does.
fn bound(text: &str) -> Option<f64> {
    let plain = text.trim_start_matches('+');
    let is_number = !text.is_empty() && !text.contains(|c: char| c.is_whitespace());
    plain.parse().ok().filter(|_| is_number)
}

impl Evaluator<'_> {
    /// The name of a metric in annotations, which is gone when names go at once.
    fn noted_name<'l>(&self, labels: &'l Labels) -> &'l str {
        if self.query.options.delays_name_removal {
            labels.metric_name().unwrap_or("")
        } else {
            ""
        }
    }

    fn histograms(&self, series: &[Series], place: Place, findings: &mut Findings) -> Histograms {
        let mut found = Histograms {
            natives: Vec::new(),
            classics: Vec::new(),
            places: HashMap::new(),
        };
        for (index, one) in series.iter().enumerate() {
            if !one.histograms.is_empty() {
                found.natives.push(index);
            }
            if (0..one.floats.len()).all(|step| one.float(step).is_none()) {
                continue;
            }
            let label = one.labels.get(BUCKET).unwrap_or("");
            let Some(upper) = bound(label) else {
                let name = self.noted_name(&one.labels);
                findings.annotations.bad_bucket_label(name, label, place);
                continue;
            };
            let key = one.labels.without(|name| name == BUCKET);
            let next = found.classics.len();
            let at = *found.places.entry(key.clone()).or_insert(next);
            if at == next {
                found.classics.push((key, Members::new()));
            }
            found.classics[at].1.push((upper, index));
        }
        found
    }

    /// Calls `native` and `classic` with each histogram at each step, and puts what they give
    /// into series. A metric that has both kinds at a step has no result there.
    fn each_histogram(
        &self,
        series: &[Series],
        place: Place,
        findings: &mut Findings,
        mut native: impl FnMut(&FloatHistogram, &Labels, usize, &mut Findings) -> f64,
        mut classic: impl FnMut(&mut Vec<(f64, f64)>, &Labels, usize, &mut Findings) -> f64,
    ) -> Vec<Series> {
        let found = self.histograms(series, place, findings);
        let mut results: Vec<Series> = Vec::new();
        let mut counts = Vec::new();
        let buckets_at = |members: &[(f64, usize)], step: usize, counts: &mut Vec<(f64, f64)>| {
            counts.clear();
            counts.extend(members.iter().filter_map(|(upper, index)| {
                let count = series[*index].float(step)?;
                Some((*upper, count))
            }));
        };
        let mut is_mixed = vec![Vec::new(); found.classics.len()];
        for index in &found.natives {
            let one = &series[*index];
            let mut result = Series::new(one.labels.clone(), self.steps.count);
            let classic = found.places.get(&one.labels).copied();
            for step in 0..self.steps.count {
                let Some(Sample::Histogram(histogram)) = one.get(step) else {
                    continue;
                };
                if let Some(at) = classic {
                    buckets_at(&found.classics[at].1, step, &mut counts);
                    if !counts.is_empty() {
                        let name = self.noted_name(&one.labels);
                        findings.annotations.mixed_classic_native(name, place);
                        is_mixed[at].push(step);
                        continue;
                    }
                }
                result.floats[step] = native(histogram, &one.labels, step, findings);
            }
            self.drop_name(&mut result);
            results.push(result);
        }
        for ((key, members), is_mixed) in found.classics.iter().zip(is_mixed) {
            let mut result = Series::new(key.clone(), self.steps.count);
            for step in 0..self.steps.count {
                buckets_at(members, step, &mut counts);
                if !counts.is_empty() && !is_mixed.contains(&step) {
                    result.floats[step] = classic(&mut counts, key, step, findings);
                }
            }
            self.drop_name(&mut result);
            results.push(result);
        }
        results.retain(|result| !result.is_empty());
        results.sort_by(|a, b| a.labels.cmp(&b.labels));
        results
    }

    fn quantiles(
        &self,
        phis: &[f64],
        series: &[Series],
        place: Place,
        is_first: bool,
        findings: &mut Findings,
    ) -> Vec<Series> {
        let native = |h: &FloatHistogram, labels: &Labels, step: usize, f: &mut Findings| {
            let (value, effect) = h.quantile(phis[step]);
            if let Some(effect) = effect {
                let name = self.noted_name(labels);
                f.annotations.nan_effect(effect, name, place);
            }
            value
        };
        let classic = |b: &mut Vec<(f64, f64)>, labels: &Labels, step: usize, f: &mut Findings| {
            let (value, forced) = bucket_quantile(phis[step], b);
            // Of several quantiles the first finds what was not monotonic, and mends it.
            if let Some(forced) = forced.filter(|_| is_first) {
                let (name, at) = (self.noted_name(labels), self.steps.at(step));
                f.annotations.forced_monotonicity(name, place, at, forced);
            }
            value
        };
        self.each_histogram(series, place, findings, native, classic)
    }

    fn check_phis(phis: &[f64], place: Place, findings: &mut Findings) {
        for phi in phis {
            if phi.is_nan() || !(0.0..=1.0).contains(phi) {
                findings.annotations.invalid_quantile(*phi, place);
            }
        }
    }

    pub(super) fn histogram_quantile(
        &self,
        call: &Call,
        findings: &mut Findings,
    ) -> Result<Vec<Series>, EvalError> {
        let phis = self.scalar(&call.args[0], findings)?;
        Self::check_phis(&phis, call.args[0].place(), findings);
        let series = self.series(&call.args[1], findings)?;
        self.release(&series);
        Ok(self.quantiles(&phis, &series, call.args[1].place(), true, findings))
    }

    pub(super) fn histogram_quantiles(
        &self,
        call: &Call,
        findings: &mut Findings,
    ) -> Result<Vec<Series>, EvalError> {
        let series = self.series(&call.args[0], findings)?;
        self.release(&series);
        let label = labels::text(call, 1);
        let mut results = Vec::new();
        for (index, arg) in call.args[2..].iter().enumerate() {
            let phis = self.scalar(arg, findings)?;
            Self::check_phis(&phis, arg.place(), findings);
            let place = call.args[0].place();
            for one in self.quantiles(&phis, &series, place, index == 0, findings) {
                self.split_by_phi(&one, label, &phis, &mut results);
            }
        }
        Ok(kittiwake_vector::join_equal(results)?)
    }

    /// A series per quantile that a parameter takes over the steps.
    fn split_by_phi(&self, one: &Series, label: &str, phis: &[f64], results: &mut Vec<Series>) {
        let mut places: HashMap<u64, usize> = HashMap::new();
        for (step, phi) in phis.iter().enumerate() {
            let Some(value) = one.float(step) else {
                continue;
            };
            let place = *places.entry(phi.to_bits()).or_insert_with(|| {
                let mut builder = one.labels.to_builder();
                builder.set(label, &open_metrics(*phi));
                let labels = builder.build().unwrap_or_else(|_| one.labels.clone());
                let mut series = Series::new(labels, self.steps.count);
                series.drops_name = one.drops_name;
                results.push(series);
                results.len() - 1
            });
            results[place].floats[step] = value;
        }
    }

    pub(super) fn histogram_fraction(
        &self,
        call: &Call,
        findings: &mut Findings,
    ) -> Result<Vec<Series>, EvalError> {
        let lower = self.scalar(&call.args[0], findings)?;
        let upper = self.scalar(&call.args[1], findings)?;
        let series = self.series(&call.args[2], findings)?;
        self.release(&series);
        let place = call.args[2].place();
        let native = |h: &FloatHistogram, labels: &Labels, step: usize, f: &mut Findings| {
            let (value, effect) = h.fraction(lower[step], upper[step]);
            if let Some(effect) = effect {
                let name = self.noted_name(labels);
                f.annotations.nan_effect(effect, name, place);
            }
            value
        };
        let classic = |b: &mut Vec<(f64, f64)>, _: &Labels, step: usize, _: &mut Findings| {
            bucket_fraction(lower[step], upper[step], b)
        };
        Ok(self.each_histogram(&series, place, findings, native, classic))
    }
}

/// A number as OpenMetrics writes it as the value of a label: never without a point.
fn open_metrics(value: f64) -> String {
    if value == 1.0 || value == 0.0 || value == -1.0 {
        return format!("{value:.1}");
    }
    if !value.is_finite() {
        return text::number(value);
    }
    let shown = kittiwake_model::float_histogram::shortest(value);
    if shown.contains(['e', '.']) {
        shown
    } else {
        format!("{shown}.0")
    }
}
