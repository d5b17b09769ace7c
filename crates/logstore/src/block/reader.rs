//! Bytes to lines, and filters decided on the columns.

use kittiwake_journal::bytes::Reader as Bytes;
use kittiwake_model::LineFilter;
use regex::Regex;

use super::chunks::{Chunks, unzstd};
use super::directory::{Column, Group, Parser};
use super::encode::{PLAIN, TEMPLATES};
use super::filter;
use super::literal::Required;
use super::pattern::{Pattern, Ways, parts, ways};
use super::values::{Values, append, places};
use super::{BlockError, Lines, Rows, Source};

/// Largest text that comes out of a block.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Reads a block, column by column as they are needed. What was read is kept.
pub struct Reader<S> {
    chunks: Chunks<S>,
    rows: usize,
    root: Group,
    /// Per row its template and its place in there.
    places: Option<Vec<(u32, u32)>>,
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
        self.each(rows, |_, line, out: &mut Text| out.push(line), &mut out)?;
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
        let mut found = Vec::new();
        for number in 0..self.root.templates.len() {
            let template = &self.root.templates[number];
            let columns = &template.columns;
            let judge = |slot: usize, demand: Pattern<'_>| filter::judge(&columns[slot], demand);
            let texts = match ways(&parts(&template.text), pattern, &judge) {
                Ways::No => Of::None,
                Ways::Yes => Of::All,
                Ways::Unknown => Of::Unknown,
                Ways::Some(ways) => {
                    let mut texts = Rows::none(template.texts);
                    for way in ways {
                        let mut meets = Rows::all(texts.len());
                        for (slot, demand) in way {
                            let values = self.values(number, slot)?;
                            meets.intersect(&filter::find(values, texts.len(), demand));
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
        for (row, (template, place)) in self.places()?.iter().enumerate() {
            match &found[*template as usize] {
                Of::None => {}
                Of::All => rows.insert(row),
                Of::Some(texts) if texts.contains(*place as usize) => rows.insert(row),
                Of::Some(_) => {}
                Of::Unknown => unknown.insert(row),
            }
        }
        unknown.intersect(within);
        if !unknown.is_empty() {
            let accept = |row, line: &mut Vec<u8>, rows: &mut Rows| {
                if pattern.accepts(line) {
                    rows.insert(row);
                }
                Ok(())
            };
            self.each(&unknown, accept, &mut rows)?;
        }
        rows.intersect(within);
        Ok(rows)
    }

    fn places(&mut self) -> Result<&[(u32, u32)], S::Error> {
        if self.places.is_none() {
            self.places = Some(places(&self.root, self.rows, &mut self.chunks)?);
        }
        Ok(self.places.as_deref().unwrap_or_default())
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
    fn each<T>(
        &mut self,
        rows: &Rows,
        mut call: impl FnMut(usize, &mut Vec<u8>, &mut T) -> Result<(), BlockError>,
        state: &mut T,
    ) -> Result<(), S::Error> {
        self.places()?;
        let places = self.places.take().unwrap_or_default();
        let result = self.load(rows, &places);
        let result = result.and_then(|()| {
            let mut line = Vec::new();
            for row in rows.iter() {
                let (template, place) = places[row];
                let text = &self.root.templates[template as usize].text;
                let columns = self.values[template as usize].iter().flatten();
                line.clear();
                append(text, columns, place as usize, &mut line);
                call(row, &mut line, state)?;
            }
            Ok(())
        });
        self.places = Some(places);
        result
    }

    /// Reads the columns of the templates that some rows have.
    fn load(&mut self, rows: &Rows, places: &[(u32, u32)]) -> Result<(), S::Error> {
        let mut needed = vec![false; self.root.templates.len()];
        for row in rows.iter() {
            needed[places[row].0 as usize] = true;
        }
        for (template, _) in needed.iter().enumerate().filter(|(_, n)| **n) {
            for slot in 0..self.values[template].len() {
                self.values(template, slot)?;
            }
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
