use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use kittiwake_model::is_stale_nan;
use kittiwake_wire::exposition::Format;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, channel};

use super::discover::docker_targets;
use super::series::{Batches, Counts, SeriesCache};
use super::*;
use crate::{ContainerInfo, Network, Port, SampleBatch};

fn config(text: &str) -> Arc<PrometheusConfig> {
    Arc::new(PrometheusConfig::parse(text, Path::new("/")).unwrap())
}

fn fixed(config: Arc<PrometheusConfig>) -> watch::Receiver<Arc<PrometheusConfig>> {
    watch::channel(config).1
}

fn job_rules(text: &str) -> Rules {
    let config = config(&format!("scrape_configs:\n  - job_name: j\n{text}"));
    let job = &config.scrape_configs[0];
    Rules {
        honor_labels: job.honor_labels,
        honor_timestamps: job.honor_timestamps,
        track_timestamps_staleness: job.track_timestamps_staleness,
        relabel: job.metric_relabel_configs.clone(),
        limits: job.limits,
    }
}

fn cache() -> SeriesCache {
    cache_with("")
}

/// The series of a target of a job with these settings.
fn cache_with(text: &str) -> SeriesCache {
    let config = config(&format!("scrape_configs:\n  - job_name: j\n{text}"));
    let address = BTreeMap::from([("__address__".to_owned(), "i:1".to_owned())]);
    let job = &config.scrape_configs[0];
    let made = target(job, &with_defaults(job, address)).unwrap().unwrap();
    SeriesCache::new(made.labels, made.histograms)
}

fn read(cache: &mut SeriesCache, text: &str, rules: &Rules) -> (Counts, Batches) {
    let mut out = Batches::new();
    let counts = cache.read(text.as_bytes(), Format::Prometheus, 1000, rules, &mut out);
    (counts.unwrap(), out)
}

#[test]
fn a_series_that_is_left_out_ends_once() {
    let (mut cache, rules) = (cache(), job_rules(""));
    let (counts, out) = read(&mut cache, "a 1\nb{x=\"y\"} 2\n", &rules);
    let want = Counts {
        scraped: 2,
        kept: 2,
        added: 2,
    };
    assert_eq!(counts, want);
    assert_eq!(out[&1000].samples[1].0.get("instance"), Some("i:1"));
    let (counts, out) = read(&mut cache, "a 1\n", &rules);
    assert_eq!(counts.added, 0);
    assert_eq!(out[&1000].samples.len(), 2);
    assert!(is_stale_nan(out[&1000].samples[1].1));
    assert_eq!(out[&1000].samples[1].0.metric_name(), Some("b"));
    let (_, out) = read(&mut cache, "a 1\n", &rules);
    assert_eq!(out[&1000].samples.len(), 1);
    let mut ended = Vec::new();
    cache.end(&mut ended);
    cache.end(&mut ended);
    assert_eq!(ended.len(), 1);
}

#[test]
fn labels_of_target_and_sample_meet_as_the_job_says() {
    let text = "a{job=\"theirs\"} 1\n";
    let (_, out) = read(&mut cache(), text, &job_rules(""));
    let labels = &out[&1000].samples[0].0;
    assert_eq!(labels.get("job"), Some("j"));
    assert_eq!(labels.get("exported_job"), Some("theirs"));
    let (_, out) = read(&mut cache(), text, &job_rules("    honor_labels: true\n"));
    assert_eq!(out[&1000].samples[0].0.get("job"), Some("theirs"));
}

#[test]
fn own_times_have_batches_of_their_own() {
    let text = "a 1 500\nb 2\n";
    let (_, out) = read(&mut cache(), text, &job_rules(""));
    assert_eq!((out[&500].samples.len(), out[&1000].samples.len()), (1, 1));
    let (_, out) = read(
        &mut cache(),
        text,
        &job_rules("    honor_timestamps: false\n"),
    );
    assert_eq!(out[&1000].samples.len(), 2);
}

