//! Operators between two sides: arithmetic, comparison, sets.

use std::collections::{HashMap, HashSet};

use kittiwake_model::Labels;
use kittiwake_model::labels::METRIC_NAME;

use crate::{Grouping, Series};

/// An operator that computes a number of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
}

impl Arithmetic {
    /// The result by IEEE 754; `%` takes the sign of the dividend.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Modulo => a % b,
            Self::Power => a.powf(b),
            Self::Atan2 => a.atan2(b),
        }
    }
}

/// An operator that keeps or drops a value, or says 1 or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Whether it holds; with NaN only `!=` does.
    pub fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
        }
    }
}

/// An operator on the label sets of two vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SetOp {
    And,
    Or,
    Unless,
}

/// Any of them, as both languages write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `+` and the like.
    Arithmetic(Arithmetic),
    /// `>` and the like.
    Comparison(Comparison),
    /// `and`, `or`, `unless`.
    Set(SetOp),
}

const NAMES: [(&str, Operator); 16] = [
    ("+", Operator::Arithmetic(Arithmetic::Add)),
    ("-", Operator::Arithmetic(Arithmetic::Subtract)),
    ("*", Operator::Arithmetic(Arithmetic::Multiply)),
    ("/", Operator::Arithmetic(Arithmetic::Divide)),
    ("%", Operator::Arithmetic(Arithmetic::Modulo)),
    ("^", Operator::Arithmetic(Arithmetic::Power)),
    ("atan2", Operator::Arithmetic(Arithmetic::Atan2)),
    ("==", Operator::Comparison(Comparison::Equal)),
    ("!=", Operator::Comparison(Comparison::NotEqual)),
    ("<=", Operator::Comparison(Comparison::LessOrEqual)),
    ("<", Operator::Comparison(Comparison::Less)),
    (">=", Operator::Comparison(Comparison::GreaterOrEqual)),
    (">", Operator::Comparison(Comparison::Greater)),
    ("and", Operator::Set(SetOp::And)),
    ("or", Operator::Set(SetOp::Or)),
    ("unless", Operator::Set(SetOp::Unless)),
];

impl Operator {
    /// The operator of a sign or word.
    pub fn of(text: &str) -> Option<Self> {
        NAMES.iter().find(|(n, _)| *n == text).map(|(_, op)| *op)
    }

    /// Its sign or word.
    pub fn as_str(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, op)| *op == self)
            .map_or("", |(n, _)| n)
    }

    /// How tightly it binds; a power binds to the right, all others to the left.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Set(SetOp::Or) => 1,
            Self::Set(_) => 2,
            Self::Comparison(_) => 3,
            Self::Arithmetic(Arithmetic::Add | Arithmetic::Subtract) => 4,
            Self::Arithmetic(Arithmetic::Power) => 6,
            Self::Arithmetic(_) => 5,
        }
    }

    /// The result of two numbers; `None` where a comparison that filters does not hold, and
    /// for sets.
    pub fn apply(self, returns_bool: bool, a: f64, b: f64) -> Option<f64> {
        match self {
            Self::Arithmetic(op) => Some(op.apply(a, b)),
            Self::Comparison(op) if returns_bool => Some(f64::from(u8::from(op.holds(a, b)))),
            Self::Comparison(op) => op.holds(a, b).then_some(a),
            Self::Set(_) => None,
        }
    }
}

/// How many series of each side may belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cardinality {
    /// One of each.
    #[default]
    OneToOne,
    /// Several of the left: `group_left`.
    ManyToOne,
    /// Several of the right: `group_right`.
    OneToMany,
}

/// Which series of two sides belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// By which labels.
    pub on: Grouping,
    /// How many of each side.
    pub cardinality: Cardinality,
    /// Labels that the result takes from the side of which there is one.
    pub include: Vec<String>,
}

impl Default for Matching {
    /// By all labels, one of each.
    fn default() -> Self {
        Self {
            on: Grouping::Without(Vec::new()),
            cardinality: Cardinality::OneToOne,
            include: Vec::new(),
        }
    }
}

/// Why two sides cannot be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BinaryError {
    /// The side that must be unique has two series of one key.
    #[error(
        "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side"
    )]
    ManyToMany {
        /// The labels matched on.
        group: Labels,
        /// `left` or `right`.
        side: &'static str,
        /// The later series.
        first: Labels,
        /// The earlier series.
        second: Labels,
    },
    /// A one-to-one operation found several series on the left.
    #[error(
        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
    )]
    ManyToOne,
    /// Two pairs give the same labels.
    #[error("multiple matches for labels: grouping labels must ensure unique matches")]
    NotUnique,
}

