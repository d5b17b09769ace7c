//! Chunks: what is read at once.
//!
//! A column of some size has a chunk of its own; small ones share chunks, in their order, so
//! that zstd has enough to work on and a checksum little to repeat.

use std::cell::RefCell;

use kittiwake_journal::bytes::{Reader, put_uvarint};

use super::{BlockError, Source};

/// A column of fewer bytes shares a chunk.
const OWN_BYTES_MIN: usize = 1 << 10;
/// A shared chunk is closed at this size.
const SHARED_BYTES: usize = 32 << 10;
/// Largest content of a chunk, and of all chunks of a block together.
const RAW_BYTES_MAX: usize = 64 << 20;
const ZSTD_LEVEL: i32 = 1;
/// Zeros behind a chunk's content in memory, so that eight bytes can be read anywhere in it.
pub(super) const PAD_BYTES: usize = 8;

/// Where a column's bytes lie: in which chunk, at which offset of its content, how many.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    chunk: u32,
    offset: u32,
    len: u32,
}

impl Place {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        for number in [self.chunk, self.offset, self.len] {
            put_uvarint(out, u64::from(number));
        }
    }

    pub(super) fn get(reader: &mut Reader<'_>) -> Result<Self, BlockError> {
        let mut number = || -> Result<u32, BlockError> {
            Ok(u32::try_from(reader.uvarint()?).unwrap_or(u32::MAX))
        };
        Ok(Self {
            chunk: number()?,
            offset: number()?,
            len: number()?,
        })
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    offset: usize,
    packed: usize,
    /// Length of the content; 0 when it is stored as it is.
    raw: usize,
    crc: u32,
}

/// Compresses with one context.
pub(super) struct Zstd(Option<zstd::bulk::Compressor<'static>>);

impl Zstd {
    pub(super) fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), BlockError> {
        let compressor = match &mut self.0 {
            Some(compressor) => compressor,
            none => {
                let new = zstd::bulk::Compressor::new(ZSTD_LEVEL);
                none.insert(new.map_err(BlockError::Compression)?)
            }
        };
        out.clear();
        out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        compressor
            .compress_to_buffer(raw, out)
            .map_err(BlockError::Compression)?;
        Ok(())
    }
}

/// Gathers columns into chunks.
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    entries: Vec<Entry>,
    shared: Vec<u8>,
    /// Number of the shared chunk, once it has content.
    shared_at: Option<usize>,
    zstd: Zstd,
    packed: Vec<u8>,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            entries: Vec::new(),
            shared: Vec::new(),
            shared_at: None,
            zstd: Zstd(None),
            packed: Vec::new(),
        }
    }
}

impl Writer {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.shared.clear();
        self.shared_at = None;
    }

    /// Adds a column. One of no use to zstd is stored as it is.
    pub(super) fn add(&mut self, column: &[u8], compressible: bool) -> Result<Place, BlockError> {
        if column.len() >= OWN_BYTES_MIN {
            self.entries.push(Entry::default());
            let chunk = self.entries.len() - 1;
            self.entries[chunk] = self.write(column, compressible)?;
            return Ok(Place {
                chunk: chunk as u32,
                offset: 0,
                len: column.len() as u32,
            });
        }
        let chunk = *self.shared_at.get_or_insert_with(|| {
            self.entries.push(Entry::default());
            self.entries.len() - 1
        });
        let offset = self.shared.len();
        self.shared.extend_from_slice(column);
        if self.shared.len() >= SHARED_BYTES {
            self.close_shared()?;
        }
        Ok(Place {
            chunk: chunk as u32,
            offset: offset as u32,
            len: column.len() as u32,
        })
    }

    fn close_shared(&mut self) -> Result<(), BlockError> {
        let Some(chunk) = self.shared_at.take() else {
            return Ok(());
        };
        let shared = std::mem::take(&mut self.shared);
        self.entries[chunk] = self.write(&shared, true)?;
        self.shared = shared;
        self.shared.clear();
        Ok(())
    }

    fn write(&mut self, raw: &[u8], compressible: bool) -> Result<Entry, BlockError> {
        let mut entry = Entry {
            offset: self.bytes.len(),
            packed: raw.len(),
            raw: 0,
            crc: 0,
        };
        let mut stored = raw;
        if compressible {
            self.zstd.compress(raw, &mut self.packed)?;
            if self.packed.len() < raw.len() {
                (entry.packed, entry.raw) = (self.packed.len(), raw.len());
                stored = &self.packed;
            }
        }
        entry.crc = crc32c::crc32c(stored);
        self.bytes.extend_from_slice(stored);
        Ok(entry)
    }

    /// Closes the last chunk and writes where all of them lie.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), BlockError> {
        self.close_shared()?;
        put_uvarint(out, self.entries.len() as u64);
        for entry in &self.entries {
            put_uvarint(out, entry.offset as u64);
            put_uvarint(out, entry.packed as u64);
            put_uvarint(out, entry.raw as u64);
            out.extend_from_slice(&entry.crc.to_le_bytes());
        }
        Ok(())
    }

    /// Compresses bytes that are no chunk.
    pub(super) fn compress(&mut self, raw: &[u8]) -> Result<&[u8], BlockError> {
        self.zstd.compress(raw, &mut self.packed)?;
        Ok(&self.packed)
    }
}

