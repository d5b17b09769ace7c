//! The files by which a user says what to do, in Prometheus' formats: what to scrape and how
//! to rename it, where targets are listed, and who may use the server.
//!
//! Each file is read in one step into a checked value: what is loaded can be used without
//! further questions, and what is refused names the line, the field and what would be allowed.
//! Fields that Prometheus doesn't know are refused as it refuses them, since a misspelt setting
//! that is passed over in silence is the costliest kind. Nothing here opens a socket or starts
//! a task; secrets that stand in files of their own are read by who uses them, each time anew.

pub mod alerting;
mod discovery;
pub mod duration;
mod error;
pub mod file_sd;
pub mod glob;
pub mod http_client;
pub mod names;
pub mod otlp;
pub mod prometheus;
pub mod relabel;
pub mod remote;
mod scalar;
pub mod scrape;
pub mod secret;
mod sections;
pub mod shape;
mod shown;
pub mod tls;
mod url;
pub mod web;
mod yaml;

pub use alerting::{AlertingConfig, AlertmanagerConfig, Endpoint};
pub use discovery::OtherDiscovery;
pub use duration::{DurationError, format_duration, parse_duration};
pub use error::{ConfigError, FILE_BYTES_MAX, Located, Problem, read_file};
pub use file_sd::{TargetGroup, read_target_groups};
pub use http_client::{Auth, HttpClient, HttpSettings, TlsClient, TlsFields};
pub use names::NameScheme;
pub use otlp::{OtlpConfig, TranslationStrategy};
pub use prometheus::PrometheusConfig;
pub use relabel::{Action, RelabelConfig, RelabelError, apply};
pub use remote::RemoteConfig;
pub use scalar::{Interval, parse_size};
pub use scrape::{
    DockerDiscovery, Escaping, FileDiscovery, Formats, Limits, ScrapeConfig, ScrapeProtocol,
};
pub use secret::{Secret, SecretSource};
pub use shape::{Shape, first_document};
pub use shown::{job_without_secrets, without_secrets, without_secrets_in, yaml_of};
pub use tls::TlsVersion;
pub use web::{Role, TlsServer, Token, WebConfig};
