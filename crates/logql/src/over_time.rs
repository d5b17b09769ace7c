//! Range aggregations: lines, or numbers taken from them, over a window that slides.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kittiwake_model::{
    Amount, Apart, Count, CountCursor, Direction, Entry, EntryBatch, EntryCursor, FieldTest,
    Labels, LogStore, MatchOp, QueryContext, Scan, TimeRange, duration, is_stale_nan, on_threads,
    stale_nan, threads_per_query,
};
use kittiwake_vector::{CompensatedSum, Grouping, Series, quantile};

use crate::ast::{Conversion, RangeExpr, RangeOp, Stage, Unwrap};
use crate::error::EvalError;
use crate::metric::Steps;
use crate::pipeline::{
    ERROR, ERROR_DETAILS, Hints, LineLabels, OneField, PRESERVE_ERROR, Pipeline, SAMPLE_ERROR,
};
use crate::units;

/// Series within one query at most; what an answer may have is less.
const SERIES_MAX: usize = 100_000;

/// Times and numbers of one series.
type Samples = Vec<(i64, f64)>;
const SAMPLE_BYTES: usize = size_of::<(i64, f64)>();

/// Amounts of one series by slot.
type Slots = BTreeMap<usize, u64>;

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
        scan.field_filters = pipeline.field_filters();
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

    /// Whether a window's value is a sum of whole numbers, one of each line.
    fn adds_up(&self) -> bool {
        let op = self.range.op;
        self.range.unwrap.is_none()
            && matches!(
                op,
                RangeOp::CountOverTime
                    | RangeOp::Rate
                    | RangeOp::BytesOverTime
                    | RangeOp::BytesRate
                    | RangeOp::AbsentOverTime
            )
    }

    /// The pipeline as a test of one field, where its lines are counted without labels.
    fn one_field(&self) -> Option<OneField> {
        let test = OneField::of(&self.pipeline, &self.hints);
        test.filter(|_| self.no_labels)
    }

    /// Which metadata makes series of a stream differ, while there is no pipeline.
    fn apart(&self) -> Apart {
        let mut names = vec![ERROR.to_owned(), ERROR_DETAILS.to_owned()];
        if !self.no_labels {
            let Some(Grouping::By(groups)) = &self.grouping else {
                return Apart::All;
            };
            // Metadata under the name of a stream's label goes under another one.
            let plain = groups.iter().filter_map(|n| n.strip_suffix("_extracted"));
            names.extend(groups.iter().cloned().chain(plain.map(str::to_owned)));
        }
        Apart::By(names)
    }

    /// The series and the number of a line, if it has one.
    fn sample(&self, stream: &Labels, entry: &Entry) -> Option<(Labels, f64)> {
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
            duration::parse(text).map(|ns| ns as f64 / 1e9)
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
    let found = if extractor.adds_up() {
        let windows = Windows::new(range, steps);
        let amounts = amounts(&extractor, scan, &windows, store, context)?;
        let all = amounts.into_iter().collect::<BTreeMap<_, _>>().into_iter();
        all.map(|(labels, slots)| (labels, windows.values(range, &slots)))
            .collect::<Vec<_>>()
    } else {
        let samples = samples(&extractor, &scan, store, context)?;
        let all = samples.into_iter().collect::<BTreeMap<_, _>>().into_iter();
        all.map(|(labels, mut samples)| {
            // Streams of several label sets can make one series.
            samples.sort_by_key(|(time_ns, _)| *time_ns);
            let values = slide(range, &samples, steps, context)?;
            context.release_memory((samples.len() * SAMPLE_BYTES) as u64);
            Ok((labels, values))
        })
        .collect::<Result<_, EvalError>>()?
    };
    for (labels, values) in &found {
        let is_broken = labels.get(ERROR).is_some() && labels.get(PRESERVE_ERROR).is_none();
        if is_broken && values.iter().any(|v| !is_stale_nan(*v)) {
            return Err(EvalError::Pipeline(labels.clone()));
        }
    }
    let found: Vec<Series> = found
        .into_iter()
        .map(|(labels, values)| Series::of(labels, values))
        .collect();
    if range.op == RangeOp::AbsentOverTime {
        let is_there = |step: usize| found.iter().any(|s| s.has(step));
        let value = |step| if is_there(step) { stale_nan() } else { 1.0 };
        let values = (0..steps.count).map(value).collect();
        return Ok(vec![Series::of(absent_labels(range), values)]);
    }
    Ok(found)
}

/// Calls `each` with all lines of a cursor.
fn read(
    cursor: &mut dyn EntryCursor,
    context: &QueryContext,
    mut each: impl FnMut(&Labels, &Entry) -> Result<(), EvalError>,
) -> Result<(), EvalError> {
    let mut batch = EntryBatch::default();
    while cursor.next_batch(&mut batch)? {
        context.count_samples(batch.len() as u64)?;
        for (index, entry) in batch.entries.iter().enumerate() {
            each(batch.labels(index), entry)?;
        }
    }
    Ok(())
}

