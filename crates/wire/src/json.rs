//! A reader that walks JSON once and decodes only what is asked for.
//!
//! Log lines arrive as JSON strings by the million, so a string goes straight from the input
//! into the caller's buffer, found by vector search for its end. It forgives what costs a line
//! to refuse (raw control characters, bytes that are not UTF-8, lone surrogates: the latter
//! two replaced and said so) and nothing in the structure around it.

use std::borrow::Cow;

use crate::text::push_utf8;

/// Deepest nesting of values that are skipped.
pub const DEPTH_MAX: usize = 64;

/// What was met instead of what was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed JSON at byte {at}: expected {wanted}")]
pub struct JsonError {
    /// The offset into the input.
    pub at: usize,
    /// What should have been there.
    pub wanted: &'static str,
}

/// Walks one JSON text.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The offset of the next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    /// An error at the next byte.
    pub fn wanted(&self, wanted: &'static str) -> JsonError {
        JsonError {
            at: self.at,
            wanted,
        }
    }

    /// The next byte that is not white space, which stays the next.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    /// Takes `byte` if it is the next one.
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes `byte`, or fails.
    pub fn expect(&mut self, byte: u8, wanted: &'static str) -> Result<(), JsonError> {
        if self.take(byte) {
            return Ok(());
        }
        Err(self.wanted(wanted))
    }

    /// Goes to the next member of an object whose brace is open, or behind its end.
    /// `first` is true before the first member, and set to false.
    pub fn next_key(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, JsonError> {
        if self.take(b'}') {
            return Ok(None);
        }
        if !std::mem::take(first) {
            self.expect(b',', "`,` or `}`")?;
        }
        self.peek();
        let key = self.string()?;
        self.expect(b':', "`:`")?;
        Ok(Some(key))
    }

    /// Goes to the next element of an array whose bracket is open (true), or behind its end.
    pub fn next_element(&mut self, first: &mut bool) -> Result<bool, JsonError> {
        if self.take(b']') {
            return Ok(false);
        }
        if !std::mem::take(first) {
            self.expect(b',', "`,` or `]`")?;
        }
        Ok(true)
    }

    /// A string, lent from the input where it has no escapes.
    pub fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at;
        self.expect(b'"', "a string")?;
        let rest = &self.bytes[self.at..];
        if let Some(len) = memchr::memchr2(b'"', b'\\', rest)
            && rest[len] == b'"'
            && let Ok(text) = std::str::from_utf8(&rest[..len])
        {
            self.at += len + 1;
            return Ok(Cow::Borrowed(text));
        }
        self.at = start;
        let mut text = String::new();
        self.string_into(&mut text)?;
        Ok(Cow::Owned(text))
    }

    /// Appends a string to `out`. The answer says whether something in it was not text and
    /// was replaced by U+FFFD.
    pub fn string_into(&mut self, out: &mut String) -> Result<bool, JsonError> {
        self.expect(b'"', "a string")?;
        let mut replaced = false;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(len) = memchr::memchr2(b'"', b'\\', rest) else {
                self.at = self.bytes.len();
                return Err(self.wanted("the string's closing quote"));
            };
            replaced |= push_utf8(out, &rest[..len]);
            self.at += len + 1;
            if rest[len] == b'"' {
                return Ok(replaced);
            }
            replaced |= self.escape(out)?;
        }
    }

    /// Decodes what follows a backslash.
    fn escape(&mut self, out: &mut String) -> Result<bool, JsonError> {
        let Some(&byte) = self.bytes.get(self.at) else {
            return Err(self.wanted("an escape"));
        };
        let plain = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                let unit = self.hex4()?;
                return Ok(self.push_unit(unit, out));
            }
            _ => return Err(self.wanted("one of the escapes \" \\ / b f n r t u")),
        };
        out.push(plain);
        self.at += 1;
        Ok(false)
    }

    /// Appends a UTF-16 unit, with the low surrogate behind it if it is a high one. A
    /// surrogate alone is replaced.
    fn push_unit(&mut self, unit: u32, out: &mut String) -> bool {
        if let Some(c) = char::from_u32(unit) {
            out.push(c);
            return false;
        }
        if unit < 0xdc00 && self.bytes[self.at..].starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            if let Ok(low @ 0xdc00..=0xdfff) = self.hex4()
                && let Some(c) = char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00))
            {
                out.push(c);
                return false;
            }
            self.at = before;
        }
        out.push(char::REPLACEMENT_CHARACTER);
        true
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut unit = 0;
        for byte in self.bytes.get(self.at..self.at + 4).unwrap_or_default() {
            let Some(digit) = char::from(*byte).to_digit(16) else {
                return Err(self.wanted("four hexadecimal digits"));
            };
            unit = unit << 4 | digit;
        }
        if self.bytes.len() < self.at + 4 {
            return Err(self.wanted("four hexadecimal digits"));
        }
        self.at += 4;
        Ok(unit)
    }

    /// The bytes of a number, `true`, `false` or `null`, as they are.
    pub fn scalar(&mut self) -> Result<&'a [u8], JsonError> {
        self.peek();
        let rest = &self.bytes[self.at..];
        let len = rest
            .iter()
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            .count();
        let taken = &rest[..len];
        let starts = taken
            .first()
            .is_some_and(|b| b.is_ascii_digit() || *b == b'-');
        if !starts && !matches!(taken, b"true" | b"false" | b"null") {
            return Err(self.wanted("a value"));
        }
        self.at += len;
        Ok(taken)
    }

    /// Goes behind the next value, whatever it is.
    pub fn skip_value(&mut self) -> Result<(), JsonError> {
        self.skip_nested(DEPTH_MAX)
    }

    fn skip_nested(&mut self, depth_left: usize) -> Result<(), JsonError> {
        if depth_left == 0 {
            return Err(self.wanted("values that are nested less deeply"));
        }
        let mut first = true;
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{') => {
                self.at += 1;
                while self.next_key(&mut first)?.is_some() {
                    self.skip_nested(depth_left - 1)?;
                }
                Ok(())
            }
            Some(b'[') => {
                self.at += 1;
                while self.next_element(&mut first)? {
                    self.skip_nested(depth_left - 1)?;
                }
                Ok(())
            }
            _ => self.scalar().map(|_| ()),
        }
    }

    fn skip_string(&mut self) -> Result<(), JsonError> {
        self.expect(b'"', "a string")?;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(len) = memchr::memchr2(b'"', b'\\', rest) else {
                self.at = self.bytes.len();
                return Err(self.wanted("the string's closing quote"));
            };
            self.at += len + 1;
            if rest[len] == b'"' {
                return Ok(());
            }
            self.at += 1;
        }
    }

    /// Fails unless only white space is left.
    pub fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wanted("the end")),
        }
    }
}

