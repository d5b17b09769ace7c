//! Rendering.

use crate::builtin;
use crate::html::Escaper;
use crate::parse::{Call, Node, Operand, Pipeline, Template};
use crate::{Functions, Value};

/// What a rendering may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of output at most.
    pub output_bytes_max: usize,
    /// Nodes and calls at most.
    pub steps_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            output_bytes_max: 1 << 20,
            steps_max: 100_000,
        }
    }
}

/// Templates that call each other at most.
const CALLS_MAX: usize = 100;

/// Why a rendering ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RenderError {
    /// The line, the column and the text of the call that failed, if it was one.
    call: Option<(usize, usize, String)>,
    message: String,
}

fn failed(message: String) -> RenderError {
    RenderError {
        call: None,
        message,
    }
}

impl RenderError {
    /// The error of a template of a name, in Go's words.
    pub fn told(&self, name: &str) -> String {
        let message = &self.message;
        match &self.call {
            Some((line, column, text)) => format!(
                "template: {name}:{line}:{column}: executing {name:?} at <{text}>: {message}"
            ),
            None => format!("template: {name}: {message}"),
        }
    }

    fn at(mut self, call: &Call) -> Self {
        let place = || (call.line, call.column, call.text.clone());
        self.call.get_or_insert_with(place);
        self
    }
}

type Done<T> = Result<T, RenderError>;

impl Template {
    /// Renders with `dot` as the value of `.`, appending to `out`. After an error `out` holds
    /// what was rendered before it.
    pub fn render(
        &self,
        dot: &Value,
        functions: &dyn Functions,
        limits: &Limits,
        out: &mut String,
    ) -> Result<(), RenderError> {
        self.render_as(dot, functions, limits, None, out)
    }

    /// As [`Template::render`], for HTML: values are escaped as their place in the text asks,
    /// like Go's `html/template` does it.
    pub fn render_html(
        &self,
        dot: &Value,
        functions: &dyn Functions,
        limits: &Limits,
        out: &mut String,
    ) -> Result<(), RenderError> {
        self.render_as(dot, functions, limits, Some(Escaper::default()), out)
    }

    fn render_as(
        &self,
        dot: &Value,
        functions: &dyn Functions,
        limits: &Limits,
        html: Option<Escaper>,
        out: &mut String,
    ) -> Result<(), RenderError> {
        let output_bytes_max = out.len().saturating_add(limits.output_bytes_max);
        let mut renderer = Renderer {
            template: self,
            functions,
            output_bytes_max,
            steps_left: limits.steps_max,
            variables: vec![("$".to_owned(), dot.clone())],
            calls: 0,
            html,
            out,
        };
        renderer.nodes(&self.root, dot).map(|_| ())
    }
}

#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Renderer<'a> {
    template: &'a Template,
    functions: &'a dyn Functions,
    output_bytes_max: usize,
    steps_left: usize,
    variables: Vec<(String, Value)>,
    calls: usize,
    html: Option<Escaper>,
    out: &'a mut String,
}

