use kittiwake_model::histogram::{Counts, Span};
use kittiwake_model::memory::MemoryMetrics;
use kittiwake_model::{Histogram, Labels, QueryContext, stale_nan};
use kittiwake_promql::{Answer, EvalError, Options, Point, Value, instant, parse, range};
use proptest::prelude::*;

fn store() -> MemoryMetrics {
    let store = MemoryMetrics::new();
    for (instance, step) in [("a", 1.0), ("b", 2.5)] {
        for (name, offset) in [("x_total", 0), ("y", 7)] {
            let labels = Labels::from_pairs([("__name__", name), ("instance", instance)]).unwrap();
            for i in 0..200 {
                let value = if name == "y" && i == 90 {
                    stale_nan()
                } else {
                    // A counter that is reset once.
                    f64::from(i % 120) * step
                };
                store.append(&labels, i64::from(i) * 15_000 + offset, value);
            }
        }
        let labels = Labels::from_pairs([("__name__", "h"), ("instance", instance)]).unwrap();
        for i in 1..200_u32 {
            let count = f64::from(i % 120) * step;
            let histogram = Histogram {
                schema: 0,
                zero_threshold: 0.0,
                sum: count,
                positive_spans: vec![Span {
                    offset: 1,
                    length: 2,
                }],
                negative_spans: Vec::new(),
                custom_bounds: Vec::new(),
                counts: Counts::Float {
                    count: 2.0 * count,
                    zero: 0.0,
                    positive: vec![count, count],
                    negative: Vec::new(),
                },
                reset_hint: kittiwake_model::histogram::ResetHint::Unknown,
            };
            store.append_histogram(&labels, i64::from(i) * 15_000, histogram);
        }
    }
    store
}

fn ask(
    query: &str,
    store: &MemoryMetrics,
    (start, end, step): (i64, i64, i64),
    options: &Options,
    context: &QueryContext,
) -> Result<Answer, EvalError> {
    let expr = parse(query).unwrap();
    if step == 0 {
        instant(&expr, store, start, options, context)
    } else {
        range(&expr, store, start, end, step, options, context)
    }
}

/// A value that can be compared, NaN included.
fn shown(point: &Point) -> String {
    match point {
        Point::Float(value) => format!("{:x}", value.to_bits()),
        Point::Histogram(histogram) => histogram.to_string(),
    }
}

const QUERIES: [&str; 30] = [
    "x_total",
    "rate(x_total[1m])",
    "sum by (instance) (increase(x_total[5m] offset 1m))",
    "x_total / on(instance) y",
    "y > 30",
    "topk(1, x_total)",
    "max_over_time(rate(x_total[1m])[5m:30s])",
    "x_total @ 600",
    "absent(nonsense{a=\"b\"})",
    "absent(y > 200)",
    "y or x_total",
    "x_total unless y > 100",
    "quantile(0.5, x_total)",
    "time() - timestamp(y)",
    "count_values(\"v\", y)",
    "-x_total",
    "scalar(sum(y)) + 1",
    "h",
    "rate(h[2m])",
    "sum(h)",
    "avg by (instance) (increase(h[5m]))",
    "histogram_quantile(0.9, sum(rate(h[2m])))",
    "histogram_count(rate(h[2m]))",
    "rate(x_total[1m] anchored)",
    "increase(x_total[1m] smoothed)",
    "y smoothed",
    "min_over_time(y[3m])",
    "stddev_over_time(y[3m]) + y",
    "limitk(1, x_total)",
    "clamp(y, 3, scalar(sum(x_total)))",
];

#[test]
fn a_range_query_is_the_instant_queries_of_its_steps() {
    let store = store();
    let (options, context) = (Options::default(), QueryContext::default());
    for query in QUERIES {
        let (start, end, step) = (0, 3_300_000, 41_000);
        let answer = ask(query, &store, (start, end, step), &options, &context).unwrap();
        let Value::Matrix(matrix) = answer.value else {
            panic!("{query}: no matrix")
        };
        for time in (start..=end).step_by(step as usize) {
            let mut at_time: Vec<(Labels, String)> = Vec::new();
            for series in &matrix {
                let float = series.floats.iter().find(|(t, _)| *t == time);
                let histogram = series.histograms.iter().find(|(t, _)| *t == time);
                let float = float.map(|(_, value)| Point::Float(*value));
                let histogram = histogram.map(|(_, h)| Point::Histogram(h.clone()));
                if let Some(point) = float.or(histogram) {
                    at_time.push((series.labels.clone(), shown(&point)));
                }
            }
            let single = ask(query, &store, (time, time, 0), &options, &context).unwrap();
            let mut single: Vec<(Labels, String)> = match single.value {
                Value::Vector(vector) => vector
                    .into_iter()
                    .map(|(labels, _, point)| (labels, shown(&point)))
                    .collect(),
                Value::Scalar(_, value) => {
                    vec![(Labels::empty(), shown(&Point::Float(value)))]
                }
                other => panic!("{query}: {other:?}"),
            };
            at_time.sort();
            single.sort();
            assert_eq!(at_time, single, "{query} at {time}");
        }
    }
}

