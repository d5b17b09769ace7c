//! `| logfmt`.

use std::borrow::Cow;

use super::LOGFMT_ERROR;
use super::labels::{Category, Hints, LineLabels, sanitized};

/// Walks the pairs of a line.
pub(crate) struct Pairs<'a> {
    line: &'a str,
    at: usize,
    /// The newest error.
    pub(crate) error: Option<String>,
}

/// A pair, or that none stood there.
pub(crate) enum Scanned<'a> {
    Pair(&'a str, Cow<'a, str>),
    Broken,
}

impl<'a> Pairs<'a> {
    pub(crate) fn new(line: &'a str) -> Self {
        Self {
            line,
            at: 0,
            error: None,
        }
    }

    fn position(&self, what: &str) -> String {
        format!("logfmt syntax error at pos {} : {what}", self.at + 1)
    }

    fn find(&self, from: usize, is_end: impl Fn(u8) -> bool) -> Option<usize> {
        let bytes = &self.line.as_bytes()[from..];
        bytes.iter().position(|b| is_end(*b)).map(|at| from + at)
    }

    /// Passes over what cannot be read, up to the next blank.
    fn broken(&mut self, what: &str) -> Scanned<'a> {
        self.error = Some(self.position(what));
        self.at = self.find(self.at, |b| b <= b' ').unwrap_or(self.line.len());
        Scanned::Broken
    }

    /// The next pair; nothing at the end.
    pub(crate) fn next(&mut self) -> Option<Scanned<'a>> {
        if self.at >= self.line.len() {
            return None;
        }
        let Some(start) = self.find(self.at, |b| b > b' ') else {
            self.at = self.line.len();
            return Some(Scanned::Broken);
        };
        let end = self.find(start, |b| b <= b' ' || b == b'=' || b == b'"');
        self.at = end.unwrap_or(self.line.len());
        let key = &self.line[start..self.at];
        let sign = self.line.as_bytes().get(self.at).copied();
        if sign == Some(b'"') {
            return Some(self.broken("unexpected '\"'"));
        }
        if sign == Some(b'=') && key.is_empty() {
            return Some(self.broken("unexpected '='"));
        }
        if key.contains('\u{fffd}') {
            return Some(self.broken("invalid key"));
        }
        if sign != Some(b'=') {
            return Some(Scanned::Pair(key, Cow::Borrowed("")));
        }
        self.at += 1;
        Some(self.value(key))
    }

    fn value(&mut self, key: &'a str) -> Scanned<'a> {
        match self.line.as_bytes().get(self.at) {
            None => return Scanned::Pair(key, Cow::Borrowed("")),
            Some(b) if *b <= b' ' => return Scanned::Pair(key, Cow::Borrowed("")),
            Some(b'"') => return self.quoted(key),
            Some(_) => {}
        }
        let start = self.at;
        let end = self.find(start, |b| b <= b' ' || b == b'=' || b == b'"');
        self.at = end.unwrap_or(self.line.len());
        match self.line.as_bytes().get(self.at) {
            Some(b'=') => self.broken("unexpected '='"),
            Some(b'"') => self.broken("unexpected '\"'"),
            _ => Scanned::Pair(key, Cow::Borrowed(&self.line[start..self.at])),
        }
    }

    fn quoted(&mut self, key: &'a str) -> Scanned<'a> {
        let start = self.at + 1;
        let (mut is_escaped, mut has_escape) = (false, false);
        for (offset, byte) in self.line.as_bytes()[start..].iter().enumerate() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => (is_escaped, has_escape) = (true, true),
                b'"' => {
                    let raw = &self.line[start..start + offset];
                    self.at = start + offset + 1;
                    if !has_escape {
                        return Scanned::Pair(key, Cow::Borrowed(raw));
                    }
                    return if let Some(plain) = super::json_scan::unescape(raw) {
                        Scanned::Pair(key, Cow::Owned(plain))
                    } else {
                        self.error = Some(self.position("invalid quoted value"));
                        Scanned::Broken
                    };
                }
                _ => {}
            }
        }
        self.at = self.line.len();
        self.error = Some(self.position("unterminated quoted value"));
        Scanned::Broken
    }
}

fn plain(value: &str) -> Cow<'_, str> {
    if value.contains('\u{fffd}') {
        Cow::Owned(value.replace('\u{fffd}', " "))
    } else {
        Cow::Borrowed(value)
    }
}

/// All pairs become labels.
pub(crate) fn all(
    line: &str,
    strict: bool,
    keep_empty: bool,
    labels: &mut LineLabels,
    hints: &Hints,
) {
    if labels.needs_nothing(hints) {
        return;
    }
    let mut pairs = Pairs::new(line);
    while let Some(scanned) = pairs.next() {
        let Scanned::Pair(key, value) = scanned else {
            if strict {
                break;
            }
            continue;
        };
        if value.is_empty() && !keep_empty {
            continue;
        }
        labels.extract(&sanitized(key), &plain(&value), hints);
        if labels.has_all(hints) {
            break;
        }
    }
    if strict && let Some(error) = pairs.error {
        labels.parser_error(LOGFMT_ERROR, &error, hints);
    }
}

/// Some pairs become labels under names of their own; those that are not there become empty.
pub(crate) fn fields(
    line: &str,
    strict: bool,
    fields: &[(String, String)],
    labels: &mut LineLabels,
    hints: &Hints,
) {
    if labels.needs_nothing(hints) {
        return;
    }
    for (name, _) in fields {
        if labels.parsed_name(name) == *name {
            labels.set(Category::Parsed, name, "");
        }
    }
    let mut pairs = Pairs::new(line);
    while let Some(scanned) = pairs.next() {
        let Scanned::Pair(key, value) = scanned else {
            if strict {
                break;
            }
            continue;
        };
        let key = sanitized(key);
        // Under a name of its own, a field is found only where its key is wanted, too.
        if !fields.iter().any(|(name, _)| *name == key) && !hints.wants(&key) {
            continue;
        }
        let by_path = fields.iter().find(|(_, path)| *path == key);
        let Some((name, _)) = by_path.or_else(|| fields.iter().find(|(name, _)| *name == key))
        else {
            continue;
        };
        let value = if value.contains('\u{fffd}') {
            ""
        } else {
            &*value
        };
        let own = labels.parsed_name(name);
        if own != *name && !labels.is_wanted(&own, hints) {
            break;
        }
        labels.set(Category::Parsed, &own, value);
        if labels.has_all(hints) {
            break;
        }
    }
    if strict && let Some(error) = pairs.error {
        labels.parser_error(LOGFMT_ERROR, &error, hints);
    }
}
