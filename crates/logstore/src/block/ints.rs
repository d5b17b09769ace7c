//! Columns of integers.
//!
//! What costs least by an estimate is taken: bits of one width above the minimum, or the bytes
//! of the differences to it, first all lowest ones, then all second ones and so on, for zstd;
//! either of the values or of each value's difference to the one before it.

use std::sync::LazyLock;

use kittiwake_journal::bytes::{Reader, put_uvarint};

use super::chunks::{Chunks, PAD_BYTES, Place, Writer};
use super::{BlockError, Source};

const CONSTANT: u8 = 0;
const BITS: u8 = 1;
const BYTES: u8 = 2;
/// Added for differences.
const DELTA: u8 = 2;
/// Widest value that is read from eight bytes at any bit of the first.
const WIDTH_MAX: u32 = 57;
/// Columns of fewer numbers are not looked at closely.
const ESTIMATED_MIN: usize = 64;

/// `n * log2(n)`.
static N_LOG_N: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let log = |n: usize| n as f32 * (n.max(1) as f32).log2();
    (0..=super::ROWS_MAX).map(log).collect()
});

/// Memory for encoding, used again.
#[derive(Default)]
pub(super) struct Scratch {
    deltas: Vec<u64>,
    bytes: Vec<u8>,
}

/// Writes a column: its description to `out`, its content to the chunks.
pub(super) fn put(
    values: &[u64],
    out: &mut Vec<u8>,
    chunks: &mut Writer,
    scratch: &mut Scratch,
) -> Result<(), BlockError> {
    let (min, max) = min_max(values);
    if min == max {
        out.push(CONSTANT);
        put_uvarint(out, min);
        return Ok(());
    }
    let deltas = &mut scratch.deltas;
    if max - min < 1 << 62 && values.len() >= ESTIMATED_MIN {
        deltas.clear();
        deltas.extend(values.windows(2).map(|w| zigzag(w[0], w[1])));
        let (dmin, dmax) = min_max(deltas);
        if width(dmax - dmin) < width(max - min) {
            put_plain(
                deltas,
                dmin,
                dmax,
                DELTA,
                values[0],
                out,
                chunks,
                &mut scratch.bytes,
            )?;
            return Ok(());
        }
    }
    put_plain(values, min, max, 0, 0, out, chunks, &mut scratch.bytes)
}

fn zigzag(before: u64, value: u64) -> u64 {
    let delta = value.wrapping_sub(before) as i64;
    ((delta << 1) ^ (delta >> 63)) as u64
}

#[allow(clippy::too_many_arguments)]
fn put_plain(
    values: &[u64],
    min: u64,
    max: u64,
    kind: u8,
    first: u64,
    out: &mut Vec<u8>,
    chunks: &mut Writer,
    bytes: &mut Vec<u8>,
) -> Result<(), BlockError> {
    let width = width(max - min);
    let planes = width.div_ceil(8);
    bytes.clear();
    let as_bytes = width > WIDTH_MAX || are_bytes_less(values, min, width);
    out.push(kind + if as_bytes { BYTES } else { BITS });
    if kind == DELTA {
        put_uvarint(out, first);
    }
    put_uvarint(out, min);
    if as_bytes {
        out.push(planes as u8);
        for plane in 0..planes {
            bytes.extend(values.iter().map(|v| ((v - min) >> (plane * 8)) as u8));
        }
    } else {
        out.push(width as u8);
        pack(values, min, width, bytes);
    }
    chunks.add(bytes, as_bytes)?.put(out);
    Ok(())
}

fn min_max(values: &[u64]) -> (u64, u64) {
    let mut range = (u64::MAX, 0);
    for value in values {
        range = (range.0.min(*value), range.1.max(*value));
    }
    if values.is_empty() { (0, 0) } else { range }
}

fn width(range: u64) -> u32 {
    64 - range.leading_zeros()
}

/// Whether bytes are worth zstd's time: by their entropy, plane by plane.
fn are_bytes_less(values: &[u64], min: u64, width: u32) -> bool {
    if values.len() < ESTIMATED_MIN || values.len() > super::ROWS_MAX {
        return false;
    }
    let mut bits = 64.0;
    for plane in 0..width.div_ceil(8) {
        let mut counts = [0_u32; 256];
        for value in values {
            counts[((value - min) >> (plane * 8)) as usize & 0xff] += 1;
        }
        let sum: f32 = counts.iter().map(|c| N_LOG_N[*c as usize]).sum();
        bits += N_LOG_N[values.len()] - sum;
    }
    bits < 0.94 * (values.len() as f32) * width as f32
}

fn pack(values: &[u64], min: u64, width: u32, out: &mut Vec<u8>) {
    out.reserve(values.len() * width as usize / 8 + 16);
    let (mut word, mut filled) = (0_u64, 0);
    for value in values {
        let value = value - min;
        word |= value << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&word.to_le_bytes());
            filled -= 64;
            word = if filled == 0 {
                0
            } else {
                value >> (width - filled)
            };
        }
    }
    out.extend_from_slice(&word.to_le_bytes()[..filled.div_ceil(8) as usize]);
}

