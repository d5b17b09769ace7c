//! What was deleted: lines of some streams and times, for parts that were there at the time.
//!
//! A deletion flushes the head, so that all lines before it lie in parts. It hides them at
//! once; they leave the disk when their part is written anew, by compaction or soon after.
//! Lines that come after a deletion are not hidden.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kittiwake_env::Fs;
use kittiwake_journal::FileMeta;
use kittiwake_journal::bytes::{Malformed, Reader, put_bytes, put_uvarint, put_varint};
use kittiwake_journal::sealed::Kind;
use kittiwake_journal::whole::{self, WholeError, put_matchers, read_matchers};
use kittiwake_model::{LineFilter, Matcher, TimeRange, matcher, pattern};

use crate::block::Rows;
use crate::part::{Block, Part, PartError};
use crate::store::{OpenError, Store};

const DELETIONS: Kind = Kind {
    magic: *b"KWLGDELE",
    version: 1,
};
/// Deletions that are kept at most; the oldest that are done are forgotten first.
const DELETIONS_MAX: usize = 1000;

/// Why a deletion cannot be kept, or the list of them not be read.
#[derive(Debug, thiserror::Error)]
pub enum DeletionError {
    /// The list cannot be read or written.
    #[error(transparent)]
    List(#[from] WholeError),
    /// Too many are waiting.
    #[error("{DELETIONS_MAX} deletions are under way already")]
    TooMany,
}

/// One deletion.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// What it is known by.
    pub id: String,
    /// As it was asked for.
    pub query: String,
    /// Which streams.
    pub selector: Vec<Matcher>,
    /// Which of their lines.
    pub filters: Vec<LineFilter>,
    /// From when to when, in ns.
    pub range: TimeRange,
    /// When it was asked for, in ns.
    pub created_ns: i64,
    /// Whether no line of it is on disk any more.
    pub is_done: bool,
    /// Parts with smaller numbers are concerned.
    pub(crate) before_part: u64,
}

impl Deletion {
    /// Whether a part can have lines that it hides.
    pub(crate) fn concerns(&self, meta: &FileMeta, part: &Part) -> bool {
        meta.id < self.before_part
            && self.range.overlaps(meta.start, meta.end)
            && part.streams.iter().any(|s| {
                self.range.overlaps(s.range.start, s.range.end)
                    && s.range.start <= s.range.end
                    && matcher::all_match(&self.selector, &s.labels)
            })
    }

    /// Whether a part has a stream of which it hides every line.
    pub(crate) fn covers_stream(&self, part: &Part) -> bool {
        part.streams.iter().any(|s| {
            s.range.start <= s.range.end
                && self.range.start <= s.range.start
                && s.range.end <= self.range.end
                && matcher::all_match(&self.selector, &s.labels)
        })
    }

    /// Adds the rows of a block that it hides.
    fn hide(&self, part: &Part, block: &Block, hidden: &mut Rows) -> Result<(), PartError> {
        if !self.range.overlaps(block.range.start, block.range.end) {
            return Ok(());
        }
        let mut rows = Rows::none(block.rows);
        let mut times = None;
        for (run, of) in block.runs() {
            let labels = &part.streams[run.stream].labels;
            if !self.range.overlaps(run.range.start, run.range.end)
                || !matcher::all_match(&self.selector, labels)
            {
                continue;
            }
            let times = match &times {
                Some(times) => times,
                None => times.insert(part.times(block)?),
            };
            rows.insert_range(times.within(of, run.range, self.range)?);
        }
        if !rows.is_empty() && !self.filters.is_empty() {
            let mut text = part.text(block)?;
            for filter in &self.filters {
                text.filter(filter, &mut rows)?;
            }
        }
        hidden.unite(&rows);
        Ok(())
    }
}

/// The rows of a block that are hidden; `None` when none are.
pub(crate) fn hidden(
    deletions: &[Arc<Deletion>],
    part: &Part,
    block: &Block,
) -> Result<Option<Rows>, PartError> {
    if deletions.is_empty() {
        return Ok(None);
    }
    let mut hidden = Rows::none(block.rows);
    for deletion in deletions {
        deletion.hide(part, block, &mut hidden)?;
    }
    Ok((!hidden.is_empty()).then_some(hidden))
}

