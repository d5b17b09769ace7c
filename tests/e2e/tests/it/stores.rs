//! The stores give back what was sent, bit for bit, also after a crash under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kittiwake_model::Labels;
use kittiwake_wire::loki_push::PushEncoder;
use kittiwake_wire::remote_write::RequestEncoder;

use crate::harness::{Api, Random, Server, wait_for};

const REMOTE_WRITE: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];
const LOKI_PUSH: [(&str, &str); 1] = [("content-type", "application/x-protobuf")];

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

/// Values of all kinds: counters, decimals, doubles with all their bits, odd ones.
fn value(random: &mut Random, kind: u64, at: usize) -> f64 {
    match kind % 6 {
        0 => at as f64 * 1_234.0,
        1 => (random.below(100_000) as f64) / 100.0,
        2 => f64::from_bits((random.next() >> 2) | (0x3ff << 52)),
        3 => -(random.next() as f64),
        4 => [
            0.0,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
            f64::MAX,
        ][at % 6],
        _ => f64::from_bits(random.next() & !(0x7ff << 52)),
    }
}

fn labels(index: u64) -> Labels {
    let pairs = [
        ("__name__", "sent".to_owned()),
        ("index", index.to_string()),
        ("text", "ünï\"code\\\n".to_owned()),
    ];
    Labels::from_pairs(pairs).unwrap()
}

#[test]
fn every_sample_comes_back_bit_for_bit() {
    const SERIES: u64 = 60;
    const SAMPLES: usize = 500;
    let mut random = Random::new();
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), None, &["--web.enable-admin-api"]);
    let start_ms = now_ms() - SAMPLES as i64 * 1_000;
    let sent: Vec<Vec<(i64, f64)>> = (0..SERIES)
        .map(|kind| {
            let sample = |at| (start_ms + at as i64 * 1_000, value(&mut random, kind, at));
            (0..SAMPLES).map(sample).collect()
        })
        .collect();
    for part in 0..SAMPLES / 100 {
        let mut encoder = RequestEncoder::new();
        for (index, samples) in sent.iter().enumerate() {
            let samples = &samples[part * 100..(part + 1) * 100];
            encoder.series(&labels(index as u64), samples.iter().copied());
        }
        let body = encoder.finish().unwrap();
        let answer = server.api().post("/api/v1/write", &REMOTE_WRITE, &body);
        assert_eq!(answer.map(|a| a.status), Some(204));
    }
    for run in ["as sent", "after kill -9", "in a block", "after a stop"] {
        if run == "in a block" {
            // A snapshot is of files, so the head becomes one first.
            let taken = server.api().post("/api/v1/admin/tsdb/snapshot", &[], b"");
            assert_eq!(taken.map(|a| a.status), Some(200));
        }
        for (index, want) in sent.iter().enumerate() {
            let found = samples(&server.api(), index);
            let bits = |s: &[(i64, f64)]| -> Vec<(i64, u64)> {
                s.iter().map(|(t, v)| (*t, v.to_bits())).collect()
            };
            assert_eq!(bits(&found), bits(want), "series {index} {run}");
        }
        if run == "as sent" {
            server.program.kill();
        } else {
            assert!(server.program.stop().success());
        }
        server.restart();
    }
    server.program.assert_quiet(&[]);
}

fn samples(api: &Api, index: usize) -> Vec<(i64, f64)> {
    let query = format!("sent{{index=\"{index}\"}}[1h]");
    let answer = api.get("/api/v1/query", &[("query", &query)]).unwrap();
    let body = answer.json();
    let result = body["data"]["result"].as_array().unwrap();
    assert_eq!(result.len(), 1, "{query}: {}", answer.text);
    assert_eq!(result[0]["metric"]["text"], "ünï\"code\\\n");
    let values = result[0]["values"].as_array().unwrap().iter();
    let read = |v: &serde_json::Value| {
        let text = v[1].as_str().unwrap();
        let value = match text {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            text => text.parse().unwrap(),
        };
        ((v[0].as_f64().unwrap() * 1e3).round() as i64, value)
    };
    values.map(read).collect()
}

