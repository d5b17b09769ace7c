//! The list of a store's immutable files, replaced as a whole.
//!
//! A short text: a header, the store's hash key, the sequence from which the log is needed,
//! the files in the order in which they were written, and a checksum of all lines before it.
//! What it does not name does not exist, so a flush or a compaction happens in one step.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use kittiwake_env::{Fs, FsError};

use crate::Sequence;

const VERSION: u32 = 1;
/// What is appended to the name of a damaged file that was set aside.
const DAMAGED_SUFFIX: &str = ".damaged";
/// Neighbours of one level that become one file of the next.
pub const FAN_IN: usize = 10;
const BYTES_MAX: u64 = 64 << 20;

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A later version of this program wrote it.
    #[error("{} has version {version}, this program knows up to {VERSION}", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// There are files, which a manifest should name, but there is none.
    #[error(
        "{} is missing, but {} holds {files} files that it should name: put the manifest back from \
         a copy or a snapshot, or move the files away to begin anew",
        path.display(), folder.display()
    )]
    Missing {
        /// Where the manifest should be.
        path: PathBuf,
        /// Where the files are.
        folder: PathBuf,
        /// How many.
        files: usize,
    },
    /// The content is not a manifest or is damaged.
    #[error("{} is damaged at line {line}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
}

/// What is known of a file without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMeta {
    /// Its number; the file is named by it.
    pub id: u64,
    /// How many times its content went through compaction.
    pub level: u32,
    /// Its samples or lines.
    pub rows: u64,
    /// Time of its oldest row, in the store's unit.
    pub start: i64,
    /// Time of its newest row.
    pub end: i64,
}

/// What kind of store a manifest is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestKind {
    /// The first word of the manifest.
    pub header: &'static str,
    /// The folder of the files within the store's directory.
    pub folder: &'static str,
    /// How their names end, without the dot.
    pub extension: &'static str,
}

impl ManifestKind {
    /// A file's path in a store's directory.
    pub fn file(&self, dir: &Path, meta: &FileMeta) -> PathBuf {
        dir.join(self.folder)
            .join(format!("{:016x}.{}", meta.id, self.extension))
    }
}

/// The content of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    kind: ManifestKind,
    /// The key under which series or streams are hashed.
    pub key: u64,
    /// Frames of the log from here on are not in files.
    pub flushed: Sequence,
    /// The number of the next file.
    pub next_id: u64,
    /// The files in the order in which they were written.
    pub files: Vec<FileMeta>,
}

impl Manifest {
    /// The manifest of a new store, not written yet.
    pub fn new(kind: ManifestKind, key: u64) -> Self {
        Self {
            kind,
            key,
            flushed: 0,
            next_id: 1,
            files: Vec::new(),
        }
    }

