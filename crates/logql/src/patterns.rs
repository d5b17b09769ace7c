//! Lines of the same shape: words that differ between them become `<_>`, as in the filter `|>`.
//!
//! A line is words and what stands between them. Lines whose separators are equal and of whose
//! words most are equal have one pattern. A word with a digit in it is always a variable.

use std::collections::{BTreeMap, HashMap};

/// Patterns that are told apart at most; lines of further ones are left out.
const PATTERNS_MAX: usize = 300;
/// Bytes of a line that count.
const LINE_BYTES_MAX: usize = 3_000;
/// How many of ten words of a line must be those of a pattern.
const ALIKE_OF_TEN: usize = 6;
/// What stands for a variable.
const VARIABLE: &str = "<_>";

/// A pattern with its lines over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The text with `<_>` for what differs.
    pub text: String,
    /// The level of its lines.
    pub level: String,
    /// Lines by the start of their bucket, in ns.
    pub counts: BTreeMap<i64, u64>,
}

/// Finds patterns in lines, one after the other.
#[derive(Debug)]
pub struct PatternFinder {
    step_ns: i64,
    /// By level and separators.
    shapes: HashMap<(String, Vec<String>), Vec<Shape>>,
    count: usize,
}

#[derive(Debug)]
struct Shape {
    /// The words; nothing for a variable.
    words: Vec<Option<String>>,
    counts: BTreeMap<i64, u64>,
}

impl PatternFinder {
    /// Counts in buckets of so many ns.
    pub fn new(step_ns: i64) -> Self {
        Self {
            step_ns: step_ns.max(1),
            shapes: HashMap::new(),
            count: 0,
        }
    }

    /// Looks at a line.
    pub fn add(&mut self, time_ns: i64, level: &str, line: &str) {
        let (words, separators) = split(cut(line));
        if words.is_empty() {
            return;
        }
        let key = (level.to_owned(), separators);
        if self.count == PATTERNS_MAX && !self.shapes.contains_key(&key) {
            return;
        }
        let shapes = self.shapes.entry(key).or_default();
        let alike = shapes.iter_mut().find(|shape| shape.is_alike(&words));
        let shape = match alike {
            Some(shape) => shape,
            None if self.count == PATTERNS_MAX => return,
            None => {
                self.count += 1;
                shapes.push(Shape {
                    words: words.iter().map(|word| constant(word)).collect(),
                    counts: BTreeMap::new(),
                });
                let newest = shapes.len() - 1;
                &mut shapes[newest]
            }
        };
        shape.widen(&words);
        let bucket = time_ns - time_ns.rem_euclid(self.step_ns);
        *shape.counts.entry(bucket).or_default() += 1;
    }

    /// What was found, the most frequent first.
    pub fn patterns(self) -> Vec<Pattern> {
        // Shapes that became the same are one pattern.
        let mut found: BTreeMap<(String, String), BTreeMap<i64, u64>> = BTreeMap::new();
        for ((level, separators), shapes) in self.shapes {
            for shape in shapes {
                let text = shape.text(&separators);
                let counts = found.entry((text, level.clone())).or_default();
                for (bucket, count) in shape.counts {
                    *counts.entry(bucket).or_default() += count;
                }
            }
        }
        let patterns = found.into_iter().map(|((text, level), counts)| Pattern {
            text,
            level,
            counts,
        });
        let mut patterns: Vec<Pattern> = patterns.collect();
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.counts.values().sum::<u64>()));
        patterns
    }
}

impl Shape {
    fn is_alike(&self, words: &[&str]) -> bool {
        let equal = self
            .words
            .iter()
            .zip(words)
            .filter(|(own, word)| match own {
                Some(own) => own == *word,
                None => true,
            });
        equal.count() * 10 >= words.len() * ALIKE_OF_TEN
    }

    fn widen(&mut self, words: &[&str]) {
        for (own, word) in self.words.iter_mut().zip(words) {
            if own.as_deref().is_some_and(|own| own != *word) {
                *own = None;
            }
        }
    }

    fn text(&self, separators: &[String]) -> String {
        let mut text = String::new();
        for (index, separator) in separators.iter().enumerate() {
            text.push_str(separator);
            if let Some(word) = self.words.get(index) {
                text.push_str(word.as_deref().unwrap_or(VARIABLE));
            }
        }
        // A pattern has no variable beside another.
        while text.contains("<_><_>") {
            text = text.replace("<_><_>", VARIABLE);
        }
        text
    }
}

fn constant(word: &str) -> Option<String> {
    let has_digit = word.chars().any(|c| c.is_ascii_digit());
    (!has_digit).then(|| word.to_owned())
}

fn cut(line: &str) -> &str {
    let mut end = line.len().min(LINE_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

/// The words of a line, and what is before, between and behind them.
fn split(line: &str) -> (Vec<&str>, Vec<String>) {
    let is_word = |c: char| !c.is_whitespace() && !"=:,;\"'[](){}<>|&?".contains(c);
    let (mut words, mut separators) = (Vec::new(), Vec::new());
    let mut rest = line;
    loop {
        let start = rest.find(is_word).unwrap_or(rest.len());
        separators.push(rest[..start].to_owned());
        rest = &rest[start..];
        if rest.is_empty() {
            return (words, separators);
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        words.push(&rest[..end]);
        rest = &rest[end..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Expr, LineQuery, parse};
    use kittiwake_model::{Entry, Labels};

    fn found(lines: &[String]) -> Vec<Pattern> {
        let mut finder = PatternFinder::new(10);
        for (index, line) in lines.iter().enumerate() {
            finder.add(index as i64, "info", line);
        }
        finder.patterns()
    }

    #[test]
    fn what_differs_becomes_a_variable() {
        let mut lines: Vec<String> = (0..20)
            .map(|i| {
                format!(
                    "level=info msg=\"took {i} ms\" path=/a/{i} user={}",
                    ["bob", "al"][i % 2]
                )
            })
            .collect();
        lines.push("something else".to_owned());
        let patterns = found(&lines);
        assert_eq!(patterns.len(), 2, "{patterns:?}");
        assert_eq!(
            patterns[0].text,
            "level=info msg=\"took <_> ms\" path=<_> user=<_>"
        );
        assert_eq!(patterns[0].counts, BTreeMap::from([(0, 10), (10, 10)]));
        assert_eq!(patterns[1].text, "something else");
    }

    #[test]
    fn many_shapes_are_bounded() {
        let lines: Vec<String> = (0..2_000).map(|i| "x ".repeat(i % 700 + 1)).collect();
        assert!(found(&lines).len() <= PATTERNS_MAX);
    }

    proptest! {
        #[test]
        fn a_pattern_as_a_filter_finds_its_lines(lines in prop::collection::vec("[ab1=: ]{1,8}", 1..6)) {
            for pattern in found(&lines) {
                let query = format!("{{a=\"b\"}} |> {}", kittiwake_model::quote(&pattern.text));
                let Ok(Expr::Log(expr)) = parse(&query) else { continue };
                let query = LineQuery::new(&expr).unwrap();
                let shows = |line: &String| {
                    let entry = Entry { time_ns: 0, line: line.clone(), metadata: Labels::empty() };
                    query.show(&Labels::empty(), &entry).is_some()
                };
                prop_assert!(lines.iter().any(shows), "{pattern:?}");
            }
        }
    }
}
