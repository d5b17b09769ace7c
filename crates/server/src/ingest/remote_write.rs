//! Remote write, 1.0 and 2.0.

use std::sync::Arc;

use kittiwake_model::delivery::Origin;
use kittiwake_model::{LabelError, Labels, Metadata};
use kittiwake_tsdb::Batch;
use kittiwake_wire::remote_write::{HistogramSample, LabelsError, Series, WriteRequest, v2};

use super::intake::{Drop, Intake, shortened};
use super::{Ingest, LABEL_BYTES_MAX, LABELS_MAX, Taken, bad};
use crate::reply::Problem;

impl Ingest {
    /// Stores a snappy-compressed remote write 1.0 request. A numbered one is on disk when
    /// this returns.
    pub fn remote_write(&self, body: &[u8], origin: Option<&Origin>) -> Result<Taken, Problem> {
        self.with_plain(body, |plain, batch| self.version_1(plain, batch, origin))
    }

    fn version_1(
        &self,
        plain: &[u8],
        batch: &mut Batch,
        origin: Option<&Origin>,
    ) -> Result<Taken, Problem> {
        let request = WriteRequest::new(plain);
        let mut intake = Intake::new(self, batch);
        let mut all = request.series();
        loop {
            let mut expected = None;
            let next = all.next_knowing(|bytes| {
                let (len, series) = intake.expected(bytes)?;
                expected = Some(series);
                Some(len)
            });
            let Some(next) = next else { break };
            let (series, is_expected) = next.map_err(bad)?;
            match expected.filter(|_| is_expected) {
                Some(expected) => intake.go_on(expected),
                None => {
                    if !self.name_series(&mut intake, &series) {
                        continue;
                    }
                }
            }
            for sample in series.samples() {
                let (time_ms, value) = sample.map_err(bad)?;
                intake.sample(time_ms, value, 0);
            }
            histograms(&mut intake, series.histograms());
            for exemplar in series.exemplars() {
                push_exemplar(&mut intake, exemplar);
            }
        }
        for metadata in request.metadata() {
            let (name, metadata) = metadata.map_err(bad)?;
            if !name.is_empty() {
                intake.metadata(name, metadata);
            }
        }
        intake.store(origin)
    }

    /// What follows is of this series. False: its labels cannot be taken.
    fn name_series(&self, intake: &mut Intake<'_>, series: &Series<'_>) -> bool {
        let raw_hash = series.raw_labels().map(|raw| self.metrics.raw_hash(raw));
        if intake.known(raw_hash) {
            return true;
        }
        let count = series.sample_count() + series.histogram_count();
        match series.labels(LABELS_MAX) {
            Ok(labels) => intake.series(labels, raw_hash, count),
            Err(error) => {
                intake.refuse(why(&error), count as u64, || {
                    format!(
                        "invalid metric name or labels: {error}, got {}",
                        shortened(&series.describe())
                    )
                });
                false
            }
        }
    }

    /// Stores a snappy-compressed remote write 2.0 request.
    pub fn remote_write_2(&self, body: &[u8], origin: Option<&Origin>) -> Result<Taken, Problem> {
        self.with_plain(body, |plain, batch| self.version_2(plain, batch, origin))
    }

