//! Chunks of native histograms.
//!
//! Source of the format: Prometheus' `tsdb/docs/format/chunks.md`. Times and integer counts are
//! differences of differences in a varbit code, floats exclusive ors. Integer buckets are
//! themselves differences to the bucket before.

use std::sync::Arc;

use kittiwake_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, Span};
use kittiwake_model::{Columns, is_stale_nan};

use super::bits::{BitReader, BitWriter};
use super::xor::Xor;

/// Buckets that a chunk may have.
const BUCKETS_MAX: usize = crate::histogram::BUCKETS_MAX;
/// Bits of a number by its prefix: one more 1 for each wider one.
const WIDTHS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

fn put_int(writer: &mut BitWriter, value: i64) {
    if value == 0 {
        return writer.bit(false);
    }
    for (at, width) in WIDTHS.into_iter().enumerate() {
        let half = 1_i64 << (width - 1);
        if -half < value && value <= half {
            writer.bits(((1 << (at + 1)) - 1) << 1, at as u32 + 2);
            return writer.bits(value as u64, width);
        }
    }
    writer.bits(0xff, 8);
    writer.bits(value as u64, 64);
}

fn put_uint(writer: &mut BitWriter, value: u64) {
    if value == 0 {
        return writer.bit(false);
    }
    for (at, width) in WIDTHS.into_iter().enumerate() {
        if value < 1 << width {
            writer.bits(((1 << (at + 1)) - 1) << 1, at as u32 + 2);
            return writer.bits(value, width);
        }
    }
    writer.bits(0xff, 8);
    writer.bits(value, 64);
}

/// The width of the number that follows; 0 is the number 0.
fn width(reader: &mut BitReader<'_>) -> Option<u32> {
    let mut ones = 0;
    while ones < 8 && reader.bit()? {
        ones += 1;
    }
    Some(match ones {
        0 => 0,
        8 => 64,
        ones => WIDTHS[ones - 1],
    })
}

fn int(reader: &mut BitReader<'_>) -> Option<i64> {
    match width(reader)? {
        0 => Some(0),
        width => reader.signed(width),
    }
}

fn uint(reader: &mut BitReader<'_>) -> Option<u64> {
    let width = width(reader)?;
    reader.bits(width)
}

/// A number of which differences of differences are written.
#[derive(Debug, Clone, Copy, Default)]
struct Track {
    value: i64,
    delta: i64,
}

impl Track {
    /// Takes the first number, the first difference, or a change of the difference.
    fn step(&mut self, at: u64, read: i64) -> i64 {
        if at == 0 {
            self.value = read;
            return read;
        }
        self.delta = if at == 1 {
            read
        } else {
            self.delta.wrapping_add(read)
        };
        self.value = self.value.wrapping_add(self.delta);
        self.value
    }

    /// What [`Track::step`] takes to arrive at a value.
    fn next(&mut self, at: u64, value: i64) -> i64 {
        if at == 0 {
            self.value = value;
            return value;
        }
        let delta = value.wrapping_sub(self.value);
        let change = if at == 1 {
            delta
        } else {
            delta.wrapping_sub(self.delta)
        };
        (self.value, self.delta) = (value, delta);
        change
    }
}

#[derive(Debug)]
struct Layout {
    schema: i32,
    zero_threshold: f64,
    positive: Vec<Span>,
    negative: Vec<Span>,
    bounds: Vec<f64>,
}

impl Layout {
    fn read(reader: &mut BitReader<'_>) -> Option<Self> {
        let zero_threshold = match reader.bits(8)? {
            0 => 0.0,
            255 => f64::from_bits(reader.bits(64)?),
            exponent => 2_f64.powi(exponent as i32 - 244),
        };
        let schema = i32::try_from(int(reader)?).ok()?;
        let (positive, negative) = (read_spans(reader)?, read_spans(reader)?);
        let mut bounds = Vec::new();
        if schema == CUSTOM_BUCKETS_SCHEMA {
            for _ in 0..uint(reader)? {
                bounds.push(match uint(reader)? {
                    0 => f64::from_bits(reader.bits(64)?),
                    thousandths => (thousandths - 1) as f64 / 1000.0,
                });
            }
        }
        Some(Self {
            schema,
            zero_threshold,
            positive,
            negative,
            bounds,
        })
    }

