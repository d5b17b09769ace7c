//! The store: its directory, its writer, and how samples move from the log into blocks.
//!
//! What must hold:
//!
//! - A request is in the log before it is in the head, and in the head before it is
//!   acknowledged. Recovery replays the log from where the manifest says.
//! - One writer at a time plans, logs and applies; the order of the log is the order of the
//!   head. What the writer judges by (each series' newest sample, the deliveries) only it
//!   touches, and a checkpoint carries it over a flush.
//! - A query pins registry, generations and blocks under one lock, so a sample that moves
//!   from head to block is seen once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kittiwake_env::{Clock, FileLock, Fs, FsError, Rng};
use kittiwake_journal::{Journal, JournalError, Sequence};
use kittiwake_model::delivery::{Deliveries, Origin, Verdict};
use kittiwake_model::{Labels, SeriesHash};
use parking_lot::{Mutex, RwLock};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::batch::{Batch, KnownSeries, Named};
use crate::block::{Block, BlockError, BlockWriter, SeriesSamples, order};
use crate::compaction;
use crate::head::{Accepted, Generation};
use crate::manifest::{BlockMeta, Manifest, ManifestError};
use crate::registry::{Registry, SeriesRef};
use crate::wal::{self, Replayed};

/// Series whose newest sample is older than this, and that have nothing in the head, leave
/// memory at a flush.
const IDLE_MS: i64 = 3_600_000;
/// Frozen generations that may wait for the disk before writes are refused.
const FROZEN_MAX: usize = 3;
/// Samples of one frame of the log.
const FRAME_SAMPLES: usize = 150_000;
/// Raw label bytes that are known by their hash, in each of two generations.
const RAW_KNOWN_MAX: usize = 1 << 20;

/// How a store is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Samples older than this are refused and their blocks removed, in ms; 0 keeps all.
    pub retention_ms: i64,
    /// How much older than its series' newest a sample may be, in ms, when its sender does
    /// not number its frames.
    pub out_of_order_ms: i64,
    /// A flush comes at the latest after this time, in ms ...
    pub flush_interval_ms: i64,
    /// ... or this many bytes of log ...
    pub flush_bytes: u64,
    /// ... or this many samples in the head.
    pub flush_samples: u64,
    /// Series in memory at most.
    pub series_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention_ms: 30 * 86_400_000,
            out_of_order_ms: 600_000,
            flush_interval_ms: 300_000,
            flush_bytes: 128 << 20,
            flush_samples: 4 << 20,
            series_max: 10_000_000,
        }
    }
}

/// Why a store cannot be opened or kept.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used; also when another process uses it.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The log cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The list of blocks cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A block cannot be written.
    #[error(transparent)]
    Block(#[from] BlockError),
}

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

/// Counters and sizes for the program's own metrics.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Samples stored since the start.
    pub accepted: u64,
    /// Samples that were there already.
    pub repeated: u64,
    /// Samples refused, by [`Refusal::ALL`].
    pub refused: [u64; 4],
    /// Frames that had been stored before.
    pub repeated_frames: u64,
    /// Senders whose frames were forgotten.
    pub forgotten_senders: u64,
    /// Series in memory.
    pub series: u64,
    /// Samples in the head.
    pub head_samples: u64,
    /// Blocks, and their bytes.
    pub blocks: u64,
    /// Bytes of all blocks.
    pub block_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Flushes and compactions that failed.
    pub failures: u64,
    /// Damaged files set aside since the start.
    pub set_aside: u64,
    /// Flushes and compactions that are due or under way.
    pub pending_work: u64,
}

#[derive(Debug, Clone, Copy)]
struct Newest {
    time_ms: i64,
    bits: u64,
}

const NONE_YET: Newest = Newest {
    time_ms: i64::MIN,
    bits: 0,
};

/// What only the one who writes touches.
#[derive(Debug)]
struct Writer {
    newest: Vec<Newest>,
    deliveries: Deliveries,
    accepted: Vec<Accepted>,
    frame: Vec<u8>,
    flushed_at_ns: u64,
    log_bytes_at_flush: u64,
}

/// A generation that waits to become a block.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) generation: Arc<Generation>,
    /// Frames of the log from here on are newer.
    flushed: Sequence,
}

