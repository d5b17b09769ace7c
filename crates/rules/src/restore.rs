//! After a start: since when alerts are pending, from the series that were written before.

use std::collections::HashMap;
use std::time::Duration;

use kittiwake_model::{
    Columns, Labels, LabelsBuilder, MatchOp, Matcher, QueryContext, Select, StoreError, TimeRange,
    is_stale_nan,
};

use crate::alert::Alert;
use crate::file::RuleKind;
use crate::group::{Environment, Group};
use crate::rule::Rule;

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Group {
    /// Takes up the states of its alerts as they were before the start, if that was not too long
    /// ago. To be called after an evaluation.
    pub(crate) fn restore(&self, now_ns: i64, environment: &Environment) {
        let start = environment.clock.monotonic_ns();
        for rule in self.rules.iter().filter(|r| r.kind == RuleKind::Alert) {
            // One that waits no longer than the grace period just waits.
            if rule.hold >= environment.grace_period {
                match former_states(rule, now_ns, environment) {
                    Ok(states) => take_up(rule, &states, now_ns, environment),
                    Err(error) => tracing::warn!(
                        file = self.file,
                        group = self.name,
                        rule = rule.name,
                        %error,
                        "since when alerts are pending could not be read"
                    ),
                }
            }
            rule.set_restored();
        }
        let took = environment.clock.monotonic_ns().saturating_sub(start);
        self.set_restore_took(Duration::from_nanos(took));
    }
}

/// The last sample of each `ALERTS_FOR_STATE` of a rule: time in ms and value.
fn former_states(
    rule: &Rule,
    now_ns: i64,
    environment: &Environment,
) -> Result<HashMap<Labels, (i64, f64)>, StoreError> {
    let mut wanted = LabelsBuilder::new();
    for (name, value) in &rule.labels {
        // What a template makes is another for each alert.
        if !value.contains("{{") {
            wanted.set(name, value);
        }
    }
    wanted.set("__name__", "ALERTS_FOR_STATE");
    wanted.set("alertname", &rule.name);
    let matchers = wanted.iter().filter(|(_, value)| !value.is_empty());
    let matchers: Result<Vec<Matcher>, _> = matchers
        .map(|(name, value)| Matcher::new(MatchOp::Equal, name, value))
        .collect();
    let matchers = matchers.map_err(|error| StoreError::Failed(error.to_string()))?;
    let from_ns = now_ns.saturating_sub(nanos(environment.outage_tolerance));
    let range = TimeRange::new(from_ns.div_euclid(1_000_000), now_ns.div_euclid(1_000_000));
    let context = QueryContext::default();
    let mut cursor = environment
        .store
        .select(&Select::new(matchers, range), &context)?;
    let mut states = HashMap::new();
    let mut columns = Columns::default();
    while let Some(labels) = cursor.next_series()? {
        columns.clear();
        let mut last = None;
        while cursor.next_batch(&mut columns)? {
            last = newest(&columns).or(last);
            columns.clear();
        }
        if let Some(last) = newest(&columns).or(last) {
            states.insert(labels.without(|name| name == "__name__"), last);
        }
    }
    Ok(states)
}

fn newest(columns: &Columns) -> Option<(i64, f64)> {
    Some((*columns.times.last()?, *columns.values.last()?))
}

fn take_up(
    rule: &Rule,
    states: &HashMap<Labels, (i64, f64)>,
    now_ns: i64,
    environment: &Environment,
) {
    let mut alerts = rule.alerts.lock();
    for alert in alerts.values_mut() {
        if let Some((time_ms, since_s)) = states.get(&alert.labels)
            && !is_stale_nan(*since_s)
        {
            let (hold_ns, grace_ns) = (nanos(rule.hold), nanos(environment.grace_period));
            restore_one(alert, (*time_ms, *since_s), now_ns, hold_ns, grace_ns);
        }
    }
}

/// The time that the server was down does not count as pending, and a pending alert gets the
/// grace period at least.
fn restore_one(
    alert: &mut Alert,
    (time_ms, since_s): (i64, f64),
    now_ns: i64,
    hold_ns: i64,
    grace_ns: i64,
) {
    let down_ns = time_ms.div_euclid(1000).saturating_mul(1_000_000_000);
    let since_ns = (since_s as i64).saturating_mul(1_000_000_000);
    let left_ns = hold_ns.saturating_sub(down_ns.saturating_sub(since_ns));
    alert.active_at_ns = if left_ns <= 0 {
        // It was firing, and will at the next evaluation if something is still wrong.
        since_ns
    } else if left_ns < grace_ns {
        now_ns.saturating_add(grace_ns).saturating_sub(hold_ns)
    } else {
        since_ns.saturating_add(now_ns.saturating_sub(down_ns))
    };
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::alert::AlertState;

    const S: i64 = 1_000_000_000;

    fn restored(down_s: i64, since_s: i64, hold_s: i64) -> i64 {
        let mut alert = Alert {
            state: AlertState::Pending,
            labels: Labels::empty(),
            annotations: Arc::default(),
            value: 1.0,
            active_at_ns: 0,
            fired_at_ns: None,
            resolved_at_ns: None,
            last_sent_ns: None,
            valid_until_ns: 0,
            keep_firing_since_ns: None,
        };
        let state = (down_s * 1000, since_s as f64);
        restore_one(&mut alert, state, 10_000 * S, hold_s * S, 600 * S);
        alert.active_at_ns / S
    }

    #[test]
    fn the_time_down_does_not_count() {
        // It was firing.
        assert_eq!(restored(9000, 5000, 3600), 5000);
        // Half of an hour was left.
        assert_eq!(restored(9000, 7200, 3600), 8200);
        // A minute was left: ten are given.
        assert_eq!(restored(9000, 5460, 3600), 10_000 + 600 - 3600);
    }
}
