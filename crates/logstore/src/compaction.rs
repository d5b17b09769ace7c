//! Merging parts, so that a query opens few. Full blocks are copied as they are; only small
//! ones are decoded and written anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kittiwake_env::Fs;
use kittiwake_model::Labels;

use crate::block;
use crate::part::{Block, Columns, Line, Need, Part, PartError, PartWriter};

/// Lines of a part that compaction still makes.
pub(crate) const ROWS_MAX: u64 = 1 << 27;

/// Writes a part of all lines of the given ones. Gives the number of lines.
pub(crate) fn merge(fs: &Arc<dyn Fs>, path: &Path, parts: &[Arc<Part>]) -> Result<u64, PartError> {
    let mut writer = PartWriter::create(fs, path)?;
    match merge_into(&mut writer, parts) {
        Ok(()) => writer.finish(),
        Err(error) => {
            writer.abandon();
            Err(error)
        }
    }
}

/// Part, block, and the run's place in the block.
type Place = (usize, usize, usize);

fn merge_into(writer: &mut PartWriter, parts: &[Arc<Part>]) -> Result<(), PartError> {
    let mut by_stream: BTreeMap<&Labels, Vec<Place>> = BTreeMap::new();
    for (p, part) in parts.iter().enumerate() {
        for (b, block) in part.blocks.iter().enumerate() {
            for (r, run) in block.runs.iter().enumerate() {
                let labels = &part.streams[run.stream].labels;
                by_stream.entry(labels).or_default().push((p, b, r));
            }
        }
    }
    // Runs come in order of streams, and so do those of a shared block: one decoded block per
    // part is enough.
    let mut decoded: Vec<Option<(usize, Columns)>> = parts.iter().map(|_| None).collect();
    for (labels, places) in by_stream {
        let (full, small): (Vec<Place>, Vec<Place>) = places
            .into_iter()
            .partition(|(p, b, _)| is_full(&parts[*p].blocks[*b]));
        let rows = |(p, b, r): &Place| parts[*p].blocks[*b].runs[*r].rows;
        // A stream with a block of its own gets no company in its small one either.
        let weight = if full.is_empty() { 0 } else { block::ROWS_MAX };
        writer.start(
            labels.clone(),
            small.iter().map(rows).sum::<usize>() + weight,
        )?;
        for (p, b, _) in &full {
            writer.copy(&parts[*p], *b)?;
        }
        for (p, b, r) in small {
            let (part, block) = (&parts[p], &parts[p].blocks[b]);
            let slot = &mut decoded[p];
            let columns = match slot {
                Some((at, columns)) if *at == b => columns,
                _ => {
                    let columns = part.read(block, Need::All)?;
                    &mut slot.insert((b, columns)).1
                }
            };
            let start: usize = block.runs[..r].iter().map(|r| r.rows).sum();
            for row in start..start + block.runs[r].rows {
                writer.add(Line {
                    time_ns: columns.times[row],
                    ordinal: columns.ordinal(row),
                    text: columns.line(row),
                    metadata: columns.metadata(row),
                })?;
            }
        }
    }
    Ok(())
}

/// Whether a block would not become better by being written anew.
fn is_full(block: &Block) -> bool {
    block.runs.len() == 1
        && (block.rows >= block::ROWS_MAX / 2 || block.text_bytes >= block::TEXT_BYTES / 2)
}
