//! Aggregations that fold each series into its group as it comes.

mod histograms;

pub use histograms::add_to_mean;

use std::collections::HashMap;

use kittiwake_model::{Labels, STALE_NAN_BITS, stale_nan};

use crate::{Grouping, Note, Notes, Series};
use histograms::HistogramGroup;

/// What to compute of a group's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// The compensated sum.
    Sum,
    /// The mean.
    Avg,
    /// The least value; NaN only when all are.
    Min,
    /// The greatest value; NaN only when all are.
    Max,
    /// How many values there are.
    Count,
    /// 1 for every group.
    Group,
    /// The population variance.
    Stdvar,
    /// The population standard deviation.
    Stddev,
    /// The interpolated φ-quantile, φ from 0 to 1.
    Quantile,
}

/// Groups that series are folded into, step by step.
#[derive(Debug)]
pub struct Groups {
    fold: Fold,
    grouping: Grouping,
    steps: usize,
    places: HashMap<Labels, usize>,
    all: Vec<Group>,
    /// What was noticed so far.
    pub notes: Notes,
}

#[derive(Debug)]
struct Group {
    labels: Labels,
    drops_name: bool,
    floats: Floats,
    /// By step, where there were histograms.
    histograms: HashMap<usize, HistogramGroup>,
}

/// What is known of the numbers of a group, per step.
#[derive(Debug)]
enum Floats {
    /// The stale marker where there was none yet.
    Value(Vec<f64>),
    /// Sum, stale where there was none yet, and what rounding lost of it.
    Sum(Vec<f64>, Vec<f64>),
    Mean(Vec<Mean>),
    Count(Vec<f64>),
    Variance(Vec<Variance>),
    /// All values of all members.
    All(Vec<Vec<f64>>),
}

/// A mean: the sum while it is finite, then the mean itself.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    lost: f64,
    count: f64,
    is_incremental: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Variance {
    count: f64,
    centre: f64,
    squares: f64,
}

/// A compensated addition; gives the sum and what was lost of it.
#[inline]
pub(crate) fn compensate(value: f64, sum: f64, lost: f64) -> (f64, f64) {
    let next = sum + value;
    let low = if sum.abs() >= value.abs() {
        (sum - next) + value
    } else {
        (value - next) + sum
    };
    (next, if next.is_infinite() { 0.0 } else { lost + low })
}

#[inline]
fn is_absent(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.sum = value;
            return;
        }
        if !self.is_incremental {
            let (sum, lost) = compensate(value, self.sum, self.lost);
            if !sum.is_infinite() {
                (self.sum, self.lost) = (sum, lost);
                return;
            }
            // Finite values whose sum overflows still have a mean.
            self.is_incremental = true;
            self.sum /= self.count - 1.0;
            self.lost /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        let (sum, lost) = (share * self.sum, share * self.lost);
        (self.sum, self.lost) = compensate(value / self.count, sum, lost);
    }

    fn value(self) -> f64 {
        if self.count == 0.0 {
            stale_nan()
        } else if self.is_incremental {
            self.sum + self.lost
        } else {
            self.sum / self.count + self.lost / self.count
        }
    }

    fn merge(&mut self, other: Self) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = other;
            return;
        }
        if !self.is_incremental && !other.is_incremental {
            let (sum, lost) = compensate(other.sum, self.sum, self.lost);
            if !sum.is_infinite() {
                (self.sum, self.lost) = (sum, lost + other.lost);
                self.count += other.count;
                return;
            }
        }
        let (mine, theirs) = (self.value(), other.value());
        let count = self.count + other.count;
        self.sum = mine * (self.count / count) + theirs * (other.count / count);
        self.lost = 0.0;
        self.count = count;
        self.is_incremental = true;
    }
}

impl Variance {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.centre = value;
            self.squares = if value.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let distance = value - self.centre;
        self.centre += distance / self.count;
        self.squares += distance * (value - self.centre);
    }
}

impl Floats {
    fn new(fold: Fold, steps: usize) -> Self {
        match fold {
            Fold::Sum => Self::Sum(vec![stale_nan(); steps], vec![0.0; steps]),
            Fold::Avg => Self::Mean(vec![Mean::default(); steps]),
            Fold::Min | Fold::Max | Fold::Group => Self::Value(vec![stale_nan(); steps]),
            Fold::Count => Self::Count(vec![0.0; steps]),
            Fold::Stdvar | Fold::Stddev => Self::Variance(vec![Variance::default(); steps]),
            Fold::Quantile => Self::All(Vec::new()),
        }
    }

