//! One alert: what is wrong with one thing.

use std::collections::BTreeMap;
use std::sync::Arc;

use kittiwake_model::Labels;

/// How long a resolved alert is still told of, in ns.
pub(crate) const RESOLVED_RETENTION_NS: i64 = 15 * 60 * 1_000_000_000;

/// Where an alert stands. The greater, the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertState {
    /// Its rule was not evaluated yet.
    Unknown,
    /// Nothing is wrong (any more).
    Inactive,
    /// Something is wrong, for less time than the rule waits.
    Pending,
    /// It is wrong for long enough.
    Firing,
}

impl AlertState {
    /// The name it has in Prometheus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// An alert of a rule. Times are in ns.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Where it stands.
    pub state: AlertState,
    /// What identifies it.
    pub labels: Labels,
    /// What is said of it; a text may be empty.
    pub annotations: Arc<BTreeMap<String, String>>,
    /// The expression's value at the last evaluation.
    pub value: f64,
    /// Since when something is wrong.
    pub active_at_ns: i64,
    /// Since when it fires.
    pub fired_at_ns: Option<i64>,
    /// When it ended.
    pub resolved_at_ns: Option<i64>,
    /// When it was last sent.
    pub last_sent_ns: Option<i64>,
    /// Until when its receivers may take it for firing.
    pub valid_until_ns: i64,
    /// Since when it fires only because the rule says to keep it.
    pub keep_firing_since_ns: Option<i64>,
}

impl Alert {
    pub(crate) fn needs_sending(&self, time_ns: i64, resend_delay_ns: i64) -> bool {
        if self.state == AlertState::Pending {
            return false;
        }
        let Some(sent) = self.last_sent_ns else {
            return true;
        };
        self.resolved_at_ns.is_some_and(|resolved| resolved > sent)
            || sent.saturating_add(resend_delay_ns) < time_ns
    }
}

/// An alert as it leaves. Times are in ns.
#[derive(Debug, Clone, PartialEq)]
pub struct OutgoingAlert {
    /// What identifies it, without external labels.
    pub labels: Labels,
    /// What is said of it.
    pub annotations: Arc<BTreeMap<String, String>>,
    /// Since when it fires.
    pub starts_at_ns: i64,
    /// When it ended, or until when it may be taken for firing.
    pub ends_at_ns: i64,
    /// Leads to the expression.
    pub generator_url: String,
}

/// Where alerts go.
pub trait AlertSink: Send + Sync {
    /// Takes alerts. Must not wait for a network: an evaluation stands behind it.
    fn send(&self, alerts: Vec<OutgoingAlert>);
}

/// Lets all alerts go.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSink;

impl AlertSink for NoSink {
    fn send(&self, _alerts: Vec<OutgoingAlert>) {}
}
