//! Go's `text/template` and `html/template`: parsed once, rendered often, with functions that the caller gives.
//!
//! Pipelines, variables, `if`, `with`, `range`, `define`, `template`, `block`, `break` and
//! `continue` work as in Go, and so do the functions that Go builds in. What a template may
//! cost is bounded: the depth of what stands inside each other, the steps of a rendering and
//! the bytes of its output.

mod builtin;
mod exec;
mod html;
pub mod humanize;
mod lexer;
mod methods;
mod parse;
mod printf;
pub mod time;
mod value;

pub use builtin::{json_text, urlquery};
pub use exec::{Limits, RenderError};
pub use methods::method;
pub use parse::{ParseError, Template};
pub use printf::sprintf;
pub use value::{Mark, Value};

/// Functions that templates may call beyond Go's own.
pub trait Functions {
    /// Whether there is a function of this name.
    fn has(&self, name: &str) -> bool;

    /// Calls a function. The error's text stands in that of the rendering.
    fn call(&self, name: &str, arguments: &[Value]) -> Result<Value, String>;

    /// Calls a method of a value, or reads a field that is more than an entry of a map; `None`
    /// when the value has no such one.
    fn method(
        &self,
        _value: &Value,
        _name: &str,
        _arguments: &[Value],
    ) -> Option<Result<Value, String>> {
        None
    }

    /// How a value is printed, if not as Go prints values of its kind.
    fn show(&self, _value: &Value) -> Option<String> {
        None
    }
}

/// No functions but Go's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFunctions;

impl Functions for NoFunctions {
    fn has(&self, _name: &str) -> bool {
        false
    }

    fn call(&self, name: &str, _arguments: &[Value]) -> Result<Value, String> {
        Err(format!("function {name:?} not defined"))
    }
}