impl Renderer<'_> {
    fn step(&mut self) -> Done<()> {
        self.steps_left = self
            .steps_left
            .checked_sub(1)
            .ok_or_else(|| failed("the template takes too many steps".to_owned()))?;
        Ok(())
    }

    fn write(&mut self, text: &str) -> Done<()> {
        if self.out.len() + text.len() > self.output_bytes_max {
            return Err(failed("the template's output is too long".to_owned()));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Done<Flow> {
        for node in nodes {
            self.step()?;
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Done<Flow> {
        match node {
            Node::Plain(text) => match &mut self.html {
                Some(html) => {
                    let text = html.text(text);
                    self.write(&text)?;
                }
                None => self.write(text)?,
            },
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    let text = self.shown(&value, pipeline);
                    self.write(&text)?;
                }
            }
            Node::If(pipeline, then, other) | Node::With(pipeline, then, other) => {
                let scope = self.variables.len();
                let value = self.pipeline(pipeline, dot)?;
                let is_with = matches!(node, Node::With(..));
                let flow = if value.is_true() {
                    self.nodes(then, if is_with { &value } else { dot })
                } else {
                    self.nodes(other, dot)
                };
                self.variables.truncate(scope);
                return flow;
            }
            Node::Range(pipeline, then, other) => {
                let scope = self.variables.len();
                let flow = self.range(pipeline, then, other, dot);
                self.variables.truncate(scope);
                flow?;
            }
            Node::Template(name, pipeline) => {
                let value = match pipeline {
                    Some(pipeline) => self.pipeline(pipeline, dot)?,
                    None => Value::Nil,
                };
                self.call_template(name, &value)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// A value as it goes into the output.
    fn shown(&mut self, value: &Value, pipeline: &Pipeline) -> String {
        let text = match value {
            // HTML has nothing in place of what is missing.
            Value::Nil if self.html.is_some() => String::new(),
            Value::Nil => "<no value>".to_owned(),
            value => self
                .functions
                .show(value)
                .unwrap_or_else(|| value.to_string()),
        };
        let Some(html) = &mut self.html else {
            return text;
        };
        let last = pipeline.commands.last().and_then(|command| command.first());
        let escaped_by = match last {
            Some(Operand::Function(call)) => call.name.as_str(),
            _ => "",
        };
        html.value(value, &text, escaped_by)
    }

    fn call_template(&mut self, name: &str, value: &Value) -> Done<()> {
        let template = self.template;
        let nodes = template
            .named
            .get(name)
            .ok_or_else(|| failed(format!("template {name:?} not defined")))?;
        if self.calls >= CALLS_MAX {
            return Err(failed("exceeded maximum template depth".to_owned()));
        }
        self.calls += 1;
        let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), value.clone())]);
        let done = self.nodes(nodes, value);
        self.variables = outer;
        self.calls -= 1;
        done.map(|_| ())
    }

    fn range(
        &mut self,
        pipeline: &Pipeline,
        then: &[Node],
        other: &[Node],
        dot: &Value,
    ) -> Done<()> {
        let value = self.value_of(pipeline, dot)?;
        let items: Vec<(Value, Value)> = match &value {
            Value::Nil => Vec::new(),
            Value::List(values) => {
                let numbered = values.iter().enumerate();
                numbered
                    .map(|(index, value)| (Value::Int(index as i64), value.clone()))
                    .collect()
            }
            Value::Map(values, _) => {
                let named = values.iter();
                named
                    .map(|(name, value)| (Value::text(name), value.clone()))
                    .collect()
            }
            Value::Int(count) => {
                let count = (*count).clamp(0, self.steps_left as i64 + 1);
                (0..count)
                    .map(|at| (Value::Int(at), Value::Int(at)))
                    .collect()
            }
            other => {
                return Err(failed(format!("range can't iterate over {other}")));
            }
        };
        if items.is_empty() {
            self.nodes(other, dot)?;
            return Ok(());
        }
        let scope = self.variables.len();
        for (key, value) in items {
            self.step()?;
            let given = match pipeline.variables.as_slice() {
                [] => Vec::new(),
                [one] => vec![(one, value.clone())],
                [index, one, ..] => vec![(index, key), (one, value.clone())],
            };
            for (name, value) in given {
                self.set(name, value, pipeline.declares);
            }
            let flow = self.nodes(then, &value)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Value, declares: bool) {
        if declares {
            self.variables.push((name.to_owned(), value));
        } else if let Some(slot) = self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            slot.1 = value;
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Done<Value> {
        let value = self.value_of(pipeline, dot)?;
        for name in &pipeline.variables {
            self.set(name, value.clone(), pipeline.declares);
        }
        Ok(value)
    }

    fn value_of(&mut self, pipeline: &Pipeline, dot: &Value) -> Done<Value> {
        let mut last = None;
        for command in &pipeline.commands {
            self.step()?;
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or_default())
    }

    fn command(&mut self, command: &[Operand], dot: &Value, last: Option<Value>) -> Done<Value> {
        let Some((first, rest)) = command.split_first() else {
            return Ok(Value::Nil);
        };
        let Operand::Function(call) = first else {
            let is_method = match first {
                Operand::Field(names) | Operand::Variable(_, names) | Operand::Nested(_, names) => {
                    !names.is_empty()
                }
                _ => false,
            };
            if is_method && (!rest.is_empty() || last.is_some()) {
                let arguments = self.arguments(rest, dot, last)?;
                return self.operand_with(first, dot, &arguments);
            }
            if !rest.is_empty() || last.is_some() {
                let what = match first {
                    Operand::Constant(value) => builtin::shown(value),
                    Operand::Field(names) => format!("field {}", names.join(".")),
                    _ => "value".to_owned(),
                };
                return Err(failed(format!(
                    "can't give argument to non-function {what}"
                )));
            }
            return self.operand(first, dot);
        };
        let name = &call.name;
        if name == "and" || name == "or" {
            let found = self.and_or(name == "or", rest, dot, last);
            return found.map_err(|e| e.at(call));
        }
        let arguments = self.arguments(rest, dot, last)?;
        self.call(name, &arguments).map_err(|e| e.at(call))
    }

    fn arguments(
        &mut self,
        operands: &[Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Done<Vec<Value>> {
        let mut arguments = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(last);
        Ok(arguments)
    }

    fn call(&mut self, name: &str, arguments: &[Value]) -> Done<Value> {
        let value = if self.functions.has(name) {
            self.functions.call(name, arguments)
        } else {
            builtin::call(name, arguments)
        };
        let value = value.map_err(|e| {
            // Arguments that do not fit are noticed before the call.
            let is_before = e.starts_with("wrong ");
            failed(if is_before {
                e
            } else {
                format!("error calling {name}: {e}")
            })
        })?;
        if let Value::Text(text) = &value
            && text.len() > self.output_bytes_max
        {
            return Err(failed(format!("error calling {name}: too long a text")));
        }
        Ok(value)
    }

    /// The first argument that decides; later ones are not evaluated.
    fn and_or(
        &mut self,
        is_or: bool,
        operands: &[Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Done<Value> {
        let mut found = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if value.is_true() == is_or {
                return Ok(value);
            }
            found = Some(value);
        }
        let found = last.or(found);
        found.ok_or_else(|| {
            let name = if is_or { "or" } else { "and" };
            failed(format!(
                "wrong number of args for {name}: want at least 1 got 0"
            ))
        })
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Done<Value> {
        self.operand_with(operand, dot, &[])
    }

    /// The value of an operand; the arguments are those of a method at its end.
    fn operand_with(&mut self, operand: &Operand, dot: &Value, arguments: &[Value]) -> Done<Value> {
        match operand {
            Operand::Constant(value) => Ok(value.clone()),
            Operand::Dot => Ok(dot.clone()),
            Operand::Field(names) => self.fields(dot.clone(), names, arguments),
            Operand::Variable(name, names) => {
                let value = self.variables.iter().rev().find(|(n, _)| n == name);
                let value = value.map(|(_, v)| v.clone()).unwrap_or_default();
                self.fields(value, names, arguments)
            }
            Operand::Function(call) => self.call(&call.name, &[]).map_err(|e| e.at(call)),
            Operand::Nested(pipeline, names) => {
                let scope = self.variables.len();
                let value = self.pipeline(pipeline, dot);
                self.variables.truncate(scope);
                self.fields(value?, names, arguments)
            }
        }
    }

    fn fields(&self, mut value: Value, names: &[String], arguments: &[Value]) -> Done<Value> {
        for (index, name) in names.iter().enumerate() {
            let arguments = if index + 1 == names.len() {
                arguments
            } else {
                &[]
            };
            if let Some(answer) = self.functions.method(&value, name, arguments) {
                value = answer.map_err(failed)?;
                continue;
            }
            if !arguments.is_empty() {
                let name = names.join(".");
                return Err(failed(format!(
                    "can't give argument to non-function field {name}"
                )));
            }
            value = field(&value, name)?;
        }
        Ok(value)
    }
}

fn field(value: &Value, name: &str) -> Done<Value> {
    match value {
        Value::Map(values, zero) => Ok(match values.get(name) {
            Some(value) => value.clone(),
            None if *zero => Value::text(""),
            None => Value::Nil,
        }),
        Value::Nil => Err(failed(format!("nil data; no entry for key {name:?}"))),
        other => Err(failed(format!(
            "can't evaluate field {name} in type {}",
            other.type_name()
        ))),
    }
}
