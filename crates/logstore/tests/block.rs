//! Blocks of lines: what comes out is what went in, what a filter keeps is what a scan of every
//! line keeps, and damage is an error.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use kittiwake_logstore::block::{
    BlockError, Encoded, Field, Lines, Reader, Rows, Scratch, encode, token,
};
use kittiwake_model::{FieldFormat, LineFilter};
use proptest::prelude::*;

/// One line of a container, of a few kinds.
fn line() -> impl Strategy<Value = String> {
    let level = prop_oneof!["INFO", "WARN", "ERROR", "debug", "naïve", "Straße"];
    let number = prop_oneof![
        any::<u8>().prop_map(|n| n.to_string()),
        any::<u32>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        any::<u8>().prop_map(|n| format!("{n:05}")),
        any::<u16>().prop_map(|n| format!("{}.{}", n >> 8, n & 0xff)),
        any::<u16>().prop_map(|n| format!("0.{n}00")),
        Just("007.50".to_owned()),
    ];
    let word = prop_oneof![
        Just("alpha".to_owned()),
        "[a-z]{1,8}",
        "[a-z]{2}[0-9]{1,4}[a-z]{0,2}",
        "[0-9a-f]{16}",
        "[0-9A-F]{8}",
        "[0-9a-f]{4}-[0-9a-f]{4}",
        "10\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,2}",
        "\\PC{0,6}",
        "[日本語第章三。]{0,4}",
    ];
    (0..12_u8, level, number, word).prop_map(|(kind, level, number, word)| match kind {
        0 => format!("{word} - - [{number}] \"GET /api/v1/{word}?id={number} HTTP/1.1\" 200"),
        1 => format!("{{\"level\":\"{level}\",\"user\":\"{word}\",\"n\":{number},\"ok\":true,\"in\":{{\"a\":[1,\"{word}\"]}}}}"),
        2 => format!("level={level} ts={number} msg=\"took \\\"{word}\\\" in {number}ms\" user={word} empty= last={number}"),
        3 => format!("{level} [pool-{number}-thread-1] com.acme.Orders - {word} order {number} in {number} ms"),
        4 => format!("{{\"ts\": \"2026-11-23T20:00:{number}Z\" , \"id\" : \"{word}\"}} "),
        5 => format!("{level} {word}"),
        6 => word,
        7 => format!("{word}{number}{word} \0 {level}"),
        8 => format!("{{broken \"json {word}\": {number}"),
        9 => format!("第{number}章{word}三 {level}={number}"),
        10 => String::new(),
        _ => format!("key{number}={word} {word}={number}, a=\"{word}"),
    })
}

fn lines() -> impl Strategy<Value = Lines> {
    let some = proptest::collection::vec(line(), 0..12);
    let any = proptest::collection::vec(any::<String>(), 0..3);
    let many = proptest::collection::vec(line(), 0..300);
    (some, any, many, 0..12_usize).prop_map(|(some, any, many, repeats)| {
        let mut lines = Lines::default();
        for repeat in 0..=repeats {
            for line in &some {
                // The same shape with other numbers.
                lines.push(&line.replace('1', &repeat.to_string()));
            }
        }
        any.iter().chain(&many).for_each(|line| lines.push(line));
        lines
    })
}

fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Lines {
    let mut lines = Lines::default();
    texts.into_iter().for_each(|text| lines.push(text));
    lines
}

fn reader<'a>(encoded: &Encoded<'a>, rows: usize) -> Result<Reader<&'a [u8]>, BlockError> {
    Reader::open(encoded.bytes, &encoded.bytes[..encoded.head_bytes], rows)
}

fn assert_round_trip(lines: &Lines) -> (usize, bool) {
    let mut scratch = Scratch::default();
    let encoded = encode(lines, &mut scratch).unwrap();
    let decoded = reader(&encoded, lines.len()).unwrap().lines().unwrap();
    assert!(decoded == *lines, "other lines");
    assert_tokens(lines, &encoded);
    (encoded.bytes.len(), encoded.bytes[0] == 2)
}

