//! The log store.
//!
//! A line goes into the log, then into the head, where it is searchable at once, and with the
//! next flush into a part; compaction merges parts, retention removes them. [`Store`] is all
//! of it; engines read it through the model's port.

mod batch;
pub mod block;
mod compaction;
mod deletions;
mod follow;
mod head;
mod index;
mod keep;
mod part;
mod scan;
mod store;
mod wal;
mod write;

pub use batch::Batch;
pub use deletions::{Deletion, DeletionError};
pub use part::{Part, PartError, Sizes};
pub use store::{Maintenance, OpenError, Options, Stats, Store};
pub use write::{Refusal, WriteError, Written};
