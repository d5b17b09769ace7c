//! Reading the columns of a block, and looking up blocks in the index.

use std::sync::Arc;

use kittiwake_journal::bytes::{Malformed, Reader as Bytes};
use kittiwake_journal::sealed::SealedFile;
use kittiwake_model::Labels;

use super::{
    Block, COLUMN_BYTES_MAX, COLUMNS, Document, Part, PartError, Piece, Times, WORDS,
    WORDS_BYTES_MAX, narrow,
};
use crate::block::{BlockError, Reader, Source, token, unzstd};
use crate::index::{Blocks, Fragment, Group, Layout, PAGE_BYTES, PAGE_CELLS, Wanted, Words};

/// The metadata of a block's rows.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) sets: Vec<Labels>,
    /// Per row the number of its set, from 1 on; 0 for none.
    numbers: Vec<u32>,
}

impl Metadata {
    /// The place of a row's metadata in [`Metadata::sets`].
    pub(crate) fn place(&self, row: usize) -> Option<usize> {
        (*self.numbers.get(row)? as usize).checked_sub(1)
    }

    pub(crate) fn of(&self, row: usize) -> Option<&Labels> {
        self.sets.get(self.place(row)?)
    }
}

/// The documents of a block's rows.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    ids: String,
    /// Per row the version, 0 for none, and the end of its id.
    rows: Vec<(u64, usize)>,
}

impl Documents {
    pub(crate) fn of(&self, row: usize) -> Option<Document<'_>> {
        let (version, end) = *self.rows.get(row)?;
        let start = row.checked_sub(1).map_or(0, |before| self.rows[before].1);
        let id = self.ids.get(start..end)?;
        (version > 0).then_some(Document { id, version })
    }
}

impl Part {
    pub(crate) fn times(&self, block: &Block) -> Result<Times, PartError> {
        Ok(Times::open(self.column(&block.times)?, block.rows)?)
    }

    /// Ordinals by row; none when all are 0.
    pub(crate) fn ordinals(&self, block: &Block) -> Result<Vec<u32>, PartError> {
        if block.ordinals.len == 0 {
            return Ok(Vec::new());
        }
        let raw = decompress(&self.column(&block.ordinals)?)?;
        let mut reader = Bytes::new(&raw);
        let numbers = (0..block.rows).map(|_| narrow(&mut reader));
        Ok(numbers.collect::<Result<_, _>>()?)
    }

    pub(crate) fn metadata(&self, block: &Block) -> Result<Metadata, PartError> {
        let mut metadata = Metadata::default();
        if block.metadata.len == 0 {
            return Ok(metadata);
        }
        let raw = decompress(&self.column(&block.metadata)?)?;
        let mut reader = Bytes::new(&raw);
        for _ in 0..reader.count(1)? {
            let len = reader.count(1)?;
            metadata.sets.push(Labels::from_packed(reader.take(len)?)?);
        }
        let rest = &raw[reader.position()..];
        if rest.len() == block.rows && rest.is_ascii() {
            // Each number is a byte, as with few sets it always is.
            metadata.numbers = rest.iter().map(|byte| u32::from(*byte)).collect();
            return Ok(metadata);
        }
        metadata.numbers.reserve(block.rows);
        for _ in 0..block.rows {
            metadata.numbers.push(narrow(&mut reader)?);
        }
        Ok(metadata)
    }

    pub(crate) fn documents(&self, block: &Block) -> Result<Documents, PartError> {
        let mut documents = Documents::default();
        if block.documents.len == 0 {
            return Ok(documents);
        }
        let raw = decompress(&self.column(&block.documents)?)?;
        let mut reader = Bytes::new(&raw);
        for _ in 0..block.rows {
            let version = reader.uvarint()?;
            if version > 0 {
                documents.ids.push_str(reader.text()?);
            }
            documents.rows.push((version, documents.ids.len()));
        }
        Ok(documents)
    }

    /// A reader of a block's text.
    pub(crate) fn text(&self, block: &Block) -> Result<Reader<Text>, PartError> {
        let head = self.column(&block.text)?;
        let source = Text {
            file: Arc::clone(&self.file),
            offset: block.text.offset,
            len: head.len() + block.chunks_bytes as usize,
        };
        Reader::open(source, &head, block.rows)
    }

    pub(super) fn chunks(&self, block: &Block) -> Result<Vec<u8>, PartError> {
        let offset = block.text.offset.saturating_add(u64::from(block.text.len));
        self.bytes(offset, block.chunks_bytes)
    }

    /// The pages of a group's table.
    pub(super) fn pages(&self, group: &Group) -> Result<Vec<u8>, PartError> {
        let pages = group.layout.map_or(0, |layout| layout.pages());
        self.bytes(group.offset, (pages * PAGE_BYTES) as u32)
    }

    fn bytes(&self, offset: u64, len: u32) -> Result<Vec<u8>, PartError> {
        if u64::from(len) > COLUMN_BYTES_MAX {
            let what = format!("a column of {len} bytes");
            return Err(self.file.damaged(what).into());
        }
        Ok(self.file.range(COLUMNS, offset, len as usize)?)
    }

