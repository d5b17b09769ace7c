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

#[derive(Debug, Clone, Copy)]
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

/// Writes a block. Series may come in any order; each once, none without samples.
pub fn write(
    fs: &Arc<dyn Fs>,
    path: &Path,
    mut series: Vec<SeriesSamples>,
) -> Result<u64, BlockError> {
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut file = SealedWriter::create(fs, path, BLOCK)?;
    match write_sections(&mut file, &series) {
        Ok(()) => Ok(file.finish()?),
        Err(error) => {
            file.abandon();
            Err(error)
        }
    }
}

fn write_sections(file: &mut SealedWriter, series: &[SeriesSamples]) -> Result<(), BlockError> {
    // Long series become several pages, so that none is too large to decode at once.
    let chunks: Vec<(usize, &[i64], &[f64])> = series
        .iter()
        .enumerate()
        .flat_map(|(index, s)| {
            let times = s.times.chunks(codec::PAGE_SAMPLES_MAX);
            times
                .zip(s.values.chunks(codec::PAGE_SAMPLES_MAX))
                .map(move |(t, v)| (index, t, v))
        })
        .collect();

    file.begin(TIMES);
    let mut columns: Vec<Piece> = Vec::new();
    let mut known: HashMap<&[i64], usize> = HashMap::new();
    let mut column_of = Vec::with_capacity(chunks.len());
    for (_, times, _) in &chunks {
        let column = if let Some(column) = known.get(times) {
            *column
        } else {
            let mut bytes = Vec::new();
            codec::encode_times(times, &mut bytes);
            columns.push(put_piece(file, &bytes)?);
            known.insert(times, columns.len() - 1);
            columns.len() - 1
        };
        column_of.push(column);
    }

    file.begin(VALUES);
    let mut by_group: BTreeMap<(&str, NumberClass), Vec<usize>> = BTreeMap::new();
    for (chunk, (index, _, values)) in chunks.iter().enumerate() {
        let name = series[*index].labels.metric_name().unwrap_or("");
        by_group
            .entry((name, NumberClass::of(values)))
            .or_default()
            .push(chunk);
    }
    let mut groups: Vec<(NumberClass, Piece)> = Vec::new();
    let mut pages: Vec<Vec<Page>> = series.iter().map(|_| Vec::new()).collect();
    for ((_, class), members) in by_group {
        let mut rest = &members[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fits(rest, &chunks));
            rest = later;
            let values: Vec<&[f64]> = now.iter().map(|c| chunks[*c].2).collect();
            let group = codec::encode_values(class, &values)?;
            groups.push((class, put_piece(file, &group.header)?));
            for (chunk, page) in now.iter().zip(&group.pages) {
                let values = put_piece(file, page)?;
                let page = Page {
                    times: column_of[*chunk],
                    group: groups.len() - 1,
                    values,
                };
                pages[chunks[*chunk].0].push(page);
            }
        }
    }

    file.begin(SERIES);
    file.write(&encode_index(series, &columns, &groups, &pages))?;
    Ok(())
}

/// How many of the chunks fit one group: at least one.
fn fits(members: &[usize], chunks: &[(usize, &[i64], &[f64])]) -> usize {
    let mut samples = 0;
    let more = members.iter().take_while(|c| {
        samples += chunks[**c].2.len();
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
    series: &[SeriesSamples],
    columns: &[Piece],
    groups: &[(NumberClass, Piece)],
    pages: &[Vec<Page>],
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
    for (s, pages) in series.iter().zip(pages) {
        put_uvarint(&mut out, s.labels.len() as u64);
        for (name, value) in &s.labels {
            put_uvarint(&mut out, symbols[name]);
            put_uvarint(&mut out, symbols[value]);
        }
        put_varint(&mut out, s.times.first().copied().unwrap_or_default());
        put_varint(&mut out, s.times.last().copied().unwrap_or_default());
        put_uvarint(&mut out, pages.len() as u64);
        for page in pages {
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

    /// The series that match and overlap the range.
    pub fn select<'a>(
        &'a self,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> impl Iterator<Item = &'a BlockSeries> {
        self.series.iter().filter(move |s| {
            range.overlaps(s.range.start, s.range.end) && matcher::all_match(matchers, &s.labels)
        })
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
