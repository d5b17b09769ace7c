//! The vocabulary that every part shares: labels, matchers, samples, log entries,
//! time ranges, and the two ports between engines and stores.
//!
//! This crate knows no I/O, no async runtime, no serialisation and no HTTP, so that the
//! engines above it can be tested against memory and run against anything that implements
//! the ports.

pub mod calendar;
pub mod delivery;
pub mod duration;
pub mod float_histogram;
mod glob;
pub mod histogram;
pub mod labels;
pub mod logs;
pub mod matcher;
pub mod memory;
pub mod metrics;
pub mod pattern;
pub mod query;
mod quote;

pub use delivery::{Deliveries, FrameNumber, Sender, Verdict};
pub use float_histogram::FloatHistogram;
pub use histogram::Histogram;
pub use labels::{BySeriesHash, LabelError, Labels, LabelsBuilder, SeriesHash, SeriesHasher};
pub use logs::{
    Amount, Apart, Count, CountCursor, Counted, Direction, Entry, EntryBatch, EntryCursor, EntryId,
    FieldFilter, FieldFormat, FieldTest, FollowCursor, LineFilter, LogStore, Scan, each_entry,
};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use metrics::{
    Columns, Exemplar, Metadata, MetricsStore, STALE_NAN_BITS, Select, SelectHint, SeriesCursor,
    Thinned, is_stale_nan, stale_nan,
};
pub use query::{
    Cancel, HeldMemory, MemoryPool, QueryContext, StoreError, TimeRange, on_threads,
    threads_per_query,
};
pub use quote::quote;

/// Milliseconds since the Unix epoch, UTC: the unit of metrics.
pub type TimestampMs = i64;
/// Nanoseconds since the Unix epoch, UTC: the unit of logs.
pub type TimestampNs = i64;
