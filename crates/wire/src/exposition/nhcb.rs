//! Histograms whose parts come one by one, as one native histogram with custom buckets.

use kittiwake_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, Span};

/// Numbers that are counts: whole, and exact in a double.
fn whole(value: f64) -> bool {
    value.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&value)
}

/// The histogram of cumulative buckets (upper bound, count), which are put in order. `None`
/// when their counts fall, or a bound comes twice.
pub(super) fn custom_buckets(
    buckets: &mut Vec<(f64, f64)>,
    count: Option<f64>,
    sum: Option<f64>,
    is_gauge: bool,
) -> Option<Histogram> {
    buckets.retain(|(bound, _)| !bound.is_nan());
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let last = buckets.last().map(|(_, count)| *count);
    let total = count.or(last)?;
    let is_falling = buckets
        .windows(2)
        .any(|pair| pair[0].0 == pair[1].0 || pair[0].1 > pair[1].1);
    if is_falling || last.is_some_and(|last| last > total) {
        return None;
    }
    let bounds = buckets.iter().map(|(bound, _)| *bound);
    let custom_bounds: Vec<f64> = bounds.filter(|bound| bound.is_finite()).collect();
    let mut counts = Vec::with_capacity(custom_bounds.len() + 1);
    let mut below = 0.0;
    for (bound, cumulative) in buckets.iter() {
        if bound.is_finite() {
            counts.push(cumulative - below);
            below = *cumulative;
        }
    }
    counts.push(total - below);
    let (spans, counts) = compact(&counts);
    let counts = if whole(total) && counts.iter().all(|count| whole(*count)) {
        Counts::Integer {
            count: total as u64,
            zero: 0,
            positive: counts.iter().map(|count| *count as u64).collect(),
            negative: Vec::new(),
        }
    } else {
        Counts::Float {
            count: total,
            zero: 0.0,
            positive: counts,
            negative: Vec::new(),
        }
    };
    Some(Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        zero_threshold: 0.0,
        sum: sum.unwrap_or(0.0),
        positive_spans: spans,
        negative_spans: Vec::new(),
        custom_bounds,
        counts,
        reset_hint: if is_gauge {
            ResetHint::Gauge
        } else {
            ResetHint::Unknown
        },
    })
}

/// The buckets that are not empty, and the spans in which they lie.
fn compact(counts: &[f64]) -> (Vec<Span>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut kept = Vec::new();
    let mut gap = 0;
    let mut is_open = false;
    for count in counts {
        if *count == 0.0 {
            gap += 1;
            is_open = false;
            continue;
        }
        match spans.last_mut() {
            Some(span) if is_open => span.length += 1,
            _ => spans.push(Span {
                offset: gap,
                length: 1,
            }),
        }
        gap = 0;
        is_open = true;
        kept.push(*count);
    }
    (spans, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_become_counts_between_their_bounds() {
        let mut buckets = vec![(2.0, 3.0), (0.5, 1.0), (1.0, 1.0), (f64::INFINITY, 4.0)];
        let histogram = custom_buckets(&mut buckets, Some(4.0), Some(9.5), false).unwrap();
        assert_eq!(histogram.custom_bounds, [0.5, 1.0, 2.0]);
        let span = |offset, length| Span { offset, length };
        assert_eq!(histogram.positive_spans, [span(0, 1), span(1, 2)]);
        let counts = Counts::Integer {
            count: 4,
            zero: 0,
            positive: vec![1, 2, 1],
            negative: Vec::new(),
        };
        assert_eq!(histogram.counts, counts);
        let mut falling = vec![(1.0, 2.0), (2.0, 1.0)];
        assert!(custom_buckets(&mut falling, None, None, false).is_none());
        assert!(custom_buckets(&mut Vec::new(), None, None, false).is_none());
    }
}
