//! Label sets as text, `{job="shop", level="info"}`: how log streams are named.
//!
//! Values are quoted as Go quotes strings, since the clients that send them are mostly Go's:
//! in `"` or `'` with escapes, or in backticks without. A name that is no identifier is quoted
//! as a value is. Source: the section "String literals" of the Go specification.

use std::borrow::Cow;

use kittiwake_model::{LabelError, Labels};

use crate::text::push_utf8;

/// Why a text is no label set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelTextError {
    /// Something else was met than wanted.
    #[error("malformed labels at byte {at}: expected {wanted}")]
    Malformed {
        /// The offset into the text.
        at: usize,
        /// What should have been there.
        wanted: &'static str,
    },
    /// The set has more labels than allowed.
    #[error("labels at byte {at}: more than {max} of them")]
    TooMany {
        /// The offset of the first one too many.
        at: usize,
        /// How many are allowed.
        max: usize,
    },
    /// The labels are no set.
    #[error(transparent)]
    Refused(#[from] LabelError),
}

/// Reads a label set of at most `labels_max` labels, in any order. Labels with empty values
/// are dropped; bytes that escapes make and that are no UTF-8 become U+FFFD.
pub fn parse(text: &str, labels_max: usize) -> Result<Labels, LabelTextError> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.blanks();
    cursor.expect(b'{', "`{`")?;
    let mut pairs = Vec::new();
    loop {
        cursor.blanks();
        if cursor.take(b'}') {
            break;
        }
        if pairs.len() == labels_max {
            let (at, max) = (cursor.at, labels_max);
            return Err(LabelTextError::TooMany { at, max });
        }
        let name = cursor.name()?;
        cursor.blanks();
        cursor.expect(b'=', "`=`")?;
        cursor.blanks();
        pairs.push((name, cursor.quoted()?));
        cursor.blanks();
        if !cursor.take(b',') {
            cursor.expect(b'}', "`,` or `}`")?;
            break;
        }
    }
    cursor.blanks();
    if cursor.at < text.len() {
        return Err(cursor.wanted("the end"));
    }
    Ok(Labels::from_pairs(pairs)?)
}

/// Appends a label set, such that [`parse`] gives it back.
pub fn push(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        if is_label_name(name.as_bytes()) {
            out.push_str(name);
        } else {
            push_quoted(out, name);
        }
        out.push('=');
        push_quoted(out, value);
    }
    out.push('}');
}

