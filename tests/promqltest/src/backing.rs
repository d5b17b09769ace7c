//! What keeps loaded series and gives them to the engine.

use kittiwake_model::memory::MemoryMetrics;
use kittiwake_model::{Histogram, Labels, MetricsStore};

/// The value of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A number, which may be the stale marker.
    Float(f64),
    /// A native histogram. Its hint says whether it continues the one before, where that can be
    /// told; a backing keeps it.
    Histogram(Histogram),
}

/// A sample of a loaded series.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When, in ms.
    pub time_ms: i64,
    /// What.
    pub value: SampleValue,
    /// When its counting began, in ms; 0 is not known.
    pub start_ms: i64,
}

/// Keeps what scripts load. Samples of a series come in order of time.
pub trait Backing {
    /// What it is called in reports.
    fn name(&self) -> &str;

    /// Forgets everything.
    fn clear(&mut self) -> Result<(), String>;

    /// Adds samples of a series.
    fn load(&mut self, labels: &Labels, samples: Vec<Sample>) -> Result<(), String>;

    /// Called after the last of some loads, before queries: a store may seal what it has, or
    /// write it, or start anew.
    fn freeze(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// What the engine reads.
    fn store(&self) -> &dyn MetricsStore;
}

/// Series in memory.
#[derive(Debug, Default)]
pub struct Memory(MemoryMetrics);

impl Backing for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn clear(&mut self) -> Result<(), String> {
        self.0.clear();
        Ok(())
    }

    fn load(&mut self, labels: &Labels, samples: Vec<Sample>) -> Result<(), String> {
        for sample in samples {
            let (time, start) = (sample.time_ms, sample.start_ms);
            match sample.value {
                SampleValue::Float(value) => self.0.append_from(labels, time, value, start),
                SampleValue::Histogram(histogram) => {
                    self.0.append_histogram_from(labels, time, histogram, start);
                }
            }
        }
        Ok(())
    }

    fn store(&self) -> &dyn MetricsStore {
        &self.0
    }
}
