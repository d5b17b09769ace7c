//! The discoveries of Prometheus 3.16 that are not obeyed yet: which fields each has.

use super::checks::{self, Entry};
use crate::yaml::Kind::{self, Bool, Duration, Fields, ListOf, Text, TextMap, Texts, Whole};

/// Which settings of an HTTP client a discovery has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Http {
    All,
    Tls,
    None,
}

/// A discovery.
pub(super) struct OtherKind {
    section: &'static str,
    /// What errors call it.
    pub(super) type_name: &'static str,
    pub(super) http: Http,
    pub(super) fields: &'static [(&'static str, Kind)],
    pub(super) check: fn(&Entry) -> Result<(), String>,
}

impl OtherKind {
    pub(super) fn of(section: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.section == section)
    }
}

const FILTERS: Kind = ListOf("Filter", &[("name", Text), ("values", Texts)]);

/// Fields that all discoveries of AWS have, and others.
macro_rules! aws {
    ($($more:tt)*) => {
        &[
            ("region", Text),
            ("endpoint", Text),
            ("access_key", Text),
            ("secret_key", Text),
            ("profile", Text),
            ("role_arn", Text),
            ("external_id", Text),
            ("port", Whole),
            ("refresh_interval", Duration),
            $($more)*
        ]
    };
}

macro_rules! kind {
    ($section:literal, $type_name:literal, $http:ident, $check:ident, $fields:expr) => {
        OtherKind {
            section: concat!($section, "_sd_configs"),
            type_name: $type_name,
            http: Http::$http,
            fields: $fields,
            check: checks::$check,
        }
    };
}

