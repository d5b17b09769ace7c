//! Functions over the samples of a window.

use std::collections::BTreeSet;
use std::sync::Arc;

use kittiwake_model::{FloatHistogram, stale_nan};
use kittiwake_vector::Series;

use super::select::{HistogramPoint, Raw, reach};
use super::{Evaluator, Findings, Look, over_time, rate, regression, resets, sliding};
use crate::ast::{Call, Edges, Expr, Place};
use crate::error::EvalError;

/// The samples of one window, and where it lies. Times are in ms.
pub(super) struct Window<'w> {
    /// The step's own time.
    pub(super) at: i64,
    /// The window without what is read before and behind it for its edges.
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) times: &'w [i64],
    pub(super) values: &'w [f64],
    /// When the counting of each began, or empty.
    pub(super) starts: &'w [i64],
    /// How many samples each is the sum of, or empty.
    pub(super) weights: &'w [f64],
    pub(super) histograms: &'w [HistogramPoint],
}

/// A place among sorted times that moves forward with the steps.
#[derive(Default)]
struct Walk {
    place: usize,
    /// How far it moved last. With regular samples and steps it moves as far each time.
    stride: usize,
}

impl Walk {
    /// Moves to the first time that is later than this one.
    fn beyond(&mut self, times: &[i64], time: i64) -> usize {
        let mut to = self.place + self.stride;
        let is_there = to > self.place
            && times.get(to - 1).is_some_and(|before| *before <= time)
            && times.get(to).is_none_or(|next| *next > time);
        if !is_there {
            to = self.place;
            while to < times.len() && times[to] <= time {
                to += 1;
            }
            self.stride = to - self.place;
        }
        self.place = to;
        to
    }
}

/// What a function gives of a window.
pub(super) enum Outcome {
    Float(f64),
    Histogram(FloatHistogram),
    Shared(Arc<FloatHistogram>),
}

/// A function over a window with all that it needs.
#[derive(Clone)]
pub(super) struct RangeCall<'e> {
    pub(super) name: &'static str,
    /// The selector or subquery that it is over.
    pub(super) arg: &'e Expr,
    /// Where annotations point to.
    pub(super) place: Place,
    pub(super) range_ms: i64,
    pub(super) look: Look,
    pub(super) edges: Edges,
    lookback_ms: i64,
    /// The other arguments, per step.
    pub(super) params: Vec<Vec<f64>>,
    has_type_labels: bool,
}

const ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
const SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];

impl Evaluator<'_> {
    /// The call as a function over a window, if it is one.
    pub(super) fn range_call<'e>(
        &self,
        call: &'e Call,
        findings: &mut Findings,
    ) -> Result<Option<RangeCall<'e>>, EvalError> {
        let name = call.function.name;
        let windowed = |arg: &&Expr| matches!(arg.unwrapped(), Expr::Matrix(_) | Expr::Subquery(_));
        let Some(arg) = call.args.iter().find(windowed).map(Expr::unwrapped) else {
            return Ok(None);
        };
        let (range, shift, edges) = match arg {
            Expr::Matrix(matrix) => (&matrix.range, &matrix.selector.shift, matrix.selector.edges),
            Expr::Subquery(subquery) => (&subquery.range, &subquery.shift, Edges::Plain),
            _ => return Ok(None),
        };
        let (word, allowed): (_, &[&str]) = match edges {
            Edges::Plain => ("", &[]),
            Edges::Anchored => ("anchored", &ANCHORED),
            Edges::Smoothed => ("smoothed", &SMOOTHED),
        };
        if edges != Edges::Plain && !allowed.contains(&name) {
            let allowed = allowed.join(", ");
            return Err(EvalError::new(format!(
                "{word} modifier can only be used with: {allowed} - not with {name}"
            )));
        }
        let mut params = Vec::new();
        for other in &call.args {
            if !std::ptr::eq(other.unwrapped(), arg) {
                params.push(self.scalar(other, findings)?);
            }
        }
        if name == "double_exponential_smoothing" {
            regression::check_factors(&params)?;
        }
        Ok(Some(RangeCall {
            name,
            arg,
            place: noted_place(&call.args[0]),
            range_ms: self.length(range, false)?,
            look: self.look(shift)?,
            edges,
            lookback_ms: self.query.options.lookback_ms,
            params,
            has_type_labels: self.query.options.has_type_labels,
        }))
    }
}

