//! A scrape job: which targets, how often, over what, and what becomes of what they say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kittiwake_model::histogram::{SCHEMA_MAX, SCHEMA_MIN};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::discovery::{OtherDiscovery, with_discoveries};
use crate::error::{Located, Problem};
use crate::file_sd::TargetGroup;
use crate::glob;
use crate::http_client::{HttpClient, http_settings};
use crate::names::NameScheme;
use crate::relabel::{RelabelConfig, RelabelRule};
use crate::scalar::{Interval, Size};

/// How often files with targets are read at the latest, unless the file says otherwise.
pub const FILE_REFRESH: Duration = Duration::from_mins(5);
/// How often containers are listed, unless the file says otherwise.
pub const DOCKER_REFRESH: Duration = Duration::from_mins(1);
/// Filters of containers that are obeyed; another lets no container through.
pub const DOCKER_FILTERS: [&str; 5] = ["id", "name", "status", "network", "label"];

/// Bounds on what a target may say. 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes of an answer, uncompressed.
    pub body_bytes: u64,
    /// Samples of a scrape, after relabelling.
    pub samples: u64,
    /// Targets of a job.
    pub targets: u64,
    /// Labels of a series.
    pub labels: u64,
    /// Bytes of a label's name.
    pub label_name_bytes: u64,
    /// Bytes of a label's value.
    pub label_value_bytes: u64,
    /// Buckets of a native histogram, which is coarsened to keep it.
    pub histogram_buckets: u64,
    /// Finest resolution of a native histogram's exponential buckets, which is coarsened to it.
    pub histogram_schema: Option<i32>,
}

/// The finest resolution whose buckets grow by such a factor at least.
fn schema_of(factor: f64) -> i32 {
    // The factor of the finest resolution that there is.
    let factor = if factor <= 1.0 { 1.00271 } else { factor };
    let schema = (-factor.log2().log2()).floor();
    schema.clamp(f64::from(SCHEMA_MIN), f64::from(SCHEMA_MAX)) as i32
}

/// In which formats a target is asked for its metrics, and what becomes of its histograms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formats {
    /// What is asked for, the dearest first.
    pub protocols: Vec<ScrapeProtocol>,
    /// How an answer is read that does not say what it is.
    pub fallback: Option<ScrapeProtocol>,
    /// What is asked to be made of names that the old scheme doesn't know.
    pub escaping: Escaping,
    /// Whether native histograms are taken.
    pub native_histograms: bool,
    /// Whether classic buckets are taken also where there is a native histogram.
    pub classic_histograms_too: bool,
    /// Whether classic buckets become native histograms with custom buckets.
    pub custom_buckets: bool,
}

impl Default for Formats {
    fn default() -> Self {
        Self {
            protocols: ScrapeProtocol::TEXTS.to_vec(),
            fallback: None,
            escaping: Escaping::AllowUtf8,
            native_histograms: false,
            classic_histograms_too: false,
            custom_buckets: false,
        }
    }
}

/// A checked job.
#[derive(Debug, Clone)]
pub struct ScrapeConfig {
    /// The label `job`.
    pub job_name: String,
    /// Time between two scrapes.
    pub scrape_interval: Duration,
    /// Longest time for one.
    pub scrape_timeout: Duration,
    /// The path of the address.
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The address's parameters.
    pub params: BTreeMap<String, Vec<String>>,
    /// Whether the labels of the target's samples win over the target's own.
    pub honor_labels: bool,
    /// Whether the times that the target's samples carry are kept.
    pub honor_timestamps: bool,
    /// Whether series whose samples carry times end with a stale marker too.
    pub track_timestamps_staleness: bool,
    /// Whether a compressed answer is asked for.
    pub enable_compression: bool,
    /// Whether `scrape_timeout_seconds` and its like are added.
    pub extra_scrape_metrics: bool,
    /// Bounds.
    pub limits: Limits,
    /// Dropped targets that are remembered; all when not said.
    pub keep_dropped_targets: Option<usize>,
    /// Formats and histograms.
    pub formats: Formats,
    /// How to speak to the targets.
    pub http: HttpClient,
    /// Rules that the targets' labels go through.
    pub relabel_configs: Vec<RelabelConfig>,
    /// Rules that the samples' labels go through.
    pub metric_relabel_configs: Vec<RelabelConfig>,
    /// Targets listed in the configuration.
    pub static_configs: Vec<TargetGroup>,
    /// Targets listed in files.
    pub file_sd_configs: Vec<FileDiscovery>,
    /// Targets that are containers.
    pub docker_sd_configs: Vec<DockerDiscovery>,
    /// Discoveries that are checked but not obeyed yet.
    pub other_sd_configs: Vec<OtherDiscovery>,
    /// Settings that are read but not obeyed yet.
    pub unsupported: Vec<String>,
}

