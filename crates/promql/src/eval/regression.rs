//! `deriv`, `predict_linear` and `double_exponential_smoothing`.

use kittiwake_vector::CompensatedSum;

use super::range_call::{Outcome, RangeCall, Window};
use crate::annotations::Annotations;
use crate::error::EvalError;

/// Slope per second and value at `origin` of the line of least squares.
fn line(times: &[i64], values: &[f64], origin: i64) -> (f64, f64) {
    let first = values[0];
    if values.iter().all(|value| *value == first) {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    let mut sums: [CompensatedSum; 4] = Default::default();
    for (time, value) in times.iter().zip(values) {
        let x = (time - origin) as f64 / 1000.0;
        for (sum, term) in sums.iter_mut().zip([x, *value, x * value, x * x]) {
            sum.add(term);
        }
    }
    let [x, y, xy, xx] = sums.map(|sum| sum.value());
    let count = values.len() as f64;
    let covariance = xy - x * y / count;
    let variance = xx - x * x / count;
    let slope = covariance / variance;
    (slope, y / count - slope * x / count)
}

/// The factors of `double_exponential_smoothing` must lie between 0 and 1.
pub(super) fn check_factors(params: &[Vec<f64>]) -> Result<(), EvalError> {
    for (values, what) in params.iter().zip(["smoothing", "trend"]) {
        if let Some(bad) = values.iter().find(|v| **v <= 0.0 || **v >= 1.0) {
            let short = if what == "smoothing" { "sf" } else { "tf" };
            return Err(EvalError::new(format!(
                "invalid {what} factor. Expected: 0 < {short} < 1, got: {bad:.6}"
            )));
        }
    }
    Ok(())
}

fn smoothed(values: &[f64], smoothing: f64, trend: f64) -> f64 {
    let (mut before, mut now) = (0.0, values[0]);
    let mut slope = values[1] - values[0];
    for (index, value) in values.iter().enumerate().skip(1) {
        if index > 1 {
            slope = trend * (now - before) + (1.0 - trend) * slope;
        }
        let next = smoothing * value + (1.0 - smoothing) * (now + slope);
        (before, now) = (now, next);
    }
    now
}

pub(super) fn of_window(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    step: usize,
    metric: &str,
    notes: &mut Annotations,
) -> Option<Outcome> {
    let (times, values) = (window.times, window.values);
    if !window.histograms.is_empty() && !values.is_empty() {
        notes.ignored_in_mixed_range(metric, call.place);
    }
    if values.len() < 2 {
        return None;
    }
    let param = |index: usize| call.params[index][step];
    Some(Outcome::Float(match call.name {
        "deriv" => line(times, values, times[0]).0,
        "predict_linear" => {
            let (slope, now) = line(times, values, window.at);
            slope * param(0) + now
        }
        _ => smoothed(values, param(0), param(1)),
    }))
}
