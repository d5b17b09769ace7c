//! A target's series: from the text of a scrape to samples with final labels.
//!
//! A target names the same series each time, so the raw text of a series leads straight to the
//! labels that became of it: parsing and relabelling happen once, and a sample costs a look-up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kittiwake_config::{Limits, RelabelConfig, apply};
use kittiwake_model::{
    Exemplar, Histogram, Labels, LabelsBuilder, Metadata, TimestampMs, labels::METRIC_NAME,
    stale_nan,
};
use kittiwake_wire::exposition::{
    Entry, ExpositionError, Format, Options, Sample, ScrapedExemplar, read,
};

use crate::SampleBatch;

/// Series that a target may have, dropped ones included.
pub(super) const SERIES_MAX: usize = 1_000_000;
/// Labels that a series may have in the text.
const LABELS_MAX: usize = 512;

/// What of a job's settings concerns samples.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    pub relabel: Vec<RelabelConfig>,
    pub limits: Limits,
}

/// Why what a target said is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScrapeError {
    #[error(transparent)]
    Text(#[from] ExpositionError),
    #[error("more than {0} samples (sample_limit)")]
    Samples(u64),
    #[error("a native histogram has more than {0} buckets (native_histogram_bucket_limit)")]
    Buckets(u64),
    #[error("more than {SERIES_MAX} series")]
    Series,
    #[error("series {series}: {what} of {count} exceed the limit of {limit}")]
    Label {
        series: String,
        what: &'static str,
        count: u64,
        limit: u64,
    },
    #[error("series {0} has no name after relabelling")]
    NoName(String),
}

/// Coarsens a histogram to what a job allows.
fn limit_buckets(histogram: &mut Histogram, limits: &Limits) -> Result<(), ScrapeError> {
    if let Some(schema) = limits.histogram_schema {
        histogram.coarsen(schema);
    }
    while limits.histogram_buckets > 0 && histogram.buckets_len() as u64 > limits.histogram_buckets
    {
        let schema = histogram.schema;
        histogram.coarsen(schema - 1);
        if histogram.schema == schema {
            return Err(ScrapeError::Buckets(limits.histogram_buckets));
        }
    }
    Ok(())
}

/// Samples by time.
pub(super) type Batches = BTreeMap<TimestampMs, SampleBatch>;

/// Families of which a target may say something.
const FAMILIES_MAX: usize = 100_000;

/// How much a scrape gave.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub scraped: usize,
    pub kept: usize,
    pub added: usize,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    round: u64,
    /// Whether its last sample was no end.
    is_live: bool,
    time_ms: TimestampMs,
    /// Its last exemplars: a target repeats them until there are others.
    exemplars: Box<[ScrapedExemplar]>,
}

#[derive(Debug)]
struct Raw {
    /// `None`: a rule drops it.
    series: Option<usize>,
    round: u64,
}

/// The series of one target.
#[derive(Debug)]
pub(super) struct SeriesCache {
    target: Labels,
    histograms: Options,
    by_raw: HashMap<Box<[u8]>, Raw>,
    by_labels: HashMap<Labels, usize>,
    series: Vec<Series>,
    free: Vec<usize>,
    round: u64,
    /// What was said of families.
    metadata: HashMap<String, Metadata>,
}

/// A scrape that is read.
struct Reading<'r> {
    cache: &'r mut SeriesCache,
    rules: &'r Rules,
    time_ms: TimestampMs,
    counts: Counts,
    taken: Batches,
    now: SampleBatch,
}

impl SeriesCache {
    /// The series of a target, whose histograms are taken so.
    pub(super) fn new(target: Labels, histograms: Options) -> Self {
        Self {
            target,
            histograms,
            by_raw: HashMap::new(),
            by_labels: HashMap::new(),
            series: Vec::new(),
            free: Vec::new(),
            round: 1,
            metadata: HashMap::new(),
        }
    }

    /// Reads a text that was scraped at `time_ms`. All of it is taken or nothing: after an
    /// error the caller ends the series by [`Self::end`].
    pub(super) fn read(
        &mut self,
        text: &[u8],
        format: Format,
        time_ms: TimestampMs,
        rules: &Rules,
        out: &mut Batches,
    ) -> Result<Counts, ScrapeError> {
        self.round += 1;
        let now = SampleBatch {
            samples: Vec::with_capacity(self.series.len()),
            ..SampleBatch::default()
        };
        let mut reading = Reading {
            cache: self,
            rules,
            time_ms,
            counts: Counts::default(),
            taken: Batches::new(),
            now,
        };
        let histograms = reading.cache.histograms;
        read(text, format, &histograms, &mut |entry| match entry {
            Entry::Sample(sample, exemplars) => reading.sample(&sample, exemplars),
            Entry::Histogram(sample, histogram, exemplars) => {
                reading.histogram(&sample, histogram, exemplars)
            }
            Entry::Family(family) => {
                let metadata = Metadata {
                    kind: family.kind.as_str().to_owned(),
                    help: family.help,
                    unit: family.unit,
                };
                reading.describe(family.name, metadata);
                Ok::<(), ScrapeError>(())
            }
        })?;
        let Reading {
            counts,
            taken,
            mut now,
            ..
        } = reading;
        self.sweep(&mut now.samples);
        for (at_ms, batch) in taken {
            append(out.entry(at_ms).or_default(), batch);
        }
        append(out.entry(time_ms).or_default(), now);
        Ok(counts)
    }