    fn add(&mut self, fold: Fold, values: &mut Vec<f64>) {
        match self {
            Self::Sum(sums, lost) => {
                for ((sum, lost), value) in sums.iter_mut().zip(lost).zip(values) {
                    if is_absent(*value) {
                        continue;
                    }
                    if is_absent(*sum) {
                        *sum = *value;
                    } else {
                        (*sum, *lost) = compensate(*value, *sum, *lost);
                    }
                }
            }
            Self::Mean(means) => {
                for (mean, value) in means.iter_mut().zip(values) {
                    if !is_absent(*value) {
                        mean.add(*value);
                    }
                }
            }
            Self::Value(best) => {
                for (best, value) in best.iter_mut().zip(values) {
                    let is_better = match fold {
                        Fold::Min => *best > *value || best.is_nan(),
                        Fold::Max => *best < *value || best.is_nan(),
                        _ => true,
                    };
                    if !is_absent(*value) && is_better {
                        *best = if fold == Fold::Group { 1.0 } else { *value };
                    }
                }
            }
            Self::Count(counts) => {
                for (count, value) in counts.iter_mut().zip(values) {
                    *count += f64::from(u8::from(!is_absent(*value)));
                }
            }
            Self::Variance(variances) => {
                for (variance, value) in variances.iter_mut().zip(values) {
                    if !is_absent(*value) {
                        variance.add(*value);
                    }
                }
            }
            Self::All(all) => all.push(std::mem::take(values)),
        }
    }

    fn has(&self, step: usize) -> bool {
        match self {
            Self::Sum(values, _) | Self::Value(values) => !is_absent(values[step]),
            Self::Mean(means) => means[step].count > 0.0,
            Self::Count(counts) => counts[step] > 0.0,
            Self::Variance(variances) => variances[step].count > 0.0,
            Self::All(all) => all.iter().any(|values| !is_absent(values[step])),
        }
    }

    fn finish(self, fold: Fold, steps: usize, phis: &[f64]) -> Vec<f64> {
        match self {
            Self::Sum(mut sums, lost) => {
                for (sum, lost) in sums.iter_mut().zip(lost) {
                    if !is_absent(*sum) {
                        *sum += lost;
                    }
                }
                sums
            }
            Self::Mean(means) => means.into_iter().map(Mean::value).collect(),
            Self::Value(values) => values,
            Self::Count(counts) => {
                let present = |count: f64| if count > 0.0 { count } else { stale_nan() };
                counts.into_iter().map(present).collect()
            }
            Self::Variance(variances) => {
                let value = |v: Variance| {
                    let variance = v.squares / v.count;
                    match fold {
                        _ if v.count == 0.0 => stale_nan(),
                        Fold::Stddev => variance.sqrt(),
                        _ => variance,
                    }
                };
                variances.into_iter().map(value).collect()
            }
            Self::All(all) => quantiles(&all, steps, phis),
        }
    }
}

/// Steps whose values are gathered at once: one cache line of each member.
const QUANTILE_STEPS: usize = 8;

fn quantiles(all: &[Vec<f64>], steps: usize, phis: &[f64]) -> Vec<f64> {
    let mut result = Vec::with_capacity(steps);
    let mut columns: [Vec<f64>; QUANTILE_STEPS] = Default::default();
    let mut from = 0;
    while from < steps {
        let to = (from + QUANTILE_STEPS).min(steps);
        columns.iter_mut().for_each(Vec::clear);
        for values in all {
            for (column, value) in columns.iter_mut().zip(&values[from..to]) {
                if !is_absent(*value) {
                    column.push(*value);
                }
            }
        }
        for (step, column) in (from..to).zip(&mut columns) {
            result.push(if column.is_empty() {
                stale_nan()
            } else {
                quantile(phis[step], column)
            });
        }
        from = to;
    }
    result
}

impl Groups {
    /// No groups yet.
    pub fn new(fold: Fold, grouping: Grouping, steps: usize) -> Self {
        Self {
            fold,
            grouping,
            steps,
            places: HashMap::new(),
            all: Vec::new(),
            notes: Notes::default(),
        }
    }

    /// Folds a series into its group.
    pub fn add(&mut self, mut series: Series) {
        let key = self.grouping.key(&series.labels);
        let place = self.place(key);
        let group = &mut self.all[place];
        group.drops_name |= series.drops_name;
        if !series.histograms.is_empty() {
            self.add_histograms(place, &mut series);
        }
        self.all[place].floats.add(self.fold, &mut series.floats);
    }

    fn place(&mut self, key: Labels) -> usize {
        if let Some(place) = self.places.get(&key) {
            return *place;
        }
        let place = self.all.len();
        self.all.push(Group {
            labels: key.clone(),
            drops_name: false,
            floats: Floats::new(self.fold, self.steps),
            histograms: HashMap::new(),
        });
        self.places.insert(key, place);
        place
    }

