//! Questions to Loki with its answers, and the lines that they are about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

/// Numbers may differ by so much of themselves.
const TOLERANCE: f64 = 1e-9;
/// Lines of one push.
const PUSH_LINES: usize = 1000;

/// A question and its answer.
#[derive(Debug, Clone)]
pub struct Case {
    /// The path.
    pub path: String,
    /// The parameters.
    pub params: Map<String, Value>,
    /// The status of the answer.
    pub status: u16,
    /// The answer: JSON, or the text of an error.
    pub response: Value,
}

impl Case {
    /// The path with the parameters, encoded.
    pub fn url(&self) -> String {
        let mut url = self.path.clone();
        for (index, (name, value)) in self.params.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            match value {
                Value::String(text) => push_encoded(&mut url, text),
                other => push_encoded(&mut url, &other.to_string()),
            }
        }
        url
    }

    /// What tells the case from others in a report.
    pub fn name(&self) -> String {
        let query = self.params.get("query").and_then(Value::as_str);
        format!("{} {}", self.path, query.unwrap_or(""))
    }

    /// Fails when an answer is not the recorded one. `ties` are the times that several lines
    /// have: of these the limit may have cut others.
    pub fn check(&self, status: u16, body: &str, ties: &BTreeSet<String>) -> Result<()> {
        ensure!(
            status == self.status,
            "status {status} instead of {}: {}",
            self.status,
            body.chars().take(300).collect::<String>()
        );
        if self.status != 200 {
            ensure!(!body.trim().is_empty(), "an error without a text");
            return Ok(());
        }
        let mut got: Value = serde_json::from_str(body).context("the answer is no JSON")?;
        let mut want = self.response.clone();
        for answer in [&mut got, &mut want] {
            if let Some(data) = answer.get_mut("data").and_then(Value::as_object_mut) {
                data.remove("stats");
            }
        }
        let kind = want["data"]["resultType"].as_str().map(str::to_owned);
        ensure!(
            got["status"] == want["status"],
            "status {} instead of {}",
            got["status"],
            want["status"]
        );
        let Some(kind) = kind else {
            return same(&got, &want, "");
        };
        ensure!(
            got["data"]["resultType"] == kind.as_str(),
            "{} instead of {kind}",
            got["data"]["resultType"]
        );
        let (got, want) = (&got["data"]["result"], &want["data"]["result"]);
        match kind.as_str() {
            "streams" => self.same_streams(got, want, ties),
            "vector" if self.ranks() => same_ranks(got, want),
            "matrix" | "vector" => same_series(got, want),
            _ => same(got, want, ""),
        }
    }

    /// Whether the query keeps the first of series in an order of values.
    fn ranks(&self) -> bool {
        let query = self.params.get("query").and_then(Value::as_str);
        query.is_some_and(|q| q.starts_with("topk") || q.starts_with("bottomk"))
    }

    fn same_streams(&self, got: &Value, want: &Value, ties: &BTreeSet<String>) -> Result<()> {
        let (mut got, mut want) = (by_labels(got, "stream")?, by_labels(want, "stream")?);
        if got == want {
            return Ok(());
        }
        // Where the limit cut, lines of the last time may be others.
        let count = |streams: &Streams| -> usize {
            let values = streams.values();
            values
                .map(|v| v["values"].as_array().map_or(0, Vec::len))
                .sum()
        };
        let limit = self.params.get("limit").map_or(100, |limit| match limit {
            Value::String(text) => text.parse().unwrap_or(100),
            other => other.as_u64().unwrap_or(100) as usize,
        });
        ensure!(
            count(&got) == count(&want),
            "{} lines instead of {}",
            count(&got),
            count(&want)
        );
        if count(&want) == limit {
            let is_forward =
                self.params.get("direction").and_then(Value::as_str) == Some("forward");
            let last = last_time(&want, is_forward);
            if ties.contains(&last) {
                for streams in [&mut got, &mut want] {
                    cut(streams, &last);
                }
            }
        }
        for (labels, stream) in &want {
            let Some(other) = got.get(labels) else {
                bail!("no stream {labels}");
            };
            same(&other["values"], &stream["values"], labels)?;
        }
        match got.keys().find(|labels| !want.contains_key(*labels)) {
            Some(labels) => bail!("a stream too many: {labels}"),
            None => Ok(()),
        }
    }
}

