//! One slot's values as a column of the type that keeps them exactly and costs least.
//!
//! | kind | what its values share |
//! |---|---|
//! | constant | all |
//! | number | what is before and behind the digits; the digits have no leading zeros or one length; with a point, its place is a column of its own |
//! | hex | length and case |
//! | IPv4 | what is before and behind the address |
//! | dictionary | few of them differ |
//! | text | nothing |
//! | group | they split into templates as lines do |

use hashbrown::HashTable;
use kittiwake_journal::bytes::{put_bytes, put_uvarint};
use xxhash_rust::xxh3::xxh3_64;

use super::split::{Span, number};
use super::token::{CLASSES, Class, HASHED_DIGITS_MIN};
use super::{BlockError, Tokens, chunks, ints};

pub(super) const CONSTANT: u8 = 0;
pub(super) const NUMBER: u8 = 1;
pub(super) const HEX: u8 = 2;
pub(super) const IPV4: u8 = 3;
pub(super) const DICTIONARY: u8 = 4;
pub(super) const TEXT: u8 = 5;
pub(super) const GROUP: u8 = 6;

/// Digits of a number at most: all such numbers fit 64 bits.
pub(super) const DIGITS_MAX: usize = 18;
/// A longer dictionary is in a chunk.
const DICTIONARY_HERE_BYTES_MAX: usize = 512;
/// Fewer hexadecimal digits are left to a dictionary.
const HEX_DIGITS_MIN: usize = 8;

/// Where an encoded block grows.
#[derive(Default)]
pub(super) struct Sink {
    /// What the head tells.
    pub(super) directory: Vec<u8>,
    pub(super) chunks: chunks::Writer,
    pub(super) tokens: Tokens,
    pub(super) ints: ints::Scratch,
    pub(super) numbers: Vec<u64>,
    decimals: Vec<u64>,
    bytes: Vec<u8>,
    dictionary: HashTable<u32>,
    distinct: Vec<Span>,
}

impl Sink {
    pub(super) fn clear(&mut self) {
        self.directory.clear();
        self.chunks.clear();
        self.tokens.clear();
    }

    pub(super) fn put_ints(&mut self, values: &[u64]) -> Result<(), BlockError> {
        ints::put(
            values,
            &mut self.directory,
            &mut self.chunks,
            &mut self.ints,
        )
    }

