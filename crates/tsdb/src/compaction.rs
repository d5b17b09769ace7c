//! Merging blocks, so that a query opens few and numbers compress over long pages.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kittiwake_env::Fs;
use kittiwake_model::{Columns, TimeRange};

use crate::block::{Block, BlockError, BlockSeries, BlockWriter, SeriesSamples, order};
use crate::select::append_merged;

/// Samples of a block that compaction still makes.
pub(crate) const SAMPLES_MAX: u64 = 1 << 26;

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
