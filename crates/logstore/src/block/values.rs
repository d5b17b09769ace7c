//! Columns in memory: the text of each value at hand.

use kittiwake_journal::bytes::Reader;

use super::chunks::{Chunks, PAD_BYTES, Place};
use super::column::DIGITS_MAX;
use super::directory::{Affixes, Column, Distinct, Group};
use super::split::VALUE;
use super::{BlockError, Source};

/// Texts one after the other.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    /// End of each text.
    ends: Vec<usize>,
}

impl Texts {
    fn read<S: Source>(place: Place, len: usize, chunks: &mut Chunks<S>) -> Result<Self, S::Error> {
        let bytes = chunks.get(place)?;
        Ok(Self::parse(&bytes[..bytes.len() - PAD_BYTES], len)?)
    }

    pub(super) fn parse(bytes: &[u8], len: usize) -> Result<Self, BlockError> {
        let mut reader = Reader::new(bytes);
        let mut ends = Vec::new();
        let mut end = 0_usize;
        for _ in 0..len {
            end = end.saturating_add(usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX));
            ends.push(end);
        }
        let bytes = bytes[reader.position()..].to_vec();
        if end != bytes.len() {
            return Err(BlockError::Damaged("texts do not fit their column"));
        }
        Ok(Self { bytes, ends })
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|number| self.get(number))
    }

    pub(super) fn get(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[number]]
    }
}

/// The values of a column.
#[derive(Debug)]
pub(super) enum Values {
    Constant(Vec<u8>),
    Number {
        affixes: Affixes,
        width: usize,
        /// Empty when there are none.
        decimals: Vec<u64>,
        numbers: Vec<u64>,
    },
    Hex {
        is_upper: bool,
        digits: usize,
        bytes: Vec<u8>,
    },
    Ipv4 {
        affixes: Affixes,
        numbers: Vec<u64>,
    },
    Dictionary {
        distinct: Texts,
        numbers: Vec<u64>,
    },
    Text(Texts),
    Group {
        templates: Vec<Template>,
        /// Per value its template, and its place in there.
        numbers: Vec<u32>,
        places: Vec<u32>,
    },
}

/// A template with its columns.
#[derive(Debug)]
pub(super) struct Template {
    text: Vec<u8>,
    columns: Vec<Values>,
}

/// Appends a text of a template: its static part with the values at a place of its columns.
pub(super) fn append<'v>(
    template: &[u8],
    mut columns: impl Iterator<Item = &'v Values>,
    place: usize,
    out: &mut Vec<u8>,
) {
    for part in template.split_inclusive(|b| *b >= VALUE) {
        match part.split_last() {
            Some((mark, part)) if *mark >= VALUE => {
                out.extend_from_slice(part);
                if let Some(column) = columns.next() {
                    column.append(place, out);
                }
            }
            _ => out.extend_from_slice(part),
        }
    }
}

impl Values {
    /// Reads a column of `len` values.
    pub(super) fn read<S: Source>(
        column: &Column,
        len: usize,
        chunks: &mut Chunks<S>,
    ) -> Result<Self, S::Error> {
        let ints = |ints: &super::ints::Ints, chunks: &mut Chunks<S>| {
            let mut into = Vec::new();
            ints.read(len, chunks, &mut into).map(|()| into)
        };
        Ok(match column {
            Column::Constant(value) => Self::Constant(value.clone()),
            Column::Number {
                affixes,
                width,
                decimals,
                numbers,
            } => {
                let decimals = match decimals.constant() {
                    Some(0) => Vec::new(),
                    _ => ints(decimals, chunks)?,
                };
                if decimals.iter().any(|d| *d > DIGITS_MAX as u64) {
                    return Err(BlockError::Damaged("a number of too many decimals").into());
                }
                Self::Number {
                    affixes: affixes.clone(),
                    width: *width,
                    decimals,
                    numbers: ints(numbers, chunks)?,
                }
            }
            Column::Hex {
                is_upper,
                digits,
                place,
            } => {
                let bytes = chunks.get(*place)?;
                let bytes = bytes[..bytes.len() - PAD_BYTES].to_vec();
                if bytes.len() != digits.div_ceil(2) * len {
                    return Err(BlockError::Damaged("hex of another length").into());
                }
                Self::Hex {
                    is_upper: *is_upper,
                    digits: *digits,
                    bytes,
                }
            }
            Column::Ipv4 { affixes, numbers } => Self::Ipv4 {
                affixes: affixes.clone(),
                numbers: ints(numbers, chunks)?,
            },
            Column::Dictionary { distinct, numbers } => {
                let distinct = match distinct {
                    Distinct::Here(texts) => texts.clone(),
                    Distinct::There(len, place) => Texts::read(*place, *len, chunks)?,
                };
                let numbers = ints(numbers, chunks)?;
                if numbers.iter().any(|n| *n >= distinct.len() as u64) {
                    return Err(BlockError::Damaged("a value beyond its dictionary").into());
                }
                Self::Dictionary { distinct, numbers }
            }
            Column::Text(place) => Self::Text(Texts::read(*place, len, chunks)?),
            Column::Group(group) => {
                let numbers = numbers(group, len, chunks)?;
                Self::Group {
                    places: places(group, &numbers)?,
                    numbers,
                    templates: templates(group, chunks)?,
                }
            }
        })
    }

