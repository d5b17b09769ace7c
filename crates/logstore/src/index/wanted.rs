//! From the filters of a scan to what a block must have in its index.
//!
//! Each literal that a line must have is cut into tokens. Those within it are looked up whole;
//! those at its edges may go on in the line and are fragments. What is asked for is necessary,
//! never sufficient: the lines of the blocks that are found are still filtered.

use kittiwake_model::LineFilter;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use crate::block::token::{self, Wide as Kind};

/// Look-ups of one filter at most; one with more is not planned.
const LOOKUPS_MAX: usize = 256;

/// What a block must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nothing in particular.
    Any,
    /// A folded word.
    Word(String),
    /// A folded variable.
    Variable(String),
    /// A token with this folded text in it; it may go on to the left, to the right, or both.
    Fragment {
        text: String,
        goes_left: bool,
        goes_right: bool,
    },
    /// A line with a backslash.
    Backslash,
    /// All of these.
    All(Vec<Wanted>),
    /// One of these.
    One(Vec<Wanted>),
}

impl Wanted {
    /// What all of the filters ask for.
    pub(crate) fn of<'a>(filters: impl Iterator<Item = &'a LineFilter>) -> Self {
        all(filters.map(of_filter).collect())
    }

    /// What a line has when one of its fields has a text.
    pub(crate) fn of_field(text: &str) -> Self {
        one(vec![of_literal(text, false, false), Self::Backslash])
    }

    fn lookups(&self) -> usize {
        match self {
            Self::All(wanted) | Self::One(wanted) => wanted.iter().map(Self::lookups).sum(),
            Self::Any => 0,
            _ => 1,
        }
    }

    /// How much it costs to look up.
    fn cost(&self) -> u8 {
        match self {
            Self::Any | Self::Backslash => 0,
            Self::Word(_) => 1,
            Self::Fragment { .. } => 2,
            Self::Variable(_) => 3,
            Self::All(_) | Self::One(_) => 4,
        }
    }
}

