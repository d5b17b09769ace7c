//! Rules in the server: evaluated over its stores, shown by its APIs.

use std::path::PathBuf;

use kittiwake_env::{Clock as _, RealClock};
use kittiwake_server::app::Options;
use kittiwake_server::lifecycle;
use serde_json::{Value, json};

use crate::harness::{Server, configured, labels};

const METRICS: &str = "groups:
- name: first
  limit: 9
  labels: {team: a}
  rules:
  - {record: 'job:up', expr: 'sum by (job) (up)'}
  - {alert: Down, expr: up == 0, for: 1m, annotations: {text: '{{ $labels.job }} at {{ $externalURL }}'}, labels: {severity: page}}
  - {alert: Never, expr: up == 7}
- name: second
  interval: 30s
  rules:
  - {record: two, expr: vector(2)}
";

const LOGS: &str = "groups:
- name: lines
  type: logql
  rules:
  - {alert: Errors, expr: 'sum by (app) (count_over_time({app=\"x\"} |= \"error\" [1h])) > 0'}
  - {record: 'app:lines', expr: 'sum by (app) (count_over_time({app=\"x\"}[1h]))'}
";

struct World {
    server: Server,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("metrics.yml"), METRICS).unwrap();
        std::fs::write(dir.path().join("logs.yml"), LOGS).unwrap();
        let yaml = format!("rule_files: ['{}/*.yml']\n", dir.path().display());
        let mut options = Options::default();
        "http://k.example".clone_into(&mut options.rules.external_url);
        let server = configured(&yaml, options);
        server.app.load_rules().unwrap();
        Self { server, dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn evaluate(&self, time_ns: i64) {
        for group in self.server.app.rules.groups() {
            group
                .rules
                .iter()
                .for_each(kittiwake_rules::Rule::set_restored);
            group.evaluate(time_ns, self.server.app.rules.environment());
        }
    }

    async fn get(&self, path: &str) -> Value {
        self.server.get(path).await.data()
    }
}

fn names(groups: &Value) -> Vec<String> {
    let groups = groups["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| {
        let rules = group["rules"].as_array().unwrap().iter();
        rules.map(|rule| rule["name"].as_str().unwrap().to_owned())
    });
    rules.collect()
}

#[tokio::test]
async fn rules_and_alerts_are_evaluated_and_shown() {
    let world = World::new();
    let now_ns = RealClock::new().now_ns();
    let now_ms = now_ns / 1_000_000;
    let (up, down) = (
        labels(&[("__name__", "up"), ("job", "a")]),
        labels(&[("__name__", "up"), ("job", "b")]),
    );
    world
        .server
        .write(&[(&up, &[(now_ms, 1.0)]), (&down, &[(now_ms, 0.0)])])
        .await;
    let push = json!({"streams": [{"stream": {"app": "x"}, "values": [
        [now_ns.to_string(), "an error"], [(now_ns + 1).to_string(), "fine"]
    ]}]});
    let kind = [("content-type", "application/json")];
    let body = push.to_string().into_bytes();
    world.server.post("/loki/api/v1/push", &kind, body).await;
    world.evaluate(now_ns + 1_000_000_000);
    world.evaluate(now_ns + 61_000_000_000);
    // What was recorded is in the store.
    let later = (now_ms + 61_000) as f64 / 1000.0;
    for (query, wanted) in [
        ("job:up{job=\"a\",team=\"a\"}", "1"),
        ("app:lines{app=\"x\"}", "2"),
        ("ALERTS{alertname=\"Down\",alertstate=\"firing\"}", "1"),
    ] {
        let got = world.server.value(query, later).await;
        assert_eq!(got.as_deref(), Some(wanted), "{query}");
    }
    let alerts = world.get("/api/v1/alerts").await;
    let alert = &alerts["alerts"][0];
    assert_eq!(alert["state"], "firing");
    assert_eq!(alert["value"], "0e+00");
    assert_eq!(alert["annotations"]["text"], "b at http://k.example");
    let wanted = json!({"alertname": "Down", "job": "b", "severity": "page", "team": "a"});
    assert_eq!(alert["labels"], wanted);
    assert_eq!(alerts["alerts"].as_array().unwrap().len(), 1);

    let rules = world.get("/api/v1/rules").await;
    assert_eq!(names(&rules), ["job:up", "Down", "Never", "two"]);
    let group = &rules["groups"][0];
    assert_eq!(
        (group["interval"].as_f64(), group["limit"].as_i64()),
        (Some(60.0), Some(9))
    );
    assert_eq!(
        group["file"],
        world.file("metrics.yml").display().to_string()
    );
    assert_eq!(group["rules"][0]["query"], "sum by (job) (up)");
    assert_eq!(group["rules"][1]["state"], "firing");
    assert_eq!(group["rules"][1]["duration"], 60);
    assert_eq!(group["rules"][2]["state"], "inactive");
    assert_eq!(group["rules"][2]["health"], "ok");

    let logs = world.server.get("/prometheus/api/v1/rules").await.json();
    assert_eq!(names(&logs["data"]), ["Errors", "app:lines"]);
    assert_eq!(logs["errorType"], "");
    let alerts = world.server.get("/prometheus/api/v1/alerts").await.json();
    assert_eq!(alerts["data"]["alerts"][0]["labels"]["app"], "x");
    let yaml = world.server.get("/loki/api/v1/rules").await.text();
    assert!(
        yaml.contains("alert: Errors") && !yaml.contains("Down"),
        "{yaml}"
    );
    let metrics = world.server.get("/metrics").await.text();
    let key = format!("{};first", world.file("metrics.yml").display());
    let counted = format!("prometheus_rule_evaluations_total{{rule_group=\"{key}\"}} 6");
    assert!(metrics.contains(&counted), "{metrics}");
}

