//! Expressions as text, on one line and pretty.

use std::fmt::{self, Display, Formatter, Write as _};

use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{MatchOp, Matcher};
use kittiwake_vector::{Cardinality, Grouping, Matching};

use crate::ast::{
    Aggregation, At, Binary, DurationExpr, DurationOp, DurationValue, Edges, Expr, Length, Matrix,
    Number, Selector, Shift, Subquery,
};
use crate::text::{duration, is_plain_label, number, quoted_bytes};
use kittiwake_model::quote;

/// Lines longer than this are split.
const LINE_CHARS_MAX: usize = 100;

fn labels(names: &[String]) -> String {
    let shown = names.iter().map(|name| {
        if is_plain_label(name) {
            name.clone()
        } else {
            quote(name)
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_duration {
            f.write_str(&duration((self.value * 1000.0).round() as i64))
        } else {
            f.write_str(&number(self.value))
        }
    }
}

impl Display for DurationValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Expr(expr) => expr.fmt(f),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_wrapped {
            f.write_str("(")?;
        }
        let op = self.op.as_str();
        match (&self.left, &self.right) {
            (Some(left), Some(right)) => match self.op {
                DurationOp::MinOf | DurationOp::MaxOf => write!(f, "{op}({left}, {right})")?,
                _ => write!(f, "{left} {op} {right}")?,
            },
            (None, Some(right)) if self.op == DurationOp::Add => right.fmt(f)?,
            (None, Some(right)) => write!(f, "{op}{right}")?,
            _ => write!(f, "{op}()")?,
        }
        if self.is_wrapped {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl Display for Length {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(ms) => f.write_str(&duration(*ms)),
            Self::Computed(expr) => expr.fmt(f),
        }
    }
}

fn write_at(f: &mut Formatter<'_>, shift: &Shift) -> fmt::Result {
    match shift.at {
        None => Ok(()),
        Some(At::Time(ms)) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
    }
}

fn write_offset(f: &mut Formatter<'_>, shift: &Shift) -> fmt::Result {
    if shift.has_offset() {
        write!(f, " offset {}", shift.offset)?;
    }
    Ok(())
}

fn edges(edges: Edges) -> &'static str {
    match edges {
        Edges::Plain => "",
        Edges::Anchored => " anchored",
        Edges::Smoothed => " smoothed",
    }
}

fn matcher(matcher: &Matcher) -> String {
    let (name, op, value) = (matcher.name(), matcher.op(), quote(matcher.value()));
    if is_plain_label(name) {
        format!("{name}{op}{value}")
    } else {
        format!("{}{op}{value}", quote(name))
    }
}

/// A selector without what stands behind it.
fn write_series(f: &mut Formatter<'_>, selector: &Selector) -> fmt::Result {
    let is_name = |m: &Matcher| {
        m.name() == METRIC_NAME
            && m.op() == MatchOp::Equal
            && m.value() == selector.name
            && !m.value().is_empty()
    };
    let shown = selector.matchers.iter().filter(|m| !is_name(m));
    let mut shown: Vec<String> = shown.map(matcher).collect();
    shown.sort();
    f.write_str(&selector.name)?;
    if shown.is_empty() && !selector.name.is_empty() {
        return Ok(());
    }
    write!(f, "{{{}}}", shown.join(","))
}

impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_series(f, self)?;
        write_at(f, &self.shift)?;
        f.write_str(edges(self.edges))?;
        write_offset(f, &self.shift)
    }
}

impl Display for Matrix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_series(f, &self.selector)?;
        write!(f, "[{}]{}", self.range, edges(self.selector.edges))?;
        write_at(f, &self.selector.shift)?;
        write_offset(f, &self.selector.shift)
    }
}

/// What stands behind the expression of a subquery.
struct Suffix<'a>(&'a Subquery);

impl Display for Suffix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:", self.0.range)?;
        if let Some(step) = &self.0.step {
            step.fmt(f)?;
        }
        f.write_str("]")?;
        write_at(f, &self.0.shift)?;
        write_offset(f, &self.0.shift)
    }
}

impl Aggregation {
    fn head(&self) -> String {
        let (op, names) = (self.op.as_str(), labels(&self.grouping));
        if self.is_without {
            format!("{op} without ({names}) ")
        } else if self.grouping.is_empty() {
            op.to_owned()
        } else {
            format!("{op} by ({names}) ")
        }
    }
}

