//! Loki's API beyond what was recorded: what comes in, and the forms of answers.

use axum::http::StatusCode;
use serde_json::json;

use kittiwake_server::app::Options;

use crate::harness::{Server, configured, percent, server};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn push(server: &Server, body: serde_json::Value) {
    let body = body.to_string().into_bytes();
    let answer = server.post("/loki/api/v1/push", &JSON, body).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
}

fn range(query: &str) -> String {
    let query = percent(query);
    format!("/loki/api/v1/query_range?query={query}&start=0&end=2000000000000000000")
}

#[tokio::test]
async fn a_push_comes_in_any_compression() {
    use std::io::Write as _;
    let server = server();
    let body = |app: &str| {
        json!({"streams":[{"stream":{"app":app},"values":[["1700000000000000000","x"]]}]})
            .to_string()
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body("gzip").as_bytes()).unwrap();
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    deflate.write_all(body("deflate").as_bytes()).unwrap();
    for (encoding, bytes) in [
        ("gzip", gzip.finish().unwrap()),
        ("deflate", deflate.finish().unwrap()),
        (
            "zstd",
            zstd::encode_all(body("zstd").as_bytes(), 1).unwrap(),
        ),
    ] {
        let headers = [JSON[0], ("content-encoding", encoding)];
        let answer = server.post("/loki/api/v1/push", &headers, bytes).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    }
    let path = "/loki/api/v1/label/app/values?start=0&end=2000000000000000000";
    let data = server.get(path).await.data();
    assert_eq!(data, json!(["deflate", "gzip", "zstd"]));
}

#[tokio::test]
async fn labels_stand_by_where_they_come_from_when_asked() {
    let server = server();
    push(
        &server,
        json!({"streams":[{"stream":{"app":"web"},"values":[
            ["1700000000000000000","a=1 level=warn",{"pod":"p"}]]}]}),
    )
    .await;
    let path = range("{app=\"web\"} | logfmt");
    let plain = server.get(&path).await.data();
    assert_eq!(
        plain["result"][0]["stream"],
        json!({"a":"1","app":"web","detected_level":"warn","level":"warn","pod":"p","service_name":"web"})
    );
    let request = axum::http::Request::get(&path)
        .header("x-loki-response-encoding-flags", "categorize-labels")
        .body(axum::body::Body::empty())
        .unwrap();
    let data = server.send(request).await.data();
    assert_eq!(data["encodingFlags"], json!(["categorize-labels"]));
    assert_eq!(
        data["result"],
        json!([{"stream":{"app":"web","service_name":"web"},"values":[["1700000000000000000","a=1 level=warn",{
            "structuredMetadata":{"detected_level":"warn","pod":"p"},
            "parsed":{"a":"1","level":"warn"}}]]}])
    );
}

