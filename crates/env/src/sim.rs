//! A disk in memory that keeps only what it promised to keep.
//!
//! Each operation changes what the process sees at once, and stands in a list of what is
//! not durable yet: writes and cuts until their file is synced, names until their directory
//! is. [`SimFs::crash`] keeps any subset of that list, pieces of single writes included.
//! Names may come back without their bytes and bytes without their names, as POSIX allows;
//! that a rename is atomic is the one thing promised of names.
//!
//! Everything is decided by the seed and the order of operations, which are numbered, so a
//! failure is repeated from (seed, operation number).

mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{FsError, Result};
use crate::fs::{DirEntry, DiskSpace, File, FileLock, Fs, ReadAt, SyncData};
use crate::rng::{Rng, SeededRng};
use disk::{Disk, FileId, NameChange, Node};

/// How a chosen operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The device failed (EIO).
    Io,
    /// The disk is full (ENOSPC).
    Full,
}

/// A simulated file system. Clones share it. Its root, `/`, exists.
#[derive(Debug, Clone)]
pub struct SimFs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    disk: Disk,
    rng: SeededRng,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    halt_at: Option<u64>,
    capacity_bytes: u64,
    locks: BTreeSet<PathBuf>,
    /// Handles of an older boot are dead.
    boot: u64,
}

impl SimFs {
    /// An empty disk without limit.
    pub fn new(seed: u64) -> Self {
        let state = State {
            disk: Disk::new(),
            rng: SeededRng::new(seed),
            operations: 0,
            faults: BTreeMap::new(),
            halt_at: None,
            capacity_bytes: u64::MAX,
            locks: BTreeSet::new(),
            boot: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Operations so far. The next one has this number.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Makes one operation fail. A failing append may leave a prefix of its bytes; a failing
    /// sync may lose any of the file's unsynced bytes for good, though they stay readable
    /// until the crash.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.state.lock().faults.insert(operation, fault);
    }

    /// Takes back all failures that are still to come, the halt included.
    pub fn clear_faults(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.halt_at = None;
    }

    /// Stops the machine at an operation: from there on all fail, until [`SimFs::crash`].
    pub fn halt_at(&self, operation: u64) {
        self.state.lock().halt_at = Some(operation);
    }

    /// Sets how many bytes fit on the disk, all files together.
    pub fn set_capacity_bytes(&self, capacity_bytes: u64) {
        self.state.lock().capacity_bytes = capacity_bytes;
    }

    /// Power is cut and comes back: any subset of what was not synced is lost, as `rng`
    /// draws it. Open handles and locks are gone; faults to come are cleared.
    pub fn crash(&self, rng: &mut dyn Rng) {
        let mut state = self.state.lock();
        state.disk.crash(rng);
        state.boot += 1;
        state.locks.clear();
        state.faults.clear();
        state.halt_at = None;
    }

    /// The process is killed while the machine goes on: nothing is lost, handles and locks
    /// are gone.
    pub fn kill(&self) {
        let mut state = self.state.lock();
        state.boot += 1;
        state.locks.clear();
        state.faults.clear();
        state.halt_at = None;
    }

    /// Flips one bit of a file, on the disk and in its cache. False if there is no such byte.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) -> bool {
        let mut state = self.state.lock();
        match state.disk.file_id(path) {
            Some(id) => state.disk.flip_bit(id, byte, bit),
            None => false,
        }
    }

    /// A file's bytes as the process sees them, without counting as an operation.
    pub fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let id = state.disk.file_id(path)?;
        Some(state.disk.bytes(id).to_vec())
    }
}

impl State {
    fn step(&mut self, operation: &'static str, path: &Path) -> Result<()> {
        let number = self.operations;
        self.operations += 1;
        if self.halt_at.is_some_and(|at| number >= at) {
            return Err(FsError::io(operation, path, eio()));
        }
        match self.faults.remove(&number) {
            None => Ok(()),
            Some(Fault::Io) => Err(FsError::io(operation, path, eio())),
            Some(Fault::Full) => Err(FsError::io(operation, path, full())),
        }
    }

