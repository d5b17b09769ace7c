//! Chunks as Prometheus stores them: floats by the differences of differences of their times
//! and the exclusive or of their values, histograms each alone. Sources: Prometheus'
//! `tsdb/docs/format/chunks.md`, and the paper on Gorilla.

use kittiwake_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, Span};
use kittiwake_model::{Columns, TimestampMs};

use crate::proto::{put_varint, zigzag};

/// Samples of a chunk.
const SAMPLES_MAX: usize = 120;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkKind {
    /// Floats.
    Xor,
    /// Histograms with integer counts.
    Histogram,
    /// Histograms with float counts.
    FloatHistogram,
}

impl ChunkKind {
    /// The kind's number on the wire.
    pub fn number(self) -> u64 {
        match self {
            Self::Xor => 1,
            Self::Histogram => 2,
            Self::FloatHistogram => 3,
        }
    }
}

/// Some samples of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// What it holds.
    pub kind: ChunkKind,
    /// Time of the first sample in ms.
    pub min_ms: TimestampMs,
    /// Time of the last sample in ms.
    pub max_ms: TimestampMs,
    /// The samples.
    pub data: Vec<u8>,
}

impl Chunk {
    /// The chunks of samples that are in order of time.
    pub fn of(samples: &Columns) -> Vec<Self> {
        let mut chunks = Vec::new();
        let mut histograms = samples.histograms.iter().peekable();
        let mut floats: Vec<(TimestampMs, f64)> = Vec::new();
        for (index, (time_ms, value)) in samples.times.iter().zip(&samples.values).enumerate() {
            let histogram = histograms.next_if(|(at, _)| *at as usize == index);
            if floats.len() == SAMPLES_MAX || (histogram.is_some() && !floats.is_empty()) {
                chunks.push(xor(&floats));
                floats.clear();
            }
            match histogram {
                Some((_, histogram)) => chunks.push(one_histogram(*time_ms, histogram)),
                None => floats.push((*time_ms, *value)),
            }
        }
        if !floats.is_empty() {
            chunks.push(xor(&floats));
        }
        chunks
    }
}

/// Bits, the most significant first.
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are still free.
    free: u32,
}

impl Bits {
    fn after(bytes: Vec<u8>) -> Self {
        Self { bytes, free: 0 }
    }

    fn put(&mut self, value: u64, count: u32) {
        for place in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            let bit = (value >> place & 1) as u8;
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << self.free;
            }
        }
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.put(u64::from(*byte), 8);
        }
    }

    /// A number of few bits, with a prefix that says how many.
    fn varbit(&mut self, value: u64, fits: impl Fn(u32) -> bool) {
        const SIZES: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];
        if value == 0 {
            return self.put(0, 1);
        }
        for (index, size) in SIZES.into_iter().enumerate() {
            if fits(size) {
                let ones = index as u32 + 1;
                self.put(((1 << ones) - 1) << 1, ones + 1);
                return self.put(value, size);
            }
        }
        self.put(0xff, 8);
        self.put(value, 64);
    }

    fn int(&mut self, value: i64) {
        self.varbit(value as u64, |bits| fits_signed(value, bits));
    }

    fn uint(&mut self, value: u64) {
        self.varbit(value, |bits| value < 1 << bits);
    }
}

/// Whether a difference fits so many bits, of which one more is above zero than below.
fn fits_signed(value: i64, bits: u32) -> bool {
    let half = 1_i64 << (bits - 1);
    (-half + 1..=half).contains(&value)
}

fn xor(samples: &[(TimestampMs, f64)]) -> Chunk {
    let mut bits = Bits::after((samples.len() as u16).to_be_bytes().to_vec());
    let (mut time, mut delta, mut value) = (0_i64, 0_i64, 0_u64);
    // Zeros in front of and behind the bits that differ.
    let mut window: Option<(u32, u32)> = None;
    for (index, (time_ms, number)) in samples.iter().enumerate() {
        let now = number.to_bits();
        let new_delta = time_ms.wrapping_sub(time);
        let mut varint = Vec::new();
        match index {
            0 => {
                put_varint(&mut varint, zigzag(*time_ms));
                bits.put_bytes(&varint);
                bits.put(now, 64);
            }
            1 => {
                put_varint(&mut varint, new_delta as u64);
                bits.put_bytes(&varint);
            }
            _ => put_second_difference(&mut bits, new_delta.wrapping_sub(delta)),
        }
        if index > 0 {
            put_xor(&mut bits, now ^ value, &mut window);
        }
        (time, value) = (*time_ms, now);
        delta = if index == 0 { 0 } else { new_delta };
    }
    Chunk {
        kind: ChunkKind::Xor,
        min_ms: samples.first().map_or(0, |s| s.0),
        max_ms: samples.last().map_or(0, |s| s.0),
        data: bits.bytes,
    }
}

