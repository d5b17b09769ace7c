//! Runs a script in the language of Prometheus' query tests.

use std::collections::BTreeMap;

use kittiwake_model::memory::MemoryMetrics;
use kittiwake_model::{Labels, QueryContext, stale_nan};
use kittiwake_promql::{Options, Value, instant, parse, range};

#[derive(Debug, Default)]
pub struct Outcome {
    pub passed: usize,
    pub failures: Vec<String>,
}

/// What an evaluation should give.
#[derive(Debug, Default)]
struct Expected {
    fails: bool,
    ordered: bool,
    string: Option<String>,
    scalar: Option<f64>,
    /// Series with their values, `None` for no sample.
    series: Vec<(Labels, Vec<Option<f64>>)>,
    has_histogram: bool,
}

pub fn run(text: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let store = MemoryMetrics::new();
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim();
        at += 1;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut block = Vec::new();
        while at < lines.len() && lines[at].starts_with([' ', '\t']) && !lines[at].trim().is_empty()
        {
            let line = lines[at].trim();
            if !line.starts_with('#') {
                block.push(line);
            }
            at += 1;
        }
        if line == "clear" {
            store.clear();
        } else if let Some(step) = line
            .strip_prefix("load_with_nhcb")
            .or_else(|| line.strip_prefix("load"))
        {
            load(&store, step.trim(), &block);
        } else if line.starts_with("eval") {
            match eval(&store, line, &block) {
                Ok(true) => outcome.passed += 1,
                Ok(false) => {}
                Err(why) => outcome.failures.push(format!("{line}: {why}")),
            }
        }
    }
    outcome
}

fn duration_ms(text: &str) -> i64 {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds * 1000.0) as i64;
    }
    let (mut total, mut rest) = (0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
        let letters = rest[digits..].find(|c: char| c.is_ascii_digit());
        let end = letters.map_or(rest.len(), |l| digits + l);
        let unit = match &rest[digits..end] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            other => panic!("unit {other}"),
        };
        total += rest[..digits].parse::<i64>().unwrap() * unit;
        rest = &rest[end..];
    }
    total
}

/// Splits a series from its values.
fn split_series(line: &str) -> (&str, &str) {
    let mut quoted = None;
    let mut in_braces = false;
    for (at, c) in line.char_indices() {
        match (quoted, c) {
            (None, '"' | '\'' | '`') => quoted = Some(c),
            (Some(q), c) if q == c => quoted = None,
            (Some(_), _) => {}
            (None, '{') => in_braces = true,
            (None, '}') => in_braces = false,
            (None, ' ' | '\t') if !in_braces => return (&line[..at], line[at..].trim()),
            _ => {}
        }
    }
    (line, "")
}

fn labels_of(series: &str) -> Option<Labels> {
    if series == "{}" {
        return Some(Labels::empty());
    }
    // A selector of equal matchers names the labels.
    let matchers = kittiwake_promql::parse_selector(series).ok()?;
    Labels::from_pairs(
        matchers
            .iter()
            .map(|m| (m.name().to_owned(), m.value().to_owned())),
    )
    .ok()
}

/// Values in the short form: `1 2 _ 3x4 0+10x5 stale`. `None` when a histogram is among them.
fn values_of(text: &str) -> Option<Vec<Option<f64>>> {
    if text.contains("{{") {
        return None;
    }
    let number = |t: &str| -> Option<f64> {
        Some(match t {
            "stale" => stale_nan(),
            "Inf" | "+Inf" | "inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            "NaN" => f64::NAN,
            t if t.starts_with("0x") => i64::from_str_radix(&t[2..], 16).ok()? as f64,
            t => t.parse().ok()?,
        })
    };
    let mut values = Vec::new();
    for word in text.split_whitespace() {
        if let Some(times) = word.strip_prefix("_x") {
            values.extend(std::iter::repeat_n(None, times.parse().unwrap()));
        } else if word == "_" {
            values.push(None);
        } else if let Some((expansion, times)) = word.rsplit_once('x').filter(|(e, _)| *e != "0") {
            let times: usize = times.parse().unwrap();
            let sign = expansion[1..]
                .char_indices()
                .filter(|(i, c)| matches!(c, '+' | '-') && !expansion[..=*i].ends_with(['e', 'E']))
                .map(|(i, _)| i + 1)
                .next();
            let (start, step) = match sign {
                Some(at) => (number(&expansion[..at])?, number(&expansion[at..])?),
                None => (number(expansion)?, 0.0),
            };
            let mut value = start;
            for _ in 0..=times {
                values.push(Some(value));
                value += step;
            }
        } else {
            values.push(Some(number(word)?));
        }
    }
    Some(values)
}

fn load(store: &MemoryMetrics, step: &str, block: &[&str]) {
    let step_ms = duration_ms(step.split_whitespace().next().unwrap());
    for line in block {
        let (series, values) = split_series(line);
        let (Some(labels), Some(values)) = (labels_of(series), values_of(values)) else {
            continue;
        };
        for (index, value) in values.into_iter().enumerate() {
            if let Some(value) = value {
                store.append(&labels, index as i64 * step_ms, value);
            }
        }
    }
}