    /// Ends each series.
    pub(super) fn end(&mut self, out: &mut Vec<(Labels, f64)>) {
        for series in &mut self.series {
            if std::mem::take(&mut series.is_live) {
                out.push((series.labels.clone(), stale_nan()));
            }
        }
        // Only a scrape that is taken forgets series, and one that fails may have brought many.
        if self.by_raw.len() >= SERIES_MAX {
            *self = Self::new(self.target.clone(), self.histograms);
        }
    }

    /// Ends and forgets the series that this round did not give.
    fn sweep(&mut self, out: &mut Vec<(Labels, f64)>) {
        let round = self.round;
        self.by_raw.retain(|_, raw| raw.round == round);
        for (index, series) in self.series.iter_mut().enumerate() {
            if series.round == round || !self.by_labels.contains_key(&series.labels) {
                continue;
            }
            if std::mem::take(&mut series.is_live) {
                out.push((series.labels.clone(), stale_nan()));
            }
            self.by_labels.remove(&series.labels);
            series.labels = Labels::empty();
            self.free.push(index);
        }
    }

    fn resolve(
        &mut self,
        sample: &Sample<'_>,
        rules: &Rules,
    ) -> Result<Option<usize>, ScrapeError> {
        if let Some(raw) = self.by_raw.get_mut(sample.series) {
            raw.round = self.round;
            return Ok(raw.series);
        }
        if self.by_raw.len() >= SERIES_MAX {
            return Err(ScrapeError::Series);
        }
        let labels = self.labels(sample, rules)?;
        let series = labels.map(|labels| self.intern(labels));
        let round = self.round;
        self.by_raw
            .insert(sample.series.into(), Raw { series, round });
        Ok(series)
    }

    fn intern(&mut self, labels: Labels) -> usize {
        if let Some(index) = self.by_labels.get(&labels) {
            return *index;
        }
        let series = Series {
            labels: labels.clone(),
            round: 0,
            is_live: false,
            time_ms: 0,
            exemplars: Box::default(),
        };
        let free = self.free.pop().filter(|index| *index < self.series.len());
        let index = free.unwrap_or(self.series.len());
        match self.series.get_mut(index) {
            Some(slot) => *slot = series,
            None => self.series.push(series),
        }
        self.by_labels.insert(labels, index);
        index
    }

    /// The final labels of a series; `None`: a rule drops it.
    fn labels(&self, sample: &Sample<'_>, rules: &Rules) -> Result<Option<Labels>, ScrapeError> {
        let mut labels = sample.labels(LABELS_MAX)?.to_builder();
        for (name, value) in &self.target {
            if rules.honor_labels {
                if labels.get(name).is_none() {
                    labels.set(name, value);
                }
                continue;
            }
            if let Some(theirs) = labels.get(name).map(str::to_owned) {
                let mut exported = format!("exported_{name}");
                while labels.get(&exported).is_some() || self.target.get(&exported).is_some() {
                    exported.insert_str(0, "exported_");
                }
                labels.set(&exported, &theirs);
            }
            labels.set(name, value);
        }
        let Some(labels) = apply(&rules.relabel, labels) else {
            return Ok(None);
        };
        if labels.get(METRIC_NAME).is_none() {
            let text = String::from_utf8_lossy(sample.series).into_owned();
            return Err(ScrapeError::NoName(text));
        }
        check_limits(&labels, sample, &rules.limits)?;
        let line = sample.line;
        let labels = labels
            .build()
            .map_err(|source| ExpositionError::Labels { line, source })?;
        Ok(Some(labels))
    }
}

