//! The store on a disk that crashes, against a model in memory. A failure names its seed;
//! `CRASH_RUNS` sets how many seeds are tried.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kittiwake_env::{Clock, Fs, Rng, SeededRng, SimClock, SimFs};
use kittiwake_model::delivery::{FrameNumber, Origin, Sender};
use kittiwake_model::{
    Columns, Labels, Matcher, MetricsStore, QueryContext, Select, TimeRange, stale_nan,
};
use kittiwake_tsdb::{Batch, Options, Refusal, Store, WriteError};

const START_MS: i64 = 1_700_000_000_000;

type Model = BTreeMap<Labels, BTreeMap<i64, u64>>;

fn labels(number: u64) -> Labels {
    let name = ["up", "requests_total", "load"][number as usize % 3];
    Labels::from_pairs([("__name__", name), ("instance", &format!("i{number}"))]).unwrap()
}

fn options() -> Options {
    Options {
        retention_ms: 0,
        ..Options::default()
    }
}

struct Bed {
    fs: SimFs,
    clock: SimClock,
    rng: SeededRng,
}

impl Bed {
    fn new(seed: u64) -> Self {
        let clock = SimClock::new(START_MS * 1_000_000);
        Self {
            fs: SimFs::new(seed),
            clock,
            rng: SeededRng::new(seed),
        }
    }

    fn open_with(&mut self, options: Options) -> Store {
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let clock = Arc::new(self.clock.clone());
        Store::open(fs, clock, &mut self.rng, "/store", options).unwrap()
    }

    fn open(&mut self) -> Store {
        self.open_with(options())
    }

    fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n
    }
}

fn read(store: &Store, matchers: Vec<Matcher>, range: TimeRange) -> Model {
    let select = Select::new(matchers, range);
    let mut cursor = store.select(&select, &QueryContext::default()).unwrap();
    let mut found = Model::new();
    while let Some(labels) = cursor.next_series().unwrap() {
        let mut columns = Columns::default();
        while cursor.next_batch(&mut columns).unwrap() {}
        assert!(columns.times.is_sorted_by(|a, b| a < b), "{labels}: order");
        let samples = columns.times.iter().copied();
        let samples = samples.zip(columns.values.iter().map(|v| v.to_bits()));
        assert!(
            found.insert(labels, samples.collect()).is_none(),
            "series twice"
        );
    }
    // The port allows a series without samples.
    found.retain(|_, samples| !samples.is_empty());
    found
}

fn read_all(store: &Store) -> Model {
    read(store, Vec::new(), TimeRange::ALL)
}

fn origin(sequence: u64) -> Origin {
    Origin {
        sender: Sender {
            token: String::new(),
            agent: "a".to_owned(),
            epoch: 1,
        },
        frame: FrameNumber {
            sequence,
            part: 0,
            is_last: true,
        },
        first: 1,
    }
}

/// Writes one random request, and does the same to the model.
fn write_random(bed: &mut Bed, store: &Store, model: &mut Model) {
    let mut batch = Batch::new();
    for _ in 0..=bed.below(4) {
        let set = labels(bed.below(6));
        let raw = store.raw_hash(set.as_packed());
        let known = store.names().known(raw);
        match known {
            Some(known) => batch.start_known(known),
            None => batch.start(set.clone(), Some(raw)),
        }
        for _ in 0..=bed.below(3) {
            let back_ms = if bed.below(3) == 0 {
                bed.below(900_000) as i64
            } else {
                0
            };
            let time_ms = bed.clock.now_ms() - back_ms / 1000 * 1000;
            let value = match bed.below(12) {
                0 => stale_nan(),
                1 => -0.0,
                2 => f64::INFINITY,
                n => n as f64 / 4.0,
            };
            batch.sample(time_ms, value);
            // The store may know older samples in blocks only: then the first written counts.
            let samples = model.entry(set.clone()).or_default();
            let newest = samples.last_key_value().map_or(i64::MIN, |(t, _)| *t);
            if newest.saturating_sub(time_ms) <= options().out_of_order_ms {
                samples.entry(time_ms).or_insert(value.to_bits());
            }
        }
        bed.clock.advance(Duration::from_secs(1));
    }
    model.retain(|_, samples| !samples.is_empty());
    let written = store.write(&batch, None).unwrap();
    assert_eq!(
        written.accepted + written.repeated + written.refused,
        batch.len() as u64
    );
}

fn runs() -> u64 {
    let runs = std::env::var("CRASH_RUNS").ok();
    runs.and_then(|r| r.parse().ok()).unwrap_or(60)
}

