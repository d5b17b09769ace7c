//! Fields of lines by their names, from the columns of templates.
//!
//! A template has fields when all its lines are JSON objects, or all are pairs of logfmt, that
//! every reader takes for the same: well-formed, no name twice, no value with an escape, and
//! nothing else on the line. Names are those of labels: what is no letter, digit or `_` is `_`,
//! and the fields of an object within an object have both names with `_` between them. Arrays
//! and nulls are no fields.

use kittiwake_model::FieldFormat;

use super::split::{VALUE, is_blank};

/// Objects and arrays within each other at most.
const DEPTH_MAX: usize = 16;

/// How a head writes what the lines of a template are.
pub(super) fn code(format: Option<FieldFormat>) -> u8 {
    match format {
        None => 0,
        Some(FieldFormat::Json) => 1,
        Some(FieldFormat::Logfmt) => 2,
    }
}

/// What [`code`] stands for.
pub(super) fn of_code(code: u8) -> Option<FieldFormat> {
    match code {
        1 => Some(FieldFormat::Json),
        2 => Some(FieldFormat::Logfmt),
        _ => None,
    }
}

/// A field of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// Its value; empty where it stands there without one.
    Value(&'a str),
    /// The line is well-formed and has no such field.
    Absent,
    /// The line itself must be looked at.
    Unknown,
}

/// How a value stands in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Quoted,
    BareJson,
    BareLogfmt,
}

impl Style {
    /// Whether every reader takes the value as it is written.
    pub(super) fn is_clean(self, value: &str) -> bool {
        let bytes = value.as_bytes();
        let is_plain = match self {
            Self::Quoted => memchr::memchr(b'\\', bytes).is_none(),
            Self::BareJson => {
                let is_number = bytes
                    .first()
                    .is_some_and(|b| b.is_ascii_digit() || *b == b'-');
                is_number || matches!(value, "true" | "false")
            }
            Self::BareLogfmt => bytes.iter().all(|b| *b > b' ' && *b != b'=' && *b != b'"'),
        };
        // Readers put something else in place of what was no UTF-8.
        is_plain && (value.is_ascii() || !value.contains('\u{fffd}'))
    }
}

/// A slot of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FieldSlot {
    /// Empty for an element of an array.
    pub(super) name: String,
    pub(super) style: Style,
}

/// The fields in the slots of a template, one for each, when it has fields at all.
pub(super) fn of_template(text: &[u8]) -> Option<(FieldFormat, Vec<FieldSlot>)> {
    let mut parser = Parser {
        text,
        at: 0,
        slots: Vec::new(),
    };
    let format = if text.first() == Some(&b'{') {
        parser.object("", 0)?;
        FieldFormat::Json
    } else {
        parser.pairs()?;
        FieldFormat::Logfmt
    };
    if parser.at < text.len() {
        return None;
    }
    let slots = parser.slots;
    let mut names: Vec<&str> = slots.iter().map(|s| s.name.as_str()).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    let is_unique = names.windows(2).all(|pair| pair[0] != pair[1]);
    is_unique.then_some((format, slots))
}

struct Parser<'t> {
    text: &'t [u8],
    at: usize,
    slots: Vec<FieldSlot>,
}

