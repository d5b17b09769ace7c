//! Operators between two sides: arithmetic, comparison, sets.

use std::collections::HashMap;
use std::sync::Arc;

use kittiwake_model::{FloatHistogram, Labels, STALE_NAN_BITS, stale_nan};

use crate::{
    Arithmetic, Comparison, Grouping, HistogramOperation, Note, Notes, Operator, Sample, Series,
    SetOp, Trim,
};

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

/// Values that stand for series that a side lacks.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Fill {
    /// For the left side.
    pub left: Option<f64>,
    /// For the right side.
    pub right: Option<f64>,
}

/// Which series of two sides belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Matching {
    /// By which labels.
    pub on: Grouping,
    /// How many of each side.
    pub cardinality: Cardinality,
    /// Labels that the result takes from the side of which there is one.
    pub include: Vec<String>,
    /// What stands for missing series.
    pub fill: Fill,
}

impl Default for Matching {
    /// By all labels, one of each.
    fn default() -> Self {
        Self {
            on: Grouping::Without(Vec::new()),
            cardinality: Cardinality::OneToOne,
            include: Vec::new(),
            fill: Fill::default(),
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
        /// The series that sorts first.
        first: String,
        /// The other one.
        second: String,
    },
    /// A one-to-one operation found several series on the left.
    #[error(
        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
    )]
    ManyToOne,
    /// Two pairs give the same labels.
    #[error("multiple matches for labels: grouping labels must ensure unique matches")]
    NotUnique,
    /// Pairs of different groups give the same labels.
    #[error(transparent)]
    SameLabels(#[from] crate::SameLabels),
}

