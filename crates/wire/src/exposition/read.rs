//! Going over an exposition in any format, and giving what all of them have in common.

use std::borrow::Cow;

use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{Histogram, Labels, TimestampMs};

use super::family::{Families, Family, Part, Place};
use super::open_metrics::exemplars_into;
use super::writer::push_series;
use super::{ExpositionError, Format, Item, MetricType, Parser, Sample};
use super::{composite, nhcb, protobuf};
use crate::float::push_label_float;

/// Labels that a series may have in an exposition.
pub(super) const LABELS_MAX: usize = 512;

/// What becomes of histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// Native histograms are taken, and not their classic buckets.
    pub native: bool,
    /// Classic buckets are taken also where there is a native histogram.
    pub classic_too: bool,
    /// Classic buckets become native histograms with custom buckets.
    pub custom_buckets: bool,
}

/// An exemplar as a target says it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapedExemplar {
    /// Its labels.
    pub labels: Labels,
    /// What was observed.
    pub value: f64,
    /// When, if the target says so.
    pub time_ms: Option<TimestampMs>,
}

/// Something in an exposition.
#[derive(Debug)]
pub enum Entry<'e> {
    /// A sample and its exemplars.
    Sample(Sample<'e>, &'e [ScrapedExemplar]),
    /// A native histogram: series and times as a sample has them, whose value means nothing.
    Histogram(Sample<'e>, Histogram, &'e [ScrapedExemplar]),
    /// What is said of a family; comes behind the family's samples.
    Family(Family),
}

/// A whole histogram or summary of one metric.
#[derive(Debug, Default)]
pub(super) struct Complex {
    pub is_summary: bool,
    pub count: Option<f64>,
    pub sum: Option<f64>,
    /// Upper bound and cumulative count.
    pub buckets: Vec<(f64, f64)>,
    pub quantiles: Vec<(f64, f64)>,
    pub native: Option<Histogram>,
    pub exemplars: Vec<ScrapedExemplar>,
}

/// Reads an exposition and gives `take` its entries in order. After an error, what was given
/// must not be used: the exposition is refused whole.
pub fn read<E: From<ExpositionError>>(
    bytes: &[u8],
    format: Format,
    options: &Options,
    take: &mut dyn FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut out = Out {
        options: *options,
        take,
        scratch: String::new(),
        bound: String::new(),
    };
    match format {
        Format::Protobuf => protobuf::read(bytes, &mut out),
        Format::OpenMetrics => strict(bytes, &mut out),
        Format::Prometheus | Format::OpenMetrics2 => plain(bytes, format, &mut out),
    }
}

/// Where entries go, with the options and some memory.
pub(super) struct Out<'o, E> {
    pub options: Options,
    take: &'o mut dyn FnMut(Entry<'_>) -> Result<(), E>,
    scratch: String,
    bound: String,
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

