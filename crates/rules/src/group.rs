//! A group: rules that run one after the other, at the same time and again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kittiwake_env::Clock;
use kittiwake_model::{Labels, MetricsStore, stale_nan};
use parking_lot::{Mutex, RwLock};
use xxhash_rust::xxh64::xxh64;

use crate::alert::AlertSink;
use crate::alerting::{Moment, Outside};
use crate::engine::{Engine, Language, RecordError, Recorded, Recorder, SampleValue};
use crate::file::{GroupSpec, RuleKind};
use crate::functions::RuleFunctions;
use crate::rule::{Health, Rule};

/// What the configuration says of all groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Labels that templates see as `$externalLabels`.
    pub external_labels: Labels,
    /// How far back expressions look unless their group says otherwise.
    pub query_offset: Duration,
}

/// What groups run in.
pub struct Environment {
    /// Answers expressions.
    pub engine: Arc<dyn Engine>,
    /// Keeps what is recorded.
    pub recorder: Arc<dyn Recorder>,
    /// Has the alerts' states of before.
    pub store: Arc<dyn MetricsStore>,
    /// Where alerts go.
    pub sink: Arc<dyn AlertSink>,
    /// Says what time it is.
    pub clock: Arc<dyn Clock>,
    /// Where this server is found, without a slash at the end.
    pub external_url: String,
    /// Time after which a firing alert is told of again.
    pub resend_delay: Duration,
    /// How long the server may have been down for an alert's state to be taken up again.
    pub outage_tolerance: Duration,
    /// Time that is left to a pending alert after its state was taken up.
    pub grace_period: Duration,
    /// What the configuration says.
    pub settings: RwLock<Settings>,
}

/// Counts of a group.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// Runs that were due.
    pub iterations: u64,
    /// Runs that were left out since the one before took too long.
    pub missed: u64,
    /// Evaluations of rules.
    pub evaluations: u64,
    /// Those that failed.
    pub failures: u64,
    /// Samples of the last run.
    pub samples: u64,
    /// When the last run began, in ns.
    pub last_run_at_ns: Option<i64>,
    /// How long it took.
    pub last_took: Duration,
    /// How long its rules took.
    pub rules_took: Duration,
    /// How long it took to take up the alerts' states.
    pub restore_took: Duration,
}

/// What lives from one run to the next.
#[derive(Debug, Default)]
pub(crate) struct Previous {
    /// The series that each rule wrote.
    pub(crate) series: Vec<HashSet<Labels>>,
    /// Series of rules that are gone, to be ended.
    pub(crate) ending: Vec<Labels>,
}

/// A group with its state.
#[derive(Debug)]
pub struct Group {
    /// Its name, unique in the file.
    pub name: String,
    /// The file, as the configuration leads to it.
    pub file: String,
    /// What its expressions are written in.
    pub language: Language,
    /// How often it runs.
    pub interval: Duration,
    /// How far back its expressions look, where it says.
    pub query_offset: Option<Duration>,
    /// Series or alerts of a rule at most; 0 is no limit.
    pub limit: usize,
    /// The rules in order.
    pub rules: Vec<Rule>,
    /// Held while it runs.
    pub(crate) previous: Mutex<Previous>,
    figures: Mutex<Figures>,
    /// Evaluations by how long they took, for the histograms of all groups.
    pub(crate) evaluations_ns: AtomicU64,
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Group {
    /// A group of a file that runs each `interval` unless it says otherwise.
    pub fn new(file: &str, spec: &GroupSpec, interval: Duration) -> Self {
        let rules: Vec<Rule> = spec
            .rules
            .iter()
            .map(|rule| Rule::new(rule, &spec.labels))
            .collect();
        let previous = Previous {
            series: vec![HashSet::new(); rules.len()],
            ending: Vec::new(),
        };
        Self {
            name: spec.name.clone(),
            file: file.to_owned(),
            language: spec.language,
            interval: spec
                .interval
                .unwrap_or(interval)
                .max(Duration::from_millis(1)),
            query_offset: spec.query_offset,
            limit: usize::try_from(spec.limit).unwrap_or(0),
            rules,
            previous: Mutex::new(previous),
            figures: Mutex::default(),
            evaluations_ns: AtomicU64::new(0),
        }
    }

    /// What identifies it, also for Prometheus' metrics.
    pub fn key(&self) -> String {
        format!("{};{}", self.file, self.name)
    }

    /// Its counts.
    pub fn figures(&self) -> Figures {
        *self.figures.lock()
    }

    /// Whether another does the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.file == other.file
            && self.language == other.language
            && self.interval == other.interval
            && self.limit == other.limit
            && self.query_offset == other.query_offset
            && self.rules.len() == other.rules.len()
            && self
                .rules
                .iter()
                .zip(&other.rules)
                .all(|(a, b)| a.is_same(b))
    }

