//! The metrics store.
//!
//! What stands here today is the immutable form (the codec of numbers, bit for bit, and the
//! blocks that hold them) and the registry of series that the head will build on. Its log,
//! compaction and retention are still to come.

pub mod block;
pub mod codec;
pub mod registry;
