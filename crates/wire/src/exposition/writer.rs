//! Writing the exposition format 0.0.4.

use kittiwake_model::{Histogram, TimestampMs};

use super::encode::classic_buckets;
use super::{MetricType, metric_name_len};
use crate::float::{push_float, push_label_float};
use crate::label_text::is_label_name;

/// Writes families: first what one is, then its samples. A name that needs quotes gets them,
/// which readers understand since Prometheus 3.
#[derive(Debug, Default)]
pub struct Writer {
    text: String,
}

impl Writer {
    /// A writer without families.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a family. An empty `help` is left out; types that 0.0.4 does not know become
    /// the one by which it reads their samples.
    pub fn family(&mut self, name: &str, help: &str, kind: MetricType) {
        if !help.is_empty() {
            self.text.push_str("# HELP ");
            self.family_name(name);
            self.text.push(' ');
            escape(&mut self.text, help, false);
            self.text.push('\n');
        }
        self.text.push_str("# TYPE ");
        self.family_name(name);
        self.text.push(' ');
        self.text.push_str(match kind {
            MetricType::Info | MetricType::StateSet => "gauge",
            MetricType::GaugeHistogram => "histogram",
            MetricType::Unknown => "untyped",
            known => known.as_str(),
        });
        self.text.push('\n');
    }

    /// Appends a sample. `name` includes a suffix as `_bucket`; the labels are without
    /// `__name__`.
    pub fn sample<'l>(
        &mut self,
        name: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        value: f64,
        time_ms: Option<TimestampMs>,
    ) {
        use std::fmt::Write;
        push_series(&mut self.text, [name, ""], labels, None);
        self.text.push(' ');
        push_float(&mut self.text, value);
        if let Some(time_ms) = time_ms {
            // Writing to a String cannot fail.
            let _ = write!(self.text, " {time_ms}");
        }
        self.text.push('\n');
    }

    /// Appends a histogram whose buckets have bounds, in its classic form.
    pub fn classic(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        histogram: &Histogram,
        time_ms: TimestampMs,
    ) {
        let all = labels.iter().copied();
        let mut count = 0.0;
        for (bound, cumulative) in classic_buckets(histogram) {
            let mut text = String::new();
            push_label_float(&mut text, bound);
            let with_bound = all.clone().chain([("le", text.as_str())]);
            let bucket = format!("{name}_bucket");
            self.sample(&bucket, with_bound, cumulative, Some(time_ms));
            count = cumulative;
        }
        let sum = format!("{name}_sum");
        self.sample(&sum, all.clone(), histogram.sum, Some(time_ms));
        self.sample(&format!("{name}_count"), all, count, Some(time_ms));
    }

    /// The text, to be sent as [`super::CONTENT_TYPE`].
    pub fn finish(self) -> String {
        self.text
    }

    fn family_name(&mut self, name: &str) {
        if is_metric_name(name) {
            self.text.push_str(name);
        } else {
            quoted(&mut self.text, [name, ""]);
        }
    }
}

/// Appends a series: its name, in two parts, its labels, and one more.
pub(super) fn push_series<'l>(
    out: &mut String,
    name: [&str; 2],
    labels: impl IntoIterator<Item = (&'l str, &'l str)>,
    special: Option<(&str, &str)>,
) {
    let mut separator = '{';
    let is_plain = is_metric_name(name[0])
        && name[1]
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_plain {
        out.push_str(name[0]);
        out.push_str(name[1]);
    } else {
        out.push('{');
        quoted(out, name);
        separator = ',';
    }
    let mut label = |name: &str, value: &str| {
        out.push(std::mem::replace(&mut separator, ','));
        if is_label_name(name.as_bytes()) {
            out.push_str(name);
        } else {
            quoted(out, [name, ""]);
        }
        out.push('=');
        quoted(out, [value, ""]);
    };
    for (name, value) in labels {
        label(name, value);
    }
    if let Some((name, value)) = special {
        label(name, value);
    }
    if separator == ',' {
        out.push('}');
    }
}

fn quoted(out: &mut String, text: [&str; 2]) {
    out.push('"');
    for part in text {
        escape(out, part, true);
    }
    out.push('"');
}

fn is_metric_name(name: &str) -> bool {
    !name.is_empty() && metric_name_len(name.as_bytes()) == name.len()
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}
