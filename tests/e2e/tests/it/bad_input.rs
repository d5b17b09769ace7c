//! Wrong flags, files and requests: each is answered with what is wrong and what is allowed.

use std::net::TcpListener;
use std::process::Output;

use crate::harness::{Server, free_address};

const PROTOBUF: [(&str, &str); 2] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
];
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn assert_says(output: &Output, texts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it started: {said}");
    for text in texts {
        assert!(said.contains(text), "{text:?} is not in: {said}");
    }
}

#[test]
fn wrong_flags_and_files_name_the_place_and_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store").display().to_string();
    let run = |flags: &[&str]| {
        let mut all = vec!["--storage.path", store.as_str(), "--no-collector"];
        all.extend(flags);
        Server::run(&all)
    };
    assert_says(
        &run(&["--log.level", "loud"]),
        &["loud", "error, warn, info"],
    );
    assert_says(&run(&["--no-such-flag"]), &["--no-such-flag", "--help"]);
    assert_says(
        &run(&["--web.listen-address", "nonsense"]),
        &["nonsense", "HOST:PORT"],
    );
    assert_says(
        &run(&["--storage.retention.time", "5parsecs"]),
        &["5parsecs", "30d"],
    );
    assert_says(
        &run(&["--web.listen-address", "0.0.0.0:0"]),
        &["0.0.0.0:0", "--web.config.file", "--web.insecure"],
    );
    let file = dir.path().join("prometheus.yml");
    let name = file.display().to_string();
    for (text, want) in [
        (
            "scrape_configs:\n  - job_name: a\n    scheme: ftp\n",
            "http or https",
        ),
        (
            "scrape_configs:\n  - job_name: a\n    scrap_interval: 5s\n",
            "scrap_interval",
        ),
        ("scrape_configs:\n  - scheme: http\n", "job_name"),
        ("global:\n  scrape_interval: soon\n", "soon"),
    ] {
        std::fs::write(&file, text).unwrap();
        let line = format!("{name}:{}", text.lines().count());
        let said = run(&["--config.file", &name]);
        assert_says(&said, &[&name, want]);
        // The line of the mistake, or that of the thing it is in.
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        let above = format!("{name}:{}", text.lines().count() - 1);
        assert!(said.contains(&line) || said.contains(&above), "{said}");
    }
    let missing = dir.path().join("missing.yml").display().to_string();
    assert_says(&run(&["--web.config.file", &missing]), &[&missing]);
}

#[test]
fn a_busy_port_and_a_busy_folder_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap();
    let store = dir.path().join("other").display().to_string();
    let flags = [
        "--storage.path",
        &store,
        "--web.listen-address",
        &address.to_string(),
    ];
    let port = address.port().to_string();
    assert_says(
        &Server::run(&flags),
        &[&port, "in use", "--web.listen-address"],
    );

    let server = Server::start(dir.path(), None, &[]);
    let store = dir.path().join("store").display().to_string();
    let flags = [
        "--storage.path",
        &store,
        "--web.listen-address",
        &free_address(),
    ];
    let pid = server.pid().to_string();
    assert_says(&Server::run(&flags), &[&store, "in use", &pid]);
}

#[test]
fn wrong_requests_are_told_what_is_wrong_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), None, &[]);
    let api = server.api();
    let answer = api
        .post("/api/v1/write", &PROTOBUF, b"no snappy at all")
        .unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert!(answer.text.contains("snappy"), "{}", answer.text);
    // A valid block of snappy whose content is no message: four bytes, all 0xff.
    let answer = api
        .post("/api/v1/write", &PROTOBUF, &[4, 12, 255, 255, 255, 255])
        .unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert!(answer.text.contains("byte"), "{}", answer.text);

    for (body, want) in [
        (
            r#"{"streams":[{"stream":{"a":"b"},"values":[["x","y"]]}]}"#,
            "timestamp",
        ),
        (
            r#"{"streams":[{"stream":{"a":"b"},"values":[["1","y"]"#,
            "byte",
        ),
        (
            r#"{"streams":[{"stream":{},"values":[["1","y"]]}]}"#,
            "label",
        ),
    ] {
        let answer = api
            .post("/loki/api/v1/push", &JSON, body.as_bytes())
            .unwrap();
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(answer.text.contains(want), "{body}: {}", answer.text);
    }

    let large = vec![b' '; 33 << 20];
    let answer = api.post("/loki/api/v1/push", &JSON, &large).unwrap();
    assert_eq!(answer.status, 413, "{}", answer.text);

    for path in ["/api/v1/nothing", "/loki/api/v1/nothing", "/api/nothing"] {
        let answer = api.get(path, &[]).unwrap();
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["status"], "error", "{path}: {}", answer.text);
    }
    for (path, query, want) in [
        ("/api/v1/query", "sum(", "parse error"),
        ("/api/v1/query", "nosuch(up)", "nosuch"),
        ("/loki/api/v1/query_range", "{a=\"b\"", "parse error"),
        (
            "/loki/api/v1/query_range",
            "{a=\"b\"} |~ \"(\"",
            "unclosed group",
        ),
    ] {
        let answer = api.get(path, &[("query", query)]).unwrap();
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        assert!(answer.text.contains(want), "{query}: {}", answer.text);
    }
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}
