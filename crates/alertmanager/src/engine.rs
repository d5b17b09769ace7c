//! What happens to alerts, as a machine without a clock of its own: it is told the time, and
//! says which notifications are due. Who runs it sends them and tells how they went.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kittiwake_env::{Clock, Fs, Rng};
use kittiwake_journal::{Journal, JournalError, Sequence};
use kittiwake_model::Labels;

use crate::alert::{Alert, Fingerprint};
use crate::config::{Config, Route};
use crate::group::{Flight, Group, GroupId, group_labels};
use crate::inhibit::Inhibitor;
use crate::keep::Keep;
use crate::nflog::{self, Entry, NotificationLog};
use crate::record::{self, Record};
use crate::silence::{Silence, SilenceError, SilenceLimits, Silences};
use crate::stats::Stats;
use crate::template::{Data, Told};

/// A flush has at least this long.
const FLUSH_NS_MIN: i64 = 10_000_000_000;

/// How it is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long silences and what was told are kept.
    pub retention: Duration,
    /// Bounds of silences.
    pub silences: SilenceLimits,
    /// Alerts at most.
    pub alerts_max: usize,
    /// Groups at most.
    pub groups_max: usize,
    /// How often alerts that are over are forgotten.
    pub gc_interval: Duration,
    /// How often groups without alerts are forgotten.
    pub maintenance_interval: Duration,
    /// Where users find this Alertmanager.
    pub external_url: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Duration::from_hours(120),
            silences: SilenceLimits::default(),
            alerts_max: 1_000_000,
            groups_max: 200_000,
            gc_interval: Duration::from_mins(30),
            maintenance_interval: Duration::from_secs(30),
            external_url: String::new(),
        }
    }
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It cannot be kept on disk.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A silence is not taken.
    #[error(transparent)]
    Silence(#[from] SilenceError),
}

/// A notification that is due.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The place of the receiver in the configuration.
    pub receiver: usize,
    /// The place of the integration in the receiver.
    pub integration: usize,
    /// The key of its group.
    pub group_key: Arc<str>,
    /// What is told.
    pub data: Data,
    /// When it is too late to try again, in ns.
    pub deadline_ns: i64,
    group: GroupId,
    serial: u64,
    generation: u64,
    key: String,
    entry: Told64,
    repeat_ns: i64,
}

#[derive(Debug, Clone, Default)]
struct Told64 {
    firing: Vec<u64>,
    resolved: Vec<u64>,
}

impl Told64 {
    fn of(told: &[Told]) -> Self {
        let mut hashes = Self::default();
        for told in told {
            let hash = Fingerprint::of(&told.alert.labels).0;
            if told.is_resolved {
                hashes.resolved.push(hash);
            } else {
                hashes.firing.push(hash);
            }
        }
        hashes
    }
}

/// An alert, and the end that stands on disk.
#[derive(Debug)]
struct Stored {
    alert: Arc<Alert>,
    kept_ends_ns: i64,
}

/// What mutes an alert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Muting {
    /// Silences.
    pub silenced_by: Vec<String>,
    /// The alert that inhibits it.
    pub inhibited_by: Option<Fingerprint>,
}

/// A group as the API shows it.
#[derive(Debug, Clone)]
pub struct GroupView {
    /// The receiver's name.
    pub receiver: String,
    /// What makes the group.
    pub labels: Labels,
    /// Its alerts.
    pub alerts: Vec<(Fingerprint, Arc<Alert>)>,
    /// The times that mute it.
    pub muted_by: Vec<String>,
}

/// All state.
#[derive(Debug)]
pub struct Engine {
    config: Arc<Config>,
    options: Options,
    alerts: HashMap<Fingerprint, Stored>,
    silences: Silences,
    log: NotificationLog,
    inhibitor: Inhibitor,
    groups: HashMap<GroupId, Group>,
    /// Groups by the time of their next flush.
    due: BTreeSet<(i64, GroupId)>,
    keep: Keep,
    stats: Stats,
    generation: u64,
    serial: u64,
    gc_ns: i64,
    maintenance_ns: i64,
}

fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Engine {
    /// Opens what was kept in a directory.
    pub fn open(
        fs: Arc<dyn Fs>,
        clock: &Arc<dyn Clock>,
        dir: &Path,
        config: Arc<Config>,
        options: Options,
    ) -> Result<Self, EngineError> {
        let now_ns = clock.now_ns();
        let mut silences = Silences::new(ns(options.retention), options.silences);
        let mut log = NotificationLog::default();
        let mut alerts: HashMap<Fingerprint, Stored> = HashMap::new();
        let keep = Keep::open(fs, Arc::clone(clock), dir, |record| match record {
            Record::Silence(silence) => silences.restore(silence),
            Record::Told(key, entry) => log.set(key, entry),
            Record::Alert(alert) => {
                let stored = Stored {
                    kept_ends_ns: alert.ends_ns,
                    alert: Arc::new(alert),
                };
                alerts.insert(Fingerprint::of(&stored.alert.labels), stored);
            }
        })?;
        silences.collect_garbage(now_ns);
        log.collect_garbage(now_ns);
        // What ended within the time of a collection may still have to be told.
        let oldest_ns = now_ns.saturating_sub(ns(options.retention));
        alerts.retain(|_, stored| stored.alert.ends_ns > oldest_ns);
        let mut engine = Self {
            inhibitor: Inhibitor::new(&config.inhibit_rules),
            config,
            gc_ns: now_ns.saturating_add(ns(options.gc_interval)),
            maintenance_ns: now_ns.saturating_add(ns(options.maintenance_interval)),
            options,
            alerts,
            silences,
            log,
            groups: HashMap::new(),
            due: BTreeSet::new(),
            keep,
            stats: Stats::default(),
            generation: 0,
            serial: 0,
        };
        engine.dispatch_all(now_ns);
        Ok(engine)
    }

    /// The configuration in force.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The journal, to be synced beside the engine.
    pub fn journal(&self) -> Arc<Journal> {
        self.keep.journal()
    }

    /// Counts of what happened.
    pub fn stats(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// How many alerts, groups and silences there are.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let silences = self.silences.all().count();
        (self.alerts.len(), self.groups.len(), silences)
    }

    /// Goes on with another configuration. What is under way counts no more; it is told again
    /// where nobody was told.
    pub fn reload(&mut self, config: Arc<Config>, now_ns: i64) {
        self.config = config;
        self.inhibitor = Inhibitor::new(&self.config.inhibit_rules);
        self.groups.clear();
        self.due.clear();
        self.generation += 1;
        self.dispatch_all(now_ns);
    }

    /// Which configuration a delivery belongs to.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn dispatch_all(&mut self, now_ns: i64) {
        let alerts: Vec<Arc<Alert>> = self.alerts.values().map(|s| Arc::clone(&s.alert)).collect();
        for alert in alerts {
            self.dispatch(&alert, now_ns);
        }
    }

    /// Takes a report of an alert. False when there are too many.
    pub fn put(&mut self, alert: Alert, now_ns: i64) -> Result<bool, EngineError> {
        let fingerprint = Fingerprint::of(&alert.labels);
        let known = self.alerts.get(&fingerprint);
        if known.is_none() && self.alerts.len() >= self.options.alerts_max {
            self.stats
                .add("alertmanager_dropped_total", &[("reason", "alerts")], 1);
            return Ok(false);
        }
        let alert = Alert::after(known.map(|s| &s.alert), Arc::new(alert), now_ns);
        let mut kept_ends_ns = known.map_or(i64::MIN, |s| s.kept_ends_ns);
        if is_news(known, &alert, now_ns) {
            self.keep.append(&record::alert(&alert))?;
            kept_ends_ns = alert.ends_ns;
        }
        let stored = Stored {
            alert: Arc::clone(&alert),
            kept_ends_ns,
        };
        self.alerts.insert(fingerprint, stored);
        self.dispatch(&alert, now_ns);
        Ok(true)
    }

    /// Puts an alert into its groups.
    fn dispatch(&mut self, alert: &Arc<Alert>, now_ns: i64) {
        let fingerprint = Fingerprint::of(&alert.labels);
        self.inhibitor.insert(fingerprint, alert);
        let config = Arc::clone(&self.config);
        for route in config.route.matching(&alert.labels) {
            let labels = group_labels(route, &alert.labels);
            let id = (route.index, Fingerprint::of(&labels));
            if let Some(group) = self.groups.get_mut(&id) {
                group.alerts.insert(fingerprint, Arc::clone(alert));
                continue;
            }
            if self.groups.len() >= self.options.groups_max {
                self.stats
                    .add("alertmanager_dropped_total", &[("reason", "groups")], 1);
                tracing::error!(
                    limit = self.options.groups_max,
                    "too many groups of alerts, no new one is made"
                );
                continue;
            }
            let wait_ns = ns(route.options.group_wait);
            let is_old = alert.starts_ns.saturating_add(wait_ns) < now_ns;
            let next_ns = if is_old {
                now_ns
            } else {
                now_ns.saturating_add(wait_ns)
            };
            let mut group = Group::new(labels, route, next_ns);
            group.alerts.insert(fingerprint, Arc::clone(alert));
            self.groups.insert(id, group);
            self.due.insert((next_ns, id));
        }
    }

    /// When there is something to do next, in ns.
    pub fn next_ns(&self) -> i64 {
        let first = self.due.first().map_or(i64::MAX, |(at, _)| *at);
        first.min(self.gc_ns).min(self.maintenance_ns)
    }

    /// What is due by now.
    pub fn poll(&mut self, now_ns: i64) -> Vec<Delivery> {
        self.maintain(now_ns);
        let mut all = Vec::new();
        while let Some((at, id)) = self.due.first().copied().filter(|(at, _)| *at <= now_ns) {
            self.due.remove(&(at, id));
            self.flush(id, now_ns, &mut all);
        }
        all
    }

    fn maintain(&mut self, now_ns: i64) {
        if now_ns >= self.maintenance_ns {
            self.maintenance_ns = now_ns.saturating_add(ns(self.options.maintenance_interval));
            let due = &mut self.due;
            self.groups.retain(|id, group| {
                let stays = !group.alerts.is_empty() || group.flight.is_some();
                if !stays {
                    due.remove(&(group.next_ns, *id));
                }
                stays
            });
            if self.keep.has_grown() {
                self.rewrite();
            }
        }
        if now_ns >= self.gc_ns {
            self.gc_ns = now_ns.saturating_add(ns(self.options.gc_interval));
            self.alerts
                .retain(|_, stored| !stored.alert.is_resolved_at(now_ns));
            self.inhibitor.collect_garbage(now_ns);
            self.silences.collect_garbage(now_ns);
            self.log.collect_garbage(now_ns);
        }
    }

    /// Writes the journal anew with what holds.
    fn rewrite(&mut self) {
        let silences = self.silences.all().map(|s| record::silence(s));
        let told = self.log.all().map(|(key, entry)| record::told(key, entry));
        let alerts = self.alerts.values().map(|s| record::alert(&s.alert));
        if let Err(error) = self.keep.rewrite(silences.chain(told).chain(alerts)) {
            tracing::error!(%error, "the alertmanager's journal cannot be written anew");
        }
    }

    fn route(&self, index: usize) -> Option<&Route> {
        let mut found = None;
        self.config.route.walk(&mut |route| {
            if route.index == index {
                found = Some(route);
            }
        });
        found
    }

    /// Works out what a group has to tell.
    fn flush(&mut self, id: GroupId, now_ns: i64, all: &mut Vec<Delivery>) {
        let config = Arc::clone(&self.config);
        let Some(options) = self.route(id.0).map(|route| route.options.clone()) else {
            return;
        };
        let interval_ns = ns(options.group_interval);
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if let Some(flight) = &mut group.flight {
            // It goes on once that is done.
            flight.is_next_due = true;
            return;
        }
        group.next_ns = now_ns.saturating_add(interval_ns);
        self.due.insert((group.next_ns, id));
        if group.alerts.is_empty() {
            return;
        }
        let all_told = group.told(now_ns);
        let told = self.audible(
            id,
            all_told,
            (&options.active_time_intervals, &options.mute_time_intervals),
            now_ns,
        );
        let receiver = config
            .receivers
            .iter()
            .position(|receiver| receiver.name == options.receiver);
        self.serial += 1;
        let serial = self.serial;
        let repeat_ns = ns(options.repeat_interval);
        let deadline_ns = now_ns.saturating_add(interval_ns.max(FLUSH_NS_MIN));
        let before = all.len();
        if let (Some(receiver), Some(group), false) =
            (receiver, self.groups.get(&id), told.is_empty())
        {
            let (group_key, group_labels) = (Arc::clone(&group.key), group.labels.clone());
            let entry = Told64::of(&told);
            let integrations = config.receivers[receiver].integrations.iter();
            for (at, integration) in integrations.enumerate() {
                let key = nflog::key(&group_key, &options.receiver, &integration.name());
                let needs = self.log.needs_telling(
                    &key,
                    &entry.firing,
                    &entry.resolved,
                    integration.send_resolved,
                    (now_ns, repeat_ns),
                );
                if !needs {
                    continue;
                }
                self.stats.add(
                    "alertmanager_notifications_total",
                    &[("integration", integration.kind)],
                    1,
                );
                if !integration.send_resolved && entry.firing.is_empty() {
                    // Nothing to tell, but that nothing fires any more is noted.
                    self.note(key, &entry, repeat_ns, now_ns);
                    continue;
                }
                let told = told.iter();
                let alerts = told
                    .filter(|told| integration.send_resolved || !told.is_resolved)
                    .cloned()
                    .collect();
                all.push(Delivery {
                    receiver,
                    integration: at,
                    group_key: Arc::clone(&group_key),
                    data: Data {
                        receiver: options.receiver.clone(),
                        alerts,
                        group_labels: group_labels.clone(),
                        external_url: self.options.external_url.clone(),
                    },
                    deadline_ns,
                    group: id,
                    serial,
                    generation: self.generation,
                    key,
                    entry: entry.clone(),
                    repeat_ns,
                });
            }
        }
        let pending = all.len() - before;
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.flight = Some(Flight {
            serial,
            pending,
            has_failed: false,
            at_ns: now_ns,
            is_next_due: false,
        });
        if pending == 0 {
            self.land(id, now_ns);
        }
    }

    /// Those of a group's alerts that nothing mutes.
    fn audible(
        &mut self,
        id: GroupId,
        told: Vec<Told>,
        (active, mute): (&[String], &[String]),
        now_ns: i64,
    ) -> Vec<Told> {
        let mut suppressed = |count: usize, reason: &str| {
            self.stats.add(
                "alertmanager_notifications_suppressed_total",
                &[("reason", reason)],
                count as u64,
            );
        };
        let before = told.len();
        let mut told = told;
        told.retain(|told| {
            self.inhibitor
                .inhibiting(&told.alert.labels, now_ns)
                .is_none()
        });
        suppressed(before - told.len(), "inhibition");
        if told.is_empty() {
            return told;
        }
        let config = &self.config;
        let within = |names: &[String]| -> Vec<String> {
            let names = names.iter().filter(|name| {
                let times = config.time_intervals.get(*name);
                times.is_some_and(|times| times.iter().any(|time| time.contains(now_ns)))
            });
            names.cloned().collect()
        };
        let is_inactive = !active.is_empty() && within(active).is_empty();
        let muted_by = if is_inactive {
            active.to_vec()
        } else {
            within(mute)
        };
        let is_muted = !muted_by.is_empty();
        if let Some(group) = self.groups.get_mut(&id)
            && (!active.is_empty() || !mute.is_empty())
        {
            group.muted_by = muted_by;
        }
        if is_muted {
            let reason = if is_inactive {
                "active_time_interval"
            } else {
                "mute_time_interval"
            };
            suppressed(told.len(), reason);
            return Vec::new();
        }
        let before = told.len();
        told.retain(|told| self.silences.muting(&told.alert.labels, now_ns).is_empty());
        suppressed(before - told.len(), "silence");
        told
    }

    /// Notes on disk what a receiver was told.
    fn note(&mut self, key: String, told: &Told64, repeat_ns: i64, now_ns: i64) {
        let keep_ns = ns(self.options.retention);
        let twice_ns = repeat_ns.saturating_mul(2);
        let keep_ns = if twice_ns > 0 {
            keep_ns.min(twice_ns)
        } else {
            keep_ns
        };
        let entry = Entry {
            time_ns: now_ns,
            expires_ns: now_ns.saturating_add(keep_ns),
            firing: told.firing.clone(),
            resolved: told.resolved.clone(),
        };
        if let Err(error) = self.keep.append(&record::told(&key, &entry)) {
            tracing::error!(%error, "a notification cannot be noted on disk; it may be repeated after a restart");
        }
        self.log.set(key, entry);
    }

    /// Takes how a delivery went.
    pub fn delivered(&mut self, delivery: &Delivery, is_ok: bool, now_ns: i64) {
        if is_ok {
            let key = delivery.key.clone();
            self.note(key, &delivery.entry, delivery.repeat_ns, now_ns);
        }
        if delivery.generation != self.generation {
            return;
        }
        let group = self.groups.get_mut(&delivery.group);
        let Some(flight) = group.and_then(|group| group.flight.as_mut()) else {
            return;
        };
        if flight.serial != delivery.serial {
            return;
        }
        flight.has_failed |= !is_ok;
        flight.pending = flight.pending.saturating_sub(1);
        if flight.pending == 0 {
            self.land(delivery.group, now_ns);
        }
    }

    /// Ends a flush: what was told as over is forgotten, unless it was reported anew.
    fn land(&mut self, id: GroupId, now_ns: i64) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let Some(flight) = group.flight.take() else {
            return;
        };
        if !flight.has_failed {
            // Of a report that came later the end is later than that decision, or it was
            // reported as over after it.
            group.alerts.retain(|_, alert| {
                !(alert.is_resolved_at(flight.at_ns) && alert.updated_ns <= flight.at_ns)
            });
        }
        if flight.is_next_due {
            self.due.remove(&(group.next_ns, id));
            group.next_ns = now_ns;
            self.due.insert((now_ns, id));
        }
    }

    /// Makes or changes a silence; it is on disk once the journal is synced up to the number.
    pub fn set_silence(
        &mut self,
        silence: Silence,
        now_ns: i64,
        rng: &mut dyn Rng,
    ) -> Result<(String, Sequence), EngineError> {
        let keep = &self.keep;
        let mut sequence = 0;
        let id = self.silences.set::<EngineError>(
            silence,
            now_ns,
            || uuid(rng),
            |changed| append(keep, changed, &mut sequence),
        )?;
        Ok((id, sequence))
    }

    /// Ends a silence now.
    pub fn expire_silence(&mut self, id: &str, now_ns: i64) -> Result<Sequence, EngineError> {
        let keep = &self.keep;
        let mut sequence = 0;
        self.silences
            .expire::<EngineError>(id, now_ns, |changed| append(keep, changed, &mut sequence))?;
        Ok(sequence)
    }

    /// All silences.
    pub fn silences(&self) -> &Silences {
        &self.silences
    }

    /// Alerts that are not over.
    pub fn active(&self, now_ns: i64) -> impl Iterator<Item = (Fingerprint, &Arc<Alert>)> {
        self.alerts
            .iter()
            .filter(move |(_, stored)| stored.alert.ends_ns >= now_ns)
            .map(|(fingerprint, stored)| (*fingerprint, &stored.alert))
    }

    /// What mutes labels.
    pub fn muting(&self, labels: &Labels, now_ns: i64) -> Muting {
        Muting {
            silenced_by: self.silences.muting(labels, now_ns),
            inhibited_by: self.inhibitor.inhibiting(labels, now_ns),
        }
    }

    /// All groups with those of their alerts that are not over.
    pub fn groups(&self, now_ns: i64) -> Vec<GroupView> {
        let mut routes = Vec::new();
        self.config.route.walk(&mut |route| routes.push(route));
        let groups = self.groups.iter().filter_map(|((route, _), group)| {
            let alerts = group.alerts.iter();
            let alerts: Vec<_> = alerts
                .filter(|(_, alert)| alert.ends_ns >= now_ns)
                .map(|(fingerprint, alert)| (*fingerprint, Arc::clone(alert)))
                .collect();
            Some(GroupView {
                receiver: routes.get(*route)?.options.receiver.clone(),
                labels: group.labels.clone(),
                alerts,
                muted_by: group.muted_by.clone(),
            })
        });
        groups.collect()
    }
}