/// A block in place.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) meta: BlockMeta,
    pub(crate) block: Arc<Block>,
}

/// What queries see.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) registry: Registry,
    pub(crate) active: Arc<Generation>,
    /// Oldest first.
    pub(crate) frozen: Vec<Frozen>,
    /// In the order in which they were written.
    pub(crate) blocks: Vec<Placed>,
}

#[derive(Debug, Default)]
struct RawKnown {
    young: HashMap<u128, KnownSeries>,
    old: HashMap<u128, KnownSeries>,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    repeated: AtomicU64,
    refused: [AtomicU64; 4],
    repeated_frames: AtomicU64,
    failures: AtomicU64,
    set_aside: AtomicU64,
}

/// A store of time series in a directory of its own.
#[derive(Debug)]
pub struct Store {
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    options: Options,
    journal: Journal,
    key: u64,
    pub(crate) state: RwLock<State>,
    writer: Mutex<Writer>,
    /// Held by whoever flushes, compacts or removes blocks; keeps the manifest's copy.
    manifest: Mutex<Manifest>,
    raw_known: RwLock<RawKnown>,
    counters: Counters,
    compaction_failed: AtomicBool,
    _lock: Box<dyn FileLock>,
}

impl Store {
    /// Opens the store in `dir`, which is created if needed, and replays its log. What was
    /// damaged is set aside and logged.
    pub fn open(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        rng: &mut dyn Rng,
        dir: impl Into<PathBuf>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let dir = dir.into();
        fs.create_dir_all(&dir.join("blocks"))?;
        let lock = fs.lock(&dir.join("LOCK"))?;
        let mut manifest = if let Some(manifest) = Manifest::read(fs.as_ref(), &dir)? {
            manifest
        } else {
            let manifest = Manifest {
                key: rng.next_u64(),
                flushed: 0,
                next_id: 1,
                blocks: Vec::new(),
            };
            manifest.write(fs.as_ref(), &dir)?;
            manifest
        };
        let counters = Counters::default();
        remove_leftovers(fs.as_ref(), &dir, &manifest)?;
        let blocks = open_blocks(fs.as_ref(), &dir, &mut manifest, &counters)?;
        let journal_options = kittiwake_journal::Options {
            epoch: Some(rng.next_u64()),
            ..kittiwake_journal::Options::default()
        };
        let (journal, opened) = Journal::open(
            Arc::clone(&fs),
            Arc::clone(&clock),
            dir.join("wal"),
            journal_options,
        )?;
        if let Some(cut) = &opened.cut {
            tracing::info!(segment = %cut.segment.display(), bytes = cut.lost_bytes, "torn tail of the metrics log cut off");
        }
        for damage in &opened.damaged {
            counters.set_aside.fetch_add(1, Ordering::Relaxed);
            tracing::error!(segment = %damage.segment.display(), set_aside = %damage.set_aside.display(), byte = damage.byte, bytes = damage.lost_bytes, "damaged segment of the metrics log set aside");
        }
        let flushed_at_ns = clock.monotonic_ns();
        let store = Self {
            state: RwLock::new(State {
                registry: Registry::new(manifest.key),
                active: Arc::default(),
                frozen: Vec::new(),
                blocks,
            }),
            writer: Mutex::new(Writer {
                newest: Vec::new(),
                deliveries: Deliveries::new(),
                accepted: Vec::new(),
                frame: Vec::new(),
                flushed_at_ns,
                log_bytes_at_flush: 0,
            }),
            key: manifest.key,
            manifest: Mutex::new(manifest),
            raw_known: RwLock::default(),
            counters,
            compaction_failed: AtomicBool::new(false),
            fs,
            clock,
            dir,
            options,
            journal,
            _lock: lock,
        };
        store.replay()?;
        Ok(store)
    }

    /// The hash by which the store knows the raw bytes of a series' labels in a request.
    pub fn raw_hash(&self, raw: &[u8]) -> u128 {
        xxh3_128_with_seed(raw, self.key)
    }

