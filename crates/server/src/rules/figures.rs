//! Counts of rules as metrics, under the names that Prometheus has for them.

use kittiwake_rules::{Figures, Manager};
use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Opts};

use super::alertmanagers::{Alertmanagers, Counts, QUEUE_MAX};
use crate::live_config::Loaded;

type Read = fn(&Figures) -> f64;
type ReadCounts = fn(&Counts) -> u64;

const COUNTERS: [(&str, &str, Read); 4] = [
    (
        "prometheus_rule_group_iterations_total",
        "The total number of scheduled rule group evaluations, whether executed or missed.",
        |f| f.iterations as f64,
    ),
    (
        "prometheus_rule_group_iterations_missed_total",
        "The total number of rule group evaluations missed due to slow rule group evaluation.",
        |f| f.missed as f64,
    ),
    (
        "prometheus_rule_evaluations_total",
        "The total number of rule evaluations.",
        |f| f.evaluations as f64,
    ),
    (
        "prometheus_rule_evaluation_failures_total",
        "The total number of rule evaluation failures.",
        |f| f.failures as f64,
    ),
];

const GAUGES: [(&str, &str, Read); 5] = [
    (
        "prometheus_rule_group_last_evaluation_timestamp_seconds",
        "The timestamp of the last rule group evaluation in seconds.",
        |f| f.last_run_at_ns.unwrap_or(0) as f64 / 1e9,
    ),
    (
        "prometheus_rule_group_last_duration_seconds",
        "The duration of the last rule group evaluation.",
        |f| f.last_took.as_secs_f64(),
    ),
    (
        "prometheus_rule_group_last_rule_duration_sum_seconds",
        "The sum of time in seconds it took to evaluate each rule in the group.",
        |f| f.rules_took.as_secs_f64(),
    ),
    (
        "prometheus_rule_group_last_restore_duration_seconds",
        "The duration of the last alert rules alerts restoration.",
        |f| f.restore_took.as_secs_f64(),
    ),
    (
        "prometheus_rule_group_last_evaluation_samples",
        "The number of samples returned during the last rule group evaluation.",
        |f| f.samples as f64,
    ),
];

/// How the configuration was read last.
pub fn reload_families(loaded: &Loaded) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    for (name, help, value) in [
        (
            "prometheus_config_last_reload_successful",
            "Whether the last configuration reload attempt was successful.",
            f64::from(u8::from(loaded.is_last_ok)),
        ),
        (
            "prometheus_config_last_reload_success_timestamp_seconds",
            "Timestamp of the last successful configuration reload.",
            loaded.time_ms as f64 / 1000.0,
        ),
    ] {
        // The names are fixed and good: it cannot fail.
        if let Ok(gauge) = Gauge::new(name, help) {
            gauge.set(value);
            families.extend(gauge.collect());
        }
    }
    families
}

/// How alerts get to the Alertmanagers that the configuration names.
pub fn notification_families(alertmanagers: &Alertmanagers) -> Vec<MetricFamily> {
    let (waiting, dropped) = alertmanagers.figures();
    let mut families = Vec::new();
    // Names and labels are fixed and good: none of this can fail.
    for (name, help, value) in [
        (
            "prometheus_notifications_queue_length",
            "The number of alert notifications in the queue.",
            waiting as f64,
        ),
        (
            "prometheus_notifications_queue_capacity",
            "The capacity of the alert notifications queue.",
            QUEUE_MAX as f64,
        ),
    ] {
        if let Ok(gauge) = Gauge::new(name, help) {
            gauge.set(value);
            families.extend(gauge.collect());
        }
    }
    if let Ok(counter) = Counter::new(
        "prometheus_notifications_dropped_total",
        "Total number of alerts dropped due to errors when sending to Alertmanager.",
    ) {
        counter.inc_by(dropped as f64);
        families.extend(counter.collect());
    }
    let counts = alertmanagers.counts();
    let reads: [(&str, &str, ReadCounts); 2] = [
        (
            "prometheus_notifications_sent_total",
            "Total number of alerts sent.",
            |counts| counts.sent,
        ),
        (
            "prometheus_notifications_errors_total",
            "Total number of sent alerts affected by errors.",
            |counts| counts.failed,
        ),
    ];
    for (name, help, read) in reads {
        if let Ok(counters) = CounterVec::new(Opts::new(name, help), &["alertmanager"]) {
            for (url, counts) in &counts {
                counters
                    .with_label_values(&[url])
                    .inc_by(read(counts) as f64);
            }
            families.extend(counters.collect());
        }
    }
    families.retain(|family| !family.get_metric().is_empty());
    families
}

/// The metrics of all groups as they are now.
pub fn families(manager: &Manager) -> Vec<MetricFamily> {
    let groups: Vec<_> = manager
        .groups()
        .into_iter()
        .map(|group| (group.key(), group.figures(), group))
        .collect();
    let mut families = Vec::new();
    for (name, help, read) in COUNTERS {
        // Names and labels are fixed and good: it cannot fail.
        if let Ok(counters) = CounterVec::new(Opts::new(name, help), &["rule_group"]) {
            for (key, figures, _) in &groups {
                counters.with_label_values(&[key]).inc_by(read(figures));
            }
            families.extend(counters.collect());
        }
    }
    let mut gauges = |name: &str, help: &str, values: &dyn Fn(usize) -> f64| {
        if let Ok(gauges) = GaugeVec::new(Opts::new(name, help), &["rule_group"]) {
            for (index, (key, ..)) in groups.iter().enumerate() {
                gauges.with_label_values(&[key]).set(values(index));
            }
            families.extend(gauges.collect());
        }
    };
    for (name, help, read) in GAUGES {
        gauges(name, help, &|index| read(&groups[index].1));
    }
    gauges(
        "prometheus_rule_group_interval_seconds",
        "The interval of a rule group.",
        &|index| groups[index].2.interval.as_secs_f64(),
    );
    gauges(
        "prometheus_rule_group_rules",
        "The number of rules.",
        &|index| groups[index].2.rules.len() as f64,
    );
    families.retain(|family| !family.get_metric().is_empty());
    families
}
