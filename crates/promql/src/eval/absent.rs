//! `absent` and `absent_over_time`.

use std::collections::HashSet;

use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{Labels, MatchOp, stale_nan};
use kittiwake_vector::Series;

use super::Evaluator;
use crate::ast::Expr;

impl Evaluator<'_> {
    /// 1 at the steps where none of the series has a value.
    pub(super) fn absent(&self, series: &[Series], arg: &Expr, drops_name: bool) -> Vec<Series> {
        let mut values = vec![1.0; self.steps.count];
        for one in series {
            for (step, value) in values.iter_mut().enumerate() {
                if one.has(step) {
                    *value = stale_nan();
                }
            }
        }
        let mut result = Series::of(labels_of(arg), values);
        result.drops_name = drops_name;
        if result.is_empty() {
            Vec::new()
        } else {
            vec![result]
        }
    }
}

/// What is known of series that are not there: the labels that must be equal to something.
fn labels_of(arg: &Expr) -> Labels {
    let selector = match arg.unwrapped() {
        Expr::Vector(selector) => selector,
        Expr::Matrix(matrix) => &matrix.selector,
        _ => return Labels::empty(),
    };
    let mut seen = HashSet::new();
    let mut builder = kittiwake_model::LabelsBuilder::new();
    for matcher in &selector.matchers {
        let name = matcher.name();
        if name == METRIC_NAME {
            continue;
        }
        if matcher.op() == MatchOp::Equal && !seen.contains(name) {
            builder.set(name, matcher.value());
            seen.insert(name);
        } else {
            builder.remove(name);
        }
    }
    builder.build().unwrap_or_default()
}
