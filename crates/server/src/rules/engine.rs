//! PromQL and LogQL, as rules ask them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kittiwake_logql as logql;
use kittiwake_model::memory::{MemoryLogs, MemoryMetrics};
use kittiwake_model::{Labels, LogStore, MetricsStore, QueryContext};
use kittiwake_promql as promql;
use kittiwake_rules::{Engine, Language, Query, Sample, SampleValue};

/// Answers expressions over the stores.
#[derive(Clone)]
pub struct RuleEngine {
    parts: Arc<Parts>,
}

struct Parts {
    metrics: Arc<dyn MetricsStore>,
    logs: Arc<dyn LogStore>,
    options: promql::Options,
    timeout: Duration,
    samples_max: u64,
}

impl RuleEngine {
    /// An engine over stores, within the bounds that hold for queries.
    pub fn new(
        metrics: Arc<dyn MetricsStore>,
        logs: Arc<dyn LogStore>,
        options: promql::Options,
        timeout: Duration,
        samples_max: u64,
    ) -> Self {
        Self {
            parts: Arc::new(Parts {
                metrics,
                logs,
                options,
                timeout,
                samples_max,
            }),
        }
    }

    /// An engine over nothing, which can tell what is wrong with an expression.
    pub fn for_checks() -> Self {
        Self::new(
            Arc::new(MemoryMetrics::new()),
            Arc::new(MemoryLogs::new()),
            promql::Options::default(),
            Duration::from_mins(2),
            0,
        )
    }
}

impl Engine for RuleEngine {
    fn compile(&self, language: Language, expression: &str) -> Result<Arc<dyn Query>, String> {
        let expr = match language {
            Language::PromQl => {
                let expr = promql::parse(expression).map_err(|error| error.to_string())?;
                let text = expr.to_string();
                return Ok(Arc::new(PromQuery {
                    expr,
                    text,
                    parts: Arc::clone(&self.parts),
                }));
            }
            Language::LogQl => logql::parse(expression).map_err(|error| error.to_string())?,
        };
        match expr {
            logql::Expr::Metric(expr) => Ok(Arc::new(LogQuery {
                expr,
                text: expression.trim().to_owned(),
                parts: Arc::clone(&self.parts),
            })),
            logql::Expr::Log(_) => Err(
                "a rule needs a metric query, like count_over_time({app=\"x\"}[5m]); this one gives lines"
                    .to_owned(),
            ),
        }
    }
}

impl Parts {
    fn context(&self) -> QueryContext {
        let mut context = QueryContext::default();
        context.deadline = Instant::now().checked_add(self.timeout);
        context.samples_max = self.samples_max;
        context
    }
}

fn number(value: f64) -> Vec<Sample> {
    vec![Sample {
        labels: Labels::empty(),
        value: SampleValue::Float(value),
    }]
}

struct PromQuery {
    expr: promql::Expr,
    text: String,
    parts: Arc<Parts>,
}

impl std::fmt::Debug for PromQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Query for PromQuery {
    fn text(&self) -> &str {
        &self.text
    }

    fn at(&self, time_ms: i64) -> Result<Vec<Sample>, String> {
        let parts = &self.parts;
        let store = parts.metrics.as_ref();
        let answer = promql::instant(&self.expr, store, time_ms, &parts.options, &parts.context())
            .map_err(|error| error.to_string())?;
        match answer.value {
            promql::Value::Scalar(_, value) => Ok(number(value)),
            promql::Value::Vector(samples) => {
                let samples = samples.into_iter();
                let samples = samples.map(|(labels, _, point)| Sample {
                    labels,
                    value: match point {
                        promql::Point::Float(value) => SampleValue::Float(value),
                        promql::Point::Histogram(histogram) => SampleValue::Histogram(histogram),
                    },
                });
                Ok(samples.collect())
            }
            _ => Err("rule result is not a vector or scalar".to_owned()),
        }
    }
}

struct LogQuery {
    expr: logql::MetricExpr,
    text: String,
    parts: Arc<Parts>,
}

impl std::fmt::Debug for LogQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Query for LogQuery {
    fn text(&self) -> &str {
        &self.text
    }

    fn at(&self, time_ms: i64) -> Result<Vec<Sample>, String> {
        let parts = &self.parts;
        let time_ns = time_ms.saturating_mul(1_000_000);
        let answer = logql::instant(&self.expr, parts.logs.as_ref(), time_ns, &parts.context())
            .map_err(|error| error.to_string())?;
        match answer {
            logql::Value::Scalar(_, value) => Ok(number(value)),
            logql::Value::Vector(samples) => {
                let samples = samples.into_iter();
                let samples = samples.map(|(labels, _, value)| Sample {
                    labels,
                    value: SampleValue::Float(value),
                });
                Ok(samples.collect())
            }
            logql::Value::Matrix(_) => Err("rule result is not a vector or scalar".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_are_known() {
        let engine = RuleEngine::for_checks();
        let prom = engine.compile(Language::PromQl, "sum( up )").unwrap();
        assert_eq!(prom.text(), "sum(up)");
        assert_eq!(prom.at(0), Ok(Vec::new()));
        assert_eq!(
            engine.compile(Language::PromQl, "1").unwrap().at(0),
            Ok(number(1.0))
        );
        let text = "sum(rate({app=\"x\"} |= \"error\" [1m]))";
        let logs = engine.compile(Language::LogQl, text).unwrap();
        assert_eq!(logs.at(0), Ok(Vec::new()));
        for (language, bad) in [
            (Language::PromQl, "up +"),
            (Language::LogQl, "up"),
            (Language::LogQl, "{app=\"x\"}"),
        ] {
            assert!(engine.compile(language, bad).is_err(), "{bad}");
        }
        let range = engine.compile(Language::PromQl, "up[5m]").unwrap();
        assert!(range.at(0).is_err());
    }
}
