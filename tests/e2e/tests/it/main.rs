//! End to end: real processes, a real Docker engine, answers over HTTP.
//!
//! What a test needs and cannot find is said on stderr and the test is skipped, unless
//! `E2E_DOCKER=required` (as the project's CI sets it) makes that a failure.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

mod alertmanager;
mod bad_input;
mod clients;
mod containers;
mod dashboards;
mod delivery;
mod guest;
mod harness;
mod loki_clients;
mod prometheus;
mod rules;
mod search;
mod stores;
