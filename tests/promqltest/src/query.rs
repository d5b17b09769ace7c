//! Runs the commands of a script.

use std::collections::HashMap;
use std::path::Path;

use kittiwake_model::FloatHistogram;
use kittiwake_model::{Histogram, Labels, QueryContext};
use kittiwake_promql::{Answer, Options, Point, Value as Result_, instant, parse, range};

use crate::backing::{Backing, Sample, SampleValue};
use crate::classic::Classic;
use crate::script::{self, Command, Eval, Loaded};
use crate::{Failure, Outcome, compare, fixed};
use kittiwake_promql::notation::{self, Value};

pub(crate) fn run(file: &Path, text: &str, backing: &mut dyn Backing) -> Outcome {
    let mut outcome = Outcome::default();
    let mut runner = Runner {
        backing,
        last: HashMap::new(),
        is_frozen: false,
    };
    let mut done = vec![(0, runner.clear())];
    for (line, command) in script::parse(text) {
        let result = match command {
            Err(why) => Err(why),
            Ok(Command::Clear) => runner.clear(),
            Ok(Command::Load {
                step_ms,
                series,
                with_nhcb,
            }) => runner.load(step_ms, series, with_nhcb),
            Ok(Command::Eval(eval)) => {
                let result = runner.eval(&eval);
                outcome.passed += usize::from(result.is_ok());
                result.map_err(|why| format!("{}: {why}", eval.query))
            }
        };
        done.push((line, result));
    }
    for (line, result) in done {
        if let Err(why) = result {
            outcome.failures.push(Failure {
                file: file.to_owned(),
                line,
                why,
            });
        }
    }
    outcome
}

struct Runner<'b> {
    backing: &'b mut dyn Backing,
    /// The last histogram of each series, if its last sample is one.
    last: HashMap<Labels, FloatHistogram>,
    is_frozen: bool,
}

fn options() -> Options {
    Options {
        delays_name_removal: true,
        ..Options::default()
    }
}

