//! The writer's path: name the series, judge each sample, log, apply.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use kittiwake_journal::{JournalError, Sequence};
use kittiwake_model::delivery::{Origin, Verdict};
use kittiwake_model::{Columns, Labels};
use parking_lot::RwLockReadGuard;

use crate::batch::{Batch, KnownSeries, Named};
use crate::head::{Accepted, Sample};
use crate::histogram;
use crate::registry::{Registry, SeriesRef};
use crate::store::{NONE_YET, Newest, State, Store, Writer};

/// Frozen generations that may wait for the disk before writes are refused.
const FROZEN_MAX: usize = 3;

/// Why a request was not stored at all.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk is full, or does not keep up. The same request can succeed later.
    #[error("storage takes no samples for now: {0}")]
    Full(String),
    /// The log failed; the store must be opened anew.
    #[error("storage takes no samples since its log failed: {0}")]
    Failed(String),
    /// The sender is too far ahead of what it has not delivered yet.
    #[error("frame {sequence} is too far ahead of the frames that are still missing")]
    TooFarAhead {
        /// The frame's sequence.
        sequence: u64,
    },
}

/// Why a sample was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Older than its series' newest by more than the window.
    OutOfOrder,
    /// The series has another value at this time.
    DuplicateTime,
    /// Older than the store keeps.
    TooOld,
    /// The store has as many series as it may.
    SeriesLimit,
    /// A histogram has more buckets than are stored.
    TooManyBuckets,
}

impl Refusal {
    /// All reasons, in the order of [`crate::Stats::refused`].
    pub const ALL: [Self; 5] = [
        Self::OutOfOrder,
        Self::DuplicateTime,
        Self::TooOld,
        Self::SeriesLimit,
        Self::TooManyBuckets,
    ];

    /// The reason as a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OutOfOrder => "out_of_order",
            Self::DuplicateTime => "duplicate_timestamp",
            Self::TooOld => "too_old",
            Self::SeriesLimit => "series_limit",
            Self::TooManyBuckets => "too_many_buckets",
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// Samples stored.
    pub accepted: u64,
    /// Samples that were there already with the same value.
    pub repeated: u64,
    /// Samples refused.
    pub refused: u64,
    /// The first of them: series, time in ms, why.
    pub first_refused: Option<(Labels, i64, Refusal)>,
    /// The whole frame was stored before.
    pub is_repeat: bool,
    /// The request survives a loss of power once [`Store::sync`] of this returns.
    pub sequence: Sequence,
}

/// Knows series by the bytes that named them before. While it lives no series becomes known
/// or leaves, so it must be gone before [`Store::write`] is called.
#[derive(Debug)]
pub struct Names<'a> {
    state: RwLockReadGuard<'a, State>,
    next: SeriesRef,
}

impl Names<'_> {
    /// The series whose labels came as these raw bytes before, by [`Store::raw_hash`].
    #[inline]
    pub fn known(&mut self, raw_hash: u128) -> Option<KnownSeries> {
        let (series, hash) = self.state.registry.find_raw(raw_hash, self.next)?;
        self.next = series + 1;
        Some(KnownSeries::new(series, hash))
    }

    /// The series after the last one, and how many of the first bytes name it, if they do: the
    /// next request names the same series in the same order.
    #[inline]
    pub fn expected(&self, bytes: &[u8]) -> Option<(usize, KnownSeries)> {
        let (len, hash) = self.state.registry.expect_raw(bytes, self.next)?;
        Some((len, KnownSeries::new(self.next, hash)))
    }

    /// Goes on after an expected series.
    #[inline]
    pub fn go_on(&mut self, expected: KnownSeries) {
        self.next = expected.series + 1;
    }

    /// The labels of a series that is known.
    pub fn labels(&self, series: KnownSeries) -> Option<Labels> {
        self.state.registry.labels(series.series)
    }
}

