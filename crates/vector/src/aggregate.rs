//! Aggregation of one vector into groups.

use std::collections::HashMap;

use kittiwake_model::Labels;

use crate::{CompensatedSum, Grouping, Series};

/// What to compute of a group's values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregate {
    /// The compensated sum.
    Sum,
    /// The mean.
    Avg,
    /// The least value; NaN only when all are.
    Min,
    /// The greatest value; NaN only when all are.
    Max,
    /// How many values there are.
    Count,
    /// 1 for every group.
    Group,
    /// The population variance.
    Stdvar,
    /// The population standard deviation.
    Stddev,
    /// The interpolated φ-quantile, φ from 0 to 1.
    Quantile(f64),
    /// The k greatest values with their own labels.
    Topk(usize),
    /// The k least values with their own labels.
    Bottomk(usize),
}

/// Aggregates series step by step; groups come in order of their first member. Of `Topk` and
/// `Bottomk` over a single step the series come ranked.
pub fn aggregate(series: &[Series], grouping: &Grouping, by: Aggregate) -> Vec<Series> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<(Labels, Vec<usize>)> = Vec::new();
    for (member, one) in series.iter().enumerate() {
        let key = grouping.key(&one.labels);
        let place = *places.entry(key.clone()).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(member);
    }
    let steps = series.first().map_or(0, |s| s.values.len());
    let mut result = Vec::new();
    for (key, members) in groups {
        match by {
            Aggregate::Topk(k) => result.extend(rank(series, &members, steps, k, -1.0)),
            Aggregate::Bottomk(k) => result.extend(rank(series, &members, steps, k, 1.0)),
            _ => {
                let mut at_step = Vec::with_capacity(members.len());
                let values = (0..steps).map(|step| {
                    at_step.clear();
                    at_step.extend(members.iter().filter_map(|m| series[*m].values[step]));
                    (!at_step.is_empty()).then(|| fold(&at_step, by))
                });
                result.push(Series {
                    labels: key,
                    values: values.collect(),
                });
            }
        }
    }
    result
}

/// The `k` first of a group at each step, in order of `sign` times their values.
fn rank(series: &[Series], members: &[usize], steps: usize, k: usize, sign: f64) -> Vec<Series> {
    let mut picked: HashMap<usize, Vec<Option<f64>>> = HashMap::new();
    let mut order = Vec::new();
    for step in 0..steps {
        let with_value = members
            .iter()
            .filter_map(|m| Some((*m, series[*m].values[step]?)));
        let mut ranked: Vec<(usize, f64)> = with_value.collect();
        // NaN ranks behind every number, whichever end is asked for.
        ranked.sort_by(|(_, a), (_, b)| {
            a.is_nan().cmp(&b.is_nan()).then(
                (sign * a)
                    .partial_cmp(&(sign * b))
                    .unwrap_or(std::cmp::Ordering::Equal),
            )
        });
        ranked.truncate(k);
        for (member, value) in ranked {
            let values = picked.entry(member).or_insert_with(|| {
                order.push(member);
                vec![None; steps]
            });
            values[step] = Some(value);
        }
    }
    let pick = |member: usize| Series {
        labels: series[member].labels.clone(),
        values: picked.remove(&member).unwrap_or_default(),
    };
    order.into_iter().map(pick).collect()
}

fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let mut sum = CompensatedSum::default();
    values.clone().for_each(|v| sum.add(v));
    if sum.value().is_infinite() {
        // Finite values whose sum overflows still have a mean.
        sum = CompensatedSum::default();
        values.for_each(|v| sum.add(v / count));
        return sum.value();
    }
    sum.value() / count
}

/// What is computed of a group's values, of which there is at least one.
pub fn fold(values: &[f64], by: Aggregate) -> f64 {
    match by {
        Aggregate::Sum => {
            let mut sum = CompensatedSum::default();
            for &value in values {
                sum.add(value);
            }
            sum.value()
        }
        Aggregate::Avg => mean(values.iter().copied()),
        Aggregate::Min => values.iter().copied().fold(f64::NAN, f64::min),
        Aggregate::Max => values.iter().copied().fold(f64::NAN, f64::max),
        Aggregate::Count | Aggregate::Topk(_) | Aggregate::Bottomk(_) => values.len() as f64,
        Aggregate::Group => 1.0,
        Aggregate::Stdvar | Aggregate::Stddev => {
            // Streaming: equal values have a variance of exactly 0.
            let (mut centre, mut squares) = (0.0, 0.0);
            for (index, value) in values.iter().enumerate() {
                let distance = value - centre;
                centre += distance / (index + 1) as f64;
                squares += distance * (value - centre);
            }
            let variance = squares / values.len() as f64;
            if by == Aggregate::Stddev {
                variance.sqrt()
            } else {
                variance
            }
        }
        Aggregate::Quantile(phi) => quantile(phi, values),
    }
}

/// The φ-quantile of `values` with linear interpolation between ranks; NaN of no values,
/// minus or plus infinity for φ below 0 or above 1.
pub fn quantile(phi: f64, values: &[f64]) -> f64 {
    if values.is_empty() || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    let mut sorted = values.to_vec();
    // NaN counts as less than every number.
    sorted.sort_by(|a, b| {
        b.is_nan()
            .cmp(&a.is_nan())
            .then(a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
    });
    let rank = phi * (sorted.len() - 1) as f64;
    let low = rank.floor() as usize;
    let high = (low + 1).min(sorted.len() - 1);
    let weight = rank - rank.floor();
    sorted[low] * (1.0 - weight) + sorted[high] * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(by: Aggregate) -> Vec<f64> {
        let series: Vec<Series> = [1.0, f64::NAN, 4.0, 2.0]
            .iter()
            .enumerate()
            .map(|(i, v)| Series {
                labels: Labels::from_pairs([("i", i.to_string())]).unwrap(),
                values: vec![Some(*v), None],
            })
            .collect();
        let result = aggregate(&series, &Grouping::By(vec![]), by);
        assert!(result.iter().all(|s| s.values[1].is_none()));
        result.into_iter().map(|s| s.values[0].unwrap()).collect()
    }

    #[test]
    fn nan_neither_wins_nor_leads() {
        assert_eq!(run(Aggregate::Min), [1.0]);
        assert_eq!(run(Aggregate::Max), [4.0]);
        assert_eq!(run(Aggregate::Topk(2)), [4.0, 2.0]);
        assert_eq!(run(Aggregate::Bottomk(2)), [1.0, 2.0]);
        assert!(run(Aggregate::Sum)[0].is_nan());
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(0.5, &[1.0, 2.0]), 1.5);
        assert_eq!(quantile(1.0, &[1.0, 2.0]), 2.0);
        assert_eq!(quantile(-1.0, &[1.0]), f64::NEG_INFINITY);
        assert_eq!(fold(&[1.0, 3.0], Aggregate::Stdvar), 1.0);
        assert_eq!(fold(&[f64::MAX, f64::MAX], Aggregate::Avg), f64::MAX);
    }
}
