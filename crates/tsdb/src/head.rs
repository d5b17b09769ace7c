//! Samples that are not in a block yet.
//!
//! A generation holds, per series, samples that only grow: a few raw ones, the older ones in
//! sealed chunks. A query pins a generation and the lengths of its series, and reads them
//! later without holding up writers. A flush swaps the generation for a new one; the old one
//! stays readable until its block is in place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kittiwake_model::{Columns, Histogram, TimeRange};
use parking_lot::RwLock;

use crate::chunk::{self, Arena, Place};
use crate::histogram;
use crate::registry::SeriesRef;

/// An accepted sample: its series, and where it stands in the columns of its request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) series: SeriesRef,
    pub(crate) at: u32,
}

/// A sample out of columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample<'a> {
    pub(crate) time_ms: i64,
    pub(crate) value: f64,
    /// 0 is not known.
    pub(crate) start_ms: i64,
    pub(crate) histogram: Option<&'a Arc<Histogram>>,
}

impl<'a> Sample<'a> {
    #[inline]
    pub(crate) fn of(columns: &'a Columns, at: usize) -> Self {
        let mut sample = Self {
            time_ms: columns.times[at],
            value: columns.values[at],
            start_ms: 0,
            histogram: None,
        };
        if !columns.starts.is_empty() {
            sample.start_ms = columns.starts[at];
        }
        if !columns.histograms.is_empty() {
            let found = columns
                .histograms
                .binary_search_by_key(&(at as u32), |h| h.0);
            sample.histogram = found.ok().map(|i| &columns.histograms[i].1);
        }
        sample
    }

    /// What two samples of one time share when they are the same.
    #[inline]
    pub(crate) fn bits(&self) -> u64 {
        match self.histogram {
            None => self.value.to_bits(),
            Some(histogram) => histogram::fingerprint(histogram),
        }
    }

    pub(crate) fn push_to(&self, into: &mut Columns) {
        match self.histogram {
            None => into.push(self.time_ms, self.value),
            Some(histogram) => into.push_histogram(self.time_ms, Arc::clone(histogram)),
        }
        if self.start_ms != 0 {
            into.set_start(self.start_ms);
        }
    }
}

/// The samples of one series in one generation.
#[derive(Debug)]
struct Column {
    /// The open chunk. Regular times are not kept one by one.
    values: Vec<f64>,
    first_ms: i64,
    step_ms: i64,
    last_ms: i64,
    /// The newest sealed chunk, and the samples in all of them.
    sealed: Place,
    sealed_samples: u32,
    rare: Option<Box<Rare>>,
}

/// What few series have.
#[derive(Debug, Default)]
struct Rare {
    /// The open chunk's times, when they are not regular.
    times: Vec<i64>,
    /// The open chunk's start times, when some are known.
    starts: Vec<i64>,
    /// The open chunk's histograms, by place.
    histograms: Vec<(u32, Arc<Histogram>)>,
    late: Late,
}

/// Samples older than one that came before them, in order of arrival.
#[derive(Debug, Default)]
struct Late {
    samples: Columns,
    bits: HashMap<i64, u64>,
}

#[derive(Debug, Default)]
struct Series {
    columns: Vec<Column>,
    arena: Arena,
    samples: u64,
    range: Option<TimeRange>,
    scratch: Scratch,
}

#[derive(Debug, Default)]
struct Scratch {
    columns: Columns,
    integers: Vec<i64>,
    bytes: Vec<u8>,
}

/// A generation of the head.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    series: RwLock<Series>,
}

/// How much of a series a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pinned {
    in_order: u32,
    late: u32,
}

impl Pinned {
    /// How many samples.
    pub(crate) fn samples(self) -> usize {
        (self.in_order + self.late) as usize
    }
}

impl Generation {
    /// Appends samples of a request; a reader sees all of them or none.
    pub(crate) fn append(&self, accepted: &[Accepted], columns: &Columns) {
        let series = &mut *self.series.write();
        let mut range = series.range.unwrap_or(TimeRange::new(i64::MAX, i64::MIN));
        for one in accepted {
            let index = one.series as usize;
            if series.columns.len() <= index {
                series.columns.resize_with(index + 1, Column::new);
            }
            let sample = Sample::of(columns, one.at as usize);
            range.start = range.start.min(sample.time_ms);
            range.end = range.end.max(sample.time_ms);
            series.columns[index].push(&sample, &mut series.arena, &mut series.scratch);
        }
        if !accepted.is_empty() {
            series.range = Some(range);
        }
        series.samples += accepted.len() as u64;
    }

