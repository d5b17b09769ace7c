//! Prometheus' own scripts, through memory and the store.
//!
//! They are data beside the project; a checkout without them skips these tests and says so.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

#[path = "it/altered.rs"]
mod altered;
#[path = "it/deviations.rs"]
mod deviations;
#[path = "it/oracle.rs"]
mod oracle;
#[path = "it/runner.rs"]
mod runner;
#[path = "it/tiers.rs"]
mod tiers;

use std::path::PathBuf;

use kittiwake_promqltest::{Outcome, backings, run, scripts};

/// The scripts with their texts; `None` when there are none beside the checkout.
fn conformance() -> Option<Vec<(PathBuf, String)>> {
    let dir = kittiwake_conformance::conformance("promql")?;
    let files = scripts(&dir).unwrap();
    assert!(!files.is_empty(), "no scripts in {}", dir.display());
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).unwrap();
        (file, text)
    };
    Some(files.into_iter().map(read).collect())
}

#[test]
fn every_script_passes() {
    let Some(scripts) = conformance() else { return };
    for mut backing in backings().unwrap() {
        let mut total = Outcome::default();
        for (file, text) in &scripts {
            total.merge(run(file, text, backing.as_mut()));
        }
        let name = backing.name();
        for failure in &total.failures {
            eprintln!("{failure} (in {name})");
        }
        assert!(
            total.failures.is_empty(),
            "{name}: {} failed",
            total.failures.len()
        );
        assert!(total.passed > 0);
    }
}
