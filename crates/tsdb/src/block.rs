//! Blocks: the immutable form of samples.
//!
//! A block is a sealed file of three sections. `SERIES` holds the symbols (each distinct name
//! and value once, sorted), the series in order of their labels with where their pages lie,
//! and the groups; `TIMES` the shared columns of times; `VALUES` the groups' tables and pages.
//! Each piece of `TIMES` and `VALUES` carries its checksum in `SERIES`, so a query reads and
//! checks only what it decodes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use kittiwake_env::Fs;
use kittiwake_journal::bytes::{Malformed, Reader, put_bytes, put_uvarint, put_varint};
use kittiwake_journal::sealed::{Kind, SealedError, SealedFile, SealedWriter};
use kittiwake_model::{Columns, LabelError, Labels, Matcher, TimeRange, matcher};

use crate::codec::{self, CodecError, NumberClass};

/// The file's kind.
pub const BLOCK: Kind = Kind {
    magic: *b"KWMBLOCK",
    version: 1,
};
/// Largest index of a block that is read, in bytes.
pub const INDEX_BYTES_MAX: u64 = 1 << 30;
/// Largest table, page or column of times, in bytes.
const PIECE_BYTES_MAX: u64 = 16 << 20;

const SERIES: u32 = 1;
const TIMES: u32 = 2;
const VALUES: u32 = 3;

/// Why a block cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The file is missing, cut, damaged or of another kind.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// Samples do not encode or decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A record of the index is malformed.
    #[error("index: {0}")]
    Index(#[from] Malformed),
    /// A series of the index has no valid labels.
    #[error("index: {0}")]
    Labels(#[from] LabelError),
}

impl BlockError {
    /// Whether the file itself is at fault, not the system that reads it.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Sealed(SealedError::Version { .. }) => false,
            Self::Sealed(SealedError::Fs(error)) => {
                error.is_not_found() || error.kind() == Some(std::io::ErrorKind::UnexpectedEof)
            }
            _ => true,
        }
    }
}

/// One series to be written: float samples in order of time, no time twice.
#[derive(Debug, Clone)]
pub struct SeriesSamples {
    /// The series.
    pub labels: Labels,
    /// Times in ms.
    pub times: Vec<i64>,
    /// A value per time.
    pub values: Vec<f64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    offset: u64,
    len: u32,
    crc: u32,
}

#[derive(Debug)]
struct Page {
    times: usize,
    group: usize,
    values: Piece,
}

/// Samples that wait until they are encoded together: enough for the codec to learn the
/// numbers of a metric, few enough to bound memory.
const PENDING_SAMPLES_MAX: usize = 1 << 20;

/// Writes a block. Series may come in any order; each once, none without samples.
pub fn write(
    fs: &Arc<dyn Fs>,
    path: &Path,
    mut series: Vec<SeriesSamples>,
) -> Result<u64, BlockError> {
    series.sort_by(|a, b| order(&a.labels).cmp(&order(&b.labels)));
    let mut writer = BlockWriter::create(fs, path)?;
    for one in series {
        if let Err(error) = writer.add(one) {
            writer.abandon();
            return Err(error);
        }
    }
    writer.finish()
}

/// The order in which a writer wants its series: those of one metric next to each other.
pub fn order(labels: &Labels) -> (&str, &Labels) {
    (labels.metric_name().unwrap_or(""), labels)
}

#[derive(Debug)]
struct IndexSeries {
    labels: Labels,
    range: TimeRange,
    pages: Vec<Page>,
}

/// Writes a block series by series, holding only the samples of a part of one metric.
#[derive(Debug)]
pub struct BlockWriter {
    file: SealedWriter,
    pending: Vec<SeriesSamples>,
    pending_samples: usize,
    /// Encoded columns of times with their numbers: regular scrapes share one.
    columns: HashMap<Vec<u8>, usize>,
    groups: Vec<(NumberClass, Piece)>,
    series: Vec<IndexSeries>,
}

impl BlockWriter {
    /// Starts a block that will be named `path`.
    pub fn create(fs: &Arc<dyn Fs>, path: &Path) -> Result<Self, BlockError> {
        let mut file = SealedWriter::create(fs, path, BLOCK)?;
        file.begin(VALUES);
        Ok(Self {
            file,
            pending: Vec::new(),
            pending_samples: 0,
            columns: HashMap::new(),
            groups: Vec::new(),
            series: Vec::new(),
        })
    }

    /// Adds a series; each comes once. One without samples is passed over. Numbers of one
    /// metric compress together when its series follow each other, as in [`order`].
    pub fn add(&mut self, series: SeriesSamples) -> Result<(), BlockError> {
        if series.times.is_empty() {
            return Ok(());
        }
        let other_metric = self
            .pending
            .last()
            .is_some_and(|p| p.labels.metric_name() != series.labels.metric_name());
        if other_metric || self.pending_samples >= PENDING_SAMPLES_MAX {
            self.encode_pending()?;
        }
        self.pending_samples += series.times.len();
        self.pending.push(series);
        Ok(())
    }

