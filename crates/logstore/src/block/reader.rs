//! Bytes to lines.

use kittiwake_journal::bytes::Reader as Bytes;
use kittiwake_model::LineFilter;

use super::chunks::{Chunks, Unzstd};
use super::directory::{Column, Group, Parser};
use super::encode::{PLAIN, TEMPLATES};
use super::values::{Values, places, templates};
use super::{BlockError, Lines, Rows, Source};

/// Largest text that comes out of a block.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// The root of a block's columns.
enum Root {
    Plain(Column),
    Templates(Group),
}

/// Reads a block, column by column as they are needed.
pub struct Reader<S> {
    chunks: Chunks<S>,
    rows: usize,
    root: Root,
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
        let mut chunks = Chunks::open(source, Unzstd::new()?, head.len(), &mut reader)?;
        let len = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
        let directory = chunks.zstd.decompress(&head[reader.position()..], len)?;
        let mut parser = Parser::new(&directory);
        let root = if encoding == PLAIN {
            Root::Plain(parser.column(rows, true)?)
        } else {
            Root::Templates(parser.group(rows, false)?)
        };
        Ok(Self { chunks, rows, root })
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
        match &self.root {
            Root::Plain(column) => {
                let values = Values::read(column, self.rows, &mut self.chunks)?;
                for row in rows.iter() {
                    values.append(row, &mut out.bytes);
                    out.end_line()?;
                }
            }
            Root::Templates(group) => {
                let places = places(group, self.rows, &mut self.chunks)?;
                let templates = templates(group, &mut self.chunks)?;
                for row in rows.iter() {
                    let (template, place) = places[row];
                    templates[template as usize].append(place as usize, &mut out.bytes);
                    out.end_line()?;
                }
            }
        }
        Ok(out.finish()?)
    }

    /// Keeps the rows that a filter accepts.
    pub fn filter(&mut self, filter: &LineFilter, rows: &mut Rows) -> Result<(), S::Error> {
        let all = self.lines()?;
        for row in rows.clone().iter() {
            if !filter.accepts(all.line(row)) {
                rows.remove(row);
            }
        }
        Ok(())
    }
}

/// Text as it is put together.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Text {
    fn end_line(&mut self) -> Result<(), BlockError> {
        if self.bytes.len() > TEXT_BYTES_MAX {
            return Err(BlockError::Damaged("a block of more than 64 MiB"));
        }
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
