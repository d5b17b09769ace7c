//! The writer's path: give each line its ordinal, log, apply, tell the followers.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use kittiwake_journal::Sequence;
use kittiwake_model::delivery::{Origin, Verdict};
use kittiwake_model::{BySeriesHash, Labels, SeriesHash, SeriesHasher, StoreError};

use crate::batch::Batch;
use crate::part::Part;
use crate::store::{State, Store, StreamState, Writer};
use crate::wal;

/// Frozen generations that may wait for the disk before writes are refused.
const FROZEN_MAX: usize = 3;

/// How long a write waits for a flush. Longer than that the flush fails, and [`FROZEN_MAX`]
/// holds.
const ROOM_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Why a request was not stored at all.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk is full, or does not keep up. The same request can succeed later.
    #[error("storage takes no lines for now: {0}")]
    Full(String),
    /// The log failed; the store must be opened anew.
    #[error("storage takes no lines since its log failed: {0}")]
    Failed(String),
    /// The request is larger than the log takes at once.
    #[error("a request of {size_bytes} bytes is over the limit of {max_bytes}")]
    TooLarge {
        /// Bytes of the request in the log.
        size_bytes: u64,
        /// The limit.
        max_bytes: u32,
    },
    /// The sender is too far ahead of what it has not delivered yet.
    #[error("frame {sequence} is too far ahead of the frames that are still missing")]
    TooFarAhead {
        /// The frame's sequence.
        sequence: u64,
    },
}

/// Why a line was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Older than the store keeps.
    TooOld,
    /// The head has as many streams as it may.
    StreamLimit,
}

impl Refusal {
    /// All reasons, in the order of [`crate::Stats::refused`].
    pub const ALL: [Self; 2] = [Self::TooOld, Self::StreamLimit];

    /// The reason as a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooOld => "too_old",
            Self::StreamLimit => "stream_limit",
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// Lines stored.
    pub accepted: u64,
    /// Lines that were there already.
    pub repeated: u64,
    /// Lines refused.
    pub refused: u64,
    /// The first of them: stream, time in ns, why.
    pub first_refused: Option<(Labels, i64, Refusal)>,
    /// The whole frame was stored before.
    pub is_repeat: bool,
    /// The request survives a loss of power once [`Store::sync`] of this returns.
    pub sequence: Sequence,
}

impl Store {
    /// The hash by which the store knows a stream.
    pub fn hash(&self, labels: &Labels) -> SeriesHash {
        SeriesHasher::labels(self.key, labels)
    }

    /// Stores a batch, as a whole or not at all, apart from lines that are refused each by
    /// itself. When this returns the batch is visible, and survives the end of the process.
    pub fn write(&self, batch: &Batch, origin: Option<&Origin>) -> Result<Written, WriteError> {
        let hashes: Vec<SeriesHash> = batch
            .runs
            .iter()
            .map(|r| r.hash.unwrap_or_else(|| self.hash(&r.labels)))
            .collect();
        self.wait_for_room();
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
        let state = self.state.read();
        if state.frozen.len() >= FROZEN_MAX {
            return Err(WriteError::Full(
                "parts cannot be written, see the program's log for why".to_owned(),
            ));
        }
        let writer = &mut *writer;
        let mut written = Written::default();
        let mut planned: BySeriesHash<StreamState> = BySeriesHash::default();
        let ordinals = self
            .plan(
                &state,
                writer,
                batch,
                &hashes,
                origin.is_some(),
                &mut written,
                &mut planned,
            )
            .map_err(|e| WriteError::Failed(e.to_string()))?;
        if written.accepted > 0 || origin.is_some() {
            wal::put_lines(&mut writer.frame, batch, &ordinals, origin);
            written.sequence = self.journal.append(&[&writer.frame]).map_err(|error| {
                if let kittiwake_journal::JournalError::FrameTooLarge {
                    size_bytes,
                    max_bytes,
                } = error
                {
                    WriteError::TooLarge {
                        size_bytes,
                        max_bytes,
                    }
                } else if error.is_full() {
                    WriteError::Full(error.to_string())
                } else {
                    WriteError::Failed(error.to_string())
                }
            })?;
            if writer.frame.capacity() > wal::FRAME_BYTES {
                writer.frame = Vec::new();
            }
        } else {
            written.sequence = self.journal.next_seq().saturating_sub(1);
        }
        writer.streams.extend(planned);
        let mut lines = state.active.lines.write();
        lines.append(batch, &ordinals, &hashes);
        let is_full = lines.text_bytes() >= self.options.flush_bytes;
        drop(lines);
        if let Some(keeper) = self.keeper.get().filter(|_| is_full) {
            keeper.wake();
        }
        writer.written_at_ns = self.clock.monotonic_ns();
        self.arrivals.tell(batch, &ordinals, &hashes);
        if let Some(origin) = origin {
            writer
                .deliveries
                .stored(&origin.sender, origin.frame, origin.first);
        }
        let counters = &self.counters;
        counters
            .accepted
            .fetch_add(written.accepted, Ordering::Relaxed);
        counters
            .repeated
            .fetch_add(written.repeated, Ordering::Relaxed);
        Ok(written)
    }

