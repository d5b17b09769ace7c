//! Prometheus' own test scripts, over the store in memory, and what must hold for any query.
//!
//! The scripts are data beside the project; a checkout without them skips that test and says
//! so. Per script a number of evaluations must pass, which may only rise.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

#[path = "it/script.rs"]
mod script;

use std::path::PathBuf;

use kittiwake_model::memory::MemoryMetrics;
use kittiwake_model::{Labels, QueryContext, stale_nan};
use kittiwake_promql::{Options, Value, instant, parse, range};

/// Evaluations per script that pass; what fails needs functions or histograms still to come.
const FLOORS: [(&str, usize); 7] = [
    ("aggregators.test", 154),
    ("functions.test", 308),
    ("histograms.test", 56),
    ("literals.test", 25),
    ("operators.test", 207),
    ("range_queries.test", 11),
    ("selectors.test", 31),
];

fn scripts() -> Option<PathBuf> {
    let dir = std::env::var_os("CONFORMANCE_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"),
        PathBuf::from,
    );
    let dir = dir.join("promql");
    dir.is_dir().then_some(dir)
}

#[test]
fn prometheus_scripts() {
    let Some(dir) = scripts() else {
        println!("skipped: no conformance data; CONFORMANCE_DIR names its folder");
        return;
    };
    let mut fallen = Vec::new();
    for (name, floor) in FLOORS {
        let text = std::fs::read_to_string(dir.join(name)).unwrap();
        let result = script::run(&text);
        println!(
            "{name}: {} passed, {} failed",
            result.passed,
            result.failures.len()
        );
        for failure in &result.failures {
            println!("  {failure}");
        }
        if result.passed < floor {
            fallen.push(format!("{name}: {} of {floor}", result.passed));
        }
    }
    assert!(fallen.is_empty(), "{fallen:?}");
}

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
    }
    store
}

#[test]
fn a_range_query_is_the_instant_queries_of_its_steps() {
    let store = store();
    for query in [
        "x_total",
        "rate(x_total[1m])",
        "sum by (instance) (increase(x_total[5m] offset 1m))",
        "x_total / on(instance) y",
        "y > 30",
        "topk(1, x_total)",
        "max_over_time(rate(x_total[1m])[5m:30s])",
        "x_total @ 600",
        "x_total @ end()",
        "absent(nonsense{a=\"b\"})",
        "y or x_total",
        "x_total unless y > 100",
        "quantile(0.5, x_total)",
        "time() - timestamp(y)",
        "count_values(\"v\", y)",
        "-x_total",
        "scalar(sum(y)) + 1",
    ] {
        let expr = parse(query).unwrap();
        let (options, context) = (Options::default(), QueryContext::default());
        let (start, end, step) = (0, 3_300_000, 41_000);
        let Value::Matrix(matrix) =
            range(&expr, &store, start, end, step, &options, &context).unwrap()
        else {
            panic!("{query}: no matrix")
        };
        // `@ end()` is the end of the range.
        if query.contains("end()") {
            assert!(
                matrix
                    .iter()
                    .all(|(_, points)| points.iter().all(|p| p.1 == points[0].1))
            );
            continue;
        }
        for time in (start..=end).step_by(step as usize) {
            let at_time = matrix.iter().filter_map(|(labels, points)| {
                let point = points.iter().find(|(t, _)| *t == time)?;
                Some((labels.clone(), point.1.to_bits()))
            });
            let mut at_time: Vec<(Labels, u64)> = at_time.collect();
            let mut single: Vec<(Labels, u64)> =
                match instant(&expr, &store, time, &options, &context).unwrap() {
                    Value::Vector(vector) => vector
                        .into_iter()
                        .map(|(l, _, v)| (l, v.to_bits()))
                        .collect(),
                    Value::Scalar(_, value) => vec![(Labels::empty(), value.to_bits())],
                    other => panic!("{query}: {other:?}"),
                };
            at_time.sort();
            single.sort();
            assert_eq!(at_time, single, "{query} at {time}");
        }
    }
}

#[test]
fn a_limit_and_a_cancelled_query_end_it() {
    let store = store();
    let expr = parse("rate(x_total[5m])").unwrap();
    let mut context = QueryContext::default();
    context.samples_max = 10;
    let run = |context: &QueryContext| {
        range(
            &expr,
            &store,
            0,
            600_000,
            15_000,
            &Options::default(),
            context,
        )
    };
    assert!(
        run(&context)
            .unwrap_err()
            .to_string()
            .contains("too many samples")
    );
    let context = QueryContext::default();
    context.cancel.cancel();
    assert!(run(&context).unwrap_err().to_string().contains("canceled"));
}
