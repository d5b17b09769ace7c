//! Functions of the samples in a window.

// All have one shape, whether they can give nothing or not.
#![allow(clippy::unnecessary_wraps)]

use kittiwake_vector::{Aggregate, CompensatedSum, fold, quantile};

/// The samples of one series in a window, at least one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) times: &'a [i64],
    pub(crate) values: &'a [f64],
    /// The window is `start < time <= end`.
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// The time of the step, which an offset does not move.
    pub(crate) step_ms: i64,
    /// The function's other argument, 0 if there is none.
    pub(crate) param: f64,
}

pub(crate) type OverTime = fn(&Window<'_>) -> Option<f64>;

impl Window<'_> {
    fn first(&self) -> f64 {
        self.values[0]
    }

    fn last(&self) -> f64 {
        self.values[self.values.len() - 1]
    }
}

fn folded(w: &Window<'_>, by: Aggregate) -> Option<f64> {
    Some(fold(w.values, by))
}

pub(crate) fn avg(w: &Window<'_>) -> Option<f64> {
    folded(w, Aggregate::Avg)
}

pub(crate) fn sum(w: &Window<'_>) -> Option<f64> {
    folded(w, Aggregate::Sum)
}

pub(crate) fn min(w: &Window<'_>) -> Option<f64> {
    folded(w, Aggregate::Min)
}

pub(crate) fn max(w: &Window<'_>) -> Option<f64> {
    folded(w, Aggregate::Max)
}

pub(crate) fn count(w: &Window<'_>) -> Option<f64> {
    folded(w, Aggregate::Count)
}

pub(crate) fn stddev(w: &Window<'_>) -> Option<f64> {
    folded(w, Aggregate::Stddev)
}

pub(crate) fn stdvar(w: &Window<'_>) -> Option<f64> {
    folded(w, Aggregate::Stdvar)
}

pub(crate) fn present(_: &Window<'_>) -> Option<f64> {
    Some(1.0)
}

pub(crate) fn first(w: &Window<'_>) -> Option<f64> {
    Some(w.first())
}

pub(crate) fn last(w: &Window<'_>) -> Option<f64> {
    Some(w.last())
}

pub(crate) fn quantile_of(w: &Window<'_>) -> Option<f64> {
    Some(quantile(w.param, w.values))
}

/// The median of the distances from the median.
pub(crate) fn mad(w: &Window<'_>) -> Option<f64> {
    let median = quantile(0.5, w.values);
    let distances: Vec<f64> = w.values.iter().map(|v| (v - median).abs()).collect();
    Some(quantile(0.5, &distances))
}

pub(crate) fn changes(w: &Window<'_>) -> Option<f64> {
    let changed = |p: &&[f64]| p[0] != p[1] && !(p[0].is_nan() && p[1].is_nan());
    Some(w.values.windows(2).filter(changed).count() as f64)
}

pub(crate) fn resets(w: &Window<'_>) -> Option<f64> {
    Some(w.values.windows(2).filter(|p| p[1] < p[0]).count() as f64)
}

pub(crate) fn rate(w: &Window<'_>) -> Option<f64> {
    extrapolated(w, true).map(|increase| increase / ((w.end_ms - w.start_ms) as f64 / 1000.0))
}

pub(crate) fn increase(w: &Window<'_>) -> Option<f64> {
    extrapolated(w, true)
}

pub(crate) fn delta(w: &Window<'_>) -> Option<f64> {
    extrapolated(w, false)
}

/// The difference between the window's ends. Samples rarely lie on them: where the first and
/// last ones are about as near to the ends as samples are to each other, the difference is
/// extended to the ends, else by half a distance; a counter not below zero.
fn extrapolated(w: &Window<'_>, is_counter: bool) -> Option<f64> {
    let count = w.values.len();
    if count < 2 {
        return None;
    }
    let mut difference = w.last() - w.first();
    if is_counter {
        for pair in w.values.windows(2).filter(|p| p[1] < p[0]) {
            difference += pair[0];
        }
    }
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let sampled = seconds(w.times[count - 1] - w.times[0]);
    let distance = sampled / (count - 1) as f64;
    let mut to_start = seconds(w.times[0] - w.start_ms);
    let mut to_end = seconds(w.end_ms - w.times[count - 1]);
    let threshold = distance * 1.1;
    if to_start >= threshold {
        to_start = distance / 2.0;
    }
    if is_counter {
        let mut to_zero = to_start;
        if difference > 0.0 && w.first() >= 0.0 {
            to_zero = sampled * (w.first() / difference);
        }
        to_start = to_start.min(to_zero);
    }
    if to_end >= threshold {
        to_end = distance / 2.0;
    }
    Some(difference * ((sampled + to_start + to_end) / sampled))
}

pub(crate) fn irate(w: &Window<'_>) -> Option<f64> {
    let (difference, seconds) = last_two(w, true)?;
    Some(difference / seconds)
}

pub(crate) fn idelta(w: &Window<'_>) -> Option<f64> {
    last_two(w, false).map(|(difference, _)| difference)
}

fn last_two(w: &Window<'_>, is_counter: bool) -> Option<(f64, f64)> {
    let count = w.values.len();
    let (before, last) = (*w.values.get(count.checked_sub(2)?)?, w.last());
    let ms = w.times[count - 1] - w.times[count - 2];
    let difference = if is_counter && last < before {
        last
    } else {
        last - before
    };
    (ms > 0).then_some((difference, ms as f64 / 1000.0))
}

pub(crate) fn deriv(w: &Window<'_>) -> Option<f64> {
    // Counted from the first sample: the slope does not depend on it, its precision does.
    (w.values.len() >= 2).then(|| regression(w, w.times[0]).0)
}

pub(crate) fn predict_linear(w: &Window<'_>) -> Option<f64> {
    if w.values.len() < 2 {
        return None;
    }
    let (slope, at_step) = regression(w, w.step_ms);
    Some(slope * w.param + at_step)
}

/// Slope per second of the least-squares line, and its value at a time.
fn regression(w: &Window<'_>, at_ms: i64) -> (f64, f64) {
    if w.values.iter().all(|v| *v == w.first()) {
        return if w.first().is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, w.first())
        };
    }
    let mut sums = [CompensatedSum::default(); 4];
    for (time, y) in w.times.iter().zip(w.values) {
        let x = (time - at_ms) as f64 / 1000.0;
        for (sum, value) in sums.iter_mut().zip([x, *y, x * y, x * x]) {
            sum.add(value);
        }
    }
    let n = w.values.len() as f64;
    let [x, y, xy, xx] = sums.map(|s| s.value());
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}