impl<E: From<ExpositionError>> Out<'_, E> {
    pub fn family(&mut self, family: Option<Family>) -> Result<(), E> {
        family.map_or(Ok(()), |family| (self.take)(Entry::Family(family)))
    }

    /// A sample of a series that is put together here: its name in two parts, its labels and
    /// the one that tells a bucket or quantile.
    pub fn made<'n>(
        &mut self,
        base: &Sample<'_>,
        name: [&str; 2],
        labels: impl Iterator<Item = (&'n str, &'n str)>,
        special: Option<(&str, f64)>,
        (value, exemplars): (f64, &[ScrapedExemplar]),
    ) -> Result<(), E> {
        self.scratch.clear();
        self.bound.clear();
        let special = special.map(|(label, bound)| {
            push_label_float(&mut self.bound, bound);
            (label, self.bound.as_str())
        });
        push_series(&mut self.scratch, name, labels, special);
        let sample = Sample {
            series: self.scratch.as_bytes(),
            value,
            ..*base
        };
        (self.take)(Entry::Sample(sample, exemplars))
    }

    /// A histogram or summary in the forms that the options want. The labels are without a
    /// name.
    pub fn complex<'n>(
        &mut self,
        base: &Sample<'_>,
        name: &str,
        labels: impl Iterator<Item = (&'n str, &'n str)> + Clone,
        complex: &mut Complex,
    ) -> Result<(), E> {
        if complex.is_summary {
            return self.summary(base, name, &labels, complex);
        }
        let Options {
            native,
            classic_too,
            custom_buckets,
        } = self.options;
        let is_gauge = base.kind == MetricType::GaugeHistogram;
        let histogram = complex.native.take().filter(|_| native);
        let mut has_native = histogram.is_some();
        if !has_native || classic_too {
            let as_custom = if custom_buckets && !has_native {
                let mut buckets = complex.buckets.clone();
                nhcb::custom_buckets(&mut buckets, complex.count, complex.sum, is_gauge)
            } else {
                None
            };
            if let Some(histogram) = as_custom {
                has_native = true;
                self.histogram(base, name, labels.clone(), histogram, &complex.exemplars)?;
            }
            if !has_native || classic_too {
                self.classic(base, name, &labels, complex, is_gauge)?;
            }
        }
        match histogram {
            Some(histogram) => self.histogram(base, name, labels, histogram, &complex.exemplars),
            None => Ok(()),
        }
    }

    fn histogram<'n>(
        &mut self,
        base: &Sample<'_>,
        name: &str,
        labels: impl Iterator<Item = (&'n str, &'n str)>,
        histogram: Histogram,
        exemplars: &[ScrapedExemplar],
    ) -> Result<(), E> {
        self.scratch.clear();
        push_series(&mut self.scratch, [name, ""], labels, None);
        let sample = Sample {
            series: self.scratch.as_bytes(),
            value: f64::NAN,
            ..*base
        };
        // Without a time nobody could tell which of a native histogram's exemplars are new.
        let timed = exemplars.iter().filter(|e| e.time_ms.is_some());
        let timed: Vec<ScrapedExemplar> = timed.cloned().collect();
        (self.take)(Entry::Histogram(sample, histogram, &timed))
    }

    fn classic<'n>(
        &mut self,
        base: &Sample<'_>,
        name: &str,
        labels: &(impl Iterator<Item = (&'n str, &'n str)> + Clone),
        complex: &Complex,
        is_gauge: bool,
    ) -> Result<(), E> {
        let count = complex.count.unwrap_or(0.0);
        let (count_suffix, sum_suffix) = if is_gauge && base.format != Format::Protobuf {
            ("_gcount", "_gsum")
        } else {
            ("_count", "_sum")
        };
        self.made(
            base,
            [name, count_suffix],
            labels.clone(),
            None,
            (count, &[]),
        )?;
        if let Some(sum) = complex.sum {
            self.made(base, [name, sum_suffix], labels.clone(), None, (sum, &[]))?;
        }
        let last = complex.buckets.last().map(|(bound, _)| *bound);
        let missing = (last != Some(f64::INFINITY)).then_some((f64::INFINITY, count));
        let mut below = f64::NEG_INFINITY;
        for (bound, cumulative) in complex.buckets.iter().copied().chain(missing) {
            let inside = |value: f64| value > below && value <= bound;
            let mut all = complex.exemplars.iter();
            let exemplar = all.find(|e| inside(e.value)).cloned();
            self.made(
                base,
                [name, "_bucket"],
                labels.clone(),
                Some(("le", bound)),
                (cumulative, exemplar.as_slice()),
            )?;
            below = bound;
        }
        Ok(())
    }

    fn summary<'n>(
        &mut self,
        base: &Sample<'_>,
        name: &str,
        labels: &(impl Iterator<Item = (&'n str, &'n str)> + Clone),
        complex: &Complex,
    ) -> Result<(), E> {
        let count = complex.count.unwrap_or(0.0);
        self.made(base, [name, "_count"], labels.clone(), None, (count, &[]))?;
        let sum = complex.sum.unwrap_or(0.0);
        self.made(base, [name, "_sum"], labels.clone(), None, (sum, &[]))?;
        for (quantile, value) in &complex.quantiles {
            let special = Some(("quantile", *quantile));
            self.made(base, [name, ""], labels.clone(), special, (*value, &[]))?;
        }
        Ok(())
    }
}

