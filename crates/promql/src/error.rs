//! What is wrong with a query, and why an evaluation ended.

use kittiwake_model::StoreError;

use crate::ast::Place;

/// A query that does not parse, worded as Prometheus words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: parse error: {message}", self.position())]
pub struct ParseError {
    /// The line, from 1; 0 when the query is empty.
    pub line: usize,
    /// The byte in the line, from 1.
    pub column: usize,
    /// Where in the query.
    pub place: Place,
    /// What is wrong there.
    pub message: String,
}

/// Line and byte in it, both from 1, of a byte of a text.
pub(crate) fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..byte.min(text.len())];
    let lines = before.split(|b| *b == b'\n');
    let last = lines.clone().next_back().map_or(0, <[u8]>::len);
    (lines.count(), last + 1)
}

impl ParseError {
    pub(crate) fn at(query: &str, place: Place, message: impl Into<String>) -> Self {
        let (line, column) = if query.is_empty() {
            (0, 0)
        } else {
            line_and_column(query, place.start)
        };
        Self {
            line,
            column,
            place,
            message: message.into(),
        }
    }

    fn position(&self) -> String {
        if self.line == 0 {
            "unknown position".to_owned()
        } else {
            format!("{}:{}", self.line, self.column)
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

impl EvalError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Execution(message.into())
    }
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
