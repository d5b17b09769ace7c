//! Prometheus' block index, version 2.
//!
//! Source of the format: Prometheus' `tsdb/docs/format/index.md`. All integers of fixed size
//! are big-endian; a varint is as Go's.

use std::collections::BTreeMap;

use kittiwake_journal::bytes::{Malformed, Reader, put_bytes, put_uvarint, put_varint};
use kittiwake_model::Labels;

use super::PrometheusError;

const MAGIC: u32 = 0xBAAA_D700;
const VERSION: u8 = 2;
const TOC_BYTES: usize = 6 * 8 + 4;
/// Series begin at multiples of this; a reference counts in it.
const ALIGN: usize = 16;

/// Where a chunk lies, and the times of its first and last sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkMeta {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    /// Number of the file in the upper half, offset in the lower.
    pub(super) place: u64,
}

/// A series with its chunks in order of time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// By which tombstones name it.
    pub(super) reference: u64,
    pub(super) labels: Labels,
    pub(super) chunks: Vec<ChunkMeta>,
}

/// Reads all series of an index.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Series>, PrometheusError> {
    let damaged = |what: &'static str| PrometheusError::Damaged("index", what);
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(damaged("its magic"))?;
    if u32::from_be_bytes(*magic) != MAGIC {
        return Err(damaged("its magic"));
    }
    match rest.first() {
        Some(&VERSION) => {}
        version => {
            return Err(PrometheusError::Version(
                "index",
                version.copied().unwrap_or(0),
            ));
        }
    }
    let at = bytes.len().checked_sub(TOC_BYTES);
    let toc = checked(bytes, at.ok_or(damaged("its table"))?, TOC_BYTES - 4)?;
    let place = |i: usize| {
        let mut one = [0; 8];
        one.copy_from_slice(&toc[i * 8..i * 8 + 8]);
        usize::try_from(u64::from_be_bytes(one)).unwrap_or(usize::MAX)
    };
    let symbols = symbols(section(bytes, place(0))?)?;
    // Series end where the next section begins, whichever that is.
    let mut at = place(1);
    let end = (2..6)
        .map(place)
        .filter(|p| *p > at)
        .min()
        .unwrap_or(0)
        .min(bytes.len());
    // The first series too begins at a multiple, whatever the table says.
    at = at.saturating_add(ALIGN - 1) / ALIGN * ALIGN;
    let mut found = Vec::new();
    while at < end {
        let mut reader = Reader::new(&bytes[at..end]);
        let len = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
        if len == 0 {
            break;
        }
        let start = at + reader.position();
        let reference = (at / ALIGN) as u64;
        found.push(series(checked(bytes, start, len)?, &symbols, reference)?);
        at = (start + len + 4).next_multiple_of(ALIGN);
    }
    Ok(found)
}

fn series(bytes: &[u8], symbols: &[&str], reference: u64) -> Result<Series, PrometheusError> {
    let mut reader = Reader::new(bytes);
    let text = |reader: &mut Reader<'_>| {
        let at = reader.position();
        let number = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
        symbols.get(number).copied().ok_or(Malformed {
            at,
            wanted: "the number of a symbol",
        })
    };
    let mut pairs = Vec::new();
    for _ in 0..reader.count(2)? {
        pairs.push((text(&mut reader)?, text(&mut reader)?));
    }
    let labels = Labels::from_pairs(pairs)?;
    let mut chunks: Vec<ChunkMeta> = Vec::new();
    for _ in 0..reader.count(3)? {
        let before = chunks.last().copied();
        let start_ms = match before {
            None => reader.varint()?,
            Some(before) => before.end_ms.wrapping_add(reader.uvarint()? as i64),
        };
        let end_ms = start_ms.wrapping_add(reader.uvarint()? as i64);
        let place = match before {
            None => reader.uvarint()?,
            Some(before) => before.place.wrapping_add(reader.varint()? as u64),
        };
        chunks.push(ChunkMeta {
            start_ms,
            end_ms,
            place,
        });
    }
    Ok(Series {
        reference,
        labels,
        chunks,
    })
}

fn symbols(bytes: &[u8]) -> Result<Vec<&str>, PrometheusError> {
    let mut reader = Reader::new(bytes);
    let count = reader.u32()?.swap_bytes();
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(reader.text()?);
    }
    Ok(found)
}

/// A section with its length in front and its checksum behind.
fn section(bytes: &[u8], at: usize) -> Result<&[u8], PrometheusError> {
    let damaged = PrometheusError::Damaged("index", "a section outside the file");
    let rest = bytes.get(at..).and_then(|b| b.split_first_chunk::<4>());
    let Some((len, _)) = rest else {
        return Err(damaged);
    };
    checked(bytes, at + 4, u32::from_be_bytes(*len) as usize)
}

