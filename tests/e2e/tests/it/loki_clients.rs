//! Loki's own command line, clients of its push API, OpenTelemetry's exporter, the calls of
//! Grafana's Loki data source, and what checks the search's OpenAPI description.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{Api, Program, Server, node, oracle, says, wait_for};

/// Lines of the stream that is asked for, a second apart, the newest a minute ago.
const LINES: i64 = 20;

fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_nanos() as i64
}

/// A server with a stream of logfmt lines, and the time of the first.
fn filled(dir: &Path) -> (Server, i64) {
    let server = Server::start(dir, None, &[]);
    let start_ns = now_ns() - 60_000_000_000 - LINES * 1_000_000_000;
    let line = |i: i64| {
        format!(
            "level=info status={} took={i}ms msg=\"request {i}\"",
            200 + i % 2
        )
    };
    let time = |i: i64| (start_ns + i * 1_000_000_000).to_string();
    let values = (0..LINES).map(|i| json!([time(i), line(i), {"trace_id": format!("t{i}")}]));
    push(
        &server.api(),
        &json!({"app": "shop", "env": "prod"}),
        &values.collect::<Vec<_>>(),
    );
    (server, start_ns)
}

fn push(api: &Api, labels: &Value, values: &[Value]) {
    let body = json!({"streams": [{"stream": labels, "values": values}]});
    let kind = [("content-type", "application/json")];
    let sent = api.post("/loki/api/v1/push", &kind, body.to_string().as_bytes());
    assert_eq!(sent.map(|a| a.status), Some(204));
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients")
}

#[test]
fn logcli_asks_and_follows() {
    let Some(logcli) = oracle("logcli") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (mut server, _) = filled(dir.path());
    let url = server.api().base;
    let ask = |words: &[&str]| {
        let mut command = Command::new(&logcli);
        says(command.arg(format!("--addr={url}")).args(words))
    };
    let of = "{app=\"shop\"}";
    let said = ask(&[
        "query",
        of,
        "--since=1h",
        "--limit=1000",
        "--output=raw",
        "--quiet",
    ]);
    assert_eq!(
        said.lines().filter(|l| l.contains("request")).count(),
        LINES as usize,
        "{said}"
    );
    // In batches, which ask again from the last line on.
    let said = ask(&[
        "query",
        of,
        "--since=1h",
        "--limit=20",
        "--batch=7",
        "--forward",
        "--output=jsonl",
    ]);
    assert_eq!(said.matches("request").count(), LINES as usize, "{said}");
    let status = "sum by (status) (count_over_time({app=\"shop\"} | logfmt [1h]))";
    let said = ask(&["instant-query", status]);
    assert!(
        said.contains("\"status\": \"201\"") && said.contains("\"10\""),
        "{said}"
    );
    let said = ask(&[
        "query",
        "rate({app=\"shop\"}[5m])",
        "--since=10m",
        "--step=60s",
    ]);
    assert!(said.contains("\"app\": \"shop\""), "{said}");
    assert!(ask(&["labels"]).contains("service_name"));
    assert!(ask(&["labels", "env"]).contains("prod"));
    assert!(ask(&["series", of, "--since=1h"]).contains("env=\"prod\""));
    assert!(ask(&["series", of, "--since=1h", "--analyze-labels"]).contains("env"));
    let said = ask(&["stats", of, "--since=1h"]);
    assert!(said.contains("entries") && said.contains("20"), "{said}");
    assert!(ask(&["volume", of, "--since=1h"]).contains("shop"));
    assert!(ask(&["volume_range", of, "--since=1h", "--step=10m"]).contains("shop"));
    let said = ask(&["detected-fields", of, "--since=1h"]);
    assert!(said.contains("took") && said.contains("trace_id"), "{said}");
    let refused = Command::new(&logcli)
        .args([&format!("--addr={url}"), "query", "{app="])
        .output()
        .unwrap();
    assert!(!refused.status.success());

    let tailed = dir.path().join("tailed");
    let mut tail = Command::new(&logcli);
    tail.args([
        &format!("--addr={url}"),
        "query",
        of,
        "--tail",
        "--output=raw",
    ])
    .stderr(Stdio::null());
    // What a program prints goes to a file by the shell, as its log has only its errors.
    let mut shell = Command::new("sh");
    let words: Vec<String> = std::iter::once(tail.get_program())
        .chain(tail.get_args())
        .map(|w| format!("'{}'", w.to_string_lossy()))
        .collect();
    shell.args([
        "-c",
        &format!("exec {} > '{}'", words.join(" "), tailed.display()),
    ]);
    let following = Program::start(shell, &dir.path().join("logcli.log"));
    wait_for("what logcli follows", || {
        push(
            &server.api(),
            &json!({"app": "shop", "env": "prod"}),
            &[json!([now_ns().to_string(), "arrived"])],
        );
        let said = std::fs::read_to_string(&tailed).unwrap_or_default();
        said.contains("arrived").then_some(())
    });
    drop(following);
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}

