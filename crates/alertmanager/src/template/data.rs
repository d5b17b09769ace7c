//! What templates and webhooks are given.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kittiwake_model::Labels;
use kittiwake_template::Value;
use serde_json::json;

use crate::alert::{Alert, Fingerprint};

/// One alert of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The alert.
    pub alert: Arc<Alert>,
    /// Whether it is over; else its end is not told.
    pub is_resolved: bool,
}

/// What a notification tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// The receiver's name.
    pub receiver: String,
    /// The alerts in order.
    pub alerts: Vec<Told>,
    /// The labels of the group.
    pub group_labels: Labels,
    /// Where this Alertmanager is.
    pub external_url: String,
}

impl Data {
    /// Whether an alert fires.
    pub fn is_firing(&self) -> bool {
        self.alerts.iter().any(|told| !told.is_resolved)
    }

    /// `firing` or `resolved`.
    pub fn status(&self) -> &'static str {
        status(!self.is_firing())
    }

    /// Labels that all alerts have.
    pub fn common_labels(&self) -> Labels {
        let mut alerts = self.alerts.iter().map(|told| &told.alert.labels);
        let Some(first) = alerts.next() else {
            return Labels::empty();
        };
        alerts.fold(first.clone(), |common, labels| {
            common.filtered(|name| common.get(name) == labels.get(name))
        })
    }

    /// Annotations that all alerts have.
    pub fn common_annotations(&self) -> Vec<(&str, &str)> {
        let mut alerts = self.alerts.iter().map(|told| &told.alert.annotations);
        let Some(first) = alerts.next() else {
            return Vec::new();
        };
        let mut common: Vec<(&str, &str)> = first.iter().collect();
        for other in alerts {
            // One that is missing is as an empty one, as in Go's maps.
            common.retain(|(name, value)| other.get(name).unwrap_or_default() == *value);
        }
        common
    }

    /// The receiver's name with what an expression would read otherwise escaped.
    fn receiver_quoted(&self) -> String {
        let mut out = String::new();
        for c in self.receiver.chars() {
            if "\\.+*?()|[]{}^$".contains(c) {
                out.push('\\');
            }
            out.push(c);
        }
        out
    }

    /// As templates see it.
    pub fn value(&self) -> Value {
        let fields = [
            ("Receiver", Value::text(self.receiver_quoted())),
            ("Status", Value::text(self.status())),
            ("Alerts", Value::list(self.alerts.iter().map(told_value))),
            ("GroupLabels", kv(self.group_labels.iter())),
            ("CommonLabels", kv(self.common_labels().iter())),
            ("CommonAnnotations", kv(self.common_annotations())),
            ("ExternalURL", Value::text(&self.external_url)),
        ];
        named(fields)
    }

    /// As a webhook gets it, of the first alerts only.
    pub fn json(&self, alerts_max: usize) -> serde_json::Value {
        let alerts: Vec<_> = self.alerts.iter().take(alerts_max).map(told_json).collect();
        json!({
            "receiver": self.receiver_quoted(),
            "status": self.status(),
            "alerts": alerts,
            "groupLabels": pairs_json(self.group_labels.iter()),
            "commonLabels": pairs_json(self.common_labels().iter()),
            "commonAnnotations": pairs_json(self.common_annotations()),
            "externalURL": self.external_url,
        })
    }
}

fn status(is_resolved: bool) -> &'static str {
    if is_resolved { "resolved" } else { "firing" }
}

fn named<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    Value::Map(Arc::new(BTreeMap::from(fields)), false)
}

fn kv<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    Value::texts(pairs)
}

fn told_value(told: &Told) -> Value {
    let alert = &told.alert;
    named([
        ("Status", Value::text(status(told.is_resolved))),
        ("Labels", kv(alert.labels.iter())),
        ("Annotations", kv(alert.annotations.iter())),
        ("StartsAt", Value::Time(alert.starts_ns, 0)),
        (
            "EndsAt",
            if told.is_resolved {
                Value::Time(alert.ends_ns, 0)
            } else {
                Value::ZERO_TIME
            },
        ),
        ("GeneratorURL", Value::text(&alert.generator_url)),
        (
            "Fingerprint",
            Value::text(Fingerprint::of(&alert.labels).to_string()),
        ),
    ])
}

fn told_json(told: &Told) -> serde_json::Value {
    let alert = &told.alert;
    json!({
        "status": status(told.is_resolved),
        "labels": pairs_json(alert.labels.iter()),
        "annotations": pairs_json(alert.annotations.iter()),
        "startsAt": rfc3339(alert.starts_ns),
        "endsAt": if told.is_resolved { rfc3339(alert.ends_ns) } else { ZERO_TIME.to_owned() },
        "generatorURL": alert.generator_url,
        "fingerprint": Fingerprint::of(&alert.labels).to_string(),
    })
}

/// Names and texts as an object.
pub fn pairs_json<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> serde_json::Value {
    let pairs = pairs.into_iter();
    pairs
        .map(|(name, value)| (name.to_owned(), serde_json::Value::from(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Go's zero time as JSON.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// A time with as many digits of its fraction as it has.
pub fn rfc3339(ns: i64) -> String {
    match Timestamp::from_nanosecond(i128::from(ns)) {
        _ if ns == i64::MIN => ZERO_TIME.to_owned(),
        Ok(time) => time.to_string(),
        Err(_) => ZERO_TIME.to_owned(),
    }
}
