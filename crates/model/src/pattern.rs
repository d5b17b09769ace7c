//! Regular expressions as Prometheus and Loki mean them: Go's RE2 syntax.
//!
//! The `regex` crate comes from the same family and has the same guarantees, but differs in
//! spelling: Go's perl classes are ASCII, a brace that starts no repetition is a literal, `[`,
//! `&&` and the like have no meaning inside a class, `\Q..\E` quotes, `\z` ends the text and
//! `\C`, `\G` do not exist. A pattern is rewritten before it is compiled.

use regex::{Regex, RegexBuilder};

/// Longest pattern taken, in bytes.
pub const PATTERN_BYTES_MAX: usize = 64 << 10;
/// Largest compiled program, in bytes.
pub const PROGRAM_BYTES_MAX: usize = 16 << 20;

/// Depth of groups in a pattern at most.
pub(crate) const NEST_MAX: u32 = 256;

/// Compiles a pattern that must match the whole text (label matchers). `.` matches newlines.
pub fn anchored(pattern: &str) -> Result<Regex, regex::Error> {
    build(&format!("^(?s:{})$", translate(pattern)?))
}

/// Compiles a pattern that may match anywhere (line filters). `.` matches newlines, as it does
/// in Loki's.
pub fn unanchored(pattern: &str) -> Result<Regex, regex::Error> {
    build(&format!("(?s:{})", translate(pattern)?))
}

/// Compiles a pattern that may match anywhere. `.` matches no newline, as in Go where nothing
/// else is said (functions of templates).
pub fn unanchored_go(pattern: &str) -> Result<Regex, regex::Error> {
    build(&translate(pattern)?)
}

/// Compiles once more what one of the others compiled, from the text that it has then
/// ([`Regex::as_str`]), within the same bounds.
pub fn again(compiled: &str) -> Result<Regex, regex::Error> {
    build(compiled)
}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .size_limit(PROGRAM_BYTES_MAX)
        .nest_limit(NEST_MAX)
        .build()
}

pub(crate) fn translate(pattern: &str) -> Result<String, regex::Error> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(regex::Error::CompiledTooBig(PATTERN_BYTES_MAX));
    }
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '\\' => at = escape(&chars, at, false, &mut out),
            '[' => at = class(&chars, at, &mut out),
            '{' if !is_repetition(&chars[at..]) => {
                out.push_str("\\{");
                at += 1;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Whether the text starts with `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(chars: &[char]) -> bool {
    let Some(end) = chars.iter().position(|c| *c == '}') else {
        return false;
    };
    let body: String = chars[1..end].iter().collect();
    let (low, high) = body.split_once(',').unwrap_or((&body, ""));
    !low.is_empty()
        && low.bytes().all(|b| b.is_ascii_digit())
        && high.bytes().all(|b| b.is_ascii_digit())
}

/// Copies one escape; gives the index behind it.
fn escape(chars: &[char], at: usize, in_class: bool, out: &mut String) -> usize {
    let Some(&next) = chars.get(at + 1) else {
        out.push('\\');
        return at + 1;
    };
    let perl = match next {
        'd' => Some(("0-9", false)),
        'D' => Some(("0-9", true)),
        'w' => Some(("0-9A-Za-z_", false)),
        'W' => Some(("0-9A-Za-z_", true)),
        's' => Some(("\\t\\n\\x0C\\r ", false)),
        'S' => Some(("\\t\\n\\x0C\\r ", true)),
        _ => None,
    };
    if let Some((set, negated)) = perl {
        match (in_class, negated) {
            (true, false) => out.push_str(set),
            (_, negated) => {
                out.push('[');
                if negated {
                    out.push('^');
                }
                out.push_str(set);
                out.push(']');
            }
        }
        return at + 2;
    }
    match next {
        'b' | 'B' if !in_class => {
            // Go's word boundary is the ASCII one; the crate's own ASCII form `(?-u:\B)` may
            // split a character, so it is spelled by what stands on both sides.
            out.push_str(if next == 'b' { "(?-u:\\b)" } else { "\\B" });
            at + 2
        }
        'Q' if !in_class => {
            let mut i = at + 2;
            while i < chars.len() && !(chars[i] == '\\' && chars.get(i + 1) == Some(&'E')) {
                push_literal(chars[i], out);
                i += 1;
            }
            (i + 2).min(chars.len())
        }
        _ => {
            out.push('\\');
            out.push(next);
            at + 2
        }
    }
}

/// Copies a class, quoting what the crate would read as set notation.
fn class(chars: &[char], start: usize, out: &mut String) -> usize {
    let mut at = start + 1;
    out.push('[');
    if chars.get(at) == Some(&'^') {
        out.push('^');
        at += 1;
    }
    let first = at;
    while let Some(&c) = chars.get(at) {
        match c {
            ']' if at > first => {
                out.push(']');
                return at + 1;
            }
            ']' => out.push_str("\\]"),
            '[' if chars.get(at + 1) == Some(&':') => {
                let Some(end) = (at + 2..chars.len().saturating_sub(1))
                    .find(|&i| chars[i] == ':' && chars[i + 1] == ']')
                else {
                    out.push_str("\\[");
                    at += 1;
                    continue;
                };
                out.extend(&chars[at..end + 2]);
                at = end + 2;
                continue;
            }
            '[' => out.push_str("\\["),
            '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '-' if chars.get(at + 1) == Some(&'-') => out.push_str("\\-"),
            '\\' => {
                at = escape(chars, at, true, out);
                continue;
            }
            _ => out.push(c),
        }
        at += 1;
    }
    at
}

fn push_literal(c: char, out: &mut String) {
    let mut buffer = [0; 4];
    out.push_str(&regex::escape(c.encode_utf8(&mut buffer)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn means_what_go_means() {
        for (pattern, text, whole) in [
            ("a|bc", "bc", true),
            ("a|bc", "abc", false),
            ("a.c", "a\nc", true),
            ("\\d+", "42", true),
            ("\\d+", "٤٢", false),
            ("a{", "a{", true),
            ("a{,3}", "a{,3}", true),
            ("a{2}", "aa", true),
            ("[[]", "[", true),
            ("[a&&b]+", "a&b", true),
            ("[]a]+", "]a", true),
            ("[[:alpha:]]+", "ab", true),
            ("\\Qa.b\\E", "a.b", true),
            ("\\Qa.b\\E", "axb", false),
            ("[\\w.]+", "a.b_1", true),
            ("[^\\D]+", "12", true),
            ("(?i)ABC", "abc", true),
            ("a\\z", "a", true),
            ("", "", true),
        ] {
            let regex = anchored(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert_eq!(regex.is_match(text), whole, "{pattern} on {text:?}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for pattern in ["(", "a**b(", "[", "(?<=a)b", "\\8", "a{2,1}"] {
            assert!(anchored(pattern).is_err(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn any_text_compiles_or_fails(pattern in ".{0,40}") {
            let _ = anchored(&pattern);
            let _ = unanchored(&pattern);
        }

        #[test]
        fn a_quoted_text_matches_itself(text in "[^\\\\]{0,20}") {
            let quoted = format!("\\Q{text}\\E");
            prop_assert!(anchored(&quoted).unwrap().is_match(&text));
        }
    }
}