type Streams = BTreeMap<String, Value>;

/// Streams or series by their labels.
fn by_labels(result: &Value, name: &str) -> Result<Streams> {
    let mut found = Streams::new();
    for one in result.as_array().context("no list of results")? {
        let labels: BTreeMap<String, Value> = serde_json::from_value(one[name].clone())?;
        let labels = serde_json::to_string(&labels)?;
        ensure!(
            found.insert(labels.clone(), one.clone()).is_none(),
            "{labels} comes twice"
        );
    }
    Ok(found)
}

fn last_time(streams: &Streams, is_forward: bool) -> String {
    let values = streams.values().filter_map(|s| s["values"].as_array());
    let times = values.flatten().filter_map(|v| v[0].as_str());
    let last = if is_forward { times.max() } else { times.min() };
    last.unwrap_or_default().to_owned()
}

/// Removes the lines of one time.
fn cut(streams: &mut Streams, time: &str) {
    for stream in streams.values_mut() {
        if let Some(values) = stream["values"].as_array_mut() {
            values.retain(|v| v[0].as_str() != Some(time));
        }
    }
    streams.retain(|_, s| s["values"].as_array().is_some_and(|v| !v.is_empty()));
}

/// Series with equal values share a place, and Loki picks one of them by chance: another one
/// with the same labels' names and the same value is as right.
fn same_ranks(got: &Value, want: &Value) -> Result<()> {
    let (mut got, mut want) = (by_labels(got, "metric")?, by_labels(want, "metric")?);
    ensure!(
        got.len() == want.len(),
        "{} series instead of {}",
        got.len(),
        want.len()
    );
    let common: Vec<String> = want
        .keys()
        .filter(|k| got.contains_key(*k))
        .cloned()
        .collect();
    for labels in common {
        let (a, b) = (got.remove(&labels), want.remove(&labels));
        same(&json!(a), &json!(b), &labels)?;
    }
    let kinds = |streams: Streams| {
        let kind = |series: Value| {
            let names = series["metric"]
                .as_object()
                .map(|m| m.keys().cloned().collect());
            let names: Vec<String> = names.unwrap_or_default();
            json!([names, series["value"]]).to_string()
        };
        let mut kinds: Vec<String> = streams.into_values().map(kind).collect();
        kinds.sort();
        kinds
    };
    let (got, want) = (kinds(got), kinds(want));
    ensure!(got == want, "{got:?} instead of {want:?}");
    Ok(())
}

/// The times that several lines of a dataset have.
pub fn ties(dataset: &str) -> Result<BTreeSet<String>> {
    let (mut seen, mut ties) = (BTreeSet::new(), BTreeSet::new());
    for line in dataset.lines().filter(|line| !line.trim().is_empty()) {
        let entry: Value = serde_json::from_str(line)?;
        let time = entry["ns"].as_str().unwrap_or_default().to_owned();
        if !seen.insert(time.clone()) {
            ties.insert(time);
        }
    }
    Ok(ties)
}

fn same_series(got: &Value, want: &Value) -> Result<()> {
    let (got, want) = (by_labels(got, "metric")?, by_labels(want, "metric")?);
    for (labels, series) in &want {
        let Some(other) = got.get(labels) else {
            bail!("no series {labels}");
        };
        for name in ["value", "values"] {
            same(&other[name], &series[name], labels)?;
        }
    }
    match got.keys().find(|labels| !want.contains_key(*labels)) {
        Some(labels) => bail!("a series too many: {labels}"),
        None => Ok(()),
    }
}