#[tokio::test]
async fn otlp_logs_become_streams_with_metadata() {
    let server = server();
    let body = json!({"resourceLogs":[{
        "resource":{"attributes":[
            {"key":"service.name","value":{"stringValue":"web"}},
            {"key":"host.id","value":{"stringValue":"h1"}}]},
        "scopeLogs":[{"scope":{"name":"lib"},"logRecords":[{
            "timeUnixNano":"1700000000000000000","severityNumber":17,"severityText":"ERROR",
            "body":{"stringValue":"failed"},
            "attributes":[{"key":"http","value":{"kvlistValue":{"values":[
                {"key":"status","value":{"intValue":"500"}}]}}}],
            "traceId":"0102030405060708090a0b0c0d0e0f10"}]}]}]});
    for path in ["/v1/logs", "/otlp/v1/logs"] {
        let answer = server.post(path, &JSON, body.to_string().into()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.json(), json!({}));
    }
    let data = server.get(&range("{service_name=\"web\"}")).await.data();
    // The second is a repeat of the first.
    assert_eq!(
        data["result"],
        json!([{"stream":{"detected_level":"error","host_id":"h1","http_status":"500",
            "scope_name":"lib","service_name":"web","severity_number":"17",
            "severity_text":"ERROR","trace_id":"0102030405060708090a0b0c0d0e0f10"},
            "values":[["1700000000000000000","failed"]]}])
    );
    let refused = server.post("/v1/logs", &JSON, b"{".to_vec()).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_rest_of_the_api_answers() {
    let server = server();
    let values: Vec<_> = (0..20)
        .map(|i| {
            json!([
                format!("17000000{i:02}000000000"),
                format!("{{\"n\":{i},\"u\":{{\"id\":\"x\"}}}}")
            ])
        })
        .collect();
    push(
        &server,
        json!({"streams":[{"stream":{"app":"web","id":"7"},"values":values}]}),
    )
    .await;
    let ask = |path: &str| {
        let query = percent("{app=\"web\"}");
        let path =
            format!("/loki/api/v1/{path}?query={query}&start=1700000000&end=1700000020&step=10");
        let server = &server;
        async move { server.get(&path).await }
    };
    let fields = ask("detected_fields").await.json();
    assert_eq!(
        fields["fields"][2],
        json!({"label":"u_id","type":"string","cardinality":1,"parsers":["json"],"jsonPath":["u","id"]})
    );
    let values = ask("detected_field/u_id/values").await.json();
    assert_eq!(values, json!({"values":["x"],"limit":1000}));
    let labels = ask("detected_labels").await.json();
    assert_eq!(
        labels,
        json!({"detectedLabels":[{"label":"app","cardinality":1},{"label":"service_name","cardinality":1}]})
    );
    let volumes = ask("index/volume_range").await.data();
    assert_eq!(volumes["result"][0]["metric"], json!({"app":"web"}));
    assert_eq!(volumes["result"][0]["values"].as_array().unwrap().len(), 2);
    assert_eq!(
        ask("patterns").await.data(),
        json!([{"pattern":"{\"n\":<_>,\"u\":{\"id\":\"x\"}}","level":"unknown",
            "samples":[[1_700_000_000,10],[1_700_000_010,10]]}])
    );
    let shown = ask("format_query").await.data();
    assert_eq!(shown, json!("{app=\"web\"}"));
    assert_eq!(ask("drilldown-limits").await.status, StatusCode::OK);
    let rules = server.get("/loki/api/v1/rules").await;
    assert_eq!(
        (rules.status, rules.text()),
        (StatusCode::NOT_FOUND, "no rule groups found\n".to_owned())
    );
    let rules = server.get("/prometheus/api/v1/rules").await.data();
    assert_eq!(rules, json!({"groups":[]}));
    let every = ask("query_range").await.data();
    assert_eq!(every["result"][0]["values"].as_array().unwrap().len(), 20);
    let path = range("{app=\"web\"}") + "&interval=5s&direction=forward";
    let some = server.get(&path).await.data();
    assert_eq!(some["result"][0]["values"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn limits_and_errors_are_those_of_loki() {
    let server = server();
    let streams: Vec<_> = (0..501)
        .map(|i| json!({"stream":{"app":"web","n":i.to_string()},"values":[["1700000000000000000","x"]]}))
        .collect();
    push(&server, json!({ "streams": streams })).await;
    for (path, want) in [
        (
            range("count_over_time({app=\"web\"}[1h])") + "&step=1",
            "exceeded maximum resolution",
        ),
        (
            "/loki/api/v1/query?time=1700000001&query=".to_owned()
                + &percent("count_over_time({app=\"web\"}[1h])"),
            "maximum number of series (500) reached for a single query",
        ),
        (
            range("{app=\"web\"}") + "&limit=5001",
            "max entries limit per query exceeded",
        ),
        (
            "/loki/api/v1/query?query=".to_owned() + &percent("{app=\"web\"}"),
            "log queries are not supported as an instant query type",
        ),
        (
            "/loki/api/v1/query?time=1700000001&query=".to_owned()
                + &percent("sum_over_time({app=\"web\",n=\"1\"} | unwrap app [1h])"),
            "pipeline error: 'SampleExtractionErr'",
        ),
    ] {
        let answer = server.get(&path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert!(answer.text().contains(want), "{}", answer.text());
        assert!(answer.header("content-type").starts_with("text/plain"));
    }
}

#[tokio::test]
async fn lines_are_deleted_by_operators_only() {
    let path = |query: &str| {
        let query = percent(query);
        format!("/loki/api/v1/delete?query={query}&start=1690000000&end=1710000000")
    };
    let server = server();
    let answer = server.form(&path("{app=\"web\"}"), "").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let options = Options {
        is_admin_enabled: true,
        ..Options::default()
    };
    let server = configured("", options);
    let values: Vec<_> = ["keep this", "drop this"]
        .iter()
        .map(|line| json!(["1700000000000000000", line]))
        .collect();
    push(
        &server,
        json!({"streams":[{"stream":{"app":"web"},"values":values}]}),
    )
    .await;
    for query in ["", "{app=\"web\"} | json", "rate({app=\"web\"}[1m])", "{"] {
        let answer = server.form(&path(query), "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
    let answer = server.form(&path("{app=\"web\"} |= \"drop\""), "").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    let lines = server.get(&range("{app=\"web\"}")).await.data();
    assert_eq!(
        lines["result"][0]["values"],
        json!([["1700000000000000000", "keep this"]])
    );
    let all = server.get("/loki/api/v1/delete").await.json();
    assert_eq!(all[0]["query"], "{app=\"web\"} |= \"drop\"");
    assert_eq!(all[0]["status"], "received");
    let id = all[0]["request_id"].as_str().unwrap();
    let cancel = |id: &str| {
        let path = format!("/loki/api/v1/delete?request_id={id}");
        let request = axum::http::Request::delete(path).body(axum::body::Body::empty());
        server.send(request.unwrap())
    };
    assert_eq!(cancel("x").await.status, StatusCode::NOT_FOUND);
    assert_eq!(cancel(id).await.status, StatusCode::NO_CONTENT);
    let lines = server.get(&range("{app=\"web\"}")).await.data();
    assert_eq!(lines["result"][0]["values"].as_array().unwrap().len(), 2);
}
