//! The forms that mails need: words in headers (RFC 2047), text in lines (quoted-printable),
//! addresses.

use std::fmt::Write as _;

/// Characters of a line.
const LINE_CHARS_MAX: usize = 76;
/// Characters of an encoded word.
const WORD_CHARS_MAX: usize = 75;
/// The start of an encoded word.
const START: &str = "=?utf-8?q?";

/// A header's value; what is more than printable ASCII is encoded, so that no value can end its
/// line.
pub(super) fn header_value(text: &str) -> String {
    if text
        .bytes()
        .all(|b| (b' '..=b'~').contains(&b) || b == b'\t')
    {
        return text.to_owned();
    }
    let mut words = vec![START.to_owned()];
    for c in text.chars() {
        let mut piece = String::new();
        match c {
            ' ' => piece.push('_'),
            '!'..='~' if !"=?_".contains(c) => piece.push(c),
            c => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a string cannot fail.
                    let _ = write!(piece, "={byte:02X}");
                }
            }
        }
        let is_full = words
            .last()
            .is_some_and(|word| word.len() + piece.len() + 2 > WORD_CHARS_MAX);
        if is_full {
            words.push(START.to_owned());
        }
        if let Some(word) = words.last_mut() {
            word.push_str(&piece);
        }
    }
    words.join("?=\r\n ") + "?="
}

/// Text as quoted-printable, with `\r\n` at the ends of lines.
pub(super) fn quoted_printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            out.push_str("\r\n");
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mut width = 0;
        for (at, byte) in line.bytes().enumerate() {
            let is_last = at + 1 == line.len();
            let is_plain = match byte {
                b'=' => false,
                b' ' | b'\t' => !is_last,
                byte => (b'!'..=b'~').contains(&byte),
            };
            let len = if is_plain { 1 } else { 3 };
            if width + len >= LINE_CHARS_MAX {
                out.push_str("=\r\n");
                width = 0;
            }
            width += len;
            if is_plain {
                out.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(out, "={byte:02X}");
            }
        }
    }
    out
}

/// The bare addresses of a list like `A <a@x>, b@y`.
pub(super) fn addresses(list: &str) -> Result<Vec<String>, String> {
    let mut parts = vec![String::new()];
    let (mut is_quoted, mut is_angled) = (false, false);
    for c in list.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            '<' if !is_quoted => is_angled = true,
            '>' if !is_quoted => is_angled = false,
            ',' if !is_quoted && !is_angled => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    let bare = parts.iter().map(|part| {
        let part = part.trim();
        let address = match (part.rfind('<'), part.rfind('>')) {
            (Some(start), Some(end)) if start < end => part[start + 1..end].trim(),
            _ => part,
        };
        let is_address = address.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && !host.is_empty() && !host.contains('@')
        });
        let is_clean =
            !address.contains(|c: char| c.is_control() || c.is_whitespace() || "<>".contains(c));
        if is_address && is_clean {
            Ok(address.to_owned())
        } else {
            Err(format!("{part:?} is no address"))
        }
    });
    bare.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_give_bare_addresses() {
        let found = addresses("a@x, \"B, C\" <b@y> ,<c@z>").unwrap();
        assert_eq!(found, ["a@x", "b@y", "c@z"]);
        for bad in ["", "a", "a@", "@x", "a@x,", "a b@x", "a@x\r\nDATA", "<a@b"] {
            assert!(addresses(bad).is_err(), "{bad}");
        }
    }

    fn decoded(text: &str) -> Vec<u8> {
        let text = text.replace("=\r\n", "");
        let mut out = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            if byte == b'=' {
                let code: String = bytes.by_ref().take(2).map(char::from).collect();
                out.push(u8::from_str_radix(&code, 16).unwrap());
            } else {
                out.push(byte);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn lines_are_short_and_read_back(text in "[a-z =.é\t\n]{0,300}") {
            let out = quoted_printable(&text);
            prop_assert!(out.split("\r\n").all(|line| line.len() <= LINE_CHARS_MAX));
            prop_assert_eq!(decoded(&out), text.replace('\n', "\r\n").into_bytes());
        }

        #[test]
        fn a_value_stays_in_its_header(text in "[a-z\r\n é:?=_]{0,200}") {
            let out = header_value(&text);
            prop_assert!(out.split("\r\n").skip(1).all(|line| line.starts_with(' ')));
            prop_assert!(out.is_ascii() && !out.replace("\r\n ", "").contains(['\r', '\n']));
        }
    }
}
