//! Rules as Prometheus has them.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

#[path = "it/engine.rs"]
mod engine;
#[path = "it/evaluation.rs"]
mod evaluation;
#[path = "it/files.rs"]
mod files;