/// Writing to a string cannot fail, here and below.
fn matching_text(matching: &Matching) -> String {
    let mut out = String::new();
    let (word, names) = match &matching.on {
        Grouping::By(names) => ("on", names),
        Grouping::Without(names) => ("ignoring", names),
    };
    let is_grouped = matching.cardinality != Cardinality::OneToOne;
    if word == "on" || !names.is_empty() || is_grouped {
        let _ = write!(out, " {word} ({})", labels(names));
    }
    if is_grouped {
        let side = if matching.cardinality == Cardinality::ManyToOne {
            "left"
        } else {
            "right"
        };
        let _ = write!(out, " group_{side} ({})", labels(&matching.include));
    }
    let shown = |value: f64| kittiwake_model::float_histogram::shortest(value);
    match (matching.fill.left, matching.fill.right) {
        (Some(left), Some(right)) if left == right => {
            let _ = write!(out, " fill ({})", shown(left));
        }
        (left, right) => {
            for (word, value) in [("fill_left", left), ("fill_right", right)] {
                if let Some(value) = value {
                    let _ = write!(out, " {word} ({})", shown(value));
                }
            }
        }
    }
    out
}

impl Binary {
    fn operator(&self) -> String {
        let word = if self.returns_bool { " bool" } else { "" };
        let matching = self.matching.as_ref().map(matching_text);
        format!("{}{word}{}", self.op.as_str(), matching.unwrap_or_default())
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => match &text.bytes {
                Some(bytes) => f.write_str(&quoted_bytes(bytes)),
                None => f.write_str(&quote(&text.value)),
            },
            Self::Vector(selector) => selector.fmt(f),
            Self::Matrix(matrix) => matrix.fmt(f),
            Self::Subquery(subquery) => write!(f, "{}{}", subquery.inner, Suffix(subquery)),
            Self::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                for (index, arg) in call.args.iter().enumerate() {
                    f.write_str(if index > 0 { ", " } else { "" })?;
                    arg.fmt(f)?;
                }
                f.write_str(")")
            }
            Self::Aggregate(aggregation) => {
                write!(f, "{}(", aggregation.head())?;
                if let Some(param) = &aggregation.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregation.inner)
            }
            Self::Binary(binary) => {
                let (left, right) = (&binary.left, &binary.right);
                write!(f, "{left} {} {right}", binary.operator())
            }
            Self::Unary(unary) => {
                let sign = if unary.is_negative { "-" } else { "+" };
                write!(f, "{sign}{}", unary.inner)
            }
            Self::Paren(paren) => write!(f, "({})", paren.inner),
        }
    }
}

impl Expr {
    /// The expression over several lines where one would be too long, as `/api/v1/format_query`
    /// gives it.
    pub fn pretty(&self) -> String {
        self.pretty_at(0)
    }

    fn pretty_at(&self, level: usize) -> String {
        let indent = "  ".repeat(level);
        let flat = self.to_string();
        if flat.chars().count() <= LINE_CHARS_MAX && !matches!(self, Self::Unary(_)) {
            return match self {
                Self::Subquery(_) => flat,
                _ => format!("{indent}{flat}"),
            };
        }
        match self {
            Self::Aggregate(aggregation) => {
                let mut out = format!("{indent}{}(\n", aggregation.head());
                if let Some(param) = &aggregation.param {
                    out.push_str(&param.pretty_at(level + 1));
                    out.push_str(",\n");
                }
                out.push_str(&aggregation.inner.pretty_at(level + 1));
                let _ = write!(out, "\n{indent})");
                out
            }
            Self::Binary(binary) => {
                let (left, right) = (
                    binary.left.pretty_at(level + 1),
                    binary.right.pretty_at(level + 1),
                );
                format!("{left}\n{indent}{}\n{right}", binary.operator())
            }
            Self::Call(call) => {
                let args = call.args.iter().map(|arg| arg.pretty_at(level + 1));
                let args = args.collect::<Vec<_>>().join(",\n");
                format!("{indent}{}(\n{args}\n{indent})", call.function.name)
            }
            Self::Paren(paren) => {
                format!("{indent}(\n{}\n{indent})", paren.inner.pretty_at(level + 1))
            }
            Self::Subquery(subquery) => {
                format!("{}{}", subquery.inner.pretty_at(level), Suffix(subquery))
            }
            Self::Unary(unary) => {
                let sign = if unary.is_negative { "-" } else { "+" };
                let inner = unary.inner.pretty_at(level);
                format!("{indent}{sign}{}", inner.trim())
            }
            _ => format!("{indent}{flat}"),
        }
    }
}
