use kittiwake_model::QueryContext;
use kittiwake_model::memory::MemoryMetrics;
use kittiwake_promql::{Options, ValueType, instant, parse, parse_selector};
use proptest::prelude::*;

#[test]
fn errors_are_worded_and_placed_as_prometheus_does() {
    for (query, error) in [
        (
            "",
            "unknown position: parse error: no expression found in input",
        ),
        ("1 +", "1:4: parse error: unexpected end of input"),
        ("foo bar", "1:5: parse error: unexpected identifier \"bar\""),
        ("sum(", "1:5: parse error: unclosed left parenthesis"),
        ("rate(x[5m]", "1:11: parse error: unclosed left parenthesis"),
        (
            "x{a=}",
            "1:5: parse error: unexpected \"}\" in label matching, expected string",
        ),
        (
            "x[5m] offset",
            "1:13: parse error: unexpected end of input in offset, expected number, duration, step(), or range()",
        ),
        (
            "rate(x)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        (
            "nope(x)",
            "1:1: parse error: unknown function with name \"nope\"",
        ),
        (
            "{a=~\".*\"}",
            "1:1: parse error: vector selector must contain at least one non-empty matcher",
        ),
        (
            "1 == 2",
            "1:3: parse error: comparisons between scalars must use BOOL modifier",
        ),
        (
            "x and on(a) group_left y",
            "1:1: parse error: no grouping allowed for \"and\" operation",
        ),
        (
            "a + on(b) group_left(b) c",
            "1:3: parse error: label \"b\" must not occur in ON and GROUP clause at once",
        ),
        (
            "topk(x)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
        ),
        ("x[0s]", "1:3: parse error: duration must be greater than 0"),
        (
            "x offset 1m[5m]",
            "1:12: parse error: no offset modifiers allowed before range",
        ),
        ("\"a", "1:1: parse error: unterminated quoted string"),
        (
            "x\n  !",
            "2:3: parse error: unexpected character after '!': '\\uffff'",
        ),
        (
            "foo{a=\"1\"} @ start() @ 5",
            "1:1: parse error: @ <timestamp> may not be set multiple times",
        ),
        (
            "metric{__name__=\"x\"}",
            "1:1: parse error: metric name must not be set twice: \"metric\" or \"x\"",
        ),
    ] {
        assert_eq!(parse(query).unwrap_err().to_string(), error, "{query}");
    }
}

#[test]
fn words_of_the_language_are_names_too() {
    for query in [
        "sum",
        "by{a=\"b\"}",
        "offset",
        "sum(sum)",
        "x{sum=\"1\"}",
        "start",
        "anchored",
    ] {
        assert_eq!(
            parse(query).unwrap().value_type(),
            ValueType::Vector,
            "{query}"
        );
    }
    let matchers = parse_selector("{\"a.b\", \"c d\"=~\"e\"}").unwrap();
    assert_eq!(
        (matchers[0].name(), matchers[1].name()),
        ("__name__", "c d")
    );
}

#[test]
fn deep_nesting_is_refused() {
    for query in [
        "(".repeat(100_000) + "1" + &")".repeat(100_000),
        "-".repeat(100_000) + "x",
        "abs(".repeat(100_000),
        vec!["1"; 100_000].join(" + "),
        "x".to_owned() + &"[5m:]".repeat(100_000),
        "x[".to_owned() + &"(".repeat(100_000),
        "x[".to_owned() + &vec!["1"; 100_000].join(" + "),
    ] {
        assert!(parse(&query).is_err());
    }
}

#[test]
fn what_is_as_deep_as_may_be_is_evaluated() {
    let store = MemoryMetrics::new();
    let (options, context) = (Options::default(), QueryContext::default());
    for (open, close) in [
        ("(", ")"),
        ("abs(", ")"),
        ("-(", ")"),
        ("sum(", ")"),
        ("(", " + x)"),
    ] {
        let of = |depth: usize| open.repeat(depth) + "x" + &close.repeat(depth);
        let deepest = (1..=200).rev().map(of).find_map(|query| parse(&query).ok());
        let expr = deepest.unwrap();
        instant(&expr, &store, 0, &options, &context).unwrap();
        assert!(!expr.pretty().is_empty());
    }
    let chain = (2..=200)
        .rev()
        .find_map(|n| parse(&vec!["x"; n].join(" or ")).ok());
    instant(&chain.unwrap(), &store, 0, &options, &context).unwrap();
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused(text in ".{0,80}") {
        let _ = parse(&text);
        let _ = parse_selector(&text);
    }

    #[test]
    fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_mix_of_pieces_parses_or_is_refused(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "sum", "rate", "x", "y:z", "(", ")", "[", "]", "{", "}", "5m", "1", "0x1f", ".5",
                "1e3", "offset", "@", "start()", "end()", "by", "without", "on", "ignoring",
                "group_left", "bool", "+", "-", "*", "/", "^", "==", "!=", "<", "<=", "</", ">/",
                "=~", "!~", "=", "\"a\"", "'b'", "`c`", "\"\\xff\"", ",", ":", "and", "or",
                "unless", "atan2", "anchored", "smoothed", "fill(1)", "fill_left", "step()",
                "range()", "max_of(1s,2s)", "min_of", "inf", "nan", "#", "\n", "é", "topk", "info",
            ]),
            0..20,
        ),
        gap in proptest::sample::select(vec!["", " "]),
    ) {
        if let Ok(expr) = parse(&pieces.join(gap)) {
            let store = MemoryMetrics::new();
            let _ = instant(&expr, &store, 60_000, &Options::default(), &QueryContext::default());
        }
    }
}
