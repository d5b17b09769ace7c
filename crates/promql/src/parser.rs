//! Turns a query into its tree. Errors are worded as Prometheus words them; the first one in
//! order of reading is given.

mod check;
mod duration;
mod lexer;
mod selector;

use kittiwake_model::Matcher;
use kittiwake_vector::{Arithmetic, Cardinality, Fill, Grouping, Matching, Operator};

use crate::ast::{
    AggregateOp, Aggregation, At, Binary, Call, Edges, Expr, Matrix, Number, Paren, Place, Shift,
    Subquery, Text, Unary,
};
use crate::error::ParseError;
use crate::functions::Function;
use crate::text;
use lexer::{Keyword, Kind, Lexer, Token};

/// Deeper trees are refused: each level takes a piece of the stack, here and in evaluation.
pub const DEPTH_MAX: usize = 200;

/// Parses and checks an expression.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(query);
    if parser.token.kind == Kind::End {
        return Err(ParseError::at(
            query,
            Place::default(),
            "no expression found in input",
        ));
    }
    let expr = parser
        .expr(0, 0)
        .and_then(|expr| parser.end().map(|()| expr));
    match (parser.errors.into_iter().next(), expr) {
        (Some(error), _) => Err(error),
        (None, expr) => {
            let mut expr = expr?;
            check::check(query, &mut expr)?;
            Ok(expr)
        }
    }
}

/// Parses a selector as `match[]` takes it: `up{job="x"}`.
pub fn parse_selector(query: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(query);
    let selector = parser.vector_selector();
    let selector = selector.and_then(|selector| parser.end().map(|()| selector));
    match (parser.errors.into_iter().next(), selector) {
        (Some(error), _) => Err(error),
        (None, selector) => Ok(selector?.matchers),
    }
}

struct Parser<'a> {
    query: &'a str,
    lexer: Lexer<'a>,
    /// The next token, not yet used.
    token: Token<'a>,
    /// Where the last used token ends.
    last_end: usize,
    /// Errors that do not stop the reading.
    errors: Vec<ParseError>,
}

fn sign_of(kind: Kind) -> Option<bool> {
    match kind {
        Kind::Operator(Operator::Arithmetic(Arithmetic::Add)) => Some(false),
        Kind::Operator(Operator::Arithmetic(Arithmetic::Subtract)) => Some(true),
        _ => None,
    }
}

/// What stands where an error was reported; it is never seen.
fn nothing(place: Place) -> Expr {
    Expr::Text(Text {
        value: String::new(),
        bytes: None,
        place,
    })
}

impl<'a> Parser<'a> {
    fn new(query: &'a str) -> Self {
        let mut lexer = Lexer::new(query);
        let token = lexer.next();
        Self {
            query,
            lexer,
            token,
            last_end: 0,
            errors: Vec::new(),
        }
    }

