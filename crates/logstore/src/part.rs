//! Parts: the immutable form of lines.
//!
//! A part is a sealed file of blocks of up to 8,192 lines and about 2 MiB of text. A busy
//! stream has blocks of its own, small streams share blocks, sorted by stream. `INDEX` names
//! the streams and, per block, the runs of streams in it and where its columns lie; `COLUMNS`
//! holds the columns, each with its checksum in the index: times, text (see [`crate::block`]),
//! and what most lines lack (ordinals that are not zero, metadata). A query reads the columns
//! that it needs.

use std::path::Path;
use std::sync::Arc;

use kittiwake_env::Fs;
use kittiwake_journal::bytes::{Malformed, Reader as Bytes, put_bytes, put_uvarint, put_varint};
use kittiwake_journal::sealed::{Kind, SealedError, SealedFile, SealedWriter};
use kittiwake_model::{LabelError, Labels, SeriesHash, SeriesHasher, TimeRange};

use crate::block::{self, BlockError, Lines, Reader, Scratch, Source};

/// The file's kind.
pub const PART: Kind = Kind {
    magic: *b"KWLGPART",
    version: 2,
};
/// A stream with at least this many lines has blocks of its own.
const OWN_ROWS_MIN: usize = 1024;
/// Largest column that is read, in bytes, and largest text that comes out of one.
const COLUMN_BYTES_MAX: u64 = 64 << 20;
const INDEX_BYTES_MAX: u64 = 1 << 30;

const INDEX: u32 = 1;
const COLUMNS: u32 = 2;

const ZSTD_LEVEL: i32 = 1;

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
    /// The numbers of a column do not encode or decode.
    #[error("times: {0}")]
    Times(String),
    /// The text of a block does not encode or decode.
    #[error("text: {0}")]
    Block(#[from] BlockError),
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

#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    offset: u64,
    len: u32,
    crc: u32,
}

/// Lines of one stream that lie together in a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Place in [`Part::streams`].
    pub(crate) stream: usize,
    pub(crate) rows: usize,
    pub(crate) range: TimeRange,
}

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) runs: Vec<Run>,
    pub(crate) range: TimeRange,
    pub(crate) rows: usize,
    pub(crate) text_bytes: usize,
    times: Piece,
    /// The head of the text.
    text: Piece,
    /// Bytes of the text's chunks, which follow its head.
    chunks_bytes: u32,
    /// Ordinals and metadata; of no length when no line has any.
    extra: Piece,
}

/// A stream of a part.
#[derive(Debug)]
pub(crate) struct PartStream {
    pub(crate) labels: Labels,
    pub(crate) hash: SeriesHash,
    pub(crate) range: TimeRange,
}

/// The decoded columns of a block, row by row.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) times: Vec<i64>,
    lines: Lines,
    /// Empty when all are 0.
    ordinals: Vec<u32>,
    /// Empty when no line has metadata.
    metadata: Vec<u32>,
    metadata_sets: Vec<Labels>,
}

impl Columns {
    pub(crate) fn line(&self, row: usize) -> &str {
        self.lines.line(row)
    }

    pub(crate) fn ordinal(&self, row: usize) -> u32 {
        self.ordinals.get(row).copied().unwrap_or(0)
    }

    pub(crate) fn metadata(&self, row: usize) -> Option<&Labels> {
        let number = *self.metadata.get(row)? as usize;
        self.metadata_sets.get(number.checked_sub(1)?)
    }
}

/// Which columns a query needs besides times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Times,
    All,
}

/// A line to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) time_ns: i64,
    pub(crate) ordinal: u32,
    pub(crate) text: &'a str,
    pub(crate) metadata: Option<&'a Labels>,
}

/// Lines of the block that is being filled.
#[derive(Debug, Default)]
struct Open {
    runs: Vec<Run>,
    times: Vec<i64>,
    lines: Lines,
    ordinals: Vec<u32>,
    metadata: Vec<u32>,
    metadata_sets: Vec<Labels>,
}

/// Writes a part stream by stream, holding one block.
pub(crate) struct PartWriter {
    file: SealedWriter,
    streams: Vec<Labels>,
    blocks: Vec<Block>,
    open: Open,
    scratch: Scratch,
    rows: u64,
}

