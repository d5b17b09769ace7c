//! Where a container's log was read to, in bytes that survive a restart.
//!
//! A file is known by its first bytes, which hold a time in ns: names move at each rotation,
//! compression makes a new file, and a file system gives a deleted file's inode number to the
//! next one. Each of the two streams has a position of its own, because the lines of one can
//! be stored a moment before those of the other.

use kittiwake_wire::LINE_BYTES_MAX;
use kittiwake_wire::docker_json::{Pending, Stream};

/// How many of a file's first bytes tell it from others.
pub const HEAD_BYTES: usize = 192;
const VERSION: u8 = 1;

/// Why stored bytes are no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Written by a version of the program that this one does not know.
    #[error("a log's cursor has version {0}, not {VERSION}")]
    Version(u8),
    /// The bytes end too early or hold what cannot be.
    #[error("a log's cursor is damaged at byte {0}")]
    Damaged(usize),
}

/// How far one stream was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// The first byte of the file that was not read; 0 when no file is read.
    pub offset: u64,
    /// The time of the last record, in ns; `i64::MIN` before the first.
    pub time_ns: i64,
    /// How many of the last records have that time.
    pub count: u32,
    /// The start of a line that has not ended.
    pub pending: Option<Pending>,
}

impl Position {
    /// Before the first record.
    pub const START: Self = Self {
        offset: 0,
        time_ns: i64::MIN,
        count: 0,
        pending: None,
    };

    /// Goes past a record of this time.
    pub fn pass(&mut self, time_ns: i64) {
        if self.time_ns == time_ns {
            self.count = self.count.saturating_add(1);
        } else {
            self.time_ns = time_ns;
            self.count = 1;
        }
    }
}

/// How far a container's log was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The first bytes of the file, at most [`HEAD_BYTES`]; empty when none was read.
    pub head: Vec<u8>,
    /// Standard output.
    pub stdout: Position,
    /// Standard error.
    pub stderr: Position,
}

impl Cursor {
    /// Before the first record.
    pub const START: Self = Self {
        head: Vec::new(),
        stdout: Position::START,
        stderr: Position::START,
    };

    /// The position of one stream.
    pub fn position(&self, stream: Stream) -> &Position {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    /// The position of one stream.
    pub fn position_mut(&mut self, stream: Stream) -> &mut Position {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        push_bytes(&mut out, &self.head);
        for position in [&self.stdout, &self.stderr] {
            out.extend_from_slice(&position.offset.to_le_bytes());
            out.extend_from_slice(&position.time_ns.to_le_bytes());
            out.extend_from_slice(&position.count.to_le_bytes());
            match &position.pending {
                None => out.push(0),
                Some(pending) => {
                    out.push(1 + u8::from(pending.replaced));
                    out.extend_from_slice(&pending.time_ns.to_le_bytes());
                    push_bytes(&mut out, pending.text.as_bytes());
                }
            }
        }
        out
    }

    /// Reads what [`Cursor::encode`] gave.
    pub fn decode(bytes: &[u8]) -> Result<Self, CursorError> {
        let mut reader = Reader { bytes, at: 0 };
        let version = reader.byte()?;
        if version != VERSION {
            return Err(CursorError::Version(version));
        }
        let head = reader.bytes(HEAD_BYTES)?.to_vec();
        let cursor = Self {
            head,
            stdout: reader.position()?,
            stderr: reader.position()?,
        };
        if reader.at == bytes.len() {
            Ok(cursor)
        } else {
            Err(CursorError::Damaged(reader.at))
        }
    }
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], CursorError> {
        let end = self.at.checked_add(count);
        let slice = end.and_then(|end| self.bytes.get(self.at..end));
        let slice = slice.ok_or(CursorError::Damaged(self.at))?;
        self.at += count;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CursorError> {
        let at = self.at;
        self.take(N)?
            .try_into()
            .map_err(|_| CursorError::Damaged(at))
    }

    fn byte(&mut self) -> Result<u8, CursorError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self, max: usize) -> Result<&'a [u8], CursorError> {
        let at = self.at;
        let count = u32::from_le_bytes(self.array()?) as usize;
        if count > max {
            return Err(CursorError::Damaged(at));
        }
        self.take(count)
    }

    fn position(&mut self) -> Result<Position, CursorError> {
        let offset = u64::from_le_bytes(self.array()?);
        let time_ns = i64::from_le_bytes(self.array()?);
        let count = u32::from_le_bytes(self.array()?);
        let at = self.at;
        let pending = match self.byte()? {
            0 => None,
            flag @ 1..=2 => {
                let time_ns = i64::from_le_bytes(self.array()?);
                let at = self.at;
                let text = std::str::from_utf8(self.bytes(LINE_BYTES_MAX)?);
                Some(Pending {
                    time_ns,
                    text: text.map_err(|_| CursorError::Damaged(at))?.to_owned(),
                    replaced: flag == 2,
                })
            }
            _ => return Err(CursorError::Damaged(at)),
        };
        Ok(Position {
            offset,
            time_ns,
            count,
            pending,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position() -> impl Strategy<Value = Position> {
        let pending = prop::option::of((any::<i64>(), ".{0,40}", any::<bool>()));
        (any::<u64>(), any::<i64>(), any::<u32>(), pending).prop_map(
            |(offset, time_ns, count, pending)| Position {
                offset,
                time_ns,
                count,
                pending: pending.map(|(time_ns, text, replaced)| Pending {
                    time_ns,
                    text,
                    replaced,
                }),
            },
        )
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(
            head in prop::collection::vec(any::<u8>(), 0..HEAD_BYTES),
            stdout in position(),
            stderr in position(),
        ) {
            let cursor = Cursor { head, stdout, stderr };
            let bytes = cursor.encode();
            prop_assert_eq!(Cursor::decode(&bytes), Ok(cursor));
            prop_assert!(Cursor::decode(&bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Cursor::decode(&bytes);
        }
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(Cursor::decode(&[7, 0]), Err(CursorError::Version(7)));
    }
}
