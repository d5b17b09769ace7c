//! From what discovery says to a target: labels relabelled, address and times put together.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hyper::Uri;
use kittiwake_config::{ScrapeConfig, apply, format_duration, parse_duration};
use kittiwake_model::{LabelError, Labels, LabelsBuilder};

/// What is scraped, as whom, how often.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// Labels of all its series.
    pub labels: Labels,
    pub uri: Uri,
    pub interval: Duration,
    pub timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    #[error("it has no address")]
    NoAddress,
    #[error("address {0:?} is not HOST:PORT")]
    Address(String),
    #[error("{0:?} is no address of metrics")]
    Uri(String),
    #[error("its interval or time-out is no duration, is 0, or the time-out is the longer")]
    Times,
    #[error(transparent)]
    Labels(#[from] LabelError),
}

/// The target of discovered labels; `None`: a rule drops it.
pub(super) fn target(
    job: &ScrapeConfig,
    discovered: &BTreeMap<String, String>,
) -> Result<Option<Target>, TargetError> {
    let mut labels = LabelsBuilder::new();
    labels.set("job", &job.job_name);
    labels.set("__scrape_interval__", &format_duration(job.scrape_interval));
    labels.set("__scrape_timeout__", &format_duration(job.scrape_timeout));
    labels.set("__metrics_path__", &job.metrics_path);
    labels.set("__scheme__", &job.scheme);
    for (name, values) in &job.params {
        let first = values.first().map_or("", String::as_str);
        labels.set(&format!("__param_{name}"), first);
    }
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
    let interval = parse_duration(&get("__scrape_interval__")).unwrap_or_default();
    let timeout = parse_duration(&get("__scrape_timeout__")).unwrap_or_default();
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
    }))
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
