//! Label matchers: `=`, `!=`, `=~`, `!~`, with regular expressions anchored at both ends.
//!
//! A missing label counts as an empty value. Expressions that are a literal, a list of
//! literals or a prefix never run the regex engine.

use std::fmt;

use regex::Regex;
use regex_syntax::hir::{Hir, HirKind};

use crate::glob::Glob;
use crate::{Labels, pattern};

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl fmt::Display for MatchOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        })
    }
}

/// A matcher's regular expression does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression {pattern:?}: {reason}")]
pub struct MatcherError {
    /// The expression as given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A condition on one label.
#[derive(Debug, Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Literals(Vec<String>),
    Prefix(String),
    Anything,
    Something,
    Glob(Glob),
    Regex(Regex),
}

/// More alternatives than this are left to the regex engine.
const LITERALS_MAX: usize = 1024;

impl Matcher {
    /// Makes a matcher; fails when the expression of `=~` or `!~` does not compile.
    pub fn new(
        op: MatchOp,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let test = match op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Literals(vec![value.clone()]),
            MatchOp::Regex | MatchOp::NotRegex => compile(&value)?,
        };
        Ok(Self {
            name,
            op,
            value,
            test,
        })
    }

    /// The matcher `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        let value = value.into();
        let test = Test::Literals(vec![value.clone()]);
        Self {
            name: name.into(),
            op: MatchOp::Equal,
            value,
            test,
        }
    }

    /// The label's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or expression as given.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a value matches; a missing label is the empty value.
    pub fn matches(&self, value: &str) -> bool {
        let positive = match &self.test {
            Test::Literals(set) => set.iter().any(|s| s == value),
            Test::Prefix(prefix) => value.starts_with(prefix.as_str()),
            Test::Anything => true,
            Test::Something => !value.is_empty(),
            Test::Glob(glob) => glob.matches(value),
            Test::Regex(regex) => regex.is_match(value),
        };
        positive == matches!(self.op, MatchOp::Equal | MatchOp::Regex)
    }

    /// Whether a label set matches.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }

    /// Whether a series without the label matches.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// For `=` and `=~`: the values that match, when they are a short list of literals.
    pub fn literals(&self) -> Option<&[String]> {
        match (&self.test, self.op) {
            (Test::Literals(set), MatchOp::Equal | MatchOp::Regex) => Some(set),
            _ => None,
        }
    }

    /// For `=~`: the prefix that all matching values have, when that is all that is asked.
    pub fn prefix(&self) -> Option<&str> {
        match (&self.test, self.op) {
            (Test::Prefix(prefix), MatchOp::Regex) => Some(prefix),
            _ => None,
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op && self.name == other.name && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op, self.value)
    }
}

/// Whether all matchers match a label set.
pub fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches_labels(labels))
}

/// Whether any of the selectors matches a label set; no selector means yes.
pub fn any_match(selectors: &[Vec<Matcher>], labels: &Labels) -> bool {
    selectors.is_empty() || selectors.iter().any(|s| all_match(s, labels))
}

fn compile(value: &str) -> Result<Test, MatcherError> {
    match value {
        ".*" => return Ok(Test::Anything),
        ".+" => return Ok(Test::Something),
        _ => {}
    }
    let failed = |error: &dyn fmt::Display| MatcherError {
        pattern: value.to_owned(),
        // The text shows the rewritten pattern over several lines; its last line says why.
        reason: error
            .to_string()
            .lines()
            .last()
            .unwrap_or_default()
            .trim()
            .to_owned(),
    };
    let pattern = pattern::translate(value).map_err(|e| failed(&e))?;
    let hir = regex_syntax::ParserBuilder::new()
        .dot_matches_new_line(true)
        .nest_limit(pattern::NEST_MAX)
        .build()
        .parse(&pattern)
        .map_err(|e| failed(&e))?;
    if let Some(test) = without_engine(&hir) {
        return Ok(test);
    }
    let regex = pattern::anchored(value).map_err(|e| failed(&e))?;
    Ok(Test::Regex(regex))
}

