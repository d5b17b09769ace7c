//! Histograms of OpenTelemetry as native ones.

use kittiwake_model::Histogram;
use kittiwake_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, ResetHint, Span};
use kittiwake_wire::otlp::{Buckets, Explicit, Exponential};

/// Breadth of the zero bucket where the point does not say.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Empty buckets that are kept between others rather than beginning a span.
const GAP_MAX: i64 = 2;

/// Buckets as spans and counts, each at an index, in order.
fn sparse(buckets: impl Iterator<Item = (i64, u64)>) -> (Vec<Span>, Vec<u64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut counts: Vec<u64> = Vec::new();
    let mut next: Option<i64> = None;
    for (index, count) in buckets.filter(|(_, count)| *count > 0) {
        match (next, spans.last_mut()) {
            // Several buckets became one.
            (Some(at), Some(_)) if index < at => {
                if let Some(last) = counts.last_mut() {
                    *last = last.saturating_add(count);
                }
                continue;
            }
            (Some(at), Some(span)) if index - at <= GAP_MAX => {
                let gap = (index - at) as u32;
                span.length += gap + 1;
                counts.extend(std::iter::repeat_n(0, gap as usize));
            }
            (at, _) => spans.push(Span {
                offset: (index - at.unwrap_or(0)).clamp(i64::from(i32::MIN), i64::from(i32::MAX))
                    as i32,
                length: 1,
            }),
        }
        counts.push(count);
        next = Some(index + 1);
    }
    (spans, counts)
}

fn scaled(buckets: &Buckets, scale_down: u32) -> (Vec<Span>, Vec<u64>) {
    let offset = i64::from(buckets.offset);
    let all = buckets.counts.iter().enumerate();
    // Their bucket 0 begins where ours of index 1 does.
    sparse(all.map(|(at, count)| (((at as i64 + offset) >> scale_down) + 1, *count)))
}

/// An exponential histogram; its resolution is lowered to the finest that is known here.
pub(super) fn native(value: &Exponential) -> Result<Histogram, &'static str> {
    if value.scale < -4 {
        return Err("the scale of an exponential histogram must be at least -4");
    }
    let scale = value.scale.min(8);
    let scale_down = (value.scale - scale).min(62) as u32;
    let (positive_spans, positive) = scaled(&value.positive, scale_down);
    let (negative_spans, negative) = scaled(&value.negative, scale_down);
    Ok(Histogram {
        schema: scale,
        zero_threshold: if value.zero_threshold > 0.0 {
            value.zero_threshold
        } else {
            ZERO_THRESHOLD
        },
        sum: value.sum.unwrap_or(0.0),
        positive_spans,
        negative_spans,
        custom_bounds: Vec::new(),
        counts: Counts::Integer {
            count: value.count,
            zero: value.zero_count,
            positive,
            negative,
        },
        reset_hint: ResetHint::Unknown,
    })
}

/// A histogram with explicit bounds, as one with custom buckets.
pub(super) fn custom(value: &Explicit) -> Histogram {
    let all = value.buckets.iter().enumerate();
    let (positive_spans, positive) = sparse(all.map(|(at, count)| (at as i64, *count)));
    Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        zero_threshold: 0.0,
        sum: value.sum.unwrap_or(0.0),
        positive_spans,
        negative_spans: Vec::new(),
        custom_bounds: value.bounds.clone(),
        counts: Counts::Integer {
            count: value.count,
            zero: 0,
            positive,
            negative: Vec::new(),
        },
        reset_hint: ResetHint::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_become_spans() {
        let span = |offset, length| Span { offset, length };
        let of = |offset, counts: &[u64], down| {
            let counts = counts.to_vec();
            scaled(&Buckets { offset, counts }, down)
        };
        assert_eq!(of(0, &[1, 2], 0), (vec![span(1, 2)], vec![1, 2]));
        let gaps = of(-2, &[0, 1, 0, 0, 1, 0, 0, 0, 5, 0], 0);
        assert_eq!(gaps, (vec![span(0, 4), span(3, 1)], vec![1, 0, 0, 1, 5]));
        // Two and two are one: indexes 0 to 3 become 0 and 1.
        assert_eq!(of(0, &[1, 2, 3, 4], 1), (vec![span(1, 2)], vec![3, 7]));
        assert_eq!(of(i32::MAX, &[1], 0).0.len(), 1);
    }
}
