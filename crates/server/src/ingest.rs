//! What comes in: remote write, OTLP and Loki push, decoded straight into the stores' batches.

mod intake;
mod otlp;
mod otlp_logs;
mod remote_write;

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::StatusCode;
use kittiwake_env::Clock;
use kittiwake_logql::level;
use kittiwake_logstore as logs;
use kittiwake_model::delivery::Origin;
use kittiwake_model::{Labels, SeriesHash};
use kittiwake_tsdb as metrics;
use kittiwake_wire::loki_push::{self, PushRequest};
use kittiwake_wire::{LINE_BYTES_MAX, label_text, snappy, text};
use parking_lot::Mutex;

pub use intake::{Drop, Dropped};
use otlp::Deltas;

use crate::body::PLAIN_BYTES_MAX;
use crate::reply::Problem;

/// Labels of a series or stream at most.
const LABELS_MAX: usize = 128;
/// Longest name or value of a label, in bytes.
const LABEL_BYTES_MAX: usize = 64 << 10;
/// Texts of stream labels that are known without parsing, in each of two generations.
const STREAMS_KNOWN_MAX: usize = 100_000;

const SERVICE_NAME: &str = "service_name";
const UNKNOWN_SERVICE: &str = "unknown_service";
/// Labels that stand in for a missing `service_name`, the best first.
const SERVICE_NAMES: [&str; 13] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

/// The stores, as those who write see them.
#[derive(Debug)]
pub struct Ingest {
    /// Time series.
    pub metrics: Arc<metrics::Store>,
    /// Log lines.
    pub logs: Arc<logs::Store>,
    clock: Arc<dyn Clock>,
    deltas: Deltas,
    buffers: Mutex<Vec<Buffers>>,
    streams_known: Mutex<[HashMap<String, Stream>; 2]>,
    /// What was not stored, and why, beyond what the stores themselves count.
    pub dropped: Dropped,
}

/// A stream, and the level that its labels tell for all of its lines.
#[derive(Debug, Clone)]
struct Stream {
    labels: Labels,
    hash: SeriesHash,
    level: Option<Arc<str>>,
}

impl Stream {
    fn new(labels: Labels, store: &logs::Store) -> Self {
        Self {
            hash: store.hash(&labels),
            level: level::of_labels(&labels).map(Arc::from),
            labels,
        }
    }
}

/// What a request of metrics is read into. Fresh memory for each would cost as much as parsing.
#[derive(Debug, Default)]
struct Buffers {
    plain: Vec<u8>,
    batch: metrics::Batch,
}

/// Buffers that are kept, and bytes of one at most.
const BUFFERS_MAX: usize = 4;
const BUFFER_BYTES_MAX: usize = 8 << 20;

/// A request that was taken.
#[derive(Debug, Default)]
pub struct Taken {
    /// Samples or lines stored, or known already.
    pub samples: u64,
    /// Native histograms stored, or known already.
    pub histograms: u64,
    /// Exemplars stored, or known already.
    pub exemplars: u64,
    /// How many were refused.
    pub refused: u64,
    /// What is to be told to senders that do not number their frames: the first sample or
    /// line that was refused, and why.
    pub refusal: Option<String>,
}

