//! As unit tests: `promtool test rules` and `kittiwake test rules` are told to expect nothing, and
//! must find the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::generate::{FEATURES, Generated, Generator, TIMELESS};
use crate::harness::{Random, built, oracle};
use crate::{Tally, rules};

const RULES: usize = 1_000;
/// Rules of one file.
const OF_FILE: usize = 40;
const SEED: u64 = 11;
/// Samples of each series, one every half minute.
const SAMPLES: usize = 80;

/// A series' values in the notation of tests.
fn values(random: &mut Random, name: &str) -> String {
    let mut items: Vec<String> = Vec::new();
    let mut count = 0;
    while count < SAMPLES {
        let times = 1 + random.below(12) as usize;
        count += times;
        let start = random.below(20) as f64 / 2.0;
        let item = match (name, random.below(8)) {
            (_, 0) => format!("_x{times}"),
            (_, 1) => "stale".to_owned(),
            ("up", _) => format!("{}x{times}", random.below(2)),
            ("sizes", _) => format!(
                "{{{{schema:0 count:{0} sum:{0} buckets:[{0}]}}}}x{times}",
                1 + random.below(6)
            ),
            ("requests_total", _) => format!("{start}+{}x{times}", random.below(40)),
            _ => format!("{start}+0.5x{times}"),
        };
        items.push(item);
    }
    items.join(" ")
}

fn series(random: &mut Random) -> Vec<Value> {
    let mut all = Vec::new();
    for (name, codes) in [
        ("up", &[""][..]),
        ("load", &[""]),
        ("sizes", &[""]),
        ("requests_total", &[",code=\"200\"", ",code=\"500\""]),
    ] {
        for job in ["a", "b"] {
            for instance in ["h1", "h2", "h3"] {
                for code in codes {
                    let series = format!("{name}{{job=\"{job}\",instance=\"{instance}\"{code}}}");
                    all.push(json!({"series": series, "values": values(random, name)}));
                }
            }
        }
    }
    all
}

/// A file of rules, in groups of some, and the test of it.
fn files(random: &mut Random, rules: &[Generated], inputs: &[Value]) -> (Value, Value) {
    let mut groups = Vec::new();
    let mut rest = rules;
    while !rest.is_empty() {
        let (now, later) = rest.split_at((1 + random.below(12) as usize).min(rest.len()));
        rest = later;
        let of_group: Vec<&Value> = now.iter().map(|rule| &rule.rule).collect();
        let mut group = json!({"name": format!("g{}", groups.len()), "rules": of_group});
        if random.below(3) == 0 {
            group["labels"] = json!({"team": "t", "severity": "group"});
        }
        if random.below(4) == 0 {
            group["query_offset"] = json!(format!("{}s", 30 * (1 + random.below(3))));
        }
        groups.push(group);
    }
    let order: Vec<Value> = groups.iter().map(|group| group["name"].clone()).collect();
    let mut alerts = Vec::new();
    let mut expressions = Vec::new();
    for minute in [1, 4, 7, 12, 15, 19, 24, 30, 37] {
        let time = format!("{minute}m");
        for rule in rules.iter().filter(|rule| rule.is_alert) {
            alerts.push(json!({"eval_time": time, "alertname": rule.name}));
        }
        for expr in ["{__name__=~\"rec:.*\"}", "ALERTS", "ALERTS_FOR_STATE"] {
            expressions.push(json!({"expr": expr, "eval_time": time}));
        }
    }
    let test = json!({
        "rule_files": ["rules.yml"],
        "evaluation_interval": "30s",
        "group_eval_order": order,
        "tests": [{
            "interval": "30s",
            "name": "generated",
            "input_series": inputs,
            "external_labels": {"dc": "x"},
            "external_url": "http://k.example/p",
            "alert_rule_test": alerts,
            "promql_expr_test": expressions,
        }],
    });
    (json!({ "groups": groups }), test)
}

