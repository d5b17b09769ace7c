//! What a tree must hold beyond its form: types, numbers of arguments, where modifiers may
//! stand.

use kittiwake_model::Matcher;
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_vector::{Cardinality, Fill, Grouping, Operator};

use crate::ast::{Aggregation, Binary, Call, Expr, Place, Selector, ValueType};
use crate::error::ParseError;
use kittiwake_model::quote;

/// Checks a whole expression; gives the first error in order of reading.
pub(super) fn check(query: &str, expr: &mut Expr) -> Result<(), ParseError> {
    Check { query }.expr(expr)
}

struct Check<'a> {
    query: &'a str,
}

type Checked = Result<(), ParseError>;

impl Check<'_> {
    fn fail(&self, place: Place, message: impl Into<String>) -> Checked {
        Err(ParseError::at(self.query, place, message))
    }

    fn expr(&self, expr: &mut Expr) -> Checked {
        match expr {
            Expr::Number(_) | Expr::Text(_) => Ok(()),
            Expr::Vector(selector) => self.selector(selector, true),
            Expr::Matrix(matrix) => self.selector(&matrix.selector, true),
            Expr::Subquery(subquery) => {
                self.expr(&mut subquery.inner)?;
                let got = subquery.inner.value_type();
                if got != ValueType::Vector {
                    let got = got.as_str();
                    return self.fail(
                        subquery.place,
                        format!("subquery is only allowed on instant vector, got {got} instead"),
                    );
                }
                Ok(())
            }
            Expr::Call(call) => self.call(call),
            Expr::Aggregate(aggregation) => self.aggregation(aggregation),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Paren(paren) => self.expr(&mut paren.inner),
            Expr::Unary(unary) => {
                self.expr(&mut unary.inner)?;
                match unary.inner.value_type() {
                    ValueType::Scalar | ValueType::Vector => Ok(()),
                    got => self.fail(
                        unary.place,
                        format!(
                            "unary expression only allowed on expressions of type scalar or instant vector, got \"{got}\""
                        ),
                    ),
                }
            }
        }
    }

    fn expect(&self, expr: &mut Expr, want: ValueType, context: &str) -> Checked {
        self.expr(expr)?;
        let got = expr.value_type();
        if got == want {
            return Ok(());
        }
        self.fail(
            expr.place(),
            format!("expected type {want} in {context}, got {got}"),
        )
    }

    fn aggregation(&self, aggregation: &mut Aggregation) -> Checked {
        self.expect(
            &mut aggregation.inner,
            ValueType::Vector,
            "aggregation expression",
        )?;
        if let (Some(param), Some(want)) = (&mut aggregation.param, aggregation.op.param()) {
            self.expect(param, want, "aggregation parameter")?;
        }
        Ok(())
    }

    fn call(&self, call: &mut Call) -> Checked {
        let (function, given) = (call.function, call.args.len());
        let name = quote(function.name);
        let known = function.args.len();
        if function.variadic == 0 {
            if given != known {
                return self.fail(
                    call.place,
                    format!("expected {known} argument(s) in call to {name}, got {given}"),
                );
            }
        } else {
            let least = known.saturating_sub(1);
            let most = usize::try_from(function.variadic).map(|more| least + more);
            if given < least {
                return self.fail(
                    call.place,
                    format!("expected at least {least} argument(s) in call to {name}, got {given}"),
                );
            }
            if let Ok(most) = most
                && given > most
            {
                return self.fail(
                    call.place,
                    format!("expected at most {most} argument(s) in call to {name}, got {given}"),
                );
            }
        }
        if function.name == "info"
            && let Some(labels) = call.args.get(1)
        {
            let (place, got) = (labels.place(), labels.value_type());
            if got != ValueType::Vector {
                return self.fail(
                    call.place,
                    format!(
                        "expected type {} in call to function {name}, got {got}",
                        ValueType::Vector
                    ),
                );
            }
            return match labels {
                Expr::Vector(selector) if selector.name.is_empty() => {
                    self.selector(selector, false)?;
                    self.argument(call, 0)
                }
                Expr::Vector(_) => self.fail(
                    place,
                    "expected label selectors only, got vector selector instead",
                ),
                _ => self.fail(place, "expected label selectors only"),
            };
        }
        (0..given).try_for_each(|index| self.argument(call, index))
    }

    fn argument(&self, call: &mut Call, index: usize) -> Checked {
        let function = call.function;
        let want = function.args.get(index).or(function.args.last());
        let Some(want) = want else { return Ok(()) };
        let name = quote(function.name);
        let context = format!("call to function {name}");
        self.expect(&mut call.args[index], *want, &context)
    }

    /// The operator with what belongs to it.
    fn between(&self, binary: &Binary) -> Place {
        let start = binary.left.place().end;
        let end = binary.right.place().start;
        let text = self.query.get(start..end).unwrap_or_default();
        let skipped = text.len() - text.trim_start().len();
        Place {
            start: start + skipped,
            end: start + text.trim_end().len(),
        }
    }

    fn binary(&self, binary: &mut Binary) -> Checked {
        self.expr(&mut binary.left)?;
        self.expr(&mut binary.right)?;
        let (left, right) = (binary.left.value_type(), binary.right.value_type());
        let is_comparison = matches!(binary.op, Operator::Comparison(_));
        let is_set = matches!(binary.op, Operator::Set(_));
        let op = quote(binary.op.as_str());
        let whole = binary.left.place().to(binary.right.place().end);
        if binary.returns_bool && !is_comparison {
            return self.fail(
                self.between(binary),
                "bool modifier can only be used on comparison operators",
            );
        }
        let both_scalar = left == ValueType::Scalar && right == ValueType::Scalar;
        if is_comparison && !binary.returns_bool && both_scalar {
            return self.fail(
                self.between(binary),
                "comparisons between scalars must use BOOL modifier",
            );
        }
        if let Some(matching) = &binary.matching
            && let Grouping::By(on) = &matching.on
            && let Some(label) = on.iter().find(|label| matching.include.contains(label))
        {
            let label = quote(label);
            return self.fail(
                self.between(binary),
                format!("label {label} must not occur in ON and GROUP clause at once"),
            );
        }
        for (side, got) in [(&binary.left, left), (&binary.right, right)] {
            if !matches!(got, ValueType::Scalar | ValueType::Vector) {
                return self.fail(
                    side.place(),
                    "binary expression must contain only scalar and instant vector types",
                );
            }
        }
        let Some(matching) = &binary.matching else {
            return Ok(());
        };
        let (Grouping::By(labels) | Grouping::Without(labels)) = &matching.on;
        let has_fill = matching.fill != Fill::default();
        if left != ValueType::Vector || right != ValueType::Vector {
            if !labels.is_empty() {
                return self.fail(
                    whole,
                    "vector matching only allowed between instant vectors",
                );
            }
            if has_fill {
                return self.fail(
                    whole,
                    "filling in missing series only allowed between instant vectors",
                );
            }
            binary.matching = None;
        } else if is_set {
            if matching.cardinality != Cardinality::OneToOne {
                return self.fail(whole, format!("no grouping allowed for {op} operation"));
            }
            if has_fill {
                return self.fail(
                    whole,
                    "filling in missing series not allowed for set operators",
                );
            }
        }
        if is_set && (left == ValueType::Scalar || right == ValueType::Scalar) {
            return self.fail(
                whole,
                format!("set operator {op} not allowed in binary scalar expression"),
            );
        }
        Ok(())
    }

    fn selector(&self, selector: &Selector, needs_matcher: bool) -> Checked {
        if !selector.name.is_empty() {
            let others = selector.matchers.split_last().map_or(&[][..], |(_, o)| o);
            if let Some(twice) = others.iter().find(|m| m.name() == METRIC_NAME) {
                let (name, other) = (quote(&selector.name), quote(twice.value()));
                return self.fail(
                    selector.place,
                    format!("metric name must not be set twice: {name} or {other}"),
                );
            }
            return Ok(());
        }
        if needs_matcher && selector.matchers.iter().all(Matcher::matches_empty) {
            return self.fail(
                selector.place,
                "vector selector must contain at least one non-empty matcher",
            );
        }
        Ok(())
    }
}
