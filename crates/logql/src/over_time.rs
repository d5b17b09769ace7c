//! Range aggregations: lines, or numbers taken from them, over a window that slides.

use std::collections::HashMap;

use kittiwake_model::{
    Direction, EntryBatch, Labels, LogStore, MatchOp, QueryContext, Scan, TimeRange, is_stale_nan,
    stale_nan,
};
use kittiwake_vector::{CompensatedSum, Grouping, Series, quantile};

use crate::ast::{Conversion, RangeExpr, RangeOp, Stage, Unwrap};
use crate::error::EvalError;
use crate::metric::Steps;
use crate::pipeline::{ERROR, Hints, LineLabels, PRESERVE_ERROR, Pipeline, SAMPLE_ERROR};
use crate::units;

/// Series within one query at most; what an answer may have is less.
const SERIES_MAX: usize = 100_000;

/// Times and numbers of one series.
type Samples = Vec<(i64, f64)>;

/// Turns lines into numbers under labels.
struct Extractor<'a> {
    range: &'a RangeExpr,
    pipeline: Pipeline,
    /// The filters behind `unwrap`.
    behind: Pipeline,
    hints: Hints,
    grouping: Option<Grouping>,
    no_labels: bool,
}

impl<'a> Extractor<'a> {
    fn new(range: &'a RangeExpr, outer: Option<&Grouping>) -> Result<(Self, Scan), EvalError> {
        let stages = without_formats(range);
        let mut pipeline = Pipeline::new(&stages).map_err(EvalError::Execution)?;
        let mut behind = Pipeline::new(&[]).map_err(EvalError::Execution)?;
        if let Some(unwrap) = &range.unwrap {
            behind
                .push_filters(&unwrap.filters)
                .map_err(EvalError::Execution)?;
        }
        let mut grouping = range.grouping.as_ref().or(outer).cloned();
        let mut no_labels = matches!(&grouping, Some(Grouping::By(names)) if names.is_empty());
        no_labels |= range.op == RangeOp::AbsentOverTime;
        if let Some(unwrap) = &range.unwrap {
            // The label that became the number is no label of the series any more.
            match &mut grouping {
                Some(Grouping::By(names)) if !names.is_empty() => {}
                Some(Grouping::Without(names)) => names.push(unwrap.name.clone()),
                _ => grouping = Some(Grouping::Without(vec![unwrap.name.clone()])),
            }
        }
        let (groups, is_without) = match &grouping {
            Some(Grouping::By(names)) => (names.as_slice(), false),
            Some(Grouping::Without(names)) => (names.as_slice(), true),
            None => (&[][..], false),
        };
        let mut required = pipeline.required.clone();
        required.extend(behind.required.iter().cloned());
        let unwrapped = range.unwrap.as_ref().map(|u| u.name.as_str());
        // With nothing but a number wanted, the groups are not read.
        let groups = if no_labels { &[][..] } else { groups };
        let hints = Hints::new(&required, groups, is_without, no_labels, unwrapped);
        let mut scan = Scan::new(
            range.log.selector.clone(),
            TimeRange::ALL,
            Direction::Forward,
        );
        scan.ordered = false;
        scan.filters = pipeline.take_filters();
        let counts_bytes = matches!(range.op, RangeOp::BytesOverTime | RangeOp::BytesRate);
        scan.needs_line = counts_bytes || !pipeline.is_empty() || range.unwrap.is_some();
        let extractor = Self {
            range,
            pipeline,
            behind,
            hints,
            grouping,
            no_labels,
        };
        Ok((extractor, scan))
    }

    /// The series and the number of a line, if it has one.
    fn sample(&self, stream: &Labels, entry: &kittiwake_model::Entry) -> Option<(Labels, f64)> {
        let mut labels = LineLabels::new(stream.clone(), &entry.metadata);
        let line = self
            .pipeline
            .run(entry.time_ns, &entry.line, &mut labels, &self.hints)?;
        let value = match (&self.range.unwrap, self.range.op) {
            (Some(unwrap), _) => {
                let value = unwrapped(unwrap, &mut labels)?;
                let kept = self
                    .behind
                    .run(entry.time_ns, &line, &mut labels, &self.hints);
                kept.map(|_| value)?
            }
            (None, RangeOp::BytesOverTime | RangeOp::BytesRate) => line.len() as f64,
            (None, _) => 1.0,
        };
        if !labels.error.is_empty() {
            return Some((labels.result(), value));
        }
        if self.no_labels {
            return Some((Labels::empty(), value));
        }
        let labels = labels.result();
        let labels = match &self.grouping {
            Some(grouping) => grouping.key(&labels),
            None => labels,
        };
        Some((labels, value))
    }
}

