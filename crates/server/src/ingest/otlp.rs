//! Metrics of OpenTelemetry as series, by the rules of Prometheus' receiver.
//!
//! A resource's identity becomes `job` and `instance`, its other attributes the series
//! `target_info`; names and units follow the configured strategy. Points that count since the
//! point before are added up.

mod delta;
mod histogram;
mod names;
mod points;

use std::collections::{BTreeMap, HashSet};

use kittiwake_config::OtlpConfig;
use kittiwake_model::Metadata;
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_wire::otlp::{
    Attributes, Data, Metric, Point, ResourceMetrics, ScopeMetrics, Temporality,
};

pub use delta::Deltas;

use super::intake::{Drop, Intake};
use super::{Ingest, Taken};
use crate::reply::Problem;
use delta::Total;

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
            Data::Gauge(points) => self.each(points, &name, intake, |_, point, base, intake| {
                let value = (point.value, point.start_ns);
                points::number(point, &name, &base, value, &[], intake);
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
                        let exemplars = points::exemplars(point);
                        points::number(point, &name, &base, (value, start_ns), &exemplars, intake);
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
                        if t.config.convert_histograms_to_nhcb {
                            let native = histogram::custom(&value);
                            points::native(point, native, &name, &base, start_ns, intake);
                        } else {
                            points::explicit(point, &value, &name, &base, start_ns, intake);
                        }
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
                        points::native(point, native, &name, &base, start_ns, intake);
                    }
                    Err(problem) => refuse(metric, problem, intake),
                }
            }),
            Data::Summary(points) => self.each(points, &name, intake, |_, point, base, intake| {
                points::summary(point, &point.value, &name, &base, intake);
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
        if !points::begin(intake, "target_info", "", &pairs, None) {
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
