//! Reading series for selectors, each once for all steps.

use std::sync::Arc;

use kittiwake_model::histogram::ResetHint;
use kittiwake_model::{
    Columns, FloatHistogram, Labels, Matcher, STALE_NAN_BITS, Select, SelectHint, SeriesCursor,
    Thinned, TimeRange, is_stale_nan, stale_nan,
};
use kittiwake_vector::Series;

use super::{Evaluator, Findings, Look, Steps};
use crate::MatrixSeries;
use crate::ast::{Edges, Matrix, Selector};
use crate::error::EvalError;

/// A native histogram of a series.
#[derive(Debug, Clone)]
pub(super) struct HistogramPoint {
    pub(super) time: i64,
    pub(super) histogram: Arc<FloatHistogram>,
    /// When its counting began; 0 is not known.
    pub(super) start: i64,
}

/// Numbers of a series in order of time.
#[derive(Debug, Clone, Default)]
pub(super) struct FloatPoints {
    pub(super) times: Vec<i64>,
    pub(super) values: Vec<f64>,
    /// When the counting of each began; empty where it is known of none.
    pub(super) starts: Vec<i64>,
    /// How many samples each is the sum of; empty where each is one.
    pub(super) weights: Vec<f64>,
}

/// A series as it was read, without stale markers, for windows.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) labels: Labels,
    pub(super) drops_name: bool,
    pub(super) floats: FloatPoints,
    pub(super) histograms: Vec<HistogramPoint>,
    /// Where samples were thinned out.
    pub(super) thinned: Vec<Thinned>,
}

/// Whether the buckets of a selector's histograms are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Buckets {
    /// They are.
    Kept,
    /// Counts and sums are enough.
    Skipped(Visits),
}

/// When samples are looked at, and how far back. A sample learns from its buckets whether the
/// counter was reset before it only where the one before it was looked at too: what lies between
/// two visits is jumped over, as Prometheus' iterators do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visits {
    steps: Steps,
    look: Look,
    /// How far the first visit reaches back, and how far the others do.
    reach_ms: (i64, i64),
}

impl Buckets {
    /// Of a selector of which each step takes the newest sample.
    pub(super) fn newest(evaluator: &Evaluator<'_>, look: Look) -> Self {
        let reach = evaluator.query.options.lookback_ms.saturating_sub(1);
        Self::of(evaluator, look, (reach, reach))
    }

    /// Of a selector of which each step takes all samples that its window reaches.
    pub(super) fn window(evaluator: &Evaluator<'_>, look: Look, reach_ms: i64) -> Self {
        let step_ms = evaluator.steps.step_ms;
        Self::of(evaluator, look, (reach_ms, reach_ms.min(step_ms)))
    }

    fn of(evaluator: &Evaluator<'_>, look: Look, reach_ms: (i64, i64)) -> Self {
        if !evaluator.skips_buckets() {
            return Self::Kept;
        }
        Self::Skipped(Visits {
            steps: evaluator.steps,
            look,
            reach_ms,
        })
    }
}

impl Visits {
    /// The samples before which others were jumped over.
    fn jumps(&self, times: &[i64]) -> Vec<u32> {
        let mut jumps = Vec::new();
        let mut next = 0;
        for step in 0..self.steps.count {
            let end = self.look.at(self.steps, step);
            let reach = if step == 0 {
                self.reach_ms.0
            } else {
                self.reach_ms.1
            };
            let start = end.saturating_sub(reach);
            if times.get(next).is_some_and(|t| *t < start) {
                next += times[next..].partition_point(|t| *t < start);
                jumps.push(next as u32);
            }
            next += times[next..].partition_point(|t| *t < end);
            if next == times.len() {
                break;
            }
        }
        jumps
    }
}

impl Raw {
    /// Columns with the memory of its numbers.
    pub(super) fn into_columns(self) -> Columns {
        Columns {
            times: self.floats.times,
            values: self.floats.values,
            starts: self.floats.starts,
            ..Columns::default()
        }
    }
}

/// Reads the series of one selector.
pub(super) struct Reader<'a> {
    evaluator: Evaluator<'a>,
    cursor: Box<dyn SeriesCursor>,
    buckets: Buckets,
    /// Memory for the next series.
    spare: Columns,
}

