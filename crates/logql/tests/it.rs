//! Queries over the log store in memory.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use kittiwake_logql::{Expr, LineQuery, Value, Window, instant, parse, parse_selector, range};
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
    let window = Window {
        start_ns: start * S,
        end_ns: end * S,
        direction,
        limit,
        interval_ns: 0,
    };
    let query = LineQuery::new(&expr).unwrap();
    let streams = query.run(&store(), &window, &context).unwrap();
    let shown = streams.into_iter().map(|s| {
        let app = s.labels.get("app").unwrap().to_owned();
        (app, s.lines.into_iter().map(|l| l.text).collect())
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
        ("", "unexpected $end"),
        ("{}", "at least one regexp or equality matcher"),
        ("{app=web}", "col 6"),
        ("{app=\"web\"} |= ", "unexpected $end"),
        ("{app=\"web\"} | jsonn", "unexpected $end"),
        ("rate({app=\"web\"})", "col 17: syntax error: unexpected )"),
        ("sum({app=\"web\"})", "unexpected )"),
        ("{app=\"web\"} + 1", "gives lines"),
        ("{app=~\"(\"}", "col 7"),
        ("\n{app=\"web\"} |~ \"(\"", "error parsing regexp"),
        ("rate({app=\"web\"}[1x])", "unknown unit"),
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

/// Queries that use all of the language, one thing each.
const QUERIES: [&str; 34] = [
    "{a=\"b\", c!=\"d\", e=~\"f.*\", g!~`h`}",
    "{a=\"b\"} |= \"x\" or \"y\" != \"z\" |~ `\\d+` !~ \"w\" |> \"<_>x\" !> \"<_>\"",
    "{a=\"b\"} |= ip(\"10.0.0.0/8\") != ip(\"10.1.0.1\")",
    "{a=\"b\"} | json",
    "{a=\"b\"} | json x=\"y.z[0]\", q",
    "{a=\"b\"} | logfmt --strict --keep-empty",
    "{a=\"b\"} | logfmt x=\"y\"",
    "{a=\"b\"} | regexp `(?P<x>\\w+)` | pattern \"<y> <_>\" | unpack",
    "{a=\"b\"} | x=\"y\" or z > 5 and w <= 1.5s, v != 5MB",
    "{a=\"b\"} | (x=\"y\" or z==5) | ip=ip(\"::1\") | ip!=ip(\"1.2.3.4-1.2.3.9\")",
    "{a=\"b\"} | line_format \"{{.x}}\" | label_format y=x,z=\"{{.x}}\" | decolorize",
    "{a=\"b\"} | drop x, y=\"z\" | keep w, v=~\"u.*\"",
    "rate({a=\"b\"}[5m])",
    "count_over_time({a=\"b\"} |= \"x\" [1h30m] offset 5m)",
    "bytes_rate({a=\"b\"}[1d]) + bytes_over_time({a=\"b\"}[1w])",
    "sum_over_time({a=\"b\"} | json | unwrap x [5m])",
    "quantile_over_time(0.99, {a=\"b\"} | json | unwrap duration(x) | __error__=\"\" [5m]) by (y, z)",
    "avg_over_time({a=\"b\"} | unwrap bytes(x) [5m]) without (y)",
    "first_over_time({a=\"b\"} | unwrap duration_seconds(x) [5m]) by ()",
    "rate_counter({a=\"b\"} | unwrap x [5m])",
    "absent_over_time({a=\"b\"}[5m])",
    "sum(rate({a=\"b\"}[5m])) by (x)",
    "topk by (x) (5, rate({a=\"b\"}[5m]))",
    "bottomk(1, rate({a=\"b\"}[5m])) without (x, y)",
    "sort_desc(sort(rate({a=\"b\"}[5m])))",
    "approx_topk(3, rate({a=\"b\"}[5m]))",
    "stddev(rate({a=\"b\"}[5m])) / stdvar(rate({a=\"b\"}[5m]))",
    "1 + 2 * 3 ^ 2 ^ 1 % -4",
    "vector(1.5) > bool 1",
    "label_replace(rate({a=\"b\"}[5m]), \"x\", \"$1\", \"y\", \"(.*)\")",
    "rate({a=\"b\"}[5m]) / on (x) group_left (y, z) rate({a=\"c\"}[5m])",
    "rate({a=\"b\"}[5m]) * ignoring (x) group_right rate({a=\"c\"}[5m])",
    "rate({a=\"b\"}[5m]) or rate({a=\"c\"}[5m]) and rate({a=\"d\"}[5m]) unless on () vector(1)",
    "count(min(max(avg(rate({a=\"b\"}[5m]))))) >= 1 # a comment",
];

#[test]
fn what_is_printed_is_the_same_query() {
    for query in QUERIES {
        let expr = parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        let printed = expr.to_string();
        let again = parse(&printed).unwrap_or_else(|e| panic!("{printed}: {e}"));
        assert_eq!(again, expr, "{query} printed as {printed}");
        let pretty = kittiwake_logql::pretty(&expr);
        let again = parse(&pretty).unwrap_or_else(|e| panic!("{pretty}: {e}"));
        assert_eq!(again.to_string(), printed, "{pretty}");
    }
}

fn labels_of(query: &str, line: &str) -> (String, Vec<(String, String)>) {
    let Expr::Log(expr) = parse(query).unwrap() else {
        panic!()
    };
    let stream = Labels::from_pairs([("app", "web")]).unwrap();
    let entry = Entry {
        time_ns: 1_700_000_000 * S,
        line: line.to_owned(),
        metadata: Labels::from_pairs([("pod", "p1")]).unwrap(),
    };
    let query = LineQuery::new(&expr).unwrap();
    let (labels, line) = query.show(&stream, &entry).unwrap();
    let labels = labels.iter().filter(|(n, _)| !matches!(*n, "app" | "pod"));
    let labels = labels.map(|(n, v)| (n.to_owned(), v.to_owned()));
    (line.text, labels.collect())
}

#[test]
fn stages_do_what_those_of_loki_do() {
    let json = r#"{"a":{"b":1,"c d":"x"},"app":"y","l":[1,{"k":"v"}],"n":null,"t":"\u00e9\n"}"#;
    for (stages, line, want) in [
        ("| json", json, "a_b=1 a_c_d=x app_extracted=y t=é\n"),
        ("| json | json", json, "a_b=1 a_c_d=x app_extracted=y t=é\n"),
        (
            "| json x=\"a.b\", y=\"l[1].k\", z=\"none\"",
            json,
            "x=1 y=v z=",
        ),
        ("| json x=\"l\"", json, "x=[1,{\"k\":\"v\"}]"),
        (
            "| logfmt",
            "a=1 b=\"x \\\" y\" c= d pod=q",
            "a=1 b=x \" y pod_extracted=q",
        ),
        ("| logfmt b, z=\"a\"", "a=1 b=2", "b=2 z=1"),
        ("| pattern \"<m> <_> <s>\"", "GET / 200", "m=GET s=200"),
        ("| regexp \"(?P<m>[A-Z]+)\"", "x GET", "m=GET"),
        (
            "| logfmt | label_format z=a,y=\"{{.a}}-{{.pod}}\"",
            "a=1",
            "y=-p1 z=1",
        ),
        ("| logfmt | keep a", "a=1 b=2", "a=1"),
        ("| logfmt | drop a=\"2\", b", "a=1 b=2", "a=1"),
        (
            "| json",
            "no",
            "__error__=JSONParserErr __error_details__=Value looks like object, but can't find closing '}' symbol",
        ),
        ("| json | drop __error__, __error_details__", "no", ""),
    ] {
        let (_, labels) = labels_of(&format!("{{app=\"web\"}} {stages}"), line);
        let shown: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(shown.join(" "), want, "{stages}");
    }
}

/// See `tests/deviations.md`.
#[test]
fn what_is_deliberately_not_as_in_loki() {
    let shows = |stages: &str, line: &str| {
        let Ok(Expr::Log(expr)) = parse(&format!("{{app=\"web\"}} {stages}")) else {
            panic!("{stages}")
        };
        let entry = Entry {
            time_ns: 0,
            line: line.to_owned(),
            metadata: Labels::empty(),
        };
        let query = LineQuery::new(&expr).unwrap();
        query.show(&Labels::empty(), &entry).is_some()
    };
    // An expression holds for the whole value of a label.
    for (filter, want) in [
        ("a=~\"x.*\"", false),
        ("a=~\".*x.*\"", true),
        ("a=~\"\"", false),
        ("a=~\"xa|xb\"", false),
        ("a!~\"x.*\"", true),
    ] {
        assert_eq!(
            shows(&format!("| logfmt | {filter}"), "a=1xa"),
            want,
            "{filter}"
        );
    }
    // A filter behind `decolorize` sees no colours.
    let red = "\u{1b}[31mred\u{1b}[0m";
    assert!(!shows("| decolorize |= \"31\"", red));
    assert!(shows("|= \"31\" | decolorize |= \"red\"", red));
    // What is cut within a character is U+FFFD.
    let (line, _) = labels_of("{app=\"web\"} | line_format \"{{trunc 1 __line__}}\"", "é");
    assert_eq!(line, "\u{fffd}");
    // Variants have each label once.
    let variants =
        "variants(count_over_time({a=\"b\"}[1m]), sum(rate({a=\"b\"}[1m]))) of ({app=\"web\"}[1m])";
    let Expr::Metric(expr) = parse(variants).unwrap() else {
        panic!()
    };
    let store = store();
    let Value::Vector(found) = instant(&expr, &store, 60 * S, &QueryContext::default()).unwrap()
    else {
        panic!()
    };
    let is_once = |labels: &Labels| !labels.iter().any(|(name, _)| name.ends_with("_extracted"));
    assert!(found.len() > 1);
    for (labels, ..) in found {
        assert!(is_once(&labels) && labels.get("__variant__").is_some());
    }
}

#[test]
fn functions_do_what_those_of_loki_do() {
    for (template, want) in [
        ("{{ .a | upper | trunc 2 }}", "AB"),
        ("{{ trunc -2 .a }}", "cd"),
        ("{{ substr 1 3 .a }} {{ contains \"bc\" .a }}", "bc true"),
        (
            "{{ .n | int | add 1 }} {{ divf 1 4 }} {{ round 1.256 2 }}",
            "6 0.25 1.26",
        ),
        (
            "{{ __timestamp__ | date \"2006-01-02T15:04:05Z07:00\" }}",
            "2023-11-14T22:13:20Z",
        ),
        ("{{ __timestamp__ | unixEpochMillis }}", "1700000000000"),
        (
            "{{ toDate \"2006-01-02\" \"2020-02-29\" | unixEpoch }}",
            "1582934400",
        ),
        ("{{ regexReplaceAll \"(b)\" .a \"<$1>\" }}", "a<b>cd"),
        ("{{ alignRight 6 .a }}|{{ alignLeft 2 .a }}", "  abcd|ab"),
        ("{{ range (fromJson \"[1,2]\") }}{{ . }};{{ end }}", "1;2;"),
        (
            "{{ default \"none\" .x }} {{ count \"[ab]\" .a }}",
            "none 2",
        ),
        (
            "{{ urlencode \"a b&\" }} {{ urldecode \"a%20b\" }} {{ b64enc .a }}",
            "a+b%26 a b YWJjZA==",
        ),
        (
            "{{ bytes \"2kB\" }} {{ duration \"1m\" }} {{ __line__ }}",
            "2000 60 a=abcd n=5",
        ),
        (
            "{{ title \"one two\" }} {{ indent 1 \"x\" }} {{ repeat 2 .a }}",
            "One Two  x abcdabcd",
        ),
    ] {
        let query = format!("{{app=\"web\"}} | logfmt | line_format `{template}`");
        assert_eq!(labels_of(&query, "a=abcd n=5").0, want, "{template}");
    }
}

#[test]
fn deep_nesting_and_endless_chains_are_refused() {
    for query in [
        format!("{}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("1{}", "+1".repeat(5000)),
        format!("1{}", "^1".repeat(5000)),
        format!("{{a=\"b\"}} | {}x=1", "(".repeat(5000)),
        format!("{{a=\"b\"}} | x=1{}", " or x=1".repeat(5000)),
        format!("{{a=\"b\"}} | x=1{}", ",x=1".repeat(5000)),
        format!("rate({}{{a=\"b\"}}[1m])", "(".repeat(5000)),
        format!("{}vector(1)", "sum(".repeat(5000)),
    ] {
        assert!(parse(&query).is_err());
    }
}

proptest! {
    #[test]
    fn any_mix_of_queries_parses_prints_and_runs(
        a in prop::sample::select(QUERIES.to_vec()),
        b in prop::sample::select(QUERIES.to_vec()),
        cut in 0_usize..80,
        from in 0_usize..80,
    ) {
        let head: String = a.chars().take(cut).collect();
        let tail: String = b.chars().skip(from).collect();
        if let Ok(expr) = parse(&(head + &tail)) {
            let printed = expr.to_string();
            prop_assert_eq!(parse(&printed).unwrap(), expr, "{}", printed);
        }
    }

    #[test]
    fn any_line_goes_through_any_stage(
        stage in prop::sample::select(vec![
            "| json", "| json x=\"a.b[0]\"", "| logfmt", "| logfmt --strict", "| unpack",
            "| pattern \"<a> <b>\"", "| regexp \"(?P<a>.+)=\"", "|= ip(\"1.2.3.4\")",
            "| decolorize", "!> \"<_>x<_>\"",
        ]),
        line in "(\\{|\\}|\\[|\\]|\"|:|,|=|\\\\|[a-z0-9é. ]){0,30}",
    ) {
        let Expr::Log(expr) = parse(&format!("{{app=\"web\"}} {stage}")).unwrap() else {
            panic!()
        };
        let entry = Entry { time_ns: 0, line, metadata: Labels::empty() };
        let stream = Labels::from_pairs([("app", "web")]).unwrap();
        let _ = LineQuery::new(&expr).unwrap().show(&stream, &entry);
    }
}

/// A line of a generated stream: seconds, level, number.
fn line_of(second: i64, kind: u8, number: u32) -> String {
    match kind {
        0 => format!("level=info n={number} at={second}"),
        1 => format!("{{\"level\":\"warn\",\"n\":{number},\"o\":{{\"k\":\"v{number}\"}}}}"),
        2 => format!("plain error {number}"),
        _ => format!("{{\"level\":\"warn\",\"n\":{number}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_log_store_answers_as_memory_does(
        lines in proptest::collection::vec((0_i64..300, 0_u8..4, 0_u32..50, 0_usize..3), 1..700),
        flush_at in 0_usize..700,
        query in prop::sample::select(vec![
            "{app=~\".+\"}",
            "{app=\"a\"} |= \"error\"",
            "{app=~\"a|b\"} | json | n > 20",
            "{app=~\".+\"} | logfmt | level=\"info\" | line_format \"{{.n}}\"",
            "count_over_time({app=~\".+\"}[1m])",
            "sum by (level) (count_over_time({app=~\".+\"} | json | __error__=\"\" [90s]))",
            "quantile_over_time(0.9, {app=~\".+\"} | logfmt | unwrap n | __error__=\"\" [2m]) by (app)",
            "topk(2, sum by (app) (bytes_rate({app=~\".+\"} != \"plain\" [1m])))",
            "absent_over_time({app=\"c\"} |~ `[45]\\d` [30s])",
            "sum(count_over_time({app=~\".+\"} | json | n > 20 [1m]))",
            "sum(rate({app=~\".+\"} |= \"level\" | logfmt | n > 20 and n < 40 | n != 30 [1m]))",
            "sum(count_over_time({app=~\".+\"} | json | o_k=~\"v1.*\" or o_k=\"\" [1m]))",
            "sum(count_over_time({app=~\".+\"} | logfmt | at >= 100s [1m]))",
            "sum(count_over_time({app=~\".+\"} | logfmt | app=\"a\" [1m]))",
            "sum(bytes_over_time({app=~\".+\"} | json | level=\"warn\" [1m]))",
        ]),
        has_metadata in any::<bool>(),
        kinds in prop::sample::select(vec![1_u8, 2, 4]),
        is_forward in any::<bool>(),
    ) {
        let memory = MemoryLogs::new();
        let dir = tempfile::tempdir().unwrap();
        let store = kittiwake_logstore::Store::open(
            std::sync::Arc::new(kittiwake_env::RealFs),
            std::sync::Arc::new(kittiwake_env::RealClock::new()),
            &mut kittiwake_env::SystemRng::new().unwrap(),
            dir.path().to_owned(),
            kittiwake_logstore::Options { retention_ns: 0, ..Default::default() },
        ).unwrap();
        // One line for each time and stream: what is equal is a repeat to the store.
        let mut seen = std::collections::HashSet::new();
        for (index, (second, kind, number, app)) in lines.into_iter().enumerate() {
            if index == flush_at {
                store.flush().unwrap();
            }
            if !seen.insert((second, app)) {
                continue;
            }
            let app = ["a", "b", "c"][app];
            let labels = Labels::from_pairs([("app", app)]).unwrap();
            let metadata = if has_metadata {
                Labels::from_pairs([("k", (number % 3).to_string())]).unwrap()
            } else {
                Labels::empty()
            };
            let text = line_of(second, kind % kinds, number);
            let mut batch = kittiwake_logstore::Batch::new();
            batch.start(labels.clone());
            batch.line(second * S + 7, &text, Some(metadata.clone()));
            store.write(&batch, None).unwrap();
            memory.append(&labels, Entry { time_ns: second * S + 7, line: text, metadata });
        }
        let context = QueryContext::default();
        match parse(query).unwrap() {
            Expr::Log(expr) => {
                let direction = if is_forward { Direction::Forward } else { Direction::Backward };
                let window = Window { start_ns: 0, end_ns: 250 * S, direction, limit: 0, interval_ns: 0 };
                let query = LineQuery::new(&expr).unwrap();
                let sorted = |store: &dyn kittiwake_model::LogStore| {
                    let mut streams = query.run(store, &window, &context).unwrap();
                    for stream in &mut streams {
                        stream.lines.sort_by(|a, b| (a.time_ns, &a.stream).cmp(&(b.time_ns, &b.stream)));
                    }
                    streams
                };
                prop_assert_eq!(sorted(&store), sorted(&memory));
            }
            Expr::Metric(expr) => {
                let ask = |store: &dyn kittiwake_model::LogStore| {
                    range(&expr, store, 0, 300 * S, 20 * S, &context).map_err(|e| e.to_string())
                };
                prop_assert_eq!(ask(&store), ask(&memory));
            }
        }
    }
}
