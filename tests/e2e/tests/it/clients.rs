//! What people have already: promtool, vmagent and vmalert against the server.

use std::path::Path;
use std::process::Command;

use crate::harness::{Program, Server, free_address, oracle, wait_for};

/// Runs a program to its end, which must be a good one, and gives what it prints.
fn says(program: &Path, words: &[&str]) -> String {
    let out = Command::new(program).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{words:?}: {said}{errors}");
    said
}

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
    says(
        &promtool,
        &["push", "metrics", &url, &metrics.display().to_string()],
    );
    let said = says(&promtool, &["query", "instant", &url, "pushed"]);
    assert!(
        said.contains("pushed{a=\"b\"") && said.contains("42.5"),
        "{said}"
    );
    let said = says(
        &promtool,
        &["query", "range", "--step=15s", &url, "pushed * 2"],
    );
    assert!(said.contains("85 @"), "{said}");
    let said = says(&promtool, &["query", "series", "--match=pushed", &url]);
    assert!(said.contains("pushed"), "{said}");
    let said = says(&promtool, &["query", "labels", &url, "a"]);
    assert_eq!(said.trim(), "b");
    for check in ["healthy", "ready"] {
        says(&promtool, &["check", check, &format!("--url={url}")]);
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
