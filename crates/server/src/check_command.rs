//! `kittiwake check`: files are checked before a server reads them. What is said, where, and with
//! which exit code is as promtool has it, for scripts that look at that.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args as ClapArgs, Subcommand};
use kittiwake_config::NameScheme;
use kittiwake_rules::file::{Check, duplicates};
use kittiwake_rules::{FileError, GroupSpec, RuleFile};

use crate::rules::RuleEngine;
use crate::{check_alerts, check_config};

/// What to check.
#[derive(Debug, Clone, Subcommand)]
pub enum CheckCommand {
    /// Check rule files, or standard input
    Rules {
        /// The files
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// What is looked for beyond mistakes
        #[command(flatten)]
        lint: Lint,
    },
    /// Check configuration files and what they name: rule files, files with targets, credentials
    Config {
        /// The files
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Look at the files alone, not at what they name
        #[arg(long)]
        syntax_only: bool,
        /// Check as for Prometheus in agent mode
        #[arg(long)]
        agent: bool,
        /// Scrape intervals from here on are too long for --lint=too-long-scrape-interval
        #[arg(
            long = "query.lookback-delta",
            value_name = "DURATION",
            default_value = "5m"
        )]
        lookback: String,
        /// What is looked for beyond mistakes
        #[command(flatten)]
        lint: Lint,
    },
    /// Check Alertmanager's configuration files
    Alerts {
        /// The files
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

/// What is looked for beyond mistakes.
#[derive(Debug, Clone, ClapArgs)]
pub struct Lint {
    /// Which: all, duplicate-rules, too-long-scrape-interval (of configurations), none
    #[arg(long = "lint", value_name = "LIST", default_value = "duplicate-rules")]
    pub options: String,
    /// End with exit code 3 where something is found
    #[arg(long = "lint-fatal")]
    pub is_fatal: bool,
    /// Pass over fields of rule files that are not known
    #[arg(long)]
    pub ignore_unknown_fields: bool,
}

impl Lint {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.options.split(',')
    }

    fn is_off(&self) -> bool {
        self.names().any(|name| name == "none")
    }

    fn wants_duplicates(&self) -> bool {
        !self.is_off()
            && self
                .names()
                .any(|name| matches!(name, "all" | "duplicate-rules"))
    }

    pub(crate) fn wants_intervals(&self) -> bool {
        !self.is_off()
            && self
                .names()
                .any(|name| matches!(name, "all" | "too-long-scrape-interval"))
    }

    fn warn_of_unknown(&self, knows_intervals: bool) {
        for name in self.names() {
            let is_known = matches!(name, "" | "all" | "duplicate-rules" | "none")
                || (knows_intervals && name == "too-long-scrape-interval");
            if !is_known {
                println!("WARNING: unknown lint option: {name:?}");
            }
        }
    }
}

/// How checks went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// There are mistakes.
    pub(crate) has_errors: bool,
    /// Something was found that is no mistake.
    pub(crate) has_findings: bool,
}

impl Outcome {
    fn merge(&mut self, other: Self) {
        self.has_errors |= other.has_errors;
        self.has_findings |= other.has_findings;
    }

    fn exit_code(self, is_fatal: bool) -> u8 {
        match self {
            Self {
                has_errors: true, ..
            } => 1,
            Self {
                has_findings: true, ..
            } if is_fatal => 3,
            _ => 0,
        }
    }
}

/// Checks; gives the exit code.
pub fn run(command: &CheckCommand) -> Result<u8> {
    let mut all = Outcome::default();
    match command {
        CheckCommand::Alerts { files } => check_alerts::run(files),
        CheckCommand::Rules { files, lint } => {
            lint.warn_of_unknown(false);
            if files.is_empty() {
                all.merge(check_input(lint)?);
            }
            for file in files {
                all.merge(check_rules(file, lint, NameScheme::Utf8));
            }
            Ok(all.exit_code(lint.is_fatal))
        }
        CheckCommand::Config {
            files,
            syntax_only,
            agent,
            lookback,
            lint,
        } => {
            lint.warn_of_unknown(true);
            let lookback =
                kittiwake_config::parse_duration(lookback).context("--query.lookback-delta")?;
            for file in files {
                let found = check_config::check(file, *agent, *syntax_only);
                if let Ok(found) = &found
                    && !*syntax_only
                    && lint.wants_intervals()
                    && let Some(job) = found.too_long(lookback)
                {
                    let interval = kittiwake_config::format_duration(job.scrape_interval);
                    eprintln!(
                        "  FAILED: too long scrape interval found, data point will be marked as stale - job: {}, interval: {interval}",
                        job.job_name
                    );
                    all.has_findings = true;
                }
                match found {
                    Ok(found) => {
                        for rules in &found.rule_files {
                            all.merge(check_rules(rules, lint, NameScheme::Utf8));
                        }
                    }
                    Err(()) => all.has_errors = true,
                }
            }
            Ok(all.exit_code(lint.is_fatal))
        }
    }
}

fn check_input(lint: &Lint) -> Result<Outcome> {
    println!("Checking standard input");
    let mut text = String::new();
    std::io::stdin()
        .take(kittiwake_config::FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .context("standard input")?;
    let loaded = with_check(lint, NameScheme::Utf8, |check| {
        check.parse(&text, Path::new(""))
    });
    Ok(told(loaded, lint))
}

pub(crate) fn check_rules(file: &Path, lint: &Lint, names: NameScheme) -> Outcome {
    println!("Checking {}", file.display());
    told(with_check(lint, names, |check| check.load(file)), lint)
}

fn with_check(
    lint: &Lint,
    names: NameScheme,
    load: impl FnOnce(&Check<'_>) -> Result<RuleFile, Vec<FileError>>,
) -> Result<RuleFile, Vec<FileError>> {
    let engine = RuleEngine::for_checks();
    load(&Check {
        engine: &engine,
        names,
        ignores_unknown_fields: lint.ignore_unknown_fields,
    })
}

fn told(loaded: Result<RuleFile, Vec<FileError>>, lint: &Lint) -> Outcome {
    let mut outcome = Outcome::default();
    match loaded {
        Err(errors) => {
            eprintln!("  FAILED:");
            for error in errors {
                eprintln!("{error}");
            }
            outcome.has_errors = true;
        }
        Ok(file) => {
            if file.has_more_documents {
                eprintln!("  WARNING: only the first document of a rule file is read");
            }
            let found = duplicates_text(&file.groups).filter(|_| lint.wants_duplicates());
            if let Some(text) = found {
                eprintln!("  FAILED:\n{text}");
                outcome.has_findings = true;
            } else {
                let count: usize = file.groups.iter().map(|group| group.rules.len()).sum();
                println!("  SUCCESS: {count} rules found");
            }
            println!();
        }
    }
    outcome
}

fn duplicates_text(groups: &[GroupSpec]) -> Option<String> {
    let found = duplicates(groups);
    if found.is_empty() {
        return None;
    }
    let mut text = format!("lint error {} duplicate rule(s) found.\n", found.len());
    for one in found {
        // Writing to a text cannot fail.
        let _ = write!(text, "Metric: {}\nLabel(s):\n", one.name);
        for (name, value) in &one.labels {
            let _ = writeln!(text, "\t{name}: {value}");
        }
    }
    text.push_str("Might cause inconsistency while recording expressions");
    Some(text)
}
