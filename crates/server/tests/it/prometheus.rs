//! The API under `/api/v1` as Prometheus answers it.

use kittiwake_server::app::Options;
use kittiwake_wire::remote_write::{SeriesParts, v2};
use serde_json::{Value, json};

use crate::harness::{Server, configured, labels, server};

async fn filled() -> Server {
    let server = server();
    for job in ["a", "b"] {
        let up = labels(&[("__name__", "up"), ("job", job)]);
        server.write(&[(&up, &[(1000, 1.0), (2000, 0.0)])]).await;
    }
    let dotted = labels(&[("__name__", "http.requests"), ("http.status", "200")]);
    server.write(&[(&dotted, &[(1000, 7.0)])]).await;
    server
}

#[tokio::test]
async fn a_limit_cuts_and_says_so() {
    let server = filled().await;
    for path in [
        "/api/v1/query?query=up&time=1&limit=1",
        "/api/v1/query_range?query=up&start=1&end=2&step=1&limit=1",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.data()["result"].as_array().unwrap().len(), 1);
        let warnings = answer.json()["warnings"].clone();
        assert_eq!(
            warnings,
            json!(["results truncated due to limit"]),
            "{path}"
        );
    }
    for path in [
        "/api/v1/series?match[]=up&limit=1",
        "/api/v1/labels?limit=1",
        "/api/v1/label/job/values?limit=1",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.data().as_array().unwrap().len(), 1, "{path}");
        assert_eq!(answer.json()["warnings"].as_array().unwrap().len(), 1);
    }
    let answer = server.get("/api/v1/series?match[]=up&limit=2").await;
    assert_eq!(answer.data().as_array().unwrap().len(), 2);
    assert_eq!(answer.json()["warnings"], Value::Null);
}

#[tokio::test]
async fn statistics_come_when_asked_for() {
    let server = filled().await;
    let answer = server.get("/api/v1/query?query=up&time=1&stats=all").await;
    let stats = answer.data()["stats"].clone();
    assert!(stats["timings"]["execTotalTime"].is_number(), "{stats}");
    assert!(stats["samples"]["totalQueryableSamples"].is_number());
    assert_eq!(answer.json()["warnings"], Value::Null);
    let answer = server.get("/api/v1/query?query=up&time=1&stats=x").await;
    let warning = answer.json()["warnings"][0].to_string();
    assert!(warning.contains("deprecated"), "{warning}");
    let answer = server.get("/api/v1/query?query=up&time=1").await;
    assert_eq!(answer.data()["stats"], Value::Null);
}

#[tokio::test]
async fn mistakes_have_prometheus_kinds() {
    let server = filled().await;
    for (path, status, kind) in [
        ("/api/v1/query?query=up(", 400, "bad_data"),
        ("/api/v1/query?query=up&time=x", 400, "bad_data"),
        ("/api/v1/query?query=up&limit=-1", 400, "bad_data"),
        (
            "/api/v1/query_range?query=up&start=1&end=0&step=1",
            400,
            "bad_data",
        ),
        (
            "/api/v1/query_range?query=up&start=1&end=2&step=0",
            400,
            "bad_data",
        ),
        (
            "/api/v1/query_range?query=up&start=0&end=99999&step=1",
            400,
            "bad_data",
        ),
        ("/api/v1/series", 400, "bad_data"),
        ("/api/v1/series?match[]=", 400, "bad_data"),
        ("/api/v1/labels?match[]={", 400, "bad_data"),
        ("/api/v1/series?match[]={}", 400, "bad_data"),
        ("/api/v1/labels?match[]={job=~%22.*%22}", 400, "bad_data"),
        ("/api/v1/labels?start=2&end=1", 400, "bad_data"),
        ("/api/v1/metadata?limit=x", 400, "bad_data"),
        ("/api/v1/targets/metadata?limit=x", 400, "bad_data"),
        ("/api/v1/targets/relabel_steps", 400, "bad_data"),
        ("/api/v1/status/tsdb?limit=0", 400, "bad_data"),
        ("/api/v1/rules?type=x", 400, "bad_data"),
        ("/api/v1/search/label_values", 400, "bad_data"),
        ("/api/v1/search/metric_names?sort_by=score", 400, "bad_data"),
        ("/api/v1/nothing", 404, "not_found"),
    ] {
        let answer = server.get(path).await;
        let (is, is_kind, _) = answer.error();
        assert_eq!((is, is_kind.as_str()), (status, kind), "{path}");
    }
}

