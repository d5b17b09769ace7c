//! Prometheus remote write 1.0: a snappy block around a `prometheus.WriteRequest`.
//!
//! The reader lends slices of the decompressed body. A series gives its labels' raw bytes, by
//! which a store can know it again without decoding them, and its samples one by one; nothing
//! is allocated per sample. Source: the remote write 1.0 specification and Prometheus'
//! `prompb/types.proto`.

mod encode;
pub(crate) mod histogram;
pub mod v2;

pub use encode::{RequestEncoder, SeriesParts};
pub use histogram::{HistogramSample, histogram_problem};

use kittiwake_model::{Exemplar, LabelError, Labels, Metadata, TimestampMs};

use crate::proto::{Field, Fields, Malformed, Message};

/// Series of a request at most, however small each is.
const SERIES_MAX: usize = 1_000_000;
/// Float samples of a request at most: no shape of a real sample gets as many into a body.
const SAMPLES_MAX: usize = 10_000_000;

/// Why a series' labels cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// The bytes are no labels, or a part is not UTF-8.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A label has no name.
    #[error("byte {at}, field timeseries.labels.name: empty label name")]
    EmptyName {
        /// The offset of the label in the decompressed body.
        at: usize,
    },
    /// Two labels have the same name.
    #[error("byte {at}, field timeseries.labels: duplicate label name {name:?}")]
    Duplicate {
        /// The offset of the series in the decompressed body.
        at: usize,
        /// The name.
        name: String,
    },
    /// The series has too many labels.
    #[error("byte {at}, field timeseries.labels: {count} labels, more than {max}")]
    TooMany {
        /// The offset of the series in the decompressed body.
        at: usize,
        /// How many it has.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// A label is too long to be kept.
    #[error("byte {at}, field timeseries.labels: {source}")]
    Refused {
        /// The offset of the series in the decompressed body.
        at: usize,
        /// What is wrong with it.
        source: LabelError,
    },
}

/// How many of each thing there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Series.
    pub series: usize,
    /// Float samples.
    pub samples: usize,
    /// Native histograms.
    pub histograms: usize,
    /// Exemplars.
    pub exemplars: usize,
    /// Metadata of metrics.
    pub metadata: usize,
}

/// A decompressed request.
#[derive(Debug, Clone, Copy)]
pub struct WriteRequest<'a>(Message<'a>);

impl<'a> WriteRequest<'a> {
    /// A request over a decompressed body, not looked at yet.
    pub fn new(body: &'a [u8]) -> Self {
        Self(Message {
            bytes: body,
            base: 0,
        })
    }

    /// Walks everything except the labels' texts and the histograms' buckets, so that a
    /// request can be refused whole before any of it is stored.
    pub fn check(&self) -> Result<Totals, Malformed> {
        let mut totals = Totals::default();
        let mut all = self.series();
        for series in &mut all {
            let series = series?;
            for sample in series.samples() {
                sample?;
            }
            totals.series += 1;
            totals.samples += series.sample_count;
            totals.histograms += series.histogram_count;
            totals.exemplars += series.exemplar_count;
        }
        totals.metadata = all.metadata;
        Ok(totals)
    }

    /// What is said of metric names: the name, and what.
    pub fn metadata(
        &self,
    ) -> impl Iterator<Item = Result<(&'a str, Metadata), Malformed>> + use<'a> {
        numbered(self.0, "WriteRequest", 3, usize::MAX).map(|field| metadata(&field?))
    }

    /// The series in order. The first error ends them.
    pub fn series(&self) -> SeriesIter<'a> {
        SeriesIter {
            fields: Fields::new(self.0, "WriteRequest"),
            metadata: 0,
            seen: Seen::default(),
        }
    }
}

fn metadata<'a>(field: &Field<'a>) -> Result<(&'a str, Metadata), Malformed> {
    let (mut name, mut metadata) = ("", Metadata::default());
    kind_name(0).clone_into(&mut metadata.kind);
    let mut fields = Fields::new(field.message("metadata")?, "metadata");
    while let Some(field) = fields.next()? {
        match field.number {
            1 => kind_name(field.varint("metadata.type")?).clone_into(&mut metadata.kind),
            2 => name = field.text("metadata.metric_family_name")?,
            4 => field.text("metadata.help")?.clone_into(&mut metadata.help),
            5 => field.text("metadata.unit")?.clone_into(&mut metadata.unit),
            _ => {}
        }
    }
    Ok((name, metadata))
}

/// Walks the series of a request.
#[derive(Debug, Clone)]
pub struct SeriesIter<'a> {
    fields: Fields<'a>,
    metadata: usize,
    seen: Seen,
}