/// Arithmetic or comparison between two vectors, step by step.
pub fn binary(
    op: Operator,
    returns_bool: bool,
    left: &[Series],
    right: &[Series],
    matching: &Matching,
) -> Result<Vec<Series>, BinaryError> {
    let is_swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one, side) = if is_swapped {
        (right, left, "left")
    } else {
        (left, right, "right")
    };
    let mut of_key: HashMap<Labels, Vec<usize>> = HashMap::new();
    for (index, series) in one.iter().enumerate() {
        let key = matching.on.key(&series.labels);
        of_key.entry(key).or_default().push(index);
    }
    // An empty side gives nothing, whatever the other holds.
    if many.is_empty() {
        return Ok(Vec::new());
    }
    for (key, members) in &of_key {
        if let Some((first, second)) = meet(one, members) {
            return Err(BinaryError::ManyToMany {
                group: key.clone(),
                side,
                first: one[first].labels.clone(),
                second: one[second].labels.clone(),
            });
        }
    }
    let keeps_name = matches!(op, Operator::Comparison(_)) && !returns_bool;
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut result: Vec<Series> = Vec::new();
    // For one-to-one: which steps of a key are taken already.
    let mut taken: HashMap<Labels, Vec<bool>> = HashMap::new();
    for series in many {
        let key = matching.on.key(&series.labels);
        let Some(members) = of_key.get(&key) else {
            continue;
        };
        for member in members {
            let other = &one[*member];
            let labels = result_labels(&series.labels, &other.labels, matching, keeps_name);
            let steps = series.values.len();
            let place = *places.entry(labels.clone()).or_insert_with(|| {
                result.push(Series {
                    labels,
                    values: vec![None; steps],
                });
                result.len() - 1
            });
            let taken = taken
                .entry(key.clone())
                .or_insert_with(|| vec![false; steps]);
            for (step, taken) in taken.iter_mut().enumerate() {
                let (Some(m), Some(o)) = (series.values[step], other.values[step]) else {
                    continue;
                };
                if matching.cardinality == Cardinality::OneToOne && std::mem::replace(taken, true) {
                    return Err(BinaryError::ManyToOne);
                }
                let (l, r) = if is_swapped { (o, m) } else { (m, o) };
                let Some(value) = op.apply(returns_bool, l, r) else {
                    continue;
                };
                let slot = &mut result[place].values[step];
                if slot.is_some() {
                    return Err(BinaryError::NotUnique);
                }
                *slot = Some(value);
            }
        }
    }
    result.retain(|s| s.values.iter().any(Option::is_some));
    Ok(result)
}

/// Two of the members that have a value at the same step.
fn meet(series: &[Series], members: &[usize]) -> Option<(usize, usize)> {
    if members.len() < 2 {
        return None;
    }
    let steps = series[members[0]].values.len();
    (0..steps).find_map(|step| {
        let mut present = members
            .iter()
            .filter(|m| series[**m].values[step].is_some());
        let second = *present.next()?;
        Some((*present.next()?, second))
    })
}

fn result_labels(many: &Labels, one: &Labels, matching: &Matching, keeps_name: bool) -> Labels {
    let mut builder = many.to_builder();
    if !keeps_name {
        builder.remove(METRIC_NAME);
    }
    if matching.cardinality == Cardinality::OneToOne {
        match &matching.on {
            Grouping::By(names) => {
                builder.retain(|name, _| names.iter().any(|n| n == name));
            }
            Grouping::Without(names) => {
                builder.retain(|name, _| !names.iter().any(|n| n == name));
            }
        }
    }
    for name in &matching.include {
        builder.set(name, one.get(name).unwrap_or(""));
    }
    // Names were unique in both.
    builder.build().unwrap_or_else(|_| many.clone())
}

