//! The same generated queries to Kittiwake and to a real Prometheus, over the same samples.
//!
//! `DIFF_QUERIES` says how many, `E2E_SEED` repeats a run. Without either the same queries are
//! asked each time, so that a change is judged by what it changes; long runs look for more.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

#[path = "it/compare.rs"]
mod compare;
#[path = "it/data.rs"]
mod data;
#[path = "it/generate.rs"]
mod generate;
// What starts programs is that of the tests end to end; not all of it is used here.
#[allow(dead_code, unused_imports)]
#[path = "../../e2e/tests/it/harness/mod.rs"]
mod harness;
// It is also that of the queries to Loki.
#[path = "it/tally.rs"]
mod tally;
#[allow(dead_code)]
#[path = "it/tree.rs"]
mod tree;

use std::collections::BTreeMap;

use compare::{Kind, Order, compare, kind};
use data::{Body, Data, END_MS, START_MS};
use generate::{Generator, wanted};
use harness::{Answer, Api, Prometheus, Random, Server, oracle};
use tally::{Tally, queries, shrink};
use tree::{Gives, Node};

const REMOTE_WRITE: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];
const REMOTE_WRITE_2: [(&str, &str); 3] = [
    (
        "content-type",
        "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    ),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "2.0.0"),
];
const FEATURES: &str = "--enable-feature=promql-experimental-functions,promql-binop-fill-modifiers,st-storage,use-start-timestamps";
/// Queries unless `DIFF_QUERIES` says otherwise, and their seed.
const QUERIES: usize = 2_000;
const SEED: u64 = 7;
/// What makes a jump of the smallest difference.
const JUMPS: [&str; 10] = [
    "%", "ceil", "floor", "round", "==", "!=", "<", ">", "<=", ">=",
];

/// When a query is asked.
#[derive(Debug, Clone, Copy)]
enum When {
    Instant(i64),
    /// Start, end and step in ms.
    Range(i64, i64, i64),
}

struct Both {
    ours: Api,
    theirs: Api,
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn ask(api: &Api, query: &str, when: When) -> Answer {
    let answer = match when {
        When::Instant(at) => {
            let params = [("query", query), ("time", &seconds(at))];
            api.get("/api/v1/query", &params)
        }
        When::Range(start, end, step) => {
            let (start, end, step) = (seconds(start), seconds(end), seconds(step));
            let params = [
                ("query", query),
                ("start", &start),
                ("end", &end),
                ("step", &step),
            ];
            api.get("/api/v1/query_range", &params)
        }
    };
    answer.unwrap_or_else(|| panic!("no answer to {query} at {when:?}"))
}

fn order(query: &str, when: When) -> Order {
    let is_sorted = |names: &[&str]| {
        let mut names = names.iter();
        names.any(|name| query.starts_with(&format!("{name}(")))
    };
    match when {
        When::Range(..) => Order::None,
        When::Instant(_) if is_sorted(&["sort_by_label", "sort_by_label_desc"]) => {
            Order::Labels(last_texts(query))
        }
        When::Instant(_) if is_sorted(&["sort", "sort_desc"]) => Order::Values,
        When::Instant(_) => Order::None,
    }
}

/// The texts at the end of a call's arguments.
fn last_texts(query: &str) -> Vec<String> {
    let mut rest = query.trim_end_matches(')');
    let mut texts = Vec::new();
    while let Some((before, text)) = rest.rsplit_once(", \"")
        && let Some(text) = text.strip_suffix('"')
    {
        texts.push(text.to_owned());
        rest = before;
    }
    texts
}

impl Both {
    /// What kind of answer both give, or how they differ.
    fn ask(&self, query: &str, when: When) -> Result<Kind, String> {
        let (ours, theirs) = (ask(&self.ours, query, when), ask(&self.theirs, query, when));
        compare(&ours, &theirs, order(query, when))?;
        Ok(kind(&ours))
    }

    /// Whether a difference is that of last bits in what the query is made of: its parts are the
    /// same to 1e-9 but not to the bit, and it jumps between two such numbers.
    fn is_of_last_bits(&self, node: &Node, when: When) -> bool {
        let jumps = |tag: &String| JUMPS.contains(&tag.as_str());
        node.tags.iter().any(jumps)
            && node.children().any(|child| {
                let [ours, theirs] = [&self.ours, &self.theirs].map(|api| {
                    let json = ask(api, &child.text(), when).json();
                    values(&json["data"]["result"])
                });
                ours != theirs
            })
    }
}

/// The values of all series by their labels, as they are written.
fn values(result: &serde_json::Value) -> BTreeMap<String, String> {
    let series = result.as_array().into_iter().flatten();
    let pair = |s: &serde_json::Value| {
        let values = [&s["value"], &s["values"]];
        (s["metric"].to_string(), format!("{values:?}"))
    };
    series.map(pair).collect()
}

fn when(random: &mut Random, node: &Node) -> When {
    let start = START_MS + 120_000 + random.below(6_900_000) as i64;
    if node.gives == Gives::Matrix || node.gives == Gives::Text || random.below(2) == 0 {
        return When::Instant(start);
    }
    let step = [15_000, 30_000, 60_000, 67_000, 300_000][random.below(5) as usize];
    let end = start + step * random.below(15) as i64;
    When::Range(start, end.min(END_MS).max(start), step)
}

fn load(api: &Api, requests: &[Body]) {
    for body in requests {
        let headers = if body.version == 1 {
            REMOTE_WRITE
        } else {
            REMOTE_WRITE_2
        };
        let answer = api.post("/api/v1/write", &headers, &body.bytes).unwrap();
        assert!(answer.status < 300, "{}: {}", answer.status, answer.text);
    }
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(1_200).map_or(text.len(), |c| c.0);
    &text[..end]
}

#[test]
fn answers_are_those_of_prometheus() {
    let Some(prometheus) = oracle("prometheus") else {
        return;
    };
    let (count, mut random) = queries(QUERIES, SEED);
    let requests = Data::new(&mut random).requests();
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        FEATURES,
        "--web.enable-remote-write-receiver",
        "--storage.tsdb.retention.time=100y",
        "--log.level=error",
    ];
    let theirs = Prometheus::start(&prometheus, dir.path(), "theirs", "global: {}\n", &flags);
    let ours = Server::start(dir.path(), None, &["--storage.retention.time", "0"]);
    let both = Both {
        ours: ours.api(),
        theirs: theirs.api(),
    };
    load(&both.theirs, &requests);
    load(&both.ours, &requests);

    let wanted = wanted();
    let mut tally = Tally::new(&wanted);
    let mut last_bits = 0;
    for index in 0..count {
        let wanted = &wanted[index % wanted.len()];
        let node = Generator {
            random: &mut random,
        }
        .query(wanted);
        let when = when(&mut random, &node);
        match both.ask(&node.text(), when) {
            Ok(Kind::Error) if wanted == "errors" => tally.gave("errors"),
            Ok(Kind::Full) if wanted == "errors" => {}
            Ok(Kind::Full) => tally.gave_all(&node),
            Ok(Kind::Empty) => tally.gave_nothing(wanted),
            Ok(Kind::Error) => tally.failed(),
            Err(why) => {
                let differs = |node: &Node| both.ask(&node.text(), when).map(|_| ());
                let (node, why) = shrink(&node, why, differs);
                let query = node.text();
                if both.is_of_last_bits(&node, when) {
                    eprintln!("last bits: {query}\n  {when:?}");
                    last_bits += 1;
                    continue;
                }
                eprintln!("DIFFERS: {query}\n  {when:?}\n  {}", cut(&why));
                tally.differs(query, why);
            }
        }
        if tally.is_hopeless() {
            break;
        }
    }
    eprintln!("{last_bits} by last bits");
    assert!(last_bits <= 1 + count / 2_000, "{last_bits} by last bits");
    tally.verdict(count, if count >= 20_000 { 20 } else { 2 });
}
