//! Keeping the store: flush, compaction, retention, and recovery from the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kittiwake_journal::{FileMeta, JournalError};
use kittiwake_model::Labels;

use crate::block::{Block, BlockWriter, SeriesSamples, order};
use crate::compaction;
use crate::registry::SeriesRef;
use crate::store::{Frozen, MANIFEST, NONE_YET, Newest, OpenError, Placed, Store, Writer};
use crate::wal::{self, Replayed};

/// Series whose newest sample is older than this, and that have nothing in the head, leave
/// memory at a flush.
const IDLE_MS: i64 = 3_600_000;

impl Store {
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

    /// Moves all samples of the head into a block.
    pub fn flush(&self) -> Result<(), OpenError> {
        self.freeze()?;
        self.write_frozen()
    }

    /// Whether [`Store::maintain`] would flush.
    pub(crate) fn is_flush_due(&self) -> bool {
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
            let meta = FileMeta {
                id: manifest.next_id,
                level: 0,
                rows: frozen.generation.samples(),
                start: frozen.generation.range().map_or(0, |r| r.start),
                end: frozen.generation.range().map_or(0, |r| r.end),
            };
            let path = MANIFEST.file(&self.dir, &meta);
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
            next.files.push(meta);
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
        let Some(range) = manifest.candidates(compaction::SAMPLES_MAX) else {
            return Ok(false);
        };
        let inputs: Vec<Placed> = {
            let state = self.state.read();
            let of = |meta: &FileMeta| state.blocks.iter().find(|b| b.meta.id == meta.id).cloned();
            manifest.files[range.clone()]
                .iter()
                .filter_map(of)
                .collect()
        };
        let mut meta = FileMeta {
            id: manifest.next_id,
            level: inputs.iter().map(|b| b.meta.level).max().unwrap_or(0) + 1,
            rows: 0,
            start: inputs.iter().map(|b| b.meta.start).min().unwrap_or(0),
            end: inputs.iter().map(|b| b.meta.end).max().unwrap_or(0),
        };
        let path = MANIFEST.file(&self.dir, &meta);
        let blocks: Vec<Arc<Block>> = inputs.iter().map(|b| Arc::clone(&b.block)).collect();
        meta.rows = compaction::merge(&self.fs, &path, &blocks)?;
        let block = Arc::new(Block::open(self.fs.as_ref(), &path)?);
        let mut next = manifest.clone();
        next.next_id += 1;
        next.files.splice(range, [meta]);
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
            self.fs.remove(&MANIFEST.file(&self.dir, &input.meta))?;
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
        let (kept, expired): (Vec<FileMeta>, Vec<FileMeta>) =
            manifest.files.iter().partition(|b| b.end >= before);
        if expired.is_empty() {
            return Ok(());
        }
        let mut next = manifest.clone();
        next.files = kept;
        next.write(self.fs.as_ref(), &self.dir)?;
        *manifest = next;
        self.state.write().blocks.retain(|b| b.meta.end >= before);
        for meta in expired {
            self.fs.remove(&MANIFEST.file(&self.dir, &meta))?;
        }
        Ok(())
    }

    pub(crate) fn replay(&self) -> Result<(), OpenError> {
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
