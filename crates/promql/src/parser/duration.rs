//! Durations inside brackets and behind `offset`, calculated ones included.

use kittiwake_vector::{Arithmetic, Operator};

use super::Parser;
use super::lexer::{Keyword, Kind, Token};
use crate::ast::{DurationExpr, DurationOp, DurationValue, Length, Place};
use crate::error::ParseError;

/// Seconds that fit Prometheus' ns.
const SECONDS_MAX: f64 = 9_223_372_036.854_776;

fn op_of(kind: Kind) -> Option<(DurationOp, u8)> {
    let Kind::Operator(Operator::Arithmetic(op)) = kind else {
        return None;
    };
    Some(match op {
        Arithmetic::Add => (DurationOp::Add, 4),
        Arithmetic::Subtract => (DurationOp::Subtract, 4),
        Arithmetic::Multiply => (DurationOp::Multiply, 5),
        Arithmetic::Divide => (DurationOp::Divide, 5),
        Arithmetic::Modulo => (DurationOp::Modulo, 5),
        Arithmetic::Power => (DurationOp::Power, 6),
        Arithmetic::Atan2 => return None,
    })
}

fn is_sign(kind: Kind) -> Option<bool> {
    match kind {
        Kind::Operator(Operator::Arithmetic(Arithmetic::Add)) => Some(false),
        Kind::Operator(Operator::Arithmetic(Arithmetic::Subtract)) => Some(true),
        _ => None,
    }
}

impl DurationValue {
    /// As a length; a plain number is one of seconds.
    pub(super) fn into_length(self) -> Length {
        match self {
            // As Prometheus: rounded to ns, then cut to ms.
            Self::Number(number) => {
                Length::Fixed(((number.value * 1e9).round() / 1e6).trunc() as i64)
            }
            Self::Expr(expr) => Length::Computed(expr),
        }
    }

    fn wrapped(self, place: Place) -> DurationExpr {
        match self {
            Self::Expr(expr) => DurationExpr {
                is_wrapped: true,
                ..expr
            },
            number @ Self::Number(_) => DurationExpr {
                op: DurationOp::Add,
                left: None,
                right: Some(Box::new(number)),
                is_wrapped: true,
                place,
            },
        }
    }
}

fn signed(sign: Token<'_>, is_negative: bool, inner: DurationValue) -> DurationValue {
    match inner {
        DurationValue::Number(mut number) => {
            if is_negative {
                number.value = -number.value;
            }
            number.place.start = sign.start;
            DurationValue::Number(number)
        }
        inner @ DurationValue::Expr(_) if !is_negative => inner,
        inner @ DurationValue::Expr(_) => {
            let place = sign.place().to(inner.place().end);
            DurationValue::Expr(DurationExpr {
                op: DurationOp::Subtract,
                left: None,
                right: Some(Box::new(inner)),
                is_wrapped: false,
                place,
            })
        }
    }
}

impl Parser<'_> {
    /// A duration that must be longer than 0.
    pub(super) fn positive_duration(&mut self, depth: usize) -> Result<DurationValue, ParseError> {
        let value = self.duration(0, depth)?;
        if let DurationValue::Number(number) = &value
            && number.value <= 0.0
        {
            self.report(number.place, "duration must be greater than 0");
        }
        Ok(value)
    }

    /// What may stand behind `offset`. A sum or product needs brackets there.
    pub(super) fn offset_duration(&mut self, depth: usize) -> Result<DurationValue, ParseError> {
        match is_sign(self.token.kind) {
            // Not even a power belongs to what a sign stands before here.
            Some(is_negative) => {
                let sign = self.next_token();
                let inner = self.duration_primary(depth + 1)?;
                Ok(signed(sign, is_negative, inner))
            }
            None if self.token.kind == Kind::LeftParen => self.duration(0, depth),
            None => self.duration_primary(depth),
        }
    }

    fn duration(&mut self, least: u8, depth: usize) -> Result<DurationValue, ParseError> {
        self.check_depth(depth)?;
        let mut left = self.duration_unary(depth + 1)?;
        let mut height = 0;
        while let Some((op, precedence)) = op_of(self.token.kind).filter(|(_, p)| *p >= least) {
            height += 1;
            self.check_depth(depth + height)?;
            let sign = self.next_token();
            let next = precedence + u8::from(op != DurationOp::Power);
            let right = self.duration(next, depth + 1)?;
            if let DurationValue::Number(number) = &right
                && number.value == 0.0
            {
                match op {
                    DurationOp::Divide => self.report(sign.place(), "division by zero"),
                    DurationOp::Modulo => self.report(sign.place(), "modulo by zero"),
                    _ => {}
                }
            }
            let place = left.place().to(right.place().end);
            left = DurationValue::Expr(DurationExpr {
                op,
                left: Some(Box::new(left)),
                right: Some(Box::new(right)),
                is_wrapped: false,
                place,
            });
        }
        Ok(left)
    }

    fn duration_unary(&mut self, depth: usize) -> Result<DurationValue, ParseError> {
        self.check_depth(depth)?;
        let Some(is_negative) = is_sign(self.token.kind) else {
            return self.duration_primary(depth + 1);
        };
        let sign = self.next_token();
        // A sign binds as a product does: less than a power.
        let inner = self.duration(6, depth + 1)?;
        Ok(signed(sign, is_negative, inner))
    }

    fn duration_primary(&mut self, depth: usize) -> Result<DurationValue, ParseError> {
        let token = self.token;
        match token.kind {
            Kind::Number | Kind::Duration => {
                self.next_token();
                let number = self.number(token);
                if number.value.abs() > SECONDS_MAX {
                    self.report(number.place, "duration out of range");
                }
                Ok(DurationValue::Number(number))
            }
            Kind::LeftParen => {
                self.next_token();
                let inner = self.duration(0, depth + 1)?;
                let end = self.expect(Kind::RightParen, "duration", "\")\"")?;
                let place = token.place().to(end.place().end);
                Ok(DurationValue::Expr(inner.wrapped(place)))
            }
            Kind::Keyword(Keyword::Step) => self.duration_call(token, DurationOp::Step, depth),
            Kind::Keyword(Keyword::Range) => self.duration_call(token, DurationOp::Range, depth),
            Kind::Keyword(Keyword::MaxOf) => self.duration_call(token, DurationOp::MaxOf, depth),
            Kind::Keyword(Keyword::MinOf) => self.duration_call(token, DurationOp::MinOf, depth),
            _ => Err(self.unexpected_duration()),
        }
    }

    fn duration_call(
        &mut self,
        word: Token<'_>,
        op: DurationOp,
        depth: usize,
    ) -> Result<DurationValue, ParseError> {
        self.next_token();
        self.expect(Kind::LeftParen, "duration", "\"(\"")?;
        let (mut left, mut right) = (None, None);
        if matches!(op, DurationOp::MaxOf | DurationOp::MinOf) {
            left = Some(Box::new(self.duration(0, depth + 1)?));
            self.expect(Kind::Comma, "duration", "\",\"")?;
            right = Some(Box::new(self.duration(0, depth + 1)?));
        }
        let end = self.expect(Kind::RightParen, "duration", "\")\"")?;
        Ok(DurationValue::Expr(DurationExpr {
            op,
            left,
            right,
            is_wrapped: false,
            place: word.place().to(end.place().end),
        }))
    }
}
