//! Native histograms: exponential buckets, or custom bounds, with integer or float counts.
//!
//! Counts are kept as absolute numbers per bucket; formats that store deltas convert at their
//! edge. A sample of either kind travels whole, so that what came in goes out again.

/// The schema of a histogram whose buckets have explicit bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// Whether a histogram's counter was reset since the sample before, as far as its sender knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetHint {
    /// Compare with the sample before.
    #[default]
    Unknown,
    /// It was reset.
    Yes,
    /// It was not reset.
    No,
    /// The histogram is a gauge: resets have no meaning.
    Gauge,
}

/// A run of neighbouring buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Gap to the span before; for the first span, the index of its first bucket.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// Counts of either kind, per bucket, absolute.
#[derive(Debug, Clone, PartialEq)]
pub enum Counts {
    /// Integer counts.
    Integer {
        /// Observations in all.
        count: u64,
        /// Observations in the zero bucket.
        zero: u64,
        /// Per positive bucket.
        positive: Vec<u64>,
        /// Per negative bucket.
        negative: Vec<u64>,
    },
    /// Float counts.
    Float {
        /// Observations in all.
        count: f64,
        /// Observations in the zero bucket.
        zero: f64,
        /// Per positive bucket.
        positive: Vec<f64>,
        /// Per negative bucket.
        negative: Vec<f64>,
    },
}

impl Counts {
    /// Whether they are floats.
    pub fn is_float(&self) -> bool {
        matches!(self, Self::Float { .. })
    }

    /// Observations in all.
    pub fn total(&self) -> f64 {
        match self {
            Self::Integer { count, .. } => *count as f64,
            Self::Float { count, .. } => *count,
        }
    }
}

/// One native histogram sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Resolution, -4 to 8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Breadth of the zero bucket.
    pub zero_threshold: f64,
    /// Sum of all observations.
    pub sum: f64,
    /// Where the positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Upper bounds, ascending, when the schema is [`CUSTOM_BUCKETS_SCHEMA`].
    pub custom_bounds: Vec<f64>,
    /// The counts.
    pub counts: Counts,
    /// What the sender knew of a reset.
    pub reset_hint: ResetHint,
}