impl Store {
    /// Deletes the lines that are there, hiding them at once. Gives the deletion's id.
    pub fn delete(
        &self,
        query: &str,
        selector: Vec<Matcher>,
        filters: Vec<LineFilter>,
        range: TimeRange,
    ) -> Result<String, OpenError> {
        self.flush()?;
        let manifest = self.manifest.lock();
        let created_ns = self.clock.now_ns();
        let mut all = self.deletions();
        while all.len() >= DELETIONS_MAX {
            let Some(done) = all.iter().position(|d| d.is_done) else {
                return Err(DeletionError::TooMany.into());
            };
            all.remove(done);
        }
        let last = all
            .iter()
            .filter_map(|d| u64::from_str_radix(&d.id, 16).ok());
        let id = format!("{:08x}", last.max().map_or(1, |last| last + 1));
        all.push(Arc::new(Deletion {
            id: id.clone(),
            query: query.to_owned(),
            selector,
            filters,
            range,
            created_ns,
            is_done: false,
            before_part: manifest.next_id,
        }));
        self.keep_deletions(all)?;
        Ok(id)
    }

    /// All deletions, the oldest first.
    pub fn deletions(&self) -> Vec<Arc<Deletion>> {
        self.state.read().deletions.clone()
    }

    /// Takes a deletion back. What it hides is there again, as far as it is still on disk.
    /// False when there is none of that id, or it is done.
    pub fn cancel_deletion(&self, id: &str) -> Result<bool, OpenError> {
        let _manifest = self.manifest.lock();
        let mut all = self.deletions();
        let Some(place) = all.iter().position(|d| d.id == id && !d.is_done) else {
            return Ok(false);
        };
        all.remove(place);
        self.keep_deletions(all)?;
        Ok(true)
    }

