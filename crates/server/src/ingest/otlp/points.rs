//! Points as samples of series.

use std::collections::BTreeMap;
use std::sync::Arc;

use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{Exemplar, Histogram, Labels, stale_nan};
use kittiwake_wire::otlp::{Explicit, Point, Summary};

use super::{Drop, Intake, Pairs, ms};

/// Characters of an exemplar's labels.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// A number.
pub(super) fn number<V>(
    point: &Point<V>,
    name: &str,
    base: &Pairs,
    (value, start_ns): (f64, u64),
    exemplars: &[Exemplar],
    intake: &mut Intake<'_>,
) {
    let value = if point.is_gone { stale_nan() } else { value };
    if begin(intake, name, "", base, None) {
        intake.sample(ms(point.time_ns), value, ms(start_ns));
        for exemplar in exemplars {
            intake.exemplar(exemplar.clone());
        }
    }
}

/// A histogram with bounds, in its classic form.
pub(super) fn explicit(
    point: &Point<Explicit>,
    value: &Explicit,
    name: &str,
    base: &Pairs,
    start_ns: u64,
    intake: &mut Intake<'_>,
) {
    let (time_ms, start_ms) = (ms(point.time_ns), ms(start_ns));
    let gone = |value: f64| if point.is_gone { stale_nan() } else { value };
    let mut put = |suffix, bound: Option<&str>, value: f64, exemplars: &[Exemplar]| {
        if begin(intake, name, suffix, base, bound.map(|bound| ("le", bound))) {
            intake.sample(time_ms, gone(value), start_ms);
            for exemplar in exemplars {
                intake.exemplar(exemplar.clone());
            }
        }
    };
    if let Some(sum) = value.sum {
        put("_sum", None, sum, &[]);
    }
    put("_count", None, value.count as f64, &[]);
    let all = exemplars(point);
    let mut below = f64::NEG_INFINITY;
    let mut cumulative = 0_u64;
    let within = |low: f64, high: f64| -> Vec<Exemplar> {
        let within = all.iter().filter(|e| e.value > low && e.value <= high);
        within.cloned().collect()
    };
    for (bound, count) in value.bounds.iter().zip(&value.buckets) {
        cumulative = cumulative.saturating_add(*count);
        let text = bound.to_string();
        let inside = within(below, *bound);
        put("_bucket", Some(&text), cumulative as f64, &inside);
        below = *bound;
    }
    let inside = within(below, f64::INFINITY);
    put("_bucket", Some("+Inf"), value.count as f64, &inside);
}

/// A native histogram.
pub(super) fn native<V>(
    point: &Point<V>,
    native: Histogram,
    name: &str,
    base: &Pairs,
    start_ns: u64,
    intake: &mut Intake<'_>,
) {
    if !begin(intake, name, "", base, None) {
        return;
    }
    let time_ms = ms(point.time_ns);
    if point.is_gone {
        return intake.sample(time_ms, stale_nan(), 0);
    }
    intake.histogram(time_ms, Arc::new(native), ms(start_ns));
    for exemplar in exemplars(point) {
        intake.exemplar(exemplar);
    }
}

/// Begins a series.
pub(super) fn begin(
    intake: &mut Intake<'_>,
    name: &str,
    suffix: &str,
    base: &Pairs,
    special: Option<(&str, &str)>,
) -> bool {
    let name = format!("{name}{suffix}");
    let mut pairs: BTreeMap<&str, &str> =
        base.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    pairs.insert(METRIC_NAME, &name);
    pairs.extend(special);
    match Labels::from_pairs(pairs) {
        Ok(labels) => intake.series(labels, None, 1),
        Err(error) => {
            intake.refuse(Drop::InvalidLabels, 1, || {
                format!("metric {name:?}: {error}")
            });
            false
        }
    }
}

/// Quantiles.
pub(super) fn summary(
    point: &Point<Summary>,
    value: &Summary,
    name: &str,
    base: &Pairs,
    intake: &mut Intake<'_>,
) {
    let (time_ms, start_ms) = (ms(point.time_ns), ms(point.start_ns));
    let gone = |value: f64| if point.is_gone { stale_nan() } else { value };
    for (suffix, part) in [("_sum", value.sum), ("_count", value.count as f64)] {
        if begin(intake, name, suffix, base, None) {
            intake.sample(time_ms, gone(part), start_ms);
        }
    }
    for (quantile, part) in &value.quantiles {
        let text = quantile.to_string();
        if begin(intake, name, "", base, Some(("quantile", &text))) {
            intake.sample(time_ms, gone(*part), start_ms);
        }
    }
}

/// A point's exemplars, ascending by value.
pub(super) fn exemplars<V>(point: &Point<V>) -> Vec<Exemplar> {
    let mut all = Vec::new();
    for exemplar in &point.exemplars {
        let mut pairs = Pairs::new();
        let mut chars = 0;
        for (name, value) in [
            ("trace_id", &exemplar.trace_id),
            ("span_id", &exemplar.span_id),
        ] {
            if !value.is_empty() {
                chars += name.chars().count() + value.chars().count();
                pairs.insert(name.to_owned(), value.clone());
            }
        }
        let own: Vec<(&String, String)> = exemplar
            .attributes
            .iter()
            .map(|(n, v)| (n, v.to_text()))
            .collect();
        let length = |text: &str| text.chars().count();
        chars += own
            .iter()
            .map(|(n, v)| length(n) + length(v))
            .sum::<usize>();
        if chars <= EXEMPLAR_CHARS_MAX {
            pairs.extend(own.into_iter().map(|(n, v)| (n.clone(), v)));
        }
        // What is no label set is not worth a refusal.
        if let Ok(labels) = Labels::from_pairs(pairs) {
            all.push(Exemplar {
                labels,
                value: exemplar.value,
                time_ms: ms(exemplar.time_ns),
            });
        }
    }
    all.sort_by(|a, b| a.value.total_cmp(&b.value));
    all
}
