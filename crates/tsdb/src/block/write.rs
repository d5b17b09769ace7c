//! Writing a block series by series, holding only the samples that are compressed together.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use kittiwake_env::Fs;
use kittiwake_journal::sealed::{SealedError, SealedWriter};
use kittiwake_model::{Columns, Histogram, TimeRange};

use super::index::{Column, Group, Index, NO_STARTS, Page, Piece, Run};
use super::summary::{self, Summary};
use super::{BLOCK, BlockError, COLUMNS, DICTIONARY, GROUPS, INDEX, SUMMARIES};
use crate::codec::{self, NumberClass};
use crate::dictionary::Dictionary;
use crate::histogram;

/// Samples of one page at most. Long pages compress better; a query decodes whole ones.
const PAGE_SAMPLES: usize = 2048;
/// Numbers that are compressed together, about: enough for the codec to learn them, few enough
/// to bound memory and what a query reads for one series.
const GROUP_NUMBERS: usize = 1 << 16;
/// Fewer numbers than this wait for the next metric name.
const GROUP_NUMBERS_MIN: usize = 1 << 12;

#[derive(Debug)]
enum Numbers {
    Integers(u8, Vec<i64>),
    Doubles(Vec<f64>),
    Histograms(Vec<Arc<Histogram>>),
}

#[derive(Debug)]
struct Pending {
    page: usize,
    name: u32,
    numbers: Numbers,
    summary: Option<Summary>,
}

/// Writes a block.
#[derive(Debug)]
pub struct BlockWriter {
    file: SealedWriter,
    index: Index,
    pending: Vec<Pending>,
    pending_numbers: usize,
    /// Encoded columns of times, and of start times, with their numbers.
    columns: HashMap<Vec<u8>, u32>,
    starts: HashMap<Vec<u8>, u32>,
    column_bytes: Vec<Vec<u8>>,
    starts_bytes: Vec<Vec<u8>>,
    summaries: Vec<u8>,
    groups_len: u64,
    scratch: Vec<u8>,
    samples: u64,
    range: Option<TimeRange>,
}

impl BlockWriter {
    /// Starts a block that will be named `path`, over series of these labels.
    pub fn create(
        fs: &Arc<dyn Fs>,
        path: &Path,
        dictionary: Dictionary,
    ) -> Result<Self, BlockError> {
        let mut file = SealedWriter::create(fs, path, BLOCK)?;
        file.begin(GROUPS);
        Ok(Self {
            file,
            index: Index {
                dictionary,
                ..Index::default()
            },
            pending: Vec::new(),
            pending_numbers: 0,
            columns: HashMap::new(),
            starts: HashMap::new(),
            column_bytes: Vec::new(),
            starts_bytes: Vec::new(),
            summaries: Vec::new(),
            groups_len: 0,
            scratch: Vec::new(),
            samples: 0,
            range: None,
        })
    }

    /// Adds a series by metric name and label set, with samples in order of time. Series come
    /// in order of both, each once; one without samples is passed over.
    pub fn add(&mut self, name: u32, set: u32, samples: &Columns) -> Result<(), BlockError> {
        let (Some(first), Some(last)) = (samples.times.first(), samples.times.last()) else {
            return Ok(());
        };
        let run = self.index.runs.last().map(|r| r.name);
        let is_after = self.index.sets.last().is_some_and(|last| *last < set);
        if run != Some(name) || !is_after {
            if self.pending_numbers >= GROUP_NUMBERS_MIN {
                self.encode_pending()?;
            }
            let first = self.index.sets.len() as u32;
            self.index.runs.push(Run { name, first });
        }
        self.samples += samples.len() as u64;
        let range = self.range.get_or_insert(TimeRange::new(*first, *last));
        range.start = range.start.min(*first);
        range.end = range.end.max(*last);
        self.index.sets.push(set);
        for page in pages(samples) {
            self.add_page(name, samples, page)?;
        }
        self.index.page_ends.push(self.index.pages.len() as u32);
        Ok(())
    }

    /// Samples added so far.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Times of the first and the last sample so far.
    pub fn range(&self) -> Option<TimeRange> {
        self.range
    }

    /// Writes the index and makes the block durable. Gives its size in bytes.
    pub fn finish(mut self) -> Result<u64, BlockError> {
        match self.write_rest() {
            Ok(()) => Ok(self.file.finish()?),
            Err(error) => {
                self.file.abandon();
                Err(error)
            }
        }
    }