impl Parser<'_> {
    fn next(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then(|| self.at += 1)
    }

    fn skip_blanks(&mut self) {
        while self.next().is_some_and(is_blank) {
            self.at += 1;
        }
    }

    fn slot(&mut self, name: &str, style: Style) -> Option<()> {
        self.take(VALUE)?;
        self.slots.push(FieldSlot {
            name: name.to_owned(),
            style,
        });
        Some(())
    }

    /// What is there up to one of two bytes, as a part of a name.
    fn name(&mut self, end: u8) -> Option<String> {
        let start = self.at;
        while self.next()? != end {
            // Not one of ASCII is rare, and not worth to know its rules.
            let fits = self.next()?.is_ascii_graphic() && !matches!(self.next()?, b'"' | b'\\');
            if !fits {
                return None;
            }
            self.at += 1;
        }
        let name = &self.text[start..self.at];
        let first = name.first()?;
        if first.is_ascii_digit() {
            return None;
        }
        let sanitized = name.iter().map(|b| {
            if b.is_ascii_alphanumeric() {
                char::from(*b)
            } else {
                '_'
            }
        });
        Some(sanitized.collect())
    }

    fn object(&mut self, prefix: &str, depth: usize) -> Option<()> {
        self.take(b'{')?;
        self.skip_blanks();
        if self.next()? == b'}' {
            return self.take(b'}');
        }
        loop {
            self.take(b'"')?;
            let key = self.name(b'"')?;
            self.take(b'"')?;
            self.skip_blanks();
            self.take(b':')?;
            self.skip_blanks();
            let name = if prefix.is_empty() {
                key
            } else {
                format!("{prefix}_{key}")
            };
            self.value(&name, depth)?;
            self.skip_blanks();
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
            self.skip_blanks();
        }
    }

    fn value(&mut self, name: &str, depth: usize) -> Option<()> {
        match self.next()? {
            _ if depth > DEPTH_MAX => None,
            b'"' => {
                self.take(b'"')?;
                self.slot(name, Style::Quoted)?;
                self.take(b'"')
            }
            // An object within an array has no fields either.
            b'{' if name.is_empty() => None,
            b'{' => self.object(name, depth + 1),
            b'[' => self.array(depth + 1),
            _ => self.slot(name, Style::BareJson),
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.take(b'[')?;
        self.skip_blanks();
        if self.next()? == b']' {
            return self.take(b']');
        }
        loop {
            self.value("", depth)?;
            self.skip_blanks();
            if self.take(b',').is_none() {
                return self.take(b']');
            }
            self.skip_blanks();
        }
    }

    fn pairs(&mut self) -> Option<()> {
        self.skip_blanks();
        while self.at < self.text.len() {
            let name = self.name(b'=')?;
            self.take(b'=')?;
            if self.next() == Some(b'"') {
                self.take(b'"')?;
                self.slot(&name, Style::Quoted)?;
                self.take(b'"')?;
            } else {
                self.slot(&name, Style::BareLogfmt)?;
            }
            if self.next().is_some_and(|b| !is_blank(b)) {
                return None;
            }
            self.skip_blanks();
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &[u8]) -> Option<String> {
        let (format, slots) = of_template(text)?;
        let names: Vec<String> = slots.into_iter().map(|s| s.name).collect();
        Some(format!("{format:?} {}", names.join(",")))
    }

    #[test]
    fn templates_with_fields() {
        let has = |text: &[u8], found: &str| assert_eq!(names(text).as_deref(), Some(found));
        has(b"{\"a\":\xfe,\"b\": \"\xfe\"}", "Json a,b");
        has(
            b"{\"a.b\":{\"@c\":\xfe},\"d\":[\xfe,\"\xfe\"]}",
            "Json a_b__c,,",
        );
        has(b"a=\xfe b.c=\"\xfe\"", "Logfmt a,b_c");
        has(b" a=\xfe ", "Logfmt a");
    }

    #[test]
    fn what_readers_may_take_for_something_else_has_none() {
        for text in [
            &b"{\"a\":\xfe,\"a\":\xfe}"[..],
            b"{\"a_b\":\xfe,\"a\":{\"b\":\xfe}}",
            b"{\"a\":\xfe,}",
            b"{\"a\":\xfe} x",
            b"{\"a\xff\":\xfe}",
            b"{\"a\\\":\xfe}",
            b"{\"a\":[{\"b\":\xfe}]}",
            b"a=\xfe a=\xfe",
            b"a=\xfe b",
            b"a=\"\xfe\"b",
            b"\xffa=\xfe",
        ] {
            assert_eq!(names(text), None, "{}", text.escape_ascii());
        }
    }
}