    /// The newest time at or before `now_ns` at which it is due. Groups are spread over their
    /// interval by the same hash as in Prometheus, so that both run them at the same times.
    pub fn slot(&self, now_ns: i64) -> i64 {
        let interval = nanos(self.interval);
        let offset = (self.hash() % interval.unsigned_abs()) as i64;
        let shifted = now_ns - offset;
        shifted - shifted % interval + offset
    }

    fn hash(&self) -> u64 {
        let mut packed = Vec::new();
        for text in ["file", &self.file, "name", &self.name] {
            if text.len() < 255 {
                packed.push(text.len() as u8);
            } else {
                packed.push(255);
                packed.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
            }
            packed.extend_from_slice(text.as_bytes());
        }
        xxh64(&packed, 0)
    }

    pub(crate) fn count_missed(&self, count: u64) {
        let mut figures = self.figures.lock();
        figures.missed += count;
        figures.iterations += count;
    }

    pub(crate) fn set_restore_took(&self, took: Duration) {
        self.figures.lock().restore_took = took;
    }

    /// The offset that is in force for it.
    pub(crate) fn offset_ns(&self, environment: &Environment) -> i64 {
        let default = || environment.settings.read().query_offset;
        nanos(self.query_offset.unwrap_or_else(default))
    }

    /// One run as the scheduler does it: counted, and with the time that it took.
    pub(crate) fn run(&self, time_ns: i64, environment: &Environment) {
        let (begun_ns, start) = (environment.clock.now_ns(), environment.clock.monotonic_ns());
        self.figures.lock().iterations += 1;
        self.evaluate(time_ns, environment);
        let took = environment.clock.monotonic_ns().saturating_sub(start);
        let mut figures = self.figures.lock();
        figures.last_took = Duration::from_nanos(took);
        figures.last_run_at_ns = Some(begun_ns);
        figures.rules_took = self.rules.iter().map(|rule| rule.status.lock().took).sum();
    }

    /// Evaluates all rules for a time.
    pub fn evaluate(&self, time_ns: i64, environment: &Environment) {
        let mut previous = self.previous.lock();
        let mut samples = 0;
        for (index, rule) in self.rules.iter().enumerate() {
            samples += self.evaluate_rule(index, rule, time_ns, environment, &mut previous);
        }
        self.figures.lock().samples = samples;
        let sample_ms = (time_ns - self.offset_ns(environment)).div_euclid(1_000_000);
        end_series(&mut previous.ending, sample_ms, environment);
    }

    /// Evaluates one rule; gives how many samples it made.
    fn evaluate_rule(
        &self,
        index: usize,
        rule: &Rule,
        time_ns: i64,
        environment: &Environment,
        previous: &mut Previous,
    ) -> u64 {
        let (begun_ns, start) = (environment.clock.now_ns(), environment.clock.monotonic_ns());
        self.figures.lock().evaluations += 1;
        let outcome = self.results(rule, time_ns, environment);
        let mut count = 0;
        let failed = match outcome {
            Ok(samples) => {
                count = samples.len() as u64;
                // Told before the samples are kept: a store that fails keeps no alert back.
                self.send_alerts(rule, time_ns, environment);
                self.record(index, samples, time_ns, environment, previous)
                    .err()
            }
            Err(error) => Some(error),
        };
        let took = environment.clock.monotonic_ns().saturating_sub(start);
        self.evaluations_ns.fetch_add(took, Ordering::Relaxed);
        let mut status = rule.status.lock();
        if let Some(error) = &failed {
            self.figures.lock().failures += 1;
            // Once for as long as it fails in the same way.
            if status.last_error.as_ref() != Some(error) {
                tracing::warn!(
                    file = self.file,
                    group = self.name,
                    rule = rule.name,
                    error,
                    "evaluating a rule failed"
                );
            }
        }
        status.health = if failed.is_some() {
            Health::Bad
        } else {
            Health::Good
        };
        status.last_error = failed;
        status.evaluated_at_ns = Some(begun_ns);
        status.took = Duration::from_nanos(took);
        count
    }

