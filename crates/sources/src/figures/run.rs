//! The collection of all running containers at each interval.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::StatsOptions;
use futures_util::StreamExt as _;
use kittiwake_model::{Labels, LabelsBuilder};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{CgroupReader, Limits, emit, from_stats};
use crate::status::Count;
use crate::tick::{Stamp, now_ms};
use crate::{ContainerInfo, Gathered, SampleBatch, SeriesSet, Settings, Status};

/// How long the engine may take for one container's figures.
const API_TIMEOUT: Duration = Duration::from_secs(3);

/// A container whose figures are wanted.
pub(crate) struct Subject {
    pub info: ContainerInfo,
    /// Its first process; 0 when the engine is on another machine.
    pub pid: i64,
    pub limits: Limits,
    /// For asking the engine where the files cannot be read.
    pub docker: Docker,
}

/// A container came or went.
pub(crate) enum Change {
    Started(Box<Subject>),
    Ended(String),
}

struct Running {
    subject: Subject,
    cgroup: Option<CgroupReader>,
    series: SeriesSet,
}

struct Collection {
    procfs: PathBuf,
    sysfs: PathBuf,
    host: Arc<str>,
    running: HashMap<String, Running>,
    own: SeriesSet,
}

/// Collects at each interval, and a new container at once, until cancelled.
pub(crate) async fn run(
    settings: Settings,
    host: Arc<str>,
    mut changes: Receiver<Change>,
    out: Sender<Gathered>,
    cancel: CancellationToken,
    status: Arc<Status>,
) {
    let mut base = LabelsBuilder::new();
    base.set("job", "cadvisor")
        .set("instance", &host)
        .set("host", &host);
    let mut collection = Collection {
        procfs: settings.procfs.clone(),
        sysfs: settings.sysfs.clone(),
        host,
        running: HashMap::new(),
        own: SeriesSet::new(base),
    };
    let mut ticks = tokio::time::interval(settings.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut stamp = Stamp::new(settings.interval);
    let mut size = 0;
    loop {
        let batch = tokio::select! {
            () = cancel.cancelled() => return,
            change = changes.recv() => match change {
                None => return,
                Some(change) => collection.apply(change, &status).await,
            },
            _ = ticks.tick() => {
                let time_ms = stamp.next(now_ms());
                let mut samples = Vec::with_capacity(size);
                collection.collect(time_ms, &mut samples, &status).await;
                size = samples.len();
                SampleBatch {
                    time_ms,
                    samples,
                    ..SampleBatch::default()
                }
            }
        };
        if batch.samples.is_empty() {
            continue;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            sent = out.send(Gathered::Samples(batch)) => if sent.is_err() { return },
        }
    }
}

impl Collection {
    async fn apply(&mut self, change: Change, status: &Status) -> SampleBatch {
        let mut batch = SampleBatch {
            time_ms: now_ms(),
            ..SampleBatch::default()
        };
        match change {
            Change::Ended(id) => {
                if let Some(mut running) = self.running.remove(&id) {
                    running.series.end(&mut batch.samples);
                }
            }
            Change::Started(subject) => {
                let id = subject.info.id.clone();
                let mut running = Running::new(*subject, self);
                if let Some(mut before) = self.running.remove(&id) {
                    let is_same = before.subject.pid == running.subject.pid
                        && before.subject.info == running.subject.info;
                    if is_same {
                        self.running.insert(id, before);
                        return batch;
                    }
                    if before.subject.info.series_labels("", "").build()
                        == running.subject.info.series_labels("", "").build()
                    {
                        running.series = before.series;
                    } else {
                        before.series.end(&mut batch.samples);
                    }
                }
                running
                    .collect(batch.time_ms, &mut batch.samples, status)
                    .await;
                self.running.insert(id, running);
            }
        }
        batch
    }

    async fn collect(&mut self, time_ms: i64, out: &mut Vec<(Labels, f64)>, status: &Status) {
        for running in self.running.values_mut() {
            running.collect(time_ms, out, status).await;
        }
        self.own.push(out, "up", &[], 1.0);
        self.own.finish(out);
    }
}

impl Running {
    fn new(subject: Subject, collection: &Collection) -> Self {
        let info = &subject.info;
        let cgroup = (subject.pid > 0)
            .then(|| {
                CgroupReader::find(
                    &collection.procfs,
                    &collection.sysfs,
                    &info.id,
                    subject.pid,
                    info.has_own_network(),
                )
            })
            .flatten();
        let path = match &cgroup {
            Some(cgroup) => cgroup.path.clone(),
            None => format!("/docker/{}", info.id),
        };
        let series = SeriesSet::new(info.series_labels(&collection.host, &path));
        Self {
            subject,
            cgroup,
            series,
        }
    }

    /// Reading a dozen files of the kernel takes tens of microseconds, less than handing it to
    /// another thread would be worth.
    async fn collect(&mut self, time_ms: i64, out: &mut Vec<(Labels, f64)>, status: &Status) {
        let figures = match &mut self.cgroup {
            Some(cgroup) => cgroup.read().ok(),
            None => self.ask().await,
        };
        match figures {
            Some(figures) => {
                emit(
                    &figures,
                    self.subject.limits,
                    time_ms,
                    &mut self.series,
                    out,
                );
                self.series.finish(out);
            }
            // It has ended, and its event is on the way; or it cannot be read now.
            None => status.count(Count::ContainersFailed, 1),
        }
        status.count(Count::SamplesRefused, self.series.take_refused());
    }

    async fn ask(&self) -> Option<super::Figures> {
        let options = StatsOptions {
            stream: false,
            one_shot: true,
        };
        let mut answers = std::pin::pin!(
            self.subject
                .docker
                .stats(&self.subject.info.id, Some(options))
        );
        let answer = tokio::time::timeout(API_TIMEOUT, answers.next())
            .await
            .ok()??;
        answer.ok().map(|stats| from_stats(&stats))
    }
}
