//! Sealed files: written once, section by section, and never changed.
//!
//! ```text
//! magic (8) | version u32 | 0 u32 | section bytes ... | directory | trailer
//! directory: per section: kind u32, crc32c u32, offset u64, length u64
//! trailer (24): directory offset u64 | sections u32 | crc32c of the directory u32 | magic (8)
//! ```
//!
//! A reader finds the directory from the end, so a file that was cut short is known as such.
//! It takes sections whole (their checksum is checked) or by range (what is in them then
//! carries checksums of its own). Kinds that a reader does not know are passed over, so a
//! newer build can add sections without a new version.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kittiwake_env::{File, Fs, FsError, ReadAt};

use crate::bytes::Reader;

const HEADER_BYTES: u64 = 16;
const TRAILER_BYTES: u64 = 24;
const ENTRY_BYTES: usize = 24;
/// A file has at most this many sections.
pub const SECTIONS_MAX: u32 = 1024;
/// Writes are gathered to this many bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// What kind of sealed file: the magic at both its ends and the newest version known.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Eight bytes that name the kind.
    pub magic: [u8; 8],
    /// The version written, and the newest one read.
    pub version: u32,
}

/// Why a sealed file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The file system failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// It is not a file of this kind.
    #[error("{}: not a {wanted} file", path.display())]
    Magic {
        /// The file.
        path: PathBuf,
        /// The magic that was expected, as text.
        wanted: String,
    },
    /// It was written by a newer build.
    #[error("{}: version {version} is not known to this build, which reads up to {known}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest version this build reads.
        known: u32,
    },
    /// Bytes are missing or changed.
    #[error("{}: damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which part, and how.
        what: String,
    },
}

#[derive(Debug, Clone, Copy)]
struct Section {
    kind: u32,
    crc: u32,
    offset: u64,
    len: u64,
}

/// Writes a sealed file under a temporary name; [`SealedWriter::finish`] gives it its own.
#[derive(Debug)]
pub struct SealedWriter {
    fs: Arc<dyn Fs>,
    file: Box<dyn File>,
    kind: Kind,
    path: PathBuf,
    temporary: PathBuf,
    buffer: Vec<u8>,
    /// Bytes given so far, buffered ones included.
    offset: u64,
    sections: Vec<Section>,
}

