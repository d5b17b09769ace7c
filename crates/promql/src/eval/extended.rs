//! `anchored` and `smoothed` ranges: their ends are at the window's ends, with the last sample
//! before them or a value between the samples around them.

use kittiwake_model::FloatHistogram;
use kittiwake_model::histogram::ResetHint;
use kittiwake_model::{Columns, Labels, SelectHint, stale_nan};
use kittiwake_vector::Series;

use super::range_call::{Outcome, RangeCall, Window};
use super::rate::{add, subtract};
use super::select::{Buckets, HistogramPoint, Raw, split};
use super::{Evaluator, Findings};
use crate::annotations::Annotations;
use crate::ast::{Edges, Place, Selector};
use crate::error::EvalError;

/// The value at `at` on the line between two samples; a counter that was reset begins at 0.
fn between(before: (i64, f64), after: (i64, f64), at: i64, is_counter: bool) -> f64 {
    let (mut low, high) = (before.1, after.1);
    if is_counter && high < low {
        low = 0.0;
    }
    low + (high - low) * (at - before.0) as f64 / (after.0 - before.0) as f64
}

/// The histogram at `at` between two samples.
fn between_histograms(
    before: &HistogramPoint,
    after: &HistogramPoint,
    at: i64,
    is_counter: bool,
    metric: &str,
    place: Place,
    notes: &mut Annotations,
) -> Option<FloatHistogram> {
    if at == before.time {
        return Some(before.histogram.as_ref().clone());
    }
    let mut result = after.histogram.as_ref().clone();
    if at == after.time {
        return Some(result);
    }
    let fraction = (at - before.time) as f64 / (after.time - before.time) as f64;
    if is_counter && after.histogram.is_reset_after(&before.histogram) {
        result.scale(fraction);
        return Some(result);
    }
    if !subtract(&mut result, &before.histogram, metric, place, notes) {
        return None;
    }
    result.scale(fraction);
    add(&mut result, &before.histogram, metric, place, notes).then_some(result)
}

/// Index of the sample that a window begins with, and of the one it ends with.
fn ends_of(times: &[i64], start: i64, end: i64, is_smoothed: bool) -> (usize, usize) {
    let last = times.len().saturating_sub(1);
    let first = times[..last].partition_point(|t| *t <= start);
    let last = if is_smoothed {
        times[..last].partition_point(|t| *t < end)
    } else {
        last
    };
    (first.saturating_sub(1), last)
}

fn left_value(
    points: &[(i64, f64)],
    first: usize,
    start: i64,
    is_smoothed: bool,
    is_counter: bool,
) -> f64 {
    match points.get(first + 1) {
        Some(next) if is_smoothed && points[first].0 < start => {
            between(points[first], *next, start, is_counter)
        }
        _ => points[first].1,
    }
}

fn right_value(
    points: &[(i64, f64)],
    last: usize,
    end: i64,
    is_smoothed: bool,
    is_counter: bool,
) -> f64 {
    if is_smoothed && last > 0 && points[last].0 > end {
        between(points[last - 1], points[last], end, is_counter)
    } else {
        points[last].1
    }
}

/// The samples of a range with one at each end of it.
pub(super) fn extend(
    points: &[(i64, f64)],
    start: i64,
    end: i64,
    is_smoothed: bool,
) -> Vec<(i64, f64)> {
    if points.is_empty() {
        return Vec::new();
    }
    let times: Vec<i64> = points.iter().map(|point| point.0).collect();
    let (first, last) = ends_of(&times, start, end, is_smoothed);
    if times[last] <= start {
        return Vec::new();
    }
    let left = left_value(points, first, start, is_smoothed, false);
    let right = right_value(points, last, end, is_smoothed, false);
    let inside = points.iter().enumerate().filter(|(index, (time, _))| {
        (first..=last).contains(index)
            && (*index > first || *time > start)
            && (*index < last || *time < end)
    });
    let mut extended = vec![(start, left)];
    extended.extend(inside.map(|(_, point)| *point));
    extended.push((end, right));
    extended
}

