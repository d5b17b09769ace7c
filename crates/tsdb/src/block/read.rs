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

/// The summaries of a group's pages, in their order.
type Summaries = Arc<Vec<Option<Summary>>>;

/// A part of a block in memory.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    Index(Arc<Index>),
    Group(Arc<LoadedGroup>),
    Column(Arc<Vec<i64>>),
    /// The values of a page.
    Page(Arc<Vec<f64>>),
    Summaries(Summaries),
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
const OF_PAGE: u8 = 3;
const OF_SUMMARIES: u8 = 4;
/// A query puts decoded pages into the cache until they take this part of it, so that one that
/// reads everything leaves there what others use; and of a page it wants at least such a part.
const PAGES_SHARE: usize = 4;
/// Samples for which memory is taken before they are read.
const SAMPLES_AHEAD: usize = 64 << 10;

/// The number of a series in its block, in order of metric name and label set.
pub type Series = u32;

/// What is to be read of a series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) range: TimeRange,
    /// Any values will do for those that are no stale marker.
    pub(crate) only_presence: bool,
}

impl Wanted {
    pub(crate) fn all(range: TimeRange) -> Self {
        Self {
            range,
            only_presence: false,
        }
    }
}

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
    summaries: Option<(u64, u32, Summaries)>,
    page: Columns,
    /// Bytes of decoded pages that may yet be put into the cache; 0 for who reads all once.
    cacheable_bytes: usize,
}