/// Appends `text` as a JSON string with its quotes.
pub fn push_string(out: &mut String, text: &str) {
    use std::fmt::Write;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(json: &[u8]) -> Result<(String, bool), JsonError> {
        let mut out = String::new();
        let replaced = Reader::new(json).string_into(&mut out)?;
        Ok((out, replaced))
    }

    #[test]
    fn escapes_and_surrogate_pairs() {
        let all = br#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#;
        let expected = "\"\\/\u{8}\u{c}\n\r\té😀".to_owned();
        assert_eq!(decoded(all), Ok((expected, false)));
    }

    #[test]
    fn what_is_no_text_is_replaced_and_said_so() {
        for (json, text) in [
            (&br#""\ud83d""#[..], "\u{fffd}"),
            (br#""\ude00a""#, "\u{fffd}a"),
            (br#""\ud83d\n""#, "\u{fffd}\n"),
            (br#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (b"\"a\xffb\"", "a\u{fffd}b"),
        ] {
            assert_eq!(decoded(json), Ok((text.to_owned(), true)));
        }
    }

    #[test]
    fn errors_name_the_byte() {
        for (json, at) in [
            (&b"\"abc"[..], 4),
            (br#""a\x""#, 3),
            (br#""a\u12"#, 4),
            (br#""a\u12g4""#, 4),
            (b"17", 0),
            (b"\"\\", 2),
        ] {
            assert_eq!(decoded(json).unwrap_err().at, at, "{json:?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "[".repeat(100_000);
        let error = Reader::new(deep.as_bytes()).skip_value().unwrap_err();
        assert_eq!(error.at, DEPTH_MAX);
    }

    proptest! {
        #[test]
        fn any_text_round_trips(text in "(?s).{0,40}") {
            let mut json = String::new();
            push_string(&mut json, &text);
            prop_assert_eq!(decoded(json.as_bytes()), Ok((text.clone(), false)));
            let mut reader = Reader::new(json.as_bytes());
            prop_assert_eq!(reader.string().unwrap(), text);
            let mut reader = Reader::new(json.as_bytes());
            prop_assert!(reader.skip_value().is_ok() && reader.end().is_ok());
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in proptest::collection::vec(
                prop_oneof![proptest::sample::select(&b"\"\\ud8{}[]:,n1 "[..]), any::<u8>()], 0..60)
        ) {
            let _ = Reader::new(&bytes).skip_value();
            let _ = decoded(&bytes);
        }
    }
}