    fn step_handle(&mut self, boot: u64, operation: &'static str, path: &Path) -> Result<()> {
        if boot != self.boot {
            let error = io::Error::other("the handle is from before the crash");
            return Err(FsError::io(operation, path, error));
        }
        self.step(operation, path)
    }

    fn file(&self, operation: &'static str, path: &Path) -> Result<FileId> {
        self.disk
            .file_id(path)
            .ok_or_else(|| FsError::io(operation, path, io::ErrorKind::NotFound.into()))
    }

    fn need_parent(&self, operation: &'static str, path: &Path) -> Result<()> {
        match path.parent().and_then(|dir| self.disk.node(dir)) {
            Some(Node::Dir) => Ok(()),
            _ => Err(FsError::io(operation, path, io::ErrorKind::NotFound.into())),
        }
    }

    fn append(&mut self, id: FileId, path: &Path, parts: &[&[u8]]) -> Result<()> {
        let bytes = parts.concat();
        if let Err(error) = self.step("write", path) {
            let written = self.rng.below(bytes.len() as u64 + 1) as usize;
            self.disk.append(id, &bytes[..written]);
            return Err(error);
        }
        let free = self.capacity_bytes.saturating_sub(self.disk.used_bytes());
        let fits = bytes.len().min(usize::try_from(free).unwrap_or(usize::MAX));
        self.disk.append(id, &bytes[..fits]);
        if fits < bytes.len() {
            return Err(FsError::io("write", path, full()));
        }
        Ok(())
    }

    fn sync(&mut self, id: FileId, path: &Path) -> Result<()> {
        if let Err(error) = self.step("sync", path) {
            self.disk.fail_sync(id, &mut self.rng);
            return Err(error);
        }
        self.disk.sync(id);
        Ok(())
    }
}

