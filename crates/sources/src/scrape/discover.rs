//! Where a job's targets come from: the configuration, files, and this node's containers.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use kittiwake_config::glob::matching_files;
use kittiwake_config::{
    DockerDiscovery, FileDiscovery, ScrapeConfig, TargetGroup, read_target_groups,
};

use crate::ContainerInfo;

/// Targets of one job; more are not scraped.
pub(super) const TARGETS_MAX: usize = 20_000;

/// The labels of a target, as discovered.
pub(super) type Discovered = BTreeMap<String, String>;

/// The files of one discovery as they were read last.
#[derive(Debug, Default)]
pub(super) struct Files {
    read: HashMap<PathBuf, FileState>,
    read_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct FileState {
    mark: Option<(SystemTime, u64)>,
    groups: Vec<TargetGroup>,
    has_failed: bool,
}

fn mark(file: &Path) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

impl Files {
    /// Reads what has changed, and everything when its time has come. A file that cannot be
    /// read keeps the targets that it had.
    fn refresh(&mut self, discovery: &FileDiscovery) {
        let is_due = self
            .read_at
            .is_none_or(|at| at.elapsed() >= discovery.refresh_interval);
        if is_due {
            self.read_at = Some(Instant::now());
        }
        let mut names = Vec::new();
        for pattern in &discovery.files {
            match matching_files(pattern) {
                Ok(found) => names.extend(found),
                Err(error) => {
                    tracing::warn!("targets in {}: {error}", pattern.display());
                    return;
                }
            }
        }
        self.read.retain(|name, _| names.contains(name));
        for name in names {
            let now = mark(&name);
            let state = self.read.entry(name.clone()).or_default();
            if !is_due && state.mark == now {
                continue;
            }
            state.mark = now;
            match read_target_groups(&name) {
                Ok(groups) => {
                    state.groups = groups;
                    state.has_failed = false;
                }
                Err(error) if !state.has_failed => {
                    state.has_failed = true;
                    tracing::warn!("the targets of before are kept: {error}");
                }
                Err(_) => {}
            }
        }
    }
}

/// All that is discovered for a job now; at most [`TARGETS_MAX`].
pub(super) fn discover(
    job: &ScrapeConfig,
    files: &mut Vec<Files>,
    containers: &[ContainerInfo],
) -> Vec<Discovered> {
    let mut found = Vec::new();
    for group in &job.static_configs {
        group_targets(group, None, &mut found);
    }
    files.resize_with(job.file_sd_configs.len(), Files::default);
    for (discovery, files) in job.file_sd_configs.iter().zip(files) {
        files.refresh(discovery);
        for (name, state) in &files.read {
            for group in &state.groups {
                group_targets(group, Some(name), &mut found);
            }
        }
    }
    for discovery in &job.docker_sd_configs {
        docker_targets(discovery, containers, &mut found);
    }
    found
}

fn group_targets(group: &TargetGroup, file: Option<&Path>, found: &mut Vec<Discovered>) {
    for address in &group.targets {
        if found.len() >= TARGETS_MAX {
            return;
        }
        let mut labels = group.labels.clone();
        labels.insert("__address__".to_owned(), address.clone());
        if let Some(file) = file {
            let path = file.display().to_string();
            labels.insert("__meta_filepath".to_owned(), path);
        }
        found.push(labels);
    }
}

/// A container on several networks, or with several TCP ports, is several targets. One in
/// another's network has the other's addresses.
pub(super) fn docker_targets(
    discovery: &DockerDiscovery,
    containers: &[ContainerInfo],
    found: &mut Vec<Discovered>,
) {
    for container in containers {
        if !is_wanted(discovery, container) {
            continue;
        }
        let mut common = Discovered::new();
        let mut set = |name: &str, value: &str| {
            common.insert(format!("__meta_docker_{name}"), value.to_owned());
        };
        set("container_id", &container.id);
        set("container_name", &format!("/{}", container.name));
        set("container_network_mode", &container.network_mode);
        for (name, value) in &container.labels {
            let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "_");
            set(&format!("container_label_{name}"), value);
        }
        let other = container.network_mode.strip_prefix("container:");
        let other = other.and_then(|id| containers.iter().find(|c| c.id == id));
        let networks = &other.unwrap_or(container).networks;
        let count = if discovery.match_first_network {
            1
        } else {
            networks.len()
        };
        let is_host = container.network_mode == "host";
        for network in networks.iter().take(count) {
            let mut labels = common.clone();
            let mut set = |name: &str, value: String| {
                labels.insert(format!("__meta_docker_{name}"), value);
            };
            set("network_id", network.id.clone());
            set("network_name", network.name.clone());
            set("network_ip", network.ip.clone());
            let with_port = |port: u16| {
                if network.ip.contains(':') {
                    format!("[{}]:{port}", network.ip)
                } else {
                    format!("{}:{port}", network.ip)
                }
            };
            let mut targets = Vec::new();
            for port in container.ports.iter().filter(|p| p.protocol == "tcp") {
                let mut labels = labels.clone();
                let mut set = |name: &str, value: String| {
                    labels.insert(format!("__meta_docker_{name}"), value);
                };
                set("port_private", port.private.to_string());
                if let Some((ip, public)) = &port.public {
                    set("port_public", public.to_string());
                    set("port_public_ip", ip.clone());
                }
                labels.insert("__address__".to_owned(), with_port(port.private));
                targets.push(labels);
            }
            if targets.is_empty() {
                let address = if is_host {
                    discovery.host_networking_host.clone()
                } else {
                    with_port(discovery.port)
                };
                labels.insert("__address__".to_owned(), address);
                targets.push(labels);
            }
            for target in targets {
                if found.len() < TARGETS_MAX {
                    found.push(target);
                }
            }
        }
    }
}

/// Whether each filter has a value that fits. A filter that cannot be told from what is known
/// of running containers lets none through: too few targets are seen sooner than too many.
fn is_wanted(discovery: &DockerDiscovery, container: &ContainerInfo) -> bool {
    discovery.filters.iter().all(|(name, values)| {
        values.iter().any(|value| match name.as_str() {
            "id" => container.id.starts_with(value),
            "name" => container.name.contains(value.trim_start_matches('/')),
            "status" => value == "running",
            "network" => {
                let mut networks = container.networks.iter();
                networks.any(|n| n.name == *value || n.id.starts_with(value))
            }
            "label" => match value.split_once('=') {
                Some((label, wanted)) => container.labels.get(label).is_some_and(|v| v == wanted),
                None => container.labels.contains_key(value),
            },
            _ => false,
        })
    })
}