    /// Removes what was written.
    pub fn abandon(self) {
        self.file.abandon();
    }

    fn add_page(
        &mut self,
        name: u32,
        samples: &Columns,
        page: std::ops::Range<usize>,
    ) -> Result<(), BlockError> {
        let times = &samples.times[page.clone()];
        let next = self.columns.len() as u32;
        let bytes = &mut self.scratch;
        bytes.clear();
        codec::encode_times(times, bytes);
        let column = if let Some(column) = self.columns.get(bytes.as_slice()) {
            *column
        } else {
            self.columns.insert(bytes.clone(), next);
            self.column_bytes.push(bytes.clone());
            self.index.columns.push(Column {
                piece: Piece::default(),
                samples: times.len() as u32,
                range: TimeRange::new(times[0], times[times.len() - 1]),
            });
            next
        };
        let starts = self.starts_of(samples, &page);
        let place = self.index.pages.len();
        // The group fills in the rest once it is encoded.
        self.index.pages.push(Page {
            column,
            starts,
            group: 0,
            offset: 0,
            len: 0,
            rank: 0,
        });
        let values = &samples.values[page.clone()];
        let first = samples
            .histograms
            .partition_point(|(at, _)| (*at as usize) < page.start);
        let is_histograms = samples
            .histograms
            .get(first)
            .is_some_and(|(at, _)| page.contains(&(*at as usize)));
        let mut numbers = values.len();
        let (kept, summary) = if is_histograms {
            let of_page = &samples.histograms[first..first + page.len()];
            numbers = of_page
                .iter()
                .map(|(_, h)| histogram::page_numbers(h))
                .sum();
            let all = of_page.iter().map(|(_, h)| Arc::clone(h)).collect();
            (Numbers::Histograms(all), None)
        } else {
            let mut integers = Vec::new();
            match codec::integers(values, &mut integers) {
                NumberClass::Decimal(0) => {
                    let summary = Summary::of_integers(&integers, values);
                    (Numbers::Integers(0, integers), summary)
                }
                NumberClass::Decimal(places) => {
                    (Numbers::Integers(places, integers), Summary::of(values))
                }
                NumberClass::Double => (Numbers::Doubles(values.to_vec()), Summary::of(values)),
            }
        };
        self.pending.push(Pending {
            page: place,
            name,
            numbers: kept,
            summary,
        });
        self.pending_numbers += numbers;
        if self.pending_numbers >= GROUP_NUMBERS {
            self.encode_pending()?;
        }
        Ok(())
    }

    fn starts_of(&mut self, samples: &Columns, page: &std::ops::Range<usize>) -> u32 {
        let Some(starts) = samples.starts.get(page.clone()) else {
            return NO_STARTS;
        };
        if starts.iter().all(|s| *s == 0) {
            return NO_STARTS;
        }
        let mut bytes = Vec::new();
        codec::encode_starts(starts, &mut bytes);
        let next = self.starts.len() as u32;
        let number = *self.starts.entry(bytes.clone()).or_insert(next);
        if number == next {
            self.starts_bytes.push(bytes);
        }
        number
    }

    fn encode_pending(&mut self) -> Result<(), BlockError> {
        let mut pending = std::mem::take(&mut self.pending);
        self.pending_numbers = 0;
        for of_name in pending.chunk_by_mut(|a, b| a.name == b.name) {
            let places = |p: &Pending| match &p.numbers {
                Numbers::Integers(places, _) => Some(*places),
                _ => None,
            };
            let most = of_name.iter().filter_map(places).max().unwrap_or(0);
            for one in of_name {
                if let Numbers::Integers(places, integers) = &mut one.numbers
                    && codec::rescale(integers, *places, most)
                {
                    *places = most;
                }
            }
        }
        let mut integers: BTreeMap<u8, Vec<&Pending>> = BTreeMap::new();
        let (mut doubles, mut histograms) = (Vec::new(), Vec::new());
        for one in &pending {
            match &one.numbers {
                Numbers::Integers(places, _) => integers.entry(*places).or_default().push(one),
                Numbers::Doubles(_) => doubles.push(one),
                Numbers::Histograms(_) => histograms.push(one),
            }
        }
        for (places, members) in integers {
            let pages: Vec<&[i64]> = members
                .iter()
                .filter_map(|p| match &p.numbers {
                    Numbers::Integers(_, integers) => Some(&integers[..]),
                    _ => None,
                })
                .collect();
            let group = codec::encode_integers(&pages)?;
            self.put_group(Some(NumberClass::Decimal(places)), &members, &group)?;
        }
        if !doubles.is_empty() {
            let pages: Vec<&[f64]> = doubles
                .iter()
                .filter_map(|p| match &p.numbers {
                    Numbers::Doubles(doubles) => Some(&doubles[..]),
                    _ => None,
                })
                .collect();
            let group = codec::encode_doubles(&pages)?;
            self.put_group(Some(NumberClass::Double), &doubles, &group)?;
        }
        if !histograms.is_empty() {
            let mut group = codec::Group::default();
            for one in &histograms {
                if let Numbers::Histograms(all) = &one.numbers {
                    group.pages.push(histogram::encode_page(all)?);
                }
            }
            self.put_group(None, &histograms, &group)?;
        }
        Ok(())
    }