#[test]
fn threads_change_nothing() {
    let store = MemoryMetrics::new();
    for index in 0..1000 {
        let labels = Labels::from_pairs([
            ("__name__", "m_total".to_owned()),
            ("group", (index % 7).to_string()),
            ("index", index.to_string()),
        ]);
        let labels = labels.unwrap();
        for time in 0..60 {
            store.append(&labels, time * 15_000, (time * (index % 13)) as f64 * 0.5);
        }
    }
    let context = QueryContext::default();
    for query in [
        "sum by (group) (rate(m_total[2m]))",
        "avg by (group) (m_total)",
        "max by (group) (m_total) - min by (group) (m_total)",
        "count(m_total > 3)",
        "stddev by (group) (m_total)",
        "quantile by (group) (0.9, m_total)",
        "rate(m_total[1m])",
    ] {
        let run = |threads_max: usize| {
            let options = Options {
                threads_max,
                ..Options::default()
            };
            let times = (0, 900_000, 30_000);
            ask(query, &store, times, &options, &context).unwrap()
        };
        let (one, four) = (run(1), run(4));
        let (Value::Matrix(a), Value::Matrix(b)) = (&one.value, &four.value) else {
            panic!("{query}: no matrix")
        };
        assert_eq!(a.len(), b.len(), "{query}");
        for (x, y) in a.iter().zip(b) {
            assert_eq!(x.labels, y.labels, "{query}");
            for ((t, v), (u, w)) in x.floats.iter().zip(&y.floats) {
                assert!(
                    t == u && (v - w).abs() <= 1e-12 * v.abs(),
                    "{query}: {v} {w}"
                );
            }
        }
        assert_eq!(one.stats.samples_per_step, four.stats.samples_per_step);
    }
}

#[test]
fn series_without_a_label_come_first_when_sorted_by_it() {
    let store = store();
    let order = |function: &str| {
        let query = format!(r#"{function}(x_total or sum(y), "instance")"#);
        let at = (2_000_000, 0, 0);
        let options = Options::default();
        let answer = ask(&query, &store, at, &options, &QueryContext::default());
        let Value::Vector(samples) = answer.unwrap().value else {
            panic!("no vector")
        };
        let instance = |labels: &Labels| labels.get("instance").unwrap_or("").to_owned();
        let all = samples.iter().map(|(labels, ..)| instance(labels));
        all.collect::<Vec<_>>()
    };
    assert_eq!(order("sort_by_label"), ["", "a", "b"]);
    assert_eq!(order("sort_by_label_desc"), ["b", "a", ""]);
}

#[test]
fn limits_and_a_cancelled_query_end_it() {
    let (store, options) = (store(), Options::default());
    let times = (0, 600_000, 15_000);
    let run = |query: &str, context: &QueryContext| {
        let error = ask(query, &store, times, &options, context).unwrap_err();
        error.to_string()
    };
    let mut context = QueryContext::default();
    context.samples_max = 10;
    assert!(run("rate(x_total[5m])", &context).contains("too many samples"));
    let mut context = QueryContext::default();
    context.samples_max = 100;
    // A histogram counts by its size.
    assert!(run("sum(h)", &context).contains("too many samples"));
    let mut context = QueryContext::default();
    context.memory_bytes_max = 500;
    assert!(run("x_total", &context).contains("memory"));
    let context = QueryContext::default();
    context.cancel.cancel();
    assert!(run("rate(x_total[5m])", &context).contains("canceled"));
}

#[test]
fn annotations_say_where() {
    let (store, options, context) = (store(), Options::default(), QueryContext::default());
    let query = "sum(rate(y[5m])) +\n  quantile(2, y)";
    let answer = ask(query, &store, (600_000, 600_000, 0), &options, &context).unwrap();
    let (warnings, infos) = answer.annotations.texts(query);
    assert_eq!(
        warnings,
        ["PromQL warning: quantile value should be between 0 and 1, got 2 (2:12)"]
    );
    assert_eq!(
        infos,
        [
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"y\" (1:10)"
        ]
    );
    assert_eq!(answer.stats.total_samples, 2 * 20 + 2);
}

#[test]
fn a_name_goes_at_once_unless_it_is_delayed() {
    let (store, context) = (store(), QueryContext::default());
    let query = "sum by (__name__) (rate(x_total[5m]))";
    for (delays_name_removal, names) in [(false, 0), (true, 1)] {
        let options = Options {
            delays_name_removal,
            ..Options::default()
        };
        let wrapped = format!("label_replace({query}, \"n\", \"$1\", \"__name__\", \"(.+)\")");
        let answer = ask(&wrapped, &store, (600_000, 600_000, 0), &options, &context).unwrap();
        let Value::Vector(vector) = answer.value else {
            panic!("no vector")
        };
        assert_eq!(vector[0].0.len(), names);
    }
}

proptest! {
    #[test]
    fn the_best_of_a_window_is_its_first_or_last_in_order(
        values in proptest::collection::vec((0_i64..4, 0_u8..6), 1..200),
        window in 1_i64..300,
        step in 1_i64..90,
    ) {
        let store = MemoryMetrics::new();
        let labels = Labels::from_pairs([("__name__", "x")]).unwrap();
        let mut time = 0;
        for (gap, value) in values {
            time += gap * gap * 1000;
            let value = if value == 5 { stale_nan() } else { f64::from(value) };
            store.append(&labels, time, value);
        }
        let times = (0, time + 60_000, step * 1000);
        let run = |query: String| {
            let context = QueryContext::default();
            match ask(&query, &store, times, &Options::default(), &context).unwrap().value {
                Value::Matrix(matrix) => matrix.into_iter().map(|s| s.floats).collect::<Vec<_>>(),
                _ => Vec::new(),
            }
        };
        for (best, phi) in [("max", 1), ("min", 0)] {
            let got = run(format!("{best}_over_time(x[{window}s])"));
            let want = run(format!("quantile_over_time({phi}, x[{window}s])"));
            prop_assert_eq!(got, want);
        }
    }
}
