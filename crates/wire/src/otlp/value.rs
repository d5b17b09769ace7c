//! Values of attributes.

use crate::json::push_string;

/// A value of any kind.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum AnyValue {
    /// None.
    #[default]
    Empty,
    /// A text.
    Text(String),
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values in order.
    Array(Vec<AnyValue>),
    /// Values by key.
    Map(Vec<(String, AnyValue)>),
}

impl AnyValue {
    /// The value as a label has it: texts as they are, arrays and maps as JSON.
    pub fn to_text(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => text.clone(),
            Self::Bytes(bytes) => base64(bytes),
            other => {
                let mut out = String::new();
                other.push_json(&mut out);
                out
            }
        }
    }

    fn push_json(&self, out: &mut String) {
        match self {
            Self::Empty => out.push_str("null"),
            Self::Text(text) => push_string(out, text),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Double(value) => push_double(out, *value),
            Self::Bytes(bytes) => push_string(out, &base64(bytes)),
            Self::Array(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    value.push_json(out);
                }
                out.push(']');
            }
            Self::Map(pairs) => {
                let mut pairs: Vec<_> = pairs.iter().collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                out.push('{');
                for (index, (key, value)) in pairs.into_iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    push_string(out, key);
                    out.push(':');
                    value.push_json(out);
                }
                out.push('}');
            }
        }
    }
}

/// A number as JSON has it: an exponent only for the very large and the very small.
fn push_double(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if value != 0.0 && !(1e-6..1e21).contains(&value.abs()) {
        let text = format!("{value:e}");
        out.push_str(&if text.contains("e-") {
            text
        } else {
            text.replace('e', "e+")
        });
    } else {
        out.push_str(&value.to_string());
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            if place > chunk.len() {
                out.push('=');
            } else {
                out.push(DIGITS[(bits >> (18 - 6 * place)) as usize & 63] as char);
            }
        }
    }
    out
}

/// The bytes that a text of base 64 stands for, with or without padding, of either alphabet.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_labels_have_them() {
        let map = AnyValue::Map(vec![
            (
                "b".to_owned(),
                AnyValue::Array(vec![AnyValue::Int(1), AnyValue::Empty]),
            ),
            ("a".to_owned(), AnyValue::Bool(true)),
        ]);
        assert_eq!(map.to_text(), r#"{"a":true,"b":[1,null]}"#);
        assert_eq!(AnyValue::Double(1e21).to_text(), "1e+21");
        assert_eq!(AnyValue::Double(0.5).to_text(), "0.5");
        for (bytes, text) in [
            (&b"a"[..], "YQ=="),
            (b"ab", "YWI="),
            (b"abc", "YWJj"),
            (b"", ""),
        ] {
            assert_eq!(AnyValue::Bytes(bytes.to_vec()).to_text(), text);
            assert_eq!(from_base64(text).as_deref(), Some(bytes));
        }
        assert_eq!(from_base64("a b"), None);
    }
}