#[tokio::test]
async fn rules_are_asked_for_by_kind_name_and_page() {
    let world = World::new();
    for (query, wanted) in [
        ("type=alert", &["Down", "Never"][..]),
        ("type=record", &["job:up", "two"]),
        ("rule_name[]=two&rule_name[]=Down", &["Down", "two"]),
        ("rule_group[]=second", &["two"]),
        ("file[]=none", &[]),
        ("match[]={team=\"a\"}", &["job:up", "Down", "Never"]),
        ("match[]={severity=\"page\"}", &["Down"]),
        ("group_limit=1", &["job:up", "Down", "Never"]),
        ("group_limit=2", &["job:up", "Down", "Never", "two"]),
    ] {
        let path = format!(
            "/api/v1/rules?{}",
            query
                .replace('"', "%22")
                .replace('{', "%7B")
                .replace('}', "%7D")
        );
        assert_eq!(names(&world.get(&path).await), wanted, "{query}");
    }
    let first = world.get("/api/v1/rules?group_limit=1").await;
    let token = first["groupNextToken"].as_str().unwrap();
    let path = format!("/api/v1/rules?group_limit=1&group_next_token={token}");
    let second = world.get(&path).await;
    assert_eq!(names(&second), ["two"]);
    assert!(second.get("groupNextToken").is_none());
    let without = world
        .get("/api/v1/rules?exclude_alerts=true&rule_name[]=Down")
        .await;
    assert!(without["groups"][0]["rules"][0]["alerts"].is_null());
    for query in [
        "group_limit=0",
        "group_next_token=x",
        "group_limit=1&group_next_token=x",
        "exclude_alerts=x",
    ] {
        let answer = world.server.get(&format!("/api/v1/rules?{query}")).await;
        assert_eq!(answer.error().1, "bad_data", "{query}");
    }
}

#[tokio::test]
async fn a_wrong_file_keeps_the_rules_and_is_told() {
    let world = World::new();
    let metrics = world.file("metrics.yml");
    std::fs::write(&metrics, METRICS.replace("sum by", "sum buy")).unwrap();
    let error = lifecycle::reload(&world.server.app).unwrap_err();
    assert!(error.contains("metrics.yml: 6:"), "{error}");
    assert!(error.contains("could not parse expression"), "{error}");
    assert_eq!(world.server.app.rules.groups().len(), 3);
    let text = world.server.get("/metrics").await.text();
    assert!(text.contains("prometheus_config_last_reload_successful 0"));
    std::fs::write(&metrics, METRICS.replace("job:up", "job:down")).unwrap();
    lifecycle::reload(&world.server.app).unwrap();
    let rules = world.get("/api/v1/rules?type=record").await;
    assert_eq!(names(&rules), ["job:down", "two"]);
    let text = world.server.get("/metrics").await.text();
    assert!(text.contains("prometheus_config_last_reload_successful 1"));
}

#[tokio::test]
async fn a_pool_whose_discovery_is_not_there_yet_says_so() {
    let yaml = "scrape_configs:\n- job_name: cloud\n  consul_sd_configs: [{server: 'h:1'}]\n- job_name: fixed\n  static_configs: [{targets: ['h:2']}]\n";
    let server = configured(yaml, Options::default());
    let answer = server.get("/api/v1/targets").await.json();
    let wanted =
        "scrape pool \"cloud\": consul_sd_configs finds no targets, it is not supported yet";
    assert_eq!(answer["warnings"], json!([wanted]));
    let answer = server.get("/api/v1/targets?scrapePool=fixed").await.json();
    assert!(answer.get("warnings").is_none(), "{answer}");
}
