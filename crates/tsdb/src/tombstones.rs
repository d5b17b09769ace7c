//! What was deleted: series and ranges of time, for blocks that were there at the time.
//!
//! A deletion hides samples at once; they leave the disk when their block is written anew, by
//! compaction or on demand. Samples that come after the deletion are not hidden.

use std::path::{Path, PathBuf};

use kittiwake_env::Fs;
use kittiwake_journal::bytes::{Malformed, Reader, put_uvarint, put_varint};
use kittiwake_journal::sealed::Kind;
use kittiwake_journal::whole::{self, WholeError, put_matchers, read_matchers};
use kittiwake_model::{Columns, Labels, Matcher, TimeRange, matcher};

use crate::head::append_range;

const TOMBSTONES: Kind = Kind {
    magic: *b"KWMTOMBS",
    version: 1,
};

/// One deletion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tombstone {
    /// All must match.
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) range: TimeRange,
    /// Blocks with smaller numbers are concerned.
    pub(crate) before_block: u64,
}

impl Tombstone {
    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        matcher::all_match(&self.matchers, labels)
    }

    /// Whether a block can have samples that it hides.
    pub(crate) fn concerns(&self, block: u64, start_ms: i64, end_ms: i64) -> bool {
        block < self.before_block && self.range.overlaps(start_ms, end_ms)
    }

    /// Takes what it hides out of a series' samples.
    pub(crate) fn apply(&self, columns: &mut Columns) {
        let hidden = columns.times.iter().any(|t| self.range.contains(*t));
        if !hidden {
            return;
        }
        let all = std::mem::take(columns);
        if let Some(before) = self.range.start.checked_sub(1) {
            let before = TimeRange::new(i64::MIN, before);
            append_range(columns, &all, all.len(), before);
        }
        if let Some(after) = self.range.end.checked_add(1) {
            append_range(columns, &all, all.len(), TimeRange::new(after, i64::MAX));
        }
    }
}

/// Where the deletions of a store lie.
fn path(dir: &Path) -> PathBuf {
    dir.join("TOMBSTONES")
}

/// Writes the deletions of a store; none of them is no file.
pub(crate) fn write(fs: &dyn Fs, dir: &Path, all: &[Tombstone]) -> Result<(), WholeError> {
    if all.is_empty() {
        if fs.exists(&path(dir))? {
            fs.remove(&path(dir))?;
            fs.sync_dir(dir)?;
        }
        return Ok(());
    }
    whole::write(fs, &path(dir), TOMBSTONES, &records(all))?;
    Ok(())
}

/// ```text
/// count | per deletion: matchers, first and last time varint, number of the first block that is
/// not concerned
/// ```
fn records(all: &[Tombstone]) -> Vec<u8> {
    let mut out = Vec::new();
    put_uvarint(&mut out, all.len() as u64);
    for one in all {
        put_matchers(&mut out, &one.matchers);
        put_varint(&mut out, one.range.start);
        put_varint(&mut out, one.range.end);
        put_uvarint(&mut out, one.before_block);
    }
    out
}

/// Reads the deletions of a store.
pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<Vec<Tombstone>, WholeError> {
    let found = whole::read(fs, &path(dir), TOMBSTONES, read_records)?;
    Ok(found.unwrap_or_default())
}

fn read_records(reader: &mut Reader<'_>) -> Result<Vec<Tombstone>, String> {
    let malformed = |error: Malformed| error.to_string();
    let mut found = Vec::new();
    for _ in 0..reader.count(4).map_err(malformed)? {
        let matchers = read_matchers(reader)?;
        let start = reader.varint().map_err(malformed)?;
        let end = reader.varint().map_err(malformed)?;
        found.push(Tombstone {
            matchers,
            range: TimeRange::new(start, end),
            before_block: reader.uvarint().map_err(malformed)?,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use kittiwake_env::SimFs;
    use kittiwake_model::MatchOp;
    use proptest::prelude::*;

    use super::*;

    fn example() -> Vec<Tombstone> {
        vec![Tombstone {
            matchers: vec![
                Matcher::equal("job", "x"),
                Matcher::new(MatchOp::NotRegex, "a", "b.*").unwrap(),
            ],
            range: TimeRange::new(-5, i64::MAX),
            before_block: 7,
        }]
    }

    #[test]
    fn deletions_come_back_and_damage_is_seen() {
        let (fs, dir) = (SimFs::new(1), Path::new("/s"));
        fs.create_dir_all(dir).unwrap();
        assert_eq!(read(&fs, dir).unwrap(), []);
        write(&fs, dir, &example()).unwrap();
        assert_eq!(read(&fs, dir).unwrap(), example());
        let good = whole::encode(TOMBSTONES, &records(&example()));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs.write_atomic(&path(dir), &[&bad]).unwrap();
            assert!(read(&fs, dir).is_err(), "byte {at}");
        }
        write(&fs, dir, &[]).unwrap();
        assert_eq!(read(&fs, dir).unwrap(), []);
    }

    #[test]
    fn the_format_stays() {
        let hex = crate::golden::to_hex(&whole::encode(TOMBSTONES, &records(&example())));
        assert_eq!(hex, include_str!("../tests/golden/tombstones.hex").trim());
    }

    #[test]
    fn what_is_hidden_leaves_and_the_rest_stays() {
        let mut columns = Columns::default();
        for time in 0..9 {
            columns.push(time, time as f64);
        }
        let mut one = example().remove(0);
        one.range = TimeRange::new(2, 6);
        one.apply(&mut columns);
        assert_eq!(columns.times, [0, 1, 7, 8]);
        assert!(one.concerns(6, 6, 9) && !one.concerns(7, 6, 9) && !one.concerns(6, 7, 9));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read_records(&mut Reader::new(&bytes));
            let (fs, dir) = (SimFs::new(1), Path::new("/s"));
            fs.create_dir_all(dir).unwrap();
            fs.write_atomic(&path(dir), &[&bytes]).unwrap();
            let _ = read(&fs, dir);
        }
    }
}
