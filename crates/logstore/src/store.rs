//! The store: its directory and what its parts share.
//!
//! What must hold:
//!
//! - A request is in the log before it is in the head, and in the head before it is
//!   acknowledged; it is in one frame of the log, so it is there as a whole or not at all.
//! - A line's ordinal among those of its stream and time is given when it is written, stands
//!   in the log and in the part, and never changes.
//! - A scan pins generations and parts under one lock, so a line that moves from head to part
//!   is seen once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kittiwake_env::{Clock, FileLock, Fs, FsError, Periodic, Rng, Waker};
use kittiwake_journal::{
    FileMeta, Journal, JournalError, Manifest, ManifestError, ManifestKind, Sequence,
};
use kittiwake_model::delivery::Deliveries;
use kittiwake_model::{BySeriesHash, Matcher};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::compaction::ROWS_MAX;
use crate::deletions::{self, Deletion, DeletionError};
use crate::follow::Arrivals;
use crate::head::Generation;
use crate::index::WordsCache;
use crate::part::{Part, PartError};

pub(crate) const MANIFEST: ManifestKind = ManifestKind {
    header: "KWLOGS",
    folder: "parts",
    extension: "part",
};
/// Largest frame of the log, and so the largest request.
pub(crate) const FRAME_BYTES_MAX: u32 = 128 << 20;

/// How a store is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Lines older than this are refused and their parts removed, in ns; 0 keeps all.
    pub retention_ns: i64,
    /// Once the parts have more bytes than this, the oldest are removed; 0 keeps all.
    pub retention_bytes: u64,
    /// Lines of streams that match are removed after this time, in ns, where it is shorter.
    pub retention_of: Vec<(Vec<Matcher>, i64)>,
    /// A flush comes at the latest after this time, in ms ...
    pub flush_interval_ms: i64,
    /// ... or with this many bytes of text in the head.
    pub flush_bytes: u64,
    /// Streams of the head at most.
    pub streams_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention_ns: 30 * 86_400_000_000_000,
            retention_bytes: 0,
            retention_of: Vec::new(),
            flush_interval_ms: 300_000,
            flush_bytes: 24 << 20,
            streams_max: 100_000,
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
    /// The list of parts cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A part cannot be written or read.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The deletions cannot be read or kept.
    #[error(transparent)]
    Deletions(#[from] DeletionError),
}

/// Counters and sizes for the program's own metrics.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Lines stored since the start.
    pub accepted: u64,
    /// Lines of senders without numbers that were there already.
    pub repeated: u64,
    /// Lines refused, by [`crate::Refusal::ALL`].
    pub refused: [u64; 2],
    /// Frames that had been stored before.
    pub repeated_frames: u64,
    /// Senders whose frames were forgotten.
    pub forgotten_senders: u64,
    /// Streams in the head.
    pub streams: u64,
    /// Lines in the head.
    pub head_lines: u64,
    /// Parts.
    pub parts: u64,
    /// Bytes of all parts.
    pub part_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Flushes and compactions that failed.
    pub failures: u64,
    /// Damaged files set aside since the start.
    pub set_aside: u64,
    /// Flushes and compactions that are due or under way.
    pub pending_work: u64,
}

/// What the writer knows of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamState {
    /// Time of its newest line; `i64::MIN` when it has none.
    pub(crate) newest_ns: i64,
    /// How many lines it has at that time; `None` while only the parts know.
    pub(crate) at_newest: Option<u32>,
}

/// What only the one who writes touches.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) streams: BySeriesHash<StreamState>,
    pub(crate) deliveries: Deliveries,
    pub(crate) frame: Vec<u8>,
    pub(crate) flushed_at_ns: u64,
    pub(crate) written_at_ns: u64,
}

/// A generation that waits to become a part.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) generation: Arc<Generation>,
    /// Frames of the log from here on are newer.
    pub(crate) flushed: Sequence,
}

/// A part in place.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) meta: FileMeta,
    pub(crate) part: Arc<Part>,
}

/// What queries see.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) active: Arc<Generation>,
    /// Oldest first.
    pub(crate) frozen: Vec<Frozen>,
    pub(crate) parts: Vec<Placed>,
    /// Oldest first.
    pub(crate) deletions: Vec<Arc<Deletion>>,
}

impl State {
    /// All generations, oldest first.
    pub(crate) fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        let frozen = self.frozen.iter().map(|f| &f.generation);
        frozen.chain([&self.active])
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) refused: [AtomicU64; 2],
    pub(crate) repeated_frames: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) set_aside: AtomicU64,
}