/// Whether two values say the same: numbers to the tolerance, also those in texts; lists of
/// objects in any order.
fn same(got: &Value, want: &Value, at: &str) -> Result<()> {
    match (got, want) {
        (Value::Object(a), Value::Object(b)) => {
            for (name, value) in b {
                same(
                    a.get(name).unwrap_or(&Value::Null),
                    value,
                    &format!("{at}.{name}"),
                )?;
            }
            match a.keys().find(|name| !b.contains_key(*name)) {
                Some(name) => bail!("{at}: a field too many: {name}"),
                None => Ok(()),
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            ensure!(
                a.len() == b.len(),
                "{at}: {} elements instead of {}",
                a.len(),
                b.len()
            );
            let sorted = |list: &[Value]| {
                let mut list: Vec<Value> = list.to_vec();
                if list.iter().all(Value::is_object) {
                    list.sort_by_key(|v| v["label"].to_string() + &v.to_string());
                }
                list
            };
            let (a, b) = (sorted(a), sorted(b));
            for (index, (a, b)) in a.iter().zip(&b).enumerate() {
                same(a, b, &format!("{at}[{index}]"))?;
            }
            Ok(())
        }
        _ => {
            let near = number(got)
                .zip(number(want))
                .is_some_and(|(a, b)| a == b || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()));
            ensure!(got == want || near, "{at}: {got} instead of {want}");
            Ok(())
        }
    }
}

/// A number, or a text that is one with a fraction; times in ns are compared as texts.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.contains(['.', 'e']) => text.parse().ok(),
        _ => None,
    }
}

fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                out.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

/// Reads cases, one a line.
pub fn cases(text: &str) -> Result<Vec<Case>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let case = |line: &str| {
        let value: Value = serde_json::from_str(line)?;
        Ok(Case {
            path: value["path"].as_str().context("no path")?.to_owned(),
            params: value["params"].as_object().cloned().unwrap_or_default(),
            status: value["status"].as_u64().context("no status")? as u16,
            response: value["response"].clone(),
        })
    };
    lines.map(case).collect()
}

/// The bodies of JSON pushes that carry a dataset.
pub fn pushes(dataset: &str) -> Result<Vec<String>> {
    let lines: Vec<&str> = dataset.lines().filter(|l| !l.trim().is_empty()).collect();
    let mut bodies = Vec::new();
    for chunk in lines.chunks(PUSH_LINES) {
        let mut streams: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
        for line in chunk {
            let entry: Value = serde_json::from_str(line)?;
            let labels = entry["labels"].clone();
            let (_, values) = streams
                .entry(labels.to_string())
                .or_insert_with(|| (labels, Vec::new()));
            values.push(json!([entry["ns"], entry["line"], entry["metadata"]]));
        }
        let streams: Vec<Value> = streams
            .into_values()
            .map(|(labels, values)| json!({ "stream": labels, "values": values }))
            .collect();
        bodies.push(json!({ "streams": streams }).to_string());
    }
    Ok(bodies)
}

/// Copies of a case, each with one thing changed: a value, a label, a count, an order. None
/// of the right answers may pass any of them.
pub fn altered(case: &Case) -> Vec<Case> {
    let mut found = Vec::new();
    let mut push = |response: Value| {
        if response != case.response {
            found.push(Case {
                response,
                ..case.clone()
            });
        }
    };
    let result = &case.response["data"]["result"];
    let Some(list) = result.as_array().filter(|list| !list.is_empty()) else {
        return found;
    };
    let with = |list: Vec<Value>| {
        let mut response = case.response.clone();
        response["data"]["result"] = Value::Array(list);
        response
    };
    push(with(list[1..].to_vec()));
    let mut more = list.clone();
    let mut extra = list[0].clone();
    for name in ["stream", "metric"] {
        if extra[name].is_object() {
            extra[name]["altered"] = json!("x");
        }
    }
    if extra.is_object() {
        let mut renamed = list.clone();
        renamed[0] = extra.clone();
        push(with(renamed));
        more.push(extra);
        push(with(more));
    }
    let mut changed = list.clone();
    if let Some(point) = changed[0].get_mut("value") {
        point[1] = json!("123456.75");
        push(with(changed));
        return found;
    }
    if let Some(values) = changed[0].get_mut("values").and_then(Value::as_array_mut) {
        values[0][1] = json!("123456.75");
        push(with(changed));
        let mut fewer = list.clone();
        if let Some(values) = fewer[0]["values"].as_array_mut() {
            values.remove(0);
        }
        push(with(fewer));
        let mut turned = list.clone();
        if let Some(values) = turned[0]["values"].as_array_mut() {
            values.reverse();
        }
        push(with(turned));
    }
    found
}
