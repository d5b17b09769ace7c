//! The sections `remote_write` and `remote_read`: checked as Prometheus checks them, and not
//! obeyed yet.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;

use crate::alerting::no_empty_rule;
use crate::discovery::{Entries, checks::is_uuid};
use crate::error::{Located, Problem};
use crate::http_client::{HttpClient, RESERVED_HEADERS, check_url, http_settings};
use crate::names::NameScheme;
use crate::relabel::RelabelRule;
use crate::scalar::{Interval, Texts};
use crate::scrape::rules;
use crate::yaml::{Kind, Node};

/// Headers that a user cannot set beside those of all clients.
const RESERVED_OF_AWS: [&str; 3] = ["x-amz-date", "x-amz-security-token", "x-amz-content-sha256"];

pub(crate) const SIGV4: Kind = Kind::Fields(
    "sigv4.plain",
    &[
        ("region", Kind::Text),
        ("access_key", Kind::Text),
        ("secret_key", Kind::Text),
        ("profile", Kind::Text),
        ("role_arn", Kind::Text),
        ("external_id", Kind::Text),
        ("use_fips_sts_endpoint", Kind::Bool),
        ("service_name", Kind::Text),
    ],
);
const AZURE: Kind = Kind::Fields(
    "azuread.plain",
    &[
        (
            "managed_identity",
            Kind::Fields(
                "azuread.ManagedIdentityConfig",
                &[("client_id", Kind::Text)],
            ),
        ),
        (
            "workload_identity",
            Kind::Fields(
                "azuread.WorkloadIdentityConfig",
                &[
                    ("client_id", Kind::Text),
                    ("tenant_id", Kind::Text),
                    ("token_file_path", Kind::Text),
                ],
            ),
        ),
        (
            "oauth",
            Kind::Fields(
                "azuread.OAuthConfig",
                &[
                    ("client_id", Kind::Text),
                    ("client_secret", Kind::Text),
                    ("tenant_id", Kind::Text),
                ],
            ),
        ),
        (
            "sdk",
            Kind::Fields("azuread.SDKConfig", &[("tenant_id", Kind::Text)]),
        ),
        (
            "certificate",
            Kind::Fields(
                "azuread.CertificateConfig",
                &[
                    ("client_id", Kind::Text),
                    ("tenant_id", Kind::Text),
                    ("certificate_path", Kind::Text),
                    ("certificate_key_path", Kind::Text),
                    ("certificate_password", Kind::Text),
                    ("send_certificate_chain", Kind::Bool),
                ],
            ),
        ),
        ("cloud", Kind::Text),
        ("scope", Kind::Text),
    ],
);
const GOOGLE: Kind = Kind::Fields("googleiam.Config", &[("credentials_file", Kind::Text)]);

/// A checked entry of either section.
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    /// Its name; empty where none is given.
    pub name: String,
    /// The other end.
    pub url: String,
    /// How it would be spoken to.
    pub http: HttpClient,
}

