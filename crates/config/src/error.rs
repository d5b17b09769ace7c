//! What is wrong with a configuration file: which file, which line, what, and what is allowed.

use std::io;
use std::path::{Path, PathBuf};

use kittiwake_model::LabelError;

use crate::duration::format_duration;
use crate::relabel::RelabelError;

/// Largest configuration or target file read, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {cause}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says. It stands in the message, so it is no source.
        cause: io::Error,
    },
    /// The file has more than [`FILE_BYTES_MAX`] bytes.
    #[error("{}: larger than {FILE_BYTES_MAX} bytes", .0.display())]
    TooLarge(PathBuf),
    /// Its content is refused.
    #[error("{}:{line}: {problem}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The line, from 1; 0 where no line can be named.
        line: u64,
        /// What is wrong.
        problem: Box<Problem>,
    },
}

/// What is wrong on a line.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Not YAML, an unknown field, or a value of another kind.
    #[error("{0}")]
    Yaml(String),
    /// A setting that cannot be as it is.
    #[error("{0}")]
    Setting(String),
    /// Two settings that exclude each other.
    #[error("{first} and {second} cannot both be set")]
    Both {
        /// The one.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A setting that must be there.
    #[error("{0} is missing or empty")]
    Missing(&'static str),
    /// A value outside what is allowed.
    #[error("{field}: {value:?} is not allowed; {allowed}")]
    Value {
        /// The setting.
        field: &'static str,
        /// As written.
        value: String,
        /// What would be.
        allowed: &'static str,
    },
    /// A scrape that may take longer than the time to the next.
    #[error(
        "scrape_timeout {} is longer than scrape_interval {}",
        format_duration(*timeout), format_duration(*interval)
    )]
    Timeout {
        /// The time-out.
        timeout: std::time::Duration,
        /// The interval.
        interval: std::time::Duration,
    },
    /// Two jobs of one name.
    #[error("job_name {name:?} is used twice; the first is in {first}")]
    DuplicateJob {
        /// The name.
        name: String,
        /// File and line of the first.
        first: String,
    },
    /// A rule cannot be used.
    #[error(transparent)]
    Relabel(#[from] RelabelError),
    /// Labels cannot be used.
    #[error(transparent)]
    Labels(#[from] LabelError),
}

/// A problem with its line, before the file is known.
#[derive(Debug)]
pub struct Located {
    /// The line, from 1; 0 where no line can be named.
    pub line: u64,
    /// What is wrong.
    pub problem: Problem,
}

impl Located {
    /// A problem on a line.
    pub fn new(line: u64, problem: impl Into<Problem>) -> Self {
        let problem = problem.into();
        Self { line, problem }
    }

    /// The error of a file.
    pub fn in_file(self, file: &Path) -> ConfigError {
        ConfigError::Invalid {
            file: file.to_owned(),
            line: self.line,
            problem: Box::new(self.problem),
        }
    }
}

impl From<serde_saphyr::Error> for Located {
    fn from(error: serde_saphyr::Error) -> Self {
        let line = error.location().map_or(0, |l| l.line());
        // The plain text: the line goes in front of it, an excerpt would not fit a log line.
        let text = error.without_snippet().to_string();
        Self::new(line, Problem::Yaml(text))
    }
}

/// Reads a whole file of bounded size.
pub fn read_file(file: &Path) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let failed = |cause| ConfigError::Read {
        file: file.to_owned(),
        cause,
    };
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|f| f.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge(file.to_owned()));
    }
    Ok(text)
}