impl Ingest {
    /// Ingest into these stores.
    pub fn new(
        metrics: Arc<metrics::Store>,
        logs: Arc<logs::Store>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            metrics,
            logs,
            clock,
            deltas: Deltas::default(),
            buffers: Mutex::default(),
            streams_known: Mutex::default(),
            dropped: Dropped::default(),
        }
    }

    /// Decompresses a body and does something with it, in memory that was used before.
    fn with_plain<T>(
        &self,
        body: &[u8],
        take: impl FnOnce(&[u8], &mut metrics::Batch) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let mut buffers = self.buffers.lock().pop().unwrap_or_default();
        let Buffers { plain, batch } = &mut buffers;
        let taken = snappy::decompress(body, PLAIN_BYTES_MAX, plain)
            .map_err(snappy_problem)
            .and_then(|plain| take(plain, batch));
        buffers.batch.clear();
        let mut kept = self.buffers.lock();
        if kept.len() < BUFFERS_MAX && buffers.plain.capacity() <= BUFFER_BYTES_MAX {
            kept.push(buffers);
        }
        taken
    }

    /// Stores a Loki push: protobuf, decompressed.
    pub fn loki_protobuf(&self, plain: &[u8], origin: Option<&Origin>) -> Result<Taken, Problem> {
        let mut lines = Lines::default();
        let mut pairs = Vec::new();
        for stream in PushRequest::new(plain).streams() {
            let stream = stream.map_err(bad)?;
            let Stream {
                labels,
                hash,
                level,
            } = self.stream(stream.labels_text())?;
            lines.batch.start_known(labels, hash);
            for entry in stream.entries() {
                let entry = entry.map_err(bad)?;
                let metadata = if entry.metadata_count() == 0 {
                    None
                } else {
                    pairs.clear();
                    entry.metadata_into(LABELS_MAX, &mut pairs).map_err(bad)?;
                    Some(Labels::from_pairs(pairs.drain(..)).map_err(bad)?)
                };
                let metadata = metadata.unwrap_or_default();
                lines.add(entry.time_ns, &entry.line, &metadata, level.as_deref());
            }
        }
        self.store_lines(&lines.batch, origin)
    }

    /// Stores a Loki push in JSON.
    pub fn loki_json(&self, body: &[u8], origin: Option<&Origin>) -> Result<Taken, Problem> {
        let limits = loki_push::Limits::default();
        let mut lines = Lines::default();
        for stream in loki_push::decode_json(body, &limits).map_err(bad)? {
            check_stream(&stream.labels)?;
            let labels = with_service_name(stream.labels);
            let level = level::of_labels(&labels).map(str::to_owned);
            lines.batch.start(labels);
            for entry in &stream.entries {
                lines.add(
                    entry.time_ns,
                    &entry.line,
                    &entry.metadata,
                    level.as_deref(),
                );
            }
        }
        self.store_lines(&lines.batch, origin)
    }

    fn store_lines(&self, batch: &logs::Batch, origin: Option<&Origin>) -> Result<Taken, Problem> {
        let written = self
            .logs
            .write(batch, origin)
            .map_err(|error| match error {
                logs::WriteError::Full(_) | logs::WriteError::Failed(_) => {
                    Problem::unavailable(error.to_string())
                }
                logs::WriteError::TooLarge { .. } => {
                    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "bad_data", error.to_string())
                }
                logs::WriteError::TooFarAhead { .. } => too_far_ahead(error.to_string()),
            })?;
        if origin.is_some() {
            self.logs
                .sync(written.sequence)
                .map_err(|e| Problem::unavailable(e.to_string()))?;
        }
        let refusal = written.first_refused.map(|(labels, time_ns, why)| {
            let mut stream = String::new();
            label_text::push(&mut stream, &labels);
            let what = match why {
                logs::Refusal::TooOld => "older than the retention",
                logs::Refusal::StreamLimit => "the limit of active streams is reached",
            };
            format!(
                "{what}; stream={stream}, timestamp={time_ns}, lines refused={}",
                written.refused
            )
        });
        Ok(Taken {
            samples: written.accepted,
            refusal,
            ..Taken::default()
        })
    }

    /// A stream from the text of its labels; senders repeat the same ones all the time.
    fn stream(&self, text: &str) -> Result<Stream, Problem> {
        let mut known = self.streams_known.lock();
        if let Some(stream) = known[0].get(text).or_else(|| known[1].get(text)) {
            return Ok(stream.clone());
        }
        let labels = label_text::parse(text, LABELS_MAX).map_err(bad)?;
        check_stream(&labels)?;
        let stream = Stream::new(with_service_name(labels), &self.logs);
        if known[0].len() >= STREAMS_KNOWN_MAX {
            known[1] = std::mem::take(&mut known[0]);
        }
        known[0].insert(text.to_owned(), stream.clone());
        Ok(stream)
    }
}

/// The lines of a request on their way into the store.
#[derive(Default)]
struct Lines {
    batch: logs::Batch,
    /// The metadata of lines that have a level and nothing else, as most do.
    levels: HashMap<String, Labels>,
}

impl Lines {
    /// Adds a line, in pieces when it is very long: both halves are kept. The level that its
    /// stream tells, or that it shows itself, becomes structured metadata, as in Loki.
    fn add(&mut self, time_ns: i64, line: &str, metadata: &Labels, level: Option<&str>) {
        let level = match metadata.get(level::LEVEL) {
            Some(given) => level::normalized(given),
            None => level.unwrap_or_else(|| level::of_line(metadata, line)),
        };
        let known = metadata
            .is_empty()
            .then(|| self.levels.get(level))
            .flatten();
        let with_level = known.cloned().unwrap_or_else(|| {
            let mut with_level = metadata.to_builder();
            with_level.set(level::LEVEL, level);
            let with_level = with_level.build().unwrap_or_else(|_| metadata.clone());
            if metadata.is_empty() {
                self.levels.insert(level.to_owned(), with_level.clone());
            }
            with_level
        });
        for piece in text::parts(line, LINE_BYTES_MAX) {
            self.batch.line(time_ns, piece, Some(with_level.clone()));
        }
    }
}

/// Labels of a stream of which one at least names the service: the first that is there of
/// those that do so elsewhere, as in Loki.
fn with_service_name(labels: Labels) -> Labels {
    if labels.get(SERVICE_NAME).is_some() {
        return labels;
    }
    let found = SERVICE_NAMES.iter().find_map(|name| labels.get(name));
    let mut named = labels.to_builder();
    named.set(SERVICE_NAME, found.unwrap_or(UNKNOWN_SERVICE));
    named.build().unwrap_or(labels)
}

fn check_stream(labels: &Labels) -> Result<(), Problem> {
    if labels.is_empty() {
        return Err(Problem::bad_data(
            "error at least one label pair is required per stream",
        ));
    }
    check_labels(labels)
}

fn check_labels(labels: &Labels) -> Result<(), Problem> {
    for (name, value) in labels {
        if name.len().max(value.len()) > LABEL_BYTES_MAX {
            let name: String = name.chars().take(64).collect();
            return Err(Problem::bad_data(format!(
                "label {name:?} is longer than {LABEL_BYTES_MAX} bytes"
            )));
        }
    }
    if labels.is_empty() {
        return Err(Problem::bad_data("a series needs at least one label"));
    }
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "a function for map_err")]
fn bad(error: impl ToString) -> Problem {
    Problem::bad_data(error.to_string())
}

pub(crate) fn snappy_problem(error: snappy::SnappyError) -> Problem {
    match error {
        snappy::SnappyError::TooLarge { .. } => crate::body::too_large(PLAIN_BYTES_MAX),
        error => bad(error),
    }
}

fn too_far_ahead(message: String) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "unavailable", message)
}
