//! The algebra that PromQL and the metric side of LogQL share: grouping, aggregation and
//! matching of labelled values.
//!
//! Values are kept by series, one per step of the query, so that what depends on labels alone
//! (groups, pairs, the labels of results) is worked out once per series, not once per step. An
//! instant query is one of a single step. This crate knows nothing of where series come from.

mod binary;
mod count_values;
mod grouping;
mod groups;
mod note;
mod operator;
mod rank;
mod series;
mod sum;

pub use binary::{BinaryError, Cardinality, Fill, Matching, binary, is_metadata, set, with_scalar};
pub use count_values::count_values;
pub use grouping::Grouping;
pub use groups::{Fold, Groups, add_to_mean, quantile};
pub use note::{HistogramOperation, Note, Notes};
pub use operator::{Arithmetic, Comparison, Operator, SetOp, Trim};
pub use rank::{Rank, rank};
pub use series::{SameLabels, Sample, Series, join_equal};
pub use sum::CompensatedSum;