fn check_series(count: usize) -> Result<(), EvalError> {
    if count > SERIES_MAX {
        return Err(EvalError::SeriesLimit(SERIES_MAX));
    }
    Ok(())
}

/// All times and numbers by series, counted against the query's memory.
fn samples(
    extractor: &Extractor<'_>,
    scan: &Scan,
    store: &dyn LogStore,
    context: &QueryContext,
) -> Result<HashMap<Labels, Samples>, EvalError> {
    let mut series: HashMap<Labels, Samples> = HashMap::new();
    let mut held = 0;
    let mut cursor = store.scan(scan, context)?;
    read(cursor.as_mut(), context, |stream, entry| {
        if let Some((labels, value)) = extractor.sample(stream, entry) {
            let samples = series.entry(labels).or_default();
            samples.push((entry.time_ns, value));
            held += SAMPLE_BYTES as u64;
            if held >= 1 << 20 {
                context.hold_memory(std::mem::take(&mut held))?;
            }
        }
        check_series(series.len())
    })?;
    context.hold_memory(held)?;
    Ok(series)
}

/// Amounts by slot of the windows, by series: the store adds up what it can, and no line or
/// sample is kept.
fn amounts(
    extractor: &Extractor<'_>,
    scan: Scan,
    windows: &Windows,
    store: &dyn LogStore,
    context: &QueryContext,
) -> Result<HashMap<Labels, Slots>, EvalError> {
    let test = extractor.one_field().map(Arc::new);
    if test.is_none() && !extractor.pipeline.is_empty() {
        return by_lines(extractor, &scan, windows, store, context);
    }
    let count = Count {
        scan,
        test: test.clone().map(|test| test as Arc<dyn FieldTest>),
        edges: windows.edges.clone(),
        amount: match extractor.range.op {
            RangeOp::BytesOverTime | RangeOp::BytesRate => Amount::Bytes,
            _ => Amount::Lines,
        },
        apart: extractor.apart(),
    };
    let Some(mut cursor) = store.count(&count, context)? else {
        return by_lines(extractor, &count.scan, windows, store, context);
    };
    let has_test = test.is_some();
    let add_up = |cursor: &mut dyn CountCursor| {
        let mut series: HashMap<Labels, Slots> = HashMap::new();
        let mut counted = Vec::new();
        while cursor.next_counts(&mut counted)? {
            for one in counted.drain(..) {
                // Its labels are those of any of its lines.
                let labels = if has_test {
                    Labels::empty()
                } else {
                    let line = Entry {
                        time_ns: 0,
                        line: String::new(),
                        metadata: one.metadata,
                    };
                    match extractor.sample(&one.stream, &line) {
                        Some((labels, _)) => labels,
                        None => continue,
                    }
                };
                add_slots(&mut series, labels, one.slots);
            }
            check_series(series.len())?;
        }
        Ok(series)
    };
    let shares = cursor.split(threads_per_query());
    let series = if shares.is_empty() {
        add_up(cursor.as_mut())?
    } else {
        let add_up = |mut share: Box<dyn CountCursor>| add_up(share.as_mut());
        merged(on_threads(shares, add_up, failed)?)?
    };
    if test.is_some_and(|test| test.has_error()) {
        // Labels tell of errors, so there are several series.
        return by_lines(extractor, &count.scan, windows, store, context);
    }
    Ok(series)
}

/// The error of a thread that panicked.
fn failed() -> EvalError {
    EvalError::Execution("the query failed unexpectedly".to_owned())
}

/// The sums of all threads.
fn merged(all: Vec<HashMap<Labels, Slots>>) -> Result<HashMap<Labels, Slots>, EvalError> {
    let mut series: HashMap<Labels, Slots> = HashMap::new();
    for (labels, slots) in all.into_iter().flatten() {
        add_slots(&mut series, labels, slots);
    }
    check_series(series.len())?;
    Ok(series)
}

fn add_slots(
    series: &mut HashMap<Labels, Slots>,
    labels: Labels,
    slots: impl IntoIterator<Item = (usize, u64)>,
) {
    let into = series.entry(labels).or_default();
    for (slot, amount) in slots {
        *into.entry(slot).or_default() += amount;
    }
}

