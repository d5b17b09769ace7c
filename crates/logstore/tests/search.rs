//! What a scan or a count finds is what filtering every line finds, whatever the index says.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use kittiwake_env::{Fs, Rng, SeededRng, SimClock, SimFs};
use kittiwake_logstore::{Batch, Options, Store};
use kittiwake_model::{
    Amount, Apart, Count, Direction, EntryBatch, EntryId, FieldFilter, Labels, LineFilter,
    LogStore, Matcher, QueryContext, Scan, TimeRange, pattern,
};
use proptest::prelude::*;

const START_NS: i64 = 1_700_000_000_000_000_000;
const WORDS: [&str; 12] = [
    "error",
    "Reset",
    "peer",
    "connection",
    "REFUSED",
    "reſet",
    "order",
    "ошибка",
    "日本語",
    "東京",
    "a_b",
    "ok",
];

#[derive(Debug, Clone, PartialEq)]
struct Read {
    id: EntryId,
    labels: Labels,
    line: String,
    metadata: Labels,
}

fn open(seed: u64) -> Store {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new(seed));
    let options = Options {
        retention_ns: 0,
        ..Options::default()
    };
    let clock = Arc::new(SimClock::new(START_NS));
    Store::open(fs, clock, &mut SeededRng::new(seed), "/logs", options).unwrap()
}

fn read(store: &Store, scan: &Scan) -> Vec<Read> {
    let mut cursor = store.scan(scan, &QueryContext::default()).unwrap();
    let (mut found, mut batch) = (Vec::new(), EntryBatch::default());
    while cursor.next_batch(&mut batch).unwrap() {
        found.extend((0..batch.len()).map(|index| Read {
            id: batch.id(index),
            labels: batch.labels(index).clone(),
            line: batch.entries[index].line.clone(),
            metadata: batch.entries[index].metadata.clone(),
        }));
    }
    found
}

struct Random(SeededRng);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }

    fn letters(&mut self, max: u64) -> String {
        (0..=self.below(max))
            .map(|_| char::from(b'a' + self.below(26) as u8))
            .collect()
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len() as u64) as usize]
    }

    /// A line of one of many kinds.
    fn line(&mut self) -> String {
        match self.below(8) {
            0 => format!(
                "{} [pool-{}] {} by {} in {} ms",
                self.word(),
                self.below(9),
                self.word(),
                self.word(),
                self.below(5000)
            ),
            1 => format!(
                "{{\"user\":\"u{}\",\"id\":\"{:016x}\",\"msg\":\"{}\"}}",
                self.below(10_000),
                self.0.next_u64(),
                self.word()
            ),
            2 => format!(
                "{{\"user\":\"{}\",\"path\":\"/a\\/{}\"}}",
                self.letters(9),
                self.letters(3)
            ),
            3 => format!(
                "level={} ts={} batch={:08x} shard={:02x} took={}ms",
                self.word(),
                self.below(1 << 40),
                self.below(1 << 32),
                self.below(1 << 8),
                self.below(900)
            ),
            4 => self.letters(60),
            5 => format!("{}{}{}", self.word(), self.letters(2), self.word()),
            6 => (0..self.below(12))
                .map(|_| char::from_u32(0x4e00 + self.below(50) as u32).unwrap())
                .collect(),
            _ => (0..self.below(20))
                .map(|_| char::from(b' ' + self.below(95) as u8))
                .collect(),
        }
    }

    /// A piece of some line, or what is in none.
    fn piece(&mut self, lines: &[Read]) -> String {
        if self.below(6) == 0 || lines.is_empty() {
            return self.line().chars().take(5).collect();
        }
        let line: Vec<char> = lines[self.below(lines.len() as u64) as usize]
            .line
            .chars()
            .collect();
        let start = self.below(line.len() as u64 + 1) as usize;
        let len = 1 + self.below(14) as usize;
        line[start..].iter().take(len).collect()
    }

    fn filter(&mut self, lines: &[Read]) -> LineFilter {
        let piece = self.piece(lines);
        let regex = |text: &str| vec![pattern::unanchored(text).unwrap()];
        match self.below(9) {
            0..=2 => LineFilter::Contains(vec![piece]),
            3 => LineFilter::Contains(vec![piece, self.piece(lines)]),
            4 => LineFilter::NotContains(vec![piece]),
            5 => LineFilter::Matches(regex(&format!("(?i){}", regex::escape(&piece)))),
            6 => LineFilter::Matches(regex(&format!(
                "{}.*{}",
                regex::escape(&piece),
                regex::escape(&self.piece(lines))
            ))),
            7 => LineFilter::Matches(regex(&format!(
                "(?i)({}|{}\\d+)\\b",
                regex::escape(&piece),
                regex::escape(&self.piece(lines))
            ))),
            _ => LineFilter::Matches(regex(&format!("^{}[ a-z]", regex::escape(&piece)))),
        }
    }
}

