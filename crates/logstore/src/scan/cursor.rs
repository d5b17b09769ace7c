//! Lines in the order of a scan: head and blocks merged by time, a part's index asked and a
//! block opened only when its time comes.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};

use kittiwake_model::{
    Direction, Entry, EntryBatch, EntryCursor, EntryId, Labels, Scan, StoreError, TimeRange,
    matcher, threads_per_query,
};
use parking_lot::Mutex;

use super::plan::{PartPlan, Plan, failed};
use super::{Pinned, SPLIT_ROWS};
use crate::block::{Reader, Rows};
use crate::head::Generation;
use crate::part::{Metadata, Part, Text};
use crate::store::Placed;

/// Entries of a batch.
const BATCH_LEN: usize = 1024;
/// Entries that a source makes ready at first; each time after that it is eight times more.
const CHUNK_LEN: usize = 32;

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

/// Where an entry lies in its source: stream and row.
type Place = (u32, u32);

enum Of {
    Block {
        part: Arc<Part>,
        text: Option<Box<Reader<Text>>>,
        metadata: Metadata,
    },
    Head(Arc<Generation>),
}

/// Entries of one block or generation in the order of the scan.
struct Source {
    of: Of,
    rest: VecDeque<(EntryId, Place)>,
    ready: VecDeque<(EntryId, Labels, Entry)>,
    chunk_len: usize,
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

/// What is asked for, and how it is to be given.
#[derive(Clone)]
struct Asked {
    plan: Arc<Plan>,
    direction: Direction,
    ordered: bool,
    after: Option<EntryId>,
    needs_line: bool,
    needs_metadata: bool,
}

impl Asked {
    fn is_wanted(&self, id: EntryId) -> bool {
        self.plan.range.contains(id.time_ns)
            && self.after.is_none_or(|after| match self.direction {
                Direction::Forward => id > after,
                Direction::Backward => id < after,
            })
    }

    fn sort(&self, order: &mut [(EntryId, Place)]) {
        match self.direction {
            Direction::Forward => order.sort_unstable_by_key(|(id, _)| *id),
            Direction::Backward => order.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id)),
        }
    }

    /// The wanted entries of a generation, filters aside.
    fn head_order(
        &self,
        generation: &Arc<Generation>,
    ) -> Result<Vec<(EntryId, Place)>, StoreError> {
        let lines = generation.lines.read();
        let mut order = Vec::new();
        for (s, stream) in lines.streams.iter().enumerate() {
            let range = stream.range();
            if !self.plan.range.overlaps(range.start, range.end)
                || !matcher::all_match(&self.plan.selector, &stream.labels)
            {
                continue;
            }
            self.plan.context.count_series(1)?;
            for (r, row) in stream.rows.iter().enumerate() {
                let id = EntryId {
                    time_ns: row.time_ns,
                    stream: stream.hash,
                    ordinal: row.ordinal,
                };
                if self.is_wanted(id) {
                    order.push((id, (s as u32, r as u32)));
                }
            }
            self.plan.context.check()?;
        }
        self.sort(&mut order);
        Ok(order)
    }

    /// The wanted entries of a block, so many at most.
    fn block(
        &self,
        plan: &PartPlan,
        block: usize,
        left: usize,
    ) -> Result<Option<Source>, StoreError> {
        let part = &plan.part;
        let block = &part.blocks[block];
        let found = plan.find(block, &self.plan)?;
        if found.rows.is_empty() {
            return Ok(None);
        }
        let times = found.times.all().map_err(failed)?;
        let ordinals = part.ordinals(block).map_err(failed)?;
        let mut order = Vec::new();
        let mut runs = block.runs();
        let mut current = runs.next();
        for row in found.rows.iter() {
            while current.as_ref().is_some_and(|(_, rows)| rows.end <= row) {
                current = runs.next();
            }
            let Some((run, _)) = &current else { break };
            let id = EntryId {
                time_ns: times[row],
                stream: part.streams[run.stream].hash,
                ordinal: ordinals.get(row).copied().unwrap_or(0),
            };
            if self.is_wanted(id) {
                order.push((id, (run.stream as u32, row as u32)));
            }
        }
        self.sort(&mut order);
        // Those beyond the limit cannot be in the answer: each before them would be first.
        order.truncate(left);
        if !plan.has_filters() {
            self.plan.context.count_lines(order.len() as u64)?;
        }
        let text = match found.text {
            Some(text) if self.needs_line => Some(Box::new(text)),
            None if self.needs_line => Some(Box::new(part.text(block).map_err(failed)?)),
            _ => None,
        };
        let metadata = if self.needs_metadata {
            part.metadata(block).map_err(failed)?
        } else {
            Metadata::default()
        };
        let of = Of::Block {
            part: Arc::clone(part),
            text,
            metadata,
        };
        self.source(of, order).map(Some)
    }

    /// A source of which the first entries are ready.
    fn source(&self, of: Of, order: Vec<(EntryId, Place)>) -> Result<Source, StoreError> {
        let mut source = Source {
            of,
            rest: order.into(),
            ready: VecDeque::new(),
            chunk_len: CHUNK_LEN,
        };
        source.make_ready(self)?;
        Ok(source)
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
        let mut opened = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut opened = work()?;
            for other in others {
                let failed = |_| StoreError::Failed("a query failed unexpectedly".to_owned());
                opened.extend(other.join().map_err(failed)??);
            }
            Ok::<_, StoreError>(opened)
        })?;
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
                self.ahead = (self.ahead * 2).min(AHEAD_MAX);
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

