//! Which fields a file may have, checked apart from reading it: a misspelt field is named with
//! its line and with those that would be known there, in the words that Prometheus' users know.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::error::Problem;

/// Unknown fields that are named.
const UNKNOWN_MAX: usize = 10;

/// What a value may hold.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Anything.
    Any,
    /// A list of this.
    List(&'static Shape),
    /// A map whose every value is this, such as labels.
    MapOf(&'static Shape),
    /// Fields of a type with a name.
    Fields(&'static str, &'static [(&'static str, &'static Shape)]),
}

impl Shape {
    /// Finds the fields of a text of YAML that are not known. What is no YAML at all, or of
    /// another kind than wanted, is left to who reads the values.
    pub fn check(&self, text: &str) -> Result<(), Problem> {
        let mut unknown = Vec::new();
        if let Ok(node) = serde_saphyr::from_str::<Node>(text) {
            self.walk(&node, &mut unknown);
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let lines = unknown.join("\n");
        Err(Problem::Yaml(format!("yaml: unmarshal errors:\n{lines}")))
    }

    fn walk(&self, node: &Node, unknown: &mut Vec<String>) {
        match (self, node) {
            (Self::List(of), Node::List(items)) => {
                for item in items {
                    of.walk(item, unknown);
                }
            }
            (Self::MapOf(of), Node::Map(fields)) => {
                for (_, value) in fields {
                    of.walk(value, unknown);
                }
            }
            (Self::Fields(name, known), Node::Map(fields)) => {
                for (key, value) in fields {
                    let found = known.iter().find(|(field, _)| *field == key.value);
                    if let Some((_, shape)) = found {
                        shape.walk(value, unknown);
                    } else if unknown.len() < UNKNOWN_MAX {
                        let line = key.referenced.line();
                        let known: Vec<&str> = known.iter().map(|(field, _)| *field).collect();
                        unknown.push(format!(
                            "  line {line}: field {} not found in type {name}; known are {}",
                            key.value,
                            known.join(", ")
                        ));
                    }
                }
            }
            _ => {}
        }
    }
}

/// The keys of a text, with their places.
#[derive(Debug)]
enum Node {
    Scalar,
    List(Vec<Node>),
    Map(Vec<(Spanned<String>, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Node::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut all = Vec::new();
        while let Some(key) = fields.next_key::<Spanned<String>>()? {
            all.push((key, fields.next_value()?));
        }
        Ok(Node::Map(all))
    }
}

/// The first document of a text: where the next begins, another is passed over.
pub fn first_document(text: &str) -> (&str, bool) {
    let mut at = 0;
    let mut has_content = false;
    for line in text.split_inclusive('\n') {
        let end = line.trim_end();
        let is_marker = end == "---" || end == "..." || line.starts_with("--- ");
        if is_marker && has_content {
            let rest = text.get(at + end.len()..).unwrap_or_default();
            let first = text.get(..at).unwrap_or(text);
            let is_content =
                |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
            let has_more = rest.lines().any(is_content);
            return (first, has_more);
        }
        has_content |=
            end == "---" || !(end.is_empty() || end.starts_with('#') || end.starts_with('%'));
        at += line.len();
    }
    (text, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: Shape = Shape::Fields("t.Item", &[("a", &Shape::Any), ("l", &LABELS)]);
    const LABELS: Shape = Shape::MapOf(&Shape::Any);
    const FILE: Shape = Shape::Fields("t.File", &[("items", &Shape::List(&ITEM))]);

    #[test]
    fn the_first_unknown_field_is_named() {
        assert!(FILE.check("items: [{a: {z: 1}, l: {q: r}}]\n").is_ok());
        let error = FILE.check("items:\n  - a: 1\n  - b: 2\n").unwrap_err();
        let text = error.to_string();
        assert_eq!(
            text,
            "yaml: unmarshal errors:\n  line 3: field b not found in type t.Item; known are a, l"
        );
        assert!(FILE.check("items: {").is_ok());
        assert!(FILE.check("x: &x {a: 1}\nitems: [*x]\n").is_err());
    }

    #[test]
    fn documents_end_at_markers() {
        assert_eq!(first_document("a: 1\n"), ("a: 1\n", false));
        assert_eq!(first_document("---\na: 1\n"), ("---\na: 1\n", false));
        assert_eq!(first_document("a: 1\n---\nb: 2\n"), ("a: 1\n", true));
        assert_eq!(
            first_document("# c\n---\na: 1\n...\n"),
            ("# c\n---\na: 1\n", false)
        );
    }
}