/// Whether a report must go to disk: a new alert, an end, another text, or an end that is much
/// later than the one that stands there.
fn is_news(known: Option<&Stored>, alert: &Alert, now_ns: i64) -> bool {
    let Some(known) = known else {
        return true;
    };
    let old = &known.alert;
    let is_same = old.annotations == alert.annotations
        && old.starts_ns == alert.starts_ns
        && old.generator_url == alert.generator_url
        && old.is_timeout == alert.is_timeout
        && old.is_resolved_at(now_ns) == alert.is_resolved_at(now_ns)
        && alert.ends_ns >= known.kept_ends_ns;
    let left_ns = known.kept_ends_ns.saturating_sub(now_ns);
    !is_same || left_ns < alert.ends_ns.saturating_sub(now_ns) / 2
}

fn append(
    keep: &Keep,
    silences: &[Arc<Silence>],
    sequence: &mut Sequence,
) -> Result<(), EngineError> {
    for silence in silences {
        *sequence = keep.append(&record::silence(silence))?;
    }
    Ok(())
}

/// A random UUID (version 4).
fn uuid(rng: &mut dyn Rng) -> String {
    let bits = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
    let bits = (bits & !(0xf << 76)) | (0x4 << 76);
    let bits = (bits & !(0x3 << 62)) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
