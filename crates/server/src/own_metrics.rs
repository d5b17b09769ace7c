//! The program's own metrics, as `/metrics` shows them.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use axum::http::StatusCode;
use kittiwake_logstore as logs;
use kittiwake_rules::Manager;
use kittiwake_tsdb as metrics;
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::ingest::Ingest;
use crate::live_config::LiveConfig;
use crate::rules::{self, Alertmanagers};
use crate::status_api::Nodes;

/// Counters of the server, and figures of the stores, read when they are asked for.
pub struct OwnMetrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    stored: IntCounterVec,
    repeated: IntCounterVec,
    repeated_frames: IntCounterVec,
    forgotten_senders: IntCounterVec,
    not_stored: IntCounterVec,
    failures: IntCounterVec,
    set_aside: IntCounterVec,
    gathered: IntCounterVec,
    gauges: IntGaugeVec,
    active: IntGaugeVec,
    pending_work: IntGauge,
    resident: IntGauge,
    cpu_ms: IntCounter,
    metrics: Arc<metrics::Store>,
    logs: Arc<logs::Store>,
    ingest: Arc<Ingest>,
    nodes: Arc<Nodes>,
    /// What is shown of rules and of the configuration.
    later: OnceLock<Later>,
}

/// What is there only when the server is.
struct Later {
    rules: Weak<Manager>,
    alertmanagers: Arc<Alertmanagers>,
    config: Arc<LiveConfig>,
}

