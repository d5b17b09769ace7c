//! Crashes and faults at every operation, by seed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kittiwake_env::{Fault, Fs};
use kittiwake_model::{Columns, Matcher, MetricsStore, QueryContext, Select, TimeRange};

use super::bed::{Bed, Model, START_MS, labels, options, read, read_all, runs, shown};

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
                    bed.write(&store, &mut model);
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
        // Names and values are those of the series.
        let context = QueryContext::default();
        let instances: BTreeSet<&str> = series.iter().filter_map(|l| l.get("instance")).collect();
        let of = [vec![Matcher::equal("__name__", "up")]];
        let values = store
            .label_values("instance", &of, range, &context)
            .unwrap();
        assert!(
            values.iter().map(String::as_str).eq(instances),
            "seed {seed}"
        );
        let names = store.label_names(&of, range, &context).unwrap();
        let want: &[&str] = if values.is_empty() {
            &[]
        } else {
            &["__name__", "instance"]
        };
        assert_eq!(names, want, "seed {seed}");
    }
}

#[test]
fn a_crash_at_any_operation_of_flush_and_compaction_loses_nothing() {
    for seed in 0..runs() {
        let mut bed = Bed::new(seed);
        let store = bed.open();
        let mut model = Model::new();
        for _ in 0..9 {
            bed.write(&store, &mut model);
            store.flush().unwrap();
        }
        bed.write(&store, &mut model);
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

/// One operation of the file system fails, by a full disk or an error, or the power goes. What
/// was acknowledged and synced stays; what was not acknowledged is there whole or not at all.
#[test]
fn a_fault_at_any_operation_loses_nothing_acknowledged_and_invents_nothing() {
    for seed in 0..runs() {
        let mut bed = Bed::new(seed);
        let store = bed.open();
        let mut model = Model::new();
        for _ in 0..3 {
            bed.write(&store, &mut model);
        }
        store.sync_all().unwrap();
        let at = bed.fs.operations() + bed.below(70);
        match bed.below(3) {
            0 => bed.fs.fail_at(at, Fault::Full),
            1 => bed.fs.fail_at(at, Fault::Io),
            _ => bed.fs.halt_at(at),
        }
        // Any of these may be there after the crash: nothing below the last sync is lost.
        let mut possible = vec![model.clone()];
        for _ in 0..12 {
            let (batch, after) = bed.request(&store, &model);
            let is_written = store.write(&batch, None).is_ok();
            if is_written {
                model = after;
                possible.push(model.clone());
            } else {
                possible.push(after);
            }
            let done = match bed.below(6) {
                0 => store.flush().map_err(|e| e.to_string()),
                1 => {
                    store.maintain();
                    Ok(())
                }
                2 => store.sync_all().map_err(|e| e.to_string()).map(|()| {
                    possible = vec![model.clone()];
                }),
                _ => Ok(()),
            };
            // What reads sees what was acknowledged, whatever failed.
            if is_written
                && done.is_ok()
                && let Ok(found) = collect(&store)
            {
                assert_eq!(found, model, "seed {seed}");
            }
        }
        drop(store);
        let fs = bed.fs.clone();
        fs.crash(&mut bed.rng);
        let store = bed.open();
        let found = read_all(&store);
        assert!(
            possible.contains(&found),
            "seed {seed}: lost or invented\n{found:?}\nnot in\n{possible:?}"
        );
        store.flush().unwrap();
        assert_eq!(read_all(&store), found, "seed {seed}");
    }
}

/// A flipped bit anywhere: what is read is right, a query that cannot be answered whole fails,
/// and the damage is reported and set aside.
#[test]
fn a_flipped_bit_is_reported_and_the_rest_is_right() {
    for seed in 0..runs() {
        let mut bed = Bed::new(seed);
        let store = bed.open();
        let mut model = Model::new();
        for _ in 0..3 {
            for _ in 0..5 {
                bed.write(&store, &mut model);
            }
            store.flush().unwrap();
        }
        bed.write(&store, &mut model);
        store.sync_all().unwrap();
        drop(store);
        bed.fs.kill();
        let mut files = Vec::new();
        for folder in ["/store/blocks", "/store/wal"] {
            for entry in Fs::list(&bed.fs, Path::new(folder)).unwrap() {
                files.push((Path::new(folder).join(&entry.name), entry.len));
            }
        }
        let (path, len) = files[bed.below(files.len() as u64) as usize].clone();
        let (byte, bit) = (bed.below(len), bed.below(8) as u8);
        assert!(bed.fs.flip_bit(&path, byte, bit));
        let store = match bed.try_open(options()) {
            Ok(store) => store,
            // An unknown version is refused by name, never wiped.
            Err(error) => {
                assert!(
                    error.to_string().contains("version"),
                    "seed {seed}: {error}"
                );
                continue;
            }
        };
        let mut is_whole = false;
        for _ in 0..4 {
            match collect(&store) {
                Ok(found) => {
                    for (series, samples) in &found {
                        for (time, value) in samples {
                            // Where the first of two values was in what is damaged, the second
                            // shows.
                            let known = model[series].get(time);
                            let is_right = known == Some(value) || store.stats().set_aside > 0;
                            assert!(known.is_some() && is_right, "seed {seed}");
                        }
                    }
                    is_whole = found == model;
                    break;
                }
                Err(_) => store.maintain(),
            }
        }
        // Damage to the end of the log looks like what a power loss leaves, and is cut.
        let is_known = store.stats().set_aside > 0 || path.starts_with("/store/wal");
        assert!(
            is_whole || is_known,
            "seed {seed}: {} {byte}",
            path.display()
        );
        drop(store);
        let store = bed.open();
        assert!(collect(&store).is_ok());
    }
}

fn collect(store: &kittiwake_tsdb::Store) -> Result<Model, kittiwake_model::StoreError> {
    let select = Select::new(Vec::new(), TimeRange::ALL);
    let mut cursor = store.select(&select, &QueryContext::default())?;
    let mut found = Model::new();
    while let Some(labels) = cursor.next_series()? {
        let mut columns = Columns::default();
        while cursor.next_batch(&mut columns)? {}
        found.insert(labels, shown(&columns));
    }
    found.retain(|_, samples| !samples.is_empty());
    Ok(found)
}

#[test]
fn a_query_sees_what_it_pinned_while_all_moves() {
    let mut bed = Bed::new(3);
    let store = bed.open();
    let mut model = Model::new();
    for _ in 0..30 {
        bed.write(&store, &mut model);
    }
    let select = Select::new(Vec::new(), TimeRange::ALL);
    let mut cursor = store.select(&select, &QueryContext::default()).unwrap();
    let pinned = model.clone();
    for _ in 0..12 {
        bed.write(&store, &mut model);
        store.flush().unwrap();
        store.maintain();
    }
    assert!(store.stats().blocks < 12, "compaction ran");
    let mut found = Model::new();
    while let Some(labels) = cursor.next_series().unwrap() {
        let mut columns = Columns::default();
        while cursor.next_batch(&mut columns).unwrap() {}
        found.insert(labels, shown(&columns));
    }
    assert_eq!(found, pinned);
    assert_eq!(read_all(&store), model);
}

/// Queries beside a writer, flushes and compactions: what was acknowledged before the query is
/// in its answer, once.
#[test]
fn nothing_is_seen_twice_or_not_at_all_while_head_turns_into_block() {
    let mut bed = Bed::new(11);
    let store = Arc::new(bed.open());
    let is_done = Arc::new(AtomicBool::new(false));
    let (moving, stop) = (Arc::clone(&store), Arc::clone(&is_done));
    let mover = std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            moving.flush().unwrap();
            moving.maintain();
        }
    });
    let mut model = Model::new();
    let mut sizes = BTreeSet::new();
    for _ in 0..400 {
        bed.write(&store, &mut model);
        assert_eq!(read_all(&store), model);
        sizes.insert(store.stats().blocks);
    }
    is_done.store(true, Ordering::Relaxed);
    mover.join().unwrap();
    assert!(sizes.len() > 3, "blocks came and went: {sizes:?}");
    assert_eq!(read_all(&store), model);
    assert!(model.contains_key(&labels(0)));
}
