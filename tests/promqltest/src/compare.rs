//! Whether a result is the expected one.

use std::collections::HashMap;

use kittiwake_model::Labels;
use kittiwake_model::float_histogram::{FloatHistogram, Slot};
use kittiwake_promql::{MatrixSeries, Point, Value as Result_};

use crate::expected::Expected;
use crate::number::is_near;
use kittiwake_promql::notation::Value;

fn compacted(histogram: &FloatHistogram) -> FloatHistogram {
    let mut histogram = histogram.clone();
    histogram.compact();
    histogram
}

fn near_slots(a: &[Slot], b: &[Slot]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.index == b.index && is_near(a.count, b.count))
}

fn near_histogram(wanted: &FloatHistogram, got: &FloatHistogram, has_hint: bool) -> bool {
    let (wanted, got) = (compacted(wanted), compacted(got));
    wanted.schema == got.schema
        && is_near(wanted.count, got.count)
        && is_near(wanted.sum, got.sum)
        && (!wanted.has_custom_buckets() || wanted.custom_bounds == got.custom_bounds)
        && wanted.zero_threshold == got.zero_threshold
        && is_near(wanted.zero_count, got.zero_count)
        && near_slots(&wanted.negative, &got.negative)
        && near_slots(&wanted.positive, &got.positive)
        && (!has_hint || wanted.reset_hint == got.reset_hint)
}

fn near_point(wanted: Option<&Value>, got: &Point) -> bool {
    match (wanted, got) {
        (Some(Value::Float(wanted)), Point::Float(got)) => is_near(*wanted, *got),
        (Some(Value::Histogram(wanted, has_hint)), Point::Histogram(got)) => {
            near_histogram(wanted, got, *has_hint)
        }
        _ => false,
    }
}

/// Compares the value of a query.
pub(crate) fn value(
    got: &Result_,
    expected: &Expected,
    range: (i64, i64, i64),
) -> Result<(), String> {
    match got {
        Result_::String(_, got) => match &expected.text {
            Some(wanted) if wanted == got => Ok(()),
            wanted => Err(format!("expected string {wanted:?}, got {got:?}")),
        },
        Result_::Scalar(_, got) => match expected.scalar {
            Some(wanted) if is_near(wanted, *got) => Ok(()),
            Some(wanted) => Err(format!("expected scalar {wanted}, got {got}")),
            None => Err(format!("expected series, got the scalar {got}")),
        },
        _ if expected.scalar.is_some() => Err(format!("expected a scalar, got {got:?}")),
        Result_::Vector(got) => vector(got, expected),
        Result_::Matrix(got) => matrix(got, expected, range),
    }
}

fn vector(got: &[(Labels, i64, Point)], expected: &Expected) -> Result<(), String> {
    let places: HashMap<&Labels, usize> = expected
        .series
        .iter()
        .enumerate()
        .map(|(place, (labels, _))| (labels, place))
        .collect();
    let mut seen = vec![false; expected.series.len()];
    for (position, (labels, _, point)) in got.iter().enumerate() {
        let shown = || format!("{labels} {point:?}");
        let place = *places
            .get(labels)
            .ok_or_else(|| format!("unexpected series {}", shown()))?;
        if expected.is_ordered && place != position {
            return Err(format!(
                "{} at place {position} instead of {place}",
                shown()
            ));
        }
        let wanted = expected.series[place].1.first();
        if !near_point(wanted, point) {
            return Err(format!("expected {wanted:?}, got {}", shown()));
        }
        seen[place] = true;
    }
    not_missing(&seen, expected)
}

fn not_missing(seen: &[bool], expected: &Expected) -> Result<(), String> {
    let missing = seen.iter().zip(&expected.series).find(|(seen, _)| !**seen);
    match missing {
        Some((_, (labels, values))) => Err(format!("expected {labels} {values:?}, not found")),
        None => Ok(()),
    }
}

fn matrix(
    got: &[MatrixSeries],
    expected: &Expected,
    (start, end, step): (i64, i64, i64),
) -> Result<(), String> {
    if expected.is_ordered {
        return Err("expected an ordered result, got a matrix".to_owned());
    }
    if !got.windows(2).all(|pair| pair[0].labels <= pair[1].labels) {
        return Err("the series of the matrix are not in order of their labels".to_owned());
    }
    let mut seen = vec![false; expected.series.len()];
    for series in got {
        let labels = &series.labels;
        // Of a series that is named twice the last one counts.
        let place = expected.series.iter().rposition(|(l, _)| l == labels);
        let place = place.ok_or_else(|| format!("unexpected series {series:?}"))?;
        for (index, (other, _)) in expected.series.iter().enumerate() {
            seen[index] |= other == labels;
        }
        let mut floats = series.floats.iter();
        let mut histograms = series.histograms.iter();
        for (index, wanted) in expected.series[place].1.iter().enumerate() {
            let time = start + step * index as i64;
            if time > end {
                return Err(format!("{labels}: more points are expected than steps"));
            }
            let point = match wanted {
                Value::Omitted => continue,
                Value::Float(_) => floats.next().map(|(t, v)| (*t, Point::Float(*v))),
                Value::Histogram(..) => {
                    let next = histograms.next();
                    next.map(|(t, h)| (*t, Point::Histogram(h.clone())))
                }
            };
            let agrees = point
                .as_ref()
                .is_some_and(|(t, point)| *t == time && near_point(Some(wanted), point));
            if !agrees {
                return Err(format!(
                    "{labels}: expected {wanted:?} at {time}, got {point:?}"
                ));
            }
        }
        if floats.next().is_some() || histograms.next().is_some() {
            return Err(format!("{labels}: more points than expected: {series:?}"));
        }
    }
    not_missing(&seen, expected)
}

/// Compares warnings or infos.
pub(crate) fn annotations(
    what: &str,
    got: &[String],
    wanted: &[crate::expected::Match],
    is_none: bool,
    must_be: bool,
) -> Result<(), String> {
    if is_none && !got.is_empty() {
        return Err(format!("unexpected {what} annotations {got:?}"));
    }
    if must_be && got.is_empty() {
        return Err(format!("expected {what} annotations, got none"));
    }
    if let Some(missing) = wanted.iter().find(|w| !got.iter().any(|g| w.accepts(g))) {
        return Err(format!(
            "expected {what} annotation {missing:?}, found {got:?}"
        ));
    }
    let unexpected = got.iter().find(|g| !wanted.iter().any(|w| w.accepts(g)));
    match unexpected {
        Some(unexpected) if !wanted.is_empty() => {
            Err(format!("unexpected {what} annotation {unexpected:?}"))
        }
        _ => Ok(()),
    }
}
