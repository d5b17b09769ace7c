//! What the journal does on a disk that works, and with files that are not its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kittiwake_env::{Fault, Fs, RealClock, RealFs, SimFs};
use kittiwake_journal::{Journal, JournalError, Options};
use proptest::prelude::*;

use super::{DIR, files, open, options, read_all};

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Sync,
    Rotate,
    Truncate(u64),
    Reopen,
    Read(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..=300).prop_map(Step::Append),
        1 => Just(Step::Sync),
        1 => Just(Step::Rotate),
        1 => (0..60_u64).prop_map(Step::Truncate),
        1 => Just(Step::Reopen),
        2 => (0..60_u64).prop_map(Step::Read),
    ]
}

proptest! {
    #[test]
    fn behaves_as_a_map_in_memory(steps in prop::collection::vec(step(), 0..60)) {
        let fs = SimFs::new(1);
        let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut next = 1;
        let (mut journal, _) = open(&fs).unwrap();
        let mut follower = journal.read_from(0);
        let mut followed = 0;
        for step in steps {
            match step {
                Step::Append(payload) => {
                    prop_assert_eq!(journal.append(&[&payload]).unwrap(), next);
                    model.insert(next, payload.clone());
                    let (sequence, seen) = follower.next().unwrap().unwrap();
                    prop_assert_eq!((sequence, seen), (next, payload));
                    followed += 1;
                    next += 1;
                }
                Step::Sync => {
                    journal.sync_all().unwrap();
                    prop_assert_eq!(journal.synced_seq(), next - 1);
                }
                Step::Rotate => prop_assert_eq!(journal.rotate().unwrap(), next),
                Step::Truncate(before) => {
                    journal.truncate_before(before).unwrap();
                    let first = journal.first_seq();
                    let gone: Vec<u64> = model.range(..first).map(|(seq, _)| *seq).collect();
                    prop_assert!(gone.iter().all(|seq| *seq < before));
                    model.retain(|seq, _| *seq >= first);
                }
                Step::Reopen => {
                    fs.kill();
                    let (again, opened) = open(&fs).unwrap();
                    prop_assert_eq!(opened.next_seq, next);
                    prop_assert_eq!(opened.first_seq, again.first_seq());
                    prop_assert!(opened.cut.is_none() && opened.damaged.is_empty());
                    prop_assert!(opened.gaps.is_empty());
                    journal = again;
                    follower = journal.read_from(next);
                }
                Step::Read(from) => {
                    let found: Vec<_> = journal.read_from(from).map(Result::unwrap).collect();
                    let expected: Vec<_> =
                        model.range(from..).map(|(seq, payload)| (*seq, payload.clone())).collect();
                    prop_assert_eq!(found, expected);
                }
            }
            prop_assert!(follower.next().is_none());
        }
        prop_assert_eq!(read_all(&journal).unwrap(), model);
        prop_assert_eq!(followed, next - 1);
        let on_disk: u64 = fs.list(Path::new(DIR)).unwrap().iter().map(|entry| entry.len).sum();
        prop_assert_eq!(journal.bytes(), on_disk);
        prop_assert_eq!(journal.segments(), files(&fs, ".seg").len());
    }

    #[test]
    fn foreign_bytes_never_panic_and_are_never_wiped(
        contents in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 1..4),
    ) {
        let fs = SimFs::new(1);
        // Real headers, so that the random bytes are also tried as frames.
        let (journal, _) = open(&fs).unwrap();
        for _ in 0..contents.len() {
            journal.append(&[b"x"]).unwrap();
            journal.rotate().unwrap();
        }
        drop(journal);
        fs.kill();
        for (at, (bytes, keep_header)) in contents.iter().enumerate() {
            let path = Path::new(DIR).join(format!("{:020}.seg", at + 1));
            if *keep_header {
                fs.truncate(&path, 48).unwrap();
                fs.open_append(&path).unwrap().write_all(bytes).unwrap();
            } else {
                fs.create(&path).unwrap().write_all(bytes).unwrap();
            }
        }
        let (journal, opened) = open(&fs).unwrap();
        prop_assert!(read_all(&journal).unwrap().is_empty());
        prop_assert!(opened.next_seq > contents.len() as u64);
        for damage in &opened.damaged {
            prop_assert!(fs.peek(&damage.set_aside).is_some());
        }
        let number = journal.append(&[b"good"]).unwrap();
        prop_assert_eq!(read_all(&journal).unwrap(), BTreeMap::from([(number, b"good".to_vec())]));
    }
}