http_settings! {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(crate) struct WriteFields {
        url: Option<String>,
        #[allow(dead_code, reason = "not obeyed yet")]
        remote_timeout: Option<Interval>,
        headers: Option<Texts>,
        write_relabel_configs: Entries<RelabelRule>,
        name: Option<String>,
        #[allow(dead_code, reason = "not obeyed yet")]
        send_exemplars: Option<bool>,
        #[allow(dead_code, reason = "not obeyed yet")]
        send_native_histograms: Option<bool>,
        #[allow(dead_code, reason = "not obeyed yet")]
        round_robin_dns: Option<bool>,
        #[allow(dead_code, reason = "not obeyed yet")]
        failed_request_logging: Option<bool>,
        #[serde(default, deserialize_with = "crate::scalar::null_is_zero")]
        protobuf_message: Option<String>,
        queue_config: Option<QueueFields>,
        #[allow(dead_code, reason = "not obeyed yet")]
        metadata_config: Option<MetadataFields>,
        sigv4: Option<Node>,
        azuread: Option<Node>,
        google_iam: Option<Node>,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct QueueFields {
    #[serde(default, deserialize_with = "crate::scalar::null_is_zero")]
    capacity: Option<i64>,
    #[serde(default, deserialize_with = "crate::scalar::null_is_zero")]
    max_shards: Option<i64>,
    #[serde(default, deserialize_with = "crate::scalar::null_is_zero")]
    min_shards: Option<i64>,
    #[serde(default, deserialize_with = "crate::scalar::null_is_zero")]
    max_samples_per_send: Option<i64>,
    #[allow(dead_code, reason = "not obeyed yet")]
    batch_send_deadline: Option<Interval>,
    min_backoff: Option<Interval>,
    max_backoff: Option<Interval>,
    #[allow(dead_code, reason = "not obeyed yet")]
    retry_on_http_429: Option<bool>,
    #[allow(dead_code, reason = "not obeyed yet")]
    sample_age_limit: Option<Interval>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "not obeyed yet")]
struct MetadataFields {
    send: Option<bool>,
    send_interval: Option<Interval>,
    max_samples_per_send: Option<i64>,
}

http_settings! {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(crate) struct ReadFields {
        url: Option<String>,
        #[allow(dead_code, reason = "not obeyed yet")]
        remote_timeout: Option<Interval>,
        #[allow(dead_code, reason = "not obeyed yet")]
        chunked_read_limit: Option<u64>,
        headers: Option<Texts>,
        #[allow(dead_code, reason = "not obeyed yet")]
        read_recent: Option<bool>,
        name: Option<String>,
        #[allow(dead_code, reason = "not obeyed yet")]
        required_matchers: Option<Texts>,
        #[allow(dead_code, reason = "not obeyed yet")]
        filter_external_labels: Option<bool>,
    }
}

fn wrong(line: u64, text: impl Into<String>) -> Located {
    Located::new(line, Problem::Yaml(text.into()))
}

/// Refuses headers that the client sets itself.
pub(crate) fn check_headers(
    headers: Option<&Texts>,
    line: u64,
    authorization: &str,
) -> Result<(), Located> {
    for name in headers.into_iter().flat_map(|headers| headers.0.keys()) {
        let lower = name.to_ascii_lowercase();
        if lower == "authorization" {
            return Err(wrong(line, authorization));
        }
        let lower = lower.as_str();
        if RESERVED_HEADERS.contains(&lower) || RESERVED_OF_AWS.contains(&lower) {
            let text = format!("{name} is a reserved header. It must not be changed");
            return Err(wrong(line, text));
        }
    }
    Ok(())
}

const AUTHORIZATION: &str = "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread or google_iam parameter";

/// Checks `remote_write`.
pub(crate) fn check_write(
    entries: Entries<WriteFields>,
    dir: &Path,
    names: NameScheme,
) -> Result<Vec<RemoteConfig>, Located> {
    let mut seen = HashSet::new();
    let mut checked = Vec::new();
    for entry in entries.unwrap_or_default() {
        let entry = entry.ok_or_else(|| wrong(0, "empty or null remote write config section"))?;
        let line = entry.referenced.line();
        let one = entry.value.check(line, dir, names)?;
        if !one.name.is_empty() && !seen.insert(one.name.clone()) {
            let name = kittiwake_model::quote(&one.name);
            let text = format!("found multiple remote write configs with job name {name}");
            return Err(wrong(line, text));
        }
        checked.push(one);
    }
    Ok(checked)
}

/// Checks `remote_read`.
pub(crate) fn check_read(
    entries: Entries<ReadFields>,
    dir: &Path,
) -> Result<Vec<RemoteConfig>, Located> {
    let mut seen = HashSet::new();
    let mut checked = Vec::new();
    for entry in entries.unwrap_or_default() {
        let entry = entry.ok_or_else(|| wrong(0, "empty or null remote read config section"))?;
        let line = entry.referenced.line();
        let one = entry.value.check(line, dir)?;
        if !one.name.is_empty() && !seen.insert(one.name.clone()) {
            let name = kittiwake_model::quote(&one.name);
            let text = format!("found multiple remote read configs with job name {name}");
            return Err(wrong(line, text));
        }
        checked.push(one);
    }
    Ok(checked)
}

impl ReadFields {
    fn check(mut self, line: u64, dir: &Path) -> Result<RemoteConfig, Located> {
        let http = self.http_fields();
        let url = self
            .url
            .ok_or_else(|| wrong(line, "url for remote_read is empty"))?;
        check_url(line, "url", Some(&url))?;
        check_headers(self.headers.as_ref(), line, AUTHORIZATION)?;
        Ok(RemoteConfig {
            name: self.name.unwrap_or_default(),
            url,
            http: http.check(line, dir)?,
        })
    }
}

impl WriteFields {
    fn check(mut self, line: u64, dir: &Path, names: NameScheme) -> Result<RemoteConfig, Located> {
        let http = self.http_fields();
        let url = self.url.take();
        let url = url.ok_or_else(|| wrong(line, "url for remote_write is empty"))?;
        check_url(line, "url", Some(&url))?;
        let empty_rule = "empty or null relabeling rule in remote write config";
        no_empty_rule(&self.write_relabel_configs, line, empty_rule)?;
        rules(self.write_relabel_configs.take(), line, names)?;
        check_headers(self.headers.as_ref(), line, AUTHORIZATION)?;
        let known = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"];
        if let Some(message) = &self.protobuf_message
            && !known.contains(&message.as_str())
        {
            let text = format!(
                "invalid protobuf_message value: unknown type for remote write protobuf message {message}, supported: {}",
                known.join(", ")
            );
            return Err(wrong(line, text));
        }
        self.check_auth(line, &http.given())?;
        let http = http.check(line, dir)?;
        if let Some(queue) = &self.queue_config {
            queue.check().map_err(|text| wrong(line, text))?;
        }
        Ok(RemoteConfig {
            name: self.name.unwrap_or_default(),
            url,
            http,
        })
    }

    fn check_auth(&self, line: u64, given: &[&'static str]) -> Result<(), Located> {
        let ways = ["basic_auth", "authorization", "oauth2"].into_iter();
        let mut ways: Vec<&str> = ways.filter(|way| given.contains(way)).collect();
        for (name, node, kind) in [
            ("sigv4", &self.sigv4, SIGV4),
            ("azuread", &self.azuread, AZURE),
            ("google_iam", &self.google_iam, GOOGLE),
        ] {
            let Some(node) = node.as_ref().filter(|node| **node != Node::Null) else {
                continue;
            };
            node.check(kind, name).map_err(|text| wrong(line, text))?;
            ways.push(name);
        }
        if ways.len() > 1 {
            let ways = ways.join(" ");
            let text = format!(
                "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be configured. Currently configured: [{ways}]"
            );
            return Err(wrong(line, text));
        }
        match &self.azuread {
            Some(azure) if *azure != Node::Null => {
                check_azure(azure).map_err(|text| wrong(line, text))
            }
            _ => Ok(()),
        }
    }
}

impl QueueFields {
    fn check(&self) -> Result<(), String> {
        let (shards_max, shards_min) =
            (self.max_shards.unwrap_or(50), self.min_shards.unwrap_or(1));
        for (name, value) in [
            ("max_shards", shards_max),
            ("min_shards", shards_min),
            (
                "max_samples_per_send",
                self.max_samples_per_send.unwrap_or(2000),
            ),
            ("capacity", self.capacity.unwrap_or(10_000)),
        ] {
            if value <= 0 {
                return Err(format!("remote write queue {name} must be positive"));
            }
        }
        if shards_min > shards_max {
            return Err(
                "remote write queue min_shards must not be greater than max_shards".to_owned(),
            );
        }
        let backoff = |given: Option<Interval>, default_ms: u128| {
            given.map_or(default_ms, |given| given.0.as_millis())
        };
        if backoff(self.max_backoff, 5000) < backoff(self.min_backoff, 30) {
            return Err(
                "remote write queue max_backoff must not be less than min_backoff".to_owned(),
            );
        }
        Ok(())
    }
}

fn check_azure(azure: &Node) -> Result<(), String> {
    let refuse = |text: &str| Err(format!("{text} in the Azure AD config"));
    let cloud = azure.field("cloud");
    if !["", "AzureChina", "AzureGovernment", "AzurePublic"].contains(&cloud) {
        return refuse("must provide a cloud");
    }
    let ways = [
        ("managed_identity", "Managed Identity"),
        ("workload_identity", "Workload Identity"),
        ("oauth", "OAuth"),
        ("sdk", "SDK"),
        ("certificate", "Certificate"),
    ];
    let given: Vec<_> = ways
        .iter()
        .filter(|(name, _)| azure.get(name).is_some_and(|way| *way != Node::Null))
        .collect();
    let [(name, title)] = given.as_slice() else {
        return refuse(if given.is_empty() {
            "must provide an Azure Managed Identity, Azure Workload Identity, Azure OAuth, Azure Certificate or Azure SDK"
        } else {
            "cannot provide multiple authentication methods"
        });
    };
    let way = azure.get(name).unwrap_or(&Node::Null);
    let needed: &[&str] = match *name {
        "workload_identity" => &["client_id", "tenant_id"],
        "oauth" => &["client_id", "client_secret", "tenant_id"],
        "certificate" => &["client_id", "tenant_id", "certificate_path"],
        _ => &[],
    };
    for field in needed {
        if way.field(field).is_empty() {
            return refuse(&format!("must provide an Azure {title} {field}"));
        }
    }
    let ids: &[&str] = match *name {
        "workload_identity" => &["client_id", "tenant_id"],
        "sdk" => &[],
        _ => &["client_id"],
    };
    for field in ids {
        let id = way.field(field);
        if !id.is_empty() && !is_uuid(id) {
            return Err(format!("the provided Azure {title} {field} is invalid"));
        }
    }
    let is_allowed =
        |c: char| c.is_ascii_alphanumeric() || "_:/.-".contains(c) || c.is_whitespace();
    if !azure.field("scope").chars().all(is_allowed) {
        return Err("the provided scope contains invalid characters".to_owned());
    }
    Ok(())
}