/// A value of a result.
enum Outcome {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// The result of two values and whether a comparison keeps it; an error says why there is none.
fn combine(
    op: Operator,
    left: Sample<'_>,
    right: Sample<'_>,
    notes: &mut Notes,
) -> Result<(Outcome, bool), Note> {
    use Outcome::{Float, Histogram};
    let changed = |histogram: &Arc<FloatHistogram>, change: &dyn Fn(&mut FloatHistogram)| {
        let mut result = histogram.as_ref().clone();
        change(&mut result);
        Ok((Histogram(Arc::new(result)), true))
    };
    match (left, right) {
        (Sample::Float(l), Sample::Float(r)) => match op {
            Operator::Arithmetic(op) => Ok((Float(op.apply(l, r)), true)),
            Operator::Comparison(op) => Ok((Float(l), op.holds(l, r))),
            _ => Err(Note::IncompatibleTypes("float", "float")),
        },
        (Sample::Float(factor), Sample::Histogram(h)) => match op {
            Operator::Arithmetic(Arithmetic::Multiply) => changed(h, &|h| {
                h.scale(factor);
                h.compact();
            }),
            _ => Err(Note::IncompatibleTypes("float", "histogram")),
        },
        (Sample::Histogram(h), Sample::Float(number)) => match op {
            Operator::Arithmetic(Arithmetic::Multiply) => changed(h, &|h| {
                h.scale(number);
                h.compact();
            }),
            Operator::Arithmetic(Arithmetic::Divide) => changed(h, &|h| {
                h.divide(number);
                h.compact();
            }),
            Operator::Trim(trim) => changed(h, &|h| h.trim(number, trim == Trim::Upper)),
            _ => Err(Note::IncompatibleTypes("histogram", "float")),
        },
        (Sample::Histogram(l), Sample::Histogram(r)) => match op {
            Operator::Arithmetic(op @ (Arithmetic::Add | Arithmetic::Subtract)) => {
                let mut result = l.as_ref().clone();
                let (merged, operation) = if op == Arithmetic::Add {
                    (result.add(r), HistogramOperation::Add)
                } else {
                    (result.subtract(r), HistogramOperation::Subtract)
                };
                let merged = merged.map_err(|_| Note::IncompatibleBuckets)?;
                if merged.bounds_reconciled {
                    notes.add(Note::BoundsReconciled(operation));
                }
                if merged.hints_collide {
                    return Err(Note::ResetsCollide(operation));
                }
                if op == Arithmetic::Subtract {
                    result.reset_hint = kittiwake_model::histogram::ResetHint::Gauge;
                }
                result.compact();
                Ok((Histogram(Arc::new(result)), true))
            }
            Operator::Comparison(Comparison::Equal) => Ok((Histogram(Arc::clone(l)), l.same_as(r))),
            Operator::Comparison(Comparison::NotEqual) => {
                Ok((Histogram(Arc::clone(l)), !l.same_as(r)))
            }
            _ => Err(Note::IncompatibleTypes("histogram", "histogram")),
        },
    }
}

/// Whether a name says what a series is, and so goes when its values change.
pub fn is_metadata(name: &str) -> bool {
    matches!(name, "__name__" | "__type__" | "__unit__")
}

/// An operation between a vector and a number per step, which stands on the left when
/// `is_swapped`. Series that keep no value stay, empty.
pub fn with_scalar(
    op: Operator,
    returns_bool: bool,
    series: &mut Series,
    scalars: &[f64],
    is_swapped: bool,
    notes: &mut Notes,
) {
    let is_comparison = matches!(op, Operator::Comparison(_));
    if series.histograms.is_empty() {
        for (value, scalar) in series.floats.iter_mut().zip(scalars) {
            if value.to_bits() == STALE_NAN_BITS {
                continue;
            }
            let (l, r) = if is_swapped {
                (*scalar, *value)
            } else {
                (*value, *scalar)
            };
            *value = match op {
                Operator::Arithmetic(op) => op.apply(l, r),
                Operator::Comparison(op) if returns_bool => f64::from(u8::from(op.holds(l, r))),
                Operator::Comparison(op) if op.holds(l, r) => *value,
                Operator::Comparison(_) => stale_nan(),
                _ => {
                    notes.add(Note::IncompatibleTypes("float", "float"));
                    stale_nan()
                }
            };
        }
    } else {
        for (step, scalar) in scalars.iter().enumerate() {
            let Some(sample) = series.get(step) else {
                continue;
            };
            let scalar = Sample::Float(*scalar);
            let outcome = if is_swapped {
                combine(op, scalar, sample, notes)
            } else {
                combine(op, sample, scalar, notes)
            };
            match outcome {
                Err(note) => {
                    notes.add(note);
                    series.remove(step);
                }
                Ok((_, holds)) if is_comparison && returns_bool => {
                    series.remove(step);
                    series.floats[step] = f64::from(u8::from(holds));
                }
                Ok((_, true)) if is_comparison => {}
                Ok((outcome, true)) => {
                    series.remove(step);
                    put(series, step, outcome);
                }
                Ok(_) => series.remove(step),
            }
        }
    }
}

fn put(series: &mut Series, step: usize, outcome: Outcome) {
    match outcome {
        Outcome::Float(value) => series.floats[step] = value,
        Outcome::Histogram(histogram) => series.set_histogram(step, histogram),
    }
}

/// One vector operation under way.
struct Join<'a> {
    op: Operator,
    returns_bool: bool,
    matching: &'a Matching,
    /// The side of which several may match, and the other.
    many: &'a [Series],
    one: &'a [Series],
    steps: usize,
    /// Whether names that the operation drops go at once.
    drops_now: bool,
    places: HashMap<Labels, usize>,
    result: Vec<Series>,
    notes: &'a mut Notes,
}

/// Arithmetic or comparison between two vectors, step by step. `drops_now` says that names go
/// at once and not at the end of the query.
#[allow(clippy::too_many_arguments)]
pub fn binary(
    op: Operator,
    returns_bool: bool,
    left: &[Series],
    right: &[Series],
    matching: &Matching,
    steps: usize,
    drops_now: bool,
    notes: &mut Notes,
) -> Result<Vec<Series>, BinaryError> {
    let is_swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if is_swapped {
        (right, left)
    } else {
        (left, right)
    };
    let mut ordinals: HashMap<Labels, usize> = HashMap::new();
    let mut members: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
    for (is_one, side) in [(false, many), (true, one)] {
        for (index, series) in side.iter().enumerate() {
            let key = matching.on.key(&series.labels);
            let ordinal = *ordinals.entry(key).or_insert_with(|| {
                members.push((Vec::new(), Vec::new()));
                members.len() - 1
            });
            if is_one {
                members[ordinal].1.push(index);
            } else {
                members[ordinal].0.push(index);
            }
        }
    }
    let mut join = Join {
        op,
        returns_bool,
        matching,
        many,
        one,
        steps,
        drops_now,
        places: HashMap::new(),
        result: Vec::new(),
        notes,
    };
    for (manys, ones) in &members {
        join.group(manys, ones)?;
    }
    let mut result = join.result;
    result.retain(|series| !series.is_empty());
    Ok(result)
}