    /// Writes the index and makes the block durable. Gives its size in bytes.
    pub fn finish(mut self) -> Result<u64, BlockError> {
        let written = self.write_rest();
        match written {
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

    fn write_rest(&mut self) -> Result<(), BlockError> {
        self.encode_pending()?;
        self.file.begin(TIMES);
        let mut encoded: Vec<(Vec<u8>, usize)> = self.columns.drain().collect();
        encoded.sort_by_key(|(_, number)| *number);
        let mut columns = Vec::with_capacity(encoded.len());
        for (bytes, _) in &encoded {
            columns.push(put_piece(&mut self.file, bytes)?);
        }
        self.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        self.file.begin(SERIES);
        let index = encode_index(&self.series, &columns, &self.groups);
        self.file.write(&index)?;
        Ok(())
    }

    fn encode_pending(&mut self) -> Result<(), BlockError> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_samples = 0;
        // Long series become several pages, so that none is too large to decode at once.
        let mut by_class: BTreeMap<NumberClass, Vec<PageValues<'_>>> = BTreeMap::new();
        let first = self.series.len();
        for series in &pending {
            let index = self.series.len();
            let last = series.times.len() - 1;
            self.series.push(IndexSeries {
                labels: series.labels.clone(),
                range: TimeRange::new(series.times[0], series.times[last]),
                pages: Vec::new(),
            });
            let times = series.times.chunks(codec::PAGE_SAMPLES_MAX);
            for (times, values) in times.zip(series.values.chunks(codec::PAGE_SAMPLES_MAX)) {
                let mut bytes = Vec::new();
                codec::encode_times(times, &mut bytes);
                let next = self.columns.len();
                let column = *self.columns.entry(bytes).or_insert(next);
                // The page's place among its series' pages is kept; its group fills it in.
                let page = self.series[index].pages.len();
                self.series[index].pages.push(Page {
                    times: column,
                    group: 0,
                    values: Piece::default(),
                });
                by_class
                    .entry(NumberClass::of(values))
                    .or_default()
                    .push((index, page, values));
            }
        }
        debug_assert_eq!(self.series.len(), first + pending.len());
        for (class, members) in by_class {
            let mut rest = &members[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(fits(rest));
                rest = later;
                let values: Vec<&[f64]> = now.iter().map(|(_, _, v)| *v).collect();
                let group = codec::encode_values(class, &values)?;
                let header = put_piece(&mut self.file, &group.header)?;
                self.groups.push((class, header));
                for ((series, page, _), bytes) in now.iter().zip(&group.pages) {
                    let values = put_piece(&mut self.file, bytes)?;
                    let page = &mut self.series[*series].pages[*page];
                    page.group = self.groups.len() - 1;
                    page.values = values;
                }
            }
        }
        Ok(())
    }
}

/// The values of a page, with the places of its series and of the page in it.
type PageValues<'a> = (usize, usize, &'a [f64]);

