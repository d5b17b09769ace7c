//! Alerts on their way to the Alertmanagers that the configuration names.
//!
//! Alerts wait in a bounded queue; one task takes them in batches and sends each batch to every
//! Alertmanager at once. What could not be sent is not tried again here: an alert that fires is
//! handed out again after a while, and one that ended for 15 minutes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Method};
use bytes::Bytes;
use kittiwake_client::{Ask, Client};
use kittiwake_config::{AlertmanagerConfig, Endpoint, PrometheusConfig, glob, read_target_groups};
use kittiwake_rules::{AlertSink, OutgoingAlert};
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use super::api::time;
use super::router::relabelled;

/// Alerts that wait at most; the oldest leave.
pub const QUEUE_MAX: usize = 10_000;
/// Alerts of one request.
const BATCH_MAX: usize = 256;
/// Bytes of an answer at most; nothing in it matters.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How often files that list Alertmanagers are read at the latest.
const REFRESH: Duration = Duration::from_secs(30);

/// Sends alerts to Alertmanagers.
#[derive(Default)]
pub struct Alertmanagers {
    queue: Mutex<VecDeque<OutgoingAlert>>,
    wake: Notify,
    sets: RwLock<Vec<Arc<Set>>>,
    dropped: AtomicU64,
    counts: Mutex<BTreeMap<String, Counts>>,
}

/// Alertmanagers that are spoken to in one way.
struct Set {
    config: AlertmanagerConfig,
    client: Client,
    endpoints: Mutex<(Option<Instant>, Vec<Endpoint>)>,
}

/// What became of alerts for one Alertmanager.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Alerts sent.
    pub sent: u64,
    /// Alerts that could not be.
    pub failed: u64,
}

impl Set {
    /// Sends a body of JSON to one of them. The error says what went wrong.
    async fn post(&self, url: &str, body: Bytes) -> Result<(), String> {
        let uri = url.parse().map_err(|_| format!("{url:?} is no address"))?;
        let json = HeaderValue::from_static("application/json");
        let ask = Ask {
            method: Method::POST,
            uri,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]),
            body,
            body_bytes_max: ANSWER_BYTES_MAX,
        };
        match tokio::time::timeout(self.config.timeout, self.client.send(ask)).await {
            Ok(Ok(answer)) if answer.status.is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("it answers {}", answer.status)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                let seconds = self.config.timeout.as_secs_f64();
                Err(format!("no answer within {seconds} s"))
            }
        }
    }

    /// The Alertmanagers there are now.
    fn endpoints(&self) -> Vec<Endpoint> {
        let mut known = self.endpoints.lock();
        if known.0.is_some_and(|read| read.elapsed() < REFRESH) {
            return known.1.clone();
        }
        let mut groups = self.config.static_configs.clone();
        for pattern in self.config.file_sd_configs.iter().flat_map(|d| &d.files) {
            for file in glob::matching_files(pattern).unwrap_or_default() {
                match read_target_groups(&file) {
                    Ok(listed) => groups.extend(listed),
                    Err(error) => tracing::warn!(%error, "a list of Alertmanagers is passed over"),
                }
            }
        }
        let mut found = Vec::new();
        for group in &groups {
            match self.config.endpoints(group) {
                Ok(endpoints) => found.extend(endpoints),
                Err(error) => tracing::warn!(error, "a group of Alertmanagers is passed over"),
            }
        }
        found.sort();
        found.dedup();
        *known = (Some(Instant::now()), found);
        known.1.clone()
    }
}

impl AlertSink for Alertmanagers {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        if self.sets.read().is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        queue.extend(alerts);
        while queue.len() > QUEUE_MAX {
            queue.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        drop(queue);
        self.wake.notify_one();
    }
}

impl Alertmanagers {
    /// Takes the Alertmanagers of a configuration.
    pub fn configure(&self, config: &PrometheusConfig) {
        let sets = config.alerting.alertmanagers.iter().map(|config| {
            Arc::new(Set {
                config: config.clone(),
                client: Client::new(config.http.clone()),
                endpoints: Mutex::default(),
            })
        });
        *self.sets.write() = sets.collect();
    }