impl Join<'_> {
    fn is_swapped(&self) -> bool {
        self.matching.cardinality == Cardinality::OneToMany
    }

    fn has_fill(&self) -> bool {
        self.matching.fill != Fill::default()
    }

    /// Joins the members of both sides that have the same key.
    fn group(&mut self, manys: &[usize], ones: &[usize]) -> Result<(), BinaryError> {
        let (many, one) = (self.many, self.one);
        if ones.len() == 1 && !self.has_fill() {
            for member in manys {
                let (m, o) = (&many[*member], &one[ones[0]]);
                let known = self.result.len();
                let place = self.place(&m.labels, &o.labels);
                if place == known && manys.len() == 1 && self.numbers(place, m, o) {
                    continue;
                }
                let mut is_taken =
                    manys.len() > 1 && self.matching.cardinality == Cardinality::OneToOne;
                is_taken &= manys.iter().any(|other| other < member);
                for step in 0..self.steps {
                    let (Some(ms), Some(os)) = (m.get(step), o.get(step)) else {
                        continue;
                    };
                    if is_taken
                        && manys
                            .iter()
                            .any(|other| other < member && many[*other].has(step))
                    {
                        return Err(BinaryError::ManyToOne);
                    }
                    self.pair(place, step, ms, os)?;
                }
            }
            return Ok(());
        }
        self.group_by_steps(manys, ones)
    }

    /// Arithmetic between two series of numbers alone, into a new one. `false`: it is not that.
    fn numbers(&mut self, place: usize, many: &Series, one: &Series) -> bool {
        let (left, right) = if self.is_swapped() {
            (one, many)
        } else {
            (many, one)
        };
        let Operator::Arithmetic(op) = self.op else {
            return false;
        };
        if !left.histograms.is_empty() || !right.histograms.is_empty() {
            return false;
        }
        let sides = left.floats.iter().zip(&right.floats);
        for (result, (l, r)) in self.result[place].floats.iter_mut().zip(sides) {
            if l.to_bits() != STALE_NAN_BITS && r.to_bits() != STALE_NAN_BITS {
                *result = op.apply(*l, *r);
            }
        }
        true
    }

    fn group_by_steps(&mut self, manys: &[usize], ones: &[usize]) -> Result<(), BinaryError> {
        let (many, one) = (self.many, self.one);
        for step in 0..self.steps {
            let mut present = ones.iter().filter(|o| one[**o].has(step));
            let first = present.next();
            if let (Some(first), Some(second)) = (first, present.next())
                && (self.has_fill() || many.iter().any(|m| m.has(step)))
            {
                return Err(self.many_to_many(&one[*first].labels, &one[*second].labels));
            }
            let mut matched = 0;
            for member in manys {
                let m = &many[*member];
                let Some(ms) = m.get(step) else {
                    continue;
                };
                let (labels, os) = match (first, self.matching.fill.right) {
                    (Some(first), _) => match one[*first].get(step) {
                        Some(os) => (one[*first].labels.clone(), os),
                        None => continue,
                    },
                    (None, Some(fill)) => (self.matching.on.key(&m.labels), Sample::Float(fill)),
                    (None, None) => continue,
                };
                matched += 1;
                if matched > 1 && self.matching.cardinality == Cardinality::OneToOne {
                    return Err(BinaryError::ManyToOne);
                }
                let place = self.place(&m.labels, &labels);
                self.pair(place, step, ms, os)?;
            }
            if let (Some(first), 0, Some(fill)) = (first, matched, self.matching.fill.left) {
                let o = &one[*first];
                let Some(os) = o.get(step) else { continue };
                let labels = self.matching.on.key(&o.labels);
                let place = self.place(&labels, &o.labels);
                self.pair(place, step, Sample::Float(fill), os)?;
            }
        }
        Ok(())
    }

    fn many_to_many(&self, first: &Labels, second: &Labels) -> BinaryError {
        let group = self.matching.on.key(second);
        let mut names = [first.to_string(), second.to_string()];
        names.sort();
        let [first, second] = names;
        BinaryError::ManyToMany {
            group,
            side: if self.is_swapped() { "left" } else { "right" },
            first,
            second,
        }
    }

    /// Where the results of a pair go.
    fn place(&mut self, many: &Labels, one: &Labels) -> usize {
        let labels = self.result_labels(many, one);
        if let Some(place) = self.places.get(&labels) {
            return *place;
        }
        let place = self.result.len();
        let mut series = Series::new(labels.clone(), self.steps);
        series.drops_name = self.returns_bool;
        self.result.push(series);
        self.places.insert(labels, place);
        place
    }

    fn pair(
        &mut self,
        place: usize,
        step: usize,
        many: Sample<'_>,
        one: Sample<'_>,
    ) -> Result<(), BinaryError> {
        let (left, right) = if self.is_swapped() {
            (one, many)
        } else {
            (many, one)
        };
        let (outcome, holds) = match combine(self.op, left, right, self.notes) {
            Ok(outcome) => outcome,
            Err(note) => {
                self.notes.add(note);
                return Ok(());
            }
        };
        let series = &mut self.result[place];
        if series.has(step) {
            return Err(if self.matching.cardinality == Cardinality::OneToOne {
                crate::SameLabels.into()
            } else {
                BinaryError::NotUnique
            });
        }
        if self.returns_bool {
            series.floats[step] = f64::from(u8::from(holds));
        } else if holds {
            put(series, step, outcome);
        }
        Ok(())
    }

    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let drops_name =
            matches!(self.op, Operator::Arithmetic(_)) || (self.returns_bool && self.drops_now);
        let is_one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let keeps = |name: &str| {
            (!drops_name || !is_metadata(name))
                && (!is_one_to_one
                    || match &self.matching.on {
                        Grouping::By(names) => names.iter().any(|n| n == name),
                        Grouping::Without(names) => !names.iter().any(|n| n == name),
                    })
        };
        let labels = many.filtered(keeps);
        if self.matching.include.is_empty() {
            return labels;
        }
        let mut builder = labels.to_builder();
        for name in &self.matching.include {
            builder.set(name, one.get(name).unwrap_or(""));
        }
        // Names were unique in both.
        builder.build().unwrap_or(labels)
    }
}

