//! PromQL: parsed with places, evaluated over the metrics port.
//!
//! A query is evaluated for all its steps at once: each selector reads its series once, in
//! one pass over their columns, and what stands above it works series by series. Where an
//! aggregation can fold each series as it is read, no vector is kept in between.

mod annotations;
pub mod ast;
mod dates;
mod error;
mod eval;
mod functions;
pub mod notation;
mod parser;
mod printer;
pub mod text;

use std::sync::Arc;

use kittiwake_model::{FloatHistogram, Labels, MetricsStore, QueryContext, threads_per_query};

pub use annotations::Annotations;
pub use ast::{Expr, ValueType};
pub use error::{EvalError, ParseError};
pub use eval::Stats;
pub use functions::{FUNCTIONS, Function};
pub use parser::{DEPTH_MAX, parse, parse_selector};

/// How a query is evaluated.
#[derive(Debug, Clone)]
pub struct Options {
    /// How old a sample may be that still counts, in ms.
    pub lookback_ms: i64,
    /// The step of a subquery that names none, in ms.
    pub subquery_step_ms: i64,
    /// Whether the name of a metric goes only at the end of a query, so that what is in between
    /// can still match on it. Prometheus' feature `promql-delayed-name-removal`.
    pub delays_name_removal: bool,
    /// Whether the label `__type__` says what is a counter. Prometheus' feature
    /// `type-and-unit-labels`.
    pub has_type_labels: bool,
    /// Threads that one query may use.
    pub threads_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lookback_ms: 300_000,
            subquery_step_ms: 60_000,
            delays_name_removal: false,
            has_type_labels: false,
            threads_max: threads_per_query(),
        }
    }
}

/// A value of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum Point {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// One series of a result over time. Times are in ms.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSeries {
    /// The series.
    pub labels: Labels,
    /// Its numbers.
    pub floats: Vec<(i64, f64)>,
    /// Its native histograms.
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
}

/// What a query gives. Times are in ms.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number, at a time.
    Scalar(i64, f64),
    /// A text, at a time.
    String(i64, String),
    /// One value per series.
    Vector(Vec<(Labels, i64, Point)>),
    /// Values over time per series, in order of their labels.
    Matrix(Vec<MatrixSeries>),
}

/// A value and what is to be said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What the query gives.
    pub value: Value,
    /// Warnings and infos.
    pub annotations: Annotations,
    /// What the evaluation took.
    pub stats: Stats,
}

/// Evaluates at one time.
pub fn instant(
    expr: &Expr,
    store: &dyn MetricsStore,
    time_ms: i64,
    options: &Options,
    context: &QueryContext,
) -> Result<Answer, EvalError> {
    eval::instant(expr, store, time_ms, options, context)
}

/// Fails for ranges and texts, which cannot be asked over steps; [`range`] fails likewise.
pub fn check_range_query(expr: &Expr) -> Result<(), EvalError> {
    eval::check_range_query(expr)
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
) -> Result<Answer, EvalError> {
    eval::range(expr, store, (start_ms, end_ms, step_ms), options, context)
}