/// Classic histograms of text on their way to custom buckets.
#[derive(Debug, Default)]
struct Gathering<'a> {
    base: Option<Sample<'a>>,
    name: String,
    labels: Vec<Pair<'a>>,
    complex: Complex,
}

impl<'a> Gathering<'a> {
    /// Takes a part of a histogram; one of another metric ends the one before.
    fn add<E: From<ExpositionError>>(
        &mut self,
        sample: &Sample<'a>,
        family: &str,
        part: Part,
        exemplars: &[ScrapedExemplar],
        out: &mut Out<'_, E>,
    ) -> Result<(), E> {
        let mut labels = Vec::new();
        sample.raw_labels_into(LABELS_MAX, &mut labels)?;
        let bound = labels.iter().find(|(name, _)| name == "le");
        let bound = bound.and_then(|(_, value)| crate::float::parse_float(value.as_bytes()));
        labels.retain(|(name, _)| name != METRIC_NAME && (part != Part::Bucket || name != "le"));
        let is_same = self.base.as_ref().is_some_and(|base| {
            base.time_ms == sample.time_ms && self.name == family && self.labels == labels
        });
        if !is_same {
            self.finish(out)?;
            self.base = Some(*sample);
            family.clone_into(&mut self.name);
            self.labels = labels;
        }
        match (part, bound) {
            (Part::Bucket, Some(bound)) => self.complex.buckets.push((bound, sample.value)),
            (Part::Count | Part::GaugeCount, _) => self.complex.count = Some(sample.value),
            (Part::Sum | Part::GaugeSum, _) => self.complex.sum = Some(sample.value),
            _ => {}
        }
        self.complex.exemplars.extend_from_slice(exemplars);
        Ok(())
    }

    fn finish<E: From<ExpositionError>>(&mut self, out: &mut Out<'_, E>) -> Result<(), E> {
        let Some(base) = self.base.take() else {
            return Ok(());
        };
        let done = std::mem::take(&mut self.complex);
        let mut buckets = done.buckets;
        let is_gauge = base.kind == MetricType::GaugeHistogram;
        let labels = self.labels.iter().map(|(n, v)| (n.as_ref(), v.as_ref()));
        match nhcb::custom_buckets(&mut buckets, done.count, done.sum, is_gauge) {
            Some(histogram) => out.histogram(&base, &self.name, labels, histogram, &done.exemplars),
            None => Ok(()),
        }
    }
}

/// The part of a classic histogram that a sample is.
fn histogram_part(sample: &Sample<'_>, family: &Family) -> Option<Part> {
    if !matches!(
        family.kind,
        MetricType::Histogram | MetricType::GaugeHistogram
    ) {
        return None;
    }
    let suffix = sample.series.strip_prefix(family.name.as_bytes())?;
    let end = memchr::memchr3(b'{', b' ', b'\t', suffix).unwrap_or(suffix.len());
    let mut parts = Part::of_type(family.kind).iter().copied();
    parts.find(|part| part.suffix_is(&suffix[..end]) && *part != Part::Created)
}