#[test]
fn python_logs_and_opentelemetry_exports() {
    let Some(python) = oracle("python-clients") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), None, &[]);
    let api = server.api();
    for script in ["python_logging.py", "otel.py"] {
        let mut command = Command::new(&python);
        says(
            command
                .arg(clients().join(script))
                .env("KITTIWAKE_URL", &api.base),
        );
    }
    let texts = |selector: &str| -> Vec<String> {
        api.lines(selector)
            .into_iter()
            .map(|(_, text)| text)
            .collect()
    };
    let failed = "{application=\"python\", region=\"eu\", severity=\"error\", logger=\"shop\"}";
    assert_eq!(texts(failed), ["payment 42 failed"]);
    assert_eq!(
        texts("{application=\"python\", severity=\"warning\"}"),
        ["slow"]
    );
    let answer = api.get(
        "/loki/api/v1/query_range",
        &[(
            "query",
            "{service_name=\"checkout\"} | severity_text=\"ERROR\" | http_status >= 501",
        )],
    );
    let body = answer.unwrap().json();
    let streams = body["data"]["result"].as_array().unwrap();
    assert_eq!(streams.len(), 2, "{body}");
    for stream in streams {
        let labels = &stream["stream"];
        assert_eq!(labels["k8s_pod_name"], "checkout-1", "{labels}");
        assert_eq!(labels["user_id"], "u7", "{labels}");
        assert_eq!(labels["scope_name"], "shop", "{labels}");
        assert_eq!(labels["detected_level"], "error", "{labels}");
    }
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}

#[test]
fn winston_logs_in_json_and_protobuf() {
    let Some(mut script) = node("clients", "winston.cjs") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), None, &[]);
    let api = server.api();
    says(script.env("KITTIWAKE_URL", &api.base));
    for app in ["winston-json", "winston-protobuf"] {
        let started = api.lines(&format!("{{app=\"{app}\", level=\"info\", part=\"web\"}}"));
        assert!(started[0].1.contains("started"), "{started:?}");
        let failed = api.lines(&format!("{{app=\"{app}\", level=\"error\"}}"));
        assert!(failed[0].1.contains("failed"), "{failed:?}");
    }
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}

