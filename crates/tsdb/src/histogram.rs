//! Native histograms to bytes and back, bit for bit: one by one for the log and the head, and
//! as pages for blocks.

use std::sync::Arc;

use kittiwake_journal::bytes::{Malformed, Reader, put_bytes, put_uvarint, put_varint};
use kittiwake_model::Histogram;
use kittiwake_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, ResetHint, Span};

use crate::codec::{self, CodecError};

const FLOAT: u8 = 1;
const HINT_SHIFT: u8 = 1;
/// Buckets of one histogram at most, both signs together.
pub const BUCKETS_MAX: usize = 1 << 16;

/// What neighbouring histograms of a series mostly have in common.
#[derive(Debug, Clone, PartialEq)]
struct Layout {
    is_float: bool,
    schema: i32,
    zero_threshold: u64,
    positive_spans: Vec<Span>,
    negative_spans: Vec<Span>,
    custom_bounds: Vec<u64>,
    positive: usize,
    negative: usize,
}

impl Layout {
    fn of(histogram: &Histogram) -> Self {
        let (is_float, positive, negative) = match &histogram.counts {
            Counts::Integer {
                positive, negative, ..
            } => (false, positive.len(), negative.len()),
            Counts::Float {
                positive, negative, ..
            } => (true, positive.len(), negative.len()),
        };
        Self {
            is_float,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold.to_bits(),
            positive_spans: histogram.positive_spans.clone(),
            negative_spans: histogram.negative_spans.clone(),
            custom_bounds: bits(&histogram.custom_bounds),
            positive,
            negative,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_float));
        put_varint(out, i64::from(self.schema));
        out.extend_from_slice(&self.zero_threshold.to_le_bytes());
        for spans in [&self.positive_spans, &self.negative_spans] {
            put_uvarint(out, spans.len() as u64);
            for span in spans {
                put_varint(out, i64::from(span.offset));
                put_uvarint(out, u64::from(span.length));
            }
        }
        put_uvarint(out, self.custom_bounds.len() as u64);
        for bound in &self.custom_bounds {
            out.extend_from_slice(&bound.to_le_bytes());
        }
        put_uvarint(out, self.positive as u64);
        put_uvarint(out, self.negative as u64);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let is_float = reader.u8()? & FLOAT != 0;
        let schema = narrow(reader)?;
        let zero_threshold = reader.u64()?;
        let positive_spans = read_spans(reader)?;
        let negative_spans = read_spans(reader)?;
        let custom_bounds = (0..reader.count(8)?)
            .map(|_| reader.u64())
            .collect::<Result<_, _>>()?;
        let at = reader.position();
        let (positive, negative) = (reader.uvarint()?, reader.uvarint()?);
        if positive.saturating_add(negative) > BUCKETS_MAX as u64 {
            return Err(Malformed {
                at,
                wanted: "a histogram of fewer buckets",
            });
        }
        Ok(Self {
            is_float,
            schema,
            zero_threshold,
            positive_spans,
            negative_spans,
            custom_bounds,
            positive: positive as usize,
            negative: negative as usize,
        })
    }

    /// Numbers of one histogram: all, those in the zero bucket, each bucket.
    fn numbers(&self) -> usize {
        2 + self.positive + self.negative
    }

    fn histogram(&self, sum: f64, reset_hint: ResetHint, counts: Counts) -> Histogram {
        Histogram {
            schema: self.schema,
            zero_threshold: f64::from_bits(self.zero_threshold),
            sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            custom_bounds: self
                .custom_bounds
                .iter()
                .map(|b| f64::from_bits(*b))
                .collect(),
            counts,
            reset_hint,
        }
    }

    fn of_integers(&self, numbers: &[u64]) -> Counts {
        let (positive, negative) = numbers[2..].split_at(self.positive);
        Counts::Integer {
            count: numbers[0],
            zero: numbers[1],
            positive: positive.to_vec(),
            negative: negative.to_vec(),
        }
    }

    fn of_floats(&self, numbers: &[f64]) -> Counts {
        let (positive, negative) = numbers[2..].split_at(self.positive);
        Counts::Float {
            count: numbers[0],
            zero: numbers[1],
            positive: positive.to_vec(),
            negative: negative.to_vec(),
        }
    }
}

