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
    assert_eq!(
        config.unsupported,
        ["rule_files", "dns_sd_configs of job \"x\""]
    );
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

/// Files whose mistake lies in a section that is not read yet.
const NOT_READ: &[&str] = &[
    "azure_bearertoken_basicauth.bad.yml",
    "azure_client_id_missing.bad.yml",
    "azure_client_secret_missing.bad.yml",
    "azure_subscription_id_missing.bad.yml",
    "azure_tenant_id_missing.bad.yml",
    "ec2_filters_empty_values.bad.yml",
    "ec2_token_file.bad.yml",
    "empty_alert_relabel_config.bad.yml",
    "empty_alertmanager_relabel_config.bad.yml",
    "empty_rr_config.bad.yml",
    "empty_rw_config.bad.yml",
    "empty_rw_relabel_config.bad.yml",
    "eureka_invalid_server.bad.yml",
    "eureka_no_server.bad.yml",
    "http_token_file.bad.yml",
    "kubernetes_api_server_with_own_namespace.bad.yml",
    "kubernetes_authorization_basicauth.bad.yml",
    "kubernetes_bearertoken.bad.yml",
    "kubernetes_bearertoken_basicauth.bad.yml",
    "kubernetes_http_config_without_api_server.bad.yml",
    "kubernetes_kubeconfig_with_apiserver.bad.yml",
    "kubernetes_kubeconfig_with_http_config.bad.yml",
    "kubernetes_kubeconfig_with_own_namespace.bad.yml",
    "kubernetes_selectors_duplicated_role.bad.yml",
    "kubernetes_selectors_endpoints.bad.yml",
    "kubernetes_selectors_incorrect_selector.bad.yml",
    "kubernetes_selectors_ingress.bad.yml",
    "kubernetes_selectors_node.bad.yml",
    "kubernetes_selectors_pod.bad.yml",
    "kubernetes_selectors_service.bad.yml",
    "lightsail_token_file.bad.yml",
    "marathon_authtoken_authorization.bad.yml",
    "marathon_authtoken_authtokenfile.bad.yml",
    "marathon_authtoken_basicauth.bad.yml",
    "marathon_authtoken_bearertoken.bad.yml",
    "marathon_no_servers.bad.yml",
    "otlp_allow_utf8.bad.yml",
    "otlp_ignore_resource_attributes_without_promote_all.bad.yml",
    "otlp_promote_all_resource_attributes.bad.yml",
    "otlp_sanitize_ignore_resource_attributes.bad.yml",
    "otlp_sanitize_promote_resource_attributes.bad.yml",
    "outscale_no_region.bad.yml",
    "outscale_no_secret.bad.yml",
    "outscale_two_secrets.bad.yml",
    "puppetdb_token_file.bad.yml",
    "remote_read_dup.bad.yml",
    "remote_read_header.bad.yml",
    "remote_read_url_missing.bad.yml",
    "remote_write_authorization_header.bad.yml",
    "remote_write_dup.bad.yml",
    "remote_write_header.bad.yml",
    "remote_write_queue_capacity_zero.bad.yml",
    "remote_write_queue_max_backoff_less_than_min.bad.yml",
    "remote_write_queue_max_samples_per_send_zero.bad.yml",
    "remote_write_queue_max_shards_zero.bad.yml",
    "remote_write_queue_min_shards_greater_than_max.bad.yml",
    "remote_write_queue_min_shards_zero.bad.yml",
    "remote_write_url_missing.bad.yml",
    "remote_write_wrong_msg.bad.yml",
    "stackit_endpoint.bad.yml",
    "tracing_invalid_authorization_header.bad.yml",
    "tracing_invalid_compression.bad.yml",
    "tracing_invalid_header.bad.yml",
    "tracing_missing_endpoint.bad.yml",
    "tsdb_chunk_encoding_floats.bad.yml",
    "tsdb_chunk_encoding_floats_wrong_case.bad.yml",
    "tsdb_chunk_encoding_floats_wrong_case_xor2.bad.yml",
    "tsdb_retention_percentage.bad.yml",
    "tsdb_retention_percentage_negative.bad.yml",
    "tsdb_retention_size.bad.yml",
    "tsdb_retention_time.bad.yml",
    "uyuni_no_server.bad.yml",
    "uyuni_token_file.bad.yml",
];

#[test]
fn prometheus_own_files() {
    let root = std::env::var_os("CONFORMANCE_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"),
        PathBuf::from,
    );
    let dir = root.join("prometheus/config");
    let Ok(listing) = std::fs::read_dir(&dir) else {
        assert!(
            std::env::var_os("CONFORMANCE_DIR").is_none(),
            "{} is not there",
            dir.display()
        );
        eprintln!("SKIPPED: no conformance data at {}", dir.display());
        return;
    };
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
        let is_bad = name.ends_with(".bad.yml") && !NOT_READ.contains(&name.as_str());
        match loaded {
            Ok(_) if is_bad => wrong.push(format!("{name}: was taken")),
            Err(e) if !name.ends_with(".bad.yml") => wrong.push(format!("{name}: {e}")),
            _ => {}
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 200, "{checked}");
}
