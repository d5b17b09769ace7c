//! What the head of a block tells of its columns, checked as far as it can be without them.

use kittiwake_journal::bytes::Reader;
use kittiwake_model::FieldFormat;

use super::BlockError;
use super::chunks::Place;
use super::column::{CONSTANT, DICTIONARY, DIGITS_MAX, GROUP, HEX, IPV4, NUMBER, TEXT};
use super::fields::of_code;
use super::ints::Ints;
use super::split::VALUE;
use super::values::Texts;

/// Slots of all lines of a block at most: each has at least a byte of text.
const SLOTS_MAX: usize = 16 << 20;

/// Texts that were grouped.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) templates: Vec<Template>,
    /// The template of each text.
    pub(super) numbers: Ints,
}

impl Group {
    /// Texts as they are: all of one template that is nothing but a slot.
    pub(super) fn plain(column: Column, texts: usize) -> Self {
        Self {
            templates: vec![Template {
                text: vec![VALUE],
                texts,
                columns: vec![column],
                format: None,
            }],
            numbers: Ints::all(0),
        }
    }
}

#[derive(Debug)]
pub(super) struct Template {
    /// The static part with a mark for each slot.
    pub(super) text: Vec<u8>,
    pub(super) texts: usize,
    /// A column for each slot.
    pub(super) columns: Vec<Column>,
    /// What all its lines are written in, when they have fields.
    pub(super) format: Option<FieldFormat>,
}

/// What is around the numbers of a column.
#[derive(Debug, Clone)]
pub(super) struct Affixes {
    pub(super) prefix: Vec<u8>,
    pub(super) suffix: Vec<u8>,
}

/// The values that a dictionary's numbers stand for.
#[derive(Debug)]
pub(super) enum Distinct {
    Here(Texts),
    /// How many, and where.
    There(usize, Place),
}

/// The description of a column. See the kinds in [`super::column`].
#[derive(Debug)]
pub(super) enum Column {
    Constant(Vec<u8>),
    Number {
        affixes: Affixes,
        /// Digits with leading zeros; 0 when there are no leading zeros.
        width: usize,
        decimals: Ints,
        numbers: Ints,
    },
    Hex {
        is_upper: bool,
        digits: usize,
        place: Place,
    },
    Ipv4 {
        affixes: Affixes,
        numbers: Ints,
    },
    Dictionary {
        distinct: Distinct,
        numbers: Ints,
    },
    Text(Place),
    Group(Group),
}

/// Reads a directory, counting what decoding it whole would take.
pub(super) struct Parser<'a> {
    pub(super) reader: Reader<'a>,
    slots: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(bytes),
            slots: 0,
        }
    }

    /// The group of `texts` texts. A group within a group holds none itself.
    pub(super) fn group(&mut self, texts: usize, is_inner: bool) -> Result<Group, BlockError> {
        let count = self.reader.count(2)?;
        let mut templates = Vec::with_capacity(count.min(1024));
        let mut left = texts;
        for _ in 0..count {
            let text = self.reader.bytes()?.to_vec();
            let texts = usize::try_from(self.reader.uvarint()?).unwrap_or(usize::MAX);
            left = left.checked_sub(texts).ok_or(BlockError::Damaged(
                "more texts in templates than there are",
            ))?;
            templates.push(Template {
                text,
                texts,
                columns: Vec::new(),
                format: None,
            });
        }
        if left > 0 {
            return Err(BlockError::Damaged(
                "fewer texts in templates than there are",
            ));
        }
        let numbers = Ints::get(&mut self.reader)?;
        for template in &mut templates {
            let slots = template.text.iter().filter(|b| **b >= VALUE).count();
            self.slots = slots
                .checked_mul(template.texts)
                .map_or(usize::MAX, |more| self.slots.saturating_add(more));
            if self.slots > SLOTS_MAX {
                return Err(BlockError::Damaged("more slots than a block can have"));
            }
            template.columns.reserve(slots);
            for _ in 0..slots {
                let column = self.column(template.texts, is_inner)?;
                template.columns.push(column);
            }
            if !is_inner {
                template.format = of_code(self.reader.u8()?);
            }
        }
        Ok(Group { templates, numbers })
    }

    pub(super) fn column(&mut self, texts: usize, is_inner: bool) -> Result<Column, BlockError> {
        let kind = self.reader.u8()?;
        Ok(match kind {
            CONSTANT => Column::Constant(self.reader.bytes()?.to_vec()),
            NUMBER => {
                let affixes = self.affixes()?;
                let width = usize::from(self.reader.u8()?);
                if width > DIGITS_MAX {
                    return Err(BlockError::Damaged("a number of too many digits"));
                }
                Column::Number {
                    affixes,
                    width,
                    decimals: Ints::get(&mut self.reader)?,
                    numbers: Ints::get(&mut self.reader)?,
                }
            }
            HEX => Column::Hex {
                is_upper: self.reader.u8()? != 0,
                digits: usize::from(self.reader.u8()?),
                place: Place::get(&mut self.reader)?,
            },
            IPV4 => Column::Ipv4 {
                affixes: self.affixes()?,
                numbers: Ints::get(&mut self.reader)?,
            },
            DICTIONARY => Column::Dictionary {
                distinct: self.distinct()?,
                numbers: Ints::get(&mut self.reader)?,
            },
            TEXT => Column::Text(Place::get(&mut self.reader)?),
            GROUP if !is_inner => Column::Group(self.group(texts, true)?),
            _ => return Err(BlockError::Damaged("unknown kind of column")),
        })
    }

    fn distinct(&mut self) -> Result<Distinct, BlockError> {
        let count = usize::try_from(self.reader.uvarint()?).unwrap_or(usize::MAX);
        Ok(if self.reader.u8()? == 0 {
            Distinct::There(count, Place::get(&mut self.reader)?)
        } else {
            Distinct::Here(Texts::parse(self.reader.bytes()?, count)?)
        })
    }

    fn affixes(&mut self) -> Result<Affixes, BlockError> {
        Ok(Affixes {
            prefix: self.reader.bytes()?.to_vec(),
            suffix: self.reader.bytes()?.to_vec(),
        })
    }
}
