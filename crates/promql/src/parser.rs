//! From text to the tree, without a separate list of tokens: what a word means depends on
//! where it stands.

use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{MatchOp, Matcher};
use kittiwake_vector::{Arithmetic, Cardinality, Grouping, Matching, Operator};

use crate::ast::{AggregateOp, At, Expr, Node, Shift, ValueType};
use crate::error::ParseError;
use crate::functions;

/// Bytes of a query at most.
const QUERY_BYTES_MAX: usize = 128 << 10;
/// Brackets and operators within each other at most.
const DEPTH_MAX: usize = 128;

type Result<T> = std::result::Result<T, ParseError>;

/// Parses a query and checks its types.
pub fn parse(query: &str) -> Result<Expr> {
    let mut parser = Parser::new(query)?;
    if parser.rest().is_empty() {
        return Err(parser.error("no expression found in input"));
    }
    let node = parser.expr(0, 0)?;
    parser.end()?;
    Ok(Expr(node))
}

/// Parses a series selector, like `up{job="x"}`.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>> {
    let mut parser = Parser::new(text)?;
    let name = parser.metric_name();
    let matchers = parser.matchers(name)?;
    parser.end()?;
    Ok(matchers)
}

struct Parser<'a> {
    query: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn new(query: &'a str) -> Result<Self> {
        if query.len() > QUERY_BYTES_MAX {
            let message = format!("the query is longer than {QUERY_BYTES_MAX} bytes");
            return Err(ParseError::at(query, 0, message));
        }
        let mut parser = Self { query, at: 0 };
        parser.skip();
        Ok(parser)
    }

    fn rest(&self) -> &'a str {
        &self.query[self.at..]
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::at(self.query, self.at, message)
    }

    fn error_at(&self, at: usize, message: impl Into<String>) -> ParseError {
        ParseError::at(self.query, at, message)
    }

    fn unexpected(&self, context: &str) -> ParseError {
        let rest = self.rest();
        let shown = match rest.chars().next() {
            None => "end of input".to_owned(),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                format!("identifier {:?}", &rest[..word_len(rest)])
            }
            Some(c) if c.is_ascii_digit() => format!("number {:?}", &rest[..word_len(rest).max(1)]),
            Some(c) => format!("{:?}", c.to_string()),
        };
        self.error(format!("unexpected {shown}{context}"))
    }

    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn take(&mut self, sign: &str) -> bool {
        let is_it = self.rest().starts_with(sign);
        if is_it {
            self.at += sign.len();
            self.skip();
        }
        is_it
    }

    fn expect(&mut self, sign: &str, context: &str) -> Result<()> {
        if self.take(sign) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("{context}, expected {sign:?}")))
        }
    }

    /// The word here, if there is one, without passing it.
    fn peek_word(&self) -> &'a str {
        let rest = self.rest();
        let starts = rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':');
        if starts { &rest[..word_len(rest)] } else { "" }
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_it = self.peek_word().eq_ignore_ascii_case(word);
        if is_it {
            self.at += word.len();
            self.skip();
        }
        is_it
    }

    fn end(&self) -> Result<()> {
        if self.rest().is_empty() {
            Ok(())
        } else {
            Err(self.unexpected(""))
        }
    }

    fn operator(&self) -> Option<(Operator, usize)> {
        let word = self.peek_word().to_ascii_lowercase();
        if !word.is_empty() {
            return Operator::of(&word).map(|op| (op, word.len()));
        }
        [2, 1].iter().find_map(|len| {
            let sign = self.rest().get(..*len)?;
            Operator::of(sign).map(|op| (op, *len))
        })
    }

    /// An expression whose operators bind at least so tightly.
    fn expr(&mut self, binding: u8, depth: usize) -> Result<Node> {
        if depth > DEPTH_MAX {
            return Err(self.error("the query is nested too deeply"));
        }
        let start = self.at;
        let mut left = self.unary(depth)?;
        while let Some((op, len)) = self.operator() {
            let tightness = op.precedence();
            if tightness < binding {
                break;
            }
            let op_at = self.at;
            self.at += len;
            self.skip();
            let returns_bool = self.take_word("bool");
            let has_matching = ["on", "ignoring"]
                .iter()
                .any(|w| self.peek_word().eq_ignore_ascii_case(w));
            let matching = self.matching(op)?;
            let next = if op == Operator::Arithmetic(Arithmetic::Power) {
                tightness
            } else {
                tightness + 1
            };
            let right = self.expr(next, depth + 1)?;
            self.check_binary(
                op,
                returns_bool,
                has_matching,
                (start, op_at),
                &left,
                &right,
            )?;
            left = Node::Binary {
                op,
                returns_bool,
                matching,
                left: Box::new(left),
                right: Box::new(right),
            };
        }
        Ok(left)
    }

    fn check_binary(
        &self,
        op: Operator,
        returns_bool: bool,
        has_matching: bool,
        (start, op_at): (usize, usize),
        left: &Node,
        right: &Node,
    ) -> Result<()> {
        let (l, r) = (left.value_type(), right.value_type());
        let is_fine = |t| matches!(t, ValueType::Scalar | ValueType::Vector);
        if !is_fine(l) || !is_fine(r) {
            return Err(self.error_at(
                start,
                "binary expression must contain only scalar and instant vector types",
            ));
        }
        let scalars = [l, r].iter().filter(|t| **t == ValueType::Scalar).count();
        if returns_bool && !matches!(op, Operator::Comparison(_)) {
            return Err(self.error_at(
                op_at,
                "bool modifier can only be used on comparison operators",
            ));
        }
        if scalars == 2 && !returns_bool && matches!(op, Operator::Comparison(_)) {
            return Err(self.error_at(start, "comparisons between scalars must use BOOL modifier"));
        }
        if scalars > 0 && matches!(op, Operator::Set(_)) {
            let message = format!(
                "set operator {:?} not allowed in binary scalar expression",
                op.as_str()
            );
            return Err(self.error_at(start, message));
        }
        if scalars > 0 && has_matching {
            return Err(self.error_at(
                start,
                "vector matching only allowed between instant vectors",
            ));
        }
        Ok(())
    }

    fn matching(&mut self, op: Operator) -> Result<Matching> {
        let mut matching = Matching::default();
        let is_on = self.take_word("on");
        if !is_on && !self.take_word("ignoring") {
            return Ok(matching);
        }
        let names = self.names()?;
        let at = self.at;
        let is_left = self.take_word("group_left");
        if is_left || self.take_word("group_right") {
            if matches!(op, Operator::Set(_)) {
                let message = format!("no grouping allowed for {:?} operation", op.as_str());
                return Err(self.error_at(at, message));
            }
            matching.cardinality = if is_left {
                Cardinality::ManyToOne
            } else {
                Cardinality::OneToMany
            };
            if self.rest().starts_with('(') {
                matching.include = self.names()?;
            }
            if is_on && let Some(both) = matching.include.iter().find(|n| names.contains(n)) {
                let message =
                    format!("label {both:?} must not occur in ON and GROUP clause at once");
                return Err(self.error_at(at, message));
            }
        }
        matching.on = if is_on {
            Grouping::By(names)
        } else {
            Grouping::Without(names)
        };
        Ok(matching)
    }

    fn unary(&mut self, depth: usize) -> Result<Node> {
        let start = self.at;
        let is_negative = self.rest().starts_with('-');
        if !is_negative && !self.rest().starts_with('+') {
            return self.postfix(depth);
        }
        self.at += 1;
        self.skip();
        // A sign binds less tightly than a power, and more than all else.
        let inner = self.expr(6, depth + 1)?;
        if !matches!(inner.value_type(), ValueType::Scalar | ValueType::Vector) {
            let message = format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                quoted_type(inner.value_type())
            );
            return Err(self.error_at(start, message));
        }
        Ok(if is_negative {
            Node::Negate(Box::new(inner))
        } else {
            inner
        })
    }

    /// An operand with ranges and modifiers behind it.
    fn postfix(&mut self, depth: usize) -> Result<Node> {
        let start = self.at;
        let mut node = self.operand(depth)?;
        loop {
            if self.rest().starts_with('[') {
                node = self.range(node, start)?;
            } else if self.peek_word().eq_ignore_ascii_case("offset") {
                let at = self.at;
                self.take_word("offset");
                let is_negative = self.take("-");
                let ms = self.duration(" in offset")?;
                let shift = shift_of(&mut node).ok_or_else(|| {
                    self.error_at(at, "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery")
                })?;
                if shift.offset_ms != 0 {
                    return Err(self.error_at(at, "offset may not be set multiple times"));
                }
                shift.offset_ms = if is_negative { -ms } else { ms };
            } else if self.rest().starts_with('@') {
                let at = self.at;
                self.take("@");
                let time = self.at_time()?;
                let shift = shift_of(&mut node).ok_or_else(|| {
                    self.error_at(at, "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery")
                })?;
                if shift.at.is_some() {
                    return Err(self.error_at(at, "@ <timestamp> may not be set multiple times"));
                }
                shift.at = Some(time);
            } else {
                return Ok(node);
            }
        }
    }

    fn at_time(&mut self) -> Result<At> {
        for (word, at) in [("start", At::Start), ("end", At::End)] {
            if self.take_word(word) {
                self.expect("(", " in @")?;
                self.expect(")", " in @")?;
                return Ok(at);
            }
        }
        let at = self.at;
        let is_negative = self.take("-");
        if !is_negative {
            self.take("+");
        }
        let seconds = self
            .number()?
            .ok_or_else(|| self.unexpected(" in @, expected timestamp"))?;
        let seconds = if is_negative { -seconds } else { seconds };
        let ms = (seconds * 1000.0).round();
        if !ms.is_finite() || ms.abs() > 9e15 {
            return Err(self.error_at(at, "timestamp out of bounds for @ modifier"));
        }
        Ok(At::Time(ms as i64))
    }

    fn range(&mut self, node: Node, start: usize) -> Result<Node> {
        let at = self.at;
        self.take("[");
        let range_ms = self.duration(" in range")?;
        if range_ms <= 0 {
            return Err(self.error_at(at, "duration must be greater than 0"));
        }
        if self.take(":") {
            let step_ms = if self.rest().starts_with(']') {
                None
            } else {
                Some(self.duration(" in subquery")?)
            };
            if step_ms.is_some_and(|ms| ms <= 0) {
                return Err(self.error_at(at, "duration must be greater than 0"));
            }
            self.expect("]", " in subquery")?;
            if node.value_type() != ValueType::Vector {
                let message = format!(
                    "subquery is only allowed on instant vector, got {} instead",
                    node.value_type()
                );
                return Err(self.error_at(start, message));
            }
            return Ok(Node::Subquery {
                inner: Box::new(node),
                range_ms,
                step_ms,
                shift: Shift::default(),
            });
        }
        self.expect("]", " in range")?;
        match node {
            Node::Vector { matchers, shift } => {
                if shift != Shift::default() {
                    return Err(self.error_at(at, "no offset modifiers allowed before range"));
                }
                Ok(Node::Matrix {
                    matchers,
                    range_ms,
                    shift,
                })
            }
            _ => Err(self.error_at(at, "ranges only allowed for vector selectors")),
        }
    }

    fn operand(&mut self, depth: usize) -> Result<Node> {
        let rest = self.rest();
        if self.take("(") {
            let inner = self.expr(0, depth + 1)?;
            self.expect(")", " in paren expression")?;
            return Ok(Node::Brackets(Box::new(inner)));
        }
        if rest.starts_with(['"', '\'', '`']) {
            return Ok(Node::Text(self.text()?));
        }
        if rest.starts_with('{') {
            return Ok(Node::Vector {
                matchers: self.matchers(None)?,
                shift: Shift::default(),
            });
        }
        if let Some(number) = self.number()? {
            return Ok(Node::Number(number));
        }
        let word = self.peek_word();
        if word.is_empty() {
            return Err(self.unexpected(""));
        }
        let start = self.at;
        let after = self.rest()[word.len()..].trim_start();
        let lower = word.to_ascii_lowercase();
        let begins_group = ["by", "without"].iter().any(|w| {
            after
                .get(..w.len())
                .is_some_and(|a| a.eq_ignore_ascii_case(w))
        });
        if let Some(op) = AggregateOp::of(&lower)
            && (after.starts_with('(') || begins_group)
        {
            self.take_word(word);
            return self.aggregate(op, &lower, depth);
        }
        if after.starts_with('(') {
            self.take_word(word);
            return self.call(word, start, depth);
        }
        let name = self.metric_name();
        Ok(Node::Vector {
            matchers: self.matchers(name)?,
            shift: Shift::default(),
        })
    }

    fn metric_name(&mut self) -> Option<&'a str> {
        let word = self.peek_word();
        self.at += word.len();
        self.skip();
        (!word.is_empty()).then_some(word)
    }

    /// `{...}` behind a name, or by itself.
    fn matchers(&mut self, name: Option<&str>) -> Result<Vec<Matcher>> {
        let start = self.at;
        let mut matchers: Vec<Matcher> = Vec::new();
        let mut has_name = false;
        if let Some(name) = name {
            matchers.push(Matcher::equal(METRIC_NAME, name));
            has_name = true;
        } else if !self.rest().starts_with('{') {
            return Err(self.unexpected(""));
        }
        if self.take("{") {
            while !self.take("}") {
                let at = self.at;
                let quoted = self.rest().starts_with(['"', '\'', '`']);
                let label = if quoted {
                    self.text()?
                } else {
                    let word = self.peek_word();
                    if word.is_empty() || word.contains(':') {
                        return Err(
                            self.unexpected(" in label matching, expected identifier or \"}\"")
                        );
                    }
                    self.at += word.len();
                    self.skip();
                    word.to_owned()
                };
                let op = if self.take("=~") {
                    MatchOp::Regex
                } else if self.take("!~") {
                    MatchOp::NotRegex
                } else if self.take("!=") {
                    MatchOp::NotEqual
                } else if self.take("=") {
                    MatchOp::Equal
                } else if quoted && self.rest().starts_with([',', '}']) {
                    if has_name {
                        return Err(self.error_at(
                            at,
                            format!("metric name must not be set twice: {label:?}"),
                        ));
                    }
                    has_name = true;
                    matchers.push(Matcher::equal(METRIC_NAME, label));
                    self.take(",");
                    continue;
                } else {
                    return Err(
                        self.unexpected(" in label matching, expected label matching operator")
                    );
                };
                if !self.rest().starts_with(['"', '\'', '`']) {
                    return Err(self.unexpected(" in label matching, expected string"));
                }
                let value = self.text()?;
                if label == METRIC_NAME && name.is_some() {
                    let name = name.unwrap_or("");
                    return Err(self.error_at(
                        at,
                        format!("metric name must not be set twice: {name:?} or {value:?}"),
                    ));
                }
                let matcher =
                    Matcher::new(op, label, value).map_err(|e| self.error_at(at, e.to_string()))?;
                matchers.push(matcher);
                if !self.take(",") && !self.rest().starts_with('}') {
                    return Err(self.unexpected(" in label matching, expected \",\" or \"}\""));
                }
            }
        }
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(self.error_at(
                start,
                "vector selector must contain at least one non-empty matcher",
            ));
        }
        Ok(matchers)
    }

    fn aggregate(&mut self, op: AggregateOp, name: &str, depth: usize) -> Result<Node> {
        let mut grouping = self.grouping()?;
        let start = self.at;
        self.expect("(", " in aggregation")?;
        let mut args = Vec::new();
        while !self.take(")") {
            args.push((self.at, self.expr(0, depth + 1)?));
            if !self.take(",") && !self.rest().starts_with(')') {
                return Err(self.unexpected(" in aggregation, expected \",\" or \")\""));
            }
        }
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let wanted = 1 + usize::from(op.param().is_some());
        if args.len() != wanted {
            let message = if args.is_empty() {
                "no arguments for aggregate expression provided".to_owned()
            } else {
                format!(
                    "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                    args.len()
                )
            };
            return Err(self.error_at(start, message));
        }
        let inner = args.pop();
        let param = args.pop();
        let Some((at, inner)) = inner else {
            return Err(self.error_at(start, "no arguments for aggregate expression provided"));
        };
        self.check_type(at, &inner, ValueType::Vector, "aggregation expression")?;
        if let (Some((at, param)), Some(wanted)) = (&param, op.param()) {
            self.check_type(
                *at,
                param,
                wanted,
                &format!("aggregation parameter of {name}"),
            )?;
        }
        Ok(Node::Aggregate {
            op,
            param: param.map(|(_, p)| Box::new(p)),
            grouping: grouping.unwrap_or(Grouping::By(Vec::new())),
            inner: Box::new(inner),
        })
    }

    fn grouping(&mut self) -> Result<Option<Grouping>> {
        if self.take_word("by") {
            return Ok(Some(Grouping::By(self.names()?)));
        }
        if self.take_word("without") {
            return Ok(Some(Grouping::Without(self.names()?)));
        }
        Ok(None)
    }

    fn names(&mut self) -> Result<Vec<String>> {
        self.expect("(", " in grouping opts")?;
        let mut names = Vec::new();
        while !self.take(")") {
            let rest = self.rest();
            if rest.starts_with(['"', '\'', '`']) {
                names.push(self.text()?);
            } else {
                let word = self.peek_word();
                if word.is_empty() || word.contains(':') {
                    return Err(self.unexpected(" in grouping opts, expected label"));
                }
                self.at += word.len();
                self.skip();
                names.push(word.to_owned());
            }
            if !self.take(",") && !self.rest().starts_with(')') {
                return Err(self.unexpected(" in grouping opts, expected \",\" or \")\""));
            }
        }
        Ok(names)
    }

    fn call(&mut self, name: &str, start: usize, depth: usize) -> Result<Node> {
        let Some(function) = functions::find(name) else {
            return Err(self.error_at(start, format!("unknown function with name {name:?}")));
        };
        self.expect("(", " in function call")?;
        let mut args: Vec<(usize, Node)> = Vec::new();
        while !self.take(")") {
            args.push((self.at, self.expr(0, depth + 1)?));
            if !self.take(",") && !self.rest().starts_with(')') {
                return Err(self.unexpected(" in function call, expected \",\" or \")\""));
            }
        }
        let (least, most) = (function.least, function.takes.len());
        if args.len() < least || (args.len() > most && !function.is_variadic) {
            let how = match args.len() < least {
                _ if least == most && !function.is_variadic => "expected".to_owned(),
                true => "expected at least".to_owned(),
                false => "expected at most".to_owned(),
            };
            let count = if args.len() < least { least } else { most };
            let message = format!(
                "{how} {count} argument(s) in call to {name:?}, got {}",
                args.len()
            );
            return Err(self.error_at(start, message));
        }
        for (index, (at, arg)) in args.iter().enumerate() {
            let wanted = function.takes.get(index).or(function.takes.last());
            if let Some(wanted) = wanted {
                self.check_type(*at, arg, *wanted, &format!("call to function {name:?}"))?;
            }
        }
        Ok(Node::Call {
            function,
            args: args.into_iter().map(|(_, a)| a).collect(),
        })
    }

    fn check_type(&self, at: usize, node: &Node, wanted: ValueType, place: &str) -> Result<()> {
        let got = node.value_type();
        if got == wanted {
            return Ok(());
        }
        let message = format!("expected type {wanted} in {place}, got {got}");
        Err(self.error_at(at, message))
    }

    /// A number here, a duration in seconds included.
    fn number(&mut self) -> Result<Option<f64>> {
        let rest = self.rest();
        let word = self.peek_word();
        for (name, value) in [("inf", f64::INFINITY), ("nan", f64::NAN)] {
            let is_call = rest[word.len()..].trim_start().starts_with(['(', '{']);
            if word.eq_ignore_ascii_case(name) && !is_call {
                self.take_word(word);
                return Ok(Some(value));
            }
        }
        let starts = rest.starts_with(|c: char| c.is_ascii_digit())
            || (rest.starts_with('.') && rest[1..].starts_with(|c: char| c.is_ascii_digit()));
        if !starts {
            return Ok(None);
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
        let mut len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let is_hex = rest.starts_with("0x") || rest.starts_with("0X");
        if rest[..len].ends_with(['e', 'E']) && !is_hex && rest[len..].starts_with(['+', '-']) {
            let digits = rest[len + 1..].find(|c: char| !c.is_ascii_digit());
            len += 1 + digits.unwrap_or(rest.len() - len - 1);
        }
        let text = rest[..len].replace('_', "");
        let parsed = if is_hex {
            u64::from_str_radix(&text[2..], 16).ok().map(|n| n as f64)
        } else if text.len() > 1
            && text.starts_with('0')
            && text.bytes().all(|b| (b'0'..b'8').contains(&b))
        {
            // As in Go, a leading zero makes it octal.
            u64::from_str_radix(&text, 8).ok().map(|n| n as f64)
        } else {
            text.parse::<f64>().ok()
        };
        let value = parsed.or_else(|| parse_duration(&text).map(|ms| ms as f64 / 1000.0));
        let Some(value) = value else {
            return Err(self.error(format!("bad number or duration syntax: {:?}", &rest[..len])));
        };
        self.at += len;
        self.skip();
        Ok(Some(value))
    }

    /// A duration in ms: with units, or a number of seconds.
    fn duration(&mut self, context: &str) -> Result<i64> {
        let at = self.at;
        let Some(seconds) = self.number()? else {
            return Err(self.unexpected(&format!("{context}, expected duration")));
        };
        let ms = (seconds * 1000.0).round();
        if !ms.is_finite() || ms.abs() > 9.2e15 {
            return Err(self.error_at(at, "duration out of range"));
        }
        Ok(ms as i64)
    }

    /// A string in Go's form.
    fn text(&mut self) -> Result<String> {
        let start = self.at;
        let rest = self.rest();
        let mut chars = rest.char_indices();
        let Some((_, quote)) = chars.next() else {
            return Err(self.unexpected(""));
        };
        if quote == '`' {
            let Some(end) = rest[1..].find('`') else {
                return Err(self.error("unterminated raw string"));
            };
            self.at += end + 2;
            self.skip();
            return Ok(rest[1..=end].to_owned());
        }
        let mut bytes: Vec<u8> = Vec::new();
        let mut utf8 = [0; 4];
        while let Some((offset, c)) = chars.next() {
            if c == quote {
                self.at += offset + c.len_utf8();
                self.skip();
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            if c == '\n' {
                break;
            }
            if c != '\\' {
                bytes.extend(c.encode_utf8(&mut utf8).bytes());
                continue;
            }
            let bad = || self.error_at(start + offset, "unknown escape sequence");
            let (_, escape) = chars.next().ok_or_else(bad)?;
            let mut digits = |count: usize, radix: u32, first: Option<char>| {
                let mut value = first.map_or(Some(0), |c| c.to_digit(radix));
                for _ in 0..count {
                    let digit = chars.next().and_then(|(_, c)| c.to_digit(radix));
                    value = value?.checked_mul(radix)?.checked_add(digit?);
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
                '\\' => bytes.push(b'\\'),
                c if c == quote => bytes.push(c as u8),
                'x' => bytes.push(digits(2, 16, None).ok_or_else(bad)? as u8),
                'u' | 'U' => {
                    let count = if escape == 'u' { 4 } else { 8 };
                    let c = digits(count, 16, None).and_then(char::from_u32);
                    bytes.extend(c.ok_or_else(bad)?.encode_utf8(&mut utf8).bytes());
                }
                '0'..='7' => {
                    let value = digits(2, 8, Some(escape)).filter(|v| *v < 256);
                    bytes.push(value.ok_or_else(bad)? as u8);
                }
                _ => return Err(bad()),
            }
        }
        Err(self.error_at(start, "unterminated quoted string"))
    }
}

fn word_len(text: &str) -> usize {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.find(|c| !is_part(c)).unwrap_or(text.len())
}

fn quoted_type(value_type: ValueType) -> String {
    format!("{:?}", value_type.to_string())
}

/// Where a modifier behind this expression goes.
fn shift_of(node: &mut Node) -> Option<&mut Shift> {
    match node {
        Node::Vector { shift, .. } | Node::Matrix { shift, .. } | Node::Subquery { shift, .. } => {
            Some(shift)
        }
        _ => None,
    }
}

/// `1h30m`, in ms.
fn parse_duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let (mut rest, mut units, mut total) = (text, &UNITS[..], 0_i64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| !c.is_ascii_lowercase())
            .unwrap_or(rest.len());
        let place = units
            .iter()
            .position(|(name, _)| *name == &rest[..letters])?;
        total = total.checked_add(count.checked_mul(units[place].1)?)?;
        units = &units[place + 1..];
        rest = &rest[letters..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (query, want) in [
            ("", "1:1: parse error: no expression found in input"),
            ("up{", "expected identifier"),
            ("up{a=b}", "1:6: parse error: unexpected identifier \"b\""),
            ("{a=\"\"}", "at least one non-empty matcher"),
            (
                "rate(up)",
                "expected type range vector in call to function \"rate\", got instant vector",
            ),
            ("foo(up)", "unknown function with name \"foo\""),
            ("1 > 2", "must use BOOL modifier"),
            ("sum(1)", "expected type instant vector"),
            ("up[5m] + 1", "only scalar and instant vector types"),
            ("up and 1", "set operator \"and\" not allowed"),
            ("\"a\" + 1", "only scalar and instant vector"),
            ("up offset 5m offset 5m", "multiple times"),
            ("up{a=~\"(\"}", "invalid regular expression"),
            ("1 +", "unexpected end of input"),
            ("up)", "unexpected \")\""),
            ("time(1)", "expected 0 argument(s)"),
            ("\"abc", "unterminated"),
        ] {
            let error = parse(query).unwrap_err().to_string();
            assert!(error.contains(want), "{query}: {error}");
        }
        let deep = "(".repeat(5000);
        assert!(parse(&deep).unwrap_err().to_string().contains("nested"));
    }

    #[test]
    fn what_is_right_is_taken() {
        for query in [
            "sum by (a, b) (rate(x_total{a!=\"b\"}[5m:1m] offset -1m))",
            "topk(5, x) without (y)",
            "a * on(x) group_left(y) b",
            "-2 ^ 2",
            "sum",
            "{\"a.b\", x=\"y\"}",
            "up @ start() offset 1h",
            "x[1h30m]",
            "1e3 + 0x1F + .5 + Inf",
            "label_replace(up, 'a', \"$1\", \"b\", `(.*)`)",
            "by{job=\"x\"}",
            "a # comment\n + b",
        ] {
            assert!(parse(query).is_ok(), "{query}: {:?}", parse(query).err());
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(query in "\\PC{0,60}") {
            let _ = parse(&query);
        }

        #[test]
        fn any_mix_of_pieces_parses_or_is_refused(
            pieces in proptest::collection::vec(prop::sample::select(vec![
                "up", "sum", "by", "(", ")", "[5m]", "{", "}", "a=\"b\"", "+", "-", "^", "offset", "@", "1", "rate", ",", "bool", ">", "\"", "[", ":", "]",
            ]), 0..20),
        ) {
            let _ = parse(&pieces.join(" "));
        }
    }
}