impl Runner<'_> {
    fn clear(&mut self) -> Result<(), String> {
        self.last.clear();
        self.backing.clear()
    }

    fn load(&mut self, step_ms: i64, series: Vec<Loaded>, with_nhcb: bool) -> Result<(), String> {
        self.is_frozen = false;
        let mut classic = Classic::default();
        // A series that a load has twice is as its last line says.
        let last: HashMap<Labels, usize> =
            series.iter().map(|s| &s.labels).cloned().zip(0..).collect();
        for (index, one) in series.into_iter().enumerate() {
            if last.get(&one.labels) != Some(&index) {
                continue;
            }
            let mut samples = Vec::new();
            for (index, value) in one.values.into_iter().enumerate() {
                let time_ms = step_ms * index as i64;
                let start = one.starts.get(index).copied().flatten();
                let start_ms = start.map_or(0, |offset| time_ms + offset);
                let value = match value {
                    Value::Omitted => continue,
                    Value::Float(value) => {
                        self.last.remove(&one.labels);
                        if with_nhcb {
                            classic.see(&one.labels, time_ms, value)?;
                        }
                        SampleValue::Float(value)
                    }
                    Value::Histogram(histogram, _) => {
                        SampleValue::Histogram(self.hinted(&one.labels, &histogram))
                    }
                };
                samples.push(Sample {
                    time_ms,
                    value,
                    start_ms,
                });
            }
            self.backing.load(&one.labels, samples)?;
        }
        for (labels, by_time) in classic.histograms()? {
            let mut samples = Vec::new();
            for (time_ms, histogram) in by_time {
                samples.push(Sample {
                    time_ms,
                    value: SampleValue::Histogram(self.hinted(&labels, &histogram)),
                    start_ms: 0,
                });
            }
            self.backing.load(&labels, samples)?;
        }
        Ok(())
    }

    fn hinted(&mut self, labels: &Labels, histogram: &FloatHistogram) -> Histogram {
        let mut last = self.last.remove(labels);
        let stored = notation::stored(histogram, &mut last);
        if let Some(last) = last {
            self.last.insert(labels.clone(), last);
        }
        stored
    }

    fn eval(&mut self, eval: &Eval) -> Result<(), String> {
        if !self.is_frozen {
            self.backing.freeze()?;
            self.is_frozen = true;
        }
        if eval.is_range {
            let (start, end, step) = eval.range;
            let answer = self.range(&eval.query, start, end, step);
            return check(eval, &eval.query, answer);
        }
        let time_ms = eval.range.1;
        self.instant(eval, &eval.query, time_ms)?;
        let Ok(expr) = parse(&eval.query) else {
            return Ok(());
        };
        let Some(fixed) = fixed::at(&expr, time_ms) else {
            return Ok(());
        };
        let query = fixed.to_string();
        let times = if time_ms == 0 {
            vec![-1000, 0, 1000]
        } else {
            vec![-10 * time_ms, 0, time_ms / 5, time_ms, 10 * time_ms]
        };
        for at in times {
            self.instant(eval, &query, at)
                .map_err(|why| format!("as {query} at {at}: {why}"))?;
        }
        Ok(())
    }

    fn instant(&self, eval: &Eval, query: &str, time_ms: i64) -> Result<(), String> {
        let context = QueryContext::default();
        let answer = parse(query)
            .map_err(|error| error.to_string())
            .and_then(|expr| {
                instant(&expr, self.backing.store(), time_ms, &options(), &context)
                    .map_err(|error| error.to_string())
            });
        let is_scalar =
            matches!(&answer, Ok(answer) if matches!(answer.value, Result_::Scalar(..)));
        let has_failed = answer.is_err();
        check(eval, query, answer)?;
        let of_query = ["start()", "end()", "range()", "step()"];
        let is_excluded = eval.expected.is_range_vector || eval.expected.text.is_some();
        if has_failed || is_excluded || of_query.iter().any(|word| query.contains(word)) {
            return Ok(());
        }
        self.as_range(eval, query, time_ms, is_scalar)
            .map_err(|why| format!("as a range query: {why}"))
    }

    fn range(&self, query: &str, start: i64, end: i64, step: i64) -> Result<Answer, String> {
        let context = QueryContext::default();
        let expr = parse(query).map_err(|error| error.to_string())?;
        range(
            &expr,
            self.backing.store(),
            start,
            end,
            step,
            &options(),
            &context,
        )
        .map_err(|error| error.to_string())
    }

    /// The same query over a minute around its time.
    fn as_range(
        &self,
        eval: &Eval,
        query: &str,
        time_ms: i64,
        is_scalar: bool,
    ) -> Result<(), String> {
        const MINUTE: i64 = 60_000;
        let answer = self.range(query, time_ms - MINUTE, time_ms + MINUTE, MINUTE)?;
        if eval.expected.is_ordered {
            return Ok(());
        }
        let Result_::Matrix(matrix) = answer.value else {
            return Err("no matrix".to_owned());
        };
        let mut vector = Vec::new();
        for series in matrix {
            let floats = series.floats.iter().find(|(t, _)| *t == time_ms);
            let histograms = series.histograms.iter().find(|(t, _)| *t == time_ms);
            let floats = floats.map(|(_, value)| Point::Float(*value));
            let histograms = histograms.map(|(_, h)| Point::Histogram(h.clone()));
            if let Some(point) = floats.or(histograms) {
                vector.push((series.labels, time_ms, point));
            }
        }
        let value = match vector.first() {
            Some((_, _, Point::Float(value))) if is_scalar => Result_::Scalar(time_ms, *value),
            _ => Result_::Vector(vector),
        };
        compare::value(&value, &eval.expected, eval.range)
    }
}

fn check(eval: &Eval, query: &str, answer: Result<Answer, String>) -> Result<(), String> {
    let expected = &eval.expected;
    let answer = match answer {
        Err(error) if expected.fails => {
            return match &expected.failure {
                Some(wanted) if !wanted.accepts(&error) => {
                    Err(format!("expected the failure {wanted:?}, got {error:?}"))
                }
                _ => Ok(()),
            };
        }
        Err(error) => return Err(error),
        Ok(answer) if expected.fails => {
            return Err(format!("should fail, gave {:?}", answer.value));
        }
        Ok(answer) => answer,
    };
    let (warnings, infos) = answer.annotations.texts(query);
    compare::annotations(
        "warn",
        &warnings,
        &expected.warnings,
        expected.no_warning,
        expected.must_warn,
    )?;
    compare::annotations(
        "info",
        &infos,
        &expected.infos,
        expected.no_info,
        expected.must_inform,
    )?;
    compare::value(&answer.value, expected, eval.range)
}