/// How much of a request has been walked. What is tiny on the wire takes its place in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    series: usize,
    samples: usize,
}

impl Seen {
    pub(crate) fn series(&mut self, field: &Field<'_>, samples: usize) -> Result<(), Malformed> {
        self.series += 1;
        self.samples += samples;
        if self.series > SERIES_MAX {
            return Err(field.wanted("timeseries", "at most a million series in one request"));
        }
        if self.samples > SAMPLES_MAX {
            return Err(field.wanted("timeseries", "at most ten million samples in one request"));
        }
        Ok(())
    }
}

impl<'a> SeriesIter<'a> {
    /// As `next`. `known` is shown the bytes of the series and may say how many of the first
    /// are labels that were read before: they are not walked again. Says whether it was so;
    /// such a series does not count its labels.
    pub fn next_knowing(
        &mut self,
        known: impl FnOnce(&[u8]) -> Option<usize>,
    ) -> Option<Result<(Series<'a>, bool), Malformed>> {
        let series = self.step(known);
        if series.is_err() {
            self.fields.close();
        }
        series.transpose()
    }

    fn step(
        &mut self,
        known: impl FnOnce(&[u8]) -> Option<usize>,
    ) -> Result<Option<(Series<'a>, bool)>, Malformed> {
        while let Some(field) = self.fields.next()? {
            match field.number {
                1 => {
                    let message = field.message("timeseries")?;
                    let known = known(message.bytes);
                    let series = known.and_then(|end| Series::after_labels(message, end, 0));
                    let (series, is_known) = match series {
                        Some(series) => (series, true),
                        None => (Series::new(message)?, false),
                    };
                    self.seen.series(&field, series.sample_count)?;
                    return Ok(Some((series, is_known)));
                }
                3 => self.metadata += 1,
                _ => {}
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for SeriesIter<'a> {
    type Item = Result<Series<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_knowing(|_| None)?.map(|(series, _)| series))
    }
}

/// One series of a request.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    message: Message<'a>,
    /// The offsets in the message between which the labels stand, when nothing else does.
    labels: Option<(usize, usize)>,
    /// The offset of the first sample.
    samples_at: usize,
    label_count: usize,
    sample_count: usize,
    histogram_count: usize,
    exemplar_count: usize,
}

impl<'a> Series<'a> {
    fn new(message: Message<'a>) -> Result<Self, Malformed> {
        match Self::of_usual_shape(message) {
            Some(series) => Ok(series),
            None => Self::of_any_shape(message),
        }
    }

    /// Labels and then samples with lengths below 2^14, and nothing else: what nearly all
    /// senders write, found without looking into it.
    fn of_usual_shape(message: Message<'a>) -> Option<Self> {
        let (labels_end, label_count) = skip(message.bytes, 0, 0x0a)?;
        Self::after_labels(message, labels_end, label_count)
    }

    /// Samples after labels, and nothing else.
    fn after_labels(message: Message<'a>, labels_end: usize, label_count: usize) -> Option<Self> {
        let bytes = message.bytes;
        let (end, sample_count) = skip(bytes, labels_end, 0x12)?;
        (end == bytes.len()).then_some(Self {
            message,
            labels: Some((0, labels_end)),
            samples_at: labels_end,
            label_count,
            sample_count,
            histogram_count: 0,
            exemplar_count: 0,
        })
    }

    #[inline(never)]
    fn of_any_shape(message: Message<'a>) -> Result<Self, Malformed> {
        let mut series = Self {
            message,
            labels: Some((0, 0)),
            samples_at: message.bytes.len(),
            label_count: 0,
            sample_count: 0,
            histogram_count: 0,
            exemplar_count: 0,
        };
        let mut fields = Fields::new(message, "timeseries");
        loop {
            let start = fields.position();
            let Some(field) = fields.next()? else {
                return Ok(series);
            };
            match field.number {
                1 => {
                    field.message("timeseries.labels")?;
                    series.labels = match series.labels {
                        _ if series.label_count == 0 => Some((start, fields.position())),
                        Some((first, end)) if end == start => Some((first, fields.position())),
                        _ => None,
                    };
                    series.label_count += 1;
                }
                2 => {
                    field.message("timeseries.samples")?;
                    series.samples_at = series.samples_at.min(start);
                    series.sample_count += 1;
                }
                3 => series.exemplar_count += 1,
                4 => {
                    field.message("timeseries.histograms")?;
                    series.histogram_count += 1;
                }
                _ => {}
            }
        }
    }

    /// The offset of the series in the decompressed body.
    pub fn at(&self) -> usize {
        self.message.base
    }

    /// How many labels are sent, those with an empty value included.
    pub fn label_count(&self) -> usize {
        self.label_count
    }

