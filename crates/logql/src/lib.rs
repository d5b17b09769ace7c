//! LogQL and the search language, evaluated over the logs port.

mod ast;
mod error;
mod lexer;
mod lines;
mod metric;
mod parser;
pub mod search;

pub use ast::{Expr, LogExpr, MetricExpr, RangeOp, Stage};
pub use error::{EvalError, ParseError};
pub use lines::{StreamLines, group, lines};
pub use metric::{Value, instant, range};
pub use parser::{parse, parse_selector};
