//! What is known of a page without decoding it.

use kittiwake_journal::bytes::{Malformed, Reader, put_uvarint, put_varint};

use crate::codec;

/// Figures of a page of finite floats. Pages with NaN, infinities or histograms have none and
/// are always decoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The first value.
    pub first: f64,
    /// The last value.
    pub last: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// How often a value was smaller than the one before.
    pub resets: u64,
    /// The sum of all, as Neumaier's variant of Kahan's summation has it ...
    pub sum: f64,
    /// ... and what is to be added to it for the rounding.
    pub compensation: f64,
}

impl Summary {
    /// The figures of some values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let first = *values.first()?;
        let mut summary = Self {
            first,
            last: first,
            min: first,
            max: first,
            resets: 0,
            sum: 0.0,
            compensation: 0.0,
        };
        for value in values.iter().copied() {
            summary.min = summary.min.min(value);
            summary.max = summary.max.max(value);
            summary.resets += u64::from(value < summary.last);
            summary.last = value;
            let sum = summary.sum + value;
            summary.compensation += if summary.sum.abs() >= value.abs() {
                (summary.sum - sum) + value
            } else {
                (value - sum) + summary.sum
            };
            summary.sum = sum;
        }
        // A value that is not finite makes the sum so, and a sum that overflowed tells nothing.
        (summary.sum + summary.compensation)
            .is_finite()
            .then_some(summary)
    }

    /// The figures of integers of a class, which add up exactly where they are not large.
    pub(crate) fn of_integers(integers: &[i64], values: &[f64]) -> Option<Self> {
        let largest = integers.iter().map(|i| i.unsigned_abs()).max()?;
        let is_exact = largest.saturating_mul(integers.len() as u64) < 1 << 53;
        if !is_exact {
            return Self::of(values);
        }
        let resets = integers.windows(2).filter(|w| w[1] < w[0]).count() as u64;
        let value = |i: Option<&i64>| i.map(|i| *i as f64);
        Some(Self {
            first: value(integers.first())?,
            last: value(integers.last())?,
            min: value(integers.iter().min())?,
            max: value(integers.iter().max())?,
            resets,
            sum: integers.iter().sum::<i64>() as f64,
            compensation: 0.0,
        })
    }
}

const NONE: u8 = 0;
const DOUBLES: u8 = 1;
/// And the decimal places of all values but the sum.
const INTEGERS: u8 = 16;

/// Appends a summary, `places` as its page has them.
///
/// ```text
/// 0, or 1 and first, last, min, max, or 16 + decimal places and first, last - first,
/// first - min, max - first as varints; resets uvarint, sum, compensation
/// ```
pub(crate) fn put(out: &mut Vec<u8>, summary: Option<&Summary>, places: Option<u8>) {
    let Some(summary) = summary else {
        out.push(NONE);
        return;
    };
    let four = [summary.first, summary.last, summary.min, summary.max];
    let mut integers = Vec::new();
    let class = codec::integers(&four, &mut integers);
    if let (Some(_), codec::NumberClass::Decimal(places)) = (places, class) {
        out.push(INTEGERS + places);
        let first = integers[0];
        let (last, min, max) = (integers[1], integers[2], integers[3]);
        for number in [first, last - first, first - min, max - first] {
            put_varint(out, number);
        }
    } else {
        out.push(DOUBLES);
        for value in four {
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    }
    put_uvarint(out, summary.resets);
    for value in [summary.sum, summary.compensation] {
        // Sums of integers end in zero bytes, and the compensation is mostly nothing.
        put_uvarint(out, value.to_bits().swap_bytes());
    }
}

/// Reads what [`put`] wrote.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Option<Summary>, Malformed> {
    let at = reader.position();
    let [first, last, min, max] = match reader.u8()? {
        NONE => return Ok(None),
        DOUBLES => {
            let mut four = [0.0; 4];
            for value in &mut four {
                *value = f64::from_bits(reader.u64()?);
            }
            four
        }
        places if (INTEGERS..INTEGERS + 16).contains(&places) => {
            let first = reader.varint()?;
            let last = first.wrapping_add(reader.varint()?);
            let min = first.wrapping_sub(reader.varint()?);
            let max = first.wrapping_add(reader.varint()?);
            [first, last, min, max].map(|i| codec::unscaled(i, places - INTEGERS))
        }
        _ => {
            return Err(Malformed {
                at,
                wanted: "a kind of summary",
            });
        }
    };
    Ok(Some(Summary {
        first,
        last,
        min,
        max,
        resets: reader.uvarint()?,
        sum: f64::from_bits(reader.uvarint()?.swap_bytes()),
        compensation: f64::from_bits(reader.uvarint()?.swap_bytes()),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_said_of_what_is_not_finite() {
        for odd in [
            f64::NAN,
            f64::INFINITY,
            kittiwake_model::stale_nan(),
            f64::MAX,
        ] {
            assert_eq!(Summary::of(&[1.0, odd, f64::MAX]), None);
        }
        let small = Summary::of(&[1.0, 1e100, 1.0, -1e100]).unwrap();
        assert_eq!(small.sum + small.compensation, 2.0);
        assert_eq!(small.resets, 2);
    }

    proptest! {
        #[test]
        fn summaries_come_back(values in proptest::collection::vec(any::<i32>(), 1..20), doubles: bool) {
            let scale = if doubles { 0.377 } else { 1.0 };
            let values: Vec<f64> = values.into_iter().map(|v| f64::from(v) * scale).collect();
            let mut integers = Vec::new();
            let summary = match codec::integers(&values, &mut integers) {
                codec::NumberClass::Decimal(0) => Summary::of_integers(&integers, &values),
                _ => Summary::of(&values),
            };
            let whole = Summary::of(&values).unwrap();
            prop_assert_eq!(summary, Some(whole));
            let mut out = Vec::new();
            put(&mut out, summary.as_ref(), (!doubles).then_some(0));
            put(&mut out, None, None);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(read(&mut reader).unwrap(), Some(whole));
            prop_assert_eq!(read(&mut reader).unwrap(), None);
        }
    }
}
