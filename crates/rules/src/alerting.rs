//! What an alerting rule makes of an answer: alerts begin, fire and end.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use kittiwake_model::{Labels, LabelsBuilder};
use kittiwake_template::Value;

use crate::alert::{Alert, AlertState, OutgoingAlert, RESOLVED_RETENTION_NS};
use crate::engine::{Recorded, Sample, SampleValue};
use crate::functions::{RuleFunctions, value};
use crate::rule::Rule;
use crate::text;

/// Times and bounds of one evaluation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// The time that the evaluation stands for, in ns.
    pub(crate) time_ns: i64,
    /// The time of what is written, in ms: the group's query offset earlier.
    pub(crate) sample_ms: i64,
    /// Active alerts at most; 0 is no limit.
    pub(crate) limit: usize,
}

/// What templates see beside the sample.
pub(crate) struct Outside<'a> {
    pub(crate) functions: RuleFunctions<'a>,
    pub(crate) external_labels: &'a Labels,
}

fn nanos(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Rule {
    /// Brings the alerts up to date and gives the series that tell of them.
    pub(crate) fn update_alerts(
        &self,
        answer: Vec<Sample>,
        at: Moment,
        outside: &Outside<'_>,
    ) -> Result<Vec<Recorded>, String> {
        let mut found = self.found(answer, at, outside)?;
        let mut alerts = self.alerts.lock();
        for (labels, alert) in &mut found {
            match alerts.entry(labels.clone()) {
                Entry::Occupied(mut known) if known.get().state != AlertState::Inactive => {
                    let known = known.get_mut();
                    known.value = alert.value;
                    known.annotations = Arc::clone(&alert.annotations);
                }
                Entry::Occupied(mut ended) => {
                    ended.insert(alert.clone());
                }
                Entry::Vacant(free) => {
                    free.insert(alert.clone());
                }
            }
        }
        let mut written = Vec::new();
        let mut active = 0;
        alerts.retain(|labels, alert| {
            let (stays, is_active) = self.advance(alert, found.contains_key(labels), at.time_ns);
            if is_active {
                active += 1;
                if self.is_restored() {
                    self.write(alert, at.sample_ms, &mut written);
                }
            }
            stays
        });
        if at.limit > 0 && active > at.limit {
            alerts.clear();
            let limit = at.limit;
            return Err(format!("exceeded limit of {limit} with {active} alerts"));
        }
        Ok(written)
    }

    /// What an answer says is wrong now.
    fn found(
        &self,
        answer: Vec<Sample>,
        at: Moment,
        outside: &Outside<'_>,
    ) -> Result<BTreeMap<Labels, Alert>, String> {
        let mut found = BTreeMap::new();
        let texts = self.label_texts.iter().chain(&self.annotation_texts);
        let has_templates = texts.into_iter().any(|(_, text)| text.is_template());
        let mut failed: Option<String> = None;
        let mut report = |error: &str| {
            failed.get_or_insert_with(|| error.to_owned());
        };
        for sample in answer {
            let functions = &outside.functions;
            // Most rules have plain texts alone.
            let data = if has_templates {
                text::data(
                    &sample.labels,
                    outside.external_labels,
                    functions.external_url,
                    value(&sample.value),
                )
            } else {
                Value::Nil
            };
            let mut labels = sample.labels.to_builder();
            labels.remove("__name__");
            for (name, text) in &self.label_texts {
                labels.set(
                    name,
                    &text.expand(&self.name, &data, functions, &mut report),
                );
            }
            labels.set("alertname", &self.name);
            let annotations = self.annotation_texts.iter();
            let annotations = annotations
                .map(|(name, text)| {
                    (
                        name.clone(),
                        text.expand(&self.name, &data, functions, &mut report),
                    )
                })
                .collect();
            let labels = labels.build().map_err(|error| error.to_string())?;
            let alert = Alert {
                state: AlertState::Pending,
                labels: labels.clone(),
                annotations: Arc::new(annotations),
                value: sample.value.float(),
                active_at_ns: at.time_ns,
                fired_at_ns: None,
                resolved_at_ns: None,
                last_sent_ns: None,
                valid_until_ns: 0,
                keep_firing_since_ns: None,
            };
            if found.insert(labels, alert).is_some() {
                return Err(
                    "vector contains metrics with the same labelset after applying alert labels"
                        .to_owned(),
                );
            }
        }
        self.report_template(failed);
        Ok(found)
    }

    /// Logs what went wrong with a template, once for as long as it goes wrong in the same way.
    fn report_template(&self, failed: Option<String>) {
        let mut known = self.template_error.lock();
        if failed == *known {
            return;
        }
        if let Some(error) = &failed {
            tracing::warn!(alert = self.name, error, "a template of an alert failed");
        }
        *known = failed;
    }

    /// Moves one alert on; gives whether it stays known and whether it is active.
    fn advance(&self, alert: &mut Alert, is_wrong: bool, time_ns: i64) -> (bool, bool) {
        let (hold_ns, keep_ns) = (nanos(self.hold), nanos(self.keep_firing_for));
        let mut stays = true;
        if is_wrong {
            alert.keep_firing_since_ns = None;
        } else {
            let mut is_kept = false;
            if alert.state == AlertState::Firing && keep_ns > 0 {
                let since = *alert.keep_firing_since_ns.get_or_insert(time_ns);
                is_kept = time_ns.saturating_sub(since) < keep_ns;
            }
            // A resolved alert is kept for a while, so that its end is told also to a receiver
            // that could not be reached, or that forgot.
            let is_over = alert
                .resolved_at_ns
                .is_some_and(|at| time_ns.saturating_sub(at) > RESOLVED_RETENTION_NS);
            stays = alert.state != AlertState::Pending && !is_over;
            if alert.state != AlertState::Inactive && !is_kept {
                alert.state = AlertState::Inactive;
                alert.resolved_at_ns = Some(time_ns);
            }
            if !is_kept {
                return (stays, false);
            }
        }
        let lasted_ns = time_ns.saturating_sub(alert.active_at_ns);
        if alert.state == AlertState::Pending && lasted_ns >= hold_ns {
            alert.state = AlertState::Firing;
            alert.fired_at_ns = Some(time_ns);
        }
        // The rule was changed to wait longer.
        if alert.state == AlertState::Firing && lasted_ns < hold_ns {
            alert.state = AlertState::Pending;
            alert.fired_at_ns = None;
            alert.last_sent_ns = None;
            alert.keep_firing_since_ns = None;
        }
        (stays, true)
    }

    /// The series that tell of an alert.
    fn write(&self, alert: &Alert, time_ms: i64, into: &mut Vec<Recorded>) {
        let mut labels = LabelsBuilder::new();
        for (name, value) in &self.labels {
            labels.set(name, value);
        }
        for (name, value) in &alert.labels {
            labels.set(name, value);
        }
        labels.set("alertname", &self.name);
        let since_s = alert.active_at_ns.div_euclid(1_000_000_000);
        for (metric, value) in [("ALERTS", 1.0), ("ALERTS_FOR_STATE", since_s as f64)] {
            labels.set("__name__", metric);
            if metric == "ALERTS" {
                labels.set("alertstate", alert.state.as_str());
            } else {
                labels.remove("alertstate");
                if let Some(own) = alert.labels.get("alertstate") {
                    labels.set("alertstate", own);
                }
            }
            // Two more names than the alert itself has: too long only where it was before.
            if let Ok(labels) = labels.build() {
                into.push(Recorded {
                    labels,
                    time_ms,
                    value: SampleValue::Float(value),
                });
            }
        }
    }

    /// The alerts that are to be sent now; they count as sent.
    pub(crate) fn alerts_to_send(
        &self,
        time_ns: i64,
        resend_delay_ns: i64,
        interval_ns: i64,
        external_url: &str,
    ) -> Vec<OutgoingAlert> {
        let mut alerts = self.alerts.lock();
        let mut outgoing = Vec::new();
        for alert in alerts.values_mut() {
            if !alert.needs_sending(time_ns, resend_delay_ns) {
                continue;
            }
            alert.last_sent_ns = Some(time_ns);
            // Two evaluations, or two sendings, may fail.
            let longest = interval_ns.max(resend_delay_ns);
            alert.valid_until_ns = time_ns.saturating_add(longest.saturating_mul(4));
            outgoing.push(OutgoingAlert {
                labels: alert.labels.clone(),
                annotations: Arc::clone(&alert.annotations),
                starts_at_ns: alert.fired_at_ns.unwrap_or(0),
                ends_at_ns: alert.resolved_at_ns.unwrap_or(alert.valid_until_ns),
                generator_url: format!(
                    "{external_url}{}",
                    crate::functions::table_link(self.query.text())
                ),
            });
        }
        outgoing
    }
}
