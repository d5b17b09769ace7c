//! How many queries gave what, and whether that is enough.

use std::collections::BTreeMap;

use crate::harness::Random;
use crate::tree::Node;

/// Differences that are told before a test gives up.
const DIFFERENCES_MAX: usize = 40;

/// How many queries `DIFF_QUERIES` asks for, else `count` of a fixed seed.
pub fn queries(count: usize, seed: u64) -> (usize, Random) {
    match std::env::var("DIFF_QUERIES") {
        Ok(text) => (text.parse().unwrap(), Random::new()),
        Err(_) => (count, Random::seeded(seed)),
    }
}

/// The smallest query that differs, and how.
pub fn shrink(
    node: &Node,
    why: String,
    differs: impl Fn(&Node) -> Result<(), String>,
) -> (Node, String) {
    let (mut node, mut why) = (node.clone(), why);
    'smaller: loop {
        for smaller in node.smaller() {
            if let Err(other) = differs(&smaller) {
                (node, why) = (smaller, other);
                continue 'smaller;
            }
        }
        return (node, why);
    }
}

/// What the queries of a run gave.
pub struct Tally<'w> {
    wanted: &'w [String],
    given: BTreeMap<&'w str, usize>,
    empty: BTreeMap<&'w str, usize>,
    errors: usize,
    differences: BTreeMap<String, String>,
}

impl<'w> Tally<'w> {
    pub fn new(wanted: &'w [String]) -> Self {
        Self {
            wanted,
            given: wanted.iter().map(|w| (w.as_str(), 0)).collect(),
            empty: BTreeMap::new(),
            errors: 0,
            differences: BTreeMap::new(),
        }
    }

    /// What was given least so far.
    #[allow(dead_code)]
    pub fn least(&self) -> &'w str {
        let least = self
            .wanted
            .iter()
            .min_by_key(|name| self.given[name.as_str()]);
        least.unwrap()
    }

    /// A feature gave an answer.
    pub fn gave(&mut self, name: &str) {
        if let Some(count) = self.given.get_mut(name) {
            *count += 1;
        }
    }

    /// All features of a query gave an answer.
    pub fn gave_all(&mut self, node: &Node) {
        for tag in node.all_tags() {
            self.gave(&tag);
        }
    }

    pub fn gave_nothing(&mut self, wanted: &'w str) {
        *self.empty.entry(wanted).or_default() += 1;
    }

    pub fn failed(&mut self) {
        self.errors += 1;
    }

    pub fn differs(&mut self, query: String, why: String) {
        self.differences.insert(query, why);
    }

    /// Whether there are more differences than anybody reads.
    pub fn is_hopeless(&self) -> bool {
        self.differences.len() >= DIFFERENCES_MAX
    }

    /// Prints the counts. Fails on a difference, on too many queries without an answer, and on
    /// a feature that gave less than `least` answers.
    pub fn verdict(&self, count: usize, least: usize) {
        let empty: usize = self.empty.values().sum();
        let errors = self.errors;
        eprintln!("{count} queries: {empty} empty, {errors} errors");
        for (name, times) in &self.given {
            let empty = self.empty.get(name).unwrap_or(&0);
            eprintln!("{name}: {times}, {empty} empty");
        }
        let differences = self.differences.len();
        assert!(differences == 0, "{differences} differ");
        assert!(
            (empty + errors) * 100 <= count * 15,
            "too many without an answer"
        );
        let given = self.given.iter();
        let rare: Vec<_> = given.filter(|(_, times)| **times < least).collect();
        assert!(rare.is_empty(), "given less than {least} times: {rare:?}");
    }
}
