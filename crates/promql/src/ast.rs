//! The tree of a query, as it was written: every node knows its place in the text.

use kittiwake_model::Matcher;
use kittiwake_vector::{Fold, Matching, Operator, Rank};

use crate::functions::Function;

/// What an expression gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// One number.
    Scalar,
    /// One value per series.
    Vector,
    /// Samples over a range per series.
    Matrix,
    /// A text.
    String,
}

impl std::fmt::Display for ValueType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        })
    }
}

impl ValueType {
    /// The name that the HTTP API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }
}

/// Where something stands in the text of a query, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Its first byte.
    pub start: usize,
    /// The byte behind it.
    pub end: usize,
}

impl Place {
    pub(crate) fn to(self, end: usize) -> Self {
        Self { end, ..self }
    }
}

/// A number.
#[derive(Debug, Clone)]
pub struct Number {
    /// Its value, in seconds when it is a duration.
    pub value: f64,
    /// Whether it was written as a duration (`5m`).
    pub is_duration: bool,
    /// Where it stands.
    pub place: Place,
}

/// An operation between durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DurationOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Step,
    Range,
    MinOf,
    MaxOf,
}

impl DurationOp {
    /// Its sign or word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Power => "^",
            Self::Step => "step",
            Self::Range => "range",
            Self::MinOf => "min_of",
            Self::MaxOf => "max_of",
        }
    }
}

/// A duration that is calculated: `5m + step()`.
#[derive(Debug, Clone)]
pub struct DurationExpr {
    /// What is done.
    pub op: DurationOp,
    /// The left side; none of signs and of `step()` and `range()`.
    pub left: Option<Box<DurationValue>>,
    /// The right side; none of `step()` and `range()`.
    pub right: Option<Box<DurationValue>>,
    /// Whether it stands in brackets.
    pub is_wrapped: bool,
    /// Where it stands.
    pub place: Place,
}

/// A part of a calculated duration.
#[derive(Debug, Clone)]
pub enum DurationValue {
    /// A number or duration.
    Number(Number),
    /// A calculation.
    Expr(DurationExpr),
}

impl DurationValue {
    /// Where it stands.
    pub fn place(&self) -> Place {
        match self {
            Self::Number(number) => number.place,
            Self::Expr(expr) => expr.place,
        }
    }
}

/// A length of time.
#[derive(Debug, Clone)]
pub enum Length {
    /// In ms.
    Fixed(i64),
    /// Depends on the query's range and step.
    Computed(DurationExpr),
}

/// A time that `@` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// In ms.
    Time(i64),
    /// The start of the query.
    Start,
    /// The end of the query.
    End,
}

/// What is behind a selector or subquery.
#[derive(Debug, Clone)]
pub struct Shift {
    /// How far back it looks.
    pub offset: Length,
    /// When, if not at the time of evaluation.
    pub at: Option<At>,
}

impl Default for Shift {
    fn default() -> Self {
        Self {
            offset: Length::Fixed(0),
            at: None,
        }
    }
}

impl Shift {
    pub(crate) fn has_offset(&self) -> bool {
        !matches!(self.offset, Length::Fixed(0))
    }
}

/// How a range ends where there is no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edges {
    /// With the samples inside.
    #[default]
    Plain,
    /// With the last sample at or before each end.
    Anchored,
    /// With a value between the samples around each end.
    Smoothed,
}

/// A selector of series.
#[derive(Debug, Clone)]
pub struct Selector {
    /// The metric's name as written before the braces, empty if it was not.
    pub name: String,
    /// All matchers; that of the name is last.
    pub matchers: Vec<Matcher>,
    /// Offset and `@`.
    pub shift: Shift,
    /// `anchored` or `smoothed`.
    pub edges: Edges,
    /// Where it stands.
    pub place: Place,
}

/// A selector with a range.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// Which series.
    pub selector: Selector,
    /// How long a range.
    pub range: Length,
    /// Where it stands.
    pub place: Place,
}

/// An expression over a range.
#[derive(Debug, Clone)]
pub struct Subquery {
    /// What is evaluated.
    pub inner: Box<Expr>,
    /// Over which range.
    pub range: Length,
    /// At which steps; none is the default.
    pub step: Option<Length>,
    /// Offset and `@`.
    pub shift: Shift,
    /// Where it stands.
    pub place: Place,
}

/// A function and what it is given.
#[derive(Debug, Clone)]
pub struct Call {
    /// The function.
    pub function: &'static Function,
    /// What it is given.
    pub args: Vec<Expr>,
    /// Where it stands.
    pub place: Place,
}

/// What an aggregation does with the members of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateOp {
    /// Folds them into one.
    Fold(Fold),
    /// Picks some.
    Rank(Rank),
    /// Counts equal values.
    CountValues,
}

const AGGREGATES: [(&str, AggregateOp); 14] = [
    ("sum", AggregateOp::Fold(Fold::Sum)),
    ("avg", AggregateOp::Fold(Fold::Avg)),
    ("min", AggregateOp::Fold(Fold::Min)),
    ("max", AggregateOp::Fold(Fold::Max)),
    ("count", AggregateOp::Fold(Fold::Count)),
    ("group", AggregateOp::Fold(Fold::Group)),
    ("stddev", AggregateOp::Fold(Fold::Stddev)),
    ("stdvar", AggregateOp::Fold(Fold::Stdvar)),
    ("quantile", AggregateOp::Fold(Fold::Quantile)),
    ("topk", AggregateOp::Rank(Rank::Topk)),
    ("bottomk", AggregateOp::Rank(Rank::Bottomk)),
    ("limitk", AggregateOp::Rank(Rank::Limitk)),
    ("limit_ratio", AggregateOp::Rank(Rank::LimitRatio)),
    ("count_values", AggregateOp::CountValues),
];