/// Where targets are listed in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDiscovery {
    /// Paths, with wildcards in their last part.
    pub files: Vec<PathBuf>,
    /// How often they are read at the latest.
    pub refresh_interval: Duration,
}

/// Containers as targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerDiscovery {
    /// The engine's address.
    pub host: String,
    /// The port of containers that expose none.
    pub port: u16,
    /// The address of containers on the host's network.
    pub host_networking_host: String,
    /// Whether a container on several networks is one target, on the first network by name.
    pub match_first_network: bool,
    /// Which containers: a name of a filter and its values, any of which will do.
    pub filters: Vec<(String, Vec<String>)>,
    /// How often containers are listed.
    pub refresh_interval: Duration,
}

/// What jobs inherit from the section `global`.
#[derive(Debug, Clone)]
pub(crate) struct Inherited {
    pub interval: Duration,
    pub timeout: Duration,
    pub limits: Limits,
    pub names: NameScheme,
    pub escaping: Option<Escaping>,
    pub protocols: Option<Vec<ScrapeProtocol>>,
    pub native_histograms: bool,
    pub classic_histograms_too: bool,
    pub custom_buckets: bool,
    pub keep_dropped_targets: Option<u64>,
    pub extra_scrape_metrics: bool,
}

/// What a target is asked to make of names that the old scheme doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Escaping {
    /// Nothing.
    #[serde(rename = "allow-utf-8")]
    AllowUtf8,
    /// Underscores instead of what is not known.
    #[serde(rename = "underscores")]
    Underscores,
    /// `_dot_` instead of dots, underscores instead of the rest.
    #[serde(rename = "dots")]
    Dots,
    /// `U__` in front, and the numbers of the characters.
    #[serde(rename = "values")]
    Values,
}

impl Escaping {
    /// The scheme as headers name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }
}

/// A format of exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ScrapeProtocol {
    /// Protobuf.
    PrometheusProto,
    /// Prometheus' text.
    #[serde(rename = "PrometheusText0.0.4")]
    Text004,
    /// Prometheus' text with names of any characters.
    #[serde(rename = "PrometheusText1.0.0")]
    Text100,
    /// OpenMetrics before it was finished.
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetrics001,
    /// OpenMetrics.
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetrics100,
    /// OpenMetrics 2.
    #[serde(rename = "OpenMetricsText2.0.0")]
    OpenMetrics200,
}

impl ScrapeProtocol {
    /// What is asked for unless the configuration says otherwise.
    pub const TEXTS: [Self; 4] = [
        Self::OpenMetrics100,
        Self::OpenMetrics001,
        Self::Text100,
        Self::Text004,
    ];

    /// The format as a `Content-Type` or `Accept` header names it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Self::Text004 => "text/plain;version=0.0.4",
            Self::Text100 => "text/plain;version=1.0.0",
            Self::OpenMetrics001 => "application/openmetrics-text;version=0.0.1",
            Self::OpenMetrics100 => "application/openmetrics-text;version=1.0.0",
            Self::OpenMetrics200 => "application/openmetrics-text;version=2.0.0",
        }
    }

    /// Whether names of any characters can be asked for.
    pub fn has_escaping(self) -> bool {
        matches!(
            self,
            Self::Text100 | Self::OpenMetrics100 | Self::OpenMetrics200
        )
    }
}

