//! Prometheus' configuration file.
//!
//! Sections that steer what is not done here (remote storage, tracing) are Prometheus' too, so
//! they are checked as there, and are named in [`PrometheusConfig::unsupported`]: a user who brings the file
//! along gets a warning, not an error, and not silence either.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kittiwake_model::Labels;
use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::alerting::{self, AlertingConfig, AlertingFields};
use crate::discovery::Entries;
use crate::error::{ConfigError, Located, Problem, read_file};
use crate::glob;
use crate::names::NameScheme;
use crate::otlp::{OtlpConfig, OtlpFields};
use crate::remote::{self, ReadFields, RemoteConfig, WriteFields};
use crate::scalar::{Interval, Size, Texts};
use crate::scrape::{
    Escaping, Inherited, JobFields, Limits, ScrapeConfig, ScrapeProtocol, check_protocols, timing,
};
use crate::sections::{RuntimeFields, StorageFields, TracingFields};

/// Time between two scrapes unless the file says otherwise.
pub const SCRAPE_INTERVAL: Duration = Duration::from_mins(1);
/// Time between two evaluations of rules unless the file says otherwise.
pub const EVALUATION_INTERVAL: Duration = Duration::from_mins(1);
/// Longest time for one scrape unless the file says otherwise.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

/// The checked file.
#[derive(Debug, Clone)]
pub struct PrometheusConfig {
    /// Time between two scrapes where a job doesn't say.
    pub scrape_interval: Duration,
    /// Longest time for one where a job doesn't say.
    pub scrape_timeout: Duration,
    /// Labels of all that leaves for other systems.
    pub external_labels: Labels,
    /// How metrics of OpenTelemetry become series.
    pub otlp: OtlpConfig,
    /// How often rules are evaluated where their group doesn't say.
    pub evaluation_interval: Duration,
    /// How far back rules look where their group doesn't say.
    pub rule_query_offset: Duration,
    /// Which names are allowed.
    pub names: NameScheme,
    /// Files with rules, with wildcards in their last part.
    pub rule_files: Vec<PathBuf>,
    /// Where alerts go.
    pub alerting: AlertingConfig,
    /// Where samples would be written to.
    pub remote_write: Vec<RemoteConfig>,
    /// Where samples would be read from.
    pub remote_read: Vec<RemoteConfig>,
    /// The jobs, those of `scrape_config_files` last.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Settings that are read but not obeyed yet, to be warned of.
    pub unsupported: Vec<String>,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self {
            scrape_interval: SCRAPE_INTERVAL,
            scrape_timeout: SCRAPE_TIMEOUT,
            external_labels: Labels::empty(),
            otlp: OtlpConfig::default(),
            evaluation_interval: EVALUATION_INTERVAL,
            rule_query_offset: Duration::ZERO,
            names: NameScheme::default(),
            rule_files: Vec::new(),
            alerting: AlertingConfig::default(),
            remote_write: Vec::new(),
            remote_read: Vec::new(),
            scrape_configs: Vec::new(),
            unsupported: Vec::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFields {
    global: Option<Spanned<GlobalFields>>,
    scrape_configs: Option<Vec<Option<Spanned<JobFields>>>>,
    scrape_config_files: Option<Spanned<Vec<String>>>,
    rule_files: Option<Spanned<Vec<String>>>,
    runtime: Option<RuntimeFields>,
    alerting: Option<Spanned<Option<AlertingFields>>>,
    remote_write: Entries<WriteFields>,
    remote_read: Entries<ReadFields>,
    storage: Option<Spanned<StorageFields>>,
    tracing: Option<Spanned<TracingFields>>,
    otlp: Option<Spanned<OtlpFields>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobsFields {
    scrape_configs: Option<Vec<Option<Spanned<JobFields>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GlobalFields {
    scrape_interval: Option<Interval>,
    scrape_timeout: Option<Interval>,
    scrape_protocols: Option<Vec<ScrapeProtocol>>,
    evaluation_interval: Option<Interval>,
    rule_query_offset: Option<Interval>,
    query_log_file: Option<Value>,
    scrape_failure_log_file: Option<Value>,
    external_labels: Option<Texts>,
    body_size_limit: Option<Size>,
    sample_limit: Option<u64>,
    target_limit: Option<u64>,
    label_limit: Option<u64>,
    label_name_length_limit: Option<u64>,
    label_value_length_limit: Option<u64>,
    keep_dropped_targets: Option<u64>,
    #[serde(default, deserialize_with = "crate::scalar::empty_is_none")]
    metric_name_validation_scheme: Option<NameScheme>,
    #[serde(default, deserialize_with = "crate::scalar::empty_is_none")]
    metric_name_escaping_scheme: Option<Escaping>,
    scrape_native_histograms: Option<bool>,
    always_scrape_classic_histograms: Option<bool>,
    convert_classic_histograms_to_nhcb: Option<bool>,
    extra_scrape_metrics: Option<bool>,
}

impl PrometheusConfig {
    /// Reads and checks a file. Paths in it are relative to its folder.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = read_file(file)?;
        let dir = file.parent().unwrap_or(Path::new(""));
        Self::read(&text, file, dir, true)
    }

    /// Reads and checks a file, but not the files with jobs that it names.
    pub fn load_alone(file: &Path) -> Result<Self, ConfigError> {
        let text = read_file(file)?;
        let dir = file.parent().unwrap_or(Path::new(""));
        Self::read(&text, file, dir, false)
    }

    /// Checks a text. Paths in it are relative to `dir`; errors name it `prometheus.yml` there.
    pub fn parse(text: &str, dir: &Path) -> Result<Self, ConfigError> {
        Self::read(text, &dir.join("prometheus.yml"), dir, true)
    }

    fn read(text: &str, file: &Path, dir: &Path, follows_files: bool) -> Result<Self, ConfigError> {
        let located = |located: Located| located.in_file(file);
        let fields: FileFields = if text.trim().is_empty() {
            FileFields::default()
        } else {
            let fields: Option<FileFields> =
                serde_saphyr::from_str(text).map_err(|e| located(e.into()))?;
            fields.unwrap_or_default()
        };
        let mut config = Self::default();
        let inherited = config.take_global(fields.global).map_err(located)?;
        for (name, is_set) in [
            ("runtime", fields.runtime.is_some()),
            ("remote_write", has_entries(fields.remote_write.as_ref())),
            ("remote_read", has_entries(fields.remote_read.as_ref())),
            ("storage", fields.storage.is_some()),
            ("tracing", fields.tracing.is_some()),
        ] {
            if is_set {
                config.unsupported.push(name.to_owned());
            }
        }
        if let Some(storage) = fields.storage {
            let line = storage.referenced.line();
            storage.value.check(line).map_err(located)?;
        }
        if let Some(tracing) = fields.tracing {
            let line = tracing.referenced.line();
            tracing.value.check(line, dir).map_err(located)?;
        }
        let names = inherited.names;
        config.alerting = alerting::check(fields.alerting, dir, names).map_err(located)?;
        for (index, one) in config.alerting.alertmanagers.iter().enumerate() {
            let unsupported = one.unsupported.iter();
            let unsupported = unsupported.map(|what| format!("{what} of alertmanagers {index}"));
            config.unsupported.extend(unsupported);
        }
        config.remote_write =
            remote::check_write(fields.remote_write, dir, names).map_err(located)?;
        config.remote_read = remote::check_read(fields.remote_read, dir).map_err(located)?;
        if let Some(otlp) = fields.otlp {
            let line = otlp.referenced.line();
            config.otlp = otlp.value.check(line).map_err(located)?;
            let strategy = config.otlp.translation_strategy;
            if inherited.names == NameScheme::Legacy && !strategy.escapes() {
                let problem = Problem::Value {
                    field: "otlp.translation_strategy",
                    value: format!("{strategy:?}"),
                    allowed: "OTLP translation strategy is not allowed when UTF8 is disabled",
                };
                return Err(located(Located::new(line, problem)));
            }
        }
        if let Some(rules) = &fields.rule_files {
            check_patterns("rule_files", rules).map_err(located)?;
            config.rule_files = rules.value.iter().map(|file| dir.join(file)).collect();
        }
        let mut seen = HashMap::new();
        config.add_jobs(fields.scrape_configs, file, dir, &inherited, &mut seen)?;
        if let Some(patterns) = &fields.scrape_config_files {
            check_patterns("scrape_config_files", patterns).map_err(located)?;
            for pattern in patterns.value.iter().filter(|_| follows_files) {
                config.add_files(&dir.join(pattern), &inherited, &mut seen)?;
            }
        }
        Ok(config)
    }

    fn take_global(&mut self, global: Option<Spanned<GlobalFields>>) -> Result<Inherited, Located> {
        let mut inherited = Inherited {
            interval: SCRAPE_INTERVAL,
            timeout: SCRAPE_TIMEOUT,
            limits: Limits::default(),
            names: NameScheme::default(),
            escaping: None,
            protocols: None,
            native_histograms: false,
            classic_histograms_too: false,
            custom_buckets: false,
            keep_dropped_targets: None,
            extra_scrape_metrics: false,
        };
        let Some(global) = global else {
            return Ok(inherited);
        };
        let (line, global) = (global.referenced.line(), global.value);
        (inherited.interval, inherited.timeout) = timing(
            line,
            global.scrape_interval,
            global.scrape_timeout,
            (SCRAPE_INTERVAL, SCRAPE_TIMEOUT),
        )?;
        check_protocols(line, global.scrape_protocols.as_deref())?;
        inherited.names = global.metric_name_validation_scheme.unwrap_or_default();
        self.names = inherited.names;
        let interval = global.evaluation_interval.map(|interval| interval.0);
        self.evaluation_interval = interval
            .filter(|interval| !interval.is_zero())
            .unwrap_or(EVALUATION_INTERVAL);
        self.rule_query_offset = global.rule_query_offset.map_or(Duration::ZERO, |o| o.0);
        inherited.escaping = global.metric_name_escaping_scheme;
        inherited.protocols = global.scrape_protocols.filter(|p| !p.is_empty());
        inherited.keep_dropped_targets = global.keep_dropped_targets;
        inherited.native_histograms = global.scrape_native_histograms.unwrap_or(false);
        inherited.classic_histograms_too = global.always_scrape_classic_histograms.unwrap_or(false);
        inherited.custom_buckets = global.convert_classic_histograms_to_nhcb.unwrap_or(false);
        inherited.extra_scrape_metrics = global.extra_scrape_metrics.unwrap_or(false);
        inherited.limits = Limits {
            body_bytes: global.body_size_limit.map_or(0, |s| s.0),
            samples: global.sample_limit.unwrap_or(0),
            targets: global.target_limit.unwrap_or(0),
            labels: global.label_limit.unwrap_or(0),
            label_name_bytes: global.label_name_length_limit.unwrap_or(0),
            label_value_bytes: global.label_value_length_limit.unwrap_or(0),
            histogram_buckets: 0,
            histogram_schema: None,
        };
        for (name, is_set) in [
            ("global.query_log_file", global.query_log_file.is_some()),
            (
                "global.scrape_failure_log_file",
                global.scrape_failure_log_file.is_some(),
            ),
        ] {
            if is_set {
                self.unsupported.push(name.to_owned());
            }
        }
        let labels = global.external_labels.unwrap_or_default().0;
        if let Some(name) = labels.keys().find(|n| !inherited.names.label_is_valid(n)) {
            let problem = Problem::Value {
                field: "external_labels",
                value: name.clone(),
                allowed: "a label name",
            };
            return Err(Located::new(line, problem));
        }
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let expanded = labels
            .into_iter()
            .map(|(name, value)| (name, expand(&value, variable)));
        self.external_labels = Labels::from_pairs(expanded).map_err(|e| Located::new(line, e))?;
        (self.scrape_interval, self.scrape_timeout) = (inherited.interval, inherited.timeout);
        Ok(inherited)
    }

    fn add_files(
        &mut self,
        pattern: &Path,
        inherited: &Inherited,
        seen: &mut HashMap<String, PathBuf>,
    ) -> Result<(), ConfigError> {
        let files = glob::matching_files(pattern).map_err(|cause| ConfigError::Read {
            file: pattern.to_owned(),
            cause,
        })?;
        for file in files {
            let text = read_file(&file)?;
            let fields: Option<JobsFields> =
                serde_saphyr::from_str(&text).map_err(|e| Located::from(e).in_file(&file))?;
            let jobs = fields.and_then(|f| f.scrape_configs);
            let dir = file.parent().unwrap_or(Path::new("")).to_owned();
            self.add_jobs(jobs, &file, &dir, inherited, seen)?;
        }
        Ok(())
    }

    fn add_jobs(
        &mut self,
        jobs: Option<Vec<Option<Spanned<JobFields>>>>,
        file: &Path,
        dir: &Path,
        inherited: &Inherited,
        seen: &mut HashMap<String, PathBuf>,
    ) -> Result<(), ConfigError> {
        for job in jobs.unwrap_or_default() {
            let Some(job) = job else {
                let problem = Problem::Missing("an entry of scrape_configs");
                return Err(Located::new(0, problem).in_file(file));
            };
            let line = job.referenced.line();
            let job = job.value.check(line, dir, inherited);
            let job = job.map_err(|located| located.in_file(file))?;
            if let Some(first) = seen.insert(job.job_name.clone(), file.to_owned()) {
                let problem = Problem::DuplicateJob {
                    name: job.job_name,
                    first: first.display().to_string(),
                };
                return Err(Located::new(line, problem).in_file(file));
            }
            let unsupported = job.unsupported.iter();
            let unsupported = unsupported.map(|what| format!("{what} of job {:?}", job.job_name));
            self.unsupported.extend(unsupported);
            self.scrape_configs.push(job);
        }
        Ok(())
    }
}

fn has_entries<F>(entries: Option<&Vec<F>>) -> bool {
    entries.is_some_and(|entries| !entries.is_empty())
}

fn check_patterns(field: &'static str, patterns: &Spanned<Vec<String>>) -> Result<(), Located> {
    match patterns.value.iter().find(|p| !glob::is_valid(p)) {
        None => Ok(()),
        Some(pattern) => {
            let problem = Problem::Value {
                field,
                value: pattern.clone(),
                allowed: "a path with * in its last part only",
            };
            Err(Located::new(patterns.referenced.line(), problem))
        }
    }
}

/// Replaces `$NAME` and `${NAME}`; `$$` is a dollar, and so is one that no name follows.
fn expand(text: &str, variable: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'));
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = braced {
            out.push_str(&variable(name));
            rest = tail;
        } else {
            let end = after
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(after.len());
            let (name, tail) = after.split_at(end);
            if name.is_empty() {
                out.push('$');
            } else {
                out.push_str(&variable(name));
            }
            rest = tail;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
