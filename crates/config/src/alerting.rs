//! The section `alerting`: where alerts go, and what becomes of their labels.

use std::path::Path;
use std::time::Duration;

use kittiwake_model::LabelsBuilder;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::discovery::{Entries, OtherDiscovery, with_discoveries};
use crate::error::{Located, Problem};
use crate::file_sd::TargetGroup;
use crate::http_client::{HttpClient, exclusive};
use crate::names::NameScheme;
use crate::relabel::{RelabelConfig, RelabelRule, apply};
use crate::remote::SIGV4;
use crate::scalar::Interval;
use crate::scrape::{DockerDiscovery, FileDiscovery, items, rules};
use crate::yaml::Node;

/// Longest time for sending alerts, unless the file says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The checked section.
#[derive(Debug, Clone, Default)]
pub struct AlertingConfig {
    /// Rules that the labels of all alerts go through.
    pub alert_relabel_configs: Vec<RelabelConfig>,
    /// Where alerts go.
    pub alertmanagers: Vec<AlertmanagerConfig>,
}

/// Alertmanagers that are spoken to in one way.
#[derive(Debug, Clone)]
pub struct AlertmanagerConfig {
    /// `http` or `https`.
    pub scheme: String,
    /// What stands in front of the API's path.
    pub path_prefix: String,
    /// Longest time for sending.
    pub timeout: Duration,
    /// How to speak to them.
    pub http: HttpClient,
    /// Rules that the labels of the Alertmanagers go through.
    pub relabel_configs: Vec<RelabelConfig>,
    /// Rules that the labels of alerts go through, for these Alertmanagers alone.
    pub alert_relabel_configs: Vec<RelabelConfig>,
    /// Listed in the configuration.
    pub static_configs: Vec<TargetGroup>,
    /// Listed in files.
    pub file_sd_configs: Vec<FileDiscovery>,
    /// Containers.
    pub docker_sd_configs: Vec<DockerDiscovery>,
    /// Discoveries that are checked but not obeyed yet.
    pub other_sd_configs: Vec<OtherDiscovery>,
    /// Settings that are read but not obeyed yet.
    pub unsupported: Vec<String>,
}

/// An Alertmanager that a group of targets names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Where alerts are sent to.
    pub url: String,
    /// Whether a rule drops it.
    pub is_dropped: bool,
}

/// The label that has the path of an Alertmanager's API.
const PATH_LABEL: &str = "__alerts_path__";

impl AlertmanagerConfig {
    /// The Alertmanagers that a group names, after relabelling. The error is an address that is
    /// none.
    pub fn endpoints(&self, group: &TargetGroup) -> Result<Vec<Endpoint>, String> {
        let targets = group.targets.iter();
        targets
            .map(|address| self.endpoint(address, group))
            .collect()
    }

    fn endpoint(&self, address: &str, group: &TargetGroup) -> Result<Endpoint, String> {
        let mut labels = LabelsBuilder::new();
        labels.set("__address__", address);
        labels.set("__scheme__", &self.scheme);
        let prefix = self.path_prefix.trim_matches('/');
        let path = match prefix {
            "" => "/api/v2/alerts".to_owned(),
            prefix => format!("/{prefix}/api/v2/alerts"),
        };
        labels.set(PATH_LABEL, &path);
        for (name, value) in &group.labels {
            if name != "__address__" {
                labels.set(name, value);
            }
        }
        let url = |labels: &LabelsBuilder| {
            let part = |name| labels.get(name).unwrap_or_default();
            let (scheme, address) = (part("__scheme__"), part("__address__"));
            format!("{scheme}://{address}{}", part(PATH_LABEL))
        };
        let before = url(&labels);
        let Some(labels) = apply(&self.relabel_configs, labels) else {
            return Ok(Endpoint {
                url: before,
                is_dropped: true,
            });
        };
        let address = labels.get("__address__").unwrap_or_default();
        if address.contains('/') {
            let address = kittiwake_model::quote(address);
            return Err(format!("{address} is not a valid hostname"));
        }
        Ok(Endpoint {
            url: url(&labels),
            is_dropped: false,
        })
    }
}

