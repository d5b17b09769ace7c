//! How much there is: `/loki/api/v1/index/*` and `/loki/api/v1/detected_labels`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::ops::ControlFlow;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use kittiwake_logql::{self as logql, Value};
use kittiwake_model::{
    Direction, Labels, LogStore, MatchOp, Matcher, QueryContext, Scan, SeriesHash, TimeRange,
    each_entry,
};

use crate::app::App;
use crate::loki_api::{Answer, HOUR_NS, range, selectors, step_ms};
use crate::params::Params;
use crate::prometheus_api::{from_logql, params, render};
use crate::reply::{Problem, json, push_json_str, success};

/// Series of a volume without a limit in the request.
const VOLUMES: usize = 100;
/// What Loki counts for a pair of structured metadata, beside its texts.
const PAIR_BYTES: usize = 8;

fn selector(params: &Params) -> Result<Vec<Matcher>, Problem> {
    let text = params.get("query").unwrap_or("");
    logql::parse_selector(text).map_err(|e| Problem::bad_data(e.to_string()))
}

/// `/loki/api/v1/index/stats`. Like Loki it tells of what is written in parts; lines still in
/// memory count when the range reaches into the last three hours.
pub async fn stats(State(app): State<App>, request: Request<Body>) -> Answer {
    let params = params(request).await?;
    let selector = selector(&params)?;
    let (start, end) = range(&app, &params, HOUR_NS)?;
    let store = app.logs.clone();
    let is_recent = end > app.now_ns().saturating_sub(3 * HOUR_NS);
    let count = move |context: &QueryContext| {
        let (mut streams, mut bytes, mut entries) = (HashSet::new(), 0, 0);
        if is_recent || store.stats().parts > 0 {
            let scan = whole(selector, start, end);
            each_entry(store.as_ref(), &scan, context, |batch, index| {
                streams.insert(batch.id(index).stream);
                bytes += batch.entries[index].line.len() as u64;
                entries += 1;
                ControlFlow::Continue(())
            })?;
        }
        // A stream is what a chunk of Loki's holds.
        let count = streams.len();
        Ok(format!(
            r#"{{"streams":{count},"chunks":{count},"bytes":{bytes},"entries":{entries}}}"#
        ))
    };
    Ok(json(app.queries.run(None, count).await?))
}

fn whole(selector: Vec<Matcher>, start: i64, end: i64) -> Scan {
    let mut scan = Scan::new(selector, TimeRange::new(start, end), Direction::Forward);
    scan.ordered = false;
    scan
}

/// What is measured of a stream in one bucket of time.
#[derive(Default)]
struct Measured {
    bytes: usize,
    /// Texts of structured metadata, which a chunk of Loki's has once.
    texts: HashSet<String>,
}

/// How a volume is asked for.
struct Volume {
    selector: Vec<Matcher>,
    start: i64,
    end: i64,
    limit: usize,
    targets: Vec<String>,
    /// Whether each label counts for itself, not each set of them.
    by_label: bool,
}

impl Volume {
    fn new(app: &App, params: &Params) -> Result<Self, Problem> {
        let mut selector = selector(params)?;
        let (start, end) = range(app, params, HOUR_NS)?;
        let mut targets: Vec<String> = params
            .all("targetLabels")
            .flat_map(|t| t.split(','))
            .map(str::to_owned)
            .collect();
        let by_label = match params.get("aggregateBy") {
            None | Some("series") => false,
            Some("labels") => true,
            Some(other) => {
                return Err(Problem::bad_data(format!(
                    "invalid aggregation option {other}"
                )));
            }
        };
        // Streams without a target do not count.
        for target in &targets {
            if !selector.iter().any(|m| m.name() == target) {
                let there = Matcher::new(MatchOp::Regex, target, ".+");
                selector.push(there.map_err(|e| Problem::bad_data(e.to_string()))?);
            }
        }
        if targets.is_empty() && !by_label {
            targets = selector.iter().map(|m| m.name().to_owned()).collect();
        }
        Ok(Self {
            selector,
            start,
            end,
            limit: params.number("limit")?.unwrap_or(VOLUMES),
            targets,
            by_label,
        })
    }

