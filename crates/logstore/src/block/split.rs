//! A line into what it has in common with others and what is its own.
//!
//! The static part of a line is its bytes with a mark in place of each slot; lines of one
//! static part share a template. Slots are tokens with a digit, numbers with a point and IPv4
//! addresses as a whole, and, whatever they are, the values of JSON and logfmt keys. A slot
//! never cuts a token in two: the tokens of a line are those of its static part and its slots.

use super::token::{CLASSES, Class, Wide, class_of};

/// Stands for a slot of token characters, or a number with points, in a static part. Text is
/// UTF-8, which has no such byte.
pub(super) const TOKEN: u8 = 0xff;
/// Stands for the value of a key in a static part.
pub(super) const VALUE: u8 = 0xfe;

/// A stretch of a block's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    pub(super) fn of(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..self.end as usize]
    }

    pub(super) fn str(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }
}

/// Takes one line apart.
pub(super) struct Splitter<'a> {
    /// The text of all lines.
    pub(super) text: &'a str,
    /// Gets the static part.
    pub(super) statics: &'a mut Vec<u8>,
    /// Gets the slots.
    pub(super) spans: &'a mut Vec<Span>,
}

impl Splitter<'_> {
    /// Splits a line with the keys in it.
    pub(super) fn line(&mut self, line: Span) {
        let (start, end) = (line.start as usize, line.end as usize);
        let bytes = line.of(self.text.as_bytes());
        let from = if bytes.first() == Some(&b'{') && bytes.last() == Some(&b'}') {
            self.json(start, end)
        } else {
            self.plain(start, start, end, true)
        };
        self.copy(from, end);
    }

    /// Splits a text by its tokens alone.
    pub(super) fn value(&mut self, value: Span) {
        let (start, end) = (value.start as usize, value.end as usize);
        let from = self.plain(start, start, end, false);
        self.copy(from, end);
    }

    fn copy(&mut self, from: usize, to: usize) {
        let bytes = self.text.as_bytes();
        self.statics.extend_from_slice(&bytes[from..to]);
    }

    /// Ends the static stretch that began at `from` with a slot; the next one begins after it.
    fn slot(&mut self, from: usize, start: usize, end: usize, mark: u8) -> usize {
        self.copy(from, start);
        self.statics.push(mark);
        self.spans.push(Span::new(start, end));
        end
    }

    /// Splits a stretch by tokens and, when `has_keys`, by the values of logfmt keys. `from` is
    /// where the static stretch began; gives where the one at the end begins.
    fn plain(&mut self, mut from: usize, start: usize, end: usize, has_keys: bool) -> usize {
        let bytes = &self.text.as_bytes()[..end];
        let mut at = start;
        // The start of the run without blanks, and whether it looks like a key so far.
        let (mut field, mut is_key) = (start, has_keys);
        while at < end {
            match CLASSES[usize::from(bytes[at])] {
                Class::Separator => match bytes[at] {
                    b' ' | b'\t' => {
                        at += 1;
                        (field, is_key) = (at, has_keys);
                    }
                    b'=' if is_key && at > field && !bytes[field].is_ascii_digit() => {
                        let value = key_value(bytes, at + 1);
                        from = self.slot(from, value.0, value.1, VALUE);
                        at = value.1;
                        is_key = false;
                    }
                    byte => {
                        is_key &= matches!(byte, b'.' | b'-');
                        at += 1;
                    }
                },
                Class::Digit => {
                    let token = at;
                    let points;
                    (at, points) = number(bytes, at, 0);
                    // Digits that go on as a token with letters are of no number.
                    let is_number = !self.is_token_at(at, end);
                    if !is_number {
                        at = self.token(at, end).0;
                    }
                    from = if is_number && matches!(points, 0 | 1 | 3) {
                        self.slot(from, token, at, TOKEN)
                    } else {
                        self.groups(from, token, at)
                    };
                }
                Class::Letter => {
                    let token = at;
                    let has_digit;
                    (at, has_digit) = self.token(at, end);
                    if has_digit {
                        from = self.slot(from, token, at, TOKEN);
                    }
                }
                Class::Wide => {
                    let token = at;
                    let c = self.char_at(at);
                    match class_of(c) {
                        Wide::Separator | Wide::Alone => {
                            at += c.len_utf8();
                            is_key = false;
                        }
                        Wide::Letter | Wide::Digit => {
                            let has_digit;
                            (at, has_digit) = self.token(at, end);
                            if has_digit {
                                from = self.slot(from, token, at, TOKEN);
                            }
                        }
                    }
                }
            }
        }
        from
    }

    /// Makes a slot of each stretch between points.
    fn groups(&mut self, mut from: usize, start: usize, end: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut group = start;
        while let Some(len) = bytes[group..end].iter().position(|b| *b == b'.') {
            from = self.slot(from, group, group + len, TOKEN);
            group += len + 1;
        }
        self.slot(from, group, end, TOKEN)
    }

    /// The end of the token whose next character is at `at`, and whether a digit was in it.
    fn token(&self, mut at: usize, end: usize) -> (usize, bool) {
        let bytes = self.text.as_bytes();
        let mut has_digit = false;
        while at < end {
            match CLASSES[usize::from(bytes[at])] {
                Class::Letter => at += 1,
                Class::Digit => {
                    has_digit = true;
                    at += 1;
                }
                Class::Separator => break,
                Class::Wide => {
                    let c = self.char_at(at);
                    match class_of(c) {
                        Wide::Letter => {}
                        Wide::Digit => has_digit = true,
                        Wide::Separator | Wide::Alone => break,
                    }
                    at += c.len_utf8();
                }
            }
        }
        (at, has_digit)
    }

    /// Whether a token goes on at `at`.
    fn is_token_at(&self, at: usize, end: usize) -> bool {
        at < end
            && match CLASSES[usize::from(self.text.as_bytes()[at])] {
                Class::Separator => false,
                Class::Letter | Class::Digit => true,
                Class::Wide => {
                    let class = class_of(self.char_at(at));
                    matches!(class, Wide::Letter | Wide::Digit)
                }
            }
    }

    fn char_at(&self, at: usize) -> char {
        self.text[at..].chars().next().unwrap_or(' ')
    }

    /// Splits what looks like JSON by the values in it, at any depth; from where it does not,
    /// by tokens. Gives where the static stretch at the end begins.
    fn json(&mut self, start: usize, end: usize) -> usize {
        let bytes = &self.text.as_bytes()[..end];
        let (mut from, mut at) = (start, start);
        while at < end {
            match bytes[at] {
                b'"' => {
                    let Some(close) = closing_quote(bytes, at + 1) else {
                        return self.plain(from, at, end, false);
                    };
                    let after = bytes[close + 1..].iter().position(|b| !is_blank(*b));
                    let after = after.map_or(end, |skip| close + 1 + skip);
                    if bytes.get(after) == Some(&b':') {
                        let key = &bytes[at + 1..close];
                        if !key
                            .iter()
                            .all(|b| CLASSES[usize::from(*b)] == Class::Letter)
                        {
                            from = self.plain(from, at + 1, close, false);
                        }
                        at = after + 1;
                    } else {
                        from = self.slot(from, at + 1, close, VALUE);
                        at = close + 1;
                    }
                }
                b'{' | b'}' | b'[' | b']' | b',' | b':' => at += 1,
                byte if is_blank(byte) => at += 1,
                _ => {
                    let rest = &bytes[at..];
                    let is_end = |b: &u8| matches!(b, b',' | b'}' | b']' | b'"') || is_blank(*b);
                    let close = rest.iter().position(is_end).map_or(end, |len| at + len);
                    from = self.slot(from, at, close, VALUE);
                    at = close;
                }
            }
        }
        from
    }
}

/// The end of digits in groups with a point between them, and how many points there are.
pub(super) fn number(bytes: &[u8], mut at: usize, mut points: usize) -> (usize, usize) {
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        let goes_on =
            bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if !goes_on {
            return (at, points);
        }
        at += 1;
        points += 1;
    }
}

/// The value of a logfmt key: between quotes, or up to a blank.
fn key_value(bytes: &[u8], at: usize) -> (usize, usize) {
    if bytes.get(at) == Some(&b'"')
        && let Some(close) = closing_quote(bytes, at + 1)
    {
        return (at + 1, close);
    }
    let blank = bytes[at..].iter().position(|b| is_blank(*b));
    (at, blank.map_or(bytes.len(), |len| at + len))
}

/// The quote that ends a string which begins at `at`.
fn closing_quote(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
