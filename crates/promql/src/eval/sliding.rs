//! The best value of each window in one pass.

use std::collections::VecDeque;

use kittiwake_vector::Series;

use super::range_call::RangeCall;
use super::select::FloatPoints;
use super::{Evaluator, Findings};

/// Keeps the candidates of the current window, best first: a sample that a later one beats is
/// none. Of equal values the earliest stays, as when a window is searched from its start.
pub(super) fn best(
    call: &RangeCall<'_>,
    evaluator: &Evaluator<'_>,
    floats: &FloatPoints,
    series: &mut Series,
    findings: &mut Findings,
    is_better: impl Fn(f64, f64) -> bool,
) {
    let values = &floats.values;
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let mut seen = 0;
    call.windows(evaluator, &floats.times, |step, _, range| {
        if range.is_empty() {
            return;
        }
        findings.samples[step] += range.len() as u64;
        seen = seen.max(range.start);
        while seen < range.end {
            while candidates
                .back()
                .is_some_and(|last| is_better(values[seen], values[*last]))
            {
                candidates.pop_back();
            }
            candidates.push_back(seen);
            seen += 1;
        }
        while candidates.front().is_some_and(|first| *first < range.start) {
            candidates.pop_front();
        }
        if let Some(first) = candidates.front() {
            series.floats[step] = values[*first];
        }
    });
}
