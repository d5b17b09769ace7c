//! What is wrong with a query, and why an evaluation ended.

use kittiwake_model::StoreError;

/// A query that does not parse, worded as Prometheus words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: parse error: {message}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The byte in the line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl ParseError {
    pub(crate) fn at(query: &str, byte: usize, message: impl Into<String>) -> Self {
        let before = query.get(..byte).unwrap_or(query);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.len() - line_start + 1,
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
    /// The store failed, a limit was reached, or the query was stopped.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<kittiwake_vector::SameLabels> for EvalError {
    fn from(error: kittiwake_vector::SameLabels) -> Self {
        Self::Execution(error.to_string())
    }
}

impl From<kittiwake_vector::BinaryError> for EvalError {
    fn from(error: kittiwake_vector::BinaryError) -> Self {
        Self::Execution(error.to_string())
    }
}
