//! Every answer that was recorded on a real Loki.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use kittiwake_cases::loki::{self, Case};
use kittiwake_conformance::conformance;

use crate::harness::{Server, server};

async fn filled(folder: &std::path::Path) -> (Server, Vec<Case>, BTreeSet<String>) {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let server = server();
    let dataset = read("dataset.jsonl");
    for body in loki::pushes(&dataset).unwrap() {
        let headers = [("content-type", "application/json")];
        let answer = server.post("/loki/api/v1/push", &headers, body.into());
        let answer = answer.await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    }
    let cases = loki::cases(&read("cases.jsonl")).unwrap();
    (server, cases, loki::ties(&dataset).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_loki() {
    let Some(folder) = conformance("loki") else {
        return;
    };
    let (server, cases, ties) = filled(&folder).await;
    assert!(!cases.is_empty());
    let mut failed = Vec::new();
    for case in &cases {
        let answer = server.get(&case.url()).await;
        if let Err(error) = case.check(answer.status.as_u16(), &answer.text(), &ties) {
            failed.push(format!("{}: {error:#}", case.name()));
        }
    }
    let (total, bad) = (cases.len(), failed.len());
    assert!(
        failed.is_empty(),
        "{bad} of {total}:\n{}",
        failed.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_answer_is_noticed() {
    let Some(folder) = conformance("loki") else {
        return;
    };
    let (server, cases, ties) = filled(&folder).await;
    let mut count = 0;
    for case in cases.iter().filter(|case| case.status == 200) {
        let answer = server.get(&case.url()).await;
        let (status, body) = (answer.status.as_u16(), answer.text());
        if case.check(status, &body, &ties).is_err() {
            continue;
        }
        for altered in loki::altered(case) {
            count += 1;
            assert!(
                altered.check(status, &body, &ties).is_err(),
                "{} passes with {}",
                case.name(),
                altered.response
            );
        }
    }
    assert!(count > 300, "only {count} altered cases");
}
