//! What the simulated disk holds: as seen now, as it is durably, and the changes between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::fs::DirEntry;
use crate::rng::Rng;

/// Which file, whatever its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(usize);

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// A directory.
    Dir,
    /// A file.
    File(FileId),
}

/// A change of names; each becomes durable whole or not at all.
#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Link(PathBuf, Node),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, FileId),
}

impl NameChange {
    fn touches_dir(&self, dir: &Path) -> bool {
        match self {
            Self::Link(path, _) | Self::Unlink(path) => path.parent() == Some(dir),
            Self::Rename(from, to, _) => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Unlink(path) => names.retain(|name, _| !name.starts_with(path)),
            Self::Rename(from, to, id) => {
                // The old name may stand for another file by now, if earlier changes were lost.
                if names.get(from) == Some(&Node::File(*id)) {
                    names.remove(from);
                }
                names.insert(to.clone(), Node::File(*id));
            }
        }
    }
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Debug, Clone)]
enum ByteChange {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<ByteChange>,
}

fn apply(change: &ByteChange, bytes: &mut Vec<u8>) {
    match change {
        ByteChange::SetLen(len) => bytes.resize(*len, 0),
        ByteChange::Write { offset, bytes: new } => {
            let end = offset + new.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(new);
        }
    }
}

impl Inode {
    fn change(&mut self, change: ByteChange) {
        apply(&change, &mut self.seen);
        self.unsynced.push(change);
    }

    /// Keeps any subset of the unsynced changes; a write also in part.
    fn keep_some(&mut self, rng: &mut dyn Rng) {
        // Besides fair coins, whole crashes that keep all or nothing, as quick ones do.
        let luck = rng.below(4);
        for change in std::mem::take(&mut self.unsynced) {
            let fate = match luck {
                0 => 0,
                1 => 1,
                _ => rng.below(5),
            };
            match (fate, change) {
                (0, _) => {}
                (2, ByteChange::Write { offset, bytes }) => {
                    let cut = rng.below(bytes.len() as u64 + 1) as usize;
                    let kept = bytes[..cut].to_vec();
                    apply(
                        &ByteChange::Write {
                            offset,
                            bytes: kept,
                        },
                        &mut self.durable,
                    );
                }
                (3, ByteChange::Write { offset, bytes }) => {
                    self.keep_pieces(offset, &bytes, rng);
                }
                (4, ByteChange::Write { offset, bytes }) => {
                    // The length arrived, the bytes did not.
                    let end = offset + bytes.len();
                    if self.durable.len() < end {
                        self.durable.resize(end, 0);
                    }
                }
                (_, change) => apply(&change, &mut self.durable),
            }
        }
        self.seen.clone_from(&self.durable);
    }

    fn keep_pieces(&mut self, offset: usize, bytes: &[u8], rng: &mut dyn Rng) {
        let mut at = 0;
        while at < bytes.len() {
            let piece = 1 + rng.below((bytes.len() - at) as u64) as usize;
            if rng.one_in(2) {
                let kept = bytes[at..at + piece].to_vec();
                apply(
                    &ByteChange::Write {
                        offset: offset + at,
                        bytes: kept,
                    },
                    &mut self.durable,
                );
            }
            at += piece;
        }
    }
}

/// Names and bytes.
#[derive(Debug)]
pub(super) struct Disk {
    seen: Names,
    durable: Names,
    unsynced: Vec<NameChange>,
    files: Vec<Inode>,
}

impl Disk {
    pub(super) fn new() -> Self {
        let root = Names::from([(PathBuf::from("/"), Node::Dir)]);
        Self {
            seen: root.clone(),
            durable: root,
            unsynced: Vec::new(),
            files: Vec::new(),
        }
    }

    pub(super) fn node(&self, path: &Path) -> Option<Node> {
        self.seen.get(path).copied()
    }

    pub(super) fn file_id(&self, path: &Path) -> Option<FileId> {
        match self.node(path) {
            Some(Node::File(id)) => Some(id),
            _ => None,
        }
    }

    pub(super) fn new_file(&mut self) -> FileId {
        self.files.push(Inode::default());
        FileId(self.files.len() - 1)
    }