#[test]
fn rules_and_limits_apply() {
    let rules = job_rules(
        "    metric_relabel_configs:\n      - {source_labels: [__name__], regex: b, action: drop}\n\
         \x20   sample_limit: 1\n",
    );
    let (counts, _) = read(&mut cache(), "a 1\nb 2\n", &rules);
    assert_eq!((counts.scraped, counts.kept), (2, 1));
    let mut out = Batches::new();
    let text = b"a 1\nc 2\n";
    let error = cache().read(text, Format::Prometheus, 1, &rules, &mut out);
    assert!(error.unwrap_err().to_string().contains("sample_limit"));
    assert!(out.is_empty());
    let rules = job_rules("    label_value_length_limit: 3\n");
    let error = cache().read(b"a{x=\"long\"} 1", Format::Prometheus, 1, &rules, &mut out);
    assert!(error.unwrap_err().to_string().contains("value"));
}

#[test]
fn a_target_is_put_together_from_labels() {
    let config = config(
        "scrape_configs:\n  - job_name: j\n    params: {m: ['a b', c]}\n    relabel_configs:\n      \
         - {source_labels: [__address__], target_label: __param_m}\n      \
         - {replacement: '10s', target_label: __scrape_interval__}\n",
    );
    let found = BTreeMap::from([("__address__".to_owned(), "h:1".to_owned())]);
    let job = &config.scrape_configs[0];
    let made = target(job, &with_defaults(job, found)).unwrap().unwrap();
    assert_eq!(made.uri, "http://h:1/metrics?m=h%3A1&m=c");
    assert_eq!(made.interval, Duration::from_secs(10));
    assert_eq!(made.labels.to_string(), r#"{instance="h:1", job="j"}"#);
    assert!(target(&config.scrape_configs[0], &BTreeMap::new()).is_err());
}

#[test]
fn containers_are_targets_by_port() {
    let config =
        config("scrape_configs:\n  - job_name: j\n    docker_sd_configs: [{host: 'unix:///x'}]\n");
    let discovery = &config.scrape_configs[0].docker_sd_configs[0];
    let port = |private, protocol: &str| Port {
        private,
        protocol: protocol.to_owned(),
        public: None,
    };
    let web = ContainerInfo {
        id: "w".into(),
        name: "web".into(),
        labels: BTreeMap::from([("a.b".to_owned(), "c".to_owned())]),
        networks: vec![Network {
            ip: "10.0.0.2".into(),
            ..Network::default()
        }],
        ports: vec![port(80, "tcp"), port(53, "udp"), port(9100, "tcp")],
        ..ContainerInfo::default()
    };
    let side = ContainerInfo {
        id: "s".into(),
        network_mode: "container:w".into(),
        ..ContainerInfo::default()
    };
    let mut found = Vec::new();
    docker_targets(discovery, &[web, side], &mut found);
    let addresses: Vec<&str> = found.iter().map(|t| t["__address__"].as_str()).collect();
    assert_eq!(addresses, ["10.0.0.2:80", "10.0.0.2:9100", "10.0.0.2:80"]);
    assert_eq!(found[0]["__meta_docker_container_label_a_b"], "c");
    assert_eq!(found[0]["__meta_docker_container_name"], "/web");
}

/// Answers each request with the gzipped text, or 503 when there is none, and keeps the
/// requests' heads.
async fn exporter(text: Arc<Mutex<Option<String>>>, heads: Arc<Mutex<Vec<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            heads
                .lock()
                .push(String::from_utf8_lossy(&head).to_lowercase());
            let text = text.lock().clone();
            let status = if text.is_some() { "200 OK" } else { "503 Gone" };
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed
                .write_all(text.unwrap_or_default().as_bytes())
                .unwrap();
            let body = packed.finish().unwrap();
            let head = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-encoding: gzip\r\n\
                 content-type: text/plain\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    });
    address
}

