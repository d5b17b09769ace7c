//! The list of a store's blocks, replaced as a whole.
//!
//! A short text: a header, the store's hash key, the sequence from which the log is needed,
//! the blocks in the order in which they were written, and a checksum of all lines before it.
//! What it does not name does not exist, so a flush or a compaction happens in one step.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kittiwake_env::{Fs, FsError};

const HEADER: &str = "KWMETRICS";
const VERSION: u32 = 1;
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

/// What is known of a block without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockMeta {
    /// Its number; the file is named by it.
    pub id: u64,
    /// How many times its samples went through compaction.
    pub level: u32,
    /// Its samples.
    pub samples: u64,
    /// Time of its oldest sample in ms.
    pub start_ms: i64,
    /// Time of its newest sample in ms.
    pub end_ms: i64,
}

impl BlockMeta {
    /// The block's file within the store's directory.
    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join("blocks").join(format!("{:016x}.blk", self.id))
    }
}

/// The content of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The key under which series are hashed.
    pub key: u64,
    /// Frames of the log from here on are not in blocks.
    pub flushed: u64,
    /// The number of the next block.
    pub next_id: u64,
    /// The blocks in the order in which they were written; where two have a sample of the
    /// same series and time, the first one's counts.
    pub blocks: Vec<BlockMeta>,
}

impl Manifest {
    /// Where it lies in a store's directory.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("MANIFEST")
    }

    /// Reads a store's manifest; `None` when it has none yet.
    pub fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<Self>, ManifestError> {
        let path = Self::path(dir);
        if !fs.exists(&path)? {
            return Ok(None);
        }
        let bytes = fs.read(&path, BYTES_MAX)?;
        Self::parse(&path, &bytes).map(Some)
    }

    /// Replaces a store's manifest, durably.
    pub fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<(), ManifestError> {
        let mut text = format!(
            "{HEADER} {VERSION}\nkey {:016x}\nflushed {}\nnext {}\n",
            self.key, self.flushed, self.next_id
        );
        for b in &self.blocks {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "block {} {} {} {} {}",
                b.id, b.level, b.samples, b.start_ms, b.end_ms
            );
        }
        let _ = writeln!(text, "crc {:08x}", crc32c::crc32c(text.as_bytes()));
        fs.write_atomic(&Self::path(dir), &[text.as_bytes()])?;
        Ok(())
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ManifestError> {
        let damaged = |line: usize, what: &str| ManifestError::Damaged {
            path: path.to_owned(),
            line,
            what: what.to_owned(),
        };
        let text = str::from_utf8(bytes).map_err(|_| damaged(1, "not text"))?;
        let first = text.lines().next().unwrap_or("");
        let version: u32 = first
            .strip_prefix(HEADER)
            .and_then(|v| v.trim().parse().ok())
            .ok_or_else(|| damaged(1, "not a manifest of metrics"))?;
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
        let mut manifest = Self {
            key: 0,
            flushed: 0,
            next_id: 0,
            blocks: Vec::new(),
        };
        for (index, line) in text[..body_len].lines().enumerate().skip(1) {
            let bad = || damaged(index + 1, "an unknown line");
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["key", v] => manifest.key = u64::from_str_radix(v, 16).map_err(|_| bad())?,
                ["flushed", v] => manifest.flushed = v.parse().map_err(|_| bad())?,
                ["next", v] => manifest.next_id = v.parse().map_err(|_| bad())?,
                ["block", id, level, samples, start, end] => manifest.blocks.push(BlockMeta {
                    id: id.parse().map_err(|_| bad())?,
                    level: level.parse().map_err(|_| bad())?,
                    samples: samples.parse().map_err(|_| bad())?,
                    start_ms: start.parse().map_err(|_| bad())?,
                    end_ms: end.parse().map_err(|_| bad())?,
                }),
                _ => return Err(bad()),
            }
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use kittiwake_env::SimFs;

    use super::*;

    fn sample() -> Manifest {
        Manifest {
            key: 0xfeed_0000_0000_0001,
            flushed: 17,
            next_id: 4,
            blocks: vec![BlockMeta {
                id: 3,
                level: 1,
                samples: 9,
                start_ms: -5,
                end_ms: 1_700_000_000_000,
            }],
        }
    }

    #[test]
    fn comes_back_and_damage_is_seen() {
        let (fs, dir) = (SimFs::new(1), Path::new("/m"));
        fs.create_dir_all(dir).unwrap();
        assert_eq!(Manifest::read(&fs, dir).unwrap(), None);
        sample().write(&fs, dir).unwrap();
        assert_eq!(Manifest::read(&fs, dir).unwrap(), Some(sample()));

        let path = Manifest::path(dir);
        let good = fs.read(&path, 1 << 20).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs.write_atomic(&path, &[&bad]).unwrap();
            assert!(Manifest::read(&fs, dir).is_err(), "byte {at}");
        }
        fs.write_atomic(&path, &[b"KWMETRICS 9\n"]).unwrap();
        let error = Manifest::read(&fs, dir).unwrap_err();
        assert!(error.to_string().contains("version 9"), "{error}");
    }
}
