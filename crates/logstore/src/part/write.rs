//! Writing a part, stream by stream, holding one block and the index.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use kittiwake_env::Fs;
use kittiwake_journal::bytes::{put_bytes, put_uvarint, put_varint};
use kittiwake_journal::sealed::{SealedError, SealedWriter};
use kittiwake_model::{Labels, TimeRange};

use super::{Block, COLUMNS, INDEX, PART, Part, PartError, Piece, Run, WORDS, times, union};
use crate::block::{self, BlockError, Lines, Scratch};
use crate::index::{IndexWriter, Traits, WordsByBlock};

/// A stream with at least this many lines has blocks of its own.
const OWN_ROWS_MIN: usize = 1024;
const ZSTD_LEVEL: i32 = 1;

/// What a line is as a document of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    pub(crate) id: &'a str,
    /// From 1 on.
    pub(crate) version: u64,
}

/// A line to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) time_ns: i64,
    pub(crate) ordinal: u32,
    pub(crate) text: &'a str,
    pub(crate) metadata: Option<&'a Labels>,
    pub(crate) document: Option<Document<'a>>,
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
    /// Per row the version, 0 for none, and the end of the id in `ids`.
    documents: Vec<(u64, usize)>,
    ids: String,
}

impl Open {
    fn clear(&mut self) {
        self.runs.clear();
        self.times.clear();
        self.lines.clear();
        self.ordinals.clear();
        self.metadata.clear();
        self.metadata_sets.clear();
        self.documents.clear();
        self.ids.clear();
    }
}

/// Writes a part.
pub(crate) struct PartWriter {
    file: SealedWriter,
    streams: Vec<Labels>,
    blocks: Vec<Block>,
    open: Open,
    scratch: Scratch,
    index: IndexWriter,
    metadata_names: BTreeSet<String>,
    stream: usize,
    rows: u64,
}

impl PartWriter {
    /// Starts a part of lines of these streams, which come in order.
    pub(crate) fn create(
        fs: &Arc<dyn Fs>,
        path: &Path,
        streams: Vec<Labels>,
    ) -> Result<Self, PartError> {
        let index = IndexWriter::new()?;
        let mut file = SealedWriter::create(fs, path, PART)?;
        file.begin(COLUMNS);
        Ok(Self {
            file,
            streams,
            blocks: Vec::new(),
            open: Open::default(),
            scratch: Scratch::default(),
            index,
            metadata_names: BTreeSet::new(),
            stream: 0,
            rows: 0,
        })
    }

    /// Starts a stream with about so many lines. Each stream comes once, and its lines in
    /// order of time.
    pub(crate) fn start(&mut self, stream: usize, rows: usize) -> Result<(), PartError> {
        let was_own = self
            .open
            .runs
            .last()
            .is_some_and(|r| r.rows >= OWN_ROWS_MIN);
        if rows >= OWN_ROWS_MIN || was_own {
            self.close_block()?;
        }
        self.stream = stream;
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
        let stream = self.stream;
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
        if let Some(document) = line.document {
            open.ids.push_str(document.id);
        }
        let version = line.document.map_or(0, |d| d.version);
        open.documents.push((version, open.ids.len()));
        self.rows += 1;
        Ok(())
    }

    /// Adds a block as another part has it. `streams` are the numbers here of those there.
    /// Gives the block's number here.
    pub(crate) fn copy(
        &mut self,
        from: &Part,
        block: usize,
        streams: &[usize],
        words: &WordsByBlock,
    ) -> Result<u32, PartError> {
        self.close_block()?;
        let old = &from.blocks[block];
        if self.metadata_names != from.metadata_names {
            self.metadata_names
                .extend(from.metadata_names.iter().cloned());
        }
        self.index.copy(&old.traits, words, block)?;
        let runs = old.runs.iter().map(|run| Run {
            stream: streams[run.stream],
            ..*run
        });
        let copied = Block {
            runs: runs.collect(),
            range: old.range,
            rows: old.rows,
            text_bytes: old.text_bytes,
            times: put_piece(&mut self.file, &from.column(&old.times)?)?,
            text: {
                let piece = put_piece(&mut self.file, &from.column(&old.text)?)?;
                self.file.write(&from.chunks(old)?)?;
                piece
            },
            chunks_bytes: old.chunks_bytes,
            ordinals: put_piece(&mut self.file, &from.column(&old.ordinals)?)?,
            metadata: put_piece(&mut self.file, &from.column(&old.metadata)?)?,
            documents: put_piece(&mut self.file, &from.column(&old.documents)?)?,
            traits: Traits::default(),
        };
        self.rows += old.rows as u64;
        self.blocks.push(copied);
        Ok(self.blocks.len() as u32 - 1)
    }

    /// Adds the tables of another part for the blocks that were copied from it: `copied` has
    /// their numbers here by those there.
    pub(crate) fn copy_groups(
        &mut self,
        from: &Part,
        copied: &[Option<u32>],
    ) -> Result<(), PartError> {
        for group in &from.groups {
            let of = |block: &Option<u32>| copied.get((*block)? as usize).copied().flatten();
            let blocks: Vec<Option<u32>> = group.blocks.iter().map(of).collect();
            if blocks.iter().any(Option::is_some) {
                let pages = from.pages(group)?;
                self.index
                    .copy_group(group.layout, blocks, &pages, &mut self.file)?;
            }
        }
        Ok(())
    }

