//! `anchored` and `smoothed` ranges: their ends are at the window's ends, with the last sample
//! before them or a value between the samples around them.

use kittiwake_model::FloatHistogram;
use kittiwake_model::histogram::ResetHint;
use kittiwake_model::{Columns, Labels, SelectHint, stale_nan};
use kittiwake_vector::Series;

use super::range_call::{Outcome, RangeCall, Window};
use super::rate::{add, is_start_reset, is_start_reset_after, subtract};
use super::select::{Buckets, HistogramPoint, Raw, split};
use super::{Evaluator, Findings};
use crate::annotations::Annotations;
use crate::ast::{Edges, Place, Selector};
use crate::error::EvalError;

/// A number and when its counting began; 0 is not known.
#[derive(Debug, Clone, Copy)]
struct Point {
    time: i64,
    value: f64,
    start: i64,
}

impl Point {
    fn plain((time, value): (i64, f64)) -> Self {
        Self {
            time,
            value,
            start: 0,
        }
    }

    /// A counter when it began.
    fn zero(time: i64) -> Self {
        Self {
            time,
            value: 0.0,
            start: time,
        }
    }
}

/// The value at `at` on the line between two samples; a counter that was reset begins at 0.
fn between(before: Point, after: Point, at: i64, is_counter: bool) -> f64 {
    let (mut low, high) = (before.value, after.value);
    if is_counter && high < low {
        low = 0.0;
    }
    low + (high - low) * (at - before.time) as f64 / (after.time - before.time) as f64
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

/// A side of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    Behind,
}

/// An end of a window.
#[derive(Debug, Clone, Copy)]
struct Edge {
    at: i64,
    /// How far back samples are seen.
    seen_from: i64,
    is_smoothed: bool,
    is_counter: bool,
}

impl Edge {
    /// The value at the edge when `point` is the first sample that is seen and lies behind it.
    fn before_all(self, point: Point) -> f64 {
        let began_after = |time| is_start_reset_after(time, point.start, point.time);
        if !self.is_counter || !began_after(self.seen_from) {
            point.value
        } else if began_after(self.at) || !self.is_smoothed {
            0.0
        } else {
            between(Point::zero(point.start), point, self.at, true)
        }
    }

    /// The value between two samples around the edge, and on which side of it the counter began
    /// anew, if it did: that beginning then stands for the sample there.
    fn between(self, before: Point, after: Point) -> (f64, Option<Side>) {
        let (mut left, mut right, mut began) = (before, after, None);
        if self.is_counter && is_start_reset_after(self.at, after.start, after.time) {
            right = Point::zero(after.start);
            began = Some(Side::Behind);
        } else if self.is_counter
            && is_start_reset(before.start, before.time, after.start, after.time)
        {
            left = Point::zero(after.start);
            began = Some(Side::Before);
        }
        let value = if self.is_smoothed {
            between(left, right, self.at, self.is_counter)
        } else {
            left.value
        };
        (value, began)
    }

    /// A start time that lies before the edge.
    fn known(self, start: i64) -> i64 {
        if start > self.at { 0 } else { start }
    }

    /// The value at the left end of a window, whose first sample is at `first`, and the start.
    fn left(self, points: &[Point], first: usize) -> (f64, i64) {
        let point = points[first];
        if point.time == self.at {
            return (point.value, point.start);
        }
        if point.time > self.at {
            return (self.before_all(point), self.known(point.start));
        }
        let Some(next) = points.get(first + 1) else {
            return (point.value, self.known(point.start));
        };
        let (value, began) = self.between(point, *next);
        let start = match began {
            Some(Side::Before) => next.start,
            _ => self.known(point.start),
        };
        (value, start)
    }

    /// The value at the right end of a window, whose last sample is at `last`, and the start.
    fn right(self, points: &[Point], last: usize) -> (f64, i64) {
        let point = points[last];
        if point.time <= self.at {
            return (point.value, self.known(point.start));
        }
        if last == 0 {
            return (self.before_all(point), self.known(point.start));
        }
        let before = points[last - 1];
        let (value, began) = self.between(before, point);
        let start = match began {
            Some(Side::Behind) => before.start,
            _ => self.known(point.start),
        };
        (value, start)
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
    let plain: Vec<Point> = points.iter().copied().map(Point::plain).collect();
    let edge = |at| Edge {
        at,
        seen_from: i64::MIN,
        is_smoothed,
        is_counter: false,
    };
    let (left, _) = edge(start).left(&plain, first);
    let (right, _) = edge(end).right(&plain, last);
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
    let points: Vec<Point> = (0..window.times.len())
        .map(|at| Point {
            time: window.times[at],
            value: window.values[at],
            start: window.starts.get(at).copied().unwrap_or(0),
        })
        .collect();
    let is_smoothed = call.edges == Edges::Smoothed;
    let (start, end) = (window.start, window.end);
    let (mut first, last) = ends_of(window.times, start, end, is_smoothed);
    if points[last].time <= start {
        return None;
    }
    let seen_from = start.saturating_sub(call.back_ms());
    let began_after = |time| is_start_reset_after(time, points[first].start, points[first].time);
    let is_behind = is_smoothed && points[first].time > end;
    if is_behind && (!is_counter || !began_after(seen_from) || began_after(end)) {
        return None;
    }
    let edge = |at| Edge {
        at,
        seen_from,
        is_smoothed,
        is_counter,
    };
    let (left, left_start) = edge(start).left(&points, first);
    let (right, right_start) = edge(end).right(&points, last);
    let mut change = right - left;
    if is_counter {
        if points[first].time <= start {
            first += 1;
        }
        let end_index = last + usize::from(points[last].time < end);
        let mut before = Point {
            time: start,
            value: left,
            start: left_start,
        };
        let end_point = Point {
            time: end,
            value: right,
            start: right_start,
        };
        let inside = points.get(first..end_index).unwrap_or_default();
        let mut correction = 0.0;
        for now in inside.iter().chain([&end_point]) {
            let is_reset = is_start_reset(before.start, before.time, now.start, now.time);
            if now.value < before.value || is_reset {
                correction += before.value;
            }
            before = *now;
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
    let point = |index: usize| Point::plain((times[index], values[index]));
    let before = next.checked_sub(1).filter(|b| times[*b] > at - lookback);
    let after = (next < times.len() && times[next] <= at + lookback).then_some(next);
    match (before, after) {
        (_, Some(now)) if times[now] == at => Some(values[now]),
        (Some(before), Some(after)) => Some(between(point(before), point(after), at, false)),
        (Some(before), None) => Some(values[before]),
        (None, _) => None,
    }
}
