//! Live: both servers are sent the same samples and evaluate the same file of rules at the same
//! times, since a group has the same place in its interval in both.
//!
//! Rules look some seconds back, so that a sample that one server was sent a moment later than
//! the other makes no difference. What is compared is what both have written: every sample of
//! `ALERTS`, `ALERTS_FOR_STATE` and the recorded series; and, once samples have ended, the alerts
//! as the API shows them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kittiwake_model::{Labels, stale_nan};
use kittiwake_wire::remote_write::RequestEncoder;
use serde_json::{Value, json};

use crate::generate::{Generated, Generator};
use crate::harness::{Api, Prometheus, Random, Server, oracle, wait_for};
use crate::{Tally, rules};

const RULES: usize = 300;
const SEED: u64 = 12;
/// How often groups run, in s.
const INTERVAL_S: u64 = 3;
/// How far back rules look, in s.
const OFFSET_S: u64 = 6;
/// How long samples are sent.
const SENT: Duration = Duration::from_mins(1);
const REMOTE_WRITE: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

/// Features that take part in every run: a rule of each kind.
const WANTED: &[&str] = &[
    "record",
    "alert",
    "for",
    "keep_firing_for",
    "label template",
    "annotation template",
    "rate",
    "aggregation",
    "over recorded",
    "over time",
];

/// The file of rules, in groups of some.
fn rule_file(random: &mut Random) -> (Value, Vec<Generated>) {
    let mut groups = Vec::new();
    let mut all: Vec<Generated> = Vec::new();
    let count = rules(RULES);
    let mut recorded: Vec<String> = Vec::new();
    while all.len() < count {
        let mut of_group = Vec::new();
        // A rule may look at what its own group has recorded: what others have is a matter of
        // their place in the interval.
        recorded.clear();
        for _ in 0..=random.below(12) {
            let mut generator = Generator {
                random,
                may_be_timeless: false,
                unit_s: INTERVAL_S,
            };
            let rule = generator.rule(all.len(), &recorded);
            if !rule.is_alert {
                recorded.push(rule.name.clone());
            }
            of_group.push(rule.rule.clone());
            all.push(rule);
        }
        groups.push(json!({"name": format!("g{}", groups.len()), "rules": of_group}));
    }
    (json!({ "groups": groups }), all)
}

/// Series whose values go up, down, away and back.
struct Source {
    series: Vec<(Labels, f64, bool)>,
}

impl Source {
    fn new() -> Self {
        let mut series = Vec::new();
        for name in ["up", "load", "requests_total"] {
            for job in ["a", "b"] {
                for instance in ["h1", "h2", "h3"] {
                    let mut pairs = vec![("__name__", name), ("job", job), ("instance", instance)];
                    if name == "requests_total" {
                        pairs.push(("code", if instance == "h2" { "500" } else { "200" }));
                    }
                    series.push((Labels::from_pairs(pairs).unwrap(), 0.0, true));
                }
            }
        }
        Self { series }
    }

    /// The samples of a time.
    fn body(&mut self, random: &mut Random, time_ms: i64) -> Vec<u8> {
        let mut encoder = RequestEncoder::new();
        for (labels, value, is_there) in &mut self.series {
            if random.below(15) == 0 {
                *is_there = !*is_there;
                if !*is_there {
                    encoder.series(labels, [(time_ms, stale_nan())]);
                }
            }
            if !*is_there {
                continue;
            }
            match labels.metric_name() {
                Some("up") if random.below(8) == 0 => *value = 1.0 - *value,
                Some("load") if random.below(4) == 0 => *value = random.below(20) as f64 / 2.0,
                Some("requests_total") => *value += random.below(64) as f64,
                _ => {}
            }
            encoder.series(labels, [(time_ms, *value)]);
        }
        encoder.finish().unwrap()
    }
}

fn send(servers: &[&Api], body: &[u8]) {
    for api in servers {
        let answer = api.post("/api/v1/write", &REMOTE_WRITE, body).unwrap();
        assert!(answer.status < 300, "{}: {}", answer.status, answer.text);
    }
}

/// All samples of series since a time, by their labels.
fn written(api: &Api, name: &str, from_ms: i64, to_ms: i64) -> BTreeMap<String, String> {
    let query = format!("{{__name__=~\"{name}\"}}[{}ms]", to_ms - from_ms);
    let time = format!("{}.{:03}", to_ms / 1000, to_ms % 1000);
    let answer = api.get("/api/v1/query", &[("query", &query), ("time", &time)]);
    let json = answer.unwrap().json();
    assert_eq!(json["status"], "success", "{json}");
    let series = json["data"]["result"].as_array().unwrap().iter();
    let pair = |s: &Value| {
        let histograms = &s["histograms"];
        (
            s["metric"].to_string(),
            format!("{}{histograms}", s["values"]),
        )
    };
    series.map(pair).collect()
}

