//! Merging parts, so that a query opens few. Full blocks are copied as they are, also those
//! that small streams share, so a line is encoded once or twice in its life; only small ones
//! are decoded and written anew.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;

use kittiwake_env::Fs;
use kittiwake_model::Labels;

use crate::block::{self, Lines, Rows};
use crate::deletions::{self, Deletion};
use crate::part::{Block, Documents, Line, Metadata, Part, PartError, PartWriter};

/// Lines of a part that compaction still makes.
pub(crate) const ROWS_MAX: u64 = 1 << 24;

/// A part to be merged, with the deletions that concern it.
pub(crate) type Input = (Arc<Part>, Vec<Arc<Deletion>>);

/// Writes a part of all lines of the given ones that were not deleted. Gives their number; with
/// none there is no part.
pub(crate) fn merge(fs: &Arc<dyn Fs>, path: &Path, inputs: &[Input]) -> Result<u64, PartError> {
    let parts: Vec<Arc<Part>> = inputs.iter().map(|(part, _)| Arc::clone(part)).collect();
    let mut hidden = Vec::new();
    for (part, deletions) in inputs {
        let of = part.blocks.iter();
        let of = of.map(|block| deletions::hidden(deletions, part, block));
        hidden.push(of.collect::<Result<Vec<_>, _>>()?);
    }

    let mut numbers: BTreeMap<&Labels, usize> = BTreeMap::new();
    for stream in parts.iter().flat_map(|p| &p.streams) {
        numbers.insert(&stream.labels, 0);
    }
    for (number, place) in numbers.values_mut().enumerate() {
        *place = number;
    }
    let streams = numbers.keys().map(|labels| (*labels).clone()).collect();
    let streams_of = |part: &Arc<Part>| -> Vec<usize> {
        part.streams.iter().map(|s| numbers[&s.labels]).collect()
    };
    let merge = Merge {
        parts: &parts,
        hidden,
        streams: parts.iter().map(streams_of).collect(),
    };
    let mut writer = PartWriter::create(fs, path, streams)?;
    match merge
        .copy_full(&mut writer)
        .and_then(|()| merge.write_small(&mut writer))
    {
        Ok(()) if writer.rows() == 0 => {
            writer.abandon();
            Ok(0)
        }
        Ok(()) => writer.finish(),
        Err(error) => {
            writer.abandon();
            Err(error)
        }
    }
}

struct Merge<'a> {
    parts: &'a [Arc<Part>],
    /// Per part and block the rows that were deleted.
    hidden: Vec<Vec<Option<Rows>>>,
    /// Per part the numbers that its streams have in the part that is written.
    streams: Vec<Vec<usize>>,
}

/// A run of a small block: part, block, first row, and how many rows.
type Small = (usize, usize, usize, usize);

impl Merge<'_> {
    /// Whether a block is copied as it is.
    fn is_copied(&self, part: usize, block: usize) -> bool {
        self.hidden[part][block].is_none() && is_full(&self.parts[part].blocks[block])
    }

    fn is_hidden(&self, part: usize, block: usize, row: usize) -> bool {
        self.hidden[part][block]
            .as_ref()
            .is_some_and(|h| h.contains(row))
    }

    fn copy_full(&self, writer: &mut PartWriter) -> Result<(), PartError> {
        for (p, (part, streams)) in self.parts.iter().zip(&self.streams).enumerate() {
            let blocks = (0..part.blocks.len()).filter(|b| self.is_copied(p, *b));
            let blocks: Vec<usize> = blocks.collect();
            if blocks.is_empty() {
                continue;
            }
            let words = part.read_words()?.by_block()?;
            let mut copied = vec![None; part.blocks.len()];
            for number in blocks {
                copied[number] = Some(writer.copy(part, number, streams, &words)?);
            }
            writer.copy_groups(part, &copied)?;
        }
        Ok(())
    }

    fn write_small(&self, writer: &mut PartWriter) -> Result<(), PartError> {
        let mut by_stream: BTreeMap<usize, Vec<Small>> = BTreeMap::new();
        // The last stream of each small block, after which it is not needed any more.
        let mut last: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        let mut has_full = vec![false; self.streams.iter().flatten().max().map_or(0, |n| n + 1)];
        for (p, part) in self.parts.iter().enumerate() {
            for (b, block) in part.blocks.iter().enumerate() {
                for (run, rows) in block.runs() {
                    let stream = self.streams[p][run.stream];
                    if self.is_copied(p, b) {
                        has_full[stream] |= block.runs.len() == 1;
                    } else {
                        let runs = by_stream.entry(stream).or_default();
                        runs.push((p, b, rows.start, rows.len()));
                        last.insert((p, b), stream);
                    }
                }
            }
        }
        let mut opened: BTreeMap<(usize, usize), Opened> = BTreeMap::new();
        for (stream, runs) in by_stream {
            let rows: usize = runs.iter().map(|(.., rows)| rows).sum();
            // A stream with a block of its own gets no company in its small one either.
            let weight = if has_full[stream] { block::ROWS_MAX } else { 0 };
            writer.start(stream, rows + weight)?;
            let mut order = Vec::with_capacity(rows);
            for (p, b, first, rows) in runs {
                let block = match opened.entry((p, b)) {
                    Entry::Occupied(there) => there.into_mut(),
                    Entry::Vacant(place) => place.insert(Opened::read(&self.parts[p], b)?),
                };
                let kept = (first..first + rows).filter(|row| !self.is_hidden(p, b, *row));
                let keys = kept.map(|row| (block.key(row), (p, b), row));
                order.extend(keys);
            }
            order.sort_unstable();
            for (_, block, row) in order {
                writer.add(opened[&block].line(row))?;
            }
            opened.retain(|block, _| last[block] > stream);
        }
        Ok(())
    }
}

/// A decoded block.
struct Opened {
    times: Vec<i64>,
    ordinals: Vec<u32>,
    metadata: Metadata,
    documents: Documents,
    lines: Lines,
}

impl Opened {
    fn read(part: &Part, block: usize) -> Result<Self, PartError> {
        let block = &part.blocks[block];
        Ok(Self {
            times: part.times(block)?.all()?,
            ordinals: part.ordinals(block)?,
            metadata: part.metadata(block)?,
            documents: part.documents(block)?,
            lines: part.text(block)?.lines()?,
        })
    }

    fn key(&self, row: usize) -> (i64, u32) {
        (
            self.times[row],
            self.ordinals.get(row).copied().unwrap_or(0),
        )
    }

    fn line(&self, row: usize) -> Line<'_> {
        let (time_ns, ordinal) = self.key(row);
        Line {
            time_ns,
            ordinal,
            text: self.lines.line(row),
            metadata: self.metadata.of(row),
            document: self.documents.of(row),
        }
    }
}

/// Whether a block would not become much better by being written anew.
fn is_full(block: &Block) -> bool {
    block.rows >= block::ROWS_MAX / 4 || block.text_bytes >= block::TEXT_BYTES / 2
}
