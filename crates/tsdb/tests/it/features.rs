//! Each feature by itself.

use std::sync::Arc;
use std::time::Duration;

use kittiwake_env::{Clock as _, Fs};
use kittiwake_journal::Journal;
use kittiwake_model::{
    Exemplar, Labels, MatchOp, Matcher, Metadata, MetricsStore, QueryContext, TimeRange,
};
use kittiwake_tsdb::{Batch, OpenError, Options, Store};

use super::bed::{Bed, Model, START_MS, labels, options, origin, read_all};

fn write(store: &Store, series: u64, times: &[i64]) {
    let mut batch = Batch::new();
    batch.start(labels(series), None);
    for time in times {
        batch.sample(*time, *time as f64);
    }
    assert_eq!(store.write(&batch, None).unwrap().refused, 0);
}

fn times(store: &Store, series: u64) -> Vec<i64> {
    let found = read_all(store).remove(&labels(series));
    found.unwrap_or_default().into_keys().collect()
}

#[test]
fn exemplars_and_metadata_survive_flush_and_restart() {
    let mut bed = Bed::new(1);
    let mut store = bed.open_with(Options {
        exemplars_max: 3,
        ..options()
    });
    let exemplar = |n: i64| Exemplar {
        labels: Labels::from_pairs([("trace_id", n.to_string())]).unwrap(),
        value: n as f64,
        time_ms: START_MS + n,
    };
    let help = |text: &str| Metadata {
        kind: "counter".to_owned(),
        help: text.to_owned(),
        unit: String::new(),
    };
    for n in 0..5 {
        let mut batch = Batch::new();
        batch.start(labels(1), None);
        batch.sample(START_MS + n, 1.0);
        batch.exemplar(exemplar(n));
        batch.exemplar(exemplar(n));
        batch.metadata("requests_total", help("one"));
        batch.metadata("requests_total", help("two"));
        store.write(&batch, None).unwrap();
    }
    // A request of these alone is one too.
    let mut batch = Batch::new();
    batch.metadata("up", help("three"));
    store.write(&batch, Some(&origin(1))).unwrap();
    for round in 0..5 {
        let context = QueryContext::default();
        let matchers = vec![Matcher::equal("instance", "i1")];
        let range = TimeRange::new(START_MS + 3, START_MS + 99);
        let found = store.exemplars(&[matchers], range, &context).unwrap();
        assert_eq!(found, [(labels(1), vec![exemplar(3), exemplar(4)])]);
        let other = vec![Matcher::equal("instance", "i2")];
        assert!(
            store
                .exemplars(&[other], range, &context)
                .unwrap()
                .is_empty()
        );
        assert_eq!(store.stats().exemplars, 3);
        let said = vec![
            ("requests_total".to_owned(), vec![help("one"), help("two")]),
            ("up".to_owned(), vec![help("three")]),
        ];
        assert_eq!(store.metadata(None, &context).unwrap(), said);
        assert_eq!(store.metadata(Some("up"), &context).unwrap(), said[1..]);
        if round % 2 == 1 {
            store.flush().unwrap();
        }
        // An old exemplar keeps its series in memory.
        bed.clock.advance(Duration::from_hours(2));
        drop(store);
        bed.fs.kill();
        store = bed.open_with(Options {
            exemplars_max: 3,
            ..options()
        });
    }
}

#[test]
fn a_deletion_hides_what_was_there_and_cleaning_removes_it() {
    let mut bed = Bed::new(1);
    let mut store = bed.open();
    write(&store, 1, &[START_MS, START_MS + 1]);
    store.flush().unwrap();
    write(&store, 1, &[START_MS + 2, START_MS + 3]);
    write(&store, 2, &[START_MS + 2]);
    let matchers = vec![
        Matcher::new(MatchOp::Regex, "instance", "i1|x").unwrap(),
        Matcher::equal("__name__", "requests_total"),
    ];
    let range = TimeRange::new(START_MS + 1, START_MS + 2);
    store.delete(&[matchers], range).unwrap();
    let left = [START_MS, START_MS + 3];
    assert_eq!(times(&store, 1), left);
    drop(store);
    bed.fs.kill();
    store = bed.open();
    assert_eq!(times(&store, 1), left);
    let held = |store: &Store| store.blocks().iter().map(|(b, _)| b.rows).sum::<u64>();
    assert_eq!(held(&store), 5);
    store.clean_tombstones().unwrap();
    assert_eq!((held(&store), times(&store, 1).len()), (3, 2));
    assert_eq!(times(&store, 2).len(), 1);
    // What comes later, also at the time of what was deleted, is there.
    write(&store, 1, &[START_MS + 1]);
    assert_eq!(times(&store, 1).len(), 3);
    // All of a block can go.
    store.flush().unwrap();
    store
        .delete(&[vec![Matcher::equal("instance", "i1")]], TimeRange::ALL)
        .unwrap();
    let context = QueryContext::default();
    let series = store.series(&[], TimeRange::ALL, 0, &context).unwrap();
    assert_eq!(
        series,
        [labels(2)],
        "a series that is hidden whole is not listed"
    );
    store.clean_tombstones().unwrap();
    assert_eq!((held(&store), store.blocks().len()), (1, 1));
}

#[test]
fn compaction_keeps_deletions() {
    let mut bed = Bed::new(1);
    let store = bed.open();
    for n in 0..9 {
        write(&store, 1, &[START_MS + n]);
        write(&store, 2, &[START_MS + n]);
        store.flush().unwrap();
    }
    store
        .delete(&[vec![Matcher::equal("instance", "i1")]], TimeRange::ALL)
        .unwrap();
    write(&store, 1, &[START_MS + 9]);
    store.flush().unwrap();
    store.maintain();
    assert_eq!(store.stats().blocks, 1);
    assert_eq!(times(&store, 1), [START_MS + 9]);
    assert_eq!(times(&store, 2).len(), 9);
}

