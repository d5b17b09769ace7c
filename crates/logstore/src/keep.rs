//! Keeping the store: flush, compaction, retention, and recovery from the log.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kittiwake_env::Fs;
use kittiwake_journal::{FileMeta, JournalError, Manifest};
use kittiwake_model::{SeriesHasher, TimeRange};

use crate::compaction;
use crate::deletions::Deletion;
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
            match self
                .remove_deleted()
                .and_then(|more| Ok(more | self.compact()?))
            {
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
        let level = manifest.files[range.clone()].iter().map(|f| f.level).max();
        self.rewrite(&mut manifest, range, level.unwrap_or(0) + 1, &[])?;
        Ok(true)
    }

    /// Writes parts that follow each other anew as one, without what was deleted, nor what the
    /// other deletions given hide.
    fn rewrite(
        &self,
        manifest: &mut Manifest,
        range: Range<usize>,
        level: u32,
        more: &[Arc<Deletion>],
    ) -> Result<(), OpenError> {
        let (inputs, deletions): (Vec<Placed>, Vec<Arc<Deletion>>) = {
            let state = self.state.read();
            let of = |meta: &FileMeta| state.parts.iter().find(|p| p.meta.id == meta.id).cloned();
            let inputs = manifest.files[range.clone()].iter().filter_map(of);
            let deletions = state.deletions.iter().filter(|d| !d.is_done).chain(more);
            (inputs.collect(), deletions.cloned().collect())
        };
        let mut meta = FileMeta {
            id: manifest.next_id,
            level,
            rows: 0,
            start: inputs.iter().map(|p| p.meta.start).min().unwrap_or(0),
            end: inputs.iter().map(|p| p.meta.end).max().unwrap_or(0),
        };
        let path = MANIFEST.file(&self.dir, &meta);
        let with_deletions = |p: &Placed| {
            let of = deletions.iter().filter(|d| d.concerns(&p.meta, &p.part));
            (Arc::clone(&p.part), of.cloned().collect())
        };
        let merged: Vec<_> = inputs.iter().map(with_deletions).collect();
        meta.rows = compaction::merge(&self.fs, &path, &merged)?;
        let placed = match meta.rows {
            0 => None,
            _ => Some(Placed {
                meta,
                part: Arc::new(self.open_part(&path)?),
            }),
        };
        let mut next = manifest.clone();
        next.next_id += 1;
        next.files.splice(range, placed.iter().map(|p| p.meta));
        self.replace(manifest, next, placed)
    }

    /// Puts a manifest and perhaps a part in place, and removes the files that are no more.
    fn replace(
        &self,
        manifest: &mut Manifest,
        next: Manifest,
        placed: Option<Placed>,
    ) -> Result<(), OpenError> {
        next.write(self.fs.as_ref(), &self.dir)?;
        let before = std::mem::replace(manifest, next);
        let is_there = |meta: &FileMeta| manifest.files.iter().any(|f| f.id == meta.id);
        {
            let mut state = self.state.write();
            state.parts.retain(|p| is_there(&p.meta));
            state.parts.extend(placed);
        }
        for gone in before.files.iter().filter(|f| !is_there(f)) {
            self.fs.remove(&MANIFEST.file(&self.dir, gone))?;
        }
        Ok(())
    }

    /// Removes parts that hold only lines older than the retention, and the oldest while there
    /// are more bytes than are to be kept.
    fn remove_expired(&self) -> Result<(), OpenError> {
        let mut manifest = self.manifest.lock();
        let before = match self.options.retention_ns {
            0 => i64::MIN,
            retention => self.clock.now_ns().saturating_sub(retention),
        };
        let sizes: HashMap<u64, u64> = {
            let state = self.state.read();
            let sizes = state.parts.iter().map(|p| (p.meta.id, p.part.size_bytes()));
            sizes.collect()
        };
        let mut next = manifest.clone();
        next.files.retain(|f| f.end >= before);
        let size = |f: &FileMeta| sizes.get(&f.id).copied().unwrap_or(0);
        let mut bytes: u64 = next.files.iter().map(size).sum();
        while self.options.retention_bytes > 0 && bytes > self.options.retention_bytes {
            let oldest = next.files.iter().enumerate().min_by_key(|(_, f)| f.end);
            let Some((place, _)) = oldest else { break };
            bytes -= size(&next.files.remove(place));
        }
        if next.files.len() == manifest.files.len() {
            return Ok(());
        }
        self.replace(&mut manifest, next, None)
    }

    /// Writes one part anew that has lines which were deleted, or streams whose own retention
    /// is over. False when there is none.
    fn remove_deleted(&self) -> Result<bool, OpenError> {
        let mut manifest = self.manifest.lock();
        let mut deletions = self.deletions();
        let now_ns = self.clock.now_ns();
        let expired = self.options.retention_of.iter().map(|(selector, ns)| {
            Arc::new(Deletion {
                id: String::new(),
                query: String::new(),
                selector: selector.clone(),
                filters: Vec::new(),
                range: TimeRange::new(i64::MIN, now_ns.saturating_sub(*ns)),
                created_ns: now_ns,
                is_done: false,
                before_part: u64::MAX,
            })
        });
        let expired: Vec<Arc<Deletion>> = expired.collect();
        let work = {
            let state = self.state.read();
            let is_due = |p: &Placed| {
                let mut waiting = deletions.iter().filter(|d| !d.is_done);
                waiting.any(|d| d.concerns(&p.meta, &p.part))
                    || expired.iter().any(|d| d.covers_stream(&p.part))
            };
            state.parts.iter().find(|p| is_due(p)).map(|p| p.meta)
        };
        if let Some(meta) = work {
            let place = manifest.files.iter().position(|f| f.id == meta.id);
            let Some(place) = place else {
                return Ok(false);
            };
            self.rewrite(&mut manifest, place..place + 1, meta.level, &expired)?;
            return Ok(true);
        }
        if deletions.iter().any(|d| !d.is_done) {
            for deletion in &mut deletions {
                Arc::make_mut(deletion).is_done = true;
            }
            self.keep_deletions(deletions)?;
        }
        Ok(false)
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
