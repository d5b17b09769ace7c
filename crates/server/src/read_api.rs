//! Series for other systems: remote read and federation.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use kittiwake_config::PrometheusConfig;
use kittiwake_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::matcher::MatchOp;
use kittiwake_model::{
    Columns, Histogram, Labels, Matcher, MetricsStore, QueryContext, Select, StoreError, TimeRange,
    is_stale_nan,
};
use kittiwake_wire::exposition::{self, FamilyEncoder, MetricType};
use kittiwake_wire::remote_read::{self, Chunk, Form, Query, ReadRequest, SamplesAnswer};
use kittiwake_wire::snappy;

use crate::app::App;
use crate::body::{self, FORM_BYTES_MAX, PLAIN_BYTES_MAX};
use crate::prometheus_api::params;
use crate::reply::Problem;
use crate::series_api::selectors;

/// `/api/v1/read`
pub async fn read(State(app): State<App>, body: Body) -> Result<Response, Problem> {
    let body = body::read(body, FORM_BYTES_MAX).await?;
    let mut plain = Vec::new();
    let plain = snappy::decompress(&body, PLAIN_BYTES_MAX, &mut plain)
        .map_err(|e| Problem::bad_data(e.to_string()))?;
    let request = ReadRequest::decode(plain).map_err(|e| Problem::bad_data(e.to_string()))?;
    let config = app.config.now().config;
    let store = app.metrics.clone();
    let answer = move |context: &QueryContext| {
        let store = store.as_ref();
        match request.form {
            Form::Samples => samples(store, &request.queries, &config, context),
            Form::Chunks => chunks(store, &request.queries, &config, context),
        }
    };
    app.queries.run(None, answer).await
}

/// Goes over the series of a query, each with the labels that leave for other systems.
fn each(
    store: &dyn MetricsStore,
    query: &Query,
    config: &PrometheusConfig,
    context: &QueryContext,
    mut take: impl FnMut(Labels, Columns),
) -> Result<(), StoreError> {
    let external = &config.external_labels;
    // Series do not have the external labels, so who asks for them asks for series without.
    let matchers = query.matchers.iter().map(|m| {
        let is_external = m.op() == MatchOp::Equal
            && !m.value().is_empty()
            && external.get(m.name()) == Some(m.value());
        if is_external {
            Matcher::equal(m.name(), "")
        } else {
            m.clone()
        }
    });
    let range = TimeRange::new(query.start_ms, query.end_ms);
    let select = Select::new(matchers.collect(), range);
    let mut cursor = store.select(&select, context)?;
    while let Some(labels) = cursor.next_series()? {
        let mut samples = Columns::default();
        let mut counted = 0;
        while cursor.next_batch(&mut samples)? {
            context.count_samples((samples.len() - counted) as u64)?;
            counted = samples.len();
        }
        if !samples.is_empty() {
            take(with_external(&labels, external), samples);
        }
    }
    Ok(())
}

fn with_external(labels: &Labels, external: &Labels) -> Labels {
    if external.is_empty() {
        return labels.clone();
    }
    let mut builder = labels.to_builder();
    for (name, value) in external {
        if labels.get(name).is_none() {
            builder.set(name, value);
        }
    }
    // Both are valid already, and together not larger than what may be.
    builder.build().unwrap_or_else(|_| labels.clone())
}

fn samples(
    store: &dyn MetricsStore,
    queries: &[Query],
    config: &PrometheusConfig,
    context: &QueryContext,
) -> Result<Response, Problem> {
    let mut answer = SamplesAnswer::new();
    for query in queries {
        let mut all: Vec<(Labels, Columns)> = Vec::new();
        each(store, query, config, context, |labels, samples| {
            all.push((labels, samples));
        })?;
        all.sort_by(|a, b| a.0.as_packed().cmp(b.0.as_packed()));
        for (labels, samples) in &all {
            answer.series(labels, samples);
        }
        answer.end_query();
    }
    let body = answer
        .finish()
        .map_err(|e| Problem::internal(e.to_string()))?;
    let headers = [
        (header::CONTENT_TYPE, "application/x-protobuf"),
        (header::CONTENT_ENCODING, "snappy"),
    ];
    Ok((headers, body).into_response())
}

/// Series must come in order of their labels, so all are held, as small as chunks are; frames
/// are made as the client takes them.
fn chunks(
    store: &dyn MetricsStore,
    queries: &[Query],
    config: &PrometheusConfig,
    context: &QueryContext,
) -> Result<Response, Problem> {
    let mut all: Vec<(usize, Labels, Vec<Chunk>)> = Vec::new();
    for (number, query) in queries.iter().enumerate() {
        each(store, query, config, context, |labels, samples| {
            all.push((number, labels, Chunk::of(&samples)));
        })?;
    }
    all.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| in_order(&a.1, &b.1)));
    let frames = all
        .into_iter()
        .flat_map(|(number, labels, chunks)| remote_read::frames(&labels, &chunks, number))
        .map(|frame| Ok::<_, Infallible>(Bytes::from(frame)));
    let body = Body::from_stream(stream::iter(frames));
    Ok(([(header::CONTENT_TYPE, remote_read::STREAMED)], body).into_response())
}

