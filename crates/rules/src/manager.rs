//! When groups run: each at its slot of its interval, on a few threads.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kittiwake_config::NameScheme;
use kittiwake_model::Labels;
use parking_lot::{Condvar, Mutex};

use crate::file::{Check, FileError};
use crate::group::{Environment, Group, Settings, end_series};

/// Longest that a thread waits before it looks at the clock again, which may have been set.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Where groups come from.
#[derive(Debug, Clone)]
pub struct GroupSource {
    /// The files.
    pub files: Vec<PathBuf>,
    /// How often a group runs unless it says otherwise.
    pub interval: Duration,
    /// Which names are allowed.
    pub names: NameScheme,
    /// What holds for all groups.
    pub settings: Settings,
}

/// Runs groups.
pub struct Manager {
    environment: Environment,
    schedule: Mutex<Schedule>,
    changed: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// One update at a time.
    updating: Mutex<()>,
}

#[derive(Default)]
struct Schedule {
    /// All groups by file and name.
    groups: BTreeMap<(String, String), u64>,
    entries: HashMap<u64, Entry>,
    /// When which entry is due next; what runs now is not in it.
    queue: BTreeSet<(i64, u64)>,
    next_id: u64,
    was_loaded: bool,
    is_stopped: bool,
}

#[derive(Clone)]
struct Entry {
    work: Work,
    /// Runs until the states of alerts are taken up.
    runs_to_restore: u8,
}

#[derive(Clone)]
enum Work {
    Run(Arc<Group>),
    /// Series of a group that is gone, ended some time later, when others had time to go on
    /// with them; the sample's time is that of the end, in ms.
    End(Vec<Labels>, i64),
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Schedule {
    fn add(&mut self, entry: Entry, due_ns: i64) -> u64 {
        self.next_id += 1;
        self.entries.insert(self.next_id, entry);
        self.queue.insert((due_ns, self.next_id));
        self.next_id
    }
}

impl Manager {
    /// A manager without groups.
    pub fn new(environment: Environment) -> Arc<Self> {
        Arc::new(Self {
            environment,
            schedule: Mutex::default(),
            changed: Condvar::new(),
            threads: Mutex::default(),
            updating: Mutex::default(),
        })
    }

    /// What groups run in.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Starts the threads on which groups run.
    pub fn start(self: &Arc<Self>, threads: usize) -> std::io::Result<()> {
        let mut running = self.threads.lock();
        for number in 0..threads.max(1) {
            let manager = Arc::clone(self);
            let thread = std::thread::Builder::new().name(format!("rules-{number}"));
            running.push(thread.spawn(move || manager.work())?);
        }
        Ok(())
    }

    /// Lets groups that run come to their end and starts no more.
    pub fn stop(&self) {
        self.schedule.lock().is_stopped = true;
        self.changed.notify_all();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A thread that panicked has been reported.
            let _ = thread.join();
        }
    }

