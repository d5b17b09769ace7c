//! Selectors of series: a name, matchers in braces, or both.

use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{MatchOp, Matcher};
use kittiwake_vector::{Comparison, Operator};

use super::Parser;
use super::lexer::{Kind, Token};
use crate::ast::{Edges, Selector, Shift};
use crate::error::ParseError;

fn can_be_name(kind: Kind) -> bool {
    match kind {
        Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregate(_) => true,
        Kind::Keyword(keyword) => keyword.can_be_metric(),
        Kind::Operator(op) => matches!(op, Operator::Set(_)),
        _ => false,
    }
}

fn match_op(kind: Kind) -> Option<MatchOp> {
    Some(match kind {
        Kind::Equal => MatchOp::Equal,
        Kind::EqualRegex => MatchOp::Regex,
        Kind::NotRegex => MatchOp::NotRegex,
        Kind::Operator(Operator::Comparison(Comparison::NotEqual)) => MatchOp::NotEqual,
        _ => return None,
    })
}

impl Parser<'_> {
    pub(super) fn vector_selector(&mut self) -> Result<Selector, ParseError> {
        let first = self.token;
        let has_name = can_be_name(first.kind);
        let name = if has_name {
            self.next_token().text.to_owned()
        } else if first.kind == Kind::LeftBrace {
            String::new()
        } else {
            return Err(self.unexpected("", ""));
        };
        let mut matchers = Vec::new();
        if self.token.kind == Kind::LeftBrace {
            matchers = self.label_matchers()?;
        }
        if has_name {
            matchers.push(Matcher::equal(METRIC_NAME, name.clone()));
        }
        Ok(Selector {
            name,
            matchers,
            shift: Shift::default(),
            edges: Edges::Plain,
            place: first.place().to(self.last_end),
        })
    }

    fn label_matchers(&mut self) -> Result<Vec<Matcher>, ParseError> {
        self.next_token();
        let mut matchers = Vec::new();
        while self.token.kind != Kind::RightBrace {
            if let Some(matcher) = self.label_matcher()? {
                matchers.push(matcher);
            }
            if self.token.kind != Kind::RightBrace && !self.takes(Kind::Comma) {
                return Err(self.unexpected("label matching", "\",\" or \"}\""));
            }
        }
        self.next_token();
        Ok(matchers)
    }

    fn label_matcher(&mut self) -> Result<Option<Matcher>, ParseError> {
        let label = self.token;
        let name = match label.kind {
            Kind::Identifier => {
                self.next_token();
                label.text.to_owned()
            }
            Kind::Text => {
                self.next_token();
                self.unquote(label)
            }
            _ => return Err(self.unexpected("label matching", "identifier or \"}\"")),
        };
        let Some(op) = match_op(self.token.kind) else {
            if label.kind == Kind::Text {
                return Ok(Some(Matcher::equal(METRIC_NAME, name)));
            }
            return Err(self.unexpected("label matching", "label matching operator"));
        };
        self.next_token();
        let value = self.token;
        if value.kind != Kind::Text {
            return Err(self.unexpected("label matching", "string"));
        }
        self.next_token();
        let text = self.unquote(value);
        Ok(self.matcher(label, op, name, text, value))
    }

    fn matcher(
        &mut self,
        label: Token<'_>,
        op: MatchOp,
        name: String,
        value: String,
        last: Token<'_>,
    ) -> Option<Matcher> {
        match Matcher::new(op, name, value) {
            Ok(matcher) => Some(matcher),
            Err(error) => {
                let place = label.place().to(last.place().end);
                self.report(place, format!("error parsing regexp: {}", error.reason));
                None
            }
        }
    }
}
