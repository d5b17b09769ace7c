//! The algebra that PromQL and the metric side of LogQL share: grouping, aggregation and
//! matching of labelled values.
//!
//! Values are kept by series, one per step of the query, so that what depends on labels alone
//! (groups, pairs, the labels of results) is worked out once per series, not once per step. An
//! instant query is one of a single step. This crate knows nothing of where series come from.

mod aggregate;
mod binary;
mod grouping;
mod sum;

use std::collections::HashMap;

use kittiwake_model::Labels;

pub use aggregate::{Aggregate, aggregate, fold, quantile};
pub use binary::{
    Arithmetic, BinaryError, Cardinality, Comparison, Matching, Operator, SetOp, binary, set,
};
pub use grouping::Grouping;
pub use sum::CompensatedSum;

/// Values of one series, one per step; `None` where it has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The series.
    pub labels: Labels,
    /// Its value at each step.
    pub values: Vec<Option<f64>>,
}

/// Two series with the same labels have a value at the same step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("vector cannot contain metrics with the same labelset")]
pub struct SameLabels;

/// Joins series that have the same labels, which must not meet at any step. Series without
/// values go.
pub fn join_equal(series: Vec<Series>) -> Result<Vec<Series>, SameLabels> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(series.len());
    let mut joined: Vec<Series> = Vec::with_capacity(series.len());
    for one in series {
        if one.values.iter().all(Option::is_none) {
            continue;
        }
        let next = joined.len();
        let place = *places.entry(one.labels.clone()).or_insert(next);
        if place == next {
            joined.push(one);
            continue;
        }
        for (there, new) in joined[place].values.iter_mut().zip(one.values) {
            match (&there, new) {
                (Some(_), Some(_)) => return Err(SameLabels),
                (None, Some(_)) => *there = new,
                _ => {}
            }
        }
    }
    Ok(joined)
}