    /// How many float samples there are.
    pub fn sample_count(&self) -> usize {
        self.sample_count
    }

    /// How many native histograms there are.
    pub fn histogram_count(&self) -> usize {
        self.histogram_count
    }

    /// How many exemplars there are.
    pub fn exemplar_count(&self) -> usize {
        self.exemplar_count
    }

    /// The labels as they are on the wire, tags included: equal bytes are equal labels (but
    /// equal labels may have other bytes). `None` when other fields stand between them.
    pub fn raw_labels(&self) -> Option<&'a [u8]> {
        let (start, end) = self.labels?;
        self.message.bytes.get(start..end)
    }

    /// Replaces `into` by the labels, sorted by name, without those whose value is empty.
    pub fn labels_into(
        &self,
        labels_max: usize,
        into: &mut Vec<(&'a str, &'a str)>,
    ) -> Result<(), LabelsError> {
        into.clear();
        let at = self.at();
        if self.label_count > labels_max {
            return Err(LabelsError::TooMany {
                at,
                count: self.label_count,
                max: labels_max,
            });
        }
        let mut sorted = true;
        let mut fields = Fields::new(self.message, "timeseries");
        while let Some(field) = fields.next()? {
            if field.number != 1 {
                continue;
            }
            let (name, value) = label(&field)?;
            if name.is_empty() {
                return Err(LabelsError::EmptyName { at: field.at });
            }
            sorted &= into.last().is_none_or(|(last, _)| *last < name);
            into.push((name, value));
            if into.len() == self.label_count {
                break;
            }
        }
        if !sorted {
            into.sort_unstable_by_key(|(name, _)| *name);
            if let Some(pair) = into.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                let name = pair[0].0.to_owned();
                return Err(LabelsError::Duplicate { at, name });
            }
        }
        into.retain(|(_, value)| !value.is_empty());
        Ok(())
    }

    /// The labels as they are sent, for a message about what is wrong with them.
    pub fn describe(&self) -> String {
        let mut text = String::from("{");
        let labels = numbered(self.message, "timeseries", 1, self.label_count);
        for field in labels.map_while(Result::ok) {
            let Ok(message) = field.message("timeseries.labels") else {
                break;
            };
            if text.len() > 1 {
                text.push_str(", ");
            }
            let mut fields = Fields::new(message, "timeseries.labels");
            while let Ok(Some(part)) = fields.next() {
                let Ok(bytes) = part.message("timeseries.labels") else {
                    break;
                };
                let part_text = String::from_utf8_lossy(bytes.bytes);
                match part.number {
                    1 => text.push_str(&part_text),
                    2 => {
                        text.push('=');
                        crate::label_text::push_quoted(&mut text, &part_text);
                    }
                    _ => {}
                }
            }
        }
        text.push('}');
        text
    }

    /// The labels as a set that can be kept.
    pub fn labels(&self, labels_max: usize) -> Result<Labels, LabelsError> {
        let mut pairs = Vec::new();
        self.labels_into(labels_max, &mut pairs)?;
        let at = self.at();
        Labels::from_pairs(pairs).map_err(|source| LabelsError::Refused { at, source })
    }

    /// The float samples in the order in which they are sent, each with its bits as they are.
    /// The first error ends them.
    pub fn samples(&self) -> Samples<'a> {
        let mut fields = Fields::new(self.message, "timeseries");
        fields.seek(self.samples_at);
        Samples {
            fields,
            left: self.sample_count,
        }
    }

    /// The native histograms in the order in which they are sent.
    pub fn histograms(&self) -> impl Iterator<Item = Result<HistogramSample, Malformed>> + use<'a> {
        numbered(self.message, "timeseries", 4, self.histogram_count)
            .map(|field| histogram::decode(&field?))
    }

    /// The exemplars in the order in which they are sent.
    pub fn exemplars(&self) -> impl Iterator<Item = Result<Exemplar, LabelsError>> + use<'a> {
        numbered(self.message, "timeseries", 3, self.exemplar_count).map(|field| exemplar(&field?))
    }
}

/// So many fields of a message with this number.
fn numbered<'a>(
    message: Message<'a>,
    name: &'static str,
    number: u64,
    mut left: usize,
) -> impl Iterator<Item = Result<Field<'a>, Malformed>> + use<'a> {
    let mut fields = Fields::new(message, name);
    std::iter::from_fn(move || {
        while left > 0 {
            match fields.next() {
                Ok(Some(field)) if field.number == number => {
                    left -= 1;
                    return Some(Ok(field));
                }
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => {
                    left = 0;
                    return Some(Err(error));
                }
            }
        }
        None
    })
}

