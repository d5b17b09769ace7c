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

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kittiwake_env::{Clock, FileLock, Fs, FsError, Periodic, Rng};
use kittiwake_journal::whole::WholeError;
use kittiwake_journal::{
    FileMeta, Journal, JournalError, Manifest, ManifestError, ManifestKind, Sequence,
};
use kittiwake_model::delivery::Deliveries;
use kittiwake_model::{Matcher, TimeRange};
use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;

use crate::block::{Block, BlockCache, BlockError};
use crate::cache::Cache;
use crate::exemplars::{Exemplars, MetadataTable};
use crate::head::{Accepted, Generation};
use crate::registry::{self, NONE, Registry, SeriesRef};
use crate::tombstones::{self, Tombstone};
use crate::wal::Frame;

pub(crate) const MANIFEST: ManifestKind = ManifestKind {
    header: "KWMETRICS",
    folder: "blocks",
    extension: "blk",
};

/// How a store is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Samples older than this are refused and their blocks removed, in ms; 0 keeps all.
    pub retention_ms: i64,
    /// Blocks that are kept, in bytes; beyond it the oldest go. 0 keeps all.
    pub retention_bytes: u64,
    /// How long what windows of 5 minutes and of 1 hour keep of samples that have expired is
    /// kept, in ms, each counted from the samples' time; 0 where there is no such tier.
    pub downsampled_ms: [i64; 2],
    /// Series that are kept for less long than the others: matchers, and how long in ms.
    pub retention_of: Vec<(Vec<Matcher>, i64)>,
    /// How much older than its series' newest a sample may be, in ms, when its sender does
    /// not number its frames.
    pub out_of_order_ms: i64,
    /// A flush comes at the latest after this time, in ms ...
    pub flush_interval_ms: i64,
    /// ... or this many bytes of log ...
    pub flush_bytes: u64,
    /// ... or this many bytes of memory for samples, beside what each series needs.
    pub flush_head_bytes: usize,
    /// Series in memory at most.
    pub series_max: usize,
    /// Exemplars kept at most; the oldest go.
    pub exemplars_max: usize,
    /// What was read from blocks and may be wanted again, in bytes.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention_ms: 30 * 86_400_000,
            retention_bytes: 0,
            downsampled_ms: [0; 2],
            retention_of: Vec::new(),
            out_of_order_ms: 600_000,
            flush_interval_ms: 1_800_000,
            flush_bytes: 80 << 20,
            flush_head_bytes: 64 << 20,
            series_max: 10_000_000,
            exemplars_max: 100_000,
            cache_bytes: 64 << 20,
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
    /// The list of deletions cannot be read or written.
    #[error(transparent)]
    Tombstones(#[from] WholeError),
    /// A snapshot of this name is there, or the name is none.
    #[error("a snapshot cannot be named {0:?}")]
    SnapshotName(String),
}

/// Counters and sizes for the program's own metrics.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Samples stored since the start.
    pub accepted: u64,
    /// Samples that were there already.
    pub repeated: u64,
    /// Samples refused, by [`Refusal::ALL`].
    pub refused: [u64; 5],
    /// Frames that had been stored before.
    pub repeated_frames: u64,
    /// Senders whose frames were forgotten.
    pub forgotten_senders: u64,
    /// Series in memory.
    pub series: u64,
    /// Exemplars in memory.
    pub exemplars: u64,
    /// Samples in the head.
    pub head_samples: u64,
    /// Times of the head's oldest and newest sample.
    pub head_range: Option<TimeRange>,
    /// Blocks, and their bytes.
    pub blocks: u64,
    /// Bytes of all blocks.
    pub block_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes of the cache of what was read from blocks.
    pub cache_bytes: u64,
    /// Flushes and compactions that failed.
    pub failures: u64,
    /// Damaged files set aside since the start.
    pub set_aside: u64,
    /// Flushes and compactions that are due or under way.
    pub pending_work: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Newest {
    pub(crate) time_ms: i64,
    pub(crate) bits: u64,
}