impl Store {
    /// The series by the bytes that named them.
    pub fn names(&self) -> Names<'_> {
        Names {
            state: self.state.read(),
            next: 0,
        }
    }

    /// Stores a batch, as a whole or not at all, apart from samples that are refused each by
    /// itself. When this returns the batch is visible, and survives the end of the process.
    pub fn write(&self, batch: &Batch, origin: Option<&Origin>) -> Result<Written, WriteError> {
        let mut writer = self.writer.lock();
        if let Some(origin) = origin {
            match writer.deliveries.judge(&origin.sender, origin.frame) {
                Verdict::New => {}
                Verdict::Repeat => {
                    self.counters
                        .repeated_frames
                        .fetch_add(1, Ordering::Relaxed);
                    return Ok(Written {
                        is_repeat: true,
                        sequence: self.journal.next_seq().saturating_sub(1),
                        ..Written::default()
                    });
                }
                Verdict::TooFarAhead => {
                    return Err(WriteError::TooFarAhead {
                        sequence: origin.frame.sequence,
                    });
                }
            }
        }
        if self.state.read().frozen.len() >= FROZEN_MAX {
            return Err(WriteError::Full(
                "blocks cannot be written, see the log for why".to_owned(),
            ));
        }
        let writer = &mut *writer;
        let mut series = std::mem::take(&mut writer.series);
        let mut undo = std::mem::take(&mut writer.undo);
        let written = self.write_named(writer, batch, origin, &mut series, &mut undo);
        (writer.series, writer.undo) = (series, undo);
        written
    }

    /// As [`Store::write`], with the writer's memory for what a request needs.
    fn write_named(
        &self,
        writer: &mut Writer,
        batch: &Batch,
        origin: Option<&Origin>,
        series: &mut Vec<Option<SeriesRef>>,
        undo: &mut Vec<(SeriesRef, Newest)>,
    ) -> Result<Written, WriteError> {
        series.clear();
        undo.clear();
        let new = self.name_series(batch, series)?;
        self.learn_newest(writer, batch, series, &new);
        let mut written = Written::default();
        self.judge(writer, batch, series, origin.is_some(), &mut written, undo);
        match self.log(writer, batch, series, origin) {
            Ok(sequence) => written.sequence = sequence,
            Err(error) => {
                for (series, newest) in undo.drain(..).rev() {
                    writer.newest[series as usize] = newest;
                }
                let mut state = self.state.write();
                for series in &new {
                    state.registry.remove(*series);
                }
                drop(state);
                // Numbers that went with them may be given again, to others.
                writer.logged.clear();
                return Err(if error.is_full() {
                    WriteError::Full(error.to_string())
                } else {
                    WriteError::Failed(error.to_string())
                });
            }
        }
        let state = self.state.read();
        state.active.append(&writer.accepted, &batch.columns);
        drop(state);
        writer.written_at_ns = self.clock.monotonic_ns();
        self.keep_beside(batch, series);
        if let Some(origin) = origin {
            writer
                .deliveries
                .stored(&origin.sender, origin.frame, origin.first);
        }
        self.remember_raw(batch, series);
        let counters = &self.counters;
        counters
            .accepted
            .fetch_add(written.accepted, Ordering::Relaxed);
        counters
            .repeated
            .fetch_add(written.repeated, Ordering::Relaxed);
        Ok(written)
    }

    /// Returns once a request is on disk. Callers at the same time share one fsync.
    pub fn sync(&self, sequence: Sequence) -> Result<(), WriteError> {
        self.journal
            .sync(sequence)
            .map_err(|e| WriteError::Failed(e.to_string()))
    }

    /// Returns once all requests so far are on disk.
    pub fn sync_all(&self) -> Result<(), WriteError> {
        self.journal
            .sync_all()
            .map_err(|e| WriteError::Failed(e.to_string()))
    }

    /// Finds the numbers of a batch's series, `None` where the limit leaves no room, and gives
    /// those that are new.
    fn name_series(
        &self,
        batch: &Batch,
        series: &mut Vec<Option<SeriesRef>>,
    ) -> Result<Vec<SeriesRef>, WriteError> {
        {
            let state = self.state.read();
            let registry = &state.registry;
            for run in &batch.runs {
                series.push(match &run.named {
                    Named::Known(known) => Some(still_known(registry, *known)?),
                    Named::Labels(new) => registry.find(&new.labels),
                });
            }
        }
        let mut new = Vec::new();
        if series.iter().any(Option::is_none) {
            let mut state = self.state.write();
            for (run, slot) in batch.runs.iter().zip(series) {
                let Named::Labels(named) = &run.named else {
                    continue;
                };
                let labels = &named.labels;
                if slot.is_some() {
                    continue;
                }
                if state.registry.len() >= self.options.series_max {
                    *slot = state.registry.find(labels);
                    continue;
                }
                let (number, is_new) = state.registry.insert(labels);
                *slot = Some(number);
                if is_new {
                    new.push(number);
                }
            }
        }
        Ok(new)
    }

    /// Looks up the newest samples of series that are new to memory in blocks, where these can
    /// have newer ones than the batch.
    fn learn_newest(
        &self,
        writer: &mut Writer,
        batch: &Batch,
        series: &[Option<SeriesRef>],
        new: &[SeriesRef],
    ) {
        if new.is_empty() {
            return;
        }
        let state = self.state.read();
        let newest_ms = state.blocks.iter().map(|b| b.meta.end).max();
        let Some(newest_ms) = newest_ms else { return };
        for (run, number) in batch.runs.iter().zip(series) {
            let (Named::Labels(named), Some(number)) = (&run.named, number) else {
                continue;
            };
            let first_ms = batch.columns.times[run.samples()].iter().min();
            let is_new = || new.binary_search(number).is_ok() || new.contains(number);
            if first_ms.is_none_or(|first| *first > newest_ms) || !is_new() {
                continue;
            }
            let mut found = NONE_YET;
            for placed in &state.blocks {
                if placed.meta.end <= found.time_ms {
                    continue;
                }
                // What cannot be read is reported by those who read it.
                let last = placed.block.last_sample(&named.labels).ok().flatten();
                if let Some((time_ms, bits)) = last.filter(|l| l.0 > found.time_ms) {
                    found = Newest { time_ms, bits };
                }
            }
            if writer.newest_of(*number).time_ms < found.time_ms {
                writer.set_newest(*number, found);
            }
        }
    }

    /// Decides about each sample; `writer.accepted` then has those to be stored.
    fn judge(
        &self,
        writer: &mut Writer,
        batch: &Batch,
        series: &[Option<SeriesRef>],
        is_numbered: bool,
        written: &mut Written,
        undo: &mut Vec<(SeriesRef, Newest)>,
    ) {
        writer.accepted.clear();
        let oldest_ms = match self.options.retention_ms {
            0 => i64::MIN,
            retention => self.clock.now_ms().saturating_sub(retention),
        };
        // Samples of this batch by time, made only once one of them is not the newest.
        let mut in_batch: Option<HashMap<(SeriesRef, i64), u64>> = None;
        let columns = &batch.columns;
        let state = self.state.read();
        for (run, number) in batch.runs.iter().zip(series) {
            for at in run.samples() {
                let sample = Sample::of(columns, at);
                let refusal = match *number {
                    None => Some(Refusal::SeriesLimit),
                    Some(_) if sample.time_ms < oldest_ms => Some(Refusal::TooOld),
                    Some(_)
                        if sample.histogram.is_some_and(|h| {
                            histogram::page_numbers(h) > histogram::BUCKETS_MAX
                        }) =>
                    {
                        Some(Refusal::TooManyBuckets)
                    }
                    Some(number) => {
                        if writer.newest.len() <= number as usize {
                            writer.newest.resize(number as usize + 1, NONE_YET);
                        }
                        let newest = &mut writer.newest[number as usize];
                        let time_ms = sample.time_ms;
                        let bits = sample.bits();
                        let accepted = Accepted {
                            series: number,
                            at: at as u32,
                        };
                        if time_ms > newest.time_ms {
                            undo.push((number, *newest));
                            *newest = Newest { time_ms, bits };
                            if let Some(in_batch) = &mut in_batch {
                                in_batch.insert((number, time_ms), bits);
                            }
                            writer.accepted.push(accepted);
                            written.accepted += 1;
                            None
                        } else {
                            let in_batch =
                                in_batch.get_or_insert_with(|| by_time(&writer.accepted, columns));
                            let there = if time_ms == newest.time_ms {
                                Some(newest.bits)
                            } else {
                                in_batch
                                    .get(&(number, time_ms))
                                    .copied()
                                    .or_else(|| head_bits(&state, number, time_ms))
                            };
                            match there {
                                Some(there) if there == bits => {
                                    written.repeated += 1;
                                    None
                                }
                                Some(_) => Some(Refusal::DuplicateTime),
                                None if is_numbered
                                    || newest.time_ms.saturating_sub(time_ms)
                                        <= self.options.out_of_order_ms =>
                                {
                                    in_batch.insert((number, time_ms), bits);
                                    writer.accepted.push(accepted);
                                    written.accepted += 1;
                                    None
                                }
                                None => Some(Refusal::OutOfOrder),
                            }
                        }
                    }
                };
                if let Some(refusal) = refusal {
                    written.refused += 1;
                    self.counters.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
                    if written.first_refused.is_none() {
                        let labels = match &run.named {
                            Named::Labels(named) => Some(named.labels.clone()),
                            Named::Known(known) => state.registry.labels(known.series),
                        };
                        written.first_refused = labels.map(|l| (l, sample.time_ms, refusal));
                    }
                }
            }
        }
    }

    /// Appends what was accepted to the log. The delivery goes with the last frame: without
    /// it the sender sends all again, and what is there already is known by its value.
    fn log(
        &self,
        writer: &mut Writer,
        batch: &Batch,
        series: &[Option<SeriesRef>],
        origin: Option<&Origin>,
    ) -> Result<Sequence, JournalError> {
        let state = self.state.read();
        let Writer {
            frame,
            logged,
            accepted,
            ..
        } = writer;
        frame.clear();
        for one in accepted.iter() {
            logged.introduce(frame, &state.registry, one.series);
            frame.sample(one.series, &Sample::of(&batch.columns, one.at as usize));
            if frame.is_full() {
                self.journal.append(&frame.parts())?;
                frame.clear();
            }
        }
        let exemplars = self.exemplars.lock();
        for (run, exemplar) in &batch.exemplars {
            let Some(number) = series.get(*run).copied().flatten() else {
                continue;
            };
            if !exemplars.is_repeat(number, exemplar) {
                logged.introduce(frame, &state.registry, number);
                frame.exemplar(number, exemplar);
            }
            if frame.is_full() {
                self.journal.append(&frame.parts())?;
                frame.clear();
            }
        }
        drop(exemplars);
        let known = self.metadata.lock();
        for (name, metadata) in &batch.metadata {
            if !known.is_known(name, metadata) {
                frame.metadata(name, metadata);
            }
            if frame.is_full() {
                self.journal.append(&frame.parts())?;
                frame.clear();
            }
        }
        drop(known);
        if let Some(origin) = origin {
            frame.origin(origin);
        }
        if frame.is_empty() {
            return Ok(self.journal.next_seq().saturating_sub(1));
        }
        self.journal.append(&frame.parts())
    }

    fn keep_beside(&self, batch: &Batch, series: &[Option<SeriesRef>]) {
        if !batch.exemplars.is_empty() {
            let mut exemplars = self.exemplars.lock();
            for (run, exemplar) in &batch.exemplars {
                if let Some(number) = series.get(*run).copied().flatten()
                    && !exemplars.is_repeat(number, exemplar)
                {
                    exemplars.push(number, exemplar.clone(), self.options.exemplars_max);
                }
            }
        }
        if !batch.metadata.is_empty() {
            let mut known = self.metadata.lock();
            for (name, metadata) in &batch.metadata {
                known.put(name.clone(), metadata.clone());
            }
        }
    }

    fn remember_raw(&self, batch: &Batch, series: &[Option<SeriesRef>]) {
        let unknown = |named: &Named| matches!(named, Named::Labels(n) if n.raw_hash.is_some());
        if !batch.runs.iter().any(|r| unknown(&r.named)) {
            return;
        }
        let mut state = self.state.write();
        for (run, number) in batch.runs.iter().zip(series) {
            if let (Named::Labels(named), Some(number)) = (&run.named, number)
                && let Some(raw) = named.raw_hash
            {
                state.registry.remember_raw(*number, raw);
            }
        }
    }
}

/// A series that left memory between being looked up and being written is rare enough to be
/// sent again.
#[inline]
fn still_known(registry: &Registry, known: KnownSeries) -> Result<SeriesRef, WriteError> {
    let hash = registry.hash(known.series);
    match hash.filter(|h| known.is(*h)) {
        Some(_) => Ok(known.series),
        None => Err(WriteError::Full(
            "a series left memory while the request was read".to_owned(),
        )),
    }
}

fn by_time(accepted: &[Accepted], columns: &Columns) -> HashMap<(SeriesRef, i64), u64> {
    let all = accepted.iter();
    all.map(|a| (a.series, Sample::of(columns, a.at as usize)))
        .map(|(series, sample)| ((series, sample.time_ms), sample.bits()))
        .collect()
}

fn head_bits(state: &State, series: SeriesRef, time_ms: i64) -> Option<u64> {
    let frozen = state.frozen.iter().map(|f| &f.generation);
    frozen
        .chain([&state.active])
        .find_map(|generation| generation.bits_at(series, time_ms))
}
