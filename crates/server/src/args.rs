//! The command line.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use kittiwake_alertmanager::engine::Options;
use kittiwake_alertmanager::silence::SilenceLimits;
use kittiwake_collector::logging;
use kittiwake_config::{parse_duration, parse_size};

use crate::check_command::CheckCommand;
use crate::logs_command::LogsCommand;
use crate::retention::Retention;
use crate::test_command::TestCommand;
use crate::tsdb_command::TsdbCommand;

/// Metrics and logs of every container on every host.
#[derive(Debug, Parser)]
#[command(name = "kittiwake", version, about, disable_help_subcommand = true)]
pub struct Args {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Prometheus configuration file: what to scrape beside containers and host
    #[arg(long = "config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,

    /// Where metrics and logs are stored [default: /var/lib/kittiwake for root, else
    /// $XDG_DATA_HOME/kittiwake]
    #[arg(long = "storage.path", value_name = "DIR", global = true)]
    pub storage_path: Option<PathBuf>,

    /// How long things are kept.
    #[command(flatten)]
    pub retention: Retention,

    /// Bytes of stored metrics that are held in memory for queries
    #[arg(
        long = "storage.cache.size",
        value_name = "SIZE",
        default_value = "64MB"
    )]
    pub cache_size: String,

    /// Address to listen on
    #[arg(
        long = "web.listen-address",
        value_name = "ADDR",
        default_value = "127.0.0.1:7766",
        global = true
    )]
    pub listen_address: String,

    /// TLS, users and tokens, in Prometheus' web configuration format
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,

    /// The address by which users reach this server, when another name leads to it
    #[arg(long = "web.external-url", value_name = "URL")]
    pub external_url: Option<String>,

    /// Regular expression of the origins whose pages may read, like https://grafana\.example
    #[arg(long = "web.cors.origin", value_name = "REGEX")]
    pub cors_origin: Option<String>,

    /// Reload and stop by POST to /-/reload and /-/quit
    #[arg(long = "web.enable-lifecycle")]
    pub enable_lifecycle: bool,

    /// Delete series and take snapshots by POST to /api/v1/admin
    #[arg(long = "web.enable-admin-api")]
    pub enable_admin_api: bool,

    /// Queries that run at once; others wait
    #[arg(
        long = "query.max-concurrency",
        value_name = "COUNT",
        default_value_t = 20
    )]
    pub query_concurrency: usize,

    /// Longest time for a query
    #[arg(long = "query.timeout", value_name = "DURATION", default_value = "2m")]
    pub query_timeout: String,

    /// Samples that a query may load
    #[arg(
        long = "query.max-samples",
        value_name = "COUNT",
        default_value_t = 50_000_000
    )]
    pub query_samples: u64,

    /// Memory that all queries together may hold
    #[arg(
        id = "query_memory",
        long = "query.max-memory",
        value_name = "SIZE",
        default_value = "2GB"
    )]
    pub query_memory: String,

    /// Longest time that the server may have been down for the state of alerts to be taken up
    #[arg(
        long = "rules.alert.for-outage-tolerance",
        value_name = "DURATION",
        default_value = "1h"
    )]
    pub outage_tolerance: String,

    /// Time that an alert still waits at least after its state was taken up
    #[arg(
        long = "rules.alert.for-grace-period",
        value_name = "DURATION",
        default_value = "10m"
    )]
    pub grace_period: String,

    /// Time to wait before an alert that fires is sent again
    #[arg(
        long = "rules.alert.resend-delay",
        value_name = "DURATION",
        default_value = "1m"
    )]
    pub resend_delay: String,

    /// Groups of rules that run at once
    #[arg(
        long = "rules.max-concurrent-evals",
        value_name = "COUNT",
        default_value_t = 4
    )]
    pub rule_concurrency: usize,

    /// How far back a query looks for a series' newest sample
    #[arg(
        long = "query.lookback-delta",
        value_name = "DURATION",
        default_value = "5m"
    )]
    pub lookback: String,

    /// Where alerts go.
    #[command(flatten)]
    pub alertmanager: AlertmanagerArgs,

    /// Listen off loopback without users, tokens or client certificates
    #[arg(long = "web.insecure")]
    pub insecure: bool,

    /// Do not collect from this machine
    #[arg(long = "no-collector")]
    pub no_collector: bool,

    /// What this machine is called [default: as the Docker engine or the system says]
    #[arg(long = "host-name", value_name = "NAME")]
    pub host_name: Option<String>,

    /// Where the host's /proc is
    #[arg(long = "path.procfs", value_name = "DIR", default_value = "/proc")]
    pub procfs: PathBuf,

    /// Where the host's /sys is
    #[arg(long = "path.sysfs", value_name = "DIR", default_value = "/sys")]
    pub sysfs: PathBuf,

    /// Where the host's / is
    #[arg(long = "path.rootfs", value_name = "DIR", default_value = "/")]
    pub rootfs: PathBuf,

    /// How much is logged
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub log_level: logging::Level,

    /// How it is logged
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    pub log_format: logging::Format,
}