#[test]
fn what_was_written_is_read_whatever_moves_beneath() {
    for seed in 0..runs() {
        let mut bed = Bed::new(seed);
        let mut store = bed.open();
        let mut model = Model::new();
        // States that a power loss may go back to: since the last sync.
        let mut since_sync = vec![model.clone()];
        for _ in 0..60 {
            match bed.below(10) {
                0 => store.flush().unwrap(),
                1 => store.maintain(),
                2 => {
                    store.sync_all().unwrap();
                    since_sync = vec![model.clone()];
                }
                3 => {
                    drop(store);
                    bed.fs.kill();
                    store = bed.open();
                }
                4 if bed.below(2) == 0 => {
                    drop(store);
                    let fs = bed.fs.clone();
                    fs.crash(&mut bed.rng);
                    store = bed.open();
                    let found = read_all(&store);
                    let back = since_sync.iter().find(|m| **m == found);
                    model = back.unwrap_or_else(|| panic!("seed {seed}: lost")).clone();
                    since_sync = vec![model.clone()];
                }
                _ => {
                    write_random(&mut bed, &store, &mut model);
                    since_sync.push(model.clone());
                }
            }
            assert_eq!(read_all(&store), model, "seed {seed}");
        }
        // A matcher and a range see the same through head and blocks.
        let matchers = vec![Matcher::equal("__name__", "up")];
        let range = TimeRange::new(START_MS, START_MS + 20_000);
        let mut want = model.clone();
        want.retain(|l, samples| {
            samples.retain(|t, _| range.contains(*t));
            l.metric_name() == Some("up") && !samples.is_empty()
        });
        assert_eq!(read(&store, matchers.clone(), range), want, "seed {seed}");
        let series = store
            .series(&[matchers], range, 0, &QueryContext::default())
            .unwrap();
        assert!(want.keys().all(|l| series.contains(l)), "seed {seed}");
    }
}

#[test]
fn a_crash_at_any_operation_of_flush_and_compaction_loses_nothing() {
    for seed in 0..runs() {
        let mut bed = Bed::new(seed);
        let store = bed.open();
        let mut model = Model::new();
        for _ in 0..9 {
            write_random(&mut bed, &store, &mut model);
            store.flush().unwrap();
        }
        write_random(&mut bed, &store, &mut model);
        store.sync_all().unwrap();
        let at = bed.fs.operations() + bed.below(60);
        bed.fs.halt_at(at);
        // Fails somewhere in the flush or in the compaction of ten blocks, or not at all.
        let _ = store.flush();
        store.maintain();
        drop(store);
        let fs = bed.fs.clone();
        fs.crash(&mut bed.rng);
        let store = bed.open();
        assert_eq!(read_all(&store), model, "seed {seed}");
        store.flush().unwrap();
        store.maintain();
        assert_eq!(read_all(&store), model, "seed {seed}");
        drop(store);
        assert_eq!(read_all(&bed.open()), model, "seed {seed}");
    }
}

#[test]
fn a_query_sees_what_it_pinned_while_all_moves() {
    let mut bed = Bed::new(3);
    let store = bed.open();
    let mut model = Model::new();
    for _ in 0..30 {
        write_random(&mut bed, &store, &mut model);
    }
    let select = Select::new(Vec::new(), TimeRange::ALL);
    let mut cursor = store.select(&select, &QueryContext::default()).unwrap();
    let pinned = model.clone();
    for _ in 0..12 {
        write_random(&mut bed, &store, &mut model);
        store.flush().unwrap();
        store.maintain();
    }
    assert!(store.stats().blocks < 12, "compaction ran");
    let mut found = Model::new();
    while let Some(labels) = cursor.next_series().unwrap() {
        let mut columns = Columns::default();
        while cursor.next_batch(&mut columns).unwrap() {}
        let values = columns.values.iter().map(|v| v.to_bits());
        found.insert(labels, columns.times.iter().copied().zip(values).collect());
    }
    assert_eq!(found, pinned);
    assert_eq!(read_all(&store), model);
}

