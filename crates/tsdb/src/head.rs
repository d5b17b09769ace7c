//! Samples that are not in a block yet.
//!
//! A generation holds, per series, columns that only grow. A query pins a generation and the
//! lengths of its columns, and reads them later without holding up writers. A flush swaps the
//! generation for a new one; the old one stays readable until its block is in place.

use std::collections::{BTreeMap, HashMap};

use kittiwake_model::TimeRange;
use parking_lot::RwLock;

use crate::registry::SeriesRef;

/// An accepted sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) series: SeriesRef,
    pub(crate) time_ms: i64,
    pub(crate) value: f64,
}

/// The samples of one series in one generation.
#[derive(Debug, Default)]
struct Column {
    /// Those that came in order of time.
    times: Vec<i64>,
    values: Vec<f64>,
    late: Option<Box<Late>>,
}

/// Samples older than one that came before them, in order of arrival.
#[derive(Debug, Default)]
struct Late {
    samples: Vec<(i64, f64)>,
    bits: HashMap<i64, u64>,
}

#[derive(Debug, Default)]
struct Columns {
    by_series: Vec<Column>,
    samples: u64,
    range: Option<TimeRange>,
}

/// A generation of the head.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    columns: RwLock<Columns>,
}

/// How much of a series a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pinned {
    in_order: usize,
    late: usize,
}

impl Generation {
    /// Appends samples; a reader sees all of them or none.
    pub(crate) fn append(&self, accepted: &[Accepted]) {
        let columns = &mut *self.columns.write();
        for sample in accepted {
            let index = sample.series as usize;
            if columns.by_series.len() <= index {
                columns.by_series.resize_with(index + 1, Column::default);
            }
            columns.by_series[index].push(sample.time_ms, sample.value);
            let range = columns
                .range
                .get_or_insert(TimeRange::new(sample.time_ms, sample.time_ms));
            range.start = range.start.min(sample.time_ms);
            range.end = range.end.max(sample.time_ms);
        }
        columns.samples += accepted.len() as u64;
    }

    /// How many samples there are.
    pub(crate) fn samples(&self) -> u64 {
        self.columns.read().samples
    }

    /// Times of the oldest and the newest sample.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        self.columns.read().range
    }

    /// The value's bits of a series' sample at a time.
    pub(crate) fn bits_at(&self, series: SeriesRef, time_ms: i64) -> Option<u64> {
        let columns = self.columns.read();
        let column = columns.by_series.get(series as usize)?;
        if let Ok(at) = column.times.binary_search(&time_ms) {
            return column.values.get(at).map(|v| v.to_bits());
        }
        column.late.as_ref()?.bits.get(&time_ms).copied()
    }

    /// Pins those of the given series that have samples within the range.
    pub(crate) fn pin(
        &self,
        series: impl Iterator<Item = SeriesRef>,
        range: TimeRange,
        mut found: impl FnMut(SeriesRef, Pinned),
    ) {
        let columns = self.columns.read();
        if !columns
            .range
            .is_some_and(|r| range.overlaps(r.start, r.end))
        {
            return;
        }
        for one in series {
            let Some(column) = columns.by_series.get(one as usize) else {
                // Numbers come in order, and there is nothing above the last.
                break;
            };
            if column.overlaps(range) {
                found(one, column.pinned());
            }
        }
    }

    /// Reads a series as it was pinned, in order of time, the first of equal times only.
    pub(crate) fn read(
        &self,
        series: SeriesRef,
        pinned: Pinned,
        range: TimeRange,
        into: &mut kittiwake_model::Columns,
    ) {
        let columns = self.columns.read();
        let Some(column) = columns.by_series.get(series as usize) else {
            return;
        };
        let in_order = pinned.in_order.min(column.times.len());
        let times = &column.times[..in_order];
        let start = times.partition_point(|t| *t < range.start);
        let end = times.partition_point(|t| *t <= range.end).max(start);
        let late = column.late.as_ref().map_or(&[][..], |late| {
            &late.samples[..pinned.late.min(late.samples.len())]
        });
        if late.is_empty() {
            into.times.extend_from_slice(&times[start..end]);
            into.values.extend_from_slice(&column.values[start..end]);
            return;
        }
        let mut sorted: BTreeMap<i64, f64> = BTreeMap::new();
        for (time, value) in times[start..end].iter().zip(&column.values[start..end]) {
            sorted.insert(*time, *value);
        }
        for (time, value) in late.iter().filter(|(t, _)| range.contains(*t)) {
            sorted.entry(*time).or_insert(*value);
        }
        for (time, value) in sorted {
            into.push(time, value);
        }
    }

    /// Whether a series has any sample here.
    pub(crate) fn has(&self, series: SeriesRef) -> bool {
        let columns = self.columns.read();
        columns
            .by_series
            .get(series as usize)
            .is_some_and(|c| !c.times.is_empty() || c.late.is_some())
    }

    /// The series that have samples here, all of each.
    pub(crate) fn all(&self) -> Vec<(SeriesRef, Pinned)> {
        let columns = self.columns.read();
        let series = columns.by_series.iter().enumerate();
        series
            .filter(|(_, c)| !c.times.is_empty() || c.late.is_some())
            .map(|(index, c)| (index as SeriesRef, c.pinned()))
            .collect()
    }
}

impl Column {
    fn push(&mut self, time_ms: i64, value: f64) {
        if self.times.last().is_none_or(|last| *last < time_ms) {
            // Doubling from a few keeps short columns small.
            self.times.push(time_ms);
            self.values.push(value);
            return;
        }
        let late = self.late.get_or_insert_default();
        late.samples.push((time_ms, value));
        late.bits.entry(time_ms).or_insert(value.to_bits());
    }

    fn pinned(&self) -> Pinned {
        Pinned {
            in_order: self.times.len(),
            late: self.late.as_ref().map_or(0, |l| l.samples.len()),
        }
    }

    fn overlaps(&self, range: TimeRange) -> bool {
        let at = self.times.partition_point(|t| *t < range.start);
        self.times.get(at).is_some_and(|t| *t <= range.end)
            || self
                .late
                .as_ref()
                .is_some_and(|l| l.samples.iter().any(|(t, _)| range.contains(*t)))
    }
}