impl OwnMetrics {
    /// Registers all.
    pub fn new(
        metrics: Arc<metrics::Store>,
        logs: Arc<logs::Store>,
        ingest: Arc<Ingest>,
        nodes: Arc<Nodes>,
    ) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "kittiwake_http_request_duration_seconds",
                "Time from a request's arrival to its answer's head.",
            )
            .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]),
            &["handler"],
        )?;
        registry.register(Box::new(durations.clone()))?;
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let cpu_ms = IntCounter::new(
            "kittiwake_process_cpu_milliseconds_total",
            "CPU time of this process, user and system.",
        )?;
        registry.register(Box::new(cpu_ms.clone()))?;
        let build = gauges(
            "kittiwake_build_info",
            "1, labelled with the version of this program.",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            requests: counters(
                "kittiwake_http_requests_total",
                "Requests answered, by what they asked for and status.",
                &["handler", "code"],
            )?,
            durations,
            stored: counters(
                "kittiwake_store_rows_total",
                "Samples and lines stored since the start.",
                &["store"],
            )?,
            repeated: counters(
                "kittiwake_store_repeated_rows_total",
                "Samples and lines that were there already.",
                &["store"],
            )?,
            repeated_frames: counters(
                "kittiwake_store_repeated_frames_total",
                "Requests of collectors that had been stored before.",
                &["store"],
            )?,
            forgotten_senders: counters(
                "kittiwake_store_forgotten_senders_total",
                "Collectors whose deliveries were forgotten to make room for others.",
                &["store"],
            )?,
            not_stored: counters(
                "kittiwake_rows_not_stored_total",
                "Samples, lines and what came with them that were not stored, by reason.",
                &["store", "reason"],
            )?,
            failures: counters(
                "kittiwake_store_failures_total",
                "Flushes, compactions and removals that failed.",
                &["store"],
            )?,
            set_aside: counters(
                "kittiwake_store_damaged_files_total",
                "Damaged files and frames that were set aside.",
                &["store"],
            )?,
            gathered: counters(
                "kittiwake_collector_events_total",
                "What the collector in this program read, skipped and could not read.",
                &["event"],
            )?,
            gauges: gauges(
                "kittiwake_store_bytes",
                "Bytes on disk, by store and kind of file.",
                &["store", "kind"],
            )?,
            active: gauges(
                "kittiwake_store_active",
                "What is in memory: series, streams, rows of the head, and files that are open.",
                &["store", "what"],
            )?,
            pending_work: gauge(
                "kittiwake_store_pending_work",
                "Flushes and compactions that are due or under way; 0 when nothing is left to do.",
            )?,
            resident: gauge(
                "kittiwake_process_resident_memory_bytes",
                "Memory of this process that is in RAM.",
            )?,
            cpu_ms,
            registry,
            metrics,
            logs,
            ingest,
            nodes,
            later: OnceLock::new(),
        })
    }

    /// Counts an answered request.
    pub fn request(&self, handler: &str, status: StatusCode, took: Duration) {
        self.requests
            .with_label_values(&[handler, status.as_str()])
            .inc();
        self.durations
            .with_label_values(&[handler])
            .observe(took.as_secs_f64());
    }

    /// All metrics in the text exposition.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.families(), &mut out)?;
        Ok(out)
    }

    /// All metrics.
    pub fn families(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.read_stores();
        if let Some((resident_bytes, cpu_ms)) = process() {
            self.resident.set(resident_bytes as i64);
            set(&self.cpu_ms, cpu_ms);
        }
        let mut families = self.registry.gather();
        if let Some(later) = self.later.get() {
            families.extend(rules::reload_families(&later.config.now()));
            families.extend(rules::notification_families(&later.alertmanagers));
            let manager = later.rules.upgrade();
            families.extend(manager.iter().flat_map(|manager| rules::families(manager)));
        }
        families
    }

    /// Shows the counts of rules, of their alerts, and how the configuration was read, too.
    pub fn show(
        &self,
        rules: &Arc<Manager>,
        alertmanagers: &Arc<Alertmanagers>,
        config: &Arc<LiveConfig>,
    ) {
        // It is called once.
        let _ = self.later.set(Later {
            rules: Arc::downgrade(rules),
            alertmanagers: Arc::clone(alertmanagers),
            config: Arc::clone(config),
        });
    }

    fn read_stores(&self) {
        let (m, l) = (self.metrics.stats(), self.logs.stats());
        for (store, accepted, repeated, frames, forgotten, failures, aside) in [
            (
                "metrics",
                m.accepted,
                m.repeated,
                m.repeated_frames,
                m.forgotten_senders,
                m.failures,
                m.set_aside,
            ),
            (
                "logs",
                l.accepted,
                l.repeated,
                l.repeated_frames,
                l.forgotten_senders,
                l.failures,
                l.set_aside,
            ),
        ] {
            set(&self.stored.with_label_values(&[store]), accepted);
            set(&self.repeated.with_label_values(&[store]), repeated);
            set(&self.repeated_frames.with_label_values(&[store]), frames);
            set(
                &self.forgotten_senders.with_label_values(&[store]),
                forgotten,
            );
            set(&self.failures.with_label_values(&[store]), failures);
            set(&self.set_aside.with_label_values(&[store]), aside);
        }
        let reason = |store: &str, reason: &str, count: u64| {
            set(&self.not_stored.with_label_values(&[store, reason]), count);
        };
        for (why, count) in metrics::Refusal::ALL.iter().zip(m.refused) {
            reason("metrics", why.as_str(), count);
        }
        for (why, count) in logs::Refusal::ALL.iter().zip(l.refused) {
            reason("logs", why.as_str(), count);
        }
        for (why, count) in self.ingest.dropped.counts() {
            reason("metrics", why.as_str(), count);
        }
        if let Some(sources) = self.nodes.embedded() {
            for (what, count) in sources.counts() {
                set(&self.gathered.with_label_values(&[what.as_str()]), count);
            }
        }
        for (store, kind, bytes) in [
            ("metrics", "blocks", m.block_bytes),
            ("metrics", "log", m.log_bytes),
            ("logs", "parts", l.part_bytes),
            ("logs", "log", l.log_bytes),
        ] {
            self.gauges
                .with_label_values(&[store, kind])
                .set(bytes as i64);
        }
        for (store, what, count) in [
            ("metrics", "series", m.series),
            ("metrics", "head_rows", m.head_samples),
            ("metrics", "exemplars", m.exemplars),
            ("metrics", "files", m.blocks),
            ("logs", "streams", l.streams),
            ("logs", "head_rows", l.head_lines),
            ("logs", "files", l.parts),
        ] {
            self.active
                .with_label_values(&[store, what])
                .set(count as i64);
        }
        self.pending_work
            .set((m.pending_work + l.pending_work) as i64);
    }
}

/// Brings a counter that follows another one up to date.
fn set(counter: &IntCounter, value: u64) {
    counter.inc_by(value.saturating_sub(counter.get()));
}

/// Resident bytes and CPU milliseconds of this process.
fn process() -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let pages: u64 = fields.get(21)?.parse().ok()?;
    // Ticks of 10 ms and pages of 4 KiB, as Linux has them on the machines that this runs on.
    Some((pages * 4096, ticks * 10))
}
