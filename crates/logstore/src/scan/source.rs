//! Entries of one block or generation in the order of a scan.

use std::collections::VecDeque;
use std::sync::Arc;

use kittiwake_model::{Direction, Entry, EntryId, Labels, StoreError, matcher};

use super::plan::{PartPlan, Plan, failed};
use crate::block::{Reader, Rows};
use crate::head::Generation;
use crate::part::{Metadata, Part, Text};

/// Entries that a source makes ready at first; each time after that it is eight times more.
const CHUNK_LEN: usize = 32;

/// Where an entry lies in its source: stream and row.
type Place = (u32, u32);

pub(super) enum Of {
    Block {
        part: Arc<Part>,
        text: Option<Box<Reader<Text>>>,
        metadata: Metadata,
    },
    Head(Arc<Generation>),
}

/// Entries of one block or generation in the order of the scan.
pub(super) struct Source {
    of: Of,
    rest: VecDeque<(EntryId, Place)>,
    pub(super) ready: VecDeque<(EntryId, Labels, Entry)>,
    chunk_len: usize,
}

/// What is asked for, and how it is to be given.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) plan: Arc<Plan>,
    pub(super) direction: Direction,
    pub(super) ordered: bool,
    pub(super) after: Option<EntryId>,
    pub(super) needs_line: bool,
    pub(super) needs_metadata: bool,
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
    pub(super) fn head_order(
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
    pub(super) fn block(
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
    pub(super) fn source(
        &self,
        of: Of,
        order: Vec<(EntryId, Place)>,
    ) -> Result<Source, StoreError> {
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

impl Source {
    pub(super) fn make_ready(&mut self, asked: &Asked) -> Result<(), StoreError> {
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
