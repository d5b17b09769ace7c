//! Functions that change values one by one.

use std::sync::Arc;

use kittiwake_model::float_histogram::FloatHistogram;
use kittiwake_model::stale_nan;
use kittiwake_vector::Series;

use super::duration::{go_max, go_min};
use crate::dates;

type Change = Box<dyn Fn(usize, f64) -> f64 + Send + Sync>;

fn plain(change: fn(f64) -> f64) -> Change {
    Box::new(move |_, value| change(value))
}

/// A function of one number.
pub(super) fn float_function(name: &str) -> Option<Change> {
    Some(match name {
        "abs" => plain(f64::abs),
        "ceil" => plain(f64::ceil),
        "floor" => plain(f64::floor),
        "exp" => plain(f64::exp),
        "sqrt" => plain(f64::sqrt),
        "ln" => plain(f64::ln),
        "log2" => plain(f64::log2),
        "log10" => plain(f64::log10),
        "sin" => plain(f64::sin),
        "cos" => plain(f64::cos),
        "tan" => plain(f64::tan),
        "asin" => plain(f64::asin),
        "acos" => plain(f64::acos),
        "atan" => plain(f64::atan),
        "sinh" => plain(f64::sinh),
        "cosh" => plain(f64::cosh),
        "tanh" => plain(f64::tanh),
        "asinh" => plain(f64::asinh),
        "acosh" => plain(f64::acosh),
        "atanh" => plain(f64::atanh),
        "rad" => plain(|v| v * std::f64::consts::PI / 180.0),
        "deg" => plain(|v| v * 180.0 / std::f64::consts::PI),
        "sgn" => plain(|v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        }),
        "minute" | "hour" | "day_of_week" | "day_of_month" | "day_of_year" | "days_in_month"
        | "month" | "year" => {
            let name = name.to_owned();
            Box::new(move |_, value| dates::part(&name, value))
        }
        _ => return None,
    })
}

/// Whether a function changes each number by other numbers.
pub(super) fn takes_scalars(name: &str) -> bool {
    matches!(name, "clamp" | "clamp_min" | "clamp_max" | "round")
}

/// A function of one number and others, given per step.
pub(super) fn scalar_function(name: &str, scalars: Vec<Vec<f64>>) -> Option<Change> {
    let mut scalars = scalars.into_iter();
    let (first, second) = (scalars.next(), scalars.next());
    Some(match (name, first, second) {
        ("clamp", Some(min), Some(max)) => Box::new(move |step, value| {
            if max[step] < min[step] {
                stale_nan()
            } else {
                go_max(min[step], go_min(max[step], value))
            }
        }),
        ("clamp_min", Some(min), _) => Box::new(move |step, value| go_max(min[step], value)),
        ("clamp_max", Some(max), _) => Box::new(move |step, value| go_min(max[step], value)),
        ("round", nearest, _) => Box::new(move |step, value| {
            let inverse = 1.0 / nearest.as_ref().map_or(1.0, |nearest| nearest[step]);
            (value * inverse + 0.5).floor() / inverse
        }),
        _ => return None,
    })
}

/// A function from a histogram to a number.
pub(super) fn histogram_function(name: &str) -> Option<fn(&FloatHistogram) -> f64> {
    Some(match name {
        "histogram_count" => |h| h.count,
        "histogram_sum" => |h| h.sum,
        "histogram_avg" => |h| h.sum / h.count,
        "histogram_stddev" => |h| variance(h).sqrt(),
        "histogram_stdvar" => variance,
        _ => return None,
    })
}

/// The variance, each observation taken to be at the middle of its bucket.
fn variance(histogram: &FloatHistogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let mut total = kittiwake_vector::CompensatedSum::default();
    for bucket in histogram.buckets() {
        if bucket.count == 0.0 {
            continue;
        }
        let value = if histogram.has_custom_buckets() {
            f64::midpoint(bucket.upper, bucket.lower)
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        let distance = value - mean;
        total.add(bucket.count * distance * distance);
    }
    total.value() / histogram.count
}

/// Histograms become numbers; numbers go.
pub(super) fn histograms_to_floats(series: &mut Series, change: fn(&FloatHistogram) -> f64) {
    series.floats.fill(stale_nan());
    for (step, histogram) in series.histograms.iter().enumerate() {
        if let Some(histogram) = histogram {
            series.floats[step] = change(histogram);
        }
    }
    series.drop_histograms();
}

pub(super) fn negate(series: &mut Series) {
    for step in 0..series.floats.len() {
        if let Some(value) = series.float(step) {
            series.floats[step] = -value;
        }
    }
    for histogram in series.histograms.iter_mut().flatten() {
        let mut negative = histogram.as_ref().clone();
        negative.scale(-1.0);
        *histogram = Arc::new(negative);
    }
}
