//! The store against a model in memory: crashes and faults by seed, what moves beneath queries,
//! and each feature by itself. A failure names its seed; `CRASH_RUNS` sets how many are tried.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

mod bed;
mod crash;
mod features;
mod prometheus;
mod rules;
mod tiers;