impl PartWriter {
    pub(crate) fn create(fs: &Arc<dyn Fs>, path: &Path) -> Result<Self, PartError> {
        let mut file = SealedWriter::create(fs, path, PART)?;
        file.begin(COLUMNS);
        Ok(Self {
            file,
            streams: Vec::new(),
            blocks: Vec::new(),
            open: Open::default(),
            scratch: Scratch::default(),
            rows: 0,
        })
    }

    /// Starts a stream with about so many lines. Each stream comes once, and its lines in any
    /// order; in order of time they cost less.
    pub(crate) fn start(&mut self, labels: Labels, rows: usize) -> Result<(), PartError> {
        let was_own = self
            .open
            .runs
            .last()
            .is_some_and(|r| r.rows >= OWN_ROWS_MIN);
        if rows >= OWN_ROWS_MIN || was_own {
            self.close_block()?;
        }
        self.streams.push(labels);
        Ok(())
    }

    /// Adds a line to the current stream.
    pub(crate) fn add(&mut self, line: Line<'_>) -> Result<(), PartError> {
        let open = &self.open;
        if open.times.len() >= block::ROWS_MAX
            || (!open.times.is_empty()
                && open.lines.text.len() + line.text.len() > block::TEXT_BYTES)
        {
            self.close_block()?;
        }
        let open = &mut self.open;
        let stream = self.streams.len() - 1;
        if open.runs.last().is_none_or(|r| r.stream != stream) {
            open.runs.push(Run {
                stream,
                rows: 0,
                range: TimeRange::new(line.time_ns, line.time_ns),
            });
        }
        if let Some(run) = open.runs.last_mut() {
            run.rows += 1;
            run.range.start = run.range.start.min(line.time_ns);
            run.range.end = run.range.end.max(line.time_ns);
        }
        open.times.push(line.time_ns);
        open.lines.push(line.text);
        open.ordinals.push(line.ordinal);
        open.metadata.push(match line.metadata {
            None => 0,
            Some(set) => {
                let place = open.metadata_sets.iter().rposition(|s| s == set);
                place.unwrap_or_else(|| {
                    open.metadata_sets.push(set.clone());
                    open.metadata_sets.len() - 1
                }) as u32
                    + 1
            }
        });
        self.rows += 1;
        Ok(())
    }

    /// Adds a full block of the current stream as another part has it.
    pub(crate) fn copy(&mut self, from: &Part, block: usize) -> Result<(), PartError> {
        let Some(old) = from.blocks.get(block) else {
            return Ok(());
        };
        self.close_block()?;
        let stream = self.streams.len() - 1;
        let mut copied = Block {
            runs: old.runs.iter().map(|r| Run { stream, ..*r }).collect(),
            range: old.range,
            rows: old.rows,
            text_bytes: old.text_bytes,
            times: Piece::default(),
            text: Piece::default(),
            chunks_bytes: old.chunks_bytes,
            extra: Piece::default(),
        };
        copied.times = put_piece(&mut self.file, &from.column(&old.times)?)?;
        copied.text = put_piece(&mut self.file, &from.column(&old.text)?)?;
        self.file.write(&from.chunks(old)?)?;
        copied.extra = put_piece(&mut self.file, &from.column(&old.extra)?)?;
        self.rows += old.rows as u64;
        self.blocks.push(copied);
        Ok(())
    }

    /// Writes the index and makes the part durable. Gives its number of lines.
    pub(crate) fn finish(mut self) -> Result<u64, PartError> {
        match self.write_rest() {
            Ok(()) => {
                self.file.finish()?;
                Ok(self.rows)
            }
            Err(error) => {
                self.file.abandon();
                Err(error)
            }
        }
    }

    /// Removes what was written.
    pub(crate) fn abandon(self) {
        self.file.abandon();
    }

