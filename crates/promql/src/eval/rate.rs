//! `rate`, `increase`, `delta`: the change over a window, extrapolated to its ends; `irate` and
//! `idelta`: that between the last two samples.

use kittiwake_model::FloatHistogram;
use kittiwake_model::float_histogram::Merged;
use kittiwake_model::histogram::ResetHint;
use kittiwake_vector::{HistogramOperation, Series};

use super::range_call::{Outcome, RangeCall, Window};
use super::select::{FloatPoints, HistogramPoint};
use super::{Evaluator, Findings, extended};
use crate::annotations::Annotations;
use crate::ast::Place;

/// Whether a counter began anew between two samples, by the times at which counting began.
pub(super) fn is_start_reset(start_before: i64, before: i64, start: i64, time: i64) -> bool {
    if start == 0 || start >= time || start < before {
        return false;
    }
    if start > before {
        return true;
    }
    start_before <= before && start_before != 0 && start_before != before
}

/// Whether a counter began anew after a time at which there need be no sample.
pub(super) fn is_start_reset_after(after: i64, start: i64, time: i64) -> bool {
    start > after && time > after && is_start_reset(after, after, start, time)
}

/// Whether a sample says that its counting began before the sample before it, but not when that
/// one's did.
fn overlaps(start_before: i64, before: i64, start: i64) -> bool {
    start != 0 && start < before && start != start_before
}

/// What is known of the samples of a window.
#[derive(Clone, Copy)]
struct Ends {
    first: i64,
    last: i64,
    /// Samples less one.
    gaps: usize,
}

/// How the change between the first and last sample is extrapolated to the ends of a window,
/// as far as times alone say.
#[derive(Clone, Copy)]
struct Extrapolation {
    /// Seconds to the ends.
    to_start: f64,
    to_end: f64,
    sampled: f64,
    /// What the change is multiplied by when nothing keeps it from reaching both ends.
    factor: f64,
}

impl Extrapolation {
    fn new(ends: Ends, start: i64, end: i64, started: Option<i64>) -> Self {
        let mut to_start = (ends.first - start) as f64 / 1000.0;
        let mut to_end = (end - ends.last) as f64 / 1000.0;
        let mut sampled = (ends.last - ends.first) as f64 / 1000.0;
        let mean_gap = if ends.gaps > 0 {
            sampled / ends.gaps as f64
        } else {
            0.0
        };
        let threshold = mean_gap * 1.1;
        if let Some(started) = started {
            to_start = 0.0;
            sampled = (ends.last - started) as f64 / 1000.0;
        } else if to_start >= threshold {
            to_start = mean_gap / 2.0;
        }
        if to_end >= threshold {
            to_end = mean_gap / 2.0;
        }
        let mut new = Self {
            to_start,
            to_end,
            sampled,
            factor: 1.0,
        };
        new.factor = new.factor_from(to_start);
        new
    }

    fn factor_from(&self, to_start: f64) -> f64 {
        if self.sampled == 0.0 {
            1.0
        } else {
            (self.sampled + to_start + self.to_end) / self.sampled
        }
    }

    /// The factor for a counter that had grown by `change` since its first sample of `first`:
    /// it would not have been below 0. `None` is [`Extrapolation::factor`].
    #[inline]
    fn cut_at_zero(&self, first: f64, change: f64) -> Option<f64> {
        // The division is left out where it is clear by far, whatever is rounded.
        let reached = self.to_start * change * 1.001 + f64::MIN_POSITIVE;
        let is_near = first * self.sampled <= reached;
        if !(change > 0.0 && first >= 0.0 && is_near) {
            return None;
        }
        let to_zero = self.sampled * (first / change);
        (to_zero < self.to_start).then(|| self.factor_from(to_zero))
    }

    /// The factor of a change; `first` is the first sample if that of a counter.
    fn factor_of(&self, first: Option<f64>, change: f64, started: Option<i64>) -> f64 {
        let first = first.filter(|_| started.is_none());
        let cut = first.and_then(|first| self.cut_at_zero(first, change));
        cut.unwrap_or(self.factor)
    }
}

/// What an extrapolation depends on, in ms.
#[derive(Clone, Copy)]
struct Shape {
    to_start: i64,
    to_end: i64,
    sampled: i64,
    gaps: usize,
}