/// How many of the pages fit one group: at least one.
fn fits(members: &[PageValues<'_>]) -> usize {
    let mut samples = 0;
    let more = members.iter().take_while(|(_, _, values)| {
        samples += values.len();
        samples <= codec::GROUP_SAMPLES_MAX
    });
    more.count().max(1)
}

fn put_piece(file: &mut SealedWriter, bytes: &[u8]) -> Result<Piece, SealedError> {
    let offset = file.write(bytes)?;
    Ok(Piece {
        offset,
        len: bytes.len() as u32,
        crc: crc32c::crc32c(bytes),
    })
}

fn encode_index(
    series: &[IndexSeries],
    columns: &[Piece],
    groups: &[(NumberClass, Piece)],
) -> Vec<u8> {
    let mut symbols: BTreeMap<&str, u64> = BTreeMap::new();
    for s in series {
        for (name, value) in &s.labels {
            symbols.insert(name, 0);
            symbols.insert(value, 0);
        }
    }
    let mut out = Vec::new();
    put_uvarint(&mut out, symbols.len() as u64);
    for (number, (text, id)) in symbols.iter_mut().enumerate() {
        *id = number as u64;
        put_bytes(&mut out, text.as_bytes());
    }
    let piece = |out: &mut Vec<u8>, piece: &Piece| {
        put_uvarint(out, piece.offset);
        put_uvarint(out, u64::from(piece.len));
        out.extend_from_slice(&piece.crc.to_le_bytes());
    };
    put_uvarint(&mut out, columns.len() as u64);
    for column in columns {
        piece(&mut out, column);
    }
    put_uvarint(&mut out, groups.len() as u64);
    for (class, header) in groups {
        out.push(class.to_byte());
        piece(&mut out, header);
    }
    put_uvarint(&mut out, series.len() as u64);
    for s in series {
        put_uvarint(&mut out, s.labels.len() as u64);
        for (name, value) in &s.labels {
            put_uvarint(&mut out, symbols[name]);
            put_uvarint(&mut out, symbols[value]);
        }
        put_varint(&mut out, s.range.start);
        put_varint(&mut out, s.range.end);
        put_uvarint(&mut out, s.pages.len() as u64);
        for page in &s.pages {
            put_uvarint(&mut out, page.times as u64);
            put_uvarint(&mut out, page.group as u64);
            piece(&mut out, &page.values);
        }
    }
    out
}

/// A series of an open block.
#[derive(Debug)]
pub struct BlockSeries {
    /// Its labels.
    pub labels: Labels,
    /// Times of its first and last sample, in ms.
    pub range: TimeRange,
    pages: Vec<Page>,
}

/// An open block with its index in memory.
#[derive(Debug)]
pub struct Block {
    file: SealedFile,
    columns: Vec<Piece>,
    groups: Vec<(NumberClass, Piece)>,
    series: Vec<BlockSeries>,
}

impl Block {
    /// Opens a block and reads its index.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<Self, BlockError> {
        let file = SealedFile::open(fs, path, BLOCK)?;
        let index = file.section(SERIES, INDEX_BYTES_MAX)?;
        let mut reader = Reader::new(&index);
        let symbols: Vec<&str> = (0..reader.count(1)?)
            .map(|_| reader.text())
            .collect::<Result<_, _>>()?;
        let columns = (0..reader.count(6)?)
            .map(|_| read_piece(&mut reader))
            .collect::<Result<_, _>>()?;
        let groups = (0..reader.count(7)?)
            .map(|_| {
                let (at, byte) = (reader.position(), reader.u8()?);
                let class = NumberClass::from_byte(byte).ok_or(Malformed {
                    at,
                    wanted: "a class of numbers",
                })?;
                Ok((class, read_piece(&mut reader)?))
            })
            .collect::<Result<_, Malformed>>()?;
        let mut series = Vec::new();
        for _ in 0..reader.count(4)? {
            series.push(read_series(&mut reader, &symbols)?);
        }
        Ok(Self {
            file,
            columns,
            groups,
            series,
        })
    }

    /// All series in order of their labels.
    pub fn series(&self) -> &[BlockSeries] {
        &self.series
    }

    /// The places in [`Block::series`] of those that match and overlap the range.
    pub fn matching<'a>(
        &'a self,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> impl Iterator<Item = usize> + 'a {
        self.series
            .iter()
            .enumerate()
            .filter(move |(_, s)| {
                range.overlaps(s.range.start, s.range.end)
                    && matcher::all_match(matchers, &s.labels)
            })
            .map(|(index, _)| index)
    }

    /// The series that match and overlap the range.
    pub fn select<'a>(
        &'a self,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> impl Iterator<Item = &'a BlockSeries> + 'a {
        self.matching(matchers, range)
            .map(|index| &self.series[index])
    }

    /// Bytes of the file.
    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    /// Appends a series' samples within the range.
    pub fn read(
        &self,
        series: &BlockSeries,
        range: TimeRange,
        into: &mut Columns,
    ) -> Result<(), BlockError> {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for page in &series.pages {
            let (Some(column), Some((class, header))) =
                (self.columns.get(page.times), self.groups.get(page.group))
            else {
                return Err(self
                    .file
                    .damaged("a page names a piece that is not there")
                    .into());
            };
            times.clear();
            values.clear();
            let column = self.piece(TIMES, column)?;
            codec::decode_times(&mut Reader::new(&column), &mut times)?;
            let header = self.piece(VALUES, header)?;
            let page = self.piece(VALUES, &page.values)?;
            codec::decode_values(*class, &header, &page, times.len(), &mut values)?;
            for (time, value) in times.iter().zip(&values) {
                if range.contains(*time) {
                    into.push(*time, *value);
                }
            }
        }
        Ok(())
    }

    fn piece(&self, section: u32, piece: &Piece) -> Result<Vec<u8>, BlockError> {
        if u64::from(piece.len) > PIECE_BYTES_MAX {
            return Err(self
                .file
                .damaged(format!("a piece of {} bytes", piece.len))
                .into());
        }
        let bytes = self.file.range(section, piece.offset, piece.len as usize)?;
        if crc32c::crc32c(&bytes) != piece.crc {
            let what = format!("checksum of {} bytes at {}", piece.len, piece.offset);
            return Err(self.file.damaged(what).into());
        }
        Ok(bytes)
    }
}

