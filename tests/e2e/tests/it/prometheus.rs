//! Beside a real Prometheus: it writes to Kittiwake, reads from it and federates it, and each
//! scrapes the other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Api, Prometheus, Server, oracle, wait_for};

const HISTOGRAM: &str =
    "histogram_count(prometheus_http_request_duration_seconds{handler=\"/metrics\",WHERE})";

/// How long a sample may take from there to here.
const ARRIVES: Duration = Duration::from_secs(30);

/// What a query at a time answers: by labels, the value or histogram. `via` only says which way
/// a series came.
fn answers(api: &Api, query: &str, time: &str) -> BTreeMap<String, Value> {
    let answer = api.get("/api/v1/query", &[("query", query), ("time", time)]);
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    let body = answer.json();
    let result = body["data"]["result"].as_array().unwrap().iter();
    let one = |s: &Value| {
        let mut sample = s.clone();
        let mut labels = sample.as_object_mut().unwrap().remove("metric").unwrap();
        labels.as_object_mut().unwrap().remove("via");
        (labels.to_string(), sample)
    };
    result.map(one).collect()
}

/// Both answer alike, native histograms included, about a moment that both have seen.
fn assert_alike(ours: &Api, our_query: &str, theirs: &Api, their_query: &str) {
    let now = theirs.value("vector(time())").unwrap();
    let time = format!("{:.3}", now - 2.0);
    let expected = answers(theirs, their_query, &time);
    assert!(expected.len() > 500, "{} series only", expected.len());
    let started = Instant::now();
    loop {
        let found = answers(ours, our_query, &time);
        if started.elapsed() < ARRIVES && found != expected {
            std::thread::sleep(Duration::from_millis(200));
            continue;
        }
        for (labels, sample) in &expected {
            assert_eq!(found.get(labels), Some(sample), "{labels} at {time}");
        }
        assert_eq!(found.len(), expected.len());
        break;
    }
}

#[test]
fn prometheus_writes_and_reads_in_all_its_ways() {
    let Some(prometheus) = oracle("prometheus") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), None, &[]);
    let base = server.api().base;
    let write = |version: &str, via: &str| {
        format!(
            "- url: {base}/api/v1/write\n  name: {via}\n  protobuf_message: {version}\n  send_native_histograms: true\n  \
             send_exemplars: true\n  write_relabel_configs: [{{target_label: via, replacement: {via}}}]\n"
        )
    };
    let yaml = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: p\n  scrape_native_histograms: true\n  \
         static_configs: [{{targets: [SELF]}}]\nremote_write:\n{}{}",
        write("prometheus.WriteRequest", "one"),
        write("io.prometheus.write.v2.Request", "two"),
    );
    let flags = ["--enable-feature=metadata-wal-records"];
    let writer = Prometheus::start(&prometheus, dir.path(), "writer", &yaml, &flags);
    let api = server.api();
    for via in ["one", "two"] {
        wait_for("samples that Prometheus has written", || {
            api.value(&format!("count({{via=\"{via}\"}})"))
                .filter(|count| *count > 100.0)
        });
    }
    // The first staleness markers and late series of the start are over.
    std::thread::sleep(Duration::from_secs(5));
    for via in ["one", "two"] {
        let query = format!("{{via=\"{via}\"}}");
        assert_alike(&api, &query, &writer.api(), "{job=\"p\"}");
    }
    let metadata = wait_for("metadata", || {
        let params = [("metric", "prometheus_http_requests_total")];
        let answer = api.get("/api/v1/metadata", &params)?.json();
        let said = answer["data"]["prometheus_http_requests_total"][0].clone();
        (!said.is_null()).then_some(said)
    });
    assert_eq!(metadata["type"], "counter");

    let yaml = format!("remote_read: [{{url: '{base}/api/v1/read', read_recent: true}}]\n");
    let reader = Prometheus::start(&prometheus, dir.path(), "reader", &yaml, &[]);
    let read = reader.api();
    for via in ["one", "two"] {
        let filter = format!("via=\"{via}\"");
        assert_eq!(read.value(&format!("up{{{filter}}}")), Some(1.0));
        let query = HISTOGRAM.replace("WHERE", &filter);
        wait_for("a native histogram through remote read", || {
            read.value(&query).filter(|count| *count > 0.0)
        });
    }
    let failed = writer.api().instant(
        "sum(prometheus_remote_storage_samples_failed_total + prometheus_remote_storage_histograms_failed_total)",
    );
    assert!(failed.iter().all(|(_, count)| *count == 0.0), "{failed:?}");
    server.program.assert_quiet(&[]);
}

#[test]
fn each_scrapes_the_other() {
    let Some(prometheus) = oracle("prometheus") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let scraped = Prometheus::start(&prometheus, dir.path(), "scraped", "", &[]);
    let address = scraped.address();
    let config = dir.path().join("kittiwake.yml");
    let yaml = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: native\n  scrape_native_histograms: true\n  \
         static_configs: [{{targets: ['{address}']}}]\n- job_name: text\n  static_configs: [{{targets: ['{address}']}}]\n\
         - job_name: custom\n  convert_classic_histograms_to_nhcb: true\n  scrape_protocols: [PrometheusText0.0.4]\n  \
         static_configs: [{{targets: ['{address}']}}]\n"
    );
    std::fs::write(&config, yaml).unwrap();
    let engine = crate::harness::Engine::nowhere();
    let flags = ["--config.file", config.to_str().unwrap()];
    let server = Server::start(dir.path(), Some(&engine), &flags);
    let api = server.api();
    for job in ["native", "text", "custom"] {
        wait_for("a target of Kittiwake", || {
            api.value(&format!("up{{job=\"{job}\"}}"))
                .filter(|up| *up == 1.0)
        });
    }
    let targets = api
        .get("/api/v1/targets", &[("scrapePool", "text")])
        .unwrap()
        .json();
    assert_eq!(targets["data"]["activeTargets"][0]["health"], "up");

    let kittiwake = api.base.trim_start_matches("http://");
    let yaml = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: federated\n  honor_labels: true\n  \
         metrics_path: /federate\n  scrape_native_histograms: true\n  params: {{'match[]': ['{{job=\"native\"}}']}}\n  \
         static_configs: [{{targets: ['{kittiwake}']}}]\n- job_name: kittiwake\n  static_configs: [{{targets: ['{kittiwake}']}}]\n"
    );
    let scraper = Prometheus::start(&prometheus, dir.path(), "scraper", &yaml, &[]);
    let read = scraper.api();
    for job in ["federated", "kittiwake"] {
        wait_for("a target of Prometheus", || {
            read.value(&format!("up{{job=\"{job}\"}}"))
                .filter(|up| *up == 1.0)
        });
    }
    let query = HISTOGRAM.replace("WHERE", "job=\"native\"");
    wait_for("a native histogram through federation", || {
        read.value(&query).filter(|count| *count > 0.0)
    });
}
