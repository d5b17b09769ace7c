//! Points that count since the point before, added up to what stores and queries know.

use std::collections::{BTreeMap, HashMap};

use kittiwake_wire::otlp::{Buckets, Explicit, Exponential};
use parking_lot::Mutex;

/// Series that are added up at once; a new one is refused then.
const SERIES_MAX: usize = 200_000;
/// A series that says nothing for so long begins anew, in ms.
const STALE_MS: i64 = 5 * 60 * 1000;
/// Buckets of a sum at most.
const BUCKETS_MAX: usize = 10_000;

/// The value of a point.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Total {
    Number(f64),
    Explicit(Explicit),
    Exponential(Exponential),
}

#[derive(Debug)]
struct Series {
    total: Total,
    start_ns: u64,
    time_ns: u64,
    seen_ms: i64,
}

type Key = (String, BTreeMap<String, String>);

/// The sums of all series whose senders count since the point before.
#[derive(Debug, Default)]
pub struct Deltas(Mutex<HashMap<Key, Series>>);

impl Deltas {
    /// Adds a point to its series; gives the sum and when it began.
    pub(super) fn add(
        &self,
        (name, labels): (&str, &BTreeMap<String, String>),
        (start_ns, time_ns): (u64, u64),
        value: Total,
        now_ms: i64,
    ) -> Result<(Total, u64), &'static str> {
        let mut all = self.0.lock();
        let key = (name.to_owned(), labels.clone());
        if let Some(series) = all.get_mut(&key)
            && now_ms - series.seen_ms < STALE_MS
        {
            if time_ns <= series.time_ns {
                return Err("its points that count since the one before are out of order");
            }
            // Another shape cannot be added: the series begins anew.
            if let Some(total) = sum(&series.total, &value) {
                series.total = total;
            } else {
                (series.total, series.start_ns) = (value, start_ns);
            }
            series.time_ns = time_ns;
            series.seen_ms = now_ms;
            return Ok((series.total.clone(), series.start_ns));
        }
        if all.len() >= SERIES_MAX {
            all.retain(|_, series| now_ms - series.seen_ms < STALE_MS);
            if all.len() >= SERIES_MAX {
                return Err("too many series count since the point before");
            }
        }
        let series = Series {
            total: value.clone(),
            start_ns,
            time_ns,
            seen_ms: now_ms,
        };
        all.insert(key, series);
        Ok((value, start_ns))
    }
}

fn sum(a: &Total, b: &Total) -> Option<Total> {
    match (a, b) {
        (Total::Number(a), Total::Number(b)) => Some(Total::Number(a + b)),
        (Total::Explicit(a), Total::Explicit(b)) => explicit(a, b).map(Total::Explicit),
        (Total::Exponential(a), Total::Exponential(b)) => exponential(a, b).map(Total::Exponential),
        _ => None,
    }
}

fn explicit(a: &Explicit, b: &Explicit) -> Option<Explicit> {
    if a.bounds != b.bounds || a.buckets.len() != b.buckets.len() {
        return None;
    }
    let buckets = a.buckets.iter().zip(&b.buckets);
    Some(Explicit {
        count: a.count.checked_add(b.count)?,
        sum: a.sum.zip(b.sum).map(|(a, b)| a + b),
        buckets: buckets
            .map(|(a, b)| a.checked_add(*b))
            .collect::<Option<_>>()?,
        bounds: a.bounds.clone(),
    })
}

fn exponential(a: &Exponential, b: &Exponential) -> Option<Exponential> {
    if a.zero_threshold != b.zero_threshold {
        return None;
    }
    let scale = a.scale.min(b.scale);
    let add = |x: &Buckets, y: &Buckets| {
        let (x, y) = (coarser(x, a.scale - scale), coarser(y, b.scale - scale));
        merged(&x, &y)
    };
    Some(Exponential {
        count: a.count.checked_add(b.count)?,
        sum: a.sum.zip(b.sum).map(|(a, b)| a + b),
        scale,
        zero_count: a.zero_count.checked_add(b.zero_count)?,
        zero_threshold: a.zero_threshold,
        positive: add(&a.positive, &b.positive)?,
        negative: add(&a.negative, &b.negative)?,
    })
}

/// The same at a resolution that is so many steps lower.
fn coarser(buckets: &Buckets, steps: i32) -> Buckets {
    let steps = steps.clamp(0, 31) as u32;
    let mut out = Buckets {
        offset: buckets.offset >> steps,
        counts: Vec::new(),
    };
    for (at, count) in buckets.counts.iter().enumerate() {
        let index = (i64::from(buckets.offset) + at as i64) >> steps;
        let place = (index - i64::from(out.offset)) as usize;
        if out.counts.len() <= place {
            out.counts.resize(place + 1, 0);
        }
        out.counts[place] = out.counts[place].saturating_add(*count);
    }
    out
}

fn merged(a: &Buckets, b: &Buckets) -> Option<Buckets> {
    if a.counts.is_empty() || b.counts.is_empty() {
        return Some(if a.counts.is_empty() { b } else { a }.clone());
    }
    let end = |x: &Buckets| i64::from(x.offset) + x.counts.len() as i64;
    let offset = a.offset.min(b.offset);
    let len = end(a).max(end(b)) - i64::from(offset);
    let len = usize::try_from(len)
        .ok()
        .filter(|len| *len <= BUCKETS_MAX)?;
    let mut counts = vec![0_u64; len];
    for x in [a, b] {
        let first = (i64::from(x.offset) - i64::from(offset)) as usize;
        for (at, count) in x.counts.iter().enumerate() {
            counts[first + at] = counts[first + at].checked_add(*count)?;
        }
    }
    Some(Buckets { offset, counts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_add_up_in_order() {
        let deltas = Deltas::default();
        let labels = BTreeMap::new();
        let add = |time, value, now| {
            deltas.add(("a", &labels), (time - 1, time), Total::Number(value), now)
        };
        assert_eq!(add(10, 1.0, 0), Ok((Total::Number(1.0), 9)));
        assert_eq!(add(20, 2.0, 0), Ok((Total::Number(3.0), 9)));
        assert!(add(20, 2.0, 0).is_err());
        assert_eq!(add(30, 4.0, STALE_MS), Ok((Total::Number(4.0), 29)));
    }

    #[test]
    fn exponential_buckets_meet_at_the_lower_resolution() {
        let of = |scale, offset, counts: &[u64]| Exponential {
            count: counts.iter().sum(),
            sum: Some(1.0),
            scale,
            positive: Buckets {
                offset,
                counts: counts.to_vec(),
            },
            ..Exponential::default()
        };
        let total = exponential(&of(1, -2, &[1, 1, 1, 1]), &of(0, 1, &[5])).unwrap();
        assert_eq!((total.scale, total.count, total.sum), (0, 9, Some(2.0)));
        let want = Buckets {
            offset: -1,
            counts: vec![2, 2, 5],
        };
        assert_eq!(total.positive, want);
        let far = of(0, 1_000_000, &[1]);
        assert!(exponential(&far, &of(0, 0, &[1])).is_none());
    }
}
