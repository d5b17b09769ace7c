//! Rules in the server: the engines that answer their expressions, the store that keeps their
//! series, the way of their alerts, and the APIs that show them.

mod alertmanagers;
pub mod api;
mod engine;
mod figures;
pub mod loki;
mod recorder;
mod router;

use std::sync::Arc;
use std::time::Duration;

use kittiwake_config::{PrometheusConfig, glob};
use kittiwake_env::Clock;
use kittiwake_model::Labels;
use kittiwake_promql as promql;
use kittiwake_rules::{Environment, GroupSource, Manager, Settings};
use parking_lot::RwLock;
use {kittiwake_logstore as logs_of, kittiwake_tsdb as metrics_of};

pub use alertmanagers::{Alertmanagers, QUEUE_MAX};
pub use engine::RuleEngine;
pub use figures::{families, notification_families, reload_families};
pub use recorder::{MemoryRecorder, StoreRecorder};
pub use router::{AlertRouter, BuiltIn};

use crate::app::Options;

/// What the command line says of rules.
#[derive(Debug, Clone)]
pub struct RuleOptions {
    /// How long the server may have been down for an alert's state to be taken up again.
    pub outage_tolerance: Duration,
    /// Time that is left to a pending alert after its state was taken up.
    pub grace_period: Duration,
    /// Time after which a firing alert is told of again.
    pub resend_delay: Duration,
    /// Groups that run at once.
    pub concurrency: usize,
    /// Where this server is found, without a slash at the end.
    pub external_url: String,
}

impl Default for RuleOptions {
    fn default() -> Self {
        Self {
            outage_tolerance: Duration::from_hours(1),
            grace_period: Duration::from_mins(10),
            resend_delay: Duration::from_mins(1),
            concurrency: 4,
            external_url: String::new(),
        }
    }
}

/// A manager of rules over the stores. It has no rules yet and runs nothing.
pub fn manager(
    metrics: &Arc<metrics_of::Store>,
    logs: &Arc<logs_of::Store>,
    clock: Arc<dyn Clock>,
    options: &Options,
    alerts: Arc<AlertRouter>,
) -> Arc<Manager> {
    let engine = RuleEngine::new(
        metrics.clone(),
        logs.clone(),
        promql::Options {
            lookback_ms: options.lookback_ms(),
            // Groups run beside each other already.
            threads_max: 1,
            ..promql::Options::default()
        },
        options.queries.timeout,
        options.queries.samples_max,
    );
    let rules = &options.rules;
    Manager::new(Environment {
        engine: Arc::new(engine),
        recorder: Arc::new(StoreRecorder(metrics.clone())),
        store: metrics.clone(),
        sink: alerts,
        clock,
        external_url: rules.external_url.clone(),
        resend_delay: rules.resend_delay,
        outage_tolerance: rules.outage_tolerance,
        grace_period: rules.grace_period,
        settings: RwLock::new(Settings {
            external_labels: Labels::empty(),
            query_offset: Duration::ZERO,
        }),
    })
}

/// Reads the rule files that a configuration names. With a mistake in any, the rules stay as
/// they were.
pub fn load(manager: &Manager, config: &PrometheusConfig) -> Result<(), String> {
    let mut files = Vec::new();
    for pattern in &config.rule_files {
        let found = glob::matching_files(pattern);
        files.extend(found.map_err(|error| format!("{}: {error}", pattern.display()))?);
    }
    let source = GroupSource {
        files,
        interval: config.evaluation_interval,
        names: config.names,
        settings: Settings {
            external_labels: config.external_labels.clone(),
            query_offset: config.rule_query_offset,
        },
    };
    manager.update(&source).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("error loading rules: {}", texts.join("; "))
    })
}
