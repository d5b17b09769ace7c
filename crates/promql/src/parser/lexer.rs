//! Splits a query into tokens. What a character means depends on the brackets around it.

use kittiwake_vector::{Arithmetic, Comparison, Operator, SetOp, Trim};

use crate::ast::{AggregateOp, Place};
use crate::text::quoted_char;
use kittiwake_model::quote;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    End,
    /// The text cannot be split any further; the lexer's error says why.
    Error,
    Comma,
    Colon,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Identifier,
    /// A name with a colon.
    MetricIdentifier,
    Number,
    Duration,
    Text,
    Operator(Operator),
    /// `=`, `=~`, `!~`.
    Equal,
    EqualRegex,
    NotRegex,
    At,
    Aggregate(AggregateOp),
    Keyword(Keyword),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Bool,
    By,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Ignoring,
    Offset,
    Smoothed,
    Anchored,
    On,
    Without,
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

const KEYWORDS: [(&str, Keyword); 19] = [
    ("bool", Keyword::Bool),
    ("by", Keyword::By),
    ("group_left", Keyword::GroupLeft),
    ("group_right", Keyword::GroupRight),
    ("fill", Keyword::Fill),
    ("fill_left", Keyword::FillLeft),
    ("fill_right", Keyword::FillRight),
    ("ignoring", Keyword::Ignoring),
    ("offset", Keyword::Offset),
    ("smoothed", Keyword::Smoothed),
    ("anchored", Keyword::Anchored),
    ("on", Keyword::On),
    ("without", Keyword::Without),
    ("start", Keyword::Start),
    ("end", Keyword::End),
    ("step", Keyword::Step),
    ("range", Keyword::Range),
    ("max_of", Keyword::MaxOf),
    ("min_of", Keyword::MinOf),
];

impl Keyword {
    /// Whether it also names a function.
    pub(super) fn is_function(self) -> bool {
        matches!(
            self,
            Self::Start | Self::End | Self::Step | Self::Range | Self::MaxOf | Self::MinOf
        )
    }

    /// Whether a metric can have this name.
    pub(super) fn can_be_metric(self) -> bool {
        !matches!(
            self,
            Self::Bool | Self::On | Self::Ignoring | Self::GroupLeft | Self::GroupRight
        )
    }
}

/// A token and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) text: &'a str,
}

impl Token<'_> {
    pub(super) fn place(&self) -> Place {
        Place {
            start: self.start,
            end: self.start + self.text.len(),
        }
    }

    /// The token as an error names it.
    pub(super) fn described(&self) -> String {
        let text = self.text;
        let short = |text: &str| match text.char_indices().nth(10) {
            Some((end, _)) => format!("{}...", quote(&text[..end])),
            None => quote(text),
        };
        match self.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Error => "error".to_owned(),
            Kind::Identifier => format!("identifier {}", quote(text)),
            Kind::MetricIdentifier => format!("metric identifier {}", quote(text)),
            Kind::Text => format!("string {}", short(text)),
            Kind::Number => format!("number {}", short(text)),
            Kind::Duration => format!("duration {}", short(text)),
            Kind::Operator(_) | Kind::EqualRegex | Kind::NotRegex | Kind::At => {
                format!("<op:{text}>")
            }
            Kind::Aggregate(_) => format!("<aggr:{text}>"),
            Kind::Keyword(keyword) if !keyword.is_function() => format!("<{text}>"),
            _ => quote(text),
        }
    }
}

/// Reads tokens one after the other.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    query: &'a str,
    at: usize,
    paren_depth: usize,
    in_braces: bool,
    in_brackets: bool,
    got_duration: bool,
    got_colon: bool,
    pub(super) error: Option<String>,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

impl<'a> Lexer<'a> {
    pub(super) fn new(query: &'a str) -> Self {
        Self {
            query,
            at: 0,
            paren_depth: 0,
            in_braces: false,
            in_brackets: false,
            got_duration: false,
            got_colon: false,
            error: None,
        }
    }

