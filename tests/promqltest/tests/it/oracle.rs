//! Every query of the scripts gives the tree that the crate `promql-parser` gives, where that
//! crate takes it.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use kittiwake_promql::Expr;
use kittiwake_promql::ast::{At, Length, Selector, Shift};
use kittiwake_promqltest::queries;
use kittiwake_vector::{Cardinality, Grouping, Operator};
use promql_parser::label::Matchers;
use promql_parser::parser::{
    self, AtModifier, Expr as Other, LabelModifier, Offset, VectorMatchCardinality,
};

/// `None` where a tree has what the other crate does not know.
fn ours(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::Number(number) => format!("(number {})", number.value),
        // The other crate takes an escaped byte for a character.
        Expr::Text(text) if text.bytes.is_some() => return None,
        Expr::Text(text) => format!("(text {:?})", text.value),
        Expr::Vector(selector) => selector_of(selector)?,
        Expr::Matrix(matrix) => {
            let selector = selector_of(&matrix.selector)?;
            format!("(range {selector} {})", length(&matrix.range)?)
        }
        Expr::Subquery(subquery) => {
            let step = match &subquery.step {
                Some(step) => length(step)?,
                None => 0,
            };
            let (inner, range) = (ours(&subquery.inner)?, length(&subquery.range)?);
            format!(
                "(subquery {inner} {range} {step} {})",
                shift(&subquery.shift)?
            )
        }
        Expr::Call(call) => {
            let args: Option<Vec<String>> = call.args.iter().map(ours).collect();
            format!("(call {} {})", call.function.name, args?.join(" "))
        }
        Expr::Aggregate(aggregation) => {
            let param = match &aggregation.param {
                Some(param) => ours(param)?,
                None => String::new(),
            };
            let (op, inner) = (aggregation.op.as_str(), ours(&aggregation.inner)?);
            let word = if aggregation.is_without {
                "without"
            } else {
                "by"
            };
            format!("({op} {word} {:?} {param} {inner})", aggregation.grouping)
        }
        Expr::Binary(binary) => {
            let (op, left, right) = (binary.op.as_str(), &binary.left, &binary.right);
            let matching = binary.matching.as_ref().map(|matching| {
                let on = match &matching.on {
                    Grouping::By(names) => format!("on {names:?}"),
                    Grouping::Without(names) => format!("ignoring {names:?}"),
                };
                let include = &matching.include;
                let group = match matching.cardinality {
                    Cardinality::OneToOne if matches!(binary.op, Operator::Set(_)) => "set",
                    Cardinality::OneToOne => "one",
                    Cardinality::ManyToOne => "left",
                    Cardinality::OneToMany => "right",
                };
                let fill = (matching.fill.left, matching.fill.right);
                format!("{on} {group} {include:?} {fill:?}")
            });
            let matching = matching.unwrap_or_default();
            let is_bool = binary.returns_bool;
            format!(
                "({op} {is_bool} {matching} {} {})",
                ours(left)?,
                ours(right)?
            )
        }
        // The other crate forgets a `+` and knows only `-`.
        Expr::Unary(unary) if !unary.is_negative => ours(&unary.inner)?,
        Expr::Unary(unary) => format!("(- {})", ours(&unary.inner)?),
        Expr::Paren(paren) => format!("(paren {})", ours(&paren.inner)?),
    })
}

fn length(length: &Length) -> Option<i64> {
    match length {
        Length::Fixed(ms) => Some(*ms),
        Length::Computed(_) => None,
    }
}

fn shift(shift: &Shift) -> Option<String> {
    let at = match shift.at {
        None => String::new(),
        Some(At::Time(ms)) => ms.to_string(),
        Some(At::Start) => "start".to_owned(),
        Some(At::End) => "end".to_owned(),
    };
    Some(format!("offset {} at {at}", length(&shift.offset)?))
}

fn selector_of(selector: &Selector) -> Option<String> {
    if selector.edges != kittiwake_promql::ast::Edges::Plain {
        return None;
    }
    let matchers = selector.matchers.iter();
    let matchers = matchers.map(|m| format!("{}{}{:?}", m.name(), m.op(), m.value()));
    let mut matchers: Vec<String> = matchers.collect();
    matchers.sort();
    Some(format!("(select {matchers:?} {})", shift(&selector.shift)?))
}

