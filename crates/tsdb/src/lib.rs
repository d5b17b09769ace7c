//! The metrics store.
//!
//! A sample goes into the log, then into the head, and with the next flush into a block;
//! compaction merges blocks, retention removes them. [`Store`] is all of it; engines read it
//! through the model's port.

mod batch;
pub mod block;
pub mod codec;
mod compaction;
mod head;
mod keep;
mod registry;
mod select;
mod store;
mod wal;
mod write;

pub use batch::{Batch, KnownSeries};
pub use store::{Maintenance, OpenError, Options, Stats, Store};
pub use write::{Refusal, WriteError, Written};
