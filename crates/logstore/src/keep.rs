//! Keeping the store: flush, compaction, retention, and recovery from the log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kittiwake_env::Fs;
use kittiwake_journal::{FileMeta, JournalError};
use kittiwake_model::SeriesHasher;

use crate::compaction;
use crate::head::Generation;
use crate::part::{Line, Part, PartError, PartWriter};
use crate::store::{Frozen, MANIFEST, OpenError, Placed, Store, StreamState};
use crate::wal::{self, Replayed};

/// Without a write for so long a head of some size is flushed: after a load neither memory nor
/// log stay behind.
const IDLE_NS: u64 = 20_000_000_000;
const IDLE_BYTES: u64 = 1 << 20;

impl Store {
    /// Does what is due: a flush, compactions, removal of what is older than the retention.
    /// Failures are logged and tried again at the next call.
    pub fn maintain(&self) {
        let is_due = self.is_flush_due();
        if is_due || !self.state.read().frozen.is_empty() {
            let flushed = if is_due {
                self.flush()
            } else {
                self.write_frozen()
            };
            if let Err(error) = flushed {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "logs: flush failed, will be tried again");
                return;
            }
        }
        if let Err(error) = self.remove_expired() {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "logs: expired parts could not be removed");
        }
        while !self.compaction_failed.load(Ordering::Relaxed) {
            match self.compact() {
                // What came meanwhile goes first: it holds memory.
                Ok(true) if self.is_flush_due() => {
                    if let Some(keeper) = self.keeper.get() {
                        keeper.wake();
                    }
                    break;
                }
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    // Trying again would read the same bytes; a restart sets bad files aside.
                    self.compaction_failed.store(true, Ordering::Relaxed);
                    self.counters.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "logs: compaction failed, stopped until the next start");
                }
            }
        }
    }

    /// Moves all lines of the head into a part.
    pub fn flush(&self) -> Result<(), OpenError> {
        self.freeze()?;
        self.write_frozen()
    }

    /// Whether [`Store::maintain`] would flush.
    pub(crate) fn is_flush_due(&self) -> bool {
        let writer = self.writer.lock();
        let state = self.state.read();
        let lines = state.active.lines.read();
        let age_ns = self
            .clock
            .monotonic_ns()
            .saturating_sub(writer.flushed_at_ns);
        let idle_ns = self
            .clock
            .monotonic_ns()
            .saturating_sub(writer.written_at_ns);
        lines.rows() > 0
            && (age_ns >= self.options.flush_interval_ms.max(0) as u64 * 1_000_000
                || lines.text_bytes() >= self.options.flush_bytes
                || (idle_ns >= IDLE_NS && lines.text_bytes() >= IDLE_BYTES))
    }

    /// Closes the active generation: rotates the log, writes the deliveries as the first
    /// frames of the new segment, and starts a new generation.
    fn freeze(&self) -> Result<(), OpenError> {
        let mut writer = self.writer.lock();
        if self.state.read().active.lines.read().rows() == 0 {
            return Ok(());
        }
        let flushed = self.journal.rotate()?;
        let mut frame = Vec::new();
        wal::start_deliveries(&mut frame);
        for (sender, mark, frames) in writer.deliveries.iter() {
            wal::put_delivery(&mut frame, sender, mark, frames);
            if frame.len() >= wal::FRAME_BYTES {
                self.journal.append(&[&frame])?;
                wal::start_deliveries(&mut frame);
            }
        }
        self.journal.append(&[&frame])?;
        self.journal.sync_all()?;
        let mut state = self.state.write();
        let generation = std::mem::take(&mut state.active);
        state.frozen.push(Frozen {
            generation,
            flushed,
        });
        // Streams that ended are known by their parts.
        writer.streams.retain(|hash, _| {
            let mut frozen = state.frozen.iter();
            frozen.any(|f| f.generation.lines.read().stream(*hash).is_some())
        });
        writer.flushed_at_ns = self.clock.monotonic_ns();
        drop((state, writer));
        self.tell_flushed();
        Ok(())
    }

    /// Whoever waits for room looks again.
    fn tell_flushed(&self) {
        drop(self.flushed.0.lock());
        self.flushed.1.notify_all();
    }

    /// Writes frozen generations as parts, oldest first, and lets go of their log.
    fn write_frozen(&self) -> Result<(), OpenError> {
        let mut manifest = self.manifest.lock();
        loop {
            let Some(frozen) = self.state.read().frozen.first().cloned() else {
                return Ok(());
            };
            let range = frozen.generation.lines.read().range();
            let meta = FileMeta {
                id: manifest.next_id,
                level: 0,
                rows: frozen.generation.lines.read().rows(),
                start: range.map_or(0, |r| r.start),
                end: range.map_or(0, |r| r.end),
            };
            let path = MANIFEST.file(&self.dir, &meta);
            write_generation(&self.fs, &path, &frozen.generation)?;
            let part = Arc::new(self.open_part(&path)?);
            let mut next = manifest.clone();
            next.next_id += 1;
            next.flushed = frozen.flushed;
            next.files.push(meta);
            next.write(self.fs.as_ref(), &self.dir)?;
            *manifest = next;
            {
                let mut state = self.state.write();
                state.frozen.remove(0);
                state.parts.push(Placed { meta, part });
            }
            self.tell_flushed();
            self.journal.truncate_before(frozen.flushed)?;
        }
    }

    fn open_part(&self, path: &Path) -> Result<Part, PartError> {
        Part::open(self.fs.as_ref(), path, self.key, &self.words)
    }

    /// Merges neighbouring parts of one level, if enough of them have gathered.
    fn compact(&self) -> Result<bool, OpenError> {
        let mut manifest = self.manifest.lock();
        let Some(range) = manifest.candidates(compaction::ROWS_MAX) else {
            return Ok(false);
        };
        let inputs: Vec<Placed> = {
            let state = self.state.read();
            let of = |meta: &FileMeta| state.parts.iter().find(|p| p.meta.id == meta.id).cloned();
            manifest.files[range.clone()]
                .iter()
                .filter_map(of)
                .collect()
        };
        let mut meta = FileMeta {
            id: manifest.next_id,
            level: inputs.iter().map(|p| p.meta.level).max().unwrap_or(0) + 1,
            rows: 0,
            start: inputs.iter().map(|p| p.meta.start).min().unwrap_or(0),
            end: inputs.iter().map(|p| p.meta.end).max().unwrap_or(0),
        };
        let path = MANIFEST.file(&self.dir, &meta);
        let parts: Vec<Arc<Part>> = inputs.iter().map(|p| Arc::clone(&p.part)).collect();
        meta.rows = compaction::merge(&self.fs, &path, &parts)?;
        let part = Arc::new(self.open_part(&path)?);
        let mut next = manifest.clone();
        next.next_id += 1;
        next.files.splice(range, [meta]);
        next.write(self.fs.as_ref(), &self.dir)?;
        *manifest = next;
        {
            let mut state = self.state.write();
            let ids: Vec<u64> = inputs.iter().map(|p| p.meta.id).collect();
            state.parts.retain(|p| !ids.contains(&p.meta.id));
            state.parts.push(Placed { meta, part });
        }
        for input in &inputs {
            self.fs.remove(&MANIFEST.file(&self.dir, &input.meta))?;
        }
        Ok(true)
    }

    /// Removes parts that hold only lines older than the retention.
    fn remove_expired(&self) -> Result<(), OpenError> {
        if self.options.retention_ns == 0 {
            return Ok(());
        }
        let before = self
            .clock
            .now_ns()
            .saturating_sub(self.options.retention_ns);
        let mut manifest = self.manifest.lock();
        let (kept, expired): (Vec<FileMeta>, Vec<FileMeta>) =
            manifest.files.iter().partition(|f| f.end >= before);
        if expired.is_empty() {
            return Ok(());
        }
        let mut next = manifest.clone();
        next.files = kept;
        next.write(self.fs.as_ref(), &self.dir)?;
        *manifest = next;
        self.state.write().parts.retain(|p| p.meta.end >= before);
        for meta in expired {
            self.fs.remove(&MANIFEST.file(&self.dir, &meta))?;
        }
        Ok(())
    }

    pub(crate) fn replay(&self) -> Result<(), OpenError> {
        let from = self.manifest.lock().flushed;
        let end = self.journal.next_seq();
        let mut writer = self.writer.lock();
        let state = self.state.read();
        for frame in self.journal.read_from(from) {
            let (sequence, bytes) = match frame {
                Ok(frame) => frame,
                Err(error @ JournalError::Damaged { .. }) => {
                    self.counters.set_aside.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "logs' log");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match wal::decode(&bytes) {
                Ok(Replayed::Lines {
                    origin,
                    batch,
                    ordinals,
                }) => {
                    let hashes: Vec<_> = batch
                        .runs
                        .iter()
                        .map(|r| SeriesHasher::labels(self.key, &r.labels))
                        .collect();
                    let ordinals: Vec<Option<u32>> = ordinals.into_iter().map(Some).collect();
                    let mut lines = state.active.lines.write();
                    lines.append(&batch, &ordinals, &hashes);
                    for hash in hashes {
                        // Counted anew when a line of that time comes.
                        let newest_ns = lines.stream(hash).map_or(i64::MIN, |s| s.range().end);
                        let before = writer.streams.get(&hash).map(|s| s.newest_ns);
                        let in_parts = match before {
                            Some(before) => before,
                            None => state
                                .parts
                                .iter()
                                .filter_map(|p| Some(p.part.stream(hash)?.1.range.end))
                                .max()
                                .unwrap_or(i64::MIN),
                        };
                        writer.streams.insert(
                            hash,
                            StreamState {
                                newest_ns: newest_ns.max(in_parts),
                                at_newest: None,
                            },
                        );
                    }
                    if let Some(origin) = origin {
                        writer
                            .deliveries
                            .stored(&origin.sender, origin.frame, origin.first);
                    }
                }
                Ok(Replayed::Deliveries(all)) => {
                    for (sender, mark, frames) in all {
                        writer.deliveries.restore(sender, mark, frames);
                    }
                }
                Err(error) => {
                    self.counters.set_aside.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(sequence, %error, "frame of the logs' log passed over");
                }
            }
            if sequence + 1 >= end {
                break;
            }
        }
        Ok(())
    }
}

fn write_generation(
    fs: &Arc<dyn Fs>,
    path: &Path,
    generation: &Generation,
) -> Result<(), PartError> {
    let lines = generation.lines.read();
    let mut streams: Vec<_> = lines.streams.iter().collect();
    streams.sort_by(|a, b| a.labels.cmp(&b.labels));
    let labels = streams.iter().map(|s| s.labels.clone()).collect();
    let mut writer = PartWriter::create(fs, path, labels)?;
    let mut write = || -> Result<(), PartError> {
        for (number, stream) in streams.iter().enumerate() {
            writer.start(number, stream.rows.len())?;
            let mut rows: Vec<_> = stream.rows.iter().collect();
            rows.sort_by_key(|r| (r.time_ns, r.ordinal));
            for row in rows {
                writer.add(Line {
                    time_ns: row.time_ns,
                    ordinal: row.ordinal,
                    text: lines.text(row),
                    metadata: lines.metadata(row),
                    document: None,
                })?;
            }
        }
        Ok(())
    };
    match write() {
        Ok(()) => writer.finish().map(|_| ()),
        Err(error) => {
            writer.abandon();
            Err(error)
        }
    }
}
