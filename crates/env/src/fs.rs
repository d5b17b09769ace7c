//! The port to files and directories.
//!
//! It has only what durable stores need: appending, reading at an offset, and the
//! operations on names. Two rules of POSIX are part of the contract, and the
//! simulation holds callers to them: bytes are on disk after [`File::sync`], names
//! (created, renamed or removed) after [`Fs::sync_dir`] of the directory they are in.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{FsError, Result};

/// What [`Fs::write_atomic`] appends to a name while the file is being written.
/// A file with this suffix at start is left from a crash and may be removed.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// Files and directories.
pub trait Fs: Send + Sync + Debug {
    /// Creates a file for appending; an existing one is emptied. The name is durable after
    /// [`Fs::sync_dir`] of its directory.
    fn create(&self, path: &Path) -> Result<Box<dyn File>>;

    /// Opens an existing file for appending at its end.
    fn open_append(&self, path: &Path) -> Result<Box<dyn File>>;

    /// Opens an existing file for reading at offsets. The handle stays valid when the file is
    /// renamed or removed, and sees what is appended.
    fn open_read(&self, path: &Path) -> Result<Arc<dyn ReadAt>>;

    /// Renames atomically within one file system; an existing `to` is replaced.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<()>;

    /// The entries of a directory, sorted by name.
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>>;

    /// Creates a directory and those above it. They are durable when this returns: creating
    /// them is rare, and a forgotten parent would lose all that is in it.
    fn create_dir_all(&self, dir: &Path) -> Result<()>;

    /// Removes a directory with all it contains.
    fn remove_dir_all(&self, dir: &Path) -> Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> Result<()>;

    /// Whether the path names a file or directory.
    fn exists(&self, path: &Path) -> Result<bool>;

    /// Cuts a file to `len` bytes, durably.
    fn truncate(&self, path: &Path, len: u64) -> Result<()>;

    /// The size of the file system that holds `path`.
    fn disk_space(&self, path: &Path) -> Result<DiskSpace>;

    /// Takes the exclusive lock that the file `path` stands for, creating it where needed.
    /// The lock is free once the guard is dropped or the process has ended in any way.
    /// While another holds it: [`FsError::Locked`].
    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>>;

    /// Reads a whole file of at most `max_bytes`; a larger one is [`FsError::TooLarge`].
    fn read(&self, path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
        let file = self.open_read(path)?;
        let size_bytes = file.len()?;
        if size_bytes > max_bytes {
            return Err(FsError::TooLarge {
                path: path.to_owned(),
                size_bytes,
                max_bytes,
            });
        }
        let mut bytes = vec![0; size_bytes as usize];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Replaces a file so that at any time, a crash included, either the old content or the
    /// new one is there; the new one is durable when this returns.
    fn write_atomic(&self, path: &Path, parts: &[&[u8]]) -> Result<()> {
        let temporary = temporary_name(path);
        let written = self.create(&temporary).and_then(|mut file| {
            file.append(parts)?;
            file.sync()
        });
        if let Err(error) = written {
            // The first error is the one to tell; a leftover is removed at the next start.
            let _ = self.remove(&temporary);
            return Err(error);
        }
        self.rename(&temporary, path)?;
        match path.parent() {
            Some(dir) => self.sync_dir(dir),
            None => Ok(()),
        }
    }
}

/// A file open for appending.
#[allow(clippy::len_without_is_empty)]
pub trait File: Send + Sync + Debug {
    /// Appends the parts, one after the other, as one write where the system can. After an
    /// error any prefix of them may be in the file; [`File::len`] then includes it, and
    /// [`File::set_len`] takes it away.
    fn append(&mut self, parts: &[&[u8]]) -> Result<()>;

    /// Appends bytes.
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.append(&[bytes])
    }

    /// Cuts the file to `len` bytes; the next append goes there.
    fn set_len(&mut self, len: u64) -> Result<()>;

    /// Makes all bytes appended before the call durable. After an error some of them may be
    /// lost for good although a later call succeeds: do not go on writing.
    fn sync(&self) -> Result<()>;

    /// A handle to sync this file from another thread while its owner appends.
    fn syncer(&self) -> Arc<dyn SyncData>;

    /// Bytes in the file.
    fn len(&self) -> u64;
}

/// The part of a [`File`] that makes its bytes durable.
pub trait SyncData: Send + Sync + Debug {
    /// As [`File::sync`].
    fn sync(&self) -> Result<()>;
}

/// A file open for reading at offsets.
#[allow(clippy::len_without_is_empty)]
pub trait ReadAt: Send + Sync + Debug {
    /// Fills `buf` from `offset` on and returns how many bytes there were: fewer than asked
    /// only at the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize>;

    /// Bytes in the file now.
    fn len(&self) -> Result<u64>;

    /// The name it was opened by.
    fn path(&self) -> &Path;

    /// Fills `buf` from `offset` on; a file that ends before is an error of kind
    /// [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if self.read_at(offset, buf)? == buf.len() {
            return Ok(());
        }
        Err(FsError::io(
            "read",
            self.path(),
            io::ErrorKind::UnexpectedEof.into(),
        ))
    }
}

/// An exclusive lock, free when dropped.
pub trait FileLock: Send + Sync + Debug {}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name without its directory. Names that are not UTF-8 are not listed: no store
    /// writes such.
    pub name: String,
    /// Bytes, for a file.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// The size of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes this process may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    PathBuf::from(name)
}