impl Reading<'_> {
    /// The series of a sample, if it is to be kept, and the batch that it goes into.
    fn place(&mut self, sample: &Sample<'_>) -> Result<Option<usize>, ScrapeError> {
        self.counts.scraped += 1;
        let Some(index) = self.cache.resolve(sample, self.rules)? else {
            return Ok(None);
        };
        self.counts.kept += 1;
        let limit = self.rules.limits.samples;
        if limit > 0 && self.counts.kept as u64 > limit {
            return Err(ScrapeError::Samples(limit));
        }
        let round = self.cache.round;
        let Some(series) = self.cache.series.get_mut(index) else {
            return Ok(None);
        };
        let own_ms = sample.time_ms.filter(|_| self.rules.honor_timestamps);
        let at_ms = own_ms.unwrap_or(self.time_ms);
        if series.round == round && series.time_ms == at_ms {
            return Ok(None);
        }
        series.round = round;
        series.time_ms = at_ms;
        if own_ms.is_none() || self.rules.track_timestamps_staleness {
            self.counts.added += usize::from(!series.is_live);
            series.is_live = true;
        }
        Ok(Some(index))
    }

    fn sample(
        &mut self,
        sample: &Sample<'_>,
        exemplars: &[ScrapedExemplar],
    ) -> Result<(), ScrapeError> {
        let Some(index) = self.place(sample)? else {
            return Ok(());
        };
        let (batch, series) = self.at(index);
        if let Some(start_ms) = sample.start_ms {
            batch.starts.push((batch.samples.len(), start_ms));
        }
        batch.samples.push((series.labels.clone(), sample.value));
        push_exemplars(batch, series, exemplars);
        Ok(())
    }

    fn histogram(
        &mut self,
        sample: &Sample<'_>,
        mut histogram: Histogram,
        exemplars: &[ScrapedExemplar],
    ) -> Result<(), ScrapeError> {
        let Some(index) = self.place(sample)? else {
            return Ok(());
        };
        limit_buckets(&mut histogram, &self.rules.limits)?;
        let (batch, series) = self.at(index);
        let start_ms = sample.start_ms.unwrap_or(0);
        let labels = series.labels.clone();
        batch
            .histograms
            .push((labels, Arc::new(histogram), start_ms));
        push_exemplars(batch, series, exemplars);
        Ok(())
    }

    /// A series that [`Self::place`] gave, and the batch of its time.
    fn at(&mut self, index: usize) -> (&mut SampleBatch, &mut Series) {
        let series = &mut self.cache.series[index];
        let batch = if series.time_ms == self.time_ms {
            &mut self.now
        } else {
            self.taken.entry(series.time_ms).or_default()
        };
        (batch, series)
    }

    /// Keeps what is new about a family.
    fn describe(&mut self, name: String, metadata: Metadata) {
        let known = &mut self.cache.metadata;
        if known.get(&name) == Some(&metadata) {
            return;
        }
        if known.len() < FAMILIES_MAX || known.contains_key(&name) {
            known.insert(name.clone(), metadata.clone());
            self.now.metadata.push((name, metadata));
        }
    }
}

fn push_exemplars(batch: &mut SampleBatch, series: &mut Series, exemplars: &[ScrapedExemplar]) {
    if exemplars.is_empty() || *series.exemplars == *exemplars {
        return;
    }
    for exemplar in exemplars {
        if series.exemplars.contains(exemplar) {
            continue;
        }
        let made = Exemplar {
            labels: exemplar.labels.clone(),
            value: exemplar.value,
            time_ms: exemplar.time_ms.unwrap_or(series.time_ms),
        };
        batch.exemplars.push((series.labels.clone(), made));
    }
    series.exemplars = exemplars.into();
}

/// Appends what came for the same time.
fn append(into: &mut SampleBatch, batch: SampleBatch) {
    let at = into.samples.len();
    let starts = batch.starts.into_iter();
    into.starts.extend(starts.map(|(i, start)| (at + i, start)));
    into.samples.extend(batch.samples);
    into.histograms.extend(batch.histograms);
    into.exemplars.extend(batch.exemplars);
    into.metadata.extend(batch.metadata);
}

fn check_limits(
    labels: &LabelsBuilder,
    sample: &Sample<'_>,
    limits: &Limits,
) -> Result<(), ScrapeError> {
    let check = |what, count: usize, limit: u64| {
        let count = count as u64;
        if limit == 0 || count <= limit {
            return Ok(());
        }
        let series = String::from_utf8_lossy(sample.series)
            .chars()
            .take(200)
            .collect();
        Err(ScrapeError::Label {
            series,
            what,
            count,
            limit,
        })
    };
    check("labels", labels.iter().count(), limits.labels)?;
    for (name, value) in labels.iter() {
        check(
            "bytes of a label's name",
            name.len(),
            limits.label_name_bytes,
        )?;
        check(
            "bytes of a label's value",
            value.len(),
            limits.label_value_bytes,
        )?;
    }
    Ok(())
}
