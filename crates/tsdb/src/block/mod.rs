//! Blocks: the immutable form of samples.
//!
//! A block is a sealed file. Its series are in order of metric name and label set; the samples
//! of a series are pages; the numbers of neighbouring pages are compressed together as a
//! group, and times are columns that pages share. Labels and the index are read when they are
//! first asked for, and held in a bounded cache with the groups and columns that were used.

mod index;
mod read;
pub mod summary;
#[cfg(test)]
mod tests;
mod write;

use kittiwake_journal::bytes::Malformed;
use kittiwake_journal::sealed::{Kind, SealedError};

use crate::codec::CodecError;

pub(crate) use index::Index;
pub use read::{Block, Series};
pub(crate) use read::{BlockCache, Scratch, Wanted};
pub use write::BlockWriter;

/// The file's kind.
pub const BLOCK: Kind = Kind {
    magic: *b"KWMBLOCK",
    version: 1,
};
/// Largest dictionary or index of a block that is read, in bytes.
pub const INDEX_BYTES_MAX: u64 = 1 << 30;
/// Largest group or column, in bytes.
const PIECE_BYTES_MAX: u64 = 64 << 20;

/// Sections of the file.
const DICTIONARY: u32 = 1;
const INDEX: u32 = 2;
const COLUMNS: u32 = 3;
const GROUPS: u32 = 4;
const SUMMARIES: u32 = 5;

/// The class byte of a group of histograms.
const HISTOGRAMS: u8 = 254;

/// Why a block cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The file is missing, cut, damaged or of another kind.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// Samples do not encode or decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A record of the index is malformed.
    #[error("index: {0}")]
    Index(#[from] Malformed),
}

impl BlockError {
    /// Whether the file itself is at fault, not the system that reads it.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Sealed(SealedError::Version { .. }) => false,
            Self::Sealed(SealedError::Fs(error)) => {
                error.is_not_found() || error.kind() == Some(std::io::ErrorKind::UnexpectedEof)
            }
            _ => true,
        }
    }
}
