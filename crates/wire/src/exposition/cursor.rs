//! A place in a line of metrics.

use std::borrow::Cow;

use super::{ExpositionError, Format};

#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    /// Where the bytes stand in the line.
    column: usize,
    format: Format,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], line: usize, column: usize, format: Format) -> Self {
        Self {
            bytes,
            at: 0,
            line,
            column,
            format,
        }
    }

    pub fn line(&self) -> usize {
        self.line
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The cursor over the next `len` bytes alone.
    pub fn cut(mut self, len: usize) -> Self {
        let end = self.at.saturating_add(len).min(self.bytes.len());
        self.bytes = &self.bytes[..end];
        self
    }

    pub fn wanted(&self, wanted: &'static str) -> ExpositionError {
        self.wanted_at(self.at, wanted)
    }

    pub fn wanted_at(&self, at: usize, wanted: &'static str) -> ExpositionError {
        ExpositionError::Malformed {
            line: self.line,
            column: self.column + at + 1,
            wanted,
        }
    }

    /// Forgets a carriage return at the end, which a file edited elsewhere may have.
    pub fn trim_return(&mut self) {
        self.bytes = self.bytes.strip_suffix(b"\r").unwrap_or(self.bytes);
    }

    /// Goes behind blanks, where the format allows them.
    #[inline]
    pub fn blanks(&mut self) {
        if self.format == Format::Prometheus {
            while let Some(b' ' | b'\t') = self.bytes.get(self.at) {
                self.at += 1;
            }
        }
    }

    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    #[inline]
    pub fn expect(&mut self, byte: u8, wanted: &'static str) -> Result<(), ExpositionError> {
        if self.take(byte) {
            return Ok(());
        }
        Err(self.wanted(wanted))
    }

    pub fn expect_end(&self) -> Result<(), ExpositionError> {
        if self.at_end() {
            return Ok(());
        }
        Err(self.wanted("the end of the line"))
    }

    /// The next `len` bytes, or those that are left.
    pub fn advance(&mut self, len: usize) -> &'a [u8] {
        let rest = self.rest();
        let taken = rest.get(..len).unwrap_or(rest);
        self.at += taken.len();
        taken
    }

    /// What stands before the next blank or the end; may be nothing.
    #[inline]
    pub fn word(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let len = rest.iter().position(|b| matches!(b, b' ' | b'\t'));
        self.advance(len.unwrap_or(rest.len()))
    }

    /// The next `len` bytes, which are known to be ASCII; `None` when there are none.
    pub fn take_name(&mut self, len: usize) -> Option<&'a str> {
        let name = std::str::from_utf8(self.rest().get(..len)?).ok()?;
        self.at += len;
        (!name.is_empty()).then_some(name)
    }

    /// A string in quotes.
    pub fn quoted(&mut self) -> Result<Cow<'a, str>, ExpositionError> {
        let start = self.at;
        let len = self.quoted_len(0)?;
        let inner = &self.advance(len)[1..len - 1];
        match std::str::from_utf8(inner) {
            Err(error) => Err(self.wanted_at(start + 1 + error.valid_up_to(), "UTF-8 text")),
            Ok(_) => Ok(unescaped(inner, true)),
        }
    }

    /// How many bytes the string in quotes has that starts `skip` bytes ahead, with its
    /// quotes: at least two.
    fn quoted_len(&self, skip: usize) -> Result<usize, ExpositionError> {
        let bytes = self.rest().get(skip..).unwrap_or_default();
        if bytes.first() != Some(&b'"') {
            return Err(self.wanted_at(self.at + skip, "a string in double quotes"));
        }
        let mut at = 1;
        while let Some(len) = memchr::memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
            if bytes[at + len] == b'"' {
                return Ok(at + len + 1);
            }
            at += len + 2;
        }
        Err(self.wanted_at(self.bytes.len(), "the string's closing quote"))
    }

    /// How many bytes the braces have that open `skip` bytes ahead, up to the closing one.
    pub fn braces_len(&self, skip: usize) -> Result<usize, ExpositionError> {
        let rest = self.rest();
        let mut at = skip;
        while let Some(len) = memchr::memchr2(b'"', b'}', rest.get(at..).unwrap_or_default()) {
            at += len;
            if rest[at] == b'}' {
                return Ok(at + 1 - skip);
            }
            at += self.quoted_len(at)?;
        }
        Err(self.wanted_at(self.bytes.len(), "`}`"))
    }
}

/// Text with its escapes decoded: `\\`, `\n`, and `\"` where there are `quotes`. Others stay
/// as they are, as do backslashes at the end. Bytes that are not UTF-8 are replaced.
pub(super) fn unescaped(bytes: &[u8], quotes: bool) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    let Some(first) = text.find('\\') else {
        return text;
    };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut chars = text[first..].chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('\\') | None => out.push('\\'),
            Some('"') if quotes => out.push('"'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    Cow::Owned(out)
}
