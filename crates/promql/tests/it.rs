//! What must hold for any query. Prometheus' own scripts run in `tests/promqltest`.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

#[path = "it/evaluation.rs"]
mod evaluation;
#[path = "it/parsing.rs"]
mod parsing;
#[path = "it/printing.rs"]
mod printing;
