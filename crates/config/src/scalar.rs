//! Scalars that a file writes as text: durations, and sizes as Prometheus writes them (`10MB`,
//! `1GB512MB`, `0`), whose units are always powers of 1024.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Deserializer, de};

use crate::duration::parse_duration;

/// A duration as a field of a file.
#[derive(Debug, Clone, Copy)]
pub struct Interval(pub Duration);

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).map_err(de::Error::custom)
    }
}

/// A field that says nothing when it is empty, as Prometheus takes its lists of choices.
pub(crate) fn empty_is_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if !text.is_empty() => {
            let text: de::value::StringDeserializer<D::Error> = text.into_deserializer();
            T::deserialize(text).map(Some)
        }
        _ => Ok(None),
    }
}

/// A field that is the empty or zero value, not the default, when a key stands without a value.
pub(crate) fn null_is_zero<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

/// Texts by name, of which one without a value is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = BTreeMap::<String, Option<String>>::deserialize(deserializer)?;
        let texts = texts.into_iter();
        let texts = texts.map(|(name, text)| (name, text.unwrap_or_default()));
        Ok(Self(texts.collect()))
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub u64);

const UNITS: [(&str, u32); 13] = [
    ("EB", 60),
    ("EiB", 60),
    ("PB", 50),
    ("PiB", 50),
    ("TB", 40),
    ("TiB", 40),
    ("GB", 30),
    ("GiB", 30),
    ("MB", 20),
    ("MiB", 20),
    ("KB", 10),
    ("KiB", 10),
    ("B", 0),
];

/// Reads a size in bytes. A number without a unit is refused, except 0.
pub fn parse_size(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest.get(..digits)?.parse().ok()?;
        let tail = rest.get(digits..)?;
        let (tail, shift) = UNITS
            .iter()
            .find_map(|(unit, shift)| Some((tail.strip_prefix(unit)?, *shift)))?;
        total = count.checked_mul(1 << shift)?.checked_add(total)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

impl Size {
    /// Reads a size; the error says how to write one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        parse_size(text).map(Self).ok_or_else(|| {
            format!(
                "{text:?} is no size: write a number with a unit B, KB, MB, GB or TB, like 10MB"
            )
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        assert_eq!(parse_size("0"), Some(0));
        assert_eq!(parse_size("15MB"), Some(15 << 20));
        assert_eq!(parse_size("1GB512MB"), Some((1 << 30) + (512 << 20)));
        assert_eq!(parse_size("7B"), Some(7));
        assert_eq!(parse_size("2KiB"), Some(2048));
        for bad in ["", "100", "-1GB", "MB", "1.5GB", "99EB", "1XB", "1 MB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