const KINDS: &[OtherKind] = &[
    kind!(
        "aws",
        "aws.plain",
        All,
        aws,
        aws!(("role", Text), ("filters", FILTERS), ("clusters", Texts),)
    ),
    kind!("ec2", "aws.plain", All, ec2, aws!(("filters", FILTERS),)),
    kind!(
        "ecs",
        "aws.plain",
        All,
        anything,
        aws!(("clusters", Texts), ("request_concurrency", Whole),)
    ),
    kind!(
        "elasticache",
        "aws.plain",
        All,
        anything,
        aws!(("clusters", Texts), ("request_concurrency", Whole),)
    ),
    kind!("lightsail", "aws.plain", All, anything, aws!()),
    kind!(
        "msk",
        "aws.plain",
        All,
        anything,
        aws!(("clusters", Texts), ("request_concurrency", Whole),)
    ),
    kind!(
        "rds",
        "aws.plain",
        All,
        anything,
        aws!(
            ("clusters", Texts),
            ("filters", FILTERS),
            ("request_concurrency", Whole),
        )
    ),
    kind!(
        "azure",
        "azure.plain",
        All,
        azure,
        &[
            ("environment", Text),
            ("port", Whole),
            ("subscription_id", Text),
            ("tenant_id", Text),
            ("client_id", Text),
            ("client_secret", Text),
            ("refresh_interval", Duration),
            ("authentication_method", Text),
            ("resource_group", Text),
        ]
    ),
    kind!(
        "consul",
        "consul.plain",
        All,
        consul,
        &[
            ("server", Text),
            ("path_prefix", Text),
            ("token", Text),
            ("datacenter", Text),
            ("namespace", Text),
            ("partition", Text),
            ("tag_separator", Text),
            ("scheme", Text),
            ("username", Text),
            ("password", Text),
            ("allow_stale", Bool),
            ("refresh_interval", Duration),
            ("services", Texts),
            ("tags", Texts),
            ("node_meta", TextMap),
            ("filter", Text),
            ("health_filter", Text),
        ]
    ),
    kind!(
        "digitalocean",
        "digitalocean.plain",
        All,
        digitalocean,
        &[
            ("refresh_interval", Duration),
            ("port", Whole),
            ("role", Text),
        ]
    ),
    kind!(
        "dns",
        "dns.plain",
        None,
        dns,
        &[
            ("names", Texts),
            ("refresh_interval", Duration),
            ("type", Text),
            ("port", Whole),
        ]
    ),
    kind!(
        "dockerswarm",
        "moby.plain",
        All,
        dockerswarm,
        &[
            ("host", Text),
            ("role", Text),
            ("port", Whole),
            ("filters", FILTERS),
            ("refresh_interval", Duration),
        ]
    ),
    kind!(
        "eureka",
        "eureka.plain",
        All,
        eureka,
        &[("server", Text), ("refresh_interval", Duration)]
    ),
    kind!(
        "gce",
        "gce.plain",
        None,
        gce,
        &[
            ("project", Text),
            ("zone", Text),
            ("filter", Text),
            ("refresh_interval", Duration),
            ("port", Whole),
            ("tag_separator", Text),
        ]
    ),
    kind!(
        "hetzner",
        "hetzner.plain",
        All,
        hetzner,
        &[
            ("refresh_interval", Duration),
            ("port", Whole),
            ("role", Text),
            ("label_selector", Text),
        ]
    ),
    kind!(
        "http",
        "http.plain",
        All,
        http,
        &[("refresh_interval", Duration), ("url", Text)]
    ),
    kind!(
        "ionos",
        "ionos.plain",
        All,
        ionos,
        &[
            ("datacenter_id", Text),
            ("refresh_interval", Duration),
            ("port", Whole),
        ]
    ),
    kind!(
        "kubernetes",
        "kubernetes.plain",
        All,
        kubernetes,
        &[
            ("api_server", Text),
            ("role", Text),
            ("kubeconfig_file", Text),
            (
                "namespaces",
                Fields(
                    "kubernetes.plain",
                    &[("own_namespace", Bool), ("names", Texts)]
                )
            ),
            (
                "selectors",
                ListOf(
                    "kubernetes.SelectorConfig",
                    &[("role", Text), ("label", Text), ("field", Text)]
                ),
            ),
            (
                "attach_metadata",
                Fields(
                    "kubernetes.AttachMetadataConfig",
                    &[
                        ("node", Bool),
                        ("namespace", Bool),
                        ("deployment", Bool),
                        ("job", Bool),
                        ("cronjob", Bool),
                    ]
                ),
            ),
        ]
    ),
    kind!(
        "kuma",
        "xds.plainKumaConf",
        All,
        kuma,
        &[
            ("refresh_interval", Duration),
            ("fetch_timeout", Duration),
            ("server", Text),
            ("client_id", Text),
        ]
    ),
    kind!(
        "linode",
        "linode.plain",
        All,
        anything,
        &[
            ("refresh_interval", Duration),
            ("port", Whole),
            ("tag_separator", Text),
            ("region", Text),
        ]
    ),
    kind!(
        "marathon",
        "marathon.plain",
        All,
        marathon,
        &[
            ("servers", Texts),
            ("refresh_interval", Duration),
            ("auth_token", Text),
            ("auth_token_file", Text),
        ]
    ),
    kind!(
        "nerve",
        "zookeeper.plain",
        None,
        nerve,
        &[("servers", Texts), ("paths", Texts), ("timeout", Duration),]
    ),
    kind!(
        "nomad",
        "nomad.plain",
        All,
        nomad,
        &[
            ("allow_stale", Bool),
            ("namespace", Text),
            ("refresh_interval", Duration),
            ("region", Text),
            ("server", Text),
            ("tag_separator", Text),
        ]
    ),
    kind!(
        "oci",
        "oci.plain",
        All,
        oci,
        &[
            ("auth", Text),
            ("tenancy", Text),
            ("user", Text),
            ("fingerprint", Text),
            ("key_file", Text),
            ("key_passphrase", Text),
            ("key_passphrase_file", Text),
            ("region", Text),
            ("compartments", Texts),
            ("port", Whole),
            ("refresh_interval", Duration),
        ]
    ),
    kind!(
        "openstack",
        "openstack.plain",
        Tls,
        openstack,
        &[
            ("identity_endpoint", Text),
            ("username", Text),
            ("userid", Text),
            ("password", Text),
            ("project_name", Text),
            ("project_id", Text),
            ("domain_name", Text),
            ("domain_id", Text),
            ("application_credential_name", Text),
            ("application_credential_id", Text),
            ("application_credential_secret", Text),
            ("role", Text),
            ("region", Text),
            ("refresh_interval", Duration),
            ("port", Whole),
            ("all_tenants", Bool),
            ("availability", Text),
        ]
    ),
    kind!(
        "outscale",
        "outscale.plain",
        All,
        outscale,
        &[
            ("endpoint", Text),
            ("region", Text),
            ("access_key", Text),
            ("secret_key", Text),
            ("secret_key_file", Text),
            ("refresh_interval", Duration),
            ("port", Whole),
        ]
    ),
    kind!(
        "ovhcloud",
        "ovhcloud.plain",
        None,
        ovhcloud,
        &[
            ("endpoint", Text),
            ("application_key", Text),
            ("application_secret", Text),
            ("consumer_key", Text),
            ("refresh_interval", Duration),
            ("service", Text),
        ]
    ),
    kind!(
        "puppetdb",
        "puppetdb.plain",
        All,
        puppetdb,
        &[
            ("refresh_interval", Duration),
            ("url", Text),
            ("query", Text),
            ("include_parameters", Bool),
            ("port", Whole),
        ]
    ),
    kind!(
        "scaleway",
        "scaleway.plain",
        All,
        scaleway,
        &[
            ("project_id", Text),
            ("api_url", Text),
            ("zone", Text),
            ("access_key", Text),
            ("secret_key", Text),
            ("secret_key_file", Text),
            ("name_filter", Text),
            ("tags_filter", Texts),
            ("refresh_interval", Duration),
            ("port", Whole),
            ("role", Text),
        ]
    ),
    kind!(
        "serverset",
        "zookeeper.plain",
        None,
        serverset,
        &[("servers", Texts), ("paths", Texts), ("timeout", Duration),]
    ),
    kind!(
        "stackit",
        "stackit.plain",
        All,
        stackit,
        &[
            ("project", Text),
            ("refresh_interval", Duration),
            ("port", Whole),
            ("region", Text),
            ("endpoint", Text),
            ("service_account_key", Text),
            ("private_key", Text),
            ("service_account_key_path", Text),
            ("private_key_path", Text),
            ("credentials_file_path", Text),
        ]
    ),
    kind!(
        "triton",
        "triton.plain",
        Tls,
        triton,
        &[
            ("account", Text),
            ("role", Text),
            ("dns_suffix", Text),
            ("endpoint", Text),
            ("groups", Texts),
            ("port", Whole),
            ("refresh_interval", Duration),
            ("version", Whole),
        ]
    ),
    kind!(
        "uyuni",
        "uyuni.plain",
        All,
        uyuni,
        &[
            ("server", Text),
            ("username", Text),
            ("password", Text),
            ("entitlement", Text),
            ("separator", Text),
            ("refresh_interval", Duration),
        ]
    ),
    kind!(
        "vultr",
        "vultr.plain",
        All,
        anything,
        &[("refresh_interval", Duration), ("port", Whole)]
    ),
];