impl AggregateOp {
    pub(crate) fn of(name: &str) -> Option<Self> {
        let found = AGGREGATES.iter().find(|(n, _)| *n == name);
        found.map(|(_, op)| *op)
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        let found = AGGREGATES.iter().find(|(_, op)| *op == self);
        found.map_or("", |(name, _)| name)
    }

    /// What stands before the aggregated expression, if anything.
    pub fn param(self) -> Option<ValueType> {
        match self {
            Self::Fold(Fold::Quantile) | Self::Rank(_) => Some(ValueType::Scalar),
            Self::CountValues => Some(ValueType::String),
            Self::Fold(_) => None,
        }
    }
}

/// An aggregation.
#[derive(Debug, Clone)]
pub struct Aggregation {
    /// What is done.
    pub op: AggregateOp,
    /// What stands before the aggregated expression.
    pub param: Option<Box<Expr>>,
    /// What is aggregated.
    pub inner: Box<Expr>,
    /// The labels that are kept or dropped.
    pub grouping: Vec<String>,
    /// Whether they are dropped.
    pub is_without: bool,
    /// Where it stands.
    pub place: Place,
}

/// Two sides and an operator between them.
#[derive(Debug, Clone)]
pub struct Binary {
    /// The operator.
    pub op: Operator,
    /// Whether a comparison gives 0 or 1.
    pub returns_bool: bool,
    /// Which series belong together, when both sides are vectors.
    pub matching: Option<Matching>,
    /// The left side.
    pub left: Box<Expr>,
    /// The right side.
    pub right: Box<Expr>,
}

/// A sign before an expression.
#[derive(Debug, Clone)]
pub struct Unary {
    /// Whether it is `-`.
    pub is_negative: bool,
    /// What it stands before.
    pub inner: Box<Expr>,
    /// Where it stands.
    pub place: Place,
}

/// An expression in brackets.
#[derive(Debug, Clone)]
pub struct Paren {
    /// What is in them.
    pub inner: Box<Expr>,
    /// Where they stand.
    pub place: Place,
}

/// A text.
#[derive(Debug, Clone)]
pub struct Text {
    /// Without quotes and escapes; what is no UTF-8 in it is replaced.
    pub value: String,
    /// The bytes, when they are no UTF-8.
    pub bytes: Option<Vec<u8>>,
    /// Where it stands.
    pub place: Place,
}

/// An expression.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Expr {
    Number(Number),
    Text(Text),
    Vector(Selector),
    Matrix(Matrix),
    Subquery(Subquery),
    Call(Call),
    Aggregate(Aggregation),
    Binary(Binary),
    Unary(Unary),
    Paren(Paren),
}

impl Expr {
    /// What the expression gives.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Number(_) => ValueType::Scalar,
            Self::Text(_) => ValueType::String,
            Self::Vector(_) | Self::Aggregate(_) => ValueType::Vector,
            Self::Matrix(_) | Self::Subquery(_) => ValueType::Matrix,
            Self::Call(call) => call.function.gives,
            Self::Binary(binary) => {
                let scalar = ValueType::Scalar;
                if binary.left.value_type() == scalar && binary.right.value_type() == scalar {
                    scalar
                } else {
                    ValueType::Vector
                }
            }
            Self::Unary(unary) => unary.inner.value_type(),
            Self::Paren(paren) => paren.inner.value_type(),
        }
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        match self {
            Self::Number(node) => node.place,
            Self::Text(node) => node.place,
            Self::Vector(node) => node.place,
            Self::Matrix(node) => node.place,
            Self::Subquery(node) => node.place,
            Self::Call(node) => node.place,
            Self::Aggregate(node) => node.place,
            Self::Binary(node) => node.left.place().to(node.right.place().end),
            Self::Unary(node) => node.place,
            Self::Paren(node) => node.place,
        }
    }

    /// All selectors of series in it.
    pub fn selectors(&self) -> Vec<&Selector> {
        let mut found = Vec::new();
        let mut rest = vec![self];
        while let Some(expr) = rest.pop() {
            match expr {
                Self::Number(_) | Self::Text(_) => {}
                Self::Vector(selector) => found.push(selector),
                Self::Matrix(matrix) => found.push(&matrix.selector),
                Self::Subquery(subquery) => rest.push(&subquery.inner),
                Self::Call(call) => rest.extend(call.args.iter().rev()),
                Self::Aggregate(aggregation) => {
                    rest.push(&aggregation.inner);
                    rest.extend(aggregation.param.as_deref());
                }
                Self::Binary(binary) => rest.extend([&*binary.right, &*binary.left]),
                Self::Unary(unary) => rest.push(&unary.inner),
                Self::Paren(paren) => rest.push(&paren.inner),
            }
        }
        found
    }

    /// What is in the brackets, if it stands in some.
    pub(crate) fn unwrapped(&self) -> &Self {
        let mut expr = self;
        while let Self::Paren(paren) = expr {
            expr = &paren.inner;
        }
        expr
    }
}
