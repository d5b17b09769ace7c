//! Texts as Go's `strconv.Quote` writes them, which the messages of Prometheus and Loki do.

use std::fmt::Write as _;

/// A text in double quotes; what cannot be printed is escaped.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            // Writing to a string cannot fail.
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            // The space is the only blank that Go prints.
            c if c.is_control() || c == '\u{feff}' || (c.is_whitespace() && c != ' ') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_has_it() {
        assert_eq!(quote("a\"b\\\n\r\t"), r#""a\"b\\\n\r\t""#);
        assert_eq!(
            quote("\u{7}\u{8}\u{b}\u{c}\0\u{7f}"),
            r#""\a\b\v\f\x00\x7f""#
        );
        assert_eq!(
            quote("é 日本\u{a0}\u{85}\u{feff}"),
            "\"é 日本\\u00a0\\u0085\\ufeff\""
        );
    }
}
