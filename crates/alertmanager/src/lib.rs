//! Alerts from those who found them to those who must know: routing, grouping, inhibition,
//! silences and notifications, as Alertmanager 0.30 does it.

pub mod alert;
pub mod config;
pub mod engine;
mod group;
pub mod inhibit;
mod keep;
pub mod matchers;
pub mod nflog;
mod record;
pub mod run;
pub mod send;
pub mod silence;
pub mod stats;
pub mod template;

pub use config::Config;
pub use run::Alertmanager;
