//! What is accepted, what is refused, and what leaves.

use std::time::Duration;

use kittiwake_env::{Clock as _, Fs};
use kittiwake_model::TimeRange;
use kittiwake_model::delivery::Origin;
use kittiwake_tsdb::{Batch, Options, Refusal, WriteError};

use super::bed::{Bed, Model, START_MS, labels, origin, read_all, try_read};

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

/// A store of two blocks, not open, and what it held before a bit of the first was flipped: in the
/// byte that is chosen by the file's length.
fn with_damaged_block(byte: impl Fn(u64) -> u64) -> (Bed, Model) {
    let mut bed = Bed::new(1);
    let store = bed.open();
    let mut model = Model::new();
    for _ in 0..2 {
        bed.write(&store, &mut model);
        store.flush().unwrap();
    }
    drop(store);
    let path = std::path::Path::new("/store/blocks/0000000000000001.blk");
    let len = bed.fs.peek(path).unwrap().len() as u64;
    assert!(bed.fs.flip_bit(path, byte(len), 1));
    bed.fs.kill();
    (bed, model)
}

#[test]
fn a_block_that_a_query_finds_damaged_is_set_aside_by_the_next_round() {
    let mut found = 0;
    for part in 1..16 {
        let (mut bed, model) = with_damaged_block(|len| len * part / 16);
        let store = bed.open();
        let before = store.stats().set_aside;
        match try_read(&store, Vec::new(), TimeRange::ALL) {
            // What is damaged was not needed, or is set aside already.
            Ok(read) => assert!(before == 1 || read == model, "part {part}"),
            Err(error) => {
                assert!(error.to_string().contains("1.blk"), "{error}");
                store.maintain();
                assert_eq!((before, store.stats().set_aside), (0, 1), "part {part}");
                found += 1;
            }
        }
        assert!(!read_all(&store).is_empty());
    }
    assert!(found > 4, "{found}");
}

#[test]
fn a_damaged_block_is_set_aside_and_the_rest_is_read() {
    let (mut bed, _) = with_damaged_block(|len| len - 3);
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