    /// What a stream counts for: a set of labels, or the names of its labels.
    fn names(&self, labels: &Labels) -> Vec<Labels> {
        let is_target = |name: &str| self.targets.iter().any(|t| t == name);
        if !self.by_label {
            return vec![labels.filtered(is_target)];
        }
        let wanted = |name: &&str| self.targets.is_empty() || is_target(name);
        let names = labels.iter().map(|(name, _)| name).filter(wanted);
        names
            .filter_map(|name| Labels::from_pairs([("__label__", name)]).ok())
            .collect()
    }

    /// Bytes by what they count for, in buckets of time.
    fn measure(
        &self,
        store: &dyn LogStore,
        step_ns: i64,
        context: &QueryContext,
    ) -> Result<BTreeMap<i64, BTreeMap<Labels, usize>>, Problem> {
        let mut scan = whole(self.selector.clone(), self.start, self.end);
        scan.needs_line = true;
        let mut streams: HashMap<SeriesHash, (Labels, BTreeMap<i64, Measured>)> = HashMap::new();
        each_entry(store, &scan, context, |batch, index| {
            let entry = &batch.entries[index];
            let last = self.end.saturating_sub(1).div_euclid(step_ns);
            let bucket = entry.time_ns.div_euclid(step_ns).min(last);
            let (_, buckets) = streams
                .entry(batch.id(index).stream)
                .or_insert_with(|| (batch.labels(index).clone(), BTreeMap::new()));
            let measured = buckets.entry(bucket).or_default();
            measured.bytes += entry.line.len() + PAIR_BYTES * entry.metadata.len();
            for text in entry
                .metadata
                .iter()
                .flat_map(|(name, value)| [name, value])
            {
                if !measured.texts.contains(text) {
                    measured.texts.insert(text.to_owned());
                    measured.bytes += text.len();
                }
            }
            ControlFlow::Continue(())
        })?;
        let mut volumes: BTreeMap<i64, BTreeMap<Labels, usize>> = BTreeMap::new();
        for (labels, buckets) in streams.into_values() {
            for name in self.names(&labels) {
                for (bucket, measured) in &buckets {
                    let volume = volumes.entry(*bucket).or_default();
                    *volume.entry(name.clone()).or_default() += measured.bytes;
                }
            }
        }
        for volume in volumes.values_mut() {
            let mut ranked: Vec<(Labels, usize)> = std::mem::take(volume).into_iter().collect();
            ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            ranked.truncate(self.limit);
            volume.extend(ranked);
        }
        Ok(volumes)
    }

    /// The labels under which a volume is shown.
    fn shown(&self, name: &Labels) -> Labels {
        match name.get("__label__") {
            Some(label) if self.by_label => {
                // A label without a value cannot be told otherwise.
                Labels::from_sorted([(label, "")])
            }
            _ => name.clone(),
        }
    }
}

/// `/loki/api/v1/index/volume`
pub async fn volume(State(app): State<App>, request: Request<Body>) -> Answer {
    let params = params(request).await?;
    let volume = Volume::new(&app, &params)?;
    let store = app.logs.clone();
    let measure = move |context: &QueryContext| {
        // One bucket for all of time.
        let volumes = volume.measure(store.as_ref(), i64::MAX, context)?;
        let mut ranked: Vec<(Labels, usize)> = volumes.into_values().flatten().collect();
        ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let time_ms = volume.end.div_euclid(1_000_000);
        let samples = ranked.into_iter();
        let samples = samples.map(|(name, bytes)| (volume.shown(&name), time_ms, bytes as f64));
        Ok(render(from_logql(Value::Vector(samples.collect())), 0))
    };
    Ok(success(&app.queries.run(None, measure).await?))
}