/// A test that needs no regex engine, if there is one.
fn without_engine(hir: &Hir) -> Option<Test> {
    if let Some(set) = literals(hir, LITERALS_MAX) {
        return Some(Test::Literals(set));
    }
    if let HirKind::Concat(parts) = hir.kind()
        && let [head, tail] = parts.as_slice()
        && let HirKind::Literal(literal) = head.kind()
        && is_anything(tail)
        && let Ok(prefix) = std::str::from_utf8(&literal.0)
    {
        return Some(Test::Prefix(prefix.to_owned()));
    }
    Glob::of(hir).map(Test::Glob)
}

fn is_anything(hir: &Hir) -> bool {
    let any = Hir::repetition(regex_syntax::hir::Repetition {
        min: 0,
        max: None,
        greedy: true,
        sub: Box::new(Hir::dot(regex_syntax::hir::Dot::AnyChar)),
    });
    *hir == any
}

/// The strings that an expression stands for, when they are few.
fn literals(hir: &Hir, max: usize) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![String::from_utf8(literal.0.to_vec()).ok()?]),
        HirKind::Capture(capture) => literals(&capture.sub, max),
        HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
            let mut set = Vec::new();
            for range in class.ranges() {
                if set.len() + (range.end() as usize - range.start() as usize) >= max {
                    return None;
                }
                set.extend((range.start()..=range.end()).map(String::from));
            }
            Some(set)
        }
        HirKind::Alternation(parts) => {
            let mut set = Vec::new();
            for part in parts {
                set.extend(literals(part, max - set.len())?);
                if set.len() >= max {
                    return None;
                }
            }
            Some(set)
        }
        HirKind::Concat(parts) => {
            let mut set = vec![String::new()];
            for part in parts {
                let tails = literals(part, max)?;
                if set.len() * tails.len() > max {
                    return None;
                }
                set = set
                    .iter()
                    .flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}")))
                    .collect();
            }
            Some(set)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn regex(value: &str) -> Matcher {
        Matcher::new(MatchOp::Regex, "a", value).unwrap()
    }

    #[test]
    fn a_missing_label_is_the_empty_value() {
        let labels = Labels::from_pairs([("b", "1")]).unwrap();
        assert!(Matcher::equal("a", "").matches_labels(&labels));
        assert!(
            Matcher::new(MatchOp::NotEqual, "a", "x")
                .unwrap()
                .matches_labels(&labels)
        );
        assert!(!regex(".+").matches_labels(&labels));
        assert!(regex(".*").matches_labels(&labels));
        assert!(
            Matcher::new(MatchOp::NotRegex, "a", ".+")
                .unwrap()
                .matches_labels(&labels)
        );
    }

    #[test]
    fn lists_and_prefixes_are_seen() {
        assert_eq!(
            regex("a|bc|d[ef]").literals().unwrap(),
            ["a", "bc", "de", "df"]
        );
        assert_eq!(regex("svc-.*").prefix(), Some("svc-"));
        assert_eq!(regex("svc-.+").prefix(), None);
        assert!(regex("(?i)ab").matches("AB"));
        assert!(regex("a\\.b").matches("a.b") && !regex("a\\.b").matches("axb"));
    }

    #[test]
    fn a_bad_expression_is_named() {
        let error = Matcher::new(MatchOp::Regex, "a", "x(").unwrap_err();
        assert!(error.to_string().contains("x("), "{error}");
        // It is not made whole by what stands around it for the engine.
        assert!(Matcher::new(MatchOp::Regex, "a", "x)(y").is_err());
    }

    proptest! {
        #[test]
        fn short_cuts_agree_with_the_engine(
            pattern in "(a|b|ab|\\[ab\\]|\\\\\\.|x\\.\\*|\\|){0,4}",
            values in proptest::collection::vec("[abx.|\n]{0,5}", 8),
        ) {
            let engine = pattern::anchored(&pattern).unwrap();
            let matcher = regex(&pattern);
            for value in values {
                prop_assert_eq!(engine.is_match(&value), matcher.matches(&value), "{} on {:?}", pattern, value);
            }
        }
    }
}
