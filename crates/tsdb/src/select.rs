//! Reading: a select pins what is there, its cursor reads one series after the other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kittiwake_model::{
    Columns, Labels, Matcher, MetricsStore, QueryContext, Select, SeriesCursor, StoreError,
    TimeRange, matcher,
};

use crate::block::Block;
use crate::head::{Generation, Pinned};
use crate::registry::SeriesRef;
use crate::store::{State, Store};

/// Where a part of a series lies.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// Index of the pinned block and of the series in it.
    Block(usize, usize),
    /// Index of the pinned generation, the series' number and how much of it is seen.
    Head(usize, SeriesRef, Pinned),
}

struct Cursor {
    blocks: Vec<Arc<Block>>,
    generations: Vec<Arc<Generation>>,
    rest: std::vec::IntoIter<(Labels, Vec<Part>)>,
    current: Vec<Part>,
    range: TimeRange,
    context: QueryContext,
}

impl MetricsStore for Store {
    fn select(
        &self,
        select: &Select,
        context: &QueryContext,
    ) -> Result<Box<dyn SeriesCursor>, StoreError> {
        context.check()?;
        let state = self.state.read();
        let mut found: HashMap<Labels, Vec<Part>> = HashMap::new();
        let range = select.range;
        let mut blocks = Vec::new();
        // Blocks first, in the order in which they were written: of equal times the first
        // written counts.
        for placed in &state.blocks {
            if range.is_empty() || !range.overlaps(placed.meta.start, placed.meta.end) {
                continue;
            }
            for index in placed.block.matching(&select.matchers, range) {
                let part = Part::Block(blocks.len(), index);
                let labels = &placed.block.series()[index].labels;
                found.entry(labels.clone()).or_default().push(part);
            }
            blocks.push(Arc::clone(&placed.block));
            context.check()?;
        }
        let generations = generations(&state);
        if !range.is_empty() {
            let matching = state.registry.select(&select.matchers);
            for (at, generation) in generations.iter().enumerate() {
                generation.pin(matching.iter(), range, |number, pinned| {
                    if let Some(known) = state.registry.get(number) {
                        let part = Part::Head(at, number, pinned);
                        found.entry(known.labels.clone()).or_default().push(part);
                    }
                });
            }
        }
        drop(state);
        let mut found: Vec<(Labels, Vec<Part>)> = found.into_iter().collect();
        if select.limit > 0 && found.len() > select.limit {
            found.sort_by(|a, b| a.0.cmp(&b.0));
            found.truncate(select.limit);
        }
        context.count_series(found.len() as u64)?;
        Ok(Box::new(Cursor {
            blocks,
            generations,
            rest: found.into_iter(),
            current: Vec::new(),
            range,
            context: context.clone(),
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
        let state = self.state.read();
        for placed in &state.blocks {
            context.check()?;
            if !range.overlaps(placed.meta.start, placed.meta.end) {
                continue;
            }
            for series in placed.block.series() {
                if range.overlaps(series.range.start, series.range.end)
                    && matcher::any_match(selectors, &series.labels)
                    && !found.contains(&series.labels)
                {
                    found.insert(series.labels.clone());
                }
            }
        }
        let all = [Vec::new()];
        let selectors = if selectors.is_empty() {
            &all
        } else {
            selectors
        };
        for matchers in selectors {
            let matching = state.registry.select(matchers);
            for generation in generations(&state) {
                context.check()?;
                generation.pin(matching.iter(), range, |number, _| {
                    if let Some(known) = state.registry.get(number)
                        && !found.contains(&known.labels)
                    {
                        found.insert(known.labels.clone());
                    }
                });
            }
        }
        drop(state);
        context.count_series(found.len() as u64)?;
        let limit = if limit == 0 { usize::MAX } else { limit };
        Ok(found.into_iter().take(limit).collect())
    }
}

impl SeriesCursor for Cursor {
    fn next_series(&mut self) -> Result<Option<Labels>, StoreError> {
        self.context.check()?;
        Ok(self.rest.next().map(|(labels, parts)| {
            self.current = parts;
            labels
        }))
    }

    fn next_batch(&mut self, into: &mut Columns) -> Result<bool, StoreError> {
        let parts = std::mem::take(&mut self.current);
        if parts.is_empty() {
            return Ok(false);
        }
        let mut merged = Columns::default();
        for part in parts {
            let mut columns = Columns::default();
            match part {
                Part::Block(block, series) => {
                    let block = &self.blocks[block];
                    block
                        .read(&block.series()[series], self.range, &mut columns)
                        .map_err(|e| StoreError::Failed(e.to_string()))?;
                }
                Part::Head(generation, number, pinned) => {
                    self.generations[generation].read(number, pinned, self.range, &mut columns);
                }
            }
            self.context.count_samples(columns.len() as u64)?;
            append_merged(&mut merged, columns);
        }
        if into.is_empty() {
            *into = merged;
        } else {
            into.times.extend(merged.times);
            into.values.extend(merged.values);
        }
        Ok(true)
    }
}

fn generations(state: &State) -> Vec<Arc<Generation>> {
    let frozen = state.frozen.iter().map(|f| Arc::clone(&f.generation));
    frozen.chain([Arc::clone(&state.active)]).collect()
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
        into.times.extend(from.times);
        into.values.extend(from.values);
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
            into.push(old.times[a], old.values[a]);
            a += 1;
        } else {
            into.push(from.times[b], from.values[b]);
            b += 1;
        }
    }
}