/// Appends one histogram.
pub fn encode(histogram: &Histogram, out: &mut Vec<u8>) {
    out.push(hint_byte(histogram.reset_hint) << HINT_SHIFT);
    out.extend_from_slice(&histogram.sum.to_bits().to_le_bytes());
    Layout::of(histogram).put(out);
    match &histogram.counts {
        Counts::Integer {
            count,
            zero,
            positive,
            negative,
        } => {
            put_uvarint(out, *count);
            put_uvarint(out, *zero);
            for number in positive.iter().chain(negative) {
                put_uvarint(out, *number);
            }
        }
        Counts::Float {
            count,
            zero,
            positive,
            negative,
        } => {
            for number in [count, zero].into_iter().chain(positive).chain(negative) {
                out.extend_from_slice(&number.to_bits().to_le_bytes());
            }
        }
    }
}

/// Reads one histogram.
pub fn decode(reader: &mut Reader<'_>) -> Result<Histogram, Malformed> {
    let hint = read_hint(reader)?;
    let sum = f64::from_bits(reader.u64()?);
    let layout = Layout::read(reader)?;
    let counts = if layout.is_float {
        let numbers = (0..layout.numbers())
            .map(|_| Ok(f64::from_bits(reader.u64()?)))
            .collect::<Result<Vec<_>, Malformed>>()?;
        layout.of_floats(&numbers)
    } else {
        let numbers = (0..layout.numbers())
            .map(|_| reader.uvarint())
            .collect::<Result<Vec<_>, _>>()?;
        layout.of_integers(&numbers)
    };
    Ok(layout.histogram(sum, hint, counts))
}

