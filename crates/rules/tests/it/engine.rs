//! PromQL over memory, for tests.

use std::sync::Arc;
use std::time::Duration;

use kittiwake_env::Clock;
use kittiwake_model::memory::MemoryMetrics;
use kittiwake_model::{Labels, QueryContext};
use kittiwake_promql as promql;
use kittiwake_rules::{
    AlertSink, Engine, Environment, Language, OutgoingAlert, Query, RecordError, Recorded,
    Recorder, Sample, SampleValue, Settings,
};
use parking_lot::{Mutex, RwLock};

/// The engine.
#[derive(Debug, Clone, Default)]
pub struct Memory(pub Arc<MemoryMetrics>);

#[derive(Debug)]
struct Compiled {
    expr: promql::Expr,
    text: String,
    store: Arc<MemoryMetrics>,
}

impl Engine for Memory {
    fn compile(&self, language: Language, expression: &str) -> Result<Arc<dyn Query>, String> {
        if language == Language::LogQl {
            return Err("no logs here".to_owned());
        }
        let expr = promql::parse(expression).map_err(|error| error.to_string())?;
        Ok(Arc::new(Compiled {
            text: expr.to_string(),
            expr,
            store: Arc::clone(&self.0),
        }))
    }
}

impl Query for Compiled {
    fn text(&self) -> &str {
        &self.text
    }

    fn at(&self, time_ms: i64) -> Result<Vec<Sample>, String> {
        let options = promql::Options::default();
        let context = QueryContext::default();
        let answer = promql::instant(&self.expr, self.store.as_ref(), time_ms, &options, &context)
            .map_err(|error| error.to_string())?;
        match answer.value {
            promql::Value::Scalar(_, value) => Ok(vec![Sample {
                labels: Labels::empty(),
                value: SampleValue::Float(value),
            }]),
            promql::Value::Vector(samples) => Ok(samples
                .into_iter()
                .map(|(labels, _, point)| Sample {
                    labels,
                    value: match point {
                        promql::Point::Float(value) => SampleValue::Float(value),
                        promql::Point::Histogram(histogram) => SampleValue::Histogram(histogram),
                    },
                })
                .collect()),
            _ => Err("rule result is not a vector or scalar".to_owned()),
        }
    }
}

impl Recorder for Memory {
    fn record(&self, samples: &[Recorded]) -> Result<(), RecordError> {
        for sample in samples {
            if let SampleValue::Float(value) = sample.value {
                self.0.append(&sample.labels, sample.time_ms, value);
            }
        }
        Ok(())
    }
}

/// Keeps what was sent.
#[derive(Debug, Default)]
pub struct Kept(pub Mutex<Vec<OutgoingAlert>>);

impl AlertSink for Kept {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        self.0.lock().extend(alerts);
    }
}

/// An environment over memory.
pub fn environment(memory: &Memory, clock: Arc<dyn Clock>, sink: Arc<Kept>) -> Environment {
    Environment {
        engine: Arc::new(memory.clone()),
        recorder: Arc::new(memory.clone()),
        store: memory.0.clone(),
        sink,
        clock,
        external_url: "http://k.example".to_owned(),
        resend_delay: Duration::from_mins(1),
        outage_tolerance: Duration::from_hours(1),
        grace_period: Duration::from_mins(10),
        settings: RwLock::new(Settings {
            external_labels: Labels::from_pairs([("dc", "x")]).unwrap(),
            query_offset: Duration::ZERO,
        }),
    }
}