/// Flags of the Alertmanager.
#[derive(Debug, clap::Args)]
pub struct AlertmanagerArgs {
    /// Alertmanager configuration file: whom to tell of alerts
    #[arg(
        id = "alertmanager_config_file",
        long = "alertmanager.config.file",
        value_name = "FILE"
    )]
    pub config_file: Option<PathBuf>,

    /// How long silences and what was told are kept
    #[arg(
        id = "alertmanager_retention",
        long = "alertmanager.retention",
        value_name = "DURATION",
        default_value = "5d"
    )]
    pub retention: String,

    /// How often groups without alerts are forgotten
    #[arg(
        long = "alertmanager.maintenance-interval",
        value_name = "DURATION",
        default_value = "30s"
    )]
    pub maintenance_interval: String,

    /// Alerts that are taken; more are refused
    #[arg(
        long = "alertmanager.max-alerts",
        value_name = "COUNT",
        default_value_t = 1_000_000
    )]
    pub alerts_max: usize,

    /// Groups that are made; alerts that would need more are not told
    #[arg(
        long = "alertmanager.max-groups",
        value_name = "COUNT",
        default_value_t = 200_000
    )]
    pub groups_max: usize,

    /// Silences, those that expired included; 0 is no limit
    #[arg(
        long = "alertmanager.max-silences",
        value_name = "COUNT",
        default_value_t = 0
    )]
    pub silences_max: usize,

    /// Bytes of a silence; 0 is no limit
    #[arg(
        long = "alertmanager.max-silence-size-bytes",
        value_name = "BYTES",
        default_value_t = 0
    )]
    pub silence_bytes_max: usize,
}

impl AlertmanagerArgs {
    /// How it is run; `server_url` is where users find the server.
    pub fn options(&self, args: &Args, server_url: &str) -> Result<Options> {
        Ok(Options {
            retention: args.duration("alertmanager.retention", &self.retention)?,
            silences: SilenceLimits {
                count_max: self.silences_max,
                size_bytes_max: self.silence_bytes_max,
            },
            alerts_max: self.alerts_max,
            groups_max: self.groups_max,
            maintenance_interval: args.duration(
                "alertmanager.maintenance-interval",
                &self.maintenance_interval,
            )?,
            external_url: format!("{}/alertmanager", server_url.trim_end_matches('/')),
            ..Options::default()
        })
    }
}

/// A command beside serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask the server at --web.listen-address whether it is healthy; for container health checks
    Health,
    /// Check files before a server reads them
    #[command(subcommand)]
    Check(CheckCommand),
    /// Test rules
    #[command(subcommand)]
    Test(TestCommand),
    /// Work on the metrics store of a server that is stopped
    #[command(subcommand)]
    Tsdb(TsdbCommand),
    /// Work on the log store of a server that is stopped
    #[command(subcommand)]
    Logs(LogsCommand),
}

impl Args {
    /// The address to listen on.
    pub fn address(&self) -> Result<SocketAddr> {
        let text = match self.listen_address.strip_prefix(':') {
            Some(port) => format!("0.0.0.0:{port}"),
            None => self.listen_address.clone(),
        };
        let mut addresses = text.to_socket_addrs().with_context(|| {
            format!(
                "--web.listen-address {:?} is not an address; write HOST:PORT, like 127.0.0.1:7766",
                self.listen_address
            )
        })?;
        addresses
            .next()
            .with_context(|| format!("{text} has no address"))
    }

    /// The value of a flag that is a number of bytes.
    pub fn size(&self, flag: &str, text: &str) -> Result<u64> {
        parse_size(text).with_context(|| format!("--{flag} {text:?}: write a size like 512MB"))
    }