    fn rest(&self) -> &'a str {
        &self.query[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn token(&mut self, kind: Kind, size: usize) -> Token<'a> {
        let start = self.at;
        self.at += size;
        let text = &self.query[start..self.at];
        Token { kind, start, text }
    }

    fn fail(&mut self, message: impl Into<String>) -> Token<'a> {
        self.error = Some(message.into());
        Token {
            kind: Kind::Error,
            start: self.at,
            text: "",
        }
    }

    fn skip_space_and_comments(&mut self) {
        loop {
            let rest = self.rest();
            let spaces = rest.len() - rest.trim_start_matches(is_space).len();
            self.at += spaces;
            // Inside brackets a `#` is no comment.
            if self.in_brackets || !self.rest().starts_with('#') {
                return;
            }
            let line = self.rest().find(['\n', '\r']);
            self.at += line.unwrap_or(self.rest().len());
        }
    }

    pub(super) fn next(&mut self) -> Token<'a> {
        self.skip_space_and_comments();
        let Some(c) = self.peek() else {
            return if self.in_braces {
                self.fail("unexpected end of input inside braces")
            } else if self.in_brackets && !self.got_duration {
                self.fail("unexpected end of input in duration expression")
            } else if self.paren_depth > 0 {
                self.fail("unclosed left parenthesis")
            } else if self.in_brackets {
                self.fail("unclosed left bracket")
            } else {
                self.token(Kind::End, 0)
            };
        };
        if self.in_braces {
            return self.next_in_braces(c);
        }
        if self.in_brackets {
            return self.next_in_brackets(c);
        }
        match c {
            ',' => self.token(Kind::Comma, 1),
            '(' => {
                self.paren_depth += 1;
                self.token(Kind::LeftParen, 1)
            }
            ')' if self.paren_depth == 0 => {
                self.at += 1;
                self.fail("unexpected right parenthesis ')'")
            }
            ')' => {
                self.paren_depth -= 1;
                self.token(Kind::RightParen, 1)
            }
            '{' => {
                self.in_braces = true;
                self.token(Kind::LeftBrace, 1)
            }
            '[' => {
                (self.in_brackets, self.got_duration, self.got_colon) = (true, false, false);
                self.token(Kind::LeftBracket, 1)
            }
            ']' => self.fail("unexpected right bracket ']'"),
            '@' => self.token(Kind::At, 1),
            '"' | '\'' | '`' => self.next_text(c),
            c if c.is_ascii_digit() => self.next_number(),
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.next_number(),
            c if is_alpha(c) || c == ':' => self.next_word(),
            _ => self.next_sign(c),
        }
    }

    fn next_sign(&mut self, c: char) -> Token<'a> {
        let rest = self.rest();
        let second = rest.chars().nth(1);
        let shown = |c: Option<char>| c.map_or_else(|| "'\\uffff'".to_owned(), quoted_char);
        let (operator, size) = match (c, second) {
            ('*', _) => (Operator::Arithmetic(Arithmetic::Multiply), 1),
            ('/', _) => (Operator::Arithmetic(Arithmetic::Divide), 1),
            ('%', _) => (Operator::Arithmetic(Arithmetic::Modulo), 1),
            ('+', _) => (Operator::Arithmetic(Arithmetic::Add), 1),
            ('-', _) => (Operator::Arithmetic(Arithmetic::Subtract), 1),
            ('^', _) => (Operator::Arithmetic(Arithmetic::Power), 1),
            ('=', Some('=')) => (Operator::Comparison(Comparison::Equal), 2),
            ('=', Some('~')) => return self.fail("unexpected character after '=': '~'"),
            ('=', _) => return self.token(Kind::Equal, 1),
            ('!', Some('=')) => (Operator::Comparison(Comparison::NotEqual), 2),
            ('!', other) => {
                return self.fail(format!("unexpected character after '!': {}", shown(other)));
            }
            ('<', Some('=')) => (Operator::Comparison(Comparison::LessOrEqual), 2),
            ('<', Some('/')) => (Operator::Trim(Trim::Upper), 2),
            ('<', _) => (Operator::Comparison(Comparison::Less), 1),
            ('>', Some('=')) => (Operator::Comparison(Comparison::GreaterOrEqual), 2),
            ('>', Some('/')) => (Operator::Trim(Trim::Lower), 2),
            ('>', _) => (Operator::Comparison(Comparison::Greater), 1),
            _ => return self.fail(format!("unexpected character: {}", quoted_char(c))),
        };
        self.token(Kind::Operator(operator), size)
    }

    fn next_in_braces(&mut self, c: char) -> Token<'a> {
        let second = self.rest().chars().nth(1);
        match (c, second) {
            (',', _) => self.token(Kind::Comma, 1),
            ('}', _) => {
                self.in_braces = false;
                self.token(Kind::RightBrace, 1)
            }
            ('{', _) => self.fail("unexpected left brace '{'"),
            ('"' | '\'' | '`', _) => self.next_text(c),
            ('=', Some('~')) => self.token(Kind::EqualRegex, 2),
            ('=', _) => self.token(Kind::Equal, 1),
            ('!', Some('~')) => self.token(Kind::NotRegex, 2),
            ('!', Some('=')) => self.token(
                Kind::Operator(Operator::Comparison(Comparison::NotEqual)),
                2,
            ),
            ('!', other) => {
                let other = other.map_or_else(|| "'\\uffff'".to_owned(), quoted_char);
                self.fail(format!(
                    "unexpected character after '!' inside braces: {other}"
                ))
            }
            (c, _) if is_alpha(c) => {
                let size = self.rest().find(|c| !is_alphanumeric(c));
                self.token(Kind::Identifier, size.unwrap_or(self.rest().len()))
            }
            _ => self.fail(format!(
                "unexpected character inside braces: {}",
                quoted_char(c)
            )),
        }
    }

    fn next_in_brackets(&mut self, c: char) -> Token<'a> {
        match c {
            ']' => {
                self.in_brackets = false;
                self.token(Kind::RightBracket, 1)
            }
            ':' if !self.got_duration => {
                self.fail("unexpected colon before duration in duration expression")
            }
            ':' if self.got_colon => self.fail("unexpected repeated colon in duration expression"),
            ':' => {
                self.got_colon = true;
                self.token(Kind::Colon, 1)
            }
            '(' => {
                self.paren_depth += 1;
                self.token(Kind::LeftParen, 1)
            }
            ')' if self.paren_depth == 0 => self.fail("unexpected right parenthesis ')'"),
            ')' => {
                self.paren_depth -= 1;
                self.token(Kind::RightParen, 1)
            }
            '[' => self.fail("unexpected left bracket '['"),
            ',' => self.token(Kind::Comma, 1),
            '+' | '-' | '*' | '/' | '%' | '^' => self.next_sign(c),
            c if c.is_ascii_digit() => {
                self.got_duration = true;
                self.next_number()
            }
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.got_duration = true;
                self.next_number()
            }
            c if is_alpha(c) => {
                let rest = self.rest();
                let size = rest.find(|c| !is_alpha(c)).unwrap_or(rest.len());
                let word = rest[..size].to_ascii_lowercase();
                let keyword = match word.as_str() {
                    "step" => Keyword::Step,
                    "range" => Keyword::Range,
                    "max_of" => Keyword::MaxOf,
                    "min_of" => Keyword::MinOf,
                    _ if self.got_duration => {
                        return self.fail(format!(
                            "unexpected character: {}, expected ':'",
                            quoted_char(c)
                        ));
                    }
                    _ => return self.fail_in_duration(c),
                };
                self.got_duration = true;
                self.token(Kind::Keyword(keyword), size)
            }
            _ => self.fail_in_duration(c),
        }
    }

    fn fail_in_duration(&mut self, c: char) -> Token<'a> {
        self.fail(format!(
            "unexpected character in duration expression: {}",
            quoted_char(c)
        ))
    }

    fn next_text(&mut self, quote: char) -> Token<'a> {
        let rest = self.rest();
        let mut is_escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            if is_escaped {
                is_escaped = false;
            } else if c == quote {
                return self.token(Kind::Text, at + 1);
            } else if c == '\\' && quote != '`' {
                is_escaped = true;
            } else if c == '\n' && quote != '`' {
                break;
            }
        }
        self.fail(if quote == '`' {
            "unterminated raw string"
        } else {
            "unterminated quoted string"
        })
    }

    fn next_number(&mut self) -> Token<'a> {
        let rest = self.rest();
        let followed = |size: usize| rest[size..].starts_with(is_alphanumeric);
        let size = number_size(rest);
        if size > 0 && !followed(size) && !rest[size..].starts_with('.') {
            return self.token(Kind::Number, size);
        }
        let size = duration_size(rest);
        if size > 0 && !followed(size) {
            return self.token(Kind::Duration, size);
        }
        let end = rest.find(|c| !is_alphanumeric(c) && c != '.');
        let shown = quote(&rest[..end.unwrap_or(rest.len())]);
        self.fail(format!("bad number or duration syntax: {shown}"))
    }

    fn next_word(&mut self) -> Token<'a> {
        let rest = self.rest();
        let size = rest.find(|c| !is_alphanumeric(c) && c != ':');
        let size = size.unwrap_or(rest.len());
        let word = rest[..size].to_ascii_lowercase();
        let kind = match word.as_str() {
            "and" => Kind::Operator(Operator::Set(SetOp::And)),
            "or" => Kind::Operator(Operator::Set(SetOp::Or)),
            "unless" => Kind::Operator(Operator::Set(SetOp::Unless)),
            "atan2" => Kind::Operator(Operator::Arithmetic(Arithmetic::Atan2)),
            "inf" | "nan" => Kind::Number,
            word if word.contains(':') => Kind::MetricIdentifier,
            word => {
                let keyword = KEYWORDS.iter().find(|(name, _)| *name == word);
                let is_fill = word.starts_with("fill");
                let has_paren = rest[size..].trim_start_matches(is_space).starts_with('(');
                match (keyword, AggregateOp::of(word)) {
                    (_, Some(op)) => Kind::Aggregate(op),
                    (Some((_, keyword)), None) if !is_fill || has_paren => Kind::Keyword(*keyword),
                    _ => Kind::Identifier,
                }
            }
        };
        self.token(kind, size)
    }
}

