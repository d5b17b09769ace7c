//! Downsampled tiers: what is kept of samples once they themselves have expired.
//!
//! A block of a tier is an ordinary block that holds one aggregate of each series, a few samples
//! for each window of time. When a block of samples expires, one block of each aggregate takes
//! its place; when these expire, they become blocks of the next tier. Which tier a block is of
//! stands in the hundreds of its level, so blocks of one kind are merged with each other alone.
//!
//! Native histograms are kept among the points, sums and extremes have none.

use std::collections::VecDeque;

use kittiwake_model::histogram::ResetHint;
use kittiwake_model::{Columns, FloatHistogram, Thinned, TimeRange, is_stale_nan};

use crate::head::Sample;

/// The windows of the tiers, finest first, in ms.
pub(crate) const RESOLUTIONS_MS: [i64; 2] = [300_000, 3_600_000];
/// Levels of each kind of blocks.
const LEVELS: u32 = 100;
/// Marks points that only a rate needs: how a counter got from the first to the last value of a
/// window in which it was reset.
const INNER: i64 = 1;

/// What a block of a tier holds of each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregate {
    /// The sum of the values, and how many there were in place of the start time.
    Sums,
    /// The least value.
    Least,
    /// The greatest value.
    Greatest,
    /// The first and the last value at their times; of a counter that was reset also the value
    /// after the last reset, and before it one that makes the whole increase right.
    Points,
}

/// What a block holds, by its level, in words; and how often its content was compacted.
pub fn block_kind(level: u32) -> (&'static str, u32) {
    const WORDS: [&str; 8] = [
        "5m sums",
        "5m min",
        "5m max",
        "5m points",
        "1h sums",
        "1h min",
        "1h max",
        "1h points",
    ];
    let word = (level / LEVELS).checked_sub(1);
    let word = word.map_or("samples", |kind| {
        WORDS[(kind as usize).min(WORDS.len() - 1)]
    });
    (word, level % LEVELS)
}

impl Aggregate {
    pub(crate) const ALL: [Self; 4] = [Self::Sums, Self::Least, Self::Greatest, Self::Points];

    /// What a function over a window reads.
    fn wanted_by(function: Option<&str>) -> Self {
        match function {
            Some("sum_over_time" | "avg_over_time" | "count_over_time") => Self::Sums,
            Some("min_over_time") => Self::Least,
            Some("max_over_time") => Self::Greatest,
            _ => Self::Points,
        }
    }
}

/// A kind of block that does not hold the samples as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tier {
    /// Index into [`RESOLUTIONS_MS`].
    pub(crate) step: usize,
    pub(crate) aggregate: Aggregate,
}

impl Tier {
    /// The tier of a block by its level; `None` for samples as they came.
    pub(crate) fn of(level: u32) -> Option<Self> {
        let kind = (level / LEVELS).checked_sub(1)? as usize;
        let of_each = Aggregate::ALL.len();
        let step = (kind / of_each).min(RESOLUTIONS_MS.len() - 1);
        Some(Self {
            step,
            aggregate: Aggregate::ALL[kind % of_each],
        })
    }

    /// The level of its new blocks.
    pub(crate) fn level(self) -> u32 {
        let aggregate = Aggregate::ALL.iter().position(|a| *a == self.aggregate);
        let kind = self.step * Aggregate::ALL.len() + aggregate.unwrap_or(0);
        (kind as u32 + 1) * LEVELS
    }

    pub(crate) fn resolution_ms(self) -> i64 {
        RESOLUTIONS_MS[self.step]
    }
}

/// The samples of a series as a tier keeps them. `from` is what they are: samples as they came,
/// or what a finer tier kept of them.
pub(crate) fn reduce(samples: &Columns, from: Option<Aggregate>, to: Tier) -> Columns {
    let mut kept = Columns::default();
    let mut start = 0;
    while start < samples.len() {
        let window = |at: usize| samples.times[at].div_euclid(to.resolution_ms());
        let same = (start..samples.len()).take_while(|at| window(*at) == window(start));
        let end = start + same.count();
        match to.aggregate {
            Aggregate::Points => points(samples, start..end, &mut kept),
            Aggregate::Sums => sums(samples, start..end, from, &mut kept),
            Aggregate::Least => extreme(samples, start..end, f64::lt, &mut kept),
            Aggregate::Greatest => extreme(samples, start..end, f64::gt, &mut kept),
        }
        start = end;
    }
    kept
}

/// The numbers among some samples, without stale markers.
fn numbers(
    samples: &Columns,
    rows: std::ops::Range<usize>,
) -> impl Iterator<Item = Sample<'_>> + Clone {
    rows.map(|at| Sample::of(samples, at))
        .filter(|s| s.histogram.is_none() && !is_stale_nan(s.value))
}

