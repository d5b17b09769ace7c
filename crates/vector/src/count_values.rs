//! `count_values`: a series per value and group.

use std::collections::HashMap;

use kittiwake_model::Labels;

use crate::{Grouping, Sample, Series};

/// Counts equal values; each count is a series with the value as the label `label`.
pub fn count_values(
    series: &[Series],
    grouping: &Grouping,
    label: &str,
    steps: usize,
    shown: impl Fn(Sample<'_>) -> String,
) -> Vec<Series> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut result: Vec<Series> = Vec::new();
    for one in series {
        for step in 0..steps {
            let Some(sample) = one.get(step) else {
                continue;
            };
            let mut labels = one.labels.to_builder();
            labels.set(label, &shown(sample));
            let labels = labels.build().unwrap_or_else(|_| one.labels.clone());
            let key = grouping.key(&labels);
            let place = *places.entry(key).or_insert_with_key(|key| {
                result.push(Series::new(key.clone(), steps));
                result.len() - 1
            });
            let before = result[place].float(step).unwrap_or(0.0);
            result[place].floats[step] = before + 1.0;
        }
    }
    result
}
