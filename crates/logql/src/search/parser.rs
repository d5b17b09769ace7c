//! Reading a search.

use kittiwake_vector::Comparison;

use super::matcher::{FieldTest, Quantity, Text};
use super::{DEPTH_MAX, Node, PARTS_MAX, QUERY_BYTES_MAX, SearchError};

/// Signs between a field and a number.
const SIGNS: [(&str, Comparison); 4] = [
    (">=", Comparison::GreaterOrEqual),
    ("<=", Comparison::LessOrEqual),
    (">", Comparison::Greater),
    ("<", Comparison::Less),
];

pub(super) fn parse(query: &str) -> Result<Node, SearchError> {
    let mut parser = Parser {
        query,
        at: 0,
        depth: 0,
        parts: 0,
    };
    if query.len() > QUERY_BYTES_MAX {
        let message = format!("a search has at most {QUERY_BYTES_MAX} bytes; it is too long");
        return Err(SearchError { at: 1, message });
    }
    parser.blanks();
    if parser.rest().is_empty() {
        return Ok(Node::All(Vec::new()));
    }
    let node = parser.any()?;
    if parser.rest().is_empty() {
        Ok(node)
    } else {
        Err(parser.error("an unexpected closing bracket"))
    }
}

struct Parser<'q> {
    query: &'q str,
    at: usize,
    /// Brackets that are open.
    depth: usize,
    parts: usize,
}