fn sums(
    samples: &Columns,
    rows: std::ops::Range<usize>,
    from: Option<Aggregate>,
    kept: &mut Columns,
) {
    let (mut sum, mut lost, mut count, mut last) = (0.0_f64, 0.0_f64, 0, None);
    for sample in numbers(samples, rows) {
        let next = sum + sample.value;
        // Neumaier's way: what the larger of both could not take in.
        lost += if sum.abs() >= sample.value.abs() {
            (sum - next) + sample.value
        } else {
            (sample.value - next) + sum
        };
        sum = next;
        count += from.map_or(1, |_| sample.start_ms);
        last = Some(sample.time_ms);
    }
    if let Some(time_ms) = last {
        let whole = sum + lost;
        // Infinities leave no number behind in what was lost.
        kept.push(time_ms, if whole.is_nan() { sum } else { whole });
        kept.set_start(count);
    }
}

fn extreme(
    samples: &Columns,
    rows: std::ops::Range<usize>,
    is_more: fn(&f64, &f64) -> bool,
    kept: &mut Columns,
) {
    let mut found: Option<(i64, f64)> = None;
    for sample in numbers(samples, rows) {
        let value = match found {
            Some((_, so_far)) if !is_more(&sample.value, &so_far) && !so_far.is_nan() => so_far,
            _ => sample.value,
        };
        found = Some((sample.time_ms, value));
    }
    if let Some((time_ms, value)) = found {
        kept.push(time_ms, value);
    }
}

/// The points of a window, numbers and histograms.
fn points(samples: &Columns, rows: std::ops::Range<usize>, kept: &mut Columns) {
    let mut points = number_points(numbers(samples, rows.clone()));
    let mut histograms = histogram_points(samples, rows).into_iter().peekable();
    while let Some(histogram) = histograms.peek().copied() {
        let at = Sample::of(samples, histogram);
        while let Some(point) = points.front().filter(|p| p.time_ms < at.time_ms) {
            push_point(point, kept);
            points.pop_front();
        }
        if let Some(histogram) = at.histogram {
            kept.push_histogram(at.time_ms, histogram.clone());
        }
        histograms.next();
    }
    for point in &points {
        push_point(point, kept);
    }
}

#[derive(Debug, Clone, Copy)]
struct Point {
    time_ms: i64,
    value: f64,
    is_inner: bool,
}

fn push_point(point: &Point, kept: &mut Columns) {
    kept.push(point.time_ms, point.value);
    if point.is_inner {
        kept.set_start(INNER);
    }
}

fn number_points<'a>(mut samples: impl Iterator<Item = Sample<'a>>) -> VecDeque<Point> {
    let Some(first) = samples.next() else {
        return VecDeque::new();
    };
    let mut last = (first.time_ms, first.value);
    // Of the last reset: the sample before it with the increase until then, and that after it.
    let mut reset: Option<((i64, f64), (i64, f64))> = None;
    let mut increase = 0.0;
    for sample in samples {
        let now = (sample.time_ms, sample.value);
        if sample.value < last.1 {
            reset = Some(((last.0, first.value + increase), now));
            increase += sample.value;
        } else {
            increase += sample.value - last.1;
        }
        last = now;
    }
    let point = |(time_ms, value), is_inner| Point {
        time_ms,
        value,
        is_inner,
    };
    let mut points = VecDeque::from([point((first.time_ms, first.value), false)]);
    if let Some((before, after)) = reset {
        if before.0 > first.time_ms {
            points.push_back(point(before, true));
        }
        if after.0 < last.0 {
            points.push_back(point(after, true));
        }
    }
    if last.0 > first.time_ms {
        points.push_back(point(last, false));
    }
    points
}

/// The rows of the first and the last histogram, and of those before and after a reset.
fn histogram_points(samples: &Columns, rows: std::ops::Range<usize>) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    let mut before: Option<(usize, FloatHistogram)> = None;
    let of_rows = samples.histograms.iter();
    for (at, histogram) in of_rows.filter(|(at, _)| rows.contains(&(*at as usize))) {
        let (at, now) = (*at as usize, FloatHistogram::from(histogram.as_ref()));
        if is_stale_nan(now.sum) {
            continue;
        }
        match &before {
            None => kept.push(at),
            Some((row, earlier)) => {
                if now.reset_hint != ResetHint::Gauge && now.is_reset_after(earlier) {
                    kept.extend([*row, at]);
                }
            }
        }
        before = Some((at, now));
    }
    kept.extend(before.map(|(row, _)| row));
    kept.dedup();
    kept
}

/// What a query reads of tiers: which aggregate its function wants, and how it sees that.
#[derive(Debug, Clone)]
pub(crate) struct TierView {
    pub(crate) aggregate: Aggregate,
    is_rate: bool,
}

impl TierView {
    /// For a function over a window, or none.
    pub(crate) fn by(function: Option<&str>) -> Self {
        Self {
            aggregate: Aggregate::wanted_by(function),
            is_rate: matches!(function, Some("rate" | "increase" | "irate" | "resets")),
        }
    }

    /// Whether a block is read.
    pub(crate) fn takes(&self, tier: Option<Tier>) -> bool {
        tier.is_none_or(|tier| tier.aggregate == self.aggregate)
    }

