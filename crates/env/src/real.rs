//! The machine's files.

use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock, statvfs};

use crate::error::{FsError, Result};
use crate::fs::{DirEntry, DiskSpace, File, FileLock, Fs, ReadAt, SyncData};

/// What a lock file may hold; more was not written by us.
const LOCK_FILE_BYTES_MAX: u64 = 4096;

/// The machine's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

fn tell<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FsError + 'a {
    move |source| FsError::io(operation, path, source)
}

impl Fs for RealFs {
    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        // Append mode and truncation exclude each other in the standard library's options.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(tell("create", path))?;
        file.set_len(0).map_err(tell("create", path))?;
        Ok(Box::new(RealFile::new(path, file, 0)))
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn File>> {
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(tell("open", path))?;
        let len = file.metadata().map_err(tell("open", path))?.len();
        Ok(Box::new(RealFile::new(path, file, len)))
    }

    fn open_read(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        let file = fs::File::open(path).map_err(tell("open", path))?;
        Ok(Arc::new(RealReader {
            path: path.to_owned(),
            file,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(tell("rename", from))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(tell("remove", path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(tell("list", dir))? {
            let entry = entry.map_err(tell("list", dir))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(FsError::io("list", dir, error)),
            };
            entries.push(DirEntry {
                name,
                len: metadata.len(),
                is_dir: metadata.is_dir(),
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let missing: Vec<&Path> = dir
            .ancestors()
            .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
            .collect();
        fs::create_dir_all(dir).map_err(tell("create", dir))?;
        for parent in missing.iter().rev().filter_map(|dir| dir.parent()) {
            self.sync_dir(parent)?;
        }
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<()> {
        fs::remove_dir_all(dir).map_err(tell("remove", dir))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        // The parent of a relative name without a directory is the empty path.
        let target = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        fs::File::open(target)
            .and_then(|dir| dir.sync_all())
            .map_err(tell("sync", dir))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        path.try_exists().map_err(tell("look for", path))
    }

    fn truncate(&self, path: &Path, len: u64) -> Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(tell("open", path))?;
        file.set_len(len).map_err(tell("cut", path))?;
        file.sync_data().map_err(tell("sync", path))
    }

    fn disk_space(&self, path: &Path) -> Result<DiskSpace> {
        let stat = statvfs(path).map_err(|errno| FsError::io("measure", path, errno.into()))?;
        Ok(DiskSpace {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(tell("lock", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(held(path, &file)),
            Err(errno) => return Err(FsError::io("lock", path, errno.into())),
        }
        let note = format!("{} {}\n", std::process::id(), own_command());
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(note.as_bytes()))
            // On a full disk the lock still holds; only the name of its holder is missing.
            .or_else(|error| match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ok(()),
                _ => Err(error),
            })
            .map_err(tell("lock", path))?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

/// The program's name only: its arguments can hold secrets.
fn own_command() -> String {
    let program = std::env::args_os()
        .next()
        .map(PathBuf::from)
        .unwrap_or_default();
    program
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn held(path: &Path, file: &fs::File) -> FsError {
    let mut note = String::new();
    // Who holds it is a courtesy: an unreadable note does not change the answer.
    let _ = file.take(LOCK_FILE_BYTES_MAX).read_to_string(&mut note);
    let (pid, command) = note
        .trim_end()
        .split_once(' ')
        .unwrap_or((note.trim_end(), ""));
    FsError::Locked {
        path: path.to_owned(),
        pid: pid.parse().ok(),
        command: command.to_owned(),
    }
}

/// The kernel frees the lock when the last descriptor of the open file goes.
#[derive(Debug)]
struct RealLock {
    _file: fs::File,
}

impl FileLock for RealLock {}

#[derive(Debug)]
struct RealData {
    path: PathBuf,
    file: fs::File,
}

impl SyncData for RealData {
    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(tell("sync", &self.path))
    }
}

#[derive(Debug)]
struct RealFile {
    data: Arc<RealData>,
    len: u64,
}

impl RealFile {
    fn new(path: &Path, file: fs::File, len: u64) -> Self {
        Self {
            data: Arc::new(RealData {
                path: path.to_owned(),
                file,
            }),
            len,
        }
    }
}

impl File for RealFile {
    fn append(&mut self, parts: &[&[u8]]) -> Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts
            .iter()
            .filter(|part| !part.is_empty())
            .map(|part| IoSlice::new(part))
            .collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match (&self.data.file).write_vectored(rest) {
                Ok(0) => {
                    let error = io::ErrorKind::WriteZero.into();
                    return Err(FsError::io("write", &self.data.path, error));
                }
                Ok(written) => {
                    self.len += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FsError::io("write", &self.data.path, error)),
            }
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> Result<()> {
        self.data
            .file
            .set_len(len)
            .map_err(tell("cut", &self.data.path))?;
        self.len = len;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.data.sync()
    }

    fn syncer(&self) -> Arc<dyn SyncData> {
        self.data.clone()
    }

    fn len(&self) -> u64 {
        self.len
    }
}

#[derive(Debug)]
struct RealReader {
    path: PathBuf,
    file: fs::File,
}

impl ReadAt for RealReader {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self
                .file
                .read_at(&mut buf[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FsError::io("read", &self.path, error)),
            }
        }
        Ok(filled)
    }

    fn len(&self) -> Result<u64> {
        Ok(self
            .file
            .metadata()
            .map_err(tell("measure", &self.path))?
            .len())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_names_its_holder_and_is_free_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = RealFs.lock(&path).unwrap();
        let error = RealFs.lock(&path).unwrap_err();
        let FsError::Locked { pid, command, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(*pid, Some(std::process::id()));
        assert_eq!(*command, own_command());
        assert!(
            error
                .to_string()
                .contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(lock);
        RealFs.lock(&path).unwrap();
    }

    #[test]
    fn many_parts_go_out_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("parts");
        let bytes: Vec<u8> = (0..3000_u32).map(|i| i as u8).collect();
        let parts: Vec<&[u8]> = bytes.chunks(1).collect();
        let mut file = RealFs.create(&path).unwrap();
        file.append(&parts).unwrap();
        assert_eq!(file.len(), 3000);
        assert_eq!(RealFs.read(&path, 3000).unwrap(), bytes);
        let error = RealFs.read(&path, 2999).unwrap_err();
        assert!(
            matches!(
                error,
                FsError::TooLarge {
                    size_bytes: 3000,
                    ..
                }
            ),
            "{error}"
        );
    }
}
