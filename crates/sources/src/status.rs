//! What is gathered, how, and what could not be: for the page and for metrics.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use crate::ContainerInfo;
use crate::scrape::Targets;

/// How the engine can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DockerState {
    /// It has not answered yet.
    #[default]
    Connecting,
    /// It answers.
    Ok,
    /// It does not; the sentence says why.
    Unavailable(String),
}

/// How a container's logs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogReading {
    /// Not decided yet.
    #[default]
    Unknown,
    /// From the files that Docker writes.
    Files,
    /// Through the engine.
    Api,
    /// Not at all.
    None,
}

impl LogReading {
    /// Its name on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Files => "files",
            Self::Api => "api",
            Self::None => "none",
        }
    }
}

/// One container, as the page shows it.
#[derive(Debug, Clone, Default)]
pub struct ContainerStatus {
    /// What it is.
    pub info: ContainerInfo,
    /// Whether it runs.
    pub is_running: bool,
    /// How its logs are read.
    pub logs: LogReading,
    /// Why its logs are not read from files, if so.
    pub logs_reason: String,
}

/// What is counted. Each but the first is something that was skipped or lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// Lines handed on.
    LinesRead,
    /// Records of a log file that could not be read as such.
    RecordsMalformed,
    /// Lines with bytes that are not UTF-8 and were replaced.
    LinesReplaced,
    /// Times that a log was rotated away or truncated before it was read to its end.
    LogsCut,
    /// Log files that could not be read.
    LogFilesFailed,
    /// Cursors that were damaged.
    CursorsDamaged,
    /// Samples refused because a set of series was full.
    SamplesRefused,
    /// Collections of figures left out because the one before took too long.
    CollectionsMissed,
    /// Containers whose figures could not be read in a collection.
    ContainersFailed,
    /// Containers not followed because there are too many.
    ContainersRefused,
}

impl Count {
    /// Its name in metrics and on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LinesRead => "lines_read",
            Self::RecordsMalformed => "records_malformed",
            Self::LinesReplaced => "lines_replaced",
            Self::LogsCut => "logs_cut",
            Self::LogFilesFailed => "log_files_failed",
            Self::CursorsDamaged => "cursors_damaged",
            Self::SamplesRefused => "samples_refused",
            Self::CollectionsMissed => "collections_missed",
            Self::ContainersFailed => "containers_failed",
            Self::ContainersRefused => "containers_refused",
        }
    }
}

/// The state of all gathering on a node.
#[derive(Debug, Default)]
pub struct Status {
    inner: RwLock<Inner>,
    targets: Targets,
}

#[derive(Debug, Default)]
struct Inner {
    host: String,
    docker: DockerState,
    containers: BTreeMap<String, ContainerStatus>,
    counts: BTreeMap<Count, u64>,
}

impl Status {
    /// The targets that are scraped.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Nothing known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The label `host`; empty until it is known.
    pub fn host(&self) -> String {
        self.inner.read().host.clone()
    }

    /// Whether the engine answers.
    pub fn docker(&self) -> DockerState {
        self.inner.read().docker.clone()
    }

    /// All containers that the engine has, running or not, by id.
    pub fn container_states(&self) -> Vec<ContainerStatus> {
        self.inner.read().containers.values().cloned().collect()
    }

    /// What the running containers are, for the discovery of targets.
    pub fn containers(&self) -> Vec<ContainerInfo> {
        let inner = self.inner.read();
        let running = inner.containers.values().filter(|c| c.is_running);
        running.map(|c| c.info.clone()).collect()
    }

    /// What was counted so far. What has not occurred is left out.
    pub fn counts(&self) -> Vec<(Count, u64)> {
        self.inner
            .read()
            .counts
            .iter()
            .map(|(c, n)| (*c, *n))
            .collect()
    }

    pub(crate) fn set_host(&self, host: &str) {
        host.clone_into(&mut self.inner.write().host);
    }

    pub(crate) fn set_docker(&self, docker: DockerState) {
        self.inner.write().docker = docker;
    }

    pub(crate) fn set_container(&self, info: &ContainerInfo, is_running: bool) {
        let mut inner = self.inner.write();
        let state = inner.containers.entry(info.id.clone()).or_default();
        state.info = info.clone();
        state.is_running = is_running;
    }

    pub(crate) fn set_logs(&self, id: &str, logs: LogReading, reason: &str) {
        if let Some(state) = self.inner.write().containers.get_mut(id) {
            state.logs = logs;
            reason.clone_into(&mut state.logs_reason);
        }
    }

    pub(crate) fn remove_container(&self, id: &str) {
        self.inner.write().containers.remove(id);
    }

    pub(crate) fn count(&self, what: Count, times: u64) {
        if times > 0 {
            *self.inner.write().counts.entry(what).or_default() += times;
        }
    }
}
