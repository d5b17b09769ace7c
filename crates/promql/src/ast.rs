//! The tree of a query.

use kittiwake_model::Matcher;
use kittiwake_vector::{Grouping, Matching, Operator};

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

/// A time that `@` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Time(i64),
    Start,
    End,
}

/// What is behind a selector or subquery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shift {
    pub(crate) offset_ms: i64,
    pub(crate) at: Option<At>,
}

/// An aggregation's operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Quantile,
    CountValues,
}

impl AggregateOp {
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "sum" => Self::Sum,
            "avg" => Self::Avg,
            "min" => Self::Min,
            "max" => Self::Max,
            "count" => Self::Count,
            "group" => Self::Group,
            "stddev" => Self::Stddev,
            "stdvar" => Self::Stdvar,
            "topk" => Self::Topk,
            "bottomk" => Self::Bottomk,
            "quantile" => Self::Quantile,
            "count_values" => Self::CountValues,
            _ => return None,
        })
    }

    /// What stands before the aggregated expression, if anything.
    pub(crate) fn param(self) -> Option<ValueType> {
        match self {
            Self::Topk | Self::Bottomk | Self::Quantile => Some(ValueType::Scalar),
            Self::CountValues => Some(ValueType::String),
            _ => None,
        }
    }
}

/// An expression.
#[derive(Debug, Clone)]
pub struct Expr(pub(crate) Node);

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Number(f64),
    Text(String),
    Vector {
        matchers: Vec<Matcher>,
        shift: Shift,
    },
    /// A selector with a range.
    Matrix {
        matchers: Vec<Matcher>,
        range_ms: i64,
        shift: Shift,
    },
    Subquery {
        inner: Box<Node>,
        range_ms: i64,
        /// `None` for the default.
        step_ms: Option<i64>,
        shift: Shift,
    },
    Call {
        function: &'static Function,
        args: Vec<Node>,
    },
    Aggregate {
        op: AggregateOp,
        param: Option<Box<Node>>,
        grouping: Grouping,
        inner: Box<Node>,
    },
    Binary {
        op: Operator,
        returns_bool: bool,
        matching: Matching,
        left: Box<Node>,
        right: Box<Node>,
    },
    Negate(Box<Node>),
    /// In brackets; they matter to what a modifier may stand behind.
    Brackets(Box<Node>),
}

impl Node {
    pub(crate) fn value_type(&self) -> ValueType {
        match self {
            Self::Number(_) => ValueType::Scalar,
            Self::Text(_) => ValueType::String,
            Self::Vector { .. } | Self::Aggregate { .. } => ValueType::Vector,
            Self::Matrix { .. } | Self::Subquery { .. } => ValueType::Matrix,
            Self::Call { function, .. } => function.gives,
            Self::Binary { left, right, .. } => {
                let scalar = ValueType::Scalar;
                if left.value_type() == scalar && right.value_type() == scalar {
                    scalar
                } else {
                    ValueType::Vector
                }
            }
            Self::Negate(inner) | Self::Brackets(inner) => inner.value_type(),
        }
    }
}

impl Expr {
    /// What the expression gives.
    pub fn value_type(&self) -> ValueType {
        self.0.value_type()
    }
}
