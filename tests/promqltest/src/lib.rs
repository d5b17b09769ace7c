//! Runs scripts in the language of Prometheus' PromQL tests: `load` series, `eval` queries,
//! `expect` results.
//!
//! A script runs through a [`Backing`], which keeps what is loaded and gives it to the engine as
//! a store: the same scripts so hold for memory and for everything that stores samples. A
//! directive that is not known fails the script.
//!
//! As in Prometheus, an instant query is also asked as a range query around its time, and, where
//! that cannot change the result, with `@` at other times.

mod backing;
mod classic;
mod compare;
mod expected;
mod fixed;
mod number;
mod query;
mod script;
mod stored;

use std::path::{Path, PathBuf};

pub use backing::{Backing, Memory, Sample, SampleValue};
pub use stored::{Place, Stored};

/// Every backing there is: memory, and the store with its samples at each place.
pub fn backings() -> Result<Vec<Box<dyn Backing>>, String> {
    let mut all: Vec<Box<dyn Backing>> = vec![Box::new(Memory::default())];
    for place in [Place::Head, Place::Block, Place::Restarted] {
        all.push(Box::new(Stored::new(place)?));
    }
    Ok(all)
}

/// What did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The script's file, as it was given.
    pub file: PathBuf,
    /// The line of the command, from 1.
    pub line: usize,
    /// What went otherwise.
    pub why: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.why)
    }
}

/// How a script went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Queries that gave what was expected.
    pub passed: usize,
    /// All that did not.
    pub failures: Vec<Failure>,
}

impl Outcome {
    /// Adds another script's.
    pub fn merge(&mut self, other: Self) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
    }
}

/// The scripts of a file or, in order of their names, of a folder.
pub fn scripts(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "test") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The queries of a script, with their lines.
pub fn queries(text: &str) -> Vec<(usize, String)> {
    let commands = script::parse(text).into_iter();
    let queries = commands.filter_map(|(line, command)| match command {
        Ok(script::Command::Eval(eval)) => Some((line, eval.query)),
        _ => None,
    });
    queries.collect()
}

/// Runs the text of a script; `file` is what failures name.
pub fn run(file: &Path, text: &str, backing: &mut dyn Backing) -> Outcome {
    query::run(file, text, backing)
}