    /// Uses the next token.
    fn next_token(&mut self) -> Token<'a> {
        let token = self.token;
        self.last_end = token.place().end;
        if token.kind != Kind::Error {
            self.token = self.lexer.next();
        }
        token
    }

    fn report(&mut self, place: Place, message: impl Into<String>) {
        self.errors.push(ParseError::at(self.query, place, message));
    }

    fn unexpected(&mut self, context: &str, expected: &str) -> ParseError {
        let place = self.token.place();
        if let Some(error) = self.lexer.error.take() {
            return ParseError::at(self.query, place, error);
        }
        let mut message = format!("unexpected {}", self.token.described());
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        ParseError::at(self.query, place, message)
    }

    fn unexpected_duration(&mut self) -> ParseError {
        self.unexpected(
            "subquery or range selector",
            "number, duration, step(), or range()",
        )
    }

    fn expect(
        &mut self,
        kind: Kind,
        context: &str,
        expected: &str,
    ) -> Result<Token<'a>, ParseError> {
        if self.token.kind == kind {
            Ok(self.next_token())
        } else {
            Err(self.unexpected(context, expected))
        }
    }

    fn takes(&mut self, kind: Kind) -> bool {
        let is_next = self.token.kind == kind;
        if is_next {
            self.next_token();
        }
        is_next
    }

    fn takes_keyword(&mut self, keyword: Keyword) -> bool {
        self.takes(Kind::Keyword(keyword))
    }

    fn check_depth(&self, depth: usize) -> Result<(), ParseError> {
        if depth <= DEPTH_MAX {
            return Ok(());
        }
        let message = format!("expression is nested more than {DEPTH_MAX} levels deep");
        Err(ParseError::at(self.query, self.token.place(), message))
    }

    fn end(&mut self) -> Result<(), ParseError> {
        if self.token.kind == Kind::End {
            Ok(())
        } else {
            Err(self.unexpected("", ""))
        }
    }

    /// An expression of operators that bind at least as tightly as `least`.
    fn expr(&mut self, least: u8, depth: usize) -> Result<Expr, ParseError> {
        self.check_depth(depth)?;
        let mut left = self.unary(depth + 1)?;
        let mut height = 0;
        while let Kind::Operator(op) = self.token.kind {
            let precedence = op.precedence();
            if precedence < least {
                break;
            }
            // A chain of operators makes a tree as deep as it is long.
            height += 1;
            self.check_depth(depth + height)?;
            self.next_token();
            let (returns_bool, matching) = self.binary_modifiers()?;
            let is_power = op == Operator::Arithmetic(Arithmetic::Power);
            let right = self.expr(precedence + u8::from(!is_power), depth + 1)?;
            left = Expr::Binary(Binary {
                op,
                returns_bool,
                matching: Some(matching),
                left: Box::new(left),
                right: Box::new(right),
            });
        }
        Ok(left)
    }

    fn unary(&mut self, depth: usize) -> Result<Expr, ParseError> {
        let Some(is_negative) = sign_of(self.token.kind) else {
            return self.postfix(depth);
        };
        let sign = self.next_token();
        // A sign binds as a product does: only a power binds tighter.
        let inner = self.expr(6, depth + 1)?;
        Ok(match inner {
            Expr::Number(mut number) => {
                if is_negative {
                    number.value = -number.value;
                }
                number.place.start = sign.start;
                Expr::Number(number)
            }
            inner => {
                let place = sign.place().to(inner.place().end);
                Expr::Unary(Unary {
                    is_negative,
                    inner: Box::new(inner),
                    place,
                })
            }
        })
    }

    fn postfix(&mut self, depth: usize) -> Result<Expr, ParseError> {
        let mut expr = self.primary(depth)?;
        let mut height = 0;
        loop {
            match self.token.kind {
                Kind::LeftBracket => {
                    height += 1;
                    self.check_depth(depth + height)?;
                    expr = self.range(expr, depth + 1)?;
                }
                Kind::Keyword(Keyword::Offset) => self.offset(&mut expr, depth + 1)?,
                Kind::At => self.at(&mut expr)?,
                Kind::Keyword(Keyword::Anchored) => {
                    self.edges(&mut expr, Edges::Anchored, "anchored");
                }
                Kind::Keyword(Keyword::Smoothed) => {
                    self.edges(&mut expr, Edges::Smoothed, "smoothed");
                }
                _ => return Ok(expr),
            }
        }
    }

    fn primary(&mut self, depth: usize) -> Result<Expr, ParseError> {
        let token = self.token;
        match token.kind {
            Kind::Number | Kind::Duration => {
                self.next_token();
                Ok(Expr::Number(self.number(token)))
            }
            Kind::Text => {
                self.next_token();
                Ok(Expr::Text(self.text(token)))
            }
            Kind::LeftParen => {
                self.next_token();
                let inner = self.expr(0, depth + 1)?;
                let end = self.expect(Kind::RightParen, "", "")?;
                Ok(Expr::Paren(Paren {
                    inner: Box::new(inner),
                    place: token.place().to(end.place().end),
                }))
            }
            Kind::Aggregate(op) => {
                let mut ahead = self.lexer.clone();
                let next = ahead.next().kind;
                let modifier = [Keyword::By, Keyword::Without].map(Kind::Keyword);
                if next == Kind::LeftParen || modifier.contains(&next) {
                    self.aggregate(op, depth)
                } else {
                    self.vector_selector().map(Expr::Vector)
                }
            }
            Kind::Identifier => self.call_or_selector(depth),
            Kind::Keyword(keyword) if keyword.is_function() => self.call_or_selector(depth),
            _ => self.vector_selector().map(Expr::Vector),
        }
    }

    fn call_or_selector(&mut self, depth: usize) -> Result<Expr, ParseError> {
        let mut ahead = self.lexer.clone();
        if ahead.next().kind != Kind::LeftParen {
            return self.vector_selector().map(Expr::Vector);
        }
        let name = self.next_token();
        let function = Function::of(name.text).or_else(|| {
            // Keywords are read whatever their case.
            matches!(name.kind, Kind::Keyword(_))
                .then(|| Function::of(&name.text.to_ascii_lowercase()))?
        });
        if function.is_none() {
            let shown = kittiwake_model::quote(name.text);
            self.report(name.place(), format!("unknown function with name {shown}"));
        }
        let args = self.args(depth + 1)?;
        let place = name.place().to(self.last_end);
        let Some(function) = function else {
            return Ok(nothing(place));
        };
        Ok(Expr::Call(Call {
            function,
            args,
            place,
        }))
    }

    fn args(&mut self, depth: usize) -> Result<Vec<Expr>, ParseError> {
        self.expect(Kind::LeftParen, "", "")?;
        let mut args = Vec::new();
        if self.takes(Kind::RightParen) {
            return Ok(args);
        }
        loop {
            args.push(self.expr(0, depth)?);
            let comma = self.token;
            if !self.takes(Kind::Comma) {
                break;
            }
            if self.token.kind == Kind::RightParen {
                let message = "trailing commas not allowed in function call args";
                self.report(comma.place(), message);
                break;
            }
        }
        self.expect(Kind::RightParen, "", "")?;
        Ok(args)
    }

    fn aggregate(&mut self, op: AggregateOp, depth: usize) -> Result<Expr, ParseError> {
        let word = self.next_token();
        let mut modifier = self.aggregate_modifier()?;
        if self.token.kind != Kind::LeftParen {
            return Err(self.unexpected("aggregation", ""));
        }
        let mut args = self.args(depth + 1)?;
        if modifier.is_none() {
            modifier = self.aggregate_modifier()?;
        }
        let place = word.place().to(self.last_end);
        let wanted = 1 + usize::from(op.param().is_some());
        if args.is_empty() {
            self.report(place, "no arguments for aggregate expression provided");
        } else if args.len() != wanted {
            let got = args.len();
            self.report(
                place,
                format!(
                    "wrong number of arguments for aggregate expression provided, expected {wanted}, got {got}"
                ),
            );
        }
        let inner = args.pop().unwrap_or_else(|| nothing(place));
        let param = args.pop().filter(|_| op.param().is_some());
        let (grouping, is_without) = modifier.unwrap_or_default();
        Ok(Expr::Aggregate(Aggregation {
            op,
            param: param.map(Box::new),
            inner: Box::new(inner),
            grouping,
            is_without,
            place,
        }))
    }

    fn aggregate_modifier(&mut self) -> Result<Option<(Vec<String>, bool)>, ParseError> {
        let is_without = self.token.kind == Kind::Keyword(Keyword::Without);
        if !is_without && self.token.kind != Kind::Keyword(Keyword::By) {
            return Ok(None);
        }
        self.next_token();
        Ok(Some((self.grouping_labels()?, is_without)))
    }

    fn grouping_labels(&mut self) -> Result<Vec<String>, ParseError> {
        self.expect(Kind::LeftParen, "grouping opts", "\"(\"")?;
        let mut labels = Vec::new();
        while self.token.kind != Kind::RightParen {
            let token = self.token;
            let label = match token.kind {
                Kind::Text => {
                    self.next_token();
                    self.unquote(token)
                }
                Kind::Identifier
                | Kind::MetricIdentifier
                | Kind::Aggregate(_)
                | Kind::Operator(Operator::Set(_) | Operator::Arithmetic(Arithmetic::Atan2)) => {
                    self.next_token();
                    token.text.to_owned()
                }
                Kind::Keyword(keyword) if keyword != Keyword::Without => {
                    self.next_token();
                    token.text.to_owned()
                }
                _ => return Err(self.unexpected("grouping opts", "label")),
            };
            if label.is_empty() {
                self.report(token.place(), "invalid label name for grouping: \"\"");
            }
            labels.push(label);
            if self.token.kind != Kind::RightParen && !self.takes(Kind::Comma) {
                return Err(self.unexpected("grouping opts", "\",\" or \")\""));
            }
        }
        self.next_token();
        Ok(labels)
    }

    fn binary_modifiers(&mut self) -> Result<(bool, Matching), ParseError> {
        let returns_bool = self.takes_keyword(Keyword::Bool);
        let mut matching = Matching::default();
        let is_on = self.token.kind == Kind::Keyword(Keyword::On);
        if is_on || self.token.kind == Kind::Keyword(Keyword::Ignoring) {
            self.next_token();
            let labels = self.grouping_labels()?;
            matching.on = if is_on {
                Grouping::By(labels)
            } else {
                Grouping::Without(labels)
            };
            let is_left = self.token.kind == Kind::Keyword(Keyword::GroupLeft);
            if is_left || self.token.kind == Kind::Keyword(Keyword::GroupRight) {
                self.next_token();
                matching.cardinality = if is_left {
                    Cardinality::ManyToOne
                } else {
                    Cardinality::OneToMany
                };
                if self.token.kind == Kind::LeftParen {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        matching.fill = self.fill()?;
        Ok((returns_bool, matching))
    }

    fn fill(&mut self) -> Result<Fill, ParseError> {
        let mut fill = Fill::default();
        if self.takes_keyword(Keyword::Fill) {
            let value = self.fill_value()?;
            return Ok(Fill {
                left: Some(value),
                right: Some(value),
            });
        }
        loop {
            if fill.left.is_none() && self.takes_keyword(Keyword::FillLeft) {
                fill.left = Some(self.fill_value()?);
            } else if fill.right.is_none() && self.takes_keyword(Keyword::FillRight) {
                fill.right = Some(self.fill_value()?);
            } else {
                return Ok(fill);
            }
        }
    }

    fn fill_value(&mut self) -> Result<f64, ParseError> {
        self.expect(Kind::LeftParen, "", "")?;
        let is_negative = sign_of(self.token.kind);
        if is_negative.is_some() {
            self.next_token();
        }
        let token = self.token;
        if !matches!(token.kind, Kind::Number | Kind::Duration) {
            return Err(self.unexpected("", ""));
        }
        self.next_token();
        let value = self.number(token).value;
        self.expect(Kind::RightParen, "", "")?;
        Ok(if is_negative == Some(true) {
            -value
        } else {
            value
        })
    }

    fn number(&mut self, token: Token<'_>) -> Number {
        let is_duration = token.kind == Kind::Duration;
        let value = if is_duration {
            match text::parse_duration(token.text) {
                Ok(ms) => ms as f64 / 1000.0,
                Err(message) => {
                    self.report(token.place(), message);
                    0.0
                }
            }
        } else {
            number_value(token.text)
        };
        Number {
            value,
            is_duration,
            place: token.place(),
        }
    }

    fn text(&mut self, token: Token<'_>) -> Text {
        let place = token.place();
        match text::unquoted_bytes(token.text).map(String::from_utf8) {
            Some(Err(error)) => Text {
                value: String::from_utf8_lossy(error.as_bytes()).into_owned(),
                bytes: Some(error.into_bytes()),
                place,
            },
            _ => Text {
                value: self.unquote(token),
                bytes: None,
                place,
            },
        }
    }

    fn unquote(&mut self, token: Token<'_>) -> String {
        text::unquoted(token.text).unwrap_or_else(|| {
            let shown = kittiwake_model::quote(token.text);
            let message = format!("error unquoting string {shown}: invalid syntax");
            self.report(token.place(), message);
            String::new()
        })
    }

    fn range(&mut self, inner: Expr, depth: usize) -> Result<Expr, ParseError> {
        let open = self.next_token();
        let range = self.positive_duration(depth)?;
        if self.token.kind == Kind::RightBracket {
            let close = self.next_token();
            let place = inner.place().to(close.place().end);
            let problem = match &inner {
                Expr::Vector(selector) if selector.shift.has_offset() => {
                    Some("no offset modifiers allowed before range")
                }
                Expr::Vector(selector) if selector.shift.at.is_some() => {
                    Some("no @ modifiers allowed before range")
                }
                Expr::Vector(_) => None,
                _ => Some("ranges only allowed for vector selectors"),
            };
            let whole = open.place().to(close.place().end);
            return match (inner, problem) {
                (Expr::Vector(selector), None) => Ok(Expr::Matrix(Matrix {
                    selector,
                    range: range.into_length(),
                    place,
                })),
                (_, problem) => Err(ParseError::at(
                    self.query,
                    whole,
                    problem.unwrap_or_default(),
                )),
            };
        }
        self.expect(Kind::Colon, "subquery or range", "\":\" or \"]\"")?;
        let mut step = None;
        if self.token.kind != Kind::RightBracket {
            if matches!(
                self.token.kind,
                Kind::Comma | Kind::Colon | Kind::RightParen
            ) {
                let expected = "number, duration, step(), range(), or \"]\"";
                return Err(self.unexpected("subquery selector", expected));
            }
            step = Some(self.positive_duration(depth)?.into_length());
        }
        let close = self.expect(Kind::RightBracket, "subquery selector", "\"]\"")?;
        let place = inner.place().to(close.place().end);
        Ok(Expr::Subquery(Subquery {
            inner: Box::new(inner),
            range: range.into_length(),
            step,
            shift: Shift::default(),
            place,
        }))
    }

    /// Where the modifiers of an expression are kept, and its end.
    fn shift_of(expr: &mut Expr) -> Option<(&mut Shift, &mut Place)> {
        match expr {
            Expr::Vector(selector) => Some((&mut selector.shift, &mut selector.place)),
            Expr::Matrix(matrix) => Some((&mut matrix.selector.shift, &mut matrix.place)),
            Expr::Subquery(subquery) => Some((&mut subquery.shift, &mut subquery.place)),
            _ => None,
        }
    }

    fn offset(&mut self, expr: &mut Expr, depth: usize) -> Result<(), ParseError> {
        self.next_token();
        let starts_duration = sign_of(self.token.kind).is_some()
            || match self.token.kind {
                Kind::Number | Kind::Duration | Kind::LeftParen => true,
                Kind::Keyword(keyword) => {
                    keyword.is_function() && !matches!(keyword, Keyword::Start | Keyword::End)
                }
                _ => false,
            };
        if !starts_duration {
            return Err(self.unexpected("offset", "number, duration, step(), or range()"));
        }
        let offset = self.offset_duration(depth)?.into_length();
        let (place, end) = (expr.place(), self.last_end);
        match Self::shift_of(expr) {
            None => self.report(
                place,
                "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            ),
            Some((shift, _)) if shift.has_offset() => {
                self.report(place, "offset may not be set multiple times");
            }
            Some((shift, place)) => {
                shift.offset = offset;
                place.end = end;
            }
        }
        Ok(())
    }

    fn at(&mut self, expr: &mut Expr) -> Result<(), ParseError> {
        self.next_token();
        let sign = sign_of(self.token.kind);
        if sign.is_some() {
            self.next_token();
        }
        let token = self.token;
        let at = match token.kind {
            Kind::Number | Kind::Duration => {
                self.next_token();
                let value = self.number(token).value;
                let seconds = if sign == Some(true) { -value } else { value };
                if !seconds.is_finite() || seconds.abs() >= i64::MAX as f64 {
                    let message = format!("timestamp out of bounds for @ modifier: {seconds:.6}");
                    self.report(expr.place(), message);
                }
                At::Time((seconds * 1000.0).round() as i64)
            }
            Kind::Keyword(word @ (Keyword::Start | Keyword::End)) if sign.is_none() => {
                self.next_token();
                self.expect(Kind::LeftParen, "", "")?;
                self.expect(Kind::RightParen, "", "")?;
                if word == Keyword::Start {
                    At::Start
                } else {
                    At::End
                }
            }
            _ => return Err(self.unexpected("@", "timestamp")),
        };
        let (place, end) = (expr.place(), self.last_end);
        match Self::shift_of(expr) {
            None => self.report(
                place,
                "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            ),
            Some((shift, _)) if shift.at.is_some() => {
                self.report(place, "@ <timestamp> may not be set multiple times");
            }
            Some((shift, place)) => {
                shift.at = Some(at);
                place.end = end;
            }
        }
        Ok(())
    }

    fn edges(&mut self, expr: &mut Expr, edges: Edges, word: &str) {
        self.next_token();
        let place = expr.place();
        let selector = match expr {
            Expr::Vector(selector) => selector,
            Expr::Matrix(matrix) => &mut matrix.selector,
            Expr::Subquery(_) => {
                let message = format!("{word} modifier is not supported for subqueries");
                return self.report(place, message);
            }
            _ => return self.report(place, format!("{word} modifier not implemented")),
        };
        if !matches!(selector.edges, Edges::Plain) && selector.edges != edges {
            let message = "anchored and smoothed modifiers cannot be used together";
            return self.report(place, message);
        }
        selector.edges = edges;
    }
}

/// The value of a number as Go reads it: `0x1f`, octal with a leading 0, `1_000`, `1e5`, `Inf`.
pub(crate) fn number_value(text: &str) -> f64 {
    let plain = text.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).map_or(f64::NAN, |value| value as f64);
    }
    if lower.len() > 1
        && lower.starts_with('0')
        && let Ok(octal) = i64::from_str_radix(&lower, 8)
    {
        return octal as f64;
    }
    lower.parse().unwrap_or(f64::NAN)
}