    fn write_rest(&mut self) -> Result<(), PartError> {
        self.close_block()?;
        self.file.begin(INDEX);
        let mut out = Vec::new();
        put_uvarint(&mut out, self.streams.len() as u64);
        for labels in &self.streams {
            put_bytes(&mut out, labels.as_packed());
        }
        put_uvarint(&mut out, self.blocks.len() as u64);
        for block in &self.blocks {
            put_uvarint(&mut out, block.text_bytes as u64);
            put_uvarint(&mut out, u64::from(block.chunks_bytes));
            put_uvarint(&mut out, block.runs.len() as u64);
            for run in &block.runs {
                put_uvarint(&mut out, run.stream as u64);
                put_uvarint(&mut out, run.rows as u64);
                put_varint(&mut out, run.range.start);
                put_uvarint(&mut out, run.range.end.wrapping_sub(run.range.start) as u64);
            }
            for piece in [block.times, block.text, block.extra] {
                put_uvarint(&mut out, piece.offset);
                put_uvarint(&mut out, u64::from(piece.len));
                out.extend_from_slice(&piece.crc.to_le_bytes());
            }
        }
        self.file.write(&out)?;
        Ok(())
    }

    fn close_block(&mut self) -> Result<(), PartError> {
        let open = std::mem::take(&mut self.open);
        if open.times.is_empty() {
            return Ok(());
        }
        let config = pco::ChunkConfig::default().with_compression_level(4);
        let times = pco::standalone::simple_compress(&open.times, &config)
            .map_err(|e| PartError::Times(e.to_string()))?;
        let text = block::encode(&open.lines, &mut self.scratch)?;
        let (head, chunks) = text.bytes.split_at(text.head_bytes);
        let has_extra =
            open.ordinals.iter().any(|o| *o != 0) || open.metadata.iter().any(|m| *m != 0);
        let extra = if has_extra {
            let mut raw = Vec::new();
            for (ordinal, metadata) in open.ordinals.iter().zip(&open.metadata) {
                put_uvarint(&mut raw, u64::from(*ordinal));
                put_uvarint(&mut raw, u64::from(*metadata));
            }
            put_uvarint(&mut raw, open.metadata_sets.len() as u64);
            for set in &open.metadata_sets {
                put_bytes(&mut raw, set.as_packed());
            }
            compress(&raw)?
        } else {
            Vec::new()
        };
        self.blocks.push(Block {
            range: union(&open.runs),
            rows: open.times.len(),
            text_bytes: open.lines.text.len(),
            times: put_piece(&mut self.file, &times)?,
            text: {
                let piece = put_piece(&mut self.file, head)?;
                self.file.write(chunks)?;
                piece
            },
            chunks_bytes: chunks.len() as u32,
            extra: put_piece(&mut self.file, &extra)?,
            runs: open.runs,
        });
        Ok(())
    }
}

fn union(runs: &[Run]) -> TimeRange {
    TimeRange::new(
        runs.iter().map(|r| r.range.start).min().unwrap_or(0),
        runs.iter().map(|r| r.range.end).max().unwrap_or(0),
    )
}

