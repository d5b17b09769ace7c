//! Families of metrics, and the rules of OpenMetrics 1.0 for them: which samples belong to one,
//! in which order they come, and what they may be.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use kittiwake_model::TimestampMs;
use kittiwake_model::labels::METRIC_NAME;

use super::{ExpositionError, Item, MetricType, Sample};
use crate::float::parse_float;

/// What is said of all series of a family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// What it measures.
    pub kind: MetricType,
    /// What it is about.
    pub help: String,
    /// In what it is measured.
    pub unit: String,
}

/// What a sample is in its family, by the suffix of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Plain,
    Total,
    Created,
    Bucket,
    Count,
    Sum,
    GaugeCount,
    GaugeSum,
    Info,
}

impl Part {
    fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Total => "_total",
            Self::Created => "_created",
            Self::Bucket => "_bucket",
            Self::Count => "_count",
            Self::Sum => "_sum",
            Self::GaugeCount => "_gcount",
            Self::GaugeSum => "_gsum",
            Self::Info => "_info",
        }
    }

    pub fn suffix_is(self, suffix: &[u8]) -> bool {
        self.suffix().as_bytes() == suffix
    }

    /// The parts that a family of a type has.
    pub fn of_type(kind: MetricType) -> &'static [Self] {
        match kind {
            MetricType::Counter => &[Self::Total, Self::Created],
            MetricType::Histogram => &[Self::Bucket, Self::Count, Self::Sum, Self::Created],
            MetricType::GaugeHistogram => &[Self::Bucket, Self::GaugeCount, Self::GaugeSum],
            MetricType::Summary => &[Self::Plain, Self::Count, Self::Sum, Self::Created],
            MetricType::Info => &[Self::Info],
            MetricType::Gauge | MetricType::StateSet | MetricType::Unknown => &[Self::Plain],
        }
    }
}

/// Where a sample stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub part: Part,
    /// Samples with the same hash belong to one metric.
    pub group: u64,
}

pub(super) type Pairs<'a> = [(Cow<'a, str>, Cow<'a, str>)];

/// Goes over the families of an exposition.
#[derive(Debug, Default)]
pub(super) struct Families {
    current: Option<Current>,
    /// Names that no other family may use.
    taken: HashSet<String>,
    hasher: RandomState,
    line: usize,
}

#[derive(Debug, Default)]
struct Current {
    family: Family,
    has: [bool; 3],
    has_samples: bool,
    group: Option<(u64, Option<TimestampMs>)>,
    groups: HashSet<u64>,
    histogram: Histogram,
}

/// What a metric's classic histogram has said so far.
#[derive(Debug, Default)]
struct Histogram {
    bound: Option<f64>,
    cumulative: f64,
    count: Option<f64>,
    has_sum: bool,
    has_gauge_sum: bool,
    has_negative_bound: bool,
    has_negative_sum: bool,
    is_begun: bool,
}

impl Families {
    /// Takes a line about a family; gives the family before it if that has ended.
    pub fn about(
        &mut self,
        item: &Item<'_>,
        line: usize,
    ) -> Result<Option<Family>, ExpositionError> {
        self.line = line;
        let (name, which) = match item {
            Item::Help { name, .. } => (name, 0),
            Item::Type { name, .. } => (name, 1),
            Item::Unit { name, .. } => (name, 2),
            Item::Sample(_) | Item::Composite(..) => return Ok(None),
        };
        let is_current = self
            .current
            .as_ref()
            .is_some_and(|c| c.family.name == **name);
        let ended = if is_current { None } else { self.begin(name)? };
        let Some(current) = &mut self.current else {
            return Ok(ended);
        };
        let said = std::mem::replace(&mut current.has[which], true);
        if current.has_samples {
            return self.problem("its samples must come behind what is said of it");
        }
        if said {
            return self.problem("the same thing is said of it twice");
        }
        match item {
            Item::Help { text, .. } => text.as_ref().clone_into(&mut current.family.help),
            Item::Type { kind, .. } => current.family.kind = *kind,
            Item::Unit { unit, .. } => (*unit).clone_into(&mut current.family.unit),
            Item::Sample(_) | Item::Composite(..) => {}
        }
        Ok(ended)
    }