/// The change over a window with ends.
pub(super) fn change(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    metric: &str,
    is_counter: bool,
    is_rate: bool,
    notes: &mut Annotations,
) -> Option<Outcome> {
    if !window.histograms.is_empty() {
        let change = histogram_change(call, window, metric, is_counter, is_rate, notes);
        return change.map(Outcome::Histogram);
    }
    if window.values.is_empty() {
        return None;
    }
    let points = window.times.iter().copied();
    let points: Vec<(i64, f64)> = points.zip(window.values.iter().copied()).collect();
    let is_smoothed = call.edges == Edges::Smoothed;
    let (start, end) = (window.start, window.end);
    let (mut first, last) = ends_of(window.times, start, end, is_smoothed);
    if points[last].0 <= start || (is_smoothed && points[first].0 > end) {
        return None;
    }
    let left = left_value(&points, first, start, is_smoothed, is_counter);
    let right = right_value(&points, last, end, is_smoothed, is_counter);
    let mut change = right - left;
    if is_counter {
        if points[first].0 <= start {
            first += 1;
        }
        let end_index = last + usize::from(points[last].0 < end);
        let mut before = left;
        let mut correction = 0.0;
        let inside = points.get(first..end_index).unwrap_or_default();
        for value in inside.iter().map(|point| point.1).chain([right]) {
            if value < before {
                correction += before;
            }
            before = value;
        }
        change += correction;
    }
    if is_rate {
        change /= call.range_seconds();
    }
    Some(Outcome::Float(change))
}

fn histogram_change(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    metric: &str,
    is_counter: bool,
    is_rate: bool,
    notes: &mut Annotations,
) -> Option<FloatHistogram> {
    let points = window.histograms;
    let times: Vec<i64> = points.iter().map(|point| point.time).collect();
    let is_smoothed = call.edges == Edges::Smoothed;
    let (start, end) = (window.start, window.end);
    let (first, last) = ends_of(&times, start, end, is_smoothed);
    if times[last] <= start || (is_smoothed && times[first] > end) {
        return None;
    }
    let is_custom = points[first].histogram.has_custom_buckets();
    for point in &points[first..=last] {
        if point.histogram.has_custom_buckets() != is_custom {
            notes.mixed_schemas(metric, call.place);
            return None;
        }
        if is_counter && point.histogram.reset_hint == ResetHint::Gauge {
            notes.not_counter(metric, call.place);
        }
    }
    let place = call.place;
    let left = match points.get(first + 1) {
        Some(next) if is_smoothed && times[first] < start => between_histograms(
            &points[first],
            next,
            start,
            is_counter,
            metric,
            place,
            notes,
        )?,
        _ => points[first].histogram.as_ref().clone(),
    };
    let right = if is_smoothed && last > 0 && times[last] > end {
        let before = &points[last - 1];
        between_histograms(before, &points[last], end, is_counter, metric, place, notes)?
    } else {
        points[last].histogram.as_ref().clone()
    };
    let is_gauge = |histogram: &FloatHistogram| histogram.reset_hint == ResetHint::Gauge;
    if !is_counter && (!is_gauge(&left) || !is_gauge(&right)) {
        notes.not_gauge(metric, place);
    }
    let mut change = right.clone();
    if !subtract(&mut change, &left, metric, place, notes) {
        return None;
    }
    if is_counter {
        let mut from = first + 1;
        let mut before = left;
        if is_smoothed
            && times[first] < start
            && points
                .get(first + 1)
                .is_some_and(|next| next.histogram.is_reset_after(&points[first].histogram))
        {
            before = points[first + 1].histogram.as_ref().clone();
            from += 1;
        }
        if from <= last {
            let mut correction: Option<FloatHistogram> = None;
            let inside = points[from..last].iter().map(|p| p.histogram.as_ref());
            for now in inside.chain([&right]) {
                if now.is_reset_after(&before) {
                    match &mut correction {
                        None => correction = Some(before.clone()),
                        Some(sum) => {
                            if !add(sum, &before, metric, place, notes) {
                                return None;
                            }
                        }
                    }
                }
                before = now.clone();
            }
            if let Some(correction) = correction
                && !add(&mut change, &correction, metric, place, notes)
            {
                return None;
            }
        }
    }
    if is_rate {
        change.divide(call.range_seconds());
    }
    change.reset_hint = ResetHint::Gauge;
    change.compact();
    Some(change)
}

