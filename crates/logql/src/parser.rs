//! From tokens to the tree.

use kittiwake_model::{LineFilter, MatchOp, Matcher, pattern};
use kittiwake_vector::{Arithmetic, Cardinality, Fold, Grouping, Matching, Operator, Rank};

use crate::ast::{Aggregate, Expr, LogExpr, MetricExpr, RangeOp, Stage};
use crate::error::ParseError;
use crate::lexer::{Token, tokens};

/// Bytes of a query at most.
const QUERY_BYTES_MAX: usize = 128 << 10;
/// Brackets and operators within each other at most.
const DEPTH_MAX: usize = 128;

const AGGREGATES: [&str; 9] = [
    "sum", "avg", "min", "max", "count", "stddev", "stdvar", "topk", "bottomk",
];

/// Parses a query.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(query)?;
    let expr = parser.expr(0, 0)?;
    parser.end()?;
    Ok(expr)
}

/// Parses a stream selector, like `{container="web"}`.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text)?;
    let selector = parser.selector()?;
    parser.end()?;
    Ok(selector)
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
            return Err(ParseError::at(query, 0, message));
        }
        Ok(Self {
            query,
            tokens: tokens(query)?,
            at: 0,
        })
    }

    fn peek(&self) -> &Token {
        // The last token is the end, and it is never passed.
        self.tokens.get(self.at).map_or(&Token::End, |(_, t)| t)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        let byte = self.tokens.get(self.at).map_or(self.query.len(), |t| t.0);
        ParseError::at(self.query, byte, message)
    }

    fn unexpected(&self, wanted: &str) -> ParseError {
        let shown = self.peek().shown();
        self.error(format!(
            "syntax error: unexpected {shown}, expecting {wanted}"
        ))
    }

    fn take(&mut self, sign: &str) -> bool {
        let is_it = matches!(self.peek(), Token::Sign(s) if *s == sign);
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

    fn take_word(&mut self, word: &str) -> bool {
        let is_it = matches!(self.peek(), Token::Word(w) if w.eq_ignore_ascii_case(word));
        self.at += usize::from(is_it);
        is_it
    }

    fn end(&self) -> Result<(), ParseError> {
        match self.peek() {
            Token::End => Ok(()),
            other => Err(self.error(format!("syntax error: unexpected {}", other.shown()))),
        }
    }

    /// An expression whose operators bind at least so tightly.
    fn expr(&mut self, binding: u8, depth: usize) -> Result<Expr, ParseError> {
        if depth > DEPTH_MAX {
            return Err(self.error("the query is nested too deeply"));
        }
        let start = self.at;
        let mut left = self.operand(depth)?;
        while let Some(op) = self.binary_op() {
            let tightness = op.precedence();
            if tightness < binding {
                break;
            }
            self.at += 1;
            let returns_bool = matches!(op, Operator::Comparison(_)) && self.take_word("bool");
            let matching = self.matching()?;
            // A power binds to the right.
            let next = if op == Operator::Arithmetic(Arithmetic::Power) {
                tightness
            } else {
                tightness + 1
            };
            let right_at = self.at;
            let right = self.expr(next, depth + 1)?;
            let (l, r) = (self.metric(left, start)?, self.metric(right, right_at)?);
            left = Expr::Metric(MetricExpr::Binary {
                op,
                returns_bool,
                matching,
                left: Box::new(l),
                right: Box::new(r),
            });
        }
        Ok(left)
    }

    fn metric(&self, expr: Expr, at: usize) -> Result<MetricExpr, ParseError> {
        match expr {
            Expr::Metric(expr) => Ok(expr),
            Expr::Log(_) => {
                let byte = self.tokens.get(at).map_or(0, |t| t.0);
                let message = "unexpected type for left leg of binary operation: a log query gives lines, not numbers";
                Err(ParseError::at(self.query, byte, message))
            }
        }
    }

    fn binary_op(&self) -> Option<Operator> {
        match self.peek() {
            Token::Sign(sign) => Operator::of(sign),
            Token::Word(word) => Operator::of(&word.to_ascii_lowercase()),
            _ => None,
        }
    }

    fn matching(&mut self) -> Result<Matching, ParseError> {
        let mut matching = Matching::default();
        let is_on = self.take_word("on");
        if !is_on && !self.take_word("ignoring") {
            return Ok(matching);
        }
        let labels = self.names()?;
        matching.on = if is_on {
            Grouping::By(labels)
        } else {
            Grouping::Without(labels)
        };
        let is_left = self.take_word("group_left");
        if is_left || self.take_word("group_right") {
            matching.cardinality = if is_left {
                Cardinality::ManyToOne
            } else {
                Cardinality::OneToMany
            };
            if matches!(self.peek(), Token::Sign("(")) {
                matching.include = self.names()?;
            }
        }
        Ok(matching)
    }

    fn operand(&mut self, depth: usize) -> Result<Expr, ParseError> {
        match self.peek().clone() {
            Token::Sign("{") => self.log().map(Expr::Log),
            Token::Sign("(") => {
                self.at += 1;
                let expr = self.expr(0, depth + 1)?;
                self.expect(")")?;
                match expr {
                    // Stages may follow the brackets.
                    Expr::Log(mut log) => {
                        self.stages(&mut log.stages)?;
                        Ok(Expr::Log(log))
                    }
                    metric @ Expr::Metric(_) => Ok(metric),
                }
            }
            Token::Number(number) => {
                self.at += 1;
                Ok(Expr::Metric(MetricExpr::Number(number)))
            }
            Token::Sign(sign @ ("-" | "+")) => {
                self.at += 1;
                let Token::Number(number) = self.next() else {
                    self.at -= 1;
                    return Err(self.unexpected("NUMBER"));
                };
                let number = if sign == "-" { -number } else { number };
                Ok(Expr::Metric(MetricExpr::Number(number)))
            }
            Token::Word(word) => {
                if let Some(op) = RangeOp::of(&word) {
                    self.at += 1;
                    self.range(op).map(Expr::Metric)
                } else if AGGREGATES.contains(&word.as_str()) {
                    self.at += 1;
                    self.aggregate(&word, depth).map(Expr::Metric)
                } else {
                    Err(self.error(format!("syntax error: unexpected IDENTIFIER {word:?}")))
                }
            }
            _ => Err(self.unexpected("a selector, a number or a function")),
        }
    }

    fn log(&mut self) -> Result<LogExpr, ParseError> {
        let mut log = LogExpr {
            selector: self.selector()?,
            stages: Vec::new(),
        };
        self.stages(&mut log.stages)?;
        Ok(log)
    }

    fn selector(&mut self) -> Result<Vec<Matcher>, ParseError> {
        self.expect("{")?;
        let start = self.at;
        let mut matchers = Vec::new();
        while !self.take("}") {
            let Token::Word(name) = self.next() else {
                self.at -= usize::from(self.at > start);
                return Err(self.unexpected("IDENTIFIER or }"));
            };
            let op = match self.next() {
                Token::Sign("=") => MatchOp::Equal,
                Token::Sign("!=") => MatchOp::NotEqual,
                Token::Sign("=~") => MatchOp::Regex,
                Token::Sign("!~") => MatchOp::NotRegex,
                _ => {
                    self.at -= 1;
                    return Err(self.unexpected("=, !=, =~ or !~"));
                }
            };
            let Token::Text(value) = self.peek().clone() else {
                return Err(self.unexpected("STRING"));
            };
            matchers.push(Matcher::new(op, name, value).map_err(|e| self.error(e.to_string()))?);
            self.at += 1;
            if !self.take(",") && !matches!(self.peek(), Token::Sign("}")) {
                return Err(self.unexpected("} or ,"));
            }
        }
        if matchers.iter().all(Matcher::matches_empty) {
            self.at = start - 1;
            return Err(self.error("queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will"));
        }
        Ok(matchers)
    }

    fn stages(&mut self, stages: &mut Vec<Stage>) -> Result<(), ParseError> {
        loop {
            let (is_regex, is_not) = match self.peek() {
                Token::Sign("|=") => (false, false),
                Token::Sign("!=") => (false, true),
                Token::Sign("|~") => (true, false),
                Token::Sign("!~") => (true, true),
                Token::Sign(sign @ ("|>" | "!>" | "|")) => {
                    let message = format!(
                        "stages that start with {sign} are not supported yet; line filters (|=, !=, |~, !~) are"
                    );
                    return Err(self.error(message));
                }
                _ => return Ok(()),
            };
            self.at += 1;
            let (mut texts, mut regexes) = (Vec::new(), Vec::new());
            loop {
                let Token::Text(text) = self.peek().clone() else {
                    return Err(self.unexpected("STRING"));
                };
                if is_regex {
                    let regex = pattern::unanchored(&text)
                        .map_err(|e| self.error(format!("error parsing regexp: {e}")))?;
                    regexes.push(regex);
                } else {
                    texts.push(text);
                }
                self.at += 1;
                if !self.take_word("or") {
                    break;
                }
            }
            stages.push(Stage::Line(match (is_regex, is_not) {
                (false, false) => LineFilter::Contains(texts),
                (false, true) => LineFilter::NotContains(texts),
                (true, false) => LineFilter::Matches(regexes),
                (true, true) => LineFilter::NotMatches(regexes),
            }));
        }
    }

    fn range(&mut self, op: RangeOp) -> Result<MetricExpr, ParseError> {
        self.expect("(")?;
        let mut brackets = 0;
        while self.take("(") {
            brackets += 1;
        }
        let mut log = LogExpr {
            selector: self.selector()?,
            stages: Vec::new(),
        };
        let mut window = None;
        // The window stands behind the selector, behind the stages, or behind brackets.
        loop {
            if matches!(self.peek(), Token::Sign("[")) && window.is_none() {
                window = Some(self.window()?);
            } else if brackets > 0 && self.take(")") {
                brackets -= 1;
            } else {
                let before = log.stages.len();
                self.stages(&mut log.stages)?;
                if log.stages.len() == before {
                    break;
                }
            }
        }
        let Some((window_ns, offset_ns)) = window else {
            return Err(self.unexpected("RANGE"));
        };
        self.expect(")")?;
        Ok(MetricExpr::Range {
            op,
            log,
            window_ns,
            offset_ns,
        })
    }

    fn window(&mut self) -> Result<(i64, i64), ParseError> {
        self.expect("[")?;
        let Token::DurationNs(window_ns) = self.peek().clone() else {
            return Err(self.unexpected("DURATION"));
        };
        if window_ns <= 0 {
            return Err(self.error("the range must be longer than 0"));
        }
        self.at += 1;
        self.expect("]")?;
        let mut offset_ns = 0;
        if self.take_word("offset") {
            let is_negative = self.take("-");
            let Token::DurationNs(ns) = self.peek().clone() else {
                return Err(self.unexpected("DURATION"));
            };
            self.at += 1;
            offset_ns = if is_negative { -ns } else { ns };
        }
        Ok((window_ns, offset_ns))
    }

    fn aggregate(&mut self, op: &str, depth: usize) -> Result<MetricExpr, ParseError> {
        let mut grouping = self.grouping()?;
        self.expect("(")?;
        let mut k = 0;
        if matches!(op, "topk" | "bottomk") {
            let Token::Number(number) = *self.peek() else {
                return Err(self.error(format!("parameter required for operation {op}")));
            };
            if number < 1.0 {
                return Err(self.error(format!(
                    "invalid parameter (must be greater than 0) {op}({number}"
                )));
            }
            k = number as usize;
            self.at += 1;
            self.expect(",")?;
        }
        let by = match op {
            "sum" => Aggregate::Fold(Fold::Sum),
            "avg" => Aggregate::Fold(Fold::Avg),
            "min" => Aggregate::Fold(Fold::Min),
            "max" => Aggregate::Fold(Fold::Max),
            "count" => Aggregate::Fold(Fold::Count),
            "stddev" => Aggregate::Fold(Fold::Stddev),
            "stdvar" => Aggregate::Fold(Fold::Stdvar),
            "topk" => Aggregate::Rank(Rank::Topk, k),
            _ => Aggregate::Rank(Rank::Bottomk, k),
        };
        let at = self.at;
        let inner = self.expr(0, depth + 1)?;
        let Expr::Metric(inner) = inner else {
            let byte = self.tokens.get(at).map_or(0, |t| t.0);
            let message = "syntax error: an aggregation needs numbers: wrap the log query, as in rate({...}[5m])";
            return Err(ParseError::at(self.query, byte, message));
        };
        self.expect(")")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        Ok(MetricExpr::Aggregate {
            by,
            grouping: grouping.unwrap_or(Grouping::By(Vec::new())),
            inner: Box::new(inner),
        })
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        let is_by = self.take_word("by");
        if !is_by && !self.take_word("without") {
            return Ok(None);
        }
        let labels = self.names()?;
        Ok(Some(if is_by {
            Grouping::By(labels)
        } else {
            Grouping::Without(labels)
        }))
    }

    fn names(&mut self) -> Result<Vec<String>, ParseError> {
        self.expect("(")?;
        let mut names = Vec::new();
        while !self.take(")") {
            let Token::Word(name) = self.peek().clone() else {
                return Err(self.unexpected("IDENTIFIER or )"));
            };
            self.at += 1;
            names.push(name);
            if !self.take(",") && !matches!(self.peek(), Token::Sign(")")) {
                return Err(self.unexpected(") or ,"));
            }
        }
        Ok(names)
    }
}
