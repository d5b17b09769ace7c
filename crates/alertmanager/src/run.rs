//! The engine with a clock and a network: it sends what is due, tries again what failed, and
//! answers the API.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kittiwake_env::{Clock, Fs, Rng, SystemRng};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::alert::Alert;
use crate::config::Config;
use crate::engine::{Delivery, Engine, EngineError, Options};
use crate::send::{Failure, Notice, Sender};
use crate::silence::Silence;
use crate::template::{Data, TemplateError, Templates};

/// Notifications under way to one integration; others to it wait, those to others don't.
const SENDING_MAX: usize = 32;
/// Between attempts: the first pause, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// The longest sleep of the one who looks what is due.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// How often what was written is synced to disk.
const SYNC: Duration = Duration::from_secs(1);

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is refused.
    #[error(transparent)]
    Config(#[from] kittiwake_config::ConfigError),
    /// A template is.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// What a configuration is made into.
#[derive(Debug)]
struct Loaded {
    templates: Templates,
    /// By the places of receivers and integrations.
    senders: Vec<Vec<(Arc<Sender>, Arc<Semaphore>)>>,
}

impl Loaded {
    fn of(config: &Config) -> Result<Self, TemplateError> {
        let templates = Templates::load(&config.templates)?;
        let senders = config.receivers.iter().map(|receiver| {
            let senders = Sender::of(receiver).into_iter();
            let with_places = senders.map(|sender| {
                let places = Semaphore::new(SENDING_MAX);
                (Arc::new(sender), Arc::new(places))
            });
            with_places.collect()
        });
        Ok(Self {
            senders: senders.collect(),
            templates,
        })
    }
}

/// Reads a file, its templates included.
fn load(file: Option<&PathBuf>) -> Result<(Config, Loaded), LoadError> {
    let config = match file {
        Some(file) => Config::load(file)?,
        None => Config::default(),
    };
    let loaded = Loaded::of(&config)?;
    for warning in &config.warnings {
        tracing::warn!(warning, "alertmanager configuration");
    }
    Ok((config, loaded))
}

/// How a test notification went.
#[derive(Debug, Clone)]
pub struct Tested {
    /// The integration, like `slack[0]`.
    pub integration: String,
    /// What went wrong.
    pub error: Option<Failure>,
}

/// The Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    file: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    engine: Mutex<Engine>,
    loaded: RwLock<Arc<Loaded>>,
    rng: Mutex<SystemRng>,
    wake: Notify,
    /// When it started, in ns.
    started_ns: i64,
    options: Options,
    /// One reload at a time.
    reloading: Mutex<()>,
}

impl Alertmanager {
    /// Opens what was kept in a directory, with a configuration file or without.
    pub fn open(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        rng: SystemRng,
        dir: &std::path::Path,
        file: Option<PathBuf>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let (config, loaded) = load(file.as_ref())?;
        let started_ns = clock.now_ns();
        let engine = Engine::open(fs, &clock, dir, Arc::new(config), options.clone())?;
        Ok(Self {
            file,
            clock,
            engine: Mutex::new(engine),
            loaded: RwLock::new(Arc::new(loaded)),
            rng: Mutex::new(rng),
            wake: Notify::new(),
            started_ns,
            options,
            reloading: Mutex::new(()),
        })
    }

    /// Now, in ns.
    pub fn now_ns(&self) -> i64 {
        self.clock.now_ns()
    }

    /// When it started, in ns.
    pub fn started_ns(&self) -> i64 {
        self.started_ns
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(self.engine.lock().config())
    }

    /// Reads the file anew. When that fails, what was in force stays.
    pub fn reload(&self) -> Result<(), LoadError> {
        let _one = self.reloading.lock();
        let (config, loaded) = load(self.file.as_ref())?;
        let mut engine = self.engine.lock();
        *self.loaded.write() = Arc::new(loaded);
        engine.reload(Arc::new(config), self.now_ns());
        drop(engine);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes reports of alerts; how many were too many. What is over by then without a word of
    /// an end has one from the time limit.
    pub fn put(&self, alerts: impl IntoIterator<Item = Alert>) -> Result<usize, EngineError> {
        let mut dropped = 0;
        let now_ns = self.now_ns();
        let mut engine = self.engine.lock();
        for alert in alerts {
            let status = if alert.is_resolved_at(now_ns) {
                "resolved"
            } else {
                "firing"
            };
            engine.stats().add(
                "alertmanager_alerts_received_total",
                &[("status", status)],
                1,
            );
            if !engine.put(alert, now_ns)? {
                dropped += 1;
            }
        }
        drop(engine);
        self.wake.notify_one();
        Ok(dropped)
    }

    /// Works with the engine. Nothing may block in there.
    pub fn with<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        work(&mut self.engine.lock())
    }

