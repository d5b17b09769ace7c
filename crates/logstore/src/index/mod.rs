//! Which blocks of a part can have a line: its words in a tantivy segment, its variables in
//! groups of filters, and per block what is small enough to be looked through.

mod blocks;
mod cache;
mod filter;
mod wanted;
mod words;

use std::collections::BTreeSet;

use kittiwake_journal::bytes::{Malformed, Reader, put_bytes, put_uvarint};
use kittiwake_journal::sealed::SealedWriter;

use crate::block::{Shapes, Tokens, token};
use crate::part::PartError;

pub(crate) use blocks::Blocks;
pub(crate) use cache::WordsCache;
pub(crate) use filter::{Layout, PAGE_BYTES, PAGE_CELLS};
pub(crate) use wanted::Wanted;
pub(crate) use words::{Fragment, Words, WordsByBlock};

use filter::{GROUP_BLOCKS_MAX, GROUP_KEYS_MAX, Key};
use words::{WORD_BYTES_MAX, WORDS_MAX, WordsWriter};

/// What the index keeps of each block by itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traits {
    /// Of its variables, and of words that are kept as such.
    pub(crate) shapes: Shapes,
    pub(crate) has_backslash: bool,
}

/// Blocks that share a table of variables.
#[derive(Debug)]
pub(crate) struct Group {
    /// None when there is no table: any of the blocks may have any variable.
    pub(crate) layout: Option<Layout>,
    /// Where its pages start in the columns.
    pub(crate) offset: u64,
    /// The part's blocks by their numbers in the table; compaction leaves some behind.
    pub(crate) blocks: Vec<Option<u32>>,
}

/// Gathers the index of a part, block by block.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    words: WordsWriter,
    traits: Vec<Traits>,
    groups: Vec<Group>,
    /// Of the group that is being filled.
    keys: Vec<Key>,
    blocks: Vec<Option<u32>>,
    scratch: Vec<u8>,
}

impl IndexWriter {
    pub(crate) fn new() -> Result<Self, PartError> {
        Ok(Self {
            words: WordsWriter::new()?,
            traits: Vec::new(),
            groups: Vec::new(),
            keys: Vec::new(),
            blocks: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Adds the next block.
    pub(crate) fn add(
        &mut self,
        tokens: &Tokens,
        has_backslash: bool,
        file: &mut SealedWriter,
    ) -> Result<(), PartError> {
        let hashes = tokens.variable_hashes();
        let is_over = self.keys.len() + hashes.len() > GROUP_KEYS_MAX;
        if self.blocks.len() == GROUP_BLOCKS_MAX || (is_over && !self.keys.is_empty()) {
            self.close_group(file)?;
        }
        let number = self.blocks.len() as u8;
        self.blocks.push(Some(self.traits.len() as u32));
        self.keys.extend(hashes.iter().map(|hash| (*hash, number)));
        let mut shapes = tokens.shapes().clone();
        let is_many = tokens.words().len() > WORDS_MAX;
        let is_word = |word: &&str| !is_many && word.len() <= WORD_BYTES_MAX;
        let mut is_all = true;
        for word in tokens.words().filter(|word| !is_word(word)) {
            is_all = false;
            shapes.add(word);
            self.keys
                .push((token::variable_hash(word.as_bytes()), number));
        }
        self.words
            .add_block(tokens.words().filter(is_word), is_all)?;
        self.traits.push(Traits {
            shapes,
            has_backslash,
        });
        Ok(())
    }

    /// Adds the next block as another part has it. Its variables come with
    /// [`IndexWriter::copy_group`].
    pub(crate) fn copy(
        &mut self,
        traits: &Traits,
        words: &WordsByBlock,
        block: usize,
    ) -> Result<(), PartError> {
        self.words.add_block(words.of(block), words.is_all(block))?;
        self.traits.push(traits.clone());
        Ok(())
    }

    /// Adds a group of another part with its pages.
    pub(crate) fn copy_group(
        &mut self,
        layout: Option<Layout>,
        blocks: Vec<Option<u32>>,
        pages: &[u8],
        file: &mut SealedWriter,
    ) -> Result<(), PartError> {
        self.groups.push(Group {
            layout,
            offset: file.write(pages)?,
            blocks,
        });
        Ok(())
    }

    /// Writes the table of the group that was filled. To be called before the section of the
    /// columns ends.
    pub(crate) fn close_group(&mut self, file: &mut SealedWriter) -> Result<(), PartError> {
        let blocks = std::mem::take(&mut self.blocks);
        if blocks.is_empty() {
            return Ok(());
        }
        let table = filter::build(&mut self.keys);
        self.keys.clear();
        self.scratch.clear();
        let layout = table.map(|(layout, cells)| {
            filter::put_pages(&cells, &mut self.scratch);
            layout
        });
        self.groups.push(Group {
            layout,
            offset: file.write(&self.scratch)?,
            blocks,
        });
        Ok(())
    }

    /// Appends traits, names of metadata and groups to `out`, and gives the words' section.
    pub(crate) fn finish(
        self,
        metadata_names: &BTreeSet<String>,
        out: &mut Vec<u8>,
    ) -> Result<Vec<u8>, PartError> {
        for traits in &self.traits {
            traits.shapes.put(out);
            out.push(u8::from(traits.has_backslash));
        }
        put_uvarint(out, metadata_names.len() as u64);
        for name in metadata_names {
            put_bytes(out, name.as_bytes());
        }
        put_uvarint(out, self.groups.len() as u64);
        for group in &self.groups {
            out.push(u8::from(group.layout.is_some()));
            if let Some(layout) = &group.layout {
                layout.put(out);
            }
            put_uvarint(out, group.offset);
            put_uvarint(out, group.blocks.len() as u64);
            for block in &group.blocks {
                put_uvarint(out, block.map_or(0, |b| u64::from(b) + 1));
            }
        }
        Ok(self.words.finish()?)
    }
}

/// Reads the traits of a block.
pub(crate) fn read_traits(reader: &mut Reader<'_>) -> Result<Traits, Malformed> {
    Ok(Traits {
        shapes: Shapes::read(reader)?,
        has_backslash: reader.u8()? != 0,
    })
}

/// Reads the groups of a part of so many blocks.
pub(crate) fn read_groups(reader: &mut Reader<'_>, blocks: usize) -> Result<Vec<Group>, Malformed> {
    let mut groups = Vec::new();
    for _ in 0..reader.count(3)? {
        let layout = match reader.u8()? {
            0 => None,
            _ => Some(Layout::read(reader)?),
        };
        let offset = reader.uvarint()?;
        let at = reader.position();
        let mut of = Vec::new();
        for _ in 0..reader.count(1)? {
            let block = reader.uvarint()?;
            if block > blocks as u64 || of.len() == GROUP_BLOCKS_MAX {
                return Err(Malformed {
                    at,
                    wanted: "blocks of a group",
                });
            }
            of.push(block.checked_sub(1).map(|b| b as u32));
        }
        groups.push(Group {
            layout,
            offset,
            blocks: of,
        });
    }
    Ok(groups)
}
