//! Rules in the server: the engines that answer their expressions, the store that keeps their
//! series.

mod engine;
mod recorder;

pub use engine::RuleEngine;
pub use recorder::{MemoryRecorder, StoreRecorder};
