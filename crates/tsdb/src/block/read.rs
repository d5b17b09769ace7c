//! Reading a block through the cache.

use std::path::Path;
use std::sync::Arc;

use kittiwake_env::Fs;
use kittiwake_journal::bytes::Reader;
use kittiwake_journal::sealed::SealedFile;
use kittiwake_model::{Columns, Labels, Matcher, TimeRange};

use super::index::{Group, Index, NO_STARTS, Page, Piece};
use super::summary::{self, Summary};
use super::{
    BLOCK, BlockError, COLUMNS, DICTIONARY, GROUPS, INDEX, INDEX_BYTES_MAX, PIECE_BYTES_MAX,
    SUMMARIES,
};
use crate::cache::Cache;
use crate::codec::{self, Tables};
use crate::dictionary::Dictionary;
use crate::head::{Sample, append_range, append_starts};
use crate::histogram;

/// A part of a block in memory.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    Index(Arc<Index>),
    Group(Arc<LoadedGroup>),
    Column(Arc<Vec<i64>>),
}

#[derive(Debug)]
pub(crate) struct LoadedGroup {
    /// `None`: histograms.
    tables: Option<Tables>,
    bytes: Vec<u8>,
    tables_len: usize,
}

pub(crate) type BlockCache = Cache<Part>;

const OF_INDEX: u8 = 0;
const OF_GROUP: u8 = 1;
const OF_COLUMN: u8 = 2;

/// The number of a series in its block, in order of metric name and label set.
pub type Series = u32;

/// An open block.
#[derive(Debug)]
pub struct Block {
    file: SealedFile,
    cache: Arc<BlockCache>,
    name: u64,
}

/// What reading needs from page to page: buffers, and what was used last.
#[derive(Default)]
pub(crate) struct Scratch {
    codec: codec::Scratch,
    group: Option<(u64, u32, Arc<LoadedGroup>)>,
    column: Option<(u64, u32, Arc<Vec<i64>>)>,
    page: Columns,
}

impl Block {
    /// Opens a block. Its index is read when it is first asked for.
    pub(crate) fn open(
        fs: &dyn Fs,
        path: &Path,
        cache: &Arc<BlockCache>,
    ) -> Result<Self, BlockError> {
        Ok(Self {
            file: SealedFile::open(fs, path, BLOCK)?,
            cache: Arc::clone(cache),
            name: cache.name_block(),
        })
    }

    /// Opens a block to be read alone, with a cache of its own.
    pub fn open_alone(fs: &dyn Fs, path: &Path, cache_bytes: usize) -> Result<Self, BlockError> {
        Self::open(fs, path, &Cache::new(cache_bytes))
    }

    /// Bytes of the file.
    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    /// The series that match and may have samples in the range.
    pub fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<Series>, BlockError> {
        Ok(self.index()?.select(matchers, range))
    }

    /// A series' labels.
    pub fn labels(&self, series: Series) -> Result<Labels, BlockError> {
        Ok(self.index()?.labels(series))
    }

    /// Appends a series' samples within the range.
    pub fn read(
        &self,
        series: Series,
        range: TimeRange,
        into: &mut Columns,
    ) -> Result<(), BlockError> {
        let index = self.index()?;
        self.read_with(&index, series, range, &mut Scratch::default(), into)
    }

    /// Time and bits of the last sample of the series with these labels.
    pub(crate) fn last_sample(&self, labels: &Labels) -> Result<Option<(i64, u64)>, BlockError> {
        let index = self.index()?;
        let Some(series) = index.find(labels) else {
            return Ok(None);
        };
        let end = index.range(series).end;
        let mut found = Columns::default();
        let at = TimeRange::new(end, end);
        self.read_with(&index, series, at, &mut Scratch::default(), &mut found)?;
        Ok((!found.is_empty()).then(|| (end, Sample::of(&found, 0).bits())))
    }

