//! The writer's path: name the series, judge each sample, log, apply.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use kittiwake_journal::{JournalError, Sequence};
use kittiwake_model::delivery::{Origin, Verdict};
use kittiwake_model::{Labels, SeriesHash};

use crate::batch::{Batch, KnownSeries, Named};
use crate::head::Accepted;
use crate::registry::{Registry, SeriesRef};
use crate::store::{NONE_YET, Newest, State, Store, Writer};
use crate::wal;

/// Frozen generations that may wait for the disk before writes are refused.
const FROZEN_MAX: usize = 3;
/// Samples of one frame of the log.
const FRAME_SAMPLES: usize = 150_000;
/// Raw label bytes that are known by their hash, in each of two generations.
const RAW_KNOWN_MAX: usize = 1 << 20;

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
}

impl Refusal {
    /// All reasons, in the order of [`Stats::refused`].
    pub const ALL: [Self; 4] = [
        Self::OutOfOrder,
        Self::DuplicateTime,
        Self::TooOld,
        Self::SeriesLimit,
    ];

    /// The reason as a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OutOfOrder => "out_of_order",
            Self::DuplicateTime => "duplicate_timestamp",
            Self::TooOld => "too_old",
            Self::SeriesLimit => "series_limit",
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

impl Store {
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
        let (series, new) = self.name_series(batch);
        let writer = &mut *writer;
        let mut written = Written::default();
        let mut undo = Vec::new();
        self.judge(
            writer,
            batch,
            &series,
            origin.is_some(),
            &mut written,
            &mut undo,
        );
        match self.log(writer, &new, origin) {
            Ok(sequence) => written.sequence = sequence,
            Err(error) => {
                for (series, newest) in undo.into_iter().rev() {
                    writer.newest[series as usize] = newest;
                }
                let mut state = self.state.write();
                for (series, _) in &new {
                    state.registry.remove(*series);
                }
                return Err(if error.is_full() {
                    WriteError::Full(error.to_string())
                } else {
                    WriteError::Failed(error.to_string())
                });
            }
        }
        self.state.read().active.append(&writer.accepted);
        if let Some(origin) = origin {
            writer
                .deliveries
                .stored(&origin.sender, origin.frame, origin.first);
        }
        self.remember_raw(batch, &series);
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