    /// Makes or changes a silence; it is on disk when this returns. Blocks.
    pub fn set_silence(&self, silence: Silence) -> Result<String, EngineError> {
        let now_ns = self.now_ns();
        let mut engine = self.engine.lock();
        let mut rng = self.rng.lock();
        let rng: &mut dyn Rng = &mut *rng;
        let (id, sequence) = engine.set_silence(silence, now_ns, rng)?;
        let journal = engine.journal();
        drop(engine);
        journal.sync(sequence)?;
        Ok(id)
    }

    /// Ends a silence; that is on disk when this returns. Blocks.
    pub fn expire_silence(&self, id: &str) -> Result<(), EngineError> {
        let now_ns = self.now_ns();
        let mut engine = self.engine.lock();
        let sequence = engine.expire_silence(id, now_ns)?;
        let journal = engine.journal();
        drop(engine);
        if sequence > 0 {
            journal.sync(sequence)?;
        }
        Ok(())
    }

    /// Sends alerts to all integrations of a receiver, once, past all rules. `None` when there
    /// is no such receiver.
    pub async fn test(&self, receiver: &str, data: Data, timeout: Duration) -> Option<Vec<Tested>> {
        let config = self.config();
        let loaded = Arc::clone(&self.loaded.read());
        let at = config.receivers.iter().position(|r| r.name == receiver)?;
        let mut all = Vec::new();
        for (sender, _) in loaded.senders.get(at)? {
            let notice = Notice {
                data: &data,
                group_key: "{}:{alertname=\"TestNotification\"}",
                templates: &loaded.templates,
                now_ns: self.now_ns(),
            };
            let sent = tokio::time::timeout(timeout, sender.send(notice)).await;
            let error = match sent {
                Ok(sent) => sent.err(),
                Err(_) => Some(late()),
            };
            all.push(Tested {
                integration: sender.integration.name(),
                error,
            });
        }
        Some(all)
    }

    /// The address at which users find it.
    pub fn external_url(&self) -> &str {
        &self.options.external_url
    }