#[test]
fn a_torn_tail_is_cut_and_damage_behind_good_frames_is_set_aside() {
    let fs = SimFs::new(1);
    let (journal, _) = open(&fs).unwrap();
    for payload in [b"one", b"two", b"six"] {
        journal.append(&[payload]).unwrap();
    }
    drop(journal);
    fs.kill();
    let segment = Path::new(DIR).join("00000000000000000001.seg");
    fs.truncate(&segment, 48 + 3 * 19 - 1).unwrap();
    let (journal, opened) = open(&fs).unwrap();
    let cut = opened.cut.unwrap();
    assert_eq!((cut.byte, cut.lost_bytes), (48 + 2 * 19, 18));
    assert_eq!(opened.next_seq, 3);
    assert_eq!(journal.append(&[b"new"]).unwrap(), 3);
    journal.append(&[b"end"]).unwrap();
    drop(journal);
    fs.kill();

    // The second frame of the older segment: it is not the newest, so this is no torn tail.
    assert!(fs.flip_bit(&segment, 48 + 2 * 19 - 1, 0));
    let (journal, opened) = open(&fs).unwrap();
    assert!(opened.cut.is_none());
    assert_eq!(opened.damaged.len(), 1);
    assert_eq!(
        (opened.damaged[0].byte, opened.damaged[0].newest),
        (48 + 19, false)
    );
    assert_eq!(opened.gaps.len(), 1);
    assert_eq!(opened.gaps[0], 2..3);
    let found: Vec<u64> = read_all(&journal).unwrap().into_keys().collect();
    assert_eq!(found, [1, 3, 4]);
    journal.rotate().unwrap();
    journal.truncate_before(5).unwrap();
    assert_eq!(files(&fs, ".aside"), ["00000000000000000001-0.aside"]);
    assert!(files(&fs, ".bad").is_empty());
}

#[test]
fn damage_after_opening_is_an_error_of_the_reader_which_goes_on() {
    let fs = SimFs::new(1);
    let (journal, _) = open(&fs).unwrap();
    journal.append(&[b"one"]).unwrap();
    journal.append(&[b"two"]).unwrap();
    journal.rotate().unwrap();
    journal.append(&[b"six"]).unwrap();
    assert!(fs.flip_bit(&Path::new(DIR).join("00000000000000000001.seg"), 48 + 17, 0));
    let mut reader = journal.read_from(1);
    let error = reader.next().unwrap().unwrap_err();
    let lost = matches!(
        error,
        JournalError::Damaged {
            byte: 48,
            first_lost: 1,
            next: 3,
            ..
        }
    );
    assert!(lost, "{error}");
    assert_eq!(reader.next().unwrap().unwrap(), (3, b"six".to_vec()));
    assert!(reader.next().is_none());
}

