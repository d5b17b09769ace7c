//! What an index of blocks needs to know of one: its words and the hashes of its variables.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::Shapes;
use super::token::{self, Token};

/// The distinct words of a block, folded, and the hashes of its folded variables. Numbers of
/// fewer than [`token::HASHED_DIGITS_MIN`] digits are left out.
#[derive(Debug, Default)]
pub struct Tokens {
    words: String,
    /// End of each word in `words`.
    ends: Vec<u32>,
    table: HashTable<u32>,
    hashes: Vec<u64>,
    shapes: Shapes,
    folded: String,
}

impl Tokens {
    /// The words, each once, in no order.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.ends.len()).map(|number| self.word(number as u32))
    }

    /// The hashes of the variables, each once, in order.
    pub fn variable_hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// What its variables are made of.
    pub fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// Forgets all, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.ends.clear();
        self.table.clear();
        self.hashes.clear();
        self.shapes = Shapes::default();
    }

    /// Adds all tokens of a text.
    pub(super) fn add_text(&mut self, text: &str) {
        for token in token::tokens(text) {
            self.add(token);
        }
    }

    pub(super) fn add(&mut self, token: Token<'_>) {
        if token.is_variable {
            if token.is_hashed() {
                self.hash(token.text);
            }
        } else {
            self.add_word(token.text);
        }
    }

    /// Adds the hash of a variable that is one token and has one. A value without a digit among
    /// such is a word.
    pub(super) fn add_variable(&mut self, text: &str) {
        if !text.bytes().any(|b| b.is_ascii_digit()) {
            return self.add_text(text);
        }
        self.hash(text);
    }

    fn hash(&mut self, text: &str) {
        self.add_hash(text);
        self.shapes.add(&self.folded);
    }

    /// Adds variables of which all are of the shape of the first.
    pub(super) fn add_variables<'t>(&mut self, mut texts: impl Iterator<Item = &'t str>) {
        if let Some(first) = texts.next() {
            self.add_variable(first);
        }
        texts.for_each(|text| self.add_hash(text));
    }

    /// Adds hexadecimal numbers.
    pub(super) fn add_hex<'t>(&mut self, texts: impl Iterator<Item = &'t str>) {
        self.shapes.add_hex();
        texts.for_each(|text| self.add_hash(text));
    }

    fn add_hash(&mut self, text: &str) {
        token::fold(text, &mut self.folded);
        self.hashes
            .push(token::variable_hash(self.folded.as_bytes()));
    }

    fn add_word(&mut self, text: &str) {
        let mut folded = std::mem::take(&mut self.folded);
        token::fold(text, &mut folded);
        let hash = |word: &str| xxh3_64(word.as_bytes());
        let is_known = self
            .table
            .find(hash(&folded), |number| self.word(*number) == folded)
            .is_some();
        if !is_known {
            self.words.push_str(&folded);
            self.ends.push(self.words.len() as u32);
            let number = self.ends.len() as u32 - 1;
            let (words, ends) = (&self.words, &self.ends);
            self.table.insert_unique(hash(&folded), number, |number| {
                hash(word_of(words, ends, *number))
            });
        }
        self.folded = folded;
    }

    /// Brings the hashes in order, each once.
    pub(super) fn finish(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
    }

    fn word(&self, number: u32) -> &str {
        word_of(&self.words, &self.ends, number)
    }
}

fn word_of<'a>(words: &'a str, ends: &[u32], number: u32) -> &'a str {
    let number = number as usize;
    let start = number.checked_sub(1).map_or(0, |before| ends[before]) as usize;
    &words[start..ends[number] as usize]
}
