//! Inhibition: an alert that fires keeps others from being told.

use std::collections::HashMap;
use std::sync::Arc;

use kittiwake_model::Labels;

use crate::alert::{Alert, Fingerprint};
use crate::config::InhibitRule;
use crate::matchers::all_match;

/// The rules, each with the alerts that may inhibit by it.
#[derive(Debug)]
pub struct Inhibitor {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    rule: InhibitRule,
    /// By the labels that must be equal.
    sources: HashMap<Fingerprint, HashMap<Fingerprint, Arc<Alert>>>,
}

impl Rule {
    fn equal_part(&self, labels: &Labels) -> Fingerprint {
        let names = self.rule.equal.iter();
        Fingerprint::of_pairs(names.map(|name| {
            let value = labels.get(name).unwrap_or_default();
            (name.as_str(), value)
        }))
    }
}

impl Inhibitor {
    /// Rules without alerts.
    pub fn new(rules: &[InhibitRule]) -> Self {
        let rules = rules.iter().map(|rule| Rule {
            rule: rule.clone(),
            sources: HashMap::new(),
        });
        Self {
            rules: rules.collect(),
        }
    }

    /// Takes note of an alert.
    pub fn insert(&mut self, fingerprint: Fingerprint, alert: &Arc<Alert>) {
        for rule in &mut self.rules {
            if all_match(&rule.rule.source, &alert.labels) {
                let part = rule.equal_part(&alert.labels);
                let same = rule.sources.entry(part).or_default();
                same.insert(fingerprint, Arc::clone(alert));
            }
        }
    }

    /// The alert that inhibits labels, if there is one. An alert that both sides of a rule match
    /// does not inhibit others of that kind.
    pub fn inhibiting(&self, labels: &Labels, now_ns: i64) -> Option<Fingerprint> {
        self.rules.iter().find_map(|rule| {
            if !all_match(&rule.rule.target, labels) {
                return None;
            }
            let sources = rule.sources.get(&rule.equal_part(labels))?;
            let is_both = all_match(&rule.rule.source, labels);
            let inhibits = sources.iter().filter(|(_, source)| {
                let is_out = is_both && all_match(&rule.rule.target, &source.labels);
                !source.is_resolved_at(now_ns) && !is_out
            });
            inhibits.map(|(fingerprint, _)| *fingerprint).min()
        })
    }

    /// Forgets alerts that are over.
    pub fn collect_garbage(&mut self, now_ns: i64) {
        for rule in &mut self.rules {
            rule.sources.retain(|_, same| {
                same.retain(|_, alert| !alert.is_resolved_at(now_ns));
                !same.is_empty()
            });
        }
    }
}