/// `/loki/api/v1/index/volume_range`
pub async fn volume_range(State(app): State<App>, request: Request<Body>) -> Answer {
    let params = params(request).await?;
    let volume = Volume::new(&app, &params)?;
    let step_ns = step_ms(&params, volume.start, volume.end)?.saturating_mul(1_000_000);
    if volume.end.saturating_sub(volume.start) / step_ns > crate::loki_api::POINTS_MAX {
        return Err(Problem::bad_data("exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter").into());
    }
    let store = app.logs.clone();
    let measure = move |context: &QueryContext| {
        let volumes = volume.measure(store.as_ref(), step_ns, context)?;
        let mut series: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
        for (bucket, volumes) in volumes {
            // A bucket is told by its last ms.
            let next_ns = bucket.saturating_add(1).saturating_mul(step_ns);
            let time_ns = if next_ns < volume.end {
                next_ns - 1_000_000
            } else {
                volume.end
            };
            for (name, bytes) in volumes {
                let points = series.entry(volume.shown(&name)).or_default();
                points.push((time_ns.div_euclid(1_000_000), bytes as f64));
            }
        }
        if series.values().all(|points| points.len() == 1) {
            let samples = series.into_iter();
            let samples = samples.map(|(name, points)| (name, points[0].0, points[0].1));
            return Ok(render(from_logql(Value::Vector(samples.collect())), 0));
        }
        Ok(render(
            from_logql(Value::Matrix(series.into_iter().collect())),
            0,
        ))
    };
    Ok(success(&app.queries.run(None, measure).await?))
}

/// `/loki/api/v1/index/shards`: all in one.
pub async fn shards(State(app): State<App>, request: Request<Body>) -> Answer {
    let params = params(request).await?;
    selector(&params)?;
    range(&app, &params, HOUR_NS)?;
    let shard = r#"{"shards":[{"bounds":{"min":0,"max":18446744073709551615},"stats":{"streams":0,"chunks":0,"bytes":0,"entries":0}}],"statistics":{}}"#;
    Ok(json(shard.to_owned()))
}

/// `/loki/api/v1/detected_labels`: labels of streams that are no identifiers.
pub async fn detected_labels(State(app): State<App>, request: Request<Body>) -> Answer {
    let params = params(request).await?;
    let selectors = selectors(&params, "query")?;
    let (start, end) = range(&app, &params, HOUR_NS)?;
    let store = app.logs.clone();
    let find = move |context: &QueryContext| {
        let streams = store.streams(&selectors, TimeRange::new(start, end), context)?;
        let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, value) in streams.iter().flatten() {
            let known = values.entry(name.to_owned()).or_default();
            known.insert(value.to_owned());
        }
        values.retain(|name, values| name.as_str() == "cluster" || !are_ids(values));
        let mut out = String::from(r#"{"detectedLabels":["#);
        for (index, (name, values)) in values.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(r#"{"label":"#);
            push_json_str(&mut out, name);
            // Writing to a string cannot fail.
            let _ = write!(out, r#","cardinality":{}}}"#, values.len());
        }
        out.push_str("]}");
        Ok(out)
    };
    let found: Response = json(app.queries.run(None, find).await?);
    Ok(found)
}

/// Whether all values are numbers or UUIDs; 0 and 1 alone are truths.
fn are_ids(values: &BTreeSet<String>) -> bool {
    let is_truth = |v: &String| v == "0" || v == "1";
    if values.len() <= 2 && values.iter().all(is_truth) {
        return values.is_empty();
    }
    let is_uuid = |v: &str| {
        let parts: Vec<usize> = v.split('-').map(str::len).collect();
        parts == [8, 4, 4, 4, 12] && v.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
    };
    values
        .iter()
        .all(|v| v.parse::<f64>().is_ok() || is_uuid(v))
}
