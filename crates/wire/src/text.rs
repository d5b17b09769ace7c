//! Text from bytes that may not be text, and lines cut to a length.

/// Appends `bytes` as UTF-8. Each maximal invalid part becomes one U+FFFD; the answer says
/// whether there was any, since the line is then no longer what was sent.
pub fn push_utf8(out: &mut String, bytes: &[u8]) -> bool {
    if let Ok(text) = std::str::from_utf8(bytes) {
        out.push_str(text);
        return false;
    }
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
    true
}

/// Cuts `text` after at most `max_bytes` bytes, between two characters. The first part is
/// never empty unless the text is, even where one character is longer than `max_bytes`.
pub fn cut(text: &str, max_bytes: usize) -> (&str, &str) {
    let mut at = text.floor_char_boundary(max_bytes);
    if at == 0 {
        at = text.chars().next().map_or(0, char::len_utf8);
    }
    text.split_at(at)
}

/// The parts of a line that are at most `max_bytes` bytes each; an empty line is one part.
pub fn parts(line: &str, max_bytes: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let (part, left) = cut(rest?, max_bytes);
        rest = (!left.is_empty()).then_some(left);
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invalid_bytes_are_replaced_and_said_so() {
        let mut out = String::new();
        assert!(!push_utf8(&mut out, "é".as_bytes()));
        assert!(push_utf8(&mut out, b"a\xff\xc3b"));
        assert_eq!(out, "éa\u{fffd}\u{fffd}b");
    }

    #[test]
    fn an_empty_line_is_one_part() {
        assert_eq!(parts("", 4).collect::<Vec<_>>(), [""]);
    }

    proptest! {
        #[test]
        fn parts_are_short_and_lose_nothing(line in ".{0,60}", max in 4_usize..20) {
            let parts: Vec<&str> = parts(&line, max).collect();
            prop_assert!(parts.iter().all(|part| part.len() <= max));
            prop_assert_eq!(parts.concat(), line);
        }
    }
}