/// Whether it passed; an error says why not, and false that it is left out.
fn eval(store: &MemoryMetrics, line: &str, block: &[&str]) -> Result<bool, String> {
    let (mode, rest) = line.split_once(' ').ok_or("no query")?;
    let mut expected = Expected {
        fails: mode == "eval_fail",
        ordered: mode == "eval_ordered",
        ..Expected::default()
    };
    let mut block = block.to_vec();
    block.retain(|line| {
        let Some(what) = line.strip_prefix("expect ") else {
            return true;
        };
        match what.split_whitespace().next() {
            Some("fail") => expected.fails = true,
            Some("ordered") => expected.ordered = true,
            Some("string") => {
                let text = what.trim_start_matches("string").trim();
                expected.string = Some(text.trim_matches(['"', '\'', '`']).to_owned());
            }
            // Annotations are still to come.
            _ => {}
        }
        !matches!(
            what.split_whitespace().next(),
            Some("fail" | "ordered" | "string" | "warn" | "no_warn" | "info" | "no_info")
        )
    });
    for line in &block {
        if line.starts_with("expected_fail") {
            continue;
        }
        if line.contains("{{") {
            expected.has_histogram = true;
            continue;
        }
        let (series, values) = split_series(line);
        if values.is_empty() && !series.contains('{') {
            expected.scalar = values_of(series).and_then(|v| v[0]);
            continue;
        }
        let labels = labels_of(series).ok_or_else(|| format!("labels {series}"))?;
        expected
            .series
            .push((labels, values_of(values).ok_or("values")?));
    }
    if expected.has_histogram {
        return Ok(false);
    }
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (options, context) = (Options::default(), QueryContext::default());
    let value = if words[0] == "instant" {
        let (time_ms, query) = if words.get(1) == Some(&"at") {
            let query = rest.split_once(words[2]).unwrap().1.trim();
            (duration_ms(words[2]), query)
        } else {
            (0, rest.trim_start_matches("instant").trim())
        };
        parse(query).map_err(|e| e.to_string()).and_then(|e| {
            instant(&e, store, time_ms, &options, &context).map_err(|e| e.to_string())
        })
    } else {
        // range from A to B step C QUERY
        let (from, to, step) = (
            duration_ms(words[2]),
            duration_ms(words[4]),
            duration_ms(words[6]),
        );
        let after = rest.split_once(" step ").unwrap().1;
        let query = after[words[6].len()..].trim();
        for (_, values) in &mut expected.series {
            values.resize(((to - from) / step) as usize + 1, None);
        }
        parse(query).map_err(|e| e.to_string()).and_then(|e| {
            range(&e, store, from, to, step, &options, &context).map_err(|e| e.to_string())
        })
    };
    match value {
        Err(_) if expected.fails => Ok(true),
        Err(error) => Err(error),
        Ok(value) if expected.fails => Err(format!("should fail, gave {value:?}")),
        Ok(value) => compare(&value, &expected, &words).map(|()| true),
    }
}

fn is_near(a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    a == b || (a - b).abs() < 1e-6 * (a.abs() + b.abs()).max(f64::MIN_POSITIVE)
}

fn compare(value: &Value, expected: &Expected, words: &[&str]) -> Result<(), String> {
    match value {
        Value::Scalar(_, got) => match expected.scalar {
            Some(want) if is_near(*got, want) => Ok(()),
            want => Err(format!("got {got}, want {want:?}")),
        },
        Value::String(_, got) => match &expected.string {
            Some(want) if got == want => Ok(()),
            want => Err(format!("got {got:?}, want {want:?}")),
        },
        Value::Vector(got) => {
            let want: Vec<(Labels, f64)> = expected
                .series
                .iter()
                .map(|(l, v)| (l.clone(), v.first().copied().flatten().unwrap_or(f64::NAN)))
                .collect();
            let shown = || format!("got {got:?}, want {want:?}");
            if got.len() != want.len() {
                return Err(shown());
            }
            for (index, (labels, wanted)) in want.iter().enumerate() {
                let found = if expected.ordered {
                    got.get(index).filter(|(l, ..)| l == labels)
                } else {
                    got.iter().find(|(l, ..)| l == labels)
                };
                if !found.is_some_and(|(_, _, v)| is_near(*v, *wanted)) {
                    return Err(shown());
                }
            }
            Ok(())
        }
        Value::Matrix(got) => {
            let want: BTreeMap<&Labels, &Vec<Option<f64>>> =
                expected.series.iter().map(|(l, v)| (l, v)).collect();
            let shown = || format!("got {got:?}, want {want:?}");
            if got.len() != want.len() {
                return Err(shown());
            }
            if words[0] == "instant" {
                return Err("a matrix at an instant is not compared".to_owned());
            }
            let (from, step) = (duration_ms(words[2]), duration_ms(words[6]));
            for (labels, points) in got {
                let wanted = want.get(labels).ok_or_else(shown)?;
                for (index, wanted) in wanted.iter().enumerate() {
                    let time = from + step * index as i64;
                    let point = points.iter().find(|(t, _)| *t == time).map(|(_, v)| *v);
                    let agrees = match (point, wanted) {
                        (None, None) => true,
                        (Some(a), Some(b)) => is_near(a, *b),
                        _ => false,
                    };
                    if !agrees {
                        return Err(shown());
                    }
                }
            }
            Ok(())
        }
    }
}
