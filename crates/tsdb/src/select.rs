//! Reading: a select pins what is there, its cursor reads one series after the other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{
    Columns, Exemplar, Labels, Matcher, Metadata, MetricsStore, QueryContext, Select, SeriesCursor,
    StoreError, TimeRange,
};
use parking_lot::Mutex;

use crate::block::{Block, BlockError, Index, Scratch, Series};
use crate::head::{Generation, Pinned, Sample, append_range};
use crate::registry::{NONE, SeriesRef};
use crate::store::{State, Store};
use crate::tiers::{Tier, Wanted};
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

struct Cursor {
    blocks: Vec<PinnedBlock>,
    generations: Vec<Arc<Generation>>,
    rest: std::vec::IntoIter<(Labels, Parts)>,
    current: Option<(Labels, Parts)>,
    range: TimeRange,
    /// What is read of tiers, where a block of one is among the blocks.
    wanted: Option<Wanted>,
    context: QueryContext,
    scratch: Scratch,
    damaged: Arc<Mutex<BTreeSet<u64>>>,
}

impl Store {
    /// Pins the blocks that are wanted and can have samples in the range, and all generations.
    fn pin(
        state: &State,
        range: TimeRange,
        wanted: &Wanted,
    ) -> (Vec<PinnedBlock>, Vec<Arc<Generation>>) {
        let mut blocks = Vec::new();
        for placed in &state.blocks {
            let meta = &placed.meta;
            let tier = Tier::of(meta.level);
            let of_block = Wanted::range(tier, range);
            let is_wanted = wanted.takes(tier) && of_block.overlaps(meta.start, meta.end);
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
        mut found: impl FnMut(Labels, Part),
    ) {
        if range.is_empty() {
            return;
        }
        let matching = state.registry.select(matchers);
        for (at, generation) in generations.iter().enumerate() {
            generation.pin(&matching, range, |number, pinned| {
                if let Some(labels) = state.registry.labels(number) {
                    found(labels, Part::Head(at as u32, number, pinned));
                }
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
        let wanted = Wanted::by(None);
        let blocks = {
            let state = self.state.read();
            let registry = &state.registry;
            let (blocks, generations) = Self::pin(&state, range, &wanted);
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
        let wanted = Wanted::by(select.hint.function.as_deref());
        // The head is looked through under the lock that pins the blocks: what moves from one
        // to the other is seen once.
        let mut of_head: Vec<(Labels, Part)> = Vec::new();
        let (mut blocks, generations) = {
            let state = self.state.read();
            let (blocks, generations) = Self::pin(&state, range, &wanted);
            let mut found = |labels, part| of_head.push((labels, part));
            Self::select_head(&state, &generations, &select.matchers, range, &mut found);
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
            let of_block = Wanted::range(pinned.tier, range);
            for series in index.select(&select.matchers, of_block) {
                let part = Part::Block(at as u32, series);
                found.add(index.labels(series), part, is_single);
                found.check(context)?;
            }
            pinned.index = Some(index);
            context.check()?;
        }
        for (labels, part) in of_head {
            found.add(labels, part, is_single);
            found.check(context)?;
        }
        let mut found = found.series;
        if select.limit > 0 && found.len() > select.limit {
            found.sort_by(|a, b| a.0.cmp(&b.0));
            found.truncate(select.limit);
        }
        context.count_series(found.len() as u64)?;
        let has_tier = blocks.iter().any(|b| b.tier.is_some());
        Ok(Box::new(Cursor {
            wanted: has_tier.then_some(wanted),
            blocks,
            generations,
            rest: found.into_iter(),
            current: None,
            range,
            context: context.clone(),
            scratch: Scratch::default(),
            damaged: Arc::clone(&self.damaged),
        }))
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
        let wanted = Wanted::by(None);
        let blocks = {
            let state = self.state.read();
            let (blocks, generations) = Self::pin(&state, range, &wanted);
            for matchers in selectors {
                Self::select_head(&state, &generations, matchers, range, |labels, _| {
                    found.insert(labels);
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
    places: HashMap<Labels, usize>,
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

    /// Adds a part; `is_new` says that no part of this series was added before.
    fn add(&mut self, labels: Labels, part: Part, is_new: bool) {
        if !is_new {
            if let Some(place) = self.places.get(&labels) {
                self.series[*place].1.more.push(part);
                return;
            }
            self.places.insert(labels.clone(), self.series.len());
        }
        let parts = Parts {
            first: part,
            more: Vec::new(),
        };
        self.series.push((labels, parts));
    }
}

impl Cursor {
    fn complete(&self, series: &mut Columns) {
        if let Some(wanted) = &self.wanted {
            wanted.whole(series);
        }
    }

    fn read(&mut self, labels: &Labels, part: Part, into: &mut Columns) -> Result<(), StoreError> {
        let before = into.len();
        match part {
            Part::Block(at, series) => {
                let pinned = &self.blocks[at as usize];
                let range = Wanted::range(pinned.tier, self.range);
                let scratch = &mut self.scratch;
                if let Some(index) = &pinned.index {
                    let read = pinned.block.read_with(index, series, range, scratch, into);
                    read.map_err(|e| failed(&self.damaged, pinned.id, &e))?;
                }
                for tombstone in pinned.tombstones.iter().filter(|t| t.matches(labels)) {
                    tombstone.apply(into);
                }
                if let Some(wanted) = &self.wanted {
                    wanted.part(pinned.tier.map(|tier| (tier, pinned.end_ms)), into);
                }
            }
            Part::Head(at, number, pinned) => {
                self.generations[at as usize].read(number, pinned, self.range, into);
                if let Some(wanted) = &self.wanted {
                    wanted.part(None, into);
                }
            }
        }
        let read = into.len().saturating_sub(before);
        self.context.count_samples(read as u64)
    }
}

impl SeriesCursor for Cursor {
    fn next_series(&mut self) -> Result<Option<Labels>, StoreError> {
        self.context.check()?;
        self.current = self.rest.next();
        Ok(self.current.as_ref().map(|(labels, _)| labels.clone()))
    }

    fn next_batch(&mut self, into: &mut Columns) -> Result<bool, StoreError> {
        let Some((labels, parts)) = self.current.take() else {
            return Ok(false);
        };
        if into.is_empty() && parts.more.is_empty() {
            self.read(&labels, parts.first, into)?;
            self.complete(into);
            return Ok(true);
        }
        let mut merged = Columns::default();
        let mut thinned = Vec::new();
        for part in std::iter::once(parts.first).chain(parts.more) {
            let mut columns = Columns::default();
            self.read(&labels, part, &mut columns)?;
            thinned.append(&mut columns.thinned);
            append_merged(&mut merged, columns);
        }
        merged.thinned = thinned;
        self.complete(&mut merged);
        if into.is_empty() {
            *into = merged;
        } else {
            append_range(into, &merged, merged.len(), TimeRange::ALL);
        }
        Ok(true)
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