    /// All flags and their values, as `/api/v1/status/flags` shows them.
    pub fn flags(&self) -> BTreeMap<String, String> {
        let path = |path: &Option<PathBuf>| {
            let path = path.as_ref();
            path.map_or_else(String::new, |path| path.display().to_string())
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let storage = self.storage().ok();
        [
            ("config.file", path(&self.config_file)),
            ("storage.path", path(&storage)),
            ("storage.retention.time", self.retention.time.clone()),
            ("storage.retention.size", self.retention.size.clone()),
            ("storage.retention.5m", self.retention.five_minutes.clone()),
            ("storage.retention.1h", self.retention.one_hour.clone()),
            ("storage.retention.series", self.retention.series.join(",")),
            (
                "storage.retention.logs.size",
                self.retention.logs_size.clone(),
            ),
            (
                "storage.retention.streams",
                self.retention.streams.join(","),
            ),
            ("storage.cache.size", self.cache_size.clone()),
            ("web.listen-address", self.listen_address.clone()),
            ("web.config.file", path(&self.web_config_file)),
            ("web.external-url", text(&self.external_url)),
            ("web.cors.origin", text(&self.cors_origin)),
            ("web.enable-lifecycle", self.enable_lifecycle.to_string()),
            ("web.enable-admin-api", self.enable_admin_api.to_string()),
            ("web.insecure", self.insecure.to_string()),
            ("query.max-concurrency", self.query_concurrency.to_string()),
            ("query.timeout", self.query_timeout.clone()),
            ("query.max-samples", self.query_samples.to_string()),
            ("query.max-memory", self.query_memory.clone()),
            ("query.lookback-delta", self.lookback.clone()),
            (
                "rules.alert.for-outage-tolerance",
                self.outage_tolerance.clone(),
            ),
            ("rules.alert.for-grace-period", self.grace_period.clone()),
            ("rules.alert.resend-delay", self.resend_delay.clone()),
            (
                "rules.max-concurrent-evals",
                self.rule_concurrency.to_string(),
            ),
            (
                "alertmanager.config.file",
                path(&self.alertmanager.config_file),
            ),
            (
                "alertmanager.retention",
                self.alertmanager.retention.clone(),
            ),
            (
                "alertmanager.maintenance-interval",
                self.alertmanager.maintenance_interval.clone(),
            ),
            (
                "alertmanager.max-alerts",
                self.alertmanager.alerts_max.to_string(),
            ),
            (
                "alertmanager.max-groups",
                self.alertmanager.groups_max.to_string(),
            ),
            (
                "alertmanager.max-silences",
                self.alertmanager.silences_max.to_string(),
            ),
            (
                "alertmanager.max-silence-size-bytes",
                self.alertmanager.silence_bytes_max.to_string(),
            ),
            ("no-collector", self.no_collector.to_string()),
            ("host-name", text(&self.host_name)),
            ("path.procfs", self.procfs.display().to_string()),
            ("path.sysfs", self.sysfs.display().to_string()),
            ("path.rootfs", self.rootfs.display().to_string()),
            ("log.level", self.log_level.as_str().to_owned()),
            ("log.format", self.log_format.as_str().to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// The value of a flag that is a duration.
    pub fn duration(&self, flag: &str, text: &str) -> Result<Duration> {
        let duration = parse_duration(text)
            .with_context(|| format!("--{flag} {text:?}: write a duration like 2m"))?;
        if duration.is_zero() {
            bail!("--{flag} must be longer than 0");
        }
        Ok(duration)
    }

    /// The value of a flag that is a duration, and may be 0.
    pub fn period(&self, flag: &str, text: &str) -> Result<Duration> {
        parse_duration(text).with_context(|| format!("--{flag} {text:?}: write a duration like 2m"))
    }

    /// Where data lies.
    pub fn storage(&self) -> Result<PathBuf> {
        if let Some(path) = &self.storage_path {
            return Ok(path.clone());
        }
        default_storage("kittiwake")
    }
}

/// `/var/lib/NAME` for root, else below the user's data folder.
pub fn default_storage(name: &str) -> Result<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    if is_root {
        return Ok(PathBuf::from("/var/lib").join(name));
    }
    let data = std::env::var_os("XDG_DATA_HOME").filter(|d| !d.is_empty());
    let home = std::env::var_os("HOME").filter(|h| !h.is_empty());
    match (data, home) {
        (Some(data), _) => Ok(PathBuf::from(data).join(name)),
        (None, Some(home)) => Ok(PathBuf::from(home).join(".local/share").join(name)),
        (None, None) => {
            bail!("neither XDG_DATA_HOME nor HOME is set: name a folder with --storage.path")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_durations() {
        let parse = |words: &[&str]| {
            let words = ["kittiwake"].iter().chain(words);
            Args::try_parse_from(words).unwrap()
        };
        let address = |a: &str| parse(&["--web.listen-address", a]).address();
        assert_eq!(address(":80").unwrap().to_string(), "0.0.0.0:80");
        assert!(address("127.0.0.1:7766").unwrap().ip().is_loopback());
        assert!(address("nonsense").is_err());
        let args = parse(&[]);
        assert_eq!(args.size("x", &args.cache_size).unwrap(), 64 << 20);
        assert!(args.size("x", "many").is_err());
        assert!(Args::try_parse_from(["kittiwake", "--nonsense"]).is_err());
    }
}