    /// How many samples there are.
    pub(crate) fn samples(&self) -> u64 {
        self.series.read().samples
    }

    /// Memory that grows with samples, about.
    pub(crate) fn bytes(&self) -> usize {
        let series = self.series.read();
        let open = series
            .samples
            .min(series.columns.len() as u64 * chunk::SAMPLES as u64 / 2);
        series.arena.bytes() + series.columns.len() * size_of::<Column>() + open as usize * 8
    }

    /// Times of the oldest and the newest sample.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        self.series.read().range
    }

    /// The bits of a series' sample at a time.
    pub(crate) fn bits_at(&self, number: SeriesRef, time_ms: i64) -> Option<u64> {
        let series = self.series.read();
        let column = series.columns.get(number as usize)?;
        if let Some(rare) = &column.rare
            && let Some(bits) = rare.late.bits.get(&time_ms)
        {
            return Some(*bits);
        }
        let mut found = Columns::default();
        let at = TimeRange::new(time_ms, time_ms);
        column.read(&series.arena, column.len(), at, &mut found);
        (!found.is_empty()).then(|| Sample::of(&found, 0).bits())
    }

    /// Pins those of the given series that may have samples within the range.
    pub(crate) fn pin(
        &self,
        numbers: &[SeriesRef],
        range: TimeRange,
        mut found: impl FnMut(SeriesRef, Pinned),
    ) {
        let series = self.series.read();
        if !series.range.is_some_and(|r| range.overlaps(r.start, r.end)) {
            return;
        }
        for number in numbers {
            if let Some(column) = series.columns.get(*number as usize)
                && column.overlaps(&series.arena, range)
            {
                found(*number, column.pinned());
            }
        }
    }

    /// Reads a series as it was pinned, in order of time, the first of equal times only.
    pub(crate) fn read(
        &self,
        number: SeriesRef,
        pinned: Pinned,
        range: TimeRange,
        into: &mut Columns,
    ) {
        let series = self.series.read();
        let Some(column) = series.columns.get(number as usize) else {
            return;
        };
        let in_order = pinned.in_order as usize;
        if pinned.late == 0 {
            column.read(&series.arena, in_order, range, into);
            return;
        }
        let mut ordered = Columns::default();
        column.read(&series.arena, in_order, range, &mut ordered);
        let mut sorted: BTreeMap<i64, Sample<'_>> = BTreeMap::new();
        for at in 0..ordered.len() {
            let sample = Sample::of(&ordered, at);
            sorted.insert(sample.time_ms, sample);
        }
        if let Some(rare) = &column.rare {
            for at in 0..(pinned.late as usize).min(rare.late.samples.len()) {
                let sample = Sample::of(&rare.late.samples, at);
                if range.contains(sample.time_ms) {
                    sorted.entry(sample.time_ms).or_insert(sample);
                }
            }
        }
        for sample in sorted.values() {
            sample.push_to(into);
        }
    }

    /// Whether a series has any sample here.
    pub(crate) fn has(&self, number: SeriesRef) -> bool {
        let series = self.series.read();
        let column = series.columns.get(number as usize);
        column.is_some_and(|c| c.pinned() != Pinned::default())
    }

    /// The series that have samples here, all of each.
    pub(crate) fn all(&self) -> Vec<(SeriesRef, Pinned)> {
        let series = self.series.read();
        let all = series.columns.iter().enumerate();
        all.map(|(index, c)| (index as SeriesRef, c.pinned()))
            .filter(|(_, pinned)| *pinned != Pinned::default())
            .collect()
    }
}

impl Column {
    fn new() -> Self {
        Self {
            values: Vec::new(),
            first_ms: 0,
            step_ms: 0,
            last_ms: i64::MIN,
            sealed: 0,
            sealed_samples: 0,
            rare: None,
        }
    }

    /// Samples in order of time.
    fn len(&self) -> usize {
        self.sealed_samples as usize + self.values.len()
    }

    fn pinned(&self) -> Pinned {
        let late = self.rare.as_ref().map_or(0, |r| r.late.samples.len());
        Pinned {
            in_order: self.len() as u32,
            late: late as u32,
        }
    }