#[tokio::test]
async fn names_of_any_characters_are_asked_for_escaped() {
    let server = filled().await;
    let answer = server.get("/api/v1/label/U__http_2e_status/values").await;
    assert_eq!(answer.data(), json!(["200"]));
    let form = "match[]=up&match[]={\"http.requests\"}";
    let answer = server.form("/api/v1/labels", form).await;
    assert_eq!(answer.data(), json!(["__name__", "http.status", "job"]));
}

#[tokio::test]
async fn metadata_is_kept_by_family() {
    let server = server();
    let mut encoder = v2::RequestEncoder::new();
    let about = |help: &str| kittiwake_model::Metadata {
        kind: "histogram".into(),
        help: help.into(),
        unit: "seconds".into(),
    };
    let series = labels(&[("__name__", "h_seconds_bucket"), ("le", "1.0")]);
    let none = SeriesParts::default();
    encoder.series(&series, [(1000, 1.0, 0)], &none, Some(&about("help")));
    let headers = [("content-type", v2::CONTENT_TYPE)];
    server
        .post("/api/v1/write", &headers, encoder.finish().unwrap())
        .await;
    let one = json!({"h_seconds": [{"type": "histogram", "help": "help", "unit": "seconds"}]});
    assert_eq!(server.get("/api/v1/metadata").await.data(), one);
    assert_eq!(
        server.get("/api/v1/metadata?metric=h_seconds").await.data(),
        one
    );
    assert_eq!(
        server.get("/api/v1/metadata?metric=x").await.data(),
        json!({})
    );
    assert_eq!(
        server.get("/api/v1/metadata?limit=0").await.data(),
        json!({})
    );
}

#[tokio::test]
async fn searches_are_lines_of_json() {
    let server = filled().await;
    let lines = async |path: &str| -> Vec<Value> {
        let answer = server.get(path).await;
        assert_eq!(
            answer.header("content-type"),
            "application/x-ndjson; charset=utf-8"
        );
        let text = answer.text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let found = lines("/api/v1/search/metric_names?start=0&search[]=h.re&include_score=true").await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0]["results"][0]["name"], "http.requests");
    let score = found[0]["results"][0]["score"].as_f64().unwrap();
    assert!(score > 0.0 && score < 1.0);
    assert_eq!(found[1], json!({"status": "success", "has_more": false}));
    let path = "/api/v1/search/label_values?label=job&start=0&limit=1&sort_by=alpha&sort_dir=dsc";
    let found = lines(path).await;
    assert_eq!(found[0], json!({"results": [{"value": "b"}]}));
    assert_eq!(found[1]["has_more"], true);
    let found = lines("/api/v1/search/label_names?start=0&batch_size=1").await;
    assert_eq!(found.len(), 4);
    let found = lines("/api/v1/search/label_names").await;
    assert_eq!(found[0], json!({"results": []}));
}

#[tokio::test]
async fn series_are_deleted_and_copied_by_operators_only() {
    let server = filled().await;
    let delete = "/api/v1/admin/tsdb/delete_series";
    let (status, kind, _) = server.form(delete, "match[]=up").await.error();
    assert_eq!((status, kind.as_str()), (500, "unavailable"));
    let options = Options {
        is_admin_enabled: true,
        ..Options::default()
    };
    let server = configured("", options);
    for job in ["a", "b"] {
        let up = labels(&[("__name__", "up"), ("job", job)]);
        server.write(&[(&up, &[(1000, 1.0)])]).await;
    }
    let answer = server.form(delete, "").await;
    assert_eq!(answer.error().0, 400);
    let (status, _, text) = server.form(delete, "match[]={}").await.error();
    assert_eq!(status, 400);
    assert!(text.contains("at least one non-empty matcher"), "{text}");
    let answer = server.form(delete, "match[]=up{job=\"a\"}").await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_eq!(server.value("count(up)", 1.0).await.as_deref(), Some("1"));
    let answer = server.form("/api/v1/admin/tsdb/clean_tombstones", "").await;
    assert_eq!(answer.status, 204);
    let name = server.form("/api/v1/admin/tsdb/snapshot", "").await.data();
    let name = name["name"].as_str().unwrap().to_owned();
    let storage = server.app.options.storage.clone();
    assert!(
        storage.join("metrics/snapshots").join(&name).exists(),
        "{name}"
    );
    let blocks = server.get("/api/v1/status/tsdb/blocks").await.data();
    assert_eq!(blocks["blocks"][0]["stats"]["numSeries"], 1, "{blocks}");
}