/// The stages without formats of lines that nothing reads any more. It shows: a format that
/// would fail on a line makes no error.
fn without_formats(range: &RangeExpr) -> Vec<Stage> {
    let stages = &range.log.stages;
    if matches!(range.op, RangeOp::BytesOverTime | RangeOp::BytesRate) {
        return stages.clone();
    }
    let reads = |stage: &Stage| match stage {
        Stage::Line(_)
        | Stage::Json(_)
        | Stage::Logfmt { .. }
        | Stage::Regexp(_)
        | Stage::Pattern(_)
        | Stage::Unpack => true,
        Stage::Label(_)
        | Stage::LineFormat(_)
        | Stage::LabelFormat(_)
        | Stage::Decolorize
        | Stage::Drop(_)
        | Stage::Keep(_) => false,
    };
    let last_reader = stages.iter().rposition(reads);
    let is_needed = |(index, stage): &(usize, &Stage)| {
        !matches!(stage, Stage::LineFormat(_)) || last_reader.is_some_and(|last| last > *index)
    };
    let needed = stages.iter().enumerate().filter(is_needed);
    needed.map(|(_, stage)| stage.clone()).collect()
}

/// The number that a label holds; nothing without the label.
fn unwrapped(unwrap: &Unwrap, labels: &mut LineLabels) -> Option<f64> {
    let text = labels.get(&unwrap.name).filter(|text| !text.is_empty())?;
    let value = match unwrap.conversion {
        Conversion::Number => units::parse_float(text),
        Conversion::Duration | Conversion::DurationSeconds => {
            units::parse_duration(text).map(|ns| ns as f64 / 1e9)
        }
        Conversion::Bytes => units::parse_bytes(text).map(|bytes| bytes as f64),
    };
    Some(value.unwrap_or_else(|details| {
        labels.set_error(SAMPLE_ERROR, &details);
        0.0
    }))
}

/// Evaluates a range aggregation at all steps. `outer` is the grouping of a sum around it,
/// which is done on the way.
pub(crate) fn over_time(
    range: &RangeExpr,
    outer: Option<&Grouping>,
    store: &dyn LogStore,
    steps: Steps,
    context: &QueryContext,
) -> Result<Vec<Series>, EvalError> {
    let (extractor, mut scan) = Extractor::new(range, outer)?;
    let first = steps.at(0).saturating_sub(range.offset_ns);
    let last = steps.at(steps.count - 1).saturating_sub(range.offset_ns);
    let from = first.saturating_sub(range.window_ns).saturating_add(1);
    scan.range = TimeRange::new(from, last);
    let mut cursor = store.scan(&scan, context)?;
    let mut series: HashMap<Labels, Samples> = HashMap::new();
    let mut batch = EntryBatch::default();
    while cursor.next_batch(&mut batch)? {
        context.count_samples(batch.len() as u64)?;
        for (index, entry) in batch.entries.iter().enumerate() {
            if let Some((labels, value)) = extractor.sample(batch.labels(index), entry) {
                series
                    .entry(labels)
                    .or_default()
                    .push((entry.time_ns, value));
            }
        }
        if series.len() > SERIES_MAX {
            return Err(EvalError::SeriesLimit(SERIES_MAX));
        }
    }
    let mut all: Vec<(Labels, Samples)> = series.into_iter().collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut found = Vec::with_capacity(all.len());
    for (labels, mut samples) in all {
        // Streams of several label sets can make one series.
        samples.sort_by_key(|(time_ns, _)| *time_ns);
        let values = slide(range, &samples, steps, context)?;
        let is_broken = labels.get(ERROR).is_some() && labels.get(PRESERVE_ERROR).is_none();
        if is_broken && values.iter().any(|v| !is_stale_nan(*v)) {
            return Err(EvalError::Pipeline(labels));
        }
        found.push(Series::of(labels, values));
    }
    if range.op == RangeOp::AbsentOverTime {
        let is_there = |step: usize| found.iter().any(|s| s.has(step));
        let value = |step| if is_there(step) { stale_nan() } else { 1.0 };
        let values = (0..steps.count).map(value).collect();
        return Ok(vec![Series::of(absent_labels(range), values)]);
    }
    Ok(found)
}

