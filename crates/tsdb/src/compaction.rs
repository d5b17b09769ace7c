//! Merging blocks, so that a query opens few and numbers compress over long pages.

use std::path::Path;
use std::sync::Arc;

use kittiwake_env::Fs;
use kittiwake_model::{Columns, TimeRange};

use crate::block::{Block, BlockError, BlockWriter, Scratch, Wanted};
use crate::dictionary::{DictionaryBuilder, NAMELESS};
use crate::select::append_merged;
use crate::tiers::{self, Tier};
use crate::tombstones::Tombstone;

/// Samples of a block that compaction still makes.
pub(crate) const SAMPLES_MAX: u64 = 1 << 28;

/// What a merge made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Merged {
    pub(crate) samples: u64,
    pub(crate) range: Option<TimeRange>,
}

/// A block to be merged, with what was deleted from it.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) block: Arc<Block>,
    pub(crate) tier: Option<Tier>,
    pub(crate) tombstones: Vec<Tombstone>,
}

/// Writes a block of all samples of the given ones, the first one's where several have the
/// same series and time; with a tier, of what that keeps of them.
pub(crate) fn merge(
    fs: &Arc<dyn Fs>,
    path: &Path,
    inputs: &[Input],
    tier: Option<Tier>,
) -> Result<Merged, BlockError> {
    let indexes = inputs
        .iter()
        .map(|i| i.block.index())
        .collect::<Result<Vec<_>, _>>()?;
    let mut builder = DictionaryBuilder::default();
    let mut numbers = Vec::new();
    for index in &indexes {
        let dictionary = &index.dictionary;
        let sets: Vec<u32> = (0..dictionary.sets() as u32)
            .map(|set| builder.set(dictionary.set(set)))
            .collect();
        let names: Vec<(u32, u32)> = index
            .names()
            .map(|name| (name, builder.text(dictionary.text(name))))
            .collect();
        numbers.push((names, sets));
    }
    let done = builder.finish();
    // The key of a block's series in the new order; each block has its own in that order too.
    let key = |input: usize, series: u32| {
        let (name, set) = indexes[input].name_and_set(series);
        let (names, sets) = &numbers[input];
        let name = match names.binary_search_by_key(&name, |n| n.0) {
            Ok(at) => done.texts[names[at].1 as usize],
            Err(_) => NAMELESS,
        };
        (name, done.sets[sets[set as usize] as usize])
    };
    let mut next: Vec<(u32, Option<(u32, u32)>)> = (0..inputs.len())
        .map(|i| (0, (indexes[i].len() > 0).then(|| key(i, 0))))
        .collect();
    let mut writer = BlockWriter::create(fs, path, done.dictionary)?;
    let mut scratch = Scratch::default();
    while let Some(least) = next.iter().filter_map(|n| n.1).min() {
        let mut merged = Columns::default();
        for (input, (series, now)) in next.iter_mut().enumerate() {
            if *now != Some(least) {
                continue;
            }
            let mut part = Columns::default();
            let (of, index) = (&inputs[input], &indexes[input]);
            let read = of.block.read_with(
                index,
                *series,
                Wanted::all(TimeRange::ALL),
                &mut scratch,
                &mut part,
            );
            if let Err(error) = read {
                writer.abandon();
                return Err(error);
            }
            if !of.tombstones.is_empty() {
                let labels = index.labels(*series);
                for tombstone in of.tombstones.iter().filter(|t| t.matches(&labels)) {
                    tombstone.apply(&mut part);
                }
            }
            append_merged(&mut merged, part);
            *series += 1;
            *now = ((*series as usize) < index.len()).then(|| key(input, *series));
        }
        if let Some(tier) = tier {
            merged = tiers::reduce(&merged, inputs[0].tier.map(|t| t.aggregate), tier);
        }
        if let Err(error) = writer.add(least.0, least.1, &merged) {
            writer.abandon();
            return Err(error);
        }
    }
    let merged = Merged {
        samples: writer.samples(),
        range: writer.range(),
    };
    writer.finish()?;
    Ok(merged)
}
