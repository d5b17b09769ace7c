//! What is gathered on a node: figures of the host and of its containers, and container logs.
//!
//! All of it leaves through one bounded channel as [`Gathered`], in one direction. When the
//! channel is full, figures and tails wait: nothing is held beyond one batch each. This crate
//! knows nothing of where batches go; what a reader must know to go on after a restart travels
//! with the lines as a cursor, opaque bytes that the receiver stores together with them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kittiwake_model::{Entry, Exemplar, Histogram, Labels, Metadata};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

mod container;
mod cursor;
mod docker;
mod figures;
pub mod host;
mod logs;
mod proc;
pub mod scrape;
mod series;
mod status;
pub mod tail;
mod tick;
mod watch;

pub use container::{ContainerInfo, Network, Port};
pub use cursor::{Cursor, CursorError, Position};
pub use figures::{CgroupReader, Figures};
pub use series::SeriesSet;
pub use status::{ContainerStatus, Count, DockerState, LogReading, Status};

/// Something that was gathered.
#[derive(Debug)]
pub enum Gathered {
    /// Samples of one collection.
    Samples(SampleBatch),
    /// Lines of one stream.
    Lines(LineBatch),
    /// What a cursor stood for has gone for good: it may be forgotten.
    Forget {
        /// The cursor's name.
        cursor: String,
    },
}

/// The samples of one collection. A series that has ended is marked by one sample that is
/// [`kittiwake_model::stale_nan`].
#[derive(Debug, Default)]
pub struct SampleBatch {
    /// When, in ms since the epoch.
    pub time_ms: i64,
    /// Each series once.
    pub samples: Vec<(Labels, f64)>,
    /// When the counting began of some of the samples: which, by its index, and when, in ms.
    /// In order of the index.
    pub starts: Vec<(usize, i64)>,
    /// Native histograms, each with the time in ms at which its counting began; 0 is not
    /// known.
    pub histograms: Vec<(Labels, Arc<Histogram>, i64)>,
    /// Exemplars and their series, which have a sample or histogram here.
    pub exemplars: Vec<(Labels, Exemplar)>,
    /// What is newly said of families of metrics.
    pub metadata: Vec<(String, Metadata)>,
}

impl SampleBatch {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
            && self.histograms.is_empty()
            && self.exemplars.is_empty()
            && self.metadata.is_empty()
    }
}

/// Lines of one stream in their order.
#[derive(Debug)]
pub struct LineBatch {
    /// The stream's labels.
    pub stream: Labels,
    /// The lines; may be empty when only the cursor has moved.
    pub entries: Vec<Entry>,
    /// The cursor's name and its new bytes, to be stored atomically with these lines and given
    /// back in [`Settings::cursors`].
    pub cursor: Option<(String, Vec<u8>)>,
}

/// What to gather, and where from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The label `host`; by default the Docker engine's name of its host, else the hostname.
    pub host_name: Option<String>,
    /// Where the host's `/proc` is.
    pub procfs: PathBuf,
    /// Where the host's `/sys` is.
    pub sysfs: PathBuf,
    /// Where the host's `/` is.
    pub rootfs: PathBuf,
    /// The Docker engine: a socket's path, or an address as `DOCKER_HOST` has it.
    pub docker: String,
    /// Time between two collections of figures.
    pub interval: Duration,
    /// The cursors stored last, by name.
    pub cursors: HashMap<String, Vec<u8>>,
}

/// Where the Docker engine listens unless told otherwise.
pub const DOCKER_DEFAULT: &str = "unix:///var/run/docker.sock";

impl Default for Settings {
    /// This machine, every 5 s, with the engine that `DOCKER_HOST` names.
    fn default() -> Self {
        Self {
            host_name: None,
            procfs: PathBuf::from("/proc"),
            sysfs: PathBuf::from("/sys"),
            rootfs: PathBuf::from("/"),
            docker: std::env::var("DOCKER_HOST")
                .ok()
                .filter(|address| !address.is_empty())
                .unwrap_or_else(|| DOCKER_DEFAULT.to_owned()),
            interval: Duration::from_secs(5),
            cursors: HashMap::new(),
        }
    }
}

/// Gathers until cancelled. Returns when all its tasks have ended; what was not sent then is
/// read again from its cursor.
pub async fn run(
    settings: Settings,
    out: Sender<Gathered>,
    cancel: CancellationToken,
    status: Arc<Status>,
) {
    let host: Arc<str> = docker::host_name(&settings).await.into();
    status.set_host(&host);
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(host::run(
        settings.clone(),
        Arc::clone(&host),
        out.clone(),
        cancel.clone(),
        Arc::clone(&status),
    ));
    docker::run(&settings, host, out, cancel, &status, &tasks).await;
    tasks.close();
    tasks.wait().await;
}