    /// The numbers of a batch's series, `None` where the limit leaves no room, and those that
    /// are new.
    #[allow(clippy::type_complexity)]
    fn name_series(&self, batch: &Batch) -> (Vec<Option<SeriesRef>>, Vec<(SeriesRef, Labels)>) {
        let mut series = Vec::with_capacity(batch.runs.len());
        {
            let state = self.state.read();
            for run in &batch.runs {
                series.push(match &run.named {
                    Named::Known(k) if is_same(&state.registry, k.series, k.hash) => Some(k.series),
                    Named::Known(k) => state.registry.find(&k.labels),
                    Named::Labels(labels, _) => state.registry.find(labels),
                });
            }
        }
        let mut new = Vec::new();
        if series.iter().any(Option::is_none) {
            let mut state = self.state.write();
            for (run, slot) in batch.runs.iter().zip(&mut series) {
                if slot.is_some() || state.registry.len() >= self.options.series_max {
                    continue;
                }
                let (Named::Known(KnownSeries { labels, .. }) | Named::Labels(labels, _)) =
                    &run.named;
                let (number, is_new) = state.registry.insert(labels);
                *slot = Some(number);
                if is_new {
                    new.push((number, labels.clone()));
                }
            }
        }
        (series, new)
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
        let state = self.state.read();
        for (run, number) in batch.runs.iter().zip(series) {
            for at in run.samples.clone() {
                let (time_ms, value) = (batch.columns.times[at], batch.columns.values[at]);
                let refusal = match *number {
                    None => Some(Refusal::SeriesLimit),
                    Some(_) if time_ms < oldest_ms => Some(Refusal::TooOld),
                    Some(number) => {
                        if writer.newest.len() <= number as usize {
                            writer.newest.resize(number as usize + 1, NONE_YET);
                        }
                        let newest = &mut writer.newest[number as usize];
                        let bits = value.to_bits();
                        let sample = Accepted {
                            series: number,
                            time_ms,
                            value,
                        };
                        if time_ms > newest.time_ms {
                            undo.push((number, *newest));
                            *newest = Newest { time_ms, bits };
                            if let Some(in_batch) = &mut in_batch {
                                in_batch.insert((number, time_ms), bits);
                            }
                            writer.accepted.push(sample);
                            written.accepted += 1;
                            None
                        } else {
                            let accepted = &writer.accepted;
                            let in_batch = in_batch.get_or_insert_with(|| {
                                let all = accepted.iter();
                                all.map(|a| ((a.series, a.time_ms), a.value.to_bits()))
                                    .collect()
                            });
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
                                    writer.accepted.push(sample);
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
                        let (Named::Known(KnownSeries { labels, .. }) | Named::Labels(labels, _)) =
                            &run.named;
                        written.first_refused = Some((labels.clone(), time_ms, refusal));
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
        new: &[(SeriesRef, Labels)],
        origin: Option<&Origin>,
    ) -> Result<Sequence, JournalError> {
        let frame = &mut writer.frame;
        let mut rest_new = new;
        let label_bytes = |rest: &[(SeriesRef, Labels)]| {
            let mut bytes = 0;
            let fitting = rest.iter().take_while(|(_, labels)| {
                bytes += labels.as_packed().len() + 8;
                bytes <= wal::FRAME_BYTES
            });
            fitting.count().max(1).min(rest.len())
        };
        loop {
            let now = label_bytes(rest_new);
            if now == rest_new.len() {
                break;
            }
            frame.clear();
            wal::put_samples(frame, &rest_new[..now], None, &[]);
            self.journal.append(&[frame])?;
            rest_new = &rest_new[now..];
        }
        let mut rest = &writer.accepted[..];
        if rest.is_empty() && rest_new.is_empty() && origin.is_none() {
            return Ok(self.journal.next_seq().saturating_sub(1));
        }
        loop {
            let (now, later) = rest.split_at(rest.len().min(FRAME_SAMPLES));
            frame.clear();
            wal::put_samples(frame, rest_new, origin.filter(|_| later.is_empty()), now);
            let sequence = self.journal.append(&[frame])?;
            rest_new = &[];
            rest = later;
            if rest.is_empty() {
                return Ok(sequence);
            }
        }
    }

    fn remember_raw(&self, batch: &Batch, series: &[Option<SeriesRef>]) {
        let unknown = |named: &Named| matches!(named, Named::Labels(_, Some(_)));
        if !batch.runs.iter().any(|r| unknown(&r.named)) {
            return;
        }
        let state = self.state.read();
        let mut known = self.raw_known.write();
        for (run, number) in batch.runs.iter().zip(series) {
            let (Named::Labels(_, Some(raw)), Some(number)) = (&run.named, number) else {
                continue;
            };
            let Some(of) = state.registry.get(*number) else {
                continue;
            };
            if known.young.len() >= RAW_KNOWN_MAX {
                known.old = std::mem::take(&mut known.young);
            }
            known.young.insert(
                *raw,
                KnownSeries {
                    series: *number,
                    hash: of.hash,
                    labels: of.labels.clone(),
                },
            );
        }
    }
}

fn is_same(registry: &Registry, series: SeriesRef, hash: SeriesHash) -> bool {
    registry.get(series).is_some_and(|k| k.hash == hash)
}

fn head_bits(state: &State, series: SeriesRef, time_ms: i64) -> Option<u64> {
    let frozen = state.frozen.iter().map(|f| &f.generation);
    frozen
        .chain([&state.active])
        .find_map(|generation| generation.bits_at(series, time_ms))
}
