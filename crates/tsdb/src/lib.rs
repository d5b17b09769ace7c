//! The metrics store.
//!
//! What stands here today is the codec of the immutable form: how the numbers of many series
//! become bytes and come back bit for bit. The head, blocks and their life build on it.

pub mod codec;
