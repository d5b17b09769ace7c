//! Chunks of floats: differences of differences of times, values by exclusive or.
//!
//! Source of the format: Prometheus' `tsdb/docs/format/chunks.md`.

use kittiwake_model::Columns;

use super::bits::{BitReader, BitWriter};

/// Encodes at most 65,535 samples.
pub(super) fn encode(times: &[i64], values: &[f64]) -> Vec<u8> {
    let mut writer = BitWriter::default();
    writer.bits(times.len() as u64, 16);
    let mut xor = Xor::default();
    let (mut before, mut delta) = (0_i64, 0_i64);
    for (at, (time, value)) in times.iter().zip(values).enumerate() {
        let now = time.wrapping_sub(before);
        match at {
            0 => {
                writer.varint(*time);
                writer.bits(xor.start(value.to_bits()), 64);
            }
            1 => {
                writer.uvarint(now as u64);
                xor.write(&mut writer, value.to_bits());
            }
            _ => {
                write_change(&mut writer, now.wrapping_sub(delta));
                xor.write(&mut writer, value.to_bits());
            }
        }
        (before, delta) = (*time, now);
    }
    writer.into_bytes()
}

/// Appends the samples of a chunk; `None` when it is damaged.
pub(super) fn decode(bytes: &[u8], into: &mut Columns) -> Option<()> {
    let mut reader = BitReader::new(bytes);
    let count = reader.bits(16)?;
    let mut xor = Xor::default();
    let (mut time, mut delta) = (0_i64, 0_i64);
    for at in 0..count {
        let bits = match at {
            0 => {
                time = reader.varint()?;
                xor.start(reader.bits(64)?)
            }
            1 => {
                delta = reader.uvarint()? as i64;
                time = time.wrapping_add(delta);
                xor.read(&mut reader)?
            }
            _ => {
                delta = delta.wrapping_add(read_change(&mut reader)?);
                time = time.wrapping_add(delta);
                xor.read(&mut reader)?
            }
        };
        into.push(time, f64::from_bits(bits));
    }
    Some(())
}

/// Bits of a change by its prefix: one more 1 for each wider one.
const WIDTHS: [u32; 3] = [14, 17, 20];

fn write_change(writer: &mut BitWriter, change: i64) {
    if change == 0 {
        return writer.bit(false);
    }
    for (at, width) in WIDTHS.into_iter().enumerate() {
        let half = 1_i64 << (width - 1);
        if (-half < change) && change <= half {
            writer.bits(((1 << (at + 1)) - 1) << 1, at as u32 + 2);
            return writer.bits(change as u64, width);
        }
    }
    writer.bits(0b1111, 4);
    writer.bits(change as u64, 64);
}

fn read_change(reader: &mut BitReader<'_>) -> Option<i64> {
    let mut ones = 0;
    while ones < 4 && reader.bit()? {
        ones += 1;
    }
    match ones {
        0 => Some(0),
        4 => reader.signed(64),
        ones => reader.signed(WIDTHS[ones - 1]),
    }
}

/// The value before, and the bits in which the last difference had something.
#[derive(Debug, Clone, Default)]
pub(super) struct Xor {
    before: u64,
    leading: u32,
    /// 0: none yet.
    meaning: u32,
}

impl Xor {
    /// Takes the first value as it is.
    pub(super) fn start(&mut self, bits: u64) -> u64 {
        self.before = bits;
        bits
    }

    /// The value before.
    pub(super) fn bits(&self) -> u64 {
        self.before
    }

    pub(super) fn write(&mut self, writer: &mut BitWriter, bits: u64) {
        let change = bits ^ self.before;
        self.before = bits;
        if change == 0 {
            return writer.bit(false);
        }
        writer.bit(true);
        let leading = change.leading_zeros().min(31);
        let trailing = change.trailing_zeros();
        if self.meaning > 0 {
            let after = 64 - self.leading - self.meaning;
            if leading >= self.leading && trailing >= after {
                writer.bit(false);
                return writer.bits(change >> after, self.meaning);
            }
        }
        (self.leading, self.meaning) = (leading, 64 - leading - trailing);
        writer.bit(true);
        writer.bits(u64::from(leading), 5);
        // 64 does not fit, and stands there as 0.
        writer.bits(u64::from(self.meaning), 6);
        writer.bits(change >> trailing, self.meaning);
    }

    pub(super) fn read(&mut self, reader: &mut BitReader<'_>) -> Option<u64> {
        if !reader.bit()? {
            return Some(self.before);
        }
        if reader.bit()? {
            self.leading = reader.bits(5)? as u32;
            self.meaning = match reader.bits(6)? as u32 {
                0 => 64,
                meaning => meaning,
            };
        }
        let after = 64_u32.checked_sub(self.leading + self.meaning)?;
        if self.meaning == 0 {
            return None;
        }
        self.before ^= reader.bits(self.meaning)? << after;
        Some(self.before)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_come_back(samples in proptest::collection::vec(
            (prop_oneof![Just(15_000_i64), 0_i64..60_000, any::<i32>().prop_map(i64::from), any::<i64>()],
             prop_oneof![any::<u64>(), any::<u32>().prop_map(|v| f64::from(v).to_bits())]), 0..120)) {
            let mut want = Columns::default();
            let mut time = 1_700_000_000_000_i64;
            for (step, bits) in samples {
                time = time.wrapping_add(step);
                want.push(time, f64::from_bits(bits));
            }
            let bytes = encode(&want.times, &want.values);
            let mut got = Columns::default();
            decode(&bytes, &mut got).unwrap();
            prop_assert_eq!(&got.times, &want.times);
            let bits = |c: &Columns| c.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&got), bits(&want));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes, &mut Columns::default());
        }
    }
}