/// The aggregation of each step's window.
fn slide(
    range: &RangeExpr,
    samples: &Samples,
    steps: Steps,
    context: &QueryContext,
) -> Result<Vec<f64>, EvalError> {
    let (mut begin, mut end) = (0, 0);
    let mut values = vec![stale_nan(); steps.count];
    let mut numbers = Vec::new();
    let mut touched = 0;
    for (index, value) in values.iter_mut().enumerate() {
        let at = steps.at(index).saturating_sub(range.offset_ns);
        // Left open, right closed, as in Loki: `t - window < time <= t`.
        while end < samples.len() && samples[end].0 <= at {
            end += 1;
        }
        while begin < end && samples[begin].0 <= at.saturating_sub(range.window_ns) {
            begin += 1;
        }
        if begin < end {
            *value = aggregate(range, &samples[begin..end], at, &mut numbers);
            touched += end - begin;
        }
        if touched > 100_000 {
            touched = 0;
            context.check()?;
        }
    }
    context.check()?;
    Ok(values)
}

/// The value of one window; there is at least one sample in it.
fn aggregate(
    range: &RangeExpr,
    samples: &[(i64, f64)],
    end_ns: i64,
    numbers: &mut Vec<f64>,
) -> f64 {
    let seconds = range.window_ns as f64 / 1e9;
    let count = samples.len() as f64;
    let values = samples.iter().map(|(_, value)| *value);
    match range.op {
        RangeOp::CountOverTime => count,
        RangeOp::AbsentOverTime => 1.0,
        RangeOp::Rate if range.unwrap.is_none() => count / seconds,
        RangeOp::Rate | RangeOp::BytesRate => values.sum::<f64>() / seconds,
        RangeOp::RateCounter => counter_rate(samples, range.window_ns, end_ns),
        RangeOp::BytesOverTime | RangeOp::SumOverTime => values.sum(),
        RangeOp::AvgOverTime => mean(samples),
        RangeOp::MinOverTime => values.fold(f64::NAN, f64::min),
        RangeOp::MaxOverTime => values.fold(f64::NAN, f64::max),
        RangeOp::StdvarOverTime => variance(samples),
        RangeOp::StddevOverTime => variance(samples).sqrt(),
        RangeOp::QuantileOverTime(phi) => {
            numbers.clear();
            numbers.extend(values);
            quantile(phi, numbers)
        }
        RangeOp::FirstOverTime => samples[0].1,
        RangeOp::LastOverTime => samples[samples.len() - 1].1,
    }
}

fn mean(samples: &[(i64, f64)]) -> f64 {
    let mut sum = CompensatedSum::default();
    for (_, value) in samples {
        sum.add(*value);
    }
    sum.value() / samples.len() as f64
}

/// As it is read, so that equal values have a variance of exactly 0.
fn variance(samples: &[(i64, f64)]) -> f64 {
    let (mut centre, mut squares) = (0.0, 0.0);
    for (index, (_, value)) in samples.iter().enumerate() {
        let distance = value - centre;
        centre += distance / (index + 1) as f64;
        squares += distance * (value - centre);
    }
    squares / samples.len() as f64
}

/// The increase of a counter per second, extended to the window's ends where samples come
/// near enough, as PromQL's `rate` has it.
fn counter_rate(samples: &[(i64, f64)], window_ns: i64, end_ns: i64) -> f64 {
    let [(first_ns, first), .., (last_ns, last)] = samples else {
        return 0.0;
    };
    let mut increase = last - first;
    let mut before = 0.0;
    for (_, value) in samples {
        if *value < before {
            increase += before;
        }
        before = *value;
    }
    let start_ns = end_ns.saturating_sub(window_ns);
    let mut to_start = (first_ns - start_ns) as f64 / 1e9;
    let mut to_end = (end_ns - last_ns) as f64 / 1e9;
    let sampled = (last_ns - first_ns) as f64 / 1e9;
    let distance = sampled / (samples.len() - 1) as f64;
    let near = distance * 1.1;
    if to_start >= near {
        to_start = distance / 2.0;
    }
    if increase > 0.0 && *first >= 0.0 {
        // A counter was not below zero before.
        to_start = to_start.min(sampled * (first / increase));
    }
    if to_end >= near {
        to_end = distance / 2.0;
    }
    increase * ((sampled + to_start + to_end) / sampled) / (window_ns as f64 / 1e9)
}

/// What is known of streams that are not there: the labels that must be equal to something.
fn absent_labels(range: &RangeExpr) -> Labels {
    let equal = range.log.selector.iter();
    let equal = equal.filter(|m| m.op() == MatchOp::Equal);
    Labels::from_pairs(equal.map(|m| (m.name(), m.value()))).unwrap_or_else(|_| Labels::empty())
}
