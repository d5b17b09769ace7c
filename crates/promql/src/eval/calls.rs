//! Calls of functions that see more than one series at a time.

use std::cmp::Ordering;

use kittiwake_model::{Labels, STALE_NAN_BITS};
use kittiwake_vector::{Series, join_equal};

use super::duration::{go_max, go_min};
use super::invariant::is_invariant;
use super::{Evaluated, Evaluator, Findings, labels, simple};
use crate::ast::{Call, Expr};
use crate::dates;
use crate::error::EvalError;

impl Evaluator<'_> {
    pub(super) fn call(
        &self,
        call: &Call,
        findings: &mut Findings,
    ) -> Result<Evaluated, EvalError> {
        let below = self.below(call);
        let (name, count) = (call.function.name, self.steps.count);
        let (start_ms, end_ms, step_ms) = self.query.range;
        let seconds = |ms: i64| Ok(Evaluated::Scalar(vec![ms as f64 / 1000.0; count]));
        let series = match name {
            "start" => return seconds(start_ms),
            "end" => return seconds(end_ms),
            "range" => return seconds(end_ms - start_ms),
            "step" => return seconds(if start_ms == end_ms { 0 } else { step_ms }),
            "pi" => return Ok(Evaluated::Scalar(vec![std::f64::consts::PI; count])),
            "time" => {
                let times = (0..count).map(|step| self.steps.at(step) as f64 / 1000.0);
                return Ok(Evaluated::Scalar(times.collect()));
            }
            "max_of" | "min_of" => {
                let left = self.scalar(&call.args[0], findings)?;
                let right = self.scalar(&call.args[1], findings)?;
                let pick = if name == "max_of" { go_max } else { go_min };
                let pairs = left.into_iter().zip(right);
                return Ok(Evaluated::Scalar(pairs.map(|(l, r)| pick(l, r)).collect()));
            }
            "scalar" => {
                let series = self.series(&call.args[0], findings)?;
                self.release(&series);
                return Ok(Evaluated::Scalar(only_values(&series, count)));
            }
            "vector" => {
                let values = self.scalar(&call.args[0], findings)?;
                vec![Series::of(Labels::empty(), values)]
            }
            "absent" => {
                let series = below.series(&call.args[0], findings)?;
                self.release(&series);
                self.absent(&series, &call.args[0], false)
            }
            "label_replace" => self.label_replace(call, findings)?,
            "label_join" => self.label_join(call, findings)?,
            "info" => self.info(call, findings)?,
            "timestamp" | "start_timestamp" => below.timestamp(call, findings)?,
            "histogram_quantile" => below.histogram_quantile(call, findings)?,
            "histogram_quantiles" => below.histogram_quantiles(call, findings)?,
            "histogram_fraction" => below.histogram_fraction(call, findings)?,
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
                self.sorted(call, findings)?
            }
            _ if call.args.is_empty() => {
                // Parts of the date of each step.
                let part = |step: usize| {
                    let seconds = self.steps.at(step).div_euclid(1000) as f64;
                    dates::part(name, seconds)
                };
                let values = (0..count).map(part).collect();
                vec![Series::of(Labels::empty(), values)]
            }
            _ => match self.over_window(call, findings)? {
                Some(series) => series,
                None => below.each_value(call, findings)?,
            },
        };
        let is_ordered = name.starts_with("sort");
        if self.query.options.delays_name_removal || is_ordered {
            return Ok(Evaluated::Series(series));
        }
        Ok(Evaluated::Series(join_equal(series)?))
    }

    fn over_window(
        &self,
        call: &Call,
        findings: &mut Findings,
    ) -> Result<Option<Vec<Series>>, EvalError> {
        let Some(range_call) = self.range_call(call, findings)? else {
            return Ok(None);
        };
        let is_absent = call.function.name == "absent_over_time";
        let series = match range_call.arg {
            Expr::Subquery(subquery) => self.over_subquery(&range_call, subquery, findings)?,
            // All others that are over a selector are pipelines.
            Expr::Matrix(matrix) => {
                let (look, range_ms) = (range_call.look, range_call.range_ms);
                let hint = super::select::hint(call.function.name, range_ms);
                let matchers = super::select::matchers(&matrix.selector);
                let buckets = super::select::Buckets::window(self, look, range_ms);
                let mut reader = self.open(matchers, look, range_ms, 0, hint, buckets)?;
                let mut series = Vec::new();
                while let Some((labels, columns)) = reader.next()? {
                    let raw = reader.raw(labels, columns);
                    series.push(range_call.series(self, &raw, findings)?);
                }
                series
            }
            _ => Vec::new(),
        };
        if is_absent {
            return Ok(Some(self.absent(&series, range_call.arg, true)));
        }
        Ok(Some(series))
    }

    /// Functions of one value, over what is no pipeline.
    fn each_value(&self, call: &Call, findings: &mut Findings) -> Result<Vec<Series>, EvalError> {
        let name = call.function.name;
        let mut series = self.series(&call.args[0], findings)?;
        if let Some(stat) = simple::histogram_function(name) {
            for one in &mut series {
                simple::histograms_to_floats(one, stat);
                self.drop_name(one);
            }
        } else {
            let mut scalars = Vec::new();
            for scalar in &call.args[1..] {
                scalars.push(self.scalar(scalar, findings)?);
            }
            let change = simple::float_function(name)
                .or_else(|| simple::scalar_function(name, scalars))
                .ok_or_else(|| EvalError::new(format!("function {name:?} is not known")))?;
            for one in &mut series {
                for (step, value) in one.floats.iter_mut().enumerate() {
                    if value.to_bits() != STALE_NAN_BITS {
                        *value = change(step, *value);
                    }
                }
                one.drop_histograms();
                self.drop_name(one);
            }
        }
        series.retain(|one| !one.is_empty());
        Ok(series)
    }

    fn sorted(&self, call: &Call, findings: &mut Findings) -> Result<Vec<Series>, EvalError> {
        let name = call.function.name;
        let (start_ms, end_ms, _) = self.query.range;
        let mut series = self.series(&call.args[0], findings)?;
        // What is the same at every step is sorted once.
        let is_once = call.args.iter().all(is_invariant);
        if !is_once && (self.steps.count > 1 || start_ms != end_ms) {
            findings.annotations.sort_in_range(call.place);
        }
        let is_descending = name.ends_with("_desc");
        if matches!(name, "sort" | "sort_desc") {
            for one in &mut series {
                one.drop_histograms();
            }
            series.retain(|one| !one.is_empty());
            if self.steps.count == 1 {
                series.sort_by(|a, b| by_value(a.floats[0], b.floats[0], is_descending));
            }
            return Ok(series);
        }
        let names: Vec<&str> = (1..call.args.len())
            .map(|index| labels::text(call, index))
            .collect();
        series.sort_by(|a, b| {
            let order = names
                .iter()
                .map(|name| {
                    let of = |one: &Series| one.labels.get(name).unwrap_or("").to_owned();
                    natural(&of(a), &of(b))
                })
                .find(|order| order.is_ne())
                .unwrap_or_else(|| a.labels.cmp(&b.labels));
            if is_descending {
                order.reverse()
            } else {
                order
            }
        });
        Ok(series)
    }
}

