//! Amounts of lines over time, without the lines: a count without filters is a difference of
//! ranks in a block's column of times.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use kittiwake_model::{
    Amount, Apart, Count, CountCursor, Counted, FieldTest, Labels, StoreError, matcher,
};

use super::field;
use super::plan::{PartPlan, Plan, failed};
use super::{Pinned, SPLIT_ROWS};
use crate::head::Generation;
use crate::part::{Block, Metadata};
use crate::store::Placed;

/// What is counted, and what of it is still to come; shared by cursors on several threads.
pub(super) struct Cursor(Arc<Shared>);

struct Shared {
    plan: Plan,
    test: Option<Arc<dyn FieldTest>>,
    edges: Vec<i64>,
    amount: Amount,
    apart: Apart,
    rest: Mutex<Rest>,
}

/// What no cursor has taken yet.
struct Rest {
    parts: VecDeque<Placed>,
    /// The part at work and its next block.
    current: Option<(Arc<PartPlan>, usize)>,
    generations: VecDeque<Arc<Generation>>,
}

enum Piece {
    Block(Arc<PartPlan>, usize),
    Generation(Arc<Generation>),
}

impl Cursor {
    pub(super) fn new(count: &Count, plan: Plan, pinned: Pinned) -> Self {
        Self(Arc::new(Shared {
            plan,
            test: count.test.clone(),
            edges: count.edges.clone(),
            amount: count.amount,
            apart: count.apart.clone(),
            rest: Mutex::new(Rest {
                parts: pinned.parts.into(),
                current: None,
                generations: pinned.generations.into(),
            }),
        }))
    }
}

impl Shared {
    /// Takes the next piece of work. The index of a part is asked when its turn comes, and by
    /// one for all.
    fn next(&self) -> Result<Option<Piece>, StoreError> {
        let mut rest = self.rest.lock();
        loop {
            if let Some((plan, next)) = rest.current.take() {
                if let Some((block, _)) = plan.blocks.get(next) {
                    let piece = Piece::Block(Arc::clone(&plan), *block);
                    rest.current = Some((plan, next + 1));
                    return Ok(Some(piece));
                }
            } else if let Some(part) = rest.parts.pop_front() {
                rest.current = Some((Arc::new(self.plan.part(&part)?), 0));
            } else {
                return Ok(rest.generations.pop_front().map(Piece::Generation));
            }
        }
    }

    /// The slot of a time, if it is in any.
    fn slot(&self, time_ns: i64) -> Option<usize> {
        let later = self.edges.partition_point(|edge| *edge < time_ns);
        (later < self.edges.len()).then_some(later.checked_sub(1)?)
    }

    /// What lines with this metadata count for.
    fn reduced(&self, metadata: &Labels) -> Labels {
        if self.tells_apart(metadata.into_iter().map(|(name, _)| name)) {
            metadata.clone()
        } else {
            Labels::empty()
        }
    }

    /// Whether metadata under some of these names is told apart.
    fn tells_apart(&self, mut names: impl Iterator<Item = impl AsRef<str>>) -> bool {
        match &self.apart {
            Apart::All => true,
            Apart::By(wanted) => names.any(|n| wanted.iter().any(|w| w == n.as_ref())),
        }
    }

    fn block(
        &self,
        part_plan: &PartPlan,
        block: &Block,
        into: &mut Vec<Counted>,
    ) -> Result<(), StoreError> {
        self.plan.context.check()?;
        let part = &part_plan.part;
        let mut found = part_plan.find(block, &self.plan)?;
        if let Some(test) = self.test.as_deref().filter(|_| !found.rows.is_empty()) {
            field::keep(test, part_plan, block, &mut found)?;
        }
        if found.rows.is_empty() {
            return Ok(());
        }
        let is_apart = block.has_metadata() && self.tells_apart(part.metadata_names.iter());
        let is_whole = found.is_whole && self.test.is_none();
        if !is_apart && is_whole && self.amount == Amount::Lines {
            return self.by_ranks(part_plan, block, &found.times, into);
        }
        let times = found.times.all().map_err(failed)?;
        let metadata = if is_apart {
            part.metadata(block).map_err(failed)?
        } else {
            Metadata::default()
        };
        let sizes = match (self.amount, found.text) {
            (Amount::Lines, _) => None,
            (Amount::Bytes, Some(text)) => Some(text),
            (Amount::Bytes, None) => Some(part.text(block).map_err(failed)?),
        };
        let sizes = match sizes {
            Some(mut text) => Some(sizes_of(&text.lines_of(&found.rows).map_err(failed)?)),
            None => None,
        };
        let mut sums: BTreeMap<(usize, Option<usize>), BTreeMap<usize, u64>> = BTreeMap::new();
        let mut runs = block.runs();
        let mut current = runs.next();
        for (nth, row) in found.rows.iter().enumerate() {
            while current.as_ref().is_some_and(|(_, rows)| rows.end <= row) {
                current = runs.next();
            }
            let (Some((run, _)), Some(slot)) = (&current, self.slot(times[row])) else {
                continue;
            };
            let by_slot = sums.entry((run.stream, metadata.place(row))).or_default();
            *by_slot.entry(slot).or_default() += sizes.as_ref().map_or(1, |s| s[nth]);
        }
        for ((stream, set), slots) in sums {
            let set = set.and_then(|set| metadata.sets.get(set));
            into.push(Counted {
                stream: part.streams[stream].labels.clone(),
                metadata: set.map_or_else(Labels::empty, |set| self.reduced(set)),
                slots: slots.into_iter().collect(),
            });
        }
        Ok(())
    }

