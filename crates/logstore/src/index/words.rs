//! The words of a part: one tantivy segment whose documents are the part's blocks.
//!
//! tantivy trusts its bytes and panics on others, so the segment lies whole in one section of
//! the part and is read whole, its checksum first. It is some tens of kilobytes: a block has
//! hundreds of distinct words, not one for each line.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kittiwake_journal::bytes::{Malformed, Reader, put_bytes, put_uvarint};
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    Directory, DirectoryLock, FileHandle, Lock, OwnedBytes, RamDirectory, WatchCallback,
    WatchHandle, WritePtr,
};
use tantivy::error::DataCorruption;
use tantivy::indexer::SingleSegmentIndexWriter;
use tantivy::postings::TermInfo;
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer, TokenizerManager};
use tantivy::{
    DocSet, Index, InvertedIndexReader, SegmentReader, TERMINATED, TantivyDocument, TantivyError,
};

use super::blocks::Blocks;

/// Words of a block at most; one with more is marked by [`MANY`] instead, and its words are
/// kept as variables are.
pub(crate) const WORDS_MAX: usize = 8192;
/// A word of more bytes is kept as variables are, and its block marked by [`MANY`].
pub(crate) const WORD_BYTES_MAX: usize = 128;
/// Marks blocks with words that are not here. No token has this character.
const MANY: &str = "\u{1}";
/// Between the words of a document; no token has it.
const BETWEEN: char = '\n';
const TOKENIZER: &str = "words";
/// What tantivy may use before it would write; a part's words stay far below.
const MEMORY_BYTES: usize = 1_000_000;

/// Splits what [`WordsWriter::add_block`] joined.
#[derive(Clone, Default)]
struct Joined {
    token: Token,
}

struct JoinedStream<'a> {
    text: &'a str,
    at: usize,
    token: &'a mut Token,
}

impl Tokenizer for Joined {
    type TokenStream<'a> = JoinedStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> JoinedStream<'a> {
        self.token = Token::default();
        JoinedStream {
            text,
            at: 0,
            token: &mut self.token,
        }
    }
}

impl TokenStream for JoinedStream<'_> {
    fn advance(&mut self) -> bool {
        let Some(rest) = self.text.get(self.at..).filter(|rest| !rest.is_empty()) else {
            return false;
        };
        let len = rest.find(BETWEEN).unwrap_or(rest.len());
        self.token.text.clear();
        self.token.text.push_str(&rest[..len]);
        self.token.offset_from = self.at;
        self.token.offset_to = self.at + len;
        self.token.position = self.token.position.wrapping_add(1);
        self.at += len + 1;
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

fn schema() -> (Schema, Field) {
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(TOKENIZER)
        .set_index_option(IndexRecordOption::Basic)
        .set_fieldnorms(false);
    let mut schema = Schema::builder();
    let words = schema.add_text_field(
        "words",
        TextOptions::default().set_indexing_options(indexing),
    );
    (schema.build(), words)
}

/// Gathers the words of a part's blocks.
pub(crate) struct WordsWriter {
    directory: RamDirectory,
    writer: SingleSegmentIndexWriter,
    field: Field,
    joined: String,
}

impl fmt::Debug for WordsWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WordsWriter").finish_non_exhaustive()
    }
}

impl WordsWriter {
    pub(crate) fn new() -> Result<Self, TantivyError> {
        let directory = RamDirectory::create();
        let (schema, field) = schema();
        let tokenizers = TokenizerManager::new();
        tokenizers.register(TOKENIZER, Joined::default());
        let writer = Index::builder()
            .schema(schema)
            .tokenizers(tokenizers)
            .single_segment_index_writer(directory.clone(), MEMORY_BYTES)?;
        Ok(Self {
            directory,
            writer,
            field,
            joined: String::new(),
        })
    }

