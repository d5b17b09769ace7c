//! The host's figures, under node_exporter's names, labels and units.
//!
//! Two collections run beside each other: what the kernel answers at once, and the file
//! systems, since asking a mount whose server has gone can block for good. Such a mount then
//! costs the figures of file systems and nothing else.

mod disk;
mod filesystem;
mod kernel;
mod network;

use std::path::PathBuf;
use std::sync::Arc;

use kittiwake_model::{Labels, LabelsBuilder};
use tokio::sync::mpsc::Sender;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::status::Count;
use crate::tick::{Stamp, now_ms};
use crate::{Gathered, SampleBatch, SeriesSet, Settings, Status};

pub use filesystem::FilesystemReader;

/// What is collected of a host: its samples, appended to a batch.
pub trait Collect: Send + 'static {
    /// Appends the figures of now; `time_ms` is the collection's time.
    fn collect(&mut self, time_ms: i64, out: &mut Vec<(Labels, f64)>);
    /// Ends all series with stale markers.
    fn end(&mut self, out: &mut Vec<(Labels, f64)>);
    /// How many samples were refused since the last call.
    fn take_refused(&mut self) -> u64;
}

/// Reads what the kernel tells of CPU, memory, load, disks and networks.
#[derive(Debug)]
pub struct HostReader {
    procfs: PathBuf,
    sysfs: PathBuf,
    series: SeriesSet,
    text: String,
}

fn base_labels(host: &str) -> LabelsBuilder {
    let mut base = LabelsBuilder::new();
    base.set("job", "node")
        .set("instance", host)
        .set("host", host);
    base
}

impl HostReader {
    /// A reader of this host's files.
    pub fn new(settings: &Settings, host: &str) -> Self {
        Self {
            procfs: settings.procfs.clone(),
            sysfs: settings.sysfs.clone(),
            series: SeriesSet::new(base_labels(host)),
            text: String::new(),
        }
    }
}

impl Collect for HostReader {
    fn collect(&mut self, time_ms: i64, out: &mut Vec<(Labels, f64)>) {
        let mut sink = Sink {
            series: &mut self.series,
            out,
        };
        kernel::collect(&self.procfs, &mut self.text, time_ms, &mut sink);
        disk::collect(&self.procfs, &mut self.text, &mut sink);
        network::collect(&self.procfs, &self.sysfs, &mut self.text, &mut sink);
        sink.push("up", &[], 1.0);
        self.series.finish(out);
    }

    fn end(&mut self, out: &mut Vec<(Labels, f64)>) {
        self.series.end(out);
    }

    fn take_refused(&mut self) -> u64 {
        self.series.take_refused()
    }
}

/// Where the parts of a collection put their samples.
pub(crate) struct Sink<'a> {
    series: &'a mut SeriesSet,
    out: &'a mut Vec<(Labels, f64)>,
}

impl Sink<'_> {
    pub(crate) fn push(&mut self, name: &str, extra: &[(&str, &str)], value: f64) {
        self.series.push(self.out, name, extra, value);
    }
}

/// Collects at each interval until cancelled.
pub(crate) async fn run(
    settings: Settings,
    host: Arc<str>,
    out: Sender<Gathered>,
    cancel: CancellationToken,
    status: Arc<Status>,
) {
    let figures = HostReader::new(&settings, &host);
    let filesystems = FilesystemReader::new(&settings, &host);
    tokio::join!(
        collect(figures, &settings, &out, &cancel, &status),
        collect(filesystems, &settings, &out, &cancel, &status),
    );
}

async fn collect<C: Collect>(
    mut reader: C,
    settings: &Settings,
    out: &Sender<Gathered>,
    cancel: &CancellationToken,
    status: &Status,
) {
    let mut ticks = tokio::time::interval(settings.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut stamp = Stamp::new(settings.interval);
    let mut size = 0;
    let mut last_ms = None;
    let interval_ms = i64::try_from(settings.interval.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let time_ms = stamp.next(now_ms());
        if let Some(last_ms) = last_ms.replace(time_ms) {
            let passed: i64 = (time_ms - last_ms + interval_ms / 2) / interval_ms;
            status.count(
                Count::CollectionsMissed,
                u64::try_from(passed - 1).unwrap_or(0),
            );
        }
        let collecting = tokio::task::spawn_blocking(move || {
            let mut samples = Vec::with_capacity(size);
            reader.collect(time_ms, &mut samples);
            (reader, samples)
        });
        let collected = tokio::select! {
            () = cancel.cancelled() => return,
            collected = collecting => collected,
        };
        let Ok((back, samples)) = collected else {
            return;
        };
        reader = back;
        size = samples.len();
        status.count(Count::SamplesRefused, reader.take_refused());
        let batch = Gathered::Samples(SampleBatch {
            time_ms,
            samples,
            ..SampleBatch::default()
        });
        tokio::select! {
            () = cancel.cancelled() => return,
            sent = out.send(batch) => if sent.is_err() { return },
        }
    }
}
