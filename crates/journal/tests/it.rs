//! The journal on a disk that loses, tears, fails and flips, against a model in memory.
//! A failure names its seed; `CRASH_RUNS` sets how many seeds are tried.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

#[path = "it/crash.rs"]
mod crash;
#[path = "it/journal.rs"]
mod journal;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kittiwake_env::{SimClock, SimFs};
use kittiwake_journal::{Journal, Opened, Options, Result, Sequence};

const DIR: &str = "/journal";

fn options() -> Options {
    Options {
        segment_bytes_max: 400,
        frame_bytes_max: 300,
        epoch: Some(7),
    }
}

fn open(fs: &SimFs) -> Result<(Journal, Opened)> {
    Journal::open(
        Arc::new(fs.clone()),
        Arc::new(SimClock::new(0)),
        DIR,
        options(),
    )
}

fn read_all(journal: &Journal) -> Result<BTreeMap<Sequence, Vec<u8>>> {
    let mut frames = BTreeMap::new();
    for frame in journal.read_from(0) {
        let (sequence, payload) = frame?;
        let last = frames.last_key_value().map_or(0, |(last, _)| *last);
        assert!(sequence > last, "{sequence} came after {last}");
        frames.insert(sequence, payload);
    }
    Ok(frames)
}

/// Names of the journal's files that end so.
fn files(fs: &SimFs, suffix: &str) -> Vec<String> {
    let entries = kittiwake_env::Fs::list(fs, Path::new(DIR)).unwrap();
    entries
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| name.ends_with(suffix))
        .collect()
}
