//! The way of alerts: relabelled as the configuration says, then to everyone who takes them.

use std::sync::Arc;

use kittiwake_alertmanager::Alertmanager;
use kittiwake_alertmanager::alert::{Alert, Annotations};
use kittiwake_config::{PrometheusConfig, RelabelConfig, apply};
use kittiwake_model::Labels;
use kittiwake_rules::{AlertSink, OutgoingAlert};
use parking_lot::RwLock;

/// Hands alerts on.
#[derive(Default)]
pub struct AlertRouter {
    outputs: RwLock<Vec<Arc<dyn AlertSink>>>,
    labelling: RwLock<Labelling>,
}

#[derive(Default, Clone)]
struct Labelling {
    external_labels: Labels,
    rules: Vec<RelabelConfig>,
}

impl AlertRouter {
    /// From now on this one gets the alerts too.
    pub fn connect(&self, output: Arc<dyn AlertSink>) {
        self.outputs.write().push(output);
    }

    /// Takes what a configuration says of the labels of alerts.
    pub fn configure(&self, config: &PrometheusConfig) {
        *self.labelling.write() = Labelling {
            external_labels: config.external_labels.clone(),
            rules: config.alerting.alert_relabel_configs.clone(),
        };
    }
}

/// The Alertmanager in this program, as one who takes alerts.
pub struct BuiltIn(pub Arc<Alertmanager>);

impl AlertSink for BuiltIn {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        let updated_ns = self.0.now_ns();
        let alerts = alerts.into_iter().map(|alert| Alert {
            annotations: Annotations::from_pairs(alert.annotations.iter()),
            labels: alert.labels,
            starts_ns: alert.starts_at_ns,
            ends_ns: alert.ends_at_ns,
            generator_url: alert.generator_url,
            updated_ns,
            is_timeout: false,
        });
        match self.0.put(alerts) {
            Ok(0) => {}
            Ok(count) => tracing::error!(count, "the alertmanager has no room for more alerts"),
            Err(error) => tracing::error!(%error, "the alertmanager did not take alerts"),
        }
    }
}

/// Alerts with their labels as rules make them; those that a rule drops are left out.
pub(crate) fn relabelled(
    alerts: Vec<OutgoingAlert>,
    rules: &[RelabelConfig],
) -> Vec<OutgoingAlert> {
    if rules.is_empty() {
        return alerts;
    }
    let alerts = alerts.into_iter().filter_map(|mut alert| {
        let labels = apply(rules, alert.labels.to_builder())?;
        // Rules that make labels too long make the alert impossible to send.
        alert.labels = labels.build().ok()?;
        Some(alert)
    });
    alerts.collect()
}

impl AlertSink for AlertRouter {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        let outputs = self.outputs.read().clone();
        if outputs.is_empty() {
            return;
        }
        let labelling = self.labelling.read().clone();
        let named = alerts.into_iter().filter_map(|mut alert| {
            let mut labels = alert.labels.to_builder();
            for (name, value) in &labelling.external_labels {
                if alert.labels.get(name).is_none() {
                    labels.set(name, value);
                }
            }
            alert.labels = labels.build().ok()?;
            Some(alert)
        });
        let alerts = relabelled(named.collect(), &labelling.rules);
        if alerts.is_empty() {
            return;
        }
        for output in &outputs {
            output.send(alerts.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<OutgoingAlert>>);

    impl AlertSink for Kept {
        fn send(&self, alerts: Vec<OutgoingAlert>) {
            self.0.lock().extend(alerts);
        }
    }

    #[test]
    fn labels_are_added_and_changed_on_the_way() {
        let router = AlertRouter::default();
        let kept = Arc::new(Kept::default());
        router.connect(kept.clone());
        let text = "global: {external_labels: {dc: x, severity: low}}\nalerting:\n  alert_relabel_configs:\n  - {regex: replica, action: labeldrop}\n  - {source_labels: [alertname], regex: Quiet, action: drop}\n";
        let config = PrometheusConfig::parse(text, Path::new("")).unwrap();
        router.configure(&config);
        let alert = |name: &str| OutgoingAlert {
            labels: Labels::from_pairs([
                ("alertname", name),
                ("severity", "high"),
                ("replica", "1"),
            ])
            .unwrap(),
            annotations: Arc::default(),
            starts_at_ns: 1,
            ends_at_ns: 2,
            generator_url: String::new(),
        };
        router.send(vec![alert("A"), alert("Quiet")]);
        let sent = kept.0.lock();
        let labels: Vec<String> = sent.iter().map(|alert| alert.labels.to_string()).collect();
        assert_eq!(labels, ["{alertname=\"A\", dc=\"x\", severity=\"high\"}"]);
    }
}