#[test]
fn refusals_say_why() {
    let mut bed = Bed::new(1);
    let store = bed.open_with(Options {
        retention_ms: 3_600_000,
        series_max: 2,
        ..Options::default()
    });
    let now = bed.clock.now_ms();
    let write = |samples: &[(u64, i64, f64)], origin: Option<&Origin>| {
        let mut batch = Batch::new();
        for (series, time_ms, value) in samples {
            batch.start(labels(*series), None);
            batch.sample(*time_ms, *value);
        }
        store.write(&batch, origin).unwrap()
    };
    assert_eq!(write(&[(1, now, 1.0), (2, now, 1.0)], None).accepted, 2);
    let why = |samples: &[(u64, i64, f64)], origin: Option<&Origin>| {
        let written = write(samples, origin);
        written.first_refused.map(|(_, _, why)| why)
    };
    assert_eq!(why(&[(1, now, 1.0)], None), None);
    assert_eq!(why(&[(1, now, 2.0)], None), Some(Refusal::DuplicateTime));
    assert_eq!(why(&[(1, now - 599_000, 2.0)], None), None);
    let old = (1, now - 700_000, 2.0);
    assert_eq!(why(&[old], None), Some(Refusal::OutOfOrder));
    assert_eq!(why(&[old], Some(&origin(1))), None, "numbered: any age");
    assert_eq!(
        why(&[(1, now - 4_000_000, 1.0)], Some(&origin(2))),
        Some(Refusal::TooOld)
    );
    assert_eq!(why(&[(3, now, 1.0)], None), Some(Refusal::SeriesLimit));
    assert_eq!(store.stats().refused, [1, 1, 1, 1, 0]);
}

#[test]
fn a_repeated_frame_is_stored_once_also_after_a_restart() {
    let mut bed = Bed::new(1);
    let mut store = bed.open();
    let mut batch = Batch::new();
    batch.start(labels(1), None);
    batch.sample(START_MS, 1.0);
    assert!(!store.write(&batch, Some(&origin(1))).unwrap().is_repeat);
    for round in 0..3 {
        assert!(store.write(&batch, Some(&origin(1))).unwrap().is_repeat);
        if round == 1 {
            store.flush().unwrap();
        }
        drop(store);
        bed.fs.kill();
        store = bed.open();
    }
    assert_eq!(store.stats().repeated, 0);
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let mut bed = Bed::new(1);
    let store = bed.open();
    let mut batch = Batch::new();
    batch.start(labels(1), None);
    batch.sample(START_MS, 1.0);
    bed.fs.set_capacity_bytes(0);
    let error = store.write(&batch, Some(&origin(1))).unwrap_err();
    assert!(matches!(error, WriteError::Full(_)), "{error}");
    assert!(read_all(&store).is_empty());
    bed.fs.set_capacity_bytes(u64::MAX);
    // The same request now counts as new, with its series and its delivery.
    let written = store.write(&batch, Some(&origin(1))).unwrap();
    assert_eq!((written.accepted, written.is_repeat), (1, false));
    drop(store);
    bed.fs.kill();
    assert_eq!(read_all(&bed.open()).len(), 1);
}

#[test]
fn retention_removes_blocks_and_idle_series_leave_memory() {
    let mut bed = Bed::new(1);
    let store = bed.open_with(Options {
        retention_ms: 86_400_000,
        ..Options::default()
    });
    let write = |series: u64| {
        let mut batch = Batch::new();
        batch.start(labels(series), None);
        batch.sample(bed.clock.now_ms(), 1.0);
        assert_eq!(store.write(&batch, None).unwrap().accepted, 1);
        store.flush().unwrap();
        bed.clock.advance(Duration::from_hours(2));
    };
    write(1);
    write(2);
    assert_eq!((store.stats().series, store.stats().blocks), (1, 2));
    assert_eq!(
        read_all(&store).len(),
        2,
        "a series that left memory is in its block"
    );
    // It comes back with samples as before.
    write(1);
    assert_eq!(read_all(&store)[&labels(1)].len(), 2);
    bed.clock.advance(Duration::from_hours(24));
    store.maintain();
    assert_eq!(store.stats().blocks, 0);
}

#[test]
fn a_damaged_block_is_set_aside_and_the_rest_is_read() {
    let mut bed = Bed::new(1);
    let store = bed.open();
    let mut model = Model::new();
    for _ in 0..2 {
        write_random(&mut bed, &store, &mut model);
        store.flush().unwrap();
    }
    drop(store);
    let path = std::path::Path::new("/store/blocks/0000000000000001.blk");
    let len = bed.fs.peek(path).unwrap().len() as u64;
    assert!(bed.fs.flip_bit(path, len - 3, 1));
    bed.fs.kill();
    let store = bed.open();
    assert_eq!((store.stats().set_aside, store.stats().blocks), (1, 1));
    let names: Vec<String> = Fs::list(&bed.fs, std::path::Path::new("/store/blocks"))
        .unwrap()
        .into_iter()
        .map(|e| e.name)
        .collect();
    assert!(
        names.contains(&"0000000000000001.blk.damaged".to_owned()),
        "{names:?}"
    );
    assert!(!read_all(&store).is_empty());
}
