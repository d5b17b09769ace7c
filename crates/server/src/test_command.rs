//! `kittiwake test rules`: the unit tests of rules that promtool runs, in its files' format, with
//! its output and exit codes.

mod file;
mod group;
mod world;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use regex::Regex;

use crate::test_command::file::TestFile;

/// What to test.
#[derive(Debug, Clone, Subcommand)]
pub enum TestCommand {
    /// Run unit tests of rules
    Rules(RulesTest),
}

/// Which tests, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct RulesTest {
    /// The files with the tests
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Only tests whose names match this expression; may be given again
    #[arg(long = "run", value_name = "REGEX")]
    runs: Vec<String>,
    /// Show how what is got differs from what is expected
    #[arg(long)]
    diff: bool,
    /// Say what is done, and what all series hold at the end
    #[arg(long)]
    debug: bool,
    /// Pass over fields of rule files that are not known
    #[arg(long)]
    ignore_unknown_fields: bool,
    /// Features of Prometheus: promql-delayed-name-removal
    #[arg(long = "enable-feature", value_name = "LIST", value_delimiter = ',')]
    features: Vec<String>,
}

/// Tests; gives the exit code.
pub fn run(command: &TestCommand) -> Result<u8> {
    let TestCommand::Rules(test) = command;
    let wanted = match test.runs.as_slice() {
        [] => None,
        runs => Some(kittiwake_model::pattern::unanchored(&runs.join("|"))?),
    };
    let mut has_failed = false;
    for file in &test.files {
        println!("Processing test file: {}", file.display());
        match run_file(file, test, wanted.as_ref()) {
            Ok(()) => println!("  SUCCESS"),
            Err(errors) => {
                eprintln!("  FAILED:");
                for error in errors {
                    eprintln!("{error}");
                    println!();
                }
                has_failed = true;
            }
        }
        println!();
    }
    Ok(u8::from(has_failed))
}

fn run_file(file: &Path, test: &RulesTest, wanted: Option<&Regex>) -> Result<(), Vec<String>> {
    let tests = TestFile::load(file).map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    for group in &tests.groups {
        if wanted.is_some_and(|wanted| !wanted.is_match(&group.name)) {
            continue;
        }
        errors.extend(group::run(group, &tests, test));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}