/// The length of the content as a varint, then a zstd frame.
fn compress(raw: &[u8]) -> Result<Vec<u8>, PartError> {
    let mut out = Vec::new();
    put_uvarint(&mut out, raw.len() as u64);
    out.extend(zstd::bulk::compress(raw, ZSTD_LEVEL).map_err(BlockError::Compression)?);
    Ok(out)
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>, PartError> {
    let mut reader = Bytes::new(bytes);
    let at = reader.position();
    let len = reader.uvarint()?;
    if len > COLUMN_BYTES_MAX {
        return Err(Malformed {
            at,
            wanted: "a column of at most 64 MiB",
        }
        .into());
    }
    let raw = zstd::bulk::decompress(&bytes[reader.position()..], len as usize)
        .map_err(BlockError::Compression)?;
    if raw.len() as u64 != len {
        return Err(Malformed {
            at,
            wanted: "the length of the column",
        }
        .into());
    }
    Ok(raw)
}

fn put_piece(file: &mut SealedWriter, bytes: &[u8]) -> Result<Piece, SealedError> {
    let offset = file.write(bytes)?;
    Ok(Piece {
        offset,
        len: bytes.len() as u32,
        crc: crc32c::crc32c(bytes),
    })
}

/// An open part with its index in memory.
#[derive(Debug)]
pub struct Part {
    file: SealedFile,
    pub(crate) streams: Vec<PartStream>,
    pub(crate) blocks: Vec<Block>,
}

impl Part {
    /// Opens a part and reads its index. `key` is the store's hash key.
    pub fn open(fs: &dyn Fs, path: &Path, key: u64) -> Result<Self, PartError> {
        let file = SealedFile::open(fs, path, PART)?;
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
        Ok(Self {
            file,
            streams,
            blocks,
        })
    }

    /// Bytes of the file.
    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    /// A stream by its hash.
    pub(crate) fn stream(&self, hash: SeriesHash) -> Option<(usize, &PartStream)> {
        self.streams
            .iter()
            .enumerate()
            .find(|(_, s)| s.hash == hash)
    }

    /// Decodes columns of a block.
    pub(crate) fn read(&self, block: &Block, need: Need) -> Result<Columns, PartError> {
        let mut columns = Columns {
            times: vec![0; block.rows],
            ..Columns::default()
        };
        let bytes = self.column(&block.times)?;
        let progress = pco::standalone::simple_decompress_into(&bytes, &mut columns.times)
            .map_err(|e| PartError::Times(e.to_string()))?;
        if progress.n_processed != block.rows || !progress.finished {
            return Err(self
                .file
                .damaged("a column of times of another length")
                .into());
        }
        if block.extra.len > 0 {
            let raw = decompress(&self.column(&block.extra)?)?;
            let mut reader = Bytes::new(&raw);
            for _ in 0..block.rows {
                columns.ordinals.push(narrow(&mut reader)?);
                columns.metadata.push(narrow(&mut reader)?);
            }
            for _ in 0..reader.count(1)? {
                let len = reader.count(1)?;
                let set = Labels::from_packed(reader.take(len)?)?;
                columns.metadata_sets.push(set);
            }
        }
        if need == Need::Times {
            return Ok(columns);
        }
        columns.lines = self.text(block)?.lines()?;
        Ok(columns)
    }

    /// A reader of a block's text.
    pub(crate) fn text(&self, block: &Block) -> Result<Reader<Text<'_>>, PartError> {
        let head = self.column(&block.text)?;
        let source = Text {
            file: &self.file,
            offset: block.text.offset,
            len: head.len() + block.chunks_bytes as usize,
        };
        Reader::open(source, &head, block.rows)
    }

    fn chunks(&self, block: &Block) -> Result<Vec<u8>, PartError> {
        let offset = block.text.offset.saturating_add(u64::from(block.text.len));
        self.bytes(offset, block.chunks_bytes)
    }

    fn bytes(&self, offset: u64, len: u32) -> Result<Vec<u8>, PartError> {
        if u64::from(len) > COLUMN_BYTES_MAX {
            let what = format!("a column of {len} bytes");
            return Err(self.file.damaged(what).into());
        }
        Ok(self.file.range(COLUMNS, offset, len as usize)?)
    }

    fn column(&self, piece: &Piece) -> Result<Vec<u8>, PartError> {
        let bytes = self.bytes(piece.offset, piece.len)?;
        if crc32c::crc32c(&bytes) != piece.crc {
            let what = format!("checksum of {} bytes at {}", piece.len, piece.offset);
            return Err(self.file.damaged(what).into());
        }
        Ok(bytes)
    }
}

/// The text of one block of a part.
pub(crate) struct Text<'a> {
    file: &'a SealedFile,
    offset: u64,
    len: usize,
}

impl Source for Text<'_> {
    type Error = PartError;

    fn read(&self, offset: usize, len: usize) -> Result<Vec<u8>, PartError> {
        if offset.saturating_add(len) > self.len {
            return Err(BlockError::Damaged("a chunk beyond the block's end").into());
        }
        let offset = self.offset.saturating_add(offset as u64);
        Ok(self.file.range(COLUMNS, offset, len)?)
    }
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
        let offset = reader.uvarint()?;
        let len = narrow(reader)?;
        Ok(Piece {
            offset,
            len,
            crc: reader.u32()?,
        })
    };
    Ok(Block {
        range: union(&runs),
        rows,
        text_bytes,
        chunks_bytes,
        times: piece()?,
        text: piece()?,
        extra: piece()?,
        runs,
    })
}