    fn results(
        &self,
        rule: &Rule,
        time_ns: i64,
        environment: &Environment,
    ) -> Result<Vec<Recorded>, String> {
        let sample_ms = (time_ns - self.offset_ns(environment)).div_euclid(1_000_000);
        let answer = rule.query.at(sample_ms)?;
        match rule.kind {
            RuleKind::Record => rule.record(answer, sample_ms, self.limit),
            RuleKind::Alert => {
                let at = Moment {
                    time_ns,
                    sample_ms,
                    limit: self.limit,
                };
                let settings = environment.settings.read().clone();
                let outside = Outside {
                    functions: RuleFunctions {
                        engine: Some(environment.engine.as_ref()),
                        language: self.language,
                        time_ms: time_ns.div_euclid(1_000_000),
                        external_url: &environment.external_url,
                    },
                    external_labels: &settings.external_labels,
                };
                rule.update_alerts(answer, at, &outside)
            }
        }
    }

    fn send_alerts(&self, rule: &Rule, time_ns: i64, environment: &Environment) {
        if rule.kind != RuleKind::Alert {
            return;
        }
        let outgoing = rule.alerts_to_send(
            time_ns,
            nanos(environment.resend_delay),
            nanos(self.interval),
            &environment.external_url,
        );
        if !outgoing.is_empty() {
            environment.sink.send(outgoing);
        }
    }

    /// Writes what a rule made, and ends the series that it makes no longer.
    fn record(
        &self,
        index: usize,
        mut samples: Vec<Recorded>,
        time_ns: i64,
        environment: &Environment,
        previous: &mut Previous,
    ) -> Result<(), String> {
        let made: HashSet<Labels> = samples.iter().map(|s| s.labels.clone()).collect();
        let time_ms = (time_ns - self.offset_ns(environment)).div_euclid(1_000_000);
        let made_before = previous.series.get_mut(index);
        let mut empty = HashSet::new();
        let made_before = made_before.unwrap_or(&mut empty);
        let mut ended: Vec<Recorded> = made_before
            .difference(&made)
            .map(|labels| stale(labels, time_ms))
            .collect();
        if samples.is_empty() && ended.is_empty() {
            return Ok(());
        }
        // In one request: whoever asks sees a series end where another begins.
        ended.sort_by(|a, b| a.labels.cmp(&b.labels));
        samples.append(&mut ended);
        match environment.recorder.record(&samples) {
            Err(RecordError::Failed(error)) => Err(error),
            done => {
                *made_before = made;
                done.map_err(|error| error.to_string())
            }
        }
    }

    /// Takes over the state of the group that it replaces. Waits until that has run.
    pub(crate) fn take_state(&self, from: &Self) {
        let mut theirs = from.previous.lock();
        let mut own = self.previous.lock();
        *self.figures.lock() = from.figures();
        // Rules of one name and labels are matched in order.
        let mut known: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, rule) in from.rules.iter().enumerate().rev() {
            known.entry(rule.identity()).or_default().push(index);
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let Some(at) = known.get_mut(&rule.identity()).and_then(Vec::pop) else {
                continue;
            };
            if let (Some(own), Some(theirs)) =
                (own.series.get_mut(index), theirs.series.get_mut(at))
            {
                *own = std::mem::take(theirs);
            }
            let old = &from.rules[at];
            if rule.kind == RuleKind::Alert && old.kind == RuleKind::Alert {
                rule.alerts.lock().clone_from(&old.alerts.lock());
            }
        }
        own.ending = std::mem::take(&mut theirs.ending);
        for series in &mut theirs.series {
            own.ending.extend(std::mem::take(series));
        }
    }

    /// The series that it wrote last, for them to be ended.
    pub(crate) fn take_series(&self) -> Vec<Labels> {
        let mut previous = self.previous.lock();
        let mut all = std::mem::take(&mut previous.ending);
        for series in &mut previous.series {
            all.extend(std::mem::take(series));
        }
        all
    }

    /// Counts of its alerts by state.
    pub fn alert_counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for alert in self.rules.iter().flat_map(Rule::active_alerts) {
            *counts.entry(alert.state.as_str()).or_default() += 1;
        }
        counts
    }
}

fn stale(labels: &Labels, time_ms: i64) -> Recorded {
    Recorded {
        labels: labels.clone(),
        time_ms,
        value: SampleValue::Float(stale_nan()),
    }
}

/// Writes the end of series; those that were not taken stay in the list.
pub(crate) fn end_series(ending: &mut Vec<Labels>, time_ms: i64, environment: &Environment) {
    if ending.is_empty() {
        return;
    }
    let ends: Vec<Recorded> = ending.iter().map(|labels| stale(labels, time_ms)).collect();
    match environment.recorder.record(&ends) {
        // What is refused has a newer sample already.
        Ok(()) | Err(RecordError::Refused { .. }) => ending.clear(),
        Err(RecordError::Failed(error)) => {
            tracing::warn!(error, "the end of series of former rules was not written");
        }
    }
}
