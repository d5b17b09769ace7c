//! What can go wrong with a file, in the terms of who owns the disk.

use std::io;
use std::path::{Path, PathBuf};

/// The result of an operation on files.
pub type Result<T, E = FsError> = std::result::Result<T, E>;

/// A failed operation on a file or directory.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The operating system refused or failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as an infinitive: "open", "sync".
        operation: &'static str,
        /// The file or directory it was tried on.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The file is larger than its reader allows.
    #[error("{} holds {size_bytes} bytes, more than the {max_bytes} that may be read at once", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How large it is.
        size_bytes: u64,
        /// The reader's limit.
        max_bytes: u64,
    },
    /// Another process holds the lock.
    #[error("{} is in use by {}", path.display(), holder(*pid, command))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, where the lock file says so.
        pid: Option<u32>,
        /// The name of its program; empty if unknown.
        command: String,
    },
}

fn holder(pid: Option<u32>, command: &str) -> String {
    match (pid, command) {
        (None, _) => "another process".to_owned(),
        (Some(pid), "") => format!("process {pid}"),
        (Some(pid), command) => format!("process {pid} ({command})"),
    }
}

impl FsError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    /// The file or directory that the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::TooLarge { path, .. } | Self::Locked { path, .. } => path,
        }
    }

    /// The kind of the operating system's error, if it was one.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }

    /// The disk, or the user's quota on it, is full: the write can succeed later.
    pub fn is_full(&self) -> bool {
        matches!(
            self.kind(),
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        )
    }

    /// There is no such file or directory.
    pub fn is_not_found(&self) -> bool {
        self.kind() == Some(io::ErrorKind::NotFound)
    }
}
