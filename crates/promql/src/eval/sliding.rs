//! The best value of each window in one pass.

use std::collections::VecDeque;
use std::ops::Range;

use kittiwake_vector::Series;

use super::range_call::RangeCall;
use super::select::FloatPoints;
use super::{Evaluator, Findings};

/// Samples that are compared with each other at once.
const RUN: usize = 32;

/// Neighbouring samples and the best of them.
struct Run {
    samples: Range<usize>,
    best: usize,
}

impl Run {
    /// Of equal values the first is the best, as when a window is searched from its start.
    fn of(samples: Range<usize>, values: &[f64], is_better: impl Fn(f64, f64) -> bool) -> Self {
        let mut best = samples.start;
        for (at, value) in samples.clone().zip(&values[samples.clone()]) {
            if is_better(*value, values[best]) {
                best = at;
            }
        }
        Self { samples, best }
    }
}

/// Keeps the candidates of the current window as runs of samples, best first: a run whose best
/// is beaten by that of a later one is none.
pub(super) fn best(
    call: &RangeCall<'_>,
    evaluator: &Evaluator<'_>,
    floats: &FloatPoints,
    series: &mut Series,
    findings: &mut Findings,
    is_better: impl Fn(f64, f64) -> bool + Copy,
) {
    let values = &floats.values;
    let mut candidates: VecDeque<Run> = VecDeque::new();
    let mut seen = 0;
    call.windows(evaluator, &floats.times, |step, _, range| {
        if range.is_empty() {
            return;
        }
        findings.samples[step] += range.len() as u64;
        seen = seen.max(range.start);
        while seen < range.end {
            let run = Run::of(seen..range.end.min(seen + RUN), values, is_better);
            seen = run.samples.end;
            while candidates
                .back()
                .is_some_and(|last| is_better(values[run.best], values[last.best]))
            {
                candidates.pop_back();
            }
            candidates.push_back(run);
        }
        while let Some(first) = candidates.front()
            && first.best < range.start
        {
            // What is left of it is a candidate, unless the next run's best beats it.
            let rest = range.start..first.samples.end;
            candidates.pop_front();
            if !rest.is_empty() {
                let run = Run::of(rest, values, is_better);
                let next = candidates.front();
                if next.is_none_or(|next| !is_better(values[next.best], values[run.best])) {
                    candidates.push_front(run);
                }
            }
        }
        if let Some(first) = candidates.front() {
            series.floats[step] = values[first.best];
        }
    });
}
