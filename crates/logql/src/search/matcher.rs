//! What is looked for in lines, and what fields are held against.

use kittiwake_model::{LineFilter, duration, pattern};
use kittiwake_vector::Comparison;
use regex::Regex;

use crate::units;

/// A word, a phrase or an expression, somewhere in a line.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// The text itself where the case of letters does not matter, for it has none.
    plain: Option<String>,
    regex: Regex,
}

impl Text {
    /// A text as it stands.
    pub(super) fn exact(text: &str) -> Result<Self, String> {
        let has_case = text.chars().any(char::is_alphabetic);
        Ok(Self {
            plain: (!has_case).then(|| text.to_owned()),
            regex: folded(&regex::escape(text))?,
        })
    }

    /// A word in which `*` stands for any characters but blanks.
    pub(super) fn word(text: &str) -> Result<Self, String> {
        // What is around it can be anything already.
        let inner = text.trim_matches('*');
        if !inner.contains('*') {
            return Self::exact(inner);
        }
        let parts: Vec<String> = inner.split('*').map(regex::escape).collect();
        Ok(Self {
            plain: None,
            regex: folded(&parts.join(r"\S*"))?,
        })
    }

    /// An expression, in which the case of letters counts.
    pub(super) fn expression(text: &str) -> Result<Self, String> {
        Ok(Self {
            plain: None,
            regex: pattern::unanchored(text).map_err(|e| e.to_string())?,
        })
    }

    pub(super) fn regex(&self) -> Regex {
        self.regex.clone()
    }

    pub(super) fn filter(&self, is_without: bool) -> LineFilter {
        match (&self.plain, is_without) {
            (Some(text), false) => LineFilter::Contains(vec![text.clone()]),
            (Some(text), true) => LineFilter::NotContains(vec![text.clone()]),
            (None, false) => LineFilter::Matches(vec![self.regex()]),
            (None, true) => LineFilter::NotMatches(vec![self.regex()]),
        }
    }

    pub(super) fn is_in(&self, line: &str) -> bool {
        match &self.plain {
            Some(text) => line.contains(text.as_str()),
            None => self.regex.is_match(line),
        }
    }

    pub(super) fn marks(&self, line: &str, max: usize, found: &mut Vec<(usize, usize)>) {
        let places = self.regex.find_iter(line).filter(|m| !m.is_empty());
        let room = max.saturating_sub(found.len());
        found.extend(places.take(room).map(|m| (m.start(), m.end())));
    }
}

fn folded(text: &str) -> Result<Regex, String> {
    pattern::unanchored(&format!("(?i){text}")).map_err(|e| e.to_string())
}

/// What the value of a field must be.
#[derive(Debug, Clone)]
pub(super) enum FieldTest {
    /// Anything.
    Exists,
    /// The whole value, or somewhere in it.
    Matches(Regex),
    /// More or less than a number, a duration or a size.
    Order(Comparison, Quantity),
}

/// A number with its kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Quantity {
    Number(f64),
    DurationNs(i64),
    Bytes(u64),
}

impl Quantity {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = units::parse_float(text) {
            return (!number.is_nan()).then_some(Self::Number(number));
        }
        let duration = duration::parse(text).map(Self::DurationNs).ok();
        duration.or_else(|| units::parse_bytes(text).map(Self::Bytes).ok())
    }
}

impl FieldTest {
    /// The whole value in any case of letters; `*` stands for any characters.
    pub(super) fn whole(text: &str, has_wildcards: bool) -> Result<Self, String> {
        if has_wildcards && text == "*" {
            return Ok(Self::Exists);
        }
        let inner = if has_wildcards {
            let parts: Vec<String> = text.split('*').map(regex::escape).collect();
            parts.join("(?s:.*)")
        } else {
            regex::escape(text)
        };
        folded(&format!("^(?:{inner})$")).map(Self::Matches)
    }

    pub(super) fn expression(text: &str) -> Result<Self, String> {
        let regex = pattern::unanchored(text).map_err(|e| e.to_string())?;
        Ok(Self::Matches(regex))
    }

    pub(super) fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Exists => true,
            Self::Matches(regex) => regex.is_match(value),
            Self::Order(comparison, wanted) => {
                let (found, wanted) = match wanted {
                    Quantity::Number(wanted) => (units::parse_float(value).ok(), *wanted),
                    Quantity::DurationNs(wanted) => {
                        let found = duration::parse(value).ok();
                        (found.map(|ns| ns as f64), *wanted as f64)
                    }
                    Quantity::Bytes(wanted) => {
                        let found = units::parse_bytes(value).ok();
                        (found.map(|bytes| bytes as f64), *wanted as f64)
                    }
                };
                found.is_some_and(|found| comparison.holds(found, wanted))
            }
        }
    }
}