/// The place that is told of an argument: Prometheus tells none of a subquery, which is the start.
fn noted_place(arg: &Expr) -> Place {
    match arg {
        Expr::Subquery(subquery) => Place {
            start: 0,
            end: subquery.place.end,
        },
        arg => arg.place(),
    }
}

impl RangeCall<'_> {
    /// How far before a window samples are needed.
    pub(super) fn back_ms(&self) -> i64 {
        match self.edges {
            Edges::Plain => 0,
            Edges::Anchored | Edges::Smoothed => self.lookback_ms,
        }
    }

    /// How far behind a window samples are needed.
    pub(super) fn ahead_ms(&self) -> i64 {
        match self.edges {
            Edges::Plain | Edges::Anchored => 0,
            Edges::Smoothed => self.lookback_ms,
        }
    }

    pub(super) fn range_seconds(&self) -> f64 {
        self.range_ms as f64 / 1000.0
    }

    fn is_rate(&self) -> bool {
        matches!(self.name, "rate" | "increase")
    }

    /// A series of results.
    pub(super) fn series(
        &self,
        evaluator: &Evaluator<'_>,
        raw: &Raw,
        findings: &mut Findings,
    ) -> Result<Series, EvalError> {
        if raw.thinned.is_empty() {
            return self.of_one_range(evaluator, raw, findings);
        }
        // Windows are as long as what is left there allows; steps with windows of one length are
        // computed together.
        let steps = 0..evaluator.steps.count;
        let ranges: Vec<i64> = steps
            .map(|step| {
                reach(
                    &raw.thinned,
                    evaluator.looked(step, self.look),
                    self.range_ms,
                )
            })
            .collect();
        let distinct: BTreeSet<i64> = ranges.iter().copied().collect();
        let mut whole: Option<Series> = None;
        for range_ms in distinct {
            let call = Self {
                range_ms,
                ..self.clone()
            };
            let mut found = Findings::new(evaluator.steps);
            let part = call.of_one_range(evaluator, raw, &mut found)?;
            findings.annotations.merge(found.annotations);
            let into = whole.get_or_insert_with(|| Series {
                drops_name: part.drops_name,
                ..Series::of(part.labels.clone(), vec![stale_nan(); ranges.len()])
            });
            for step in (0..ranges.len()).filter(|step| ranges[*step] == range_ms) {
                if let Some(sample) = part.get(step) {
                    into.set(step, sample);
                }
                findings.samples[step] += found.samples[step];
            }
        }
        Ok(whole.unwrap_or_else(|| Series::of(raw.labels.clone(), Vec::new())))
    }

    fn of_one_range(
        &self,
        evaluator: &Evaluator<'_>,
        raw: &Raw,
        findings: &mut Findings,
    ) -> Result<Series, EvalError> {
        let metric = raw.labels.metric_name().unwrap_or("").to_owned();
        let mut series = Series::of(raw.labels.clone(), vec![stale_nan(); evaluator.steps.count]);
        series.drops_name = raw.drops_name;
        let is_fast = raw.histograms.is_empty()
            && self.edges == Edges::Plain
            && raw.floats.starts.is_empty()
            && self.fast(evaluator, raw, &mut series, findings);
        if !is_fast {
            self.by_windows(evaluator, raw, &metric, &mut series, findings)?;
        }
        if self.is_rate() && !metric.is_empty() {
            self.check_counter(raw, &metric, &series, findings);
        }
        if !matches!(self.name, "last_over_time" | "first_over_time") {
            evaluator.drop_name(&mut series);
        }
        Ok(series)
    }

    fn check_counter(&self, raw: &Raw, metric: &str, series: &Series, findings: &mut Findings) {
        let has_float = || (0..series.floats.len()).any(|step| series.float(step).is_some());
        if self.has_type_labels {
            let kind = raw.labels.get("__type__").unwrap_or("");
            if !matches!(kind, "counter" | "histogram") && has_float() {
                let annotations = &mut findings.annotations;
                annotations.non_counter_type(metric, kind, self.place);
            }
        } else if !["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|suffix| metric.ends_with(suffix))
            && has_float()
        {
            let annotations = &mut findings.annotations;
            annotations.possible_non_counter(metric, self.place);
        }
    }

    /// Functions that need not look at each sample of each window. `false` when there is no
    /// such way.
    fn fast(
        &self,
        evaluator: &Evaluator<'_>,
        raw: &Raw,
        series: &mut Series,
        findings: &mut Findings,
    ) -> bool {
        let floats = &raw.floats;
        match self.name {
            "rate" | "increase" | "delta" => {
                rate::over_steps(self, evaluator, floats, series, findings);
            }
            "max_over_time" => {
                let is_better = |new: f64, best: f64| new > best || best.is_nan();
                sliding::best(self, evaluator, floats, series, findings, is_better);
            }
            "min_over_time" => {
                let is_better = |new: f64, best: f64| new < best || best.is_nan();
                sliding::best(self, evaluator, floats, series, findings, is_better);
            }
            _ => return false,
        }
        true
    }

    /// Calls `each` with the step, its time's window and the bounds of the samples in it.
    pub(super) fn windows(
        &self,
        evaluator: &Evaluator<'_>,
        times: &[i64],
        mut each: impl FnMut(usize, i64, std::ops::Range<usize>),
    ) {
        let (mut begin, mut end) = (Walk::default(), Walk::default());
        let (back, ahead) = (self.range_ms + self.back_ms(), self.ahead_ms());
        for step in 0..evaluator.steps.count {
            let at = evaluator.looked(step, self.look);
            let end = end.beyond(times, at.saturating_add(ahead));
            let begin = begin.beyond(&times[..end], at.saturating_sub(back));
            each(step, at, begin..end);
        }
    }

    fn by_windows(
        &self,
        evaluator: &Evaluator<'_>,
        raw: &Raw,
        metric: &str,
        series: &mut Series,
        findings: &mut Findings,
    ) -> Result<(), EvalError> {
        let floats = &raw.floats;
        let mut bounds = Vec::with_capacity(evaluator.steps.count);
        self.windows(evaluator, &floats.times, |_, at, range| {
            bounds.push((at, range));
        });
        let (mut begin, mut end) = (0, 0);
        for (step, (at, range)) in bounds.into_iter().enumerate() {
            let last = at.saturating_add(self.ahead_ms());
            let before = at.saturating_sub(self.range_ms + self.back_ms());
            let all = &raw.histograms;
            while end < all.len() && all[end].time <= last {
                end += 1;
            }
            while begin < end && all[begin].time <= before {
                begin += 1;
            }
            let histograms = &all[begin..end];
            if range.is_empty() && histograms.is_empty() {
                continue;
            }
            if step.is_multiple_of(64) {
                evaluator.query.context.check()?;
            }
            let sizes = histograms.iter().map(|p| p.histogram.size_in_samples());
            findings.samples[step] += (range.len() + sizes.sum::<usize>()) as u64;
            let window = Window {
                at: evaluator.steps.at(step),
                start: at - self.range_ms,
                end: at,
                times: &floats.times[range.clone()],
                values: &floats.values[range.clone()],
                starts: floats.starts.get(range.clone()).unwrap_or_default(),
                weights: floats.weights.get(range).unwrap_or_default(),
                histograms,
            };
            match self.at_window(&window, step, metric, findings) {
                None => {}
                Some(Outcome::Float(value)) => series.floats[step] = value,
                Some(Outcome::Histogram(histogram)) => {
                    series.set_histogram(step, Arc::new(histogram));
                }
                Some(Outcome::Shared(histogram)) => series.set_histogram(step, histogram),
            }
        }
        Ok(())
    }

    fn at_window(
        &self,
        window: &Window<'_>,
        step: usize,
        metric: &str,
        findings: &mut Findings,
    ) -> Option<Outcome> {
        let notes = &mut findings.annotations;
        match self.name {
            "rate" => rate::extrapolated(self, window, metric, true, true, notes),
            "increase" => rate::extrapolated(self, window, metric, true, false, notes),
            "delta" => rate::extrapolated(self, window, metric, false, false, notes),
            "irate" => rate::between_last(self, window, metric, true, notes),
            "idelta" => rate::between_last(self, window, metric, false, notes),
            "resets" => resets::resets(self, window),
            "changes" => resets::changes(self, window),
            "deriv" | "predict_linear" | "double_exponential_smoothing" => {
                regression::of_window(self, window, step, metric, notes)
            }
            _ => over_time::of_window(self, window, step, metric, notes),
        }
    }
}
