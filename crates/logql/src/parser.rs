//! From tokens to the tree.

mod metric;
mod stages;

use kittiwake_model::{MatchOp, Matcher};

use crate::ast::{Expr, LogExpr, Stage};
use crate::error::ParseError;
use crate::lexer::{Token, tokens};
use crate::pipeline::Pipeline;

/// Bytes of a query at most.
const QUERY_BYTES_MAX: usize = 128 << 10;
/// Brackets and operators within each other at most.
const DEPTH_MAX: usize = 128;
/// Stages of a pipeline at most.
const STAGES_MAX: usize = 500;

/// Parses a query.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(query)?;
    if *parser.peek() == Token::End {
        return Err(ParseError::whole("syntax error: unexpected $end"));
    }
    let is_variants = parser.is_word("variants") && *parser.ahead(1) == Token::Sign("(");
    let expr = if is_variants {
        Expr::Metric(parser.variants()?)
    } else {
        parser.expr(0, 0)?
    };
    parser.end()?;
    if let Expr::Log(log) = &expr {
        check(log)?;
    }
    Ok(expr)
}

/// Parses a stream selector, like `{container="web"}`. Unlike that of a query it may match
/// everything.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text)?;
    let selector = parser.matchers()?;
    parser.end()?;
    Ok(selector)
}

/// Whether the selector says something, and the stages make sense.
fn check(log: &LogExpr) -> Result<(), ParseError> {
    if log.selector.iter().all(Matcher::matches_empty) {
        return Err(ParseError::whole(
            "queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will",
        ));
    }
    Pipeline::new(&log.stages)
        .map(|_| ())
        .map_err(ParseError::whole)
}

struct Parser<'a> {
    query: &'a str,
    tokens: Vec<(usize, Token)>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn new(query: &'a str) -> Result<Self, ParseError> {
        if query.len() > QUERY_BYTES_MAX {
            let message = format!("the query is longer than {QUERY_BYTES_MAX} bytes");
            return Err(ParseError::whole(message));
        }
        Ok(Self {
            query,
            tokens: tokens(query)?,
            at: 0,
        })
    }

    fn peek(&self) -> &Token {
        self.ahead(0)
    }

    fn ahead(&self, count: usize) -> &Token {
        // The last token is the end, and it is never passed.
        let token = self.tokens.get(self.at + count);
        token.map_or(&Token::End, |(_, t)| t)
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        let byte = self.tokens.get(self.at).map_or(self.query.len(), |t| t.0);
        ParseError::at(self.query, byte, message)
    }

    fn unexpected(&self, wanted: &str) -> ParseError {
        let shown = self.peek().shown();
        if wanted.is_empty() {
            self.error(format!("syntax error: unexpected {shown}"))
        } else {
            self.error(format!(
                "syntax error: unexpected {shown}, expecting {wanted}"
            ))
        }
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(s) if *s == sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let is_it = self.is_sign(sign);
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, sign: &str) -> Result<(), ParseError> {
        if self.take(sign) {
            Ok(())
        } else {
            Err(self.unexpected(sign))
        }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(w) if w.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_it = self.is_word(word);
        self.at += usize::from(is_it);
        is_it
    }

    fn text(&mut self) -> Result<String, ParseError> {
        let Token::Text(text) = self.peek().clone() else {
            return Err(self.unexpected("STRING"));
        };
        self.at += 1;
        Ok(text)
    }

    fn name(&mut self) -> Result<String, ParseError> {
        let Token::Word(name) = self.peek().clone() else {
            return Err(self.unexpected("IDENTIFIER"));
        };
        self.at += 1;
        Ok(name)
    }

    fn end(&self) -> Result<(), ParseError> {
        match self.peek() {
            Token::End => Ok(()),
            _ => Err(self.unexpected("")),
        }
    }

    fn log(&mut self) -> Result<LogExpr, ParseError> {
        let mut log = LogExpr {
            selector: self.matchers()?,
            stages: Vec::new(),
        };
        self.stages(&mut log.stages)?;
        Ok(log)
    }

    fn matchers(&mut self) -> Result<Vec<Matcher>, ParseError> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        if self.take("}") {
            return Ok(matchers);
        }
        loop {
            if !matches!(self.peek(), Token::Word(_)) {
                let wanted = if matchers.is_empty() {
                    "IDENTIFIER or }"
                } else {
                    "IDENTIFIER"
                };
                return Err(self.unexpected(wanted));
            }
            matchers.push(self.matcher()?);
            if self.take("}") {
                return Ok(matchers);
            }
            if !self.take(",") {
                return Err(self.unexpected("} or ,"));
            }
        }
    }

    fn match_op(&self) -> Option<MatchOp> {
        Some(match self.peek() {
            Token::Sign("=") => MatchOp::Equal,
            Token::Sign("!=") => MatchOp::NotEqual,
            Token::Sign("=~") => MatchOp::Regex,
            Token::Sign("!~") => MatchOp::NotRegex,
            _ => return None,
        })
    }

    fn matcher(&mut self) -> Result<Matcher, ParseError> {
        let name = self.name()?;
        let Some(op) = self.match_op() else {
            return Err(self.unexpected("=, =~, !~ or !="));
        };
        self.at += 1;
        let value = self.text()?;
        Matcher::new(op, name, value).map_err(|e| {
            self.at -= 1;
            self.error(e.to_string())
        })
    }

    fn stages(&mut self, stages: &mut Vec<Stage>) -> Result<(), ParseError> {
        while let Some(stage) = self.stage()? {
            if stages.len() == STAGES_MAX {
                return Err(self.error(format!("a pipeline has at most {STAGES_MAX} stages")));
            }
            stages.push(stage);
        }
        Ok(())
    }

    /// Names in brackets; the opening one is next.
    fn names(&mut self) -> Result<Vec<String>, ParseError> {
        self.expect("(")?;
        let mut names = Vec::new();
        if self.take(")") {
            return Ok(names);
        }
        loop {
            if !matches!(self.peek(), Token::Word(_)) && names.is_empty() {
                return Err(self.unexpected("IDENTIFIER or )"));
            }
            names.push(self.name()?);
            if self.take(")") {
                return Ok(names);
            }
            if !self.take(",") {
                return Err(self.unexpected(") or ,"));
            }
        }
    }
}
