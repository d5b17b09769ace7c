//! The central service: it takes metrics and logs, stores them, answers queries, and serves
//! the page. A collector for its own machine runs beside it and ships in process.

pub mod access;
pub mod active_queries;
pub mod admin_api;
pub mod app;
pub mod args;
pub mod body;
pub mod cors;
mod embedded;
mod fuzzy;
pub mod ingest;
pub mod lifecycle;
pub mod listener;
pub mod live_config;
pub mod loki_api;
mod loki_fields;
mod loki_index;
mod loki_other;
mod loki_streams;
pub mod names_search;
pub mod notifications;
pub mod own_metrics;
pub mod page;
pub mod params;
pub mod pool;
pub mod prometheus_api;
pub mod prometheus_status;
pub mod read_api;
pub mod reply;
pub mod run;
pub mod search_api;
pub mod series_api;
pub mod status_api;
pub mod tail;
pub mod targets_api;
pub mod write_api;