    /// Replaces the list of deletions. Whoever calls holds the manifest.
    pub(crate) fn keep_deletions(&self, all: Vec<Arc<Deletion>>) -> Result<(), DeletionError> {
        whole::write(
            self.fs.as_ref(),
            &path(&self.dir),
            DELETIONS,
            &records(&all),
        )
        .map_err(WholeError::from)?;
        self.state.write().deletions = all;
        Ok(())
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("DELETIONS")
}

/// ```text
/// count | per deletion: id, query, matchers, filters (count, then kind u8, texts (count, then
/// text)), first and last time varint, created varint, number of the first part that is not
/// concerned, done u8
/// ```
fn records(all: &[Arc<Deletion>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_uvarint(&mut out, all.len() as u64);
    for one in all {
        put_bytes(&mut out, one.id.as_bytes());
        put_bytes(&mut out, one.query.as_bytes());
        put_matchers(&mut out, &one.selector);
        put_uvarint(&mut out, one.filters.len() as u64);
        for filter in &one.filters {
            let (kind, texts): (u8, Vec<&str>) = match filter {
                LineFilter::Contains(texts) => (0, texts.iter().map(String::as_str).collect()),
                LineFilter::NotContains(texts) => (1, texts.iter().map(String::as_str).collect()),
                LineFilter::Matches(all) => (2, all.iter().map(regex::Regex::as_str).collect()),
                LineFilter::NotMatches(all) => (3, all.iter().map(regex::Regex::as_str).collect()),
            };
            out.push(kind);
            put_uvarint(&mut out, texts.len() as u64);
            for text in texts {
                put_bytes(&mut out, text.as_bytes());
            }
        }
        put_varint(&mut out, one.range.start);
        put_varint(&mut out, one.range.end);
        put_varint(&mut out, one.created_ns);
        put_uvarint(&mut out, one.before_part);
        out.push(u8::from(one.is_done));
    }
    out
}

/// Reads the deletions of a store; no file is none.
pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<Vec<Arc<Deletion>>, DeletionError> {
    let found = whole::read(fs, &path(dir), DELETIONS, read_records)?;
    Ok(found.unwrap_or_default())
}

fn read_records(reader: &mut Reader<'_>) -> Result<Vec<Arc<Deletion>>, String> {
    let count = reader.count(8).map_err(|e| e.to_string())?;
    (0..count).map(|_| read_one(reader).map(Arc::new)).collect()
}

fn read_one(reader: &mut Reader<'_>) -> Result<Deletion, String> {
    let text = |error: Malformed| error.to_string();
    let id = reader.text().map_err(text)?.to_owned();
    let query = reader.text().map_err(text)?.to_owned();
    let selector = read_matchers(reader)?;
    let mut filters = Vec::new();
    for _ in 0..reader.count(2).map_err(text)? {
        let kind = reader.u8().map_err(text)?;
        let mut texts = Vec::new();
        for _ in 0..reader.count(1).map_err(text)? {
            texts.push(reader.text().map_err(text)?.to_owned());
        }
        let regexes = |texts: &[String]| -> Result<Vec<regex::Regex>, String> {
            let regexes = texts.iter().map(|text| pattern::again(text));
            regexes.collect::<Result<_, _>>().map_err(|e| e.to_string())
        };
        filters.push(match kind {
            0 => LineFilter::Contains(texts),
            1 => LineFilter::NotContains(texts),
            2 => LineFilter::Matches(regexes(&texts)?),
            3 => LineFilter::NotMatches(regexes(&texts)?),
            other => return Err(format!("filter of kind {other}")),
        });
    }
    Ok(Deletion {
        id,
        query,
        selector,
        filters,
        range: TimeRange::new(
            reader.varint().map_err(text)?,
            reader.varint().map_err(text)?,
        ),
        created_ns: reader.varint().map_err(text)?,
        before_part: reader.uvarint().map_err(text)?,
        is_done: reader.u8().map_err(text)? != 0,
    })
}

#[cfg(test)]
mod tests {
    use kittiwake_env::SimFs;
    use kittiwake_model::MatchOp;
    use proptest::prelude::*;

    use super::*;

    fn deletion(query: &str, start: i64) -> Arc<Deletion> {
        Arc::new(Deletion {
            id: "00000007".to_owned(),
            query: query.to_owned(),
            selector: vec![
                Matcher::equal("a", "b"),
                Matcher::new(MatchOp::NotRegex, "c", "d.*").unwrap(),
            ],
            filters: vec![
                LineFilter::Contains(vec!["x".to_owned(), query.to_owned()]),
                LineFilter::NotMatches(vec![regex::Regex::new("y+").unwrap()]),
            ],
            range: TimeRange::new(start, start.saturating_add(5)),
            created_ns: 17,
            is_done: start % 2 == 0,
            before_part: 9,
        })
    }

    proptest! {
        #[test]
        fn deletions_come_back(query: String, starts: Vec<i64>) {
            let all: Vec<_> = starts.iter().map(|s| deletion(&query, *s)).collect();
            let back = read_records(&mut Reader::new(&records(&all))).unwrap();
            prop_assert_eq!(format!("{back:?}"), format!("{all:?}"));
        }

        #[test]
        fn random_bytes_never_panic(tail: Vec<u8>) {
            let (fs, dir) = (SimFs::new(1), Path::new("/d"));
            fs.create_dir_all(dir).unwrap();
            whole::write(&fs, &path(dir), DELETIONS, &tail).unwrap();
            let _ = read(&fs, dir);
        }
    }

    #[test]
    fn a_large_expression_comes_back() {
        // Larger than what a regular expression may be unless one says otherwise.
        let large = pattern::unanchored(r"(\pL{20}){16}").unwrap();
        assert!(regex::Regex::new(large.as_str()).is_err());
        let one = Deletion {
            filters: vec![LineFilter::Matches(vec![large])],
            ..deletion("q", 0).as_ref().clone()
        };
        let back = read_records(&mut Reader::new(&records(&[Arc::new(one)]))).unwrap();
        assert_eq!(back[0].filters.len(), 1);
    }
}
