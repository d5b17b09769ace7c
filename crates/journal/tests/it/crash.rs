//! Crashes at every operation, and faults, by seed.

use std::collections::BTreeMap;
use std::path::Path;

use kittiwake_env::{Fault, Fs, Rng, SeededRng, SimFs};
use kittiwake_journal::{Journal, Opened, Sequence};

use super::{DIR, files, open, read_all};

fn runs() -> u64 {
    std::env::var("CRASH_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(200)
}

/// What the journal was asked and what it promised.
#[derive(Debug, Default, Clone)]
struct Promise {
    /// Frames for which append returned their number.
    taken: BTreeMap<Sequence, Vec<u8>>,
    /// All that was ever tried under a number.
    tried: BTreeMap<Sequence, Vec<Vec<u8>>>,
    synced: Sequence,
    /// Frames below may be gone.
    truncated: Sequence,
}

impl Promise {
    /// Takes any error of the journal as the end of the work, except a full disk.
    fn work(&mut self, journal: &Journal, rng: &mut SeededRng, steps: u32) {
        for _ in 0..steps {
            let done = match rng.below(10) {
                0..=5 => self.append(journal, rng),
                6 | 7 => {
                    let up_to = journal.next_seq() - 1;
                    journal
                        .sync(up_to)
                        .map(|()| self.synced = self.synced.max(up_to))
                }
                8 => journal
                    .rotate()
                    .map(|next| self.synced = self.synced.max(next - 1)),
                _ => {
                    let before = rng.below(self.synced + 2);
                    self.truncated = self.truncated.max(before);
                    journal.truncate_before(before)
                }
            };
            match done {
                Err(error) if !error.is_full() => return,
                _ => {}
            }
        }
    }

    fn append(&mut self, journal: &Journal, rng: &mut SeededRng) -> kittiwake_journal::Result<()> {
        let mut payload = vec![0; rng.below(120) as usize];
        rng.fill(&mut payload);
        let (one, two) = payload.split_at(payload.len() / 3);
        let number = journal.next_seq();
        self.tried.entry(number).or_default().push(payload.clone());
        let sequence = journal.append(&[one, two])?;
        assert_eq!(sequence, number);
        self.taken.insert(sequence, payload);
        Ok(())
    }

    /// What is there after reopening is what was promised, and nothing else.
    fn check(&self, found: &BTreeMap<Sequence, Vec<u8>>, what: &str) {
        for (sequence, payload) in found {
            let tried = self.tried.get(sequence);
            assert!(
                tried.is_some_and(|t| t.contains(payload)),
                "{what}: {sequence} is invented"
            );
        }
        for (sequence, payload) in self
            .taken
            .range(self.truncated..=self.synced.max(self.truncated))
        {
            if *sequence <= self.synced {
                assert_eq!(
                    found.get(sequence),
                    Some(payload),
                    "{what}: {sequence} was synced"
                );
            }
        }
    }

    /// From here on, what was found is promised.
    fn renew(&mut self, found: BTreeMap<Sequence, Vec<u8>>, journal: &Journal) {
        assert_eq!(journal.synced_seq(), journal.next_seq() - 1);
        self.synced = journal.synced_seq();
        self.tried = found
            .iter()
            .map(|(seq, payload)| (*seq, vec![payload.clone()]))
            .collect();
        self.taken = found;
    }
}

/// One life with a crash at operation `halt_at`, a crash while that is repaired, then a second
/// life that ends in a crash too. Returns how many operations the first life took.
fn two_lives(seed: u64, halt_at: Option<u64>) -> u64 {
    let what = format!("seed {seed}, operation {halt_at:?}");
    let fs = SimFs::new(seed);
    let mut rng = SeededRng::new(seed);
    let mut promise = Promise::default();
    if let Some(at) = halt_at {
        fs.halt_at(at);
    }
    if let Ok((journal, _)) = open(&fs) {
        promise.work(&journal, &mut rng, 24);
    }
    let operations = fs.operations();
    let mut rng = SeededRng::new(seed ^ halt_at.unwrap_or(u64::MAX).rotate_left(32));
    fs.crash(&mut rng);

    fs.halt_at(fs.operations() + rng.below(30));
    drop(open(&fs));
    fs.crash(&mut rng);

    let (journal, opened) = open(&fs).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = read_all(&journal).unwrap_or_else(|error| panic!("{what}: {error}"));
    promise.check(&found, &what);
    for gap in &opened.gaps {
        assert!(gap.start > promise.synced, "{what}: {gap:?} is missing");
    }
    only_the_newest_can_suffer(&opened, &what);
    promise.renew(found, &journal);
    promise.work(&journal, &mut rng, 10);
    fs.crash(&mut rng);
    check_reopened(&fs, &promise, &format!("{what}, later"));
    operations
}

fn check_reopened(fs: &SimFs, promise: &Promise, what: &str) {
    let (journal, opened) = open(fs).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = read_all(&journal).unwrap_or_else(|error| panic!("{what}: {error}"));
    promise.check(&found, what);
    only_the_newest_can_suffer(&opened, what);
}

/// A loss of power alone never looks like damage to a closed segment.
fn only_the_newest_can_suffer(opened: &Opened, what: &str) {
    assert!(
        opened.damaged.iter().all(|damage| damage.newest),
        "{what}: {opened:?}"
    );
}

#[test]
fn a_crash_at_any_operation_loses_nothing_synced() {
    for seed in 0..runs() {
        for at in 0..two_lives(seed, None) {
            two_lives(seed, Some(at));
        }
    }
}

#[test]
fn what_is_read_after_a_kill_survives_a_crash() {
    let mut cuts = 0;
    for seed in 0..runs() * 10 {
        let what = format!("seed {seed}");
        let fs = SimFs::new(seed);
        let mut rng = SeededRng::new(seed);
        let mut promise = Promise::default();
        let (journal, _) = open(&fs).unwrap();
        let steps = rng.below(20) as u32;
        promise.work(&journal, &mut rng, steps);
        drop(journal);
        fs.kill();
        // The kill came in the middle of a write.
        let torn = files(&fs, ".seg").pop().filter(|_| rng.one_in(2));
        if let Some(name) = torn {
            let mut file = fs.open_append(&Path::new(DIR).join(name)).unwrap();
            file.write_all(&[9; 32][..=rng.below(32) as usize]).unwrap();
        }

        let (journal, opened) = open(&fs).unwrap_or_else(|error| panic!("{what}: {error}"));
        cuts += u32::from(opened.cut.is_some());
        let found = read_all(&journal).unwrap();
        promise.synced = promise.taken.last_key_value().map_or(0, |(last, _)| *last);
        promise.check(&found, &what);
        promise.renew(found, &journal);
        let steps = rng.below(4) as u32;
        promise.work(&journal, &mut rng, steps);
        fs.crash(&mut rng);
        check_reopened(&fs, &promise, &format!("{what}, later"));
    }
    assert!(cuts > 0);
}

#[test]
fn faults_lose_nothing_synced() {
    let mut poisoned = 0;
    for seed in 0..runs() * 10 {
        let what = format!("seed {seed}");
        let fs = SimFs::new(seed);
        let mut rng = SeededRng::new(seed);
        let mut promise = Promise::default();
        for _ in 0..=rng.below(3) {
            let fault = if rng.one_in(2) {
                Fault::Io
            } else {
                Fault::Full
            };
            fs.fail_at(rng.below(80), fault);
        }
        if rng.one_in(2) {
            fs.set_capacity_bytes(200 + rng.below(2000));
        }
        if let Ok((journal, _)) = open(&fs) {
            promise.work(&journal, &mut rng, 40);
            if let Err(error) = journal.append(&[b"last"])
                && error.is_poisoned()
            {
                poisoned += 1;
                assert!(journal.sync_all().unwrap_err().is_poisoned(), "{what}");
                assert!(journal.rotate().unwrap_err().is_poisoned(), "{what}");
            } else {
                promise
                    .tried
                    .entry(journal.next_seq() - 1)
                    .or_default()
                    .push(b"last".to_vec());
                promise
                    .tried
                    .entry(journal.next_seq())
                    .or_default()
                    .push(b"last".to_vec());
            }
        }
        fs.crash(&mut rng);
        fs.set_capacity_bytes(u64::MAX);
        let (journal, _) = open(&fs).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = read_all(&journal).unwrap_or_else(|error| panic!("{what}: {error}"));
        promise.check(&found, &what);
    }
    assert!(poisoned > 0);
}

#[test]
fn a_flipped_bit_is_noticed_and_nothing_is_wiped() {
    let (mut damaged, mut cuts) = (0, 0);
    for seed in 0..runs() * 10 {
        let what = format!("seed {seed}");
        let fs = SimFs::new(seed);
        let mut rng = SeededRng::new(seed);
        let mut promise = Promise::default();
        let (journal, _) = open(&fs).unwrap();
        promise.work(&journal, &mut rng, 30);
        journal.sync_all().unwrap();
        let whole = read_all(&journal).unwrap();
        let next = journal.next_seq();
        drop(journal);
        let segments = files(&fs, ".seg");
        if segments.is_empty() {
            continue;
        }
        let path = Path::new(DIR).join(&segments[rng.below(segments.len() as u64) as usize]);
        let before = fs.peek(&path).unwrap();
        let byte = rng.below(before.len() as u64);
        assert!(fs.flip_bit(&path, byte, rng.below(8) as u8));
        let flipped = fs.peek(&path).unwrap();

        let (journal, opened) = open(&fs).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = read_all(&journal).unwrap();
        for (sequence, payload) in &found {
            assert_eq!(whole.get(sequence), Some(payload), "{what}: {sequence}");
        }
        match (&opened.cut, opened.damaged.as_slice()) {
            (Some(cut), []) => {
                cuts += 1;
                assert_eq!(cut.segment, path, "{what}");
                assert!(cut.byte <= byte, "{what}: {cut:?}");
                assert_eq!(
                    found.len() + 1,
                    whole.len(),
                    "{what}: only the last frame is a tail"
                );
                assert_eq!(cut.byte + cut.lost_bytes, flipped.len() as u64, "{what}");
            }
            (None, [damage]) => {
                damaged += 1;
                assert_eq!(damage.segment, path, "{what}");
                assert!(damage.byte <= byte, "{what}: {damage:?}");
                assert_eq!(fs.peek(&damage.set_aside).unwrap(), flipped, "{what}");
                assert!(
                    journal.next_seq() >= next,
                    "{what}: a number is given twice"
                );
            }
            other => panic!("{what}: {other:?}"),
        }
        // Said once, whatever comes between: the next opening finds the same frames.
        drop(journal);
        fs.crash(&mut rng);
        let (journal, again) = open(&fs).unwrap();
        assert_eq!((again.cut, again.damaged), (None, vec![]), "{what}");
        let number = journal.append(&[b"after"]).unwrap();
        drop(journal);
        fs.kill();
        let (journal, again) = open(&fs).unwrap();
        assert_eq!((again.cut, again.damaged), (None, vec![]), "{what}");
        let mut later = read_all(&journal).unwrap();
        assert_eq!(later.remove(&number).unwrap(), b"after");
        assert_eq!(later, found, "{what}");
    }
    assert!(damaged > 0 && cuts > 0, "{damaged} {cuts}");
}