impl Shape {
    /// Whether it is the same. Compared in registers: numbers that were just stored one by one
    /// and are loaded in pairs hold up the processor.
    #[inline]
    fn is(self, other: Self) -> bool {
        let ends = (self.to_start ^ other.to_start) | (self.to_end ^ other.to_end);
        (ends | (self.sampled ^ other.sampled)) == 0 && self.gaps == other.gaps
    }
}

/// Where a counter starts anew: the places of values that are less than those before them.
fn resets(values: &[f64]) -> Vec<usize> {
    const RUN: usize = 64;
    let mut resets = Vec::new();
    let mut from = 0;
    while from + 1 < values.len() {
        let to = values.len().min(from + RUN + 1);
        let (before, after) = (&values[from..to - 1], &values[from + 1..to]);
        let falls = |(before, after): (&f64, &f64)| after < before;
        // Without a way out of the loop, which is rarely taken, it takes several values at once.
        if before
            .iter()
            .zip(after)
            .fold(false, |any, pair| any | falls(pair))
        {
            let places = before.iter().zip(after).enumerate();
            for (place, pair) in places {
                if falls(pair) {
                    resets.push(from + place + 1);
                }
            }
        }
        from = to - 1;
    }
    resets
}

/// Numbers without starts: each step takes the ends of its window and the resets inside.
pub(super) fn over_steps(
    call: &RangeCall<'_>,
    evaluator: &Evaluator<'_>,
    floats: &FloatPoints,
    series: &mut Series,
    findings: &mut Findings,
) {
    let (times, values) = (&floats.times, &floats.values);
    let is_counter = call.name != "delta";
    let seconds = (call.name == "rate").then(|| call.range_seconds());
    let per_second = |factor: f64| seconds.map_or(factor, |seconds| factor / seconds);
    let resets = if is_counter {
        resets(values)
    } else {
        Vec::new()
    };
    let mut next_reset = 0;
    // With regular samples and steps the windows of a series look all the same.
    let mut known: Option<(Shape, Extrapolation, f64)> = None;
    call.windows(evaluator, times, |step, at, range| {
        findings.samples[step] += range.len() as u64;
        if range.len() < 2 {
            return;
        }
        let (first, last) = (range.start, range.end - 1);
        let mut change = values[last] - values[first];
        while next_reset < resets.len() && resets[next_reset] <= first {
            next_reset += 1;
        }
        for reset in resets[next_reset..].iter().take_while(|r| **r <= last) {
            change += values[*reset - 1];
        }
        let (start, gaps) = (at - call.range_ms, last - first);
        let shape = Shape {
            to_start: times[first] - start,
            to_end: at - times[last],
            sampled: times[last] - times[first],
            gaps,
        };
        let (extrapolation, plain) = match known {
            Some((of, extrapolation, plain)) if of.is(shape) => (extrapolation, plain),
            _ => {
                let ends = Ends {
                    first: times[first],
                    last: times[last],
                    gaps,
                };
                let extrapolation = Extrapolation::new(ends, start, at, None);
                let plain = per_second(extrapolation.factor);
                known = Some((shape, extrapolation, plain));
                (extrapolation, plain)
            }
        };
        let mut factor = plain;
        if is_counter && let Some(cut) = extrapolation.cut_at_zero(values[first], change) {
            factor = per_second(cut);
        }
        series.floats[step] = change * factor;
    });
}

/// The change over one window.
pub(super) fn extrapolated(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    metric: &str,
    is_counter: bool,
    is_rate: bool,
    notes: &mut Annotations,
) -> Option<Outcome> {
    if !window.values.is_empty() && !window.histograms.is_empty() {
        notes.mixed_floats_histograms(metric, call.place);
        return None;
    }
    if call.edges != crate::ast::Edges::Plain {
        return extended::change(call, window, metric, is_counter, is_rate, notes);
    }
    let per_second = if is_rate { call.range_seconds() } else { 1.0 };
    if window.histograms.is_empty() {
        return floats(call, window, metric, is_counter, notes)
            .map(|(change, factor)| Outcome::Float(change * (factor / per_second)));
    }
    let points = window.histograms;
    let (first, last) = (points.first()?, points.last()?);
    let ends = Ends {
        first: first.time,
        last: last.time,
        gaps: points.len() - 1,
    };
    let mut change = None;
    if points.len() > 1 {
        change = Some(histogram_change(
            points, is_counter, metric, call.place, notes,
        )?);
    }
    let started = started(is_counter, first.start, window.start, first.time);
    if started.is_some() {
        change = Some(match change {
            None => first.histogram.as_ref().clone(),
            Some(mut change) => {
                let first = &first.histogram;
                add(&mut change, first, metric, call.place, notes).then_some(change)?
            }
        });
    } else if points.len() == 1 {
        return None;
    }
    let mut change = change?;
    let count = first.histogram.count;
    let extrapolation = Extrapolation::new(ends, window.start, window.end, started);
    let factor = extrapolation.factor_of(is_counter.then_some(count), change.count, started);
    change.scale(factor / per_second);
    Some(Outcome::Histogram(change))
}

