//! One request's series on their way into the store: what is good is taken, what is not is
//! counted by its reason and told to the sender.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kittiwake_model::delivery::Origin;
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{Exemplar, Histogram, Labels, Metadata};
use kittiwake_tsdb as metrics;
use kittiwake_wire::label_text;
use kittiwake_wire::remote_write::histogram_problem;

use super::{Ingest, LABEL_BYTES_MAX, LABELS_MAX, Taken, too_far_ahead};
use crate::reply::Problem;

/// How far ahead of this machine's clock a sample may be, in ms.
const AHEAD_MS: i64 = 10 * 60 * 1000;
/// Reasons that are told to a sender.
const TOLD_MAX: usize = 10;

/// Why something is not even given to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// A series' labels are no set, or it has no name.
    InvalidLabels,
    /// A label is too long, or there are too many.
    LabelLimit,
    /// A sample lies too far in the future.
    TooNew,
    /// A histogram makes no sense.
    InvalidHistogram,
    /// An exemplar's labels are no set, or it lies too far in the future.
    InvalidExemplar,
    /// A series has neither sample nor histogram.
    NoSamples,
    /// A metric of OpenTelemetry of a kind that is not taken.
    Unsupported,
}

impl Drop {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 7] = [
        Self::InvalidLabels,
        Self::LabelLimit,
        Self::TooNew,
        Self::InvalidHistogram,
        Self::InvalidExemplar,
        Self::NoSamples,
        Self::Unsupported,
    ];

    /// The reason as a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidLabels => "invalid_labels",
            Self::LabelLimit => "label_limit",
            Self::TooNew => "too_far_in_future",
            Self::InvalidHistogram => "invalid_histogram",
            Self::InvalidExemplar => "invalid_exemplar",
            Self::NoSamples => "no_samples",
            Self::Unsupported => "unsupported_metric",
        }
    }
}

/// Counters of what was not given to the store.
#[derive(Debug, Default)]
pub struct Dropped([AtomicU64; Drop::ALL.len()]);

impl Dropped {
    fn add(&self, why: Drop, count: u64) {
        self.0[why as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// How many, by reason.
    pub fn counts(&self) -> impl Iterator<Item = (Drop, u64)> {
        Drop::ALL
            .into_iter()
            .map(|why| (why, self.0[why as usize].load(Ordering::Relaxed)))
    }
}

/// The series of a request.
pub(super) struct Intake<'i> {
    ingest: &'i Ingest,
    batch: &'i mut metrics::Batch,
    names: metrics::Names<'i>,
    max_ms: i64,
    /// The labels of the current series, for what is told.
    current: Current,
    taken: Taken,
    told: Vec<String>,
    refused: u64,
}

enum Current {
    None,
    Known(metrics::KnownSeries),
    Labels(Labels),
}

impl<'i> Intake<'i> {
    /// An intake into a batch, which is empty.
    pub fn new(ingest: &'i Ingest, batch: &'i mut metrics::Batch) -> Self {
        Self {
            ingest,
            names: ingest.metrics.names(),
            batch,
            max_ms: ingest.clock.now_ms().saturating_add(AHEAD_MS),
            current: Current::None,
            taken: Taken::default(),
            told: Vec::new(),
            refused: 0,
        }
    }

    /// How many of the first bytes of a series name the one that is expected next, and which.
    pub fn expected(&self, bytes: &[u8]) -> Option<(usize, metrics::KnownSeries)> {
        self.names.expected(bytes)
    }

    /// What follows is of the expected series.
    pub fn go_on(&mut self, expected: metrics::KnownSeries) {
        self.names.go_on(expected);
        self.current = Current::Known(expected);
        self.batch.start_known(expected);
    }

    /// What follows is of a series that the store knows by the bytes of its labels. False:
    /// it does not, and [`Self::series`] must be called.
    pub fn known(&mut self, raw_hash: Option<u128>) -> bool {
        let known = raw_hash.and_then(|hash| self.names.known(hash));
        let is_known = known.is_some();
        if let Some(known) = known {
            self.current = Current::Known(known);
            self.batch.start_known(known);
        }
        is_known
    }

    /// What follows is of this series. False: its labels cannot be taken, and `count` samples
    /// with it.
    pub fn series(&mut self, labels: Labels, raw_hash: Option<u128>, count: usize) -> bool {
        if let Some((why, problem)) = label_problem(&labels) {
            self.refuse(why, count as u64, || {
                format!("{problem}, got {}", text(&labels))
            });
            return false;
        }
        self.current = Current::Labels(labels.clone());
        self.batch.start(labels, raw_hash);
        true
    }

    pub fn sample(&mut self, time_ms: i64, value: f64, start_ms: i64) {
        if time_ms > self.max_ms {
            return self.too_new(time_ms);
        }
        self.taken.samples += 1;
        if start_ms == 0 {
            self.batch.sample(time_ms, value);
        } else {
            self.batch.sample_from(time_ms, value, start_ms);
        }
    }

