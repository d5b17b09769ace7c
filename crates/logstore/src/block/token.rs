//! Tokens: what a search can look up.
//!
//! A token is a maximal run of letters, digits and `_`; a letter of a script that is written
//! without spaces is a token by itself. A token with a digit is a variable, any other one is a
//! word. All other bytes separate. Tokens are compared folded, as Go's `(?i)` folds.

use xxhash_rust::xxh3::xxh3_64;

/// Numbers of fewer digits have no hash among a block's variables: they are too many, and the
/// minimum and maximum of their column rule most of them out.
pub const HASHED_DIGITS_MIN: usize = 7;

/// What a byte is to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Separator,
    Letter,
    Digit,
    /// Part of a character of several bytes.
    Wide,
}

/// The class of each byte.
pub(super) const CLASSES: [Class; 256] = {
    let mut classes = [Class::Separator; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => Class::Digit,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Class::Letter,
            0x80.. => Class::Wide,
            _ => Class::Separator,
        };
        byte += 1;
    }
    classes
};

/// What a character is to a token.
pub(crate) fn kind(c: char) -> Wide {
    match u8::try_from(c).map(|byte| CLASSES[usize::from(byte)]) {
        Ok(Class::Separator) => Wide::Separator,
        Ok(Class::Letter) => Wide::Letter,
        Ok(Class::Digit) => Wide::Digit,
        Ok(Class::Wide) | Err(_) => class_of(c),
    }
}

/// What a character of several bytes is to a token.
pub(super) fn class_of(c: char) -> Wide {
    if !c.is_alphanumeric() {
        Wide::Separator
    } else if is_spaceless(c) {
        Wide::Alone
    } else if c.is_numeric() {
        Wide::Digit
    } else {
        Wide::Letter
    }
}

/// The class of a character of several bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wide {
    Separator,
    Letter,
    Digit,
    /// A token by itself.
    Alone,
}

/// Whether a letter belongs to a script that is written without spaces.
fn is_spaceless(c: char) -> bool {
    matches!(u32::from(c),
        0x0e00..=0x0eff // Thai, Lao
        | 0x1000..=0x109f // Myanmar
        | 0x1780..=0x17ff // Khmer
        | 0x3040..=0x312f | 0x31f0..=0x31ff | 0xff66..=0xff9f // kana, bopomofo
        | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff // Han
    )
}

/// A token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// The token, not folded.
    pub text: &'a str,
    /// Where it starts, in bytes.
    pub at: usize,
    /// Whether it has a digit.
    pub is_variable: bool,
}

impl Token<'_> {
    /// Whether a block's variables have its hash.
    pub fn is_hashed(&self) -> bool {
        self.is_variable
            && (self.text.len() >= HASHED_DIGITS_MIN
                || !self.text.bytes().all(|b| b.is_ascii_digit()))
    }
}

/// Whether a text has a digit, as no word has.
pub(crate) fn has_digit(text: &str) -> bool {
    text.chars().any(|c| kind(c) == Wide::Digit)
}

/// The tokens of a text, in order.
pub fn tokens(text: &str) -> Tokenizer<'_> {
    Tokenizer { text, at: 0 }
}

/// Walks the tokens of a text.
#[derive(Debug, Clone)]
pub struct Tokenizer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Tokenizer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.text.as_bytes();
        let mut start = None;
        let mut is_variable = false;
        let mut at = self.at;
        while let Some(byte) = bytes.get(at) {
            let (class, len) = match CLASSES[usize::from(*byte)] {
                Class::Separator => (Wide::Separator, 1),
                Class::Letter => (Wide::Letter, 1),
                Class::Digit => (Wide::Digit, 1),
                Class::Wide => {
                    let c = self.text[at..].chars().next()?;
                    (class_of(c), c.len_utf8())
                }
            };
            match class {
                Wide::Separator if start.is_some() => break,
                Wide::Separator => {}
                Wide::Alone if start.is_some() => break,
                Wide::Alone => {
                    start = Some(at);
                    at += len;
                    break;
                }
                Wide::Letter | Wide::Digit => {
                    start.get_or_insert(at);
                    is_variable |= class == Wide::Digit;
                }
            }
            at += len;
        }
        self.at = at;
        start.map(|start| Token {
            text: &self.text[start..at],
            at: start,
            is_variable,
        })
    }
}

/// Replaces `into` by the folded text: two texts that Go's `(?i)` takes for equal fold to one.
pub fn fold(text: &str, into: &mut String) {
    into.clear();
    if text.is_ascii() {
        into.push_str(text);
        into.make_ascii_lowercase();
    } else {
        into.extend(text.chars().map(fold_char));
    }
}

/// Lower case of the upper case, where each is one character: so `ſ` and `K` (Kelvin) meet `s`
/// and `k`, and `ς` meets `σ`.
pub(crate) fn fold_char(c: char) -> char {
    fn single(mut mapped: impl Iterator<Item = char>) -> Option<char> {
        let first = mapped.next()?;
        mapped.next().is_none().then_some(first)
    }
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    let upper = single(c.to_uppercase()).unwrap_or(c);
    single(upper.to_lowercase()).unwrap_or(upper)
}

/// The hash by which a block's filter knows a folded variable.
pub fn variable_hash(folded: &[u8]) -> u64 {
    xxh3_64(folded)
}