impl Evaluator<'_> {
    /// `metric smoothed`: between the samples around each step.
    pub(super) fn smoothed(
        &self,
        selector: &Selector,
        findings: &mut Findings,
    ) -> Result<Vec<Series>, EvalError> {
        let lookback = self.query.options.lookback_ms;
        let look = self.look(&selector.shift)?;
        let hint = SelectHint::default();
        let mut reader = self.open(
            &selector.matchers,
            look,
            lookback,
            lookback,
            hint,
            Buckets::Kept,
        )?;
        let mut all = Vec::new();
        while let Some((labels, columns)) = reader.next()? {
            let series = self.smooth(labels, columns, look, selector.place, findings);
            if !series.is_empty() {
                self.hold(std::slice::from_ref(&series))?;
                all.push(series);
            }
        }
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(all)
    }

    fn smooth(
        &self,
        labels: Labels,
        columns: Columns,
        look: super::Look,
        place: Place,
        findings: &mut Findings,
    ) -> Series {
        let raw = split(labels, columns, Buckets::Kept);
        let lookback = self.query.options.lookback_ms;
        let metric = raw.labels.metric_name().unwrap_or("").to_owned();
        let mut series = Series::of(raw.labels.clone(), vec![stale_nan(); self.steps.count]);
        for step in 0..self.steps.count {
            let at = self.looked(step, look);
            let within = |time: i64| time > at - lookback && time <= at + lookback;
            let float_times = &raw.floats.times;
            let has_floats = float_times.iter().any(|t| within(*t));
            let histograms: Vec<&HistogramPoint> =
                raw.histograms.iter().filter(|p| within(p.time)).collect();
            if has_floats && !histograms.is_empty() {
                findings.annotations.mixed_floats_histograms(&metric, place);
                continue;
            }
            if has_floats {
                if let Some(value) = smooth_float(&raw, at, lookback) {
                    series.floats[step] = value;
                    findings.samples[step] += 1;
                }
                continue;
            }
            let next = histograms.partition_point(|p| p.time < at);
            let histogram = match (next.checked_sub(1), histograms.get(next)) {
                (_, Some(now)) if now.time == at => now.histogram.as_ref().clone(),
                (Some(before), Some(after)) => {
                    let before = histograms[before];
                    let notes = &mut findings.annotations;
                    if before.histogram.has_custom_buckets() != after.histogram.has_custom_buckets()
                    {
                        notes.mixed_schemas(&metric, place);
                        continue;
                    }
                    let is_counter = [before, *after]
                        .iter()
                        .any(|p| p.histogram.reset_hint != ResetHint::Gauge);
                    let between =
                        between_histograms(before, after, at, is_counter, &metric, place, notes);
                    match between {
                        Some(histogram) => histogram,
                        None => continue,
                    }
                }
                (Some(before), None) => FloatHistogram {
                    reset_hint: ResetHint::Unknown,
                    ..histograms[before].histogram.as_ref().clone()
                },
                (None, _) => continue,
            };
            findings.samples[step] += histogram.size_in_samples() as u64;
            series.set_histogram(step, histogram.into());
        }
        series
    }
}

fn smooth_float(raw: &Raw, at: i64, lookback: i64) -> Option<f64> {
    let (times, values) = (&raw.floats.times, &raw.floats.values);
    let next = times.partition_point(|t| *t < at);
    let point = |index: usize| (times[index], values[index]);
    let before = next.checked_sub(1).filter(|b| times[*b] > at - lookback);
    let after = (next < times.len() && times[next] <= at + lookback).then_some(next);
    match (before, after) {
        (_, Some(now)) if times[now] == at => Some(values[now]),
        (Some(before), Some(after)) => Some(between(point(before), point(after), at, false)),
        (Some(before), None) => Some(values[before]),
        (None, _) => None,
    }
}