/// Bytes with their checksum behind.
pub(super) fn checked(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], PrometheusError> {
    let rest = bytes.get(at..).and_then(|b| b.split_at_checked(len));
    let found = rest.and_then(|(body, rest)| Some((body, rest.split_first_chunk::<4>()?.0)));
    match found {
        Some((body, crc)) if crc32c::crc32c(body) == u32::from_be_bytes(*crc) => Ok(body),
        Some(_) => Err(PrometheusError::Damaged("block", "a checksum")),
        None => Err(PrometheusError::Damaged("block", "cut short")),
    }
}

/// Encodes an index of series in order of their labels.
pub(super) fn encode(all: &[Series]) -> Vec<u8> {
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    let mut postings: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
    for Series { labels, .. } in all {
        for (name, value) in labels {
            numbers.insert(name, 0);
            numbers.insert(value, 0);
            postings.insert((name, value), Vec::new());
        }
    }
    let mut out = MAGIC.to_be_bytes().to_vec();
    out.push(VERSION);
    let symbols_at = out.len();
    let mut body = (numbers.len() as u32).to_be_bytes().to_vec();
    for (number, (text, place)) in numbers.iter_mut().enumerate() {
        *place = number as u64;
        put_bytes(&mut body, text.as_bytes());
    }
    put_section(&mut out, &body);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    let series_at = out.len();
    postings.insert(("", ""), Vec::new());
    for Series { labels, chunks, .. } in all {
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        let reference = (out.len() / ALIGN) as u32;
        for pair in labels.iter().chain([("", "")]) {
            if let Some(posting) = postings.get_mut(&pair) {
                posting.push(reference);
            }
        }
        body.clear();
        put_uvarint(&mut body, labels.len() as u64);
        for (name, value) in labels {
            put_uvarint(&mut body, numbers[name]);
            put_uvarint(&mut body, numbers[value]);
        }
        put_uvarint(&mut body, chunks.len() as u64);
        let mut before: Option<&ChunkMeta> = None;
        for chunk in chunks {
            match before {
                None => put_varint(&mut body, chunk.start_ms),
                Some(b) => put_uvarint(&mut body, (chunk.start_ms - b.end_ms) as u64),
            }
            put_uvarint(&mut body, (chunk.end_ms - chunk.start_ms) as u64);
            match before {
                None => put_uvarint(&mut body, chunk.place),
                Some(b) => put_varint(&mut body, chunk.place.wrapping_sub(b.place) as i64),
            }
            before = Some(chunk);
        }
        put_uvarint(&mut out, body.len() as u64);
        out.extend_from_slice(&body);
        out.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    }
    let postings_at = out.len().next_multiple_of(4);
    out.resize(postings_at, 0);
    let mut table = (postings.len() as u32).to_be_bytes().to_vec();
    for ((name, value), members) in &postings {
        table.push(2);
        put_bytes(&mut table, name.as_bytes());
        put_bytes(&mut table, value.as_bytes());
        put_uvarint(&mut table, out.len() as u64);
        body.clear();
        body.extend_from_slice(&(members.len() as u32).to_be_bytes());
        for member in members {
            body.extend_from_slice(&member.to_be_bytes());
        }
        put_section(&mut out, &body);
    }
    let table_at = out.len();
    put_section(&mut out, &table);
    // Indices of labels and their table are not read any more.
    let places = [
        symbols_at,
        series_at,
        postings_at,
        table_at,
        postings_at,
        table_at,
    ];
    let toc = places.map(|place| (place as u64).to_be_bytes()).concat();
    out.extend_from_slice(&toc);
    out.extend_from_slice(&crc32c::crc32c(&toc).to_be_bytes());
    out
}

fn put_section(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn series_come_back(
            sets in proptest::collection::btree_set(
                proptest::collection::btree_map("[ab]{1,2}", "[xyé]{1,3}", 1..4), 0..12),
            chunks in proptest::collection::vec((-9_i64..9, 0_i64..99, 0_u64..99), 0..4),
            at: prop::sample::Index,
        ) {
            let mut end = -50;
            let chunks: Vec<ChunkMeta> = chunks.into_iter().map(|(_, len, place)| {
                let start_ms = end + 1;
                end = start_ms + len;
                ChunkMeta { start_ms, end_ms: end, place }
            }).collect();
            let mut all: Vec<Series> = sets
                .iter()
                .map(|set| Series {
                    reference: 0,
                    labels: Labels::from_pairs(set).unwrap(),
                    chunks: chunks.clone(),
                })
                .collect();
            all.sort_by(|a, b| a.labels.cmp(&b.labels));
            let mut bytes = encode(&all);
            let mut found = read(&bytes).unwrap();
            prop_assert!(found.is_sorted_by(|a, b| a.reference < b.reference));
            for series in &mut found {
                series.reference = 0;
            }
            prop_assert_eq!(found, all);
            let at = at.index(bytes.len());
            bytes[at] ^= 1;
            let _ = read(&bytes);
            let _ = read(&bytes[..at]);
        }
    }
}
