//! Reading JSON the way Loki's parser does: forward only, believing what it need not look at.
//! A line that is cut still gives the fields before the cut, and one of a few errors.

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Bool,
    Null,
    Object,
    Array,
}

pub(crate) const MALFORMED: &str = "Malformed JSON error";
const CUT_TEXT: &str = "Value is string, but can't find closing '\"' symbol";
const CUT_ARRAY: &str = "Value is array, but can't find closing ']' symbol";
const CUT_OBJECT: &str = "Value looks like object, but can't find closing '}' symbol";
const UNKNOWN: &str = "Unknown value type";
const BAD_ESCAPE: &str = "Encountered an invalid escape sequence in a string";

fn skip_blanks(text: &str, at: usize) -> Option<usize> {
    let bytes = &text.as_bytes()[at..];
    let len = bytes
        .iter()
        .position(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\t'))?;
    Some(at + len)
}

/// Where the string ends whose first byte stands at `at`: behind its closing quote.
fn string_end(text: &str, at: usize) -> Option<usize> {
    let mut is_escaped = false;
    for (offset, byte) in text.as_bytes()[at..].iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + offset + 1),
            _ => {}
        }
    }
    None
}

/// Where the object or array ends that opens at `at`: behind its closing bracket.
fn block_end(text: &str, at: usize, open: u8, close: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut level, mut i) = (0_usize, at);
    while i < bytes.len() {
        match bytes[i] {
            b'"' => {
                i = string_end(text, i + 1)?;
                continue;
            }
            b if b == open => level += 1,
            b if b == close => {
                level -= 1;
                if level == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
        i += 1;
    }
    None
}

/// The value at or behind `at`, with what it is and where it ends. A string comes without its
/// quotes.
pub(crate) fn value(text: &str, at: usize) -> Result<(&str, Kind, usize), &'static str> {
    let at = skip_blanks(text, at).ok_or(MALFORMED)?;
    match text.as_bytes()[at] {
        b'"' => {
            let end = string_end(text, at + 1).ok_or(CUT_TEXT)?;
            Ok((&text[at + 1..end - 1], Kind::Text, end))
        }
        b'[' => {
            let end = block_end(text, at, b'[', b']').ok_or(CUT_ARRAY)?;
            Ok((&text[at..end], Kind::Array, end))
        }
        b'{' => {
            let end = block_end(text, at, b'{', b'}').ok_or(CUT_OBJECT)?;
            Ok((&text[at..end], Kind::Object, end))
        }
        first => {
            let is_end = |b: &u8| matches!(b, b' ' | b'\n' | b'\r' | b'\t' | b',' | b'}' | b']');
            let len = text.as_bytes()[at..].iter().position(is_end);
            let end = len.map_or(text.len(), |len| at + len);
            let token = &text[at..end];
            let kind = match (first, token) {
                (_, "true" | "false") => Kind::Bool,
                (_, "null") => Kind::Null,
                (b'0'..=b'9' | b'-', _) => Kind::Number,
                _ => return Err(UNKNOWN),
            };
            Ok((token, kind, end))
        }
    }
}

/// Why a walk over an object ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The text is malformed.
    Error(&'static str),
    /// The visitor has seen enough.
    Enough,
}

/// Gives each key of an object with its value to a visitor.
pub(crate) fn each(
    text: &str,
    mut visit: impl FnMut(&str, &str, Kind) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let bytes = text.as_bytes();
    let error = Stop::Error;
    let at = skip_blanks(text, 0).ok_or(error(CUT_OBJECT))?;
    if bytes[at] != b'{' {
        return Err(error(CUT_OBJECT));
    }
    let mut at = skip_blanks(text, at + 1).ok_or(error(MALFORMED))?;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at += 1,
            b'}' => return Ok(()),
            _ => return Err(error(CUT_OBJECT)),
        }
        let end = string_end(text, at).ok_or(error(MALFORMED))?;
        let raw = &text[at..end - 1];
        let key = if raw.contains('\\') {
            std::borrow::Cow::Owned(unescape(raw).ok_or(error(BAD_ESCAPE))?)
        } else {
            std::borrow::Cow::Borrowed(raw)
        };
        at = skip_blanks(text, end).ok_or(error(MALFORMED))?;
        if bytes[at] != b':' {
            return Err(error(MALFORMED));
        }
        let (found, kind, end) = value(text, at + 1).map_err(error)?;
        visit(&key, found, kind)?;
        at = skip_blanks(text, end).ok_or(error(CUT_ARRAY))?;
        match bytes[at] {
            b'}' => return Ok(()),
            b',' => at += 1,
            _ => return Err(error(CUT_OBJECT)),
        }
        at = skip_blanks(text, at).ok_or(error(CUT_ARRAY))?;
    }
    Err(error(CUT_OBJECT))
}

/// What stands behind a key of an object and its colon; what is behind that need not be whole.
pub(crate) fn behind_key<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    let bytes = text.as_bytes();
    let mut at = skip_blanks(text, 1)?;
    while bytes[at] == b'"' {
        let end = string_end(text, at + 1)?;
        let raw = &text[at + 1..end - 1];
        at = skip_blanks(text, end)?;
        if bytes[at] != b':' {
            return None;
        }
        let is_wanted = if raw.contains('\\') {
            unescape(raw)? == wanted
        } else {
            raw == wanted
        };
        if is_wanted {
            return Some(&text[at + 1..]);
        }
        let (_, _, end) = value(text, at + 1).ok()?;
        at = skip_blanks(text, end)?;
        if bytes[at] != b',' {
            return None;
        }
        at = skip_blanks(text, at + 1)?;
    }
    None
}

/// Gives each element of an array to a visitor, which says whether to go on.
pub(crate) fn elements<'a>(text: &'a str, mut visit: impl FnMut(&'a str, Kind) -> bool) {
    let mut at = 1;
    loop {
        match skip_blanks(text, at) {
            None => return,
            Some(next) if text.as_bytes()[next] == b']' => return,
            Some(next) => at = next,
        }
        let Ok((found, kind, end)) = value(text, at) else {
            return;
        };
        if !visit(found, kind) {
            return;
        }
        match skip_blanks(text, end) {
            Some(next) if text.as_bytes()[next] == b',' => at = next + 1,
            _ => return,
        }
    }
}

/// A string without its escapes; nothing when one is malformed.
pub(crate) fn unescape(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next()? {
            c @ ('"' | '\\' | '/') => out.push(c),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'u' => {
                let mut code = hex4(&mut chars)?;
                if (0xd800..0xdc00).contains(&code) {
                    if chars.next()? != '\\' || chars.next()? != 'u' {
                        return None;
                    }
                    let low = hex4(&mut chars)?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return None;
                    }
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                out.push(char::from_u32(code).unwrap_or(' '));
            }
            _ => return None,
        }
    }
    Some(out)
}

fn hex4(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |code, _| Some(code * 16 + chars.next()?.to_digit(16)?))
}

/// A value as a label has it.
pub(crate) fn label_value(raw: &str, kind: Kind) -> String {
    match kind {
        Kind::Text => {
            let plain = if raw.contains('\\') {
                unescape(raw).unwrap_or_default()
            } else {
                raw.to_owned()
            };
            // What was no UTF-8 has been replaced on its way in.
            if plain.contains('\u{fffd}') {
                plain.replace('\u{fffd}', " ")
            } else {
                plain
            }
        }
        Kind::Number | Kind::Bool => raw.to_owned(),
        _ => String::new(),
    }
}
