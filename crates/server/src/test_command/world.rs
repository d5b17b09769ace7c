//! What a test runs in: its series, that come as time goes on, and the engine over them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kittiwake_env::RealClock;
use kittiwake_model::memory::{MemoryLogs, MemoryMetrics};
use kittiwake_model::{FloatHistogram, Labels};
use kittiwake_promql::{self as promql, notation};
use kittiwake_rules::{Engine as _, Environment, Language, NoSink, Sample, Settings};

use super::file::TestGroup;
use crate::rules::{MemoryRecorder, RuleEngine};

/// Time that one query may take.
const TIMEOUT: Duration = Duration::from_secs(100);

/// Series that are still to come, and what has come.
pub(super) struct World {
    store: Arc<MemoryMetrics>,
    engine: RuleEngine,
    coming: Vec<Coming>,
    step_ms: i64,
    start_ms: i64,
}

struct Coming {
    labels: Labels,
    values: Vec<notation::Value>,
    /// The next value.
    at: usize,
    last: Option<FloatHistogram>,
}

impl World {
    /// A world with the series of a test, none of which has a sample yet.
    pub(super) fn new(
        group: &TestGroup,
        evaluation_interval: Duration,
        delays_name_removal: bool,
    ) -> Result<Self, String> {
        let mut coming: Vec<Coming> = Vec::new();
        let mut places: HashMap<Labels, usize> = HashMap::new();
        for (number, (series, values)) in group.input.iter().enumerate() {
            let (labels, values) = notation::series(&format!("{series} {values}"))
                .map_err(|error| format!("input_series {}, {series:?}: {error}", number + 1))?;
            let one = Coming {
                labels: labels.clone(),
                values,
                at: 0,
                last: None,
            };
            // A series that stands there twice is as its last line says.
            if let Some(place) = places.get(&labels) {
                coming[*place] = one;
            } else {
                places.insert(labels, coming.len());
                coming.push(one);
            }
        }
        let store = Arc::new(MemoryMetrics::new());
        let options = promql::Options {
            subquery_step_ms: i64::try_from(evaluation_interval.as_millis()).unwrap_or(i64::MAX),
            delays_name_removal,
            ..promql::Options::default()
        };
        let logs = Arc::new(MemoryLogs::new());
        Ok(Self {
            engine: RuleEngine::new(store.clone(), logs, options, TIMEOUT, 0),
            store,
            coming,
            step_ms: i64::try_from(group.interval.as_millis()).unwrap_or(i64::MAX),
            start_ms: group.start_ns.div_euclid(1_000_000),
        })
    }

    /// What rules are evaluated in.
    pub(super) fn environment(&self, group: &TestGroup) -> Result<Environment, String> {
        let external_labels = Labels::from_pairs(&group.external_labels);
        Ok(Environment {
            engine: Arc::new(self.engine.clone()),
            recorder: Arc::new(MemoryRecorder::new(Arc::clone(&self.store))),
            store: self.store.clone(),
            sink: Arc::new(NoSink),
            clock: Arc::new(RealClock::new()),
            external_url: group.external_url.clone(),
            resend_delay: Duration::ZERO,
            outage_tolerance: Duration::ZERO,
            grace_period: Duration::ZERO,
            settings: parking_lot::RwLock::new(Settings {
                external_labels: external_labels.map_err(|error| error.to_string())?,
                query_offset: Duration::ZERO,
            }),
        })
    }

    /// Lets samples come up to a time.
    pub(super) fn advance(&mut self, time_ms: i64) {
        for one in &mut self.coming {
            while let Some(value) = one.values.get(one.at) {
                let offset_ms = self.step_ms.saturating_mul(one.at as i64);
                let at_ms = self.start_ms.saturating_add(offset_ms);
                if at_ms > time_ms {
                    break;
                }
                match value {
                    notation::Value::Omitted => {}
                    notation::Value::Float(value) => {
                        one.last = None;
                        self.store.append(&one.labels, at_ms, *value);
                    }
                    notation::Value::Histogram(histogram, _) => {
                        let histogram = notation::stored(histogram, &mut one.last);
                        self.store.append_histogram(&one.labels, at_ms, histogram);
                    }
                }
                one.at += 1;
            }
        }
    }

    /// Knows the languages.
    pub(super) fn engine(&self) -> &RuleEngine {
        &self.engine
    }

    /// The answer to an expression at a time.
    pub(super) fn query(&self, expr: &str, time_ms: i64) -> Result<Vec<Sample>, String> {
        self.engine.compile(Language::PromQl, expr)?.at(time_ms)
    }
}