/// A store with lines in head, small parts and merged parts.
fn filled(random: &mut Random, seed: u64) -> Store {
    let store = open(seed);
    let streams = 1 + random.below(40);
    let flushes = random.below(8);
    for flush in 0..=flushes {
        let mut batch = Batch::new();
        for _ in 0..=random.below(30) {
            let number = random.below(streams);
            let pairs = [
                ("c", format!("s{number}")),
                (
                    "user",
                    if number == 3 {
                        "x".to_owned()
                    } else {
                        String::new()
                    },
                ),
            ];
            batch.start(Labels::from_pairs(pairs).unwrap());
            for _ in 0..random.below(120) {
                let time_ns =
                    START_NS + random.below(60_000) as i64 * 1_000_000 + random.below(3) as i64;
                let metadata = match random.below(20) {
                    0 => Some(Labels::from_pairs([("user", "u1")]).unwrap()),
                    1..5 => Some(Labels::from_pairs([("level", random.word())]).unwrap()),
                    _ => None,
                };
                batch.line(time_ns, &random.line(), metadata);
            }
        }
        store.write(&batch, None).unwrap();
        if flush < flushes {
            store.flush().unwrap();
            store.maintain();
        }
    }
    store
}

fn check_count(store: &Store, random: &mut Random, scan: &Scan, want: &[Read]) {
    let mut edges: Vec<i64> = (0..=random.below(12))
        .map(|_| START_NS + random.below(70_000) as i64 * 1_000_000 - 5_000_000_000)
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let count = Count {
        scan: scan.clone(),
        test: None,
        edges: edges.clone(),
        amount: if random.below(2) == 0 {
            Amount::Lines
        } else {
            Amount::Bytes
        },
        apart: match random.below(3) {
            0 => Apart::All,
            1 => Apart::By(Vec::new()),
            _ => Apart::By(vec!["level".to_owned()]),
        },
    };
    let mut cursor = store
        .count(&count, &QueryContext::default())
        .unwrap()
        .unwrap();
    let mut got: BTreeMap<(Labels, Labels, usize), u64> = BTreeMap::new();
    let mut counted = Vec::new();
    while cursor.next_counts(&mut counted).unwrap() {
        for counted in &counted {
            for (slot, amount) in &counted.slots {
                *got.entry((counted.stream.clone(), counted.metadata.clone(), *slot))
                    .or_default() += amount;
            }
        }
    }
    let mut model: BTreeMap<(Labels, Labels, usize), u64> = BTreeMap::new();
    for read in want {
        let Some(slot) = (0..edges.len() - 1)
            .find(|k| edges[*k] < read.id.time_ns && read.id.time_ns <= edges[k + 1])
        else {
            continue;
        };
        let metadata = match &count.apart {
            Apart::All => read.metadata.clone(),
            Apart::By(names) if names.iter().any(|n| read.metadata.get(n).is_some()) => {
                read.metadata.clone()
            }
            Apart::By(_) => Labels::empty(),
        };
        let amount = match count.amount {
            Amount::Lines => 1,
            Amount::Bytes => read.line.len() as u64,
        };
        *model
            .entry((read.labels.clone(), metadata, slot))
            .or_default() += amount;
    }
    // A sum of empty lines is not told apart from no lines.
    got.retain(|_, amount| *amount > 0);
    model.retain(|_, amount| *amount > 0);
    assert_eq!(got, model);
}

/// Whether a text stands in a line by itself, or a backslash may hide it.
fn has_field(line: &str, text: &str) -> bool {
    let is_apart = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    let mut places = line.match_indices(text);
    line.contains('\\')
        || places.any(|(at, _)| {
            is_apart(line[..at].chars().next_back())
                && is_apart(line[at + text.len()..].chars().next())
        })
}

