use std::path::Path;
use std::sync::Arc;

use kittiwake_env::{Fs, SimFs};
use kittiwake_model::histogram::{Counts, Histogram, ResetHint, Span};
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{Columns, Labels, Matcher, TimeRange};
use proptest::prelude::*;

use super::summary::Summary;
use super::{Block, BlockWriter};
use crate::dictionary::{DictionaryBuilder, NAMELESS};
use crate::golden;
use crate::head::Sample;

const PATH: &str = "/b/1.blk";
const CACHE_BYTES: usize = 1 << 20;

fn sim() -> Arc<dyn Fs> {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new(1));
    fs.create_dir_all(Path::new("/b")).unwrap();
    fs
}

/// Writes series in any order.
fn write(fs: &Arc<dyn Fs>, series: &[(Labels, Columns)]) {
    let mut builder = DictionaryBuilder::default();
    let mut keys = Vec::new();
    for (labels, columns) in series {
        let name = labels.metric_name().map(|n| builder.text(n));
        let set = builder.set(labels.iter().filter(|(n, _)| *n != METRIC_NAME));
        keys.push((name, set, columns));
    }
    let done = builder.finish();
    let mut keys: Vec<(u32, u32, &Columns)> = keys
        .into_iter()
        .map(|(name, set, columns)| {
            let name = name.map_or(NAMELESS, |n| done.texts[n as usize]);
            (name, done.sets[set as usize], columns)
        })
        .collect();
    keys.sort_by_key(|k| (k.0, k.1));
    let mut writer = BlockWriter::create(fs, Path::new(PATH), done.dictionary).unwrap();
    for (name, set, columns) in keys {
        writer.add(name, set, columns).unwrap();
    }
    writer.finish().unwrap();
}

fn open(fs: &Arc<dyn Fs>) -> Block {
    Block::open_alone(fs.as_ref(), Path::new(PATH), CACHE_BYTES).unwrap()
}

fn labels(name: &str, instance: usize) -> Labels {
    Labels::from_pairs([(METRIC_NAME, name), ("i", instance.to_string().as_str())]).unwrap()
}

fn histogram(count: u64) -> Arc<Histogram> {
    Arc::new(Histogram {
        schema: 3,
        zero_threshold: 0.001,
        sum: count as f64 * 0.7,
        positive_spans: vec![Span {
            offset: -2,
            length: 2,
        }],
        negative_spans: Vec::new(),
        custom_bounds: Vec::new(),
        counts: Counts::Integer {
            count,
            zero: 1,
            positive: vec![count / 2, count / 3],
            negative: Vec::new(),
        },
        reset_hint: ResetHint::Unknown,
    })
}

fn many(instances: usize, samples: i64) -> Vec<(Labels, Columns)> {
    let mut all = Vec::new();
    for i in 0..instances {
        for (name, scale) in [
            ("requests_total", 1.0),
            ("load", 0.01),
            ("ratio", 0.377_123_4),
            ("latency", f64::NAN),
        ] {
            let mut columns = Columns::default();
            for t in 0..samples {
                let time = t * 15_000 + (i as i64 % 3);
                if scale.is_nan() && t % 50 < 30 {
                    columns.push_histogram(time, histogram((t % 50) as u64));
                } else {
                    columns.push(time, (t * 3) as f64 * scale);
                }
                if i % 4 == 0 {
                    columns.set_start(t / 40);
                }
            }
            all.push((labels(name, i), columns));
        }
    }
    all.push((Labels::from_pairs([("a", "b")]).unwrap(), all[0].1.clone()));
    all
}

fn shown(columns: &Columns) -> Vec<(i64, u64, i64)> {
    (0..columns.len())
        .map(|at| Sample::of(columns, at))
        .map(|s| (s.time_ms, s.bits(), s.start_ms))
        .collect()
}

fn read(block: &Block, labels: &Labels, range: TimeRange) -> Columns {
    let index = block.index().unwrap();
    let series = index.find(labels).unwrap();
    assert_eq!(block.labels(series).unwrap(), *labels);
    let mut got = Columns::default();
    block.read(series, range, &mut got).unwrap();
    got
}

#[test]
fn every_sample_comes_back_bit_for_bit() {
    let fs = sim();
    let sent = many(20, 100);
    write(&fs, &sent);
    let block = open(&fs);
    let index = block.index().unwrap();
    assert_eq!(index.len(), sent.len());
    for (labels, want) in &sent {
        assert_eq!(shown(&read(&block, labels, TimeRange::ALL)), shown(want));
        let range = TimeRange::new(30_000, 60_000);
        let part: Vec<_> = shown(want)
            .into_iter()
            .filter(|s| range.contains(s.0))
            .collect();
        assert_eq!(shown(&read(&block, labels, range)), part);
    }
    assert_eq!(block.verify().unwrap(), (81, 8100));
}

