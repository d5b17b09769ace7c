//! `label_replace` and `label_join`.

use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::pattern;
use kittiwake_vector::{Series, join_equal};
use regex::Captures;

use super::{Evaluator, Findings};
use crate::ast::{Call, Expr};
use crate::error::EvalError;

/// The text of an argument that is one.
pub(super) fn text(call: &Call, index: usize) -> &str {
    match call.args.get(index).map(Expr::unwrapped) {
        // No name of a label has other bytes than UTF-8.
        Some(Expr::Text(text)) if text.bytes.is_none() => &text.value,
        _ => "",
    }
}

impl Evaluator<'_> {
    pub(super) fn label_replace(
        &self,
        call: &Call,
        findings: &mut Findings,
    ) -> Result<Vec<Series>, EvalError> {
        let (to, template) = (text(call, 1), text(call, 2));
        let (from, expression) = (text(call, 3), text(call, 4));
        let regex = pattern::anchored(expression).map_err(|_| {
            EvalError::new(format!(
                "invalid regular expression in label_replace(): {expression}"
            ))
        })?;
        if to.is_empty() {
            return Err(EvalError::new(
                "invalid destination label name in label_replace(): ",
            ));
        }
        let mut series = self.series(&call.args[0], findings)?;
        for one in &mut series {
            let value = one.labels.get(from).unwrap_or("").to_owned();
            if let Some(captures) = regex.captures(&value) {
                set(one, to, &expand(template, &captures));
            }
        }
        Ok(join_equal(series)?)
    }

    pub(super) fn label_join(
        &self,
        call: &Call,
        findings: &mut Findings,
    ) -> Result<Vec<Series>, EvalError> {
        let (to, separator) = (text(call, 1), text(call, 2));
        let from: Vec<&str> = (3..call.args.len())
            .map(|index| text(call, index))
            .collect();
        if from.contains(&"") {
            return Err(EvalError::new(
                "invalid source label name in label_join(): ",
            ));
        }
        if to.is_empty() {
            return Err(EvalError::new(
                "invalid destination label name in label_join(): ",
            ));
        }
        let mut series = self.series(&call.args[0], findings)?;
        for one in &mut series {
            let values: Vec<&str> = from
                .iter()
                .map(|name| one.labels.get(name).unwrap_or(""))
                .collect();
            let joined = values.join(separator);
            set(one, to, &joined);
        }
        Ok(join_equal(series)?)
    }
}

fn set(series: &mut Series, name: &str, value: &str) {
    let mut builder = series.labels.to_builder();
    builder.set(name, value);
    if let Ok(labels) = builder.build() {
        series.labels = labels;
    }
    if name == METRIC_NAME {
        // A name that was given on purpose stays.
        series.drops_name = false;
    }
}

/// Puts captures into a template as Go does: `$1`, `${1}`, `$name`, `$$`.
fn expand(template: &str, captures: &Captures<'_>) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let is_word = |c: char| c == '_' || c.is_alphanumeric();
        let (name, after) = if let Some(inner) = rest.strip_prefix('{') {
            match inner.split_once('}') {
                Some((name, after)) if !name.is_empty() && name.chars().all(is_word) => {
                    (name, after)
                }
                _ => {
                    out.push('$');
                    continue;
                }
            }
        } else {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if end == 0 {
                out.push('$');
                continue;
            }
            rest.split_at(end)
        };
        let found = match name.parse::<usize>() {
            Ok(index) => captures.get(index),
            Err(_) => captures.name(name),
        };
        out.push_str(found.map_or("", |found| found.as_str()));
        rest = after;
    }
    out.push_str(rest);
    out
}