    /// While a generation waits for the disk and the next one is half full, whoever writes waits:
    /// the head is bounded by what a flush takes, not by how fast lines come.
    fn wait_for_room(&self) {
        if self.keeper.get().is_none() {
            return;
        }
        let is_full = || {
            let state = self.state.read();
            let bytes = state.active.lines.read().text_bytes();
            let is_waiting = !state.frozen.is_empty();
            let half = self.options.flush_bytes / 2;
            bytes >= if is_waiting { half } else { half * 3 }
        };
        let mut flushed = self.flushed.0.lock();
        while is_full() && !self.flushed.1.wait_for(&mut flushed, ROOM_WAIT).timed_out() {}
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

    /// Per line its ordinal, or `None` when it is not to be stored. What the streams' states
    /// become is in `planned`, so that a failing log changes nothing.
    #[allow(clippy::too_many_arguments)]
    fn plan(
        &self,
        state: &State,
        writer: &Writer,
        batch: &Batch,
        hashes: &[SeriesHash],
        is_numbered: bool,
        written: &mut Written,
        planned: &mut BySeriesHash<StreamState>,
    ) -> Result<Vec<Option<u32>>, StoreError> {
        let oldest_ns = match self.options.retention_ns {
            0 => i64::MIN,
            retention => self.clock.now_ns().saturating_sub(retention),
        };
        let mut ordinals: Vec<Option<u32>> = vec![None; batch.rows.len()];
        // Lines of this batch by stream and time, made only once one is not the newest.
        let mut in_batch: HashMap<(SeriesHash, i64), Vec<usize>> = HashMap::new();
        let mut is_indexed = false;
        for (run, hash) in batch.runs.iter().zip(hashes) {
            let mut known = match planned.get(hash).or_else(|| writer.streams.get(hash)) {
                Some(known) => *known,
                None if writer.streams.len() + planned.len() >= self.options.streams_max => {
                    for at in run.rows.clone() {
                        self.refuse(
                            written,
                            &run.labels,
                            batch.rows[at].time_ns,
                            Refusal::StreamLimit,
                        );
                    }
                    continue;
                }
                None => in_parts(state, *hash),
            };
            for at in run.rows.clone() {
                let row = &batch.rows[at];
                let time_ns = row.time_ns;
                if time_ns < oldest_ns {
                    self.refuse(written, &run.labels, time_ns, Refusal::TooOld);
                    continue;
                }
                let ordinal = if time_ns > known.newest_ns {
                    known = StreamState {
                        newest_ns: time_ns,
                        at_newest: Some(1),
                    };
                    0
                } else {
                    if !is_indexed {
                        is_indexed = true;
                        index(batch, hashes, &ordinals, &mut in_batch);
                    }
                    let same = in_batch.entry((*hash, time_ns)).or_default();
                    let is_equal = |other: &usize| {
                        let other = &batch.rows[*other];
                        batch.text[other.line.clone()] == batch.text[row.line.clone()]
                            && other.metadata == row.metadata
                    };
                    let is_repeat = !is_numbered
                        && (same.iter().any(is_equal)
                            || is_in_head(state, *hash, time_ns, batch, at));
                    if is_repeat {
                        written.repeated += 1;
                        continue;
                    }
                    let count = match known.at_newest {
                        Some(count) if time_ns == known.newest_ns => count,
                        _ => stored_at(state, *hash, time_ns)? + same.len() as u32,
                    };
                    if time_ns == known.newest_ns {
                        known.at_newest = Some(count + 1);
                    }
                    count
                };
                if is_indexed {
                    in_batch.entry((*hash, time_ns)).or_default().push(at);
                }
                ordinals[at] = Some(ordinal);
                written.accepted += 1;
            }
            planned.insert(*hash, known);
        }
        Ok(ordinals)
    }

    fn refuse(&self, written: &mut Written, labels: &Labels, time_ns: i64, why: Refusal) {
        written.refused += 1;
        self.counters.refused[why as usize].fetch_add(1, Ordering::Relaxed);
        if written.first_refused.is_none() {
            written.first_refused = Some((labels.clone(), time_ns, why));
        }
    }
}

/// Enters the lines that were planned so far.
fn index(
    batch: &Batch,
    hashes: &[SeriesHash],
    ordinals: &[Option<u32>],
    in_batch: &mut HashMap<(SeriesHash, i64), Vec<usize>>,
) {
    for (run, hash) in batch.runs.iter().zip(hashes) {
        for at in run.rows.clone().filter(|at| ordinals[*at].is_some()) {
            let key = (*hash, batch.rows[at].time_ns);
            in_batch.entry(key).or_default().push(at);
        }
    }
}

/// What the files and generations know of a stream that the writer does not.
fn in_parts(state: &State, hash: SeriesHash) -> StreamState {
    let in_parts = state
        .parts
        .iter()
        .filter_map(|p| Some(p.part.stream(hash)?.1.range.end));
    let in_heads = state
        .generations()
        .filter_map(|g| Some(g.lines.read().stream(hash)?.range().end));
    StreamState {
        newest_ns: in_parts.chain(in_heads).max().unwrap_or(i64::MIN),
        at_newest: None,
    }
}

/// How many lines of a stream are stored with this time.
fn stored_at(state: &State, hash: SeriesHash, time_ns: i64) -> Result<u32, StoreError> {
    let mut count = 0;
    for generation in state.generations() {
        let lines = generation.lines.read();
        if let Some(stream) = lines.stream(hash) {
            count += stream.rows_at(time_ns).count();
        }
    }
    for placed in &state.parts {
        if placed.meta.start <= time_ns && time_ns <= placed.meta.end {
            count += part_at(&placed.part, hash, time_ns)
                .map_err(|e| StoreError::Failed(e.to_string()))?;
        }
    }
    Ok(count as u32)
}

fn part_at(part: &Part, hash: SeriesHash, time_ns: i64) -> Result<usize, crate::part::PartError> {
    let Some((number, stream)) = part.stream(hash) else {
        return Ok(0);
    };
    if !stream.range.contains(time_ns) {
        return Ok(0);
    }
    let mut count = 0;
    for block in &part.blocks {
        let holds = |r: &crate::part::Run| r.stream == number && r.range.contains(time_ns);
        if !block.runs.iter().any(holds) {
            continue;
        }
        let times = part.times(block)?;
        let mut ranks = times.ranks();
        for (_, rows) in block.runs().filter(|(run, _)| holds(run)) {
            let before = ranks.after(rows.clone(), time_ns.saturating_sub(1))?;
            count += ranks.after(rows, time_ns)? - before;
        }
    }
    Ok(count)
}

/// Whether the head has this very line.
fn is_in_head(state: &State, hash: SeriesHash, time_ns: i64, batch: &Batch, at: usize) -> bool {
    let row = &batch.rows[at];
    let text = &batch.text[row.line.clone()];
    state.generations().any(|generation| {
        let lines = generation.lines.read();
        let Some(stream) = lines.stream(hash) else {
            return false;
        };
        stream.rows_at(time_ns).any(|there| {
            lines.text(there) == text && lines.metadata(there) == row.metadata.as_ref()
        })
    })
}
