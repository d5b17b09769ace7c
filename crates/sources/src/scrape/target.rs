//! From what discovery says to a target: labels relabelled, address and times put together.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hyper::Uri;
use kittiwake_config::{ScrapeConfig, TargetGroup, apply, format_duration, parse_duration};
use kittiwake_model::{LabelError, Labels, LabelsBuilder};
use kittiwake_wire::exposition::Options;

/// Labels by which rules can set what a job says otherwise.
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const NATIVE: &str = "__scrape_native_histograms__";
const CLASSIC: &str = "__always_scrape_classic_histograms__";
const CUSTOM: &str = "__convert_classic_histograms_to_nhcb__";

/// What is scraped, as whom, how often.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// Labels of all its series.
    pub labels: Labels,
    pub uri: Uri,
    pub interval: Duration,
    pub timeout: Duration,
    /// What becomes of histograms.
    pub histograms: Options,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    #[error("it has no address")]
    NoAddress,
    #[error("address {0:?} is not HOST:PORT")]
    Address(String),
    #[error("{0:?} is no address of metrics")]
    Uri(String),
    #[error("{0} is neither true nor false")]
    Switch(&'static str),
    #[error("its interval or time-out is no duration, is 0, or the time-out is the longer")]
    Times,
    #[error(transparent)]
    Labels(#[from] LabelError),
}

/// What a job says of all its targets, and discovery of one, which wins.
pub(super) fn with_defaults(
    job: &ScrapeConfig,
    discovered: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let formats = &job.formats;
    let mut all: BTreeMap<String, String> = [
        ("job", job.job_name.clone()),
        (INTERVAL, format_duration(job.scrape_interval)),
        (TIMEOUT, format_duration(job.scrape_timeout)),
        ("__metrics_path__", job.metrics_path.clone()),
        ("__scheme__", job.scheme.clone()),
        (NATIVE, formats.native_histograms.to_string()),
        (CLASSIC, formats.classic_histograms_too.to_string()),
        (CUSTOM, formats.custom_buckets.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (name, values) in &job.params {
        let first = values.first().cloned().unwrap_or_default();
        all.insert(format!("__param_{name}"), first);
    }
    all.extend(discovered);
    all
}

/// The target of labels as [`with_defaults`] gives them; `None`: a rule drops it.
pub(super) fn target(
    job: &ScrapeConfig,
    discovered: &BTreeMap<String, String>,
) -> Result<Option<Target>, TargetError> {
    let mut labels = LabelsBuilder::new();
    for (name, value) in discovered {
        labels.set(name, value);
    }
    let Some(mut labels) = apply(&job.relabel_configs, labels) else {
        return Ok(None);
    };
    let get = |name: &str| labels.get(name).unwrap_or_default().to_owned();
    let address = get("__address__");
    if address.is_empty() {
        return Err(TargetError::NoAddress);
    }
    if address.contains('/') {
        return Err(TargetError::Address(address));
    }
    let switch = |name: &'static str| match get(name).as_str() {
        "true" => Ok(true),
        "false" | "" => Ok(false),
        _ => Err(TargetError::Switch(name)),
    };
    let histograms = Options {
        native: switch(NATIVE)?,
        classic_too: switch(CLASSIC)?,
        custom_buckets: switch(CUSTOM)?,
    };
    let interval = parse_duration(&get(INTERVAL)).unwrap_or_default();
    let timeout = parse_duration(&get(TIMEOUT)).unwrap_or_default();
    if interval.is_zero() || timeout.is_zero() || timeout > interval {
        return Err(TargetError::Times);
    }
    let text = format!(
        "{}://{address}{}{}",
        get("__scheme__"),
        get("__metrics_path__"),
        query(job, &labels, get("__metrics_path__").contains('?'))
    );
    let uri = text.parse().map_err(|_| TargetError::Uri(text))?;
    if labels.get("instance").is_none() {
        labels.set("instance", &address);
    }
    labels.retain(|name, _| !name.starts_with("__"));
    Ok(Some(Target {
        labels: labels.build()?,
        uri,
        interval,
        timeout,
        histograms,
    }))
}

/// Whether what a group lists are targets, as far as a job's rules let them be. The error is the
/// place of the first that is none, and why.
pub fn check_group(job: &ScrapeConfig, group: &TargetGroup) -> Result<(), (usize, String)> {
    for (index, address) in group.targets.iter().enumerate() {
        let mut discovered = group.labels.clone();
        discovered.insert("__address__".to_owned(), address.clone());
        match target(job, &with_defaults(job, discovered)) {
            Ok(_) => {}
            Err(TargetError::Address(address)) => {
                let address = kittiwake_model::quote(&address);
                return Err((index, format!("{address} is not a valid hostname")));
            }
            Err(error) => return Err((index, error.to_string())),
        }
    }
    Ok(())
}

/// The parameters: the job's, their first values as the labels `__param_*` have them.
fn query(job: &ScrapeConfig, labels: &LabelsBuilder, has_query: bool) -> String {
    let mut params: BTreeMap<&str, Vec<&str>> = job
        .params
        .iter()
        .map(|(name, values)| (name.as_str(), values.iter().map(String::as_str).collect()))
        .collect();
    for (label, value) in labels.iter() {
        if let Some(name) = label.strip_prefix("__param_") {
            let values = params.entry(name).or_default();
            match values.first_mut() {
                Some(first) => *first = value,
                None => values.push(value),
            }
        }
    }
    let mut text = String::new();
    for (name, values) in params {
        for value in values {
            text.push(if text.is_empty() && !has_query {
                '?'
            } else {
                '&'
            });
            escape(name, &mut text);
            text.push('=');
            escape(value, &mut text);
        }
    }
    text
}

fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            into.push(byte as char);
        } else {
            // Writing to a text cannot fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}
