//! The literals that each match of a regular expression has.

use regex_syntax::hir::{Class, ClassUnicodeRange, Hir, HirKind};

/// A text that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal {
    /// In lower case when it is folded.
    pub(super) text: String,
    /// Whether upper and lower case of ASCII letters are one.
    pub(super) is_folded: bool,
}

/// What a regular expression asks for.
#[derive(Debug, Default)]
pub(super) struct Required {
    /// All of these are in each text with a match.
    pub(super) literals: Vec<Literal>,
    /// Whether a text with all of them has a match.
    pub(super) is_exact: bool,
    run: String,
    /// Whether the run so far has letters of one case only, of either case, or none.
    run_folded: Option<bool>,
}

impl Required {
    pub(super) fn of(regex: &regex::Regex) -> Self {
        let mut required = Self {
            is_exact: true,
            ..Self::default()
        };
        match regex_syntax::parse(regex.as_str()) {
            Ok(hir) => required.walk(&hir),
            Err(_) => required.is_exact = false,
        }
        required.close();
        // Of several it is not known in which order they must be.
        required.is_exact &= required.literals.len() <= 1;
        required
    }

    fn walk(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Empty => {}
            HirKind::Literal(literal) => match str::from_utf8(&literal.0) {
                Ok(text) => text.chars().for_each(|c| self.push(c, false)),
                Err(_) => self.give_up(),
            },
            HirKind::Class(class) => match either_case(class) {
                Some(lower) => self.push(lower, true),
                None => self.give_up(),
            },
            HirKind::Capture(capture) => self.walk(&capture.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.walk(part)),
            HirKind::Repetition(repetition) => {
                self.give_up();
                if repetition.min > 0 {
                    self.walk(&repetition.sub);
                    self.give_up();
                }
            }
            HirKind::Look(_) | HirKind::Alternation(_) => self.give_up(),
        }
    }

    fn push(&mut self, c: char, is_folded: bool) {
        let has_case = c.is_ascii_alphabetic();
        if has_case && self.run_folded == Some(!is_folded) {
            self.close();
        }
        if has_case {
            self.run_folded = Some(is_folded);
        }
        self.run.push(c);
    }

    /// Something comes that no literal stands for.
    fn give_up(&mut self) {
        self.is_exact = false;
        self.close();
    }

    fn close(&mut self) {
        if !self.run.is_empty() {
            self.literals.push(Literal {
                text: std::mem::take(&mut self.run),
                is_folded: self.run_folded == Some(true),
            });
        }
        self.run_folded = None;
    }
}

/// The lower case of a class of just a letter of ASCII in both cases. `k` and `s` have a third
/// form, so a class of them is none.
fn either_case(class: &Class) -> Option<char> {
    let chars: Vec<char> = match class {
        Class::Unicode(class) => {
            let ranges = class.ranges();
            if ranges.len() != 2 || ranges.iter().any(|r| r.start() != r.end()) {
                return None;
            }
            ranges.iter().map(ClassUnicodeRange::start).collect()
        }
        Class::Bytes(_) => return None,
    };
    let (upper, lower) = (chars[0], chars[1]);
    (upper.is_ascii_uppercase() && upper.to_ascii_lowercase() == lower).then_some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str) -> (Vec<(String, bool)>, bool) {
        let required = Required::of(&regex::Regex::new(pattern).unwrap());
        let literals = required.literals.into_iter();
        (
            literals.map(|l| (l.text, l.is_folded)).collect(),
            required.is_exact,
        )
    }

    #[test]
    fn literals_are_found() {
        let text = |t: &str| (t.to_owned(), false);
        assert_eq!(of("error"), (vec![text("error")], true));
        assert_eq!(of("(?s:a(bc)d)"), (vec![text("abcd")], true));
        assert_eq!(
            of(r"order 10\d+86 "),
            (vec![text("order 10"), text("86 ")], false)
        );
        assert_eq!(of("(?i)error"), (vec![("error".to_owned(), true)], true));
        assert_eq!(
            of("(?i)failed 1"),
            (vec![("failed 1".to_owned(), true)], true)
        );
        assert!(!of("(?i)kiss").1);
        assert_eq!(of("a|b"), (vec![], false));
        assert_eq!(of("^x+y*"), (vec![text("x")], false));
        assert_eq!(of("[ab]c"), (vec![text("c")], false));
        assert_eq!(of(""), (vec![], true));
    }
}