    #[inline]
    fn push(&mut self, sample: &Sample<'_>, arena: &mut Arena, scratch: &mut Scratch) {
        if sample.time_ms <= self.last_ms && self.len() > 0 {
            let late = &mut self.rare.get_or_insert_default().late;
            late.bits.entry(sample.time_ms).or_insert(sample.bits());
            sample.push_to(&mut late.samples);
            return;
        }
        match self.values.len() {
            0 => self.first_ms = sample.time_ms,
            1 => self.step_ms = sample.time_ms.wrapping_sub(self.first_ms),
            _ => {}
        }
        let is_irregular =
            self.values.len() > 1 && sample.time_ms.wrapping_sub(self.last_ms) != self.step_ms;
        let is_plain = sample.start_ms == 0 && sample.histogram.is_none();
        if is_irregular || !is_plain || self.rare.is_some() {
            self.push_rare(sample);
        }
        let len = self.values.len();
        if len == self.values.capacity() {
            // Small steps: most of a million series never have many samples here.
            let more = if len < 16 { 8 } else { len };
            self.values.reserve_exact(more);
        }
        self.values.push(sample.value);
        self.last_ms = sample.time_ms;
        if self.values.len() == chunk::SAMPLES {
            self.seal(arena, scratch);
        }
    }

    #[inline(never)]
    fn push_rare(&mut self, sample: &Sample<'_>) {
        let len = self.values.len();
        let regular = self.times_upto(len);
        let step_ms = self.step_ms;
        let rare = self.rare.get_or_insert_default();
        let is_regular = len < 2 || sample.time_ms.wrapping_sub(self.last_ms) == step_ms;
        if !rare.times.is_empty() {
            rare.times.push(sample.time_ms);
        } else if !is_regular {
            rare.times.extend(regular);
            rare.times.push(sample.time_ms);
        }
        if sample.start_ms != 0 && rare.starts.is_empty() {
            rare.starts.resize(len, 0);
            rare.starts.push(sample.start_ms);
        } else if !rare.starts.is_empty() {
            rare.starts.push(sample.start_ms);
        }
        if let Some(histogram) = sample.histogram {
            rare.histograms.push((len as u32, Arc::clone(histogram)));
        }
    }

    /// The regular times of the open chunk's first samples.
    fn times_upto(&self, len: usize) -> impl Iterator<Item = i64> + use<> {
        let (first_ms, step_ms) = (self.first_ms, self.step_ms);
        (0..len as i64).map(move |i| first_ms.wrapping_add(step_ms.wrapping_mul(i)))
    }

    /// Appends the open chunk's first `len` samples.
    fn read_open(&self, len: usize, into: &mut Columns) {
        let (base, rare) = (into.len(), self.rare.as_deref());
        match rare.filter(|r| !r.times.is_empty()) {
            Some(rare) => into.times.extend_from_slice(&rare.times[..len]),
            None => into.times.extend(self.times_upto(len)),
        }
        into.values.extend_from_slice(&self.values[..len]);
        let starts = rare.map_or(&[][..], |r| &r.starts);
        append_starts(into, base, &starts[..len.min(starts.len())]);
        let histograms = rare.map_or(&[][..], |r| &r.histograms);
        let pinned = histograms.iter().filter(|(at, _)| (*at as usize) < len);
        into.histograms
            .extend(pinned.map(|(at, h)| (base as u32 + at, Arc::clone(h))));
    }

    #[inline(never)]
    fn seal(&mut self, arena: &mut Arena, scratch: &mut Scratch) {
        scratch.columns.clear();
        self.read_open(self.values.len(), &mut scratch.columns);
        chunk::encode(&scratch.columns, &mut scratch.integers, &mut scratch.bytes);
        self.sealed = arena.push(self.sealed, &scratch.bytes);
        self.sealed_samples += self.values.len() as u32;
        self.values.clear();
        if let Some(rare) = &mut self.rare {
            rare.times.clear();
            rare.starts.clear();
            rare.histograms.clear();
            if rare.late.samples.is_empty() {
                self.rare = None;
            }
        }
    }

