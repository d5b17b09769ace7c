//! Which containers there are: the engine's list, and its events from then on.
//!
//! Events begin a moment before the list was asked for, and all that an event leads to may
//! happen twice without harm, so nothing falls between the two. A container can have ended by
//! the time the engine could be asked about it: its log is opened as soon as the event names
//! it, at the place where Docker puts such logs, and what the engine says later corrects that.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, EventMessage};
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt as _;
use kittiwake_wire::time::parse_rfc3339;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::figures::{self, Change, Limits, Subject};
use crate::logs::{Follower, Phase, Source, State, can_read, cursor_name};
use crate::status::Count;
use crate::tick::now_ns;
use crate::watch::Watcher;
use crate::{ContainerInfo, Cursor, DockerState, Gathered, LogReading, Settings, Status};

/// Containers that are followed; more are counted.
const CONTAINERS_MAX: usize = 10_000;
/// How long the engine may take for an answer.
const TIMEOUT_SECONDS: u64 = 30;
/// How long a start waits for the engine to say its host's name.
const NAME_TIMEOUT: Duration = Duration::from_secs(3);
/// Times between attempts to reach the engine.
const BACK_OFF_MIN: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(15);
const CHANGES_MAX: usize = 1024;
/// Events that matter; the engine is asked for no others.
const ACTIONS: [&str; 5] = ["create", "start", "die", "destroy", "rename"];

/// A Docker engine that may or may not be there.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    docker: Docker,
    /// Whether it is on this machine: then its containers' processes and files are too.
    is_local: bool,
}

impl Engine {
    /// Prepares to talk to the engine at a socket's path or an address as in `DOCKER_HOST`.
    pub(crate) fn connect(address: &str) -> Result<Self, Error> {
        let is_local = !address.starts_with("tcp://") && !address.starts_with("http://");
        let docker = if is_local {
            let path = address.strip_prefix("unix://").unwrap_or(address);
            Docker::connect_with_unix(path, TIMEOUT_SECONDS, API_DEFAULT_VERSION)?
        } else {
            Docker::connect_with_http(address, TIMEOUT_SECONDS, API_DEFAULT_VERSION)?
        };
        Ok(Self { docker, is_local })
    }
}

/// The label `host`: as configured, else as the engine names its host, else the hostname.
pub(crate) async fn host_name(settings: &Settings) -> String {
    if let Some(name) = &settings.host_name {
        return name.clone();
    }
    if let Ok(engine) = Engine::connect(&settings.docker) {
        let asked = async {
            let docker = engine.docker.clone().negotiate_version().await?;
            docker.info().await
        };
        if let Ok(Ok(info)) = tokio::time::timeout(NAME_TIMEOUT, asked).await
            && let Some(name) = info.name.filter(|name| !name.is_empty())
        {
            return name;
        }
    }
    let path = settings.procfs.join("sys/kernel/hostname");
    let name = std::fs::read_to_string(path).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name.to_owned()
    }
}

struct Known {
    state: watch::Sender<State>,
}

struct Containers<'a> {
    engine: Engine,
    settings: &'a Settings,
    host: Arc<str>,
    out: Sender<Gathered>,
    cancel: CancellationToken,
    status: Arc<Status>,
    tasks: TaskTracker,
    watcher: Option<Watcher>,
    changes: Sender<Change>,
    cursors: HashMap<String, Vec<u8>>,
    known: HashMap<String, Known>,
    /// Where the engine keeps its containers' files, as this process sees it.
    log_root: Option<PathBuf>,
    is_first_list: bool,
}