/// When counting began, if that is known to be inside the window and before the first sample.
fn started(is_counter: bool, start: i64, window_start: i64, first: i64) -> Option<i64> {
    (is_counter && start != 0 && start > window_start && start < first).then_some(start)
}

fn floats(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    metric: &str,
    is_counter: bool,
    notes: &mut Annotations,
) -> Option<(f64, f64)> {
    let (times, values, starts) = (window.times, window.values, window.starts);
    let last = values.len().checked_sub(1)?;
    let mut change = values[last] - values[0];
    if is_counter {
        let mut is_told = false;
        for index in 1..=last {
            let mut is_reset = values[index] < values[index - 1];
            if let (Some(before), Some(start)) = (starts.get(index - 1), starts.get(index)) {
                if !is_told && overlaps(*before, times[index - 1], *start) {
                    notes.start_overlap(metric, call.place);
                    is_told = true;
                }
                is_reset |= is_start_reset(*before, times[index - 1], *start, times[index]);
            }
            if is_reset {
                change += values[index - 1];
            }
        }
    }
    let first_start = starts.first().copied().unwrap_or(0);
    let started = started(is_counter, first_start, window.start, times[0]);
    if started.is_some() {
        change += values[0];
    } else if last == 0 {
        return None;
    }
    let ends = Ends {
        first: times[0],
        last: times[last],
        gaps: last,
    };
    let extrapolation = Extrapolation::new(ends, window.start, window.end, started);
    let first = is_counter.then_some(values[0]);
    Some((change, extrapolation.factor_of(first, change, started)))
}

/// Adds, and notes what is to be noted; `false` when that is not possible.
pub(super) fn add(
    sum: &mut FloatHistogram,
    other: &FloatHistogram,
    metric: &str,
    place: Place,
    notes: &mut Annotations,
) -> bool {
    let merged = sum.add(other).ok();
    noted(merged, HistogramOperation::Add, metric, place, notes)
}

/// Subtracts, and notes what is to be noted; `false` when that is not possible.
pub(super) fn subtract(
    difference: &mut FloatHistogram,
    other: &FloatHistogram,
    metric: &str,
    place: Place,
    notes: &mut Annotations,
) -> bool {
    let merged = difference.subtract(other).ok();
    noted(merged, HistogramOperation::Subtract, metric, place, notes)
}

/// Notes what is to be noted of two histograms that were merged, or could not be.
fn noted(
    merged: Option<Merged>,
    operation: HistogramOperation,
    metric: &str,
    place: Place,
    notes: &mut Annotations,
) -> bool {
    match &merged {
        None => notes.mixed_schemas(metric, place),
        Some(merged) if merged.bounds_reconciled => notes.bounds_reconciled(operation, place),
        Some(_) => {}
    }
    merged.is_some()
}

/// The change from the first to the last of at least two histograms.
fn histogram_change(
    points: &[HistogramPoint],
    is_counter: bool,
    metric: &str,
    place: Place,
    notes: &mut Annotations,
) -> Option<FloatHistogram> {
    let mut local = Annotations::default();
    let change = change_of(points, is_counter, metric, place, &mut local);
    notes.merge(local);
    change
}

