//! Filters on labels. One whose label is no number keeps the line and notes the error.

use kittiwake_model::{MatchOp, Matcher, duration};
use kittiwake_vector::Comparison;

use super::ip::IpMatcher;
use super::labels::LineLabels;
use super::{ERROR, FILTER_ERROR};
use crate::ast::LabelFilter;
use crate::units;

/// A filter, ready to run.
#[derive(Debug, Clone)]
pub(crate) enum CompiledFilter {
    /// Any value passes.
    All,
    Text(Matcher),
    Number(String, Comparison, f64),
    Duration(String, Comparison, i64),
    Bytes(String, Comparison, u64),
    Ip(String, bool, IpMatcher),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

impl CompiledFilter {
    pub(crate) fn new(filter: &LabelFilter) -> Result<Self, String> {
        Ok(match filter {
            LabelFilter::Text(matcher)
                if matcher.op() == MatchOp::Regex && matcher.value() == ".*" =>
            {
                Self::All
            }
            LabelFilter::Text(matcher) => Self::Text(matcher.clone()),
            LabelFilter::Number(name, op, number) => Self::Number(name.clone(), *op, *number),
            LabelFilter::Duration(name, op, ns) => Self::Duration(name.clone(), *op, *ns),
            LabelFilter::Bytes(name, op, bytes) => Self::Bytes(name.clone(), *op, *bytes),
            LabelFilter::Ip {
                name,
                is_negated,
                pattern,
            } => Self::Ip(name.clone(), *is_negated, IpMatcher::new(pattern)?),
            LabelFilter::And(left, right) => {
                Self::And(Box::new(Self::new(left)?), Box::new(Self::new(right)?))
            }
            LabelFilter::Or(left, right) => {
                Self::Or(Box::new(Self::new(left)?), Box::new(Self::new(right)?))
            }
        })
    }

    /// Calls `found` with each label that must equal a text.
    pub(crate) fn equalities(&self, found: &mut impl FnMut(&Matcher)) {
        match self {
            Self::Text(matcher) if matcher.op() == MatchOp::Equal => found(matcher),
            Self::And(left, right) => {
                left.equalities(found);
                right.equalities(found);
            }
            _ => {}
        }
    }

    /// Whether the labels pass.
    pub(crate) fn accepts(&self, labels: &mut LineLabels) -> bool {
        match self {
            Self::All => true,
            Self::Text(matcher) if matcher.name() == ERROR => matcher.matches(&labels.error),
            Self::Text(matcher) => matcher.matches(labels.get(matcher.name()).unwrap_or_default()),
            Self::Number(name, op, wanted) => {
                compare(labels, name, units::parse_float, |v| op.holds(v, *wanted))
            }
            Self::Duration(name, op, wanted) => {
                compare(labels, name, duration::parse, |v| ordered(*op, &v, wanted))
            }
            Self::Bytes(name, op, wanted) => compare(labels, name, units::parse_bytes, |v| {
                ordered(*op, &v, wanted)
            }),
            Self::Ip(name, is_negated, ip) => {
                if !labels.error.is_empty() {
                    return true;
                }
                labels
                    .get(name)
                    .is_some_and(|value| ip.is_in(value) != *is_negated)
            }
            Self::And(left, right) => {
                // Both sides run, since both may note an error.
                let passes = left.accepts(labels);
                right.accepts(labels) && passes
            }
            Self::Or(left, right) => left.accepts(labels) || right.accepts(labels),
        }
    }
}

impl CompiledFilter {
    /// Whether a line passes by the value of the one label that the filter looks at. Nothing
    /// when the line would note an error.
    pub(crate) fn accepts_value(&self, value: Option<&str>) -> Option<bool> {
        /// A label that is not there passes no comparison.
        fn holds<T>(
            value: Option<&str>,
            parse: impl Fn(&str) -> Result<T, String>,
            holds: impl Fn(T) -> bool,
        ) -> Option<bool> {
            value.map_or(Some(false), |v| parse(v).ok().map(holds))
        }
        match self {
            Self::All => Some(true),
            Self::Text(matcher) => Some(matcher.matches(value.unwrap_or_default())),
            Self::Number(_, op, wanted) => {
                holds(value, units::parse_float, |v| op.holds(v, *wanted))
            }
            Self::Duration(_, op, wanted) => {
                holds(value, duration::parse, |v| ordered(*op, &v, wanted))
            }
            Self::Bytes(_, op, wanted) => {
                holds(value, units::parse_bytes, |v| ordered(*op, &v, wanted))
            }
            Self::Ip(..) => None,
            Self::And(left, right) => {
                let (left, right) = (left.accepts_value(value)?, right.accepts_value(value)?);
                Some(left && right)
            }
            Self::Or(left, right) => {
                let left = left.accepts_value(value)?;
                if left {
                    Some(true)
                } else {
                    right.accepts_value(value)
                }
            }
        }
    }
}

fn ordered<T: Ord>(op: Comparison, a: &T, b: &T) -> bool {
    match op {
        Comparison::Equal => a == b,
        Comparison::NotEqual => a != b,
        Comparison::Less => a < b,
        Comparison::LessOrEqual => a <= b,
        Comparison::Greater => a > b,
        Comparison::GreaterOrEqual => a >= b,
    }
}

fn compare<T>(
    labels: &mut LineLabels,
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
    holds: impl Fn(T) -> bool,
) -> bool {
    let Some(value) = labels.get(name) else {
        return false;
    };
    match parse(value) {
        Ok(value) => holds(value),
        Err(details) => {
            // An earlier error may tell more.
            if labels.error.is_empty() {
                labels.set_error(FILTER_ERROR, &details);
            }
            true
        }
    }
}
