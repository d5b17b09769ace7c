//! Which values of a column have a pattern: by what the head says of the column, else by the
//! values.

use super::digits::Test;
use super::directory::{Affixes, Column, Distinct, Group};
use super::pattern::{Part, Pattern, Verdict, Ways, parts, ways};
use super::rows::Rows;
use super::values::Values;

/// What a pattern comes to for all values of a column, without them.
pub(super) fn judge(column: &Column, pattern: Pattern<'_>) -> Verdict {
    if pattern.is_void() {
        return Verdict::Yes;
    }
    match column {
        Column::Constant(value) => of_count(usize::from(accepts(pattern, value)), 1),
        Column::Number {
            affixes, decimals, ..
        } => {
            let has_points = decimals.constant() != Some(0);
            affixed(affixes, pattern, &|b| {
                b.is_ascii_digit() || has_points && b == b'.'
            })
        }
        Column::Ipv4 { affixes, .. } => {
            affixed(affixes, pattern, &|b| b.is_ascii_digit() || b == b'.')
        }
        Column::Hex {
            is_upper, digits, ..
        } => {
            let is_digit = |b: &u8| {
                b.is_ascii_hexdigit()
                    && (pattern.is_folded
                        || b.is_ascii_digit()
                        || b.is_ascii_uppercase() == *is_upper)
            };
            let len = pattern.text.len();
            let fits = len <= *digits && !(pattern.at_start && pattern.at_end && len < *digits);
            if fits && pattern.text.iter().all(is_digit) {
                Verdict::Some
            } else {
                Verdict::No
            }
        }
        Column::Dictionary {
            distinct: Distinct::Here(distinct),
            ..
        } => {
            let accepted = distinct.iter().filter(|v| accepts(pattern, v));
            of_count(accepted.count(), distinct.len())
        }
        Column::Dictionary { .. } | Column::Text(_) => Verdict::Some,
        Column::Group(group) => of_group(group, pattern),
    }
}

fn accepts(pattern: Pattern<'_>, value: &[u8]) -> bool {
    pattern.text.len() <= value.len() && pattern.accepts(&mut value.to_vec())
}

fn of_count(accepted: usize, all: usize) -> Verdict {
    match accepted {
        0 => Verdict::No,
        some if some == all => Verdict::Yes,
        _ => Verdict::Some,
    }
}

/// A value between affixes, of these characters.
fn affixed(affixes: &Affixes, pattern: Pattern<'_>, is_of: &dyn Fn(u8) -> bool) -> Verdict {
    // Most are no more than a look at the characters.
    let is_around = |b: &u8| affixes.prefix.contains(b) || affixes.suffix.contains(b);
    let is_possible = |b: &u8| {
        is_of(*b) || is_around(b) || pattern.is_folded && is_around(&b.to_ascii_uppercase())
    };
    if !pattern.text.iter().all(is_possible) {
        return Verdict::No;
    }
    match ways_between(affixes, pattern, is_of) {
        Ways::No => Verdict::No,
        Ways::Yes => Verdict::Yes,
        Ways::Some(_) | Ways::Unknown => Verdict::Some,
    }
}

/// The ways in which a value between affixes can have a pattern; the value is slot 0.
fn ways_between<'p>(
    affixes: &Affixes,
    pattern: Pattern<'p>,
    is_of: &dyn Fn(u8) -> bool,
) -> Ways<'p> {
    let all = [
        Part::Static(&affixes.prefix),
        Part::Slot(0),
        Part::Static(&affixes.suffix),
    ];
    let first = usize::from(affixes.prefix.is_empty());
    let last = if affixes.suffix.is_empty() { 2 } else { 3 };
    let judge = |_, demand: Pattern<'_>| {
        let is_nothing = demand.text.is_empty() && demand.at_start && demand.at_end;
        if !is_nothing && demand.text.iter().all(|b| is_of(*b)) {
            Verdict::Some
        } else {
            Verdict::No
        }
    };
    ways(&all[first..last], pattern, &judge)
}

fn of_group(group: &Group, pattern: Pattern<'_>) -> Verdict {
    let (mut any, mut all) = (false, true);
    for template in &group.templates {
        let judge = |slot: usize, demand: Pattern<'_>| judge(&template.columns[slot], demand);
        match ways(&parts(&template.text), pattern, &judge) {
            Ways::No => all = false,
            Ways::Yes => any = true,
            Ways::Some(_) | Ways::Unknown => return Verdict::Some,
        }
    }
    match (any, all) {
        (false, _) => Verdict::No,
        (true, true) => Verdict::Yes,
        (true, false) => Verdict::Some,
    }
}

/// Those of some values that have a pattern.
pub(super) fn find(values: &Values, within: &Rows, pattern: Pattern<'_>) -> Rows {
    let mut found = Rows::none(within.len());
    match values {
        Values::Dictionary { distinct, numbers } => {
            let accepted = distinct.iter().map(|value| accepts(pattern, value));
            let accepted: Vec<bool> = accepted.collect();
            for place in within.iter().filter(|p| accepted[numbers[*p] as usize]) {
                found.insert(place);
            }
            return found;
        }
        Values::Number {
            affixes,
            width,
            decimals,
            numbers,
        } if decimals.is_empty() => {
            if let Some(tests) = tests(affixes, *width, pattern) {
                let accepts = |n: u64| tests.iter().any(|way| way.iter().all(|t| t.accepts(n)));
                for place in within.iter().filter(|p| accepts(numbers[*p])) {
                    found.insert(place);
                }
                return found;
            }
        }
        _ => {}
    }
    let mut buffer = Vec::new();
    for place in within.iter() {
        buffer.clear();
        values.append(place, &mut buffer);
        if pattern.accepts(&mut buffer) {
            found.insert(place);
        }
    }
    found
}

/// What a pattern asks of numbers between affixes: all tests of one of the ways. Nothing when
/// the numbers must be written out.
fn tests(affixes: &Affixes, width: usize, pattern: Pattern<'_>) -> Option<Vec<Vec<Test>>> {
    match ways_between(affixes, pattern, &|b| b.is_ascii_digit()) {
        Ways::No => Some(Vec::new()),
        Ways::Yes => Some(vec![Vec::new()]),
        Ways::Some(ways) => {
            let tests = ways.into_iter().map(|way| {
                let tests = way.into_iter();
                tests.map(|(_, demand)| Test::of(demand, width)).collect()
            });
            tests.collect()
        }
        Ways::Unknown => None,
    }
}
