//! Prometheus' blocks: read whole into a block of this store, and written for Prometheus,
//! Thanos or Mimir.
//!
//! Start times of samples have no place in them and are left out.

mod bits;
mod histogram;
mod index;
mod xor;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kittiwake_env::{File, Fs, FsError, ReadAt};
use kittiwake_journal::bytes::{Malformed, Reader, put_uvarint};
use kittiwake_journal::{FileMeta, ManifestError};
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{
    Columns, Histogram, LabelError, Matcher, MetricsStore, QueryContext, Select, StoreError,
    TimeRange,
};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::block::{Block, BlockError, BlockWriter};
use crate::dictionary::{DictionaryBuilder, NAMELESS};
use crate::head::append_range;
use crate::select::append_merged;
use crate::store::{MANIFEST, Placed, Store};
use index::{ChunkMeta, Series};

const CHUNKS_MAGIC: u32 = 0x85BD_40DD;
const CHUNKS_VERSION: u8 = 1;
const CHUNKS_HEADER_BYTES: usize = 8;
const TOMBSTONES_MAGIC: u32 = 0x0130_BA30;
const INDEX_BYTES_MAX: u64 = 1 << 31;
/// Largest chunk that is read, in bytes.
const CHUNK_BYTES_MAX: u64 = 16 << 20;
/// Samples of a chunk that is written, and bytes of a file of chunks.
const CHUNK_SAMPLES: usize = 120;
const CHUNK_FILE_BYTES: u64 = 512 << 20;

const XOR: u8 = 1;
const HISTOGRAM: u8 = 2;
const FLOAT_HISTOGRAM: u8 = 3;