    /// Takes a sample by its labels; gives its place and the family before it if that has
    /// ended.
    pub fn sample(
        &mut self,
        sample: &Sample<'_>,
        pairs: &Pairs<'_>,
    ) -> Result<(Place, Option<Family>), ExpositionError> {
        self.line = sample.line;
        let name = pairs.iter().find(|(name, _)| name == METRIC_NAME);
        let name = name.map_or("", |(_, value)| value.as_ref());
        let (part, ended) = match self.part(name) {
            Some(part) => (part, None),
            None => (Part::Plain, self.begin(name)?),
        };
        let hasher = self.hasher.clone();
        let Some(current) = &mut self.current else {
            return self.problem("it has no name");
        };
        current.has_samples = true;
        let kind = current.family.kind;
        let special = special_label(kind, part, &current.family.name);
        let group = hash(&hasher, pairs, special);
        let label = special.and_then(|special| {
            let pair = pairs.iter().find(|(name, _)| name == special);
            pair.map(|(_, value)| value.as_ref())
        });
        if let Some(problem) = bad_label(kind, part, label)
            .or_else(|| bad_value(kind, part, sample.value))
            .or_else(|| bad_exemplar(part, sample))
            .or_else(|| current.order(kind, group, sample.time_ms))
            .or_else(|| current.histogram_part(kind, part, label, sample.value))
        {
            return self.problem(problem);
        }
        Ok((Place { part, group }, ended))
    }

    /// The name of the family that is read now.
    pub fn name(&self) -> Option<&str> {
        self.current.as_ref().map(|c| c.family.name.as_str())
    }

    /// Ends the last family and gives it.
    pub fn end(&mut self) -> Result<Option<Family>, ExpositionError> {
        let Some(mut current) = self.current.take() else {
            return Ok(None);
        };
        let problem = current.finish();
        let family = current.family;
        let name = family.name.clone();
        let refuse = |problem| ExpositionError::Family {
            line: self.line,
            name: name.clone(),
            problem,
        };
        if let Some(problem) = problem {
            return Err(refuse(problem));
        }
        let parts = Part::of_type(family.kind);
        let plain = (!parts.contains(&Part::Plain)).then_some(Part::Plain);
        for part in parts.iter().chain(&plain) {
            if !self.taken.insert(format!("{name}{}", part.suffix())) {
                return Err(refuse("another family has one of its names"));
            }
        }
        Ok(Some(family).filter(|_| current.has.contains(&true)))
    }

    fn begin(&mut self, name: &str) -> Result<Option<Family>, ExpositionError> {
        let ended = self.end()?;
        self.current = Some(Current {
            family: Family {
                name: name.to_owned(),
                ..Family::default()
            },
            ..Current::default()
        });
        Ok(ended)
    }

    fn part(&self, name: &str) -> Option<Part> {
        let family = &self.current.as_ref()?.family;
        let suffix = name.strip_prefix(&family.name)?;
        let mut parts = Part::of_type(family.kind).iter().copied();
        parts.find(|part| part.suffix() == suffix)
    }

    fn problem<T>(&self, problem: &'static str) -> Result<T, ExpositionError> {
        let current = self.current.as_ref();
        Err(ExpositionError::Family {
            line: self.line,
            name: current.map_or_else(String::new, |c| c.family.name.clone()),
            problem,
        })
    }
}

/// The label that tells a metric's samples apart.
fn special_label(kind: MetricType, part: Part, family: &str) -> Option<&str> {
    match (kind, part) {
        (_, Part::Bucket) => Some("le"),
        (MetricType::Summary, Part::Plain) => Some("quantile"),
        (MetricType::StateSet, _) => Some(family),
        _ => None,
    }
}

/// Equal for the same labels in any order, without the name and the special one.
fn hash(hasher: &RandomState, pairs: &Pairs<'_>, special: Option<&str>) -> u64 {
    let own = pairs
        .iter()
        .filter(|(name, _)| name != METRIC_NAME && Some(name.as_ref()) != special);
    own.fold(0, |all, (name, value)| {
        let mut hash = hasher.build_hasher();
        hash.write(name.as_bytes());
        hash.write_u8(0xff);
        hash.write(value.as_bytes());
        all.wrapping_add(hash.finish())
    })
}

/// What is wrong with the value of the special label.
fn bad_label(kind: MetricType, part: Part, value: Option<&str>) -> Option<&'static str> {
    let number = value.and_then(|value| parse_float(value.as_bytes()));
    match (kind, part) {
        (_, Part::Bucket) => match number {
            Some(bound) if bound == f64::INFINITY => {
                (value != Some("+Inf")).then_some("the last bucket's label must be le=\"+Inf\"")
            }
            Some(bound) if !bound.is_nan() => None,
            _ => Some("a bucket needs its bound in the label le"),
        },
        (MetricType::Summary, Part::Plain) => match number {
            Some(quantile) if (0.0..=1.0).contains(&quantile) => None,
            _ => Some("a quantile from 0 to 1 must be in the label quantile"),
        },
        (MetricType::StateSet, _) if value.is_none() => {
            Some("a state must be in a label of the family's name")
        }
        _ => None,
    }
}

