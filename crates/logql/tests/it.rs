//! Queries over the log store in memory.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use kittiwake_logql::{Expr, Value, instant, lines, parse, parse_selector, range};
use kittiwake_model::memory::MemoryLogs;
use kittiwake_model::{Direction, Entry, Labels, QueryContext};
use proptest::prelude::*;

const S: i64 = 1_000_000_000;

fn store() -> MemoryLogs {
    let store = MemoryLogs::new();
    for (app, every) in [("web", 1), ("db", 3)] {
        let labels = Labels::from_pairs([("app", app), ("env", "prod")]).unwrap();
        for second in (0..120).step_by(every) {
            let level = if second % 10 == 0 { "error" } else { "info" };
            let line = format!("level={level} n={second}");
            let entry = Entry {
                time_ns: second * S,
                line,
                metadata: Labels::empty(),
            };
            store.append(&labels, entry);
        }
    }
    store
}

fn found(
    query: &str,
    start: i64,
    end: i64,
    direction: Direction,
    limit: usize,
) -> Vec<(String, Vec<String>)> {
    let Expr::Log(expr) = parse(query).unwrap() else {
        panic!("{query} gives numbers")
    };
    let context = QueryContext::default();
    let streams = lines(
        &expr,
        &store(),
        start * S,
        end * S,
        direction,
        limit,
        &context,
    )
    .unwrap();
    let shown = streams.into_iter().map(|s| {
        let app = s.labels.get("app").unwrap().to_owned();
        (app, s.entries.into_iter().map(|e| e.line).collect())
    });
    shown.collect()
}

fn at(query: &str, second: i64) -> Vec<(String, f64)> {
    let Expr::Metric(expr) = parse(query).unwrap() else {
        panic!("{query} gives lines")
    };
    match instant(&expr, &store(), second * S, &QueryContext::default()).unwrap() {
        Value::Vector(vector) => vector
            .into_iter()
            .map(|(l, _, v)| (l.get("app").unwrap_or("").to_owned(), v))
            .collect(),
        Value::Scalar(_, value) => vec![(String::new(), value)],
        other @ Value::Matrix(_) => panic!("{other:?}"),
    }
}

#[test]
fn lines_by_selector_filter_range_and_limit() {
    let all = found(
        "{env=\"prod\"} |= \"error\" != \"n=0\"",
        0,
        21,
        Direction::Forward,
        10,
    );
    let want = [(
        "web".to_owned(),
        vec!["level=error n=10".to_owned(), "level=error n=20".to_owned()],
    )];
    assert_eq!(all, want);
    // The end is not included, and the newest come first.
    let newest = found("{app=~\"w.*\"}", 0, 30, Direction::Backward, 2);
    assert_eq!(newest[0].1, ["level=info n=29", "level=info n=28"]);
    let either = found(
        "{app=\"web\"} |= \"n=7\" or \"n=9\" !~ `[79]\\d$`",
        0,
        60,
        Direction::Forward,
        10,
    );
    assert_eq!(either[0].1, ["level=info n=7", "level=info n=9"]);
    let folded = found(
        "{app=\"db\"} |~ `(?i)LEVEL=error`",
        0,
        120,
        Direction::Forward,
        100,
    );
    assert_eq!(folded[0].1.len(), 4);
}

#[test]
fn counts_and_rates_over_a_left_open_window() {
    assert_eq!(
        at("count_over_time({env=\"prod\"}[30s])", 60),
        [("db".to_owned(), 10.0), ("web".to_owned(), 30.0)]
    );
    assert_eq!(
        at("rate({app=\"web\"} |= \"error\" [1m])", 60),
        [("web".to_owned(), 0.1)]
    );
    assert_eq!(
        at("sum(count_over_time({env=\"prod\"}[30s]))", 60)[0].1,
        40.0
    );
    assert_eq!(
        at("sum by (app) (rate({env=\"prod\"}[30s])) > 0.5", 60),
        [("web".to_owned(), 1.0)]
    );
    assert_eq!(
        at("count_over_time({app=\"web\"}[30s] offset 1m) / 2", 60)[0].1,
        0.5
    );
    assert_eq!(
        at("bytes_over_time({app=\"web\"} |= \"n=5\" [6s])", 5)[0].1,
        14.0
    );
    assert_eq!(
        at("absent_over_time({app=\"none\"}[1m])", 60),
        [("none".to_owned(), 1.0)]
    );
    assert_eq!(
        at("topk(1, count_over_time({env=\"prod\"}[30s]))", 60)[0].0,
        "web"
    );
    assert_eq!(at("1 + 2 * 3", 0)[0].1, 7.0);
    let both = "sum(count_over_time({app=\"web\"}[30s])) / sum(count_over_time({app=\"db\"}[30s]))";
    assert_eq!(at(both, 60)[0].1, 3.0);
}

#[test]
fn a_range_query_is_the_instant_queries_of_its_steps() {
    let store = store();
    for query in [
        "count_over_time({env=\"prod\"}[20s])",
        "sum by (app) (rate({env=\"prod\"} |= \"error\" [45s]))",
        "absent_over_time({app=\"db\"} |= \"n=33\" [10s])",
    ] {
        let Expr::Metric(expr) = parse(query).unwrap() else {
            panic!()
        };
        let context = QueryContext::default();
        let (start, end, step) = (0, 150, 7);
        let Value::Matrix(matrix) =
            range(&expr, &store, start * S, end * S, step * S, &context).unwrap()
        else {
            panic!()
        };
        for second in (start..=end).step_by(step as usize) {
            let mut at_step: Vec<(Labels, i64, f64)> = Vec::new();
            for (labels, points) in &matrix {
                let points = points.iter().filter(|(t, _)| *t == second * 1000);
                at_step.extend(points.map(|(t, v)| (labels.clone(), *t, *v)));
            }
            let Value::Vector(mut single) = instant(&expr, &store, second * S, &context).unwrap()
            else {
                panic!()
            };
            single.sort_by(|a, b| a.0.cmp(&b.0));
            assert_eq!(at_step, single, "{query} at {second}");
        }
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (query, want) in [
        ("", "line 1, col 1"),
        ("{}", "at least one regexp or equality matcher"),
        ("{app=web}", "col 6"),
        ("{app=\"web\"} |= ", "unexpected $end"),
        ("{app=\"web\"} | json", "not supported yet"),
        ("rate({app=\"web\"})", "expecting RANGE"),
        ("sum({app=\"web\"})", "needs numbers"),
        ("{app=\"web\"} + 1", "gives lines"),
        ("{app=~\"(\"}", "invalid regular expression"),
        ("\n{app=\"web\"} |~ \"(\"", "line 2, col 16"),
        ("rate({app=\"web\"}[1x])", "bad number or duration"),
        ("foo({app=\"web\"}[1m])", "unexpected IDENTIFIER"),
    ] {
        let error = parse(query).unwrap_err().to_string();
        assert!(error.contains(want), "{query}: {error}");
    }
    assert!(parse(&"(".repeat(3000)).is_err());
    assert_eq!(parse_selector("{a=\"b\", c!=\"d\"}").unwrap().len(), 2);
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused(query in "\\PC{0,60}") {
        let _ = parse(&query);
    }

    #[test]
    fn any_mix_of_pieces_parses_or_is_refused(
        pieces in proptest::collection::vec(prop::sample::select(vec![
            "{a=\"b\"}", "rate", "(", ")", "[5m]", "|=", "\"x\"", "or", "sum", "by", "-", "1", "offset", "!=", "{", "}", "`", ">", "bool",
        ]), 0..20),
    ) {
        let _ = parse(&pieces.join(" "));
    }
}