/// Follows the engine, its containers' figures and logs until cancelled.
pub(crate) async fn run(
    settings: &Settings,
    host: Arc<str>,
    out: Sender<Gathered>,
    cancel: CancellationToken,
    status: &Arc<Status>,
    tasks: &TaskTracker,
) {
    let engine = tokio::select! {
        () = cancel.cancelled() => return,
        engine = found(&settings.docker, status) => engine,
    };
    let watcher = match Watcher::start() {
        Ok((watcher, events)) => {
            tasks.spawn(Watcher::until(events, cancel.clone()));
            Some(watcher)
        }
        Err(error) => {
            tracing::warn!(%error, "changes of files are not told; logs are polled");
            None
        }
    };
    let (changes, changed) = tokio::sync::mpsc::channel(CHANGES_MAX);
    let collecting = figures::run(
        settings.clone(),
        Arc::clone(&host),
        changed,
        out.clone(),
        cancel.clone(),
        Arc::clone(status),
    );
    tasks.spawn(collecting);
    let mut containers = Containers {
        engine,
        settings,
        host,
        out,
        cancel: cancel.clone(),
        status: Arc::clone(status),
        tasks: tasks.clone(),
        watcher,
        changes,
        cursors: settings.cursors.clone(),
        known: HashMap::new(),
        log_root: None,
        is_first_list: true,
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = containers.follow() => {}
    }
}

