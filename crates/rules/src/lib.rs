//! Alerting and recording rules as Prometheus has them: the files that define them, when they
//! run, the state of their alerts, and the series that they write.
//!
//! Which engine answers an expression is not known here: a rule asks through [`Engine`], so that
//! a group may be of PromQL or of LogQL. What a rule records goes out through [`Recorder`], and
//! what fires through [`AlertSink`]. Nothing here opens a socket. Times are in ns where they
//! decide when something runs or fires, as in Prometheus, and in ms where they are a sample's.

mod alert;
mod alerting;
mod engine;
pub mod file;
mod functions;
mod group;
mod manager;
mod restore;
mod rule;
mod text;

pub use alert::{Alert, AlertSink, AlertState, NoSink, OutgoingAlert};
pub use engine::{Engine, Language, Query, RecordError, Recorded, Recorder, Sample, SampleValue};
pub use file::{FileError, GroupSpec, RuleFile, RuleKind, RuleSpec};
pub use functions::{graph_link, table_link};
pub use group::{Environment, Figures, Group, Settings};
pub use manager::{GroupSource, Manager};
pub use rule::{Health, Rule, Status};