impl<'a> Evaluator<'a> {
    /// Opens the series of a selector with samples in `first - back < time <= last + ahead`,
    /// where first and last are what the steps look at.
    pub(super) fn open(
        &self,
        matchers: &[Matcher],
        look: Look,
        back_ms: i64,
        ahead_ms: i64,
        hint: SelectHint,
        buckets: Buckets,
    ) -> Result<Reader<'a>, EvalError> {
        let first = self.looked(0, look);
        let last = self.looked(self.steps.count.saturating_sub(1), look);
        let range = TimeRange::new(
            first.saturating_sub(back_ms).saturating_add(1),
            last.saturating_add(ahead_ms),
        );
        let select = Select {
            matchers: matchers.to_vec(),
            range,
            step_ms: self.steps.step_ms,
            hint,
            limit: 0,
        };
        Ok(Reader {
            evaluator: *self,
            cursor: self.query.store.select(&select, self.query.context)?,
            buckets,
            spare: Columns::default(),
        })
    }

    /// A range selector at one time.
    pub(super) fn matrix(
        &self,
        matrix: &Matrix,
        findings: &mut Findings,
    ) -> Result<Vec<MatrixSeries>, EvalError> {
        let range_ms = self.length(&matrix.range, false)?;
        let look = self.look(&matrix.selector.shift)?;
        let lookback = self.query.options.lookback_ms;
        let (back, ahead) = match matrix.selector.edges {
            Edges::Plain => (0, 0),
            Edges::Anchored => (lookback, 0),
            Edges::Smoothed => (lookback, lookback),
        };
        let hint = SelectHint {
            window_ms: range_ms,
            ..SelectHint::default()
        };
        let matchers = &matrix.selector.matchers;
        let mut reader = self.open(matchers, look, range_ms + back, ahead, hint, Buckets::Kept)?;
        let end = self.looked(0, look);
        let mut result = Vec::new();
        while let Some((labels, columns)) = reader.next()? {
            let raw = reader.raw(labels, columns);
            let mut floats: Vec<(i64, f64)> = raw
                .floats
                .times
                .iter()
                .copied()
                .zip(raw.floats.values)
                .collect();
            if matrix.selector.edges != Edges::Plain && !raw.histograms.is_empty() {
                let word = if matrix.selector.edges == Edges::Anchored {
                    "anchored"
                } else {
                    "smoothed"
                };
                return Err(EvalError::new(format!(
                    "{word} modifier is not supported with histograms"
                )));
            }
            if matrix.selector.edges != Edges::Plain {
                let is_smoothed = matrix.selector.edges == Edges::Smoothed;
                floats = super::extended::extend(&floats, end - range_ms, end, is_smoothed);
            }
            let histograms = raw.histograms.into_iter();
            let histograms: Vec<_> = histograms.map(|p| (p.time, p.histogram)).collect();
            let sizes = histograms.iter().map(|(_, h)| h.size_in_samples());
            findings.samples[0] += (floats.len() + sizes.sum::<usize>()) as u64;
            if !floats.is_empty() || !histograms.is_empty() {
                result.push(MatrixSeries {
                    labels: raw.labels,
                    floats,
                    histograms,
                });
            }
        }
        result.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(result)
    }
}

impl Reader<'_> {
    /// Readers of shares of its series, for as many threads at most; none where that is not
    /// worth it.
    pub(super) fn split(&mut self, threads: usize) -> Vec<Self> {
        if threads < 2 {
            return Vec::new();
        }
        let cursors = self.cursor.split(threads).into_iter();
        let reader = |cursor| Self {
            cursor,
            evaluator: self.evaluator,
            buckets: self.buckets,
            spare: Columns::default(),
        };
        cursors.map(reader).collect()
    }

    /// The next series with its samples in range.
    pub(super) fn next(&mut self) -> Result<Option<(Labels, Columns)>, EvalError> {
        while let Some(labels) = self.cursor.next_series()? {
            let mut columns = std::mem::take(&mut self.spare);
            columns.clear();
            while self.cursor.next_batch(&mut columns)? {}
            if columns.is_empty() {
                self.spare = columns;
                continue;
            }
            if !columns.histograms.is_empty() {
                // The store counted each as one.
                let sizes = columns.histograms.iter().map(|(_, h)| {
                    let counts = h.positive_spans.len() + h.negative_spans.len();
                    (counts + h.custom_bounds.len()) as u64 / 2 + 10
                });
                self.evaluator.query.context.count_samples(sizes.sum())?;
            }
            return Ok(Some((labels, columns)));
        }
        Ok(None)
    }

    /// Takes columns whose memory the next series may have.
    pub(super) fn give_back(&mut self, columns: Columns) {
        self.spare = columns;
    }

    /// Samples for windows.
    pub(super) fn raw(&self, labels: Labels, columns: Columns) -> Raw {
        split(labels, columns, self.buckets)
    }
}

/// Numbers and histograms apart, without stale markers.
pub(super) fn split(labels: Labels, columns: Columns, buckets: Buckets) -> Raw {
    // Without a way out of the loop, which is rarely taken, it takes several values at once.
    let is_stale = |stale: bool, value: &f64| stale | (value.to_bits() == STALE_NAN_BITS);
    let is_plain = columns.histograms.is_empty() && !columns.values.iter().fold(false, is_stale);
    if is_plain {
        return Raw {
            labels,
            drops_name: false,
            floats: FloatPoints {
                times: columns.times,
                values: columns.values,
                starts: columns.starts,
                weights: columns.weights,
            },
            histograms: Vec::new(),
            thinned: columns.thinned,
        };
    }
    let converted = convert(&columns, buckets);
    let mut floats = FloatPoints::default();
    let mut histograms = Vec::with_capacity(converted.len());
    let mut next = converted.into_iter().peekable();
    for (index, time) in columns.times.iter().enumerate() {
        let start = columns.starts.get(index).copied().unwrap_or(0);
        if let Some((_, histogram)) = next.next_if(|(at, _)| *at as usize == index) {
            if !is_stale_nan(histogram.sum) {
                histograms.push(HistogramPoint {
                    time: *time,
                    histogram,
                    start,
                });
            }
        } else if !is_stale_nan(columns.values[index]) {
            floats.times.push(*time);
            floats.values.push(columns.values[index]);
            if !columns.starts.is_empty() {
                floats.starts.push(start);
            }
            floats.weights.extend(columns.weights.get(index));
        }
    }
    Raw {
        labels,
        drops_name: false,
        floats,
        histograms,
        thinned: columns.thinned,
    }
}