/// The description of a column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ints {
    kind: u8,
    first: u64,
    min: u64,
    /// Bits or bytes of a value.
    width: u32,
    place: Place,
}

impl Ints {
    pub(super) fn get(reader: &mut Reader<'_>) -> Result<Self, BlockError> {
        let mut ints = Self {
            kind: reader.u8()?,
            first: 0,
            min: 0,
            width: 0,
            place: Place::default(),
        };
        if ints.kind > DELTA + BYTES {
            return Err(BlockError::Damaged("unknown kind of integers"));
        }
        if ints.kind > DELTA {
            ints.first = reader.uvarint()?;
        }
        ints.min = reader.uvarint()?;
        if ints.kind != CONSTANT {
            ints.width = u32::from(reader.u8()?);
            ints.place = Place::get(reader)?;
        }
        Ok(ints)
    }

    /// A column of one value.
    pub(super) fn all(value: u64) -> Self {
        Self {
            kind: CONSTANT,
            first: 0,
            min: value,
            width: 0,
            place: Place::default(),
        }
    }

    /// The value that all have.
    pub(super) fn constant(&self) -> Option<u64> {
        (self.kind == CONSTANT).then_some(self.min)
    }

    /// Replaces `into` by the column's `len` values.
    pub(super) fn read<S: Source>(
        &self,
        len: usize,
        chunks: &mut Chunks<S>,
        into: &mut Vec<u64>,
    ) -> Result<(), S::Error> {
        into.clear();
        if self.kind == CONSTANT {
            into.resize(len, self.min);
            return Ok(());
        }
        let is_delta = self.kind > DELTA;
        let stored = len - usize::from(is_delta && len > 0);
        let bytes = chunks.get(self.place)?;
        let content = bytes.len() - PAD_BYTES;
        let as_bytes = self.kind - u8::from(is_delta) * DELTA == BYTES;
        let fits = if as_bytes {
            self.width <= 8 && content == stored * self.width as usize
        } else {
            self.width <= WIDTH_MAX && content == (stored * self.width as usize).div_ceil(8)
        };
        if !fits {
            return Err(BlockError::Damaged("integers of another length").into());
        }
        into.reserve(len);
        if is_delta && len > 0 {
            into.push(self.first);
        }
        if as_bytes {
            planes(&bytes[..content], stored, self.min, into);
        } else {
            unpack(bytes, stored, self.width, self.min, into);
        }
        if is_delta {
            let mut value = self.first;
            for delta in into.iter_mut().skip(1) {
                value = value.wrapping_add((*delta >> 1) ^ (*delta & 1).wrapping_neg());
                *delta = value;
            }
        }
        Ok(())
    }
}

fn planes(bytes: &[u8], len: usize, min: u64, into: &mut Vec<u64>) {
    let start = into.len();
    into.resize(start + len, min);
    for (plane, bytes) in bytes.chunks_exact(len.max(1)).enumerate() {
        for (value, byte) in into[start..].iter_mut().zip(bytes) {
            *value = value.wrapping_add(u64::from(*byte) << (plane * 8));
        }
    }
}

fn unpack(bytes: &[u8], len: usize, width: u32, min: u64, into: &mut Vec<u64>) {
    let mask = (1_u64 << width) - 1;
    let width = width as usize;
    into.extend((0..len).map(|i| {
        let bit = i * width;
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[bit / 8..bit / 8 + 8]);
        min.wrapping_add((u64::from_le_bytes(word) >> (bit % 8)) & mask)
    }));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[u64]) -> (Vec<u64>, usize) {
        let (mut out, mut chunks) = (Vec::new(), Writer::default());
        put(values, &mut out, &mut chunks, &mut Scratch::default()).unwrap();
        let mut table = Vec::new();
        chunks.finish(&mut table).unwrap();
        let ints = Ints::get(&mut Reader::new(&out)).unwrap();
        let bytes = chunks.bytes.as_slice();
        let mut chunks = Chunks::open(bytes, 0, &mut Reader::new(&table)).unwrap();
        let mut back = Vec::new();
        ints.read(values.len(), &mut chunks, &mut back).unwrap();
        (back, out.len() + bytes.len())
    }

    proptest! {
        #[test]
        fn every_value_comes_back(
            values in proptest::collection::vec(any::<u64>(), 0..200),
            shift in 0_u32..64,
            is_sorted: bool,
        ) {
            let mut values: Vec<u64> = values.iter().map(|v| v >> shift).collect();
            if is_sorted {
                values.sort_unstable();
            }
            prop_assert_eq!(round_trip(&values).0, values);
        }
    }

    #[test]
    fn sorted_and_skewed_values_cost_little() {
        let sorted: Vec<u64> = (0..8192).map(|i| 1_700_000_000 + i / 3).collect();
        let (back, bytes) = round_trip(&sorted);
        assert_eq!(back, sorted);
        assert!(bytes < 1024, "{bytes}");
        let skewed: Vec<u64> = (0..8192)
            .map(|i| if i % 50 == 0 { 500 } else { 200 })
            .collect();
        let (back, bytes) = round_trip(&skewed);
        assert_eq!(back, skewed);
        assert!(bytes < 1024, "{bytes}");
    }
}
