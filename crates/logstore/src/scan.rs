//! Reading: a scan pins what is there; its cursor merges the head and the blocks by time,
//! opening a block only when its time comes.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use kittiwake_model::{
    Direction, Entry, EntryBatch, EntryCursor, EntryId, FollowCursor, Labels, LineFilter, LogStore,
    Matcher, QueryContext, Scan, StoreError, TimeRange, matcher,
};

use crate::head::Generation;
use crate::part::{Columns, Need, Part};
use crate::store::Store;

/// Entries of a batch.
const BATCH_LEN: usize = 1024;
/// Entries that a source makes ready at once.
const CHUNK_LEN: usize = 256;

/// A block whose time has not come yet.
#[derive(Debug)]
struct Pending {
    part: Arc<Part>,
    block: usize,
    /// Per stream of the part whether it is wanted.
    wanted: Arc<Vec<bool>>,
    range: TimeRange,
}

/// Where an entry lies in its source: stream and row.
type Place = (u32, u32);

#[derive(Debug)]
enum Of {
    Block(Arc<Part>, Columns),
    Head(Arc<Generation>),
}

/// Entries of one block or generation in the order of the scan.
#[derive(Debug)]
struct Source {
    of: Of,
    rest: VecDeque<(EntryId, Place)>,
    ready: VecDeque<(EntryId, Labels, Entry)>,
}

/// The next entry of a source, ordered so that the one to come first is the greatest.
#[derive(Debug, PartialEq, Eq)]
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

struct Cursor {
    filters: Vec<LineFilter>,
    direction: Direction,
    range: TimeRange,
    after: Option<EntryId>,
    needs_line: bool,
    /// Entries still to come at most.
    left: usize,
    /// The next one to open is the last.
    pending: Vec<Pending>,
    sources: Vec<Option<Source>>,
    heap: BinaryHeap<Next>,
    context: QueryContext,
}

impl LogStore for Store {
    fn scan(
        &self,
        scan: &Scan,
        context: &QueryContext,
    ) -> Result<Box<dyn EntryCursor>, StoreError> {
        context.check()?;
        let mut cursor = Cursor {
            filters: scan.filters.clone(),
            direction: scan.direction,
            range: scan.range,
            after: scan.after,
            needs_line: scan.needs_line,
            left: if scan.limit == 0 {
                usize::MAX
            } else {
                scan.limit
            },
            pending: Vec::new(),
            sources: Vec::new(),
            heap: BinaryHeap::new(),
            context: context.clone(),
        };
        if let Some(after) = scan.after {
            match scan.direction {
                Direction::Forward => cursor.range.start = cursor.range.start.max(after.time_ns),
                Direction::Backward => cursor.range.end = cursor.range.end.min(after.time_ns),
            }
        }
        if cursor.range.is_empty() {
            return Ok(Box::new(cursor));
        }
        let range = cursor.range;
        let mut heads = Vec::new();
        {
            let state = self.state.read();
            for placed in &state.parts {
                if range.overlaps(placed.meta.start, placed.meta.end) {
                    cursor.add_part(&placed.part, &scan.selector)?;
                }
            }
            for generation in state.generations() {
                let order = cursor.head_order(generation, &scan.selector)?;
                heads.push((Arc::clone(generation), order));
            }
        }
        match scan.direction {
            Direction::Forward => cursor.pending.sort_by_key(|p| -i128::from(p.range.start)),
            Direction::Backward => cursor.pending.sort_by_key(|p| p.range.end),
        }
        for (generation, order) in heads {
            cursor.open(Of::Head(generation), order)?;
        }
        Ok(Box::new(cursor))
    }

    fn follow(&self, scan: &Scan) -> Result<Box<dyn FollowCursor>, StoreError> {
        Ok(self.arrivals.follow(scan))
    }

