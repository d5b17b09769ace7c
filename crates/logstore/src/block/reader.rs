//! Bytes to lines, and filters decided on the columns where that is exact.

use kittiwake_journal::bytes::Reader as Bytes;
use kittiwake_model::LineFilter;

use super::encode::PLAIN;
use super::{BlockError, Lines, Rows, Source};

/// Largest text that comes out of a block.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// Reads a block, column by column as they are needed.
pub struct Reader<S> {
    source: S,
    rows: usize,
    head_bytes: usize,
    raw_bytes: usize,
    packed_bytes: usize,
    crc: u32,
}

impl<S: Source> Reader<S> {
    /// Reads the head of a block of `rows` lines. `head` is checked by the caller.
    pub fn open(source: S, head: &[u8], rows: usize) -> Result<Self, S::Error> {
        let open = || -> Result<(u64, u64, u32), BlockError> {
            let mut reader = Bytes::new(head);
            let encoding = reader.u8()?;
            if encoding != PLAIN {
                return Err(BlockError::Encoding(encoding));
            }
            Ok((reader.uvarint()?, reader.uvarint()?, reader.u32()?))
        };
        let (raw, packed, crc) = open()?;
        if raw > TEXT_BYTES_MAX || packed > TEXT_BYTES_MAX {
            return Err(BlockError::Damaged("a block of more than 64 MiB").into());
        }
        Ok(Self {
            source,
            rows,
            head_bytes: head.len(),
            raw_bytes: raw as usize,
            packed_bytes: packed as usize,
            crc,
        })
    }

    /// How many lines there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// All lines.
    pub fn lines(&mut self) -> Result<Lines, S::Error> {
        let packed = self.source.read(self.head_bytes, self.packed_bytes)?;
        if crc32c::crc32c(&packed) != self.crc {
            return Err(BlockError::Checksum {
                offset: self.head_bytes,
                len: self.packed_bytes,
            }
            .into());
        }
        Ok(self.parse(&packed)?)
    }

    fn parse(&self, packed: &[u8]) -> Result<Lines, BlockError> {
        let raw =
            zstd::bulk::decompress(packed, self.raw_bytes).map_err(BlockError::Compression)?;
        let mut reader = Bytes::new(&raw);
        let mut ends = Vec::with_capacity(self.rows);
        let mut end = 0_usize;
        for _ in 0..self.rows {
            end = end.saturating_add(usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX));
            ends.push(end);
        }
        let at = reader.position();
        let text = String::from_utf8(raw[at..].to_vec())
            .map_err(|_| BlockError::Damaged("text is not UTF-8"))?;
        if end != text.len() || !ends.iter().all(|e| text.is_char_boundary(*e)) {
            return Err(BlockError::Damaged("lines do not fit their text"));
        }
        Ok(Lines { text, ends })
    }

    /// The lines of some rows, in their order, one after the other.
    pub fn lines_of(&mut self, rows: &Rows) -> Result<Lines, S::Error> {
        let all = self.lines()?;
        let mut lines = Lines::default();
        for row in rows.iter() {
            lines.push(all.line(row));
        }
        Ok(lines)
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