    /// Appends a value's text.
    pub(super) fn append(&self, number: usize, out: &mut Vec<u8>) {
        match self {
            Self::Constant(value) => out.extend_from_slice(value),
            Self::Number {
                affixes,
                width,
                decimals,
                numbers,
            } => {
                out.extend_from_slice(&affixes.prefix);
                let decimals = decimals.get(number).map_or(0, |d| *d as usize);
                append_number(numbers[number], decimals, *width, out);
                out.extend_from_slice(&affixes.suffix);
            }
            Self::Hex {
                is_upper,
                digits,
                bytes,
            } => {
                let len = digits.div_ceil(2);
                let bytes = &bytes[number * len..(number + 1) * len];
                append_hex(bytes, *digits, *is_upper, out);
            }
            Self::Ipv4 { affixes, numbers } => {
                out.extend_from_slice(&affixes.prefix);
                for octet in (numbers[number] as u32).to_be_bytes() {
                    append_number(u64::from(octet), 0, 0, out);
                    out.push(b'.');
                }
                out.pop();
                out.extend_from_slice(&affixes.suffix);
            }
            Self::Dictionary { distinct, numbers } => {
                out.extend_from_slice(distinct.get(numbers[number] as usize));
            }
            Self::Text(texts) => out.extend_from_slice(texts.get(number)),
            Self::Group {
                templates,
                numbers,
                places,
            } => {
                let template = &templates[numbers[number] as usize];
                let place = places[number] as usize;
                append(&template.text, template.columns.iter(), place, out);
            }
        }
    }
}

/// All templates of a group with their columns.
fn templates<S: Source>(group: &Group, chunks: &mut Chunks<S>) -> Result<Vec<Template>, S::Error> {
    let mut templates = Vec::with_capacity(group.templates.len());
    for template in &group.templates {
        let mut columns = Vec::with_capacity(template.columns.len());
        for column in &template.columns {
            columns.push(Values::read(column, template.texts, chunks)?);
        }
        templates.push(Template {
            text: template.text.clone(),
            columns,
        });
    }
    Ok(templates)
}

/// The template of each text of a group.
pub(super) fn numbers<S: Source>(
    group: &Group,
    len: usize,
    chunks: &mut Chunks<S>,
) -> Result<Vec<u32>, S::Error> {
    let mut numbers = Vec::new();
    group.numbers.read(len, chunks, &mut numbers)?;
    let templates = group.templates.len() as u64;
    if numbers.iter().any(|number| *number >= templates) {
        return Err(BlockError::Damaged("a text of no template").into());
    }
    Ok(numbers.into_iter().map(|number| number as u32).collect())
}

/// The place of each text of a group in its template, by what [`numbers`] gives.
pub(super) fn places(group: &Group, numbers: &[u32]) -> Result<Vec<u32>, BlockError> {
    let mut next = vec![0_u32; group.templates.len()];
    let mut places = Vec::with_capacity(numbers.len());
    for number in numbers {
        let place = &mut next[*number as usize];
        places.push(*place);
        *place += 1;
    }
    let mut counts = group.templates.iter().zip(&next);
    if !counts.all(|(template, next)| template.texts == *next as usize) {
        return Err(BlockError::Damaged("another number of texts in a template"));
    }
    Ok(places)
}

const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    pairs
};

/// Appends a number with leading zeros up to `width` digits and a point before the last
/// `decimals` ones.
fn append_number(mut number: u64, decimals: usize, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 40];
    let mut at = digits.len();
    while number >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
    at -= 2;
    digits[at..at + 2].copy_from_slice(&PAIRS[number as usize]);
    at += usize::from(number < 10);
    at = at.min(digits.len() - width.max(decimals + 1));
    if decimals == 0 {
        out.extend_from_slice(&digits[at..]);
    } else {
        let point = digits.len() - decimals;
        out.extend_from_slice(&digits[at..point]);
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }
}

fn append_hex(bytes: &[u8], digits: usize, is_upper: bool, out: &mut Vec<u8>) {
    let letters: &[u8; 16] = if is_upper {
        b"0123456789ABCDEF"
    } else {
        b"0123456789abcdef"
    };
    let is_odd = digits % 2 == 1;
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 || !is_odd {
            out.push(letters[usize::from(byte >> 4)]);
        }
        out.push(letters[usize::from(byte & 0xf)]);
    }
}