/// Appends a text in `"`, with control characters escaped as Go does.
pub fn push_quoted(out: &mut String, text: &str) {
    use std::fmt::Write;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Whether a name needs no quotes: letters, digits and `_`, no digit first.
pub fn is_label_name(name: &[u8]) -> bool {
    label_name_len(name) == name.len() && !name.is_empty()
}

/// How many bytes at the start are a label's name.
pub(crate) fn label_name_len(bytes: &[u8]) -> usize {
    if bytes.first().is_some_and(u8::is_ascii_digit) {
        return 0;
    }
    bytes
        .iter()
        .position(|b| !b.is_ascii_alphanumeric() && *b != b'_')
        .unwrap_or(bytes.len())
}

/// A place in the text, always between two characters.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wanted(&self, wanted: &'static str) -> LabelTextError {
        let at = self.at;
        LabelTextError::Malformed { at, wanted }
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_ascii_start().len();
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.rest().as_bytes().first() == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, wanted: &'static str) -> Result<(), LabelTextError> {
        if self.take(byte) {
            return Ok(());
        }
        Err(self.wanted(wanted))
    }

    fn name(&mut self) -> Result<Cow<'a, str>, LabelTextError> {
        let rest = self.rest();
        if rest.starts_with(['"', '\'', '`']) {
            return self.quoted();
        }
        let len = label_name_len(rest.as_bytes());
        if len == 0 {
            return Err(self.wanted("a label name"));
        }
        self.at += len;
        Ok(Cow::Borrowed(&rest[..len]))
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, LabelTextError> {
        let rest = self.rest();
        let quote = match rest.as_bytes().first() {
            Some(byte @ (b'"' | b'\'' | b'`')) => *byte,
            _ => return Err(self.wanted("a quoted string")),
        };
        let inner = &rest[1..];
        let escape = if quote == b'`' { quote } else { b'\\' };
        match memchr::memchr2(quote, escape, inner.as_bytes()) {
            Some(len) if inner.as_bytes()[len] == quote => {
                self.at += len + 2;
                Ok(Cow::Borrowed(&inner[..len]))
            }
            Some(_) => self.escaped(quote).map(Cow::Owned),
            None => {
                self.at = self.text.len();
                Err(self.wanted("the string's closing quote"))
            }
        }
    }

    fn escaped(&mut self, quote: u8) -> Result<String, LabelTextError> {
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let rest = self.rest().as_bytes();
            let Some(len) = memchr::memchr2(quote, b'\\', rest) else {
                self.at = self.text.len();
                return Err(self.wanted("the string's closing quote"));
            };
            bytes.extend_from_slice(&rest[..len]);
            self.at += len + 1;
            if rest[len] == quote {
                let mut text = String::with_capacity(bytes.len());
                push_utf8(&mut text, &bytes);
                return Ok(text);
            }
            self.escape(&mut bytes)?;
        }
    }

    /// Decodes what follows a backslash. Escapes of one byte can make parts of a character,
    /// so that it is bytes that are collected.
    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), LabelTextError> {
        const ESCAPES: &str = "one of the escapes \\ \" ' a b f n r t v x u U or octal";
        let byte = *self
            .rest()
            .as_bytes()
            .first()
            .ok_or_else(|| self.wanted(ESCAPES))?;
        let plain = match byte {
            b'\\' | b'"' | b'\'' => byte,
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'x' => self.number(1, 2, 16)? as u8,
            b'u' | b'U' => {
                let code = self.number(1, if byte == b'u' { 4 } else { 8 }, 16)?;
                let Some(c) = char::from_u32(code) else {
                    return Err(self.wanted("the number of a character"));
                };
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                self.at += 1;
                return Ok(());
            }
            b'0'..=b'7' => u8::try_from(self.number(0, 3, 8)?)
                .map_err(|_| self.wanted("an octal number of one byte"))?,
            _ => return Err(self.wanted(ESCAPES)),
        };
        out.push(plain);
        self.at += 1;
        Ok(())
    }

    /// Reads `count` digits behind `skip` bytes, and stays at the last.
    fn number(&mut self, skip: usize, count: usize, radix: u32) -> Result<u32, LabelTextError> {
        let digits = self.rest().as_bytes().get(skip..skip + count);
        let value = digits.and_then(|digits| {
            digits.iter().try_fold(0_u32, |value, byte| {
                let digit = char::from(*byte).to_digit(radix)?;
                value.checked_mul(radix)?.checked_add(digit)
            })
        });
        let value = value.ok_or_else(|| self.wanted("as many digits as the escape has"))?;
        self.at += skip + count - 1;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let labels = parse(text, 8).unwrap();
        let owned = |(n, v): (&str, &str)| (n.to_owned(), v.to_owned());
        labels.iter().map(owned).collect()
    }

    #[test]
    fn all_quotes_and_escapes() {
        let text = r#" { b = 'it\'s', a="\a\b\f\n\r\t\v\\\"\x41\101\u00e9\U0001F600" , `c d`=`\n`, "e.f"="",} "#;
        let expected = [
            ("a", "\u{7}\u{8}\u{c}\n\r\t\u{b}\\\"AAé😀"),
            ("b", "it's"),
            ("c d", "\\n"),
        ];
        let expected = expected.map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(pairs(text), expected);
        assert_eq!(pairs("{}"), []);
        let made = pairs(r#"{a="\xc3\xa9\xff"}"#);
        assert_eq!(made[0].1, "é\u{fffd}");
    }

    #[test]
    fn errors_name_the_byte() {
        for (text, at) in [
            ("", 0),
            ("a", 0),
            ("{a}", 2),
            ("{a=b}", 3),
            (r#"{a="b"#, 5),
            (r#"{a="b\n"#, 7),
            (r#"{a="b" c="d"}"#, 7),
            (r#"{a="b"} x"#, 8),
            (r#"{1a="b"}"#, 1),
            (r#"{a="\q"}"#, 5),
            (r#"{a="\x4"}"#, 5),
            (r#"{a="\400"}"#, 7),
            (r#"{a="\ud800"}"#, 9),
            (r#"{a="\U11111111"}"#, 13),
        ] {
            match parse(text, 8) {
                Err(LabelTextError::Malformed { at: met, .. }) => assert_eq!(met, at, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn duplicates_and_too_many_are_refused() {
        let twice = LabelError::Duplicate("a".to_owned());
        assert_eq!(parse(r#"{a="1",a="2"}"#, 2), Err(twice.into()));
        let many = LabelTextError::TooMany { at: 7, max: 1 };
        assert_eq!(parse(r#"{a="1",b="2"}"#, 1), Err(many));
    }

    proptest! {
        #[test]
        fn any_labels_round_trip(
            map in proptest::collection::btree_map("(?s)[a-z_]{1,4}|.{1,4}", "(?s).{1,20}", 0..6)
        ) {
            let labels = Labels::from_pairs(&map).unwrap();
            let mut text = String::new();
            push(&mut text, &labels);
            prop_assert_eq!(parse(&text, 6).unwrap(), labels);
        }

        #[test]
        fn any_text_is_read_or_refused(text in r#"\{?([ab1é"'`\\xuU0-9,={} \n]){0,40}"#) {
            let _ = parse(&text, 9);
        }
    }
}