/// The tokens are those of all lines.
fn assert_tokens(lines: &Lines, encoded: &Encoded<'_>) {
    let (mut words, mut hashes) = (BTreeSet::new(), BTreeSet::new());
    let mut folded = String::new();
    for row in 0..lines.len() {
        for token in token::tokens(lines.line(row)) {
            token::fold(token.text, &mut folded);
            if !token.is_variable {
                words.insert(folded.clone());
            } else if token.is_hashed() {
                assert!(encoded.tokens.shapes().may_have(&folded), "{folded}");
                hashes.insert(token::variable_hash(folded.as_bytes()));
            }
        }
    }
    let found: Vec<String> = encoded.tokens.words().map(str::to_owned).collect();
    assert_eq!(found.len(), words.len(), "a word twice");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), words);
    let hashes: Vec<u64> = hashes.into_iter().collect();
    assert_eq!(encoded.tokens.variable_hashes(), hashes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn lines_and_tokens_come_back(lines in lines()) {
        assert_round_trip(&lines);
    }

    #[test]
    fn some_rows_are_those_of_all(lines in lines(), picks: Vec<u16>) {
        let mut scratch = Scratch::default();
        let encoded = encode(&lines, &mut scratch).unwrap();
        let mut rows = Rows::none(lines.len());
        for pick in picks {
            rows.insert(usize::from(pick) % lines.len().max(1));
        }
        let some = reader(&encoded, lines.len()).unwrap().lines_of(&rows).unwrap();
        prop_assert_eq!(some, of(rows.iter().map(|row| lines.line(row))));
    }

    #[test]
    fn a_filter_keeps_what_a_scan_keeps(
        lines in lines(),
        parts in proptest::collection::vec((any::<u16>(), any::<u8>(), 0..20_usize), 1..8),
        other in "[a-z0-9 =\"]{0,3}",
    ) {
        let mut scratch = Scratch::default();
        let encoded = encode(&lines, &mut scratch).unwrap();
        let mut texts = vec![other];
        for (row, start, len) in parts {
            if lines.is_empty() {
                continue;
            }
            let line: Vec<char> = lines.line(usize::from(row) % lines.len()).chars().collect();
            let start = usize::from(start) % (line.len() + 1);
            texts.push(line[start..(start + len).min(line.len())].iter().collect());
        }
        let regex = |text: &String| regex::Regex::new(&format!("{}[0-9]*", regex::escape(text))).unwrap();
        let mut filters: Vec<LineFilter> = Vec::new();
        for text in &texts {
            filters.push(LineFilter::Contains(vec![text.clone()]));
            filters.push(LineFilter::NotContains(vec![text.clone()]));
            filters.push(LineFilter::Matches(vec![regex(text)]));
            filters.push(LineFilter::NotMatches(vec![regex(text)]));
            let folded = format!("(?i){}", regex::escape(text));
            filters.push(LineFilter::Matches(vec![regex::Regex::new(&folded).unwrap()]));
        }
        filters.push(LineFilter::Contains(texts.clone()));
        filters.push(LineFilter::NotContains(texts));
        for filter in filters {
            let mut rows = Rows::all(lines.len());
            rows.remove(lines.len() / 2);
            let mut expected = rows.clone();
            for row in 0..lines.len() {
                if !filter.accepts(lines.line(row)) {
                    expected.remove(row);
                }
            }
            reader(&encoded, lines.len()).unwrap().filter(&filter, &mut rows).unwrap();
            prop_assert_eq!(rows, expected, "{:?}", filter);
        }
    }

    #[test]
    fn a_field_is_what_was_written_or_unknown(
        writer in 0..3_u8,
        records in proptest::collection::vec(
            proptest::collection::vec((0..5_usize, "[a-z0-9./\\\\\" \u{fffd}é-]{0,5}|true|[0-9]{1,4}(\\.[0-9]{1,2})?"), 1..4),
            1..9,
        ),
        repeats in 8..20_usize,
    ) {
        let keys = ["alpha", "b.c", "b_c", "@time", "nested"];
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for repeat in 0..repeats {
            for record in &records {
                let pairs: Vec<(&str, String)> = record
                    .iter()
                    .map(|(key, value)| (keys[*key], value.replace('1', &repeat.to_string())))
                    .collect();
                let text: Vec<String> = pairs.iter().map(|(key, value)| match writer {
                    0 => format!("\"{key}\":\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
                    1 => format!("{key}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
                    _ => format!("{key}={value}"),
                }).collect();
                lines.push(&match writer {
                    0 => format!("{{{}}}", text.join(", ")),
                    _ => text.join(" "),
                });
                all.push(pairs);
            }
        }
        let format = if writer == 0 { FieldFormat::Json } else { FieldFormat::Logfmt };
        let other = if writer == 0 { FieldFormat::Logfmt } else { FieldFormat::Json };
        let mut scratch = Scratch::default();
        let encoded = encode(&lines, &mut scratch).unwrap();
        let mut reader = reader(&encoded, lines.len()).unwrap();
        let rows = Rows::all(lines.len());
        for key in keys {
            let name = key.replace(['.', '@'], "_");
            let mut seen = 0;
            reader.field(format, &name, &rows, |row, field| {
                seen += 1;
                let mut values = all[row].iter().filter(|(k, _)| k.replace(['.', '@'], "_") == name);
                match field {
                    Field::Unknown => {}
                    Field::Absent => assert!(values.next().is_none(), "{}", lines.line(row)),
                    Field::Value(value) => {
                        // Without quotes a blank ends it.
                        let end = if writer == 2 { ' ' } else { '\0' };
                        let written = values.next().unwrap().1.split(end).next();
                        assert_eq!(Some(value), written, "{}", lines.line(row));
                        assert!(values.next().is_none());
                    }
                }
            }).unwrap();
            prop_assert_eq!(seen, lines.len());
            reader.field(other, &name, &rows, |_, field| assert_eq!(field, Field::Unknown)).unwrap();
        }
    }

    #[test]
    fn damage_is_an_error_or_other_lines(
        lines in lines(),
        flips in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..4),
        cut: Option<u16>,
        rows in 0..400_usize,
    ) {
        let mut scratch = Scratch::default();
        let encoded = encode(&lines, &mut scratch).unwrap();
        let mut bytes = encoded.bytes.to_vec();
        for (at, flip) in flips {
            let at = at as usize % bytes.len();
            bytes[at] ^= flip;
        }
        bytes.truncate(cut.map_or(usize::MAX, usize::from));
        let head = &bytes[..encoded.head_bytes.min(bytes.len())];
        for rows in [lines.len(), rows] {
            let Ok(mut reader) = Reader::open(bytes.as_slice(), head, rows) else {
                continue;
            };
            if let Ok(lines) = reader.lines() {
                prop_assert_eq!(lines.len(), rows);
            }
            let filter = LineFilter::Contains(vec!["order 1".to_owned()]);
            let _ = reader.filter(&filter, &mut Rows::all(rows));
        }
    }

    #[test]
    fn random_bytes_are_no_block(mut bytes: Vec<u8>, rows in 0..9000_usize, encoding in 0..3_u8) {
        if let Some(first) = bytes.first_mut() {
            *first = encoding;
        }
        if let Ok(mut reader) = Reader::open(bytes.as_slice(), &bytes, rows) {
            let _ = reader.lines();
        }
    }
}

#[test]
fn many_users_many_words_and_no_words_at_all() {
    let random = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7;
    let texts: Vec<String> = (0..8192_u64)
        .map(|n| {
            let user = random(n) % 10_000;
            format!("{{\"user\":\"name{}\",\"n\":{n},\"msg\":\"user {user} logged in from 10.0.{}.{}\"}}",
                letters(user), n % 256, n % 7)
        })
        .collect();
    let (bytes, is_grouped) = assert_round_trip(&of(texts.iter().map(String::as_str)));
    assert!(is_grouped && bytes < 8192 * 12, "{bytes}");
    let texts: Vec<String> = (0..8192)
        .map(|n| format!("user {} logged in", letters(random(n) % 9000)))
        .collect();
    let (bytes, is_grouped) = assert_round_trip(&of(texts.iter().map(String::as_str)));
    assert!(is_grouped && bytes < 8192 * 5, "{bytes}");
    let word = |n: u64| letters(26 * 26 + random(n) % 5000);
    let texts: Vec<String> = (0..8192_u64)
        .map(|n| n * 4)
        .map(|n| {
            format!(
                "user {} did {} on {} at host {}",
                word(n),
                word(n + 1),
                word(n + 2),
                word(n + 3)
            )
        })
        .collect();
    let (bytes, is_grouped) = assert_round_trip(&of(texts.iter().map(String::as_str)));
    assert!(is_grouped && bytes < 8192 * 12, "{bytes}");
    // Texts of words alone are better off as they are.
    let texts: Vec<String> = (0..4000_u64)
        .map(|n| (0..10 + n % 9).map(|w| word(n * 64 + w) + " ").collect())
        .collect();
    let (_, is_grouped) = assert_round_trip(&of(texts.iter().map(String::as_str)));
    assert!(!is_grouped);
    let texts: Vec<String> = (0..2000_u64)
        .map(|n| {
            (0..n % 37)
                .map(|w| letters(random(n * 64 + w)) + " ")
                .collect()
        })
        .collect();
    assert_round_trip(&of(texts.iter().map(String::as_str)));
    let texts: Vec<String> = (0..200_u64)
        .map(|n| format!("{{\"a\":{{\"b\":{n}}},\"c\":\"x\"}}"))
        .collect();
    let lines = of(texts.iter().map(String::as_str));
    let mut scratch = Scratch::default();
    let encoded = encode(&lines, &mut scratch).unwrap();
    let mut reader = reader(&encoded, 200).unwrap();
    let mut found = Vec::new();
    let all = Rows::all(200);
    let mut keep = |_, field: Field<'_>| match field {
        Field::Value(value) => found.push(value.parse::<u64>().unwrap()),
        other => panic!("{other:?}"),
    };
    reader
        .field(FieldFormat::Json, "a_b", &all, &mut keep)
        .unwrap();
    assert_eq!(found, (0..200).collect::<Vec<_>>());
    reader
        .field(FieldFormat::Json, "d", &all, |_, field| {
            assert_eq!(field, Field::Absent);
        })
        .unwrap();
    assert_round_trip(&of(std::iter::repeat_n("", 8192)));
    assert_round_trip(&of(std::iter::repeat_n("\0\u{1}\u{7f}", 100)));
}