    fn streams(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        context: &QueryContext,
    ) -> Result<Vec<Labels>, StoreError> {
        let mut found: BTreeSet<Labels> = BTreeSet::new();
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let state = self.state.read();
        for placed in &state.parts {
            context.check()?;
            if !range.overlaps(placed.meta.start, placed.meta.end) {
                continue;
            }
            let part = &placed.part;
            for block in &part.blocks {
                for run in &block.runs {
                    let stream = &part.streams[run.stream];
                    if range.overlaps(run.range.start, run.range.end)
                        && !found.contains(&stream.labels)
                        && matcher::any_match(selectors, &stream.labels)
                    {
                        found.insert(stream.labels.clone());
                    }
                }
            }
        }
        for generation in state.generations() {
            context.check()?;
            let lines = generation.lines.read();
            for stream in &lines.streams {
                let all = stream.range();
                if range.overlaps(all.start, all.end)
                    && !found.contains(&stream.labels)
                    && matcher::any_match(selectors, &stream.labels)
                    && stream.rows.iter().any(|r| range.contains(r.time_ns))
                {
                    found.insert(stream.labels.clone());
                }
            }
        }
        context.count_series(found.len() as u64)?;
        Ok(found.into_iter().collect())
    }
}

impl Cursor {
    fn add_part(&mut self, part: &Arc<Part>, selector: &[Matcher]) -> Result<(), StoreError> {
        let wanted: Vec<bool> = part
            .streams
            .iter()
            .map(|s| {
                self.range.overlaps(s.range.start, s.range.end)
                    && matcher::all_match(selector, &s.labels)
            })
            .collect();
        self.context
            .count_series(wanted.iter().filter(|w| **w).count() as u64)?;
        let wanted = Arc::new(wanted);
        for (index, block) in part.blocks.iter().enumerate() {
            // The block's time is that of the runs that are wanted.
            let mut range: Option<TimeRange> = None;
            for run in block.runs.iter().filter(|r| wanted[r.stream]) {
                let so_far = range.get_or_insert(run.range);
                so_far.start = so_far.start.min(run.range.start);
                so_far.end = so_far.end.max(run.range.end);
            }
            let Some(range) = range.filter(|r| self.range.overlaps(r.start, r.end)) else {
                continue;
            };
            self.pending.push(Pending {
                part: Arc::clone(part),
                block: index,
                wanted: Arc::clone(&wanted),
                range,
            });
        }
        Ok(())
    }

    fn is_wanted(&self, id: EntryId) -> bool {
        self.range.contains(id.time_ns)
            && self.after.is_none_or(|after| match self.direction {
                Direction::Forward => id > after,
                Direction::Backward => id < after,
            })
    }

    fn sort(&self, order: &mut [(EntryId, Place)]) {
        match self.direction {
            Direction::Forward => order.sort_by_key(|(id, _)| *id),
            Direction::Backward => order.sort_by_key(|(id, _)| std::cmp::Reverse(*id)),
        }
    }

    /// The wanted entries of a generation, filters aside.
    fn head_order(
        &self,
        generation: &Arc<Generation>,
        selector: &[Matcher],
    ) -> Result<Vec<(EntryId, Place)>, StoreError> {
        let lines = generation.lines.read();
        let mut order = Vec::new();
        for (s, stream) in lines.streams.iter().enumerate() {
            let range = stream.range();
            if !self.range.overlaps(range.start, range.end)
                || !matcher::all_match(selector, &stream.labels)
            {
                continue;
            }
            self.context.count_series(1)?;
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
            self.context.check()?;
        }
        self.sort(&mut order);
        Ok(order)
    }