/// The bytes of a number at the start of a text; 0 when there is none.
fn number_size(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |mut at: usize, is_digit: fn(&u8) -> bool| {
        let start = at;
        while bytes.get(at).is_some_and(is_digit)
            || (at > start
                && bytes.get(at) == Some(&b'_')
                && bytes.get(at + 1).is_some_and(is_digit))
        {
            at += 1;
        }
        at
    };
    if matches!(bytes, [b'0', b'x' | b'X', ..]) {
        let start = 2 + usize::from(bytes.get(2) == Some(&b'_'));
        let end = digits(start, u8::is_ascii_hexdigit);
        return if end > start { end } else { 0 };
    }
    let mut at = digits(0, u8::is_ascii_digit);
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1, u8::is_ascii_digit);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let end = digits(at + 1 + sign, u8::is_ascii_digit);
        if end > at + 1 + sign {
            at = end;
        }
    }
    at
}

/// The bytes of a duration at the start of a text; 0 when there is none.
fn duration_size(text: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = &text.as_bytes()[at..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let unit = match rest.get(digits..) {
            Some([b'm', b's', ..]) => 2,
            Some([b's' | b'm' | b'h' | b'd' | b'w' | b'y', ..]) => 1,
            _ => 0,
        };
        if digits == 0 || unit == 0 {
            return if digits == 0 { at } else { 0 };
        }
        at += digits + unit;
    }
}