/// Waits until there is a socket to talk to.
async fn found(address: &str, status: &Status) -> Engine {
    let mut back_off = BACK_OFF_MIN;
    loop {
        match Engine::connect(address) {
            Ok(engine) => return engine,
            Err(error) => unavailable(status, &explain(&error, address)),
        }
        tokio::time::sleep(back_off).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Says once that the engine cannot be reached, and again when the reason changes.
fn unavailable(status: &Status, reason: &str) {
    let state = DockerState::Unavailable(reason.to_owned());
    if status.docker() != state {
        tracing::info!(reason, "containers are not seen; trying on");
        status.set_docker(state);
    }
}

impl Containers<'_> {
    /// Connects again and again.
    async fn follow(&mut self) {
        let mut back_off = BACK_OFF_MIN;
        let mut since_ns = now_ns() - 1_000_000_000;
        loop {
            match self.session(&mut since_ns).await {
                Ok(()) => back_off = BACK_OFF_MIN,
                Err(error) => {
                    let reason = explain(&error, &self.settings.docker);
                    if self.status.docker() == DockerState::Ok {
                        back_off = BACK_OFF_MIN;
                    }
                    unavailable(&self.status, &reason);
                }
            }
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    /// One connection: the list, then events until it ends.
    async fn session(&mut self, since_ns: &mut i64) -> Result<(), Error> {
        let docker = self.engine.docker.clone().negotiate_version().await?;
        self.engine.docker = docker.clone();
        let info = docker.info().await?;
        self.log_root = info
            .docker_root_dir
            .filter(|_| self.engine.is_local)
            .map(|dir| below(&self.settings.rootfs, Path::new(&dir)).join("containers"));
        self.list().await?;
        if self.status.docker() != DockerState::Ok {
            let containers = self.known.len();
            tracing::info!(containers, "connected to Docker");
            self.status.set_docker(DockerState::Ok);
        }
        let since = format!(
            "{}.{:09}",
            *since_ns / 1_000_000_000,
            *since_ns % 1_000_000_000
        );
        let actions = ACTIONS.map(str::to_owned).to_vec();
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), actions),
        ]);
        let options = EventsOptions {
            since: Some(since),
            until: None,
            filters: Some(filters),
        };
        let mut events = std::pin::pin!(docker.events(Some(options)));
        while let Some(event) = events.next().await {
            let event = event?;
            if let Some(time_ns) = event.time_nano {
                *since_ns = time_ns;
            }
            self.event(event).await?;
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<(), Error> {
        let options = ListContainersOptions {
            all: true,
            ..ListContainersOptions::default()
        };
        let listed = self.engine.docker.list_containers(Some(options)).await?;
        let ids: HashSet<String> = listed.into_iter().filter_map(|c| c.id).collect();
        let gone: Vec<String> = self
            .known
            .keys()
            .filter(|id| !ids.contains(*id))
            .cloned()
            .collect();
        for id in gone {
            self.gone(&id).await;
        }
        for id in &ids {
            self.refresh(id).await?;
        }
        if std::mem::take(&mut self.is_first_list) {
            // What is left belongs to containers that were removed in the meantime.
            let left = std::mem::take(&mut self.cursors);
            for cursor in left.into_keys().filter(|name| name.starts_with("docker/")) {
                let _ = self.out.send(Gathered::Forget { cursor }).await;
            }
        }
        Ok(())
    }

    async fn event(&mut self, event: EventMessage) -> Result<(), Error> {
        let Some((id, attributes)) = event
            .actor
            .and_then(|a| Some((a.id?, a.attributes.unwrap_or_default())))
        else {
            return Ok(());
        };
        match event.action.as_deref() {
            Some(action @ ("create" | "start")) => {
                if !self.known.contains_key(&id) {
                    self.expect(ContainerInfo::from_event(&id, &attributes));
                }
                if action == "start" {
                    self.refresh(&id).await?;
                }
            }
            Some("rename") => self.refresh(&id).await?,
            Some("die") => self.ended(&id).await,
            Some("destroy") => self.gone(&id).await,
            _ => {}
        }
        Ok(())
    }

    /// Opens the log of a container that the engine has just made, before it is asked about it.
    fn expect(&mut self, info: ContainerInfo) {
        let Some(dir) = self.log_root.as_ref().map(|dir| dir.join(&info.id)) else {
            return;
        };
        let path = dir.join(format!("{}-json.log", info.id));
        if can_read(&dir).is_ok() {
            let state = State {
                info: Arc::new(info),
                source: Source::Files(path),
                phase: Phase::Created,
            };
            self.follow_log(state);
        }
    }

    /// Asks the engine about a container and follows it as it is now.
    async fn refresh(&mut self, id: &str) -> Result<(), Error> {
        let asked = self
            .engine
            .docker
            .inspect_container(id, None::<InspectContainerOptions>);
        let inspect = match asked.await {
            Ok(inspect) => inspect,
            // It has gone; its event follows, or the list left it out.
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let info = ContainerInfo::from_inspect(&inspect);
        let state = inspect.state.as_ref();
        let is_running = state.and_then(|s| s.running).unwrap_or(false);
        let pid = state
            .and_then(|s| s.pid)
            .filter(|_| is_running)
            .unwrap_or(0);
        let was_started = started_seconds(&inspect) > 0.0;
        let phase = match (is_running, was_started) {
            (true, _) => Phase::Running,
            (false, true) => Phase::Ended,
            (false, false) => Phase::Created,
        };
        let source = self.source(&inspect);
        let wanted = State {
            info: Arc::new(info.clone()),
            source,
            phase,
        };
        self.status.set_container(&info, is_running);
        if let Some(known) = self.known.get_mut(id) {
            known.state.send_if_modified(|state| {
                let is_new = *state.info != *wanted.info
                    || state.source != wanted.source
                    || state.phase != wanted.phase;
                *state = wanted;
                is_new
            });
        } else if !self.follow_log(wanted) {
            return Ok(());
        }
        if is_running {
            let limits = Limits {
                start_seconds: started_seconds(&inspect),
                creation_seconds: inspect.created.as_deref().map_or(0.0, seconds),
            };
            let subject = Subject {
                info,
                pid: if self.engine.is_local { pid } else { 0 },
                limits,
                docker: self.engine.docker.clone(),
            };
            let _ = self.changes.send(Change::Started(Box::new(subject))).await;
        } else {
            let _ = self.changes.send(Change::Ended(id.to_owned())).await;
        }
        Ok(())
    }

    /// Where a container's log is to be had.
    fn source(&self, inspect: &ContainerInspectResponse) -> Source {
        let config = inspect
            .host_config
            .as_ref()
            .and_then(|h| h.log_config.as_ref());
        let driver = config.and_then(|c| c.typ.as_deref()).unwrap_or_default();
        match driver {
            "none" => return Source::None("its log driver is none".to_owned()),
            "json-file" => {}
            other => return Source::Api(format!("its log driver is {other}")),
        }
        let id = inspect.id.as_deref().unwrap_or_default();
        let path = match inspect.log_path.as_deref().filter(|path| !path.is_empty()) {
            Some(path) => below(&self.settings.rootfs, Path::new(path)),
            None => match &self.log_root {
                Some(dir) => dir.join(id).join(format!("{id}-json.log")),
                None => return Source::Api("the engine is on another machine".to_owned()),
            },
        };
        if !self.engine.is_local {
            return Source::Api("the engine is on another machine".to_owned());
        }
        let dir = path.parent().unwrap_or(&path);
        match can_read(dir) {
            Ok(()) => Source::Files(path),
            Err(error) => Source::Api(format!("its log files cannot be read: {error}")),
        }
    }

    fn follow_log(&mut self, state: State) -> bool {
        if self.known.len() >= CONTAINERS_MAX {
            self.status.count(Count::ContainersRefused, 1);
            return false;
        }
        let id = state.info.id.clone();
        let bytes = self.cursors.remove(&cursor_name(&id));
        let cursor = bytes.and_then(|bytes| match Cursor::decode(&bytes) {
            Ok(cursor) => Some(cursor),
            Err(error) => {
                tracing::warn!(container = %state.info.name, %error, "its log is read from its start");
                self.status.count(Count::CursorsDamaged, 1);
                None
            }
        });
        self.status
            .set_container(&state.info, state.phase == Phase::Running);
        self.status.set_logs(&id, LogReading::Unknown, "");
        let (sender, receiver) = watch::channel(state);
        let follower = Follower {
            id: id.clone(),
            host: Arc::clone(&self.host),
            docker: self.engine.docker.clone(),
            watcher: self.watcher.clone(),
            out: self.out.clone(),
            cancel: self.cancel.clone(),
            status: Arc::clone(&self.status),
            state: receiver,
            cursor,
        };
        self.tasks.spawn(follower.run());
        let state = sender;
        self.known.insert(id, Known { state });
        true
    }

    async fn ended(&mut self, id: &str) {
        if let Some(known) = self.known.get_mut(id) {
            known.state.send_modify(|state| state.phase = Phase::Ended);
            let info = Arc::clone(&known.state.borrow().info);
            self.status.set_container(&info, false);
        }
        let _ = self.changes.send(Change::Ended(id.to_owned())).await;
    }

    async fn gone(&mut self, id: &str) {
        if let Some(known) = self.known.remove(id) {
            known.state.send_modify(|state| state.phase = Phase::Gone);
            let _ = self.changes.send(Change::Ended(id.to_owned())).await;
        }
        self.status.remove_container(id);
    }
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// A time of the engine in s since the epoch; 0 for "never", which it writes as year 1.
fn seconds(time: &str) -> f64 {
    parse_rfc3339(time.as_bytes()).map_or(0.0, |ns| (ns as f64 / 1e9).max(0.0))
}

fn started_seconds(inspect: &ContainerInspectResponse) -> f64 {
    let state = inspect.state.as_ref();
    state
        .and_then(|s| s.started_at.as_deref())
        .map_or(0.0, seconds)
}

/// Why the engine cannot be used, in words that say what to do.
fn explain(error: &Error, address: &str) -> String {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    if path.starts_with('/') {
        match std::os::unix::net::UnixStream::connect(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return format!("no Docker engine at {path}");
            }
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                return format!("{path} may not be used by this user; add it to the group docker");
            }
            Err(e) => return format!("the Docker engine at {path} does not answer: {e}"),
            Ok(_) => {}
        }
    }
    format!("the Docker engine at {address} does not answer: {error}")
}
