//! Which values of a column have a pattern: by what the head says of the column, else by the
//! values.

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
        Column::Constant(value) => of_count(usize::from(pattern.accepts(&mut value.clone())), 1),
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
            let accepted = distinct.iter().filter(|v| pattern.accepts(&mut v.to_vec()));
            of_count(accepted.count(), distinct.len())
        }
        Column::Dictionary { .. } | Column::Text(_) => Verdict::Some,
        Column::Group(group) => of_group(group, pattern),
    }
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
    let all = [
        Part::Static(&affixes.prefix),
        Part::Slot(0),
        Part::Static(&affixes.suffix),
    ];
    let is_some = |p: &&Part<'_>| !matches!(p, Part::Static([]));
    let parts: Vec<Part<'_>> = all.iter().filter(is_some).copied().collect();
    let judge = |_, demand: Pattern<'_>| {
        let is_nothing = demand.text.is_empty() && demand.at_start && demand.at_end;
        if !is_nothing && demand.text.iter().all(|b| is_of(*b)) {
            Verdict::Some
        } else {
            Verdict::No
        }
    };
    match ways(&parts, pattern, &judge) {
        Ways::No => Verdict::No,
        Ways::Yes => Verdict::Yes,
        Ways::Some(_) | Ways::Unknown => Verdict::Some,
    }
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
    let mut buffer = Vec::new();
    if let Values::Dictionary { distinct, numbers } = values {
        let accepts = |value: &[u8]| pattern.accepts(&mut value.to_vec());
        let accepted: Vec<bool> = distinct.iter().map(accepts).collect();
        for place in within.iter().filter(|p| accepted[numbers[*p] as usize]) {
            found.insert(place);
        }
        return found;
    }
    for place in within.iter() {
        buffer.clear();
        values.append(place, &mut buffer);
        if pattern.accepts(&mut buffer) {
            found.insert(place);
        }
    }
    found
}