/// Prometheus' text, whose families are taken as they come, and OpenMetrics 2.0.
fn plain<E: From<ExpositionError>>(
    bytes: &[u8],
    format: Format,
    out: &mut Out<'_, E>,
) -> Result<(), E> {
    let mut family: Option<Family> = None;
    let mut gathering = Gathering::default();
    let mut exemplars = Vec::new();
    for item in Parser::new(bytes, format) {
        match item? {
            Item::Sample(sample) => {
                exemplars.clear();
                exemplars_into(&sample, &mut exemplars)?;
                let part = match &family {
                    Some(family) if out.options.custom_buckets => histogram_part(&sample, family),
                    _ => None,
                };
                if let (Some(part), Some(family)) = (part, &family) {
                    gathering.add(&sample, &family.name, part, &exemplars, out)?;
                    if !out.options.classic_too {
                        continue;
                    }
                } else {
                    gathering.finish(out)?;
                }
                (out.take)(Entry::Sample(sample, &exemplars))?;
            }
            Item::Composite(sample, text) => {
                let mut complex = composite::read(&sample, text, sample.kind)?;
                exemplars_into(&sample, &mut complex.exemplars)?;
                let mut labels = Vec::new();
                sample.raw_labels_into(LABELS_MAX, &mut labels)?;
                let name = labels.iter().find(|(name, _)| name == METRIC_NAME);
                let name = name.map_or("", |(_, value)| value.as_ref());
                let own = labels.iter().filter(|(name, _)| name != METRIC_NAME);
                let own = own.map(|(n, v)| (n.as_ref(), v.as_ref()));
                out.complex(&sample, name, own, &mut complex)?;
            }
            about => {
                let (Item::Help { name, .. } | Item::Type { name, .. } | Item::Unit { name, .. }) =
                    &about
                else {
                    continue;
                };
                if family.as_ref().is_none_or(|family| family.name != **name) {
                    gathering.finish(out)?;
                    out.family(family.take())?;
                }
                let family = family.get_or_insert_with(|| Family {
                    name: name.clone().into_owned(),
                    ..Family::default()
                });
                match about {
                    Item::Help { text, .. } => family.help = text.into_owned(),
                    Item::Type { kind, .. } => family.kind = kind,
                    Item::Unit { unit, .. } => unit.clone_into(&mut family.unit),
                    Item::Sample(_) | Item::Composite(..) => {}
                }
            }
        }
    }
    gathering.finish(out)?;
    out.family(family)
}

/// Samples of one metric that wait until it is known when its counting began.
#[derive(Debug, Default)]
struct Waiting<'a> {
    group: Option<u64>,
    samples: Vec<(Sample<'a>, Part, Vec<ScrapedExemplar>)>,
    start_ms: Option<TimestampMs>,
}

impl<'a> Waiting<'a> {
    fn flush<E: From<ExpositionError>>(
        &mut self,
        family: &str,
        gathering: &mut Gathering<'a>,
        out: &mut Out<'_, E>,
    ) -> Result<(), E> {
        self.group = None;
        let start_ms = self.start_ms.take();
        for (mut sample, part, exemplars) in self.samples.drain(..) {
            if part != Part::Created {
                sample.start_ms = start_ms;
            }
            let is_histogram = matches!(
                sample.kind,
                MetricType::Histogram | MetricType::GaugeHistogram
            );
            if out.options.custom_buckets
                && is_histogram
                && !matches!(part, Part::Plain | Part::Created)
            {
                gathering.add(&sample, family, part, &exemplars, out)?;
                if !out.options.classic_too {
                    continue;
                }
            }
            (out.take)(Entry::Sample(sample, &exemplars))?;
        }
        gathering.finish(out)
    }
}

/// OpenMetrics 1.0, held to its rules.
fn strict<E: From<ExpositionError>>(bytes: &[u8], out: &mut Out<'_, E>) -> Result<(), E> {
    let mut families = Families::default();
    let mut parser = Parser::new(bytes, Format::OpenMetrics);
    let mut pairs = Vec::new();
    let mut waiting = Waiting::default();
    let mut gathering = Gathering::default();
    let mut name = String::new();
    while let Some(item) = parser.next() {
        let item = item?;
        let Item::Sample(sample) = item else {
            let ended = families.about(&item, parser.line())?;
            waiting.flush(&name, &mut gathering, out)?;
            out.family(ended)?;
            continue;
        };
        sample.raw_labels_into(LABELS_MAX, &mut pairs)?;
        let (Place { part, group }, ended) = families.sample(&sample, &pairs)?;
        if waiting.group != Some(group) || ended.is_some() {
            waiting.flush(&name, &mut gathering, out)?;
            waiting.group = Some(group);
        }
        out.family(ended)?;
        if let Some(current) = families.name()
            && current != name
        {
            current.clone_into(&mut name);
        }
        let mut exemplars = Vec::new();
        exemplars_into(&sample, &mut exemplars)?;
        if part == Part::Created && sample.value.is_finite() {
            waiting.start_ms = Some((sample.value * 1000.0).round() as i64);
        }
        waiting.samples.push((sample, part, exemplars));
    }
    let last = families.end()?;
    waiting.flush(&name, &mut gathering, out)?;
    out.family(last)
}

#[cfg(test)]
mod tests;