    fn version_2(
        &self,
        plain: &[u8],
        batch: &mut Batch,
        origin: Option<&Origin>,
    ) -> Result<Taken, Problem> {
        let request = v2::Request::new(plain).map_err(bad)?;
        let mut intake = Intake::new(self, batch);
        let mut pairs = Vec::new();
        let mut raw = Vec::new();
        for series in request.series() {
            let series = series.map_err(bad)?;
            let count = series.sample_count + series.histogram_count;
            if let Err(error) = request.labels_into(&series, LABELS_MAX, &mut pairs) {
                intake.refuse(why(&error), count as u64, || {
                    format!("parsing labels for series: {error}")
                });
                continue;
            }
            // A text stands in the request once and may be named by every label of every series.
            let mut texts = pairs.iter().flat_map(|(name, value)| [name, value]);
            if let Some(long) = texts.find(|text| text.len() > LABEL_BYTES_MAX) {
                intake.refuse(Drop::LabelLimit, count as u64, || {
                    let long: String = long.chars().take(64).collect();
                    format!("label {long:?}... is longer than {LABEL_BYTES_MAX} bytes")
                });
                continue;
            }
            raw.clear();
            raw.push(2);
            for (name, value) in &pairs {
                for part in [name, value] {
                    raw.extend_from_slice(&(part.len() as u32).to_le_bytes());
                    raw.extend_from_slice(part.as_bytes());
                }
            }
            let raw_hash = Some(self.metrics.raw_hash(&raw));
            if !intake.known(raw_hash) && !series_2(&mut intake, &pairs, raw_hash, count) {
                continue;
            }
            if count == 0 {
                let series = intake.series_text();
                intake.refuse(Drop::NoSamples, 1, || {
                    format!("TimeSeries must contain at least one sample or histogram for series {series}")
                });
                continue;
            }
            for sample in series.samples() {
                let (time_ms, value, start_ms) = sample.map_err(bad)?;
                intake.sample(time_ms, value, start_ms);
            }
            histograms(&mut intake, series.histograms());
            for exemplar in request.exemplars(&series) {
                push_exemplar(&mut intake, exemplar);
            }
            let name = pairs.iter().find(|(name, _)| *name == "__name__");
            match (request.metadata(&series), name) {
                (Ok(Some(metadata)), Some((_, name))) => {
                    intake.metadata(family_name(name, &metadata), metadata);
                }
                (Err(error), _) => intake.refuse(Drop::InvalidLabels, 1, || {
                    format!("parsing metadata for series: {error}")
                }),
                _ => {}
            }
        }
        intake.store(origin)
    }
}

fn why(error: &LabelsError) -> Drop {
    match error {
        LabelsError::TooMany { .. } => Drop::LabelLimit,
        _ => Drop::InvalidLabels,
    }
}

/// Begins a series of 2.0 from its pairs as they are sent.
fn series_2(
    intake: &mut Intake<'_>,
    pairs: &[(&str, &str)],
    raw_hash: Option<u128>,
    count: usize,
) -> bool {
    let described = || {
        let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
        shortened(&format!("{{{}}}", pairs.join(", ")))
    };
    match Labels::from_pairs(pairs.iter().copied()) {
        Ok(labels) => intake.series(labels, raw_hash, count),
        Err(error) => {
            let problem = match error {
                LabelError::Duplicate(name) => format!(
                    "invalid labels for series, labels {}, duplicated label {name}",
                    described()
                ),
                error => format!(
                    "invalid metric name or labels: {error}, got {}",
                    described()
                ),
            };
            intake.refuse(Drop::InvalidLabels, count as u64, || problem);
            false
        }
    }
}

fn histograms(
    intake: &mut Intake<'_>,
    histograms: impl Iterator<Item = Result<HistogramSample, kittiwake_wire::Malformed>>,
) {
    for histogram in histograms {
        match histogram {
            Ok(h) => intake.histogram(h.time_ms, Arc::new(h.histogram), h.start_ms),
            Err(error) => {
                let series = intake.series_text();
                intake.refuse(Drop::InvalidHistogram, 1, || {
                    format!("invalid histogram for series {series}: {error}")
                });
            }
        }
    }
}

fn push_exemplar(
    intake: &mut Intake<'_>,
    exemplar: Result<kittiwake_model::Exemplar, LabelsError>,
) {
    match exemplar {
        Ok(exemplar) => intake.exemplar(exemplar),
        Err(error) => {
            let series = intake.series_text();
            intake.refuse(Drop::InvalidExemplar, 1, || {
                format!("parsing exemplar for series {series}: {error}")
            });
        }
    }
}

/// The family of which metadata on a series speaks.
fn family_name<'n>(name: &'n str, metadata: &Metadata) -> &'n str {
    let suffixes: &[&str] = match metadata.kind.as_str() {
        "histogram" | "gaugehistogram" => &["_bucket", "_count", "_sum", "_gcount", "_gsum"],
        "summary" => &["_count", "_sum"],
        _ => &[],
    };
    let mut stems = suffixes.iter().filter_map(|s| name.strip_suffix(s));
    stems.next().unwrap_or(name)
}
