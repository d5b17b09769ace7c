//! The files of one log.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::cursor::HEAD_BYTES;

/// Rotated files that are looked for.
const ROTATED_MAX: usize = 100;
/// Numbers without a file after which no more are looked for: while files are renamed one
/// number is free for a moment.
const GAP_MAX: usize = 2;

/// An open file of a log.
#[derive(Debug)]
pub(super) struct LogFile {
    head: Vec<u8>,
    content: Content,
}

enum Content {
    Plain { file: File, id: (u64, u64), at: u64 },
    Compressed(Box<MultiGzDecoder<File>>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain { id, at, .. } => write!(f, "Plain({id:?} at {at})"),
            Self::Compressed(_) => f.write_str("Compressed"),
        }
    }
}

/// Opens the log and its rotated files from the newest on, up to and with the first for which
/// `is_last` says so. Files that fail are counted and left out.
pub(super) fn newest_first(
    path: &Path,
    is_last: impl Fn(&LogFile) -> bool,
    failed: &mut u64,
) -> io::Result<Vec<LogFile>> {
    let mut found: Vec<LogFile> = Vec::new();
    let mut gap = 0;
    for number in 0..=ROTATED_MAX {
        let name = numbered(path, number);
        let file = match LogFile::open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && number > 0 => {
                // The compressed file is whole before the plain one is removed.
                LogFile::open_compressed(&with_suffix(&name, ".gz"))
            }
            file => file,
        };
        match file {
            Ok(file) => {
                gap = 0;
                if !found.iter().any(|newer| newer.is_same(&file)) {
                    let is_last = is_last(&file);
                    found.push(file);
                    if is_last {
                        break;
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                gap += 1;
                if gap > GAP_MAX {
                    break;
                }
            }
            Err(error) if number == 0 => return Err(error),
            Err(_) => *failed += 1,
        }
    }
    Ok(found)
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    match number {
        0 => path.to_owned(),
        number => with_suffix(path, &format!(".{number}")),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let head = read_head(&file)?;
        Ok(Self {
            head,
            content: Content::Plain {
                id: (metadata.dev(), metadata.ino()),
                file,
                at: 0,
            },
        })
    }

    fn open_compressed(path: &Path) -> io::Result<Self> {
        let mut head = Vec::new();
        let decoder = MultiGzDecoder::new(File::open(path)?);
        decoder.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        let decoder = MultiGzDecoder::new(File::open(path)?);
        Ok(Self {
            head,
            content: Content::Compressed(Box::new(decoder)),
        })
    }

    /// The first bytes, as far as they are written.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Goes to an offset from the start.
    pub(super) fn seek(&mut self, offset: u64) -> io::Result<()> {
        match &mut self.content {
            Content::Plain { at, .. } => *at = offset,
            Content::Compressed(decoder) => {
                io::copy(&mut decoder.take(offset), &mut io::sink())?;
            }
        }
        Ok(())
    }

    /// Goes to the start of a file that was truncated.
    pub(super) fn restart(&mut self) {
        if let Content::Plain { file, at, .. } = &mut self.content {
            *at = 0;
            self.head = read_head(file).unwrap_or_default();
        }
    }

    /// Appends at most `count_max` bytes; 0 at the end.
    pub(super) fn read_into(
        &mut self,
        buffer: &mut Vec<u8>,
        count_max: usize,
    ) -> io::Result<usize> {
        let start = buffer.len();
        buffer.resize(start + count_max, 0);
        let read = match &mut self.content {
            Content::Plain { file, at, .. } => {
                let read = file.read_at(&mut buffer[start..], *at);
                if let Ok(count) = read {
                    *at += count as u64;
                    if self.head.len() < HEAD_BYTES && count > 0 {
                        self.head = read_head(file)?;
                    }
                }
                read
            }
            Content::Compressed(decoder) => decoder.read(&mut buffer[start..]),
        };
        buffer.truncate(start + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Whether the file was truncated since it was read up to `end`, whatever it holds now.
    pub(super) fn is_replaced(&self, end: u64) -> bool {
        let Content::Plain { file, .. } = &self.content else {
            return false;
        };
        if file.metadata().is_ok_and(|metadata| metadata.len() < end) {
            return true;
        }
        let mut head = [0; HEAD_BYTES];
        let count = file.read_at(&mut head, 0).unwrap_or(0);
        !self.head.is_empty() && !head[..count].starts_with(&self.head)
    }

    /// Whether this is the file with that name now. A name that leads nowhere says nothing.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        match (&self.content, std::fs::metadata(path)) {
            (Content::Plain { id, .. }, Ok(metadata)) => *id == (metadata.dev(), metadata.ino()),
            (Content::Compressed(_), Ok(_)) => false,
            (_, Err(_)) => true,
        }
    }

    /// Whether both hold the same log: one file, or one and its compressed copy.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        if let (Content::Plain { id: a, .. }, Content::Plain { id: b, .. }) =
            (&self.content, &other.content)
        {
            return a == b;
        }
        let length = self.head.len().min(other.head.len());
        length > 0 && self.head[..length] == other.head[..length]
    }
}

fn read_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let count = file.read_at(&mut head, 0)?;
    head.truncate(count);
    Ok(head)
}
