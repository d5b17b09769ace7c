//! Reading: a select pins what is there, its cursor reads one series after the other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use hashbrown::HashTable;
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{
    Columns, Exemplar, Labels, Matcher, Metadata, MetricsStore, QueryContext, Select, SeriesCursor,
    StoreError, TimeRange,
};
use parking_lot::Mutex;

use crate::block::{Block, BlockCache, BlockError, Index, Scratch, Series, Wanted};
use crate::head::{Generation, Pinned, Sample, append_range};
use crate::registry::{NONE, SeriesRef};
use crate::store::{State, Store};
use crate::tiers::{Tier, TierView};
use crate::tombstones::Tombstone;

/// Where a part of a series lies.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// Index of the pinned block, and the series in it.
    Block(u32, Series),
    /// Index of the pinned generation, the series' number and how much of it is seen.
    Head(u32, SeriesRef, Pinned),
}

/// Most series have one or two parts.
#[derive(Debug)]
struct Parts {
    first: Part,
    more: Vec<Part>,
}

/// A block that a query reads, with what was deleted from it.
#[derive(Debug)]
struct PinnedBlock {
    id: u64,
    block: Arc<Block>,
    tier: Option<Tier>,
    end_ms: i64,
    tombstones: Vec<Tombstone>,
    /// Held while the query runs: it may be too large for the cache.
    index: Option<Arc<Index>>,
}

impl PinnedBlock {
    /// Whether all samples of a series were deleted.
    fn hides(&self, index: &Index, series: Series) -> bool {
        if self.tombstones.is_empty() {
            return false;
        }
        let (labels, own) = (index.labels(series), index.range(series));
        self.tombstones
            .iter()
            .any(|t| t.range.start <= own.start && own.end <= t.range.end && t.matches(&labels))
    }
}

/// What a query reads from.
struct Pins {
    blocks: Vec<PinnedBlock>,
    generations: Vec<Arc<Generation>>,
    wanted: Wanted,
    /// How tiers are seen, where a block of one is among the blocks.
    tiers: Option<TierView>,
    context: QueryContext,
    cache: Arc<BlockCache>,
    damaged: Arc<Mutex<BTreeSet<u64>>>,
}

struct Cursor {
    pins: Arc<Pins>,
    rest: std::vec::IntoIter<(Labels, Parts)>,
    current: Option<(Labels, Parts)>,
    scratch: Scratch,
}

/// Below so many samples it is not worth it to read on several threads. Those that share pages
/// with them count little: often they are decoded already.
const SPLIT_SAMPLES: usize = 128 << 10;
/// Series that stay together when they are shared out: neighbours have pages in one group.
const SPLIT_SERIES: usize = 32;

impl Store {
    /// Pins the blocks that are wanted and can have samples in the range, and all generations.
    fn pin(
        state: &State,
        range: TimeRange,
        tiers: &TierView,
    ) -> (Vec<PinnedBlock>, Vec<Arc<Generation>>) {
        let mut blocks = Vec::new();
        for placed in &state.blocks {
            let meta = &placed.meta;
            let tier = Tier::of(meta.level);
            let of_block = TierView::range(tier, range);
            let is_wanted = tiers.takes(tier) && of_block.overlaps(meta.start, meta.end);
            if !range.is_empty() && is_wanted {
                let concerns = |t: &&Tombstone| t.concerns(meta.id, meta.start, meta.end);
                blocks.push(PinnedBlock {
                    id: meta.id,
                    block: Arc::clone(&placed.block),
                    tier,
                    end_ms: meta.end,
                    tombstones: state.tombstones.iter().filter(concerns).cloned().collect(),
                    index: None,
                });
            }
        }
        let frozen = state.frozen.iter().map(|f| Arc::clone(&f.generation));
        let generations = frozen.chain([Arc::clone(&state.active)]).collect();
        (blocks, generations)
    }

