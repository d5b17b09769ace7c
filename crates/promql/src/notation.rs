//! The description of a series: labels and values, in the short form `1 2 _ 3x4 0+10x5 stale
//! {{count:1 buckets:[1]}}`.

use std::sync::Arc;

use kittiwake_model::float_histogram::{FloatHistogram, Slot, shortest};
use kittiwake_model::histogram::ResetHint;
use kittiwake_model::{Histogram, Labels, is_stale_nan, stale_nan};

/// Values that one description may have.
const VALUES_MAX: usize = 1_000_000;

/// Buckets between the first and the last that are written out.
const SPAN_MAX: i64 = 100_000;

/// One value of a series; none where it is left out.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// There is none.
    Omitted,
    /// A number.
    Float(f64),
    /// A histogram, and whether its hint was given.
    Histogram(Arc<FloatHistogram>, bool),
}

/// A number as Go reads it in a script.
pub fn number(text: &str) -> Option<f64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    if unsigned.len() + 1 < text.len() || unsigned.is_empty() {
        return None;
    }
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    let lower = unsigned.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return Some(sign * i64::from_str_radix(hex, 16).ok()? as f64);
    }
    if !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && !matches!(lower.as_str(), "inf" | "infinity" | "nan")
    {
        return None;
    }
    lower.parse::<f64>().ok().map(|value| sign * value)
}