    pub fn histogram(&mut self, time_ms: i64, histogram: Arc<Histogram>, start_ms: i64) {
        if time_ms > self.max_ms {
            return self.too_new(time_ms);
        }
        if let Some(problem) = histogram_problem(&histogram) {
            return self.refuse_sample(Drop::InvalidHistogram, |series| {
                format!("invalid histogram: {problem}, for series {series}, timestamp {time_ms}")
            });
        }
        self.taken.histograms += 1;
        self.batch.histogram(time_ms, histogram, start_ms);
    }

    pub fn exemplar(&mut self, exemplar: Exemplar) {
        if exemplar.time_ms > self.max_ms {
            return self.refuse_sample(Drop::InvalidExemplar, |series| {
                format!("exemplar too far in the future for series {series}")
            });
        }
        self.taken.exemplars += 1;
        self.batch.exemplar(exemplar);
    }

    pub fn metadata(&mut self, name: &str, metadata: Metadata) {
        self.batch.metadata(name, metadata);
    }

    /// Counts what is not taken and keeps what is to be told of it.
    pub fn refuse(&mut self, why: Drop, count: u64, problem: impl FnOnce() -> String) {
        self.ingest.dropped.add(why, count.max(1));
        self.refused += count.max(1);
        if self.told.len() < TOLD_MAX {
            self.told.push(problem());
        }
    }

    fn too_new(&mut self, time_ms: i64) {
        self.refuse_sample(Drop::TooNew, |series| {
            format!(
                "out of bounds: timestamp is too far in the future for series {series}, timestamp {time_ms}"
            )
        });
    }

    /// Refuses one sample of the current series, of which a text is made only where it is told.
    fn refuse_sample(&mut self, why: Drop, problem: impl FnOnce(&str) -> String) {
        if self.told.len() < TOLD_MAX {
            let problem = problem(&self.series_text());
            self.refuse(why, 1, || problem);
        } else {
            self.refuse(why, 1, String::new);
        }
    }

    /// The current series' labels as text.
    pub fn series_text(&self) -> String {
        match &self.current {
            Current::None => "{}".to_owned(),
            Current::Known(known) => {
                let labels = self.names.labels(*known);
                labels.map_or_else(String::new, |labels| text(&labels))
            }
            Current::Labels(labels) => text(labels),
        }
    }

    /// Stores what was taken. What a sender numbers is on disk when this returns.
    pub fn store(self, origin: Option<&Origin>) -> Result<Taken, Problem> {
        let Self {
            ingest,
            names,
            batch,
            mut taken,
            mut told,
            mut refused,
            ..
        } = self;
        // A series can become known only when nobody looks any more.
        drop(names);
        let store = &ingest.metrics;
        let written = store.write(batch, origin).map_err(|error| match error {
            metrics::WriteError::Full(_) | metrics::WriteError::Failed(_) => {
                Problem::unavailable(error.to_string())
            }
            metrics::WriteError::TooFarAhead { .. } => too_far_ahead(error.to_string()),
        })?;
        if origin.is_some() {
            store
                .sync(written.sequence)
                .map_err(|e| Problem::unavailable(e.to_string()))?;
        }
        let mut left = written.refused;
        for part in [&mut taken.samples, &mut taken.histograms] {
            let gone = left.min(*part);
            *part -= gone;
            left -= gone;
        }
        if let Some((labels, time_ms, why)) = written.first_refused {
            let what = match why {
                metrics::Refusal::OutOfOrder => "out of order sample",
                metrics::Refusal::DuplicateTime => "duplicate sample for timestamp",
                metrics::Refusal::TooOld => "out of bounds",
                metrics::Refusal::SeriesLimit => "the limit of active series is reached",
                metrics::Refusal::TooManyBuckets => "a histogram has too many buckets",
            };
            refused += written.refused;
            told.insert(
                0,
                format!("{what} for series {}, timestamp {time_ms}", text(&labels)),
            );
        }
        if !told.is_empty() {
            let mut refusal = told.join("\n");
            if refused as usize > told.len() {
                // Writing to a text cannot fail.
                let _ = write!(refusal, "\n{refused} refused in all");
            }
            taken.refusal = Some(refusal);
        }
        taken.refused = refused;
        Ok(taken)
    }
}

fn label_problem(labels: &Labels) -> Option<(Drop, String)> {
    if labels.get(METRIC_NAME).is_none() {
        let problem = "invalid metric name or labels".to_owned();
        return Some((Drop::InvalidLabels, problem));
    }
    if labels.len() > LABELS_MAX {
        let problem = format!("more than {LABELS_MAX} labels");
        return Some((Drop::LabelLimit, problem));
    }
    let mut long = labels
        .iter()
        .filter(|(n, v)| n.len().max(v.len()) > LABEL_BYTES_MAX);
    let (name, _) = long.next()?;
    let name: String = name.chars().take(64).collect();
    let problem = format!("label {name:?} is longer than {LABEL_BYTES_MAX} bytes");
    Some((Drop::LabelLimit, problem))
}

/// Labels as they are told: not longer than a line should be.
fn text(labels: &Labels) -> String {
    let mut series = String::new();
    label_text::push(&mut series, labels);
    shortened(&series)
}

pub(super) fn shortened(series: &str) -> String {
    const CHARS_MAX: usize = 1000;
    let mut short: String = series.chars().take(CHARS_MAX).collect();
    if short.len() < series.len() {
        short.push('…');
    }
    short
}
