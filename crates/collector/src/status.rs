//! How delivery goes: for the program's own metrics and its health check.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counters and the state of delivery.
#[derive(Debug, Default)]
pub struct Status {
    delivered_frames: AtomicU64,
    retries: AtomicU64,
    put_aside_frames: AtomicU64,
    dropped_samples: AtomicU64,
    dropped_line_frames: AtomicU64,
    lost_frames: AtomicU64,
    is_full: AtomicBool,
}

impl Status {
    /// What was counted, by name.
    pub fn counters(&self) -> [(&'static str, u64); 6] {
        [
            ("delivered_frames", self.delivered_frames.load(Relaxed)),
            ("retries", self.retries.load(Relaxed)),
            ("put_aside_frames", self.put_aside_frames.load(Relaxed)),
            ("dropped_samples", self.dropped_samples.load(Relaxed)),
            (
                "dropped_line_frames",
                self.dropped_line_frames.load(Relaxed),
            ),
            ("lost_frames", self.lost_frames.load(Relaxed)),
        ]
    }

    /// Whether sources wait for room.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Relaxed)
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Relaxed);
    }

    pub(crate) fn drop_samples(&self, count: u64) {
        self.dropped_samples.fetch_add(count, Relaxed);
    }

    pub(crate) fn drop_lines(&self) {
        self.dropped_line_frames.fetch_add(1, Relaxed);
    }

    pub(crate) fn delivered(&self) {
        self.delivered_frames.fetch_add(1, Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(crate) fn put_aside(&self) {
        self.put_aside_frames.fetch_add(1, Relaxed);
    }

    pub(crate) fn lost(&self, frames: u64) {
        self.lost_frames.fetch_add(frames, Relaxed);
    }
}