/// Where the labels of a description end.
fn labels_end(text: &str) -> usize {
    let (mut quote, mut depth) = (None, 0);
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some('"' | '\'') if c == '\\' => is_escaped = true,
            Some(q) if q == c => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' | '`' => quote = Some(c),
                '{' => depth += 1,
                '}' => depth -= 1,
                c if c.is_whitespace() && depth == 0 => return at,
                _ => {}
            },
        }
    }
    text.len()
}

/// The labels of `name{label="value"}`.
pub fn labels(text: &str) -> Result<Labels, String> {
    // A selector of equal matchers names the labels.
    let matchers = crate::parse_selector(text).map_err(|error| error.to_string())?;
    let pairs = matchers.iter().map(|m| (m.name(), m.value()));
    Labels::from_pairs(pairs).map_err(|error| error.to_string())
}

/// Labels and values of a series.
pub fn series(text: &str) -> Result<(Labels, Vec<Value>), String> {
    let end = labels_end(text);
    let labels = labels(&text[..end])?;
    Ok((labels, values(&text[end..])?))
}

/// The values of a description without labels.
pub fn values(text: &str) -> Result<Vec<Value>, String> {
    let mut values = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = item_end(rest);
        let (item, after) = rest.split_at(end);
        item_values(item, &mut values).map_err(|why| format!("{item:?}: {why}"))?;
        rest = after.trim_start();
    }
    Ok(values)
}

/// Where an item ends: at white space outside of a histogram.
fn item_end(text: &str) -> usize {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("{{") {
            at += rest.find("}}").map_or(rest.len(), |end| end + 2);
            continue;
        }
        let Some(c) = rest.chars().next() else { break };
        if c.is_whitespace() {
            break;
        }
        at += c.len_utf8();
    }
    at
}

fn repetitions(text: &str) -> Result<usize, String> {
    let times: usize = text
        .parse()
        .map_err(|_| format!("invalid repetition {text:?}"))?;
    if times > VALUES_MAX {
        return Err(format!("more than {VALUES_MAX} repetitions"));
    }
    Ok(times)
}

fn item_values(item: &str, values: &mut Vec<Value>) -> Result<(), String> {
    if item.starts_with("{{") {
        return histogram_values(item, values);
    }
    let (expansion, times) = match item.rsplit_once('x') {
        Some((expansion, times)) => (expansion, Some(repetitions(times)?)),
        None => (item, None),
    };
    if expansion == "_" {
        values.extend(std::iter::repeat_n(Value::Omitted, times.unwrap_or(1)));
        return Ok(());
    }
    if expansion == "stale" {
        let stale = Value::Float(stale_nan());
        values.extend(std::iter::repeat_n(stale, times.map_or(1, |t| t + 1)));
        return Ok(());
    }
    let bad = || format!("{expansion:?} is no number");
    let Some(times) = times else {
        values.push(Value::Float(number(expansion).ok_or_else(bad)?));
        return Ok(());
    };
    // A sign that is not the first and not an exponent's begins what is added.
    let is_step = |(at, c): &(usize, char)| {
        *at > 0 && matches!(c, '+' | '-') && !expansion[..*at].ends_with(['e', 'E'])
    };
    let (start, step) = match expansion.char_indices().find(is_step) {
        Some((at, _)) => expansion.split_at(at),
        None => (expansion, "0"),
    };
    let mut value = number(start).ok_or_else(bad)?;
    let step = number(step).ok_or_else(bad)?;
    for _ in 0..=times {
        values.push(Value::Float(value));
        value += step;
    }
    Ok(())
}

fn split_histogram(text: &str) -> Result<(&str, &str), String> {
    let inner = text.strip_prefix("{{").ok_or("a histogram is missing")?;
    inner
        .split_once("}}")
        .ok_or_else(|| "a histogram is not closed".to_owned())
}

fn histogram_values(item: &str, values: &mut Vec<Value>) -> Result<(), String> {
    let (text, rest) = split_histogram(item)?;
    let (first, mut has_hint) = histogram(text)?;
    if rest.is_empty() {
        values.push(Value::Histogram(Arc::new(first), has_hint));
        return Ok(());
    }
    if let Some(times) = rest.strip_prefix('x') {
        let value = Value::Histogram(Arc::new(first), has_hint);
        values.extend(std::iter::repeat_n(value, repetitions(times)? + 1));
        return Ok(());
    }
    let is_sum = rest.starts_with('+');
    if !is_sum && !rest.starts_with('-') {
        return Err(format!("unexpected {rest:?} behind a histogram"));
    }
    let (text, rest) = split_histogram(&rest[1..])?;
    let (step, step_has_hint) = histogram(text)?;
    has_hint = step_has_hint;
    let times = rest.strip_prefix('x').ok_or("the repetition is missing")?;
    let mut value = first;
    for index in 0..=repetitions(times)? {
        if index > 0 {
            if value.schema > step.schema {
                return Err(format!(
                    "cannot merge from schema {} to {}",
                    step.schema, value.schema
                ));
            }
            let merged = if is_sum {
                value.add(&step)
            } else {
                value.subtract(&step)
            };
            merged.map_err(|error| error.to_string())?;
        }
        values.push(Value::Histogram(Arc::new(value.clone()), has_hint));
    }
    Ok(())
}

fn slots(counts: &[f64], offset: i32) -> Vec<Slot> {
    let slots = counts.iter().enumerate();
    let slots = slots.map(|(index, count)| Slot {
        index: offset.saturating_add(index as i32),
        count: *count,
    });
    slots.collect()
}

/// A histogram, and whether its hint was given.
fn histogram(text: &str) -> Result<(FloatHistogram, bool), String> {
    let mut histogram = FloatHistogram::default();
    let mut has_hint = false;
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    let (mut offset, mut negative_offset) = (0, 0);
    let mut rest = text.trim();
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once(':')
            .ok_or_else(|| format!("no value in {rest:?}"))?;
        if seen.contains(&key) {
            return Err(format!("duplicate key {key:?} in histogram"));
        }
        seen.push(key);
        let (value, after) = if let Some(list) = after.strip_prefix('[') {
            list.split_once(']').ok_or("a list is not closed")?
        } else {
            after.split_at(after.find(char::is_whitespace).unwrap_or(after.len()))
        };
        let float = || number(value).ok_or_else(|| format!("{value:?} is no number"));
        let integer = || {
            value
                .parse::<i32>()
                .map_err(|_| format!("{value:?} is no integer"))
        };
        let list = || -> Result<Vec<f64>, String> {
            let numbers = value.split_whitespace();
            let numbers = numbers.map(|n| number(n).ok_or_else(|| format!("{n:?} is no number")));
            numbers.collect()
        };
        match key {
            "schema" => histogram.schema = integer()?,
            "sum" => histogram.sum = float()?,
            "count" => histogram.count = float()?,
            "z_bucket" => histogram.zero_count = float()?,
            "z_bucket_w" => histogram.zero_threshold = float()?,
            "custom_values" => histogram.custom_bounds = Arc::from(list()?),
            "buckets" => positive = list()?,
            "n_buckets" => negative = list()?,
            "offset" => offset = integer()?,
            "n_offset" => negative_offset = integer()?,
            "counter_reset_hint" => {
                has_hint = true;
                histogram.reset_hint = match value {
                    "unknown" => ResetHint::Unknown,
                    "reset" => ResetHint::Yes,
                    "not_reset" => ResetHint::No,
                    "gauge" => ResetHint::Gauge,
                    other => return Err(format!("hint {other:?} is not known")),
                };
            }
            other => return Err(format!("{other:?} is no part of a histogram")),
        }
        rest = after.trim_start();
    }
    histogram.positive = slots(&positive, offset);
    histogram.negative = slots(&negative, negative_offset);
    Ok((histogram, has_hint))
}

/// A histogram as a store keeps it. Prometheus' store tells, from how it keeps histograms, that
/// one continues the one before; here `last` has that one.
pub fn stored(histogram: &FloatHistogram, last: &mut Option<FloatHistogram>) -> Histogram {
    let mut histogram = histogram.clone();
    if is_stale_nan(histogram.sum) {
        *last = None;
        return Histogram::from(&histogram);
    }
    let hint = histogram.hint_after(last.as_ref());
    if histogram.reset_hint != ResetHint::Gauge {
        histogram.reset_hint = ResetHint::Unknown;
    }
    *last = Some(histogram.clone());
    histogram.reset_hint = hint;
    Histogram::from(&histogram)
}

/// A histogram in the form in which descriptions have it.
pub fn histogram_text(histogram: &FloatHistogram) -> String {
    let mut histogram = histogram.clone();
    histogram.compact();
    let mut parts = Vec::new();
    if histogram.schema != 0 {
        parts.push(format!("schema:{}", histogram.schema));
    }
    for (name, value) in [
        ("count", histogram.count),
        ("sum", histogram.sum),
        ("z_bucket", histogram.zero_count),
        ("z_bucket_w", histogram.zero_threshold),
    ] {
        if value != 0.0 {
            parts.push(format!("{name}:{}", shortest(value)));
        }
    }
    let list = |values: &[f64]| {
        let values: Vec<String> = values.iter().map(|value| shortest(*value)).collect();
        values.join(" ")
    };
    if histogram.has_custom_buckets() {
        parts.push(format!(
            "custom_values:[{}]",
            list(&histogram.custom_bounds)
        ));
    }
    match histogram.reset_hint {
        ResetHint::Unknown => {}
        ResetHint::Yes => parts.push("counter_reset_hint:reset".to_owned()),
        ResetHint::No => parts.push("counter_reset_hint:not_reset".to_owned()),
        ResetHint::Gauge => parts.push("counter_reset_hint:gauge".to_owned()),
    }
    for (slots, name, offset_name) in [
        (&histogram.positive, "buckets", "offset"),
        (&histogram.negative, "n_buckets", "n_offset"),
    ] {
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else {
            continue;
        };
        if first.index != 0 {
            parts.push(format!("{offset_name}:{}", first.index));
        }
        let span = i64::from(last.index) - i64::from(first.index) + 1;
        if span > SPAN_MAX {
            parts.push(format!("{name}:(too far apart)"));
            continue;
        }
        let mut counts = vec![0.0; span as usize];
        for slot in slots {
            counts[(i64::from(slot.index) - i64::from(first.index)) as usize] = slot.count;
        }
        parts.push(format!("{name}:[{}]", list(&counts)));
    }
    format!("{{{{{}}}}}", parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(text: &str) -> Vec<Option<f64>> {
        let shown = |value: Value| match value {
            Value::Float(value) => Some(value),
            _ => None,
        };
        values(text).unwrap().into_iter().map(shown).collect()
    }

    #[test]
    fn the_short_form() {
        assert_eq!(floats("1 _ 2x1"), [Some(1.0), None, Some(2.0), Some(2.0)]);
        assert_eq!(floats("0+10x2"), [Some(0.0), Some(10.0), Some(20.0)]);
        assert_eq!(floats("-1-1e1x1"), [Some(-1.0), Some(-11.0)]);
        assert_eq!(floats("_x3").len(), 3);
        assert!(values("1y").is_err() && values("stall").is_err());
    }

    #[test]
    fn histograms() {
        let all = values("{{count:2 sum:3 buckets:[1 1]}}+{{count:1 buckets:[1]}}x1 {{}}").unwrap();
        assert_eq!(all.len(), 3);
        let Value::Histogram(second, _) = &all[1] else {
            panic!("a histogram");
        };
        assert_eq!((second.count, second.positive[0].count), (3.0, 2.0));
        assert!(values("{{cuont:2}}").is_err());
        let text = "{{schema:1 count:3 sum:4.5 z_bucket:1 counter_reset_hint:gauge offset:2 buckets:[1 0 1] n_buckets:[2]}}";
        let Value::Histogram(histogram, _) = &values(text).unwrap()[0] else {
            panic!("a histogram");
        };
        assert_eq!(histogram_text(histogram), text);
    }
}