    /// All groups, by file and name.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        let schedule = self.schedule.lock();
        let groups = schedule.groups.values();
        let groups = groups.filter_map(|id| match &schedule.entries.get(id)?.work {
            Work::Run(group) => Some(Arc::clone(group)),
            Work::End(..) => None,
        });
        groups.collect()
    }

    /// Reads rule files and runs what they say from now on. With a mistake in any of them, all
    /// stays as it was.
    pub fn update(&self, source: &GroupSource) -> Result<(), Vec<FileError>> {
        let _one = self.updating.lock();
        let check = Check {
            engine: self.environment.engine.as_ref(),
            names: source.names,
            ignores_unknown_fields: false,
        };
        let mut groups = BTreeMap::new();
        let mut errors = Vec::new();
        for file in &source.files {
            match check.load(file) {
                Ok(loaded) => {
                    let file = file.display().to_string();
                    if loaded.has_more_documents {
                        tracing::warn!(file, "only the first document of a rule file is read");
                    }
                    for spec in &loaded.groups {
                        let group = Group::new(&file, spec, source.interval);
                        groups.insert((file.clone(), group.name.clone()), group);
                    }
                }
                Err(wrong) => errors.extend(wrong),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        *self.environment.settings.write() = source.settings.clone();
        self.replace(groups);
        Ok(())
    }

    fn replace(&self, groups: BTreeMap<(String, String), Group>) {
        let now_ns = self.environment.clock.now_ns();
        let is_first = !std::mem::replace(&mut self.schedule.lock().was_loaded, true);
        let mut gone = Vec::new();
        {
            let mut schedule = self.schedule.lock();
            let keys: Vec<_> = schedule.groups.keys().cloned().collect();
            for key in keys.into_iter().filter(|key| !groups.contains_key(key)) {
                gone.extend(take_out(&mut schedule, &key));
            }
        }
        for (key, group) in groups {
            let mut schedule = self.schedule.lock();
            let old = schedule
                .groups
                .get(&key)
                .and_then(|id| schedule.entries.get(id));
            if let Some(Entry {
                work: Work::Run(old),
                ..
            }) = old
                && old.is_same(&group)
            {
                continue;
            }
            let old = take_out(&mut schedule, &key);
            drop(schedule);
            if let Some(old) = old {
                group.take_state(&old);
            }
            if !is_first {
                group.rules.iter().for_each(crate::rule::Rule::set_restored);
            }
            let due_ns = group.slot(now_ns) + nanos(group.interval);
            let entry = Entry {
                work: Work::Run(Arc::new(group)),
                runs_to_restore: if is_first { 2 } else { 0 },
            };
            let mut schedule = self.schedule.lock();
            let id = schedule.add(entry, due_ns);
            schedule.groups.insert(key, id);
        }
        for old in gone {
            let series = old.take_series();
            let time_ms = (now_ns - old.offset_ns(&self.environment)).div_euclid(1_000_000);
            let due_ns = now_ns.saturating_add(nanos(old.interval).saturating_mul(2));
            if !series.is_empty() {
                let entry = Entry {
                    work: Work::End(series, time_ms),
                    runs_to_restore: 0,
                };
                self.schedule.lock().add(entry, due_ns);
            }
        }
        self.changed.notify_all();
    }

    /// One thread's life.
    fn work(&self) {
        loop {
            let mut schedule = self.schedule.lock();
            if schedule.is_stopped {
                return;
            }
            let now_ns = self.environment.clock.now_ns();
            let next = schedule.queue.first().copied();
            match next {
                Some((due_ns, id)) if due_ns <= now_ns => {
                    schedule.queue.pop_first();
                    drop(schedule);
                    self.run(id, due_ns, now_ns);
                }
                next => {
                    let wait = next.map_or(WAIT_MAX, |(due_ns, _)| {
                        let wait_ns = due_ns.saturating_sub(now_ns).unsigned_abs();
                        Duration::from_nanos(wait_ns).min(WAIT_MAX)
                    });
                    self.changed.wait_for(&mut schedule, wait);
                }
            }
        }
    }

    /// Runs everything that is due, on the calling thread; gives when something will be.
    pub fn run_due(&self) -> Option<i64> {
        loop {
            let now_ns = self.environment.clock.now_ns();
            let mut schedule = self.schedule.lock();
            let (due_ns, id) = schedule.queue.first().copied()?;
            if due_ns > now_ns {
                return Some(due_ns);
            }
            schedule.queue.pop_first();
            drop(schedule);
            self.run(id, due_ns, now_ns);
        }
    }

    fn run(&self, id: u64, due_ns: i64, now_ns: i64) {
        let Some(mut entry) = self.schedule.lock().entries.get(&id).cloned() else {
            return;
        };
        match &entry.work {
            Work::End(series, time_ms) => {
                let mut series = self.not_continued(series);
                end_series(&mut series, *time_ms, &self.environment);
                self.schedule.lock().entries.remove(&id);
            }
            Work::Run(group) => {
                let interval_ns = nanos(group.interval);
                // Slots that went by while it ran, or waited for a thread.
                let late = now_ns.saturating_sub(due_ns) / interval_ns;
                if late > 0 {
                    group.count_missed(late.unsigned_abs());
                }
                let due_ns = due_ns.saturating_add(late.saturating_mul(interval_ns));
                group.run(due_ns, &self.environment);
                if entry.runs_to_restore > 0 {
                    entry.runs_to_restore -= 1;
                    if entry.runs_to_restore == 0 {
                        group.restore(self.environment.clock.now_ns(), &self.environment);
                    }
                }
                let mut schedule = self.schedule.lock();
                // It may have been taken out meanwhile.
                if let Some(known) = schedule.entries.get_mut(&id) {
                    known.runs_to_restore = entry.runs_to_restore;
                    schedule
                        .queue
                        .insert((due_ns.saturating_add(interval_ns), id));
                }
                drop(schedule);
                self.changed.notify_one();
            }
        }
    }

    /// Series that no rule goes on with.
    fn not_continued(&self, series: &[Labels]) -> Vec<Labels> {
        let mut left: HashSet<&Labels> = series.iter().collect();
        for group in self.groups() {
            let previous = group.previous.lock();
            for series in &previous.series {
                left.retain(|labels| !series.contains(*labels));
            }
        }
        left.into_iter().cloned().collect()
    }
}

fn take_out(schedule: &mut Schedule, key: &(String, String)) -> Option<Arc<Group>> {
    let id = schedule.groups.remove(key)?;
    schedule.queue.retain(|(_, queued)| *queued != id);
    match schedule.entries.remove(&id)?.work {
        Work::Run(group) => Some(group),
        Work::End(..) => None,
    }
}
