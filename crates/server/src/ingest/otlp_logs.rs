//! Logs of OpenTelemetry, mapped as Loki maps them: some attributes of the resource name the
//! stream, all others become structured metadata.

use std::collections::BTreeMap;

use kittiwake_logql::level;
use kittiwake_model::Labels;
use kittiwake_model::delivery::Origin;
use kittiwake_wire::otlp::AnyValue;
use kittiwake_wire::otlp::logs::{LogRecord, ResourceLogs, ScopeLogs};

use super::{Ingest, Lines, Taken, bad, check_stream};
use crate::reply::Problem;

/// Attributes of a resource that name its streams.
const STREAM_ATTRIBUTES: [&str; 18] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];
/// Labels that stand in for a missing `service_name`, the best first.
const SERVICE_NAMES: [&str; 6] = [
    "container_name",
    "k8s_container_name",
    "k8s_deployment_name",
    "k8s_pod_name",
    "k8s_job_name",
    "k8s_namespace_name",
];
const UNKNOWN_SERVICE: &str = "unknown_service";
/// Levels of nested attributes.
const DEPTH_MAX: usize = 16;

type Pairs = BTreeMap<String, String>;

impl Ingest {
    /// Stores the records of an export request.
    pub fn otlp_logs(
        &self,
        all: &[ResourceLogs],
        origin: Option<&Origin>,
    ) -> Result<Taken, Problem> {
        let mut lines = Lines::default();
        let now_ns = self.clock.now_ns();
        for resource in all {
            let (stream, beside) = stream(resource)?;
            check_stream(&stream)?;
            let level = level::of_labels(&stream).map(str::to_owned);
            lines.batch.start(stream);
            for scope in &resource.scopes {
                let mut beside = beside.clone();
                describe_scope(scope, &mut beside);
                for record in &scope.records {
                    let mut pairs = beside.clone();
                    describe(record, &mut pairs);
                    let metadata = Labels::from_pairs(pairs).map_err(bad)?;
                    let time_ns = match (record.time_ns, record.observed_ns) {
                        (0, 0) => now_ns,
                        (0, observed) => observed as i64,
                        (time, _) => time as i64,
                    };
                    let line = record.body.to_text();
                    lines.add(time_ns, &line, &metadata, level.as_deref());
                }
            }
        }
        self.store_lines(&lines.batch, origin)
    }
}

/// The stream of a resource, and what else is known of it.
fn stream(resource: &ResourceLogs) -> Result<(Labels, Pairs), Problem> {
    let (mut stream, mut beside) = (Pairs::new(), Pairs::new());
    for (name, value) in &resource.attributes {
        let into = if STREAM_ATTRIBUTES.contains(&name.as_str()) {
            &mut stream
        } else {
            &mut beside
        };
        flatten("", name, value, 0, into);
    }
    stream.retain(|_, value| !value.is_empty());
    if !stream.contains_key("service_name") {
        let found = SERVICE_NAMES.iter().find_map(|name| stream.get(*name));
        let name = found.map_or(UNKNOWN_SERVICE, String::as_str).to_owned();
        stream.insert("service_name".to_owned(), name);
    }
    Ok((Labels::from_pairs(stream).map_err(bad)?, beside))
}

fn describe_scope(scope: &ScopeLogs, pairs: &mut Pairs) {
    for (name, value) in &scope.attributes {
        flatten("", name, value, 0, pairs);
    }
    let dropped = scope.dropped_attributes;
    for (name, value) in [
        ("scope_name", scope.name.clone()),
        ("scope_version", scope.version.clone()),
        ("scope_dropped_attributes_count", unless_zero(dropped)),
    ] {
        put(pairs, name, value);
    }
}

fn describe(record: &LogRecord, pairs: &mut Pairs) {
    for (name, value) in &record.attributes {
        flatten("", name, value, 0, pairs);
    }
    let observed_ns = if record.time_ns == 0 {
        0
    } else {
        record.observed_ns
    };
    for (name, value) in [
        ("observed_timestamp", unless_zero(observed_ns)),
        (
            "severity_number",
            unless_zero(record.severity_number as u64),
        ),
        ("severity_text", record.severity_text.clone()),
        (
            "dropped_attributes_count",
            unless_zero(record.dropped_attributes),
        ),
        ("flags", unless_zero(record.flags.into())),
        ("trace_id", record.trace_id.clone()),
        ("span_id", record.span_id.clone()),
        ("event_name", record.event_name.clone()),
    ] {
        put(pairs, name, value);
    }
}

fn put(pairs: &mut Pairs, name: &str, value: String) {
    if !value.is_empty() {
        pairs.insert(name.to_owned(), value);
    }
}

fn unless_zero(number: u64) -> String {
    if number == 0 {
        String::new()
    } else {
        number.to_string()
    }
}

/// An attribute as labels: a map becomes one for each of its members.
fn flatten(prefix: &str, name: &str, value: &AnyValue, depth: usize, into: &mut Pairs) {
    let name = label_name(prefix, name);
    match value {
        AnyValue::Map(pairs) if depth < DEPTH_MAX => {
            for (inner, value) in pairs {
                flatten(&name, inner, value, depth + 1, into);
            }
        }
        value => {
            into.insert(name, value.to_text());
        }
    }
}

/// A name with `_` for all that no label has; one that starts with a digit gets `key_`.
fn label_name(prefix: &str, name: &str) -> String {
    let mut out = String::from(prefix);
    if !prefix.is_empty() {
        out.push('_');
    }
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        // Neighbouring ones become one.
        if c != '_' || !out.ends_with('_') {
            out.push(c);
        }
    }
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert_str(0, "key_");
    }
    out
}
