//! Keeping the store: flush, compaction, retention, and recovery from the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};

use kittiwake_journal::{FileMeta, JournalError, Manifest, Sequence};
use kittiwake_model::Columns;
use kittiwake_model::delivery::Deliveries;
use kittiwake_model::labels::METRIC_NAME;

use crate::block::{Block, BlockWriter};
use crate::compaction::{self, Input};
use crate::dictionary::{DictionaryBuilder, NAMELESS};
use crate::head::{Accepted, Generation, Pinned, Sample};
use crate::registry::{NONE, PairRef, Registry, SeriesRef};
use crate::store::{Frozen, MANIFEST, NONE_YET, Newest, OpenError, Placed, State, Store, Writer};
use crate::tiers::{Aggregate, Tier};
use crate::wal::{self, Replayed};
use kittiwake_model::TimeRange;

/// Series whose newest sample is older than this, and that have nothing in the head, leave
/// memory at a flush.
const IDLE_MS: i64 = 3_600_000;
/// A head that holds more time than has passed was filled from elsewhere. When nothing comes
/// for this long it is flushed, so that a load leaves neither memory nor log behind.
const QUIET_NS: u64 = 20_000_000_000;
/// Frames of the log that are decoded before they are applied.
const FRAMES_AHEAD: usize = 8;
/// Bytes of memory that each series of the head may take before a flush.
const SERIES_BYTES: usize = 192;

impl Store {
    /// Does what is due: a flush, compactions, removal of what is older than the retention.
    /// Failures are logged and tried again at the next call.
    pub fn maintain(&self) {
        if let Err(error) = self.set_damaged_aside() {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "metrics: a damaged block could not be set aside");
        }
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
        if let Err(error) = self.expire() {
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
        self.is_full_or_old() || self.is_backfilled(QUIET_NS)
    }

    /// Whether it would, or will as soon as nothing has come for a while.
    pub(crate) fn is_flush_wanted(&self) -> bool {
        self.is_full_or_old() || self.is_backfilled(0)
    }