    /// The times at which a block is read: windows widen to twice what a tier resolves.
    pub(crate) fn range(tier: Option<Tier>, range: TimeRange) -> TimeRange {
        let wider = tier.map_or(0, |tier| 2 * tier.resolution_ms());
        TimeRange::new(range.start.saturating_sub(wider), range.end)
    }

    /// Makes what was read from a block, of a tier and up to a time, to be merged with other
    /// parts: start times hold weights where sums are wanted, and no marks.
    pub(crate) fn part(&self, of: Option<(Tier, i64)>, part: &mut Columns) {
        match (self.aggregate, of) {
            (Aggregate::Sums, None) => part.starts = vec![1; part.len()],
            (Aggregate::Points, Some(_)) => self.show_points(part),
            _ => {}
        }
        if let Some((tier, until_ms)) = of
            && !part.is_empty()
        {
            part.thinned.push(Thinned {
                until_ms,
                window_ms: tier.resolution_ms(),
            });
        }
    }

    /// Completes a series of merged parts.
    pub(crate) fn whole(&self, series: &mut Columns) {
        if self.aggregate == Aggregate::Sums {
            let weights = std::mem::take(&mut series.starts);
            series.weights = weights.into_iter().map(|w| w as f64).collect();
        }
        // Of each resolution the newest time, coarsest first.
        let thinned = &mut series.thinned;
        thinned.sort_by_key(|t| (-t.window_ms, -t.until_ms));
        thinned.dedup_by_key(|t| t.window_ms);
    }

    /// Takes out of points what only a rate needs, unless it is one; the marks go in any case.
    fn show_points(&self, points: &mut Columns) {
        if points.starts.is_empty() {
            return;
        }
        let all = std::mem::take(points);
        for at in 0..all.len() {
            let mut sample = Sample::of(&all, at);
            if sample.start_ms != INNER || self.is_rate {
                sample.start_ms = 0;
                sample.push_to(points);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn increase(samples: &[(i64, f64)]) -> f64 {
        let steps = samples.windows(2).map(|w| (w[0].1, w[1].1));
        steps.map(|(a, b)| if b < a { b } else { b - a }).sum()
    }

    fn columns(samples: &[(i64, f64)]) -> Columns {
        let mut columns = Columns::default();
        for (time, value) in samples {
            columns.push(*time, *value);
        }
        columns
    }

    fn pairs(columns: &Columns) -> Vec<(i64, f64)> {
        let times = columns.times.iter().copied();
        times.zip(columns.values.iter().copied()).collect()
    }

    #[test]
    fn a_level_says_its_tier() {
        assert_eq!(Tier::of(7), None);
        for step in 0..RESOLUTIONS_MS.len() {
            for aggregate in Aggregate::ALL {
                let tier = Tier { step, aggregate };
                assert_eq!(Tier::of(tier.level() + 3), Some(tier));
            }
        }
    }

    proptest! {
        /// Over both tiers, one made of the other: nothing of sums, counts, extremes, ends and
        /// increases is lost.
        #[test]
        fn aggregates_are_those_of_all_samples(
            steps in proptest::collection::vec((1_i64..200_000, 0_u32..1000), 1..400),
        ) {
            let mut time = 1_000;
            let samples: Vec<(i64, f64)> = steps
                .iter()
                .map(|(step, value)| { time += step; (time, f64::from(*value)) })
                .collect();
            let kept = |aggregate| {
                let fine = Tier { step: 0, aggregate };
                let coarse = Tier { step: 1, aggregate };
                let once = reduce(&columns(&samples), None, fine);
                let twice = reduce(&once, Some(aggregate), coarse);
                [once, twice]
            };
            let values = || samples.iter().map(|s| s.1);
            for sums in kept(Aggregate::Sums) {
                prop_assert_eq!(sums.values.iter().sum::<f64>(), values().sum::<f64>());
                prop_assert_eq!(sums.starts.iter().sum::<i64>(), samples.len() as i64);
            }
            for least in kept(Aggregate::Least) {
                let all = least.values.iter().copied().fold(f64::MAX, f64::min);
                prop_assert_eq!(all, values().fold(f64::MAX, f64::min));
            }
            for greatest in kept(Aggregate::Greatest) {
                let all = greatest.values.iter().copied().fold(f64::MIN, f64::max);
                prop_assert_eq!(all, values().fold(f64::MIN, f64::max));
            }
            for points in kept(Aggregate::Points) {
                let mut rate = points.clone();
                TierView::by(Some("rate")).show_points(&mut rate);
                prop_assert_eq!(increase(&pairs(&rate)), increase(&samples));
                prop_assert!(rate.times.is_sorted_by(|a, b| a < b));
                let mut plain = points;
                TierView::by(None).show_points(&mut plain);
                let plain = pairs(&plain);
                prop_assert!(plain.iter().all(|p| samples.contains(p)));
                prop_assert_eq!(plain.first(), samples.first());
                prop_assert_eq!(plain.last(), samples.last());
            }
        }
    }
}
