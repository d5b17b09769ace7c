//! The HTTP APIs, asked through the real router without a socket.

#![allow(clippy::unwrap_used, reason = "tests")]

mod alertmanager;
mod harness;
mod loki;
mod loki_cases;
mod openapi;
mod otlp;
mod prometheus;
mod promtool;
mod read;
mod remote_write;
mod rules;
mod search;
