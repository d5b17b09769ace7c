use kittiwake_promql::parse;
use proptest::prelude::*;
use regex::Regex;

/// The tree without the places, which change with spaces.
fn shape(query: &str) -> String {
    let expr = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let place = Regex::new(r"Place \{ start: \d+, end: \d+ \}").unwrap();
    place.replace_all(&format!("{expr:?}"), "").into_owned()
}

fn any_duration() -> impl Strategy<Value = String> {
    let plain = proptest::sample::select(vec!["5m", "1h30m", "90s", "2d", "10ms", "1w"]);
    let plain = plain.prop_map(str::to_owned);
    let parts = prop_oneof![
        plain.clone(),
        Just("step()".to_owned()),
        Just("range()".to_owned()),
        (plain.clone(), plain.clone()).prop_map(|(a, b)| format!("max_of({a}, {b})")),
    ];
    let sum = (
        parts.clone(),
        proptest::sample::select(vec!["+", "*", "/"]),
        parts,
    );
    prop_oneof![3 => plain, 1 => sum.prop_map(|(a, op, b)| format!("({a} {op} {b})"))]
}

fn any_shift() -> impl Strategy<Value = String> {
    let at = proptest::sample::select(vec!["", " @ 1.500", " @ start()", " @ -7.000"]);
    let offset = prop_oneof![
        2 => Just(String::new()),
        1 => any_duration().prop_map(|d| format!(" offset {d}")),
        1 => Just(" offset -5m".to_owned()),
    ];
    (at, offset).prop_map(|(at, offset)| format!("{at}{offset}"))
}

fn any_series() -> impl Strategy<Value = String> {
    proptest::sample::select(vec![
        "foo",
        "foo:bar",
        "foo{a=\"b\"}",
        "sum{a!=\"b\",c=~\"d.*\"}",
        "{__name__=\"a.b\",x!~\"y|z\"}",
        "up{\"q.r\"=\"\\\"\"}",
    ])
    .prop_map(str::to_owned)
}

fn any_query() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => (any_series(), any_shift()).prop_map(|(s, shift)| s + &shift),
        1 => (any_series(), any_duration(), any_shift())
            .prop_map(|(s, d, shift)| format!("rate({s}[{d}]{shift})")),
        1 => (any_series(), any_duration(), any_shift())
            .prop_map(|(s, d, shift)| format!("increase({s}[{d}] smoothed{shift})")),
        1 => Just("vector(-1.5)".to_owned()),
    ];
    leaf.prop_recursive(5, 30, 3, |inner| {
        let operator = proptest::sample::select(vec![
            "+",
            "-",
            "*",
            "%",
            "^",
            "==",
            "> bool",
            "and",
            "or",
            "unless",
            "/ on (a)",
            "</",
            "+ ignoring (b) group_left (c)",
            "* fill (0)",
            "- fill_left (1) fill_right (-2)",
            "atan2",
        ]);
        prop_oneof![
            (inner.clone(), operator, inner.clone())
                .prop_map(|(l, op, r)| format!("({l}) {op} ({r})")),
            inner.clone().prop_map(|i| format!("-{i}")),
            inner
                .clone()
                .prop_map(|i| format!("sum by (a, \"b.c\") ({i})")),
            inner
                .clone()
                .prop_map(|i| format!("topk without () (3, {i})")),
            inner
                .clone()
                .prop_map(|i| format!("count_values(\"x\", {i})")),
            inner
                .clone()
                .prop_map(|i| format!("label_replace({i}, \"a\", \"$1\", \"b\", \"(.*)\")")),
            (inner.clone(), any_duration(), any_shift())
                .prop_map(|(i, d, shift)| format!("max_over_time(({i})[{d}:1m]{shift})")),
            (inner, any_duration()).prop_map(|(i, d)| format!("avg_over_time(({i})[{d}:])")),
        ]
    })
}

#[test]
fn long_queries_are_split() {
    let query = "sum by (instance) (rate(container_cpu_usage_seconds_total{name=~\"svc.*\"}[5m])) / on (instance) group_left () sum by (instance) (machine_cpu_cores{job=\"node\"})";
    let pretty = parse(query).unwrap().pretty();
    assert_eq!(
        pretty,
        "  sum by (instance) (rate(container_cpu_usage_seconds_total{name=~\"svc.*\"}[5m]))\n/ on (instance) group_left ()\n  sum by (instance) (machine_cpu_cores{job=\"node\"})"
    );
    assert_eq!(shape(&pretty), shape(query));
}

proptest! {
    #[test]
    fn printing_then_parsing_gives_the_same_tree(query in any_query()) {
        let printed = parse(&query).unwrap_or_else(|e| panic!("{query}: {e}")).to_string();
        prop_assert_eq!(shape(&printed), shape(&query));
    }

    #[test]
    fn pretty_printing_too(query in any_query()) {
        let pretty = parse(&query).unwrap_or_else(|e| panic!("{query}: {e}")).pretty();
        prop_assert_eq!(shape(&pretty), shape(&query));
    }
}
