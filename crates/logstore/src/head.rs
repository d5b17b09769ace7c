//! Lines that are not in a part yet.
//!
//! A generation holds the rows of each stream in order of arrival and their text in chunks
//! that only grow, so a query pins row counts and reads the text later. A flush swaps the
//! generation for a new one; the old one stays readable until its part is in place.

use std::collections::HashMap;

use kittiwake_model::{BySeriesHash, Labels, SeriesHash, TimeRange};
use parking_lot::RwLock;

use crate::batch::Batch;

/// A chunk of text is closed at this size; one longer line gets a chunk of its own.
const CHUNK_BYTES: usize = 1 << 20;

/// A line's place in a generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) time_ns: i64,
    pub(crate) ordinal: u32,
    chunk: u32,
    start: u32,
    len: u32,
    /// Number of its metadata; 0 for none.
    metadata: u32,
}

/// A stream in a generation.
#[derive(Debug)]
pub(crate) struct HeadStream {
    pub(crate) hash: SeriesHash,
    pub(crate) labels: Labels,
    pub(crate) rows: Vec<Row>,
    range: TimeRange,
    /// Rows by time, from when the first of them came out of order. Until then they are in
    /// order of time, and a search finds them.
    by_time: Option<HashMap<i64, Vec<u32>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) streams: Vec<HeadStream>,
    by_hash: BySeriesHash<u32>,
    chunks: Vec<String>,
    metadata: Vec<Labels>,
    metadata_numbers: HashMap<Labels, u32>,
    rows: u64,
    text_bytes: u64,
    range: Option<TimeRange>,
}

/// A generation of the head.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    pub(crate) lines: RwLock<Lines>,
}

impl Lines {
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    pub(crate) fn range(&self) -> Option<TimeRange> {
        self.range
    }

    pub(crate) fn stream(&self, hash: SeriesHash) -> Option<&HeadStream> {
        self.streams.get(*self.by_hash.get(&hash)? as usize)
    }

    pub(crate) fn text(&self, row: &Row) -> &str {
        let chunk = self.chunks.get(row.chunk as usize);
        chunk
            .and_then(|c| c.get(row.start as usize..(row.start + row.len) as usize))
            .unwrap_or("")
    }

    pub(crate) fn metadata(&self, row: &Row) -> Option<&Labels> {
        self.metadata.get((row.metadata as usize).checked_sub(1)?)
    }

    /// Appends the lines of a batch that have an ordinal.
    pub(crate) fn append(
        &mut self,
        batch: &Batch,
        ordinals: &[Option<u32>],
        hashes: &[SeriesHash],
    ) {
        for (run, hash) in batch.runs.iter().zip(hashes) {
            for at in run.rows.clone() {
                let Some(ordinal) = ordinals[at] else {
                    continue;
                };
                let row = &batch.rows[at];
                let text = &batch.text[row.line.clone()];
                let fits = self
                    .chunks
                    .last()
                    .is_some_and(|c| c.len() + text.len() <= CHUNK_BYTES);
                if !fits {
                    // Small at first: most heads hold little. What grew leaves holes behind.
                    self.chunks.push(match self.chunks.len() {
                        0 => String::new(),
                        _ => String::with_capacity(CHUNK_BYTES.max(text.len())),
                    });
                }
                let chunk = self.chunks.len() - 1;
                let start = self.chunks[chunk].len();
                self.chunks[chunk].push_str(text);
                let metadata = match &row.metadata {
                    None => 0,
                    Some(metadata) => self.number(metadata),
                };
                self.rows += 1;
                self.text_bytes += text.len() as u64;
                let range = self
                    .range
                    .get_or_insert(TimeRange::new(row.time_ns, row.time_ns));
                range.start = range.start.min(row.time_ns);
                range.end = range.end.max(row.time_ns);
                let stream = self.stream_mut(*hash, &run.labels);
                if row.time_ns < stream.range.end && stream.by_time.is_none() {
                    let mut by_time: HashMap<i64, Vec<u32>> = HashMap::new();
                    for (number, row) in stream.rows.iter().enumerate() {
                        by_time.entry(row.time_ns).or_default().push(number as u32);
                    }
                    stream.by_time = Some(by_time);
                }
                if let Some(by_time) = &mut stream.by_time {
                    let number = stream.rows.len() as u32;
                    by_time.entry(row.time_ns).or_default().push(number);
                }
                stream.range.start = stream.range.start.min(row.time_ns);
                stream.range.end = stream.range.end.max(row.time_ns);
                stream.rows.push(Row {
                    time_ns: row.time_ns,
                    ordinal,
                    chunk: chunk as u32,
                    start: start as u32,
                    len: text.len() as u32,
                    metadata,
                });
            }
        }
    }

    fn stream_mut(&mut self, hash: SeriesHash, labels: &Labels) -> &mut HeadStream {
        let number = *self.by_hash.entry(hash).or_insert_with(|| {
            self.streams.push(HeadStream {
                hash,
                labels: labels.clone(),
                rows: Vec::new(),
                range: TimeRange::new(i64::MAX, i64::MIN),
                by_time: None,
            });
            self.streams.len() as u32 - 1
        });
        &mut self.streams[number as usize]
    }

    fn number(&mut self, metadata: &Labels) -> u32 {
        if let Some(number) = self.metadata_numbers.get(metadata) {
            return *number;
        }
        self.metadata.push(metadata.clone());
        let number = self.metadata.len() as u32;
        self.metadata_numbers.insert(metadata.clone(), number);
        number
    }
}

impl HeadStream {
    /// Its rows at a time, in order of arrival.
    pub(crate) fn rows_at(&self, time_ns: i64) -> impl Iterator<Item = &Row> {
        let rows = &self.rows;
        let (in_order, by_index) = match &self.by_time {
            None => {
                let start = rows.partition_point(|r| r.time_ns < time_ns);
                let end = rows.partition_point(|r| r.time_ns <= time_ns);
                (&rows[start..end], &[][..])
            }
            Some(by_time) => (
                &[][..],
                by_time.get(&time_ns).map_or(&[][..], Vec::as_slice),
            ),
        };
        let by_index = by_index.iter().filter_map(|at| rows.get(*at as usize));
        in_order.iter().chain(by_index)
    }

    /// Times of its oldest and newest row.
    pub(crate) fn range(&self) -> TimeRange {
        self.range
    }
}
