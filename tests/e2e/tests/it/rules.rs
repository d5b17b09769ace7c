//! Rules in the built program: their alerts reach a real Alertmanager, and what is pending stays
//! so over a crash.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Alertmanager, Api, Server, free_address, oracle, wait_for};

const ALERTMANAGER: &str = "route: {receiver: none}\nreceivers: [{name: none}]\n";

/// The alert of a name that an Alertmanager has.
fn alert_of(alertmanager: &Alertmanager, name: &str) -> Option<Value> {
    let answer = alertmanager.api().get("/api/v2/alerts", &[])?;
    let alerts = answer.json();
    let mut alerts = alerts.as_array()?.iter();
    let found = alerts.find(|alert| alert["labels"]["alertname"] == name);
    found.cloned()
}

fn write_rules(dir: &Path, expr: &str) {
    let text = format!(
        "groups:\n- name: g\n  rules:\n  - {{alert: Fires, expr: '{expr}', labels: {{severity: page, replica: a}}, annotations: {{text: 'value {{{{ $value }}}}'}}}}\n  - {{alert: Waits, expr: vector(1), for: 1h}}\n"
    );
    std::fs::write(dir.join("rules.yml"), text).unwrap();
}

fn waiting_since(api: &Api) -> Option<String> {
    let alerts = api.get("/api/v1/alerts", &[])?.json();
    let mut alerts = alerts["data"]["alerts"].as_array()?.iter();
    let alert = alerts.find(|alert| alert["labels"]["alertname"] == "Waits")?;
    Some(alert["activeAt"].as_str()?.to_owned())
}

#[test]
fn alerts_reach_an_alertmanager_and_end_there() {
    let Some(path) = oracle("alertmanager") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let alertmanager = Alertmanager::start(&path, dir.path(), ALERTMANAGER, &[]);
    write_rules(dir.path(), "vector(2)");
    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "global: {{evaluation_interval: 1s, external_labels: {{dc: x}}}}\nrule_files: [rules.yml]\nalerting:\n  alert_relabel_configs: [{{regex: replica, action: labeldrop}}]\n  alertmanagers: [{{static_configs: [{{targets: ['{}', '{}']}}]}}]\n",
        alertmanager.address(),
        free_address()
    );
    std::fs::write(&config, text).unwrap();
    let flags = [
        "--config.file",
        config.to_str().unwrap(),
        "--web.enable-lifecycle",
        "--rules.alert.resend-delay",
        "1s",
    ];
    let server = Server::start(dir.path(), None, &flags);
    let api = server.api();
    let alert = wait_for("the alert to arrive", || alert_of(&alertmanager, "Fires"));
    let labels = serde_json::json!({"alertname": "Fires", "severity": "page", "dc": "x"});
    assert_eq!(alert["labels"], labels);
    assert_eq!(alert["annotations"]["text"], "value 2");
    let generator = alert["generatorURL"].as_str().unwrap();
    assert!(
        generator.ends_with("/graph?g0.expr=vector%282%29&g0.tab=1"),
        "{generator}"
    );
    assert!(alert_of(&alertmanager, "Waits").is_none());
    // The one in the program has it too.
    let own = api.get("/alertmanager/api/v2/alerts", &[]).unwrap().json();
    assert_eq!(own[0]["labels"], labels, "{own}");
    let known = api.get("/api/v1/alertmanagers", &[]).unwrap().json();
    assert_eq!(
        known["data"]["activeAlertmanagers"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let metrics = api.get("/metrics", &[]).unwrap().text;
    assert!(
        metrics.contains("prometheus_notifications_sent_total"),
        "{metrics}"
    );
    assert!(
        metrics.contains("prometheus_notifications_errors_total"),
        "{metrics}"
    );
    write_rules(dir.path(), "vector(2) > 3");
    let reloaded = api.post("/-/reload", &[], &[]).unwrap();
    assert_eq!(reloaded.status, 200, "{}", reloaded.text);
    wait_for("the alert to end", || {
        alert_of(&alertmanager, "Fires").is_none().then_some(())
    });
}

#[test]
fn what_is_pending_stays_so_over_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    write_rules(dir.path(), "vector(2)");
    let config = dir.path().join("prometheus.yml");
    let text = "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n";
    std::fs::write(&config, text).unwrap();
    let flags = ["--config.file", config.to_str().unwrap()];
    let mut server = Server::start(dir.path(), None, &flags);
    let since = wait_for("an alert that waits", || waiting_since(&server.api()));
    wait_for("its state to be written", || {
        server.api().value("ALERTS_FOR_STATE{alertname=\"Waits\"}")
    });
    std::thread::sleep(Duration::from_secs(3));
    server.program.kill();
    std::thread::sleep(Duration::from_secs(3));
    server.restart();
    let seconds = |text: &str| {
        let clock = text.split('T').nth(1).unwrap();
        let parts = clock.trim_end_matches('Z').split(':');
        parts.fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
    };
    // The time that it was down does not count, the time before does.
    wait_for("the state to be taken up", || {
        let now = waiting_since(&server.api())?;
        let (before, after) = (seconds(&since), seconds(&now));
        let moved = (after - before).rem_euclid(86_400.0);
        let started = server.api().value("vector(time() % 86400)")?;
        // It would have begun anew at the restart.
        (moved < (started - before).rem_euclid(86_400.0) - 3.0).then_some(())
    });
}