    /// Adds the next block with its distinct folded words. `is_all` is false when it has
    /// others too.
    pub(crate) fn add_block<'a>(
        &mut self,
        words: impl Iterator<Item = &'a str>,
        is_all: bool,
    ) -> Result<(), TantivyError> {
        self.joined.clear();
        for word in words.chain((!is_all).then_some(MANY)) {
            self.joined.push_str(word);
            self.joined.push(BETWEEN);
        }
        let mut document = TantivyDocument::new();
        document.add_text(self.field, &self.joined);
        self.writer.add_document(document)
    }

    /// The segment: count, then name and bytes of each file with their lengths.
    pub(crate) fn finish(self) -> Result<Vec<u8>, TantivyError> {
        let index = self.writer.finalize()?;
        let managed = index.directory().list_managed_files();
        let mut names: Vec<PathBuf> = managed.into_iter().collect();
        names.sort();
        let mut files = Vec::new();
        for name in names {
            // Not every file that a segment may have is there.
            if self.directory.exists(&name)? {
                files.push((name.clone(), self.directory.open_read(&name)?.read_bytes()?));
            }
        }
        let mut out = Vec::new();
        put_uvarint(&mut out, files.len() as u64);
        for (name, bytes) in files {
            put_bytes(&mut out, name.to_string_lossy().as_bytes());
            put_bytes(&mut out, &bytes);
        }
        Ok(out)
    }
}

/// The files of a segment within the bytes of a section, for reading.
#[derive(Debug, Clone)]
struct Section(Arc<BTreeMap<PathBuf, OwnedBytes>>);

impl Section {
    fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let all = OwnedBytes::new(bytes);
        let mut reader = Reader::new(&all);
        let mut files = BTreeMap::new();
        for _ in 0..reader.count(2)? {
            let name = PathBuf::from(reader.text()?);
            let len = reader.count(1)?;
            let start = reader.position();
            reader.take(len)?;
            files.insert(name, all.slice(start..start + len));
        }
        Ok(Self(Arc::new(files)))
    }
}

fn is_read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "a part is never changed")
}

impl Directory for Section {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        match self.0.get(path) {
            Some(bytes) => Ok(Arc::new(bytes.clone())),
            None => Err(OpenReadError::FileDoesNotExist(path.to_owned())),
        }
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        Err(DeleteError::IoError {
            io_error: Arc::new(is_read_only()),
            filepath: path.to_owned(),
        })
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        Ok(self.0.contains_key(path))
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        Err(OpenWriteError::wrap_io_error(
            is_read_only(),
            path.to_owned(),
        ))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        match self.0.get(path) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => Err(OpenReadError::FileDoesNotExist(path.to_owned())),
        }
    }

    fn atomic_write(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        Err(is_read_only())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn acquire_lock(&self, _: &Lock) -> Result<DirectoryLock, LockError> {
        // Nobody writes, so nothing is to be kept apart.
        Ok(DirectoryLock::from(Box::new(())))
    }

    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

/// The words of a part, for look-ups.
pub(crate) struct Words {
    index: Arc<InvertedIndexReader>,
    blocks: usize,
    size_bytes: usize,
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").finish_non_exhaustive()
    }
}

