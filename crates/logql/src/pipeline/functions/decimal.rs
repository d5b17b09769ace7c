//! Sums and products of numbers as they are written: 0.1 and 0.2 make 0.3.
//!
//! What does not fit 128 bits is computed in floating point.

/// Decimal places of a quotient.
const QUOTIENT_PLACES: u32 = 16;

/// `units / 10^places`
#[derive(Debug, Clone, Copy)]
struct Decimal {
    units: i128,
    places: u32,
}

impl Decimal {
    /// The shortest decimal that is this number.
    fn of(number: f64) -> Option<Self> {
        if !number.is_finite() {
            return None;
        }
        let text = number.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        Some(Self {
            units: format!("{whole}{fraction}").parse().ok()?,
            places: u32::try_from(fraction.len()).ok()?,
        })
    }

    fn at(self, places: u32) -> Option<i128> {
        let scale = 10_i128.checked_pow(places.checked_sub(self.places)?)?;
        self.units.checked_mul(scale)
    }

    fn number(self) -> Option<f64> {
        format!("{}e-{}", self.units, self.places).parse().ok()
    }
}

fn both(a: f64, b: f64, of: impl Fn(Decimal, Decimal) -> Option<Decimal>) -> Option<f64> {
    of(Decimal::of(a)?, Decimal::of(b)?)?.number()
}

pub(super) fn add(a: f64, b: f64) -> f64 {
    let sum = |a: Decimal, b: Decimal| {
        let places = a.places.max(b.places);
        let units = a.at(places)?.checked_add(b.at(places)?)?;
        Some(Decimal { units, places })
    };
    both(a, b, sum).unwrap_or(a + b)
}

pub(super) fn subtract(a: f64, b: f64) -> f64 {
    add(a, -b)
}

pub(super) fn multiply(a: f64, b: f64) -> f64 {
    let product = |a: Decimal, b: Decimal| {
        let units = a.units.checked_mul(b.units)?;
        Some(Decimal {
            units,
            places: a.places + b.places,
        })
    };
    both(a, b, product).unwrap_or(a * b)
}

/// Rounded, half away from zero.
pub(super) fn divide(a: f64, b: f64) -> f64 {
    let quotient = |a: Decimal, b: Decimal| {
        // One place more than wanted tells how to round.
        let scaled = a.at((b.places + QUOTIENT_PLACES + 1).max(a.places))?;
        let places = (b.places + QUOTIENT_PLACES + 1).max(a.places) - b.places;
        let finer = scaled.checked_div(b.units)?;
        let cut = 10_i128.checked_pow(places - QUOTIENT_PLACES)?;
        let half = cut / 2 * finer.signum();
        Some(Decimal {
            units: finer.checked_add(half)? / cut,
            places: QUOTIENT_PLACES,
        })
    };
    both(a, b, quotient).unwrap_or(a / b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_computed_with_as_they_are_written() {
        assert_eq!(add(0.1, 0.2), 0.3);
        assert_eq!(subtract(1.0, 0.9), 0.1);
        assert_eq!(multiply(2.5, 4.217), 10.5425);
        assert_eq!(divide(1.0, 3_000_000.0), 3.333_333_333e-7);
        assert_eq!(divide(-2.0, 3.0), -0.666_666_666_666_666_7);
        assert_eq!(add(1e300, 1.0), 1e300);
        assert!(add(f64::NAN, 1.0).is_nan());
    }
}
