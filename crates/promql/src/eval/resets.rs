//! `resets` and `changes`.

use kittiwake_model::FloatHistogram;

use super::range_call::{Outcome, RangeCall, Window};
use super::rate::is_start_reset;
use crate::ast::Edges;

/// A sample of either kind.
#[derive(Clone, Copy)]
struct Any<'w> {
    time: i64,
    value: f64,
    histogram: Option<&'w FloatHistogram>,
    start: i64,
}

/// The samples of a window in order of time; of an anchored one, from the last sample at or
/// before its start. `None` when nothing is inside.
fn samples<'w>(call: &RangeCall<'_>, window: &Window<'w>) -> Option<Vec<Any<'w>>> {
    let floats = window.values.iter().enumerate().map(|(index, value)| Any {
        time: window.times[index],
        value: *value,
        histogram: None,
        start: window.starts.get(index).copied().unwrap_or(0),
    });
    let histograms = window.histograms.iter().map(|point| Any {
        time: point.time,
        value: 0.0,
        histogram: Some(&point.histogram),
        start: point.start,
    });
    let mut all: Vec<Any<'w>> = floats.chain(histograms).collect();
    all.sort_by_key(|sample| sample.time);
    if call.edges == Edges::Anchored {
        let inside = all.partition_point(|sample| sample.time <= window.start);
        if inside == all.len() {
            return None;
        }
        all.drain(..inside.saturating_sub(1));
    }
    Some(all)
}

fn count(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    counts: impl Fn(Any<'_>, Any<'_>) -> bool,
) -> Option<Outcome> {
    let samples = samples(call, window)?;
    let pairs = samples.windows(2);
    let count = pairs.filter(|pair| counts(pair[0], pair[1])).count();
    Some(Outcome::Float(count as f64))
}

pub(super) fn resets(call: &RangeCall<'_>, window: &Window<'_>) -> Option<Outcome> {
    count(call, window, |before, now| {
        let is_start = is_start_reset(before.start, before.time, now.start, now.time);
        match (before.histogram, now.histogram) {
            (None, None) => now.value < before.value || is_start,
            (Some(before), Some(now)) => is_start || now.is_reset_after(before),
            _ => true,
        }
    })
}

pub(super) fn changes(call: &RangeCall<'_>, window: &Window<'_>) -> Option<Outcome> {
    count(call, window, |before, now| {
        match (before.histogram, now.histogram) {
            (None, None) => {
                now.value != before.value && !(now.value.is_nan() && before.value.is_nan())
            }
            (Some(before), Some(now)) => !now.same_as(before),
            _ => true,
        }
    })
}
