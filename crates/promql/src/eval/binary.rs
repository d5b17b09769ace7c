//! Operators between two sides.

use kittiwake_vector::{Notes, Operator, Series, binary, set, with_scalar};

use super::{Evaluated, Evaluator, Findings, simple};
use crate::ast::{Binary, Expr, Unary};
use crate::error::EvalError;

impl Evaluator<'_> {
    pub(super) fn unary(
        &self,
        unary: &Unary,
        findings: &mut Findings,
    ) -> Result<Evaluated, EvalError> {
        let mut evaluated = self.evaluate(&unary.inner, findings)?;
        if unary.is_negative {
            match &mut evaluated {
                Evaluated::Scalar(values) => values.iter_mut().for_each(|value| *value = -*value),
                Evaluated::Series(series) => {
                    for one in series {
                        simple::negate(one);
                        self.drop_name(one);
                    }
                }
                Evaluated::Text(_) => {}
            }
        }
        Ok(evaluated)
    }

    pub(super) fn binary(
        &self,
        node: &Binary,
        findings: &mut Findings,
    ) -> Result<Evaluated, EvalError> {
        let below = self.below_operator(node.op);
        let left = below.evaluate(&node.left, findings)?;
        let right = below.evaluate(&node.right, findings)?;
        let mut notes = Notes::default();
        let evaluated = match (left, right) {
            (Evaluated::Scalar(left), Evaluated::Scalar(right)) => {
                let pairs = left.into_iter().zip(right);
                let apply = |(l, r)| node.op.apply(true, l, r).unwrap_or(f64::NAN);
                Evaluated::Scalar(pairs.map(apply).collect())
            }
            (Evaluated::Series(series), Evaluated::Scalar(scalars)) => {
                self.scalar_side(node, series, &scalars, false, &mut notes)
            }
            (Evaluated::Scalar(scalars), Evaluated::Series(series)) => {
                self.scalar_side(node, series, &scalars, true, &mut notes)
            }
            (Evaluated::Series(left), Evaluated::Series(right)) => {
                let matching = node.matching.clone().unwrap_or_default();
                self.release(&left);
                self.release(&right);
                let result = if let Operator::Set(op) = node.op {
                    set(op, left, right, &matching.on)
                } else {
                    let drops_now = !self.query.options.delays_name_removal;
                    let (steps, returns_bool) = (self.steps.count, node.returns_bool);
                    binary(
                        node.op,
                        returns_bool,
                        &left,
                        &right,
                        &matching,
                        steps,
                        drops_now,
                        &mut notes,
                    )?
                };
                self.hold(&result)?;
                Evaluated::Series(result)
            }
            _ => return Err(EvalError::new("an operator cannot be applied to a text")),
        };
        let place = Expr::place(&node.left);
        for note in notes {
            findings.annotations.note(note, node.op.as_str(), place);
        }
        Ok(evaluated)
    }

    fn scalar_side(
        &self,
        node: &Binary,
        mut series: Vec<Series>,
        scalars: &[f64],
        is_swapped: bool,
        notes: &mut Notes,
    ) -> Evaluated {
        for one in &mut series {
            with_scalar(node.op, node.returns_bool, one, scalars, is_swapped, notes);
            if node.returns_bool || matches!(node.op, Operator::Arithmetic(_)) {
                self.drop_name(one);
            }
        }
        series.retain(|one| !one.is_empty());
        Evaluated::Series(series)
    }
}