/// Why a block of Prometheus cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// The file system failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A part has a version that this build does not know.
    #[error("{0} of version {1} is not known to this build")]
    Version(&'static str, u8),
    /// Bytes are missing or changed.
    #[error("{0} is damaged: {1}")]
    Damaged(&'static str, &'static str),
    /// A record is malformed.
    #[error("index: {0}")]
    Index(#[from] Malformed),
    /// A series has no valid labels.
    #[error("index: {0}")]
    Labels(#[from] LabelError),
    /// A chunk has an encoding that this build does not know.
    #[error("chunks of encoding {0} are not known to this build")]
    Encoding(u8),
    /// This store's own block cannot be written.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// This store's list of blocks cannot be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// This store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was imported or exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Series.
    pub series: u64,
    /// Samples.
    pub samples: u64,
}

impl Store {
    /// Reads a block of Prometheus, a directory with `index` and `chunks`, into a block of this
    /// store. Where both have a sample of one time, the one that was here first counts.
    pub fn import_prometheus(&self, dir: &Path) -> Result<Moved, PrometheusError> {
        let fs = self.fs.as_ref();
        let all = index::read(&fs.read(&dir.join("index"), INDEX_BYTES_MAX)?)?;
        let deleted = read_tombstones(fs, dir)?;
        let mut files = Vec::new();
        for entry in fs.list(&dir.join("chunks"))? {
            files.push(open_chunks(fs, &dir.join("chunks").join(&entry.name))?);
        }
        let mut builder = DictionaryBuilder::default();
        let mut order = Vec::with_capacity(all.len());
        for (at, series) in all.iter().enumerate() {
            let labels = &series.labels;
            let name = labels.metric_name().map(|n| builder.text(n));
            let set = builder.set(labels.iter().filter(|(n, _)| *n != METRIC_NAME));
            order.push((name, set, at));
        }
        let done = builder.finish();
        let mut order: Vec<(u32, u32, usize)> = order
            .into_iter()
            .map(|(name, set, at)| {
                let name = name.map_or(NAMELESS, |n| done.texts[n as usize]);
                (name, done.sets[set as usize], at)
            })
            .collect();
        order.sort_unstable();
        let mut manifest = self.manifest.lock();
        let mut meta = FileMeta {
            id: manifest.next_id,
            level: 0,
            rows: 0,
            start: 0,
            end: 0,
        };
        let path = MANIFEST.file(&self.dir, &meta);
        let mut writer = BlockWriter::create(&self.fs, &path, done.dictionary)?;
        let mut moved = Moved::default();
        for (name, set, at) in order {
            let added = read_series(&files, &all[at], &deleted).and_then(|columns| {
                moved.series += u64::from(!columns.is_empty());
                Ok(writer.add(name, set, &columns)?)
            });
            if let Err(error) = added {
                writer.abandon();
                return Err(error);
            }
        }
        moved.samples = writer.samples();
        let Some(range) = writer.range() else {
            writer.abandon();
            return Ok(moved);
        };
        (meta.rows, meta.start, meta.end) = (moved.samples, range.start, range.end);
        writer.finish()?;
        let block = Arc::new(Block::open(fs, &path, &self.cache)?);
        let mut next = manifest.clone();
        next.next_id += 1;
        next.files.push(meta);
        next.write(fs, &self.dir)?;
        *manifest = next;
        self.state.write().blocks.push(Placed { meta, block });
        Ok(moved)
    }

    /// Writes the series that match, within a range of time, as one block of Prometheus into a
    /// new directory within `dir`; gives its path. Without samples there is no block.
    pub fn export_prometheus(
        &self,
        dir: &Path,
        matchers: Vec<Matcher>,
        range: TimeRange,
    ) -> Result<(Option<PathBuf>, Moved), PrometheusError> {
        let mut context = QueryContext::default();
        (context.samples_max, context.series_max) = (0, 0);
        let mut cursor = self.select(&Select::new(matchers, range), &context)?;
        let now_ms = self.clock.now_ms();
        let random = xxh3_128_with_seed(&self.clock.monotonic_ns().to_le_bytes(), self.key);
        let ulid = ulid(now_ms, random);
        let block = dir.join(&ulid);
        let mut chunks = ChunkWriter::new(Arc::clone(&self.fs), block.join("chunks"));
        let (mut all, mut moved) = (Vec::new(), Moved::default());
        let (mut start_ms, mut end_ms) = (i64::MAX, i64::MIN);
        let mut columns = Columns::default();
        while let Some(labels) = cursor.next_series()? {
            columns.clear();
            while cursor.next_batch(&mut columns)? {}
            let (Some(first), Some(last)) = (columns.times.first(), columns.times.last()) else {
                continue;
            };
            (start_ms, end_ms) = (start_ms.min(*first), end_ms.max(*last));
            moved.series += 1;
            moved.samples += columns.len() as u64;
            all.push(Series {
                reference: 0,
                labels,
                chunks: chunks.write_series(&columns)?,
            });
        }
        if all.is_empty() {
            return Ok((None, moved));
        }
        chunks.finish()?;
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        self.fs
            .write_atomic(&block.join("index"), &[&index::encode(&all)])?;
        let count: usize = all.iter().map(|s| s.chunks.len()).sum();
        let meta = format!(
            "{{\n\t\"ulid\": \"{ulid}\",\n\t\"minTime\": {start_ms},\n\t\"maxTime\": {},\n\t\"stats\": {{\n\t\t\"numSamples\": {},\n\t\t\"numSeries\": {},\n\t\t\"numChunks\": {count}\n\t}},\n\t\"compaction\": {{\n\t\t\"level\": 1,\n\t\t\"sources\": [\n\t\t\t\"{ulid}\"\n\t\t]\n\t}},\n\t\"version\": 1\n}}",
            end_ms.saturating_add(1),
            moved.samples,
            moved.series,
        );
        // Without it the directory is no block, so it comes last.
        self.fs
            .write_atomic(&block.join("meta.json"), &[meta.as_bytes()])?;
        Ok((Some(block), moved))
    }
}

/// An identifier whose order is that of time: Crockford's base 32 of 48 bits of ms and 80
/// random ones.
fn ulid(now_ms: i64, random: u128) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let bits = (now_ms as u128) << 80 | (random & ((1 << 80) - 1));
    (0..26)
        .rev()
        .map(|at| char::from(DIGITS[(bits >> (5 * at)) as usize & 31]))
        .collect()
}

/// Ranges of time that were deleted, by the reference of their series.
fn read_tombstones(fs: &dyn Fs, dir: &Path) -> Result<Vec<(u64, TimeRange)>, PrometheusError> {
    let path = dir.join("tombstones");
    if !fs.exists(&path)? {
        return Ok(Vec::new());
    }
    let bytes = fs.read(&path, INDEX_BYTES_MAX)?;
    let damaged = PrometheusError::Damaged("tombstones", "its magic");
    match bytes.split_first_chunk::<4>() {
        Some((magic, _)) if u32::from_be_bytes(*magic) == TOMBSTONES_MAGIC => {}
        _ => return Err(damaged),
    }
    match bytes.get(4) {
        Some(1) => {}
        version => {
            let version = version.copied().unwrap_or(0);
            return Err(PrometheusError::Version("tombstones", version));
        }
    }
    let len = bytes.len().checked_sub(9).ok_or(damaged)?;
    let mut reader = Reader::new(index::checked(&bytes, 5, len)?);
    let mut found = Vec::new();
    while !reader.is_at_end() {
        let reference = reader.uvarint()?;
        found.push((
            reference,
            TimeRange::new(reader.varint()?, reader.varint()?),
        ));
    }
    Ok(found)
}

fn open_chunks(fs: &dyn Fs, path: &Path) -> Result<Arc<dyn ReadAt>, PrometheusError> {
    let file = fs.open_read(path)?;
    let mut header = [0; CHUNKS_HEADER_BYTES];
    file.read_exact_at(0, &mut header)?;
    if header[..4] != CHUNKS_MAGIC.to_be_bytes() {
        return Err(PrometheusError::Damaged("file of chunks", "its magic"));
    }
    if header[4] != CHUNKS_VERSION {
        return Err(PrometheusError::Version("file of chunks", header[4]));
    }
    Ok(file)
}

fn read_series(
    files: &[Arc<dyn ReadAt>],
    series: &Series,
    deleted: &[(u64, TimeRange)],
) -> Result<Columns, PrometheusError> {
    let mut all = Columns::default();
    for chunk in &series.chunks {
        let mut part = Columns::default();
        read_chunk(files, chunk, &mut part)?;
        if !part.times.is_sorted_by(|a, b| a < b) {
            return Err(PrometheusError::Damaged("chunk", "times out of order"));
        }
        append_merged(&mut all, part);
    }
    for (_, range) in deleted.iter().filter(|d| d.0 == series.reference) {
        let whole = std::mem::take(&mut all);
        let before = TimeRange::new(i64::MIN, range.start.saturating_sub(1));
        append_range(&mut all, &whole, whole.len(), before);
        let after = TimeRange::new(range.end.saturating_add(1), i64::MAX);
        append_range(&mut all, &whole, whole.len(), after);
    }
    Ok(all)
}

fn read_chunk(
    files: &[Arc<dyn ReadAt>],
    chunk: &ChunkMeta,
    into: &mut Columns,
) -> Result<(), PrometheusError> {
    let damaged = |what| PrometheusError::Damaged("chunk", what);
    let file = files
        .get((chunk.place >> 32) as usize)
        .ok_or(damaged("its file is missing"))?;
    let at = chunk.place & u64::from(u32::MAX);
    let mut head = [0; 10];
    let read = file.read_at(at, &mut head)?;
    let mut reader = Reader::new(&head[..read]);
    let len = reader.uvarint()?;
    if len > CHUNK_BYTES_MAX {
        return Err(damaged("too large"));
    }
    // The encoding, the data, the checksum of both.
    let mut bytes = vec![0; len as usize + 5];
    file.read_exact_at(at + reader.position() as u64, &mut bytes)?;
    let body = index::checked(&bytes, 0, len as usize + 1)?;
    let (encoding, data) = body.split_first().ok_or(damaged("empty"))?;
    let decoded = match *encoding {
        XOR => xor::decode(data, into),
        HISTOGRAM => histogram::decode(data, false, into),
        FLOAT_HISTOGRAM => histogram::decode(data, true, into),
        other => return Err(PrometheusError::Encoding(other)),
    };
    decoded.ok_or(damaged("cut short"))
}

/// Writes files of chunks.
#[derive(Debug)]
struct ChunkWriter {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    file: Option<Box<dyn File>>,
    files: u64,
    buffer: Vec<u8>,
    /// Bytes of the file so far, those in the buffer included.
    len: u64,
}

impl ChunkWriter {
    fn new(fs: Arc<dyn Fs>, dir: PathBuf) -> Self {
        Self {
            fs,
            dir,
            file: None,
            files: 0,
            buffer: Vec::new(),
            len: 0,
        }
    }

    fn write_series(&mut self, columns: &Columns) -> Result<Vec<ChunkMeta>, PrometheusError> {
        let mut chunks = Vec::new();
        let (mut at, mut histograms) = (0, &columns.histograms[..]);
        while at < columns.len() {
            let next_histogram = histograms.first().map_or(columns.len(), |h| h.0 as usize);
            let max = (at + CHUNK_SAMPLES).min(columns.len());
            let (end, encoding, data) = if next_histogram == at {
                let first = &histograms[0].1;
                let fitting = histograms.iter().enumerate().take_while(|(i, (place, h))| {
                    *place as usize == at + i
                        && *place as usize <= max
                        && (*i == 0 || histogram::fit_together(&histograms[i - 1].1, h))
                        && histogram::fits_first(first, h)
                });
                let count = fitting.count().clamp(1, CHUNK_SAMPLES);
                let all: Vec<(i64, &Histogram)> = histograms[..count]
                    .iter()
                    .map(|(place, h)| (columns.times[*place as usize], &**h))
                    .collect();
                histograms = &histograms[count..];
                let (is_float, data) = histogram::encode(&all);
                let encoding = if is_float { FLOAT_HISTOGRAM } else { HISTOGRAM };
                (at + count, encoding, data)
            } else {
                let end = max.min(next_histogram);
                let data = xor::encode(&columns.times[at..end], &columns.values[at..end]);
                (end, XOR, data)
            };
            chunks.push(ChunkMeta {
                start_ms: columns.times[at],
                end_ms: columns.times[end - 1],
                place: self.write(encoding, &data)?,
            });
            at = end;
        }
        Ok(chunks)
    }

    fn write(&mut self, encoding: u8, data: &[u8]) -> Result<u64, PrometheusError> {
        if self.file.is_none() || self.len + data.len() as u64 > CHUNK_FILE_BYTES {
            self.finish()?;
            self.fs.create_dir_all(&self.dir)?;
            self.files += 1;
            let path = self.dir.join(format!("{:06}", self.files));
            self.file = Some(self.fs.create(&path)?);
            self.buffer.extend_from_slice(&CHUNKS_MAGIC.to_be_bytes());
            self.buffer.extend_from_slice(&[CHUNKS_VERSION, 0, 0, 0]);
            self.len = CHUNKS_HEADER_BYTES as u64;
        }
        let place = (self.files - 1) << 32 | self.len;
        let before = self.buffer.len();
        put_uvarint(&mut self.buffer, data.len() as u64);
        let start = self.buffer.len();
        self.buffer.push(encoding);
        self.buffer.extend_from_slice(data);
        let crc = crc32c::crc32c(&self.buffer[start..]);
        self.buffer.extend_from_slice(&crc.to_be_bytes());
        self.len += (self.buffer.len() - before) as u64;
        if self.buffer.len() >= 1 << 20 {
            self.put_buffer()?;
        }
        Ok(place)
    }

    fn put_buffer(&mut self) -> Result<(), FsError> {
        if let Some(file) = &mut self.file {
            file.write_all(&self.buffer)?;
        }
        self.buffer.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), FsError> {
        self.put_buffer()?;
        if let Some(file) = self.file.take() {
            file.sync()?;
            self.fs.sync_dir(&self.dir)?;
        }
        Ok(())
    }
}
