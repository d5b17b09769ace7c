//! Scraping: targets are asked for their metrics as a Prometheus configuration says.
//!
//! Each job looks every few seconds at what is there to scrape and keeps a task for each
//! target; a target is its labels, address and times, so that one which discovery names again
//! goes on undisturbed. What a target says becomes samples with final labels, with `up` and the
//! `scrape_*` series beside them; series that end, because the target leaves them out, fails or
//! goes away, end with a stale marker.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use kittiwake_config::{Limits, PrometheusConfig, ScrapeConfig};
use kittiwake_model::LabelsBuilder;
use kittiwake_wire::exposition::Options;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Gathered, Status};

mod discover;
mod fetch;
mod series;
mod target;
mod targets;
mod worker;

use discover::{Discovered, Files, TARGETS_MAX, discover};
use fetch::Fetcher;
use series::Rules;
pub use target::check_group;
use target::{Target, target, with_defaults};
pub use targets::{ActiveTarget, LastScrape, Pool, Targets};
use worker::{Source, Worker};

/// Time between two looks at files and containers, both of which cost next to nothing.
const LOOK: Duration = Duration::from_secs(2);
/// How often the program's own metrics are read, and for how long at most.
const OWN_INTERVAL: Duration = Duration::from_secs(15);
/// What the program's own job is called.
const OWN_JOB: &str = "kittiwake";

/// What discovery draws on.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// The containers of this node.
    pub status: Arc<Status>,
}

/// The program's own metrics as a target.
#[derive(Clone)]
pub struct OwnTarget {
    /// The label `instance`.
    pub address: String,
    /// Gives the metrics as text, or says why not.
    pub read: Arc<dyn Fn() -> Result<String, String> + Send + Sync>,
}

impl fmt::Debug for OwnTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnTarget")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Scrapes until cancelled; returns when all tasks have ended. A new configuration takes over
/// at once: jobs that it has as they were go on undisturbed. `host` keeps the times at which
/// two nodes scrape one target apart, and is the label `host` of the program's own series.
pub async fn run(
    mut config: watch::Receiver<Arc<PrometheusConfig>>,
    discovery: Discovery,
    host: &str,
    out: Sender<Gathered>,
    cancel: CancellationToken,
    own: Option<OwnTarget>,
) {
    let tasks = TaskTracker::new();
    let seed = xxhash_rust::xxh3::xxh3_64(host.as_bytes());
    if let Some(own) = own {
        match own_worker(own, host, seed, out.clone()) {
            Ok(worker) => {
                let active = vec![Arc::clone(&worker.state)];
                let pool = Pool {
                    active,
                    ..Pool::default()
                };
                discovery.status.targets().set(OWN_JOB, pool);
                tasks.spawn(worker.run(cancel.clone(), CancellationToken::new()));
            }
            Err(error) => tracing::warn!("own metrics are not kept: {error}"),
        }
    }
    // Each job's settings as text, and the token that ends it.
    let mut jobs: HashMap<String, (String, CancellationToken)> = HashMap::new();
    loop {
        let now = config.borrow_and_update().clone();
        jobs.retain(|name, (settings, gone)| {
            let mut same = now
                .scrape_configs
                .iter()
                .filter(|job| job.job_name == *name);
            let stays = same.any(|job| format!("{job:?}") == *settings);
            if !stays {
                gone.cancel();
                discovery.status.targets().remove(name);
            }
            stays
        });
        for (index, job) in now.scrape_configs.iter().enumerate() {
            if jobs.contains_key(&job.job_name) {
                continue;
            }
            let gone = CancellationToken::new();
            let task = Job {
                config: Arc::clone(&now),
                index,
                discovery: discovery.clone(),
                seed,
                out: out.clone(),
                tasks: tasks.clone(),
            };
            tasks.spawn(task.run(cancel.clone(), gone.clone()));
            jobs.insert(job.job_name.clone(), (format!("{job:?}"), gone));
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            changed = config.changed() => if changed.is_err() {
                // Nobody is left to change it.
                cancel.cancelled().await;
                break;
            }
        }
    }
    drop(out);
    tasks.close();
    tasks.wait().await;
}