    /// The series of one head that match, with what a query sees of them.
    fn select_head(
        state: &State,
        generations: &[Arc<Generation>],
        matchers: &[Matcher],
        range: TimeRange,
        mut found: impl FnMut(SeriesRef, Part),
    ) {
        if range.is_empty() {
            return;
        }
        let matching = state.registry.select(matchers);
        for (at, generation) in generations.iter().enumerate() {
            generation.pin(&matching, range, |number, pinned| {
                found(number, Part::Head(at as u32, number, pinned));
            });
        }
    }

    /// Calls back with the pairs of names and values that series have which match any of the
    /// selectors; each pair at least once, those of the series of one target not for each.
    fn each_pair(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        context: &QueryContext,
        mut found: impl FnMut(&str, &str),
    ) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        let all = [Vec::new()];
        let selectors = if selectors.is_empty() {
            &all
        } else {
            selectors
        };
        let mut touched = 0;
        let tiers = TierView::by(None);
        let blocks = {
            let state = self.state.read();
            let registry = &state.registry;
            let (blocks, generations) = Self::pin(&state, range, &tiers);
            let (mut sets, mut names) = (HashSet::new(), HashSet::new());
            for matchers in selectors {
                let matching = registry.select(matchers);
                for generation in &generations {
                    context.check()?;
                    generation.pin(&matching, range, |number, _| {
                        touched += 1;
                        let (name, set) = registry.name_and_set(number);
                        if name != NONE && names.insert(name) {
                            found(METRIC_NAME, registry.pair(name).1);
                        }
                        if sets.insert(set) {
                            registry.set(set).for_each(|(n, v)| found(n, v));
                        }
                    });
                }
            }
            blocks
        };
        for pinned in blocks {
            let index = pinned.block.index();
            let index = index.map_err(|e| self.failed(pinned.id, &e))?;
            for matchers in selectors {
                context.check()?;
                let mut series = index.select(matchers, range);
                series.retain(|s| !pinned.hides(&index, *s));
                touched += series.len() as u64;
                let dictionary = &index.dictionary;
                // One closure for both would have to borrow `found` twice.
                let (mut sets, mut names) = (Vec::new(), Vec::new());
                index.distinct(&series, |set| sets.push(set), |name| names.push(name));
                for name in names {
                    found(METRIC_NAME, dictionary.text(name));
                }
                for set in sets {
                    dictionary.set(set).for_each(|(n, v)| found(n, v));
                }
            }
        }
        context.count_series(touched)
    }

    /// The error of a query that met this one; a damaged block is set aside soon.
    fn failed(&self, block: u64, error: &BlockError) -> StoreError {
        failed(&self.damaged, block, error)
    }
}

fn failed(damaged: &Mutex<BTreeSet<u64>>, block: u64, error: &BlockError) -> StoreError {
    if error.is_damage() {
        damaged.lock().insert(block);
    }
    StoreError::Failed(error.to_string())
}