fn check(seed: u64) {
    let mut random = Random(SeededRng::new(seed));
    let store = filled(&mut random, seed);
    let all = read(
        &store,
        &Scan::new(Vec::new(), TimeRange::ALL, Direction::Forward),
    );
    assert!(all.is_sorted_by(|a, b| a.id < b.id), "seed {seed}");
    for (meta, part) in store.parts() {
        assert_eq!(part.verify().unwrap(), meta.rows, "seed {seed}");
    }
    for query in 0..40 {
        let direction = if random.below(2) == 0 {
            Direction::Forward
        } else {
            Direction::Backward
        };
        let range = match random.below(3) {
            0 => TimeRange::new(
                START_NS + random.below(60_000) as i64 * 1_000_000,
                START_NS + random.below(60_000) as i64 * 1_000_000,
            ),
            _ => TimeRange::ALL,
        };
        let mut scan = Scan::new(Vec::new(), range, direction);
        if random.below(3) == 0 {
            scan.selector = vec![Matcher::equal("c", "s1")];
        }
        scan.filters = (0..random.below(3)).map(|_| random.filter(&all)).collect();
        let name = if random.below(2) == 0 {
            "user"
        } else {
            "other"
        };
        let field = FieldFilter {
            name: name.to_owned(),
            text: random.piece(&all),
        };
        scan.field_filters = (0..random.below(2))
            .filter(|_| !field.text.is_empty())
            .map(|_| field.clone())
            .collect();
        let is_wanted = |read: &Read| {
            range.contains(read.id.time_ns)
                && (scan.selector.is_empty() || read.labels.get("c") == Some("s1"))
                && scan.filters.iter().all(|f| f.accepts(&read.line))
        };
        let passes = |read: &Read| {
            scan.field_filters.iter().all(|f| {
                read.labels.get(&f.name).is_some()
                    || read.metadata.get(&f.name).is_some()
                    || has_field(&read.line, &f.text)
            })
        };
        let mut want: Vec<Read> = all.iter().filter(|r| is_wanted(r)).cloned().collect();
        if direction == Direction::Backward {
            want.reverse();
        }
        // A field's filter may be left to whoever asks.
        let mut found = read(&store, &scan);
        assert!(
            found.iter().all(is_wanted),
            "seed {seed} query {query}: {scan:?}"
        );
        found.retain(passes);
        let kept: Vec<Read> = want.iter().filter(|r| passes(r)).cloned().collect();
        assert_eq!(found, kept, "seed {seed} query {query}: {scan:?}");
        scan.field_filters.clear();
        check_count(&store, &mut random, &scan, &want);
        scan.ordered = false;
        let mut found = read(&store, &scan);
        found.sort_by_key(|r| r.id);
        let mut sorted = want.clone();
        sorted.sort_by_key(|r| r.id);
        assert_eq!(found, sorted, "seed {seed} query {query}: {scan:?}");
        scan.ordered = true;
        scan.limit = 1 + random.below(30) as usize;
        want.truncate(scan.limit);
        assert_eq!(
            read(&store, &scan),
            want,
            "seed {seed} query {query}: {scan:?}"
        );
    }
}

#[test]
fn a_search_finds_what_filtering_all_lines_finds() {
    let runs = std::env::var("SEARCH_RUNS").ok();
    for seed in 0..runs.and_then(|r| r.parse().ok()).unwrap_or(12) {
        check(seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_in_any_line_is_found(lines in proptest::collection::vec("\\PC{0,12}", 1..30), at: usize, from: usize, len: usize) {
        let store = open(1);
        let mut batch = Batch::new();
        batch.start(Labels::from_pairs([("a", "b")]).unwrap());
        for (n, line) in lines.iter().enumerate() {
            batch.line(START_NS + n as i64, line, None);
        }
        store.write(&batch, None).unwrap();
        store.flush().unwrap();
        let line: Vec<char> = lines[at % lines.len()].chars().collect();
        let piece: String = line.iter().skip(from % 12).take(len % 12).collect();
        let folded = pattern::unanchored(&format!("(?i){}", regex::escape(&piece))).unwrap();
        for filter in [LineFilter::Contains(vec![piece]), LineFilter::Matches(vec![folded])] {
            let mut scan = Scan::new(Vec::new(), TimeRange::ALL, Direction::Forward);
            let want: Vec<String> = lines.iter().filter(|l| filter.accepts(l)).cloned().collect();
            scan.filters = vec![filter];
            prop_assert_eq!(read(&store, &scan).into_iter().map(|r| r.line).collect::<Vec<_>>(), want);
        }
    }
}