    /// What is known of the pages of a series: times of the first and last sample, how many,
    /// and figures of those that have some.
    #[allow(clippy::type_complexity)]
    pub fn summaries(
        &self,
        series: Series,
    ) -> Result<Vec<(TimeRange, u32, Option<Summary>)>, BlockError> {
        let index = self.index()?;
        let mut found = Vec::new();
        for page in index.pages_of(series) {
            let group = &index.groups[page.group as usize];
            let bytes = self.piece(SUMMARIES, &group.summaries)?;
            let mut reader = Reader::new(&bytes);
            // Summaries are in order of pages, and a group has few.
            let before = |p: &&Page| p.group == page.group && p.offset < page.offset;
            for _ in index.pages.iter().filter(before) {
                summary::read(&mut reader)?;
            }
            let column = index.columns[page.column as usize];
            found.push((column.range, column.samples, summary::read(&mut reader)?));
        }
        Ok(found)
    }

    /// Reads all of it, and gives the number of its series and samples.
    pub fn verify(&self) -> Result<(u64, u64), BlockError> {
        let index = self.index()?;
        let mut scratch = Scratch::default();
        let mut columns = Columns::default();
        let mut samples = 0;
        for series in 0..index.len() as u32 {
            columns.clear();
            self.read_with(&index, series, TimeRange::ALL, &mut scratch, &mut columns)?;
            samples += columns.len() as u64;
        }
        for group in &index.groups {
            self.piece(SUMMARIES, &group.summaries)?;
        }
        Ok((index.len() as u64, samples))
    }

    pub(crate) fn index(&self) -> Result<Arc<Index>, BlockError> {
        if let Some(Part::Index(index)) = self.cache.get((self.name, OF_INDEX, 0)) {
            return Ok(index);
        }
        let bytes = self.file.section(DICTIONARY, INDEX_BYTES_MAX)?;
        let dictionary = Dictionary::decode(&mut Reader::new(&bytes))?;
        drop(bytes);
        let bytes = self.file.section(INDEX, INDEX_BYTES_MAX)?;
        let index = Arc::new(Index::decode(dictionary, &bytes)?);
        let part = Part::Index(Arc::clone(&index));
        self.cache
            .put((self.name, OF_INDEX, 0), part, index.bytes());
        Ok(index)
    }

    pub(crate) fn read_with(
        &self,
        index: &Index,
        series: Series,
        range: TimeRange,
        scratch: &mut Scratch,
        into: &mut Columns,
    ) -> Result<(), BlockError> {
        for page in index.pages_of(series) {
            let own = index.columns[page.column as usize].range;
            if !range.overlaps(own.start, own.end) {
                continue;
            }
            let is_whole = range.contains(own.start) && range.contains(own.end);
            if is_whole && page.starts == NO_STARTS && into.starts.is_empty() {
                self.read_page(index, page, i64::MAX, scratch, into)?;
                continue;
            }
            let mut columns = std::mem::take(&mut scratch.page);
            columns.clear();
            self.read_page(index, page, range.end, scratch, &mut columns)?;
            append_range(into, &columns, columns.len(), range);
            scratch.page = columns;
        }
        Ok(())
    }

    /// Appends the samples of a page up to a time, and some after it.
    fn read_page(
        &self,
        index: &Index,
        page: &Page,
        end_ms: i64,
        scratch: &mut Scratch,
        into: &mut Columns,
    ) -> Result<(), BlockError> {
        let column = self.column(index, page.column, scratch)?;
        let group = self.group(index, page.group, scratch)?;
        let base = into.len();
        let start = group.tables_len + page.offset as usize;
        let bytes = group.bytes.get(start..start + page.len as usize);
        let bytes = bytes.ok_or_else(|| self.file.damaged("a page lies outside its group"))?;
        let mut wanted = column.len();
        if let Some(tables) = &group.tables {
            wanted = column.partition_point(|t| *t <= end_ms);
            let (codec, values) = (&mut scratch.codec, &mut into.values);
            tables.decode(bytes, column.len(), wanted, codec, values)?;
        } else {
            let all = histogram::decode_page(bytes, column.len())?;
            let numbered = (base as u32..).zip(all);
            into.histograms.extend(numbered);
            into.values.resize(base + column.len(), f64::NAN);
        }
        into.times.extend_from_slice(&column[..wanted]);
        if page.starts != NO_STARTS {
            let bytes = self.piece(COLUMNS, &index.starts[page.starts as usize])?;
            let mut starts = Vec::new();
            codec::decode_starts(&mut Reader::new(&bytes), column.len(), &mut starts)?;
            append_starts(into, base, &starts[..wanted]);
        }
        Ok(())
    }