/// The resources that the data source of Grafana 13 and its page for logs ask for, as they ask.
#[test]
fn the_calls_of_grafanas_data_source_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, start_ns) = filled(dir.path());
    let api = server.api();
    let (start, end) = (start_ns.to_string(), now_ns().to_string());
    let range = [("start", start.as_str()), ("end", end.as_str())];
    let flags = [
        ("x-loki-response-encoding-flags", "categorize-labels"),
        ("x-query-tags", "Source=grafana"),
    ];
    let ask = |path: &str, params: &[(&str, &str)]| {
        let all: Vec<_> = params.iter().chain(&range).copied().collect();
        let answer = api
            .get_with(&format!("/loki/api/v1/{path}"), &flags, &all)
            .unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    };
    let of = ("query", "{app=\"shop\"}");
    // Save & test.
    let health = ask(
        "query",
        &[("query", "vector(1)+vector(1)"), ("time", "4000000000")],
    );
    assert_eq!(health["data"]["result"][0]["value"][1], "2");
    // Explore.
    let stats = ask("index/stats", &[of]);
    assert_eq!(stats["entries"], LINES);
    let lines = ask(
        "query_range",
        &[
            of,
            ("limit", "1000"),
            ("direction", "backward"),
            ("step", "1000ms"),
        ],
    );
    assert_eq!(lines["data"]["encodingFlags"], json!(["categorize-labels"]));
    let values = lines["data"]["result"][0]["values"].as_array().unwrap();
    assert_eq!(values.len(), LINES as usize);
    assert_eq!(values[0][2]["structuredMetadata"]["trace_id"], "t19");
    let volume =
        "sum by (level, detected_level) (count_over_time({app=\"shop\"} | drop __error__[1s]))";
    let volume = ask("query_range", &[("query", volume), ("step", "1000ms")]);
    assert_eq!(volume["data"]["resultType"], "matrix");
    assert_eq!(
        volume["data"]["result"][0]["metric"]["detected_level"],
        "info"
    );
    // The builder of queries.
    assert!(ask("labels", &[]).to_string().contains("service_name"));
    assert_eq!(ask("label/env/values", &[of])["data"], json!(["prod"]));
    assert_eq!(
        ask("series", &[("match[]", "{app=\"shop\"}")])["data"][0]["env"],
        "prod"
    );
    let sample = ask(
        "query_range",
        &[("query", "{app=\"shop\"} | logfmt"), ("limit", "10")],
    );
    assert!(sample.to_string().contains("\"parsed\""), "{sample}");
    // Logs Drilldown.
    let services = ask(
        "index/volume",
        &[
            ("query", "{service_name=~\".+\"}"),
            ("targetLabels", "service_name"),
            ("limit", "5000"),
        ],
    );
    assert_eq!(
        services["data"]["result"][0]["metric"]["service_name"],
        "shop"
    );
    let fields = ask("detected_fields", &[of, ("limit", "1000")]);
    assert!(fields.to_string().contains("\"took\""), "{fields}");
    assert!(ask("detected_labels", &[of]).to_string().contains("env"));
    assert!(
        ask("detected_field/status/values", &[of])
            .to_string()
            .contains("201")
    );
    let patterns = ask("patterns", &[of, ("step", "10s")]);
    let first = &patterns["data"][0];
    assert_eq!(
        first["pattern"],
        "level=info status=<_> took=<_> msg=\"request <_>\""
    );
    let samples = first["samples"].as_array().unwrap().iter();
    assert_eq!(samples.map(|s| s[1].as_i64().unwrap()).sum::<i64>(), LINES);
    assert_eq!(
        ask("drilldown-limits", &[])["limits"]["volume_enabled"],
        true
    );
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}

#[test]
fn the_search_is_as_its_description_says() {
    let Some(python) = oracle("python-clients") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (mut server, _) = filled(dir.path());
    let url = format!("{}/api/search/openapi.json", server.api().base);
    let mut command = Command::new(&python);
    // What is no search is refused, which no schema can tell; a tail does not end.
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    let said = says(
        command
            .args(["-m", "schemathesis.cli", "run", &url, "--checks", checks])
            .args([
                "--exclude-path",
                "/api/search/tail",
                "--max-examples",
                "60",
                "--seed",
                "7",
            ])
            .args(["--phases", "examples,coverage,fuzzing", "--no-color"])
            .current_dir(dir.path()),
    );
    assert!(said.contains("Tested: 2"), "{said}");
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}