fn change_of(
    points: &[HistogramPoint],
    is_counter: bool,
    metric: &str,
    place: Place,
    notes: &mut Annotations,
) -> Option<FloatHistogram> {
    let (first, last) = (&points.first()?.histogram, &points.last()?.histogram);
    let is_gauge = |histogram: &FloatHistogram| histogram.reset_hint == ResetHint::Gauge;
    let is_start_reset = |index: usize| {
        let (before, now) = (&points[index - 1], &points[index]);
        is_start_reset(before.start, before.time, now.start, now.time)
    };
    if is_counter && (is_gauge(first) || is_gauge(last)) {
        notes.not_counter(metric, place);
    }
    // A first sample right before a reset adds nothing; it may even have other buckets.
    let second = &points[1].histogram;
    let mut base = std::sync::Arc::clone(first);
    if is_counter && (is_start_reset(1) || second.is_reset_after(first)) {
        base = std::sync::Arc::new(FloatHistogram {
            schema: second.schema,
            custom_bounds: std::sync::Arc::clone(&second.custom_bounds),
            ..FloatHistogram::default()
        });
    }
    let is_custom = base.has_custom_buckets();
    if last.has_custom_buckets() != is_custom {
        notes.mixed_schemas(metric, place);
        return None;
    }
    let mut schema = last.schema.min(base.schema);
    if is_counter {
        for point in &points[1..points.len() - 1] {
            if is_gauge(&point.histogram) {
                notes.not_counter(metric, place);
            }
            schema = schema.min(point.histogram.schema);
            if point.histogram.has_custom_buckets() != is_custom {
                // Only this is told.
                *notes = Annotations::default();
                notes.mixed_schemas(metric, place);
                return None;
            }
        }
    }
    let mut change = last.as_ref().clone();
    change.reduce_resolution(schema);
    if schema != last.schema {
        change.reset_hint = ResetHint::Unknown;
    }
    if !subtract(&mut change, &base, metric, place, notes) {
        return None;
    }
    if is_counter {
        let mut is_told = false;
        let mut before = base;
        for index in 1..points.len() {
            let now = &points[index];
            let earlier = &points[index - 1];
            if !is_told && overlaps(earlier.start, earlier.time, now.start) {
                notes.start_overlap(metric, place);
                is_told = true;
            }
            let is_reset = is_start_reset(index) || now.histogram.is_reset_after(&before);
            if is_reset && !add(&mut change, &before, metric, place, notes) {
                return None;
            }
            before = std::sync::Arc::clone(&now.histogram);
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        notes.not_gauge(metric, place);
    }
    change.reset_hint = ResetHint::Gauge;
    change.compact();
    Some(change)
}

/// One of the last two samples.
#[derive(Clone, Copy)]
struct Last<'w> {
    time: i64,
    value: f64,
    histogram: Option<&'w FloatHistogram>,
    start: i64,
}

/// The change between the last two samples.
pub(super) fn between_last(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    metric: &str,
    is_rate: bool,
    notes: &mut Annotations,
) -> Option<Outcome> {
    let count = window.values.len();
    let floats = (count.saturating_sub(2)..count).map(|index| Last {
        time: window.times[index],
        value: window.values[index],
        histogram: None,
        start: window.starts.get(index).copied().unwrap_or(0),
    });
    let count = window.histograms.len();
    let histograms = window.histograms[count.saturating_sub(2)..].iter();
    let histograms = histograms.map(|point| Last {
        time: point.time,
        value: 0.0,
        histogram: Some(&point.histogram),
        start: point.start,
    });
    let mut candidates: Vec<Last<'_>> = floats.chain(histograms).collect();
    candidates.sort_by_key(|one| one.time);
    let [.., before, now] = candidates.as_slice() else {
        return None;
    };
    let seconds = (now.time - before.time) as f64 / 1000.0;
    if now.time == before.time {
        return None;
    }
    let is_start_reset = is_start_reset(before.start, before.time, now.start, now.time);
    match (before.histogram, now.histogram) {
        (None, None) => {
            let mut change = now.value;
            if !is_rate || !(now.value < before.value || is_start_reset) {
                change = now.value - before.value;
            }
            Some(Outcome::Float(if is_rate {
                change / seconds
            } else {
                change
            }))
        }
        (Some(earlier), Some(later)) => {
            let gauges = [earlier, later].map(|h| h.reset_hint == ResetHint::Gauge);
            if is_rate && gauges.contains(&true) {
                notes.not_counter(metric, call.place);
            }
            if !is_rate && gauges.contains(&false) {
                notes.not_gauge(metric, call.place);
            }
            let mut change = later.clone();
            let is_reset = is_rate && (is_start_reset || later.is_reset_after(earlier));
            if !is_reset && !subtract(&mut change, earlier, metric, call.place, notes) {
                return None;
            }
            change.reset_hint = ResetHint::Gauge;
            change.compact();
            if is_rate {
                change.divide(seconds);
            }
            Some(Outcome::Histogram(change))
        }
        _ => {
            notes.mixed_floats_histograms(metric, call.place);
            None
        }
    }
}
