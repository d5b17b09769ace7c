//! The same generated queries to Kittiwake and to a real Loki, over the same lines.
//!
//! `DIFF_QUERIES` says how many, `E2E_SEED` repeats a run. Without either the same queries are
//! asked each time. `DIFF_HOLD` prints where both listen and waits, for questions by hand.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

// Of what answers of Prometheus are compared with, not all is used here.
#[allow(dead_code)]
#[path = "it/compare.rs"]
mod answers;
#[path = "logql/compare.rs"]
mod compare;
#[path = "logql/data.rs"]
mod data;
#[path = "logql/generate.rs"]
mod generate;
// What starts programs is that of the tests end to end; not all of it is used here.
#[allow(dead_code, unused_imports)]
#[path = "../../e2e/tests/it/harness/mod.rs"]
mod harness;
#[path = "logql/source.rs"]
mod source;
#[path = "it/tally.rs"]
mod tally;
#[allow(dead_code)]
#[path = "it/tree.rs"]
mod tree;

use answers::Kind;
use compare::{compare, kind};
use data::{Data, END_NS, START_NS};
use generate::{Generator, gives_lines, wanted};
use harness::{Answer, Api, Loki, Random, Server, oracle, wait_for};
use tally::{Tally, queries, shrink};
use tree::Node;

/// Queries unless `DIFF_QUERIES` says otherwise, and their seed.
const QUERIES: usize = 500;
const SEED: u64 = 7;
const MINUTE_NS: i64 = 60_000_000_000;

/// When and how a query is asked.
#[derive(Debug, Clone)]
struct How {
    path: &'static str,
    params: Vec<(&'static str, String)>,
    by_category: bool,
}

struct Both {
    ours: Api,
    theirs: Api,
}

fn ask(api: &Api, query: &str, how: &How) -> Answer {
    let mut params: Vec<(&str, &str)> = vec![("query", query)];
    params.extend(
        how.params
            .iter()
            .map(|(name, value)| (*name, value.as_str())),
    );
    let headers: &[(&str, &str)] = if how.by_category {
        &[("x-loki-response-encoding-flags", "categorize-labels")]
    } else {
        &[]
    };
    let answer = api.get_with(how.path, headers, &params);
    answer.unwrap_or_else(|| panic!("no answer to {query} at {how:?}"))
}

impl Both {
    /// What kind of answer both give, or how they differ.
    fn ask(&self, query: &str, how: &How) -> Result<Kind, String> {
        let (ours, theirs) = (ask(&self.ours, query, how), ask(&self.theirs, query, how));
        let is_sorted = query.starts_with("sort") && how.path.ends_with("query");
        compare(&ours, &theirs, is_sorted)?;
        Ok(kind(&ours))
    }
}

fn how(random: &mut Random, node: &Node) -> How {
    let minutes = (END_NS - START_NS) / MINUTE_NS;
    let at =
        |random: &mut Random| START_NS + random.below(minutes as u64 * 60) as i64 * 1_000_000_000;
    let range = |start: i64, end: i64| vec![("start", start.to_string()), ("end", end.to_string())];
    if gives_lines(node) {
        let start = START_NS + random.below(60) as i64 * MINUTE_NS;
        let end = start + (15 + random.below(60) as i64) * MINUTE_NS;
        let (start, end) = if random.below(3) > 0 {
            (START_NS, END_NS)
        } else {
            (start, end)
        };
        let mut params = range(start, end);
        let direction = ["forward", "backward"][random.below(2) as usize];
        params.push(("direction", direction.to_owned()));
        let limit = [10, 100, 500, 5_000][random.below(4) as usize];
        params.push(("limit", limit.to_string()));
        return How {
            path: "/loki/api/v1/query_range",
            params,
            by_category: random.below(3) == 0,
        };
    }
    if random.below(2) == 0 {
        let at = (START_NS + 40 * MINUTE_NS).max(at(random));
        return How {
            path: "/loki/api/v1/query",
            params: vec![("time", at.to_string())],
            by_category: false,
        };
    }
    let start = (START_NS + 20 * MINUTE_NS).max(at(random));
    let step = [15, 60, 67, 300, 600][random.below(5) as usize];
    let end = start + step * 1_000_000_000 * (1 + random.below(15) as i64);
    let mut params = range(start, end.min(END_NS));
    params.push(("step", step.to_string()));
    How {
        path: "/loki/api/v1/query_range",
        params,
        by_category: false,
    }
}

fn load<'b>(api: &Api, bodies: impl Iterator<Item = &'b Vec<u8>>) {
    for body in bodies {
        let kind = [("content-type", "application/json")];
        let answer = api.post("/loki/api/v1/push", &kind, body).unwrap();
        assert!(answer.status < 300, "{}: {}", answer.status, answer.text);
    }
}

fn flush_half(api: &Api) {
    let answer = api.post("/flush", &[], b"").unwrap();
    assert!(answer.status < 300, "{}: {}", answer.status, answer.text);
}

/// Has Loki write its lines, as it shows old ones only then.
fn flush(api: &Api) {
    flush_half(api);
    let end = END_NS.to_string();
    let count = [
        ("query", "sum(count_over_time({app=~\".+\"}[3h]))"),
        ("time", &end),
    ];
    let all = Data::LINES.to_string();
    wait_for("Loki to write its lines", || {
        let answer = api.get("/loki/api/v1/query", &count)?.json();
        (answer["data"]["result"][0]["value"][1] == all).then_some(())
    });
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(60_000).map_or(text.len(), |c| c.0);
    &text[..end]
}

#[test]
fn answers_are_those_of_loki() {
    let Some(loki) = oracle("loki") else {
        return;
    };
    let (count, mut random) = queries(QUERIES, SEED);
    let bodies = Data::new(&mut random).bodies();
    let dir = tempfile::tempdir().unwrap();
    let theirs = Loki::start(&loki, dir.path());
    let ours = Server::start(dir.path(), None, &["--storage.retention.time", "0"]);
    let both = Both {
        ours: ours.api(),
        theirs: theirs.api(),
    };
    load(&both.theirs, bodies.iter());
    flush(&both.theirs);
    // One half of each stream is written to disk, the other is in memory.
    load(&both.ours, bodies.iter().step_by(2));
    flush_half(&both.ours);
    load(&both.ours, bodies.iter().skip(1).step_by(2));

    if std::env::var_os("DIFF_HOLD").is_some() {
        eprintln!("Loki: {}, Kittiwake: {}", both.theirs.base, both.ours.base);
        std::thread::park();
    }

    let wanted = wanted();
    let mut tally = Tally::new(&wanted);
    for _ in 0..count {
        // What was given least is asked for next.
        let wanted = tally.least();
        let node = Generator {
            random: &mut random,
        }
        .query(wanted);
        let how = how(&mut random, &node);
        match both.ask(&node.text(), &how) {
            Ok(Kind::Error) if wanted.ends_with("error") || wanted == "errors" => {
                tally.gave(wanted);
            }
            Ok(Kind::Full) => tally.gave_all(&node),
            Ok(Kind::Empty) => tally.gave_nothing(wanted),
            Ok(Kind::Error) => tally.failed(),
            Err(why) => {
                let differs = |node: &Node| both.ask(&node.text(), &how).map(|_| ());
                let (node, why) = shrink(&node, why, differs);
                let query = node.text();
                eprintln!("DIFFERS: {query}\n  {how:?}\n  {}", cut(&why));
                tally.differs(query, why);
            }
        }
        if tally.is_hopeless() {
            break;
        }
    }
    tally.verdict(count, if count >= 5_000 { 20 } else { 2 });
}
