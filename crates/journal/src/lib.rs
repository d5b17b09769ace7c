//! Checksummed append-only segments: the write-ahead log of both stores and the
//! collector's disk buffer.
//!
//! A [`Journal`] is a directory of segment files that hold frames: bytes whose meaning only
//! the owner knows, numbered without gaps. An appended frame survives the end of the process,
//! a synced one the loss of power. Concurrent [`Journal::sync`] calls share one fsync.
//!
//! What must hold, and why the code is as it is:
//!
//! - A segment is synced before the next one is started, so a power loss can only tear the
//!   last one. Each opening starts a segment of its own, and never appends to an older file.
//! - A segment's header is on disk under its final name before its first frame is written.
//! - After a failed write or fsync nothing more is written: the kernel may have dropped the
//!   pages and call the next fsync a success. A full disk is the exception, as long as the
//!   partial frame can be cut off.
//! - A torn tail is cut. A damaged segment is set aside by renaming, never wiped; its good
//!   start is still read.
//! - Readers see only what the writer has published, so they run beside it without a lock
//!   on the files.

pub mod bytes;
mod cursor;
pub mod delivery;
mod error;
mod format;
mod journal;
pub mod manifest;
mod options;
mod reader;
mod recovery;
pub mod sealed;
pub mod whole;

pub use error::{JournalError, Result};
pub use journal::Journal;
pub use manifest::{FileMeta, Manifest, ManifestError, ManifestKind};
pub use options::{Cut, Damage, Opened, Options};
pub use reader::Reader;
pub use sealed::{SealedError, SealedFile, SealedWriter};

/// The number of a frame. The first is 1.
pub type Sequence = u64;