impl MetricsStore for Store {
    fn select(
        &self,
        select: &Select,
        context: &QueryContext,
    ) -> Result<Box<dyn SeriesCursor>, StoreError> {
        context.check()?;
        let range = select.range;
        let tiers = TierView::by(select.hint.function.as_deref());
        // The head is looked through under the lock that pins the blocks: what moves from one
        // to the other is seen once.
        let mut of_head: Vec<(u128, Labels, Part)> = Vec::new();
        let (mut blocks, generations) = {
            let state = self.state.read();
            let registry = &state.registry;
            let (blocks, generations) = Self::pin(&state, range, &tiers);
            let found = |number, part| {
                if let Some(labels) = registry.labels(number) {
                    of_head.push((registry.label_hash(number), labels, part));
                }
            };
            Self::select_head(&state, &generations, &select.matchers, range, found);
            (blocks, generations)
        };
        // Blocks first, in the order in which they were written: of equal times the first
        // written counts.
        let mut found = Found::default();
        let is_single =
            blocks.len() + usize::from(!of_head.is_empty()) <= 1 && generations.len() == 1;
        for (at, pinned) in blocks.iter_mut().enumerate() {
            let index = pinned.block.index();
            let index = index.map_err(|e| self.failed(pinned.id, &e))?;
            let of_block = TierView::range(pinned.tier, range);
            for series in index.select(&select.matchers, of_block) {
                let hash = (!is_single).then(|| index.label_hash(series));
                let part = Part::Block(at as u32, series);
                found.add(hash, part, || index.labels(series));
                found.check(context)?;
            }
            pinned.index = Some(index);
            context.check()?;
        }
        for (hash, labels, part) in of_head {
            found.add((!is_single).then_some(hash), part, || labels);
            found.check(context)?;
        }
        let mut found = found.series;
        if select.limit > 0 && found.len() > select.limit {
            found.sort_by(|a, b| a.0.cmp(&b.0));
            found.truncate(select.limit);
        }
        context.count_series(found.len() as u64)?;
        let wanted = Wanted {
            range,
            only_presence: select.hint.only_presence,
        };
        let has_tier = blocks.iter().any(|b| b.tier.is_some());
        let pins = Arc::new(Pins {
            tiers: has_tier.then_some(tiers),
            blocks,
            generations,
            wanted,
            context: context.clone(),
            cache: Arc::clone(&self.cache),
            damaged: Arc::clone(&self.damaged),
        });
        Ok(Box::new(Cursor::new(pins, found)))
    }