    /// The Alertmanagers there are now, and those that rules drop.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let sets = self.sets.read().clone();
        sets.iter().flat_map(|set| set.endpoints()).collect()
    }

    /// Alerts that wait, and alerts that nobody got.
    pub fn figures(&self) -> (usize, u64) {
        (
            self.queue.lock().len(),
            self.dropped.load(Ordering::Relaxed),
        )
    }

    /// What became of alerts, by the address of the Alertmanager.
    pub fn counts(&self) -> BTreeMap<String, Counts> {
        self.counts.lock().clone()
    }

    /// Sends what comes, until the server stops; then what is left.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let batch: Vec<OutgoingAlert> = {
                let mut queue = self.queue.lock();
                let count = queue.len().min(BATCH_MAX);
                queue.drain(..count).collect()
            };
            if !batch.is_empty() {
                self.send_batch(&batch).await;
                continue;
            }
            if *stop.borrow() {
                return;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                // The sender lives as long as the server.
                _ = stop.wait_for(|stopped| *stopped) => {}
            }
        }
    }

    async fn send_batch(&self, alerts: &[OutgoingAlert]) {
        let sets = self.sets.read().clone();
        let sending = sets.iter().map(|set| self.send_to(set, alerts));
        for (is_told, count) in futures_util::future::join_all(sending).await {
            if !is_told {
                self.dropped.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// Sends to all of a set; gives whether one of them took the alerts, and how many they were.
    async fn send_to(&self, set: &Arc<Set>, alerts: &[OutgoingAlert]) -> (bool, u64) {
        let alerts = relabelled(alerts.to_vec(), &set.config.alert_relabel_configs);
        let count = alerts.len() as u64;
        if alerts.is_empty() {
            return (true, 0);
        }
        let body: Value = alerts.iter().map(alert_json).collect();
        let body = Bytes::from(body.to_string());
        let looking = Arc::clone(set);
        let endpoints = tokio::task::spawn_blocking(move || looking.endpoints()).await;
        let endpoints = endpoints.unwrap_or_default().into_iter();
        let endpoints: Vec<Endpoint> = endpoints.filter(|one| !one.is_dropped).collect();
        let sending = endpoints.iter().map(|endpoint| {
            let body = body.clone();
            async move {
                let failed = set.post(&endpoint.url, body).await.err();
                let mut counts = self.counts.lock();
                let counts = counts.entry(endpoint.url.clone()).or_default();
                match failed {
                    None => counts.sent += count,
                    Some(error) => {
                        counts.failed += count;
                        tracing::error!(
                            alertmanager = endpoint.url,
                            count,
                            error,
                            "alerts were not sent"
                        );
                        return false;
                    }
                }
                true
            }
        });
        let told = futures_util::future::join_all(sending).await;
        (told.contains(&true), count)
    }
}

/// An alert in the form of Alertmanager's API.
fn alert_json(alert: &OutgoingAlert) -> Value {
    let labels: BTreeMap<&str, &str> = alert.labels.iter().collect();
    json!({
        "labels": labels,
        "annotations": *alert.annotations,
        "startsAt": time(Some(alert.starts_at_ns)),
        "endsAt": time(Some(alert.ends_at_ns)),
        "generatorURL": alert.generator_url,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kittiwake_model::Labels;

    use super::*;

    fn alert(number: usize) -> OutgoingAlert {
        OutgoingAlert {
            labels: Labels::from_pairs([("alertname", number.to_string())]).unwrap(),
            annotations: Arc::default(),
            starts_at_ns: 0,
            ends_at_ns: 1_500_000_000,
            generator_url: "http://k/graph".to_owned(),
        }
    }

    #[test]
    fn the_queue_is_bounded_and_the_oldest_leave() {
        let all = Alertmanagers::default();
        all.send(vec![alert(0)]);
        assert_eq!(all.figures(), (0, 0));
        let text = "alerting: {alertmanagers: [{static_configs: [{targets: ['h:1', 'i:2']}], relabel_configs: [{source_labels: [__address__], regex: 'i.*', action: drop}], path_prefix: /am/}]}";
        let config = PrometheusConfig::parse(text, Path::new("")).unwrap();
        all.configure(&config);
        let endpoints = all.endpoints();
        assert_eq!(endpoints[0].url, "http://h:1/am/api/v2/alerts");
        assert!(endpoints[1].is_dropped && !endpoints[0].is_dropped);
        all.send((0..QUEUE_MAX + 5).map(alert).collect());
        assert_eq!(all.figures(), (QUEUE_MAX, 5));
        let first = all.queue.lock().pop_front();
        assert_eq!(first.unwrap().labels.get("alertname"), Some("5"));
    }

    #[test]
    fn alerts_are_written_as_alertmanager_reads_them() {
        let written = alert_json(&alert(7));
        assert_eq!(
            written,
            json!({
                "labels": {"alertname": "7"},
                "annotations": {},
                "startsAt": "1970-01-01T00:00:00Z",
                "endsAt": "1970-01-01T00:00:01.5Z",
                "generatorURL": "http://k/graph",
            })
        );
    }
}
