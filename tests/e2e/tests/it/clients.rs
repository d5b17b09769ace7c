//! What people have already: promtool, vmagent, vmalert and Grafana's data source against the
//! server.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use kittiwake_model::{Labels, Metadata};
use kittiwake_wire::remote_write::RequestEncoder;

use crate::harness::{Program, Server, free_address, node, oracle, says, wait_for};

const REMOTE_WRITE: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

fn start(program: &Path, dir: &Path, flags: &[String]) -> Program {
    let mut command = Command::new(program);
    command.args(flags);
    let name = program.file_name().unwrap();
    Program::start(command, &dir.join(name).with_extension("log"))
}

#[test]
fn promtool_asks_and_pushes() {
    let Some(promtool) = oracle("promtool") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), None, &[]);
    let url = server.api().base;
    let metrics = dir.path().join("metrics");
    std::fs::write(&metrics, "# TYPE pushed gauge\npushed{a=\"b\"} 42.5\n").unwrap();
    says(Command::new(&promtool).args(["push", "metrics", &url, &metrics.display().to_string()]));
    let said = says(Command::new(&promtool).args(["query", "instant", &url, "pushed"]));
    assert!(
        said.contains("pushed{a=\"b\"") && said.contains("42.5"),
        "{said}"
    );
    let said =
        says(Command::new(&promtool).args(["query", "range", "--step=15s", &url, "pushed * 2"]));
    assert!(said.contains("85 @"), "{said}");
    let said = says(Command::new(&promtool).args(["query", "series", "--match=pushed", &url]));
    assert!(said.contains("pushed"), "{said}");
    let said = says(Command::new(&promtool).args(["query", "labels", &url, "a"]));
    assert_eq!(said.trim(), "b");
    for check in ["healthy", "ready"] {
        says(Command::new(&promtool).args(["check", check, &format!("--url={url}")]));
    }
    let refused = Command::new(&promtool)
        .args(["query", "instant", &url, "sum("])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("parse error"),
        "{said}"
    );
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}

#[test]
fn vmagent_scrapes_for_us_and_vmalert_evaluates_over_us() {
    let (Some(agent), Some(alert)) = (oracle("vmagent"), oracle("vmalert")) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), None, &[]);
    let (ours, listen) = (server.api(), free_address());
    let scrape = dir.path().join("scrape.yml");
    let text = format!(
        "scrape_configs:\n- job_name: agent\n  scrape_interval: 1s\n  \
         static_configs: [{{targets: ['{listen}']}}]\n"
    );
    std::fs::write(&scrape, text).unwrap();
    let _agent = start(
        &agent,
        dir.path(),
        &[
            format!("-promscrape.config={}", scrape.display()),
            format!("-remoteWrite.url={}/api/v1/write", ours.base),
            format!(
                "-remoteWrite.tmpDataPath={}",
                dir.path().join("queue").display()
            ),
            "-remoteWrite.flushInterval=1s".to_owned(),
            format!("-httpListenAddr={listen}"),
        ],
    );
    wait_for("what vmagent scrapes", || {
        ours.value("up{job=\"agent\"}").filter(|up| *up == 1.0)
    });
    let rules = dir.path().join("rules.yml");
    let text = "groups:\n- name: g\n  interval: 1s\n  rules:\n  \
                - record: agent:up:sum\n    expr: sum by (job) (up{job=\"agent\"})\n  \
                - alert: AgentUp\n    expr: up{job=\"agent\"} == 1\n    labels: {severity: info}\n";
    std::fs::write(&rules, text).unwrap();
    let _alert = start(
        &alert,
        dir.path(),
        &[
            format!("-rule={}", rules.display()),
            format!("-datasource.url={}", ours.base),
            format!("-remoteWrite.url={}", ours.base),
            format!("-remoteRead.url={}", ours.base),
            "-notifier.blackhole".to_owned(),
            format!("-httpListenAddr={}", free_address()),
        ],
    );
    wait_for("what vmalert records", || {
        ours.value("agent:up:sum{job=\"agent\"}")
            .filter(|up| *up == 1.0)
    });
    wait_for("vmalert's alert", || {
        ours.value("ALERTS{alertname=\"AgentUp\",alertstate=\"firing\",severity=\"info\"}")
    });
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}

/// Samples of an hour before `end_ms`, every 15 s, as Grafana's test wants them.
fn requests(end_ms: i64) -> Vec<u8> {
    let mut encoder = RequestEncoder::new();
    let mut series = |pairs: &[(&str, &str)], per_sample: f64| {
        let labels = Labels::from_pairs(pairs.iter().copied()).unwrap();
        let samples =
            (1..=240).map(|at| (end_ms - 3_600_000 + at * 15_000, at as f64 * per_sample));
        encoder.series(&labels, samples);
    };
    for (code, path, per_sample) in [
        ("200", "/", 30.0),
        ("404", "/missing", 7.0),
        ("500", "/fails", 3.0),
    ] {
        let name = ("__name__", "requests_total");
        series(&[name, ("code", code), ("path", path)], per_sample);
    }
    for (le, per_sample) in [("0.1", 1.0), ("1", 5.0), ("+Inf", 6.0)] {
        series(
            &[("__name__", "took_seconds_bucket"), ("le", le)],
            per_sample,
        );
    }
    series(
        &[("__name__", "target_info"), ("service.name", "web ü")],
        1.0,
    );
    encoder.metadata(
        "requests_total",
        &Metadata {
            kind: "counter".to_owned(),
            help: "Requests.".to_owned(),
            unit: String::new(),
        },
    );
    encoder.finish().unwrap()
}

#[test]
fn grafana_asks_with_its_own_code() {
    let Some(mut script) = node("grafana", "prometheus.cjs") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), None, &[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let end_ms = now.as_secs() as i64 * 1_000;
    let sent = server
        .api()
        .post("/api/v1/write", &REMOTE_WRITE, &requests(end_ms));
    assert_eq!(sent.map(|a| a.status), Some(204));
    let said = says(
        script
            .env("KITTIWAKE_URL", server.api().base)
            .env("END_MS", end_ms.to_string())
            .env("PROMETHEUS_VERSION", "3.16.0"),
    );
    for path in [
        "POST api/v1/query_range",
        "POST api/v1/query",
        "POST api/v1/labels",
        "GET api/v1/labels",
        "POST api/v1/series",
        "GET api/v1/metadata",
        "GET api/v1/rules",
        "GET api/v1/query_exemplars",
        "GET api/v1/search/metric_names",
        "GET api/v1/search/label_names",
        "GET api/v1/search/label_values",
    ] {
        assert!(
            said.lines().any(|line| line.contains(path)),
            "{path}: {said}"
        );
    }
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}
