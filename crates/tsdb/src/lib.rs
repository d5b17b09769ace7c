//! The metrics store.
//!
//! A sample goes into the log, then into the head, and with the next flush into a block;
//! compaction merges blocks, retention removes them. [`Store`] is all of it; engines read it
//! through the model's port.

mod admin;
mod batch;
pub mod block;
mod cache;
mod chunk;
pub mod codec;
mod compaction;
pub mod dictionary;
mod exemplars;
#[cfg(test)]
mod golden;
mod head;
pub mod histogram;
mod keep;
mod prometheus;
mod registry;
mod select;
mod store;
mod tiers;
mod tombstones;
mod wal;
mod write;

pub use batch::{Batch, KnownSeries};
pub use block::{Block, BlockError};
pub use prometheus::{Moved, PrometheusError};
pub use store::{Maintenance, OpenError, Options, Stats, Store};
pub use tiers::block_kind;
pub use write::{Names, Refusal, WriteError, Written};
