//! LogQL's tokens, each with where it stands.

use crate::error::ParseError;
use crate::units;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A name or keyword.
    Word(String),
    Text(String),
    Number(f64),
    DurationNs(i64),
    /// A size with a unit, like `5MB`.
    Bytes(u64),
    /// `--strict`
    Flag(String),
    /// Any of the operators and brackets.
    Sign(&'static str),
    End,
}

impl Token {
    /// As an error shows it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Word(word) if is_keyword(word) => word.clone(),
            Self::Word(_) => "IDENTIFIER".to_owned(),
            Self::Text(_) => "STRING".to_owned(),
            Self::Number(_) => "NUMBER".to_owned(),
            Self::DurationNs(_) => "DURATION".to_owned(),
            Self::Bytes(_) => "BYTES".to_owned(),
            Self::Flag(_) => "FUNCTION_FLAG".to_owned(),
            Self::Sign(sign) => (*sign).to_owned(),
            Self::End => "$end".to_owned(),
        }
    }
}

/// Whether a word is shown in errors as it is, and not as a name.
fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "by" | "without"
            | "on"
            | "ignoring"
            | "group_left"
            | "group_right"
            | "bool"
            | "or"
            | "and"
            | "unless"
            | "offset"
            | "unwrap"
            | "json"
            | "logfmt"
            | "regexp"
            | "pattern"
            | "unpack"
            | "line_format"
            | "label_format"
            | "decolorize"
            | "drop"
            | "keep"
            | "ip"
    )
}

/// Longer signs stand before those that they start with.
const SIGNS: [&str; 32] = [
    "|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", "{", "}", "(", ")", "[", "]", ",",
    "|", "=", ">", "<", "+", "-", "*", "/", "%", "^", "@", ":", ".", "&", "!",
];

/// The tokens of a query, with the byte at which each starts.
pub(crate) fn tokens(query: &str) -> Result<Vec<(usize, Token)>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = query[at..].chars().next() {
        let rest = &query[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
        } else if c == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if c == '"' || c == '`' {
            let (text, len) = quoted(query, at)?;
            tokens.push((at, Token::Text(text)));
            at += len;
        } else if c.is_ascii_digit() || (c == '.' && starts_digit(&rest[1..])) {
            let (token, len) = number(query, at)?;
            tokens.push((at, token));
            at += len;
        } else if c.is_ascii_alphabetic() || c == '_' {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            tokens.push((at, Token::Word(rest[..len].to_owned())));
            at += len;
        } else if rest.starts_with("--") && rest[2..].starts_with(|c: char| c.is_ascii_alphabetic())
        {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            tokens.push((at, Token::Flag(rest[2..len].to_owned())));
            at += len;
        } else if let Some(sign) = SIGNS.iter().find(|s| rest.starts_with(**s)) {
            tokens.push((at, Token::Sign(sign)));
            at += sign.len();
        } else {
            return Err(ParseError::at(
                query,
                at,
                format!("syntax error: unexpected character {c:?}"),
            ));
        }
    }
    tokens.push((query.len(), Token::End));
    Ok(tokens)
}

fn starts_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// A number, a duration like `1h30m`, or a size like `5MB`.
fn number(query: &str, at: usize) -> Result<(Token, usize), ParseError> {
    let rest = &query[at..];
    let is_part = |c: char| c.is_alphanumeric() || c == '.' || c == '_';
    let all = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let text = &rest[..all];
    // An exponent's sign is not among the letters.
    let mut long = all;
    if text.ends_with(['e', 'E']) && rest[all..].starts_with(['+', '-']) {
        let digits = rest[all + 1..].find(|c: char| !c.is_ascii_digit());
        long = all + 1 + digits.unwrap_or(rest.len() - all - 1);
    }
    let is_plain = !text.contains('_');
    if is_plain && let Ok(number) = rest[..long].parse::<f64>() {
        return Ok((Token::Number(number), long));
    }
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
        && let Ok(hex) = u64::from_str_radix(hex, 16)
    {
        return Ok((Token::Number(hex as f64), all));
    }
    match units::parse_query_duration(text) {
        Ok(ns) => Ok((Token::DurationNs(ns), all)),
        Err(message) => {
            if let Ok(bytes) = units::parse_bytes(text) {
                return Ok((Token::Bytes(bytes), all));
            }
            let message = message.strip_prefix("time: ").unwrap_or(&message);
            Err(ParseError::at(query, at, message))
        }
    }
}

/// A string in Go's form: with escapes between `"`, as it is between backticks.
fn quoted(query: &str, at: usize) -> Result<(String, usize), ParseError> {
    let rest = &query[at + 1..];
    let unclosed = || ParseError::at(query, at, "syntax error: literal not terminated");
    if query[at..].starts_with('`') {
        let end = rest.find('`').ok_or_else(unclosed)?;
        return Ok((rest[..end].to_owned(), end + 2));
    }
    let mut bytes: Vec<u8> = Vec::new();
    let mut chars = rest.char_indices();
    while let Some((offset, c)) = chars.next() {
        match c {
            '"' => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return Ok((text, offset + 2));
            }
            '\n' => return Err(unclosed()),
            '\\' => {
                let bad =
                    || ParseError::at(query, at + 1 + offset, "syntax error: invalid char escape");
                let (_, escape) = chars.next().ok_or_else(unclosed)?;
                let mut digits = |count: usize, radix: u32, first: Option<char>| {
                    let mut value = first.map_or(Some(0), |c| c.to_digit(radix));
                    for _ in 0..count {
                        let digit = chars.next().and_then(|(_, c)| c.to_digit(radix));
                        value = Some(value?.checked_mul(radix)?.checked_add(digit?)?);
                    }
                    value
                };
                match escape {
                    'a' => bytes.push(7),
                    'b' => bytes.push(8),
                    'f' => bytes.push(12),
                    'n' => bytes.push(b'\n'),
                    'r' => bytes.push(b'\r'),
                    't' => bytes.push(b'\t'),
                    'v' => bytes.push(11),
                    '\\' | '"' | '\'' => bytes.push(escape as u8),
                    'x' => bytes.push(digits(2, 16, None).ok_or_else(bad)? as u8),
                    'u' | 'U' => {
                        let count = if escape == 'u' { 4 } else { 8 };
                        let c = digits(count, 16, None).and_then(char::from_u32);
                        let mut utf8 = [0; 4];
                        bytes.extend(c.ok_or_else(bad)?.encode_utf8(&mut utf8).bytes());
                    }
                    '0'..='7' => {
                        let value = digits(2, 8, Some(escape)).filter(|v| *v < 256);
                        bytes.push(value.ok_or_else(bad)? as u8);
                    }
                    _ => return Err(bad()),
                }
            }
            c => {
                let mut utf8 = [0; 4];
                bytes.extend(c.encode_utf8(&mut utf8).bytes());
            }
        }
    }
    Err(unclosed())
}