/// By value, NaN last whichever way.
fn by_value(a: f64, b: f64, is_descending: bool) -> Ordering {
    let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
    let order = if is_descending {
        order.reverse()
    } else {
        order
    };
    a.is_nan().cmp(&b.is_nan()).then(order)
}

/// Texts with numbers in them, the numbers by value.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (chunks(a).into_iter(), chunks(b).into_iter());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) => {
                let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
                if is_number(one) && is_number(other) {
                    let digits = one.trim_start_matches('0');
                    let other_digits = other.trim_start_matches('0');
                    let by_size = digits.len().cmp(&other_digits.len());
                    // Of equal numbers the shorter text is first.
                    let by_value = by_size.then(digits.cmp(other_digits));
                    return by_value.then(one.len().cmp(&other.len()));
                }
                return one.cmp(other);
            }
        }
    }
}

/// Runs of digits and of other characters.
fn chunks(text: &str) -> Vec<&str> {
    let mut chunks = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_digit = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != is_digit);
        let (chunk, after) = rest.split_at(end.unwrap_or(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

/// The value of the only series that has a number at each step, NaN where there is not one.
fn only_values(series: &[Series], steps: usize) -> Vec<f64> {
    let at = |step: usize| {
        let mut values = series.iter().filter_map(|one| one.float(step));
        match (values.next(), values.next()) {
            (Some(value), None) => value,
            _ => f64::NAN,
        }
    };
    (0..steps).map(at).collect()
}
