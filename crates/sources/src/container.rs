//! What a container is, and the labels that follow from it.

use std::collections::BTreeMap;

use bollard::models::ContainerInspectResponse;
use kittiwake_model::LabelsBuilder;

/// A container, as the engine describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerInfo {
    /// The engine's id: 64 hexadecimal digits.
    pub id: String,
    /// Its name, without the leading slash.
    pub name: String,
    /// The image, as it was named when the container was made.
    pub image: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The networks it is on, by name.
    pub networks: Vec<Network>,
    /// The ports it exposes, published or not.
    pub ports: Vec<Port>,
    /// How it was put on the network: `bridge`, `host`, `container:<id>`, a network's name.
    pub network_mode: String,
}

/// A container's place in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// The network's name.
    pub name: String,
    /// The network's id.
    pub id: String,
    /// The container's address there; empty when it has none.
    pub ip: String,
    /// The gateway's address.
    pub gateway: String,
}

/// A port that a container exposes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Port {
    /// The port inside.
    pub private: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The port on the host and the address it is bound to, where it is published.
    pub public: Option<(String, u16)>,
}

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";

/// Labels of ours, and the container labels that they are taken from.
const FROM_LABELS: [(&str, &str); 6] = [
    ("compose_project", PROJECT),
    ("compose_service", SERVICE),
    ("swarm_stack", "com.docker.stack.namespace"),
    ("swarm_service", "com.docker.swarm.service.name"),
    ("namespace", "io.kubernetes.pod.namespace"),
    ("pod", "io.kubernetes.pod.name"),
];

impl ContainerInfo {
    pub(crate) fn from_inspect(inspect: &ContainerInspectResponse) -> Self {
        let config = inspect.config.as_ref();
        let settings = inspect.network_settings.as_ref();
        let networks = settings.and_then(|s| s.networks.as_ref());
        let mut networks: Vec<Network> = networks
            .into_iter()
            .flatten()
            .map(|(name, endpoint)| Network {
                name: name.clone(),
                id: endpoint.network_id.clone().unwrap_or_default(),
                ip: endpoint.ip_address.clone().unwrap_or_default(),
                gateway: endpoint.gateway.clone().unwrap_or_default(),
            })
            .collect();
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        let mut ports = Vec::new();
        let exposed = config.and_then(|c| c.exposed_ports.as_ref());
        for name in exposed.into_iter().flatten() {
            ports.extend(port(name, None));
        }
        for (name, bindings) in settings
            .and_then(|s| s.ports.as_ref())
            .into_iter()
            .flatten()
        {
            for binding in bindings.iter().flatten() {
                let address = binding.host_ip.clone().unwrap_or_default();
                let number = binding.host_port.as_deref().and_then(|p| p.parse().ok());
                ports.extend(port(name, number.map(|n| (address, n))));
            }
        }
        ports.sort_by(|a, b| {
            (a.private, &a.protocol, &b.public).cmp(&(b.private, &b.protocol, &a.public))
        });
        ports.dedup_by(|next, kept| {
            next.private == kept.private
                && next.protocol == kept.protocol
                && (next.public.is_none() || next.public == kept.public)
        });
        let labels = config.and_then(|c| c.labels.clone()).unwrap_or_default();
        let mode = inspect
            .host_config
            .as_ref()
            .and_then(|h| h.network_mode.clone());
        Self {
            id: inspect.id.clone().unwrap_or_default(),
            name: trim_name(inspect.name.as_deref().unwrap_or_default()),
            image: config.and_then(|c| c.image.clone()).unwrap_or_default(),
            labels: labels.into_iter().collect(),
            networks,
            ports,
            network_mode: mode.unwrap_or_default(),
        }
    }

