//! Lines in the order of a scan: head and blocks merged by time, a part's index asked and a
//! block opened only when its time comes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};

use kittiwake_model::{
    Direction, EntryBatch, EntryCursor, EntryId, Scan, StoreError, TimeRange, on_threads,
    threads_per_query,
};
use parking_lot::Mutex;

use super::plan::{PartPlan, Plan};
use super::source::{Asked, Of, Source};
use super::{Pinned, SPLIT_ROWS};
use crate::store::Placed;

/// Entries of a batch.
const BATCH_LEN: usize = 1024;
/// Blocks that are looked into at once at most, before it is known that they are needed.
const AHEAD_MAX: usize = 32;

/// What is not open yet.
enum Later {
    Part(Placed),
    Block(Arc<PartPlan>, usize),
}

/// Its time, ordered so that the one to come first is the greatest.
struct Pending {
    range: TimeRange,
    direction: Direction,
    later: Later,
}

impl Pending {
    fn key(&self) -> i128 {
        match self.direction {
            Direction::Forward => -i128::from(self.range.start),
            Direction::Backward => i128::from(self.range.end),
        }
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// The next entry of a source, ordered so that the one to come first is the greatest.
#[derive(PartialEq, Eq)]
struct Next {
    id: EntryId,
    source: usize,
    direction: Direction,
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_id = match self.direction {
            Direction::Forward => other.id.cmp(&self.id),
            Direction::Backward => self.id.cmp(&other.id),
        };
        by_id.then(self.source.cmp(&other.source))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

pub(super) struct Cursor {
    asked: Asked,
    /// Entries still to come at most.
    left: usize,
    /// Shared by cursors on several threads.
    pending: Arc<Mutex<BinaryHeap<Pending>>>,
    /// Blocks that are looked into at once.
    ahead: usize,
    /// Lines of the parts in it at first.
    rows: u64,
    sources: Vec<Option<Source>>,
    heap: BinaryHeap<Next>,
}

impl Cursor {
    pub(super) fn new(scan: &Scan, plan: Plan, pinned: Pinned) -> Result<Self, StoreError> {
        let mut cursor = Self {
            asked: Asked {
                plan: Arc::new(plan),
                direction: scan.direction,
                ordered: scan.ordered,
                after: scan.after,
                needs_line: scan.needs_line,
                needs_metadata: scan.needs_metadata,
            },
            left: match scan.limit {
                0 => usize::MAX,
                limit => limit,
            },
            pending: Arc::default(),
            ahead: 1,
            rows: pinned.parts.iter().map(|p| p.meta.rows).sum(),
            sources: Vec::new(),
            heap: BinaryHeap::new(),
        };
        if cursor.asked.plan.range.is_empty() {
            return Ok(cursor);
        }
        for placed in pinned.parts {
            let range = TimeRange::new(placed.meta.start, placed.meta.end);
            cursor.push_later(range, Later::Part(placed));
        }
        for generation in pinned.generations {
            let order = cursor.asked.head_order(&generation)?;
            let source = cursor.asked.source(Of::Head(generation), order)?;
            cursor.open(source);
        }
        Ok(cursor)
    }

    fn push_later(&self, range: TimeRange, later: Later) {
        self.pending.lock().push(Pending {
            range,
            direction: self.asked.direction,
            later,
        });
    }

    /// Asks the index of a part.
    fn open_part(&mut self, part: &Placed) -> Result<(), StoreError> {
        let plan = Arc::new(self.asked.plan.part(part)?);
        for (block, range) in &plan.blocks {
            self.push_later(*range, Later::Block(Arc::clone(&plan), *block));
        }
        Ok(())
    }

    /// Opens some blocks, on several threads when there are several.
    fn sources(
        &self,
        blocks: &[(Arc<PartPlan>, usize)],
    ) -> Result<Vec<Option<Source>>, StoreError> {
        let (asked, left) = (&self.asked, self.left);
        let open = |(plan, block): &(Arc<PartPlan>, usize)| {
            asked.plan.context.check()?;
            asked.block(plan, *block, left)
        };
        let has_filters = blocks.iter().any(|(plan, _)| plan.has_filters());
        let threads = threads_per_query().min(blocks.len());
        if threads < 2 || !has_filters {
            return blocks.iter().map(open).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let at = next.fetch_add(1, atomic::Ordering::Relaxed)
                && let Some(block) = blocks.get(at)
            {
                done.push((at, open(block)?));
            }
            Ok(done)
        };
        let failed = || StoreError::Failed("a query failed unexpectedly".to_owned());
        let opened = on_threads(vec![(); threads], |()| work(), failed)?;
        let mut opened: Vec<_> = opened.into_iter().flatten().collect();
        opened.sort_unstable_by_key(|(at, _)| *at);
        Ok(opened.into_iter().map(|(_, source)| source).collect())
    }

    fn open(&mut self, source: Source) {
        self.sources.push(Some(source));
        self.enter(self.sources.len() - 1);
    }

    /// Enters a source's next entry into the heap, or lets go of the source at its end.
    fn push_next(&mut self, index: usize) -> Result<(), StoreError> {
        let Some(source) = self.sources.get_mut(index).and_then(Option::as_mut) else {
            return Ok(());
        };
        source.make_ready(&self.asked)?;
        self.enter(index);
        Ok(())
    }

    fn enter(&mut self, index: usize) {
        let source = self.sources.get_mut(index).and_then(Option::as_mut);
        match source.and_then(|s| s.ready.front()) {
            Some((id, ..)) => self.heap.push(Next {
                id: *id,
                source: index,
                direction: self.asked.direction,
            }),
            None => self.sources[index] = None,
        }
    }

    /// Opens what can hold the next entry. Without an order, only when nothing is open.
    fn open_due(&mut self) -> Result<(), StoreError> {
        loop {
            self.asked.plan.context.check()?;
            let mut blocks = Vec::new();
            while blocks.len() < self.ahead
                && let Some(pending) = self.take_due()
            {
                match pending.later {
                    Later::Part(part) => self.open_part(&part)?,
                    Later::Block(plan, block) => blocks.push((plan, block)),
                }
            }
            if blocks.is_empty() {
                return Ok(());
            }
            // What is found may end the scan, so it looks ahead only when it has gone on for long.
            if self.asked.ordered {
                self.ahead = (self.ahead * 4).min(AHEAD_MAX);
            }
            for source in self.sources(&blocks)?.into_iter().flatten() {
                self.open(source);
            }
        }
    }

    fn take_due(&self) -> Option<Pending> {
        let mut all = self.pending.lock();
        let pending = all.peek()?;
        let is_due = self
            .heap
            .peek()
            .is_none_or(|next| match self.asked.direction {
                _ if !self.asked.ordered => false,
                Direction::Forward => pending.range.start <= next.id.time_ns,
                Direction::Backward => pending.range.end >= next.id.time_ns,
            });
        is_due.then(|| all.pop())?
    }
}

impl EntryCursor for Cursor {
    fn next_batch(&mut self, into: &mut EntryBatch) -> Result<bool, StoreError> {
        into.clear();
        self.asked.plan.context.check()?;
        while into.len() < BATCH_LEN && self.left > 0 {
            self.open_due()?;
            let Some(next) = self.heap.pop() else {
                break;
            };
            let source = self.sources.get_mut(next.source).and_then(Option::as_mut);
            if let Some((id, labels, entry)) = source.and_then(|s| s.ready.pop_front()) {
                into.push(id.stream, &labels, id.ordinal, entry);
                self.left -= 1;
            }
            self.push_next(next.source)?;
        }
        Ok(!into.is_empty())
    }

    fn split(&mut self, parts: usize) -> Result<Vec<Box<dyn EntryCursor>>, StoreError> {
        if parts < 2 || self.asked.ordered || self.left != usize::MAX || self.rows < SPLIT_ROWS {
            return Ok(Vec::new());
        }
        // Who finds nothing to do leaves, so all blocks are there before anybody looks.
        let placed = std::mem::take(&mut *self.pending.lock());
        for pending in placed {
            match pending.later {
                Later::Part(part) => self.open_part(&part)?,
                later @ Later::Block(..) => self.push_later(pending.range, later),
            }
        }
        // What is open stays with the first.
        let first = Self {
            asked: self.asked.clone(),
            pending: Arc::clone(&self.pending),
            sources: std::mem::take(&mut self.sources),
            heap: std::mem::take(&mut self.heap),
            ..*self
        };
        let another = |_| Self {
            asked: self.asked.clone(),
            pending: Arc::clone(&self.pending),
            sources: Vec::new(),
            heap: BinaryHeap::new(),
            ..*self
        };
        let others = (1..parts).map(another);
        let all = std::iter::once(first).chain(others);
        Ok(all.map(|cursor| Box::new(cursor) as Box<_>).collect())
    }
}