pub(crate) const NONE_YET: Newest = Newest {
    time_ms: i64::MIN,
    bits: 0,
};

/// What only the one who writes touches.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) newest: Vec<Newest>,
    pub(crate) deliveries: Deliveries,
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) series: Vec<Option<SeriesRef>>,
    pub(crate) undo: Vec<(SeriesRef, Newest)>,
    pub(crate) frame: Frame,
    pub(crate) logged: Logged,
    pub(crate) flushed_at_ns: u64,
    pub(crate) written_at_ns: u64,
    pub(crate) log_bytes_at_flush: u64,
}

/// What the log has introduced since it was last rotated.
#[derive(Debug, Default)]
pub(crate) struct Logged {
    series: Vec<u64>,
    pairs: RoaringBitmap,
    sets: RoaringBitmap,
}

impl Logged {
    pub(crate) fn clear(&mut self) {
        self.series.clear();
        self.pairs.clear();
        self.sets.clear();
    }

    /// Puts into a frame what it needs to name a series.
    #[inline]
    pub(crate) fn introduce(&mut self, frame: &mut Frame, registry: &Registry, series: SeriesRef) {
        let (word, bit) = (series as usize / 64, 1 << (series % 64));
        if self.series.len() <= word {
            self.series.resize(word + 1, 0);
        }
        if self.series[word] & bit == 0 {
            self.series[word] |= bit;
            self.introduce_new(frame, registry, series);
        }
    }

    fn introduce_new(&mut self, frame: &mut Frame, registry: &Registry, series: SeriesRef) {
        let (name, set) = registry.name_and_set(series);
        let name = (name != NONE).then_some(name);
        let mut pair = |frame: &mut Frame, pair| {
            if self.pairs.insert(pair) {
                let (name, value) = registry.pair(pair);
                frame.pair(pair, name, value);
            }
        };
        if let Some(name) = name {
            pair(frame, name);
        }
        if self.sets.insert(set) {
            let pairs = registry.set_pairs(set);
            for one in pairs {
                pair(frame, *one);
            }
            frame.set(set, pairs);
        }
        frame.member(series, name, set);
    }
}

/// A generation that waits to become a block.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) generation: Arc<Generation>,
    /// Frames of the log from here on are newer.
    pub(crate) flushed: Sequence,
}

/// A block in place.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) meta: FileMeta,
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
    pub(crate) tombstones: Arc<Vec<Tombstone>>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) refused: [AtomicU64; 5],
    pub(crate) repeated_frames: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) set_aside: AtomicU64,
}