fn eio() -> io::Error {
    rustix::io::Errno::IO.into()
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl Fs for SimFs {
    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        let mut state = self.state.lock();
        state.step("create", path)?;
        state.need_parent("create", path)?;
        let id = match state.disk.node(path) {
            Some(Node::File(id)) => {
                state.disk.set_len(id, 0);
                id
            }
            Some(Node::Dir) => {
                return Err(FsError::io(
                    "create",
                    path,
                    io::ErrorKind::IsADirectory.into(),
                ));
            }
            None => {
                let id = state.disk.new_file();
                state
                    .disk
                    .change_name(NameChange::Link(path.to_owned(), Node::File(id)));
                id
            }
        };
        Ok(Box::new(self.handle(&state, id, path)))
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn File>> {
        let mut state = self.state.lock();
        state.step("open", path)?;
        let id = state.file("open", path)?;
        Ok(Box::new(self.handle(&state, id, path)))
    }

    fn open_read(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        let mut state = self.state.lock();
        state.step("open", path)?;
        let id = state.file("open", path)?;
        Ok(Arc::new(self.handle(&state, id, path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state.lock();
        state.step("rename", from)?;
        state.need_parent("rename", to)?;
        let id = state.file("rename", from)?;
        if matches!(state.disk.node(to), Some(Node::Dir)) {
            return Err(FsError::io(
                "rename",
                from,
                io::ErrorKind::IsADirectory.into(),
            ));
        }
        if from != to {
            state
                .disk
                .change_name(NameChange::Rename(from.to_owned(), to.to_owned(), id));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.state.lock();
        state.step("remove", path)?;
        state.file("remove", path)?;
        state.disk.change_name(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        let mut state = self.state.lock();
        state.step("list", dir)?;
        if state.disk.node(dir) != Some(Node::Dir) {
            return Err(FsError::io("list", dir, io::ErrorKind::NotFound.into()));
        }
        Ok(state.disk.list(dir))
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let mut state = self.state.lock();
        state.step("create", dir)?;
        state
            .disk
            .create_dir_all(dir)
            .map_err(|file| FsError::io("create", &file, io::ErrorKind::NotADirectory.into()))
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<()> {
        let mut state = self.state.lock();
        state.step("remove", dir)?;
        if state.disk.node(dir) != Some(Node::Dir) {
            return Err(FsError::io("remove", dir, io::ErrorKind::NotFound.into()));
        }
        for path in state.disk.below(dir).into_iter().rev() {
            state.disk.change_name(NameChange::Unlink(path));
        }
        state.disk.change_name(NameChange::Unlink(dir.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut state = self.state.lock();
        state.step("sync", dir)?;
        if state.disk.node(dir) != Some(Node::Dir) {
            return Err(FsError::io("sync", dir, io::ErrorKind::NotFound.into()));
        }
        state.disk.sync_dir(dir);
        Ok(())
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        let mut state = self.state.lock();
        state.step("look for", path)?;
        Ok(state.disk.node(path).is_some())
    }

    fn truncate(&self, path: &Path, len: u64) -> Result<()> {
        let mut state = self.state.lock();
        state.step("cut", path)?;
        let id = state.file("cut", path)?;
        state.disk.set_len(id, len);
        // Two operations, as on the machine: a crash can come between.
        state.sync(id, path)
    }

    fn disk_space(&self, path: &Path) -> Result<DiskSpace> {
        let mut state = self.state.lock();
        state.step("measure", path)?;
        let total_bytes = state.capacity_bytes;
        Ok(DiskSpace {
            free_bytes: total_bytes.saturating_sub(state.disk.used_bytes()),
            total_bytes,
        })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        let mut state = self.state.lock();
        state.step("lock", path)?;
        state.need_parent("lock", path)?;
        if !state.locks.insert(path.to_owned()) {
            let command = "simulation".to_owned();
            return Err(FsError::Locked {
                path: path.to_owned(),
                pid: None,
                command,
            });
        }
        if state.disk.node(path).is_none() {
            let id = state.disk.new_file();
            state
                .disk
                .change_name(NameChange::Link(path.to_owned(), Node::File(id)));
        }
        let boot = state.boot;
        Ok(Box::new(SimLock {
            fs: self.clone(),
            path: path.to_owned(),
            boot,
        }))
    }
}

impl SimFs {
    fn handle(&self, state: &State, id: FileId, path: &Path) -> SimFile {
        SimFile {
            fs: self.clone(),
            id,
            path: path.to_owned(),
            boot: state.boot,
        }
    }
}

#[derive(Debug)]
struct SimLock {
    fs: SimFs,
    path: PathBuf,
    boot: u64,
}

impl FileLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.fs.state.lock();
        if state.boot == self.boot {
            state.locks.remove(&self.path);
        }
    }
}

#[derive(Debug, Clone)]
struct SimFile {
    fs: SimFs,
    id: FileId,
    path: PathBuf,
    boot: u64,
}

impl File for SimFile {
    fn append(&mut self, parts: &[&[u8]]) -> Result<()> {
        let mut state = self.fs.state.lock();
        if state.boot != self.boot {
            return state.step_handle(self.boot, "write", &self.path);
        }
        state.append(self.id, &self.path, parts)
    }

    fn set_len(&mut self, len: u64) -> Result<()> {
        let mut state = self.fs.state.lock();
        state.step_handle(self.boot, "cut", &self.path)?;
        state.disk.set_len(self.id, len);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        SyncData::sync(self)
    }

    fn syncer(&self) -> Arc<dyn SyncData> {
        Arc::new(self.clone())
    }

    fn len(&self) -> u64 {
        self.fs.state.lock().disk.bytes(self.id).len() as u64
    }
}

impl SyncData for SimFile {
    fn sync(&self) -> Result<()> {
        let mut state = self.fs.state.lock();
        if state.boot != self.boot {
            return state.step_handle(self.boot, "sync", &self.path);
        }
        state.sync(self.id, &self.path)
    }
}

impl ReadAt for SimFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let mut state = self.fs.state.lock();
        state.step_handle(self.boot, "read", &self.path)?;
        let bytes = state.disk.bytes(self.id);
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let count = buf.len().min(bytes.len() - start);
        buf[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn len(&self) -> Result<u64> {
        let mut state = self.fs.state.lock();
        state.step_handle(self.boot, "measure", &self.path)?;
        Ok(state.disk.bytes(self.id).len() as u64)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