#[test]
fn a_later_version_is_refused_by_name_and_left_alone() {
    let fs = SimFs::new(1);
    let (journal, _) = open(&fs).unwrap();
    journal.append(&[b"one"]).unwrap();
    drop(journal);
    let path = Path::new(DIR).join("00000000000000000001.seg");
    let mut bytes = fs.peek(&path).unwrap();
    bytes[8] = 9;
    bytes[44] ^= 1;
    fs.create(&path).unwrap().write_all(&bytes).unwrap();
    let error = open(&fs).unwrap_err();
    assert!(
        matches!(
            error,
            JournalError::UnknownVersion {
                version: 9,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("00000000000000000001.seg"),
        "{error}"
    );
    assert_eq!(fs.peek(&path).unwrap(), bytes);
}

#[test]
fn a_full_disk_refuses_frames_until_there_is_space() {
    let fs = SimFs::new(1);
    let (journal, _) = open(&fs).unwrap();
    journal.append(&[&[1; 100]]).unwrap();
    fs.set_capacity_bytes(journal.bytes() + 50);
    for _ in 0..3 {
        assert!(journal.append(&[&[2; 100]]).unwrap_err().is_full());
    }
    journal.append(&[&[3; 20]]).unwrap();
    assert!(journal.rotate().unwrap_err().is_full());
    assert!(journal.append(&[b"x"]).unwrap_err().is_full());
    journal.sync_all().unwrap();
    fs.set_capacity_bytes(u64::MAX);
    assert_eq!(journal.append(&[&[4; 100]]).unwrap(), 3);
    let sizes: Vec<usize> = read_all(&journal).unwrap().values().map(Vec::len).collect();
    assert_eq!(sizes, [100, 20, 100]);
    drop(journal);
    fs.kill();
    let (_, opened) = open(&fs).unwrap();
    assert!(
        opened.cut.is_none() && opened.damaged.is_empty(),
        "{opened:?}"
    );
}

#[test]
fn a_failed_sync_stops_the_journal_for_good() {
    let fs = SimFs::new(1);
    let (journal, _) = open(&fs).unwrap();
    journal.append(&[b"one"]).unwrap();
    fs.fail_at(fs.operations(), Fault::Io);
    let error = journal.sync_all().unwrap_err();
    assert!(
        !error.is_poisoned(),
        "the first caller gets the cause: {error}"
    );
    for error in [
        journal.sync_all().unwrap_err(),
        journal.append(&[b"two"]).unwrap_err(),
    ] {
        assert!(
            error.is_poisoned() && error.to_string().contains("cannot sync"),
            "{error}"
        );
    }
    assert_eq!(journal.synced_seq(), 0);
}

#[test]
fn a_failed_write_stops_the_journal_and_its_remains_are_cut() {
    let fs = SimFs::new(2);
    let (journal, _) = open(&fs).unwrap();
    journal.append(&[b"one"]).unwrap();
    fs.fail_at(fs.operations(), Fault::Io);
    assert!(!journal.append(&[&[2; 200]]).unwrap_err().is_poisoned());
    assert!(journal.append(&[b"two"]).unwrap_err().is_poisoned());
    assert!(journal.sync(1).unwrap_err().is_poisoned());
    assert_eq!(
        read_all(&journal).unwrap().len(),
        1,
        "what was good is still read"
    );
    fs.kill();
    let (_, opened) = open(&fs).unwrap();
    assert_eq!(opened.next_seq, 2);
    assert!(opened.cut.is_some());
}

#[test]
fn limits_are_named() {
    let fs = SimFs::new(1);
    let (journal, _) = open(&fs).unwrap();
    let error = journal.append(&[&[0; 200], &[0; 101]]).unwrap_err();
    assert!(matches!(
        error,
        JournalError::FrameTooLarge {
            size_bytes: 301,
            max_bytes: 300
        }
    ));
    let bad = Options {
        frame_bytes_max: 0,
        ..options()
    };
    let clock = Arc::new(kittiwake_env::SimClock::new(0));
    assert!(Journal::open(Arc::new(fs), clock, DIR, bad).is_err());
}

#[test]
fn threads_share_syncs_and_every_frame_is_read_once_beside_them() {
    const THREADS: u64 = 4;
    const FRAMES: u64 = 50;
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes_max: 2000,
        ..Options::default()
    };
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let clock = Arc::new(RealClock::new());
    let (journal, opened) = Journal::open(
        fs.clone(),
        clock.clone(),
        dir.path().join("j"),
        options.clone(),
    )
    .unwrap();
    assert_eq!(opened.next_seq, 1);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let journal = &journal;
            scope.spawn(move || {
                for frame in 0..FRAMES {
                    let text = format!("{thread} {frame}");
                    let sequence = journal.append(&[text.as_bytes()]).unwrap();
                    journal.sync(sequence).unwrap();
                    assert!(journal.synced_seq() >= sequence);
                }
            });
        }
        let mut reader = journal.read_from(1);
        let mut next = 1;
        while next <= THREADS * FRAMES {
            match reader.next() {
                Some(frame) => {
                    assert_eq!(frame.unwrap().0, next);
                    next += 1;
                }
                None => std::thread::yield_now(),
            }
        }
    });
    let frames = read_all(&journal).unwrap();
    let (epoch, bytes) = (journal.epoch(), journal.bytes());
    drop(journal);
    let (journal, opened) = Journal::open(fs, clock, dir.path().join("j"), options).unwrap();
    assert_eq!(read_all(&journal).unwrap(), frames);
    assert_eq!(journal.bytes(), bytes);
    assert_ne!(opened.epoch, epoch, "each opening draws its own");
    let mut reader = journal.read_from(0);
    assert!(reader.next().is_some());
    assert_eq!(reader.epoch(), Some(epoch), "frames keep theirs");
}