    fn by_ranks(
        &self,
        part_plan: &PartPlan,
        block: &Block,
        times: &crate::part::Times,
        into: &mut Vec<Counted>,
    ) -> Result<(), StoreError> {
        let range = self.plan.range;
        let mut ranks = times.ranks();
        for (run, rows) in block.runs() {
            if !part_plan.is_wanted(run.stream) || !range.overlaps(run.range.start, run.range.end) {
                continue;
            }
            // The slots that the run is in; its first and last time are known.
            let start = run.range.start.max(range.start);
            let end = run.range.end.min(range.end);
            let first = self.edges.partition_point(|e| *e < start).saturating_sub(1);
            let mut slots = Vec::new();
            let mut before = None;
            for slot in first..self.edges.len().saturating_sub(1) {
                let (from, to) = (self.edges[slot], self.edges[slot + 1]);
                if from >= end {
                    break;
                }
                let mut rank = |at: i64| {
                    if at < run.range.start {
                        Ok(rows.start)
                    } else if at >= run.range.end {
                        Ok(rows.end)
                    } else {
                        ranks.after(rows.clone(), at).map_err(failed)
                    }
                };
                let low = match before {
                    Some(before) if from >= range.start.saturating_sub(1) => before,
                    _ => rank(from.max(range.start.saturating_sub(1)))?,
                };
                let high = rank(to.min(range.end))?;
                before = Some(high);
                if high > low {
                    slots.push((slot, (high - low) as u64));
                }
            }
            if !slots.is_empty() {
                into.push(Counted {
                    stream: part_plan.part.streams[run.stream].labels.clone(),
                    metadata: Labels::empty(),
                    slots,
                });
            }
        }
        Ok(())
    }

    fn generation(
        &self,
        generation: &Generation,
        into: &mut Vec<Counted>,
    ) -> Result<(), StoreError> {
        let lines = generation.lines.read();
        let no_labels = Labels::empty();
        for stream in &lines.streams {
            let range = stream.range();
            if !self.plan.range.overlaps(range.start, range.end)
                || !matcher::all_match(&self.plan.selector, &stream.labels)
            {
                continue;
            }
            self.plan.context.count_series(1)?;
            self.plan.context.count_lines(stream.rows.len() as u64)?;
            let mut sums: HashMap<Option<&Labels>, BTreeMap<usize, u64>> = HashMap::new();
            for row in &stream.rows {
                let Some(slot) = self.slot(row.time_ns) else {
                    continue;
                };
                let (text, metadata) = (lines.text(row), lines.metadata(row));
                let passes = |test: &Arc<dyn FieldTest>| {
                    let metadata = metadata.unwrap_or(&no_labels);
                    test.accepts_line(&stream.labels, metadata, text)
                };
                if !self.plan.range.contains(row.time_ns)
                    || !self.plan.accepts(&stream.labels, metadata, text)
                    || !self.test.as_ref().is_none_or(passes)
                {
                    continue;
                }
                let apart = metadata.filter(|m| self.tells_apart(m.into_iter().map(|(n, _)| n)));
                let amount = match self.amount {
                    Amount::Lines => 1,
                    Amount::Bytes => text.len() as u64,
                };
                *sums.entry(apart).or_default().entry(slot).or_default() += amount;
            }
            into.extend(sums.into_iter().map(|(metadata, slots)| Counted {
                stream: stream.labels.clone(),
                metadata: metadata.map_or_else(Labels::empty, |m| self.reduced(m)),
                slots: slots.into_iter().collect(),
            }));
        }
        Ok(())
    }
}

fn sizes_of(lines: &crate::block::Lines) -> Vec<u64> {
    let before = std::iter::once(0).chain(lines.ends.iter().copied());
    let ends = lines.ends.iter().zip(before);
    ends.map(|(end, before)| (end - before) as u64).collect()
}

impl CountCursor for Cursor {
    fn next_counts(&mut self, into: &mut Vec<Counted>) -> Result<bool, StoreError> {
        into.clear();
        while into.is_empty() {
            match self.0.next()? {
                Some(Piece::Block(plan, block)) => {
                    self.0.block(&plan, &plan.part.blocks[block], into)?;
                }
                Some(Piece::Generation(generation)) => self.0.generation(&generation, into)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn split(&mut self, parts: usize) -> Vec<Box<dyn CountCursor>> {
        let rows: u64 = self.0.rest.lock().parts.iter().map(|p| p.meta.rows).sum();
        // What is told from columns of times alone is done before a thread has begun.
        let is_light = self.0.test.is_none() && !self.0.plan.reads_text();
        if parts < 2 || is_light || rows < SPLIT_ROWS {
            return Vec::new();
        }
        let cursor = |_| Box::new(Self(Arc::clone(&self.0))) as Box<_>;
        (0..parts).map(cursor).collect()
    }
}