/// How far a window or a lookback reaches at a time: where samples were thinned out, to twice
/// what is left of one of each.
pub(super) fn reach(thinned: &[Thinned], at: i64, reach_ms: i64) -> i64 {
    let found = thinned.iter().find(|t| at <= t.until_ms);
    found.map_or(reach_ms, |t| reach_ms.max(2 * t.window_ms))
}

/// The histograms of columns, to calculate with. Without buckets, each says itself whether the
/// counter was reset before it, since that can no longer be seen.
fn convert(columns: &Columns, buckets: Buckets) -> Vec<(u32, Arc<FloatHistogram>)> {
    let histograms = columns.histograms.iter();
    let Buckets::Skipped(visits) = buckets else {
        return histograms
            .map(|(index, histogram)| (*index, Arc::new(histogram.as_ref().into())))
            .collect();
    };
    let mut jumps = visits.jumps(&columns.times).into_iter().peekable();
    let mut last: Option<FloatHistogram> = None;
    let converted = histograms.map(|(index, histogram)| {
        while jumps.next_if(|jump| jump <= index).is_some() {
            last = None;
        }
        let whole = FloatHistogram::from(histogram.as_ref());
        if is_stale_nan(whole.sum) {
            return (*index, Arc::new(whole));
        }
        let mut totals = whole.without_buckets();
        if totals.reset_hint == ResetHint::Unknown
            && let Some(last) = &last
        {
            totals.reset_hint = if whole.is_reset_after(last) {
                ResetHint::Yes
            } else {
                ResetHint::No
            };
        }
        let hint = totals.reset_hint;
        last = Some(FloatHistogram {
            reset_hint: hint,
            ..whole
        });
        (*index, Arc::new(totals))
    });
    converted.collect()
}

/// For each step the newest sample that is not older than the lookback; a stale marker ends a
/// series. `each` is called with the step and the index of the sample.
pub(super) fn newest(
    columns: &Columns,
    steps: Steps,
    look: Look,
    lookback_ms: i64,
    mut each: impl FnMut(usize, usize),
) {
    let times = &columns.times;
    let mut end = 0;
    for step in 0..steps.count {
        let at = look.at(steps, step);
        while end < times.len() && times[end] <= at {
            end += 1;
        }
        let lookback_ms = reach(&columns.thinned, at, lookback_ms);
        if end > 0 && times[end - 1] > at.saturating_sub(lookback_ms) {
            each(step, end - 1);
        }
    }
}

/// A series at each step.
pub(super) fn at_steps(
    labels: Labels,
    columns: &Columns,
    steps: Steps,
    look: Look,
    lookback_ms: i64,
    buckets: Buckets,
    findings: &mut Findings,
) -> Series {
    let mut series = Series::of(labels, vec![stale_nan(); steps.count]);
    if columns.histograms.is_empty() {
        newest(columns, steps, look, lookback_ms, |step, index| {
            // A stale marker is what stands for no value.
            let value = columns.values[index];
            series.floats[step] = value;
            findings.samples[step] += u64::from(value.to_bits() != STALE_NAN_BITS);
        });
        return series;
    }
    let converted = convert(columns, buckets);
    newest(columns, steps, look, lookback_ms, |step, index| {
        let place = converted.binary_search_by_key(&(index as u32), |(at, _)| *at);
        let Ok(place) = place else {
            let value = columns.values[index];
            series.floats[step] = value;
            findings.samples[step] += u64::from(value.to_bits() != STALE_NAN_BITS);
            return;
        };
        let histogram = &converted[place].1;
        if !is_stale_nan(histogram.sum) {
            findings.samples[step] += histogram.size_in_samples() as u64;
            series.set_histogram(step, Arc::clone(histogram));
        }
    });
    series
}

/// The hint for a selector below a function.
pub(super) fn hint(function: &str, window_ms: i64) -> SelectHint {
    SelectHint {
        function: (!function.is_empty()).then(|| function.to_owned()),
        window_ms,
        only_presence: matches!(function, "count_over_time" | "present_over_time"),
        ..SelectHint::default()
    }
}

/// The matchers of a selector.
pub(super) fn matchers(selector: &Selector) -> &[Matcher] {
    &selector.matchers
}
