//! Each query of the dashboards answers from what the collector itself gathered.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Api, Engine, Server, wait_for};

/// A query as Grafana would send it, its variables set.
fn filled_in(query: &str) -> String {
    let variables = [
        ("$host", ".+"),
        ("$container", ".+"),
        ("$__rate_interval", "1m"),
        ("$__auto", "1m"),
        ("$__range", "1h"),
        ("$project", ".+"),
        ("$service", ".+"),
    ];
    let mut query = query.to_owned();
    for (name, value) in variables {
        query = query.replace(name, value);
    }
    assert!(!query.contains('$'), "a variable is not known: {query}");
    query
}

fn answers(api: &Api, target: &Value) -> bool {
    let query = filled_in(target["expr"].as_str().unwrap());
    let path = match target["datasource"]["type"].as_str().unwrap() {
        "prometheus" => "/api/v1/query",
        "loki" => "/loki/api/v1/query_range",
        other => panic!("no data source {other}"),
    };
    let answer = api.get(path, &[("query", &query)]).unwrap();
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    let body = answer.json();
    !body["data"]["result"].as_array().unwrap().is_empty()
}

/// Gives a container without network an interface, as a bridge would.
fn give_interface(engine: &Engine, id: &str) {
    let pid = engine.docker(&["inspect", "--format", "{{.State.Pid}}", id]);
    let mut command = std::process::Command::new("nsenter");
    command.args([
        "-t", &pid, "-n", "ip", "link", "add", "eth0", "type", "veth",
    ]);
    command.args(["peer", "name", "eth1"]);
    assert!(command.status().unwrap().success(), "{command:?}");
}

#[test]
fn every_query_of_a_dashboard_answers() {
    let Some(engine) = Engine::for_tests() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // An alert that fires at once.
    let config = dir.path().join("prometheus.yml");
    std::fs::write(
        dir.path().join("rules.yml"),
        "groups: [{name: shown, interval: 1s, rules: [{alert: Shown, expr: vector(1)}]}]",
    )
    .unwrap();
    std::fs::write(&config, "rule_files: [rules.yml]").unwrap();
    let config = config.display().to_string();
    let mut server = Server::start(dir.path(), Some(&engine), &["--config.file", &config]);
    let api = server.api();
    let script = "while true; do dd if=/dev/zero of=/f bs=64k count=1 oflag=direct; \
                  dd if=/f of=/dev/null iflag=direct bs=64k; echo line; echo level=error; sleep 1; done";
    let limits = engine.block_limits();
    let mut limits: Vec<&str> = limits.iter().map(String::as_str).collect();
    limits.extend([
        "--label=com.docker.compose.project=shop",
        "--label=com.docker.compose.service=web",
    ]);
    let container = engine.run("shown", &limits, script);
    give_interface(&engine, &container.id);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboards");
    let mut queries = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let what = format!("{} of {}: {target}", panel["title"], file.display());
                wait_for(&what, || answers(&api, target).then_some(()));
                queries += 1;
            }
        }
    }
    assert!(queries >= 80, "{queries} queries");
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}
