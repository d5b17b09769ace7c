//! `cargo xtask promqltest PATH...`: scripts of Prometheus' PromQL test language, through every
//! backing that keeps samples.

use std::path::Path;

use anyhow::{Context, Result, bail};
use kittiwake_promqltest::{Outcome, backings, run, scripts};

/// Runs scripts and reports each failure with its line; `false` when there was one.
pub fn promqltest(paths: &[String]) -> Result<bool> {
    if paths.is_empty() {
        bail!("no script given: cargo xtask promqltest PATH...");
    }
    let mut backings = backings().map_err(anyhow::Error::msg)?;
    let mut total = Outcome::default();
    for path in paths {
        let files = scripts(Path::new(path)).with_context(|| format!("cannot read {path}"))?;
        if files.is_empty() {
            bail!("{path} has no scripts (*.test)");
        }
        for file in files {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            for backing in &mut backings {
                let outcome = run(&file, &text, backing.as_mut());
                for failure in &outcome.failures {
                    println!("{failure} (in {})", backing.name());
                }
                total.merge(outcome);
            }
        }
    }
    let (passed, failed) = (total.passed, total.failures.len());
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}
