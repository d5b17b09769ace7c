//! Counts of what happened, by the names that Alertmanager gives them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A count's name, and its labels as they are printed.
type Key = (&'static str, String);

/// Counts, each with its labels.
#[derive(Debug, Default)]
pub struct Stats {
    counts: BTreeMap<Key, u64>,
}

/// What each count means.
const HELP: [(&str, &str); 8] = [
    (
        "alertmanager_alerts_received_total",
        "The total number of received alerts.",
    ),
    (
        "alertmanager_alerts_invalid_total",
        "The total number of received alerts that were invalid.",
    ),
    (
        "alertmanager_notifications_total",
        "The total number of attempted notifications.",
    ),
    (
        "alertmanager_notifications_failed_total",
        "The total number of failed notifications.",
    ),
    (
        "alertmanager_notification_requests_total",
        "The total number of attempted notification requests.",
    ),
    (
        "alertmanager_notification_requests_failed_total",
        "The total number of failed notification requests.",
    ),
    (
        "alertmanager_notifications_suppressed_total",
        "The total number of notifications suppressed for being silenced, inhibited, outside of active time intervals or within muted time intervals.",
    ),
    (
        "alertmanager_dropped_total",
        "What was not taken since a limit was reached.",
    ),
];

impl Stats {
    /// Counts something.
    pub fn add(&mut self, name: &'static str, labels: &[(&str, &str)], count: u64) {
        if count > 0 {
            let shown: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}={value:?}"))
                .collect();
            *self.counts.entry((name, shown.join(","))).or_default() += count;
        }
    }

    /// A count.
    pub fn get(&self, name: &'static str, labels: &str) -> u64 {
        let count = self.counts.get(&(name, labels.to_owned()));
        count.copied().unwrap_or(0)
    }

    /// All counts as an exposition.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut last = "";
        for ((name, labels), count) in &self.counts {
            if *name != last {
                let help = HELP.iter().find(|(known, _)| known == name);
                let help = help.map_or("", |(_, help)| help);
                // Writing to a string cannot fail.
                let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
                last = name;
            }
            let _ = match labels.as_str() {
                "" => writeln!(out, "{name} {count}"),
                labels => writeln!(out, "{name}{{{labels}}} {count}"),
            };
        }
        out
    }
}
