//! Lengths of time that depend on the query.

use super::Evaluator;
use crate::ast::{DurationExpr, DurationOp, DurationValue, Length};
use crate::error::EvalError;

impl Evaluator<'_> {
    /// A length in ms.
    pub(super) fn length(&self, length: &Length, may_be_negative: bool) -> Result<i64, EvalError> {
        let expr = match length {
            Length::Fixed(ms) => return Ok(*ms),
            Length::Computed(expr) => expr,
        };
        let seconds = self.seconds(expr)?;
        let fail = |what: &str| {
            let (start, end) = (expr.place.start, expr.place.end);
            Err(EvalError::new(format!("{start}:{end}: {what}")))
        };
        if !seconds.is_finite() {
            return fail("duration is NaN or infinite");
        }
        if seconds <= 0.0 && !may_be_negative {
            return fail("duration must be greater than 0");
        }
        if seconds.abs() > i64::MAX as f64 / 1e9 {
            return fail("duration is out of range");
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn part(&self, value: Option<&DurationValue>) -> Result<f64, EvalError> {
        match value {
            None => Ok(0.0),
            Some(DurationValue::Number(number)) => Ok(number.value),
            Some(DurationValue::Expr(expr)) => self.seconds(expr),
        }
    }

    fn seconds(&self, expr: &DurationExpr) -> Result<f64, EvalError> {
        let left = self.part(expr.left.as_deref())?;
        let right = self.part(expr.right.as_deref())?;
        let by_zero = |what: &str| {
            let (start, end) = (expr.place.start, expr.place.end);
            EvalError::new(format!("{start}:{end}: {what} by zero"))
        };
        let (start_ms, end_ms, step_ms) = self.query.range;
        Ok(match expr.op {
            DurationOp::Step => step_ms as f64 / 1000.0,
            DurationOp::Range => (end_ms - start_ms) as f64 / 1000.0,
            DurationOp::MinOf => go_min(left, right),
            DurationOp::MaxOf => go_max(left, right),
            DurationOp::Add => left + right,
            DurationOp::Subtract => left - right,
            DurationOp::Multiply => left * right,
            DurationOp::Divide if right == 0.0 => return Err(by_zero("division")),
            DurationOp::Divide => left / right,
            DurationOp::Modulo if right == 0.0 => return Err(by_zero("modulo")),
            DurationOp::Modulo => left % right,
            DurationOp::Power => left.powf(right),
        })
    }
}

/// The lesser of two numbers: minus infinity when one is, else NaN when one is.
pub(super) fn go_min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a < b || (a == b && a.is_sign_negative()) {
        a
    } else {
        b
    }
}

/// The greater of two numbers: infinity when one is, else NaN when one is.
pub(super) fn go_max(a: f64, b: f64) -> f64 {
    -go_min(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_come_before_what_is_no_number() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        assert_eq!(go_min(nan, -inf), -inf);
        assert_eq!(go_max(inf, nan), inf);
        assert!(go_min(inf, nan).is_nan() && go_max(nan, -inf).is_nan());
        assert_eq!((go_min(1.0, -2.0), go_max(1.0, -2.0)), (-2.0, 1.0));
        assert!(go_max(-0.0, 0.0).is_sign_positive());
    }
}
