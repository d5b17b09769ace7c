//! What reading costs: a select over the series of a fleet of containers for hours, from a
//! block, cold and warm, and from the head. Under `cargo test` it is small and only shows that
//! it works.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Instant;

use kittiwake_env::{RealClock, RealFs, SeededRng};
use kittiwake_model::{
    Columns, Labels, MatchOp, Matcher, MetricsStore, QueryContext, Select, TimeRange,
};
use kittiwake_tsdb::{Batch, Options, Store};

const START_MS: i64 = 1_700_000_000_000;
const METRICS: usize = 52;

fn labels(series: usize) -> Labels {
    let (metric, container) = (series % METRICS, series / METRICS);
    Labels::from_pairs([
        ("__name__", format!("container_metric_{metric:02}_total")),
        ("id", format!("/docker/{container:064x}")),
        ("instance", format!("node-{:02}:8080", container % 20)),
        ("job", "containers".to_owned()),
        (
            "name",
            format!("svc-{:03}-{}", container / 4, container % 4),
        ),
    ])
    .unwrap()
}

fn run(store: &Store, what: &str, matchers: Vec<Matcher>, range: TimeRange) {
    let start = Instant::now();
    let select = Select::new(matchers, range);
    let mut cursor = store.select(&select, &QueryContext::default()).unwrap();
    let found = start.elapsed();
    let (mut series, mut samples, mut sum) = (0, 0, 0.0);
    let mut columns = Columns::default();
    while cursor.next_series().unwrap().is_some() {
        columns.clear();
        while cursor.next_batch(&mut columns).unwrap() {}
        series += 1;
        samples += columns.len();
        sum += columns.values.iter().sum::<f64>();
    }
    let all = start.elapsed();
    println!(
        "{what}: {series} series, {samples} samples, found in {:.2} ms, read in {:.2} ms, {:.1} ns/sample (sum {sum})",
        found.as_secs_f64() * 1e3,
        all.as_secs_f64() * 1e3,
        all.as_nanos() as f64 / samples.max(1) as f64
    );
}

fn main() {
    let is_bench = std::env::args().any(|a| a == "--bench");
    let (series, rounds) = if is_bench {
        (10_400, 1440_i64)
    } else {
        (104, 20)
    };
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        retention_ms: 0,
        ..Options::default()
    };
    let store = Store::open(
        Arc::new(RealFs),
        Arc::new(RealClock::new()),
        &mut SeededRng::new(1),
        dir.path(),
        options,
    )
    .unwrap();
    let sets: Vec<Labels> = (0..series).map(labels).collect();
    let mut values = vec![0_u64; series];
    let mut batch = Batch::new();
    for round in 0..rounds {
        batch.clear();
        for (i, set) in sets.iter().enumerate() {
            let raw = store.raw_hash(set.as_packed());
            let known = store.names().known(raw);
            match known {
                Some(known) => batch.start_known(known),
                None => batch.start(set.clone(), Some(raw)),
            }
            let step = (i as u64 * 7919 + round as u64 * 104_729) % 1000;
            values[i] += step;
            batch.sample(START_MS + round * 15_000, values[i] as f64);
        }
        store.write(&batch, None).unwrap();
    }
    let end = START_MS + rounds * 15_000;
    let all = TimeRange::new(START_MS, end);
    let hour = TimeRange::new(end - 3_600_000, end);
    let one = || vec![Matcher::equal("__name__", "container_metric_07_total")];
    let some = || {
        let mut matchers = one();
        matchers.push(Matcher::new(MatchOp::Regex, "name", "svc-00.-[01]").unwrap());
        matchers
    };
    for place in ["head", "block, cold", "block, warm"] {
        run(&store, &format!("{place}, all series"), Vec::new(), all);
        run(&store, &format!("{place}, one metric"), one(), all);
        run(&store, &format!("{place}, one metric, 1 h"), one(), hour);
        run(&store, &format!("{place}, regex"), some(), all);
        let start = Instant::now();
        let context = QueryContext::default();
        let values = store.label_values("name", &[], all, &context).unwrap();
        let took = start.elapsed().as_secs_f64() * 1e3;
        println!(
            "{place}: {} values of a label in {took:.2} ms",
            values.len()
        );
        if place == "head" {
            store.flush().unwrap();
        }
    }
}
