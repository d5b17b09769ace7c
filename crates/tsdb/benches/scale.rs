//! How cost and memory follow the number of series: ns per sample of known series with few and
//! with many of them, and memory while all series are replaced again and again. Under
//! `cargo test` it is small and only shows that it works.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kittiwake_env::{Clock, RealFs, SeededRng, SimClock};
use kittiwake_model::Labels;
use kittiwake_tsdb::{Batch, Options, Store};

const METRICS: usize = 50;
const BATCH_SERIES: usize = 5000;

fn open(dir: &Path, clock: &SimClock) -> Store {
    let options = Options {
        retention_ms: 0,
        ..Options::default()
    };
    let clock = Arc::new(clock.clone());
    Store::open(
        Arc::new(RealFs),
        clock,
        &mut SeededRng::new(1),
        dir,
        options,
    )
    .unwrap()
}

fn labels(generation: usize, series: usize) -> Labels {
    let (name, target) = (
        format!("container_metric_{}_total", series % METRICS),
        format!("/docker/{generation:08x}{:056x}", series / METRICS),
    );
    Labels::from_pairs([
        ("__name__", name.as_str()),
        ("id", &target),
        ("image", "registry.local/service:1.2.3"),
        ("instance", "node-07:8080"),
        ("job", "containers"),
    ])
    .unwrap()
}

/// Writes one sample of each series; gives ns per sample.
fn scrape(store: &Store, clock: &SimClock, generation: usize, series: usize, n: usize) -> f64 {
    let mut batch = Batch::new();
    let mut spent = Duration::ZERO;
    for first in (0..series).step_by(BATCH_SERIES) {
        let sets: Vec<Labels> = (first..(first + BATCH_SERIES).min(series))
            .map(|i| labels(generation, i))
            .collect();
        batch.clear();
        let start = Instant::now();
        let mut names = store.names();
        for (at, set) in sets.iter().enumerate() {
            let raw = store.raw_hash(set.as_packed());
            match names.known(raw) {
                Some(known) => batch.start_known(known),
                None => batch.start(set.clone(), Some(raw)),
            }
            batch.sample(clock.now_ms(), ((first + at) * n) as f64);
        }
        drop(names);
        store.write(&batch, None).unwrap();
        spent += start.elapsed();
    }
    spent.as_nanos() as f64 / series as f64
}

fn rss_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|p| p.parse::<f64>().ok());
    pages.unwrap_or(0.0) * 4096.0 / f64::from(1 << 20)
}

fn main() {
    let is_bench = std::env::args().any(|a| a == "--bench");
    let (few, many, churned, hours) = if is_bench {
        (10_000, 1_000_000, 100_000, 8)
    } else {
        (100, 300, 100, 3)
    };
    for series in [few, many] {
        let dir = tempfile::tempdir().unwrap();
        let clock = SimClock::new(1_700_000_000_000_000_000);
        let store = open(dir.path(), &clock);
        let first = scrape(&store, &clock, 0, series, 0);
        let rounds = (2_000_000 / series).clamp(3, 30);
        let mut known = 0.0;
        for n in 1..=rounds {
            clock.advance(Duration::from_secs(15));
            known += scrape(&store, &clock, 0, series, n);
        }
        let memory = rss_mib();
        println!(
            "{series} series: new {first:.0} ns/sample, known {:.0} ns/sample, {memory:.0} MiB",
            known / rounds as f64
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let clock = SimClock::new(1_700_000_000_000_000_000);
    let store = open(dir.path(), &clock);
    for hour in 0..hours {
        for n in 0..4 {
            scrape(&store, &clock, hour, churned, n);
            clock.advance(Duration::from_mins(15));
        }
        store.flush().unwrap();
        store.maintain();
        let stats = store.stats();
        println!(
            "hour {hour}: {churned} new series, {} in memory, {:.0} MiB",
            stats.series,
            rss_mib()
        );
        assert!(stats.series <= 3 * churned as u64);
    }
}
