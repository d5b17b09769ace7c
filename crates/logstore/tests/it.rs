//! The store on a disk that crashes, against a model in memory. A failure names its seed;
//! `CRASH_RUNS` sets how many seeds are tried.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kittiwake_env::{Clock, Fs, Rng, SeededRng, SimClock, SimFs};
use kittiwake_logstore::{Batch, Options, Refusal, Store, WriteError};
use kittiwake_model::delivery::{FrameNumber, Origin, Sender};
use kittiwake_model::{
    Amount, Apart, Count, Direction, EntryBatch, EntryCursor, EntryId, Labels, LineFilter,
    LogStore, Matcher, QueryContext, Scan, TimeRange,
};

const START_NS: i64 = 1_700_000_000_000_000_000;

/// Per stream and time the lines in order of their ordinals, with their metadata.
type Model = BTreeMap<Labels, BTreeMap<i64, Vec<(String, Labels)>>>;

fn stream(number: u64) -> Labels {
    Labels::from_pairs([("container", format!("c{number}"))]).unwrap()
}

struct Bed {
    fs: SimFs,
    clock: SimClock,
    rng: SeededRng,
}

impl Bed {
    fn new(seed: u64) -> Self {
        Self {
            fs: SimFs::new(seed),
            clock: SimClock::new(START_NS),
            rng: SeededRng::new(seed),
        }
    }

    fn open_with(&mut self, options: Options) -> Store {
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let clock = Arc::new(self.clock.clone());
        Store::open(fs, clock, &mut self.rng, "/logs", options).unwrap()
    }

    fn open(&mut self) -> Store {
        self.open_with(Options {
            retention_ns: 0,
            ..Options::default()
        })
    }

    fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Read {
    id: EntryId,
    labels: Labels,
    line: String,
    metadata: Labels,
}

fn read(store: &Store, scan: &Scan) -> Vec<Read> {
    let mut cursor = store.scan(scan, &QueryContext::default()).unwrap();
    let mut found: Vec<Read> = Vec::new();
    let mut batch = EntryBatch::default();
    while cursor.next_batch(&mut batch).unwrap() {
        for index in 0..batch.len() {
            found.push(Read {
                id: batch.id(index),
                labels: batch.labels(index).clone(),
                line: batch.entries[index].line.clone(),
                metadata: batch.entries[index].metadata.clone(),
            });
        }
    }
    let in_order = match scan.direction {
        Direction::Forward => found.is_sorted_by(|a, b| a.id < b.id),
        Direction::Backward => found.is_sorted_by(|a, b| a.id > b.id),
    };
    assert!(in_order, "order, or an id twice");
    found
}

fn scan_all() -> Scan {
    Scan::new(Vec::new(), TimeRange::ALL, Direction::Forward)
}

fn as_model(found: Vec<Read>) -> Model {
    let mut model = Model::new();
    for read in found {
        let at = model
            .entry(read.labels)
            .or_default()
            .entry(read.id.time_ns)
            .or_default();
        assert_eq!(read.id.ordinal as usize, at.len(), "ordinals without a gap");
        at.push((read.line, read.metadata));
    }
    model
}

fn read_all(store: &Store) -> Model {
    as_model(read(store, &scan_all()))
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

/// Writes one random request from a sender with numbers, and does the same to the model.
fn write_random(bed: &mut Bed, store: &Store, model: &mut Model, sequence: u64) {
    let mut batch = Batch::new();
    for _ in 0..=bed.below(3) {
        let labels = stream(bed.below(4));
        batch.start(labels.clone());
        for _ in 0..=bed.below(5) {
            // Coarse times, so that many lines share one.
            let back = bed.below(4) * u64::from(bed.below(3) == 0);
            let time_ns = bed.clock.now_ns() - back as i64 * 1_000_000_000;
            let line = format!("line {} ä", bed.below(5));
            let metadata = match bed.below(4) {
                0 => Labels::from_pairs([("trace", format!("{}", bed.below(3)))]).unwrap(),
                _ => Labels::empty(),
            };
            batch.line(time_ns, &line, Some(metadata.clone()));
            let of = model.entry(labels.clone()).or_default();
            of.entry(time_ns).or_default().push((line, metadata));
        }
        let step = bed.below(2);
        bed.clock.advance(Duration::from_secs(step));
    }
    let written = store.write(&batch, Some(&origin(sequence))).unwrap();
    assert_eq!(written.accepted, batch.len() as u64);
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
        let mut sequence = 1;
        let mut since_sync = vec![(model.clone(), sequence)];
        for _ in 0..60 {
            match bed.below(10) {
                0 => store.flush().unwrap(),
                1 => store.maintain(),
                2 => {
                    store.sync_all().unwrap();
                    since_sync = vec![(model.clone(), sequence)];
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
                    let back = since_sync.iter().find(|(m, _)| *m == found);
                    (model, sequence) = back.unwrap_or_else(|| panic!("seed {seed}: lost")).clone();
                    since_sync = vec![(model.clone(), sequence)];
                }
                _ => {
                    write_random(&mut bed, &store, &mut model, sequence);
                    sequence += 1;
                    since_sync.push((model.clone(), sequence));
                }
            }
            assert_eq!(read_all(&store), model, "seed {seed}");
        }
        check_scans(&store, seed);
    }
}

/// Selectors, filters, ranges, direction, limit and pages agree with filtering all lines.
fn check_scans(store: &Store, seed: u64) {
    let all = read(store, &scan_all());
    let Some(middle) = all.get(all.len() / 2).map(|r| r.id.time_ns) else {
        return;
    };
    let mut scan = scan_all();
    scan.direction = Direction::Backward;
    let mut backward = all.clone();
    backward.reverse();
    assert_eq!(read(store, &scan), backward, "seed {seed}");

    scan.selector = vec![Matcher::equal("container", "c1")];
    scan.filters = vec![LineFilter::Contains(vec![
        "line 1".to_owned(),
        "3 ä".to_owned(),
    ])];
    scan.range = TimeRange::new(middle - 20_000_000_000, middle);
    let want: Vec<Read> = backward
        .iter()
        .filter(|r| {
            r.labels == stream(1)
                && (r.line.contains("line 1") || r.line.contains("line 3"))
                && scan.range.contains(r.id.time_ns)
        })
        .cloned()
        .collect();
    assert_eq!(read(store, &scan), want, "seed {seed}");
    scan.needs_line = false;
    assert_eq!(read(store, &scan).len(), want.len(), "seed {seed}");

    for direction in [Direction::Forward, Direction::Backward] {
        let mut scan = scan_all();
        scan.direction = direction;
        scan.limit = 7;
        let mut pages = Vec::new();
        loop {
            let page = read(store, &scan);
            assert!(page.len() <= 7);
            let Some(last) = page.last() else {
                break;
            };
            scan.after = Some(last.id);
            pages.extend(page);
        }
        let want = if direction == Direction::Forward {
            &all
        } else {
            &backward
        };
        assert_eq!(&pages, want, "seed {seed}");
    }
}

#[test]
fn a_crash_at_any_operation_of_flush_and_compaction_loses_nothing() {
    for seed in 0..runs() {
        let mut bed = Bed::new(seed);
        let store = bed.open();
        let mut model = Model::new();
        for sequence in 1..10 {
            write_random(&mut bed, &store, &mut model, sequence);
            store.flush().unwrap();
        }
        write_random(&mut bed, &store, &mut model, 10);
        store.sync_all().unwrap();
        let at = bed.fs.operations() + bed.below(60);
        bed.fs.halt_at(at);
        // Fails somewhere in the flush or in the compaction of ten parts, or not at all.
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
fn a_scan_sees_what_it_pinned_while_all_moves() {
    let mut bed = Bed::new(3);
    let store = bed.open();
    let mut model = Model::new();
    for sequence in 1..30 {
        write_random(&mut bed, &store, &mut model, sequence);
    }
    let want = read(&store, &scan_all());
    let mut cursor = store.scan(&scan_all(), &QueryContext::default()).unwrap();
    for sequence in 30..42 {
        write_random(&mut bed, &store, &mut model, sequence);
        store.flush().unwrap();
        store.maintain();
    }
    assert!(store.stats().parts < 12, "compaction ran");
    let (mut ids, mut batch) = (Vec::new(), EntryBatch::default());
    while cursor.next_batch(&mut batch).unwrap() {
        ids.extend((0..batch.len()).map(|i| batch.id(i)));
    }
    assert_eq!(ids, want.iter().map(|r| r.id).collect::<Vec<_>>());
    assert_eq!(read_all(&store), model);
}

#[test]
fn large_and_small_streams_share_and_split_blocks() {
    let mut bed = Bed::new(5);
    let store = bed.open();
    for round in 0..12 {
        let mut batch = Batch::new();
        for number in 0..40 {
            batch.start(stream(number));
            let lines = if number == 7 { 12_000 } else { 3 };
            for line in 0..lines {
                let time_ns = START_NS + round * 1_000_000_000 + line;
                batch.line(time_ns, &format!("{number} {round} {line}"), None);
            }
        }
        store.write(&batch, None).unwrap();
        store.flush().unwrap();
    }
    let before = read(&store, &scan_all());
    assert_eq!(before.len(), 12 * (39 * 3 + 12_000));
    store.maintain();
    assert_eq!(store.stats().parts, 3);
    assert_eq!(read(&store, &scan_all()), before);
    // A limit over many blocks opens only those that it needs: others may be damaged.
    let mut scan = scan_all();
    scan.limit = 1;
    scan.direction = Direction::Backward;
    assert_eq!(read(&store, &scan)[0], before[before.len() - 1]);
}

#[test]
fn shares_of_a_scan_and_of_a_count_are_the_whole() {
    let mut bed = Bed::new(6);
    let store = bed.open();
    for round in 0..12 {
        let mut batch = Batch::new();
        for number in 0..20 {
            batch.start(stream(number));
            for line in 0..200 {
                let time_ns = START_NS + round * 1_000_000_000 + line * 1_000;
                batch.line(time_ns, &format!("of {number} in {round}: {line}"), None);
            }
        }
        store.write(&batch, None).unwrap();
        // The last one stays in the head.
        if round < 11 {
            store.flush().unwrap();
        }
    }
    let context = QueryContext::default();
    let mut scan = scan_all();
    scan.filters = vec![LineFilter::Contains(vec!["7".to_owned()])];
    let whole = read(&store, &scan);
    let want = (0..12 * 20 * 200).map(|n| (n / 4000, n / 200 % 20, n % 200));
    let has = |(a, b, c): &(i32, i32, i32)| format!("{a} {b} {c}").contains('7');
    assert_eq!(whole.len(), want.filter(has).count());

    scan.ordered = false;
    let mut cursor = store.scan(&scan, &context).unwrap();
    let shares = cursor.split(3).unwrap();
    assert_eq!(shares.len(), 3);
    let drain = |mut share: Box<dyn EntryCursor>| {
        let (mut ids, mut batch) = (Vec::new(), EntryBatch::default());
        while share.next_batch(&mut batch).unwrap() {
            ids.extend((0..batch.len()).map(|index| batch.id(index)));
        }
        ids
    };
    let mut ids: Vec<EntryId> = std::thread::scope(|scope| {
        let drain = &drain;
        let shares = shares
            .into_iter()
            .map(|share| scope.spawn(move || drain(share)));
        let workers: Vec<_> = shares.collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().unwrap())
            .collect()
    });
    ids.sort_unstable();
    assert_eq!(ids, whole.iter().map(|r| r.id).collect::<Vec<_>>());

    let count = Count {
        scan,
        test: None,
        edges: vec![i64::MIN, START_NS + 5_000_000_000, i64::MAX],
        amount: Amount::Lines,
        apart: Apart::By(Vec::new()),
    };
    let mut cursor = store.count(&count, &context).unwrap().unwrap();
    let shares = cursor.split(2);
    assert_eq!(shares.len(), 2);
    let (mut slots, mut counted) = ([0, 0], Vec::new());
    for mut share in shares {
        while share.next_counts(&mut counted).unwrap() {
            for (slot, amount) in counted.iter().flat_map(|c| &c.slots) {
                slots[*slot] += amount;
            }
        }
    }
    let early = whole
        .iter()
        .filter(|r| r.id.time_ns <= count.edges[1])
        .count() as u64;
    assert_eq!(slots, [early, whole.len() as u64 - early]);
}

#[test]
fn equal_lines_of_senders_without_numbers_are_repeats() {
    let mut bed = Bed::new(1);
    let store = bed.open();
    let write = |lines: &[(i64, &str)], origin: Option<&Origin>| {
        let mut batch = Batch::new();
        batch.start(stream(1));
        for (time_ns, line) in lines {
            batch.line(START_NS + time_ns, line, None);
        }
        let written = store.write(&batch, origin).unwrap();
        (written.accepted, written.repeated)
    };
    assert_eq!(
        write(&[(1, "a"), (1, "a"), (1, "b"), (2, "a")], None),
        (3, 1)
    );
    assert_eq!(
        write(&[(1, "a"), (2, "b"), (0, "a"), (0, "a")], None),
        (2, 2)
    );
    // Who numbers its frames means every line.
    assert_eq!(write(&[(2, "a"), (2, "a")], Some(&origin(1))), (2, 0));
    let at_2: Vec<(u32, String)> = read(&store, &scan_all())
        .into_iter()
        .filter(|r| r.id.time_ns == START_NS + 2)
        .map(|r| (r.id.ordinal, r.line))
        .collect();
    let want = [(0, "a"), (1, "b"), (2, "a"), (3, "a")].map(|(o, l)| (o, l.to_owned()));
    assert_eq!(at_2, want);
}

#[test]
fn a_repeated_frame_is_stored_once_also_after_a_restart() {
    let mut bed = Bed::new(1);
    let mut store = bed.open();
    let mut batch = Batch::new();
    batch.start(stream(1));
    batch.line(START_NS, "x", None);
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
    assert_eq!(read(&store, &scan_all()).len(), 1);
}

#[test]
fn limits_and_a_full_disk_say_so() {
    let mut bed = Bed::new(1);
    let store = bed.open_with(Options {
        retention_ns: 3_600_000_000_000,
        streams_max: 1,
        ..Options::default()
    });
    let mut batch = Batch::new();
    batch.start(stream(1));
    batch.line(START_NS, "x", None);
    bed.fs.set_capacity_bytes(0);
    let error = store.write(&batch, Some(&origin(1))).unwrap_err();
    assert!(matches!(error, WriteError::Full(_)), "{error}");
    bed.fs.set_capacity_bytes(u64::MAX);
    batch.line(START_NS - 4_000_000_000_000, "old", None);
    batch.start(stream(2));
    batch.line(START_NS, "y", None);
    let written = store.write(&batch, Some(&origin(1))).unwrap();
    assert_eq!((written.accepted, written.refused), (1, 2));
    assert_eq!(written.first_refused.unwrap().2, Refusal::TooOld);
    assert_eq!(store.stats().refused, [1, 1]);
    store.flush().unwrap();
    bed.clock.advance(Duration::from_hours(2));
    store.maintain();
    assert_eq!(store.stats().parts, 0, "expired");
}

#[test]
fn a_follower_gets_what_arrives_and_hears_what_it_missed() {
    let mut bed = Bed::new(1);
    let store = bed.open();
    let mut scan = scan_all();
    scan.selector = vec![Matcher::equal("container", "c1")];
    scan.filters = vec![LineFilter::NotContains(vec!["no".to_owned()])];
    let mut follow = store.follow(&scan).unwrap();
    let mut batch = Batch::new();
    for number in [1, 2] {
        batch.start(stream(number));
        batch.line(START_NS, "yes", None);
        batch.line(START_NS, "no", None);
    }
    store.write(&batch, None).unwrap();
    let mut got = EntryBatch::default();
    assert_eq!(follow.poll(&mut got).unwrap(), 0);
    assert_eq!((got.len(), got.entries[0].line.as_str()), (1, "yes"));
    assert_eq!(got.labels(0), &stream(1));
    follow.poll(&mut got).unwrap();
    assert!(got.is_empty());
    batch.clear();
    batch.start(stream(1));
    for line in 0..10_050 {
        batch.line(START_NS + 1 + line, "x", None);
    }
    store.write(&batch, None).unwrap();
    assert_eq!(follow.poll(&mut got).unwrap(), 50);
    assert_eq!(got.len(), 10_000);
}

#[test]
fn a_damaged_part_is_set_aside_and_the_rest_is_read() {
    let mut bed = Bed::new(1);
    let store = bed.open();
    let mut model = Model::new();
    for sequence in 1..3 {
        write_random(&mut bed, &store, &mut model, sequence);
        store.flush().unwrap();
    }
    drop(store);
    let path = std::path::Path::new("/logs/parts/0000000000000001.part");
    let len = bed.fs.peek(path).unwrap().len() as u64;
    assert!(bed.fs.flip_bit(path, len - 3, 1));
    bed.fs.kill();
    let store = bed.open();
    assert_eq!((store.stats().set_aside, store.stats().parts), (1, 1));
    assert!(!read_all_any(&store).is_empty());
}

/// As they are, since lines of the lost part leave gaps.
fn read_all_any(store: &Store) -> Vec<Read> {
    read(store, &scan_all())
}

fn lines(store: &Store, scan: &Scan) -> Vec<String> {
    read(store, scan).into_iter().map(|r| r.line).collect()
}

#[test]
fn what_is_deleted_is_gone_at_once_and_then_for_good() {
    let mut bed = Bed::new(1);
    let mut store = bed.open();
    let fill = |store: &Store, from: i64| {
        let mut batch = Batch::new();
        for number in 1..4 {
            batch.start(stream(number));
            for line in 0..300 {
                let time_ns = START_NS + (from + line) * 1_000_000;
                batch.line(time_ns, &format!("{number} line {line} of {from}"), None);
            }
        }
        store.write(&batch, None).unwrap();
    };
    fill(&store, 0);
    store.flush().unwrap();
    fill(&store, 1000);
    let all = read(&store, &scan_all());
    let delete = |store: &Store, number: u64, from: i64, to: i64, text: &str| {
        let selector = vec![Matcher::equal("container", format!("c{number}"))];
        let filters = vec![LineFilter::Contains(vec![text.to_owned()])];
        let range = TimeRange::new(START_NS + from * 1_000_000, START_NS + to * 1_000_000);
        store.delete("{}", selector, filters, range).unwrap()
    };
    let first = delete(&store, 1, 100, 1100, "line 10");
    let second = delete(&store, 2, i64::MIN / 4_000_000, 5000, "");
    let is_gone = |r: &Read| {
        let ms = (r.id.time_ns - START_NS) / 1_000_000;
        (r.labels == stream(1) && (100..=1100).contains(&ms) && r.line.contains("line 10"))
            || r.labels == stream(2)
    };
    let kept: Vec<Read> = all.iter().filter(|r| !is_gone(r)).cloned().collect();
    assert_eq!(read(&store, &scan_all()), kept);
    let count = Count {
        test: None,
        scan: scan_all(),
        edges: vec![0, i64::MAX],
        amount: Amount::Lines,
        apart: Apart::By(Vec::new()),
    };
    let counted = |store: &Store| {
        let mut cursor = store
            .count(&count, &QueryContext::default())
            .unwrap()
            .unwrap();
        let (mut sum, mut some) = (0, Vec::new());
        while cursor.next_counts(&mut some).unwrap() {
            sum += some
                .iter()
                .flat_map(|c| &c.slots)
                .map(|(_, n)| n)
                .sum::<u64>();
        }
        sum
    };
    assert_eq!(counted(&store), kept.len() as u64);
    // What comes later is not hidden.
    fill(&store, 100);
    let later = lines(&store, &scan_all()).len();
    assert_eq!(later, kept.len() + 900);
    drop(store);
    bed.fs.kill();
    store = bed.open();
    assert_eq!(read(&store, &scan_all()).len(), later);
    // Taken back before it is done, a deletion hides nothing.
    assert!(store.cancel_deletion(&second).unwrap());
    assert!(!store.cancel_deletion("x").unwrap());
    let restored = read(&store, &scan_all()).len();
    assert_eq!(restored, later + 600);
    store.maintain();
    assert!(store.deletions().iter().all(|d| d.is_done));
    assert!(!store.cancel_deletion(&first).unwrap());
    assert_eq!(read(&store, &scan_all()).len(), restored);
    assert_eq!(counted(&store), restored as u64);
    let third = delete(&store, 3, 0, 5000, "");
    store.maintain();
    drop(store);
    bed.fs.kill();
    store = bed.open();
    assert!(store.deletions().iter().any(|d| d.id == third && d.is_done));
    assert!(
        read(&store, &scan_all())
            .iter()
            .all(|r| r.labels != stream(3))
    );
}

#[test]
fn retention_by_size_and_by_stream() {
    let mut bed = Bed::new(1);
    let hour = 3_600_000_000_000;
    let store = bed.open_with(Options {
        retention_ns: 100 * hour,
        retention_of: vec![(vec![Matcher::equal("container", "c1")], hour)],
        retention_bytes: 20_000,
        ..Options::default()
    });
    for round in 0..2 {
        let mut batch = Batch::new();
        for number in 1..3 {
            batch.start(stream(number));
            batch.line(bed.clock.now_ns(), &format!("line of {round}"), None);
        }
        store.write(&batch, None).unwrap();
        store.flush().unwrap();
        bed.clock.advance(Duration::from_mins(50));
    }
    let of = |store: &Store, number| {
        let all = read(store, &scan_all());
        all.iter().filter(|r| r.labels == stream(number)).count()
    };
    store.maintain();
    assert_eq!((of(&store, 1), of(&store, 2)), (1, 2));
    for round in 0..20 {
        let mut batch = Batch::new();
        batch.start(stream(2));
        let numbers: Vec<String> = (0..200).map(|n| (n * round * 7919).to_string()).collect();
        let text = format!("{} ", numbers.join(" "));
        batch.line(bed.clock.now_ns(), &text, None);
        store.write(&batch, None).unwrap();
        store.flush().unwrap();
        bed.clock.advance(Duration::from_mins(1));
        store.maintain();
        assert!(
            store.stats().part_bytes <= 20_000,
            "{}",
            store.stats().part_bytes
        );
    }
    let newest = read(&store, &scan_all()).pop().unwrap();
    assert!(
        newest.line.contains(&format!(" {} ", 19 * 7919 * 3)),
        "{newest:?}"
    );
}
