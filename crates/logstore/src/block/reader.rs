//! Bytes to lines, and filters decided on the columns.

use std::sync::Arc;

use kittiwake_journal::bytes::Reader as Bytes;
use kittiwake_model::{FieldFormat, LineFilter};
use regex::Regex;

use super::chunks::{Chunks, unzstd};
use super::directory::{Column, Group, Parser};
use super::encode::{PLAIN, TEMPLATES};
use super::fields::{self, Field};
use super::filter;
use super::literal::Required;
use super::pattern::{Pattern, Ways, parts, ways};
use super::values::{Values, append, numbers, places};
use super::{BlockError, Lines, Rows, Source};

/// Largest text that comes out of a block.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// A number for each row.
type Numbers = Arc<[u32]>;

/// Reads a block, column by column as they are needed. What was read is kept.
pub struct Reader<S> {
    chunks: Chunks<S>,
    rows: usize,
    root: Group,
    /// The template of each row.
    numbers: Option<Numbers>,
    /// The place of each row in its template.
    places: Option<Numbers>,
    /// By template and slot.
    values: Vec<Vec<Option<Values>>>,
}

impl<S: Source> Reader<S> {
    /// Reads the head of a block of `rows` lines.
    pub fn open(source: S, head: &[u8], rows: usize) -> Result<Self, S::Error> {
        Ok(Self::parse(source, head, rows)?)
    }

    fn parse(source: S, head: &[u8], rows: usize) -> Result<Self, BlockError> {
        if rows > super::ROWS_MAX {
            return Err(BlockError::Damaged("a block of too many lines"));
        }
        let mut reader = Bytes::new(head);
        let encoding = reader.u8()?;
        if encoding != PLAIN && encoding != TEMPLATES {
            return Err(BlockError::Encoding(encoding));
        }
        let chunks = Chunks::open(source, head.len(), &mut reader)?;
        let len = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
        let directory = unzstd(&head[reader.position()..], len)?;
        let mut parser = Parser::new(&directory);
        let root = if encoding == PLAIN {
            Group::plain(parser.column(rows, true)?, rows)
        } else {
            parser.group(rows, false)?
        };
        let none = |columns: &Vec<Column>| columns.iter().map(|_| None).collect();
        Ok(Self {
            chunks,
            rows,
            numbers: None,
            places: None,
            values: root.templates.iter().map(|t| none(&t.columns)).collect(),
            root,
        })
    }

    /// How many lines there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// All lines.
    pub fn lines(&mut self) -> Result<Lines, S::Error> {
        self.lines_of(&Rows::all(self.rows))
    }

    /// The lines of some rows, in their order, one after the other.
    pub fn lines_of(&mut self, rows: &Rows) -> Result<Lines, S::Error> {
        let mut out = Text::default();
        self.each(rows, |_, line| out.push(line))?;
        Ok(out.finish()?)
    }

    /// Keeps the rows that a filter accepts.
    pub fn filter(&mut self, filter: &LineFilter, rows: &mut Rows) -> Result<(), S::Error> {
        let mut found = Rows::none(self.rows);
        let is_negative = match filter {
            LineFilter::Contains(texts) | LineFilter::NotContains(texts) => {
                for text in texts {
                    let pattern = Pattern::within(text.as_bytes(), false);
                    found.unite(&self.find(pattern, rows)?);
                }
                matches!(filter, LineFilter::NotContains(_))
            }
            LineFilter::Matches(regexes) | LineFilter::NotMatches(regexes) => {
                for regex in regexes {
                    found.unite(&self.matches(regex, rows)?);
                }
                matches!(filter, LineFilter::NotMatches(_))
            }
        };
        if is_negative {
            rows.subtract(&found);
        } else {
            rows.intersect(&found);
        }
        Ok(())
    }