    /// Lines so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the index and makes the part durable. Gives its number of lines.
    pub(crate) fn finish(mut self) -> Result<u64, PartError> {
        let rows = self.rows;
        let index = match self.close_block() {
            Ok(()) => self.index.close_group(&mut self.file),
            error => error,
        };
        let mut file = self.file;
        let written = index.and_then(|()| {
            let mut out = Vec::new();
            put_index(&self.streams, &self.blocks, &mut out);
            let words = self.index.finish(&self.metadata_names, &mut out)?;
            file.begin(INDEX);
            file.write(&out)?;
            file.begin(WORDS);
            file.write(&words)?;
            Ok(())
        });
        match written {
            Ok(()) => {
                file.finish()?;
                Ok(rows)
            }
            Err(error) => {
                file.abandon();
                Err(error)
            }
        }
    }

    /// Removes what was written.
    pub(crate) fn abandon(self) {
        self.file.abandon();
    }

    fn close_block(&mut self) -> Result<(), PartError> {
        let open = &mut self.open;
        if open.times.is_empty() {
            return Ok(());
        }
        let file = &mut self.file;
        let mut times = Vec::new();
        times::encode(&open.times, &mut times);
        let text = block::encode(&open.lines, &mut self.scratch)?;
        let (head, chunks) = text.bytes.split_at(text.head_bytes);
        for (name, _) in open.metadata_sets.iter().flatten() {
            if !self.metadata_names.contains(name) {
                self.metadata_names.insert(name.to_owned());
            }
        }
        let has_backslash = memchr::memchr(b'\\', open.lines.text.as_bytes()).is_some();
        self.blocks.push(Block {
            range: union(&open.runs),
            rows: open.times.len(),
            text_bytes: open.lines.text.len(),
            times: put_piece(file, &times)?,
            text: {
                let piece = put_piece(file, head)?;
                file.write(chunks)?;
                piece
            },
            chunks_bytes: chunks.len() as u32,
            ordinals: put_piece(file, &ordinals(open)?)?,
            metadata: put_piece(file, &metadata(open)?)?,
            documents: put_piece(file, &documents(open)?)?,
            runs: open.runs.as_slice().into(),
            traits: Traits::default(),
        });
        self.index.add(text.tokens, has_backslash, file)?;
        self.open.clear();
        Ok(())
    }
}

fn ordinals(open: &Open) -> Result<Vec<u8>, PartError> {
    if open.ordinals.iter().all(|o| *o == 0) {
        return Ok(Vec::new());
    }
    let mut raw = Vec::new();
    for ordinal in &open.ordinals {
        put_uvarint(&mut raw, u64::from(*ordinal));
    }
    compress(&raw)
}

fn metadata(open: &Open) -> Result<Vec<u8>, PartError> {
    if open.metadata_sets.is_empty() {
        return Ok(Vec::new());
    }
    let mut raw = Vec::new();
    put_uvarint(&mut raw, open.metadata_sets.len() as u64);
    for set in &open.metadata_sets {
        put_bytes(&mut raw, set.as_packed());
    }
    for number in &open.metadata {
        put_uvarint(&mut raw, u64::from(*number));
    }
    compress(&raw)
}

fn documents(open: &Open) -> Result<Vec<u8>, PartError> {
    if open.documents.iter().all(|(version, _)| *version == 0) {
        return Ok(Vec::new());
    }
    let mut raw = Vec::new();
    let mut start = 0;
    for (version, end) in &open.documents {
        put_uvarint(&mut raw, *version);
        if *version > 0 {
            put_bytes(&mut raw, &open.ids.as_bytes()[start..*end]);
        }
        start = *end;
    }
    compress(&raw)
}

fn put_index(streams: &[Labels], blocks: &[Block], out: &mut Vec<u8>) {
    put_uvarint(out, streams.len() as u64);
    for labels in streams {
        put_bytes(out, labels.as_packed());
    }
    put_uvarint(out, blocks.len() as u64);
    for block in blocks {
        put_uvarint(out, block.text_bytes as u64);
        put_uvarint(out, u64::from(block.chunks_bytes));
        put_uvarint(out, block.runs.len() as u64);
        for run in &block.runs {
            put_uvarint(out, run.stream as u64);
            put_uvarint(out, run.rows as u64);
            put_varint(out, run.range.start);
            put_uvarint(out, run.range.end.wrapping_sub(run.range.start) as u64);
        }
        for piece in [
            block.times,
            block.text,
            block.ordinals,
            block.metadata,
            block.documents,
        ] {
            put_uvarint(out, u64::from(piece.len));
            if piece.len > 0 {
                put_uvarint(out, piece.offset);
                out.extend_from_slice(&piece.crc.to_le_bytes());
            }
        }
    }
}

/// The length of the content as a varint, then a zstd frame.
fn compress(raw: &[u8]) -> Result<Vec<u8>, PartError> {
    let mut out = Vec::new();
    put_uvarint(&mut out, raw.len() as u64);
    out.extend(zstd::bulk::compress(raw, ZSTD_LEVEL).map_err(BlockError::Compression)?);
    Ok(out)
}

fn put_piece(file: &mut SealedWriter, bytes: &[u8]) -> Result<Piece, SealedError> {
    if bytes.is_empty() {
        return Ok(Piece::default());
    }
    Ok(Piece {
        offset: file.write(bytes)?,
        len: bytes.len() as u32,
        crc: crc32c::crc32c(bytes),
    })
}
