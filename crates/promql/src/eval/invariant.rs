//! What gives the same at every step.

use crate::ast::Expr;

/// Whether an expression gives the same at every step, whatever it reads.
pub(super) fn is_invariant(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::Text(_) => true,
        Expr::Vector(selector) => selector.shift.at.is_some(),
        Expr::Matrix(matrix) => matrix.selector.shift.at.is_some(),
        Expr::Subquery(subquery) => subquery.shift.at.is_some(),
        Expr::Aggregate(aggregation) => is_invariant(&aggregation.inner),
        Expr::Binary(binary) => is_invariant(&binary.left) && is_invariant(&binary.right),
        Expr::Unary(unary) => is_invariant(&unary.inner),
        Expr::Paren(paren) => is_invariant(&paren.inner),
        Expr::Call(call) => {
            let name = call.function.name;
            let are_args = call.args.iter().all(is_invariant);
            let is_selector = |arg: &Expr| matches!(arg.unwrapped(), Expr::Vector(_));
            match name {
                // They tell of the query, not of the step.
                "start" | "end" | "range" | "step" => true,
                "timestamp" => are_args && call.args.iter().all(is_selector),
                _ => are_args && !call.function.depends_on_time(),
            }
        }
    }
}