pub(crate) fn check_protocols(
    line: u64,
    protocols: Option<&[ScrapeProtocol]>,
) -> Result<(), Located> {
    let protocols = protocols.unwrap_or_default();
    for (i, protocol) in protocols.iter().enumerate() {
        if protocols.iter().skip(i + 1).any(|p| p == protocol) {
            let problem = Problem::Value {
                field: "scrape_protocols",
                value: format!("{protocol:?}"),
                allowed: "name each protocol once",
            };
            return Err(Located::new(line, problem));
        }
    }
    Ok(())
}

pub(crate) fn check_escaping(
    line: u64,
    names: NameScheme,
    escaping: Option<Escaping>,
) -> Result<(), Located> {
    if names == NameScheme::Legacy && escaping == Some(Escaping::AllowUtf8) {
        let problem = Problem::Value {
            field: "metric_name_escaping_scheme",
            value: "allow-utf-8".to_owned(),
            allowed: "with metric_name_validation_scheme legacy: underscores, dots or values",
        };
        return Err(Located::new(line, problem));
    }
    Ok(())
}

pub(crate) type Rules = Option<Vec<Option<Spanned<RelabelRule>>>>;

http_settings! {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(crate) struct DockerFields {
        host: Option<String>,
        port: Option<u16>,
        filters: Option<Vec<FilterFields>>,
        host_networking_host: Option<String>,
        match_first_network: Option<bool>,
        refresh_interval: Option<Interval>,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilterFields {
    name: String,
    values: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileFields {
    files: Option<Vec<String>>,
    refresh_interval: Option<Interval>,
}

with_discoveries! {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(crate) struct JobFields {
    scrape_failure_log_file: Option<String>,
    job_name: Option<String>,
    scrape_interval: Option<Interval>,
    scrape_timeout: Option<Interval>,
    scrape_protocols: Option<Vec<ScrapeProtocol>>,
    #[serde(default, deserialize_with = "crate::scalar::empty_is_none")]
    fallback_scrape_protocol: Option<ScrapeProtocol>,
    metrics_path: Option<String>,
    scheme: Option<String>,
    params: Option<BTreeMap<String, Vec<String>>>,
    honor_labels: Option<bool>,
    honor_timestamps: Option<bool>,
    track_timestamps_staleness: Option<bool>,
    enable_compression: Option<bool>,
    scrape_native_histograms: Option<bool>,
    scrape_classic_histograms: Option<bool>,
    always_scrape_classic_histograms: Option<bool>,
    convert_classic_histograms_to_nhcb: Option<bool>,
    extra_scrape_metrics: Option<bool>,
    body_size_limit: Option<Size>,
    sample_limit: Option<u64>,
    target_limit: Option<u64>,
    label_limit: Option<u64>,
    label_name_length_limit: Option<u64>,
    label_value_length_limit: Option<u64>,
    native_histogram_bucket_limit: Option<u64>,
    native_histogram_min_bucket_factor: Option<f64>,
    keep_dropped_targets: Option<u64>,
    #[serde(default, deserialize_with = "crate::scalar::empty_is_none")]
    metric_name_validation_scheme: Option<NameScheme>,
    #[serde(default, deserialize_with = "crate::scalar::empty_is_none")]
    metric_name_escaping_scheme: Option<Escaping>,
    relabel_configs: Rules,
    metric_relabel_configs: Rules,
    }
}

/// Interval and time-out of a job or of all: what is not given, or is 0, is inherited, and an
/// inherited time-out gives way to a shorter interval.
pub(crate) fn timing(
    line: u64,
    interval: Option<Interval>,
    timeout: Option<Interval>,
    inherited: (Duration, Duration),
) -> Result<(Duration, Duration), Located> {
    let given = |i: Option<Interval>| i.map(|i| i.0).filter(|d| !d.is_zero());
    let interval = given(interval).unwrap_or(inherited.0);
    match given(timeout) {
        Some(timeout) if timeout > interval => {
            Err(Located::new(line, Problem::Timeout { timeout, interval }))
        }
        Some(timeout) => Ok((interval, timeout)),
        None => Ok((interval, inherited.1.min(interval))),
    }
}

impl JobFields {
    pub(crate) fn check(
        mut self,
        line: u64,
        dir: &Path,
        global: &Inherited,
    ) -> Result<ScrapeConfig, Located> {
        let job_name = self.job_name.take().filter(|n| !n.is_empty());
        let job_name = job_name.ok_or_else(|| Located::new(line, Problem::Missing("job_name")))?;
        let (scrape_interval, scrape_timeout) = timing(
            line,
            self.scrape_interval,
            self.scrape_timeout,
            (global.interval, global.timeout),
        )?;
        check_protocols(line, self.scrape_protocols.as_deref())?;
        let names = self.metric_name_validation_scheme.unwrap_or(global.names);
        let own = self.metric_name_escaping_scheme;
        // An inherited escaping that the job's own scheme rules out is not the job's mistake.
        let is_own = own.is_some() || self.metric_name_validation_scheme.is_none();
        check_escaping(line, names, own.or(global.escaping.filter(|_| is_own)))?;
        let scheme = self.scheme.take().filter(|s| !s.is_empty());
        let scheme = scheme.unwrap_or_else(|| "http".to_owned());
        if scheme != "http" && scheme != "https" {
            let problem = Problem::Value {
                field: "scheme",
                value: scheme,
                allowed: "http or https",
            };
            return Err(Located::new(line, problem));
        }
        let mut unsupported = Vec::new();
        if self
            .scrape_failure_log_file
            .as_ref()
            .is_some_and(|f| !f.is_empty())
        {
            unsupported.push("scrape_failure_log_file".to_owned());
        }
        let native_histograms = self
            .scrape_native_histograms
            .unwrap_or(global.native_histograms);
        let mut protocols = ScrapeProtocol::TEXTS.to_vec();
        if native_histograms {
            protocols.insert(0, ScrapeProtocol::PrometheusProto);
        }
        let given = self.scrape_protocols.take().filter(|p| !p.is_empty());
        let formats = Formats {
            protocols: given
                .or_else(|| global.protocols.clone())
                .unwrap_or(protocols),
            fallback: self.fallback_scrape_protocol,
            escaping: own
                .or(global.escaping.filter(|_| is_own))
                .unwrap_or(match names {
                    NameScheme::Legacy => Escaping::Underscores,
                    NameScheme::Utf8 => Escaping::AllowUtf8,
                }),
            native_histograms,
            classic_histograms_too: self
                .always_scrape_classic_histograms
                .or(self.scrape_classic_histograms)
                .unwrap_or(global.classic_histograms_too),
            custom_buckets: self
                .convert_classic_histograms_to_nhcb
                .unwrap_or(global.custom_buckets),
        };
        let http = self.http_fields().check(line, dir)?;
        unsupported.extend(http.unsupported.iter().map(|s| (*s).to_owned()));
        let limit = |own: Option<u64>, inherited: u64| own.filter(|l| *l > 0).unwrap_or(inherited);
        let limits = Limits {
            body_bytes: limit(self.body_size_limit.map(|s| s.0), global.limits.body_bytes),
            histogram_buckets: self.native_histogram_bucket_limit.unwrap_or(0),
            histogram_schema: self
                .native_histogram_min_bucket_factor
                .filter(|factor| *factor > 0.0)
                .map(schema_of),
            samples: limit(self.sample_limit, global.limits.samples),
            targets: limit(self.target_limit, global.limits.targets),
            labels: limit(self.label_limit, global.limits.labels),
            label_name_bytes: limit(self.label_name_length_limit, global.limits.label_name_bytes),
            label_value_bytes: limit(
                self.label_value_length_limit,
                global.limits.label_value_bytes,
            ),
        };
        let is_relabelled = self
            .relabel_configs
            .as_ref()
            .is_some_and(|rules| !rules.is_empty());
        let found = self.discovery_fields().check(line, dir, is_relabelled)?;
        unsupported.extend(found.unsupported);
        Ok(ScrapeConfig {
            job_name,
            scrape_interval,
            scrape_timeout,
            metrics_path: self
                .metrics_path
                .take()
                .filter(|p| !p.is_empty())
                .unwrap_or_else(|| "/metrics".to_owned()),
            scheme,
            params: self.params.take().unwrap_or_default(),
            honor_labels: self.honor_labels.unwrap_or(false),
            honor_timestamps: self.honor_timestamps.unwrap_or(true),
            track_timestamps_staleness: self.track_timestamps_staleness.unwrap_or(false),
            enable_compression: self.enable_compression.unwrap_or(true),
            extra_scrape_metrics: self
                .extra_scrape_metrics
                .unwrap_or(global.extra_scrape_metrics),
            limits,
            keep_dropped_targets: self
                .keep_dropped_targets
                .or(global.keep_dropped_targets)
                .filter(|count| *count > 0)
                .map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
            formats,
            http,
            relabel_configs: rules(self.relabel_configs, line, names)?,
            metric_relabel_configs: rules(self.metric_relabel_configs, line, names)?,
            static_configs: found.static_configs,
            file_sd_configs: found.file_sd_configs,
            docker_sd_configs: found.docker_sd_configs,
            other_sd_configs: found.others,
            unsupported,
        })
    }
}

pub(crate) fn items<F, T>(
    items: Option<Vec<Option<Spanned<F>>>>,
    line: u64,
    what: &'static str,
    check: impl Fn(u64, F) -> Result<T, Located>,
) -> Result<Vec<T>, Located> {
    let checked = items.unwrap_or_default().into_iter().map(|item| {
        let item = item.ok_or_else(|| Located::new(line, Problem::Missing(what)))?;
        check(item.referenced.line(), item.value)
    });
    checked.collect()
}

pub(crate) fn rules(
    list: Rules,
    line: u64,
    names: NameScheme,
) -> Result<Vec<RelabelConfig>, Located> {
    items(list, line, "a relabelling rule", |at, rule| {
        rule.check(names).map_err(|e| Located::new(at, e))
    })
}

pub(crate) fn file_discovery(
    fields: FileFields,
    line: u64,
    dir: &Path,
) -> Result<FileDiscovery, Located> {
    let files = fields.files.unwrap_or_default();
    if files.is_empty() {
        return Err(Located::new(line, Problem::Missing("files")));
    }
    for file in &files {
        let end = Path::new(file).extension().and_then(|e| e.to_str());
        let is_known = end.is_some_and(|e| {
            ["json", "yml", "yaml"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(e))
        });
        if !is_known || !glob::is_valid(file) {
            let problem = Problem::Value {
                field: "files",
                value: file.clone(),
                allowed: "a path that ends in .json, .yml or .yaml, with * in its last part only",
            };
            return Err(Located::new(line, problem));
        }
    }
    Ok(FileDiscovery {
        files: files.into_iter().map(|f| dir.join(f)).collect(),
        refresh_interval: refresh(fields.refresh_interval, FILE_REFRESH),
    })
}

pub(crate) fn docker_discovery(
    mut fields: DockerFields,
    line: u64,
    dir: &Path,
) -> Result<DockerDiscovery, Located> {
    fields.http_fields().check(line, dir)?;
    let host = fields.host.filter(|h| !h.is_empty());
    let filters = fields.filters.unwrap_or_default();
    Ok(DockerDiscovery {
        host: host.ok_or_else(|| Located::new(line, Problem::Missing("host")))?,
        port: fields.port.unwrap_or(80),
        host_networking_host: fields
            .host_networking_host
            .unwrap_or_else(|| "localhost".to_owned()),
        match_first_network: fields.match_first_network.unwrap_or(true),
        filters: filters.into_iter().map(|f| (f.name, f.values)).collect(),
        refresh_interval: refresh(fields.refresh_interval, DOCKER_REFRESH),
    })
}

fn refresh(given: Option<Interval>, default: Duration) -> Duration {
    given.map_or(default, |i| i.0).max(Duration::from_secs(1))
}