fn put_second_difference(bits: &mut Bits, difference: i64) {
    let value = difference as u64;
    if difference == 0 {
        bits.put(0, 1);
    } else if fits_signed(difference, 14) {
        bits.put(0b10, 2);
        bits.put(value, 14);
    } else if fits_signed(difference, 17) {
        bits.put(0b110, 3);
        bits.put(value, 17);
    } else if fits_signed(difference, 20) {
        bits.put(0b1110, 4);
        bits.put(value, 20);
    } else {
        bits.put(0b1111, 4);
        bits.put(value, 64);
    }
}

fn put_xor(bits: &mut Bits, differing: u64, window: &mut Option<(u32, u32)>) {
    if differing == 0 {
        return bits.put(0, 1);
    }
    bits.put(1, 1);
    let (leading, trailing) = (
        differing.leading_zeros().min(31),
        differing.trailing_zeros(),
    );
    if let Some((known_leading, known_trailing)) = *window
        && leading >= known_leading
        && trailing >= known_trailing
    {
        bits.put(0, 1);
        let count = 64 - known_leading - known_trailing;
        return bits.put(differing >> known_trailing, count);
    }
    *window = Some((leading, trailing));
    bits.put(1, 1);
    bits.put(u64::from(leading), 5);
    let count = 64 - leading - trailing;
    // 64 does not fit and is written as 0, which cannot be.
    bits.put(u64::from(count & 63), 6);
    bits.put(differing >> trailing, count);
}

/// A chunk of one histogram, whose layout stands in front.
fn one_histogram(time_ms: TimestampMs, histogram: &Histogram) -> Chunk {
    let flags = match histogram.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::No => 0x40,
        ResetHint::Yes => 0x80,
        ResetHint::Gauge => 0xc0,
    };
    let mut bits = Bits::after(vec![0, 1, flags]);
    put_zero_threshold(&mut bits, histogram.zero_threshold);
    bits.int(i64::from(histogram.schema));
    put_spans(&mut bits, &histogram.positive_spans);
    put_spans(&mut bits, &histogram.negative_spans);
    if histogram.schema == CUSTOM_BUCKETS_SCHEMA {
        bits.uint(histogram.custom_bounds.len() as u64);
        for bound in &histogram.custom_bounds {
            put_bound(&mut bits, *bound);
        }
    }
    bits.int(time_ms);
    let kind = match &histogram.counts {
        Counts::Integer {
            count,
            zero,
            positive,
            negative,
        } => {
            bits.uint(*count);
            bits.uint(*zero);
            bits.put(histogram.sum.to_bits(), 64);
            for counts in [positive, negative] {
                let mut before = 0_u64;
                for count in counts {
                    bits.int(count.wrapping_sub(before) as i64);
                    before = *count;
                }
            }
            ChunkKind::Histogram
        }
        Counts::Float {
            count,
            zero,
            positive,
            negative,
        } => {
            for value in [count, zero, &histogram.sum] {
                bits.put(value.to_bits(), 64);
            }
            for value in positive.iter().chain(negative) {
                bits.put(value.to_bits(), 64);
            }
            ChunkKind::FloatHistogram
        }
    };
    Chunk {
        kind,
        min_ms: time_ms,
        max_ms: time_ms,
        data: bits.bytes,
    }
}

fn put_spans(bits: &mut Bits, spans: &[Span]) {
    bits.uint(spans.len() as u64);
    for span in spans {
        bits.uint(u64::from(span.length));
        bits.int(i64::from(span.offset));
    }
}

/// Powers of two from 2^-243 to 2^10 are one byte.
fn put_zero_threshold(bits: &mut Bits, threshold: f64) {
    if threshold == 0.0 {
        return bits.put(0, 8);
    }
    let raw = threshold.to_bits();
    let is_power = raw >> 63 == 0 && raw & ((1 << 52) - 1) == 0;
    let exponent = (raw >> 52 & 0x7ff) as i64 - 1022;
    if is_power && (-242..=11).contains(&exponent) {
        bits.put((exponent + 243) as u64, 8);
    } else {
        bits.put(255, 8);
        bits.put(raw, 64);
    }
}

