//! LogQL and the search language, evaluated over the logs port.

mod ast;
mod error;
mod fields;
pub mod level;
mod lexer;
mod lines;
mod metric;
mod over_time;
mod parser;
pub mod patterns;
mod pipeline;
mod print;
pub mod search;
mod units;

pub use ast::{
    Conversion, Expr, Extraction, LabelFilter, LabelFormat, LogExpr, MetricExpr, NamedMatcher,
    RangeExpr, RangeOp, Stage, TextFilter, TextOp, Unwrap, VectorOp, Wanted,
};
pub use error::{EvalError, ParseError};
pub use fields::{Field, FieldFinder};
pub use lines::{Line, LineQuery, StreamLines, Window, group};
pub use metric::{SERIES_MAX, Value, instant, range};
pub use parser::{parse, parse_selector};
pub use pipeline::Pipeline;
pub use print::pretty;
