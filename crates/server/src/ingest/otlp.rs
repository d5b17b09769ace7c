//! Metrics of OpenTelemetry as series, by the rules of Prometheus' receiver.
//!
//! A resource's identity becomes `job` and `instance`, its other attributes the series
//! `target_info`; names and units follow the configured strategy. Points that count since the
//! point before are added up.

mod delta;
mod histogram;
mod names;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use kittiwake_config::OtlpConfig;
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{Exemplar, Histogram, Labels, Metadata, stale_nan};
use kittiwake_wire::otlp::{
    Attributes, Data, Explicit, Metric, Point, ResourceMetrics, ScopeMetrics, Summary, Temporality,
};

pub use delta::Deltas;

use super::intake::{Drop, Intake};
use super::{Ingest, Taken};
use crate::reply::Problem;
use delta::Total;

/// Characters of an exemplar's labels.
const EXEMPLAR_CHARS_MAX: usize = 128;
/// Attributes of a resource that name it, and are in `job` and `instance`.
const IDENTITY: [&str; 3] = ["service.namespace", "service.name", "service.instance.id"];
/// Samples of `target_info` for one resource of a request.
const TARGET_INFO_MAX: usize = 1000;

type Pairs = BTreeMap<String, String>;

impl Ingest {
    /// Stores what an export request says. `lookback_ms` is how far queries look back:
    /// `target_info` must be found all along.
    pub fn otlp(
        &self,
        all: &[ResourceMetrics],
        config: &OtlpConfig,
        lookback_ms: i64,
    ) -> Result<Taken, Problem> {
        let mut batch = kittiwake_tsdb::Batch::new();
        let mut intake = Intake::new(self, &mut batch);
        let now_ms = self.clock.now_ms();
        let mut seen = HashSet::new();
        for resource in all {
            let translated = Translator::new(resource, config, &self.deltas, now_ms);
            let mut translator = match translated {
                Ok(translator) => translator,
                Err(problem) => {
                    intake.refuse(Drop::InvalidLabels, 1, || problem);
                    continue;
                }
            };
            for scope in &resource.scopes {
                translator.scope(scope, &mut intake);
            }
            translator.target_info(resource, lookback_ms, &mut seen, &mut intake);
        }
        intake.store(None)
    }
}

/// What all points of a resource have in common.
struct Translator<'c> {
    config: &'c OtlpConfig,
    deltas: &'c Deltas,
    now_ms: i64,
    job: Option<String>,
    instance: Option<String>,
    promoted: Pairs,
    scope: Pairs,
    /// Times in ms of the first and last point.
    times: Option<(i64, i64)>,
}

fn find(attributes: &Attributes, key: &str) -> Option<String> {
    let found = attributes.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value.to_text())
}

fn ms(ns: u64) -> i64 {
    i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX)
}

impl<'c> Translator<'c> {
    fn new(
        resource: &ResourceMetrics,
        config: &'c OtlpConfig,
        deltas: &'c Deltas,
        now_ms: i64,
    ) -> Result<Self, String> {
        let attributes = &resource.attributes;
        let job = find(attributes, "service.name").map(|name| {
            match find(attributes, "service.namespace") {
                Some(namespace) => format!("{namespace}/{name}"),
                None => name,
            }
        });
        let mut promoted = Pairs::new();
        for (name, value) in attributes {
            let is_promoted = if config.promote_all_resource_attributes {
                !config.ignore_resource_attributes.contains(name)
            } else {
                config.promote_resource_attributes.contains(name)
            };
            if is_promoted {
                promoted.insert(names::label(name, config)?, value.to_text());
            }
        }
        Ok(Self {
            config,
            deltas,
            now_ms,
            job,
            instance: find(attributes, "service.instance.id"),
            promoted,
            scope: Pairs::new(),
            times: None,
        })
    }

    fn scope(&mut self, scope: &ScopeMetrics, intake: &mut Intake<'_>) {
        self.scope.clear();
        if self.config.promote_scope_metadata && !scope.name.is_empty() {
            for (name, value) in &scope.attributes {
                if let Ok(name) = names::label(&format!("otel_scope_{name}"), self.config) {
                    self.scope.insert(name, value.to_text());
                }
            }
            for (name, value) in [
                ("otel_scope_name", &scope.name),
                ("otel_scope_version", &scope.version),
                ("otel_scope_schema_url", &scope.schema_url),
            ] {
                self.scope.insert(name.to_owned(), value.clone());
            }
        }
        for metric in &scope.metrics {
            self.metric(metric, intake);
        }
    }

