//! What answers expressions, and what keeps their results.

use std::fmt;
use std::sync::Arc;

use kittiwake_model::{FloatHistogram, Labels};

/// The language of a group's expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Language {
    /// PromQL, over metrics.
    #[default]
    PromQl,
    /// LogQL, over logs.
    LogQl,
}

impl Language {
    /// The name it has in a rule file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PromQl => "promql",
            Self::LogQl => "logql",
        }
    }
}

/// A value of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

impl SampleValue {
    /// The number; 0 for a histogram, as Prometheus has it.
    pub fn float(&self) -> f64 {
        match self {
            Self::Float(value) => *value,
            Self::Histogram(_) => 0.0,
        }
    }
}

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The series.
    pub labels: Labels,
    /// Its value.
    pub value: SampleValue,
}

/// An expression that was checked.
pub trait Query: Send + Sync + fmt::Debug {
    /// The expression as the engine writes it.
    fn text(&self) -> &str;

    /// Its answer at a time in ms. A number is a series without labels.
    fn at(&self, time_ms: i64) -> Result<Vec<Sample>, String>;
}

/// Knows the languages.
pub trait Engine: Send + Sync {
    /// Checks an expression. The error says what is wrong and where.
    fn compile(&self, language: Language, expression: &str) -> Result<Arc<dyn Query>, String>;
}

/// A sample that a rule made.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The series.
    pub labels: Labels,
    /// When, in ms.
    pub time_ms: i64,
    /// What.
    pub value: SampleValue,
}

/// Why samples were not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Some were refused, the others are kept.
    #[error("{count} samples were refused: {first}")]
    Refused {
        /// How many.
        count: u64,
        /// What was wrong with the first.
        first: String,
    },
    /// None is kept.
    #[error("{0}")]
    Failed(String),
}

/// Keeps what rules record.
pub trait Recorder: Send + Sync {
    /// Writes samples; one whose value is the stale marker ends its series.
    fn record(&self, samples: &[Recorded]) -> Result<(), RecordError>;
}