    /// Decodes a block and finds its wanted entries.
    fn open_block(&mut self, pending: &Pending) -> Result<(), StoreError> {
        let failed = |e: crate::part::PartError| StoreError::Failed(e.to_string());
        let block = &pending.part.blocks[pending.block];
        self.context.count_lines(block.rows as u64)?;
        let need = if self.needs_line || !self.filters.is_empty() {
            Need::All
        } else {
            Need::Times
        };
        let columns = pending.part.read(block, need).map_err(failed)?;
        let mut order = Vec::new();
        let mut row = 0;
        for run in &block.runs {
            let rows = row..row + run.rows;
            row = rows.end;
            if !pending.wanted[run.stream] {
                continue;
            }
            let stream = pending.part.streams[run.stream].hash;
            for row in rows {
                let id = EntryId {
                    time_ns: columns.times[row],
                    stream,
                    ordinal: columns.ordinal(row),
                };
                let is_wanted =
                    self.is_wanted(id) && self.filters.iter().all(|f| f.accepts(columns.line(row)));
                if is_wanted {
                    order.push((id, (run.stream as u32, row as u32)));
                }
            }
        }
        self.sort(&mut order);
        self.open(Of::Block(Arc::clone(&pending.part), columns), order)
    }

    fn open(&mut self, of: Of, order: Vec<(EntryId, Place)>) -> Result<(), StoreError> {
        self.sources.push(Some(Source {
            of,
            rest: order.into(),
            ready: VecDeque::new(),
        }));
        self.push_next(self.sources.len() - 1)
    }

    /// Enters a source's next entry into the heap, or lets go of the source at its end.
    fn push_next(&mut self, index: usize) -> Result<(), StoreError> {
        let Some(source) = self.sources.get_mut(index).and_then(Option::as_mut) else {
            return Ok(());
        };
        source.make_ready(&self.filters, self.needs_line, &self.context)?;
        match source.ready.front() {
            Some((id, ..)) => self.heap.push(Next {
                id: *id,
                source: index,
                direction: self.direction,
            }),
            None => self.sources[index] = None,
        }
        Ok(())
    }

    /// Opens the blocks that can hold the next entry.
    fn open_due(&mut self) -> Result<(), StoreError> {
        while let Some(pending) = self.pending.last() {
            let is_due = self.heap.peek().is_none_or(|next| match self.direction {
                Direction::Forward => pending.range.start <= next.id.time_ns,
                Direction::Backward => pending.range.end >= next.id.time_ns,
            });
            if !is_due {
                break;
            }
            if let Some(pending) = self.pending.pop() {
                self.open_block(&pending)?;
            }
        }
        Ok(())
    }
}

impl Source {
    fn make_ready(
        &mut self,
        filters: &[LineFilter],
        needs_line: bool,
        context: &QueryContext,
    ) -> Result<(), StoreError> {
        while self.ready.is_empty() && !self.rest.is_empty() {
            let chunk = self.rest.drain(..self.rest.len().min(CHUNK_LEN));
            match &self.of {
                Of::Block(part, columns) => {
                    for (id, (stream, row)) in chunk {
                        let row = row as usize;
                        let line = if needs_line { columns.line(row) } else { "" };
                        let entry = Entry {
                            time_ns: id.time_ns,
                            line: line.to_owned(),
                            metadata: columns.metadata(row).cloned().unwrap_or_else(Labels::empty),
                        };
                        let labels = part.streams[stream as usize].labels.clone();
                        self.ready.push_back((id, labels, entry));
                    }
                }
                Of::Head(generation) => {
                    context.count_lines(chunk.len() as u64)?;
                    let lines = generation.lines.read();
                    for (id, (stream, row)) in chunk {
                        let stream = &lines.streams[stream as usize];
                        let row = &stream.rows[row as usize];
                        let text = lines.text(row);
                        if !filters.iter().all(|f| f.accepts(text)) {
                            continue;
                        }
                        let line = if needs_line { text } else { "" };
                        let entry = Entry {
                            time_ns: id.time_ns,
                            line: line.to_owned(),
                            metadata: lines.metadata(row).cloned().unwrap_or_else(Labels::empty),
                        };
                        self.ready.push_back((id, stream.labels.clone(), entry));
                    }
                }
            }
        }
        Ok(())
    }
}

impl EntryCursor for Cursor {
    fn next_batch(&mut self, into: &mut EntryBatch) -> Result<bool, StoreError> {
        into.clear();
        self.context.check()?;
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
}