    fn column(
        &self,
        index: &Index,
        number: u32,
        scratch: &mut Scratch,
    ) -> Result<Arc<Vec<i64>>, BlockError> {
        if let Some((block, last, column)) = &scratch.column
            && (*block, *last) == (self.name, number)
        {
            return Ok(Arc::clone(column));
        }
        let key = (self.name, OF_COLUMN, number);
        let column = if let Some(Part::Column(column)) = self.cache.get(key) {
            column
        } else {
            let of = &index.columns[number as usize];
            let bytes = self.piece(COLUMNS, &of.piece)?;
            let mut times = Vec::with_capacity((of.samples as usize).min(codec::PAGE_SAMPLES_MAX));
            codec::decode_times(&mut Reader::new(&bytes), &mut times)?;
            if times.len() != of.samples as usize || !times.is_sorted() {
                return Err(self.file.damaged("a column of times").into());
            }
            let column = Arc::new(times);
            let part = Part::Column(Arc::clone(&column));
            self.cache.put(key, part, column.len() * 8 + 64);
            column
        };
        scratch.column = Some((self.name, number, Arc::clone(&column)));
        Ok(column)
    }

    fn group(
        &self,
        index: &Index,
        number: u32,
        scratch: &mut Scratch,
    ) -> Result<Arc<LoadedGroup>, BlockError> {
        if let Some((block, last, group)) = &scratch.group
            && (*block, *last) == (self.name, number)
        {
            return Ok(Arc::clone(group));
        }
        let key = (self.name, OF_GROUP, number);
        let group = if let Some(Part::Group(group)) = self.cache.get(key) {
            group
        } else {
            let group = Arc::new(self.load_group(&index.groups[number as usize])?);
            // Tables in memory are larger than on disk.
            let bytes = group.bytes.len() + group.tables_len * 8 + 1024;
            self.cache.put(key, Part::Group(Arc::clone(&group)), bytes);
            group
        };
        scratch.group = Some((self.name, number, Arc::clone(&group)));
        Ok(group)
    }

    fn load_group(&self, group: &Group) -> Result<LoadedGroup, BlockError> {
        let bytes = self.piece(GROUPS, &group.piece)?;
        let tables_len = group.tables_len as usize;
        let header = bytes.get(..tables_len);
        let header = header.ok_or_else(|| self.file.damaged("tables longer than their group"))?;
        let tables = match group.class {
            Some(class) => Some(Tables::read(class, header)?),
            None => None,
        };
        Ok(LoadedGroup {
            tables,
            bytes,
            tables_len,
        })
    }

    fn piece(&self, section: u32, piece: &Piece) -> Result<Vec<u8>, BlockError> {
        if u64::from(piece.len) > PIECE_BYTES_MAX {
            let what = format!("a piece of {} bytes", piece.len);
            return Err(self.file.damaged(what).into());
        }
        let bytes = self.file.range(section, piece.offset, piece.len as usize)?;
        if crc32c::crc32c(&bytes) != piece.crc {
            let what = format!("checksum of {} bytes at {}", piece.len, piece.offset);
            return Err(self.file.damaged(what).into());
        }
        Ok(bytes)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.cache.forget(self.name);
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}