    fn metric(&mut self, metric: &Metric, intake: &mut Intake<'_>) {
        let name = match names::metric(metric, self.config) {
            Ok(name) => name,
            Err(problem) => return intake.refuse(Drop::InvalidLabels, 1, || problem),
        };
        let kind = match &metric.data {
            Data::None => {
                return intake.refuse(Drop::Unsupported, 1, || {
                    format!("metric {:?} has no points that are known", metric.name)
                });
            }
            Data::Gauge(_) => "gauge",
            Data::Sum { is_monotonic, .. } => match is_monotonic {
                true => "counter",
                false => "gauge",
            },
            Data::Histogram { .. } | Data::Exponential { .. } => "histogram",
            Data::Summary(_) => "summary",
        };
        let metadata = Metadata {
            kind: kind.to_owned(),
            help: metric.description.clone(),
            unit: names::unit(&metric.unit),
        };
        intake.metadata(&name, metadata);
        match &metric.data {
            Data::None => {}
            Data::Gauge(points) => self.each(points, &name, intake, |t, point, base, intake| {
                t.number(point, &name, base, point.value, point.start_ns, &[], intake);
            }),
            Data::Sum {
                points,
                temporality,
                ..
            } => self.each(points, &name, intake, |t, point, base, intake| {
                let total = t.total(
                    *temporality,
                    &name,
                    &base,
                    point,
                    Total::Number(point.value),
                );
                match total {
                    Ok((Total::Number(value), start_ns)) => {
                        let exemplars = exemplars(point);
                        t.number(point, &name, base, value, start_ns, &exemplars, intake);
                    }
                    Ok(_) => {}
                    Err(problem) => refuse(metric, problem, intake),
                }
            }),
            Data::Histogram {
                points,
                temporality,
            } => self.each(points, &name, intake, |t, point, base, intake| {
                let value = Total::Explicit(point.value.clone());
                match t.total(*temporality, &name, &base, point, value) {
                    Ok((Total::Explicit(value), start_ns)) => {
                        t.explicit(point, &value, &name, base, start_ns, intake);
                    }
                    Ok(_) => {}
                    Err(problem) => refuse(metric, problem, intake),
                }
            }),
            Data::Exponential {
                points,
                temporality,
            } => self.each(points, &name, intake, |t, point, base, intake| {
                let value = Total::Exponential(point.value.clone());
                let native = t.total(*temporality, &name, &base, point, value).and_then(
                    |(total, start_ns)| match total {
                        Total::Exponential(value) => Ok((histogram::native(&value)?, start_ns)),
                        _ => Err("its kind has changed"),
                    },
                );
                match native {
                    Ok((native, start_ns)) => {
                        t.native(point, native, &name, base, start_ns, intake);
                    }
                    Err(problem) => refuse(metric, problem, intake),
                }
            }),
            Data::Summary(points) => self.each(points, &name, intake, |_, point, base, intake| {
                summary(point, &point.value, &name, &base, intake);
            }),
        }
    }

