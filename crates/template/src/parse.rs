//! From tokens to the tree of a template.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::builtin;
use crate::lexer::{Token, line_of, tokens};
use crate::{Functions, Value};

/// Bytes of a template at most.
const SOURCE_BYTES_MAX: usize = 256 << 10;
/// What may stand inside each other at most.
const DEPTH_MAX: usize = 64;

/// A template that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {message}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there, in Go's words.
    pub message: String,
}

/// A parsed template.
#[derive(Debug, Clone)]
pub struct Template {
    pub(crate) root: Vec<Node>,
    pub(crate) named: BTreeMap<String, Arc<Vec<Node>>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Plain(String),
    Action(Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
    Template(String, Option<Pipeline>),
    Break,
    Continue,
}

#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    pub(crate) variables: Vec<String>,
    pub(crate) declares: bool,
    pub(crate) commands: Vec<Vec<Operand>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Operand {
    Constant(Value),
    Dot,
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a`
    Variable(String, Vec<String>),
    Function(Call),
    /// `(…).a`
    Nested(Box<Pipeline>, Vec<String>),
}

/// The name of a function that is called, and what an error says of the place.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// From 1.
    pub(crate) line: usize,
    /// In bytes, from 0 on the first line and from 1 on others, as Go counts.
    pub(crate) column: usize,
    /// The call as it is written.
    pub(crate) text: String,
}

impl Call {
    fn new(name: &str, source: &str, start: usize, end: usize) -> Self {
        let text = source[start..end].trim();
        let line_start = source[..start].rfind('\n');
        Self {
            name: name.to_owned(),
            line: line_of(source, start),
            column: line_start.map_or(start, |newline| start - newline),
            text: text.to_owned(),
        }
    }
}

impl Template {
    /// Parses a template that may call these functions.
    pub fn parse(source: &str, functions: &dyn Functions) -> Result<Self, ParseError> {
        if source.len() > SOURCE_BYTES_MAX {
            let message = format!("the template is longer than {SOURCE_BYTES_MAX} bytes");
            return Err(ParseError { line: 1, message });
        }
        let mut parser = Parser {
            source,
            tokens: tokens(source)?,
            at: 0,
            functions,
            variables: vec!["$".to_owned()],
            named: BTreeMap::new(),
            ranges: 0,
        };
        let (root, end) = parser.nodes(0)?;
        match end {
            Stop::Source => Ok(Self {
                root,
                named: parser
                    .named
                    .into_iter()
                    .map(|(name, nodes)| (name, Arc::new(nodes)))
                    .collect(),
            }),
            Stop::Else => Err(parser.error("unexpected {{else}}")),
            Stop::End => Err(parser.error("unexpected {{end}}")),
        }
    }

    /// Lets it call what others define; its own definitions win.
    #[must_use]
    pub fn within(mut self, others: &Self) -> Self {
        let mut named = others.named.clone();
        named.append(&mut self.named);
        self.named = named;
        self
    }

    /// Lets it be called by a name, as Go names what was read from a file.
    #[must_use]
    pub fn called(mut self, name: &str) -> Self {
        let root = Arc::new(self.root.clone());
        self.named.insert(name.to_owned(), root);
        self
    }

    /// The names of what it defines.
    pub fn defines(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// The names of all fields that it reads, as far as they can be told.
    pub fn fields(&self) -> Vec<String> {
        let mut found = Vec::new();
        fields_of_nodes(&self.root, &mut found);
        for nodes in self.named.values() {
            fields_of_nodes(nodes, &mut found);
        }
        found.sort();
        found.dedup();
        found
    }

    /// The field when the template is nothing but one, like `{{.message}}`.
    pub fn as_field(&self) -> Option<&str> {
        let [Node::Action(pipeline)] = self.root.as_slice() else {
            return None;
        };
        match (pipeline.variables.is_empty(), pipeline.commands.as_slice()) {
            (true, [command]) => match command.as_slice() {
                [Operand::Field(names)] if names.len() == 1 => Some(&names[0]),
                _ => None,
            },
            _ => None,
        }
    }
}

fn fields_of_nodes(nodes: &[Node], found: &mut Vec<String>) {
    for node in nodes {
        match node {
            Node::Action(pipeline) | Node::Template(_, Some(pipeline)) => {
                fields_of(pipeline, found);
            }
            Node::If(pipeline, then, other)
            | Node::With(pipeline, then, other)
            | Node::Range(pipeline, then, other) => {
                fields_of(pipeline, found);
                fields_of_nodes(then, found);
                fields_of_nodes(other, found);
            }
            _ => {}
        }
    }
}

fn fields_of(pipeline: &Pipeline, found: &mut Vec<String>) {
    for operand in pipeline.commands.iter().flatten() {
        match operand {
            Operand::Field(names) | Operand::Variable(_, names) => {
                found.extend(names.iter().cloned());
            }
            Operand::Nested(inner, names) => {
                fields_of(inner, found);
                found.extend(names.iter().cloned());
            }
            _ => {}
        }
    }
}

/// What ended a list of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Source,
    Else,
    End,
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<(usize, Token)>,
    at: usize,
    functions: &'a dyn Functions,
    variables: Vec<String>,
    named: BTreeMap<String, Vec<Node>>,
    /// `range`s around.
    ranges: usize,
}

impl Parser<'_> {
    fn error(&self, message: impl Into<String>) -> ParseError {
        let at = self.at.min(self.tokens.len().saturating_sub(1));
        ParseError {
            line: self
                .tokens
                .get(at)
                .map_or(1, |(at, _)| line_of(self.source, *at)),
            message: message.into(),
        }
    }

    /// Where the next token starts.
    fn place(&self) -> usize {
        let next = self.tokens.get(self.at);
        next.map_or(self.source.len(), |(start, _)| *start)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn space(&mut self) {
        while self.peek() == Some(&Token::Space) {
            self.at += 1;
        }
    }

    fn take(&mut self, token: &Token) -> bool {
        let is_it = self.peek() == Some(token);
        self.at += usize::from(is_it);
        is_it
    }

    /// The keyword at the start of the action that stands here, if it is one of control.
    fn keyword(&mut self) -> Option<String> {
        self.space();
        match self.peek() {
            Some(Token::Word(word)) => Some(word.clone()),
            _ => None,
        }
    }

    fn close(&mut self, of: &str) -> Result<(), ParseError> {
        self.space();
        if self.take(&Token::Close) {
            Ok(())
        } else {
            Err(self.error(format!("unexpected token in {of}")))
        }
    }

    /// Nodes up to the source's end, or up to `{{else` or `{{end}}` of what stands around.
    /// After `{{else` the rest of that action is still to be read.
    fn nodes(&mut self, depth: usize) -> Result<(Vec<Node>, Stop), ParseError> {
        if depth > DEPTH_MAX {
            return Err(self.error("the template is nested too deeply"));
        }
        let mut nodes = Vec::new();
        loop {
            match self.peek().cloned() {
                None if depth > 0 => return Err(self.error("unexpected EOF")),
                None => return Ok((nodes, Stop::Source)),
                Some(Token::Plain(text)) => {
                    self.at += 1;
                    nodes.push(Node::Plain(text));
                }
                Some(Token::Open) => {
                    self.at += 1;
                    let keyword = self.keyword();
                    let keyword = keyword.as_deref();
                    match keyword {
                        Some("else") => {
                            self.at += 1;
                            return Ok((nodes, Stop::Else));
                        }
                        Some("end") => {
                            self.at += 1;
                            self.close("end")?;
                            return Ok((nodes, Stop::End));
                        }
                        Some(word @ ("if" | "with" | "range")) => {
                            self.at += 1;
                            nodes.push(self.branch(word, depth)?);
                        }
                        Some(word @ ("break" | "continue")) => {
                            if self.ranges == 0 {
                                return Err(
                                    self.error(format!("{{{{{word}}}}} outside {{{{range}}}}"))
                                );
                            }
                            self.at += 1;
                            self.close(word)?;
                            nodes.push(if word == "break" {
                                Node::Break
                            } else {
                                Node::Continue
                            });
                        }
                        Some(word @ ("define" | "block" | "template")) => {
                            self.at += 1;
                            let node = self.named(word, depth)?;
                            nodes.extend(node);
                        }
                        _ => {
                            let pipeline = self.pipeline("command", depth)?;
                            self.close("command")?;
                            nodes.push(Node::Action(pipeline));
                        }
                    }
                }
                Some(_) => return Err(self.error("unexpected token outside of an action")),
            }
        }
    }

    fn branch(&mut self, word: &str, depth: usize) -> Result<Node, ParseError> {
        let scope = self.variables.len();
        let pipeline = self.pipeline(word, depth)?;
        self.close(word)?;
        let is_range = word == "range";
        self.ranges += usize::from(is_range);
        let (then, end) = self.nodes(depth + 1)?;
        self.ranges -= usize::from(is_range);
        let mut other = Vec::new();
        if end == Stop::Else {
            match self.keyword().as_deref() {
                // `{{else if}}` is an `if` within the `else`, closed by the same `{{end}}`.
                Some(inner @ ("if" | "with")) if !is_range => {
                    let inner = inner.to_owned();
                    self.at += 1;
                    if depth + 1 > DEPTH_MAX {
                        return Err(self.error("the template is nested too deeply"));
                    }
                    other.push(self.branch(&inner, depth + 1)?);
                }
                _ => {
                    self.close("else")?;
                    let (nodes, end) = self.nodes(depth + 1)?;
                    if end == Stop::Else {
                        return Err(self.error("expected end; found {{else}}"));
                    }
                    other = nodes;
                }
            }
        }
        self.variables.truncate(scope);
        Ok(match word {
            "if" => Node::If(pipeline, then, other),
            "with" => Node::With(pipeline, then, other),
            _ => Node::Range(pipeline, then, other),
        })
    }

    fn named(&mut self, word: &str, depth: usize) -> Result<Option<Node>, ParseError> {
        self.space();
        let Some(Token::Text(name)) = self.peek().cloned() else {
            return Err(self.error(format!("unexpected token in {word} clause")));
        };
        self.at += 1;
        self.space();
        let pipeline = if word != "define" && self.peek() != Some(&Token::Close) {
            Some(self.pipeline(word, depth)?)
        } else {
            None
        };
        self.close(word)?;
        if word == "template" {
            return Ok(Some(Node::Template(name, pipeline)));
        }
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (nodes, end) = self.nodes(depth + 1)?;
        self.variables = outer;
        self.ranges = ranges;
        if end != Stop::End {
            return Err(self.error(format!("unexpected {{{{else}}}} in {word} clause")));
        }
        self.named.insert(name.clone(), nodes);
        Ok((word == "block").then_some(Node::Template(name, pipeline)))
    }

    fn pipeline(&mut self, of: &str, depth: usize) -> Result<Pipeline, ParseError> {
        if depth > DEPTH_MAX {
            return Err(self.error("the template is nested too deeply"));
        }
        self.space();
        let (variables, declares) = self.assigned(of)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command(depth)?;
            if command.is_empty() {
                return Err(self.error(if commands.is_empty() {
                    format!("missing value for {of}")
                } else {
                    "missing value for command".to_owned()
                }));
            }
            if !commands.is_empty()
                && !matches!(
                    command[0],
                    Operand::Function(_)
                        | Operand::Field(_)
                        | Operand::Variable(..)
                        | Operand::Nested(..)
                )
            {
                return Err(self.error(format!(
                    "non executable command in pipeline stage {}",
                    commands.len() + 1
                )));
            }
            commands.push(command);
            if !self.take(&Token::Pipe) {
                break;
            }
        }
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline {
            variables,
            declares,
            commands,
        })
    }

    /// `$x :=`, `$x =`, or `$i, $x :=` of a range.
    fn assigned(&mut self, of: &str) -> Result<(Vec<String>, bool), ParseError> {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(Token::Variable(name)) = self.peek().cloned() {
            self.at += 1;
            self.space();
            names.push(name);
            if names.len() == 2 || of != "range" || !self.take(&Token::Comma) {
                break;
            }
            self.space();
        }
        let declares = self.peek() == Some(&Token::Declare);
        if names.is_empty() || !(declares || self.peek() == Some(&Token::Assign)) {
            self.at = start;
            return Ok((Vec::new(), false));
        }
        self.at += 1;
        if !declares && let Some(name) = names.iter().find(|n| !self.variables.contains(n)) {
            return Err(self.error(format!("undefined variable {name:?}")));
        }
        Ok((names, declares))
    }

    fn command(&mut self, depth: usize) -> Result<Vec<Operand>, ParseError> {
        let mut operands = Vec::new();
        self.space();
        let start = self.place();
        loop {
            self.space();
            let Some(operand) = self.operand(depth)? else {
                let end = self.place();
                if let Some(Operand::Function(call)) = operands.first_mut() {
                    *call = Call::new(&call.name, self.source, start, end);
                }
                return Ok(operands);
            };
            operands.push(operand);
            if !matches!(
                self.peek(),
                Some(Token::Space | Token::Pipe | Token::Close | Token::CloseBracket)
            ) {
                return Err(self.error("unexpected token in operand"));
            }
        }
    }

    fn operand(&mut self, depth: usize) -> Result<Option<Operand>, ParseError> {
        let Some(token) = self.peek().cloned() else {
            return Err(self.error("unclosed action"));
        };
        let operand = match token {
            Token::Text(text) => Operand::Constant(Value::text(text)),
            Token::Int(int) => Operand::Constant(Value::Int(int)),
            Token::Float(float) => Operand::Constant(Value::Float(float)),
            Token::Dot => Operand::Dot,
            Token::Field(name) => {
                self.at += 1;
                let mut names = vec![name];
                names.extend(self.chain());
                return Ok(Some(Operand::Field(names)));
            }
            Token::Variable(name) => {
                if !self.variables.contains(&name) {
                    return Err(self.error(format!("undefined variable {name:?}")));
                }
                self.at += 1;
                let chain = self.chain();
                return Ok(Some(Operand::Variable(name, chain)));
            }
            Token::Word(word) => match word.as_str() {
                "true" => Operand::Constant(Value::Bool(true)),
                "false" => Operand::Constant(Value::Bool(false)),
                "nil" => Operand::Constant(Value::Nil),
                _ if builtin::is_builtin(&word) || self.functions.has(&word) => {
                    let start = self.place();
                    let end = start + word.len();
                    Operand::Function(Call::new(&word, self.source, start, end))
                }
                _ => return Err(self.error(format!("function {word:?} not defined"))),
            },
            Token::OpenBracket => {
                self.at += 1;
                let inner = self.pipeline("parenthesized pipeline", depth + 1)?;
                self.space();
                if !self.take(&Token::CloseBracket) {
                    return Err(self.error("unclosed left paren"));
                }
                let chain = self.chain();
                return Ok(Some(Operand::Nested(Box::new(inner), chain)));
            }
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(operand))
    }

    fn chain(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(Token::Field(name)) = self.peek().cloned() {
            self.at += 1;
            names.push(name);
        }
        names
    }
}
