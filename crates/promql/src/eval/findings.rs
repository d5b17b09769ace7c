//! What an evaluation notices on its way: annotations, and how many samples it went over.

use kittiwake_model::QueryContext;

use super::Steps;
use crate::annotations::Annotations;
use crate::{Answer, Value};

/// What an evaluation took, as `stats=all` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Samples that selectors and windows gave, over all steps; a histogram counts by its size.
    pub total_samples: u64,
    /// The same per step, with its time in ms.
    pub samples_per_step: Vec<(i64, u64)>,
    /// Most bytes that were held at once.
    pub peak_bytes: u64,
    /// Samples that the store read.
    pub samples_read: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) annotations: Annotations,
    /// Samples per step.
    pub(crate) samples: Vec<u64>,
    start_ms: i64,
    step_ms: i64,
}

impl Findings {
    pub(crate) fn new(steps: Steps) -> Self {
        Self {
            annotations: Annotations::default(),
            samples: vec![0; steps.count],
            start_ms: steps.start_ms,
            step_ms: steps.step_ms,
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.annotations.merge(other.annotations);
        for (mine, theirs) in self.samples.iter_mut().zip(other.samples) {
            *mine += theirs;
        }
    }

    /// Takes what was found at one step that stands for all.
    pub(super) fn take_for_all_steps(&mut self, once: Self) {
        self.annotations.merge(once.annotations);
        let samples: u64 = once.samples.iter().sum();
        self.samples.iter_mut().for_each(|s| *s += samples);
    }

    pub(super) fn answer(self, value: Value, context: &QueryContext) -> Answer {
        let at = |step: usize| self.start_ms + self.step_ms * step as i64;
        let per_step = self.samples.iter().enumerate();
        Answer {
            value,
            annotations: self.annotations,
            stats: Stats {
                total_samples: self.samples.iter().sum(),
                samples_per_step: per_step.map(|(step, count)| (at(step), *count)).collect(),
                peak_bytes: context.memory_peak(),
                samples_read: context.samples(),
            },
        }
    }
}