    fn write(&self, writer: &mut BitWriter) {
        let exponent = (-243..=10).find(|e| 2_f64.powi(*e) == self.zero_threshold);
        match exponent {
            _ if self.zero_threshold == 0.0 => writer.bits(0, 8),
            Some(exponent) => writer.bits((exponent + 244) as u64, 8),
            None => {
                writer.bits(255, 8);
                writer.bits(self.zero_threshold.to_bits(), 64);
            }
        }
        put_int(writer, i64::from(self.schema));
        for spans in [&self.positive, &self.negative] {
            put_uint(writer, spans.len() as u64);
            for span in spans {
                put_uint(writer, u64::from(span.length));
                put_int(writer, i64::from(span.offset));
            }
        }
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            put_uint(writer, self.bounds.len() as u64);
            for bound in &self.bounds {
                let thousandths = bound * 1000.0;
                let is_short = (0.0..=33_554_430.0).contains(&thousandths)
                    && thousandths.fract() == 0.0
                    && thousandths / 1000.0 == *bound;
                if is_short {
                    put_uint(writer, thousandths as u64 + 1);
                } else {
                    writer.bit(false);
                    writer.bits(bound.to_bits(), 64);
                }
            }
        }
    }

    fn buckets(&self) -> Option<(usize, usize)> {
        let count = |spans: &[Span]| spans.iter().map(|s| s.length as usize).sum::<usize>();
        let (positive, negative) = (count(&self.positive), count(&self.negative));
        (positive + negative <= BUCKETS_MAX).then_some((positive, negative))
    }

    fn histogram(&self, sum: f64, counts: Counts, reset_hint: ResetHint) -> Histogram {
        Histogram {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum,
            positive_spans: self.positive.clone(),
            negative_spans: self.negative.clone(),
            custom_bounds: self.bounds.clone(),
            counts,
            reset_hint,
        }
    }
}

fn read_spans(reader: &mut BitReader<'_>) -> Option<Vec<Span>> {
    (0..uint(reader)?)
        .map(|_| {
            let length = u32::try_from(uint(reader)?).ok()?;
            let offset = i32::try_from(int(reader)?).ok()?;
            Some(Span { offset, length })
        })
        .collect()
}

/// Appends the histograms of a chunk; `None` when it is damaged.
pub(super) fn decode(bytes: &[u8], is_float: bool, into: &mut Columns) -> Option<()> {
    let mut reader = BitReader::new(bytes);
    let reader = &mut reader;
    let count = reader.bits(16)?;
    let flags = reader.bits(8)?;
    if count == 0 {
        return Some(());
    }
    let layout = Layout::read(reader)?;
    let (positive, negative) = layout.buckets()?;
    let mut time = Track::default();
    let (mut counts, mut zeros, mut sums) = (Number::default(), Number::default(), Xor::default());
    let mut buckets = vec![Number::default(); positive + negative];
    for at in 0..count {
        let change = if at == 1 {
            uint(reader)? as i64
        } else {
            int(reader)?
        };
        let time_ms = time.step(at, change);
        let count = counts.read(reader, at, is_float, false)?;
        let zero = zeros.read(reader, at, is_float, false)?;
        let sum = if at == 0 {
            sums.start(reader.bits(64)?)
        } else {
            sums.read(reader)?
        };
        let sum = f64::from_bits(sum);
        if !(is_stale_nan(sum) && at > 0) {
            for bucket in &mut buckets {
                bucket.read(reader, at, is_float, true)?;
            }
        }
        let hint = match (flags >> 6, at) {
            (3, _) => ResetHint::Gauge,
            (_, 1..) => ResetHint::No,
            (2, _) => ResetHint::Yes,
            _ => ResetHint::Unknown,
        };
        let counts = if is_float {
            let all: Vec<f64> = buckets
                .iter()
                .map(|b| f64::from_bits(b.xor.bits()))
                .collect();
            let (positive, negative) = all.split_at(positive);
            Counts::Float {
                count: f64::from_bits(count),
                zero: f64::from_bits(zero),
                positive: positive.to_vec(),
                negative: negative.to_vec(),
            }
        } else {
            let (positive, negative) = buckets.split_at(positive);
            Counts::Integer {
                count,
                zero,
                positive: absolute(positive),
                negative: absolute(negative),
            }
        };
        into.push_histogram(time_ms, Arc::new(layout.histogram(sum, counts, hint)));
    }
    Some(())
}