fn by_lines(
    extractor: &Extractor<'_>,
    scan: &Scan,
    windows: &Windows,
    store: &dyn LogStore,
    context: &QueryContext,
) -> Result<HashMap<Labels, Slots>, EvalError> {
    let add_up = |cursor: &mut dyn EntryCursor| {
        let mut series: HashMap<Labels, Slots> = HashMap::new();
        read(cursor, context, |stream, entry| {
            if let Some(slot) = windows.slot(entry.time_ns)
                && let Some((labels, value)) = extractor.sample(stream, entry)
            {
                add_slots(&mut series, labels, [(slot, value as u64)]);
            }
            check_series(series.len())
        })?;
        Ok(series)
    };
    let mut cursor = store.scan(scan, context)?;
    let shares = cursor.split(threads_per_query())?;
    if shares.is_empty() {
        return add_up(cursor.as_mut());
    }
    merged(on_threads(
        shares,
        |mut share| add_up(share.as_mut()),
        failed,
    )?)
}

/// The ends of all windows cut time into slots, and a window is some slots in a row.
struct Windows {
    /// Slot `k` is from after `edges[k]` up to `edges[k + 1]`.
    edges: Vec<i64>,
    /// Per step its first slot and the one behind its last.
    of_step: Vec<(usize, usize)>,
}

impl Windows {
    fn new(range: &RangeExpr, steps: Steps) -> Self {
        // Left open, right closed, as in Loki: `t - window < time <= t`.
        let ends = |step| {
            let end = steps.at(step).saturating_sub(range.offset_ns);
            (end.saturating_sub(range.window_ns), end)
        };
        let mut edges: Vec<i64> = (0..steps.count)
            .flat_map(|step| [ends(step).0, ends(step).1])
            .collect();
        edges.sort_unstable();
        edges.dedup();
        let place = |edge: i64| edges.partition_point(|e| *e < edge);
        let of_step = (0..steps.count).map(|step| (place(ends(step).0), place(ends(step).1)));
        let of_step = of_step.collect();
        Self { edges, of_step }
    }

    /// The slot of a time, if it is in any.
    fn slot(&self, time_ns: i64) -> Option<usize> {
        let later = self.edges.partition_point(|edge| *edge < time_ns);
        (later < self.edges.len()).then_some(later.checked_sub(1)?)
    }

    /// The aggregation of each step's window.
    fn values(&self, range: &RangeExpr, slots: &Slots) -> Vec<f64> {
        let slots: Vec<(usize, u64)> = slots.iter().map(|(slot, n)| (*slot, *n)).collect();
        let seconds = range.window_ns as f64 / 1e9;
        let (mut begin, mut end, mut amount) = (0, 0, 0);
        let value = |(first, behind): &(usize, usize)| {
            while end < slots.len() && slots[end].0 < *behind {
                amount += slots[end].1;
                end += 1;
            }
            while begin < end && slots[begin].0 < *first {
                amount -= slots[begin].1;
                begin += 1;
            }
            if begin == end {
                return stale_nan();
            }
            match range.op {
                RangeOp::AbsentOverTime => 1.0,
                RangeOp::Rate | RangeOp::BytesRate => amount as f64 / seconds,
                _ => amount as f64,
            }
        };
        self.of_step.iter().map(value).collect()
    }
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
            *value = aggregate(range, &samples[begin..end], &mut numbers);
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
fn aggregate(range: &RangeExpr, samples: &[(i64, f64)], numbers: &mut Vec<f64>) -> f64 {
    let seconds = range.window_ns as f64 / 1e9;
    let values = samples.iter().map(|(_, value)| *value);
    match range.op {
        RangeOp::CountOverTime => samples.len() as f64,
        RangeOp::AbsentOverTime => 1.0,
        RangeOp::Rate | RangeOp::BytesRate => values.sum::<f64>() / seconds,
        RangeOp::RateCounter => counter_rate(samples, range.window_ns),
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

/// The increase of a counter per second. Loki extends it to the window's ends as PromQL does,
/// but with samples in ns and the window in ms: what is added is a millionth of the window at
/// the start, and nothing at the end.
fn counter_rate(samples: &[(i64, f64)], window_ns: i64) -> f64 {
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
    let window = window_ns as f64 / 1e9;
    let sampled = (last_ns - first_ns) as f64 / 1e9;
    let distance = sampled / (samples.len() - 1) as f64;
    let mut to_start = window / 1e6;
    if increase > 0.0 && *first >= 0.0 {
        // A counter was not below zero before.
        to_start = to_start.min(sampled * (first / increase));
    }
    if to_start >= distance * 1.1 {
        to_start = distance / 2.0;
    }
    increase * ((sampled + to_start) / sampled) / window
}

/// What is known of streams that are not there: the labels that must be equal to something.
fn absent_labels(range: &RangeExpr) -> Labels {
    let equal = range.log.selector.iter();
    let equal = equal.filter(|m| m.op() == MatchOp::Equal);
    Labels::from_pairs(equal.map(|m| (m.name(), m.value()))).unwrap_or_else(|_| Labels::empty())
}