    /// Where it lies in a store's directory.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("MANIFEST")
    }

    /// Where its copy lies, which is read when the manifest is lost or damaged.
    pub fn copy_path(dir: &Path) -> PathBuf {
        dir.join("MANIFEST.copy")
    }

    /// Reads a store's manifest; `None` when it has none yet. It is there before the first file is,
    /// so files without one mean that it was lost. One that is lost or damaged is put back from
    /// its copy, and the damaged one kept under another name.
    pub fn read(
        fs: &dyn Fs,
        dir: &Path,
        kind: ManifestKind,
    ) -> Result<Option<Self>, ManifestError> {
        let (path, copy) = (Self::path(dir), Self::copy_path(dir));
        let error = match Self::read_one(fs, dir, kind) {
            Ok(Some(manifest)) => {
                // A crash may have left an older copy. It must not name what is removed now.
                let text = manifest.text();
                let is_same = fs.exists(&copy)?
                    && fs
                        .read(&copy, BYTES_MAX)
                        .is_ok_and(|b| b == text.as_bytes());
                if !is_same {
                    fs.write_atomic(&copy, &[text.as_bytes()])?;
                }
                return Ok(Some(manifest));
            }
            Ok(None) if !fs.exists(&copy)? => return Ok(None),
            Ok(None) => None,
            Err(error @ (ManifestError::Damaged { .. } | ManifestError::Missing { .. }))
                if fs.exists(&copy)? =>
            {
                Some(error)
            }
            Err(error) => return Err(error),
        };
        let bytes = fs.read(&copy, BYTES_MAX)?;
        // What is wrong with the manifest itself is told first.
        let manifest =
            Self::parse(&copy, &bytes, kind).map_err(|of_copy| error.unwrap_or(of_copy))?;
        tracing::error!(manifest = %path.display(), "lost or damaged, put back from its copy");
        rename_aside(fs, &path)?;
        manifest.write(fs, dir)?;
        Ok(Some(manifest))
    }

    fn read_one(
        fs: &dyn Fs,
        dir: &Path,
        kind: ManifestKind,
    ) -> Result<Option<Self>, ManifestError> {
        let path = Self::path(dir);
        if !fs.exists(&path)? {
            let folder = dir.join(kind.folder);
            if !fs.exists(&folder)? {
                return Ok(None);
            }
            let ending = format!(".{}", kind.extension);
            let entries = fs.list(&folder)?;
            let files = entries.iter().filter(|e| e.name.ends_with(&ending)).count();
            if files > 0 {
                return Err(ManifestError::Missing {
                    path,
                    folder,
                    files,
                });
            }
            return Ok(None);
        }
        let bytes = fs.read(&path, BYTES_MAX)?;
        Self::parse(&path, &bytes, kind).map(Some)
    }

    /// Replaces a store's manifest, durably, and then its copy: what an older one names is there
    /// until both are written.
    pub fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<(), ManifestError> {
        let text = self.text();
        fs.write_atomic(&Self::path(dir), &[text.as_bytes()])?;
        fs.write_atomic(&Self::copy_path(dir), &[text.as_bytes()])?;
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{} {VERSION}\nkey {:016x}\nflushed {}\nnext {}\n",
            self.kind.header, self.key, self.flushed, self.next_id
        );
        for f in &self.files {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "file {} {} {} {} {}",
                f.id, f.level, f.rows, f.start, f.end
            );
        }
        let _ = writeln!(text, "crc {:08x}", crc32c::crc32c(text.as_bytes()));
        text
    }

    /// Neighbouring files of one level that should become one, of at most so many rows.
    pub fn candidates(&self, rows_max: u64) -> Option<Range<usize>> {
        self.candidates_within(rows_max, |_| i64::MAX)
    }

    /// As [`Manifest::candidates`], and of at most so much time from the oldest row to the
    /// newest, by the files' level: what is merged expires together.
    pub fn candidates_within(
        &self,
        rows_max: u64,
        span_max: impl Fn(u32) -> i64,
    ) -> Option<Range<usize>> {
        let files = &self.files;
        let mut start = 0;
        while start < files.len() {
            let level = files[start].level;
            let end = start
                + files[start..]
                    .iter()
                    .take_while(|f| f.level == level)
                    .count();
            // Large neighbours are left behind; younger ones of the level may still merge.
            for from in start..=end.saturating_sub(FAN_IN).max(start) {
                let range = from..from + FAN_IN;
                if range.end > end {
                    break;
                }
                let merged = &files[range.clone()];
                let rows: u64 = merged.iter().map(|f| f.rows).sum();
                let start = merged.iter().map(|f| f.start).min().unwrap_or(0);
                let end = merged.iter().map(|f| f.end).max().unwrap_or(0);
                if rows <= rows_max && end.saturating_sub(start) <= span_max(level) {
                    return Some(range);
                }
            }
            start = end;
        }
        None
    }

    /// Removes files that a crash left behind: no manifest names them, and what they hold is
    /// still in the log or in other files. What was set aside stays.
    pub fn remove_leftovers(&self, fs: &dyn Fs, dir: &Path) -> Result<(), FsError> {
        let folder = dir.join(self.kind.folder);
        for entry in fs.list(&folder)? {
            let path = folder.join(&entry.name);
            let is_named = self.files.iter().any(|f| self.kind.file(dir, f) == path);
            if !entry.is_dir && !is_named && !entry.name.ends_with(DAMAGED_SUFFIX) {
                fs.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Opens all files. Those for which `is_damage` holds are set aside under another name,
    /// leave the manifest and come back as sentences; another error ends it.
    #[allow(clippy::type_complexity)]
    pub fn open_files<T, E: std::fmt::Display + From<FsError> + From<ManifestError>>(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        open: impl Fn(&Path) -> Result<T, E>,
        is_damage: impl Fn(&E) -> bool,
    ) -> Result<(Vec<(FileMeta, T)>, Vec<String>), E> {
        let (mut opened, mut reports) = (Vec::new(), Vec::new());
        for meta in &self.files {
            let path = self.kind.file(dir, meta);
            match open(&path) {
                Ok(file) => opened.push((*meta, file)),
                Err(error) if is_damage(&error) => {
                    rename_aside(fs, &path)?;
                    reports.push(format!("{} set aside: {error}", path.display()));
                }
                Err(error) => return Err(error),
            }
        }
        if !reports.is_empty() {
            self.files = opened.iter().map(|(meta, _)| *meta).collect();
            self.write(fs, dir)?;
        }
        Ok((opened, reports))
    }

    /// Takes one damaged file out of the list, for good, and gives it another name.
    pub fn set_aside(&mut self, fs: &dyn Fs, dir: &Path, id: u64) -> Result<(), ManifestError> {
        let Some(at) = self.files.iter().position(|f| f.id == id) else {
            return Ok(());
        };
        let meta = self.files.remove(at);
        self.write(fs, dir)?;
        Ok(rename_aside(fs, &self.kind.file(dir, &meta))?)
    }

    fn parse(path: &Path, bytes: &[u8], kind: ManifestKind) -> Result<Self, ManifestError> {
        let damaged = |line: usize, what: &str| ManifestError::Damaged {
            path: path.to_owned(),
            line,
            what: what.to_owned(),
        };
        let text = str::from_utf8(bytes).map_err(|_| damaged(1, "not text"))?;
        let first = text.lines().next().unwrap_or("");
        let version: u32 = first
            .strip_prefix(kind.header)
            .and_then(|v| v.trim().parse().ok())
            .ok_or_else(|| damaged(1, "not a manifest of this store"))?;
        if version != VERSION {
            return Err(ManifestError::UnknownVersion {
                path: path.to_owned(),
                version,
            });
        }
        let lines = text.lines().count();
        let body_len = text
            .strip_suffix('\n')
            .and_then(|t| t.rfind('\n'))
            .map_or(0, |at| at + 1);
        let crc = text[body_len..]
            .trim_end()
            .strip_prefix("crc ")
            .and_then(|v| u32::from_str_radix(v, 16).ok())
            .ok_or_else(|| damaged(lines, "the checksum is missing"))?;
        if crc != crc32c::crc32c(&bytes[..body_len]) {
            return Err(damaged(lines, "the checksum differs"));
        }
        let mut manifest = Self::new(kind, 0);
        for (index, line) in text[..body_len].lines().enumerate().skip(1) {
            let bad = || damaged(index + 1, "an unknown line");
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["key", v] => manifest.key = u64::from_str_radix(v, 16).map_err(|_| bad())?,
                ["flushed", v] => manifest.flushed = v.parse().map_err(|_| bad())?,
                ["next", v] => manifest.next_id = v.parse().map_err(|_| bad())?,
                ["file", id, level, rows, start, end] => manifest.files.push(FileMeta {
                    id: id.parse().map_err(|_| bad())?,
                    level: level.parse().map_err(|_| bad())?,
                    rows: rows.parse().map_err(|_| bad())?,
                    start: start.parse().map_err(|_| bad())?,
                    end: end.parse().map_err(|_| bad())?,
                }),
                _ => return Err(bad()),
            }
        }
        Ok(manifest)
    }
}

/// Names a damaged file so that nothing takes it for a good one.
fn rename_aside(fs: &dyn Fs, path: &Path) -> Result<(), FsError> {
    if !fs.exists(path)? {
        return Ok(());
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(DAMAGED_SUFFIX);
    fs.rename(path, Path::new(&aside))
}

#[cfg(test)]
mod tests {
    use kittiwake_env::SimFs;

    use super::*;

    const KIND: ManifestKind = ManifestKind {
        header: "KWTEST",
        folder: "files",
        extension: "f",
    };

    fn meta(id: u64, level: u32, rows: u64) -> FileMeta {
        FileMeta {
            id,
            level,
            rows,
            start: -5,
            end: 1_700_000_000_000,
        }
    }

    fn sample() -> Manifest {
        Manifest {
            flushed: 17,
            next_id: 4,
            files: vec![meta(3, 1, 9)],
            ..Manifest::new(KIND, 0xfeed_0000_0000_0001)
        }
    }

    #[test]
    fn comes_back_and_damage_is_seen() {
        let (fs, dir) = (SimFs::new(1), Path::new("/m"));
        fs.create_dir_all(dir).unwrap();
        assert_eq!(Manifest::read(&fs, dir, KIND).unwrap(), None);
        sample().write(&fs, dir).unwrap();
        assert_eq!(Manifest::read(&fs, dir, KIND).unwrap(), Some(sample()));

        let path = Manifest::path(dir);
        let good = fs.read(&path, 1 << 20).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs.write_atomic(&path, &[&bad]).unwrap();
            fs.write_atomic(&Manifest::copy_path(dir), &[&bad]).unwrap();
            assert!(Manifest::read(&fs, dir, KIND).is_err(), "byte {at}");
        }
        fs.write_atomic(&path, &[b"KWTEST 9\n"]).unwrap();
        let error = Manifest::read(&fs, dir, KIND).unwrap_err();
        assert!(error.to_string().contains("version 9"), "{error}");
    }

    #[test]
    fn a_lost_or_damaged_manifest_comes_back_from_its_copy() {
        let (fs, dir) = (SimFs::new(1), Path::new("/m"));
        fs.create_dir_all(&dir.join("files")).unwrap();
        sample().write(&fs, dir).unwrap();
        fs.write_atomic(&dir.join("files/0000000000000003.f"), &[b"x"])
            .unwrap();
        let (path, copy) = (Manifest::path(dir), Manifest::copy_path(dir));
        let good = fs.read(&path, 1 << 20).unwrap();
        let damaged = Path::new("/m/MANIFEST.damaged");
        fs.write_atomic(&path, &[&good[..20]]).unwrap();
        assert_eq!(Manifest::read(&fs, dir, KIND).unwrap(), Some(sample()));
        assert_eq!(fs.read(&path, 1 << 20).unwrap(), good);
        assert_eq!(fs.read(damaged, 1 << 20).unwrap(), good[..20]);
        fs.remove(&path).unwrap();
        assert_eq!(Manifest::read(&fs, dir, KIND).unwrap(), Some(sample()));
        // An older copy, which a crash left, is replaced before it can be needed.
        let mut older = sample();
        older.files.clear();
        fs.write_atomic(&copy, &[older.text().as_bytes()]).unwrap();
        assert_eq!(Manifest::read(&fs, dir, KIND).unwrap(), Some(sample()));
        assert_eq!(fs.read(&copy, 1 << 20).unwrap(), good);
        // A later version's is not taken for damage.
        fs.write_atomic(&path, &[b"KWTEST 9\n"]).unwrap();
        assert!(Manifest::read(&fs, dir, KIND).is_err());
    }

    #[test]
    fn files_without_a_manifest_are_not_taken_for_leftovers() {
        let (fs, dir) = (SimFs::new(1), Path::new("/m"));
        fs.create_dir_all(&dir.join("files")).unwrap();
        assert_eq!(Manifest::read(&fs, dir, KIND).unwrap(), None);
        fs.write_atomic(&dir.join("files/0000000000000001.f"), &[b"x"])
            .unwrap();
        let error = Manifest::read(&fs, dir, KIND).unwrap_err().to_string();
        assert!(error.contains("/m/files holds 1 files"), "{error}");
    }

    #[test]
    fn ten_neighbours_of_a_level_merge_and_large_ones_are_left_behind() {
        let mut manifest = sample();
        manifest.files = (0..9).map(|id| meta(id, 0, 10)).collect();
        assert_eq!(manifest.candidates(1000), None);
        manifest.files.push(meta(9, 0, 10));
        assert_eq!(manifest.candidates(1000), Some(0..10));
        assert_eq!(manifest.candidates(99), None);
        manifest.files[0].rows = 1_000;
        assert_eq!(manifest.candidates(1000), None);
        manifest.files.push(meta(10, 0, 10));
        assert_eq!(manifest.candidates(1000), Some(1..11));
        assert_eq!(manifest.candidates_within(1000, |_| -1), None);
        manifest.files[5].level = 1;
        assert_eq!(manifest.candidates(1000), None);
    }
}