/// A store of time series in a directory of its own.
#[derive(Debug)]
pub struct Store {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) journal: Journal,
    pub(crate) key: u64,
    pub(crate) state: RwLock<State>,
    pub(crate) writer: Mutex<Writer>,
    /// Held by whoever flushes, compacts or removes blocks; keeps the manifest's copy.
    pub(crate) manifest: Mutex<Manifest>,
    pub(crate) exemplars: Mutex<Exemplars>,
    pub(crate) metadata: Mutex<MetadataTable>,
    pub(crate) cache: Arc<BlockCache>,
    /// Blocks that a reader found damaged.
    pub(crate) damaged: Arc<Mutex<BTreeSet<u64>>>,
    pub(crate) counters: Counters,
    pub(crate) compaction_failed: AtomicBool,
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
        let mut manifest = if let Some(manifest) = Manifest::read(fs.as_ref(), &dir, MANIFEST)? {
            manifest
        } else {
            let manifest = Manifest::new(MANIFEST, rng.next_u64());
            manifest.write(fs.as_ref(), &dir)?;
            manifest
        };
        let counters = Counters::default();
        manifest.remove_leftovers(fs.as_ref(), &dir)?;
        let cache = Cache::new(options.cache_bytes, manifest.key);
        let tombstones = Arc::new(tombstones::read(fs.as_ref(), &dir)?);
        let (blocks, damaged) = manifest.open_files(
            fs.as_ref(),
            &dir,
            |path| Block::open(fs.as_ref(), path, &cache).map_err(OpenError::from),
            |error| matches!(error, OpenError::Block(error) if error.is_damage()),
        )?;
        for report in &damaged {
            counters.set_aside.fetch_add(1, Ordering::Relaxed);
            tracing::error!(report, "damaged block of metrics");
        }
        let place = |(meta, block)| Placed {
            meta,
            block: Arc::new(block),
        };
        let blocks = blocks.into_iter().map(place).collect();
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
                tombstones,
            }),
            writer: Mutex::new(Writer {
                newest: Vec::new(),
                deliveries: Deliveries::new(),
                accepted: Vec::new(),
                series: Vec::new(),
                undo: Vec::new(),
                frame: Frame::default(),
                logged: Logged::default(),
                flushed_at_ns,
                written_at_ns: flushed_at_ns,
                log_bytes_at_flush: 0,
            }),
            key: manifest.key,
            manifest: Mutex::new(manifest),
            exemplars: Mutex::default(),
            metadata: Mutex::default(),
            cache,
            damaged: Arc::default(),
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
        registry::raw_hash(self.key, raw)
    }

    /// Numbers for the program's own metrics.
    pub fn stats(&self) -> Stats {
        let flush_due = u64::from(self.is_flush_wanted());
        let forgotten_senders = self.writer.lock().deliveries.forgotten();
        let is_compaction_due = self
            .manifest
            .try_lock()
            .is_none_or(|m| self.candidates(&m).is_some());
        let state = self.state.read();
        let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let compactions =
            u64::from(!self.compaction_failed.load(Ordering::Relaxed) && is_compaction_due);
        let frozen = state.frozen.iter().map(|f| &f.generation);
        let (mut head, mut head_range) = (0, None::<TimeRange>);
        for generation in frozen.chain([&state.active]) {
            head += generation.samples();
            head_range = match (head_range, generation.range()) {
                (Some(a), Some(b)) => Some(TimeRange::new(a.start.min(b.start), a.end.max(b.end))),
                (a, b) => a.or(b),
            };
        }
        Stats {
            accepted: count(&self.counters.accepted),
            repeated: count(&self.counters.repeated),
            refused: std::array::from_fn(|i| count(&self.counters.refused[i])),
            repeated_frames: count(&self.counters.repeated_frames),
            forgotten_senders,
            series: state.registry.len() as u64,
            exemplars: self.exemplars.lock().len() as u64,
            head_samples: head,
            head_range,
            blocks: state.blocks.len() as u64,
            block_bytes: state.blocks.iter().map(|b| b.block.size_bytes()).sum(),
            log_bytes: self.journal.bytes(),
            cache_bytes: self.cache.bytes() as u64,
            failures: count(&self.counters.failures),
            set_aside: count(&self.counters.set_aside),
            pending_work: flush_due + state.frozen.len() as u64 + compactions,
        }
    }
}

impl Writer {
    pub(crate) fn newest_of(&self, number: SeriesRef) -> Newest {
        self.newest
            .get(number as usize)
            .copied()
            .unwrap_or(NONE_YET)
    }

    pub(crate) fn set_newest(&mut self, number: SeriesRef, newest: Newest) {
        let index = number as usize;
        if self.newest.len() <= index {
            self.newest.resize(index + 1, NONE_YET);
        }
        self.newest[index] = newest;
    }
}

/// Keeps a store: syncs its log at the interval, and does every second what is due. Ends
/// when dropped.
#[derive(Debug)]
pub struct Maintenance {
    _threads: [Periodic; 2],
}

impl Maintenance {
    /// Starts the threads.
    pub fn start(store: &Arc<Store>, sync_interval: Duration) -> std::io::Result<Self> {
        let (syncs, keeps) = (Arc::clone(store), Arc::clone(store));
        let sync = Periodic::start("metrics-sync", sync_interval, move || {
            // The failure is kept by the log, and the next write answers with it.
            let _ = syncs.sync_all();
        })?;
        let keep = Periodic::start("metrics-keep", Duration::from_secs(1), move || {
            keeps.maintain();
        })?;
        Ok(Self {
            _threads: [sync, keep],
        })
    }
}