/// Bits that two histograms share when they are the same, for telling repeats.
pub(crate) fn fingerprint(histogram: &Histogram) -> u64 {
    let mut bytes = Vec::new();
    encode(histogram, &mut bytes);
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

/// Whether a page must end between two histograms: their buckets cannot be compared, or the
/// counting began anew.
pub(crate) fn is_cut(before: &Histogram, after: &Histogram) -> bool {
    before.schema != after.schema
        || before.counts.is_float() != after.counts.is_float()
        || before.zero_threshold.to_bits() != after.zero_threshold.to_bits()
        || (before.schema == CUSTOM_BUCKETS_SCHEMA
            && bits(&before.custom_bounds) != bits(&after.custom_bounds))
        || after.reset_hint == ResetHint::Yes
        || (after.reset_hint != ResetHint::Gauge && after.counts.total() < before.counts.total())
}

/// Numbers that a page of these histograms holds; bounds what decoding it allocates.
pub(crate) fn page_numbers(histogram: &Histogram) -> usize {
    Layout::of(histogram).numbers()
}

/// Encodes a page.
///
/// ```text
/// layouts: count, then each | runs: count, then length, layout, reset hint u8 | sums
/// integers: of each histogram with integer counts, its numbers less those of the one before
///           that has the same layout | floats: the numbers of the others
/// ```
/// Sums, integers and floats are pco's: table with length, page with length.
pub(crate) fn encode_page(histograms: &[Arc<Histogram>]) -> Result<Vec<u8>, CodecError> {
    let mut layouts: Vec<Layout> = Vec::new();
    let mut runs: Vec<(u64, usize, u8)> = Vec::new();
    let (mut sums, mut integers, mut floats) = (Vec::new(), Vec::new(), Vec::<f64>::new());
    let mut before: Vec<Vec<u64>> = Vec::new();
    for histogram in histograms {
        let layout = Layout::of(histogram);
        let at = layouts
            .iter()
            .rposition(|l| *l == layout)
            .unwrap_or_else(|| {
                before.push(vec![0; layout.numbers()]);
                layouts.push(layout);
                layouts.len() - 1
            });
        let hint = hint_byte(histogram.reset_hint);
        match runs.last_mut() {
            Some((len, layout, run_hint)) if (*layout, *run_hint) == (at, hint) => *len += 1,
            _ => runs.push((1, at, hint)),
        }
        sums.push(histogram.sum);
        match &histogram.counts {
            Counts::Integer {
                count,
                zero,
                positive,
                negative,
            } => {
                let numbers = [count, zero].into_iter().chain(positive).chain(negative);
                for (number, before) in numbers.zip(&mut before[at]) {
                    integers.push(number.wrapping_sub(*before) as i64);
                    *before = *number;
                }
            }
            Counts::Float {
                count,
                zero,
                positive,
                negative,
            } => floats.extend([count, zero].into_iter().chain(positive).chain(negative)),
        }
    }
    let mut out = Vec::new();
    put_uvarint(&mut out, layouts.len() as u64);
    for layout in &layouts {
        layout.put(&mut out);
    }
    put_uvarint(&mut out, runs.len() as u64);
    for (len, layout, hint) in runs {
        put_uvarint(&mut out, len);
        put_uvarint(&mut out, layout as u64);
        out.push(hint);
    }
    put_numbers(&mut out, &sums)?;
    put_numbers(&mut out, &integers)?;
    put_numbers(&mut out, &floats)?;
    Ok(out)
}

/// Reads a page of `len` histograms.
pub(crate) fn decode_page(bytes: &[u8], len: usize) -> Result<Vec<Arc<Histogram>>, CodecError> {
    let mut reader = Reader::new(bytes);
    let reader = &mut reader;
    let layouts: Vec<Layout> = (0..reader.count(15)?)
        .map(|_| Layout::read(reader))
        .collect::<Result<_, _>>()?;
    let mut order: Vec<(usize, ResetHint)> = Vec::new();
    let (mut integers, mut floats) = (0, 0);
    for _ in 0..reader.count(3)? {
        let at = reader.position();
        let run = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
        let number = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
        let hint = hint_of(reader.u8()?).ok_or(Malformed {
            at,
            wanted: "a reset hint",
        })?;
        let layout = layouts.get(number).ok_or(Malformed {
            at,
            wanted: "the number of a layout",
        })?;
        if run > len - order.len() {
            return Err(CodecError::NoPage { page: 0, len });
        }
        let numbers = run * layout.numbers();
        if layout.is_float {
            floats += numbers;
        } else {
            integers += numbers;
        }
        order.extend(std::iter::repeat_n((number, hint), run));
    }
    if order.len() != len {
        return Err(CodecError::NoPage { page: 0, len });
    }
    if integers + floats > codec::GROUP_SAMPLES_MAX {
        return Err(CodecError::TooMany(integers + floats));
    }
    let sums = read_numbers::<f64>(reader, len)?;
    let integers = read_numbers::<i64>(reader, integers)?;
    let floats = read_numbers::<f64>(reader, floats)?;
    let (mut integers, mut floats) = (&integers[..], &floats[..]);
    let mut before: Vec<Vec<u64>> = layouts.iter().map(|l| vec![0; l.numbers()]).collect();
    let mut found = Vec::with_capacity(len);
    for ((number, hint), sum) in order.into_iter().zip(sums) {
        let layout = &layouts[number];
        let counts = if layout.is_float {
            let (now, rest) = floats.split_at(layout.numbers());
            floats = rest;
            layout.of_floats(now)
        } else {
            let (now, rest) = integers.split_at(layout.numbers());
            integers = rest;
            for (before, difference) in before[number].iter_mut().zip(now) {
                *before = before.wrapping_add(*difference as u64);
            }
            layout.of_integers(&before[number])
        };
        found.push(Arc::new(layout.histogram(sum, hint, counts)));
    }
    Ok(found)
}

fn put_numbers<T: pco::data_types::Number>(
    out: &mut Vec<u8>,
    numbers: &[T],
) -> Result<(), CodecError> {
    if numbers.is_empty() {
        return Ok(());
    }
    let group = codec::encode_numbers(numbers, vec![numbers.len()])?;
    put_bytes(out, &group.header);
    put_bytes(out, &group.pages[0]);
    Ok(())
}

fn read_numbers<T: pco::data_types::Number + Default>(
    reader: &mut Reader<'_>,
    len: usize,
) -> Result<Vec<T>, CodecError> {
    if len == 0 {
        return Ok(Vec::new());
    }
    let (header, page) = (reader.bytes()?, reader.bytes()?);
    codec::decode_numbers(header, page, len)
}

fn bits(numbers: &[f64]) -> Vec<u64> {
    numbers.iter().map(|n| n.to_bits()).collect()
}

fn hint_byte(hint: ResetHint) -> u8 {
    match hint {
        ResetHint::Unknown => 0,
        ResetHint::Yes => 1,
        ResetHint::No => 2,
        ResetHint::Gauge => 3,
    }
}

fn hint_of(byte: u8) -> Option<ResetHint> {
    match byte {
        0 => Some(ResetHint::Unknown),
        1 => Some(ResetHint::Yes),
        2 => Some(ResetHint::No),
        3 => Some(ResetHint::Gauge),
        _ => None,
    }
}

fn read_hint(reader: &mut Reader<'_>) -> Result<ResetHint, Malformed> {
    let at = reader.position();
    hint_of(reader.u8()? >> HINT_SHIFT).ok_or(Malformed {
        at,
        wanted: "a reset hint",
    })
}

fn read_spans(reader: &mut Reader<'_>) -> Result<Vec<Span>, Malformed> {
    (0..reader.count(2)?)
        .map(|_| {
            let offset = narrow(reader)?;
            let at = reader.position();
            let length = u32::try_from(reader.uvarint()?).map_err(|_| Malformed {
                at,
                wanted: "the length of a span",
            })?;
            Ok(Span { offset, length })
        })
        .collect()
}

fn narrow(reader: &mut Reader<'_>) -> Result<i32, Malformed> {
    let at = reader.position();
    i32::try_from(reader.varint()?).map_err(|_| Malformed {
        at,
        wanted: "a number of 32 bits",
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn float() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            any::<u16>().prop_map(f64::from)
        ]
    }

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        let span = (-9_i32..9, 0_u32..4).prop_map(|(offset, length)| Span { offset, length });
        proptest::collection::vec(span, 0..3)
    }

    pub(crate) fn histograms() -> impl Strategy<Value = Histogram> {
        let integers = (
            any::<u64>(),
            0_u64..9,
            proptest::collection::vec(0_u64..999, 0..4),
        );
        let integers = integers.prop_map(|(count, zero, positive)| Counts::Integer {
            count,
            zero,
            positive,
            negative: vec![7],
        });
        let floats = (float(), float(), proptest::collection::vec(float(), 0..4));
        let floats = floats.prop_map(|(count, zero, negative)| Counts::Float {
            count,
            zero,
            positive: Vec::new(),
            negative,
        });
        let bounds = proptest::collection::vec(float(), 0..3);
        let layout = (-53_i32..9, float(), spans(), spans(), bounds);
        (layout, float(), prop_oneof![integers, floats], 0_u8..4).prop_map(
            |(
                (schema, zero_threshold, positive_spans, negative_spans, custom_bounds),
                sum,
                counts,
                hint,
            )| {
                Histogram {
                    schema,
                    zero_threshold,
                    sum,
                    positive_spans,
                    negative_spans,
                    custom_bounds,
                    counts,
                    reset_hint: hint_of(hint).unwrap(),
                }
            },
        )
    }

    /// NaN is not equal to itself, so what is compared is the bytes.
    fn bytes(histogram: &Histogram) -> Vec<u8> {
        let mut out = Vec::new();
        encode(histogram, &mut out);
        out
    }

    proptest! {
        #[test]
        fn one_comes_back(histogram in histograms()) {
            let out = bytes(&histogram);
            let mut reader = Reader::new(&out);
            let back = decode(&mut reader).unwrap();
            prop_assert!(reader.is_at_end());
            prop_assert_eq!(bytes(&back), out);
        }

        #[test]
        fn a_page_comes_back(all in proptest::collection::vec((histograms(), 1_usize..4), 1..6)) {
            let all: Vec<Arc<Histogram>> = all
                .into_iter()
                .flat_map(|(h, times)| std::iter::repeat_n(Arc::new(h), times))
                .collect();
            let page = encode_page(&all).unwrap();
            let back = decode_page(&page, all.len()).unwrap();
            let want: Vec<_> = all.iter().map(|h| bytes(h)).collect();
            prop_assert_eq!(back.iter().map(|h| bytes(h)).collect::<Vec<_>>(), want);
            prop_assert!(decode_page(&page, all.len() + 1).is_err());
        }

        #[test]
        fn random_bytes_never_panic(random in proptest::collection::vec(any::<u8>(), 0..80), len in 0_usize..20) {
            let _ = decode(&mut Reader::new(&random));
            let _ = decode_page(&random, len);
        }
    }
}
