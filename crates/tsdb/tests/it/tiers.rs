//! What is left of samples once they have expired.

use std::sync::Arc;
use std::time::Duration;

use kittiwake_env::Clock as _;
use kittiwake_model::{
    Columns, FloatHistogram, Matcher, MetricsStore, QueryContext, Select, SelectHint, Thinned,
    TimeRange,
};
use kittiwake_tsdb::{Batch, Options, Store, block_kind};

use super::bed::{Bed, START_MS, histogram, labels, options, runs};

const DAY: Duration = Duration::from_hours(24);
const STEP_MS: i64 = 15_000;

fn day_options() -> Options {
    Options {
        retention_ms: DAY.as_millis() as i64,
        downsampled_ms: [10, 100].map(|days| days * DAY.as_millis() as i64),
        ..options()
    }
}

/// The samples of series 1 that a function over a window gets.
fn read(store: &Store, function: &str, range: TimeRange) -> Columns {
    let mut select = Select::new(vec![Matcher::equal("instance", "i1")], range);
    select.hint = SelectHint {
        function: Some(function.to_owned()),
        ..SelectHint::default()
    };
    let mut cursor = store.select(&select, &QueryContext::default()).unwrap();
    let mut columns = Columns::default();
    while cursor.next_series().unwrap().is_some() {
        while cursor.next_batch(&mut columns).unwrap() {}
    }
    columns
}

/// A counter that is reset every 100 samples.
fn value(at: i64) -> f64 {
    ((at % 100) * 3) as f64
}

/// Of histograms; a multiple of three, so that all have one schema.
fn count(at: i64) -> u64 {
    30 + at as u64 % 50 * 3
}

fn write(store: &Store, rows: std::ops::Range<i64>) {
    let mut batch = Batch::new();
    batch.start(labels(1), None);
    for at in rows.clone() {
        batch.sample(START_MS + at * STEP_MS, value(at));
    }
    batch.start(labels(2), None);
    for at in rows {
        let one = Arc::new(histogram(count(at)));
        batch.histogram(START_MS + at * STEP_MS, one, 0);
    }
    assert_eq!(store.write(&batch, None).unwrap().refused, 0);
}

fn increase(values: &[f64]) -> f64 {
    let pairs = values.windows(2).map(|w| (w[0], w[1]));
    pairs.map(|(a, b)| if b < a { b } else { b - a }).sum()
}

fn kinds(store: &Store) -> Vec<&'static str> {
    let blocks = store.blocks();
    blocks.iter().map(|(b, _)| block_kind(b.level).0).collect()
}

#[test]
fn expired_samples_live_on_in_tiers() {
    let mut bed = Bed::new(1);
    let mut store = bed.open_with(day_options());
    // Two blocks of two hours each.
    for part in 0..2 {
        bed.clock.advance(Duration::from_hours(2));
        write(&store, part * 480..(part + 1) * 480);
        store.flush().unwrap();
    }
    let all: Vec<f64> = (0..960).map(value).collect();
    let end = START_MS + 959 * STEP_MS;
    for (days, window_ms, first_kind) in [(2, 300_000, "5m sums"), (20, 3_600_000, "1h sums")] {
        bed.clock.advance(DAY * days);
        store.maintain();
        if days == 2 {
            // It does not matter when one asks.
            drop(store);
            bed.fs.kill();
            store = bed.open_with(day_options());
        }
        let kinds = kinds(&store);
        assert_eq!((kinds.len(), kinds[0]), (8, first_kind));

        let sums = read(&store, "avg_over_time", TimeRange::ALL);
        assert_eq!(sums.values.iter().sum::<f64>(), all.iter().sum::<f64>());
        assert_eq!(sums.weights.iter().sum::<f64>(), 960.0);
        assert!(sums.starts.is_empty());
        let windows = 960 * STEP_MS / window_ms;
        assert!((windows..=windows + 3).contains(&(sums.len() as i64)));
        let thinned = Thinned {
            until_ms: end,
            window_ms,
        };
        assert_eq!(sums.thinned, [thinned]);
        let greatest = read(&store, "max_over_time", TimeRange::ALL);
        assert_eq!(greatest.values.iter().copied().fold(0.0, f64::max), 297.0);
        let least = read(&store, "min_over_time", TimeRange::ALL);
        assert!(least.values.contains(&0.0));
        let rates = read(&store, "rate", TimeRange::ALL);
        assert_eq!(increase(&rates.values), increase(&all));
        let plain = read(&store, "", TimeRange::ALL);
        assert!(plain.len() < rates.len());
        assert_eq!(plain.times.last(), Some(&end));
        // Windows widen to twice the resolution, so what lies before the range comes too.
        let late = read(&store, "max_over_time", TimeRange::new(end - 10, end));
        assert!(late.len() > 1 && late.times[0] < end - 10);
    }
    // Histograms keep their ends, and both sides of resets.
    let mut select = Select::new(vec![Matcher::equal("instance", "i2")], TimeRange::ALL);
    select.hint.function = Some("rate".to_owned());
    let mut cursor = store.select(&select, &QueryContext::default()).unwrap();
    assert_eq!(cursor.next_series().unwrap(), Some(labels(2)));
    let mut columns = Columns::default();
    while cursor.next_batch(&mut columns).unwrap() {}
    let counts: Vec<f64> = columns
        .histograms
        .iter()
        .map(|(_, h)| FloatHistogram::from(h.as_ref()).count)
        .collect();
    let whole: Vec<f64> = (0..960).map(|at| count(at) as f64).collect();
    assert_eq!(increase(&counts), increase(&whole));
    assert!(counts.len() < 100);

    bed.clock.advance(DAY * 100);
    store.maintain();
    assert!(store.blocks().is_empty());
}

