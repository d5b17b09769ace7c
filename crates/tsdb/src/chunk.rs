//! Sealed chunks of the head: a few dozen samples of one series, encoded at once, so that
//! memory follows series and not samples.
//!
//! ```text
//! flags u8: 1 start times, 2 histograms | times (codec) | class u8 |
//! integers: varints of differences, doubles: 8 bytes each | start times (codec) |
//! histograms: count, then index and histogram
//! ```
//! Chunks live and die in memory; nothing on disk has this form.

use std::sync::Arc;

use kittiwake_journal::bytes::{Reader, put_uvarint, put_varint};
use kittiwake_model::Columns;

use crate::codec::{self, CodecError, NumberClass};
use crate::histogram;

/// Samples after which an open chunk is sealed.
pub(crate) const SAMPLES: usize = 64;

const STARTS: u8 = 1;
const HISTOGRAMS: u8 = 2;

/// Where a chunk lies in its [`Arena`]; 0 is nowhere.
pub(crate) type Place = u32;

const PAGE_BYTES: usize = 1 << 20;
/// Chunks begin at multiples of this, so that a place fits 32 bits.
const ALIGN: usize = 8;
const HEAD_BYTES: usize = 8;

/// The chunks of a generation. They are written one after the other and freed together.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    pages: Vec<Vec<u8>>,
}

impl Arena {
    /// Adds a chunk that comes after the one at `before`.
    pub(crate) fn push(&mut self, before: Place, bytes: &[u8]) -> Place {
        let needed = HEAD_BYTES + bytes.len();
        // A chunk of huge histograms gets a page of its own, and no other follows it there.
        let fits = |page: &Vec<u8>| page.len() + needed <= PAGE_BYTES;
        if !self.pages.last().is_some_and(fits) {
            let mut page = Vec::with_capacity(PAGE_BYTES.max(needed + ALIGN));
            if self.pages.is_empty() {
                page.resize(ALIGN, 0);
            }
            self.pages.push(page);
        }
        let last = self.pages.len() - 1;
        let page = &mut self.pages[last];
        let place = (last * PAGE_BYTES + page.len()) / ALIGN;
        page.extend_from_slice(&before.to_le_bytes());
        page.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        page.extend_from_slice(bytes);
        page.resize(page.len().next_multiple_of(ALIGN), 0);
        place as Place
    }

    /// The chunk at a place, and where the one before it is.
    pub(crate) fn get(&self, place: Place) -> Option<(Place, &[u8])> {
        let at = place as usize * ALIGN;
        let page = self.pages.get(at / PAGE_BYTES)?.get(at % PAGE_BYTES..)?;
        let (before, rest) = page.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let bytes = rest.get(..u32::from_le_bytes(*len) as usize)?;
        Some((u32::from_le_bytes(*before), bytes))
    }

    /// Bytes taken from the system.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.iter().map(Vec::capacity).sum()
    }
}

/// Encodes samples; `integers` is scratch.
pub(crate) fn encode(columns: &Columns, integers: &mut Vec<i64>, out: &mut Vec<u8>) {
    out.clear();
    let has_starts = !columns.starts.is_empty();
    let has_histograms = !columns.histograms.is_empty();
    out.push((u8::from(has_starts) * STARTS) | (u8::from(has_histograms) * HISTOGRAMS));
    codec::encode_times(&columns.times, out);
    let class = codec::integers(&columns.values, integers);
    out.push(class.to_byte());
    if class == NumberClass::Double {
        for value in &columns.values {
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    }
    let mut before = 0;
    for integer in integers {
        put_varint(out, *integer - before);
        before = *integer;
    }
    if has_starts {
        codec::encode_starts(&columns.starts, out);
    }
    if has_histograms {
        put_uvarint(out, columns.histograms.len() as u64);
        for (at, histogram) in &columns.histograms {
            put_uvarint(out, u64::from(*at));
            histogram::encode(histogram, out);
        }
    }
}

/// The time of a chunk's first sample.
pub(crate) fn first_ms(bytes: &[u8]) -> Option<i64> {
    let mut reader = Reader::new(bytes.get(1..)?);
    reader.uvarint().ok()?;
    reader.varint().ok()
}

/// Replaces `into` by the samples of a chunk.
pub(crate) fn decode(bytes: &[u8], into: &mut Columns) -> Result<(), CodecError> {
    into.clear();
    let mut reader = Reader::new(bytes);
    let flags = reader.u8()?;
    codec::decode_times(&mut reader, &mut into.times)?;
    let len = into.times.len();
    match NumberClass::from_byte(reader.u8()?) {
        Some(NumberClass::Decimal(places)) => {
            let mut integer = 0_i64;
            for _ in 0..len {
                integer = integer.wrapping_add(reader.varint()?);
                into.values.push(codec::unscaled(integer, places));
            }
        }
        _ => {
            for _ in 0..len {
                into.values.push(f64::from_bits(reader.u64()?));
            }
        }
    }
    if flags & STARTS != 0 {
        codec::decode_starts(&mut reader, len, &mut into.starts)?;
    }
    if flags & HISTOGRAMS != 0 {
        for _ in 0..reader.count(2)? {
            let at = reader.uvarint()? as u32;
            let histogram = histogram::decode(&mut reader)?;
            into.histograms.push((at, Arc::new(histogram)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_arena_gives_back_what_it_took() {
        let mut arena = Arena::default();
        let mut before = 0;
        let sizes = [0, 1, 7, 300_000, 900_000, 3 << 20, 5, 800_000];
        for size in sizes {
            before = arena.push(before, &vec![size as u8; size]);
        }
        for size in sizes.into_iter().rev() {
            let (next, bytes) = arena.get(before).unwrap();
            assert_eq!(
                (bytes.len(), bytes.last()),
                (size, (size > 0).then_some(&(size as u8)))
            );
            before = next;
        }
        assert_eq!(before, 0);
    }

    proptest! {
        #[test]
        fn samples_come_back(
            samples in proptest::collection::vec((any::<i32>(), any::<u64>(), 0_i64..3, any::<bool>()), 1..80),
            histogram in crate::histogram::tests::histograms(),
            kind in 0..4,
        ) {
            let mut columns = Columns::default();
            for (time, bits, start, is_histogram) in samples {
                match kind {
                    0 => columns.push(i64::from(time), f64::from_bits(bits)),
                    1 => columns.push(i64::from(time), f64::from(bits as u32) / 100.0),
                    _ if is_histogram => columns.push_histogram(i64::from(time), Arc::new(histogram.clone())),
                    _ => columns.push(i64::from(time), 1.0),
                }
                if kind > 1 {
                    columns.set_start(start);
                }
            }
            let (mut out, mut back) = (Vec::new(), Columns::default());
            encode(&columns, &mut Vec::new(), &mut out);
            decode(&out, &mut back).unwrap();
            prop_assert_eq!(first_ms(&out), Some(columns.times[0]));
            let shown = |c: &Columns| {
                let bits: Vec<u64> = c.values.iter().map(|v| v.to_bits()).collect();
                format!("{:?} {bits:?} {:?} {:?}", c.times, c.starts, c.histograms)
            };
            prop_assert_eq!(shown(&back), shown(&columns));
        }
    }
}
