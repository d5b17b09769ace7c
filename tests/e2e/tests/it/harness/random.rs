//! Random numbers by a seed that is printed, so that a failing run can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// A generator (SplitMix64).
pub struct Random(u64);

impl Random {
    /// Seeded by `E2E_SEED`, else by the clock.
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self::seeded(now.as_nanos() as u64)
    }

    /// Seeded by `E2E_SEED`, else by this.
    pub fn seeded(seed: u64) -> Self {
        let given = std::env::var("E2E_SEED").ok().and_then(|s| s.parse().ok());
        let seed = given.unwrap_or(seed);
        eprintln!("E2E_SEED={seed}");
        Self(seed)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
