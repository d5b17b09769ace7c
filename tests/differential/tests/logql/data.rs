//! The lines that both programs are loaded with.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::Random;

pub const START_NS: i64 = 1_700_000_000_000_000_000;
pub const END_NS: i64 = START_NS + 2 * 3_600_000_000_000;
/// Lines of each stream.
const LINES: i64 = 150;
/// Lines of one request, such that each stream comes in two.
const BODY_LINES: usize = 75;

type Pairs = Vec<(String, String)>;

struct Line {
    time_ns: i64,
    text: String,
    metadata: Pairs,
}

/// Streams by their labels.
pub struct Data(BTreeMap<Pairs, Vec<Line>>);

const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const PATHS: [&str; 5] = [
    "/api/v1/items",
    "/api/v1/users/7",
    "/login",
    "/static/a%20b.css?x=1&y=2",
    "/health",
];
const USERS: [&str; 4] = ["alice", "bob", "Zoë", "-"];
const STATUS: [&str; 5] = ["200", "201", "302", "404", "500"];
const LEVELS: [&str; 5] = ["debug", "info", "WARN", "error", "fatal"];
const NETS: [&str; 4] = ["10.0.3", "192.168.4", "172.16.0", "10.1.0"];
const TOOK: [&str; 6] = ["12.5ms", "1s", "250us", "1m2.5s", "3ms", "900ns"];
const SIZES: [&str; 6] = ["12KB", "1.5MB", "512B", "3kB", "2MiB", "77 KB"];

fn pairs(of: &[(&str, &str)]) -> Pairs {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    of.iter().map(own).collect()
}

fn pick<'t>(random: &mut Random, of: &[&'t str]) -> &'t str {
    of[random.below(of.len() as u64) as usize]
}

fn ip(random: &mut Random) -> String {
    format!("{}.{}", pick(random, &NETS), random.below(12))
}

fn access(random: &mut Random) -> String {
    let (ip, size) = (ip(random), random.below(90_000));
    let (user, method) = (pick(random, &USERS), pick(random, &METHODS));
    let (path, status) = (pick(random, &PATHS), pick(random, &STATUS));
    let seconds = random.below(5_000) as f64 / 1_000.0;
    format!(
        "{ip} - {user} [14/Nov/2023:22:13:20 +0000] \"{method} {path} HTTP/1.1\" {status} {size} \"-\" \"curl/8.1\" {seconds}"
    )
}

fn nested(random: &mut Random) -> String {
    let value = json!({
        "level": pick(random, &LEVELS),
        "msg": format!("handled {} for {}", pick(random, &PATHS), pick(random, &USERS)),
        "status": pick(random, &STATUS).parse::<u32>().unwrap(),
        "took": pick(random, &TOOK),
        "size": pick(random, &SIZES),
        "ratio": random.below(1_000) as f64 / 8.0,
        "user": {"id": random.below(20), "name": pick(random, &USERS), "a-b": "dash"},
        "tags": [pick(random, &METHODS), {"deep": random.below(3)}],
        "ip": ip(random),
        "ok": random.below(2) == 0,
        "none": null,
        "": "empty",
        "env": "of the line",
        "quote\"d": "a\tb\u{1F600}\u{e9}",
    });
    value.to_string()
}

fn logfmt(random: &mut Random) -> String {
    let (level, path) = (pick(random, &LEVELS), pick(random, &PATHS));
    let (took, size) = (pick(random, &TOOK), pick(random, &SIZES));
    format!(
        "level={level} ts=2023-11-14T22:13:20Z caller=main.go:{} msg=\"query \\\"{path}\\\" done\" took={took} size=\"{size}\" rows={} ratio={} empty= flag ip={} host=other",
        random.below(300),
        random.below(4_000),
        random.below(1_000) as f64 / 8.0,
        ip(random),
    )
}

fn java(random: &mut Random) -> String {
    let level = ["TRACE", "INFO", "WARN", "ERROR"][random.below(4) as usize];
    let millis = random.below(1_000);
    let thread = random.below(8);
    let mut text = format!(
        "2023-11-14 22:13:20,{millis:03} {level} [worker-{thread}] com.example.Store - took {} ms",
        random.below(9_000)
    );
    if level == "ERROR" {
        text += "\njava.lang.IllegalStateException: no such item\n\tat com.example.Store.get(Store.java:42)";
    }
    text
}

fn packed(random: &mut Random) -> String {
    let entry = format!(
        "level={} rows={} msg=\"packed {}\"",
        pick(random, &LEVELS),
        random.below(500),
        pick(random, &PATHS)
    );
    let pod = format!("pod-{}", random.below(3));
    match random.below(8) {
        0 => json!({"pod": pod, "rows": "7"}).to_string(),
        1 => json!({"_entry": entry, "pod": pod, "count": 7, "env": "packed"}).to_string(),
        _ => json!({"_entry": entry, "pod": pod}).to_string(),
    }
}

