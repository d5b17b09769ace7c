//! What a journal is told when it is opened, and what it tells.

use std::ops::Range;
use std::path::PathBuf;

use crate::Sequence;
use crate::error::{JournalError, Result};
use crate::format::FRAME_BYTES_CEILING;

/// How a journal is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// A segment that would grow over this is closed first. A single larger frame still gets
    /// a segment of its own.
    pub segment_bytes_max: u64,
    /// The largest frame that is taken, and the largest buffer a reader allocates.
    pub frame_bytes_max: u32,
    /// Tells this opening from all others. `None` draws it from the operating system; a test
    /// that must repeat itself sets it.
    pub epoch: Option<u64>,
}

impl Default for Options {
    /// Segments of 128 MiB, frames of up to 16 MiB, a random epoch.
    fn default() -> Self {
        Self {
            segment_bytes_max: 128 << 20,
            frame_bytes_max: 16 << 20,
            epoch: None,
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<()> {
        if self.segment_bytes_max < 64 {
            return Err(JournalError::BadOption {
                name: "segment_bytes_max",
                value: self.segment_bytes_max,
                allowed: "64 or more",
            });
        }
        if self.frame_bytes_max == 0 || self.frame_bytes_max > FRAME_BYTES_CEILING {
            return Err(JournalError::BadOption {
                name: "frame_bytes_max",
                value: u64::from(self.frame_bytes_max),
                allowed: "1 to 268435456",
            });
        }
        Ok(())
    }
}

/// What was found when a journal was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Random number of this opening; it stands in each segment that it starts.
    pub epoch: u64,
    /// The oldest frame that can be read; `next_seq` if there is none.
    pub first_seq: Sequence,
    /// The number that the next appended frame gets.
    pub next_seq: Sequence,
    /// The torn tail that was cut off the last segment, as a crash leaves it.
    pub cut: Option<Cut>,
    /// Segments found damaged by this opening, and set aside.
    pub damaged: Vec<Damage>,
    /// All frames from `first_seq` on that cannot be read, those of earlier damage included.
    pub gaps: Vec<Range<Sequence>>,
}

/// A torn tail that was cut off. No frame in it had been synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub segment: PathBuf,
    /// Its length now.
    pub byte: u64,
    /// How many bytes were cut off.
    pub lost_bytes: u64,
}

/// A damaged segment that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What the segment was called.
    pub segment: PathBuf,
    /// What it is called now.
    pub set_aside: PathBuf,
    /// Where the first bad frame starts; 0 if the header is bad.
    pub byte: u64,
    /// Bytes from there to the end of the file.
    pub lost_bytes: u64,
    /// Whether it was the newest segment: a power loss can leave holes in its unsynced end,
    /// which look the same as damage to what was synced.
    pub newest: bool,
}
