//! `/api/search` and what belongs to it.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::harness::{Server, percent, server};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
const SECOND_NS: i64 = 1_000_000_000;
const START_NS: i64 = 1_700_000_000 * SECOND_NS;

async fn push(server: &Server, app: &str, lines: &[(i64, String)]) {
    let values: Vec<Value> = lines
        .iter()
        .map(|(second, line)| json!([(START_NS + second * SECOND_NS).to_string(), line]))
        .collect();
    let body = json!({"streams": [{"stream": {"container": app}, "values": values}]});
    let body = body.to_string().into_bytes();
    let answer = server.post("/loki/api/v1/push", &JSON, body).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
}

/// A hundred lines of two containers, a second apart.
async fn filled() -> Server {
    let server = server();
    let line = |i: i64| {
        let level = ["info", "error"][usize::from(i % 10 == 0)];
        format!("level={level} status={} msg=\"request {i}\"", 200 + i)
    };
    let lines: Vec<(i64, String)> = (0..100).map(|i| (i, line(i))).collect();
    // One half is on disk, the other in memory.
    push(&server, "web", &lines[..50]).await;
    let flushed = server.post("/flush", &[], Vec::new()).await;
    assert_eq!(flushed.status, StatusCode::NO_CONTENT);
    push(&server, "web", &lines[50..]).await;
    push(&server, "web-2", &[(50, "level=warn msg=other".to_owned())]).await;
    server
}

async fn found(server: &Server, params: &str) -> Value {
    let answer = server.get(&format!("/api/search?{params}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json()
}

fn lines(answer: &Value) -> Vec<&str> {
    let entries = answer["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| entry["line"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn pages_of_what_store_and_engine_find_together() {
    let server = filled().await;
    let query = percent("level:error -\"request 30\"");
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = found(&server, &format!("query={query}&limit=4&cursor={cursor}")).await;
        all.extend(lines(&page).into_iter().map(str::to_owned));
        match page["cursor"].as_str() {
            Some(next) => cursor = percent(next),
            None => break,
        }
    }
    let wanted = [90, 80, 70, 60, 50, 40, 20, 10, 0];
    let wanted = wanted.map(|i| format!("level=error status={} msg=\"request {i}\"", 200 + i));
    assert_eq!(all, wanted);
    let page = found(&server, "query=container:web-2").await;
    assert_eq!(lines(&page), ["level=warn msg=other"]);
    let page = found(
        &server,
        &format!(
            "query={}&direction=forward&limit=1",
            percent("status:>=250 OR other")
        ),
    )
    .await;
    assert_eq!(lines(&page).len(), 1);
    assert!(page["cursor"].is_string());
}

#[tokio::test]
async fn highlights_facets_and_a_histogram_in_one_answer() {
    let server = filled().await;
    let (start, end) = (START_NS, START_NS + 100 * SECOND_NS);
    let params = format!(
        "query=request&start={start}&end={end}&limit=1&histogram=10&facet=level,container&facet=status&facet_limit=2"
    );
    let answer = found(&server, &params).await;
    assert_eq!(answer["entries"][0]["highlights"], json!([[27, 34]]));
    assert_eq!(answer["total"], 100);
    let buckets = answer["histogram"]["buckets"].as_array().unwrap();
    assert_eq!(buckets.len(), 10);
    let counts: u64 = buckets.iter().map(|b| b["count"].as_u64().unwrap()).sum();
    assert_eq!(counts, 100);
    assert_eq!(buckets[0]["time"], start.to_string());
    let level = json!({"values": [{"value": "info", "count": 90}, {"value": "error", "count": 10}], "others": 0});
    assert_eq!(answer["facets"]["level"], level);
    assert_eq!(answer["facets"]["status"]["others"], 98);
    let one = json!([{"value": "web", "count": 100}]);
    assert_eq!(answer["facets"]["container"]["values"], one);
}

#[tokio::test]
async fn large_results_come_a_line_each() {
    let server = filled().await;
    let request = |limit: &str| {
        Request::get(format!("/api/search?query=request{limit}"))
            .header("accept", "application/x-ndjson")
            .body(Body::empty())
            .unwrap()
    };
    let answer = server.send(request("")).await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let text = answer.text();
    let rows: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(rows.len(), 101);
    assert_eq!(rows[100], json!({"cursor": null}));
    let text = server.send(request("&limit=3")).await.text();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert!(last["cursor"].is_string(), "{text}");
}

#[tokio::test]
async fn the_lines_around_one_are_those_of_its_stream() {
    let server = filled().await;
    let page = found(&server, &format!("query={}", percent("\"request 50\""))).await;
    let id = percent(page["entries"][0]["id"].as_str().unwrap());
    let answer = server
        .get(&format!("/api/search/context?id={id}&before=2&after=3"))
        .await;
    let answer = answer.json();
    let numbers = |side: &str| -> Vec<i64> {
        let entries = answer[side].as_array().unwrap().iter();
        let line = entries.map(|e| e["line"].as_str().unwrap().to_owned());
        line.map(|l| l.split(['=', ' ']).nth(3).unwrap().parse::<i64>().unwrap() - 200)
            .collect()
    };
    assert_eq!(numbers("before"), [48, 49]);
    assert_eq!(numbers("after"), [51, 52, 53]);
    assert_eq!(answer["entry"]["line"], page["entries"][0]["line"]);
    let gone = server.get("/api/search/context?id=5-0ab-0").await;
    assert_eq!(gone.error().0, 404);
}

#[tokio::test]
async fn a_tail_sends_events_of_what_is_found() {
    let server = server();
    let request = Request::get(format!("/api/search/tail?query={}", percent("level:error")));
    let mut body = server.start(request.body(Body::empty()).unwrap()).await;
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, ": following\n\n");
    let now = (1, "level=error a".to_owned());
    push(&server, "web", &[(0, "level=info b".to_owned()), now]).await;
    let event = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let event = String::from_utf8(event.to_vec()).unwrap();
    let message: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(lines(&message), ["level=error a"]);
    assert_eq!(message["dropped"], 0);
}

#[tokio::test]
async fn bad_requests_are_told_with_the_place() {
    let server = server();
    for (path, text) in [
        (
            format!("?query={}", percent("a \"b")),
            "\"query\": a quote is not closed; it opens at character 3",
        ),
        (format!("?query={}", percent("a OR")), "at character 5"),
        (format!("?query={}", percent("status:>x")), "at character 9"),
        ("?cursor=x".to_owned(), "\"cursor\""),
        ("?limit=0".to_owned(), "limit"),
        ("?selector=x".to_owned(), "\"selector\""),
        ("?start=2&end=1".to_owned(), "\"end\""),
        ("?histogram=5".to_owned(), "\"start\""),
        ("?histogram=0".to_owned(), "\"histogram\""),
        ("?facet=a&facet_limit=0".to_owned(), "\"facet_limit\""),
        ("/context?id=1".to_owned(), "\"id\""),
        ("/context?id=1-2-3&before=1001".to_owned(), "\"before\""),
        (format!("/tail?query={}", percent("(")), "at character"),
    ] {
        let (status, kind, message) = server.get(&format!("/api/search{path}")).await.error();
        assert_eq!((status, kind.as_str()), (400, "bad_data"), "{path}");
        assert!(message.contains(text), "{path}: {message}");
    }
}