    pub(super) fn column(&self, piece: &Piece) -> Result<Vec<u8>, PartError> {
        if piece.len == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.bytes(piece.offset, piece.len)?;
        if crc32c::crc32c(&bytes) != piece.crc {
            let what = format!("checksum of {} bytes at {}", piece.len, piece.offset);
            return Err(self.file.damaged(what).into());
        }
        Ok(bytes)
    }

    /// The words of the part.
    pub(crate) fn words(&self) -> Result<Arc<Words>, PartError> {
        self.cache.get(self.name, || self.read_words())
    }

    /// The words of the part, whatever is cached.
    pub(crate) fn read_words(&self) -> Result<Words, PartError> {
        let bytes = self.file.section(WORDS, WORDS_BYTES_MAX)?;
        Ok(Words::open(bytes, self.blocks.len())?)
    }

    /// Those of the blocks in `within` that can have what is wanted.
    pub(crate) fn candidates(&self, wanted: &Wanted, within: Blocks) -> Result<Blocks, PartError> {
        if within.is_empty() {
            return Ok(within);
        }
        let mut found = match wanted {
            Wanted::Any => return Ok(within),
            Wanted::All(wanted) => {
                return wanted
                    .iter()
                    .try_fold(within, |within, wanted| self.candidates(wanted, within));
            }
            Wanted::One(wanted) => {
                let mut found = Blocks::none(self.blocks.len());
                for one in wanted {
                    found.unite(&self.candidates(one, within.clone())?);
                }
                return Ok(found);
            }
            Wanted::Word(word) => {
                let words = self.words()?;
                let mut found = words.with(word)?;
                let mut incomplete = words.incomplete()?;
                incomplete.intersect(&within);
                if !incomplete.is_empty() {
                    found.unite(&self.with_variable(word, &incomplete)?);
                }
                found
            }
            Wanted::Variable(variable) => return self.with_variable(variable, &within),
            Wanted::Fragment {
                text,
                goes_left,
                goes_right,
            } => {
                // No word has a digit.
                let mut found = if token::has_digit(text) {
                    Blocks::none(self.blocks.len())
                } else {
                    self.words()?.with_fragment(match (goes_left, goes_right) {
                        (true, true) => Fragment::Inner(text),
                        (true, false) => Fragment::End(text),
                        (false, _) => Fragment::Start(text),
                    })?
                };
                for block in within.iter() {
                    if self.blocks[block].traits.shapes.may_have(text) {
                        found.insert(block);
                    }
                }
                found
            }
            Wanted::Backslash => {
                let mut found = Blocks::none(self.blocks.len());
                for block in within.iter() {
                    if self.blocks[block].traits.has_backslash {
                        found.insert(block);
                    }
                }
                found
            }
        };
        found.intersect(&within);
        Ok(found)
    }

    /// Those of the blocks that can have a folded variable.
    fn with_variable(&self, variable: &str, within: &Blocks) -> Result<Blocks, PartError> {
        let hash = token::variable_hash(variable.as_bytes());
        let mut found = Blocks::none(self.blocks.len());
        for group in &self.groups {
            let blocks = || group.blocks.iter().enumerate();
            if !blocks().any(|(_, b)| b.is_some_and(|b| within.contains(b as usize))) {
                continue;
            }
            let bits = match group.layout {
                Some(layout) => self.probe(group, layout, hash)?,
                None => u64::MAX,
            };
            for (_, block) in blocks().filter(|(number, _)| bits >> number & 1 == 1) {
                if let Some(block) = block {
                    found.insert(*block as usize);
                }
            }
        }
        found.intersect(within);
        Ok(found)
    }

    fn probe(&self, group: &Group, layout: Layout, hash: u64) -> Result<u64, PartError> {
        let mut pages: Vec<(usize, Vec<u8>)> = Vec::new();
        layout.blocks(hash, |cell| {
            let number = cell / PAGE_CELLS;
            let known = pages.iter().position(|(n, _)| *n == number);
            let place = if let Some(place) = known {
                place
            } else {
                let offset = (number * PAGE_BYTES) as u64;
                let page = self.bytes(group.offset.saturating_add(offset), PAGE_BYTES as u32)?;
                if crc32c::crc32c(&page[4..]).to_le_bytes() != page[..4] {
                    return Err(self.file.damaged("checksum of a table's page").into());
                }
                pages.push((number, page));
                pages.len() - 1
            };
            let at = 4 + cell % PAGE_CELLS * 2;
            let page = &pages[place].1;
            Ok(u16::from_le_bytes([page[at], page[at + 1]]))
        })
    }
}

/// The text of one block of a part.
#[derive(Debug)]
pub(crate) struct Text {
    file: Arc<SealedFile>,
    offset: u64,
    len: usize,
}

impl Source for Text {
    type Error = PartError;

    fn read(&self, offset: usize, len: usize) -> Result<Vec<u8>, PartError> {
        if offset.saturating_add(len) > self.len {
            return Err(BlockError::Damaged("a chunk beyond the block's end").into());
        }
        let offset = self.offset.saturating_add(offset as u64);
        Ok(self.file.range(COLUMNS, offset, len)?)
    }
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
    Ok(unzstd(&bytes[reader.position()..], len as usize)?)
}