fn odd(random: &mut Random, index: i64) -> String {
    let rest = random.below(1_000);
    match index % 15 {
        0 => format!("{{\"level\":\"info\",\"rows\":{rest}"),
        1 => format!("level=warn rows={rest} broken=\"no end"),
        2 => format!("\u{1b}[31mred {rest}\u{1b}[0m and \u{1b}[1;32mgreen\u{1b}[0m rows={rest}"),
        3 => format!("größe={rest} 日本語 ログ 😀 rows={rest}"),
        4 => String::from(" "),
        5 => format!("[1, 2, {rest}]"),
        6 => format!(
            "{{\"a\":{{\"b\":{{\"c\":{rest}}}}},\"rows\":\"x{rest}\",\"big\":123456789012345678901234567890,\"neg\":-1.5e3}}"
        ),
        7 => format!("==rows={rest} =x a=b=c \"quoted key\"=1"),
        8 => format!("{}{rest}", "long ".repeat(300)),
        9 => format!("::1 fe80::{rest:x} 10.0.3.4-10.0.3.9 rows={rest}"),
        10 => format!("a\tb\u{1}c\\n rows={rest} \"text\""),
        11 => format!(
            "{{\"rows\":{rest},\"rows\":{},\"list\":[[1],[2]],\"esc\":\"\\u00e9\\ud83d\\ude00\\/\"}}",
            rest + 1
        ),
        12 => format!("panic: runtime error {rest} rows={rest} rows=again"),
        13 => format!("Caused by: ERROR {rest}"),
        _ => format!("plain text number {rest}"),
    }
}

fn metadata(random: &mut Random) -> Pairs {
    let mut all = vec![
        ("trace_id".to_owned(), format!("{:016x}", random.next())),
        ("rows".to_owned(), random.below(900).to_string()),
        ("took".to_owned(), pick(random, &TOOK).to_owned()),
        ("size".to_owned(), pick(random, &SIZES).to_owned()),
        ("zone".to_owned(), pick(random, &["eu", "us"]).to_owned()),
    ];
    if random.below(3) == 0 {
        all.push(("severity".to_owned(), pick(random, &LEVELS).to_owned()));
    }
    if random.below(10) == 0 {
        all.push(("env".to_owned(), "of the metadata".to_owned()));
    }
    all
}

impl Data {
    /// Lines of all 20 streams.
    pub const LINES: i64 = 20 * LINES;

    pub fn new(random: &mut Random) -> Self {
        let mut data = Self(BTreeMap::new());
        for env in ["prod", "dev"] {
            for host in ["a", "b"] {
                let own = [("env", env), ("host", host)];
                data.stream(random, "web", &own, |random, _| access(random));
                data.stream(random, "api", &own, |random, _| nested(random));
                data.stream(random, "db", &own, |random, _| logfmt(random));
            }
            let own = [("env", env), ("host", "a")];
            data.stream(random, "java", &own, |random, _| java(random));
            data.stream(random, "packed", &own, |random, _| packed(random));
            data.stream(random, "odd", &own, odd);
            data.stream(random, "meta", &own, |random, _| logfmt(random));
        }
        data
    }

    fn stream(
        &mut self,
        random: &mut Random,
        app: &str,
        own: &[(&str, &str)],
        make: impl Fn(&mut Random, i64) -> String,
    ) {
        let mut labels = pairs(own);
        labels.push(("app".to_owned(), app.to_owned()));
        if app == "api" {
            labels.push(("level".to_owned(), "notice".to_owned()));
        }
        // No two lines have the same time.
        let number = self.0.len() as i64;
        let width = (END_NS - START_NS) / LINES;
        let mut lines = Vec::new();
        for index in 0..LINES {
            let within = random.below(width as u64 / 1_000_000) as i64 * 1_000_000;
            let time_ns = START_NS + index * width + within + number * 1_000 + index % 3;
            let metadata = match app {
                "meta" => metadata(random),
                _ => Pairs::new(),
            };
            let text = make(random, index);
            lines.push(Line {
                time_ns,
                text,
                metadata,
            });
        }
        labels.sort();
        self.0.insert(labels, lines);
    }

    /// Bodies of the push API, each stream in order of time.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        for (labels, lines) in &self.0 {
            for some in lines.chunks(BODY_LINES) {
                let object = |pairs: &Pairs| -> Value {
                    let pairs = pairs
                        .iter()
                        .map(|(n, v)| (n.clone(), Value::from(v.as_str())));
                    Value::Object(pairs.collect())
                };
                let values: Vec<Value> = some
                    .iter()
                    .map(|line| {
                        let time = line.time_ns.to_string();
                        json!([time, line.text, object(&line.metadata)])
                    })
                    .collect();
                let body = json!({"streams": [{"stream": object(labels), "values": values}]});
                bodies.push(body.to_string().into_bytes());
            }
        }
        bodies
    }
}