/// A store of log lines in a directory of its own.
#[derive(Debug)]
pub struct Store {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) journal: Journal,
    pub(crate) key: u64,
    pub(crate) words: Arc<WordsCache>,
    pub(crate) state: RwLock<State>,
    pub(crate) writer: Mutex<Writer>,
    /// Held by whoever flushes, compacts or removes parts; keeps the manifest's copy.
    pub(crate) manifest: Mutex<Manifest>,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) counters: Counters,
    pub(crate) compaction_failed: AtomicBool,
    /// Who flushes, when somebody does.
    pub(crate) keeper: OnceLock<Waker>,
    /// Told when a generation has become a part.
    pub(crate) flushed: (Mutex<()>, Condvar),
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
        fs.create_dir_all(&dir.join(MANIFEST.folder))?;
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
        let key = manifest.key;
        let words = Arc::default();
        let (parts, damaged) = manifest.open_files(
            fs.as_ref(),
            &dir,
            |path| Part::open(fs.as_ref(), path, key, &words).map_err(OpenError::from),
            |error| matches!(error, OpenError::Part(error) if error.is_damage()),
        )?;
        for report in &damaged {
            counters.set_aside.fetch_add(1, Ordering::Relaxed);
            tracing::error!(report, "damaged part of logs");
        }
        let place = |(meta, part)| Placed {
            meta,
            part: Arc::new(part),
        };
        let journal_options = kittiwake_journal::Options {
            epoch: Some(rng.next_u64()),
            frame_bytes_max: FRAME_BYTES_MAX,
            ..kittiwake_journal::Options::default()
        };
        let (journal, opened) = Journal::open(
            Arc::clone(&fs),
            Arc::clone(&clock),
            dir.join("wal"),
            journal_options,
        )?;
        if let Some(cut) = &opened.cut {
            tracing::info!(segment = %cut.segment.display(), bytes = cut.lost_bytes, "torn tail of the logs' log cut off");
        }
        for damage in &opened.damaged {
            counters.set_aside.fetch_add(1, Ordering::Relaxed);
            tracing::error!(segment = %damage.segment.display(), set_aside = %damage.set_aside.display(), byte = damage.byte, bytes = damage.lost_bytes, "damaged segment of the logs' log set aside");
        }
        let store = Self {
            state: RwLock::new(State {
                parts: parts.into_iter().map(place).collect(),
                deletions: deletions::read(fs.as_ref(), &dir)?,
                ..State::default()
            }),
            writer: Mutex::new(Writer {
                streams: BySeriesHash::default(),
                deliveries: Deliveries::new(),
                frame: Vec::new(),
                flushed_at_ns: clock.monotonic_ns(),
                written_at_ns: clock.monotonic_ns(),
            }),
            key,
            words,
            manifest: Mutex::new(manifest),
            arrivals: Arc::default(),
            counters,
            compaction_failed: AtomicBool::new(false),
            keeper: OnceLock::new(),
            flushed: (Mutex::new(()), Condvar::new()),
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

    /// The key under which streams are hashed.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// All parts, the oldest first.
    pub fn parts(&self) -> Vec<(FileMeta, Arc<Part>)> {
        let state = self.state.read();
        let parts = state.parts.iter();
        parts.map(|p| (p.meta, Arc::clone(&p.part))).collect()
    }

    /// Numbers for the program's own metrics.
    pub fn stats(&self) -> Stats {
        let flush_due = u64::from(self.is_flush_due());
        let forgotten_senders = self.writer.lock().deliveries.forgotten();
        let is_compaction_due = !self.compaction_failed.load(Ordering::Relaxed)
            && self
                .manifest
                .try_lock()
                .is_none_or(|m| m.candidates(ROWS_MAX).is_some());
        let state = self.state.read();
        let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let heads: Vec<(u64, u64)> = state
            .generations()
            .map(|g| {
                let lines = g.lines.read();
                (lines.rows(), lines.streams.len() as u64)
            })
            .collect();
        Stats {
            accepted: count(&self.counters.accepted),
            repeated: count(&self.counters.repeated),
            refused: std::array::from_fn(|i| count(&self.counters.refused[i])),
            repeated_frames: count(&self.counters.repeated_frames),
            forgotten_senders,
            streams: heads.last().map_or(0, |(_, streams)| *streams),
            head_lines: heads.iter().map(|(rows, _)| rows).sum(),
            parts: state.parts.len() as u64,
            part_bytes: state.parts.iter().map(|p| p.part.size_bytes()).sum(),
            log_bytes: self.journal.bytes(),
            failures: count(&self.counters.failures),
            set_aside: count(&self.counters.set_aside),
            pending_work: flush_due + state.frozen.len() as u64 + u64::from(is_compaction_due),
        }
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
        let sync = Periodic::start("logs-sync", sync_interval, move || {
            // The failure is kept by the log, and the next write answers with it.
            let _ = syncs.sync_all();
        })?;
        let keep = Periodic::start("logs-keep", Duration::from_secs(1), move || {
            keeps.maintain();
        })?;
        let _ = store.keeper.set(keep.waker());
        Ok(Self {
            _threads: [sync, keep],
        })
    }
}
