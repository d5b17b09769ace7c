//! Queries over thinned samples, beside the same over all of them.

use std::sync::Arc;
use std::time::Duration;

use kittiwake_env::{Fs, SeededRng, SimClock, SimFs};
use kittiwake_model::{Labels, QueryContext};
use kittiwake_promql::{Answer, Options, Value, instant, parse, range};
use kittiwake_tsdb::{Batch, Options as StoreOptions, Store};

/// A multiple of both resolutions.
const START_MS: i64 = 1_700_002_800_000;
const STEP_MS: i64 = 15_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

struct Both {
    all: Store,
    thinned: Store,
}

/// Six hours of a gauge and of a counter that is reset now and then.
fn both(days: u32) -> Both {
    let [all, thinned] = [0, DAY_MS].map(|retention_ms| {
        let clock = SimClock::new(START_MS * 1_000_000);
        let fs: Arc<dyn Fs> = Arc::new(SimFs::new(1));
        let options = StoreOptions {
            retention_ms,
            downsampled_ms: [5 * DAY_MS, 50 * DAY_MS],
            ..StoreOptions::default()
        };
        let mut rng = SeededRng::new(1);
        let store = Store::open(fs, Arc::new(clock.clone()), &mut rng, "/s", options).unwrap();
        clock.advance(Duration::from_hours(6));
        for instance in ["a", "b"] {
            let mut batch = Batch::new();
            for name in ["gauge", "counter_total"] {
                let pairs = [("__name__", name), ("instance", instance)];
                batch.start(Labels::from_pairs(pairs).unwrap(), None);
                for at in 0..6 * HOUR_MS / STEP_MS {
                    let value = match name {
                        "gauge" => (at * 7919 % 1000) as f64,
                        _ => (at % 330 * 10) as f64,
                    };
                    batch.sample(START_MS + at * STEP_MS, value);
                }
            }
            assert_eq!(store.write(&batch, None).unwrap().refused, 0);
        }
        store.flush().unwrap();
        clock.advance(Duration::from_hours(24) * days);
        store.maintain();
        store
    });
    Both { all, thinned }
}

fn points(answer: &Answer) -> Vec<(String, i64, f64)> {
    let Value::Matrix(series) = &answer.value else {
        panic!("{:?}", answer.value)
    };
    let mut points = Vec::new();
    for one in series {
        let floats = one.floats.iter();
        points.extend(floats.map(|(time, value)| (one.labels.to_string(), *time, *value)));
    }
    points
}

impl Both {
    /// Both answers of a range query whose steps stand at the ends of windows.
    fn ask(&self, query: &str, step_ms: i64) -> [Answer; 2] {
        let (start, end) = (START_MS + 2 * HOUR_MS - 1, START_MS + 6 * HOUR_MS - 1);
        [&self.all, &self.thinned].map(|store| {
            let (options, context) = (Options::default(), QueryContext::default());
            let expr = parse(query).unwrap();
            range(&expr, store, start, end, step_ms, &options, &context).unwrap()
        })
    }
}

#[test]
fn whole_windows_answer_as_all_samples_do() {
    for (days, step_ms, word) in [(2, 300_000, "5m"), (20, HOUR_MS, "60m")] {
        let both = both(days);
        for query in [
            "sum_over_time(gauge[2h])",
            "count_over_time(gauge[2h])",
            "avg_over_time(gauge[2h])",
            "min_over_time(gauge[2h])",
            "max_over_time(gauge[2h])",
            "last_over_time(gauge[2h])",
            "sum(avg_over_time(gauge[2h]))",
            "max_over_time(gauge[2h]) - min_over_time(gauge[2h])",
            "gauge",
            "sum by (instance) (counter_total) + gauge",
        ] {
            let [all, thinned] = both.ask(query, step_ms);
            let (all, found) = (points(&all), points(&thinned));
            assert!(!all.is_empty());
            assert_eq!(found, all, "{query} over {word}");
            let infos = thinned.annotations.texts(query).1;
            let said = format!("resolution of {word}");
            assert!(
                infos.iter().any(|i| i.contains(&said)),
                "{query}: {infos:?}"
            );
        }
        for query in ["rate(counter_total[2h])", "increase(counter_total[2h])"] {
            let [all, thinned] = both.ask(query, step_ms).map(|answer| points(&answer));
            assert_eq!(all.len(), thinned.len());
            for (one, other) in all.iter().zip(&thinned) {
                let is_near = (one.2 - other.2).abs() <= 0.01 * one.2.abs();
                assert!(is_near, "{query}: {one:?}, {other:?}");
            }
        }
    }
}

#[test]
fn short_windows_and_lookback_widen() {
    for (days, reach_ms) in [(2, 600_000), (20, 2 * HOUR_MS)] {
        let both = both(days);
        let at = START_MS + 5 * HOUR_MS - 1;
        let ask = |query: &str| {
            let (options, context) = (Options::default(), QueryContext::default());
            let expr = parse(query).unwrap();
            instant(&expr, &both.thinned, at, &options, &context).unwrap()
        };
        let value = |answer: Answer| match answer.value {
            Value::Vector(series) => format!("{series:?}"),
            other => panic!("{other:?}"),
        };
        let wide = value(ask(&format!("count_over_time(gauge[{reach_ms}ms])")));
        assert_eq!(value(ask("count_over_time(gauge[1m])")), wide);
        let rate = value(ask(&format!("rate(counter_total[{reach_ms}ms])")));
        assert_eq!(value(ask("rate(counter_total[1m])")), rate);
        // Between two windows the older one's end is seen.
        let expr = parse("gauge").unwrap();
        let (options, context) = (Options::default(), QueryContext::default());
        let between = at + 200_000;
        let found = instant(&expr, &both.thinned, between, &options, &context).unwrap();
        assert!(value(found).contains("instance"));
    }
}