    fn put_group(
        &mut self,
        class: Option<NumberClass>,
        members: &[&Pending],
        group: &codec::Group,
    ) -> Result<(), BlockError> {
        let places = match class {
            Some(NumberClass::Decimal(places)) => Some(places),
            _ => None,
        };
        let number = self.index.groups.len() as u32;
        let mut crc = crc32c::crc32c(&group.header);
        self.file.write(&group.header)?;
        let (mut offset, summaries) = (0, self.summaries.len());
        for (one, bytes) in members.iter().zip(&group.pages) {
            self.file.write(bytes)?;
            crc = crc32c::crc32c_append(crc, bytes);
            let page = &mut self.index.pages[one.page];
            (page.group, page.offset, page.len) = (number, offset, bytes.len() as u32);
            offset += bytes.len() as u32;
            summary::put(&mut self.summaries, one.summary.as_ref(), places);
        }
        let len = group.header.len() as u32 + offset;
        let of_pages = &self.summaries[summaries..];
        self.index.groups.push(Group {
            class,
            piece: Piece {
                offset: self.groups_len,
                len,
                crc,
            },
            tables_len: group.header.len() as u32,
            summaries: Piece {
                offset: summaries as u64,
                len: of_pages.len() as u32,
                crc: crc32c::crc32c(of_pages),
            },
        });
        self.groups_len += u64::from(len);
        Ok(())
    }

    fn write_rest(&mut self) -> Result<(), BlockError> {
        self.encode_pending()?;
        self.file.begin(SUMMARIES);
        self.file.write(&std::mem::take(&mut self.summaries))?;
        self.file.begin(COLUMNS);
        let columns = self.index.columns.iter_mut().map(|c| &mut c.piece);
        for (piece, bytes) in columns.zip(&self.column_bytes) {
            *piece = put_piece(&mut self.file, bytes)?;
        }
        for bytes in &self.starts_bytes {
            let piece = put_piece(&mut self.file, bytes)?;
            self.index.starts.push(piece);
        }
        let mut bytes = Vec::new();
        self.index.dictionary.encode(&mut bytes);
        self.file.begin(DICTIONARY);
        self.file.write(&bytes)?;
        bytes.clear();
        self.index.encode(&mut bytes);
        self.file.begin(INDEX);
        self.file.write(&bytes)?;
        Ok(())
    }
}

fn put_piece(file: &mut SealedWriter, bytes: &[u8]) -> Result<Piece, SealedError> {
    let offset = file.write(bytes)?;
    Ok(Piece {
        offset,
        len: bytes.len() as u32,
        crc: crc32c::crc32c(bytes),
    })
}

/// Where the pages of a series begin and end: floats and histograms apart, none too long, and
/// cut where histograms cannot be compared with those before.
fn pages(samples: &Columns) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut histograms = samples.histograms.iter().peekable();
    let mut start = 0;
    let mut numbers = 0;
    let mut before: Option<&Arc<Histogram>> = None;
    for at in 0..samples.len() {
        let histogram = histograms
            .next_if(|(i, _)| *i as usize == at)
            .map(|(_, h)| h);
        let size = histogram.map_or(1, |h| histogram::page_numbers(h));
        let is_cut = match (before, histogram) {
            (Some(before), Some(now)) => histogram::is_cut(before, now),
            (None, None) => false,
            _ => true,
        };
        let is_full = at - start == PAGE_SAMPLES || numbers + size > codec::GROUP_SAMPLES_MAX;
        if at > start && (is_cut || is_full) {
            found.push(start..at);
            (start, numbers) = (at, 0);
        }
        numbers += size;
        before = histogram;
    }
    if start < samples.len() {
        found.push(start..samples.len());
    }
    found
}