    /// Writes values as anything but text or a group; nothing when nothing fits. Else gives
    /// some that have what is written around and between the digits of all, and all that are
    /// not of digits alone.
    pub(super) fn put_typed<'v>(
        &'v mut self,
        text: &str,
        values: &'v [Span],
    ) -> Result<Option<&'v [Span]>, BlockError> {
        let bytes = text.as_bytes();
        let Some(first) = values.first().map(|v| v.of(bytes)) else {
            return Ok(None);
        };
        if values.iter().all(|v| v.of(bytes) == first) {
            self.put_constant(values[0].str(text));
            return Ok(Some(&values[..1]));
        }
        let is_of_digits = self.put_number(text, values)?
            || self.put_ipv4(text, values)?
            || self.put_hex(text, values)?;
        if is_of_digits {
            return Ok(Some(&values[..1]));
        }
        let is_dictionary = self.put_dictionary(text, values)?;
        Ok(is_dictionary.then_some(self.distinct.as_slice()))
    }

    pub(super) fn put_constant(&mut self, value: &str) {
        self.directory.push(CONSTANT);
        put_bytes(&mut self.directory, value.as_bytes());
        self.tokens.add_text(value);
    }

    /// Writes values as they are.
    pub(super) fn put_text(&mut self, text: &str, values: &[Span]) -> Result<(), BlockError> {
        self.put_texts(values.iter().map(|value| value.str(text)))
    }

    pub(super) fn put_texts<'t>(
        &mut self,
        texts: impl Iterator<Item = &'t str> + Clone,
    ) -> Result<(), BlockError> {
        self.fill_texts(texts);
        self.directory.push(TEXT);
        let place = self.chunks.add(&self.bytes, true)?;
        place.put(&mut self.directory);
        Ok(())
    }

    fn put_number(&mut self, text: &str, values: &[Span]) -> Result<bool, BlockError> {
        let bytes = text.as_bytes();
        let Some(affixes) = Affixes::of(values[0].str(text)) else {
            return Ok(false);
        };
        self.numbers.clear();
        self.decimals.clear();
        let (mut shortest, mut longest, mut has_zeros) = (usize::MAX, 0, false);
        let mut has_points = false;
        for value in values {
            let Some(digits) = affixes.strip(value.of(bytes)) else {
                return Ok(false);
            };
            let Some((number, decimals)) = parse(digits) else {
                return Ok(false);
            };
            self.numbers.push(number);
            self.decimals.push(decimals as u64);
            has_points |= decimals > 0;
            shortest = shortest.min(digits.len());
            longest = longest.max(digits.len());
            has_zeros |= digits[0] == b'0' && digits.get(1).is_some_and(|b| *b != b'.');
        }
        if has_zeros && (shortest != longest || has_points) {
            return Ok(false);
        }
        self.directory.push(NUMBER);
        affixes.put(&mut self.directory);
        self.directory
            .push(if has_zeros { longest as u8 } else { 0 });
        let decimals = std::mem::take(&mut self.decimals);
        self.put_ints(&decimals)?;
        self.decimals = decimals;
        let numbers = std::mem::take(&mut self.numbers);
        self.put_ints(&numbers)?;
        self.numbers = numbers;
        let is_short = longest < HASHED_DIGITS_MIN;
        self.index(&affixes, text, values, !has_points, is_short);
        Ok(true)
    }

    fn put_ipv4(&mut self, text: &str, values: &[Span]) -> Result<bool, BlockError> {
        let Some(affixes) = Affixes::of(values[0].str(text)) else {
            return Ok(false);
        };
        self.numbers.clear();
        for value in values {
            let digits = affixes.strip(value.of(text.as_bytes()));
            let Some(address) = digits.and_then(parse_ipv4) else {
                return Ok(false);
            };
            self.numbers.push(u64::from(address));
        }
        self.directory.push(IPV4);
        affixes.put(&mut self.directory);
        let numbers = std::mem::take(&mut self.numbers);
        self.put_ints(&numbers)?;
        self.numbers = numbers;
        self.index(&affixes, text, values, false, true);
        Ok(true)
    }

    fn put_hex(&mut self, text: &str, values: &[Span]) -> Result<bool, BlockError> {
        let bytes = text.as_bytes();
        let digits = values[0].of(bytes).len();
        if digits < HEX_DIGITS_MIN || digits > usize::from(u8::MAX) {
            return Ok(false);
        }
        let (mut has_lower, mut has_upper) = (false, false);
        self.bytes.clear();
        for value in values {
            let value = value.of(bytes);
            if value.len() != digits {
                return Ok(false);
            }
            let mut kinds = 0;
            let (head, pairs) = value.split_at(digits % 2);
            if let Some(digit) = head.first() {
                let nibble = NIBBLES[usize::from(*digit)];
                kinds |= nibble;
                self.bytes.push(nibble & 0xf);
            }
            for pair in pairs.chunks_exact(2) {
                let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
                kinds |= high | low;
                self.bytes.push(high << 4 | low & 0xf);
            }
            if kinds & NO_NIBBLE != 0 {
                return Ok(false);
            }
            has_lower |= kinds & LOWER != 0;
            has_upper |= kinds & UPPER != 0;
        }
        if has_lower && has_upper {
            return Ok(false);
        }
        self.directory
            .extend([HEX, u8::from(has_upper), digits as u8]);
        let place = self.chunks.add(&self.bytes, false)?;
        place.put(&mut self.directory);
        self.tokens
            .add_hex(values.iter().map(|value| value.str(text)));
        Ok(true)
    }

    fn put_dictionary(&mut self, text: &str, values: &[Span]) -> Result<bool, BlockError> {
        let bytes = text.as_bytes();
        let distinct_max = values.len() / 4;
        self.dictionary.clear();
        self.distinct.clear();
        self.numbers.clear();
        for value in values {
            let content = value.of(bytes);
            let hash = xxh3_64(content);
            let distinct = &mut self.distinct;
            let known = self.dictionary.find(hash, |number| {
                distinct[*number as usize].of(bytes) == content
            });
            let number = match known {
                Some(number) => *number,
                None if distinct.len() >= distinct_max => return Ok(false),
                None => {
                    distinct.push(*value);
                    let number = distinct.len() as u32 - 1;
                    self.dictionary.insert_unique(hash, number, |number| {
                        xxh3_64(distinct[*number as usize].of(bytes))
                    });
                    number
                }
            };
            self.numbers.push(u64::from(number));
        }
        let numbers = std::mem::take(&mut self.numbers);
        let distinct = std::mem::take(&mut self.distinct);
        self.put_numbered(distinct.iter().map(|d| d.str(text)), &numbers)?;
        self.numbers = numbers;
        self.distinct = distinct;
        Ok(true)
    }

    /// Fills `bytes` with texts, and tells the index of them.
    fn fill_texts<'t>(&mut self, texts: impl Iterator<Item = &'t str> + Clone) {
        self.bytes.clear();
        for text in texts.clone() {
            put_uvarint(&mut self.bytes, text.len() as u64);
        }
        for text in texts {
            self.bytes.extend_from_slice(text.as_bytes());
            self.tokens.add_text(text);
        }
    }

    /// Writes values by their numbers in a list of distinct ones.
    pub(super) fn put_numbered<'t>(
        &mut self,
        distinct: impl ExactSizeIterator<Item = &'t str> + Clone,
        numbers: &[u64],
    ) -> Result<(), BlockError> {
        self.directory.push(DICTIONARY);
        put_uvarint(&mut self.directory, distinct.len() as u64);
        self.fill_texts(distinct);
        // A short one is in the head: it is what most filters ask for.
        let is_here = self.bytes.len() <= DICTIONARY_HERE_BYTES_MAX;
        self.directory.push(u8::from(is_here));
        if is_here {
            put_bytes(&mut self.directory, &self.bytes);
        } else {
            let place = self.chunks.add(&self.bytes, true)?;
            place.put(&mut self.directory);
        }
        self.put_ints(numbers)
    }

    /// Tells the index of values between affixes: `is_token` when what is between is one run of
    /// digits, `is_short` when those are too few for a hash.
    fn index(
        &mut self,
        affixes: &Affixes<'_>,
        text: &str,
        values: &[Span],
        is_token: bool,
        is_short: bool,
    ) {
        let (prefix, suffix) = (affixes.prefix, affixes.suffix);
        if !prefix.is_ascii() || !suffix.is_ascii() {
            for value in values {
                self.tokens.add_text(value.str(text));
            }
            return;
        }
        // Letters that touch the digits are of their token.
        let is_of_token = |byte: &u8| CLASSES[usize::from(*byte)] != Class::Separator;
        let before = prefix.bytes().rev().take_while(is_of_token).count();
        let behind = suffix.bytes().take_while(is_of_token).count();
        let is_bare = before == 0 && behind == 0;
        self.tokens.add_text(&prefix[..prefix.len() - before]);
        self.tokens.add_text(&suffix[behind..]);
        if is_bare && is_short {
            return;
        }
        let tokens = values.iter().map(|value| {
            let value = value.str(text);
            &value[prefix.len() - before..value.len() - (suffix.len() - behind)]
        });
        if is_token {
            let is_hashed = |token: &&str| !is_bare || token.len() >= HASHED_DIGITS_MIN;
            self.tokens.add_variables(tokens.filter(is_hashed));
        } else {
            tokens.for_each(|token| self.tokens.add_text(token));
        }
    }
}

