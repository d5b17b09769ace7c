//! What a sample costs from a request's labels to the head, and what a flush costs: ns per
//! sample, one thread, on the machine's own disk. `cargo bench -p kittiwake-tsdb` runs it
//! whole; under `cargo test` it is small and only shows that it works.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Instant;

use kittiwake_env::{RealClock, RealFs, SeededRng};
use kittiwake_model::{Columns, Labels, MetricsStore, QueryContext, Select, TimeRange};
use kittiwake_tsdb::{Batch, Options, Store};

fn main() {
    let is_bench = std::env::args().any(|a| a == "--bench");
    let (series, rounds) = if is_bench { (10_000, 240) } else { (50, 3) };
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
    let sets: Vec<Labels> = (0..series)
        .map(|i| {
            let (name, instance) = (
                format!("metric_{}_total", i / 100),
                format!("10.0.0.{}:9100", i % 100),
            );
            Labels::from_pairs([
                ("__name__", name.as_str()),
                ("instance", &instance),
                ("job", "node"),
                ("cpu", "0"),
                ("mode", "idle"),
            ])
            .unwrap()
        })
        .collect();
    let mut batch = Batch::new();
    let start = Instant::now();
    for round in 0..rounds {
        for (i, chunk) in sets.chunks(2000).enumerate() {
            batch.clear();
            for (j, set) in chunk.iter().enumerate() {
                let raw = store.raw_hash(set.as_packed());
                let known = store.names().known(raw);
                match known {
                    Some(known) => batch.start_known(known),
                    None => batch.start(set.clone(), Some(raw)),
                }
                let value = (round * (i * 2000 + j)) as f64;
                batch.sample(1_700_000_000_000 + round as i64 * 15_000, value);
            }
            store.write(&batch, None).unwrap();
        }
    }
    let samples = (series * rounds) as f64;
    let per = |start: Instant| start.elapsed().as_nanos() as f64 / samples;
    let write = per(start);
    let start = Instant::now();
    store.flush().unwrap();
    let flush = per(start);
    let bytes = store.stats().block_bytes as f64 / samples;
    let start = Instant::now();
    let select = Select::new(Vec::new(), TimeRange::ALL);
    let mut cursor = store.select(&select, &QueryContext::default()).unwrap();
    let mut read = 0;
    let mut columns = Columns::default();
    while cursor.next_series().unwrap().is_some() {
        columns.clear();
        while cursor.next_batch(&mut columns).unwrap() {}
        read += columns.len();
    }
    assert_eq!(read, series * rounds);
    println!(
        "{series} series x {rounds}: write {write:.0} ns/sample, flush {flush:.0} ns/sample, {bytes:.2} B/sample, read {:.0} ns/sample",
        per(start)
    );
}