    pub(super) fn bytes(&self, id: FileId) -> &[u8] {
        &self.files[id.0].seen
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let sizes = self.seen.values().map(|node| match node {
            Node::Dir => 0,
            Node::File(id) => self.bytes(*id).len() as u64,
        });
        sizes.sum()
    }

    pub(super) fn append(&mut self, id: FileId, bytes: &[u8]) {
        let inode = &mut self.files[id.0];
        if !bytes.is_empty() {
            let offset = inode.seen.len();
            inode.change(ByteChange::Write {
                offset,
                bytes: bytes.to_vec(),
            });
        }
    }

    pub(super) fn set_len(&mut self, id: FileId, len: u64) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.files[id.0].change(ByteChange::SetLen(len));
    }

    pub(super) fn sync(&mut self, id: FileId) {
        let inode = &mut self.files[id.0];
        for change in std::mem::take(&mut inode.unsynced) {
            apply(&change, &mut inode.durable);
        }
    }

    /// A failed sync marks pages clean that never reached the disk: they are lost although a
    /// later sync succeeds.
    pub(super) fn fail_sync(&mut self, id: FileId, rng: &mut dyn Rng) {
        let inode = &mut self.files[id.0];
        inode.unsynced.retain(|_| !rng.one_in(2));
    }

    pub(super) fn flip_bit(&mut self, id: FileId, byte: u64, bit: u8) -> bool {
        let inode = &mut self.files[id.0];
        let at = usize::try_from(byte).unwrap_or(usize::MAX);
        let mask = 1 << (bit % 8);
        let Some(seen) = inode.seen.get_mut(at) else {
            return false;
        };
        *seen ^= mask;
        if let Some(durable) = inode.durable.get_mut(at) {
            *durable ^= mask;
        }
        true
    }

    pub(super) fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    /// The error is the path that is a file.
    pub(super) fn create_dir_all(&mut self, dir: &Path) -> Result<(), PathBuf> {
        let mut missing = Vec::new();
        for path in dir.ancestors() {
            match self.node(path) {
                Some(Node::Dir) => break,
                Some(Node::File(_)) => return Err(path.to_owned()),
                None => missing.push(path.to_owned()),
            }
        }
        for path in missing.into_iter().rev() {
            self.change_name(NameChange::Link(path.clone(), Node::Dir));
            if let Some(parent) = path.parent() {
                self.sync_dir(parent);
            }
        }
        Ok(())
    }

    /// All paths under a directory, parents before children.
    pub(super) fn below(&self, dir: &Path) -> Vec<PathBuf> {
        self.seen
            .keys()
            .filter(|path| path.starts_with(dir) && *path != dir)
            .cloned()
            .collect()
    }

    pub(super) fn list(&self, dir: &Path) -> Vec<DirEntry> {
        let children = self
            .seen
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir));
        let entries = children.filter_map(|(path, node)| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some(match node {
                Node::Dir => DirEntry {
                    name,
                    len: 0,
                    is_dir: true,
                },
                Node::File(id) => DirEntry {
                    name,
                    len: self.bytes(*id).len() as u64,
                    is_dir: false,
                },
            })
        });
        entries.collect()
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let (durable, unsynced): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|change| change.touches_dir(dir));
        for change in durable {
            change.apply(&mut self.durable);
        }
        self.unsynced = unsynced;
    }

    pub(super) fn crash(&mut self, rng: &mut dyn Rng) {
        let luck = rng.below(4);
        for change in std::mem::take(&mut self.unsynced) {
            let kept = match luck {
                0 => false,
                1 => true,
                _ => rng.one_in(2),
            };
            if kept {
                change.apply(&mut self.durable);
            }
        }
        let durable = std::mem::take(&mut self.durable);
        let reachable = durable.iter().filter(|(path, _)| {
            path.ancestors()
                .skip(1)
                .all(|dir| durable.get(dir) == Some(&Node::Dir))
        });
        self.seen = reachable
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        self.durable = self.seen.clone();
        for inode in &mut self.files {
            inode.keep_some(rng);
        }
    }
}
