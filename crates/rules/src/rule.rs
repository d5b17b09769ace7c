//! A rule: what it computes and what becomes of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kittiwake_model::Labels;
use parking_lot::Mutex;

use crate::alert::{Alert, AlertState};
use crate::engine::{Query, Recorded, Sample};
use crate::file::{RuleKind, RuleSpec};
use crate::text::{self, Text};

/// How the last evaluation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// There was none.
    Unknown,
    /// Well.
    Good,
    /// Not well.
    Bad,
}

impl Health {
    /// The name it has in Prometheus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "ok",
            Self::Bad => "err",
        }
    }
}

/// What is known of a rule's last evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How it went.
    pub health: Health,
    /// What was wrong.
    pub last_error: Option<String>,
    /// When it began, in ns.
    pub evaluated_at_ns: Option<i64>,
    /// How long it took.
    pub took: Duration,
}

/// A rule with its state.
#[derive(Debug)]
pub struct Rule {
    /// Recording or alerting.
    pub kind: RuleKind,
    /// The name of the series that it writes, or of its alerts.
    pub name: String,
    /// The expression.
    pub query: Arc<dyn Query>,
    /// How long something must be wrong before its alert fires.
    pub hold: Duration,
    /// How long an alert fires after nothing is wrong any more.
    pub keep_firing_for: Duration,
    /// Labels as written, the group's among them. An empty one takes a label away.
    pub labels: BTreeMap<String, String>,
    /// Annotations as written.
    pub annotations: BTreeMap<String, String>,
    pub(crate) label_texts: Vec<(String, Text)>,
    pub(crate) annotation_texts: Vec<(String, Text)>,
    pub(crate) status: Mutex<Status>,
    pub(crate) alerts: Mutex<BTreeMap<Labels, Alert>>,
    /// What went wrong with a template at the last evaluation.
    pub(crate) template_error: Mutex<Option<String>>,
    /// Whether the state before the start is known, so that the state now may be written.
    restored: AtomicBool,
}

impl Rule {
    pub(crate) fn new(spec: &RuleSpec, group_labels: &BTreeMap<String, String>) -> Self {
        let mut labels = group_labels.clone();
        labels.extend(spec.labels.clone());
        let parsed = |value: &str| match spec.kind {
            RuleKind::Alert => text::parse(&spec.name, value),
            RuleKind::Record => Text::Plain(Arc::from(value)),
        };
        Self {
            kind: spec.kind,
            name: spec.name.clone(),
            query: Arc::clone(&spec.query),
            hold: spec.hold,
            keep_firing_for: spec.keep_firing_for,
            label_texts: labels
                .iter()
                .map(|(name, value)| (name.clone(), parsed(value)))
                .collect(),
            annotation_texts: spec
                .annotations
                .iter()
                .map(|(name, value)| (name.clone(), parsed(value)))
                .collect(),
            labels,
            annotations: spec.annotations.clone(),
            status: Mutex::new(Status {
                health: Health::Unknown,
                last_error: None,
                evaluated_at_ns: None,
                took: Duration::ZERO,
            }),
            alerts: Mutex::default(),
            template_error: Mutex::default(),
            restored: AtomicBool::new(false),
        }
    }

    /// What identifies a rule in its group, for its state to go over to the next version.
    pub(crate) fn identity(&self) -> (&str, &BTreeMap<String, String>) {
        (&self.name, &self.labels)
    }

    /// Whether another rule does the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.name == other.name
            && self.query.text() == other.query.text()
            && self.hold == other.hold
            && self.keep_firing_for == other.keep_firing_for
            && self.labels == other.labels
            && self.annotations == other.annotations
    }

    /// How the last evaluation went.
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Its alerts, those that were resolved lately included.
    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts.lock().values().cloned().collect()
    }

    /// Its alerts that are pending or firing.
    pub fn active_alerts(&self) -> Vec<Alert> {
        let alerts = self.alerts.lock();
        let active = alerts
            .values()
            .filter(|alert| alert.resolved_at_ns.is_none());
        active.cloned().collect()
    }

    /// The worst state of its alerts.
    pub fn state(&self) -> AlertState {
        if self.status.lock().evaluated_at_ns.is_none() {
            return AlertState::Unknown;
        }
        let alerts = self.alerts.lock();
        let worst = alerts.values().map(|alert| alert.state).max();
        worst.unwrap_or(AlertState::Inactive)
    }

    /// Says that the state before the start is known, or that there was none: from now on the
    /// alerts' states are written.
    pub fn set_restored(&self) {
        self.restored.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_restored(&self) -> bool {
        self.restored.load(Ordering::Relaxed)
    }

    /// What a recording rule makes of an answer.
    pub(crate) fn record(
        &self,
        answer: Vec<Sample>,
        time_ms: i64,
        limit: usize,
    ) -> Result<Vec<Recorded>, String> {
        let mut recorded = Vec::with_capacity(answer.len());
        for sample in answer {
            let mut labels = sample.labels.to_builder();
            labels.set("__name__", &self.name);
            for (name, value) in &self.labels {
                labels.set(name, value);
            }
            recorded.push(Recorded {
                labels: labels.build().map_err(|error| error.to_string())?,
                time_ms,
                value: sample.value,
            });
        }
        let mut seen = std::collections::HashSet::with_capacity(recorded.len());
        if !recorded.iter().all(|sample| seen.insert(&sample.labels)) {
            return Err(
                "vector contains metrics with the same labelset after applying rule labels"
                    .to_owned(),
            );
        }
        if limit > 0 && recorded.len() > limit {
            let count = recorded.len();
            return Err(format!("exceeded limit of {limit} with {count} series"));
        }
        Ok(recorded)
    }
}
