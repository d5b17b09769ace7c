//! The metrics store.
//!
//! What stands here today is the immutable form: the codec of numbers, bit for bit, and the
//! blocks that hold them. The head, its log, compaction and retention build on it.

pub mod block;
pub mod codec;
