//! A target's series: from the text of a scrape to samples with final labels.
//!
//! A target names the same series each time, so the raw text of a series leads straight to the
//! labels that became of it: parsing and relabelling happen once, and a sample costs a look-up.

use std::collections::{BTreeMap, HashMap};

use kittiwake_config::{Limits, RelabelConfig, apply};
use kittiwake_model::{Labels, LabelsBuilder, TimestampMs, labels::METRIC_NAME, stale_nan};
use kittiwake_wire::exposition::{ExpositionError, Format, Item, Parser, Sample};

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

/// Samples by time.
pub(super) type Batches = BTreeMap<TimestampMs, Vec<(Labels, f64)>>;

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
    by_raw: HashMap<Box<[u8]>, Raw>,
    by_labels: HashMap<Labels, usize>,
    series: Vec<Series>,
    free: Vec<usize>,
    round: u64,
}

impl SeriesCache {
    pub(super) fn new(target: Labels) -> Self {
        Self {
            target,
            by_raw: HashMap::new(),
            by_labels: HashMap::new(),
            series: Vec::new(),
            free: Vec::new(),
            round: 1,
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
        let mut counts = Counts::default();
        let mut taken = Batches::new();
        let mut now = Vec::with_capacity(self.series.len());
        for item in Parser::new(text, format) {
            let Item::Sample(sample) = item? else {
                continue;
            };
            counts.scraped += 1;
            let Some(index) = self.resolve(&sample, rules)? else {
                continue;
            };
            counts.kept += 1;
            if rules.limits.samples > 0 && counts.kept as u64 > rules.limits.samples {
                return Err(ScrapeError::Samples(rules.limits.samples));
            }
            let Some(series) = self.series.get_mut(index) else {
                continue;
            };
            let own_ms = sample.time_ms.filter(|_| rules.honor_timestamps);
            let at_ms = own_ms.unwrap_or(time_ms);
            if series.round == self.round && series.time_ms == at_ms {
                continue;
            }
            series.round = self.round;
            series.time_ms = at_ms;
            if own_ms.is_none() || rules.track_timestamps_staleness {
                counts.added += usize::from(!series.is_live);
                series.is_live = true;
            }
            if at_ms == time_ms {
                now.push((series.labels.clone(), sample.value));
            } else {
                let batch = taken.entry(at_ms).or_default();
                batch.push((series.labels.clone(), sample.value));
            }
        }
        self.sweep(&mut now);
        for (at_ms, samples) in taken {
            out.entry(at_ms).or_default().extend(samples);
        }
        out.entry(time_ms).or_default().extend(now);
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
            *self = Self::new(self.target.clone());
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