impl Source {
    fn make_ready(&mut self, asked: &Asked) -> Result<(), StoreError> {
        let Asked {
            plan,
            needs_line,
            needs_metadata,
            ..
        } = asked;
        while self.ready.is_empty() && !self.rest.is_empty() {
            let len = self.rest.len().min(self.chunk_len);
            self.chunk_len = self.chunk_len.saturating_mul(8);
            let chunk: Vec<_> = self.rest.drain(..len).collect();
            match &mut self.of {
                Of::Block {
                    part,
                    text,
                    metadata,
                } => {
                    let mut lines = match text {
                        Some(text) => lines_of(text, &chunk)?,
                        None => vec![String::new(); chunk.len()],
                    };
                    for (at, (id, (stream, row))) in chunk.into_iter().enumerate() {
                        let metadata = metadata.of(row as usize).cloned();
                        let entry = Entry {
                            time_ns: id.time_ns,
                            line: std::mem::take(&mut lines[at]),
                            metadata: metadata.unwrap_or_else(Labels::empty),
                        };
                        let labels = part.streams[stream as usize].labels.clone();
                        self.ready.push_back((id, labels, entry));
                    }
                    if self.rest.is_empty() {
                        *text = None;
                    }
                }
                Of::Head(generation) => {
                    plan.context.count_lines(chunk.len() as u64)?;
                    let lines = generation.lines.read();
                    for (id, (stream, row)) in chunk {
                        let stream = &lines.streams[stream as usize];
                        let row = &stream.rows[row as usize];
                        let (text, metadata) = (lines.text(row), lines.metadata(row));
                        if !plan.accepts(&stream.labels, metadata, text) {
                            continue;
                        }
                        let line = if *needs_line { text } else { "" };
                        let metadata = metadata.filter(|_| *needs_metadata).cloned();
                        let entry = Entry {
                            time_ns: id.time_ns,
                            line: line.to_owned(),
                            metadata: metadata.unwrap_or_else(Labels::empty),
                        };
                        self.ready.push_back((id, stream.labels.clone(), entry));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The lines of a chunk, in its order.
fn lines_of(
    text: &mut Reader<Text>,
    chunk: &[(EntryId, Place)],
) -> Result<Vec<String>, StoreError> {
    let mut rows = Rows::none(text.rows());
    for (_, (_, row)) in chunk {
        rows.insert(*row as usize);
    }
    let lines = text.lines_of(&rows).map_err(failed)?;
    let mut order: Vec<usize> = (0..chunk.len()).collect();
    order.sort_unstable_by_key(|at| chunk[*at].1.1);
    let mut out = vec![String::new(); chunk.len()];
    for (line, at) in order.into_iter().enumerate() {
        lines.line(line).clone_into(&mut out[at]);
    }
    Ok(out)
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
