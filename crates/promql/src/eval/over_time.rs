//! `sum_over_time` and its kin.

use std::sync::Arc;

use kittiwake_model::FloatHistogram;
use kittiwake_model::float_histogram::HistogramSum;
use kittiwake_model::histogram::ResetHint;
use kittiwake_vector::{CompensatedSum, HistogramOperation, add_to_mean, quantile};

use super::range_call::{Outcome, RangeCall, Window};
use super::select::HistogramPoint;
use crate::annotations::Annotations;

pub(super) fn of_window(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    step: usize,
    metric: &str,
    notes: &mut Annotations,
) -> Option<Outcome> {
    let (values, histograms) = (window.values, window.histograms);
    let is_mixed = !values.is_empty() && !histograms.is_empty();
    match call.name {
        "count_over_time" => {
            let floats = match window.weights {
                [] => values.len() as f64,
                weights => sum(weights),
            };
            return Some(Outcome::Float(floats + histograms.len() as f64));
        }
        "present_over_time" | "absent_over_time" => return Some(Outcome::Float(1.0)),
        "first_over_time" => {
            let time = window.times.first().copied();
            return match (histograms.first(), time) {
                (Some(point), time) if time.is_none_or(|t| t >= point.time) => {
                    Some(Outcome::Shared(Arc::clone(&point.histogram)))
                }
                _ => values.first().map(|value| Outcome::Float(*value)),
            };
        }
        "last_over_time" => {
            let time = window.times.last().copied();
            return match (histograms.last(), time) {
                (Some(point), time) if time.is_none_or(|t| t <= point.time) => {
                    Some(Outcome::Shared(Arc::clone(&point.histogram)))
                }
                _ => values.last().map(|value| Outcome::Float(*value)),
            };
        }
        "ts_of_first_over_time" => {
            let times = [window.times.first(), histograms.first().map(|p| &p.time)];
            let first = times.into_iter().flatten().min()?;
            return Some(Outcome::Float(*first as f64 / 1000.0));
        }
        "ts_of_last_over_time" => {
            let times = [window.times.last(), histograms.last().map(|p| &p.time)];
            let last = times.into_iter().flatten().max()?;
            return Some(Outcome::Float(*last as f64 / 1000.0));
        }
        "sum_over_time" | "avg_over_time" => {
            if is_mixed {
                notes.mixed_floats_histograms(metric, call.place);
                return None;
            }
            let is_mean = call.name == "avg_over_time";
            if values.is_empty() {
                return histogram_total(call, histograms, metric, is_mean, notes);
            }
            let total = match window.weights {
                _ if !is_mean => sum(values),
                [] => mean(values),
                weights => sum(values) / sum(weights),
            };
            return Some(Outcome::Float(total));
        }
        _ => {}
    }
    if values.is_empty() {
        return None;
    }
    if call.name == "quantile_over_time" {
        let phi = call.params[0][step];
        if phi.is_nan() || !(0.0..=1.0).contains(&phi) {
            notes.invalid_quantile(phi, call.place);
        }
    }
    if is_mixed {
        notes.ignored_in_mixed_range(metric, call.place);
    }
    Some(Outcome::Float(of_floats(call, window, step)))
}

fn of_floats(call: &RangeCall<'_>, window: &Window<'_>, step: usize) -> f64 {
    let (times, values) = (window.times, window.values);
    let best = |is_better: fn(f64, f64) -> bool| {
        let mut best = 0;
        for (index, value) in values.iter().enumerate() {
            if is_better(*value, values[best]) || values[best].is_nan() {
                best = index;
            }
        }
        best
    };
    match call.name {
        "max_over_time" => values[best(|new, best| new > best)],
        "min_over_time" => values[best(|new, best| new < best)],
        "ts_of_max_over_time" => times[best(|new, best| new >= best)] as f64 / 1000.0,
        "ts_of_min_over_time" => times[best(|new, best| new <= best)] as f64 / 1000.0,
        "quantile_over_time" => quantile(call.params[0][step], &mut values.to_vec()),
        "mad_over_time" => {
            if values.iter().any(|value| value.is_nan()) {
                return f64::NAN;
            }
            let median = quantile(0.5, &mut values.to_vec());
            let distances = values.iter().map(|value| (value - median).abs());
            quantile(0.5, &mut distances.collect::<Vec<f64>>())
        }
        "stddev_over_time" => variance(values).sqrt(),
        "stdvar_over_time" => variance(values),
        _ => f64::NAN,
    }
}

fn sum(values: &[f64]) -> f64 {
    let mut sum = CompensatedSum::default();
    for value in values {
        sum.add(*value);
    }
    sum.value()
}

/// The mean; finite values whose sum overflows still have one.
fn mean(values: &[f64]) -> f64 {
    let mut sum = CompensatedSum::default();
    for (index, value) in values.iter().enumerate() {
        let mut next = sum;
        next.add(*value);
        if index > 0 && next.value().is_infinite() {
            return incremental_mean(sum, index, values);
        }
        sum = next;
    }
    let (total, lost) = sum.parts();
    let count = values.len() as f64;
    total / count + lost / count
}

/// The mean of values of which the first `done` are summed up.
fn incremental_mean(sum: CompensatedSum, done: usize, values: &[f64]) -> f64 {
    let mut mean = sum;
    mean.scale(1.0 / done as f64);
    for (index, value) in values.iter().enumerate().skip(done) {
        let count = (index + 1) as f64;
        mean.scale((count - 1.0) / count);
        mean.add(value / count);
    }
    mean.value()
}

fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut squares) = (CompensatedSum::default(), CompensatedSum::default());
    let mut count = 0.0;
    for value in values {
        count += 1.0;
        let distance = value - mean.value();
        mean.add(distance / count);
        squares.add(distance * (value - mean.value()));
    }
    squares.value() / count
}

fn histogram_total(
    call: &RangeCall<'_>,
    points: &[HistogramPoint],
    metric: &str,
    is_mean: bool,
    notes: &mut Annotations,
) -> Option<Outcome> {
    let first: &FloatHistogram = &points.first()?.histogram;
    let mut total = HistogramSum::new(first.clone());
    let mut is_incremental = false;
    let mut is_reconciled = false;
    for (index, point) in points.iter().enumerate().skip(1) {
        let merged = if is_mean {
            let count = (index + 1) as f64;
            add_to_mean(&mut total, &point.histogram, count, &mut is_incremental)
        } else {
            total.add(&point.histogram)
        };
        let Ok(merged) = merged else {
            notes.mixed_schemas(metric, call.place);
            return None;
        };
        is_reconciled |= merged.bounds_reconciled;
    }
    let has = |hint| {
        points
            .iter()
            .any(|point| point.histogram.reset_hint == hint)
    };
    if has(ResetHint::Yes) && has(ResetHint::No) {
        notes.resets_collide(HistogramOperation::Aggregate, call.place);
    }
    if is_reconciled {
        notes.bounds_reconciled(HistogramOperation::Aggregate, call.place);
    }
    if is_mean && !is_incremental {
        total.divide(points.len() as f64);
    }
    Some(Outcome::Histogram(total.finish()))
}