fn told(program: &Path, dir: &Path) -> String {
    let out = Command::new(program)
        .args(["test", "rules", "test.yml"])
        .current_dir(dir)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", out.status, text(&out.stdout), text(&out.stderr))
}

/// The findings of an output, each with its lines.
fn findings(told: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in told.lines() {
        let begins = line.starts_with("    name: ")
            || line.starts_with("    expr: ")
            || line.starts_with("    rule: ");
        match all.last_mut() {
            Some(last) if !begins => {
                last.push('\n');
                last.push_str(line);
            }
            _ => all.push(line.to_owned()),
        }
    }
    all
}

fn failed_at_all(findings: &[String], name: &str) -> bool {
    let begin = format!("    rule: {name}, ");
    findings.iter().any(|finding| finding.starts_with(&begin))
}

/// Tells the first difference; keeps the files.
fn differs(dir: tempfile::TempDir, theirs: &[String], ours: &[String]) -> PathBuf {
    let kept = dir.keep();
    let pair = theirs
        .iter()
        .skip(1)
        .zip(ours.iter().skip(1))
        .find(|(a, b)| a != b);
    let (count, other) = (theirs.len(), ours.len());
    eprintln!(
        "DIFFERS in {}: {count} and {other} findings",
        kept.display()
    );
    if let Some((theirs, ours)) = pair {
        // The parts of a finding that only one has.
        let parts = |text: &str| -> Vec<String> {
            let parts = text.split(", {__name__").flat_map(|part| part.split('\n'));
            parts.map(str::to_owned).collect()
        };
        let (theirs, ours) = (parts(theirs), parts(ours));
        eprintln!("{}", theirs.first().map_or("", String::as_str));
        for part in theirs.iter().filter(|part| !ours.contains(part)).take(5) {
            eprintln!("theirs: {part}");
        }
        for part in ours.iter().filter(|part| !theirs.contains(part)).take(5) {
            eprintln!("ours: {part}");
        }
    }
    kept
}

#[test]
fn both_tools_find_the_same() {
    let Some(promtool) = oracle("promtool") else {
        return;
    };
    let kittiwake = built("kittiwake");
    let mut random = Random::seeded(SEED);
    let mut tally = Tally::default();
    let count = rules(RULES);
    let mut number = 0;
    let mut failed = Vec::new();
    while number < count {
        let mut recorded: Vec<String> = Vec::new();
        let mut generated = Vec::new();
        for _ in 0..OF_FILE {
            let mut generator = Generator {
                random: &mut random,
                may_be_timeless: true,
                unit_s: 30,
            };
            let rule = generator.rule(number, &recorded);
            number += 1;
            if !rule.is_alert {
                recorded.push(rule.name.clone());
            }
            generated.push(rule);
        }
        let inputs = series(&mut random);
        // A rule whose evaluation fails ends the test; both must say so, and then it is left out.
        while !generated.is_empty() {
            let dir = tempfile::tempdir().unwrap();
            let (rule_file, test) = files(&mut random, &generated, &inputs);
            std::fs::write(dir.path().join("rules.yml"), rule_file.to_string()).unwrap();
            std::fs::write(dir.path().join("test.yml"), test.to_string()).unwrap();
            let theirs = findings(&told(&promtool, dir.path()));
            let ours = findings(&told(&kittiwake, dir.path()));
            if theirs != ours {
                failed.push(differs(dir, &theirs, &ours));
                break;
            }
            let before = generated.len();
            generated.retain(|rule| !failed_at_all(&theirs, &rule.name));
            if generated.len() < before {
                tally.count(&["evaluation that fails"]);
                continue;
            }
            let all = theirs.concat();
            for rule in &generated {
                if all.contains(&format!("\"{}\"", rule.name)) {
                    tally.count(&rule.features);
                }
            }
            break;
        }
    }
    eprintln!("{number} rules");
    let wanted = [FEATURES, TIMELESS, &["evaluation that fails"]].concat();
    tally.verdict(&wanted, if count >= RULES { 3 } else { 0 });
    assert!(failed.is_empty(), "{} files differ", failed.len());
}