    /// Appends those of the first `len` samples in order of time that lie in the range.
    fn read(&self, arena: &Arena, len: usize, range: TimeRange, into: &mut Columns) {
        let mut chunks = Vec::new();
        let mut place = self.sealed;
        while let Some((before, bytes)) = arena.get(place).filter(|_| place != 0) {
            chunks.push(bytes);
            if chunk::first_ms(bytes).is_some_and(|first| first < range.start) {
                break;
            }
            place = before;
        }
        // A chunk is not sealed before it is full, and a query saw all of those before its own.
        let mut decoded = Columns::default();
        let sealed = self.sealed_samples as usize;
        let mut left = len.saturating_sub(sealed - chunks.len() * chunk::SAMPLES);
        for bytes in chunks.into_iter().rev() {
            if left == 0 || chunk::first_ms(bytes).is_some_and(|first| first > range.end) {
                return;
            }
            // What this process wrote into its own memory decodes.
            if chunk::decode(bytes, &mut decoded).is_ok() {
                let seen = decoded.len().min(left);
                append_range(into, &decoded, seen, range);
                left -= seen;
            }
        }
        if left > 0 && range.overlaps(self.first_ms, self.last_ms) {
            decoded.clear();
            self.read_open(left.min(self.values.len()), &mut decoded);
            append_range(into, &decoded, decoded.len(), range);
        }
    }

    /// Whether some sample may be in the range; a gap between samples counts as one.
    fn overlaps(&self, arena: &Arena, range: TimeRange) -> bool {
        if let Some(rare) = &self.rare
            && rare.late.samples.times.iter().any(|t| range.contains(*t))
        {
            return true;
        }
        if self.len() == 0 || self.last_ms < range.start {
            return false;
        }
        if self.sealed == 0 && self.first_ms > range.end {
            return false;
        }
        if range.contains(self.last_ms) {
            return true;
        }
        let mut found = Columns::default();
        self.read(arena, self.len(), range, &mut found);
        !found.is_empty()
    }
}

/// Appends those of the first `len` samples that lie in the range.
pub(crate) fn append_range(into: &mut Columns, from: &Columns, len: usize, range: TimeRange) {
    let times = &from.times[..len];
    let start = times.partition_point(|t| *t < range.start);
    let end = times.partition_point(|t| *t <= range.end).max(start);
    let base = into.len();
    into.times.extend_from_slice(&times[start..end]);
    into.values.extend_from_slice(&from.values[start..end]);
    let starts = from.starts.get(start..end).unwrap_or_default();
    append_starts(into, base, starts);
    for (at, histogram) in &from.histograms {
        let at = *at as usize;
        if (start..end).contains(&at) {
            let at = (base + at - start) as u32;
            into.histograms.push((at, Arc::clone(histogram)));
        }
    }
}

/// Completes the start times of columns that have grown from `base` on.
pub(crate) fn append_starts(into: &mut Columns, base: usize, starts: &[i64]) {
    if into.starts.is_empty() && starts.iter().all(|s| *s == 0) {
        return;
    }
    into.starts.resize(base, 0);
    into.starts.extend_from_slice(starts);
    into.starts.resize(into.times.len(), 0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pinned_series_reads_the_same_however_it_grows(
            steps in proptest::collection::vec((1_i64..4, 0_u8..12), 1..300),
            pin_at: prop::sample::Index,
            histogram in crate::histogram::tests::histograms(),
            start in 0_i64..900,
            len in 0_i64..900,
        ) {
            let generation = Generation::default();
            let (mut all, mut want) = (Columns::default(), BTreeMap::new());
            let pin_at = pin_at.index(steps.len());
            let mut pinned = (Pinned::default(), BTreeMap::new());
            let mut time = 0;
            for (at, (step, kind)) in steps.into_iter().enumerate() {
                // Mostly regular, some not, some late.
                time += if kind == 0 { step } else { 2 };
                let time_ms = if kind == 1 { time - 7 } else { time };
                all.clear();
                if kind == 2 {
                    all.push_histogram(time_ms, Arc::new(histogram.clone()));
                } else {
                    all.push(time_ms, f64::from(kind) / 4.0);
                }
                if kind > 9 {
                    all.set_start(i64::from(kind));
                }
                generation.append(&[Accepted { series: 3, at: 0 }], &all);
                let sample = Sample::of(&all, 0);
                want.entry(time_ms).or_insert((sample.bits(), sample.start_ms));
                if at == pin_at {
                    let found = generation.all();
                    prop_assert_eq!(found.len(), 1);
                    pinned = (found[0].1, want.clone());
                }
            }
            let range = TimeRange::new(start, start + len);
            let mut got = Columns::default();
            generation.read(3, pinned.0, range, &mut got);
            let got: Vec<_> = (0..got.len())
                .map(|at| Sample::of(&got, at))
                .map(|s| (s.time_ms, (s.bits(), s.start_ms)))
                .collect();
            let want: Vec<_> = pinned.1.into_iter().filter(|(t, _)| range.contains(*t)).collect();
            prop_assert_eq!(got, want);
        }
    }
}
