//! Merging blocks, so that a query opens few and numbers compress over long pages.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use kittiwake_env::Fs;
use kittiwake_model::{Columns, TimeRange};

use crate::block::{Block, BlockError, BlockSeries, BlockWriter, SeriesSamples, order};
use crate::manifest::BlockMeta;
use crate::select::append_merged;

/// Neighbours of one level that become one block of the next.
pub(crate) const FAN_IN: usize = 10;
/// Samples of a block that compaction still makes larger.
const SAMPLES_MAX: u64 = 1 << 26;

/// Neighbouring blocks that should become one.
pub(crate) fn candidates(blocks: &[BlockMeta]) -> Option<Range<usize>> {
    let mut start = 0;
    while start < blocks.len() {
        let level = blocks[start].level;
        let same = blocks[start..].iter().take_while(|b| b.level == level);
        let count = same.count();
        let end = start + count;
        // Large neighbours are left behind; younger ones of the level may still merge.
        let mut from = start;
        while end - from >= FAN_IN {
            let range = from..from + FAN_IN;
            let samples: u64 = blocks[range.clone()].iter().map(|b| b.samples).sum();
            if samples <= SAMPLES_MAX {
                return Some(range);
            }
            from += 1;
        }
        start = end;
    }
    None
}

/// Writes a block of all samples of the given ones, the first one's where several have the
/// same series and time. Gives the number of samples.
pub(crate) fn merge(
    fs: &Arc<dyn Fs>,
    path: &Path,
    blocks: &[Arc<Block>],
) -> Result<u64, BlockError> {
    let mut by_series: BTreeMap<(&str, &kittiwake_model::Labels), Vec<(usize, &BlockSeries)>> =
        BTreeMap::new();
    for (index, block) in blocks.iter().enumerate() {
        for series in block.series() {
            by_series
                .entry(order(&series.labels))
                .or_default()
                .push((index, series));
        }
    }
    let mut writer = BlockWriter::create(fs, path)?;
    let mut samples = 0;
    for ((_, labels), parts) in by_series {
        let mut merged = Columns::default();
        let read = parts.into_iter().try_for_each(|(index, series)| {
            let mut part = Columns::default();
            blocks[index].read(series, TimeRange::ALL, &mut part)?;
            append_merged(&mut merged, part);
            Ok::<(), BlockError>(())
        });
        samples += merged.len() as u64;
        let added = read.and_then(|()| {
            writer.add(SeriesSamples {
                labels: labels.clone(),
                times: merged.times,
                values: merged.values,
            })
        });
        if let Err(error) = added {
            writer.abandon();
            return Err(error);
        }
    }
    writer.finish()?;
    Ok(samples)
}
