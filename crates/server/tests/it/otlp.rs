use std::io::Write as _;

use kittiwake_server::app::Options;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, configured, server};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// A request with these metrics of one resource.
fn request(metrics: &Value) -> Value {
    json!({"resourceMetrics": [{
        "resource": {"attributes": [
            attribute("service.name", "shop"),
            attribute("service.namespace", "eu"),
            attribute("service.instance.id", "1"),
            attribute("host.name", "h"),
        ]},
        "scopeMetrics": [{"scope": {"name": "lib", "version": "2"}, "metrics": metrics}],
    }]})
}

async fn export(server: &Server, metrics: &Value) -> Answer {
    let body = request(metrics).to_string().into_bytes();
    server.post("/api/v1/otlp/v1/metrics", &JSON, body).await
}

fn sum(name: &str, temporality: u8, time_s: u64, value: f64) -> Value {
    json!([{"name": name, "unit": "s", "sum": {
        "aggregationTemporality": temporality, "isMonotonic": true,
        "dataPoints": [{
            "startTimeUnixNano": ((time_s - 1) * 1_000_000_000).to_string(),
            "timeUnixNano": (time_s * 1_000_000_000).to_string(),
            "asDouble": value,
            "attributes": [attribute("http.method", "GET")],
        }],
    }}])
}

#[tokio::test]
async fn sums_become_counters_with_job_instance_and_target_info() {
    let server = server();
    let answer = export(&server, &sum("work.time", 2, 10, 3.0)).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, "{}")
    );
    let query = r#"work_time_seconds_total{job="eu/shop",instance="1",http_method="GET"}"#;
    assert_eq!(server.value(query, 10.0).await.as_deref(), Some("3"));
    let query = r#"target_info{job="eu/shop",instance="1",host_name="h"}"#;
    assert_eq!(server.value(query, 10.0).await.as_deref(), Some("1"));
    let metadata = server
        .get("/api/v1/metadata?metric=work_time_seconds_total")
        .await
        .data();
    let said = &metadata["work_time_seconds_total"][0];
    assert_eq!(
        (&said["type"], &said["unit"]),
        (&json!("counter"), &json!("seconds"))
    );
}

#[tokio::test]
async fn deltas_add_up() {
    let server = server();
    for (time_s, value) in [(10, 1.0), (20, 2.0), (30, 4.0)] {
        assert_eq!(
            export(&server, &sum("d", 1, time_s, value)).await.status,
            200
        );
    }
    assert_eq!(
        server.value("d_seconds_total", 30.0).await.as_deref(),
        Some("7")
    );
    let answer = export(&server, &sum("d", 1, 20, 1.0)).await.json();
    let error = answer["partialSuccess"]["errorMessage"].to_string();
    assert!(error.contains("out of order"), "{error}");
}

fn histogram() -> Value {
    json!([{"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [{
        "timeUnixNano": "10000000000", "count": "3", "sum": 4.5,
        "bucketCounts": ["1", "2"], "explicitBounds": [1],
    }]}}])
}

#[tokio::test]
async fn explicit_histograms_are_classic_or_native_as_configured() {
    let server = server();
    assert_eq!(export(&server, &histogram()).await.status, 200);
    for (query, want) in [
        ("h_count", "3"),
        ("h_sum", "4.5"),
        (r#"h_bucket{le="1"}"#, "1"),
        (r#"h_bucket{le="+Inf"}"#, "3"),
    ] {
        assert_eq!(
            server.value(query, 10.0).await.as_deref(),
            Some(want),
            "{query}"
        );
    }
    let server = configured(
        "otlp: {convert_histograms_to_nhcb: true}\n",
        Options::default(),
    );
    assert_eq!(export(&server, &histogram()).await.status, 200);
    assert_eq!(server.value("h_count", 10.0).await, None);
    let series = server.get("/api/v1/series?match[]=h").await.data();
    assert_eq!(series.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn names_and_promoted_attributes_follow_the_configuration() {
    let yaml = "otlp:\n  translation_strategy: NoTranslation\n  promote_resource_attributes: [host.name]\n  promote_scope_metadata: true\n";
    let server = configured(yaml, Options::default());
    assert_eq!(
        export(&server, &sum("work.time", 2, 10, 3.0)).await.status,
        200
    );
    let query = r#"{"work.time","host.name"="h","http.method"="GET",otel_scope_name="lib",otel_scope_version="2"}"#;
    assert_eq!(server.value(query, 10.0).await.as_deref(), Some("3"));
}

#[tokio::test]
async fn good_points_are_kept_and_bad_ones_counted() {
    let server = server();
    let metrics = json!([
        {"name": "good", "gauge": {"dataPoints": [{"timeUnixNano": "10000000000", "asInt": "1"}]}},
        {"name": "bad", "sum": {"dataPoints": [{"timeUnixNano": "10000000000", "asInt": "1"}]}},
        {"name": "e", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [{
            "timeUnixNano": "10000000000", "count": "3", "zeroCount": "1", "scale": 20,
            "positive": {"offset": 5, "bucketCounts": ["1", "1"]},
        }]}},
    ]);
    let answer = export(&server, &metrics).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedDataPoints"], "1");
    assert!(partial["errorMessage"].to_string().contains("bad"));
    assert_eq!(server.value("good", 10.0).await.as_deref(), Some("1"));
    let series = server.get("/api/v1/series?match[]=e").await.data();
    assert_eq!(series.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn bodies_may_be_packed_and_must_be_known() {
    let server = server();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let body = request(&sum("a", 2, 10, 1.0)).to_string();
    packed.write_all(body.as_bytes()).unwrap();
    let headers = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let answer = server
        .post("/v1/metrics", &headers, packed.finish().unwrap())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        server.value("a_seconds_total", 10.0).await.as_deref(),
        Some("1")
    );
    let answer = server
        .post("/v1/metrics", &[("content-type", "text/plain")], Vec::new())
        .await;
    assert_eq!(answer.status, 415);
    let answer = server.post("/v1/metrics", &JSON, b"{".to_vec()).await;
    assert_eq!(answer.error().0, 400);
    let headers = [("content-type", "application/x-protobuf")];
    let answer = server.post("/v1/metrics", &headers, Vec::new()).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
}