fn read_piece(reader: &mut Reader<'_>) -> Result<Piece, Malformed> {
    let offset = reader.uvarint()?;
    let at = reader.position();
    let len = u32::try_from(reader.uvarint()?).map_err(|_| Malformed {
        at,
        wanted: "a length of 32 bits",
    })?;
    Ok(Piece {
        offset,
        len,
        crc: reader.u32()?,
    })
}

fn read_series(reader: &mut Reader<'_>, symbols: &[&str]) -> Result<BlockSeries, BlockError> {
    let symbol = |reader: &mut Reader<'_>| {
        let at = reader.position();
        let id = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
        symbols.get(id).copied().ok_or(Malformed {
            at,
            wanted: "the number of a symbol",
        })
    };
    let mut pairs = Vec::new();
    for _ in 0..reader.count(2)? {
        pairs.push((symbol(reader)?, symbol(reader)?));
    }
    let labels = Labels::from_pairs(pairs)?;
    let range = TimeRange::new(reader.varint()?, reader.varint()?);
    let mut pages = Vec::new();
    for _ in 0..reader.count(8)? {
        pages.push(Page {
            times: usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX),
            group: usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX),
            values: read_piece(reader)?,
        });
    }
    Ok(BlockSeries {
        labels,
        range,
        pages,
    })
}

#[cfg(test)]
mod tests {
    use kittiwake_env::SimFs;
    use proptest::prelude::*;

    use super::*;

    fn sim() -> Arc<dyn Fs> {
        let fs: Arc<dyn Fs> = Arc::new(SimFs::new(1));
        fs.create_dir_all(Path::new("/b")).unwrap();
        fs
    }

    fn labels(name: &str, instance: usize) -> Labels {
        Labels::from_pairs([("__name__", name), ("i", instance.to_string().as_str())]).unwrap()
    }

    fn many() -> Vec<SeriesSamples> {
        let mut all = Vec::new();
        for i in 0..20 {
            for (name, scale) in [
                ("requests_total", 1.0),
                ("load", 0.01),
                ("ratio", 0.377_123_4),
            ] {
                let times: Vec<i64> = (0..100).map(|t| t * 15_000 + (i as i64 % 3)).collect();
                let values = (0..100).map(|t| f64::from(t * 3) * scale).collect();
                all.push(SeriesSamples {
                    labels: labels(name, i),
                    times,
                    values,
                });
            }
        }
        all
    }

    #[test]
    fn every_sample_comes_back_bit_for_bit() {
        let (fs, path) = (sim(), Path::new("/b/1.blk"));
        let sent = many();
        write(&fs, path, sent.clone()).unwrap();
        let block = Block::open(fs.as_ref(), path).unwrap();
        assert_eq!(block.series().len(), sent.len());
        for want in &sent {
            let found = block
                .series()
                .iter()
                .find(|s| s.labels == want.labels)
                .unwrap();
            let mut got = Columns::default();
            block.read(found, TimeRange::ALL, &mut got).unwrap();
            assert_eq!(got.times, want.times);
            let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&got.values), bits(&want.values));
        }
    }

    #[test]
    fn selects_by_matcher_and_range() {
        let (fs, path) = (sim(), Path::new("/b/1.blk"));
        write(&fs, path, many()).unwrap();
        let block = Block::open(fs.as_ref(), path).unwrap();
        let matchers = [Matcher::equal("__name__", "load"), Matcher::equal("i", "7")];
        let found: Vec<_> = block
            .select(&matchers, TimeRange::new(30_000, 60_000))
            .collect();
        assert_eq!(found.len(), 1);
        let mut got = Columns::default();
        block
            .read(found[0], TimeRange::new(30_000, 60_000), &mut got)
            .unwrap();
        assert_eq!(got.times, [30_001, 45_001]);
        assert_eq!(
            block
                .select(&matchers, TimeRange::new(9_000_000, 9_900_000))
                .count(),
            0
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_flipped_bit_is_an_error_or_harmless(at: prop::sample::Index, bit in 0_u8..8) {
            let (fs, path) = (sim(), Path::new("/b/1.blk"));
            let sent = &many()[..6];
            write(&fs, path, sent.to_vec()).unwrap();
            let mut bytes = fs.read(path, 1 << 20).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            fs.write_atomic(path, &[&bytes]).unwrap();
            let Ok(block) = Block::open(fs.as_ref(), path) else { return Ok(()) };
            for series in block.series() {
                let mut got = Columns::default();
                if block.read(series, TimeRange::ALL, &mut got).is_ok() {
                    let want = sent.iter().find(|s| s.labels == series.labels).unwrap();
                    prop_assert_eq!(&got.times, &want.times);
                    prop_assert_eq!(&got.values, &want.values);
                }
            }
        }
    }
}
