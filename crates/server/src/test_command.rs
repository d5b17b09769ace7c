//! `kittiwake test rules`: the unit tests of rules that promtool runs, in its files' format, with
//! its output and exit codes.

mod file;
mod group;
mod junit;
mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
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
    /// Write what came of each test into a file, as JUnit does
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
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
    let mut suites = Vec::new();
    for file in &test.files {
        println!("Processing test file: {}", file.display());
        let suite = run_file(file, test, wanted.as_ref());
        if suite.has_failed() {
            eprintln!("  FAILED:");
            for error in suite.errors() {
                eprintln!("{error}");
                println!();
            }
        } else {
            println!("  SUCCESS");
        }
        println!();
        suites.push(suite);
    }
    if let Some(file) = &test.junit {
        let text = junit::text(&suites);
        std::fs::write(file, text).with_context(|| format!("--junit {}", file.display()))?;
    }
    Ok(u8::from(suites.iter().any(Suite::has_failed)))
}

/// What came of a file.
struct Suite {
    file: String,
    /// Why it could not be run.
    aborted: Option<String>,
    /// Each test with what went otherwise.
    cases: Vec<(String, Vec<String>)>,
}

impl Suite {
    fn errors(&self) -> impl Iterator<Item = &String> {
        let failures = self.cases.iter().flat_map(|(_, errors)| errors);
        self.aborted.iter().chain(failures)
    }

    fn has_failed(&self) -> bool {
        self.errors().next().is_some()
    }
}

fn run_file(file: &Path, test: &RulesTest, wanted: Option<&Regex>) -> Suite {
    let mut suite = Suite {
        file: file.display().to_string(),
        aborted: None,
        cases: Vec::new(),
    };
    let tests = match TestFile::load(file) {
        Ok(tests) => tests,
        Err(error) => {
            suite.aborted = Some(error);
            return suite;
        }
    };
    for (index, group) in tests.groups.iter().enumerate() {
        if wanted.is_some_and(|wanted| !wanted.is_match(&group.name)) {
            continue;
        }
        let name = match group.name.as_str() {
            "" => format!("unnamed#{index}"),
            name => name.to_owned(),
        };
        suite.cases.push((name, group::run(group, &tests, test)));
    }
    suite
}