/// The order of labels that Prometheus has: pair by pair.
fn in_order(a: &Labels, b: &Labels) -> std::cmp::Ordering {
    a.iter().cmp(b.iter())
}

/// A series' newest sample.
enum Newest {
    Value(f64),
    Histogram(std::sync::Arc<Histogram>),
}

/// `/federate`
pub async fn federate(
    State(app): State<App>,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let params = params(request).await?;
    let selectors = selectors(&params, "match[]")?;
    let now_ms = app.now_ms();
    let range = TimeRange::new(now_ms - app.options.lookback_ms(), now_ms);
    let is_protobuf = wants_protobuf(&headers);
    let config = app.config.now().config;
    let store = app.metrics.clone();
    let find = move |context: &QueryContext| -> Result<Vec<u8>, Problem> {
        let mut all: BTreeMap<(String, Vec<u8>), (Labels, i64, Newest)> = BTreeMap::new();
        for matchers in &selectors {
            let select = Select::new(matchers.clone(), range);
            let mut cursor = store.select(&select, context)?;
            let mut samples = Columns::default();
            while let Some(labels) = cursor.next_series()? {
                samples.clear();
                while cursor.next_batch(&mut samples)? {}
                context.count_samples(samples.len() as u64)?;
                let name = labels.metric_name().unwrap_or("").to_owned();
                if let Some((time_ms, newest)) = newest(&samples).filter(|_| !name.is_empty()) {
                    let key = (name, labels.as_packed().to_vec());
                    all.insert(key, (labels, time_ms, newest));
                }
            }
        }
        let all: Vec<_> = all.into_values().collect();
        Ok(if is_protobuf {
            protobuf(&all, &config)
        } else {
            text(&all, &config)
        })
    };
    let body = app.queries.run(None, find).await?;
    let kind = if is_protobuf {
        exposition::PROTOBUF_CONTENT_TYPE
    } else {
        exposition::CONTENT_TYPE
    };
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// Whether the client takes protobuf before any text.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    let weight = |part: &str| -> f64 {
        let weight = part.split(';').find_map(|p| p.trim().strip_prefix("q="));
        weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))
    };
    let best = |media_type: &str| {
        let parts = accept.unwrap_or("").split(',');
        let parts = parts.filter(|part| part.trim().starts_with(media_type));
        parts.map(weight).fold(0.0_f64, f64::max)
    };
    let protobuf = best("application/vnd.google.protobuf");
    protobuf > 0.0 && protobuf >= best("text/plain")
}

fn newest(samples: &Columns) -> Option<(i64, Newest)> {
    let last = samples.len().checked_sub(1)?;
    let time_ms = *samples.times.last()?;
    if let Some((at, histogram)) = samples.histograms.last()
        && *at as usize == last
    {
        let is_stale = is_stale_nan(histogram.sum);
        return (!is_stale).then(|| (time_ms, Newest::Histogram(histogram.clone())));
    }
    let value = *samples.values.last()?;
    (!is_stale_nan(value)).then_some((time_ms, Newest::Value(value)))
}

/// A series' labels without its name, with those that leave for other systems. An empty
/// `instance` keeps the scraper from writing its own.
fn federated<'l>(labels: &'l Labels, external: &'l Labels) -> Vec<(&'l str, &'l str)> {
    let mut pairs: Vec<(&str, &str)> = labels.iter().filter(|(n, _)| *n != METRIC_NAME).collect();
    let instance = external.get("instance").is_none();
    let instance = instance.then_some(("instance", ""));
    for (name, value) in external.iter().chain(instance) {
        if labels.get(name).is_none() {
            pairs.push((name, value));
        }
    }
    pairs
}

fn text(all: &[(Labels, i64, Newest)], config: &PrometheusConfig) -> Vec<u8> {
    let mut writer = exposition::Writer::new();
    let mut last = None;
    for (labels, time_ms, newest) in all {
        let name = labels.metric_name().unwrap_or("");
        let pairs = federated(labels, &config.external_labels);
        match newest {
            Newest::Value(value) => {
                if last != Some((name, false)) {
                    writer.family(name, "", MetricType::Unknown);
                    last = Some((name, false));
                }
                writer.sample(name, pairs, *value, Some(*time_ms));
            }
            // A text has no native histograms but those whose buckets have bounds.
            Newest::Histogram(histogram) if histogram.schema == CUSTOM_BUCKETS_SCHEMA => {
                if last != Some((name, true)) {
                    writer.family(name, "", MetricType::Histogram);
                    last = Some((name, true));
                }
                writer.classic(name, &pairs, histogram, *time_ms);
            }
            Newest::Histogram(_) => {}
        }
    }
    writer.finish().into_bytes()
}

fn protobuf(all: &[(Labels, i64, Newest)], config: &PrometheusConfig) -> Vec<u8> {
    let mut encoder = FamilyEncoder::new();
    for (labels, time_ms, newest) in all {
        let name = labels.metric_name().unwrap_or("");
        let pairs = federated(labels, &config.external_labels);
        match newest {
            Newest::Value(value) => encoder.untyped(name, &pairs, *value, *time_ms),
            Newest::Histogram(histogram) => encoder.histogram(name, &pairs, histogram, *time_ms),
        }
    }
    encoder.finish()
}
