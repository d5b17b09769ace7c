//! What a pattern asks of numbers, without writing them out.

use super::column::DIGITS_MAX;
use super::pattern::Pattern;

/// A test of numbers that have no point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Never,
    Is(u64),
    /// The last digits are these, of a number that has so many.
    Ends {
        modulus: u64,
        rest: u64,
        min: u64,
    },
    /// The first digits are these, of a number of so many or more digits.
    Starts {
        number: u64,
        digits: u32,
        /// Digits of all numbers, or 0 when there are no leading zeros.
        width: u32,
    },
}

impl Test {
    /// The test for a pattern of digits; nothing when the digits are wanted anywhere.
    /// `width` is that of all numbers, or 0 when they have no leading zeros.
    pub(super) fn of(pattern: Pattern<'_>, width: usize) -> Option<Self> {
        let text = pattern.text;
        let len = text.len();
        let longest = if width > 0 { width } else { DIGITS_MAX };
        if len == 0 || len > longest || !text.iter().all(u8::is_ascii_digit) {
            return Some(Self::Never);
        }
        let number = text.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0'));
        let has_zero = width == 0 && text[0] == b'0';
        Some(match (pattern.at_start, pattern.at_end) {
            (false, false) => return None,
            (true, true) if width > 0 && len < width => Self::Never,
            (true, _) if has_zero && len > 1 => Self::Never,
            (true, _) if has_zero => Self::Is(0),
            (true, true) => Self::Is(number),
            (true, false) => Self::Starts {
                number,
                digits: len as u32,
                width: width as u32,
            },
            (false, true) => Self::Ends {
                modulus: 10_u64.pow(len as u32),
                rest: number,
                min: if width > 0 || len == 1 {
                    0
                } else {
                    10_u64.pow(len as u32 - 1)
                },
            },
        })
    }

    pub(super) fn accepts(self, value: u64) -> bool {
        match self {
            Self::Never => false,
            Self::Is(number) => value == number,
            Self::Ends { modulus, rest, min } => value >= min && value % modulus == rest,
            Self::Starts {
                number,
                digits,
                width,
            } => {
                let len = width.max(value.checked_ilog10().unwrap_or(0) + 1);
                len >= digits && value / 10_u64.pow(len - digits) == number
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_what_the_text_says(
            value in 0..2_000_u64,
            text in "[0-2]{1,4}",
            width in prop_oneof![Just(0_usize), Just(4)],
            at_start: bool,
            at_end: bool,
        ) {
            let pattern = Pattern { text: text.as_bytes(), at_start, at_end, is_folded: false };
            let mut written = if width == 0 { value.to_string() } else { format!("{value:04}") }.into_bytes();
            if let Some(test) = Test::of(pattern, width) {
                prop_assert_eq!(test.accepts(value), pattern.accepts(&mut written));
            } else {
                prop_assert!(!at_start && !at_end);
            }
        }
    }
}