fn own_worker(
    own: OwnTarget,
    host: &str,
    seed: u64,
    out: Sender<Gathered>,
) -> Result<Worker, kittiwake_model::LabelError> {
    let mut labels = LabelsBuilder::new();
    labels.set("job", OWN_JOB).set("instance", &own.address);
    labels.set("host", host);
    let target = Target {
        labels: labels.build()?,
        uri: format!("http://{}/metrics", own.address)
            .parse()
            .unwrap_or(Uri::from_static("/metrics")),
        interval: OWN_INTERVAL,
        timeout: OWN_INTERVAL,
        histograms: Options::default(),
    };
    let address = BTreeMap::from([("__address__".to_owned(), own.address.clone())]);
    Ok(Worker {
        state: ActiveTarget::new(address, &target),
        target,
        source: Source::Own(own),
        rules: Arc::new(Rules {
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            relabel: Vec::new(),
            limits: Limits::default(),
        }),
        has_extra_metrics: false,
        seed,
        out,
    })
}

/// A target's task.
struct Running {
    gone: CancellationToken,
    state: Arc<ActiveTarget>,
}

struct Job {
    config: Arc<PrometheusConfig>,
    index: usize,
    discovery: Discovery,
    seed: u64,
    out: Sender<Gathered>,
    tasks: TaskTracker,
}

impl Job {
    /// Keeps a task for each target until the process stops, or the job is gone, which ends
    /// its series.
    async fn run(self, cancel: CancellationToken, gone: CancellationToken) {
        let config = Arc::clone(&self.config);
        let Some(job) = config.scrape_configs.get(self.index) else {
            return;
        };
        let rules = Arc::new(Rules {
            honor_labels: job.honor_labels,
            honor_timestamps: job.honor_timestamps,
            track_timestamps_staleness: job.track_timestamps_staleness,
            relabel: job.metric_relabel_configs.clone(),
            limits: job.limits,
        });
        let fetcher = Arc::new(Fetcher::new(job));
        let mut files: Vec<Files> = Vec::new();
        let mut running: HashMap<Target, Running> = HashMap::new();
        let mut complaints = HashSet::new();
        loop {
            if gone.is_cancelled() {
                return;
            }
            let (wanted, dropped) = self.targets(job, &mut files, &mut complaints);
            running.retain(|target, running| {
                let stays = wanted.contains_key(target);
                if !stays {
                    running.gone.cancel();
                }
                stays
            });
            for (target, discovered) in wanted {
                if running.contains_key(&target) {
                    continue;
                }
                let gone = CancellationToken::new();
                let state = ActiveTarget::new(discovered, &target);
                let worker = Worker {
                    target: target.clone(),
                    state: Arc::clone(&state),
                    source: Source::Http(Arc::clone(&fetcher)),
                    rules: Arc::clone(&rules),
                    has_extra_metrics: job.extra_scrape_metrics,
                    seed: self.seed,
                    out: self.out.clone(),
                };
                self.tasks.spawn(worker.run(cancel.clone(), gone.clone()));
                running.insert(target, Running { gone, state });
            }
            let active = running.values().map(|r| Arc::clone(&r.state)).collect();
            let targets = self.discovery.status.targets();
            targets.set(&job.job_name, Pool { active, dropped });
            tokio::select! {
                () = cancel.cancelled() => return,
                () = gone.cancelled() => {
                    for target in running.values() {
                        target.gone.cancel();
                    }
                    return;
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn targets(
        &self,
        job: &ScrapeConfig,
        files: &mut Vec<Files>,
        complaints: &mut HashSet<String>,
    ) -> (HashMap<Target, Discovered>, Vec<Discovered>) {
        let containers = if job.docker_sd_configs.is_empty() {
            Vec::new()
        } else {
            self.discovery.status.containers()
        };
        let mut targets = HashMap::new();
        let mut dropped = Vec::new();
        let keep_dropped = job.keep_dropped_targets.unwrap_or(TARGETS_MAX);
        let mut complain = |text: String| {
            if complaints.len() < TARGETS_MAX && complaints.insert(text.clone()) {
                tracing::warn!(job = job.job_name, "{text}");
            }
        };
        for discovered in discover(job, files, &containers) {
            let discovered = with_defaults(job, discovered);
            match target(job, &discovered) {
                Ok(Some(target)) => {
                    targets.insert(target, discovered);
                }
                Ok(None) if dropped.len() < keep_dropped => dropped.push(discovered),
                Ok(None) => {}
                Err(error) => {
                    let address = discovered.get("__address__").map_or("", String::as_str);
                    complain(format!("target {address:?} is left out: {error}"));
                }
            }
        }
        let limit = job.limits.targets;
        if limit > 0 && targets.len() as u64 > limit {
            complain(format!(
                "more than {limit} targets (target_limit): none is scraped"
            ));
            targets.clear();
        }
        (targets, dropped)
    }
}

#[cfg(test)]
mod tests;