    /// The series that came with these raw bytes before, while it is remembered.
    pub fn known(&self, raw_hash: u128) -> Option<KnownSeries> {
        let known = self.raw_known.read();
        known
            .young
            .get(&raw_hash)
            .or_else(|| known.old.get(&raw_hash))
            .cloned()
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

    /// Does what is due: a flush, compactions, removal of what is older than the retention.
    /// Failures are logged and tried again at the next call.
    pub fn maintain(&self) {
        if self.is_flush_due() || !self.state.read().frozen.is_empty() {
            let flushed = if self.is_flush_due() {
                self.flush()
            } else {
                self.write_frozen()
            };
            if let Err(error) = flushed {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "metrics: flush failed, will be tried again");
                return;
            }
        }
        if let Err(error) = self.remove_expired() {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "metrics: expired blocks could not be removed");
        }
        while !self.compaction_failed.load(Ordering::Relaxed) {
            match self.compact() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    // Trying again would read the same bytes; a restart sets bad files aside.
                    self.compaction_failed.store(true, Ordering::Relaxed);
                    self.counters.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "metrics: compaction failed, stopped until the next start");
                }
            }
        }
    }

    /// Whether [`Store::maintain`] would flush.
    fn is_flush_due(&self) -> bool {
        let writer = self.writer.lock();
        let samples = self.state.read().active.samples();
        if samples == 0 {
            return false;
        }
        let age_ns = self
            .clock
            .monotonic_ns()
            .saturating_sub(writer.flushed_at_ns);
        let log_bytes = self
            .journal
            .bytes()
            .saturating_sub(writer.log_bytes_at_flush);
        age_ns >= self.options.flush_interval_ms.max(0) as u64 * 1_000_000
            || log_bytes >= self.options.flush_bytes
            || samples >= self.options.flush_samples
    }

    /// Moves all samples of the head into a block.
    pub fn flush(&self) -> Result<(), OpenError> {
        self.freeze()?;
        self.write_frozen()
    }

    /// Numbers for the program's own metrics.
    pub fn stats(&self) -> Stats {
        let flush_due = u64::from(self.is_flush_due());
        let forgotten_senders = self.writer.lock().deliveries.forgotten();
        let state = self.state.read();
        let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let metas: Vec<BlockMeta> = state.blocks.iter().map(|b| b.meta).collect();
        let compactions = u64::from(
            !self.compaction_failed.load(Ordering::Relaxed)
                && compaction::candidates(&metas).is_some(),
        );
        let head = state.active.samples()
            + state
                .frozen
                .iter()
                .map(|f| f.generation.samples())
                .sum::<u64>();
        Stats {
            accepted: count(&self.counters.accepted),
            repeated: count(&self.counters.repeated),
            refused: std::array::from_fn(|i| count(&self.counters.refused[i])),
            repeated_frames: count(&self.counters.repeated_frames),
            forgotten_senders,
            series: state.registry.len() as u64,
            head_samples: head,
            blocks: state.blocks.len() as u64,
            block_bytes: state.blocks.iter().map(|b| b.block.size_bytes()).sum(),
            log_bytes: self.journal.bytes(),
            failures: count(&self.counters.failures),
            set_aside: count(&self.counters.set_aside),
            pending_work: flush_due + state.frozen.len() as u64 + compactions,
        }
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
                let (time_ms, value) = (batch.times[at], batch.values[at]);
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

    /// Closes the active generation: rotates the log, writes a checkpoint as the first frames
    /// of the new segment, and starts a new generation.
    fn freeze(&self) -> Result<(), OpenError> {
        let mut writer = self.writer.lock();
        if self.state.read().active.samples() == 0 {
            return Ok(());
        }
        self.forget_idle(&mut writer);
        let flushed = self.journal.rotate()?;
        self.checkpoint(&mut writer)?;
        let mut state = self.state.write();
        let generation = std::mem::take(&mut state.active);
        state.frozen.push(Frozen {
            generation,
            flushed,
        });
        writer.flushed_at_ns = self.clock.monotonic_ns();
        writer.log_bytes_at_flush = self.journal.bytes();
        Ok(())
    }

    fn forget_idle(&self, writer: &mut Writer) {
        let before = self.clock.now_ms().saturating_sub(IDLE_MS);
        let mut state = self.state.write();
        let idle: Vec<SeriesRef> = state
            .registry
            .iter()
            .map(|(number, _)| number)
            .filter(|number| {
                let newest = writer.newest.get(*number as usize);
                newest.is_none_or(|n| n.time_ms < before)
                    && !state.active.has(*number)
                    && !state.frozen.iter().any(|f| f.generation.has(*number))
            })
            .collect();
        for number in idle {
            state.registry.remove(number);
            if let Some(newest) = writer.newest.get_mut(number as usize) {
                *newest = NONE_YET;
            }
        }
    }

    fn checkpoint(&self, writer: &mut Writer) -> Result<(), JournalError> {
        let state = self.state.read();
        let mut frame = std::mem::take(&mut writer.frame);
        wal::start_series(&mut frame);
        for (number, known) in state.registry.iter() {
            let newest = writer.newest.get(number as usize).unwrap_or(&NONE_YET);
            wal::put_known(
                &mut frame,
                number,
                &known.labels,
                newest.time_ms,
                newest.bits,
            );
            if frame.len() >= wal::FRAME_BYTES {
                self.journal.append(&[&frame])?;
                wal::start_series(&mut frame);
            }
        }
        self.journal.append(&[&frame])?;
        wal::start_deliveries(&mut frame);
        for (sender, mark, frames) in writer.deliveries.iter() {
            wal::put_delivery(&mut frame, sender, mark, frames);
            if frame.len() >= wal::FRAME_BYTES {
                self.journal.append(&[&frame])?;
                wal::start_deliveries(&mut frame);
            }
        }
        self.journal.append(&[&frame])?;
        writer.frame = frame;
        self.journal.sync_all()
    }

    /// Writes frozen generations as blocks, oldest first, and lets go of their log.
    fn write_frozen(&self) -> Result<(), OpenError> {
        let mut manifest = self.manifest.lock();
        loop {
            let Some((frozen, series)) = self.oldest_frozen() else {
                return Ok(());
            };
            let meta = BlockMeta {
                id: manifest.next_id,
                level: 0,
                samples: frozen.generation.samples(),
                start_ms: frozen.generation.range().map_or(0, |r| r.start),
                end_ms: frozen.generation.range().map_or(0, |r| r.end),
            };
            let path = meta.path(&self.dir);
            let mut writer = BlockWriter::create(&self.fs, &path)?;
            for (labels, number, pinned) in series {
                let mut columns = kittiwake_model::Columns::default();
                let all = kittiwake_model::TimeRange::ALL;
                frozen.generation.read(number, pinned, all, &mut columns);
                let added = writer.add(SeriesSamples {
                    labels,
                    times: columns.times,
                    values: columns.values,
                });
                if let Err(error) = added {
                    writer.abandon();
                    return Err(error.into());
                }
            }
            writer.finish()?;
            let block = Arc::new(Block::open(self.fs.as_ref(), &path)?);
            let mut next = manifest.clone();
            next.next_id += 1;
            next.flushed = frozen.flushed;
            next.blocks.push(meta);
            next.write(self.fs.as_ref(), &self.dir)?;
            *manifest = next;
            {
                let mut state = self.state.write();
                state.frozen.remove(0);
                state.blocks.push(Placed { meta, block });
            }
            self.journal.truncate_before(frozen.flushed)?;
            let mut writer = self.writer.lock();
            writer.log_bytes_at_flush = writer.log_bytes_at_flush.min(self.journal.bytes());
        }
    }

    /// The oldest frozen generation and its series in the order in which a block wants them.
    #[allow(clippy::type_complexity)]
    fn oldest_frozen(&self) -> Option<(Frozen, Vec<(Labels, SeriesRef, crate::head::Pinned)>)> {
        let state = self.state.read();
        let frozen = state.frozen.first()?.clone();
        let mut series = Vec::new();
        for (number, pinned) in frozen.generation.all() {
            // A series with samples in a generation is never forgotten.
            if let Some(known) = state.registry.get(number) {
                series.push((known.labels.clone(), number, pinned));
            }
        }
        series.sort_by(|a, b| order(&a.0).cmp(&order(&b.0)));
        Some((frozen, series))
    }

    /// Merges neighbouring blocks of one level, if enough of them have gathered.
    fn compact(&self) -> Result<bool, OpenError> {
        let mut manifest = self.manifest.lock();
        let Some(range) = compaction::candidates(&manifest.blocks) else {
            return Ok(false);
        };
        let inputs: Vec<Placed> = {
            let state = self.state.read();
            let of = |meta: &BlockMeta| state.blocks.iter().find(|b| b.meta.id == meta.id).cloned();
            manifest.blocks[range.clone()]
                .iter()
                .filter_map(of)
                .collect()
        };
        let mut meta = BlockMeta {
            id: manifest.next_id,
            level: inputs.iter().map(|b| b.meta.level).max().unwrap_or(0) + 1,
            samples: 0,
            start_ms: inputs.iter().map(|b| b.meta.start_ms).min().unwrap_or(0),
            end_ms: inputs.iter().map(|b| b.meta.end_ms).max().unwrap_or(0),
        };
        let path = meta.path(&self.dir);
        let blocks: Vec<Arc<Block>> = inputs.iter().map(|b| Arc::clone(&b.block)).collect();
        meta.samples = compaction::merge(&self.fs, &path, &blocks)?;
        let block = Arc::new(Block::open(self.fs.as_ref(), &path)?);
        let mut next = manifest.clone();
        next.next_id += 1;
        next.blocks.splice(range, [meta]);
        next.write(self.fs.as_ref(), &self.dir)?;
        *manifest = next;
        {
            let mut state = self.state.write();
            let first = state
                .blocks
                .iter()
                .position(|b| b.meta.id == inputs[0].meta.id)
                .unwrap_or(0);
            state
                .blocks
                .splice(first..first + inputs.len(), [Placed { meta, block }]);
        }
        for input in &inputs {
            self.fs.remove(&input.meta.path(&self.dir))?;
        }
        Ok(true)
    }

    /// Removes blocks that hold only samples older than the retention.
    fn remove_expired(&self) -> Result<(), OpenError> {
        if self.options.retention_ms == 0 {
            return Ok(());
        }
        let before = self
            .clock
            .now_ms()
            .saturating_sub(self.options.retention_ms);
        let mut manifest = self.manifest.lock();
        let (kept, expired): (Vec<BlockMeta>, Vec<BlockMeta>) =
            manifest.blocks.iter().partition(|b| b.end_ms >= before);
        if expired.is_empty() {
            return Ok(());
        }
        let mut next = manifest.clone();
        next.blocks = kept;
        next.write(self.fs.as_ref(), &self.dir)?;
        *manifest = next;
        self.state
            .write()
            .blocks
            .retain(|b| b.meta.end_ms >= before);
        for meta in expired {
            self.fs.remove(&meta.path(&self.dir))?;
        }
        Ok(())
    }

    fn replay(&self) -> Result<(), OpenError> {
        let from = self.manifest.lock().flushed;
        let mut writer = self.writer.lock();
        let mut state = self.state.write();
        let end = self.journal.next_seq();
        for frame in self.journal.read_from(from) {
            let (sequence, bytes) = match frame {
                Ok(frame) => frame,
                Err(error @ JournalError::Damaged { .. }) => {
                    self.counters.set_aside.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "metrics log");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match wal::decode(&bytes) {
                Ok(Replayed::Samples {
                    new,
                    origin,
                    samples,
                }) => {
                    for (number, labels) in new {
                        state.registry.restore(number, &labels);
                        writer.set_newest(number, NONE_YET);
                    }
                    for sample in &samples {
                        let index = sample.series as usize;
                        let newest = writer.newest.get(index).unwrap_or(&NONE_YET);
                        if sample.time_ms > newest.time_ms {
                            writer.set_newest(
                                sample.series,
                                Newest {
                                    time_ms: sample.time_ms,
                                    bits: sample.value.to_bits(),
                                },
                            );
                        }
                    }
                    let mut samples = samples;
                    // After damage a sample's series can be unknown.
                    samples.retain(|s| state.registry.get(s.series).is_some());
                    state.active.append(&samples);
                    if let Some(origin) = origin {
                        writer
                            .deliveries
                            .stored(&origin.sender, origin.frame, origin.first);
                    }
                }
                Ok(Replayed::Series(all)) => {
                    for (number, labels, time_ms, bits) in all {
                        state.registry.restore(number, &labels);
                        writer.set_newest(number, Newest { time_ms, bits });
                    }
                }
                Ok(Replayed::Deliveries(all)) => {
                    for (sender, mark, frames) in all {
                        writer.deliveries.restore(sender, mark, frames);
                    }
                }
                Err(error) => {
                    self.counters.set_aside.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(sequence, %error, "frame of the metrics log passed over");
                }
            }
            if sequence + 1 >= end {
                break;
            }
        }
        Ok(())
    }
}

impl Writer {
    fn set_newest(&mut self, number: SeriesRef, newest: Newest) {
        let index = number as usize;
        if self.newest.len() <= index {
            self.newest.resize(index + 1, NONE_YET);
        }
        self.newest[index] = newest;
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

/// Removes files that a crash left behind: no manifest names them, and what they hold is
/// still in the log or in other blocks.
fn remove_leftovers(fs: &dyn Fs, dir: &Path, manifest: &Manifest) -> Result<(), FsError> {
    let blocks = dir.join("blocks");
    for entry in fs.list(&blocks)? {
        let path = blocks.join(&entry.name);
        let is_named = manifest.blocks.iter().any(|b| b.path(dir) == path);
        if !entry.is_dir && !is_named && !entry.name.ends_with(DAMAGED_SUFFIX) {
            fs.remove(&path)?;
        }
    }
    Ok(())
}

const DAMAGED_SUFFIX: &str = ".damaged";

/// Opens the manifest's blocks. Damaged ones are set aside under another name and leave the
/// manifest.
fn open_blocks(
    fs: &dyn Fs,
    dir: &Path,
    manifest: &mut Manifest,
    counters: &Counters,
) -> Result<Vec<Placed>, OpenError> {
    let mut placed = Vec::new();
    let mut bad = Vec::new();
    for meta in &manifest.blocks {
        let path = meta.path(dir);
        match Block::open(fs, &path) {
            Ok(block) => placed.push(Placed {
                meta: *meta,
                block: Arc::new(block),
            }),
            Err(error) if !error.is_damage() => return Err(error.into()),
            Err(error) => {
                tracing::error!(block = %path.display(), %error, "damaged block set aside");
                counters.set_aside.fetch_add(1, Ordering::Relaxed);
                if fs.exists(&path)? {
                    let mut aside = path.clone().into_os_string();
                    aside.push(DAMAGED_SUFFIX);
                    fs.rename(&path, Path::new(&aside))?;
                }
                bad.push(meta.id);
            }
        }
    }
    if !bad.is_empty() {
        manifest.blocks.retain(|b| !bad.contains(&b.id));
        manifest.write(fs, dir)?;
    }
    Ok(placed)
}

/// Keeps a store: syncs its log every second and does what is due. Ends when dropped.
#[derive(Debug)]
pub struct Maintenance {
    stop: Arc<(parking_lot::Mutex<bool>, parking_lot::Condvar)>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Maintenance {
    /// Starts the threads.
    pub fn start(store: &Arc<Store>, sync_interval: Duration) -> std::io::Result<Self> {
        let stop = Arc::new((parking_lot::Mutex::new(false), parking_lot::Condvar::new()));
        let mut threads = Vec::new();
        let mut spawn = |name: &str, every: Duration, work: fn(&Store)| {
            let (store, stop) = (Arc::clone(store), Arc::clone(&stop));
            let body = move || {
                let (stopped, wake) = &*stop;
                loop {
                    {
                        let mut stopped = stopped.lock();
                        if !*stopped {
                            wake.wait_for(&mut stopped, every);
                        }
                        if *stopped {
                            return;
                        }
                    }
                    work(&store);
                }
            };
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)?;
            threads.push(thread);
            Ok::<(), std::io::Error>(())
        };
        spawn("metrics-sync", sync_interval, |store| {
            // The failure is kept by the log, and the next write answers with it.
            let _ = store.sync_all();
        })?;
        spawn("metrics-keep", Duration::from_secs(1), Store::maintain)?;
        Ok(Self { stop, threads })
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        for thread in self.threads.drain(..) {
            // A panic in there was reported when it happened.
            let _ = thread.join();
        }
    }
}