/// Combines two vectors by the keys that `on` gives, step by step. The left side's order is
/// kept.
pub fn set(op: SetOp, left: &[Series], right: &[Series], on: &Grouping) -> Vec<Series> {
    let presence = |side: &[Series]| {
        let mut of_key: HashMap<Labels, Vec<bool>> = HashMap::new();
        for series in side {
            let steps = of_key
                .entry(on.key(&series.labels))
                .or_insert_with(|| vec![false; series.values.len()]);
            for (there, value) in steps.iter_mut().zip(&series.values) {
                *there |= value.is_some();
            }
        }
        of_key
    };
    let pick = |side: &[Series], other: &HashMap<Labels, Vec<bool>>, shared: bool| {
        let mut picked = Vec::new();
        for series in side {
            let there = other.get(&on.key(&series.labels));
            let values =
                series.values.iter().enumerate().map(|(step, value)| {
                    value.filter(|_| there.is_some_and(|t| t[step]) == shared)
                });
            let values: Vec<Option<f64>> = values.collect();
            if values.iter().any(Option::is_some) {
                picked.push(Series {
                    labels: series.labels.clone(),
                    values,
                });
            }
        }
        picked
    };
    match op {
        SetOp::And => pick(left, &presence(right), true),
        SetOp::Unless => pick(left, &presence(right), false),
        SetOp::Or => {
            let mut all = left.to_vec();
            let mut places: HashMap<Labels, usize> = HashMap::new();
            let names: HashSet<&Labels> = right.iter().map(|s| &s.labels).collect();
            for (index, series) in all.iter().enumerate() {
                if names.contains(&series.labels) {
                    places.insert(series.labels.clone(), index);
                }
            }
            for series in pick(right, &presence(left), false) {
                // The same series can come from the left at some steps and from the right at
                // others.
                match places.get(&series.labels) {
                    None => all.push(series),
                    Some(place) => {
                        for (there, new) in all[*place].values.iter_mut().zip(series.values) {
                            *there = there.or(new);
                        }
                    }
                }
            }
            all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(pairs: &[(&str, &str)], values: &[Option<f64>]) -> Series {
        Series {
            labels: Labels::from_pairs(pairs.iter().copied()).unwrap(),
            values: values.to_vec(),
        }
    }

    #[test]
    fn sets_go_by_key_and_step() {
        let left = [
            one(&[("a", "1")], &[Some(1.0), Some(1.0)]),
            one(&[("a", "2")], &[Some(2.0), Some(2.0)]),
        ];
        let right = [
            one(&[("a", "2")], &[Some(3.0), None]),
            one(&[("a", "3")], &[Some(4.0), None]),
        ];
        let by = Grouping::Without(vec![]);
        let values = |op| {
            let result = set(op, &left, &right, &by);
            result.into_iter().map(|s| s.values).collect::<Vec<_>>()
        };
        assert_eq!(values(SetOp::And), [[Some(2.0), None]]);
        assert_eq!(
            values(SetOp::Unless),
            [[Some(1.0), Some(1.0)], [None, Some(2.0)]]
        );
        assert_eq!(values(SetOp::Or).len(), 3);
    }

    #[test]
    fn ambiguous_pairs_are_errors_only_where_they_meet() {
        let on = Matching {
            on: Grouping::By(vec!["a".to_owned()]),
            ..Matching::default()
        };
        let add = Operator::Arithmetic(Arithmetic::Add);
        let left = [one(&[("a", "1")], &[Some(1.0), Some(1.0)])];
        let apart = [
            one(&[("a", "1"), ("b", "x")], &[Some(10.0), None]),
            one(&[("a", "1"), ("b", "y")], &[None, Some(20.0)]),
        ];
        let sum = binary(add, false, &left, &apart, &on).unwrap();
        assert_eq!(sum[0].values, [Some(11.0), Some(21.0)]);
        let meeting = [
            apart[0].clone(),
            one(&[("a", "1"), ("b", "y")], &[Some(1.0), None]),
        ];
        let error = binary(add, false, &left, &meeting, &on).unwrap_err();
        assert!(error.to_string().contains("right hand-side"), "{error}");
        let error = binary(add, false, &meeting, &left, &on).unwrap_err();
        assert_eq!(error, BinaryError::ManyToOne);
        let group = Matching {
            cardinality: Cardinality::ManyToOne,
            ..on
        };
        assert_eq!(
            binary(add, false, &meeting, &left, &group).unwrap().len(),
            2
        );
    }

    #[test]
    fn nan_differs_from_itself() {
        assert!(Comparison::NotEqual.holds(f64::NAN, f64::NAN));
        assert!(!Comparison::Equal.holds(f64::NAN, f64::NAN));
        assert_eq!(Arithmetic::Modulo.apply(-5.0, 3.0), -2.0);
    }
}
