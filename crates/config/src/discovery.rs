//! Where targets come from: lists in the file itself, other files, containers, and all that
//! Prometheus knows beside these, which is checked as there and not obeyed yet.
//!
//! The same sections stand in scrape jobs and in `alertmanagers`, flat among their other fields,
//! so that [`with_discoveries!`] adds them to the struct that reads either.

pub(crate) mod checks;
mod kinds;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::error::{Located, Problem};
use crate::file_sd::{GroupFields, TargetGroup};
use crate::http_client::{HttpClient, http_settings};
use crate::scrape::{
    DOCKER_FILTERS, DockerDiscovery, DockerFields, FileDiscovery, FileFields, docker_discovery,
    file_discovery, items,
};
use crate::yaml::Node;
use kinds::{Http, OtherKind};

/// Entries of a section.
pub(crate) type Entries<F> = Option<Vec<Option<Spanned<F>>>>;

/// A discovery that is checked but not obeyed yet.
#[derive(Debug, Clone, PartialEq)]
pub struct OtherDiscovery {
    /// The section's name, like `consul_sd_configs`.
    pub section: &'static str,
    /// How it would be spoken to.
    pub http: HttpClient,
}

http_settings! {
    /// An entry of a discovery that is checked but not obeyed.
    #[derive(Debug, Deserialize)]
    pub(crate) struct OtherFields {
        #[serde(flatten)]
        rest: BTreeMap<String, Node>,
    }
}

/// The sections as they stand in a file.
#[derive(Debug, Default)]
pub(crate) struct DiscoveryFields {
    pub(crate) static_configs: Entries<GroupFields>,
    pub(crate) file_sd_configs: Entries<FileFields>,
    pub(crate) docker_sd_configs: Entries<DockerFields>,
    pub(crate) others: Vec<(&'static str, Entries<OtherFields>)>,
}

/// The checked sections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Discoveries {
    pub(crate) static_configs: Vec<TargetGroup>,
    pub(crate) file_sd_configs: Vec<FileDiscovery>,
    pub(crate) docker_sd_configs: Vec<DockerDiscovery>,
    pub(crate) others: Vec<OtherDiscovery>,
    pub(crate) unsupported: Vec<String>,
}

/// Adds the sections of discoveries and the settings of an HTTP client to a struct.
macro_rules! with_discoveries {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($body:tt)* }) => {
        crate::discovery::with_discoveries! {
            @fields [$(#[$meta])* $vis struct $name { $($body)* }]
            aws_sd_configs, azure_sd_configs, consul_sd_configs, digitalocean_sd_configs,
            dns_sd_configs, dockerswarm_sd_configs, ec2_sd_configs, ecs_sd_configs,
            elasticache_sd_configs, eureka_sd_configs, gce_sd_configs, hetzner_sd_configs,
            http_sd_configs, ionos_sd_configs, kubernetes_sd_configs, kuma_sd_configs,
            lightsail_sd_configs, linode_sd_configs, marathon_sd_configs, msk_sd_configs,
            nerve_sd_configs, nomad_sd_configs, oci_sd_configs, openstack_sd_configs,
            outscale_sd_configs, ovhcloud_sd_configs, puppetdb_sd_configs, rds_sd_configs,
            scaleway_sd_configs, serverset_sd_configs, stackit_sd_configs, triton_sd_configs,
            uyuni_sd_configs, vultr_sd_configs
        }
    };
    (@fields [$(#[$meta:meta])* $vis:vis struct $name:ident { $($body:tt)* }] $($other:ident),*) => {
        crate::http_client::http_settings! {
            $(#[$meta])*
            $vis struct $name {
                $($body)*
                static_configs: crate::discovery::Entries<crate::file_sd::GroupFields>,
                file_sd_configs: crate::discovery::Entries<crate::scrape::FileFields>,
                docker_sd_configs: crate::discovery::Entries<crate::scrape::DockerFields>,
                $($other: crate::discovery::Entries<crate::discovery::OtherFields>,)*
            }
        }

        impl $name {
            fn discovery_fields(&mut self) -> crate::discovery::DiscoveryFields {
                let mut others = Vec::new();
                $(if self.$other.is_some() {
                    others.push((stringify!($other), self.$other.take()));
                })*
                crate::discovery::DiscoveryFields {
                    static_configs: self.static_configs.take(),
                    file_sd_configs: self.file_sd_configs.take(),
                    docker_sd_configs: self.docker_sd_configs.take(),
                    others,
                }
            }
        }
    };
}
pub(crate) use with_discoveries;

impl DiscoveryFields {
    /// Checks the sections of an item that starts on `line`. Addresses with a path are refused
    /// unless rules rename them first.
    pub(crate) fn check(
        self,
        line: u64,
        dir: &Path,
        is_relabelled: bool,
    ) -> Result<Discoveries, Located> {
        let mut unsupported = Vec::new();
        let docker_sd_configs = items(
            self.docker_sd_configs,
            line,
            "an entry of docker_sd_configs",
            |at, docker| docker_discovery(docker, at, dir),
        )?;
        for (name, _) in docker_sd_configs.iter().flat_map(|d| &d.filters) {
            if !DOCKER_FILTERS.contains(&name.as_str()) {
                unsupported.push(format!("filter {name:?} of docker_sd_configs"));
            }
        }
        let mut others = Vec::new();
        for (section, entries) in self.others {
            unsupported.push(section.to_owned());
            let checked = items(entries, line, "an entry of a discovery", |at, entry| {
                entry.check(section, at, dir)
            })?;
            others.extend(checked);
        }
        Ok(Discoveries {
            static_configs: items(
                self.static_configs,
                line,
                "an entry of static_configs",
                |at, group| {
                    let checked = group.check(is_relabelled);
                    checked.map_err(|problem| Located::new(at, problem))
                },
            )?,
            file_sd_configs: items(
                self.file_sd_configs,
                line,
                "an entry of file_sd_configs",
                |at, file| file_discovery(file, at, dir),
            )?,
            docker_sd_configs,
            others,
            unsupported,
        })
    }
}

impl OtherFields {
    fn check(
        mut self,
        section: &'static str,
        line: u64,
        dir: &Path,
    ) -> Result<OtherDiscovery, Located> {
        let wrong = |text: String| Located::new(line, Problem::Yaml(text));
        let kind =
            OtherKind::of(section).ok_or_else(|| wrong(format!("{section} is no discovery")))?;
        let http = self.http_fields();
        let refused = http.given().into_iter().find(|field| match kind.http {
            Http::All => false,
            Http::Tls => *field != "tls_config",
            Http::None => true,
        });
        if let Some(field) = refused {
            let name = kind.type_name;
            let unknown = crate::yaml::unknown_field(field, name, kind.fields);
            return Err(wrong(unknown));
        }
        let entry = checks::Entry {
            http: http.given(),
            fields: Node::Map(self.rest),
        };
        let at = section.strip_suffix("_sd_configs").unwrap_or(section);
        let fields = crate::yaml::Kind::Fields(kind.type_name, kind.fields);
        entry.fields.check(fields, at).map_err(wrong)?;
        (kind.check)(&entry).map_err(wrong)?;
        Ok(OtherDiscovery {
            section,
            http: http.check(line, dir)?,
        })
    }
}
