//! What a line costs from a request to the head, and what a flush and a search cost: ns per
//! line, one thread, on the machine's own disk. `cargo bench -p kittiwake-logstore` runs it
//! whole; under `cargo test` it is small and only shows that it works.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Instant;

use kittiwake_env::{RealClock, RealFs, SeededRng};
use kittiwake_logstore::{Batch, Options, Store};
use kittiwake_model::{
    Direction, EntryBatch, Labels, LineFilter, LogStore, QueryContext, Scan, TimeRange,
};

fn main() {
    let is_bench = std::env::args().any(|a| a == "--bench");
    let (lines, per_request) = if is_bench {
        (500_000, 1000)
    } else {
        (300, 100)
    };
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        retention_ns: 0,
        flush_bytes: 1 << 30,
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
    let streams: Vec<Labels> = (0..50)
        .map(|i| {
            let name = format!("service-{i}");
            Labels::from_pairs([
                ("container", name.as_str()),
                ("host", "h1"),
                ("stream", "stdout"),
            ])
            .unwrap()
        })
        .collect();
    let texts: Vec<String> = (0..1000_u64)
        .map(|i| {
            let id = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("level=info ts=2026-01-01T00:00:{:02}Z msg=\"request done\" method=GET path=/api/v1/items/{} status=200 duration={}us id={id:016x}", i % 60, i * 7, i * 13)
        })
        .collect();
    let mut batch = Batch::new();
    let start = Instant::now();
    for request in 0..lines / per_request {
        batch.clear();
        batch.start(streams[request % streams.len()].clone());
        for line in 0..per_request {
            let time_ns = 1_700_000_000_000_000_000 + (request * per_request + line) as i64 * 1000;
            batch.line(time_ns, &texts[line % texts.len()], None);
        }
        store.write(&batch, None).unwrap();
    }
    let per = |start: Instant| start.elapsed().as_nanos() as f64 / lines as f64;
    let write = per(start);
    let search = |expected: usize| {
        let mut scan = Scan::new(Vec::new(), TimeRange::ALL, Direction::Backward);
        scan.filters = vec![LineFilter::Contains(vec!["items/693 ".to_owned()])];
        let start = Instant::now();
        let mut cursor = store.scan(&scan, &QueryContext::default()).unwrap();
        let (mut batch, mut found) = (EntryBatch::default(), 0);
        while cursor.next_batch(&mut batch).unwrap() {
            found += batch.len();
        }
        assert_eq!(found, expected);
        per(start)
    };
    let expected = (lines / per_request) * usize::from(per_request > 99);
    let head = search(expected);
    let start = Instant::now();
    store.flush().unwrap();
    let flush = per(start);
    let bytes = store.stats().part_bytes as f64 / lines as f64;
    let part = search(expected);
    println!(
        "{lines} lines of {} B: write {write:.0}, flush {flush:.0}, search head {head:.0}, search part {part:.0} ns/line, {bytes:.1} B/line",
        texts[0].len()
    );
}
