use proptest::prelude::*;

use super::*;
use crate::http_client::Auth;

fn parse(text: &str) -> Result<PrometheusConfig, String> {
    PrometheusConfig::parse(text, Path::new("/etc/p")).map_err(|e| e.to_string())
}

#[test]
fn a_job_inherits_what_it_does_not_say() {
    let config = parse(
        "global:\n  scrape_interval: 5s\n  sample_limit: 7\n  external_labels: {a: b}\n\
         scrape_configs:\n  - job_name: x\n    bearer_token_file: t\n    file_sd_configs:\n      \
         - files: ['f/*.json']\n    static_configs:\n      - targets: ['h:1']\n        labels: {l: v}\n",
    )
    .unwrap();
    let job = &config.scrape_configs[0];
    assert_eq!(job.scrape_interval, Duration::from_secs(5));
    assert_eq!(job.scrape_timeout, Duration::from_secs(5));
    assert_eq!(job.limits.samples, 7);
    assert_eq!(
        (job.scheme.as_str(), job.metrics_path.as_str()),
        ("http", "/metrics")
    );
    assert!(job.honor_timestamps && !job.honor_labels);
    assert_eq!(job.static_configs[0].labels["l"], "v");
    assert_eq!(job.file_sd_configs[0].files, [Path::new("/etc/p/f/*.json")]);
    assert!(matches!(job.http.auth, Some(Auth::Token { .. })));
    assert_eq!(config.external_labels.get("a"), Some("b"));
}

#[test]
fn what_is_not_obeyed_is_named() {
    let config = parse(
        "rule_files: [a.yml]\nscrape_configs:\n  - job_name: x\n    dns_sd_configs: [{names: [a]}]\n",
    )
    .unwrap();
    assert_eq!(config.unsupported, ["dns_sd_configs of job \"x\""]);
}

#[test]
fn mistakes_name_the_line() {
    for (text, wanted) in [
        (
            "scrape_configs:\n  - job_name: x\n    scrape_intervall: 5s\n",
            ":3: ",
        ),
        (
            "scrape_configs:\n  - job_name: x\n    scheme: ftp\n",
            "http or https",
        ),
        (
            "scrape_configs:\n  - job_name: x\n  - job_name: x\n",
            "used twice",
        ),
        ("scrape_configs:\n  - scheme: http\n", "job_name"),
        ("global:\n  scrape_interval: 5x\n", ":2: "),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn variables_are_expanded() {
    let of = |text: &str| expand(text, |name| format!("<{name}>"));
    assert_eq!(of("a$B-${C}x$$y$"), "a<B>-<C>x$y$");
    assert_eq!(of("${open"), "${open");
}

proptest! {
    #[test]
    fn any_text_is_answered(text in r#"[a-z_:\[\]{}"' \n-]{0,60}"#) {
        let _ = PrometheusConfig::parse(&text, Path::new(""));
    }
}

#[test]
fn prometheus_own_files() {
    let Some(dir) = kittiwake_conformance::conformance("prometheus/config") else {
        return;
    };
    let listing = std::fs::read_dir(&dir).unwrap();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for entry in listing {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_none_or(|e| e != "yml") {
            continue;
        }
        checked += 1;
        let loaded = PrometheusConfig::load(&path);
        // Prometheus refuses these too, whatever they are called.
        let is_bad = name.ends_with(".bad.yml")
            || name.ends_with(".incompatible.yml")
            || name == "config_with_deprecated_am_api_config.yml";
        match loaded {
            Ok(_) if is_bad => wrong.push(format!("{name}: was taken")),
            Err(e) if !is_bad => wrong.push(format!("{name}: {e}")),
            _ => {}
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 200, "{checked}");
}