/// The alerts as the API shows them, without their order.
fn alerts(api: &Api) -> Vec<String> {
    let json = api.get("/api/v1/alerts", &[]).unwrap().json();
    let alerts = json["data"]["alerts"].as_array().unwrap().iter();
    let mut all: Vec<String> = alerts.map(Value::to_string).collect();
    all.sort();
    all
}

/// Per rule: what it is and what was wrong with it.
fn health(api: &Api) -> BTreeMap<String, String> {
    let json = api.get("/api/v1/rules", &[]).unwrap().json();
    let groups = json["data"]["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    rules
        .map(|rule| {
            let of = |name: &str| rule[name].to_string();
            let shown = [
                "type",
                "query",
                "labels",
                "annotations",
                "duration",
                "keepFiringFor",
            ];
            let shown = shown.map(of).join(" ");
            (of("name"), shown)
        })
        .collect()
}

fn config(dir: &Path) -> String {
    format!(
        "global: {{evaluation_interval: {INTERVAL_S}s, rule_query_offset: {OFFSET_S}s, external_labels: {{dc: x}}}}\nrule_files: ['{}']\n",
        dir.join("rules.json").display()
    )
}

#[test]
fn both_servers_write_and_show_the_same() {
    let Some(prometheus) = oracle("prometheus") else {
        return;
    };
    let mut random = Random::seeded(SEED);
    let dir = tempfile::tempdir().unwrap();
    let (file, generated) = rule_file(&mut random);
    std::fs::write(dir.path().join("rules.json"), file.to_string()).unwrap();
    let yaml = config(dir.path());
    let ours_yaml = dir.path().join("ours.yml");
    std::fs::write(&ours_yaml, &yaml).unwrap();
    let url = "--web.external-url=http://k.example/p";
    let flags = [
        "--web.enable-remote-write-receiver",
        "--log.level=error",
        "--web.route-prefix=/",
        url,
    ];
    let prometheus = Prometheus::start(&prometheus, dir.path(), "theirs", &yaml, &flags);
    let file = format!("--config.file={}", ours_yaml.display());
    let server = Server::start(dir.path(), None, &[&file, url]);
    let (theirs, ours) = (prometheus.api(), server.api());
    // Both have gone over the runs after which they write the states of alerts.
    std::thread::sleep(Duration::from_secs(4 * INTERVAL_S));
    let mut source = Source::new();
    let (begun, from_ms) = (Instant::now(), now_ms());
    while begun.elapsed() < SENT {
        let time_ms = now_ms();
        let body = source.body(&mut random, time_ms);
        send(&[&ours, &theirs], &body);
        std::thread::sleep(
            Duration::from_secs(1)
                .saturating_sub(Duration::from_millis((now_ms() - time_ms) as u64)),
        );
    }
    // The last sample is seen by a run of each group.
    std::thread::sleep(Duration::from_secs(OFFSET_S + 2 * INTERVAL_S));
    let to_ms = now_ms() - (OFFSET_S as i64 + 1) * 1000;
    let mut differ = Vec::new();
    let mut all = String::new();
    for name in ["rec:.*", "ALERTS", "ALERTS_FOR_STATE"] {
        let (a, b) = (
            written(&theirs, name, from_ms, to_ms),
            written(&ours, name, from_ms, to_ms),
        );
        eprintln!("{name}: {} series", a.len());
        for key in a
            .keys()
            .chain(b.keys())
            .filter(|key| a.get(*key) != b.get(*key))
        {
            differ.push(format!(
                "{key}\n  theirs {:?}\n  ours   {:?}",
                a.get(key),
                b.get(key)
            ));
        }
        for key in a.keys() {
            all.push_str(key);
        }
    }
    differ.sort();
    differ.dedup();
    let mut tally = Tally::default();
    for rule in &generated {
        if all.contains(&format!("\"{}\"", rule.name)) {
            tally.count(&rule.features);
        }
    }
    tally.verdict(WANTED, 2);
    for text in differ.iter().take(10) {
        eprintln!("DIFFERS: {text}");
    }
    assert!(differ.is_empty(), "{} series differ", differ.len());
    assert_eq!(health(&theirs), health(&ours));
    // They are asked one after the other, and a run may be between.
    wait_for("both to show the same alerts", || {
        let (a, b) = (alerts(&theirs), alerts(&ours));
        (a == b && !a.is_empty()).then_some(())
    });
}
