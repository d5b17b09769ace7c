//! Bytes of formats as text, for the tests that hold them.

use std::fmt::Write as _;

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes().chunks(2);
    let bytes = digits.map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap());
    bytes.collect()
}