#[test]
fn a_snapshot_is_a_store() {
    let mut bed = Bed::new(1);
    let store = bed.open();
    let mut model = Model::new();
    for _ in 0..3 {
        bed.write(&store, &mut model);
        store.flush().unwrap();
    }
    bed.write(&store, &mut model);
    store
        .delete(&[vec![Matcher::equal("instance", "i1")]], TimeRange::ALL)
        .unwrap();
    let left = read_all(&store);
    let dir = store.snapshot("one").unwrap();
    for name in ["one", "", "..", "a/b"] {
        let error = store.snapshot(name).unwrap_err();
        assert!(matches!(error, OpenError::SnapshotName(_)), "{name}");
    }
    bed.write(&store, &mut model);
    let copy = Store::open(
        Arc::new(bed.fs.clone()),
        Arc::new(bed.clock.clone()),
        &mut bed.rng,
        dir,
        options(),
    )
    .unwrap();
    assert_eq!(read_all(&copy), left);
    bed.write(&copy, &mut left.clone());
}

#[test]
fn the_oldest_blocks_go_when_all_are_too_large() {
    let mut bed = Bed::new(1);
    let mut store = bed.open();
    for n in 0..4 {
        write(&store, 1, &[START_MS + n]);
        store.flush().unwrap();
    }
    let bytes = store.stats().block_bytes;
    drop(store);
    store = bed.open_with(Options {
        retention_bytes: bytes / 2 + 1,
        ..options()
    });
    store.maintain();
    assert_eq!(times(&store, 1), [START_MS + 2, START_MS + 3]);
}

#[test]
fn some_series_are_kept_for_less_long() {
    let mut bed = Bed::new(1);
    let short = || Options {
        retention_of: vec![(vec![Matcher::equal("instance", "i1")], 86_400_000)],
        ..options()
    };
    let mut store = bed.open_with(short());
    write(&store, 1, &[START_MS]);
    write(&store, 2, &[START_MS]);
    store.flush().unwrap();
    store.maintain();
    bed.clock.advance(Duration::from_hours(20));
    write(&store, 1, &[bed.clock.now_ms()]);
    store.flush().unwrap();
    bed.clock.advance(Duration::from_hours(5));
    store.maintain();
    let rows = |store: &Store| store.blocks().iter().map(|(b, _)| b.rows).sum::<u64>();
    assert_eq!((times(&store, 1).len(), times(&store, 2).len()), (1, 1));
    assert_eq!(rows(&store), 2, "what is hidden has left the disk");
    bed.clock.advance(Duration::from_hours(20));
    store.maintain();
    assert_eq!((times(&store, 1).len(), rows(&store)), (0, 1));
    // A rule that is gone hides nothing any more.
    let mut batch = Batch::new();
    batch.start(labels(1), None);
    batch.sample(START_MS + 5, 1.0);
    store.write(&batch, Some(&origin(1))).unwrap();
    store.flush().unwrap();
    assert_eq!(times(&store, 1), []);
    drop(store);
    store = bed.open();
    store.maintain();
    assert_eq!(times(&store, 1), [START_MS + 5]);
}

#[test]
fn a_load_of_old_samples_is_flushed_once_it_is_over() {
    let mut bed = Bed::new(1);
    let store = bed.open();
    let all: Vec<i64> = (0..100)
        .map(|n| START_MS - 6_000_000 + n * 60_000)
        .collect();
    write(&store, 1, &all);
    assert_eq!(store.stats().pending_work, 1);
    bed.clock.advance(Duration::from_secs(10));
    store.maintain();
    assert_eq!(store.stats().blocks, 0);
    bed.clock.advance(Duration::from_secs(11));
    store.maintain();
    assert_eq!((store.stats().blocks, store.stats().pending_work), (1, 0));
    assert_eq!(times(&store, 1), all);
    // What comes as time goes by waits for the interval.
    write(&store, 1, &[START_MS + 30_000]);
    bed.clock.advance(Duration::from_mins(2));
    write(&store, 1, &[START_MS + 150_000]);
    bed.clock.advance(Duration::from_mins(2));
    store.maintain();
    assert_eq!((store.stats().blocks, store.stats().pending_work), (1, 0));
}

#[test]
fn a_log_from_before_label_sets_were_numbered_is_replayed() {
    let mut bed = Bed::new(1);
    drop(bed.open());
    let fs: Arc<dyn Fs> = Arc::new(bed.fs.clone());
    let clock = Arc::new(bed.clock.clone());
    let options = kittiwake_journal::Options {
        epoch: Some(1),
        ..kittiwake_journal::Options::default()
    };
    let (journal, _) = Journal::open(fs, clock, "/store/wal", options).unwrap();
    let digits = include_str!("../golden/log_frame.hex").trim().as_bytes();
    let byte = |two: &[u8]| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap();
    let frame: Vec<u8> = digits.chunks(2).map(byte).collect();
    journal.append(&[&frame]).unwrap();
    drop(journal);
    let all = read_all(&bed.open());
    let up = Labels::from_pairs([("__name__", "up")]).unwrap();
    let value = (format!("{:016x}", 1.5_f64.to_bits()), 0);
    assert_eq!(all, Model::from([(up, [(i64::MAX, value)].into())]));
}