#[tokio::test]
async fn the_configuration_is_shown_reloaded_and_explained() {
    let yaml = "scrape_configs:\n- job_name: j\n  basic_auth: {username: u, password: secret1}\n  relabel_configs:\n  - {source_labels: [__address__], target_label: instance, replacement: 'x-$1'}\n  - {source_labels: [job], regex: gone, action: drop}\n";
    let options = Options {
        is_lifecycle_enabled: true,
        ..Options::default()
    };
    let server = configured(yaml, options);
    let shown = server.get("/api/v1/status/config").await.data()["yaml"].to_string();
    assert!(
        shown.contains("job_name: j") && !shown.contains("secret1"),
        "{shown}"
    );
    let job = server
        .get("/api/v1/scrape_pools/config?scrapePool=j")
        .await
        .data();
    assert!(job["yaml"].to_string().contains("username: u"), "{job}");
    let steps = |labels: &str| {
        let labels = crate::harness::percent(labels);
        format!("/api/v1/targets/relabel_steps?scrapePool=j&labels={labels}")
    };
    let answer = server
        .get(&steps(r#"{"__address__":"h:1","job":"gone"}"#))
        .await
        .data();
    let steps = answer["steps"].as_array().unwrap();
    assert_eq!(steps[0]["output"]["instance"], "x-h:1");
    assert_eq!(
        (&steps[0]["keep"], &steps[1]["keep"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(steps[1]["rule"]["action"], "drop");
    assert_eq!(steps[1]["output"], json!({}));

    let file = server.app.options.storage.join("prometheus.yml");
    std::fs::write(&file, "scrape_configs: [{}]").unwrap();
    let answer = server.form("/-/reload", "").await;
    assert_eq!(answer.status, 500, "{}", answer.text());
    let info = server.get("/api/v1/status/runtimeinfo").await.data();
    assert_eq!(info["reloadConfigSuccess"], false);
    let notifications = server.get("/api/v1/notifications").await.data();
    assert_eq!(notifications[0]["text"], "Configuration reload has failed.");
    std::fs::write(&file, yaml).unwrap();
    assert_eq!(server.form("/-/reload", "").await.status, 200);
    assert_eq!(server.get("/api/v1/notifications").await.data(), json!([]));
    let server = crate::harness::server();
    assert_eq!(server.form("/-/reload", "").await.status, 403);
}

#[tokio::test]
async fn the_state_of_the_server_is_told() {
    let server = filled().await;
    let tsdb = server.get("/api/v1/status/tsdb").await.data();
    assert_eq!(tsdb["headStats"]["numSeries"], 3);
    let head = &tsdb["headStats"];
    assert!(
        head["minTime"].as_i64() <= head["maxTime"].as_i64(),
        "{head}"
    );
    assert_eq!(
        tsdb["seriesCountByMetricName"][0],
        json!({"name": "up", "value": 2})
    );
    let own = server
        .get("/api/v1/status/self_metrics?metric_name_pattern=kittiwake_build.*")
        .await;
    let own = own.data();
    assert_eq!(own.as_array().unwrap().len(), 1);
    assert_eq!(own[0]["type"], "GAUGE");
    assert_eq!(own[0]["metric"][0]["gauge"]["value"], 1.0);
    assert_eq!(
        server.get("/api/v1/features").await.data()["api"]["admin"],
        false
    );
}

#[tokio::test]
async fn queries_are_formatted_and_taken_apart() {
    let server = server();
    let query = crate::harness::percent("sum by(job)(rate(a{b=~'c'}[5m] offset 1m))");
    let formatted = server
        .get(&format!("/api/v1/format_query?query={query}"))
        .await
        .data();
    assert_eq!(formatted, "sum by (job) (rate(a{b=~\"c\"}[5m] offset 1m))");
    let tree = server
        .get(&format!("/api/v1/parse_query?query={query}"))
        .await
        .data();
    assert_eq!(tree["type"], "aggregation");
    assert_eq!(
        (&tree["op"], &tree["grouping"]),
        (&json!("sum"), &json!(["job"]))
    );
    let call = &tree["expr"];
    assert_eq!(
        call["func"],
        json!({
            "name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector",
        })
    );
    let selector = &call["args"][0];
    assert_eq!(
        (&selector["type"], &selector["range"]),
        (&json!("matrixSelector"), &json!(300_000))
    );
    assert_eq!(
        (&selector["offset"], &selector["offsetExpr"]),
        (&json!(60_000), &Value::Null)
    );
    assert_eq!(
        selector["matchers"][0],
        json!({"name": "b", "value": "c", "type": "=~"})
    );
    let query = crate::harness::percent("a * on(x) group_left(y) b > bool 1");
    let tree = server
        .get(&format!("/api/v1/parse_query?query={query}"))
        .await
        .data();
    assert_eq!((&tree["op"], &tree["bool"]), (&json!(">"), &json!(true)));
    let matching = &tree["lhs"]["matching"];
    assert_eq!(matching["card"], "many-to-one");
    assert_eq!(
        (&matching["labels"], &matching["include"]),
        (&json!(["x"]), &json!(["y"]))
    );
    let answer = server.get("/api/v1/parse_query?query=a(").await;
    assert_eq!(answer.error().0, 400);
}

#[tokio::test]
async fn exemplars_are_found_by_the_selectors_of_a_query() {
    let server = server();
    let mut encoder = v2::RequestEncoder::new();
    let exemplar = kittiwake_model::Exemplar {
        labels: labels(&[("trace_id", "t")]),
        value: 0.5,
        time_ms: 1500,
    };
    let parts = SeriesParts {
        histograms: &[],
        exemplars: std::slice::from_ref(&exemplar),
    };
    let series = labels(&[("__name__", "h_bucket"), ("le", "1.0")]);
    encoder.series(&series, [(1000, 1.0, 0)], &parts, None);
    let headers = [("content-type", v2::CONTENT_TYPE)];
    server
        .post("/api/v1/write", &headers, encoder.finish().unwrap())
        .await;
    let query = crate::harness::percent("histogram_quantile(0.9, rate(h_bucket[5m])) > x");
    let path = format!("/api/v1/query_exemplars?query={query}&start=0&end=5");
    let want = json!([{
        "seriesLabels": {"__name__": "h_bucket", "le": "1.0"},
        "exemplars": [{"labels": {"trace_id": "t"}, "value": "0.5", "timestamp": 1.5}],
    }]);
    assert_eq!(server.get(&path).await.data(), want);
    let path = "/api/v1/query_exemplars?query=h_bucket&start=2&end=5";
    assert_eq!(server.get(path).await.data(), json!([]));
    let answer = server.get("/api/v1/query_exemplars?query=1").await;
    assert_eq!(answer.data(), Value::Null);
}

#[tokio::test]
async fn native_histograms_are_answered_as_buckets() {
    let server = server();
    let histogram = kittiwake_model::Histogram {
        schema: 0,
        zero_threshold: 0.0,
        sum: 3.0,
        positive_spans: vec![kittiwake_model::histogram::Span {
            offset: 1,
            length: 1,
        }],
        negative_spans: Vec::new(),
        custom_bounds: Vec::new(),
        counts: kittiwake_model::histogram::Counts::Integer {
            count: 2,
            zero: 0,
            positive: vec![2],
            negative: Vec::new(),
        },
        reset_hint: kittiwake_model::histogram::ResetHint::Unknown,
    };
    let parts = SeriesParts {
        histograms: &[(1000, 0, std::sync::Arc::new(histogram))],
        exemplars: &[],
    };
    let mut encoder = v2::RequestEncoder::new();
    encoder.series(&labels(&[("__name__", "h")]), [], &parts, None);
    let headers = [("content-type", v2::CONTENT_TYPE)];
    server
        .post("/api/v1/write", &headers, encoder.finish().unwrap())
        .await;
    let data = server.get("/api/v1/query?query=h&time=1").await.data();
    let want = json!([1, {"count": "2", "sum": "3", "buckets": [[0, "1", "2", "2"]]}]);
    assert_eq!(data["result"][0]["histogram"], want);
    assert_eq!(
        server.value("histogram_count(h)", 1.0).await.as_deref(),
        Some("2")
    );
    let answer = server
        .get("/api/v1/query?query=rate(up[1s])%2Bh&time=1")
        .await;
    assert_eq!(answer.status, 200);
}
