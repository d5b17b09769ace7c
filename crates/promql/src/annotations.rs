//! Warnings and infos: what is worth knowing about an answer, worded as Prometheus words it.

use kittiwake_model::float_histogram::{Forced, NanEffect, shortest};
use kittiwake_vector::{HistogramOperation, Note};

use crate::ast::Place;
use crate::dates;
use crate::error::line_and_column;
use kittiwake_model::quote;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Warning,
    Info,
}

#[derive(Debug, Clone, PartialEq)]
enum Detail {
    None,
    /// What was corrected, how often, and from when to when in ms.
    Forced(Forced, usize, i64, i64),
    /// How often.
    Occurrences(usize),
}

#[derive(Debug, Clone, PartialEq)]
struct Annotation {
    severity: Severity,
    text: String,
    place: Place,
    detail: Detail,
}

/// The warnings and infos of a query, each text once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations(Vec<Annotation>);

/// A number with two significant digits, as Go's `%.2g`.
fn two_digits(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return shortest(value);
    }
    let text = format!("{value:.1e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    if (-4..2).contains(&exponent) {
        let rounded: f64 = text.parse().unwrap_or(value);
        return rounded.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn named(text: &str, metric: &str) -> String {
    if metric.is_empty() {
        text.to_owned()
    } else {
        format!("{text} for metric name {}", quote(metric))
    }
}

fn operation(operation: HistogramOperation) -> &'static str {
    match operation {
        HistogramOperation::Add => "addition",
        HistogramOperation::Subtract => "subtraction",
        HistogramOperation::Aggregate => "aggregation",
    }
}

impl Annotations {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Warnings and infos as texts, with their place in the query.
    pub fn texts(&self, query: &str) -> (Vec<String>, Vec<String>) {
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        for annotation in &self.0 {
            let text = annotation.shown(query);
            match annotation.severity {
                Severity::Warning => warnings.push(text),
                Severity::Info => infos.push(text),
            }
        }
        (warnings, infos)
    }

