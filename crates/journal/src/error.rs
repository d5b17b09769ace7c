//! What can go wrong with a journal.

use std::path::PathBuf;

use kittiwake_env::FsError;

use crate::Sequence;

/// The result of an operation on a journal.
pub type Result<T, E = JournalError> = std::result::Result<T, E>;

/// A failed operation on a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file or directory failed. With [`JournalError::is_full`] the frame was not taken, and
    /// a later append can succeed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A write or sync failed before, so what reached the disk is unknown; opening the
    /// journal anew finds out.
    #[error("journal {} takes no more writes since an earlier failure: {cause}", dir.display())]
    Poisoned {
        /// The journal's directory.
        dir: PathBuf,
        /// The failure that stopped it.
        cause: String,
    },
    /// A frame is larger than the journal takes.
    #[error("a frame of {size_bytes} bytes is over the limit of {max_bytes}")]
    FrameTooLarge {
        /// Bytes of the frame's content.
        size_bytes: u64,
        /// The limit.
        max_bytes: u32,
    },
    /// A segment was written by a later version of this program; it is left as it is.
    #[error("{} has journal format version {version}, this program knows up to {known}", path.display())]
    UnknownVersion {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest version that can be read.
        known: u32,
    },
    /// A frame that was good when the journal was opened cannot be read any more. The
    /// reader goes on behind the damaged segment part.
    #[error("{} is damaged at byte {byte}: frames {first_lost} to {} are lost", path.display(), next - 1)]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the first bad frame starts.
        byte: u64,
        /// The first frame that cannot be read.
        first_lost: Sequence,
        /// The frame with which the reader goes on.
        next: Sequence,
    },
    /// An option makes no sense.
    #[error("journal option {name} is {value}; allowed is {allowed}")]
    BadOption {
        /// The option.
        name: &'static str,
        /// What it was set to.
        value: u64,
        /// What it may be.
        allowed: &'static str,
    },
    /// The operating system gave no random number for the epoch.
    #[error("cannot draw a random epoch: {0}")]
    NoEpoch(String),
}

impl JournalError {
    /// The disk is full: the journal still works, and takes frames again once there is space.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Fs(error) if error.is_full())
    }

    /// The journal stopped taking writes and must be opened anew.
    pub fn is_poisoned(&self) -> bool {
        matches!(self, Self::Poisoned { .. })
    }
}