/// What all numbers of a column have around them.
struct Affixes<'a> {
    prefix: &'a str,
    suffix: &'a str,
}

impl<'a> Affixes<'a> {
    fn of(value: &'a str) -> Option<Self> {
        let start = value.bytes().position(|b| b.is_ascii_digit())?;
        let (end, _) = number(value.as_bytes(), start, 0);
        Some(Self {
            prefix: &value[..start],
            suffix: &value[end..],
        })
    }

    fn strip<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        let value = if self.prefix.is_empty() {
            value
        } else {
            value.strip_prefix(self.prefix.as_bytes())?
        };
        let value = if self.suffix.is_empty() {
            value
        } else {
            value.strip_suffix(self.suffix.as_bytes())?
        };
        (!value.is_empty()).then_some(value)
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.prefix.as_bytes());
        put_bytes(out, self.suffix.as_bytes());
    }
}

/// Digits, with or without a point, as an integer and the number of digits behind the point.
pub(super) fn parse(digits: &[u8]) -> Option<(u64, usize)> {
    if digits.len() > DIGITS_MAX + 1 {
        return None;
    }
    let (mut number, mut point) = (0_u64, None);
    for (at, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            number = number * 10 + u64::from(digit);
        } else if *byte == b'.' && point.is_none() && at > 0 {
            point = Some(at);
        } else {
            return None;
        }
    }
    match point {
        None if digits.len() <= DIGITS_MAX && !digits.is_empty() => Some((number, 0)),
        Some(at) if at + 1 < digits.len() => Some((number, digits.len() - 1 - at)),
        _ => None,
    }
}

/// An address in its shortest writing.
pub(super) fn parse_ipv4(text: &[u8]) -> Option<u32> {
    let (mut address, mut octet, mut digits, mut octets) = (0_u32, 0_u32, 0, 1);
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            if digits > 0 && octet == 0 {
                return None;
            }
            octet = octet * 10 + u32::from(digit);
            digits += 1;
            if octet > 255 {
                return None;
            }
        } else if *byte == b'.' && digits > 0 && octets < 4 {
            address = address << 8 | octet;
            (octet, digits) = (0, 0);
            octets += 1;
        } else {
            return None;
        }
    }
    (octets == 4 && digits > 0).then_some(address << 8 | octet)
}

const LOWER: u8 = 0x10;
const UPPER: u8 = 0x20;
const NO_NIBBLE: u8 = 0x40;

/// The value of each hexadecimal digit, with its case.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [NO_NIBBLE; 256];
    let mut byte = 0;
    while byte < 256 {
        let digit = byte as u8;
        nibbles[byte] = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => LOWER | (digit - b'a' + 10),
            b'A'..=b'F' => UPPER | (digit - b'A' + 10),
            _ => NO_NIBBLE,
        };
        byte += 1;
    }
    nibbles
};