    fn add_histograms(&mut self, place: usize, series: &mut Series) {
        let group = &mut self.all[place];
        let name = series.labels.metric_name().unwrap_or("");
        for (step, histogram) in series.histograms.iter().enumerate() {
            let Some(histogram) = histogram else {
                // A group that has seen both kinds of buckets is lost for what follows.
                if group.histograms.get(&step).is_some_and(|h| h.is_lost) {
                    series.floats[step] = stale_nan();
                }
                continue;
            };
            match self.fold {
                Fold::Sum | Fold::Avg => {
                    let is_mean = self.fold == Fold::Avg;
                    if let Some(sum) = group.histograms.get_mut(&step) {
                        sum.add(histogram, name, &mut self.notes);
                    } else {
                        let first = HistogramGroup::new(histogram, is_mean);
                        group.histograms.insert(step, first);
                    }
                }
                Fold::Count | Fold::Group => series.floats[step] = 1.0,
                _ => self.notes.add(Note::HistogramIgnored),
            }
        }
    }

    /// Whether groups over parts of the series can be put together to the same result.
    pub fn can_merge(fold: Fold) -> bool {
        !matches!(fold, Fold::Stddev | Fold::Stdvar)
    }

    /// Puts in what was folded elsewhere, of numbers only.
    pub fn merge(&mut self, other: Self) {
        let fold = self.fold;
        self.notes.merge(other.notes);
        for theirs in other.all {
            let place = self.place(theirs.labels);
            let mine = &mut self.all[place];
            mine.drops_name |= theirs.drops_name;
            match (&mut mine.floats, theirs.floats) {
                (Floats::Sum(sums, lost), Floats::Sum(their_sums, their_lost)) => {
                    let theirs = their_sums.into_iter().zip(their_lost);
                    for ((sum, lost), (value, value_lost)) in sums.iter_mut().zip(lost).zip(theirs)
                    {
                        if is_absent(value) {
                            continue;
                        }
                        if is_absent(*sum) {
                            (*sum, *lost) = (value, value_lost);
                        } else {
                            (*sum, *lost) = compensate(value, *sum, *lost + value_lost);
                        }
                    }
                }
                (Floats::Mean(means), Floats::Mean(theirs)) => {
                    means.iter_mut().zip(theirs).for_each(|(m, t)| m.merge(t));
                }
                (Floats::Count(counts), Floats::Count(theirs)) => {
                    counts.iter_mut().zip(theirs).for_each(|(m, t)| *m += t);
                }
                (Floats::All(all), Floats::All(theirs)) => all.extend(theirs),
                (mine, Floats::Value(mut theirs)) => mine.add(fold, &mut theirs),
                _ => {}
            }
        }
    }

    /// How many bytes the groups take, roughly.
    pub fn size_bytes(&self) -> usize {
        let per_step = match self.fold {
            Fold::Sum => 16,
            Fold::Avg => 32,
            Fold::Stddev | Fold::Stdvar => 24,
            _ => 8,
        };
        self.all.len() * self.steps * per_step
    }

    /// The results, groups in order of their first member, and what was noticed. `phis` are the
    /// quantiles wanted, one per step, for [`Fold::Quantile`].
    pub fn finish(self, phis: &[f64]) -> (Vec<Series>, Notes) {
        let Self { fold, steps, .. } = self;
        let mut notes = self.notes;
        let mut result = Vec::with_capacity(self.all.len());
        for group in self.all {
            let mut mixed = Vec::new();
            for step in group.histograms.keys() {
                if group.floats.has(*step) {
                    notes.add(Note::MixedFloatsHistograms);
                    mixed.push(*step);
                }
            }
            let mut series = Series::of(group.labels, group.floats.finish(fold, steps, phis));
            series.drops_name = group.drops_name;
            for step in &mixed {
                series.floats[*step] = stale_nan();
            }
            for (step, histogram) in group.histograms {
                if mixed.contains(&step) {
                    continue;
                }
                if let Some(histogram) = histogram.finish(&mut notes) {
                    series.set_histogram(step, histogram.into());
                }
            }
            if !series.is_empty() {
                result.push(series);
            }
        }
        (result, notes)
    }
}

/// NaN first, then ascending.
fn by_value(a: f64, b: f64) -> std::cmp::Ordering {
    b.is_nan()
        .cmp(&a.is_nan())
        .then(a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal))
}

/// The φ-quantile of `values` with linear interpolation between ranks; NaN of no values,
/// minus or plus infinity for φ below 0 or above 1. The order of the values is changed.
pub fn quantile(phi: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    let last = values.len() - 1;
    let rank = phi * last as f64;
    let low = (rank.floor() as usize).min(last);
    let weight = rank - rank.floor();
    let (_, low_value, above) = values.select_nth_unstable_by(low, |a, b| by_value(*a, *b));
    let low_value = *low_value;
    if weight == 0.0 {
        // What is above may be infinite, and has no part in it.
        return low_value;
    }
    let high_value = above
        .iter()
        .copied()
        .min_by(|a, b| by_value(*a, *b))
        .unwrap_or(low_value);
    low_value * (1.0 - weight) + high_value * weight
}

#[cfg(test)]
mod tests;