/// At which steps each key has a value.
fn presence(side: &[Series], on: &Grouping) -> HashMap<Labels, Vec<bool>> {
    let mut of_key: HashMap<Labels, Vec<bool>> = HashMap::new();
    for series in side {
        let steps = of_key
            .entry(on.key(&series.labels))
            .or_insert_with(|| vec![false; series.floats.len()]);
        for (step, there) in steps.iter_mut().enumerate() {
            *there |= series.has(step);
        }
    }
    of_key
}

/// The series with their values at the steps where their key is (`shared`) or is not in
/// `other`.
fn pick(
    side: Vec<Series>,
    other: &HashMap<Labels, Vec<bool>>,
    on: &Grouping,
    shared: bool,
) -> Vec<Series> {
    let mut picked = Vec::new();
    for mut series in side {
        match other.get(&on.key(&series.labels)) {
            None if shared => continue,
            None => {}
            Some(there) => {
                for (step, there) in there.iter().enumerate() {
                    if *there != shared {
                        series.remove(step);
                    }
                }
            }
        }
        if !series.is_empty() {
            picked.push(series);
        }
    }
    picked
}

/// Combines two vectors by the keys that `on` gives, step by step. The left side's order is
/// kept.
pub fn set(op: SetOp, left: Vec<Series>, right: Vec<Series>, on: &Grouping) -> Vec<Series> {
    match op {
        SetOp::And => pick(left, &presence(&right, on), on, true),
        SetOp::Unless => pick(left, &presence(&right, on), on, false),
        SetOp::Or => {
            let rest = pick(right, &presence(&left, on), on, false);
            let mut all = left;
            let mut places: HashMap<Labels, usize> = HashMap::with_capacity(all.len());
            for (index, series) in all.iter().enumerate() {
                places.entry(series.labels.clone()).or_insert(index);
            }
            for series in rest {
                // The same series can come from the left at some steps and from the right at
                // others.
                match places.get(&series.labels) {
                    Some(place)
                        if (0..series.floats.len())
                            .all(|step| !series.has(step) || !all[*place].has(step)) =>
                    {
                        for step in 0..series.floats.len() {
                            if let Some(sample) = series.get(step) {
                                all[*place].set(step, sample);
                            }
                        }
                    }
                    _ => all.push(series),
                }
            }
            all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: Operator = Operator::Arithmetic(Arithmetic::Add);

    fn series(pairs: &[(&str, &str)], values: &[Option<f64>]) -> Series {
        let floats = values.iter().map(|v| v.unwrap_or(stale_nan()));
        Series::of(
            Labels::from_pairs(pairs.iter().copied()).unwrap(),
            floats.collect(),
        )
    }

    fn run(
        op: Operator,
        l: &[Series],
        r: &[Series],
        m: &Matching,
    ) -> Result<Vec<Series>, BinaryError> {
        binary(
            op,
            false,
            l,
            r,
            m,
            l[0].floats.len(),
            true,
            &mut Notes::default(),
        )
    }

    #[test]
    fn sides_meet_by_labels_without_the_name() {
        let left = [series(&[("__name__", "a"), ("x", "1")], &[Some(1.0), None])];
        let right = [series(
            &[("__name__", "b"), ("x", "1")],
            &[Some(2.0), Some(3.0)],
        )];
        let sum = run(ADD, &left, &right, &Matching::default()).unwrap();
        assert_eq!(sum, [series(&[("x", "1")], &[Some(3.0), None])]);
    }

    #[test]
    fn several_matches_must_be_asked_for() {
        let left = [
            series(&[("x", "1"), ("y", "1")], &[Some(1.0)]),
            series(&[("x", "1"), ("y", "2")], &[Some(2.0)]),
        ];
        let right = [series(&[("x", "1"), ("z", "9")], &[Some(10.0)])];
        let mut matching = Matching {
            on: Grouping::By(vec!["x".to_owned()]),
            ..Matching::default()
        };
        let error = run(ADD, &left, &right, &matching).unwrap_err();
        assert_eq!(error, BinaryError::ManyToOne);
        matching.cardinality = Cardinality::ManyToOne;
        matching.include = vec!["z".to_owned()];
        let sum = run(ADD, &left, &right, &matching).unwrap();
        assert_eq!(sum.len(), 2);
        assert_eq!(sum[1].labels.to_string(), r#"{x="1", y="2", z="9"}"#);
        let error = run(ADD, &right, &left, &matching).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("found duplicate series for the match group {x=\"1\"}")
        );
    }

    #[test]
    fn or_takes_from_the_right_what_the_left_lacks_at_a_step() {
        let left = vec![series(&[("x", "1")], &[Some(1.0), None])];
        let right = vec![series(&[("x", "1")], &[Some(7.0), Some(8.0)])];
        let on = Grouping::Without(vec![]);
        let both = set(SetOp::Or, left, right, &on);
        assert_eq!(both, [series(&[("x", "1")], &[Some(1.0), Some(8.0)])]);
    }

    #[test]
    fn missing_series_are_filled() {
        let left = [series(&[("x", "1")], &[Some(1.0)])];
        let right = [series(&[("x", "2")], &[Some(2.0)])];
        let mut matching = Matching::default();
        matching.fill.right = Some(10.0);
        let sum = run(ADD, &left, &right, &matching).unwrap();
        assert_eq!(sum, [series(&[("x", "1")], &[Some(11.0)])]);
    }
}