#[test]
fn long_series_have_several_pages_with_their_figures() {
    let fs = sim();
    let sent = many(1, 5000);
    write(&fs, &sent);
    let block = open(&fs);
    for (labels, want) in &sent {
        assert_eq!(shown(&read(&block, labels, TimeRange::ALL)), shown(want));
        for (start, end) in [
            (0, 1),
            (0, 255 * 15_000),
            (4_000_000, 30_720_002),
            (70_000_000, i64::MAX),
        ] {
            let mut part = shown(want);
            part.retain(|s| (start..=end).contains(&s.0));
            assert_eq!(
                shown(&read(&block, labels, TimeRange::new(start, end))),
                part
            );
        }
        let series = block.index().unwrap().find(labels).unwrap();
        let mut start = 0;
        let summaries = block.summaries(series).unwrap();
        assert!(summaries.len() > 2);
        for (range, samples, summary) in summaries {
            let of_page = start..start + samples as usize;
            let times = &want.times[of_page.clone()];
            assert_eq!((range.start, range.end), (times[0], times[times.len() - 1]));
            assert_eq!(summary, Summary::of(&want.values[of_page.clone()]));
            start = of_page.end;
        }
        assert_eq!(start, want.len());
    }
}

#[test]
fn selects_by_matcher_and_range() {
    let fs = sim();
    write(&fs, &many(20, 100));
    let block = open(&fs);
    let range = TimeRange::new(30_000, 60_000);
    let matchers = [
        Matcher::equal(METRIC_NAME, "load"),
        Matcher::equal("i", "7"),
    ];
    let found = block.select(&matchers, range).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(block.labels(found[0]).unwrap(), labels("load", 7));
    let later = TimeRange::new(9_000_000, 9_900_000);
    assert!(block.select(&matchers, later).unwrap().is_empty());
    let nameless = [Matcher::equal(METRIC_NAME, "")];
    assert_eq!(block.select(&nameless, range).unwrap().len(), 1);
    assert_eq!(block.select(&[], range).unwrap().len(), 81);
}

/// What a released version has written is read by all later ones.
#[test]
fn the_first_version_is_read() {
    let golden = include_str!("../../tests/golden/block_v1.hex");
    let sent = many(2, 45);
    let fs = sim();
    write(&fs, &sent);
    let now = fs.read(Path::new(PATH), 1 << 20).unwrap();
    assert_eq!(
        golden::to_hex(&now),
        golden.trim(),
        "the writer writes as before"
    );
    let bytes = golden::from_hex(golden);
    fs.write_atomic(Path::new(PATH), &[&bytes]).unwrap();
    let block = open(&fs);
    for (labels, want) in &sent {
        assert_eq!(shown(&read(&block, labels, TimeRange::ALL)), shown(want));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_flipped_bit_is_an_error_or_harmless(at: prop::sample::Index, bit in 0_u8..8) {
        let fs = sim();
        let sent = many(2, 100);
        write(&fs, &sent);
        let mut bytes = fs.read(Path::new(PATH), 1 << 20).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs.write_atomic(Path::new(PATH), &[&bytes]).unwrap();
        let Ok(block) = Block::open_alone(fs.as_ref(), Path::new(PATH), CACHE_BYTES) else {
            return Ok(());
        };
        let Ok(index) = block.index() else { return Ok(()) };
        for series in 0..index.len() as u32 {
            let labels = block.labels(series).unwrap();
            let want = sent.iter().find(|s| s.0 == labels).unwrap();
            let mut got = Columns::default();
            if block.read(series, TimeRange::ALL, &mut got).is_ok() {
                prop_assert_eq!(shown(&got), shown(&want.1));
            }
        }
    }

    /// Checksums do not protect against what wrote them wrong.
    #[test]
    fn an_index_of_random_bytes_never_panics(
        random in proptest::collection::vec(any::<u8>(), 0..120),
        at: prop::sample::Index,
        change: u8,
    ) {
        use super::index::Index;
        use crate::dictionary::Dictionary;
        let _ = Index::decode(Dictionary::default(), &random);
        let fs = sim();
        write(&fs, &many(2, 10));
        let block = open(&fs);
        let mut bytes = Vec::new();
        block.index().unwrap().encode(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = change;
        let mut texts = Vec::new();
        block.index().unwrap().dictionary.encode(&mut texts);
        let dictionary = Dictionary::decode(&mut kittiwake_journal::bytes::Reader::new(&texts));
        if let Ok(index) = Index::decode(dictionary.unwrap(), &bytes) {
            index.select(&[Matcher::equal("i", "1")], TimeRange::ALL);
            for series in 0..index.len() as u32 {
                index.labels(series);
                let mut got = Columns::default();
                let _ = block.read_with(&index, series, super::Wanted::all(TimeRange::ALL), &mut super::Scratch::default(), &mut got);
            }
        }
    }
}