    /// Sends what is due until it is told to stop; what is under way then has to end itself.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut tasks = Tasks::default();
        let mut sync = tokio::time::interval(SYNC);
        sync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now_ns = self.now_ns();
            let (due, next_ns, generation) = {
                let mut engine = self.engine.lock();
                let due = engine.poll(now_ns);
                (due, engine.next_ns(), engine.generation())
            };
            tasks.of_generation(generation);
            for delivery in due {
                tasks.spawn(Arc::clone(&self).deliver(delivery));
            }
            let wait = u64::try_from(next_ns.saturating_sub(now_ns)).unwrap_or(0);
            let wait = Duration::from_nanos(wait).min(SLEEP_MAX);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => {}
                _ = sync.tick() => self.sync(),
                Some(_) = tasks.set.join_next(), if !tasks.set.is_empty() => {}
                _ = stop.wait_for(|stopped| *stopped) => break,
            }
        }
        // Whoever was not told by now is told after the next start.
        tasks.set.shutdown().await;
        let journal = self.engine.lock().journal();
        if let Err(error) = journal.sync_all() {
            tracing::error!(%error, "the alertmanager's journal cannot be synced");
        }
    }

    fn sync(self: &Arc<Self>) {
        let journal = self.engine.lock().journal();
        if journal.synced_seq() + 1 >= journal.next_seq() {
            return;
        }
        tokio::task::spawn_blocking(move || {
            if let Err(error) = journal.sync_all() {
                tracing::error!(%error, "the alertmanager's journal cannot be synced");
            }
        });
    }

    /// Sends one notification, again and again until it is taken, refused for good or too late.
    async fn deliver(self: Arc<Self>, delivery: Delivery) {
        let loaded = Arc::clone(&self.loaded.read());
        let receiver = loaded.senders.get(delivery.receiver);
        let Some((sender, places)) = receiver.and_then(|r| r.get(delivery.integration)) else {
            return;
        };
        let kind = sender.integration.kind;
        let sent = {
            // The semaphore is never closed.
            let _place = places.acquire().await;
            self.try_until_late(&loaded, sender, &delivery).await
        };
        let now_ns = self.now_ns();
        self.engine
            .lock()
            .delivered(&delivery, sent.is_ok(), now_ns);
        if let Err(failure) = sent {
            let labels = [("integration", kind), ("reason", failure.reason)];
            self.count("alertmanager_notifications_failed_total", &labels);
            tracing::error!(
                receiver = sender.receiver,
                integration = sender.integration.name(),
                group = %delivery.group_key,
                error = failure.message,
                "a notification was not sent"
            );
        }
        // A group whose next flush waited for this one is due.
        self.wake.notify_one();
    }

    async fn try_until_late(
        &self,
        loaded: &Loaded,
        sender: &Sender,
        delivery: &Delivery,
    ) -> Result<(), Failure> {
        let mut last: Option<Failure> = None;
        let mut pause = PAUSE_FIRST;
        let kind = [("integration", sender.integration.kind)];
        loop {
            let left_ns = delivery.deadline_ns.saturating_sub(self.now_ns());
            let Some(left) = u64::try_from(left_ns).ok().filter(|left| *left > 0) else {
                return Err(last.unwrap_or_else(late));
            };
            let left = Duration::from_nanos(left);
            let limit = sender.integration.timeout().map_or(left, |t| t.min(left));
            let notice = Notice {
                data: &delivery.data,
                group_key: &delivery.group_key,
                templates: &loaded.templates,
                now_ns: self.now_ns(),
            };
            let sent = tokio::time::timeout(limit, sender.send(notice)).await;
            let sent = sent.unwrap_or_else(|_| Err(late()));
            self.count("alertmanager_notification_requests_total", &kind);
            let failure = match sent {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            self.count("alertmanager_notification_requests_failed_total", &kind);
            if !failure.may_retry {
                return Err(failure);
            }
            if last
                .as_ref()
                .is_none_or(|last| last.message != failure.message)
            {
                tracing::warn!(
                    receiver = sender.receiver,
                    integration = sender.integration.name(),
                    error = failure.message,
                    "a notification was not taken; it is tried again"
                );
            }
            last = Some(failure);
            let left_ns = delivery.deadline_ns.saturating_sub(self.now_ns());
            let left = Duration::from_nanos(u64::try_from(left_ns).unwrap_or(0));
            tokio::time::sleep(self.jittered(pause).min(left)).await;
            pause = pause.mul_f64(1.5).min(PAUSE_MAX);
        }
    }

    fn count(&self, name: &'static str, labels: &[(&str, &str)]) {
        self.engine.lock().stats().add(name, labels, 1);
    }

    /// Half to one and a half of a pause.
    fn jittered(&self, pause: Duration) -> Duration {
        let half_ms = u64::try_from(pause.as_millis() / 2).unwrap_or(0);
        pause / 2 + Duration::from_millis(self.rng.lock().below(half_ms * 2 + 1))
    }
}

fn late() -> Failure {
    Failure {
        message: "context deadline exceeded".to_owned(),
        may_retry: true,
        reason: "contextDeadlineExceeded",
    }
}

/// Why it cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration is refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What was kept cannot be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What is under way, all of one configuration.
#[derive(Default)]
struct Tasks {
    set: JoinSet<()>,
    handles: Vec<AbortHandle>,
    generation: u64,
}

impl Tasks {
    /// Ends what belongs to an older configuration.
    fn of_generation(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.handles.drain(..).for_each(|handle| handle.abort());
        }
        if self.handles.len() > 2 * self.set.len() + 64 {
            self.handles.retain(|handle| !handle.is_finished());
        }
    }

    fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.handles.push(self.set.spawn(work));
    }
}