fn exemplar(field: &Field<'_>) -> Result<Exemplar, LabelsError> {
    let message = field.message("timeseries.exemplars")?;
    let (mut pairs, mut value, mut time_ms) = (Vec::new(), 0.0, 0);
    let mut fields = Fields::new(message, "timeseries.exemplars");
    while let Some(field) = fields.next()? {
        match field.number {
            1 => pairs.push(label(&field)?),
            2 => value = field.double("timeseries.exemplars.value")?,
            3 => time_ms = field.varint("timeseries.exemplars.timestamp")? as i64,
            _ => {}
        }
    }
    let at = field.at;
    let labels = Labels::from_pairs(pairs).map_err(|source| LabelsError::Refused { at, source })?;
    Ok(Exemplar {
        labels,
        value,
        time_ms,
    })
}

/// The types of metrics by their numbers on the wire, in 1.0 and 2.0.
const KINDS: [&str; 8] = [
    "unknown",
    "counter",
    "gauge",
    "histogram",
    "gaugehistogram",
    "summary",
    "info",
    "stateset",
];

fn kind_name(number: u64) -> &'static str {
    let index = usize::try_from(number).unwrap_or(0);
    KINDS.get(index).copied().unwrap_or(KINDS[0])
}

fn kind_number(name: &str) -> u64 {
    KINDS.iter().position(|kind| *kind == name).unwrap_or(0) as u64
}

/// Passes over the fields with this tag from `at` on; gives where they end and how many there
/// are. `None` when one ends outside the bytes.
#[inline]
fn skip(bytes: &[u8], mut at: usize, tag: u8) -> Option<(usize, usize)> {
    let mut count = 0;
    while let Some([first, low, rest @ ..]) = bytes.get(at..)
        && *first == tag
    {
        at += match rest.first() {
            _ if *low < 0x80 => 2 + usize::from(*low),
            Some(high) if (1..0x80).contains(high) => {
                3 + (usize::from(low & 0x7f) | (usize::from(*high) << 7))
            }
            _ => return None,
        };
        count += 1;
    }
    (at <= bytes.len()).then_some((at, count))
}

fn label<'a>(field: &Field<'a>) -> Result<(&'a str, &'a str), Malformed> {
    let message = field.message("timeseries.labels")?;
    let (mut name, mut value) = ("", "");
    let mut fields = Fields::new(message, "timeseries.labels");
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.text("timeseries.labels.name")?,
            2 => value = field.text("timeseries.labels.value")?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// Walks the float samples of a series.
#[derive(Debug, Clone)]
pub struct Samples<'a> {
    fields: Fields<'a>,
    left: usize,
}

impl Samples<'_> {
    #[inline]
    fn step(&mut self) -> Result<Option<(TimestampMs, f64)>, Malformed> {
        while self.left > 0 {
            let Some(field) = self.fields.next()? else {
                break;
            };
            if field.number == 2 {
                self.left -= 1;
                return sample(&field).map(Some);
            }
        }
        Ok(None)
    }
}

impl Iterator for Samples<'_> {
    type Item = Result<(TimestampMs, f64), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let sample = self.step();
        if sample.is_err() {
            self.left = 0;
        }
        sample.transpose()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

#[inline]
fn sample(field: &Field<'_>) -> Result<(TimestampMs, f64), Malformed> {
    let message = field.message("timeseries.samples")?;
    if let Some(sample) = usual_sample(message.bytes) {
        return Ok(sample);
    }
    let (mut time_ms, mut value) = (0, 0.0);
    let mut fields = Fields::new(message, "timeseries.samples");
    while let Some(field) = fields.next()? {
        match field.number {
            1 => value = field.double("timeseries.samples.value")?,
            2 => time_ms = field.varint("timeseries.samples.timestamp")? as i64,
            _ => {}
        }
    }
    Ok((time_ms, value))
}

/// A value and then a time after 2004, as every sender writes it; `None` for any other shape.
#[inline]
fn usual_sample(bytes: &[u8]) -> Option<(TimestampMs, f64)> {
    let [0x09, rest @ ..] = bytes else {
        return None;
    };
    let (value, rest) = rest.split_first_chunk::<8>()?;
    let [0x10, rest @ ..] = rest else {
        return None;
    };
    let bytes: &[u8; 6] = rest.try_into().ok()?;
    let is_time = bytes[..5].iter().all(|b| *b >= 0x80) && bytes[5] < 0x80;
    let time = bytes
        .iter()
        .rev()
        .fold(0_u64, |time, byte| (time << 7) | u64::from(byte & 0x7f));
    is_time.then_some((time as i64, f64::from_le_bytes(*value)))
}

#[cfg(test)]
mod tests;
