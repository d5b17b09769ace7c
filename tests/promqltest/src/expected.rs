//! What an evaluation should give.

use kittiwake_model::Labels;
use kittiwake_promql::text::unquoted;
use regex::Regex;

use kittiwake_promql::notation::number;

use crate::number::duration_ms;
use kittiwake_promql::notation::{self, Value};

/// A text as it must be.
#[derive(Debug)]
pub(crate) enum Match {
    Any,
    Exactly(String),
    Regex(Regex),
}

impl Match {
    pub(crate) fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => wanted == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) fails: bool,
    pub(crate) failure: Option<Match>,
    pub(crate) is_ordered: bool,
    pub(crate) must_warn: bool,
    pub(crate) must_inform: bool,
    pub(crate) warnings: Vec<Match>,
    pub(crate) infos: Vec<Match>,
    pub(crate) no_warning: bool,
    pub(crate) no_info: bool,
    pub(crate) text: Option<String>,
    pub(crate) scalar: Option<f64>,
    pub(crate) series: Vec<(Labels, Vec<Value>)>,
    /// The result is a range vector at an instant: it is not asked as a range query.
    pub(crate) is_range_vector: bool,
}

fn matched(kind: &str, text: &str) -> Result<Match, String> {
    match kind {
        "" => Ok(Match::Any),
        "msg" => Ok(Match::Exactly(text.trim().to_owned())),
        "regex" => {
            let regex = Regex::new(text.trim()).map_err(|error| error.to_string())?;
            Ok(Match::Regex(regex))
        }
        other => Err(format!("invalid token {other:?} of an expect statement")),
    }
}

fn expect(line: &str, expected: &mut Expected) -> Result<(), String> {
    let rest = line.strip_prefix("expect").unwrap_or(line).trim_start();
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (what, rest) = (&rest[..end], rest[end..].trim_start());
    let (kind, text) = rest.split_once(':').unwrap_or((rest, ""));
    if !rest.is_empty() && (text.is_empty() || !matches!(kind, "msg" | "regex")) {
        return Err(format!("invalid expect statement {line:?}"));
    }
    let matched = matched(kind, text)?;
    match what {
        "ordered" => expected.is_ordered = true,
        "fail" if expected.failure.is_some() => {
            return Err("multiple expect fail lines are not allowed".to_owned());
        }
        "fail" => {
            expected.fails = true;
            expected.failure = Some(matched);
        }
        "warn" => expected.warnings.push(matched),
        "no_warn" => expected.no_warning = true,
        "info" => expected.infos.push(matched),
        "no_info" => expected.no_info = true,
        other => return Err(format!("invalid expect type {other:?}")),
    }
    if expected.no_warning && !expected.warnings.is_empty() {
        return Err("warn and no_warn cannot be used together".to_owned());
    }
    if expected.no_info && !expected.infos.is_empty() {
        return Err("info and no_info cannot be used together".to_owned());
    }
    Ok(())
}

/// `expect range vector from A to B step C`.
fn range_vector(line: &str) -> Result<(i64, i64, i64), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [
            "expect",
            "range",
            "vector",
            "from",
            from,
            "to",
            to,
            "step",
            step,
        ] => Ok((duration_ms(from)?, duration_ms(to)?, duration_ms(step)?)),
        _ => Err(format!("invalid range vector definition {line:?}")),
    }
}

/// Reads the lines below an evaluation.
pub(crate) fn parse(
    block: &[&str],
    expected: &mut Expected,
    range: &mut (i64, i64, i64),
    is_range: bool,
) -> Result<(), String> {
    for (index, line) in block.iter().enumerate() {
        let is_last = index + 1 == block.len();
        if let Some(message) = line.strip_prefix("expected_fail_message") {
            expected.failure = Some(Match::Exactly(message.trim().to_owned()));
        } else if let Some(pattern) = line.strip_prefix("expected_fail_regexp") {
            expected.failure = Some(matched("regex", pattern)?);
        } else if line.starts_with("expect range vector") {
            *range = range_vector(line)?;
            expected.is_range_vector = true;
        } else if let Some(text) = line.strip_prefix("expect string") {
            let text = unquoted(text.trim()).ok_or("expected string literal not valid")?;
            expected.text = Some(text);
        } else if line.split_whitespace().next() == Some("expect") {
            expect(line, expected)?;
        } else if let Some(value) = number(line) {
            if !is_last {
                return Err("nothing may follow the number of a scalar".to_owned());
            }
            expected.scalar = Some(value);
        } else {
            let (labels, values) = notation::series(line)?;
            if values.len() > 1 && !is_range && !expected.is_range_vector {
                return Err("several values for an instant".to_owned());
            }
            expected.series.push((labels, values));
        }
    }
    Ok(())
}
