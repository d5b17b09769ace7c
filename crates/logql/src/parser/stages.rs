//! The stages of a pipeline.

use kittiwake_vector::Comparison;

use super::{DEPTH_MAX, Parser};
use crate::ast::{
    Extraction, LabelFilter, LabelFormat, NamedMatcher, Stage, TextFilter, TextOp, Wanted,
};
use crate::error::ParseError;
use crate::lexer::Token;

impl Parser<'_> {
    /// The stage that stands here, if one does. `| unwrap` is none.
    pub(super) fn stage(&mut self) -> Result<Option<Stage>, ParseError> {
        let op = match self.peek() {
            Token::Sign("|=") => TextOp::Contains,
            Token::Sign("!=") => TextOp::NotContains,
            Token::Sign("|~") => TextOp::Matches,
            Token::Sign("!~") => TextOp::NotMatches,
            Token::Sign("|>") => TextOp::Like,
            Token::Sign("!>") => TextOp::NotLike,
            Token::Sign("|") => {
                if matches!(self.ahead(1), Token::Word(word) if word == "unwrap") {
                    return Ok(None);
                }
                self.at += 1;
                return self.piped().map(Some);
            }
            _ => return Ok(None),
        };
        // A comparison of numbers, or with `bool` and the like, is no filter.
        if op == TextOp::NotContains && !self.starts_wanted(1) {
            return Ok(None);
        }
        self.at += 1;
        let mut alternatives = Vec::new();
        loop {
            alternatives.push(self.wanted()?);
            if !(self.is_word("or") && self.starts_wanted(1)) {
                break;
            }
            self.at += 1;
        }
        Ok(Some(Stage::Line(TextFilter { op, alternatives })))
    }

    fn starts_wanted(&self, ahead: usize) -> bool {
        match self.ahead(ahead) {
            Token::Text(_) => true,
            Token::Word(word) => word == "ip" && *self.ahead(ahead + 1) == Token::Sign("("),
            Token::End => true,
            _ => false,
        }
    }

    fn wanted(&mut self) -> Result<Wanted, ParseError> {
        if let Token::Text(text) = self.peek().clone() {
            self.at += 1;
            return Ok(Wanted::Text(text));
        }
        if !self.is_word("ip") {
            return Err(self.unexpected("STRING or ip"));
        }
        self.ip().map(Wanted::Ip)
    }

    /// `ip("…")`
    fn ip(&mut self) -> Result<String, ParseError> {
        self.at += 1;
        self.expect("(")?;
        let pattern = self.text()?;
        self.expect(")")?;
        Ok(pattern)
    }

    fn piped(&mut self) -> Result<Stage, ParseError> {
        let Token::Word(word) = self.peek().clone() else {
            if self.is_sign("(") {
                return self.label_filter(0, 0).map(Stage::Label);
            }
            return Err(self.unexpected(""));
        };
        // A label can have the name of a stage.
        let is_label = matches!(
            self.ahead(1),
            Token::Sign("=" | "!=" | "=~" | "!~" | ">" | ">=" | "<" | "<=" | "==")
        ) && !(matches!(self.ahead(1), Token::Sign("!=" | "!~"))
            && matches!(word.as_str(), "json" | "logfmt" | "unpack" | "decolorize"));
        if is_label {
            return self.label_filter(0, 0).map(Stage::Label);
        }
        self.at += 1;
        Ok(match word.as_str() {
            "json" => Stage::Json(self.extractions(false)?),
            "logfmt" => {
                let (mut strict, mut keep_empty) = (false, false);
                while let Token::Flag(flag) = self.peek().clone() {
                    match flag.as_str() {
                        "strict" => strict = true,
                        "keep-empty" => keep_empty = true,
                        _ => return Err(self.unexpected("")),
                    }
                    self.at += 1;
                }
                Stage::Logfmt {
                    strict,
                    keep_empty,
                    fields: self.extractions(false)?,
                }
            }
            "regexp" => Stage::Regexp(self.text()?),
            "pattern" => Stage::Pattern(self.text()?),
            "unpack" => Stage::Unpack,
            "line_format" => Stage::LineFormat(self.text()?),
            "label_format" => Stage::LabelFormat(self.label_formats()?),
            "decolorize" => Stage::Decolorize,
            "drop" => Stage::Drop(self.named_matchers()?),
            "keep" => Stage::Keep(self.named_matchers()?),
            _ => return Err(self.unexpected("")),
        })
    }

    fn extractions(&mut self, is_wanted: bool) -> Result<Vec<Extraction>, ParseError> {
        let mut fields = Vec::new();
        while is_wanted || !fields.is_empty() || matches!(self.peek(), Token::Word(_)) {
            // What may follow a pipeline is no field.
            if fields.is_empty()
                && (self.is_word("or") || self.is_word("and") || self.is_word("unless"))
            {
                break;
            }
            let name = self.name()?;
            let path = if self.take("=") {
                self.text()?
            } else {
                name.clone()
            };
            fields.push(Extraction { name, path });
            if !self.take(",") {
                break;
            }
        }
        Ok(fields)
    }

    fn label_formats(&mut self) -> Result<Vec<LabelFormat>, ParseError> {
        let mut formats = Vec::new();
        loop {
            let name = self.name()?;
            self.expect("=")?;
            let (value, is_rename) = match self.peek().clone() {
                Token::Word(word) => (word, true),
                Token::Text(text) => (text, false),
                _ => return Err(self.unexpected("IDENTIFIER or STRING")),
            };
            self.at += 1;
            formats.push(LabelFormat {
                name,
                value,
                is_rename,
            });
            if !self.take(",") {
                return Ok(formats);
            }
        }
    }

    fn named_matchers(&mut self) -> Result<Vec<NamedMatcher>, ParseError> {
        let mut names = Vec::new();
        loop {
            let has_value = matches!(self.ahead(1), Token::Sign("=" | "=~"))
                || matches!(self.ahead(1), Token::Sign("!=" | "!~"))
                    && matches!(self.ahead(2), Token::Text(_));
            names.push(if has_value {
                NamedMatcher::Matcher(self.matcher()?)
            } else {
                NamedMatcher::Name(self.name()?)
            });
            if !self.take(",") {
                return Ok(names);
            }
        }
    }

    /// A filter on labels whose operators bind at least so tightly. A comma, or nothing,
    /// between two takes all that follows as its right side.
    pub(super) fn label_filter(
        &mut self,
        binding: u8,
        depth: usize,
    ) -> Result<LabelFilter, ParseError> {
        if depth > DEPTH_MAX {
            return Err(self.error("the query is nested too deeply"));
        }
        let mut left = if self.take("(") {
            let inner = self.label_filter(0, depth + 1)?;
            self.expect(")")?;
            inner
        } else {
            self.comparison()?
        };
        // Chains of equal operators grow to the left; they count as depth, too, since they are
        // walked by recursion.
        let mut chained = depth;
        loop {
            chained += 1;
            if chained > DEPTH_MAX {
                return Err(self.error("the query is nested too deeply"));
            }
            if self.is_word("or") && binding <= 1 {
                self.at += 1;
                let right = self.label_filter(2, chained)?;
                left = LabelFilter::Or(Box::new(left), Box::new(right));
            } else if self.is_word("and") && binding <= 2 {
                self.at += 1;
                let right = self.label_filter(3, chained)?;
                left = LabelFilter::And(Box::new(left), Box::new(right));
            } else if self.take(",") || self.starts_comparison() {
                let right = self.label_filter(0, chained)?;
                left = LabelFilter::And(Box::new(left), Box::new(right));
            } else {
                return Ok(left);
            }
        }
    }

    fn starts_comparison(&self) -> bool {
        match self.peek() {
            Token::Word(_) => matches!(
                self.ahead(1),
                Token::Sign("=" | "!=" | "=~" | "!~" | ">" | ">=" | "<" | "<=" | "==")
            ),
            Token::Sign("(") => true,
            _ => false,
        }
    }

    fn comparison(&mut self) -> Result<LabelFilter, ParseError> {
        if !matches!(self.peek(), Token::Word(_)) {
            return Err(self.unexpected(""));
        }
        if matches!(self.ahead(2), Token::Text(_)) {
            return self.matcher().map(LabelFilter::Text);
        }
        let name = self.name()?;
        let op = match self.peek() {
            Token::Sign("=" | "==") => Comparison::Equal,
            Token::Sign("!=") => Comparison::NotEqual,
            Token::Sign(">") => Comparison::Greater,
            Token::Sign(">=") => Comparison::GreaterOrEqual,
            Token::Sign("<") => Comparison::Less,
            Token::Sign("<=") => Comparison::LessOrEqual,
            Token::Sign("=~" | "!~") => {
                self.at += 1;
                return Err(self.unexpected("STRING"));
            }
            _ => return Err(self.unexpected("")),
        };
        let is_strict = self.is_sign("=") || self.is_sign("!=");
        self.at += 1;
        if self.is_word("ip") && is_strict && *self.ahead(1) == Token::Sign("(") {
            return Ok(LabelFilter::Ip {
                name,
                is_negated: op == Comparison::NotEqual,
                pattern: self.ip()?,
            });
        }
        let sign = if self.take("-") {
            -1.0
        } else {
            self.take("+");
            1.0
        };
        let filter = match *self.peek() {
            Token::Number(number) => LabelFilter::Number(name, op, sign * number),
            Token::DurationNs(ns) => LabelFilter::Duration(name, op, sign as i64 * ns),
            Token::Bytes(bytes) if sign > 0.0 => LabelFilter::Bytes(name, op, bytes),
            _ => return Err(self.unexpected("")),
        };
        self.at += 1;
        Ok(filter)
    }
}