/// Bounds of whole thousandths are few bits.
fn put_bound(bits: &mut Bits, bound: f64) {
    let thousandths = bound * 1000.0;
    let whole = thousandths.round();
    if (0.0..=33_554_430.0).contains(&thousandths) && whole / 1000.0 == bound {
        bits.uint(whole as u64 + 1);
    } else {
        bits.put(0, 1);
        bits.put(bound.to_bits(), 64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// Reads bits, to see that what is written can be read.
    struct Reader<'a>(&'a [u8], usize);

    impl Reader<'_> {
        fn get(&mut self, count: u32) -> u64 {
            (0..count).fold(0, |value, _| {
                let byte = self.0[self.1 / 8];
                let bit = byte >> (7 - self.1 % 8) & 1;
                self.1 += 1;
                value << 1 | u64::from(bit)
            })
        }

        fn varint(&mut self) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = self.get(8);
                value |= (byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        }

        fn ones(&mut self, max: u32) -> u32 {
            (0..max).take_while(|_| self.get(1) == 1).count() as u32
        }

        /// Numbers of which the largest half is above zero.
        fn signed(&mut self, bits: u32) -> i64 {
            let value = self.get(bits);
            if bits < 64 && value > 1 << (bits - 1) {
                value.wrapping_sub(1 << bits) as i64
            } else {
                value as i64
            }
        }

        fn varbit_size(&mut self) -> u32 {
            [0, 3, 6, 9, 12, 18, 25, 56, 64][self.ones(8) as usize]
        }

        fn int(&mut self) -> i64 {
            let size = self.varbit_size();
            if size == 0 { 0 } else { self.signed(size) }
        }

        fn uint(&mut self) -> u64 {
            let size = self.varbit_size();
            self.get(size)
        }
    }

    fn read_xor(data: &[u8]) -> Vec<(i64, u64)> {
        let mut reader = Reader(data, 0);
        let count = reader.get(16);
        let mut out = Vec::new();
        let (mut time, mut delta, mut value, mut window) = (0_i64, 0_i64, 0_u64, (0, 0));
        for index in 0..count {
            if index == 0 {
                time = crate::proto::unzigzag(reader.varint());
                value = reader.get(64);
                out.push((time, value));
                continue;
            }
            if index == 1 {
                delta = reader.varint() as i64;
            } else {
                let size = [0, 14, 17, 20, 64][reader.ones(4) as usize];
                let second = if size == 0 { 0 } else { reader.signed(size) };
                delta = delta.wrapping_add(second);
            }
            time = time.wrapping_add(delta);
            if reader.get(1) == 1 {
                if reader.get(1) == 1 {
                    let leading = reader.get(5) as u32;
                    let size = match reader.get(6) as u32 {
                        0 => 64,
                        size => size,
                    };
                    window = (leading, 64 - leading - size);
                }
                value ^= reader.get(64 - window.0 - window.1) << window.1;
            }
            out.push((time, value));
        }
        out
    }

    proptest! {
        #[test]
        fn floats_come_back(
            samples in proptest::collection::vec((any::<i64>(), prop_oneof![any::<u64>(), (0..50_u64).prop_map(|v| (v as f64).to_bits())]), 1..300),
            step in 1_i64..100_000,
            regular: bool,
        ) {
            let mut columns = Columns::default();
            for (index, (time, bits)) in samples.iter().enumerate() {
                let time = if regular { index as i64 * step + time % 3 } else { *time };
                columns.push(time, f64::from_bits(*bits));
            }
            let chunks = Chunk::of(&columns);
            prop_assert_eq!(chunks.len(), samples.len().div_ceil(SAMPLES_MAX));
            let read: Vec<_> = chunks.iter().flat_map(|c| read_xor(&c.data)).collect();
            let sent: Vec<_> = columns.times.iter().copied().zip(columns.values.iter().map(|v| v.to_bits())).collect();
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn numbers_of_few_bits_come_back(values in proptest::collection::vec((any::<i64>(), 0..64_u32), 1..30)) {
            let mut bits = Bits::default();
            for (value, shift) in &values {
                bits.int(value >> shift);
                bits.uint(*value as u64 >> shift);
            }
            let mut reader = Reader(&bits.bytes, 0);
            for (value, shift) in &values {
                prop_assert_eq!(reader.int(), value >> shift);
                prop_assert_eq!(reader.uint(), *value as u64 >> shift);
            }
        }
    }

    #[test]
    fn a_histogram_has_its_layout_in_front() {
        let histogram = Histogram {
            schema: 3,
            zero_threshold: 0.125,
            sum: 2.5,
            positive_spans: vec![Span {
                offset: -2,
                length: 2,
            }],
            negative_spans: Vec::new(),
            custom_bounds: Vec::new(),
            counts: Counts::Integer {
                count: 9,
                zero: 1,
                positive: vec![5, 3],
                negative: Vec::new(),
            },
            reset_hint: ResetHint::Gauge,
        };
        let mut columns = Columns::default();
        columns.push(1, 1.0);
        columns.push_histogram(1_000_000, Arc::new(histogram));
        columns.push(2_000_000, 2.0);
        let chunks = Chunk::of(&columns);
        let kinds: Vec<_> = chunks.iter().map(|c| c.kind).collect();
        assert_eq!(
            kinds,
            [ChunkKind::Xor, ChunkKind::Histogram, ChunkKind::Xor]
        );
        let mut reader = Reader(&chunks[1].data, 0);
        assert_eq!((reader.get(16), reader.get(8)), (1, 0xc0));
        // 0.125 is 0.5 times 2^-2.
        assert_eq!(reader.get(8), 241);
        assert_eq!(reader.int(), 3);
        assert_eq!((reader.uint(), reader.uint(), reader.int()), (1, 2, -2));
        assert_eq!(reader.uint(), 0);
        assert_eq!(reader.int(), 1_000_000);
        assert_eq!((reader.uint(), reader.uint()), (9, 1));
        assert_eq!(f64::from_bits(reader.get(64)), 2.5);
        assert_eq!((reader.int(), reader.int()), (5, -2));
    }
}
