//! What the variables of a block are made of, so that a fragment of one can be ruled out.

use kittiwake_journal::bytes::{Malformed, Reader};

/// Letters without accents, `_`, digits, all others.
const KINDS: usize = 29;
const DIGIT: usize = 27;
const WORDS: usize = (KINDS * KINDS).div_ceil(64);

/// Which kinds of characters follow each other in some texts, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shapes([u64; WORDS]);

impl Default for Shapes {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

fn kind(byte: u8) -> usize {
    match byte {
        b'a'..=b'z' => usize::from(byte - b'a'),
        b'_' => 26,
        b'0'..=b'9' => DIGIT,
        _ => 28,
    }
}

fn pairs(text: &str) -> impl Iterator<Item = usize> {
    let pairs = text.as_bytes().windows(2);
    pairs.map(|pair| kind(pair[0]) * KINDS + kind(pair[1]))
}

impl Shapes {
    /// Adds a folded text.
    pub fn add(&mut self, text: &str) {
        for pair in pairs(text) {
            self.0[pair / 64] |= 1 << (pair % 64);
        }
    }

    /// Adds what all hexadecimal numbers are made of.
    pub(super) fn add_hex(&mut self) {
        for first in "0abcdef".chars() {
            for second in "0abcdef".chars() {
                self.add(&format!("{first}{second}"));
            }
        }
    }

    /// Whether one of the texts, or a number of any, may have this folded fragment.
    pub fn may_have(&self, fragment: &str) -> bool {
        let number = DIGIT * KINDS + DIGIT;
        pairs(fragment).all(|pair| pair == number || self.0[pair / 64] >> (pair % 64) & 1 == 1)
    }

    /// Appends the bits.
    pub fn put(&self, out: &mut Vec<u8>) {
        for word in self.0 {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads what [`Shapes::put`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut shapes = Self::default();
        for word in &mut shapes.0 {
            *word = reader.u64()?;
        }
        Ok(shapes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_fragment_of_a_text_may_be_there(texts: Vec<String>, at: usize, len: usize) {
            let mut shapes = Shapes::default();
            for text in &texts {
                shapes.add(text);
            }
            for text in &texts {
                let chars = text.chars();
                let part: String = chars.skip(at % 8).take(len % 8).collect();
                prop_assert!(shapes.may_have(&part));
            }
            let mut bytes = Vec::new();
            shapes.put(&mut bytes);
            prop_assert_eq!(Shapes::read(&mut Reader::new(&bytes)).unwrap(), shapes);
        }
    }

    #[test]
    fn words_are_not_in_hexadecimal_numbers() {
        let mut shapes = Shapes::default();
        for text in ["0123456789abcdef", "ba98ed76fc", "u77", "12ms"] {
            shapes.add(text);
        }
        assert!(shapes.may_have("cdef"));
        assert!(!shapes.may_have("needle"));
        assert!(shapes.may_have("123"));
    }
}
