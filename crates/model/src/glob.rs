//! Expressions of characters and gaps, such as `svc-0[0-3].*-2` or `5..`: what most label
//! matchers are. They are matched without the regex engine, whose making costs more than the
//! values of a label do.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Characters and gaps of an expression at most.
const PARTS_MAX: usize = 64;
/// Ranges of one character's class at most.
const RANGES_MAX: usize = 16;

/// One character.
#[derive(Debug, Clone, PartialEq, Eq)]
enum One {
    Any,
    Of(Vec<(char, char)>),
}

impl One {
    fn is(&self, c: char) -> bool {
        match self {
            Self::Any => true,
            Self::Of(ranges) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)),
        }
    }
}

/// Runs of characters with gaps of any length between them. The whole text must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    /// The characters before the first gap.
    head: Vec<One>,
    /// The runs behind a gap each; none: there is no gap.
    rest: Vec<Vec<One>>,
}

impl Glob {
    /// The expression as one of these, if it is.
    pub(crate) fn of(hir: &Hir) -> Option<Self> {
        let mut parts = Parts {
            glob: Self {
                head: Vec::new(),
                rest: Vec::new(),
            },
            left: PARTS_MAX,
        };
        parts.add(hir)?;
        Some(parts.glob)
    }

    /// Whether a text matches as a whole.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let Some(mut text) = strip(&self.head, text) else {
            return false;
        };
        let Some((last, middle)) = self.rest.split_last() else {
            return text.is_empty();
        };
        // The first place that fits leaves the most for those behind it.
        for run in middle {
            let Some(rest) = find(run, text) else {
                return false;
            };
            text = rest;
        }
        // The last run stands at the end.
        let start = match last.len().checked_sub(1) {
            None => return true,
            Some(before) => text.char_indices().rev().nth(before),
        };
        start.is_some_and(|(at, _)| strip(last, &text[at..]) == Some(""))
    }
}

/// What follows a run at the start of a text.
fn strip<'t>(run: &[One], text: &'t str) -> Option<&'t str> {
    let mut chars = text.chars();
    run.iter()
        .all(|one| chars.next().is_some_and(|c| one.is(c)))
        .then_some(chars.as_str())
}

/// What follows the first place where a run fits.
fn find<'t>(run: &[One], mut text: &'t str) -> Option<&'t str> {
    loop {
        if let Some(rest) = strip(run, text) {
            return Some(rest);
        }
        let mut chars = text.chars();
        chars.next()?;
        text = chars.as_str();
    }
}

struct Parts {
    glob: Glob,
    left: usize,
}

impl Parts {
    fn add(&mut self, hir: &Hir) -> Option<()> {
        match hir.kind() {
            HirKind::Empty => Some(()),
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0).ok()?;
                text.chars()
                    .try_for_each(|c| self.one(One::Of(vec![(c, c)])))
            }
            HirKind::Class(Class::Unicode(class)) => {
                let ranges = class.ranges();
                let is_any = *hir == Hir::dot(regex_syntax::hir::Dot::AnyChar);
                if !is_any && ranges.len() > RANGES_MAX {
                    return None;
                }
                let ranges = ranges.iter().map(|r| (r.start(), r.end()));
                self.one(if is_any {
                    One::Any
                } else {
                    One::Of(ranges.collect())
                })
            }
            HirKind::Capture(capture) => self.add(&capture.sub),
            HirKind::Concat(parts) => parts.iter().try_for_each(|part| self.add(part)),
            HirKind::Repetition(repetition) => {
                let is_gap = repetition.max.is_none();
                if !is_gap && repetition.max != Some(repetition.min) {
                    return None;
                }
                let is_any = *repetition.sub == Hir::dot(regex_syntax::hir::Dot::AnyChar);
                if is_gap && !is_any {
                    return None;
                }
                for _ in 0..repetition.min {
                    self.add(&repetition.sub)?;
                }
                if is_gap { self.gap() } else { Some(()) }
            }
            _ => None,
        }
    }

    fn room(&mut self) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        Some(())
    }

    fn one(&mut self, one: One) -> Option<()> {
        self.room()?;
        let Glob { head, rest } = &mut self.glob;
        rest.last_mut().unwrap_or(head).push(one);
        Some(())
    }

    fn gap(&mut self) -> Option<()> {
        self.room()?;
        self.glob.rest.push(Vec::new());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{MatchOp, Matcher, pattern};

    fn glob(pattern: &str) -> Option<Glob> {
        let mut parser = regex_syntax::ParserBuilder::new();
        let hir = parser.dot_matches_new_line(true).build().parse(pattern);
        Glob::of(&hir.unwrap())
    }

    #[test]
    fn usual_expressions_need_no_engine() {
        for pattern in [
            "5..",
            "svc-0[0-3].*-2",
            ".*a.*",
            "a.+",
            "(a).*(b)",
            "[a-z]{2}.*",
            "",
        ] {
            assert!(glob(pattern).is_some(), "{pattern}");
        }
        for pattern in ["a|bc", "a*", "a?", "^a", "\\bx", "[a-z]+", ".{100}"] {
            assert!(glob(pattern).is_none(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn globs_agree_with_the_engine(
            parts in proptest::collection::vec(proptest::sample::select(&[
                "a", "b", "ab", "[ab]", "é", ".", ".*", ".+", ".{2}", "[^b]", "(a.*b)", "(?i:b)",
            ][..]), 0..7),
            texts in proptest::collection::vec("[abBé\n]{0,8}", 12),
        ) {
            let pattern = parts.concat();
            let engine = pattern::anchored(&pattern).unwrap();
            let matcher = Matcher::new(MatchOp::Regex, "x", pattern.as_str()).unwrap();
            let glob = glob(&pattern);
            for text in texts {
                let is_match = engine.is_match(&text);
                prop_assert_eq!(is_match, matcher.matches(&text), "{} on {:?}", pattern, text);
                if let Some(glob) = &glob {
                    prop_assert_eq!(is_match, glob.matches(&text), "{} on {:?}", pattern, text);
                }
            }
        }
    }
}