/// A count of either kind.
#[derive(Debug, Clone, Default)]
struct Number {
    track: Track,
    xor: Xor,
}

impl Number {
    fn read(
        &mut self,
        reader: &mut BitReader<'_>,
        at: u64,
        is_float: bool,
        is_bucket: bool,
    ) -> Option<u64> {
        if is_float {
            return match at {
                0 => Some(self.xor.start(reader.bits(64)?)),
                _ => self.xor.read(reader),
            };
        }
        let read = if at == 0 && !is_bucket {
            uint(reader)? as i64
        } else {
            int(reader)?
        };
        Some(self.track.step(at, read) as u64)
    }

    fn write(&mut self, writer: &mut BitWriter, at: u64, value: Value, is_bucket: bool) {
        match value {
            Value::Float(value) if at == 0 => {
                writer.bits(self.xor.start(value.to_bits()), 64);
            }
            Value::Float(value) => self.xor.write(writer, value.to_bits()),
            Value::Integer(value) => {
                let change = self.track.next(at, value);
                if at == 0 && !is_bucket {
                    put_uint(writer, change as u64);
                } else {
                    put_int(writer, change);
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Value {
    Integer(i64),
    Float(f64),
}

/// Buckets are written as differences to the one before.
fn absolute(buckets: &[Number]) -> Vec<u64> {
    let mut sum = 0_i64;
    let add = |b: &Number| {
        sum = sum.wrapping_add(b.track.value);
        sum as u64
    };
    buckets.iter().map(add).collect()
}

fn differences(buckets: &[u64]) -> impl Iterator<Item = Value> + '_ {
    let mut before = 0_i64;
    buckets.iter().map(move |bucket| {
        let difference = (*bucket as i64).wrapping_sub(before);
        before = *bucket as i64;
        Value::Integer(difference)
    })
}

/// Whether a chunk that has the first histogram can have the other too.
pub(super) fn fit_together(first: &Histogram, other: &Histogram) -> bool {
    first.positive_spans == other.positive_spans
        && first.negative_spans == other.negative_spans
        && !crate::histogram::is_cut(first, other)
        && first.counts.is_float() == other.counts.is_float()
        && (first.reset_hint == ResetHint::Gauge) == (other.reset_hint == ResetHint::Gauge)
}

/// Whether a chunk that begins with the first histogram comes back the same with this one: only
/// the first has a hint of its own.
pub(super) fn fits_first(first: &Histogram, other: &Histogram) -> bool {
    std::ptr::eq(first, other)
        || matches!(other.reset_hint, ResetHint::Unknown | ResetHint::No)
        || first.reset_hint == ResetHint::Gauge
}

/// Encodes histograms that fit together; gives whether they are floats.
pub(super) fn encode(all: &[(i64, &Histogram)]) -> (bool, Vec<u8>) {
    let mut writer = BitWriter::default();
    let Some((_, first)) = all.first() else {
        return (false, Vec::new());
    };
    let flags = match first.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::No => 1,
        ResetHint::Yes => 2,
        ResetHint::Gauge => 3,
    };
    writer.bits(all.len() as u64, 16);
    writer.bits(flags << 6, 8);
    let layout = Layout {
        schema: first.schema,
        zero_threshold: first.zero_threshold,
        positive: first.positive_spans.clone(),
        negative: first.negative_spans.clone(),
        bounds: first.custom_bounds.clone(),
    };
    layout.write(&mut writer);
    let mut time = Track::default();
    let (mut count, mut zero, mut sum) = (Number::default(), Number::default(), Number::default());
    let mut tracks: Vec<Number> = Vec::new();
    let mut is_float = false;
    for (at, (time_ms, histogram)) in (0_u64..).zip(all) {
        let change = time.next(at, *time_ms);
        if at == 1 {
            put_uint(&mut writer, change as u64);
        } else {
            put_int(&mut writer, change);
        }
        let (counts, zeros, buckets): (Value, Value, Vec<Value>) = match &histogram.counts {
            Counts::Integer {
                count,
                zero,
                positive,
                negative,
            } => (
                Value::Integer(*count as i64),
                Value::Integer(*zero as i64),
                differences(positive).chain(differences(negative)).collect(),
            ),
            Counts::Float {
                count,
                zero,
                positive,
                negative,
            } => {
                is_float = true;
                let buckets = positive.iter().chain(negative);
                let buckets = buckets.map(|b| Value::Float(*b)).collect();
                (Value::Float(*count), Value::Float(*zero), buckets)
            }
        };
        count.write(&mut writer, at, counts, false);
        zero.write(&mut writer, at, zeros, false);
        sum.write(&mut writer, at, Value::Float(histogram.sum), false);
        if is_stale_nan(histogram.sum) && at > 0 {
            continue;
        }
        tracks.resize_with(buckets.len(), Number::default);
        for (track, bucket) in tracks.iter_mut().zip(buckets) {
            track.write(&mut writer, at, bucket, true);
        }
    }
    (is_float, writer.into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(floats: bool, n: u64) -> Counts {
        if floats {
            return Counts::Float {
                count: n as f64 / 3.0,
                zero: 0.5,
                positive: vec![n as f64, 1.0],
                negative: vec![-0.0],
            };
        }
        Counts::Integer {
            count: n,
            zero: n % 3,
            positive: vec![n, n / 2],
            negative: vec![7],
        }
    }

    proptest! {
        #[test]
        fn chunks_come_back(
            steps in proptest::collection::vec((0_i64..90_000, 0_u64..1 << 40), 1..40),
            floats: bool,
            custom: bool,
            threshold in prop_oneof![Just(0.0), Just(2_f64.powi(-128)), Just(0.37), Just(1024.0)],
        ) {
            let (mut time, mut total) = (1_700_000_000_000_i64, 0);
            let mut want = Vec::new();
            for (at, (step, more)) in steps.into_iter().enumerate() {
                time += step;
                total += more;
                want.push((time, Histogram {
                    schema: if custom { CUSTOM_BUCKETS_SCHEMA } else { 3 },
                    zero_threshold: threshold,
                    sum: total as f64 * 0.3,
                    positive_spans: vec![Span { offset: -4, length: 1 }, Span { offset: 2, length: 1 }],
                    negative_spans: vec![Span { offset: 9, length: 1 }],
                    custom_bounds: if custom { vec![0.25, 1.0, 1.0 / 3.0] } else { Vec::new() },
                    counts: counts(floats, total),
                    reset_hint: if at == 0 { ResetHint::Yes } else { ResetHint::No },
                }));
            }
            let all: Vec<(i64, &Histogram)> = want.iter().map(|(t, h)| (*t, h)).collect();
            let (is_float, bytes) = encode(&all);
            prop_assert_eq!(is_float, floats);
            let mut got = Columns::default();
            decode(&bytes, floats, &mut got).unwrap();
            let got: Vec<(i64, Histogram)> = got
                .times
                .iter()
                .zip(&got.histograms)
                .map(|(t, (_, h))| (*t, (**h).clone()))
                .collect();
            prop_assert_eq!(got, want);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), floats: bool) {
            let _ = decode(&bytes, floats, &mut Columns::default());
        }
    }
}
