//! Bits in the order in which Prometheus' chunks have them: the highest of a byte first.

/// Writes bits.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are used; 0 when there is none or it is full.
    used: u32,
}

impl BitWriter {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn bit(&mut self, bit: bool) {
        self.bits(u64::from(bit), 1);
    }

    /// The lowest `count` bits of a value.
    pub(super) fn bits(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let room = 8 - self.used;
            let now = room.min(left);
            let part = (value >> (left - now)) & ((1 << now) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part << (room - now)) as u8;
            }
            self.used = (self.used + now) % 8;
            left -= now;
        }
    }

    /// A varint of whole bytes, at any bit.
    pub(super) fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bits(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.bits(value, 8);
    }

    pub(super) fn varint(&mut self, value: i64) {
        self.uvarint(((value << 1) ^ (value >> 63)) as u64);
    }
}

/// Reads bits; `None` past the end.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        Some(self.bits(1)? == 1)
    }

    pub(super) fn bits(&mut self, count: u32) -> Option<u64> {
        let (mut value, mut left) = (0_u64, count);
        while left > 0 {
            let byte = u64::from(*self.bytes.get(self.at / 8)?);
            let room = 8 - (self.at % 8) as u32;
            let now = room.min(left);
            value = value << now | (byte >> (room - now)) & ((1 << now) - 1);
            self.at += now as usize;
            left -= now;
        }
        Some(value)
    }

    pub(super) fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.bits(8)?;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn varint(&mut self) -> Option<i64> {
        let value = self.uvarint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A signed number of `count` bits, of which the smallest stands for the largest positive.
    pub(super) fn signed(&mut self, count: u32) -> Option<i64> {
        let value = self.bits(count)?;
        if count < 64 && value > 1 << (count - 1) {
            return Some(value.wrapping_sub(1 << count) as i64);
        }
        Some(value as i64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_come_back(all in proptest::collection::vec((any::<u64>(), 1_u32..=64), 0..30), signed: i64) {
            let mut writer = BitWriter::default();
            for (value, count) in &all {
                writer.bits(*value, *count);
                writer.varint(signed);
            }
            let bytes = writer.into_bytes();
            let mut reader = BitReader::new(&bytes);
            for (value, count) in &all {
                let mask = u64::MAX >> (64 - count);
                prop_assert_eq!(reader.bits(*count), Some(value & mask));
                prop_assert_eq!(reader.varint(), Some(signed));
            }
            prop_assert!(reader.bits(8).is_none());
        }
    }
}
