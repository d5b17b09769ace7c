//! PromQL: parsed with places, evaluated over the metrics port.
//!
//! A query is evaluated for all its steps at once: each selector reads its series once, in
//! one pass over their columns, and what stands above it works series by series.

mod ast;
mod dates;
mod error;
mod eval;
mod functions;
mod over_time;
mod parser;
mod select;

use kittiwake_model::{Labels, MetricsStore, QueryContext};

pub use ast::{Expr, ValueType};
pub use error::{EvalError, ParseError};
pub use parser::{parse, parse_selector};

/// How a query is evaluated.
#[derive(Debug, Clone)]
pub struct Options {
    /// How old a sample may be that still counts, in ms.
    pub lookback_ms: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lookback_ms: 300_000,
        }
    }
}

/// What a query gives. Times are in ms.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number, at a time.
    Scalar(i64, f64),
    /// A text, at a time.
    String(i64, String),
    /// One value per series.
    Vector(Vec<(Labels, i64, f64)>),
    /// Values over time per series.
    Matrix(Vec<(Labels, Vec<(i64, f64)>)>),
}

/// Evaluates at one time.
pub fn instant(
    expr: &Expr,
    store: &dyn MetricsStore,
    time_ms: i64,
    options: &Options,
    context: &QueryContext,
) -> Result<Value, EvalError> {
    eval::instant(expr, store, time_ms, options, context)
}

/// Evaluates at `start`, `start + step`, ... up to `end`. Series come in order of their
/// labels.
pub fn range(
    expr: &Expr,
    store: &dyn MetricsStore,
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
    options: &Options,
    context: &QueryContext,
) -> Result<Value, EvalError> {
    eval::range(expr, store, (start_ms, end_ms, step_ms), options, context)
}
