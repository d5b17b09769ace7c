//! The tree of a query.

use kittiwake_model::{Direction, LineFilter, Matcher, Scan, TimeRange};
use kittiwake_vector::{Fold, Grouping, Matching, Operator, Rank};

/// A query.
#[derive(Debug, Clone)]
pub enum Expr {
    /// One that gives lines.
    Log(LogExpr),
    /// One that gives numbers.
    Metric(MetricExpr),
}

/// A selector with the stages that its lines go through.
#[derive(Debug, Clone)]
pub struct LogExpr {
    /// What streams must match.
    pub selector: Vec<Matcher>,
    /// The stages in order.
    pub stages: Vec<Stage>,
}

/// What a line goes through. Others will come.
#[derive(Debug, Clone)]
pub enum Stage {
    /// A filter on the text.
    Line(LineFilter),
}

impl LogExpr {
    /// What is asked of a store: all that a store can do of this expression.
    pub fn scan(&self, start_ns: i64, end_ns: i64, direction: Direction, limit: usize) -> Scan {
        let mut scan = Scan::new(
            self.selector.clone(),
            TimeRange::new(start_ns, end_ns),
            direction,
        );
        scan.filters = self
            .stages
            .iter()
            .map(|stage| match stage {
                Stage::Line(filter) => filter.clone(),
            })
            .collect();
        scan.limit = limit;
        scan
    }
}

/// What a range aggregation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeOp {
    /// Lines.
    CountOverTime,
    /// Lines per second.
    Rate,
    /// Bytes of lines.
    BytesOverTime,
    /// Bytes of lines per second.
    BytesRate,
    /// 1 where there is no line at all.
    AbsentOverTime,
}

impl RangeOp {
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "count_over_time" => Self::CountOverTime,
            "rate" => Self::Rate,
            "bytes_over_time" => Self::BytesOverTime,
            "bytes_rate" => Self::BytesRate,
            "absent_over_time" => Self::AbsentOverTime,
            _ => return None,
        })
    }
}

/// What an aggregation computes of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregate {
    /// One value of all members.
    Fold(Fold),
    /// So many of the members.
    Rank(Rank, usize),
}

/// A query that gives numbers.
#[derive(Debug, Clone)]
pub enum MetricExpr {
    /// A number.
    Number(f64),
    /// An aggregation of lines over a window.
    Range {
        /// What is counted.
        op: RangeOp,
        /// The lines.
        log: LogExpr,
        /// The window in ns: lines with `t - window < time <= t`.
        window_ns: i64,
        /// How far back it is looked, in ns.
        offset_ns: i64,
    },
    /// An aggregation of series.
    Aggregate {
        /// What is computed of a group.
        by: Aggregate,
        /// The labels that are kept or dropped.
        grouping: Grouping,
        /// What is aggregated.
        inner: Box<Self>,
    },
    /// Two expressions joined by an operator.
    Binary {
        /// The operator.
        op: Operator,
        /// Whether a comparison gives 0 or 1.
        returns_bool: bool,
        /// Which series belong together.
        matching: Matching,
        /// The left side.
        left: Box<Self>,
        /// The right side.
        right: Box<Self>,
    },
}
