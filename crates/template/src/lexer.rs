//! The pieces of a template: text outside of actions, and the tokens inside of them.

use crate::parse::ParseError;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// Text between actions.
    Plain(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// A keyword, a function, `true`, `nil`.
    Word(String),
    /// `.name`
    Field(String),
    /// `$name`, or `$` alone
    Variable(String),
    /// A quoted text, unquoted.
    Text(String),
    Int(i64),
    Float(f64),
    Dot,
    Pipe,
    OpenBracket,
    CloseBracket,
    Assign,
    Declare,
    Comma,
    /// White space inside an action, which tells arguments from chains.
    Space,
}

/// The tokens of a template, each with the byte at which it starts.
pub(crate) fn tokens(source: &str) -> Result<Vec<(usize, Token)>, ParseError> {
    let mut lexer = Lexer {
        source,
        at: 0,
        tokens: Vec::new(),
    };
    let mut trim_start = false;
    loop {
        let rest = &source[lexer.at..];
        let open = rest.find("{{");
        let mut plain = &rest[..open.unwrap_or(rest.len())];
        if trim_start {
            plain = plain.trim_start_matches(is_space);
        }
        let Some(open) = open else {
            lexer.push_plain(plain);
            return Ok(lexer.tokens);
        };
        let inside = &rest[open + 2..];
        let trims = inside.starts_with('-') && inside[1..].starts_with(is_space);
        if trims {
            plain = plain.trim_end_matches(is_space);
        }
        lexer.push_plain(plain);
        lexer.at += open + 2 + usize::from(trims);
        trim_start = lexer.action()?;
    }
}

/// The line of a byte, from 1.
pub(crate) fn line_of(source: &str, at: usize) -> usize {
    source[..at].matches('\n').count() + 1
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    tokens: Vec<(usize, Token)>,
}

