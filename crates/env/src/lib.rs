//! Files, clock and randomness behind ports, real and simulated.
//!
//! Everything above this crate reaches the machine through these traits, so that
//! a test can run the same code over a disk that loses unsynced bytes, tears a
//! write, fills up or fails at operation number N, and can repeat what it found
//! from a seed. [`RealFs`], [`RealClock`] and [`SystemRng`] are the machine;
//! [`SimFs`], [`SimClock`] and [`SeededRng`] stand in for it.
//!
//! There is no mapping of files into memory: a truncated or failing file would
//! end the process instead of returning an error. A bounded block cache can be put
//! around [`ReadAt`] without changing who reads.

mod clock;
mod error;
mod fs;
pub mod heap;
mod periodic;
mod real;
mod rng;
mod sim;

pub use clock::{Clock, RealClock, SimClock};
pub use error::{FsError, Result};
pub use fs::{DirEntry, DiskSpace, File, FileLock, Fs, ReadAt, SyncData, TEMPORARY_SUFFIX};
pub use periodic::{Periodic, Waker};
pub use real::RealFs;
pub use rng::{Rng, SeededRng, SystemRng};
pub use sim::{Fault, SimFs};
