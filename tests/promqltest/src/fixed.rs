//! A query that gives the same at every time: every selector looks at one.

use kittiwake_promql::Expr;
use kittiwake_promql::ast::{At, Shift};

/// The query with `@ time` wherever it can be; `None` when it depends on the time of evaluation
/// in other ways.
pub(crate) fn at(expr: &Expr, time_ms: i64) -> Option<Expr> {
    let mut fixed = expr.clone();
    fix(&mut fixed, time_ms).then_some(fixed)
}

fn set(shift: &mut Shift, time_ms: i64) {
    shift.at.get_or_insert(At::Time(time_ms));
}

fn fix(expr: &mut Expr, time_ms: i64) -> bool {
    match expr {
        Expr::Number(_) | Expr::Text(_) => true,
        Expr::Vector(selector) => {
            set(&mut selector.shift, time_ms);
            true
        }
        Expr::Matrix(matrix) => {
            set(&mut matrix.selector.shift, time_ms);
            true
        }
        Expr::Subquery(subquery) => {
            // What is inside keeps its own times, but may depend on them all the same.
            set(&mut subquery.shift, time_ms);
            fix(&mut subquery.inner.clone(), time_ms)
        }
        Expr::Call(call) => {
            let are_args = call.args.iter_mut().all(|arg| fix(arg, time_ms));
            are_args && !call.function.depends_on_time()
        }
        Expr::Aggregate(aggregation) => {
            let param = aggregation.param.as_mut();
            let is_param = param.is_none_or(|param| fix(param, time_ms));
            fix(&mut aggregation.inner, time_ms) && is_param
        }
        Expr::Binary(binary) => {
            let is_left = fix(&mut binary.left, time_ms);
            fix(&mut binary.right, time_ms) && is_left
        }
        Expr::Unary(unary) => fix(&mut unary.inner, time_ms),
        Expr::Paren(paren) => fix(&mut paren.inner, time_ms),
    }
}