impl SealedWriter {
    /// Starts a file that will be named `path`.
    pub fn create(fs: &Arc<dyn Fs>, path: &Path, kind: Kind) -> Result<Self, SealedError> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(kittiwake_env::TEMPORARY_SUFFIX);
        let temporary = PathBuf::from(temporary);
        let mut buffer = Vec::with_capacity(BUFFER_BYTES + 4096);
        buffer.extend_from_slice(&kind.magic);
        buffer.extend_from_slice(&kind.version.to_le_bytes());
        buffer.extend_from_slice(&[0; 4]);
        Ok(Self {
            file: fs.create(&temporary)?,
            fs: Arc::clone(fs),
            kind,
            path: path.to_owned(),
            temporary,
            buffer,
            offset: HEADER_BYTES,
            sections: Vec::new(),
        })
    }

    /// Starts a section; the one before ends.
    pub fn begin(&mut self, kind: u32) {
        self.sections.push(Section {
            kind,
            crc: 0,
            offset: self.offset,
            len: 0,
        });
    }

    /// Appends to the current section; gives the offset of the bytes within it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<u64, SealedError> {
        if self.sections.is_empty() {
            self.begin(0);
        }
        let Some(section) = self.sections.last_mut() else {
            return Ok(0);
        };
        let at = section.len;
        section.crc = crc32c::crc32c_append(section.crc, bytes);
        section.len += bytes.len() as u64;
        self.offset += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.file.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(at)
    }

    /// Bytes given so far.
    pub fn bytes_written(&self) -> u64 {
        self.offset
    }

    /// Writes the directory, makes all durable and gives the file its name. Returns its size.
    pub fn finish(mut self) -> Result<u64, SealedError> {
        let mut directory = Vec::with_capacity(self.sections.len() * ENTRY_BYTES);
        for section in &self.sections {
            directory.extend_from_slice(&section.kind.to_le_bytes());
            directory.extend_from_slice(&section.crc.to_le_bytes());
            directory.extend_from_slice(&section.offset.to_le_bytes());
            directory.extend_from_slice(&section.len.to_le_bytes());
        }
        let crc = crc32c::crc32c(&directory);
        self.buffer.extend_from_slice(&directory);
        self.buffer.extend_from_slice(&self.offset.to_le_bytes());
        self.buffer
            .extend_from_slice(&(self.sections.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        self.buffer.extend_from_slice(&self.kind.magic);
        self.file.write_all(&self.buffer)?;
        self.file.sync()?;
        self.fs.rename(&self.temporary, &self.path)?;
        if let Some(dir) = self.path.parent() {
            self.fs.sync_dir(dir)?;
        }
        Ok(self.offset + directory.len() as u64 + TRAILER_BYTES)
    }

    /// Removes what was written.
    pub fn abandon(self) {
        // A leftover is removed at the next start too.
        let _ = self.fs.remove(&self.temporary);
    }
}

/// An open sealed file.
#[derive(Debug)]
pub struct SealedFile {
    file: Arc<dyn ReadAt>,
    path: PathBuf,
    version: u32,
    len: u64,
    sections: Vec<Section>,
}

impl SealedFile {
    /// Opens a file and reads its directory.
    pub fn open(fs: &dyn Fs, path: &Path, kind: Kind) -> Result<Self, SealedError> {
        let file = fs.open_read(path)?;
        let len = file.len()?;
        let not_this = || SealedError::Magic {
            path: path.to_owned(),
            wanted: String::from_utf8_lossy(&kind.magic).into_owned(),
        };
        let damaged = |what: &str| SealedError::Damaged {
            path: path.to_owned(),
            what: what.to_owned(),
        };
        if len < HEADER_BYTES {
            return Err(damaged("shorter than its header"));
        }
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact_at(0, &mut header)?;
        if header[..8] != kind.magic {
            return Err(not_this());
        }
        let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        if version == 0 || version > kind.version {
            return Err(SealedError::Version {
                path: path.to_owned(),
                version,
                known: kind.version,
            });
        }
        if len < HEADER_BYTES + TRAILER_BYTES {
            return Err(damaged("cut before its trailer"));
        }
        let mut trailer = [0; TRAILER_BYTES as usize];
        file.read_exact_at(len - TRAILER_BYTES, &mut trailer)?;
        if trailer[16..] != kind.magic {
            return Err(damaged("no trailer at its end"));
        }
        let mut reader = Reader::new(&trailer);
        let truncated = |_| damaged("trailer");
        let offset = reader.u64().map_err(truncated)?;
        let count = reader.u32().map_err(truncated)?;
        let crc = reader.u32().map_err(truncated)?;
        let directory_bytes = u64::from(count) * ENTRY_BYTES as u64;
        if count > SECTIONS_MAX || offset.checked_add(directory_bytes + TRAILER_BYTES) != Some(len)
        {
            return Err(damaged("directory does not fit the file"));
        }
        let mut directory = vec![0; directory_bytes as usize];
        file.read_exact_at(offset, &mut directory)?;
        if crc32c::crc32c(&directory) != crc {
            return Err(damaged("checksum of its directory"));
        }
        let mut reader = Reader::new(&directory);
        let mut sections = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let section = Section {
                kind: reader.u32().map_err(truncated)?,
                crc: reader.u32().map_err(truncated)?,
                offset: reader.u64().map_err(truncated)?,
                len: reader.u64().map_err(truncated)?,
            };
            let end = section.offset.checked_add(section.len);
            if section.offset < HEADER_BYTES || end.is_none_or(|end| end > offset) {
                return Err(damaged("a section lies outside the file"));
            }
            sections.push(section);
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            version,
            len,
            sections,
        })
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version it was written in.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Bytes of the file.
    pub fn size_bytes(&self) -> u64 {
        self.len
    }

    /// The length of a section, 0 when there is none.
    pub fn section_len(&self, kind: u32) -> u64 {
        self.find(kind).map_or(0, |s| s.len)
    }

    /// A whole section, its checksum checked. A file without it gives no bytes.
    pub fn section(&self, kind: u32, bytes_max: u64) -> Result<Vec<u8>, SealedError> {
        let Some(section) = self.find(kind) else {
            return Ok(Vec::new());
        };
        if section.len > bytes_max {
            return Err(self.damaged(format!(
                "section {kind} has {} bytes, more than {bytes_max}",
                section.len
            )));
        }
        let mut bytes = vec![0; section.len as usize];
        self.file.read_exact_at(section.offset, &mut bytes)?;
        if crc32c::crc32c(&bytes) != section.crc {
            return Err(self.damaged(format!("checksum of section {kind}")));
        }
        Ok(bytes)
    }

    /// Part of a section; whoever wrote it gave it a checksum of its own.
    pub fn range(&self, kind: u32, offset: u64, len: usize) -> Result<Vec<u8>, SealedError> {
        let section = self.find(kind);
        let fits = section.filter(|s| {
            offset
                .checked_add(len as u64)
                .is_some_and(|end| end <= s.len)
        });
        let Some(section) = fits else {
            return Err(self.damaged(format!("{len} bytes at {offset} of section {kind}")));
        };
        let mut bytes = vec![0; len];
        self.file
            .read_exact_at(section.offset + offset, &mut bytes)?;
        Ok(bytes)
    }

    /// An error that names this file.
    pub fn damaged(&self, what: impl Into<String>) -> SealedError {
        SealedError::Damaged {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    fn find(&self, kind: u32) -> Option<&Section> {
        self.sections.iter().find(|s| s.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use kittiwake_env::SimFs;
    use proptest::prelude::*;

    use super::*;

    const KIND: Kind = Kind {
        magic: *b"KWTEST\r\n",
        version: 3,
    };

    fn sim() -> Arc<dyn Fs> {
        let fs: Arc<dyn Fs> = Arc::new(SimFs::new(1));
        fs.create_dir_all(Path::new("/d")).unwrap();
        fs
    }

    fn sealed(fs: &Arc<dyn Fs>) -> PathBuf {
        let path = PathBuf::from("/d/a.sealed");
        let mut writer = SealedWriter::create(fs, &path, KIND).unwrap();
        writer.begin(7);
        assert_eq!(writer.write(b"hello ").unwrap(), 0);
        assert_eq!(writer.write(b"world").unwrap(), 6);
        writer.begin(9);
        writer.write(&[1; 1000]).unwrap();
        let size_bytes = writer.finish().unwrap();
        assert_eq!(fs.open_read(&path).unwrap().len().unwrap(), size_bytes);
        path
    }

    #[test]
    fn sections_come_back() {
        let fs = sim();
        let path = sealed(&fs);
        let file = SealedFile::open(fs.as_ref(), &path, KIND).unwrap();
        assert_eq!(file.section(7, 100).unwrap(), b"hello world");
        assert_eq!(file.range(7, 6, 5).unwrap(), b"world");
        assert!(file.range(7, 6, 6).is_err());
        assert_eq!(file.section_len(9), 1000);
        assert!(file.section(9, 999).is_err());
        assert_eq!(file.section(8, 1).unwrap(), b"");
    }

    #[test]
    fn versions_and_kinds_are_named() {
        let fs = sim();
        let path = sealed(&fs);
        let older = Kind { version: 2, ..KIND };
        let error = SealedFile::open(fs.as_ref(), &path, older).unwrap_err();
        assert!(error.to_string().contains("version 3"), "{error}");
        let other = Kind {
            magic: *b"KWOTHER\n",
            version: 3,
        };
        assert!(matches!(
            SealedFile::open(fs.as_ref(), &path, other),
            Err(SealedError::Magic { .. })
        ));
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed_or_harmless(at in 0_usize..1200, bit in 0_u8..8) {
            let fs = sim();
            let path = sealed(&fs);
            let mut bytes = fs.read(&path, 1 << 20).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            fs.write_atomic(&path, &[&bytes]).unwrap();
            if let Ok(file) = SealedFile::open(fs.as_ref(), &path, Kind { version: u32::MAX, ..KIND }) {
                for (kind, want) in [(7, &b"hello world"[..]), (9, &[1; 1000][..])] {
                    if let Ok(got) = file.section(kind, 10_000) {
                        prop_assert_eq!(&got[..], want);
                    }
                }
            }
        }

        #[test]
        fn random_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            let fs = sim();
            let mut bytes = KIND.magic.to_vec();
            bytes.extend_from_slice(&1_u32.to_le_bytes());
            bytes.extend_from_slice(&tail);
            bytes.extend_from_slice(&KIND.magic);
            let path = PathBuf::from("/d/random");
            fs.write_atomic(&path, &[&bytes]).unwrap();
            let _ = SealedFile::open(fs.as_ref(), &path, KIND);
        }
    }
}