/// The next batch in which the series has a value that will do.
async fn until(
    out: &mut Receiver<Gathered>,
    name: &str,
    will_do: impl Fn(f64) -> bool,
) -> SampleBatch {
    let waiting = async {
        loop {
            if let Some(Gathered::Samples(batch)) = out.recv().await {
                let mut samples = batch.samples.iter();
                if samples.any(|(l, v)| l.metric_name() == Some(name) && will_do(*v)) {
                    return batch;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_target_is_scraped_fails_and_goes() {
    let text = Arc::new(Mutex::new(Some("a 1\n".to_owned())));
    let heads = Arc::new(Mutex::new(Vec::new()));
    let address = exporter(Arc::clone(&text), Arc::clone(&heads)).await;
    let dir = tempfile::tempdir().unwrap();
    let (list, password) = (dir.path().join("t.json"), dir.path().join("p"));
    std::fs::write(&list, format!(r#"[{{"targets": ["{address}"]}}]"#)).unwrap();
    std::fs::write(&password, "secret\n").unwrap();
    let yaml = format!(
        "scrape_configs:\n  - job_name: j\n    scrape_interval: 300ms\n    basic_auth: {{username: u, \
         password_file: '{}'}}\n    file_sd_configs: [{{files: ['{}']}}]\n",
        password.display(),
        list.display()
    );
    let (sender, mut out) = channel(16);
    let cancel = CancellationToken::new();
    let running = {
        let (config, cancel) = (config(&yaml), cancel.clone());
        tokio::spawn(async move {
            let discovery = Discovery {
                status: Arc::new(Status::new()),
            };
            let own = OwnTarget {
                address: "me:1".into(),
                read: Arc::new(|| Ok("own 1\n".into())),
            };
            run(fixed(config), discovery, "h", sender, cancel, Some(own)).await;
        })
    };
    let batch = until(&mut out, "a", |v| v == 1.0).await;
    let up = batch
        .samples
        .iter()
        .find(|(l, _)| l.metric_name() == Some("up"));
    let (labels, value) = up.unwrap();
    assert_eq!(
        (labels.get("instance"), *value),
        (Some(address.as_str()), 1.0)
    );
    assert_eq!(batch.samples.len(), 6);
    // `dTpzZWNyZXQ=` is `u:secret`; heads are kept in lower case.
    let head = heads.lock()[0].clone();
    assert!(head.contains("authorization: basic dtpzzwnyzxq="), "{head}");
    assert!(head.contains("accept-encoding: gzip"), "{head}");

    *text.lock() = None;
    let batch = until(&mut out, "a", is_stale_nan).await;
    let up = batch
        .samples
        .iter()
        .find(|(l, _)| l.metric_name() == Some("up"));
    assert_eq!(up.unwrap().1, 0.0);

    *text.lock() = Some("a 2\n".to_owned());
    until(&mut out, "a", |v| v == 2.0).await;
    std::fs::write(&list, "[]").unwrap();
    let batch = until(&mut out, "up", is_stale_nan).await;
    assert_eq!(batch.samples.len(), 6);
    assert!(batch.samples.iter().all(|(_, v)| is_stale_nan(*v)));

    until(&mut out, "own", |v| v == 1.0).await;
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_real_exporter_is_scraped_and_stopped() {
    let program = "/usr/bin/prometheus-node-exporter";
    if !Path::new(program).exists() {
        let is_required = std::env::var("ORACLES").is_ok_and(|v| v == "required");
        assert!(
            !is_required,
            "ORACLES=required, but {program} is not installed"
        );
        eprintln!("SKIPPED: {program} is not installed");
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap().to_string();
    drop(port);
    let mut exporter = std::process::Command::new(program)
        .arg(format!("--web.listen-address={address}"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let yaml = format!(
        "scrape_configs:\n  - job_name: node\n    scrape_interval: 1s\n    static_configs: [{{targets: ['{address}']}}]\n"
    );
    let (sender, mut out) = channel(16);
    let cancel = CancellationToken::new();
    let scraping = {
        let (config, cancel) = (config(&yaml), cancel.clone());
        tokio::spawn(async move {
            let discovery = Discovery {
                status: Arc::new(Status::new()),
            };
            run(fixed(config), discovery, "h", sender, cancel, None).await;
        })
    };
    let live = until(&mut out, "node_cpu_seconds_total", |v| v >= 0.0).await;
    exporter.kill().unwrap();
    exporter.wait().unwrap();
    let ended = until(&mut out, "up", |v| v == 0.0).await;
    cancel.cancel();
    scraping.await.unwrap();
    assert!(live.samples.len() > 100, "{}", live.samples.len());
    let ends = ended.samples.iter().filter(|(_, v)| is_stale_nan(*v));
    assert!(ends.count() > 100);
}

#[tokio::test]
async fn a_full_channel_does_not_hold_up_the_stop() {
    let text = Arc::new(Mutex::new(Some("a 1\n".to_owned())));
    let heads = Arc::new(Mutex::new(Vec::new()));
    let address = exporter(text, Arc::clone(&heads)).await;
    let yaml = format!(
        "scrape_configs:\n  - job_name: j\n    scrape_interval: 100ms\n    static_configs: [{{targets: ['{address}']}}]\n"
    );
    let (sender, out) = channel(1);
    let cancel = CancellationToken::new();
    let discovery = Discovery {
        status: Arc::new(Status::new()),
    };
    let stop = async {
        while heads.lock().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let both = async {
        tokio::join!(
            run(
                fixed(config(&yaml)),
                discovery,
                "h",
                sender,
                cancel.clone(),
                None
            ),
            stop
        )
    };
    tokio::time::timeout(Duration::from_mins(1), both)
        .await
        .unwrap();
    assert!(!out.is_empty());
}

#[test]
fn starts_exemplars_histograms_and_metadata_go_along() {
    let rules = job_rules("");
    let text = "# TYPE a counter\n# HELP a help\na_total 5 # {t=\"1\"} 0.5\na_created 2\n\
                # TYPE h histogram\nh {count:2,sum:1,schema:0,zero_threshold:0,zero_count:2} st@1\n# EOF\n";
    let mut cache = cache_with("    scrape_native_histograms: true\n");
    let mut scrape = |text: &str, format| {
        let mut out = Batches::new();
        let read = cache.read(text.as_bytes(), format, 1000, &rules, &mut out);
        (read.unwrap(), out.remove(&1000).unwrap())
    };
    let (counts, batch) = scrape(
        &text
            .replace("a_created 2\n", "")
            .replace("a_total 5", "a_total 5 st@2"),
        Format::OpenMetrics2,
    );
    // A counter's name has no suffix of its own in 2.0, so nothing but the sample is read of it.
    assert_eq!((counts.scraped, counts.kept), (2, 2));
    assert_eq!(batch.starts, [(0, 2000)]);
    let (labels, histogram, start_ms) = &batch.histograms[0];
    assert_eq!((labels.metric_name(), *start_ms), (Some("h"), 1000));
    assert_eq!(histogram.schema, 0);
    let (labels, exemplar) = &batch.exemplars[0];
    assert_eq!(labels.metric_name(), Some("a_total"));
    assert_eq!((exemplar.value, exemplar.time_ms), (0.5, 1000));
    let names: Vec<_> = batch
        .metadata
        .iter()
        .map(|(n, m)| (n.as_str(), m.kind.as_str()))
        .collect();
    assert_eq!(names, [("a", "counter"), ("h", "histogram")]);
    // What was said before is not said again.
    let again = "# TYPE a counter\n# HELP a help\na_total 6 # {t=\"1\"} 0.5\na_created 2\n# EOF\n";
    let (_, batch) = scrape(again, Format::OpenMetrics);
    assert_eq!(batch.starts, [(0, 2000)]);
    assert!(batch.exemplars.is_empty() && batch.metadata.is_empty());
    assert_eq!(batch.samples.len(), 3);
    assert!(is_stale_nan(batch.samples[2].1));
}

#[test]
fn a_job_limits_the_buckets_of_histograms() {
    let text = "# TYPE h histogram\nh {count:4,sum:1,schema:3,zero_threshold:0,zero_count:0,\
                positive_spans:[1:4],positive_buckets:[1,1,1,1]} st@1\n# EOF\n";
    let read = |own: &str| {
        let text_of_job = format!("    scrape_native_histograms: true\n{own}");
        let mut cache = cache_with(&text_of_job);
        let mut out = Batches::new();
        let rules = job_rules(&text_of_job);
        let read = cache.read(
            text.as_bytes(),
            Format::OpenMetrics2,
            1_000,
            &rules,
            &mut out,
        );
        read.map(|_| {
            let (_, histogram, _) = &out[&1_000].histograms[0];
            (histogram.schema, histogram.buckets_len())
        })
    };
    assert_eq!(read("").unwrap(), (3, 4));
    assert_eq!(
        read("    native_histogram_bucket_limit: 4\n").unwrap(),
        (3, 4)
    );
    assert_eq!(
        read("    native_histogram_bucket_limit: 2\n").unwrap(),
        (2, 2)
    );
    assert_eq!(
        read("    native_histogram_bucket_limit: 1\n").unwrap(),
        (1, 1)
    );
    let coarse = "    native_histogram_min_bucket_factor: 1.5\n";
    assert_eq!(read(coarse).unwrap(), (0, 1));
}

#[test]
fn a_job_says_what_becomes_of_histograms() {
    let text =
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
    let count = |rules: &str| {
        let (_, out) = read(&mut cache_with(rules), text, &job_rules(""));
        (out[&1000].samples.len(), out[&1000].histograms.len())
    };
    assert_eq!(count(""), (4, 0));
    let custom = "    convert_classic_histograms_to_nhcb: true\n";
    assert_eq!(count(custom), (0, 1));
    let both = format!("{custom}    always_scrape_classic_histograms: true\n");
    assert_eq!(count(&both), (4, 1));
    // A rule can say otherwise for a target.
    let rule = "    relabel_configs:\n      - {target_label: __convert_classic_histograms_to_nhcb__, replacement: 'true'}\n";
    assert_eq!(count(rule), (0, 1));
    let (_, out) = read(&mut cache(), text, &job_rules(""));
    assert_eq!(out[&1000].samples[0].0.get("le"), Some("1.0"));
}

#[tokio::test]
async fn a_new_configuration_takes_over() {
    let text = Arc::new(Mutex::new(Some("a 1\n".to_owned())));
    let heads = Arc::new(Mutex::new(Vec::new()));
    let address = exporter(text, Arc::clone(&heads)).await;
    let yaml = |job: &str| {
        config(&format!(
            "scrape_configs:\n  - job_name: stays\n    scrape_interval: 100ms\n    static_configs: [{{targets: ['{address}']}}]\n  \
             - job_name: {job}\n    scrape_interval: 100ms\n    static_configs: [{{targets: ['{address}']}}]\n"
        ))
    };
    let (change, changed) = watch::channel(yaml("old"));
    let (sender, mut out) = channel(64);
    let cancel = CancellationToken::new();
    let status = Arc::new(Status::new());
    let scraping = {
        let (status, cancel) = (Arc::clone(&status), cancel.clone());
        tokio::spawn(async move {
            run(changed, Discovery { status }, "h", sender, cancel, None).await;
        })
    };
    let of_job = |batch: &SampleBatch, job: &str, will_do: fn(f64) -> bool| {
        let mut samples = batch.samples.iter();
        samples.any(|(l, v)| l.get("job") == Some(job) && will_do(*v))
    };
    let mut see = async |job: &str, will_do: fn(f64) -> bool| loop {
        if let Some(Gathered::Samples(batch)) = out.recv().await
            && of_job(&batch, job, will_do)
        {
            break;
        }
    };
    see("old", |v| v == 1.0).await;
    see("stays", |v| v == 1.0).await;
    change.send(yaml("new")).unwrap();
    see("old", is_stale_nan).await;
    see("new", |v| v == 1.0).await;
    let pools: Vec<String> = status.targets().pools().into_keys().collect();
    assert_eq!(pools, ["new", "stays"]);
    let active = Arc::clone(&status.targets().pools()["new"].active[0]);
    assert_eq!(active.discovered["__address__"], address);
    assert_eq!(active.last().error, "");
    cancel.cancel();
    scraping.await.unwrap();
}