type Rules = Entries<RelabelRule>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertingFields {
    alert_relabel_configs: Rules,
    alertmanagers: Entries<AlertmanagerFields>,
}

with_discoveries! {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(crate) struct AlertmanagerFields {
        scheme: Option<String>,
        path_prefix: Option<String>,
        timeout: Option<Interval>,
        api_version: Option<String>,
        sigv4: Option<Node>,
        relabel_configs: Rules,
        alert_relabel_configs: Rules,
    }
}

/// Refuses an entry of a list of rules that says nothing.
pub(crate) fn no_empty_rule(rules: &Rules, line: u64, text: &str) -> Result<(), Located> {
    if rules.iter().flatten().any(Option::is_none) {
        return Err(Located::new(line, Problem::Yaml(text.to_owned())));
    }
    Ok(())
}

impl AlertingFields {
    pub(crate) fn check(
        self,
        line: u64,
        dir: &Path,
        names: NameScheme,
    ) -> Result<AlertingConfig, Located> {
        no_empty_rule(
            &self.alert_relabel_configs,
            line,
            "empty or null alert relabeling rule",
        )?;
        Ok(AlertingConfig {
            alert_relabel_configs: rules(self.alert_relabel_configs, line, names)?,
            alertmanagers: items(
                self.alertmanagers,
                line,
                "an entry of alertmanagers",
                |at, one| one.check(at, dir, names),
            )?,
        })
    }
}

impl AlertmanagerFields {
    fn check(
        mut self,
        line: u64,
        dir: &Path,
        names: NameScheme,
    ) -> Result<AlertmanagerConfig, Located> {
        no_empty_rule(
            &self.relabel_configs,
            line,
            "empty or null Alertmanager target relabeling rule",
        )?;
        no_empty_rule(
            &self.alert_relabel_configs,
            line,
            "empty or null Alertmanager alert relabeling rule",
        )?;
        if let Some(version) = &self.api_version
            && version != "v2"
        {
            let problem = Problem::Value {
                field: "api_version",
                value: version.clone(),
                allowed: "expected Alertmanager api version to be one of [v2]",
            };
            return Err(Located::new(line, problem));
        }
        let http = self.http_fields();
        let given = http.given();
        let mut unsupported = Vec::new();
        if let Some(sigv4) = &self.sigv4 {
            let way = given
                .iter()
                .find(|way| ["basic_auth", "authorization", "oauth2"].contains(way));
            exclusive(
                line,
                &[(way.copied().unwrap_or(""), way.is_some()), ("sigv4", true)],
            )?;
            let checked = sigv4.check(SIGV4, "sigv4");
            checked.map_err(|text| Located::new(line, Problem::Yaml(text)))?;
            unsupported.push("sigv4".to_owned());
        }
        let is_relabelled = self.relabel_configs.as_ref().is_some_and(|r| !r.is_empty());
        let found = self.discovery_fields().check(line, dir, is_relabelled)?;
        let http = http.check(line, dir)?;
        unsupported.extend(found.unsupported);
        unsupported.extend(http.unsupported.iter().map(|s| (*s).to_owned()));
        Ok(AlertmanagerConfig {
            scheme: self.scheme.unwrap_or_else(|| "http".to_owned()),
            path_prefix: self.path_prefix.unwrap_or_default(),
            timeout: self.timeout.map_or(TIMEOUT, |timeout| timeout.0),
            http,
            relabel_configs: rules(self.relabel_configs, line, names)?,
            alert_relabel_configs: rules(self.alert_relabel_configs, line, names)?,
            static_configs: found.static_configs,
            file_sd_configs: found.file_sd_configs,
            docker_sd_configs: found.docker_sd_configs,
            other_sd_configs: found.others,
            unsupported,
        })
    }
}

/// The section, checked; one that is empty says nothing.
pub(crate) fn check(
    section: Option<Spanned<Option<AlertingFields>>>,
    dir: &Path,
    names: NameScheme,
) -> Result<AlertingConfig, Located> {
    let Some(section) = section else {
        return Ok(AlertingConfig::default());
    };
    let line = section.referenced.line();
    match section.value {
        Some(fields) => fields.check(line, dir, names),
        None => Ok(AlertingConfig::default()),
    }
}
