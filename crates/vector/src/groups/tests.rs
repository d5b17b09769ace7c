use super::*;

fn run(fold: Fold, phi: f64) -> f64 {
    let mut groups = Groups::new(fold, Grouping::By(vec![]), 2);
    let mut parts = Groups::new(fold, Grouping::By(vec![]), 2);
    for (index, value) in [1.0, f64::NAN, 4.0, 2.0].into_iter().enumerate() {
        let labels = Labels::from_pairs([("i", index.to_string())]).unwrap();
        let series = Series::of(labels, vec![value, stale_nan()]);
        if index < 2 || !Groups::can_merge(fold) {
            groups.add(series);
        } else {
            parts.add(series);
        }
    }
    groups.merge(parts);
    let (series, _) = groups.finish(&[phi, phi]);
    assert_eq!(series.len(), 1);
    assert!(!series[0].has(1));
    series[0].floats[0]
}

#[test]
fn nan_does_not_win() {
    assert_eq!(run(Fold::Min, 0.0), 1.0);
    assert_eq!(run(Fold::Max, 0.0), 4.0);
    assert_eq!(run(Fold::Count, 0.0), 4.0);
    assert_eq!(run(Fold::Quantile, 1.0), 4.0);
    assert!(run(Fold::Sum, 0.0).is_nan());
    assert!(run(Fold::Stdvar, 0.0).is_nan());
}

#[test]
fn quantiles_interpolate() {
    assert_eq!(quantile(0.5, &mut [2.0, 1.0]), 1.5);
    assert_eq!(quantile(1.0, &mut [1.0, 2.0]), 2.0);
    assert_eq!(quantile(-1.0, &mut [1.0]), f64::NEG_INFINITY);
}

#[test]
fn a_mean_of_large_values_is_finite() {
    let mut mean = Mean::default();
    mean.add(f64::MAX);
    mean.add(f64::MAX);
    assert_eq!(mean.value(), f64::MAX);
    let mut other = mean;
    other.merge(mean);
    assert_eq!(other.value(), f64::MAX);
}