impl Lexer<'_> {
    fn line(&self) -> usize {
        line_of(self.source, self.at)
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError {
            line: self.line(),
            message: message.into(),
        }
    }

    fn push_plain(&mut self, text: &str) {
        if !text.is_empty() {
            self.tokens.push((self.at, Token::Plain(text.to_owned())));
        }
    }

    fn push(&mut self, token: Token, len: usize) {
        self.tokens.push((self.at, token));
        self.at += len;
    }

    /// Whether the action ends here, and if so whether it trims what follows.
    fn end(&self) -> Option<(usize, bool)> {
        let rest = &self.source[self.at..];
        if rest.starts_with("}}") {
            return Some((2, false));
        }
        (rest.starts_with(is_space) && rest[1..].starts_with("-}}")).then_some((4, true))
    }

    /// One action up to its end; says whether the text behind it is trimmed.
    fn action(&mut self) -> Result<bool, ParseError> {
        let trimmed = self.source[self.at..].trim_start_matches(is_space);
        if trimmed.starts_with("/*") {
            let start = self.source.len() - trimmed.len();
            let end = trimmed
                .find("*/")
                .ok_or_else(|| self.error("unclosed comment"))?;
            self.at = start + end + 2;
            let (len, trims) = self
                .end()
                .ok_or_else(|| self.error("comment ends before closing delimiter"))?;
            self.at += len;
            return Ok(trims);
        }
        self.push(Token::Open, 0);
        let mut depth = 0_usize;
        loop {
            if let Some((len, trims)) = self.end() {
                if depth > 0 {
                    return Err(self.error("unclosed left paren"));
                }
                self.push(Token::Close, len);
                return Ok(trims);
            }
            let rest = &self.source[self.at..];
            let Some(c) = rest.chars().next() else {
                return Err(self.error("unclosed action"));
            };
            match c {
                c if is_space(c) => {
                    // The space of a trimming end belongs to the end.
                    let spaces = rest.len() - rest.trim_start_matches(is_space).len();
                    let trims = rest[spaces..].starts_with("-}}");
                    let len = if trims { spaces - 1 } else { spaces };
                    if len > 0 {
                        self.push(Token::Space, len);
                    }
                }
                '|' => self.push(Token::Pipe, 1),
                ',' => self.push(Token::Comma, 1),
                '(' => {
                    depth += 1;
                    self.push(Token::OpenBracket, 1);
                }
                ')' => {
                    depth = depth
                        .checked_sub(1)
                        .ok_or_else(|| self.error("unexpected right paren"))?;
                    self.push(Token::CloseBracket, 1);
                }
                '=' => self.push(Token::Assign, 1),
                ':' if rest.starts_with(":=") => self.push(Token::Declare, 2),
                '"' => self.quoted()?,
                '`' => {
                    let end = rest[1..]
                        .find('`')
                        .ok_or_else(|| self.error("unterminated raw quoted string"))?;
                    let text = rest[1..=end].to_owned();
                    self.push(Token::Text(text), end + 2);
                }
                '\'' => self.character()?,
                '$' => {
                    let len = 1 + word_len(&rest[1..]);
                    self.push(Token::Variable(rest[..len].to_owned()), len);
                }
                '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    let len = word_len(&rest[1..]);
                    if len == 0 {
                        self.push(Token::Dot, 1);
                    } else {
                        self.push(Token::Field(rest[1..=len].to_owned()), len + 1);
                    }
                }
                c if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => self.number()?,
                c if c.is_alphabetic() || c == '_' => {
                    let len = word_len(rest);
                    self.push(Token::Word(rest[..len].to_owned()), len);
                }
                c => {
                    return Err(self.error(format!(
                        "unexpected {c:?} (U+{:04X}) in command",
                        u32::from(c)
                    )));
                }
            }
        }
    }

    fn number(&mut self) -> Result<(), ParseError> {
        let rest = &self.source[self.at..];
        let is_part = |(at, c): (usize, char)| {
            c.is_alphanumeric()
                || c == '.'
                || c == '_'
                || (matches!(c, '+' | '-')
                    && (at == 0 || rest[..at].ends_with(['e', 'E']) && !rest.contains("0x")))
        };
        let len = rest
            .char_indices()
            .find(|part| !is_part(*part))
            .map_or(rest.len(), |(at, _)| at);
        let text = &rest[..len];
        let plain = text.replace('_', "");
        let (sign, digits) = match plain.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
        };
        let radix = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("0x") => Some(16),
            Some("0o") => Some(8),
            Some("0b") => Some(2),
            _ => None,
        };
        let int = match radix {
            Some(radix) => i64::from_str_radix(&digits[2..], radix).ok(),
            None => digits.parse::<i64>().ok(),
        };
        let token = match int {
            Some(int) => Token::Int(sign * int),
            None => match plain.parse::<f64>() {
                Ok(float) if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                    Token::Float(float)
                }
                _ => return Err(self.error(format!("bad number syntax: {text:?}"))),
            },
        };
        self.push(token, len);
        Ok(())
    }

    fn quoted(&mut self) -> Result<(), ParseError> {
        let rest = &self.source[self.at..];
        let mut is_escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => {
                    let text = unquote(&rest[1..at])
                        .ok_or_else(|| self.error(format!("invalid syntax: {}", &rest[..=at])))?;
                    self.push(Token::Text(text), at + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(self.error("unterminated quoted string"))
    }

    fn character(&mut self) -> Result<(), ParseError> {
        let rest = &self.source[self.at..];
        let mut end = None;
        let mut is_escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '\'' => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let end = end.ok_or_else(|| self.error("unterminated character constant"))?;
        let text = unquote(&rest[1..end]).unwrap_or_default();
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => {
                self.push(Token::Int(i64::from(u32::from(c))), end + 1);
                Ok(())
            }
            _ => Err(self.error(format!("malformed character constant: {}", &rest[..=end]))),
        }
    }
}

fn word_len(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len())
}

/// The text of a Go string literal between its quotes.
fn unquote(body: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let escape = chars.next()?;
        let mut digits = |count: usize, radix: u32, first: u32| {
            (0..count).try_fold(first, |value, _| {
                let digit = chars.next()?.to_digit(radix)?;
                value.checked_mul(radix)?.checked_add(digit)
            })
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
            'x' => bytes.push(digits(2, 16, 0)? as u8),
            'u' | 'U' => {
                let count = if escape == 'u' { 4 } else { 8 };
                let c = char::from_u32(digits(count, 16, 0)?)?;
                bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            }
            '0'..='7' => {
                let first = escape.to_digit(8)?;
                bytes.push(u8::try_from(digits(2, 8, first)?).ok()?);
            }
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
