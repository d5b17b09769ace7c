//! Custom bounds of two histograms brought together.

use std::sync::Arc;

use super::Slot;

/// The bounds that both have.
pub(super) fn shared_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    let mut shared = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x == y {
            shared.push(*x);
            i += 1;
            j += 1;
        } else if x < y {
            i += 1;
        } else {
            j += 1;
        }
    }
    Arc::from(shared)
}

/// The bucket among `shared` bounds that a bucket of finer bounds falls into.
fn target(index: i32, bounds: &[f64], shared: &[f64]) -> i32 {
    let bound = usize::try_from(index).ok().and_then(|i| bounds.get(i));
    match bound {
        Some(bound) => shared.partition_point(|s| s < bound) as i32,
        None => shared.len() as i32,
    }
}

/// Buckets of finer bounds as buckets of bounds that are among them.
pub(super) fn remap(slots: &[Slot], bounds: &[f64], shared: &[f64]) -> Vec<Slot> {
    super::merge::joined(slots, |index| target(index, bounds, shared))
}

/// As [`remap`] for sums with what rounding lost of them.
pub(super) fn remap_with_lost(
    slots: &[Slot],
    lost: &[f64],
    bounds: &[f64],
    shared: &[f64],
) -> (Vec<Slot>, Vec<f64>) {
    let mut result: Vec<Slot> = Vec::new();
    let mut result_lost: Vec<f64> = Vec::new();
    for (at, slot) in slots.iter().enumerate() {
        let index = target(slot.index, bounds, shared);
        if result.last().is_none_or(|last| last.index != index) {
            result.push(Slot { index, count: 0.0 });
            result_lost.push(0.0);
        }
        if let (Some(last), Some(last_lost)) = (result.last_mut(), result_lost.last_mut()) {
            let mut total = super::merge::Compensated(last.count, *last_lost);
            total.add(slot.count);
            total.add(lost.get(at).copied().unwrap_or(0.0));
            (last.count, *last_lost) = (total.0, total.1);
        }
    }
    (result, result_lost)
}
