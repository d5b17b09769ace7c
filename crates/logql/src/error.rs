//! What is wrong with a query, and why an evaluation ended.

use kittiwake_model::{Labels, StoreError};

/// A query that does not parse, worded as Loki words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1; 0 when it is the query as a whole that is wrong.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl std::error::Error for ParseError {}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 {
            return write!(f, "parse error : {}", self.message);
        }
        write!(
            f,
            "parse error at line {}, col {}: {}",
            self.line, self.column, self.message
        )
    }
}

impl ParseError {
    /// An error at a byte of the query.
    pub(crate) fn at(query: &str, byte: usize, message: impl Into<String>) -> Self {
        let before = query.get(..byte).unwrap_or(query);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }

    /// An error of the query as a whole.
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self {
            line: 0,
            column: 0,
            message: message.into(),
        }
    }
}

/// Why an evaluation ended without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The query asks for what cannot be.
    #[error("{0}")]
    Execution(String),
    /// A line could not be taken for a number, or not be parsed.
    #[error("{}", pipeline_text(.0))]
    Pipeline(Labels),
    /// More series than one answer may have.
    #[error(
        "maximum number of series ({0}) reached for a single query; consider reducing query cardinality by adding more specific stream selectors, reducing the time range, or aggregating results with functions like sum(), count() or topk()"
    )]
    SeriesLimit(usize),
    /// The store failed, a limit was reached, or the query was stopped.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What Loki tells of a line with an error, with the ways around it.
fn pipeline_text(labels: &Labels) -> String {
    let kind = labels.get(crate::pipeline::ERROR).unwrap_or("");
    format!(
        "pipeline error: '{kind}' for series: '{labels}'.\nUse a label filter to intentionally skip this error. (e.g | __error__!=\"{kind}\").\nTo skip all potential errors you can match empty errors.(e.g __error__=\"\")\nThe label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    )
}