    /// Goes over points with their labels, and remembers their times.
    fn each<V>(
        &mut self,
        points: &[Point<V>],
        name: &str,
        intake: &mut Intake<'_>,
        mut take: impl FnMut(&mut Self, &Point<V>, Pairs, &mut Intake<'_>),
    ) {
        for point in points {
            let time_ms = ms(point.time_ns);
            let (first, last) = self.times.unwrap_or((time_ms, time_ms));
            self.times = Some((first.min(time_ms), last.max(time_ms)));
            match self.labels(&point.attributes, &[METRIC_NAME], true) {
                Ok(base) => take(self, point, base, intake),
                Err(problem) => intake.refuse(Drop::InvalidLabels, 1, || {
                    format!("metric {name:?}: {problem}")
                }),
            }
        }
    }

    /// The labels of attributes, without those that are left out, with those of resource and,
    /// where it is a point's, of scope.
    fn labels(
        &self,
        attributes: &Attributes,
        left_out: &[&str],
        is_point: bool,
    ) -> Result<Pairs, String> {
        let mut sorted: Vec<_> = attributes
            .iter()
            .filter(|(name, _)| !left_out.contains(&name.as_str()))
            .collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let mut pairs = Pairs::new();
        for (name, value) in sorted {
            let name = names::label(name, self.config)?;
            let value = value.to_text();
            match pairs.get_mut(&name).filter(|there| !there.is_empty()) {
                // Two names became one.
                Some(there) if self.config.translation_strategy.escapes() => {
                    there.push(';');
                    there.push_str(&value);
                }
                _ => {
                    pairs.insert(name, value);
                }
            }
        }
        if is_point {
            for (name, value) in &self.promoted {
                pairs.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        for (name, value) in [("job", &self.job), ("instance", &self.instance)] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                pairs.insert(name.to_owned(), value.clone());
            }
        }
        if is_point {
            pairs.extend(self.scope.iter().map(|(n, v)| (n.clone(), v.clone())));
        }
        Ok(pairs)
    }

    /// The value since the start, and when that was.
    fn total<V>(
        &self,
        temporality: Temporality,
        name: &str,
        base: &Pairs,
        point: &Point<V>,
        value: Total,
    ) -> Result<(Total, u64), &'static str> {
        match temporality {
            Temporality::Cumulative => Ok((value, point.start_ns)),
            Temporality::Unspecified => Err("it does not say over which time its points count"),
            Temporality::Delta if point.is_gone => Ok((value, point.start_ns)),
            Temporality::Delta => {
                let times = (point.start_ns, point.time_ns);
                self.deltas.add((name, base), times, value, self.now_ms)
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "what a sample is made of")]
    fn number<V>(
        &self,
        point: &Point<V>,
        name: &str,
        base: Pairs,
        value: f64,
        start_ns: u64,
        exemplars: &[Exemplar],
        intake: &mut Intake<'_>,
    ) {
        let value = if point.is_gone { stale_nan() } else { value };
        if begin(intake, name, "", &base, None) {
            intake.sample(ms(point.time_ns), value, ms(start_ns));
            for exemplar in exemplars {
                intake.exemplar(exemplar.clone());
            }
        }
    }

    fn explicit(
        &self,
        point: &Point<Explicit>,
        value: &Explicit,
        name: &str,
        base: Pairs,
        start_ns: u64,
        intake: &mut Intake<'_>,
    ) {
        if self.config.convert_histograms_to_nhcb {
            let native = histogram::custom(value);
            return self.native(point, native, name, base, start_ns, intake);
        }
        let (time_ms, start_ms) = (ms(point.time_ns), ms(start_ns));
        let gone = |value: f64| if point.is_gone { stale_nan() } else { value };
        let mut put = |suffix, bound: Option<&str>, value: f64, exemplars: &[Exemplar]| {
            if begin(
                intake,
                name,
                suffix,
                &base,
                bound.map(|bound| ("le", bound)),
            ) {
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

    fn native<V>(
        &self,
        point: &Point<V>,
        native: Histogram,
        name: &str,
        base: Pairs,
        start_ns: u64,
        intake: &mut Intake<'_>,
    ) {
        if !begin(intake, name, "", &base, None) {
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

    /// The attributes of the resource that do not name it, as labels of a series.
    fn target_info(
        &self,
        resource: &ResourceMetrics,
        lookback_ms: i64,
        seen: &mut HashSet<(Pairs, i64)>,
        intake: &mut Intake<'_>,
    ) {
        let attributes = &resource.attributes;
        let mut others = attributes
            .iter()
            .filter(|(name, _)| !IDENTITY.contains(&name.as_str()));
        let Some((first_ms, last_ms)) = self.times else {
            return;
        };
        // Job and instance alone say nothing, and without them nobody knows whose it is.
        if others.next().is_none() || (self.job.is_none() && self.instance.is_none()) {
            return;
        }
        let left_out: &[&str] = if self.config.keep_identifying_resource_attributes {
            &[]
        } else {
            &IDENTITY
        };
        let pairs = match self.labels(attributes, left_out, false) {
            Ok(pairs) => pairs,
            Err(problem) => return intake.refuse(Drop::InvalidLabels, 1, || problem),
        };
        intake.metadata(
            "target_info",
            Metadata {
                kind: "gauge".to_owned(),
                help: "Target metadata".to_owned(),
                unit: String::new(),
            },
        );
        if !begin(intake, "target_info", "", &pairs, None) {
            return;
        }
        let step_ms = (lookback_ms / 2).max(1);
        let mut times: Vec<i64> = std::iter::successors(Some(first_ms), |t| t.checked_add(step_ms))
            .take_while(|time_ms| *time_ms < last_ms)
            .take(TARGET_INFO_MAX)
            .collect();
        times.push(last_ms);
        for time_ms in times {
            if seen.insert((pairs.clone(), time_ms)) {
                intake.sample(time_ms, 1.0, 0);
            }
        }
    }
}

fn refuse(metric: &Metric, problem: &'static str, intake: &mut Intake<'_>) {
    intake.refuse(Drop::Unsupported, 1, || {
        format!("metric {:?}: {problem}", metric.name)
    });
}

/// Begins a series.
fn begin(
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

fn summary(
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
fn exemplars<V>(point: &Point<V>) -> Vec<Exemplar> {
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