fn letters(mut n: u64) -> String {
    let mut text = String::new();
    while n > 0 {
        text.push(char::from(b'a' + (n % 26) as u8));
        n /= 26;
    }
    text
}

/// Bytes that later builds must read as they are. The lines have every kind of column.
#[test]
fn golden_bytes_are_read() {
    let texts: Vec<String> = (0..80_u64)
        .map(|n| match n % 4 {
            0 => format!(
                "10.0.0.{n} - \"GET /items?id={} HTTP/1.1\" {:05} rt=0.{:03}",
                n * 7919,
                n,
                n * 9
            ),
            1 => format!(
                "{{\"trace\":\"{:016x}\",\"level\":\"{}\",\"msg\":\"user {n} took {} ms\"}}",
                n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                ["info", "warn"][(n / 4 % 2) as usize],
                n * n
            ),
            2 => format!(
                "level=info user={} item=u{n} size={n}.{n}",
                letters(n * n * n)
            ),
            _ => format!("word {} here", letters(n * n + 30)),
        })
        .collect();
    let lines = of(texts.iter().map(String::as_str));
    let mut scratch = Scratch::default();
    let encoded = encode(&lines, &mut scratch).unwrap();
    let mut written = (encoded.head_bytes as u32).to_le_bytes().to_vec();
    written.extend_from_slice(encoded.bytes);
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/block-2.golden");
        std::fs::write(path, written).unwrap();
        return;
    }
    let golden = include_bytes!("block-2.golden").as_slice();
    let (len, bytes) = golden.split_first_chunk().unwrap();
    let head = &bytes[..u32::from_le_bytes(*len) as usize];
    let read = Reader::open(bytes, head, lines.len())
        .unwrap()
        .lines()
        .unwrap();
    assert!(read == lines);
    // As they are written today. A change of the encoder may change this file; a build that no
    // longer reads the old one may not.
    assert_eq!(written, golden);
}