    /// Calls back with a field of each of some rows, in their order. `name` is that of a label.
    pub fn field(
        &mut self,
        format: FieldFormat,
        name: &str,
        rows: &Rows,
        mut call: impl FnMut(usize, Field<'_>),
    ) -> Result<(), S::Error> {
        // Per template the slot that has the field; none where the lines must be looked at.
        let mut slots: Vec<Option<Option<usize>>> = Vec::new();
        for (number, candidates) in self.candidates(rows)?.iter().enumerate() {
            let template = &self.root.templates[number];
            let fields = if template.format == Some(format) {
                fields::of_template(&template.text)
            } else {
                None
            };
            let place = fields.map(|(_, slots)| slots.iter().position(|s| s.name == name));
            if let (Some(Some(slot)), false) = (place, candidates.is_empty()) {
                self.values(number, slot)?;
            }
            slots.push(place);
        }
        let (numbers, places) = self.places()?;
        let mut value = Vec::new();
        for row in rows.iter() {
            let (template, place) = (numbers[row] as usize, places[row] as usize);
            let field = match slots[template] {
                None => Field::Unknown,
                Some(None) => Field::Absent,
                Some(Some(slot)) => {
                    value.clear();
                    if let Some(values) = &self.values[template][slot] {
                        values.append(place, &mut value);
                    }
                    let damaged = BlockError::Damaged("text is not UTF-8");
                    Field::Value(str::from_utf8(&value).map_err(|_| damaged)?)
                }
            };
            call(row, field);
        }
        Ok(())
    }

    /// Those of some rows that match a regular expression.
    fn matches(&mut self, regex: &Regex, within: &Rows) -> Result<Rows, S::Error> {
        let required = Required::of(regex);
        let mut found = within.clone();
        for literal in &required.literals {
            let pattern = Pattern::within(literal.text.as_bytes(), literal.is_folded);
            found = self.find(pattern, &found)?;
            if found.is_empty() {
                return Ok(found);
            }
        }
        if required.is_exact {
            return Ok(found);
        }
        let lines = self.lines_of(&found)?;
        let mut matching = Rows::none(self.rows);
        for (number, row) in found.iter().enumerate() {
            if regex.is_match(lines.line(number)) {
                matching.insert(row);
            }
        }
        Ok(matching)
    }

    /// Those of some rows that have a pattern.
    fn find(&mut self, pattern: Pattern<'_>, within: &Rows) -> Result<Rows, S::Error> {
        let candidates = self.candidates(within)?;
        let mut found = Vec::new();
        for (number, candidates) in candidates.iter().enumerate() {
            if candidates.is_empty() {
                found.push(Of::None);
                continue;
            }
            let template = &self.root.templates[number];
            let columns = &template.columns;
            let judge = |slot: usize, demand: Pattern<'_>| filter::judge(&columns[slot], demand);
            let texts = match ways(&parts(&template.text), pattern, &judge) {
                Ways::No => Of::None,
                Ways::Yes => Of::All,
                Ways::Unknown => Of::Unknown,
                Ways::Some(ways) => {
                    let mut texts = Rows::none(candidates.len());
                    for way in ways {
                        let mut meets = candidates.clone();
                        for (slot, demand) in way {
                            let values = self.values(number, slot)?;
                            meets = filter::find(values, &meets, demand);
                        }
                        texts.unite(&meets);
                    }
                    Of::Some(texts)
                }
            };
            found.push(texts);
        }
        self.rows_of(&found, pattern, within)
    }

    /// Per template its texts that are among some rows.
    fn candidates(&mut self, rows: &Rows) -> Result<Vec<Rows>, S::Error> {
        let templates = self.root.templates.iter().map(|t| t.texts);
        if rows.count() == self.rows {
            return Ok(templates.map(Rows::all).collect());
        }
        let mut candidates: Vec<Rows> = templates.map(Rows::none).collect();
        let (numbers, places) = self.places()?;
        for row in rows.iter() {
            candidates[numbers[row] as usize].insert(places[row] as usize);
        }
        Ok(candidates)
    }

    /// From texts of templates to rows.
    fn rows_of(
        &mut self,
        found: &[Of],
        pattern: Pattern<'_>,
        within: &Rows,
    ) -> Result<Rows, S::Error> {
        if found.iter().all(|of| matches!(of, Of::None)) {
            return Ok(Rows::none(self.rows));
        }
        if found.iter().all(|of| matches!(of, Of::All)) {
            return Ok(within.clone());
        }
        let (mut rows, mut unknown) = (Rows::none(self.rows), Rows::none(self.rows));
        if found.iter().all(|of| matches!(of, Of::None | Of::All)) {
            let is_all: Vec<bool> = found.iter().map(|of| matches!(of, Of::All)).collect();
            let numbers = self.numbers()?;
            rows.insert_where(|row| is_all[numbers[row] as usize]);
        } else {
            let (numbers, places) = self.places()?;
            rows.insert_where(|row| match &found[numbers[row] as usize] {
                Of::None | Of::Unknown => false,
                Of::All => true,
                Of::Some(texts) => texts.contains(places[row] as usize),
            });
            if found.iter().any(|of| matches!(of, Of::Unknown)) {
                unknown.insert_where(|row| matches!(found[numbers[row] as usize], Of::Unknown));
            }
        }
        unknown.intersect(within);
        if !unknown.is_empty() {
            self.each(&unknown, |row, line| {
                if pattern.accepts(line) {
                    rows.insert(row);
                }
                Ok(())
            })?;
        }
        rows.intersect(within);
        Ok(rows)
    }

    fn numbers(&mut self) -> Result<Numbers, S::Error> {
        if let Some(numbers) = &self.numbers {
            return Ok(Arc::clone(numbers));
        }
        let read: Numbers = numbers(&self.root, self.rows, &mut self.chunks)?.into();
        self.numbers = Some(Arc::clone(&read));
        Ok(read)
    }

    /// The template of each row, and its place in there.
    fn places(&mut self) -> Result<(Numbers, Numbers), S::Error> {
        let numbers = self.numbers()?;
        if let Some(places) = &self.places {
            return Ok((numbers, Arc::clone(places)));
        }
        let found: Numbers = places(&self.root, &numbers)?.into();
        self.places = Some(Arc::clone(&found));
        Ok((numbers, found))
    }

    fn values(&mut self, template: usize, slot: usize) -> Result<&Values, S::Error> {
        let of = &self.root.templates[template];
        let place = &mut self.values[template][slot];
        match place {
            Some(values) => Ok(values),
            none => {
                let values = Values::read(&of.columns[slot], of.texts, &mut self.chunks)?;
                Ok(none.insert(values))
            }
        }
    }

    /// Calls back with the line of each of some rows.
    fn each(
        &mut self,
        rows: &Rows,
        mut call: impl FnMut(usize, &mut Vec<u8>) -> Result<(), BlockError>,
    ) -> Result<(), S::Error> {
        let (numbers, places) = self.places()?;
        let mut needed = vec![false; self.root.templates.len()];
        for row in rows.iter() {
            needed[numbers[row] as usize] = true;
        }
        for (template, _) in needed.iter().enumerate().filter(|(_, n)| **n) {
            for slot in 0..self.values[template].len() {
                self.values(template, slot)?;
            }
        }
        let mut line = Vec::new();
        for row in rows.iter() {
            let template = numbers[row] as usize;
            let columns = self.values[template].iter().flatten();
            line.clear();
            let text = &self.root.templates[template].text;
            append(text, columns, places[row] as usize, &mut line);
            call(row, &mut line)?;
        }
        Ok(())
    }
}

/// Which texts of a template have a pattern.
enum Of {
    None,
    All,
    Some(Rows),
    /// Each must be looked at.
    Unknown,
}

/// Text as it is put together.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Text {
    fn push(&mut self, line: &[u8]) -> Result<(), BlockError> {
        if self.bytes.len() + line.len() > TEXT_BYTES_MAX {
            return Err(BlockError::Damaged("a block of more than 64 MiB"));
        }
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    fn finish(self) -> Result<Lines, BlockError> {
        let text =
            String::from_utf8(self.bytes).map_err(|_| BlockError::Damaged("text is not UTF-8"))?;
        if !self.ends.iter().all(|e| text.is_char_boundary(*e)) {
            return Err(BlockError::Damaged("lines do not fit their text"));
        }
        Ok(Lines {
            text,
            ends: self.ends,
        })
    }
}

#[cfg(test)]
mod tests {
    use kittiwake_journal::bytes::put_uvarint;
    use proptest::prelude::*;

