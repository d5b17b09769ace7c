//! Parts: the immutable form of lines.
//!
//! A part is a sealed file of blocks of up to 8,192 lines and about 2 MiB of text. A busy
//! stream has blocks of its own, small streams share blocks, sorted by stream. `INDEX` names
//! the streams and, per block, the runs of streams in it and where its columns lie; `COLUMNS`
//! holds the columns, each with its checksum in the index: times, text (see [`crate::block`]),
//! and what most lines lack (ordinals that are not zero, metadata, documents), and the tables
//! of variables; `WORDS` is the segment of words. A query reads what it needs of them.

mod check;
mod read;
mod times;
mod write;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use kittiwake_env::Fs;
use kittiwake_journal::bytes::{Malformed, Reader as Bytes};
use kittiwake_journal::sealed::{Kind, SealedError, SealedFile};
use kittiwake_model::{LabelError, Labels, SeriesHash, SeriesHasher, TimeRange};

use crate::block::{self, BlockError};
use crate::index::{self, Group, Traits, WordsCache};

pub use check::Sizes;
pub(crate) use read::{Documents, Metadata, Text};
pub(crate) use times::Times;
pub(crate) use write::{Document, Line, PartWriter};

/// The file's kind.
pub const PART: Kind = Kind {
    magic: *b"KWLGPART",
    version: 2,
};
/// Largest column that is read, in bytes, and largest text that comes out of one.
const COLUMN_BYTES_MAX: u64 = 64 << 20;
const INDEX_BYTES_MAX: u64 = 1 << 30;
const WORDS_BYTES_MAX: u64 = 256 << 20;

const INDEX: u32 = 1;
const COLUMNS: u32 = 2;
const WORDS: u32 = 3;

/// Why a part cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The file is missing, cut, damaged or of another kind.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// A record is malformed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A stream or metadata has no valid labels.
    #[error(transparent)]
    Labels(#[from] LabelError),
    /// The text of a block does not encode or decode.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The segment of words cannot be written or read.
    #[error("words: {0}")]
    Words(#[from] tantivy::TantivyError),
}

impl From<std::io::Error> for PartError {
    fn from(error: std::io::Error) -> Self {
        Self::Words(error.into())
    }
}

impl PartError {
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

/// A column of a block; of no length when the block has none.
#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    offset: u64,
    len: u32,
    crc: u32,
}

/// Lines of one stream that lie together in a block, in order of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Place in [`Part::streams`].
    pub(crate) stream: usize,
    pub(crate) rows: usize,
    pub(crate) range: TimeRange,
}

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) runs: Box<[Run]>,
    pub(crate) range: TimeRange,
    pub(crate) rows: usize,
    pub(crate) text_bytes: usize,
    times: Piece,
    /// The head of the text.
    text: Piece,
    /// Bytes of the text's chunks, which follow its head.
    chunks_bytes: u32,
    ordinals: Piece,
    metadata: Piece,
    documents: Piece,
    pub(crate) traits: Traits,
}

impl Block {
    /// Whether lines have metadata.
    pub(crate) fn has_metadata(&self) -> bool {
        self.metadata.len > 0
    }

    /// The runs with their rows.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&Run, std::ops::Range<usize>)> {
        self.runs.iter().scan(0, |row, run| {
            let start = *row;
            *row += run.rows;
            Some((run, start..*row))
        })
    }
}

/// A stream of a part.
#[derive(Debug)]
pub(crate) struct PartStream {
    pub(crate) labels: Labels,
    pub(crate) hash: SeriesHash,
    pub(crate) range: TimeRange,
}

/// An open part with its index in memory.
#[derive(Debug)]
pub struct Part {
    file: Arc<SealedFile>,
    name: u64,
    cache: Arc<WordsCache>,
    pub(crate) streams: Vec<PartStream>,
    /// Places of streams by their hashes, in order.
    by_hash: Vec<(SeriesHash, u32)>,
    pub(crate) blocks: Vec<Block>,
    /// Names that metadata of lines may have.
    pub(crate) metadata_names: BTreeSet<String>,
    groups: Vec<Group>,
}