impl Scratch {
    /// For a query, of which much may be asked again.
    pub(crate) fn caching(cache: &BlockCache) -> Self {
        Self {
            cacheable_bytes: cache.bytes_max() / PAGES_SHARE,
            ..Self::default()
        }
    }
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
        Self::open(fs, path, &Cache::new(cache_bytes, 0))
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
        let wanted = Wanted::all(range);
        let mut scratch = Scratch::caching(&self.cache);
        self.read_with(&index, series, wanted, &mut scratch, into)
    }

    /// Time and bits of the last sample of the series with these labels.
    pub(crate) fn last_sample(&self, labels: &Labels) -> Result<Option<(i64, u64)>, BlockError> {
        let index = self.index()?;
        let Some(series) = index.find(labels) else {
            return Ok(None);
        };
        let end = index.range(series).end;
        let mut found = Columns::default();
        let at = Wanted::all(TimeRange::new(end, end));
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
        let mut scratch = Scratch::default();
        for page in index.pages_of(series) {
            let column = index.columns[page.column as usize];
            let summary = self.summary(&index, page, &mut scratch)?;
            found.push((column.range, column.samples, summary));
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
            let all = Wanted::all(TimeRange::ALL);
            self.read_with(&index, series, all, &mut scratch, &mut columns)?;
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
        let mut dictionary = Dictionary::decode(&mut Reader::new(&bytes))?;
        dictionary.hash_pairs(self.cache.key());
        drop(bytes);
        let bytes = self.file.section(INDEX, INDEX_BYTES_MAX)?;
        let index = Arc::new(Index::decode(dictionary, &bytes)?);
        let part = Part::Index(Arc::clone(&index));
        self.cache
            .put((self.name, OF_INDEX, 0), part, index.bytes());
        Ok(index)
    }

    /// Appends a series' samples within the range.
    pub(crate) fn read_with(
        &self,
        index: &Index,
        series: Series,
        wanted: Wanted,
        scratch: &mut Scratch,
        into: &mut Columns,
    ) -> Result<(), BlockError> {
        let range = wanted.range;
        let samples = index.samples_within(series, range).min(SAMPLES_AHEAD);
        into.times.reserve(samples);
        into.values.reserve(samples);
        for number in index.page_numbers(series) {
            let page = &index.pages[number];
            let own = index.columns[page.column as usize].range;
            if !range.overlaps(own.start, own.end) {
                continue;
            }
            let is_plain = page.starts == NO_STARTS && into.starts.is_empty();
            if is_plain && index.groups[page.group as usize].class.is_some() {
                self.read_floats(index, number, wanted, scratch, into)?;
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

    /// Appends the samples within the range of a page of floats without start times.
    fn read_floats(
        &self,
        index: &Index,
        number: usize,
        wanted: Wanted,
        scratch: &mut Scratch,
        into: &mut Columns,
    ) -> Result<(), BlockError> {
        let page = &index.pages[number];
        let column = self.column(index, page.column, scratch)?;
        let start = column.partition_point(|t| *t < wanted.range.start);
        let end = column
            .partition_point(|t| *t <= wanted.range.end)
            .max(start);
        if wanted.only_presence && self.summary(index, page, scratch)?.is_some() {
            // None of them is a stale marker: the summary says that all are finite.
            into.values.resize(into.values.len() + end - start, 0.0);
        } else {
            let key = (self.name, OF_PAGE, number as u32);
            if let Some(Part::Page(values)) = self.cache.get(key) {
                into.values
                    .extend_from_slice(self.cut(&values, start, end)?);
            } else {
                self.decode_page(index, number, (start, end), scratch, &mut into.values)?;
            }
        }
        into.times.extend_from_slice(&column[start..end]);
        Ok(())
    }

    /// Decodes some values of a page: all of it into the cache as well, if they are many.
    fn decode_page(
        &self,
        index: &Index,
        number: usize,
        (start, end): (usize, usize),
        scratch: &mut Scratch,
        into: &mut Vec<f64>,
    ) -> Result<(), BlockError> {
        let page = &index.pages[number];
        let len = index.columns[page.column as usize].samples as usize;
        let group = self.group(index, page.group, scratch)?;
        let (bytes, tables) = (self.page_bytes(page, &group)?, group.tables.as_ref());
        let tables = tables.ok_or_else(|| self.file.damaged("a group without tables"))?;
        let codec = &mut scratch.codec;
        let size_bytes = len * size_of::<f64>();
        if size_bytes > scratch.cacheable_bytes || end < len / PAGES_SHARE {
            let base = into.len();
            tables.decode(bytes, len, end, codec, into)?;
            into.drain(base..base + start);
            return Ok(());
        }
        let mut values = Vec::with_capacity(len.min(codec::PAGE_SAMPLES_MAX));
        tables.decode(bytes, len, len, codec, &mut values)?;
        into.extend_from_slice(self.cut(&values, start, end)?);
        scratch.cacheable_bytes -= size_bytes;
        let (key, part) = (
            (self.name, OF_PAGE, number as u32),
            Part::Page(values.into()),
        );
        self.cache.put(key, part, size_bytes + 64);
        Ok(())
    }

    fn cut<'v>(
        &self,
        values: &'v [f64],
        start: usize,
        end: usize,
    ) -> Result<&'v [f64], BlockError> {
        let values = values.get(start..end);
        Ok(values.ok_or_else(|| self.file.damaged("a page shorter than its times"))?)
    }

    fn page_bytes<'g>(&self, page: &Page, group: &'g LoadedGroup) -> Result<&'g [u8], BlockError> {
        let start = group.tables_len + page.offset as usize;
        let bytes = group.bytes.get(start..start + page.len as usize);
        Ok(bytes.ok_or_else(|| self.file.damaged("a page lies outside its group"))?)
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
        let bytes = self.page_bytes(page, &group)?;
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

    /// What is known of a page without decoding it.
    fn summary(
        &self,
        index: &Index,
        page: &Page,
        scratch: &mut Scratch,
    ) -> Result<Option<Summary>, BlockError> {
        let at = page.rank as usize;
        if let Some((block, last, summaries)) = &scratch.summaries
            && (*block, *last) == (self.name, page.group)
        {
            return Ok(summaries.get(at).copied().flatten());
        }
        let key = (self.name, OF_SUMMARIES, page.group);
        let summaries = if let Some(Part::Summaries(summaries)) = self.cache.get(key) {
            summaries
        } else {
            let group = &index.groups[page.group as usize];
            let bytes = self.piece(SUMMARIES, &group.summaries)?;
            let mut reader = Reader::new(&bytes);
            let mut summaries = Vec::new();
            while !reader.is_at_end() {
                summaries.push(summary::read(&mut reader)?);
            }
            let summaries = Arc::new(summaries);
            let bytes = summaries.len() * size_of::<Option<Summary>>() + 64;
            let part = Part::Summaries(Arc::clone(&summaries));
            self.cache.put(key, part, bytes);
            summaries
        };
        let found = summaries.get(at).copied().flatten();
        scratch.summaries = Some((self.name, page.group, summaries));
        Ok(found)
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