    use super::super::{Scratch, encode};
    use super::*;

    /// Lines with every kind of column.
    fn lines() -> Lines {
        let mut lines = Lines::default();
        for n in 0..400_u64 {
            let id = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            lines.push(&match n % 4 {
                0 => format!(
                    "10.0.0.{} - GET /{id:016x} {:05} rt=0.{}",
                    n % 256,
                    n,
                    n * 7
                ),
                1 => format!(
                    "{{\"at\":\"2026-11-24T10:{:02}:{:02}Z\",\"n\":{n}}}",
                    n % 60,
                    n % 59
                ),
                2 => format!(
                    "level={} text=\"{id:b}\"",
                    ["info", "warn"][(id % 2) as usize]
                ),
                _ => format!("something else {id:X} of user {}", n % 7),
            });
        }
        lines
    }

    proptest! {
        #[test]
        fn a_damaged_directory_is_an_error_or_other_lines(
            flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..5),
            cut: Option<u16>,
        ) {
            let (lines, mut scratch) = (lines(), Scratch::default());
            let encoded = encode(&lines, &mut scratch).unwrap();
            let (head, chunks) = encoded.bytes.split_at(encoded.head_bytes);
            let mut reader = Bytes::new(&head[1..]);
            Chunks::open(head, 0, &mut reader).unwrap();
            let table = &head[..=reader.position()];
            let len = reader.uvarint().unwrap() as usize;
            let mut directory = unzstd(&head[1 + reader.position()..], len).unwrap();
            for (at, flip) in flips {
                let at = usize::from(at) % directory.len();
                directory[at] ^= flip;
            }
            directory.truncate(cut.map_or(usize::MAX, usize::from));
            // As if it had been written so: no checksum tells.
            let mut damaged = table.to_vec();
            put_uvarint(&mut damaged, directory.len() as u64);
            damaged.extend(zstd::bulk::compress(&directory, 1).unwrap());
            let head = damaged.clone();
            damaged.extend_from_slice(chunks);
            let Ok(mut reader) = Reader::open(damaged.as_slice(), &head, lines.len()) else {
                return Ok(());
            };
            let filter = LineFilter::Contains(vec!["10:1".to_owned(), "user 3".to_owned()]);
            let mut rows = Rows::all(lines.len());
            let _ = reader.filter(&filter, &mut rows);
            let _ = reader.field(FieldFormat::Json, "n", &rows, |_, _| {});
            if let Ok(read) = reader.lines() {
                prop_assert_eq!(read.len(), lines.len());
            }
        }
    }
}