#[test]
fn raw_and_thinned_samples_make_one_series() {
    let mut bed = Bed::new(1);
    let store = bed.open_with(day_options());
    bed.clock.advance(Duration::from_hours(2));
    write(&store, 0..480);
    store.flush().unwrap();
    bed.clock.advance(DAY);
    write(&store, 5_700..5_760);
    bed.clock.advance(Duration::from_hours(1));
    store.maintain();
    assert_eq!(kinds(&store)[3..], ["5m points", "samples"]);
    let sums = read(&store, "count_over_time", TimeRange::ALL);
    assert_eq!(sums.weights.iter().sum::<f64>(), 540.0);
    let ones = sums.weights.iter().filter(|w| **w == 1.0).count();
    assert_eq!(ones, 60);
    assert_eq!(sums.thinned[0].until_ms, START_MS + 479 * STEP_MS);
    // A tier that is kept for longer without the finer one takes over at once.
    let points = read(&store, "rate", TimeRange::ALL);
    assert!(points.weights.is_empty());
    assert!(points.times.is_sorted_by(|a, b| a < b));
}

#[test]
fn blocks_of_a_tier_are_merged_with_each_other() {
    let mut bed = Bed::new(1);
    let keep = [100, 0].map(|days| days * DAY.as_millis() as i64);
    let store = bed.open_with(Options {
        downsampled_ms: keep,
        ..day_options()
    });
    for _ in 0..10 {
        let at = (bed.clock.now_ms() - START_MS) / STEP_MS;
        write(&store, at..at + 2);
        store.flush().unwrap();
        bed.clock.advance(Duration::from_hours(25));
        store.maintain();
    }
    let kinds = kinds(&store);
    assert_eq!(kinds, ["5m sums", "5m min", "5m max", "5m points"]);
    let sums = read(&store, "sum_over_time", TimeRange::ALL);
    assert_eq!(sums.weights.iter().sum::<f64>(), 20.0);
}

#[test]
fn a_crash_at_any_operation_of_downsampling_loses_and_doubles_nothing() {
    for seed in 0..runs() {
        let mut bed = Bed::new(seed);
        let store = bed.open_with(day_options());
        bed.clock.advance(Duration::from_hours(2));
        write(&store, 0..120);
        store.flush().unwrap();
        let days = 2 + bed.below(30) as u32;
        bed.clock.advance(DAY * days);
        let at = bed.fs.operations() + bed.below(60);
        bed.fs.halt_at(at);
        store.maintain();
        drop(store);
        let fs = bed.fs.clone();
        fs.crash(&mut bed.rng);
        let store = bed.open_with(day_options());
        for _ in 0..2 {
            let sums = read(&store, "count_over_time", TimeRange::ALL);
            // Before anything is downsampled samples have no weights.
            let count = match sums.weights[..] {
                [] => sums.len() as f64,
                _ => sums.weights.iter().sum(),
            };
            assert_eq!(count, 120.0, "seed {seed}");
            let all: Vec<f64> = (0..120).map(value).collect();
            let rates = read(&store, "rate", TimeRange::ALL);
            assert_eq!(increase(&rates.values), increase(&all), "seed {seed}");
            store.maintain();
        }
    }
}