/// The chunks of a block, each read when it is first needed.
pub(super) struct Chunks<S> {
    source: S,
    head_bytes: usize,
    entries: Vec<Entry>,
    read: Vec<Option<Vec<u8>>>,
    /// Bytes of content that were read.
    raw_bytes: usize,
}

impl<S: Source> Chunks<S> {
    pub(super) fn open(
        source: S,
        head_bytes: usize,
        reader: &mut Reader<'_>,
    ) -> Result<Self, BlockError> {
        let mut entries = Vec::new();
        for _ in 0..reader.count(7)? {
            let mut number = || -> Result<usize, BlockError> {
                Ok(usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX))
            };
            let (offset, packed, raw) = (number()?, number()?, number()?);
            if packed > RAW_BYTES_MAX || raw > RAW_BYTES_MAX {
                return Err(BlockError::Damaged("a chunk of more than 64 MiB"));
            }
            entries.push(Entry {
                offset,
                packed,
                raw,
                crc: reader.u32()?,
            });
        }
        Ok(Self {
            source,
            head_bytes,
            read: entries.iter().map(|_| None).collect(),
            entries,
            raw_bytes: 0,
        })
    }

    /// A column's bytes and [`PAD_BYTES`] more.
    pub(super) fn get(&mut self, place: Place) -> Result<&[u8], S::Error> {
        let chunk = place.chunk as usize;
        let Some(entry) = self.entries.get(chunk).copied() else {
            return Err(BlockError::Damaged("a column in no chunk").into());
        };
        if self.read[chunk].is_none() {
            let content = self.fetch(entry)?;
            self.read[chunk] = Some(content);
        }
        let content = self.read[chunk].as_deref().unwrap_or_default();
        let start = place.offset as usize;
        let end = start
            .saturating_add(place.len as usize)
            .saturating_add(PAD_BYTES);
        content
            .get(start..end)
            .ok_or_else(|| BlockError::Damaged("a column beyond its chunk").into())
    }

    fn fetch(&mut self, entry: Entry) -> Result<Vec<u8>, S::Error> {
        self.raw_bytes += entry.raw.max(entry.packed);
        if self.raw_bytes > RAW_BYTES_MAX {
            return Err(BlockError::Damaged("a block of more than 64 MiB").into());
        }
        let offset = self.head_bytes.saturating_add(entry.offset);
        let mut bytes = self.source.read(offset, entry.packed)?;
        if crc32c::crc32c(&bytes) != entry.crc {
            return Err(BlockError::Checksum {
                offset,
                len: entry.packed,
            }
            .into());
        }
        if entry.raw > 0 {
            bytes = unzstd(&bytes, entry.raw)?;
        }
        bytes.resize(bytes.len() + PAD_BYTES, 0);
        Ok(bytes)
    }
}

thread_local! {
    /// A context is larger than most chunks, and costs more to set up.
    static UNZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The content of a zstd frame, which must have this length, by the thread's context.
pub(crate) fn unzstd(packed: &[u8], raw_bytes: usize) -> Result<Vec<u8>, BlockError> {
    if raw_bytes > RAW_BYTES_MAX {
        return Err(BlockError::Damaged("a chunk of more than 64 MiB"));
    }
    let mut raw = Vec::with_capacity(raw_bytes + PAD_BYTES);
    let len = UNZSTD.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        context.decompress_to_buffer(packed, &mut raw)
    });
    if len.map_err(BlockError::Compression)? != raw_bytes {
        return Err(BlockError::Damaged("a chunk of another length"));
    }
    Ok(raw)
}
