//! The collector: sources → journal → ship.
//!
//! What sources give is frozen into requests, which are journalled together with the places
//! in the sources up to which they reach, and sent until the server has them on disk. A frame
//! keeps content and number for life, so the server stores it once, however often it is sent.

mod frame;
mod gather;
pub mod http;
pub mod logging;
mod queue;
mod series;
mod ship;
mod split;
mod status;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kittiwake_config::{ConfigError, PrometheusConfig};
use kittiwake_env::{Clock, Periodic, RealClock, RealFs, SystemRng};
use kittiwake_sources as sources;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use frame::Kind;
pub use queue::{Queue, QueueError};
pub use ship::{Outcome, Request, Shipper};
pub use status::Status;

/// Batches on their way from the sources to the journal.
const GATHERED_MAX: usize = 64;
/// How often the checkpoint is written when something changed.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// How a collector is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the queue lies.
    pub state_path: PathBuf,
    /// Bytes of the queue at which samples are dropped and lines wait.
    pub queue_bytes_max: u64,
}

/// What is scraped beside the node itself.
#[derive(Debug, Clone)]
pub struct Scraping {
    /// The targets, as they are now and whenever that changes.
    pub config: watch::Receiver<Arc<PrometheusConfig>>,
    /// The program's own metrics, as the first target.
    pub own: Option<sources::scrape::OwnTarget>,
}

impl Scraping {
    /// What a Prometheus configuration file says, for good.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Ok(Self::fixed(load_config(file)?))
    }

    /// A configuration that does not change.
    pub fn fixed(config: PrometheusConfig) -> Self {
        Self {
            config: watch::channel(Arc::new(config)).1,
            own: None,
        }
    }
}

/// Reads a Prometheus configuration file. What it has that is not obeyed yet is logged.
pub fn load_config(file: &Path) -> Result<PrometheusConfig, ConfigError> {
    let config = PrometheusConfig::load(file)?;
    for section in &config.unsupported {
        tracing::warn!(file = %file.display(), section, "is not supported yet and has no effect");
    }
    Ok(config)
}

/// Why a collector cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The queue cannot be opened.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The system gave no random numbers, or no thread.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    queue: Arc<Queue>,
    status: Arc<Status>,
    sources_status: Arc<sources::Status>,
    stop_sources: CancellationToken,
    stop_shipping: CancellationToken,
    sources: JoinHandle<()>,
    gather: JoinHandle<()>,
    ship: JoinHandle<()>,
    _checkpoints: Periodic,
}

impl Collector {
    /// Opens the queue and starts everything on the current runtime.
    pub fn start(
        settings: &Settings,
        sources_settings: sources::Settings,
        scraping: Scraping,
        shipper: Arc<dyn Shipper>,
    ) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let mut rng = SystemRng::new()?;
        let queue = Queue::open(
            Arc::new(RealFs),
            clock,
            &mut rng,
            settings.state_path.join("queue"),
        )?;
        let queue = Arc::new(queue);
        let status = Arc::new(Status::default());
        let sources_status = Arc::new(sources::Status::default());
        let (stop_sources, stop_shipping) = (CancellationToken::new(), CancellationToken::new());
        let (sender, receiver) = mpsc::channel(GATHERED_MAX);
        let sources_settings = sources::Settings {
            cursors: queue.cursors().into_iter().collect(),
            ..sources_settings
        };
        let node = sources::run(
            sources_settings,
            sender.clone(),
            stop_sources.clone(),
            Arc::clone(&sources_status),
        );
        let scrape = scrape(
            scraping,
            sender,
            stop_sources.clone(),
            Arc::clone(&sources_status),
        );
        let running = async {
            tokio::join!(node, scrape);
        };
        let gather = gather::run(
            receiver,
            Arc::clone(&queue),
            settings.queue_bytes_max,
            Arc::clone(&status),
        );
        let shipping = ship::Shipping {
            queue: Arc::clone(&queue),
            shipper,
            status: Arc::clone(&status),
            aside: settings.state_path.join("aside"),
        };
        let ship = ship::run(Arc::new(shipping), stop_shipping.clone());
        let checkpointed = Arc::clone(&queue);
        let checkpoints = Periodic::start("collector-checkpoint", CHECKPOINT, move || {
            let done = checkpointed
                .checkpoint()
                .and_then(|()| Ok(checkpointed.sync()?));
            if let Err(error) = done {
                tracing::error!(%error, "checkpoint of the collector");
            }
        })?;
        Ok(Self {
            queue,
            status,
            sources_status,
            stop_sources,
            stop_shipping,
            sources: tokio::spawn(running),
            gather: tokio::spawn(gather),
            ship: tokio::spawn(ship),
            _checkpoints: checkpoints,
        })
    }

    /// How delivery goes.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// How gathering goes.
    pub fn sources_status(&self) -> Arc<sources::Status> {
        Arc::clone(&self.sources_status)
    }

    /// What waits to be delivered.
    pub fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// Stops the sources, journals what they gave, and delivers for at most so long. What is
    /// not delivered then comes after the next start.
    pub async fn stop(self, drain: Duration) {
        self.stop_sources.cancel();
        // A task that failed has said so.
        let _ = tokio::time::timeout(drain, async {
            let _ = self.sources.await;
            let _ = self.gather.await;
            while !self.queue.is_empty() {
                let shrunk = self.queue.shrunk.notified();
                tokio::pin!(shrunk);
                shrunk.as_mut().enable();
                if self.queue.is_empty() {
                    break;
                }
                shrunk.await;
            }
        })
        .await;
        self.stop_shipping.cancel();
        let _ = self.ship.await;
        if let Err(error) = self.queue.checkpoint() {
            tracing::error!(%error, "checkpoint of the collector");
        }
    }
}

/// Scrapes, once it is known what this host is called.
async fn scrape(
    scraping: Scraping,
    out: mpsc::Sender<sources::Gathered>,
    stop: CancellationToken,
    status: Arc<sources::Status>,
) {
    let named = async {
        loop {
            let host = status.host();
            if !host.is_empty() {
                break host;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let Some(host) = stop.run_until_cancelled(named).await else {
        return;
    };
    let discovery = sources::scrape::Discovery { status };
    sources::scrape::run(scraping.config, discovery, &host, out, stop, scraping.own).await;
}