impl<'q> Parser<'q> {
    fn rest(&self) -> &'q str {
        &self.query[self.at..]
    }

    fn error(&self, message: impl Into<String>) -> SearchError {
        self.error_at(self.at, message)
    }

    fn error_at(&self, byte: usize, message: impl Into<String>) -> SearchError {
        SearchError {
            at: self.query[..byte].chars().count() + 1,
            message: message.into(),
        }
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Whether the next word is this one, and alone.
    fn is_keyword(&self, word: &str) -> bool {
        let behind = self.rest().strip_prefix(word);
        behind.is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace() || c == '(')
        })
    }

    fn take_keyword(&mut self, word: &str) -> bool {
        let is_it = self.is_keyword(word);
        if is_it {
            self.at += word.len();
            self.blanks();
        }
        is_it
    }

    fn is_end(&self) -> bool {
        self.rest().is_empty() || (self.depth > 0 && self.rest().starts_with(')'))
    }

    fn any(&mut self) -> Result<Node, SearchError> {
        let mut nodes = vec![self.all()?];
        while self.take_keyword("OR") {
            nodes.push(self.all()?);
        }
        Ok(one_or(nodes, Node::Any))
    }

    fn all(&mut self) -> Result<Node, SearchError> {
        let mut nodes = vec![self.part()?];
        loop {
            let is_and = self.take_keyword("AND");
            if !is_and && (self.is_end() || self.is_keyword("OR")) {
                return Ok(one_or(nodes, Node::All));
            }
            nodes.push(self.part()?);
        }
    }

    fn part(&mut self) -> Result<Node, SearchError> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err(self.error(format!("a search has at most {PARTS_MAX} parts; one more")));
        }
        if self.is_end() {
            return Err(self.error("something to search for is missing"));
        }
        if self.is_keyword("OR") || self.is_keyword("AND") {
            return Err(self.error("something to search for is missing before OR or AND"));
        }
        // A lone dash is a word.
        let is_dash = self.rest().starts_with('-')
            && self.rest()[1..]
                .chars()
                .next()
                .is_some_and(|c| !c.is_whitespace());
        if is_dash {
            self.at += 1;
        }
        if is_dash || self.take_keyword("NOT") {
            return Ok(Node::Not(Box::new(self.part()?)));
        }
        if self.rest().starts_with('(') {
            return self.group();
        }
        let node = match self.field_name() {
            Some(name) => {
                self.at += name.len() + 1;
                Node::Field(name.to_owned(), self.field_test()?)
            }
            None => Node::Text(self.text()?),
        };
        self.blanks();
        Ok(node)
    }

    fn group(&mut self) -> Result<Node, SearchError> {
        let start = self.at;
        if self.depth == DEPTH_MAX {
            return Err(self.error(format!("more than {DEPTH_MAX} brackets are open")));
        }
        self.at += 1;
        self.depth += 1;
        self.blanks();
        let node = self.any()?;
        if !self.rest().starts_with(')') {
            return Err(self.error_at(start, "a bracket is not closed; it opens"));
        }
        self.at += 1;
        self.depth -= 1;
        self.blanks();
        Ok(node)
    }

    /// The name of a field with a value behind its colon. `http://` is none.
    fn field_name(&self) -> Option<&'q str> {
        let rest = self.rest();
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '@');
        let len = rest.find(|c| !fits(c))?;
        let value = rest[len..].strip_prefix(':')?;
        let starts = rest.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '@');
        let has_value =
            value.starts_with(|c: char| !c.is_whitespace() && c != ':') && !value.starts_with("//");
        (starts && has_value).then(|| &rest[..len])
    }

    fn field_test(&mut self) -> Result<FieldTest, SearchError> {
        let start = self.at;
        let test = if self.rest().starts_with('"') {
            FieldTest::whole(&self.phrase()?, false)
        } else if let Some(expression) = self.expression() {
            FieldTest::expression(&expression)
        } else if let Some((sign, comparison)) =
            SIGNS.iter().find(|(sign, _)| self.rest().starts_with(sign))
        {
            self.at += sign.len();
            let text = self.word();
            let quantity = Quantity::parse(text).ok_or_else(|| {
                let wanted = "expected a number, a duration like 1.5s or a size like 10KB";
                self.error_at(start + sign.len(), format!("{wanted}, found {text:?}"))
            })?;
            return Ok(FieldTest::Order(*comparison, quantity));
        } else {
            FieldTest::whole(self.word(), true)
        };
        test.map_err(|e| self.error_at(start, e))
    }

    fn text(&mut self) -> Result<Text, SearchError> {
        let start = self.at;
        let text = if self.rest().starts_with('"') {
            Text::exact(&self.phrase()?)
        } else if let Some(expression) = self.expression() {
            Text::expression(&expression)
        } else {
            Text::word(self.word())
        };
        text.map_err(|e| self.error_at(start, e))
    }

    /// Up to the next blank, or to the bracket that closes a group.
    fn word(&mut self) -> &'q str {
        let rest = self.rest();
        let is_in_group = self.depth > 0;
        let ends = |c: char| c.is_whitespace() || (is_in_group && c == ')');
        let len = rest.find(ends).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// The phrase up to the closing quote, `\"` being a quote in it.
    fn phrase(&mut self) -> Result<String, SearchError> {
        let start = self.at;
        let quoted = &self.rest()[1..];
        let mut text = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 2;
                    return Ok(text);
                }
                '\\' if quoted[at + 1..].starts_with(['"', '\\']) => {
                    text.extend(chars.next().map(|(_, c)| c));
                }
                c => text.push(c),
            }
        }
        Err(self.error_at(start, "a quote is not closed; it opens"))
    }

    /// `/…/`, `\/` being a slash in it. A path like `/var/log` is none: behind the closing slash
    /// the part must end.
    fn expression(&mut self) -> Option<String> {
        let inside = self.rest().strip_prefix('/')?;
        let mut text = String::new();
        let mut chars = inside.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '/' => {
                    let behind = &inside[at + 1..];
                    let ends = behind.is_empty()
                        || behind.starts_with(char::is_whitespace)
                        || (self.depth > 0 && behind.starts_with(')'));
                    if !ends || text.is_empty() {
                        return None;
                    }
                    self.at += at + 2;
                    return Some(text);
                }
                '\\' => {
                    let (_, escaped) = chars.next()?;
                    if escaped != '/' {
                        text.push('\\');
                    }
                    text.push(escaped);
                }
                c => text.push(c),
            }
        }
        None
    }
}

fn one_or(mut nodes: Vec<Node>, many: impl FnOnce(Vec<Node>) -> Node) -> Node {
    match nodes.len() {
        1 => nodes.remove(0),
        _ => many(nodes),
    }
}
