//! The same generated rules in Kittiwake and in Prometheus, over the same samples: as unit tests
//! of rules by both programs' tools, where time is told, and live, where both run for a while.
//!
//! `DIFF_RULES` says how many, `E2E_SEED` repeats a run.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

#[path = "rules/generate.rs"]
mod generate;
// What starts programs is that of the tests end to end; not all of it is used here.
#[allow(dead_code, unused_imports)]
#[path = "../../e2e/tests/it/harness/mod.rs"]
mod harness;
#[path = "rules/live.rs"]
mod live;
#[path = "rules/units.rs"]
mod units;

use std::collections::BTreeMap;

/// How often each feature took part.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<String, usize>);

impl Tally {
    /// All features of a rule took part.
    pub fn count(&mut self, features: &[&str]) {
        for feature in features {
            *self.0.entry((*feature).to_owned()).or_default() += 1;
        }
    }

    /// Prints the counts; fails where one of these is too small.
    ///
    /// # Panics
    /// Then.
    pub fn verdict(&self, wanted: &[&str], least: usize) {
        for (feature, times) in &self.0 {
            eprintln!("{feature}: {times}");
        }
        let of = |feature: &str| self.0.get(feature).copied().unwrap_or(0);
        let rare: Vec<_> = wanted.iter().filter(|f| of(f) < least).collect();
        assert!(
            rare.is_empty(),
            "took part less than {least} times: {rare:?}"
        );
    }
}

/// Rules, unless `DIFF_RULES` says otherwise.
///
/// # Panics
/// When that is no number.
pub fn rules(default: usize) -> usize {
    let given = std::env::var("DIFF_RULES");
    given.map_or(default, |text| text.parse().unwrap())
}