    pub(crate) fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|one| self.add(one));
    }

    fn add(&mut self, new: Annotation) {
        let Some(old) = self.0.iter_mut().find(|old| old.text == new.text) else {
            self.0.push(new);
            return;
        };
        match (&mut old.detail, new.detail) {
            (Detail::Forced(forced, count, from, to), Detail::Forced(new, more, start, end)) => {
                forced.min_bucket = forced.min_bucket.min(new.min_bucket);
                forced.max_bucket = forced.max_bucket.max(new.max_bucket);
                forced.max_difference = forced.max_difference.max(new.max_difference);
                *count += more;
                *from = (*from).min(start);
                *to = (*to).max(end);
            }
            (Detail::Occurrences(count), Detail::Occurrences(more)) => *count += more,
            // The place last seen is the one that is told.
            _ => old.place = new.place,
        }
    }

    fn push(&mut self, severity: Severity, text: String, place: Place) {
        self.add(Annotation {
            severity,
            text,
            place,
            detail: Detail::None,
        });
    }

    fn warn(&mut self, text: impl std::fmt::Display, place: Place) {
        self.push(Severity::Warning, format!("PromQL warning: {text}"), place);
    }

    fn info(&mut self, text: impl std::fmt::Display, place: Place) {
        self.push(Severity::Info, format!("PromQL info: {text}"), place);
    }

    pub(crate) fn invalid_quantile(&mut self, phi: f64, place: Place) {
        let phi = shortest(phi);
        self.warn(
            format!("quantile value should be between 0 and 1, got {phi}"),
            place,
        );
    }

    pub(crate) fn invalid_ratio(&mut self, ratio: f64, to: f64, place: Place) {
        let (ratio, to) = (shortest(ratio), shortest(to));
        self.warn(
            format!("ratio value should be between -1 and 1, got {ratio}, capping to {to}"),
            place,
        );
    }

    pub(crate) fn bad_bucket_label(&mut self, metric: &str, label: &str, place: Place) {
        let label = quote(label);
        let text = format!("bucket label \"le\" is missing or has a malformed value of {label}");
        self.warn(named(&text, metric), place);
    }

    pub(crate) fn mixed_floats_histograms(&mut self, metric: &str, place: Place) {
        let metric = quote(metric);
        self.warn(
            format!("encountered a mix of histograms and floats for metric name {metric}"),
            place,
        );
    }

    pub(crate) fn mixed_classic_native(&mut self, metric: &str, place: Place) {
        let text = "vector contains a mix of classic and native histograms";
        self.warn(named(text, metric), place);
    }

    pub(crate) fn not_counter(&mut self, metric: &str, place: Place) {
        let metric = quote(metric);
        self.warn(
            format!("this native histogram metric is not a counter: {metric}"),
            place,
        );
    }

    pub(crate) fn not_gauge(&mut self, metric: &str, place: Place) {
        let metric = quote(metric);
        self.warn(
            format!("this native histogram metric is not a gauge: {metric}"),
            place,
        );
    }

    pub(crate) fn mixed_schemas(&mut self, metric: &str, place: Place) {
        let metric = quote(metric);
        self.warn(
            format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {metric}"
            ),
            place,
        );
    }

    pub(crate) fn sort_in_range(&mut self, place: Place) {
        self.warn(
            "sort is ineffective for range queries since results are always ordered by labels",
            place,
        );
    }

    /// Kittiwake's own: Prometheus keeps no thinned samples.
    pub(crate) fn thinned(&mut self, window_ms: i64, place: Place) {
        let (minutes, reach) = (window_ms / 60_000, 2 * window_ms / 60_000);
        self.info(
            format!(
                "old samples are kept at a resolution of {minutes}m, windows and lookback reach {reach}m there"
            ),
            place,
        );
    }

    pub(crate) fn possible_non_counter(&mut self, metric: &str, place: Place) {
        let metric = quote(metric);
        self.info(
            format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric}"
            ),
            place,
        );
    }

    pub(crate) fn non_counter_type(&mut self, metric: &str, kind: &str, place: Place) {
        let (metric, kind) = (quote(metric), quote(kind));
        self.info(
            format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {kind}: {metric}"
            ),
            place,
        );
    }

    pub(crate) fn forced_monotonicity(
        &mut self,
        metric: &str,
        place: Place,
        time_ms: i64,
        forced: Forced,
    ) {
        let text = "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        self.add(Annotation {
            severity: Severity::Info,
            text: named(text, metric),
            place,
            detail: Detail::Forced(forced, 1, time_ms, time_ms),
        });
    }

    pub(crate) fn histogram_ignored(&mut self, aggregation: &str, place: Place) {
        self.info(
            format!("ignored histogram in {aggregation} aggregation"),
            place,
        );
    }

    pub(crate) fn ignored_in_mixed_range(&mut self, metric: &str, place: Place) {
        let metric = quote(metric);
        self.info(
            format!(
                "ignored histograms in a range containing both floats and histograms for metric name {metric}"
            ),
            place,
        );
    }

    pub(crate) fn nan_effect(&mut self, effect: NanEffect, metric: &str, place: Place) {
        let text = match effect {
            NanEffect::QuantileIsNan => {
                "input to histogram_quantile has NaN observations, result is NaN"
            }
            NanEffect::QuantileIsHigher => {
                "input to histogram_quantile has NaN observations, result is skewed higher"
            }
            NanEffect::NotInFraction => {
                "input to histogram_fraction has NaN observations, which are excluded from all fractions"
            }
        };
        self.info(named(text, metric), place);
    }

    pub(crate) fn resets_collide(&mut self, with: HistogramOperation, place: Place) {
        let with = operation(with);
        self.warn(
            format!("conflicting counter resets during histogram {with}"),
            place,
        );
    }

    pub(crate) fn bounds_reconciled(&mut self, with: HistogramOperation, place: Place) {
        let with = operation(with);
        self.info(
            format!("mismatched custom buckets were reconciled during {with}"),
            place,
        );
    }

    pub(crate) fn start_overlap(&mut self, metric: &str, place: Place) {
        let metric = quote(metric);
        self.add(Annotation {
            severity: Severity::Warning,
            text: format!(
                "PromQL warning: sample has start time that overlaps with previous sample timestamp for metric {metric}"
            ),
            place,
            detail: Detail::Occurrences(1),
        });
    }

    /// What the algebra of vectors noticed at an operator or aggregation.
    pub(crate) fn note(&mut self, note: Note, name: &str, place: Place) {
        match note {
            Note::MixedFloatsHistograms => self.warn(
                "encountered a mix of histograms and floats for aggregation",
                place,
            ),
            Note::HistogramIgnored => self.histogram_ignored(name, place),
            Note::MixedSchemas(metric) => self.mixed_schemas(&metric, place),
            Note::ResetsCollide(with) => self.resets_collide(with, place),
            Note::BoundsReconciled(with) => self.bounds_reconciled(with, place),
            Note::IncompatibleTypes(left, right) => {
                let op = quote(name);
                self.info(
                    format!(
                        "incompatible sample types encountered for binary operator {op}: {left} {name} {right}"
                    ),
                    place,
                );
            }
            Note::IncompatibleBuckets => self.warn(
                format!("incompatible bucket layout encountered for binary operator {name}"),
                place,
            ),
        }
    }
}

impl Annotation {
    fn shown(&self, query: &str) -> String {
        let (line, column) = line_and_column(query, self.place.start);
        let text = &self.text;
        match &self.detail {
            Detail::None => format!("{text} ({line}:{column})"),
            Detail::Occurrences(count) if *count > 1 => {
                format!("{text} ({count} occurrences) ({line}:{column})")
            }
            Detail::Occurrences(_) => format!("{text} ({line}:{column})"),
            Detail::Forced(forced, count, from, to) => {
                let (min, max) = (shortest(forced.min_bucket), shortest(forced.max_bucket));
                let difference = two_digits(forced.max_difference);
                let (from, to) = (dates::rfc3339(*from), dates::rfc3339(*to));
                format!(
                    "{text}, from buckets {min} to {max}, with a max diff of {difference}, over {count} samples from {from} to {to} ({line}:{column})"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_told_once_at_the_last_place() {
        let mut annotations = Annotations::default();
        for start in [3, 7] {
            annotations.invalid_quantile(2.0, Place { start, end: 9 });
        }
        let (warnings, infos) = annotations.texts("quantile(2, x)");
        assert_eq!(
            warnings,
            ["PromQL warning: quantile value should be between 0 and 1, got 2 (1:8)"]
        );
        assert!(infos.is_empty());
        assert_eq!(two_digits(0.000_123), "0.00012");
        assert_eq!(two_digits(1234.0), "1.2e+03");
        assert_eq!(two_digits(1.0), "1");
    }
}