    fn is_full_or_old(&self) -> bool {
        let writer = self.writer.lock();
        let state = self.state.read();
        if state.active.samples() == 0 {
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
        let head_bytes_max = self.options.flush_head_bytes + state.registry.bound() * SERIES_BYTES;
        age_ns >= self.options.flush_interval_ms.max(0) as u64 * 1_000_000
            || log_bytes >= self.options.flush_bytes
            || state.active.bytes() >= head_bytes_max
    }

    /// Whether the head holds more time than has passed, and nothing came for so long.
    fn is_backfilled(&self, quiet_ns: u64) -> bool {
        let writer = self.writer.lock();
        let now_ns = self.clock.monotonic_ns();
        let age_ns = now_ns.saturating_sub(writer.flushed_at_ns);
        let Some(range) = self.state.read().active.range() else {
            return false;
        };
        let held_ms = range.end.saturating_sub(range.start) as u64;
        held_ms / 2 > age_ns / 1_000_000 && now_ns.saturating_sub(writer.written_at_ns) >= quiet_ns
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
        if let Err(error) = self.checkpoint(&mut writer) {
            // What was introduced may not be in the log.
            writer.logged.clear();
            return Err(error.into());
        }
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
        let exemplars = self.exemplars.lock();
        let idle: Vec<SeriesRef> = state
            .registry
            .iter()
            .filter(|number| {
                writer.newest_of(*number).time_ms < before
                    && !state.active.has(*number)
                    && !state.frozen.iter().any(|f| f.generation.has(*number))
                    && !exemplars.has(*number)
            })
            .collect();
        for number in idle {
            state.registry.remove(number);
            if let Some(newest) = writer.newest.get_mut(number as usize) {
                *newest = NONE_YET;
            }
        }
    }

    /// Logs what is in no block.
    fn checkpoint(&self, writer: &mut Writer) -> Result<(), JournalError> {
        let state = self.state.read();
        writer.logged.clear();
        let frame = &mut writer.frame;
        frame.clear();
        let close = |frame: &mut wal::Frame, is_last: bool| -> Result<(), JournalError> {
            if frame.is_full() || (is_last && !frame.is_empty()) {
                self.journal.append(&frame.parts())?;
                frame.clear();
            }
            Ok(())
        };
        for (sender, mark, frames) in writer.deliveries.iter() {
            frame.delivery(sender, mark, frames);
            close(frame, false)?;
        }
        for (name, metadata) in self.metadata.lock().iter() {
            frame.metadata(name, metadata);
            close(frame, false)?;
        }
        for (series, exemplar) in self.exemplars.lock().iter() {
            writer.logged.introduce(frame, &state.registry, series);
            frame.exemplar(series, exemplar);
            close(frame, false)?;
        }
        close(frame, true)?;
        drop(state);
        self.journal.sync_all()
    }

    /// Writes frozen generations as blocks, oldest first, and lets go of their log.
    fn write_frozen(&self) -> Result<(), OpenError> {
        let mut manifest = self.manifest.lock();
        loop {
            let Some(frozen) = self.state.read().frozen.first().cloned() else {
                return Ok(());
            };
            let (dictionary, series) = self.ordered(&frozen);
            let mut meta = FileMeta {
                id: manifest.next_id,
                level: 0,
                rows: 0,
                start: 0,
                end: 0,
            };
            let path = MANIFEST.file(&self.dir, &meta);
            let mut writer = BlockWriter::create(&self.fs, &path, dictionary)?;
            let mut columns = Columns::default();
            for (name, set, number, pinned) in series {
                columns.clear();
                frozen
                    .generation
                    .read(number, pinned, TimeRange::ALL, &mut columns);
                if let Err(error) = writer.add(name, set, &columns) {
                    writer.abandon();
                    return Err(error.into());
                }
            }
            meta.rows = writer.samples();
            if let Some(range) = writer.range() {
                (meta.start, meta.end) = (range.start, range.end);
            }
            writer.finish()?;
            let block = Arc::new(Block::open(self.fs.as_ref(), &path, &self.cache)?);
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

    /// The labels of a generation's series, and the series in the order of a block.
    #[allow(clippy::type_complexity)]
    fn ordered(
        &self,
        frozen: &Frozen,
    ) -> (
        crate::dictionary::Dictionary,
        Vec<(u32, u32, SeriesRef, Pinned)>,
    ) {
        let all = frozen.generation.all();
        let mut builder = DictionaryBuilder::default();
        let (mut names, mut sets) = (HashMap::new(), HashMap::new());
        let mut series = Vec::with_capacity(all.len());
        {
            let state = self.state.read();
            let registry = &state.registry;
            for (number, pinned) in all {
                let (name, set) = registry.name_and_set(number);
                let name = match name {
                    NONE => NONE,
                    name => *names
                        .entry(name)
                        .or_insert_with(|| builder.text(registry.pair(name).1)),
                };
                let set = *sets
                    .entry(set)
                    .or_insert_with(|| builder.set(registry.set(set)));
                series.push((name, set, number, pinned));
            }
        }
        let done = builder.finish();
        for (name, set, ..) in &mut series {
            *name = match *name {
                NONE => NAMELESS,
                name => done.texts[name as usize],
            };
            *set = done.sets[*set as usize];
        }
        series.sort_unstable_by_key(|(name, set, ..)| (*name, *set));
        (done.dictionary, series)
    }

    /// Blocks to be merged. What they make spans a tenth of the time for which it is kept at
    /// most, so that little outlives it.
    pub(crate) fn candidates(&self, manifest: &Manifest) -> Option<std::ops::Range<usize>> {
        let span_max = |level| match self.kept_ms(Tier::of(level)) {
            None => i64::MAX,
            Some(kept_ms) => kept_ms / 10,
        };
        manifest.candidates_within(compaction::SAMPLES_MAX, span_max)
    }

    /// Merges neighbouring blocks of one level into one of the next. `false`: nothing to do.
    fn compact(&self) -> Result<bool, OpenError> {
        let mut manifest = self.manifest.lock();
        let Some(range) = self.candidates(&manifest) else {
            return Ok(false);
        };
        self.merge(&mut manifest, range)?;
        Ok(true)
    }

    /// Replaces neighbouring blocks by one that has what is not deleted of them.
    pub(crate) fn merge(
        &self,
        manifest: &mut Manifest,
        range: std::ops::Range<usize>,
    ) -> Result<(), OpenError> {
        let files = &manifest.files[range];
        let inputs: Vec<u64> = files.iter().map(|f| f.id).collect();
        let level = files.iter().map(|f| f.level).max().unwrap_or(0);
        let level = level + u32::from(inputs.len() > 1);
        self.replace(manifest, &inputs, &[(level, None)])
    }

    /// Replaces a block by those that a tier keeps of it.
    pub(crate) fn downsample(
        &self,
        manifest: &mut Manifest,
        of: FileMeta,
        step: usize,
    ) -> Result<(), OpenError> {
        let aggregates = match Tier::of(of.level) {
            Some(tier) => vec![tier.aggregate],
            None => Aggregate::ALL.to_vec(),
        };
        let outputs: Vec<(u32, Option<Tier>)> = aggregates
            .into_iter()
            .map(|aggregate| Tier { step, aggregate })
            .map(|tier| (tier.level(), Some(tier)))
            .collect();
        self.replace(manifest, &[of.id], &outputs)
    }

    /// Writes blocks of given levels, each of all of the inputs, and puts them in their place in
    /// one step.
    fn replace(
        &self,
        manifest: &mut Manifest,
        inputs: &[u64],
        outputs: &[(u32, Option<Tier>)],
    ) -> Result<(), OpenError> {
        let (inputs, tombstones): (Vec<Placed>, _) = {
            let state = self.state.read();
            let of = |id: &u64| state.blocks.iter().find(|b| b.meta.id == *id).cloned();
            let inputs = inputs.iter().filter_map(of);
            (inputs.collect(), Arc::clone(&state.tombstones))
        };
        let parts: Vec<Input> = inputs
            .iter()
            .map(|placed| Input {
                block: Arc::clone(&placed.block),
                tier: Tier::of(placed.meta.level),
                tombstones: tombstones
                    .iter()
                    .filter(|t| t.concerns(placed.meta.id, placed.meta.start, placed.meta.end))
                    .cloned()
                    .collect(),
            })
            .collect();
        let mut next = manifest.clone();
        let is_input = |id: u64| inputs.iter().any(|i| i.meta.id == id);
        let first = next.files.iter().position(|f| is_input(f.id)).unwrap_or(0);
        next.files.retain(|f| !is_input(f.id));
        let (mut placed, mut empty) = (Vec::new(), Vec::new());
        for (level, tier) in outputs {
            let mut meta = FileMeta {
                id: next.next_id,
                level: *level,
                rows: 0,
                start: 0,
                end: 0,
            };
            next.next_id += 1;
            let path = MANIFEST.file(&self.dir, &meta);
            let merged = match compaction::merge(&self.fs, &path, &parts, *tier) {
                Ok(merged) => merged,
                Err(error) => {
                    self.find_damaged(&inputs);
                    return Err(error.into());
                }
            };
            let Some(times) = merged.range else {
                // All of it was deleted.
                empty.push(path);
                continue;
            };
            (meta.rows, meta.start, meta.end) = (merged.samples, times.start, times.end);
            // Blocks of one tier stand together, so that they are merged.
            let is_of_tier = |f: &FileMeta| Tier::of(f.level) == *tier;
            let is_of_any = |f: &FileMeta| Tier::of(f.level).is_some();
            let behind = |at: Option<usize>| at.map(|at| at + 1);
            let at = match tier {
                None => first,
                Some(_) => behind(next.files.iter().rposition(is_of_tier))
                    .or_else(|| behind(next.files.iter().rposition(is_of_any)))
                    .unwrap_or(0),
            };
            next.files.insert(at, meta);
            let block = Arc::new(Block::open(self.fs.as_ref(), &path, &self.cache)?);
            placed.push(Placed { meta, block });
        }
        next.write(self.fs.as_ref(), &self.dir)?;
        {
            let mut state = self.state.write();
            let mut blocks = std::mem::take(&mut state.blocks);
            blocks.extend(placed);
            let of = |meta: &FileMeta| blocks.iter().find(|b| b.meta.id == meta.id).cloned();
            state.blocks = next.files.iter().filter_map(of).collect();
        }
        *manifest = next;
        for path in empty {
            self.fs.remove(&path)?;
        }
        for input in &inputs {
            self.fs.remove(&MANIFEST.file(&self.dir, &input.meta))?;
        }
        Ok(())
    }

    /// Remembers which of some blocks cannot be read whole.
    fn find_damaged(&self, inputs: &[Placed]) {
        for placed in inputs {
            let is_damage = |e: &crate::block::BlockError| e.is_damage();
            if placed.block.verify().as_ref().is_err_and(is_damage) {
                self.damaged.lock().insert(placed.meta.id);
            }
        }
    }

    /// Takes blocks that readers found damaged out of the store; their files stay.
    fn set_damaged_aside(&self) -> Result<(), OpenError> {
        let damaged = std::mem::take(&mut *self.damaged.lock());
        if damaged.is_empty() {
            return Ok(());
        }
        let mut manifest = self.manifest.lock();
        for id in damaged {
            let Some(meta) = manifest.files.iter().find(|f| f.id == id).copied() else {
                continue;
            };
            let mut next = manifest.clone();
            next.set_aside(self.fs.as_ref(), &self.dir, id)?;
            *manifest = next;
            self.state.write().blocks.retain(|b| b.meta.id != id);
            self.counters.set_aside.fetch_add(1, Ordering::Relaxed);
            self.compaction_failed.store(false, Ordering::Relaxed);
            tracing::error!(block = %MANIFEST.file(&self.dir, &meta).display(), "damaged block of metrics set aside");
        }
        Ok(())
    }

    /// Reads the log from where blocks do not have it. One thread reads and decodes, this one
    /// makes series known, a third appends samples: nothing can be answered before all is done.
    pub(crate) fn replay(&self) -> Result<(), OpenError> {
        let from = self.manifest.lock().flushed;
        let mut writer = self.writer.lock();
        let mut state = self.state.write();
        let mut known = Known::default();
        let active = Arc::clone(&state.active);
        let Writer {
            newest, deliveries, ..
        } = &mut *writer;
        std::thread::scope(|scope| {
            let (sender, frames) = sync_channel(FRAMES_AHEAD);
            scope.spawn(move || self.decode_log(from, &sender));
            let (appender, samples) = sync_channel::<Samples>(FRAMES_AHEAD);
            scope.spawn(move || {
                for samples in samples {
                    samples.append(newest, &active);
                }
            });
            for frame in frames {
                let mut frame = frame?;
                let samples = self.apply(&mut state, &mut known, &mut frame);
                restore_deliveries(deliveries, frame);
                // It ends with the channel, not before.
                let _ = appender.send(samples);
            }
            Ok::<(), OpenError>(())
        })?;
        for pair in known.pairs.held {
            if pair != NONE {
                state.registry.let_go(pair);
            }
        }
        state.registry.end_restore();
        learn_replayed(&mut writer, &state);
        Ok(())
    }

    fn decode_log(&self, from: Sequence, decoded: &SyncSender<Result<Replayed, OpenError>>) {
        let end = self.journal.next_seq();
        for frame in self.journal.read_from(from) {
            let (sequence, bytes) = match frame {
                Ok(frame) => frame,
                Err(error @ JournalError::Damaged { .. }) => {
                    self.counters.set_aside.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "metrics log");
                    continue;
                }
                Err(error) => {
                    // Who waits for frames ends with this one.
                    let _ = decoded.send(Err(error.into()));
                    return;
                }
            };
            match wal::decode(&bytes) {
                Ok(frame) => {
                    if decoded.send(Ok(frame)).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    self.counters.set_aside.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(sequence, %error, "frame of the metrics log passed over");
                }
            }
            if sequence + 1 >= end {
                return;
            }
        }
    }

    /// Makes known what a frame introduces, and gives its samples.
    fn apply(&self, state: &mut State, known: &mut Known, replayed: &mut Replayed) -> Samples {
        let registry = &mut state.registry;
        for (number, name, value) in replayed.pairs.drain(..) {
            let held = registry.hold(&name, &value);
            if let Some(before) = known.pairs.put(number, held) {
                registry.let_go(before);
            }
        }
        let (mut of_set, mut start) = (Vec::new(), 0);
        for (number, end) in replayed.sets.drain(..) {
            let named = &replayed.set_pairs[start..end];
            start = end;
            of_set.clear();
            of_set.extend(named.iter().filter_map(|p| known.pairs.get(*p)));
            // After damage a pair can be unknown, and then the set is.
            let is_whole = of_set.len() == named.len();
            let set = is_whole.then(|| registry.hold_set(&of_set)).flatten();
            known.sets.put(number, set.unwrap_or(NONE));
        }
        let mut others = Vec::new();
        for (number, name, set) in replayed.members.drain(..) {
            let held = name.map(|n| known.pairs.get(n));
            let is_known = held != Some(None);
            let set = known.sets.get(set).filter(|_| is_known);
            let series = set.map(|set| (held.flatten(), set));
            restore(registry, &mut others, number, series);
        }
        start = 0;
        for (number, end) in replayed.series.drain(..) {
            let named = &replayed.series_pairs[start..end];
            start = end;
            let mut name = None;
            of_set.clear();
            for held in named.iter().filter_map(|p| known.pairs.get(*p)) {
                if registry.pair(held).0 == METRIC_NAME {
                    name = Some(held);
                } else {
                    of_set.push(held);
                }
            }
            let is_whole = of_set.len() + usize::from(name.is_some()) == named.len();
            let set = is_whole.then(|| registry.hold_set(&of_set)).flatten();
            restore(registry, &mut others, number, set.map(|set| (name, set)));
        }
        let mut accepted = std::mem::take(&mut replayed.samples);
        accepted.retain(|s| registry.hash(s.series).is_some());
        let mut exemplars = self.exemplars.lock();
        for (series, exemplar) in replayed.exemplars.drain(..) {
            if registry.hash(series).is_some() && !exemplars.is_repeat(series, &exemplar) {
                exemplars.push(series, exemplar, self.options.exemplars_max);
            }
        }
        let mut metadata = self.metadata.lock();
        for (name, of_name) in replayed.metadata.drain(..) {
            metadata.put(name, of_name);
        }
        Samples {
            others,
            accepted,
            columns: std::mem::take(&mut replayed.columns),
        }
    }
}

fn restore_deliveries(deliveries: &mut Deliveries, replayed: Replayed) {
    for (sender, mark, frames) in replayed.deliveries {
        deliveries.restore(sender, mark, frames);
    }
    if let Some(origin) = replayed.origin {
        deliveries.stored(&origin.sender, origin.frame, origin.first);
    }
}

/// The samples of a frame that is replayed.
struct Samples {
    /// Numbers that other series had before this frame.
    others: Vec<SeriesRef>,
    accepted: Vec<Accepted>,
    columns: Columns,
}

impl Samples {
    fn append(&self, newest: &mut Vec<Newest>, active: &Generation) {
        for number in &self.others {
            if let Some(newest) = newest.get_mut(*number as usize) {
                *newest = NONE_YET;
            }
        }
        for one in &self.accepted {
            let sample = Sample::of(&self.columns, one.at as usize);
            let index = one.series as usize;
            if newest.len() <= index {
                newest.resize(index + 1, NONE_YET);
            }
            if sample.time_ms > newest[index].time_ms {
                newest[index] = Newest {
                    time_ms: sample.time_ms,
                    bits: sample.bits(),
                };
            }
        }
        active.append(&self.accepted, &self.columns);
    }
}

/// Makes a series known by its metric name and set; without a set it is not known. A number
/// that had another series before is added to `others`.
fn restore(
    registry: &mut Registry,
    others: &mut Vec<SeriesRef>,
    number: SeriesRef,
    series: Option<(Option<PairRef>, u32)>,
) {
    let before = registry.hash(number);
    if !series.is_some_and(|(name, set)| registry.restore(number, name, set)) {
        registry.remove(number);
    }
    if before.is_some() && before != registry.hash(number) {
        others.push(number);
    }
}

/// What the log has introduced so far.
#[derive(Debug, Default)]
struct Known {
    pairs: Numbers,
    sets: Numbers,
}

/// The log's numbers of pairs or sets, as the registry numbers them now.
#[derive(Debug, Default)]
struct Numbers {
    held: Vec<u32>,
}

impl Numbers {
    fn get(&self, number: u32) -> Option<u32> {
        let held = self.held.get(number as usize).copied();
        held.filter(|p| *p != NONE)
    }

    /// Gives the one that had the number before.
    fn put(&mut self, number: u32, held: u32) -> Option<u32> {
        let before = self.get(number);
        let index = number as usize;
        if self.held.len() <= index {
            self.held.resize(index + 1, NONE);
        }
        self.held[index] = held;
        before
    }
}

/// Looks up the newest samples of replayed series in blocks, where these can have newer
/// ones than the log.
fn learn_replayed(writer: &mut Writer, state: &State) {
    let Some(end) = state.blocks.iter().map(|b| b.meta.end).max() else {
        return;
    };
    let numbers: Vec<SeriesRef> = state.registry.iter().collect();
    for number in numbers {
        let mut newest = writer.newest_of(number);
        if newest.time_ms > end {
            continue;
        }
        let Some(labels) = state.registry.labels(number) else {
            continue;
        };
        for placed in &state.blocks {
            if placed.meta.end > newest.time_ms
                && let Ok(Some((time_ms, bits))) = placed.block.last_sample(&labels)
                && time_ms > newest.time_ms
            {
                newest = Newest { time_ms, bits };
            }
        }
        writer.set_newest(number, newest);
    }
}
