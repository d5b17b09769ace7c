use proptest::prelude::*;

use super::*;

fn simple(first: i32, counts: &[f64]) -> FloatHistogram {
    let slots = counts.iter().enumerate();
    FloatHistogram {
        count: counts.iter().sum(),
        sum: 1.0,
        positive: slots
            .map(|(at, count)| Slot {
                index: first + at as i32,
                count: *count,
            })
            .collect(),
        ..FloatHistogram::default()
    }
}

#[test]
fn bounds_are_powers() {
    assert_eq!(bounds::exponential_bound(0, 0), 1.0);
    assert_eq!(bounds::exponential_bound(3, 0), 8.0);
    assert_eq!(bounds::exponential_bound(-1, -1), 0.25);
    assert_eq!(bounds::exponential_bound(1024, 0), f64::MAX);
    assert_eq!(bounds::exponential_bound(2, 1), 2.0);
    // As Prometheus has them, an ulp or more off.
    assert_eq!(bounds::exponential_bound(-33, 2), 0.003_284_751_622_084_822);
    assert_eq!(bounds::exponential_bound(-29, 2), 0.006_569_503_244_169_644);
    assert_eq!(
        bounds::exponential_bound(-65, 3),
        0.003_582_047_043_768_246_5
    );
    assert!((bounds::exponential_bound(1, 8) - 2_f64.powf(1.0 / 256.0)).abs() < 1e-15);
}

#[test]
fn a_finer_schema_is_reduced_before_it_is_added() {
    let mut coarse = simple(1, &[2.0]);
    let mut fine = simple(1, &[1.0, 1.0]);
    fine.schema = 1;
    let merged = coarse.add(&fine).unwrap();
    assert_eq!(merged, Merged::default());
    assert_eq!(coarse.positive, simple(1, &[4.0]).positive);
}

#[test]
fn a_lower_bucket_is_a_reset() {
    let before = simple(1, &[3.0, 1.0]);
    assert!(simple(1, &[2.0, 3.0]).is_reset_after(&before));
    assert!(!simple(1, &[3.0, 3.0]).is_reset_after(&before));
    assert!(simple(2, &[4.0]).is_reset_after(&before));
    assert_eq!(
        simple(1, &[3.0, 3.0]).hint_after(Some(&before)),
        ResetHint::No
    );
}

#[test]
fn text_is_as_go_writes_it() {
    assert_eq!(shortest(1e6), "1e+06");
    assert_eq!(shortest(0.00001), "1e-05");
    assert_eq!(shortest(123_456.5), "123456.5");
    assert_eq!(simple(1, &[2.0]).to_string(), "{count:2, sum:1, (1,2]:2}");
}

#[test]
fn custom_bounds_are_reconciled() {
    let custom = |bounds: &[f64], counts: &[f64]| FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        custom_bounds: Arc::from(bounds),
        ..simple(0, counts)
    };
    let mut sum = HistogramSum::new(custom(&[1.0, 2.0, 3.0], &[1.0, 1.0, 1.0, 1.0]));
    let merged = sum.add(&custom(&[2.0], &[5.0, 1.0])).unwrap();
    assert!(merged.bounds_reconciled);
    let sum = sum.finish();
    assert_eq!(&*sum.custom_bounds, &[2.0]);
    assert_eq!(sum.positive, simple(0, &[7.0, 3.0]).positive);
    assert!(sum.clone().add(&simple(0, &[1.0])).is_err());
}

/// Those that are a bound of a bucket whatever the schema.
fn zero_thresholds() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0)]
}

fn any_histogram() -> impl Strategy<Value = FloatHistogram> {
    let slots = || proptest::collection::btree_map(-20_i32..20, 0_u32..50, 0..8);
    (-4_i32..=8, slots(), slots(), 0_u32..20, zero_thresholds()).prop_map(
        |(schema, positive, negative, zero, zero_threshold)| {
            let slots = |map: std::collections::BTreeMap<i32, u32>| -> Vec<Slot> {
                // A bucket never lies in its own histogram's zero bucket.
                let lower = |index: i32| bounds::exponential_bound(index - 1, schema);
                let slots = map.into_iter();
                let slots = slots.filter(|(index, _)| lower(*index) >= zero_threshold);
                slots
                    .map(|(index, c)| Slot {
                        index,
                        count: f64::from(c),
                    })
                    .collect()
            };
            let (positive, negative) = (slots(positive), slots(negative));
            let all = positive.iter().chain(&negative).map(|slot| slot.count);
            FloatHistogram {
                schema,
                zero_threshold,
                zero_count: f64::from(zero),
                count: all.sum::<f64>() + f64::from(zero),
                sum: 1.0,
                positive,
                negative,
                ..FloatHistogram::default()
            }
        },
    )
}

fn in_buckets(histogram: &FloatHistogram) -> f64 {
    let slots = histogram.positive.iter().chain(&histogram.negative);
    slots.map(|slot| slot.count).sum::<f64>() + histogram.zero_count
}

proptest! {
    #[test]
    fn no_observation_is_lost_by_a_sum(a in any_histogram(), b in any_histogram()) {
        let mut plain = a.clone();
        plain.add(&b).unwrap();
        prop_assert_eq!(plain.count, in_buckets(&plain));
        let mut sum = HistogramSum::new(a);
        sum.add(&b).unwrap();
        let mut sum = sum.finish();
        sum.compact();
        plain.compact();
        prop_assert_eq!(sum, plain);
    }

    #[test]
    fn a_sum_is_no_reset(a in any_histogram(), b in any_histogram()) {
        let mut later = a.clone();
        later.add(&b).unwrap();
        prop_assert!(!later.is_reset_after(&a));
    }

    #[test]
    fn spans_and_back(a in any_histogram()) {
        prop_assert_eq!(FloatHistogram::from(&Histogram::from(&a)), a);
    }

    #[test]
    fn quantiles_rise(a in any_histogram(), phi in 0.0..1.0_f64, psi in 0.0..1.0_f64) {
        let (low, high) = (phi.min(psi), phi.max(psi));
        let (low, high) = (a.quantile(low).0, a.quantile(high).0);
        prop_assert!(low.is_nan() || high.is_nan() || low <= high + 1e-9 * low.abs());
    }
}