    /// What an event says of its container: it may be gone before it can be asked for.
    pub(crate) fn from_event<'a>(
        id: &str,
        attributes: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        let mut labels: BTreeMap<String, String> = attributes
            .into_iter()
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        Self {
            id: id.to_owned(),
            name: trim_name(&labels.remove("name").unwrap_or_default()),
            image: labels.remove("image").unwrap_or_default(),
            labels,
            ..Self::default()
        }
    }

    /// Whether the container has network devices of its own.
    pub(crate) fn has_own_network(&self) -> bool {
        self.network_mode != "host" && !self.network_mode.starts_with("container:")
    }

    fn common_labels(&self, host: &str) -> LabelsBuilder {
        let mut labels = LabelsBuilder::new();
        labels.set("host", host);
        labels.set("container", &self.name);
        labels.set("image", &self.image);
        for (ours, theirs) in FROM_LABELS {
            labels.set(ours, self.labels.get(theirs).map_or("", String::as_str));
        }
        labels
    }

    /// The labels of its series, but for the names: `id` is its cgroup.
    pub(crate) fn series_labels(&self, host: &str, cgroup: &str) -> LabelsBuilder {
        let mut labels = self.common_labels(host);
        labels.set("id", cgroup).set("name", &self.name);
        labels.set("job", "cadvisor").set("instance", host);
        labels
    }

    /// The labels of one of its log streams.
    pub(crate) fn stream_labels(&self, host: &str, stream: &str) -> LabelsBuilder {
        let mut labels = self.common_labels(host);
        let service = labels
            .get("compose_service")
            .or(labels.get("swarm_service"));
        let service = service.unwrap_or(&self.name).to_owned();
        labels.set("stream", stream).set("service_name", &service);
        labels
    }
}

fn trim_name(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

fn port(name: &str, public: Option<(String, u16)>) -> Option<Port> {
    let (number, protocol) = name.split_once('/').unwrap_or((name, "tcp"));
    Some(Port {
        private: number.parse().ok()?,
        protocol: protocol.to_owned(),
        public,
    })
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerConfig, NetworkSettings, PortBinding};

    use super::*;

    fn info(labels: &[(&str, &str)]) -> ContainerInfo {
        let inspect = ContainerInspectResponse {
            id: Some("abc".into()),
            name: Some("/shop-web-1".into()),
            config: Some(ContainerConfig {
                image: Some("nginx:1".into()),
                exposed_ports: Some(vec!["80/tcp".into(), "53/udp".into(), "bad".into()]),
                labels: Some(
                    labels
                        .iter()
                        .map(|(n, v)| ((*n).into(), (*v).into()))
                        .collect(),
                ),
                ..ContainerConfig::default()
            }),
            network_settings: Some(NetworkSettings {
                ports: Some(std::collections::HashMap::from([(
                    "80/tcp".to_owned(),
                    Some(vec![PortBinding {
                        host_ip: Some("0.0.0.0".into()),
                        host_port: Some("8080".into()),
                    }]),
                )])),
                ..NetworkSettings::default()
            }),
            ..ContainerInspectResponse::default()
        };
        ContainerInfo::from_inspect(&inspect)
    }

    #[test]
    fn labels_of_a_compose_service() {
        let info = info(&[(PROJECT, "shop"), (SERVICE, "web"), ("other", "x")]);
        let stream = info.stream_labels("h1", "stderr").build().unwrap();
        let text = stream.to_string();
        assert_eq!(
            text,
            "{compose_project=\"shop\", compose_service=\"web\", container=\"shop-web-1\", \
             host=\"h1\", image=\"nginx:1\", service_name=\"web\", stream=\"stderr\"}"
        );
        let series = info.series_labels("h1", "/docker/abc").build().unwrap();
        assert_eq!(series.get("id"), Some("/docker/abc"));
        assert_eq!(series.get("job"), Some("cadvisor"));
        assert_eq!(series.get("name"), Some("shop-web-1"));
    }

    #[test]
    fn without_compose_the_service_is_the_container() {
        let stream = info(&[]).stream_labels("h1", "stdout").build().unwrap();
        assert_eq!(stream.get("service_name"), Some("shop-web-1"));
        assert_eq!(stream.get("compose_project"), None);
    }

    #[test]
    fn a_published_port_is_listed_once() {
        let ports = info(&[]).ports;
        assert_eq!(ports.len(), 2, "{ports:?}");
        assert!(ports.contains(&Port {
            private: 80,
            protocol: "tcp".into(),
            public: Some(("0.0.0.0".into(), 8080)),
        }));
    }
}
