//! Groups of alerts: those of a route that have the same grouping labels.

use std::collections::HashMap;
use std::sync::Arc;

use kittiwake_model::Labels;

use crate::alert::{Alert, Fingerprint, labels_text};
use crate::config::{GroupBy, Route};
use crate::template::Told;

/// A group's route, by its place in the tree, and the fingerprint of its labels.
pub(crate) type GroupId = (usize, Fingerprint);

/// What is under way for a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flight {
    /// Tells this flush from others.
    pub serial: u64,
    /// Integrations that have not answered yet.
    pub pending: usize,
    pub has_failed: bool,
    /// The time it was decided what is over.
    pub at_ns: i64,
    /// Whether the next flush was due meanwhile.
    pub is_next_due: bool,
}

/// The alerts of a group.
#[derive(Debug)]
pub(crate) struct Group {
    pub labels: Labels,
    /// The route's key and the labels.
    pub key: Arc<str>,
    pub alerts: HashMap<Fingerprint, Arc<Alert>>,
    pub next_ns: i64,
    pub flight: Option<Flight>,
    /// The times that mute it, as it was when it was flushed last.
    pub muted_by: Vec<String>,
}

impl Group {
    pub(crate) fn new(labels: Labels, route: &Route, next_ns: i64) -> Self {
        Self {
            key: format!("{}:{}", route.key, labels_text(&labels)).into(),
            labels,
            alerts: HashMap::new(),
            next_ns,
            flight: None,
            muted_by: Vec::new(),
        }
    }

    /// All alerts in order, each with whether it is over by now.
    pub(crate) fn told(&self, now_ns: i64) -> Vec<Told> {
        let mut alerts: Vec<&Arc<Alert>> = self.alerts.values().collect();
        alerts.sort_by(|a, b| a.order(b));
        alerts
            .into_iter()
            .map(|alert| Told {
                alert: Arc::clone(alert),
                is_resolved: alert.is_resolved_at(now_ns),
            })
            .collect()
    }
}

/// The labels by which a route groups an alert.
pub(crate) fn group_labels(route: &Route, labels: &Labels) -> Labels {
    match &route.options.group_by {
        GroupBy::All => labels.clone(),
        GroupBy::Labels(names) => labels.filtered(|name| names.iter().any(|n| n == name)),
    }
}