/// What is asked of the words of a part.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fragment<'a> {
    Start(&'a str),
    End(&'a str),
    Inner(&'a str),
}

impl Fragment<'_> {
    fn is_in(self, word: &str) -> bool {
        match self {
            Self::Start(text) => word.starts_with(text),
            Self::End(text) => word.ends_with(text),
            Self::Inner(text) => word.contains(text),
        }
    }
}

impl Words {
    /// Opens a segment of as many documents as the part has blocks. The bytes are those that
    /// were written: their checksum is checked.
    pub(crate) fn open(bytes: Vec<u8>, blocks: usize) -> Result<Self, TantivyError> {
        let size_bytes = bytes.len();
        let section = Section::parse(bytes).map_err(|e| {
            TantivyError::DataCorruption(DataCorruption::comment_only(e.to_string()))
        })?;
        let segments = Index::open(section)?.searchable_segments()?;
        let (_, field) = schema();
        let index = match segments.first() {
            Some(segment) => SegmentReader::open(segment)?.inverted_index(field)?,
            None => Arc::new(InvertedIndexReader::empty(IndexRecordOption::Basic)),
        };
        Ok(Self {
            index,
            blocks,
            size_bytes,
        })
    }

    /// Bytes that it holds.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Blocks with words that are not here.
    pub(crate) fn incomplete(&self) -> io::Result<Blocks> {
        self.with(MANY)
    }

    /// The blocks with a folded word.
    pub(crate) fn with(&self, word: &str) -> io::Result<Blocks> {
        let mut found = Blocks::none(self.blocks);
        if let Some(info) = self.index.terms().get(word)? {
            self.add(&info, &mut found)?;
        }
        Ok(found)
    }

    /// The blocks with a word that has a folded fragment.
    pub(crate) fn with_fragment(&self, fragment: Fragment<'_>) -> io::Result<Blocks> {
        let mut found = Blocks::none(self.blocks);
        let terms = self.index.terms();
        let mut stream = match fragment {
            Fragment::Start(text) => terms.range().ge(text).into_stream()?,
            Fragment::End(_) | Fragment::Inner(_) => terms.stream()?,
        };
        while stream.advance() {
            let word = str::from_utf8(stream.key()).unwrap_or_default();
            if fragment.is_in(word) {
                self.add(stream.value(), &mut found)?;
            } else if matches!(fragment, Fragment::Start(_)) {
                break;
            }
        }
        Ok(found)
    }

    /// Per block its words, as [`WordsWriter::add_block`] takes them, without the marks.
    pub(crate) fn by_block(&self) -> io::Result<WordsByBlock> {
        let mut all = WordsByBlock {
            words: Vec::new(),
            blocks: vec![Vec::new(); self.blocks],
            incomplete: Blocks::none(self.blocks),
        };
        let mut stream = self.index.terms().stream()?;
        while stream.advance() {
            let mut found = Blocks::none(self.blocks);
            self.add(stream.value(), &mut found)?;
            let word = str::from_utf8(stream.key()).unwrap_or_default();
            if word == MANY {
                all.incomplete = found;
                continue;
            }
            for block in found.iter() {
                all.blocks[block].push(all.words.len() as u32);
            }
            all.words.push(word.into());
        }
        Ok(all)
    }

    fn add(&self, info: &TermInfo, found: &mut Blocks) -> io::Result<()> {
        let mut postings = self
            .index
            .read_postings_from_terminfo(info, IndexRecordOption::Basic)?;
        while postings.doc() != TERMINATED {
            found.insert(postings.doc() as usize);
            postings.advance();
        }
        Ok(())
    }
}

/// The words of a part turned over, for writing them anew.
#[derive(Debug)]
pub(crate) struct WordsByBlock {
    words: Vec<Box<str>>,
    blocks: Vec<Vec<u32>>,
    incomplete: Blocks,
}

impl WordsByBlock {
    /// The words of a block.
    pub(crate) fn of(&self, block: usize) -> impl Iterator<Item = &str> {
        let numbers = self.blocks.get(block).into_iter().flatten();
        numbers.filter_map(|n| self.words.get(*n as usize).map(AsRef::as_ref))
    }

    /// Whether these are all its words.
    pub(crate) fn is_all(&self, block: usize) -> bool {
        !self.incomplete.contains(block)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn blocks_of_words_are_found(
            blocks in proptest::collection::vec(proptest::collection::btree_set("[abü]{1,4}", 0..20), 0..40),
            asked in "[abü]{1,3}",
        ) {
            let mut writer = WordsWriter::new().unwrap();
            for (n, words) in blocks.iter().enumerate() {
                writer.add_block(words.iter().map(String::as_str), n % 3 != 0).unwrap();
            }
            let words = Words::open(writer.finish().unwrap(), blocks.len()).unwrap();
            let of = |found: Blocks| found.iter().collect::<Vec<_>>();
            let want = |accepts: &dyn Fn(&str) -> bool| -> Vec<usize> {
                (0..blocks.len()).filter(|n| blocks[*n].iter().any(|w| accepts(w))).collect()
            };
            prop_assert_eq!(of(words.with(&asked).unwrap()), want(&|w| w == asked));
            prop_assert_eq!(
                of(words.with_fragment(Fragment::Start(&asked)).unwrap()),
                want(&|w| w.starts_with(&asked))
            );
            prop_assert_eq!(
                of(words.with_fragment(Fragment::End(&asked)).unwrap()),
                want(&|w| w.ends_with(&asked))
            );
            prop_assert_eq!(
                of(words.with_fragment(Fragment::Inner(&asked)).unwrap()),
                want(&|w| w.contains(&asked))
            );
            let by_block = words.by_block().unwrap();
            for (n, words) in blocks.iter().enumerate() {
                prop_assert_eq!(by_block.of(n).collect::<Vec<_>>(), words.iter().collect::<Vec<_>>());
                prop_assert_eq!(by_block.is_all(n), n % 3 != 0);
            }
        }
    }
}