fn bad_value(kind: MetricType, part: Part, value: f64) -> Option<&'static str> {
    match (kind, part) {
        (MetricType::StateSet, _) if value != 0.0 && value != 1.0 => {
            Some("a state's value must be 0 or 1")
        }
        (MetricType::Info, _) if value != 1.0 => Some("an info's value must be 1"),
        (MetricType::Summary, Part::Plain) if value < 0.0 => {
            Some("a quantile's value cannot be negative")
        }
        (_, Part::GaugeSum) if value.is_nan() => Some("a sum cannot be NaN"),
        (_, Part::Total | Part::Sum | Part::Count | Part::Bucket | Part::GaugeCount)
            if value.is_nan() || value < 0.0 =>
        {
            Some("what counts cannot be NaN or negative")
        }
        _ => None,
    }
}

fn bad_exemplar(part: Part, sample: &Sample<'_>) -> Option<&'static str> {
    let may = matches!(part, Part::Bucket | Part::Total) || sample.exemplars.is_empty();
    (!may).then_some("only buckets and totals of counters have exemplars")
}

impl Current {
    /// Holds that a metric's samples come together and its times do not fall.
    fn order(
        &mut self,
        kind: MetricType,
        group: u64,
        time_ms: Option<TimestampMs>,
    ) -> Option<&'static str> {
        // Metrics of an info cannot be told apart.
        if kind == MetricType::Info {
            return None;
        }
        let before = self.group.replace((group, time_ms));
        let is_same = before.is_some_and(|(before, _)| before == group);
        if !is_same {
            let problem = self.histogram.finish();
            if problem.is_some() {
                return problem;
            }
            if !self.groups.insert(group) {
                return Some("the samples of one metric must stand together");
            }
            return None;
        }
        let (_, before_ms) = before?;
        match (before_ms, time_ms) {
            (Some(before), Some(now)) if now < before => Some("its times go backwards"),
            (Some(before), Some(now)) if now > before => self.histogram.finish(),
            (None, Some(_)) | (Some(_), None) => {
                Some("of one metric's samples some have times and some have none")
            }
            _ => None,
        }
    }

    fn histogram_part(
        &mut self,
        kind: MetricType,
        part: Part,
        bound: Option<&str>,
        value: f64,
    ) -> Option<&'static str> {
        if !matches!(kind, MetricType::Histogram | MetricType::GaugeHistogram) {
            return None;
        }
        let histogram = &mut self.histogram;
        histogram.is_begun = true;
        match part {
            Part::Bucket => {
                let bound = bound.and_then(|bound| parse_float(bound.as_bytes()));
                let bound = bound.unwrap_or(f64::NAN);
                histogram.has_negative_bound |= bound < 0.0;
                if histogram.bound.is_some_and(|before| bound <= before) {
                    return Some("the bounds of its buckets must rise");
                }
                if histogram.bound.is_some() && value < histogram.cumulative {
                    return Some("the counts of its buckets must not fall");
                }
                histogram.bound = Some(bound);
                histogram.cumulative = value;
            }
            Part::Count | Part::GaugeCount => histogram.count = Some(value),
            Part::Sum => histogram.has_sum = true,
            Part::GaugeSum => {
                histogram.has_gauge_sum = true;
                histogram.has_negative_sum |= value < 0.0;
            }
            _ => {}
        }
        None
    }

    fn finish(&mut self) -> Option<&'static str> {
        let Family { kind, unit, .. } = &self.family;
        if matches!(kind, MetricType::Info | MetricType::StateSet) && !unit.is_empty() {
            return Some("an info or stateset has no unit");
        }
        self.histogram.finish()
    }
}

impl Histogram {
    fn finish(&mut self) -> Option<&'static str> {
        let done = std::mem::take(self);
        if !done.is_begun {
            return None;
        }
        let has_sum = done.has_sum || done.has_gauge_sum;
        if done.bound != Some(f64::INFINITY) {
            return Some("the bucket le=\"+Inf\" is missing");
        }
        if done.count.is_some_and(|count| count != done.cumulative) {
            return Some("its count is not that of the bucket le=\"+Inf\"");
        }
        if has_sum != done.count.is_some() {
            return Some("sum and count must come together");
        }
        if done.has_negative_bound && done.has_sum {
            return Some("with a negative bound there is no sum");
        }
        if !done.has_negative_bound && done.has_negative_sum {
            return Some("without a negative bound the sum cannot be negative");
        }
        None
    }
}
