//! Expressions that give numbers, and the operators between them.

use kittiwake_vector::{Arithmetic, Cardinality, Fold, Grouping, Matching, Operator, Rank};

use super::{DEPTH_MAX, Parser, check};
use crate::ast::{Conversion, Expr, LogExpr, MetricExpr, RangeExpr, RangeOp, Unwrap, VectorOp};
use crate::error::ParseError;
use crate::lexer::Token;

const VECTOR_OPS: [&str; 12] = [
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "sort",
    "sort_desc",
    "approx_topk",
];

impl Parser<'_> {
    /// An expression whose operators bind at least so tightly.
    pub(super) fn expr(&mut self, binding: u8, depth: usize) -> Result<Expr, ParseError> {
        if depth > DEPTH_MAX {
            return Err(self.error("the query is nested too deeply"));
        }
        let mut left = self.operand(depth)?;
        // Chains of operators count as depth, since they are walked by recursion.
        let mut chained = depth;
        while let Some(op) = self.binary_op() {
            let tightness = op.precedence();
            if tightness < binding {
                break;
            }
            chained += 1;
            self.at += 1;
            let returns_bool = self.take_word("bool");
            let matching = self.matching()?;
            // A power binds to the right.
            let next = if op == Operator::Arithmetic(Arithmetic::Power) {
                tightness
            } else {
                tightness + 1
            };
            let right = self.expr(next, chained)?;
            left = Expr::Metric(binary(op, returns_bool, matching, left, right)?);
        }
        Ok(left)
    }

    fn binary_op(&self) -> Option<Operator> {
        let op = match self.peek() {
            Token::Sign(sign) => Operator::of(sign),
            Token::Word(word) => Operator::of(&word.to_ascii_lowercase()),
            _ => None,
        };
        op.filter(|op| *op != Operator::Arithmetic(Arithmetic::Atan2))
    }

    fn matching(&mut self) -> Result<Option<Matching>, ParseError> {
        let mut matching = Matching::default();
        let is_on = self.take_word("on");
        if !is_on && !self.take_word("ignoring") {
            return Ok(None);
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
            // A bracket behind it lists labels only when it looks like that; else it opens
            // the right side.
            let lists = *self.ahead(1) == Token::Sign(")")
                || matches!(self.ahead(1), Token::Word(_))
                    && matches!(self.ahead(2), Token::Sign("," | ")"));
            if self.is_sign("(") && lists {
                matching.include = self.names()?;
            }
        }
        Ok(Some(matching))
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
            Token::Number(_) | Token::Sign("-" | "+") => {
                self.signed().map(|n| Expr::Metric(MetricExpr::Number(n)))
            }
            Token::Word(word) => {
                let is_call = matches!(self.ahead(1), Token::Sign("("))
                    || matches!(self.ahead(1), Token::Word(w) if w == "by" || w == "without");
                if !is_call {
                    return Err(self.unexpected(""));
                }
                let metric = if let Some(op) = RangeOp::of(&word) {
                    self.at += 1;
                    self.range(op)?
                } else if VECTOR_OPS.contains(&word.as_str()) {
                    self.at += 1;
                    self.aggregate(&word, depth)?
                } else if word == "label_replace" {
                    self.at += 1;
                    self.label_replace(depth)?
                } else if word == "vector" {
                    self.at += 1;
                    self.expect("(")?;
                    let number = self.signed()?;
                    self.expect(")")?;
                    MetricExpr::Vector(number)
                } else {
                    return Err(self.unexpected(""));
                };
                Ok(Expr::Metric(metric))
            }
            _ => Err(self.unexpected("")),
        }
    }

    fn signed(&mut self) -> Result<f64, ParseError> {
        let is_negative = self.is_sign("-");
        self.at += usize::from(is_negative || self.is_sign("+"));
        let Token::Number(number) = *self.peek() else {
            return Err(self.unexpected("NUMBER"));
        };
        self.at += 1;
        Ok(if is_negative { -number } else { number })
    }

    fn label_replace(&mut self, depth: usize) -> Result<MetricExpr, ParseError> {
        self.expect("(")?;
        let inner = self.metric(depth)?;
        let mut texts = Vec::with_capacity(4);
        for _ in 0..4 {
            self.expect(",")?;
            texts.push(self.text()?);
        }
        self.expect(")")?;
        let mut texts = texts.into_iter();
        let mut next = || texts.next().unwrap_or_default();
        let (dst, replacement, src, regex) = (next(), next(), next(), next());
        if let Err(error) = kittiwake_model::pattern::anchored(&regex) {
            return Err(ParseError::whole(format!(
                "invalid regex in label_replace: {error}"
            )));
        }
        Ok(MetricExpr::LabelReplace {
            inner: Box::new(inner),
            dst,
            replacement,
            src,
            regex,
        })
    }

    /// An expression that gives numbers.
    fn metric(&mut self, depth: usize) -> Result<MetricExpr, ParseError> {
        match self.expr(0, depth + 1)? {
            Expr::Metric(metric) => Ok(metric),
            // What is missing is a window, and it is missed where the lines end.
            Expr::Log(_) => Err(self.unexpected("")),
        }
    }

    /// `variants(…) of (…)`
    pub(super) fn variants(&mut self) -> Result<MetricExpr, ParseError> {
        self.at += 1;
        self.expect("(")?;
        let mut variants = vec![self.metric(0)?];
        while self.take(",") {
            variants.push(self.metric(0)?);
        }
        self.expect(")")?;
        if !self.take_word("of") {
            return Err(self.unexpected("of"));
        }
        self.expect("(")?;
        let of = self.log_range(RangeOp::CountOverTime, 0)?;
        self.expect(")")?;
        check(&of.log)?;
        Ok(MetricExpr::Variants { variants, of })
    }

    fn range(&mut self, mut op: RangeOp) -> Result<MetricExpr, ParseError> {
        self.expect("(")?;
        let parameter = if let Token::Number(number) = *self.peek() {
            self.at += 1;
            self.expect(",")?;
            Some(number)
        } else {
            None
        };
        let mut range = self.log_range(op, 0)?;
        self.expect(")")?;
        range.grouping = self.grouping()?;
        match (&mut op, parameter) {
            (RangeOp::QuantileOverTime(phi), Some(number)) => *phi = number,
            (RangeOp::QuantileOverTime(_), None) => {
                return Err(ParseError::whole(
                    "parameter required for operation quantile_over_time",
                ));
            }
            (_, Some(_)) => {
                let message = format!(
                    "parameter {} not supported for operation {}",
                    crate::units::go_float(parameter.unwrap_or_default()),
                    op.as_str()
                );
                return Err(ParseError::whole(message));
            }
            (_, None) => {}
        }
        range.op = op;
        if range.grouping.is_some() && !op.can_group() {
            let message = format!("grouping not allowed for {} aggregation", op.as_str());
            return Err(ParseError::whole(message));
        }
        let takes_numbers =
            op.needs_unwrap() || matches!(op, RangeOp::Rate | RangeOp::AbsentOverTime);
        if range.unwrap.is_none() && op.needs_unwrap() {
            let message = format!("invalid aggregation {} without unwrap", op.as_str());
            return Err(ParseError::whole(message));
        }
        if range.unwrap.is_some() && !takes_numbers {
            let message = format!("invalid aggregation {} with unwrap", op.as_str());
            return Err(ParseError::whole(message));
        }
        check(&range.log)?;
        crate::pipeline::check_filters(range.unwrap.as_ref()).map_err(ParseError::whole)?;
        Ok(MetricExpr::Range(range))
    }

    /// Lines with their window, which stands behind the selector, behind the stages, or behind
    /// the brackets around them.
    fn log_range(&mut self, op: RangeOp, depth: usize) -> Result<RangeExpr, ParseError> {
        if depth > DEPTH_MAX {
            return Err(self.error("the query is nested too deeply"));
        }
        if self.take("(") {
            let start = self.at;
            // Either a whole range stands in the brackets, or only the lines of one.
            if let Ok(range) = self.log_range(op, depth + 1)
                && self.take(")")
            {
                return Ok(range);
            }
            self.at = start;
            let log = LogExpr {
                selector: self.matchers()?,
                stages: Vec::new(),
            };
            let mut range = RangeExpr {
                op,
                log,
                unwrap: None,
                window_ns: 0,
                offset_ns: 0,
                grouping: None,
            };
            self.stages(&mut range.log.stages)?;
            range.unwrap = self.unwrap()?;
            self.expect(")")?;
            self.window(&mut range)?;
            if range.unwrap.is_none() {
                range.unwrap = self.unwrap()?;
            }
            return Ok(range);
        }
        if !self.is_sign("{") {
            return Err(self.unexpected(""));
        }
        let mut range = RangeExpr {
            op,
            log: LogExpr {
                selector: self.matchers()?,
                stages: Vec::new(),
            },
            unwrap: None,
            window_ns: 0,
            offset_ns: 0,
            grouping: None,
        };
        if self.is_sign("[") {
            self.window(&mut range)?;
            self.stages(&mut range.log.stages)?;
            range.unwrap = self.unwrap()?;
        } else {
            self.stages(&mut range.log.stages)?;
            range.unwrap = self.unwrap()?;
            self.window(&mut range)?;
        }
        Ok(range)
    }

    fn unwrap(&mut self) -> Result<Option<Unwrap>, ParseError> {
        if !(self.is_sign("|") && matches!(self.ahead(1), Token::Word(w) if w == "unwrap")) {
            return Ok(None);
        }
        self.at += 2;
        let name = self.name()?;
        let mut unwrap = Unwrap {
            name,
            conversion: Conversion::Number,
            filters: Vec::new(),
        };
        if self.is_sign("(") {
            unwrap.conversion = match unwrap.name.as_str() {
                "duration" => Conversion::Duration,
                "duration_seconds" => Conversion::DurationSeconds,
                "bytes" => Conversion::Bytes,
                _ => return Err(self.unexpected("")),
            };
            self.at += 1;
            unwrap.name = self.name()?;
            self.expect(")")?;
        }
        while self.take("|") {
            unwrap.filters.push(self.label_filter(0, 0)?);
            if unwrap.filters.len() > super::STAGES_MAX {
                return Err(self.error("too many filters"));
            }
        }
        Ok(Some(unwrap))
    }

    fn window(&mut self, range: &mut RangeExpr) -> Result<(), ParseError> {
        if !self.is_sign("[") {
            return Err(self.unexpected(""));
        }
        self.at += 1;
        let Token::DurationNs(window_ns) = *self.peek() else {
            return Err(self.unexpected("DURATION"));
        };
        if window_ns < 0 {
            return Err(self.error("the range must not be negative"));
        }
        self.at += 1;
        self.expect("]")?;
        range.window_ns = window_ns;
        if self.take_word("offset") {
            let is_negative = self.take("-");
            let Token::DurationNs(ns) = *self.peek() else {
                return Err(self.unexpected("DURATION"));
            };
            self.at += 1;
            range.offset_ns = if is_negative { -ns } else { ns };
        }
        Ok(())
    }

    fn aggregate(&mut self, name: &str, depth: usize) -> Result<MetricExpr, ParseError> {
        let mut grouping = self.grouping()?;
        self.expect("(")?;
        let mut parameter = None;
        if let Token::Number(number) = *self.peek()
            && *self.ahead(1) == Token::Sign(",")
        {
            self.at += 2;
            parameter = Some(number);
        }
        let inner = self.metric(depth)?;
        self.expect(")")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let op = vector_op(name, parameter, grouping.is_some())?;
        // By no label at all is what is done anyway.
        grouping = grouping.filter(|g| *g != Grouping::By(Vec::new()));
        Ok(MetricExpr::Aggregate {
            op,
            grouping,
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
}

fn vector_op(name: &str, parameter: Option<f64>, groups: bool) -> Result<VectorOp, ParseError> {
    let ranks = matches!(name, "topk" | "bottomk" | "approx_topk");
    let k = match parameter {
        None if ranks => {
            let message = format!("parameter required for operation {name}");
            return Err(ParseError::whole(message));
        }
        Some(number) if !ranks => {
            let message = format!(
                "unsupported parameter for operation {name}({},",
                crate::units::go_float(number)
            );
            return Err(ParseError::whole(message));
        }
        Some(number) if number < 1.0 || number.fract() != 0.0 => {
            let message = format!(
                "invalid parameter (must be greater than 0) {name}({}",
                crate::units::go_float(number)
            );
            return Err(ParseError::whole(message));
        }
        number => number.unwrap_or_default() as usize,
    };
    if groups && matches!(name, "sort" | "sort_desc" | "approx_topk") {
        let message = format!("grouping not allowed for {name} aggregation");
        return Err(ParseError::whole(message));
    }
    Ok(match name {
        "sum" => VectorOp::Fold(Fold::Sum),
        "avg" => VectorOp::Fold(Fold::Avg),
        "min" => VectorOp::Fold(Fold::Min),
        "max" => VectorOp::Fold(Fold::Max),
        "count" => VectorOp::Fold(Fold::Count),
        "stddev" => VectorOp::Fold(Fold::Stddev),
        "stdvar" => VectorOp::Fold(Fold::Stdvar),
        "topk" => VectorOp::Rank(Rank::Topk, k),
        "bottomk" => VectorOp::Rank(Rank::Bottomk, k),
        "sort" => VectorOp::Sort,
        "sort_desc" => VectorOp::SortDesc,
        _ => VectorOp::ApproxTopk(k),
    })
}

fn binary(
    op: Operator,
    returns_bool: bool,
    matching: Option<Matching>,
    left: Expr,
    right: Expr,
) -> Result<MetricExpr, ParseError> {
    let sign = op.as_str();
    let metric = |expr: Expr, leg: &str| match expr {
        Expr::Metric(metric) => Ok(metric),
        Expr::Log(log) => Err(ParseError::whole(format!(
            "unexpected type for {leg} leg of binary operation ({sign}): {log} gives lines, not numbers"
        ))),
    };
    let (left, right) = (metric(left, "left")?, metric(right, "right")?);
    let is_set = matches!(op, Operator::Set(_));
    for (leg, side) in [("left", &left), ("right", &right)] {
        if is_set && let MetricExpr::Number(number) = side {
            return Err(ParseError::whole(format!(
                "unexpected literal for {leg} leg of logical/set binary operation ({sign}): {}",
                crate::units::go_float(*number)
            )));
        }
    }
    if is_set
        && matching
            .as_ref()
            .is_some_and(|m| m.cardinality != Cardinality::OneToOne)
    {
        return Err(ParseError::whole(format!(
            "no grouping allowed for {sign} operation"
        )));
    }
    Ok(MetricExpr::Binary {
        op,
        returns_bool: returns_bool && matches!(op, Operator::Comparison(_)),
        matching,
        left: Box::new(left),
        right: Box::new(right),
    })
}