impl Part {
    /// Opens a part and reads its index. `key` is the store's hash key.
    pub(crate) fn open(
        fs: &dyn Fs,
        path: &Path,
        key: u64,
        cache: &Arc<WordsCache>,
    ) -> Result<Self, PartError> {
        let file = SealedFile::open(fs, path, PART)?;
        if file.version() != PART.version {
            // Written before the first release; a version that is released will be read.
            return Err(SealedError::Version {
                path: path.to_owned(),
                version: file.version(),
                known: PART.version,
            }
            .into());
        }
        let index = file.section(INDEX, INDEX_BYTES_MAX)?;
        let mut reader = Bytes::new(&index);
        let mut streams = Vec::new();
        for _ in 0..reader.count(1)? {
            let len = reader.count(1)?;
            let labels = Labels::from_packed(reader.take(len)?)?;
            let hash = SeriesHasher::labels(key, &labels);
            streams.push(PartStream {
                labels,
                hash,
                range: TimeRange::new(i64::MAX, i64::MIN),
            });
        }
        let mut blocks = Vec::new();
        for _ in 0..reader.count(20)? {
            let block = read_block(&mut reader, streams.len())?;
            for run in &block.runs {
                let range = &mut streams[run.stream].range;
                range.start = range.start.min(run.range.start);
                range.end = range.end.max(run.range.end);
            }
            blocks.push(block);
        }
        for block in &mut blocks {
            block.traits = index::read_traits(&mut reader)?;
        }
        let mut metadata_names = BTreeSet::new();
        for _ in 0..reader.count(1)? {
            metadata_names.insert(reader.text()?.to_owned());
        }
        let places = streams.iter().enumerate();
        let mut by_hash: Vec<_> = places.map(|(place, s)| (s.hash, place as u32)).collect();
        by_hash.sort_unstable();
        let groups = index::read_groups(&mut reader, blocks.len())?;
        Ok(Self {
            file: Arc::new(file),
            name: cache.name_part(),
            cache: Arc::clone(cache),
            by_hash,
            streams,
            blocks,
            metadata_names,
            groups,
        })
    }

    /// Bytes of the file.
    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    /// A stream by its hash.
    pub(crate) fn stream(&self, hash: SeriesHash) -> Option<(usize, &PartStream)> {
        let found = self.by_hash.binary_search_by_key(&hash, |(h, _)| *h).ok()?;
        let place = self.by_hash[found].1 as usize;
        Some((place, &self.streams[place]))
    }
}

fn union(runs: &[Run]) -> TimeRange {
    TimeRange::new(
        runs.iter().map(|r| r.range.start).min().unwrap_or(0),
        runs.iter().map(|r| r.range.end).max().unwrap_or(0),
    )
}

fn narrow(reader: &mut Bytes<'_>) -> Result<u32, Malformed> {
    let at = reader.position();
    u32::try_from(reader.uvarint()?).map_err(|_| Malformed {
        at,
        wanted: "a number of 32 bits",
    })
}

fn read_block(reader: &mut Bytes<'_>, streams: usize) -> Result<Block, PartError> {
    let at = reader.position();
    let text_bytes = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
    let chunks_bytes = narrow(reader)?;
    let mut runs = Vec::new();
    let mut rows = 0_usize;
    for _ in 0..reader.count(4)? {
        let stream = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
        let run_rows = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
        rows = rows.saturating_add(run_rows);
        if stream >= streams || rows > block::ROWS_MAX {
            return Err(Malformed {
                at,
                wanted: "runs of streams that fit a block",
            }
            .into());
        }
        let start = reader.varint()?;
        let end = start.wrapping_add(reader.uvarint()? as i64);
        runs.push(Run {
            stream,
            rows: run_rows,
            range: TimeRange::new(start, end),
        });
    }
    let mut piece = || -> Result<Piece, Malformed> {
        let len = narrow(reader)?;
        if len == 0 {
            return Ok(Piece::default());
        }
        Ok(Piece {
            offset: reader.uvarint()?,
            len,
            crc: reader.u32()?,
        })
    };
    Ok(Block {
        range: union(&runs),
        rows,
        text_bytes,
        times: piece()?,
        text: piece()?,
        chunks_bytes,
        ordinals: piece()?,
        metadata: piece()?,
        documents: piece()?,
        traits: Traits::default(),
        runs: runs.into(),
    })
}
