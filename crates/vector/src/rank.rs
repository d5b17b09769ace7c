//! Aggregations that pick members of each group: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use std::collections::HashMap;

use kittiwake_model::Labels;
use xxhash_rust::xxh64::xxh64;

use crate::{Grouping, Note, Notes, Series};

/// Which members to pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// The k greatest.
    Topk,
    /// The k least.
    Bottomk,
    /// Any k, the first.
    Limitk,
    /// A share of them, by the hash of their labels; a negative one is its complement.
    LimitRatio,
}

/// Picks per step; `params` has k or the ratio per step. Over a single step the picked come
/// ranked, group after group.
pub fn rank(
    rank: Rank,
    series: &[Series],
    grouping: &Grouping,
    params: &[f64],
    notes: &mut Notes,
) -> Vec<Series> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (member, one) in series.iter().enumerate() {
        let place = *places.entry(grouping.key(&one.labels)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(member);
    }
    let offsets: Vec<f64> = if rank == Rank::LimitRatio {
        series.iter().map(|one| offset(&one.labels)).collect()
    } else {
        Vec::new()
    };
    let total = series.len();
    let mut places = vec![usize::MAX; total];
    let mut picked: Vec<Series> = Vec::new();
    for members in groups {
        for (step, param) in params.iter().enumerate() {
            let present = members.iter().filter(|m| series[**m].has(step));
            let chosen: Vec<usize> = match rank {
                Rank::LimitRatio => {
                    let ratio = param.clamp(-1.0, 1.0);
                    let is_in = |offset: f64| {
                        (ratio >= 0.0 && offset < ratio) || (ratio < 0.0 && offset >= 1.0 + ratio)
                    };
                    let chosen = present.filter(|m| ratio != 0.0 && is_in(offsets[**m]));
                    chosen.copied().collect()
                }
                Rank::Limitk => present.take(k_of(*param, total)).copied().collect(),
                Rank::Topk | Rank::Bottomk => {
                    let mut best = Best::new(k_of(*param, total), rank == Rank::Topk);
                    for member in present {
                        match series[*member].float(step) {
                            Some(value) => best.offer(value, *member),
                            None if best.size > 0 => notes.add(Note::HistogramIgnored),
                            None => {}
                        }
                    }
                    best.ranked()
                }
            };
            for member in chosen {
                let from = &series[member];
                if places[member] == usize::MAX {
                    places[member] = picked.len();
                    let mut one = Series::new(from.labels.clone(), params.len());
                    one.drops_name = from.drops_name;
                    picked.push(one);
                }
                if let Some(sample) = from.get(step) {
                    picked[places[member]].set(step, sample);
                }
            }
        }
    }
    picked
}

fn k_of(param: f64, total: usize) -> usize {
    // Casts saturate; NaN is refused before.
    (param as i64).clamp(0, total as i64) as usize
}

/// Where a series lies in [0, 1] for sampling: the hash of its labels as Prometheus packs them.
fn offset(labels: &Labels) -> f64 {
    let mut packed = Vec::with_capacity(labels.as_packed().len());
    for (name, value) in labels {
        for text in [name, value] {
            let size = text.len();
            if size < 255 {
                packed.push(size as u8);
            } else {
                packed.extend_from_slice(&[255, size as u8, (size >> 8) as u8, (size >> 16) as u8]);
            }
            packed.extend_from_slice(text.as_bytes());
        }
    }
    xxh64(&packed, 0) as f64 / u64::MAX as f64
}

/// The k best so far in a heap with the worst at its root. The heap's steps are those of Go's
/// `container/heap`, so that ties fall as they do in Prometheus.
struct Best {
    heap: Vec<(f64, usize)>,
    size: usize,
    is_top: bool,
}

impl Best {
    fn new(size: usize, is_top: bool) -> Self {
        Self {
            heap: Vec::with_capacity(size.min(1024)),
            size,
            is_top,
        }
    }

    /// Whether `a` goes before `b` when one must go.
    fn is_worse(&self, a: f64, b: f64) -> bool {
        a.is_nan() || if self.is_top { a < b } else { a > b }
    }

    fn offer(&mut self, value: f64, member: usize) {
        if self.heap.len() < self.size {
            self.heap.push((value, member));
            self.up(self.heap.len() - 1);
        } else if let Some(&(root, _)) = self.heap.first() {
            let is_better = if self.is_top {
                root < value
            } else {
                root > value
            };
            if is_better || (root.is_nan() && !value.is_nan()) {
                self.heap[0] = (value, member);
                self.down();
            }
        }
    }

    fn up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.is_worse(self.heap[at].0, self.heap[parent].0) {
                break;
            }
            self.heap.swap(at, parent);
            at = parent;
        }
    }

    fn down(&mut self) {
        let mut at = 0;
        loop {
            let left = 2 * at + 1;
            if left >= self.heap.len() {
                break;
            }
            let right = left + 1;
            let is_right =
                right < self.heap.len() && self.is_worse(self.heap[right].0, self.heap[left].0);
            let child = if is_right { right } else { left };
            if !self.is_worse(self.heap[child].0, self.heap[at].0) {
                break;
            }
            self.heap.swap(at, child);
            at = child;
        }
    }

    fn ranked(mut self) -> Vec<usize> {
        let is_top = self.is_top;
        self.heap.sort_by(|(a, _), (b, _)| {
            let by_value = a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal);
            let by_value = if is_top { by_value.reverse() } else { by_value };
            a.is_nan().cmp(&b.is_nan()).then(by_value)
        });
        self.heap.into_iter().map(|(_, member)| member).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_picked_last() {
        let values = [1.0, f64::NAN, 4.0, 2.0];
        let series = |(index, value): (usize, f64)| {
            let labels = Labels::from_pairs([("i", index.to_string())]).unwrap();
            Series::of(labels, vec![value])
        };
        let all: Vec<Series> = values.into_iter().enumerate().map(series).collect();
        let by = Grouping::By(vec![]);
        let pick = |kind, k: f64| -> Vec<f64> {
            let picked = rank(kind, &all, &by, &[k], &mut Notes::default());
            picked.iter().map(|one| one.floats[0]).collect()
        };
        assert_eq!(pick(Rank::Topk, 2.0), [4.0, 2.0]);
        assert_eq!(pick(Rank::Bottomk, 2.0), [1.0, 2.0]);
        assert!(pick(Rank::Topk, 9.0)[3].is_nan());
        let (some, others) = (pick(Rank::LimitRatio, 0.4), pick(Rank::LimitRatio, -0.6));
        assert_eq!(some.len() + others.len(), 4);
    }
}
