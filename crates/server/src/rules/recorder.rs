//! Where rules' series are kept.

use std::sync::Arc;

use kittiwake_model::Histogram;
use kittiwake_model::memory::MemoryMetrics;
use kittiwake_rules::{RecordError, Recorded, Recorder, SampleValue};
use kittiwake_tsdb::{Batch, Store};

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
                    let histogram = Arc::new(Histogram::from(histogram.as_ref()));
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
pub struct MemoryRecorder(pub Arc<MemoryMetrics>);

impl Recorder for MemoryRecorder {
    fn record(&self, samples: &[Recorded]) -> Result<(), RecordError> {
        for Recorded {
            labels,
            time_ms,
            value,
        } in samples
        {
            match value {
                SampleValue::Float(value) => self.0.append(labels, *time_ms, *value),
                SampleValue::Histogram(histogram) => {
                    let histogram = Histogram::from(histogram.as_ref());
                    self.0.append_histogram(labels, *time_ms, histogram);
                }
            }
        }
        Ok(())
    }
}
