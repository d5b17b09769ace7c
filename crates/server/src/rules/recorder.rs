//! Where rules' series are kept.

use std::collections::HashMap;
use std::sync::Arc;

use kittiwake_model::histogram::ResetHint;
use kittiwake_model::memory::MemoryMetrics;
use kittiwake_model::{FloatHistogram, Histogram, Labels};
use kittiwake_promql::notation;
use kittiwake_rules::{RecordError, Recorded, Recorder, SampleValue};
use kittiwake_tsdb::{Batch, Store};
use parking_lot::Mutex;

/// Into the metrics store.
pub struct StoreRecorder(pub Arc<Store>);

impl Recorder for StoreRecorder {
    fn record(&self, samples: &[Recorded]) -> Result<(), RecordError> {
        let mut batch = Batch::new();
        for sample in samples {
            batch.start(sample.labels.clone(), None);
            match &sample.value {
                SampleValue::Float(value) => batch.sample(sample.time_ms, *value),
                SampleValue::Histogram(histogram) => {
                    // What it said of the sample before it does not hold in its new series.
                    let mut histogram = histogram.as_ref().clone();
                    if histogram.reset_hint != ResetHint::Gauge {
                        histogram.reset_hint = ResetHint::Unknown;
                    }
                    let histogram = Arc::new(Histogram::from(&histogram));
                    batch.histogram(sample.time_ms, histogram, 0);
                }
            }
        }
        let written = self.0.write(&batch, None);
        let written = written.map_err(|error| RecordError::Failed(error.to_string()))?;
        match written.first_refused {
            None => Ok(()),
            Some((labels, _, why)) => Err(RecordError::Refused {
                count: written.refused,
                first: format!("{labels}: {}", why.as_str()),
            }),
        }
    }
}

/// Into memory, for tests of rules.
pub struct MemoryRecorder {
    store: Arc<MemoryMetrics>,
    /// The last histogram of each series.
    last: Mutex<HashMap<Labels, FloatHistogram>>,
}

impl MemoryRecorder {
    /// Writes into this.
    pub fn new(store: Arc<MemoryMetrics>) -> Self {
        Self {
            store,
            last: Mutex::default(),
        }
    }
}

impl Recorder for MemoryRecorder {
    fn record(&self, samples: &[Recorded]) -> Result<(), RecordError> {
        let mut lasts = self.last.lock();
        for Recorded {
            labels,
            time_ms,
            value,
        } in samples
        {
            let mut last = lasts.remove(labels);
            match value {
                SampleValue::Float(value) => self.store.append(labels, *time_ms, *value),
                SampleValue::Histogram(histogram) => {
                    let histogram = notation::stored(histogram, &mut last);
                    self.store.append_histogram(labels, *time_ms, histogram);
                    lasts.extend(last.map(|last| (labels.clone(), last)));
                }
            }
        }
        Ok(())
    }
}