#[test]
fn every_line_comes_back_as_it_was() {
    let odd = [
        "",
        " ",
        "tab\tquote\"backslash\\",
        "ünïcödé 日本語 🐦",
        "{\"json\": [1, 2.50, null], \"nested\": {\"a\": \"b\"}}",
        "level=info ts=2026-11-24T08:00:00Z caller=main.go:12 msg=\"a b\"",
        "\u{1b}[31mred\u{1b}[0m",
        "nul \u{0} inside",
        "\u{feff}bom",
    ];
    let mut random = Random::new();
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), None, &[]);
    let start_ns = now_ms() * 1_000_000 - 60_000_000_000;
    let sent: Vec<(i64, String)> = (0..6_000)
        .map(|i| {
            let text = match i % 3 {
                0 => odd[i / 3 % odd.len()].to_owned(),
                1 => format!(
                    "GET /item/{} 200 {}",
                    random.below(1_000_000),
                    random.next()
                ),
                _ => "x".repeat(random.below(400) as usize),
            };
            // Several lines share a time.
            (start_ns + (i / 4) as i64 * 1_000, format!("{i} {text}"))
        })
        .collect();
    let labels = Labels::from_pairs([("service_name", "sent")]).unwrap();
    for lines in sent.chunks(1_500) {
        let mut encoder = PushEncoder::new();
        let empty = Labels::empty();
        encoder.stream(&labels, lines.iter().map(|(t, l)| (*t, l.as_str(), &empty)));
        let body = encoder.finish().unwrap();
        let answer = server.api().post("/loki/api/v1/push", &LOKI_PUSH, &body);
        assert_eq!(answer.map(|a| a.status), Some(204));
    }
    for run in ["as sent", "after kill -9", "after a stop"] {
        let found = server.api().lines("{service_name=\"sent\"}");
        let differs = found.iter().zip(&sent).find(|(f, s)| f != s);
        assert!(
            found.len() == sent.len() && differs.is_none(),
            "{run}: {differs:?}"
        );
        if run == "as sent" {
            server.program.kill();
        } else {
            assert!(server.program.stop().success());
        }
        server.restart();
    }
    server.program.assert_quiet(&[]);
}

/// Writes as fast as it can until told to stop; gives how many samples and lines were
/// acknowledged.
fn load(api: &Api, stop: &AtomicBool) -> (usize, usize) {
    let series = Labels::from_pairs([("__name__", "loaded")]).unwrap();
    let stream = Labels::from_pairs([("service_name", "loaded")]).unwrap();
    let (start_ms, empty) = (now_ms() - 1_000_000, Labels::empty());
    let (mut samples, mut lines) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let mut encoder = RequestEncoder::new();
        let next = samples..samples + 20;
        encoder.series(&series, next.map(|i| (start_ms + i as i64, i as f64)));
        let body = encoder.finish().unwrap();
        match api.post("/api/v1/write", &REMOTE_WRITE, &body) {
            Some(answer) if answer.status == 204 => samples += 20,
            _ => break,
        }
        let mut encoder = PushEncoder::new();
        let texts: Vec<String> = (lines..lines + 20).map(|i| format!("loaded {i}")).collect();
        let at = |i: usize| (start_ms + (lines + i) as i64) * 1_000_000;
        let entries = texts.iter().enumerate();
        encoder.stream(&stream, entries.map(|(i, l)| (at(i), l.as_str(), &empty)));
        let body = encoder.finish().unwrap();
        match api.post("/loki/api/v1/push", &LOKI_PUSH, &body) {
            Some(answer) if answer.status == 204 => lines += 20,
            _ => break,
        }
    }
    (samples, lines)
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9_under_load() {
    let mut random = Random::new();
    for _ in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server::start(dir.path(), None, &[]);
        let api = server.api();
        let stop = AtomicBool::new(false);
        let (samples, lines) = std::thread::scope(|scope| {
            let loading = scope.spawn(|| load(&api, &stop));
            std::thread::sleep(Duration::from_millis(500 + random.below(1_500)));
            server.program.kill();
            stop.store(true, Ordering::Relaxed);
            loading.join().unwrap()
        });
        assert!(samples > 0 && lines > 0);
        server.restart();
        let found = wait_for("the samples", || api.value("count_over_time(loaded[1h])"));
        // One request may have been stored without its answer.
        let (least, most) = (samples as f64, (samples + 20) as f64);
        assert!(
            (least..=most).contains(&found),
            "{samples} samples acknowledged, {found} found"
        );
        let found = api.lines("{service_name=\"loaded\"}");
        assert!(
            (lines..=lines + 20).contains(&found.len()),
            "{lines} lines acknowledged, {} found",
            found.len()
        );
        let wrong = found
            .iter()
            .enumerate()
            .find(|(i, (_, l))| *l != format!("loaded {i}"));
        assert_eq!(wrong, None);
        server.program.assert_quiet(&[]);
    }
}