    fn series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
        context: &QueryContext,
    ) -> Result<Vec<Labels>, StoreError> {
        let mut found: BTreeSet<Labels> = BTreeSet::new();
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let all = [Vec::new()];
        let selectors = if selectors.is_empty() {
            &all
        } else {
            selectors
        };
        let tiers = TierView::by(None);
        let blocks = {
            let state = self.state.read();
            let (blocks, generations) = Self::pin(&state, range, &tiers);
            for matchers in selectors {
                Self::select_head(&state, &generations, matchers, range, |number, _| {
                    found.extend(state.registry.labels(number));
                });
                context.check()?;
            }
            blocks
        };
        for pinned in blocks {
            let index = pinned.block.index();
            let index = index.map_err(|e| self.failed(pinned.id, &e))?;
            for matchers in selectors {
                context.check()?;
                for series in index.select(matchers, range) {
                    if !pinned.hides(&index, series) {
                        found.insert(index.labels(series));
                    }
                }
            }
        }
        context.count_series(found.len() as u64)?;
        let limit = if limit == 0 { usize::MAX } else { limit };
        Ok(found.into_iter().take(limit).collect())
    }

    fn label_names(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        context: &QueryContext,
    ) -> Result<Vec<String>, StoreError> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        self.each_pair(selectors, range, context, |name, _| {
            if !found.contains(name) {
                found.insert(name.to_owned());
            }
        })?;
        Ok(found.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        context: &QueryContext,
    ) -> Result<Vec<String>, StoreError> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        self.each_pair(selectors, range, context, |of, value| {
            if of == name && !found.contains(value) {
                found.insert(value.to_owned());
            }
        })?;
        Ok(found.into_iter().collect())
    }

    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        context: &QueryContext,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        context.check()?;
        let state = self.state.read();
        let exemplars = self.exemplars.lock();
        let mut by_series: HashMap<SeriesRef, Vec<Exemplar>> = HashMap::new();
        for (series, exemplar) in exemplars.iter() {
            if range.contains(exemplar.time_ms) {
                by_series.entry(series).or_default().push(exemplar.clone());
            }
        }
        drop(exemplars);
        let mut found = BTreeMap::new();
        for matchers in selectors {
            for series in state.registry.select(matchers) {
                if let Some(mut of_series) = by_series.remove(&series)
                    && let Some(labels) = state.registry.labels(series)
                {
                    of_series.sort_by_key(|e| e.time_ms);
                    found.insert(labels, of_series);
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    fn metadata(
        &self,
        name: Option<&str>,
        context: &QueryContext,
    ) -> Result<Vec<(String, Vec<Metadata>)>, StoreError> {
        context.check()?;
        Ok(self.metadata.lock().get(name))
    }
}

/// Series by their labels, each with its parts in the order in which they were added.
#[derive(Debug, Default)]
struct Found {
    series: Vec<(Labels, Parts)>,
    /// By hash of the labels.
    places: HashTable<(u128, usize)>,
}

impl Found {
    /// Fails before far more series are held than a query may touch.
    fn check(&self, context: &QueryContext) -> Result<(), StoreError> {
        let len = self.series.len() as u64;
        if context.series_max > 0 && len > context.series_max {
            return context.count_series(len);
        }
        Ok(())
    }

    /// Adds a part. Without a hash it is the only one of its series.
    fn add(&mut self, hash: Option<u128>, part: Part, labels: impl FnOnce() -> Labels) {
        if let Some(hash) = hash {
            let place = self.places.find(hash as u64, |(h, _)| *h == hash);
            if let Some((_, place)) = place {
                self.series[*place].1.more.push(part);
                return;
            }
            let place = (hash, self.series.len());
            self.places
                .insert_unique(hash as u64, place, |(h, _)| *h as u64);
        }
        let parts = Parts {
            first: part,
            more: Vec::new(),
        };
        self.series.push((labels(), parts));
    }
}

impl Cursor {
    fn new(pins: Arc<Pins>, series: Vec<(Labels, Parts)>) -> Self {
        Self {
            scratch: Scratch::caching(&pins.cache),
            pins,
            rest: series.into_iter(),
            current: None,
        }
    }

    /// Reads a series of which some parts may be thinned out.
    fn read_tiers(
        &mut self,
        labels: &Labels,
        parts: &Parts,
        tiers: &TierView,
        into: &mut Columns,
    ) -> Result<(), StoreError> {
        let mut thinned = Vec::new();
        for part in std::iter::once(&parts.first).chain(&parts.more) {
            let mut columns = Columns::default();
            self.read(labels, *part, &mut columns)?;
            let of = match part {
                Part::Block(at, _) => {
                    let pinned = &self.pins.blocks[*at as usize];
                    pinned.tier.map(|tier| (tier, pinned.end_ms))
                }
                Part::Head(..) => None,
            };
            tiers.part(of, &mut columns);
            thinned.append(&mut columns.thinned);
            append_merged(into, columns);
        }
        into.thinned = thinned;
        tiers.whole(into);
        Ok(())
    }

    /// Appends a part, all of which is newer than what is there.
    fn read(&mut self, labels: &Labels, part: Part, into: &mut Columns) -> Result<(), StoreError> {
        let pins = &self.pins;
        let before = into.len();
        match part {
            Part::Block(at, series) => {
                let pinned = &pins.blocks[at as usize];
                let scratch = &mut self.scratch;
                let wanted = Wanted {
                    range: TierView::range(pinned.tier, pins.wanted.range),
                    ..pins.wanted
                };
                if let Some(index) = &pinned.index {
                    let read = pinned.block.read_with(index, series, wanted, scratch, into);
                    read.map_err(|e| failed(&pins.damaged, pinned.id, &e))?;
                }
                for tombstone in pinned.tombstones.iter().filter(|t| t.matches(labels)) {
                    tombstone.apply(into);
                }
            }
            Part::Head(at, number, pinned) => {
                let generation = &pins.generations[at as usize];
                generation.read(number, pinned, pins.wanted.range, into);
            }
        }
        let read = into.len().saturating_sub(before);
        pins.context.count_samples(read as u64)
    }

    /// Whether all of a part is newer than a time, and nothing was deleted from it.
    fn is_after(&self, part: Part, time_ms: i64) -> bool {
        let Part::Block(at, series) = part else {
            return false;
        };
        let pinned = &self.pins.blocks[at as usize];
        let index = pinned.index.as_ref();
        pinned.tombstones.is_empty() && index.is_some_and(|i| i.range(series).start > time_ms)
    }

    /// About the samples that are to be decoded of a series.
    fn samples(&self, parts: &Parts) -> usize {
        let all = [parts.first].into_iter().chain(parts.more.iter().copied());
        let samples = all.map(|part| match part {
            Part::Head(_, _, pinned) => pinned.samples(),
            Part::Block(at, series) => {
                let index = self.pins.blocks[at as usize].index.as_ref();
                index.map_or(0, |i| i.samples_about(series, self.pins.wanted.range))
            }
        });
        samples.sum()
    }
}

impl SeriesCursor for Cursor {
    fn next_series(&mut self) -> Result<Option<Labels>, StoreError> {
        self.pins.context.check()?;
        self.current = self.rest.next();
        Ok(self.current.as_ref().map(|(labels, _)| labels.clone()))
    }

    fn next_batch(&mut self, into: &mut Columns) -> Result<bool, StoreError> {
        let Some((labels, parts)) = self.current.take() else {
            return Ok(false);
        };
        if !into.is_empty() {
            let mut columns = Columns::default();
            self.current = Some((labels, parts));
            self.next_batch(&mut columns)?;
            append_range(into, &columns, columns.len(), TimeRange::ALL);
            return Ok(true);
        }
        if let Some(tiers) = self.pins.tiers.clone() {
            self.read_tiers(&labels, &parts, &tiers, into)?;
            return Ok(true);
        }
        self.read(&labels, parts.first, into)?;
        for part in parts.more {
            if into
                .times
                .last()
                .is_none_or(|last| self.is_after(part, *last))
            {
                self.read(&labels, part, into)?;
                continue;
            }
            let mut columns = Columns::default();
            self.read(&labels, part, &mut columns)?;
            append_merged(into, columns);
        }
        Ok(true)
    }

    fn split(&mut self, parts: usize) -> Vec<Box<dyn SeriesCursor>> {
        let mut samples = 0;
        let is_much = |(_, parts): &(Labels, Parts)| {
            samples += self.samples(parts);
            samples >= SPLIT_SAMPLES
        };
        if parts < 2 || !self.rest.as_slice().iter().any(is_much) {
            return Vec::new();
        }
        let mut shares: Vec<Vec<(Labels, Parts)>> = Vec::new();
        shares.resize_with(parts, Vec::new);
        for (at, series) in std::mem::take(&mut self.rest).enumerate() {
            shares[at / SPLIT_SERIES % parts].push(series);
        }
        let cursor = |share| Box::new(Self::new(Arc::clone(&self.pins), share)) as Box<_>;
        shares.into_iter().map(cursor).collect()
    }
}

/// Adds samples, which are in order of time, to others that are; of equal times those that
/// were there stay.
pub(crate) fn append_merged(into: &mut Columns, from: Columns) {
    let (Some(last), Some(first)) = (into.times.last(), from.times.first()) else {
        if into.is_empty() {
            *into = from;
        }
        return;
    };
    if last < first {
        append_range(into, &from, from.len(), TimeRange::ALL);
        return;
    }
    let old = std::mem::take(into);
    into.times.reserve(old.len() + from.len());
    into.values.reserve(old.len() + from.len());
    let (mut a, mut b) = (0, 0);
    while a < old.len() || b < from.len() {
        let take_old = b == from.len() || (a < old.len() && old.times[a] <= from.times[b]);
        if take_old {
            if b < from.len() && old.times[a] == from.times[b] {
                b += 1;
            }
            Sample::of(&old, a).push_to(into);
            a += 1;
        } else {
            Sample::of(&from, b).push_to(into);
            b += 1;
        }
    }
}