fn theirs(expr: &Other) -> String {
    match expr {
        Other::NumberLiteral(number) => format!("(number {})", number.val),
        Other::StringLiteral(text) => format!("(text {:?})", text.val),
        Other::VectorSelector(selector) => their_selector(selector),
        Other::MatrixSelector(matrix) => {
            format!(
                "(range {} {})",
                their_selector(&matrix.vs),
                ms(matrix.range)
            )
        }
        Other::Subquery(subquery) => {
            let (inner, range) = (theirs(&subquery.expr), ms(subquery.range));
            let step = subquery.step.map_or(0, ms);
            let shift = their_shift(subquery.offset.as_ref(), subquery.at.as_ref());
            format!("(subquery {inner} {range} {step} {shift})")
        }
        Other::Call(call) => {
            let args: Vec<String> = call.args.args.iter().map(|arg| theirs(arg)).collect();
            format!("(call {} {})", call.func.name, args.join(" "))
        }
        Other::Aggregate(aggregation) => {
            let param = aggregation.param.as_ref().map(|param| theirs(param));
            let (word, names) = match &aggregation.modifier {
                Some(LabelModifier::Exclude(names)) => ("without", names.labels.clone()),
                Some(LabelModifier::Include(names)) => ("by", names.labels.clone()),
                None => ("by", Vec::new()),
            };
            let (op, inner) = (aggregation.op, theirs(&aggregation.expr));
            format!(
                "({op} {word} {names:?} {} {inner})",
                param.unwrap_or_default()
            )
        }
        Other::Binary(binary) => their_binary(binary),
        Other::Unary(unary) => format!("(- {})", theirs(&unary.expr)),
        Other::Paren(paren) => format!("(paren {})", theirs(&paren.expr)),
        Other::Extension(_) => String::new(),
    }
}

fn their_binary(binary: &parser::BinaryExpr) -> String {
    let is_vector = |expr: &Other| expr.value_type() == parser::value::ValueType::Vector;
    let modifier = binary.modifier.clone().unwrap_or_default();
    let op = binary.op.to_string();
    let mut matching = String::new();
    if is_vector(&binary.lhs) && is_vector(&binary.rhs) {
        match &modifier.matching {
            Some(LabelModifier::Include(names)) => {
                let _ = write!(matching, "on {:?}", names.labels);
            }
            Some(LabelModifier::Exclude(names)) => {
                let _ = write!(matching, "ignoring {:?}", names.labels);
            }
            None => matching.push_str("ignoring []"),
        }
        let none = Vec::new();
        let (group, include) = match &modifier.card {
            _ if matches!(op.as_str(), "and" | "or" | "unless") => ("set", &none),
            VectorMatchCardinality::ManyToOne(names) => ("left", &names.labels),
            VectorMatchCardinality::OneToMany(names) => ("right", &names.labels),
            _ => ("one", &none),
        };
        let fill = (modifier.fill_values.lhs, modifier.fill_values.rhs);
        let _ = write!(matching, " {group} {include:?} {fill:?}");
    }
    let (left, right) = (theirs(&binary.lhs), theirs(&binary.rhs));
    format!("({op} {} {matching} {left} {right})", modifier.return_bool)
}

fn ms(duration: Duration) -> i64 {
    duration.as_millis() as i64
}

fn their_shift(offset: Option<&Offset>, at: Option<&AtModifier>) -> String {
    let offset = match offset {
        None => 0,
        Some(Offset::Pos(duration)) => ms(*duration),
        Some(Offset::Neg(duration)) => -ms(*duration),
    };
    let at = match at {
        None => String::new(),
        Some(AtModifier::Start) => "start".to_owned(),
        Some(AtModifier::End) => "end".to_owned(),
        Some(AtModifier::At(time)) => match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => ms(after).to_string(),
            Err(before) => (-ms(before.duration())).to_string(),
        },
    };
    format!("offset {offset} at {at}")
}

fn their_selector(selector: &parser::VectorSelector) -> String {
    let Matchers { matchers, .. } = &selector.matchers;
    let matchers = matchers.iter();
    let matchers = matchers.map(|m| format!("{}{}{:?}", m.name, m.op, m.value));
    let mut matchers: Vec<String> = matchers.collect();
    if let Some(name) = &selector.name {
        matchers.push(format!("__name__={name:?}"));
    }
    matchers.sort();
    matchers.dedup();
    let shift = their_shift(selector.offset.as_ref(), selector.at.as_ref());
    format!("(select {matchers:?} {shift})")
}

#[test]
fn trees_are_those_of_another_parser() {
    let Some(scripts) = super::conformance() else {
        return;
    };
    let (mut same, mut differences) = (0, Vec::new());
    for (file, text) in scripts {
        for (line, query) in queries(&text) {
            let Ok(other) = parser::parse(&query) else {
                continue;
            };
            let Ok(expr) = kittiwake_promql::parse(&query) else {
                differences.push(format!("{}:{line}: {query}: refused", file.display()));
                continue;
            };
            let Some(own) = ours(&expr) else { continue };
            let other = theirs(&other);
            if own == other {
                same += 1;
            } else {
                differences.push(format!(
                    "{}:{line}: {query}\n  {own}\n  {other}",
                    file.display()
                ));
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert!(same > 1000, "{same}");
}