fn all(wanted: Vec<Wanted>) -> Wanted {
    let mut flat = Vec::new();
    for one in wanted {
        match one {
            Wanted::Any => {}
            Wanted::All(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    flat.sort_by_key(Wanted::cost);
    flat.dedup();
    match flat.len() {
        0 => Wanted::Any,
        1 => flat.swap_remove(0),
        _ => Wanted::All(flat),
    }
}

fn one(mut wanted: Vec<Wanted>) -> Wanted {
    if wanted.contains(&Wanted::Any) || wanted.is_empty() {
        return Wanted::Any;
    }
    wanted.dedup();
    match wanted.len() {
        1 => wanted.swap_remove(0),
        _ => Wanted::One(wanted),
    }
}

fn of_filter(filter: &LineFilter) -> Wanted {
    let wanted = match filter {
        LineFilter::Contains(texts) => one(texts.iter().map(|t| of_text(t)).collect()),
        LineFilter::Matches(regexes) => one(regexes.iter().map(of_regex).collect()),
        LineFilter::NotContains(_) | LineFilter::NotMatches(_) => Wanted::Any,
    };
    if wanted.lookups() > LOOKUPS_MAX {
        return Wanted::Any;
    }
    wanted
}

fn of_text(text: &str) -> Wanted {
    if text == "\\" {
        return Wanted::Backslash;
    }
    of_literal(text, true, true)
}

/// What a line with the literal must have. A token at an open end may go on.
fn of_literal(text: &str, is_left_open: bool, is_right_open: bool) -> Wanted {
    let goes_on = |c: Option<char>| c.is_some_and(|c| token::kind(c) != Kind::Alone);
    let mut wanted = Vec::new();
    for token in token::tokens(text) {
        let end = token.at + token.text.len();
        let goes_left = is_left_open && token.at == 0 && goes_on(token.text.chars().next());
        let goes_right =
            is_right_open && end == text.len() && goes_on(token.text.chars().next_back());
        let mut folded = String::new();
        token::fold(token.text, &mut folded);
        wanted.push(if goes_left || goes_right {
            // One character says nothing.
            if folded.chars().nth(1).is_none() {
                continue;
            }
            Wanted::Fragment {
                text: folded,
                goes_left,
                goes_right,
            }
        } else if !token.is_variable {
            Wanted::Word(folded)
        } else if token.is_hashed() {
            Wanted::Variable(folded)
        } else {
            continue;
        });
    }
    all(wanted)
}

fn of_regex(regex: &regex::Regex) -> Wanted {
    match regex_syntax::parse(regex.as_str()) {
        Ok(hir) => {
            let mut run = Run::default();
            run.walk(&hir);
            run.close(true);
            all(run.wanted)
        }
        Err(_) => Wanted::Any,
    }
}

/// A run of characters that a match must have one after the other.
#[derive(Default)]
struct Run {
    text: String,
    /// Whether what stands before the run cannot belong to its first token.
    is_left_closed: bool,
    wanted: Vec<Wanted>,
}

impl Run {
    /// Ends the run. What follows belongs to no token unless it `goes_on`.
    fn close(&mut self, goes_on: bool) {
        let text = std::mem::take(&mut self.text);
        self.wanted
            .push(of_literal(&text, !self.is_left_closed, goes_on));
        self.is_left_closed = !goes_on;
    }

    fn walk(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Empty => {}
            HirKind::Literal(literal) => match str::from_utf8(&literal.0) {
                Ok(text) => self.text.push_str(text),
                Err(_) => self.close(true),
            },
            HirKind::Class(class) => self.class(class),
            HirKind::Look(Look::Start | Look::End) => self.close(false),
            HirKind::Look(_) => {}
            HirKind::Capture(capture) => self.walk(&capture.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.walk(part)),
            HirKind::Repetition(repetition) => {
                self.close(true);
                if repetition.min > 0 {
                    let mut inner = Self::default();
                    inner.walk(&repetition.sub);
                    inner.close(true);
                    self.wanted.push(all(inner.wanted));
                }
            }
            HirKind::Alternation(parts) => {
                self.close(true);
                let parts = parts.iter().map(|part| {
                    let mut inner = Self::default();
                    inner.walk(part);
                    inner.close(true);
                    all(inner.wanted)
                });
                self.wanted.push(one(parts.collect()));
            }
        }
    }

    /// A class of one folded character goes on with the run; one of separators ends its token.
    fn class(&mut self, class: &Class) {
        let mut chars = Vec::new();
        let ranges: Vec<(char, char)> = match class {
            Class::Unicode(class) => class.iter().map(|r| (r.start(), r.end())).collect(),
            Class::Bytes(class) => class
                .iter()
                .map(|r| (char::from(r.start()), char::from(r.end())))
                .collect(),
        };
        for (start, end) in ranges {
            if u32::from(end) - u32::from(start) + chars.len() as u32 > 64
                || !end.is_ascii() && matches!(class, Class::Bytes(_))
            {
                return self.close(true);
            }
            chars.extend(start..=end);
        }
        let Some(first) = chars.first().copied() else {
            return self.close(true);
        };
        let is_same = |c: &char| {
            token::fold_char(*c) == token::fold_char(first) && token::kind(*c) == token::kind(first)
        };
        if chars.iter().all(is_same) {
            self.text.push(first);
        } else {
            let is_separator = |c: &char| token::kind(*c) == Kind::Separator;
            self.close(!chars.iter().all(is_separator));
        }
    }
}

#[cfg(test)]
mod tests {
    use kittiwake_model::pattern;

    use super::*;

    fn word(text: &str) -> Wanted {
        Wanted::Word(text.to_owned())
    }

    fn fragment(text: &str, goes_left: bool, goes_right: bool) -> Wanted {
        Wanted::Fragment {
            text: text.to_owned(),
            goes_left,
            goes_right,
        }
    }

    #[test]
    fn tokens_within_are_whole_and_those_at_the_edges_are_not() {
        let cases = [
            (
                "connection Reset by peer",
                all(vec![
                    word("reset"),
                    word("by"),
                    fragment("connection", true, false),
                    fragment("peer", false, true),
                ]),
            ),
            ("needle-77 ", fragment("needle", true, false)),
            ("=a1b2c3 ", Wanted::Variable("a1b2c3".to_owned())),
            (" 日本", all(vec![word("日"), word("本")])),
            (" 日本x", all(vec![word("日"), word("本")])),
            ("\\", Wanted::Backslash),
            ("=", Wanted::Any),
        ];
        for (text, want) in cases {
            assert_eq!(of_text(text), want, "{text}");
        }
    }

    #[test]
    fn regexes_ask_for_their_literals() {
        let cases = [
            (
                "(?i) Reset by",
                all(vec![word("reset"), fragment("by", false, true)]),
            ),
            (
                "order 10\\d+86 ",
                all(vec![
                    fragment("order", true, false),
                    fragment("10", false, true),
                    fragment("86", true, false),
                ]),
            ),
            ("^GET[ /]", word("get")),
            (
                "(aa|bb) cc",
                all(vec![
                    one(vec![fragment("aa", true, true), fragment("bb", true, true)]),
                    fragment("cc", false, true),
                ]),
            ),
            ("a*", Wanted::Any),
            ("(error|.*)", Wanted::Any),
            ("x(ab)+", fragment("ab", true, true)),
        ];
        for (regex, want) in cases {
            assert_eq!(
                of_regex(&pattern::unanchored(regex).unwrap()),
                want,
                "{regex}"
            );
        }
    }
}
