//! A value of YAML that is checked but not obeyed: its kind, and its text where that matters.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use crate::duration::parse_duration;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Number(f64, String),
    Text(String),
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
}

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Whole,
    Bool,
    Duration,
    Texts,
    TextMap,
    /// Fields of a type with this name.
    Fields(&'static str, &'static [(&'static str, Kind)]),
    /// A list of such.
    ListOf(&'static str, &'static [(&'static str, Kind)]),
}

impl Node {
    /// A scalar as text; nothing for what is none, and for null.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Number(_, text) => Some(text),
            Self::Bool(true) => Some("true"),
            Self::Bool(false) => Some("false"),
            _ => None,
        }
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// A field of a map.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => fields.get(name),
            _ => None,
        }
    }

    /// The text of a field; empty where it is not given.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.get(name).and_then(Self::text).unwrap_or("")
    }

    /// Whether a field is given and true.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        matches!(self.field(name), "true" | "yes" | "on" | "y")
    }

    /// Whether a field is given; a key without a value is the empty one, not the default.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Number(..) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// Whether it is of a kind; `at` is what errors name.
    pub(crate) fn check(&self, kind: Kind, at: &str) -> Result<(), String> {
        let other = |wanted: &str| Err(format!("{at}: {wanted} is expected, not {}", self.kind()));
        match (kind, self) {
            (_, Self::Null) => Ok(()),
            (Kind::Text, node) if node.text().is_some() => Ok(()),
            (Kind::Whole, Self::Number(..)) => Ok(()),
            (Kind::Bool, Self::Bool(_)) => Ok(()),
            (Kind::Bool, Self::Text(text))
                if ["yes", "no", "on", "off", "y", "n"].contains(&text.as_str()) =>
            {
                Ok(())
            }
            (Kind::Duration, node) => match node.text().map(parse_duration) {
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(format!("{at}: {error}")),
                None => other("a duration like 5m"),
            },
            (Kind::Texts, Self::List(items)) => {
                items.iter().try_for_each(|item| item.check(Kind::Text, at))
            }
            (Kind::TextMap, Self::Map(fields)) => fields
                .iter()
                .try_for_each(|(name, value)| value.check(Kind::Text, &format!("{at}.{name}"))),
            (Kind::Fields(name, known), Self::Map(fields)) => {
                for (field, value) in fields {
                    let kind = known.iter().find(|(known, _)| known == field);
                    let Some((_, kind)) = kind else {
                        return Err(unknown_field(field, name, known));
                    };
                    value.check(*kind, &format!("{at}.{field}"))?;
                }
                Ok(())
            }
            (Kind::ListOf(name, known), Self::List(items)) => items
                .iter()
                .try_for_each(|item| item.check(Kind::Fields(name, known), at)),
            (Kind::Text, _) => other("a text"),
            (Kind::Whole, _) => other("a number"),
            (Kind::Bool, _) => other("true or false"),
            (Kind::Texts, _) => other("a list of texts"),
            (Kind::TextMap, _) => other("a map of texts"),
            (Kind::Fields(..), _) => other("a map"),
            (Kind::ListOf(..), _) => other("a list"),
        }
    }
}

/// The mistake of a field that a type doesn't have.
pub(crate) fn unknown_field(field: &str, name: &str, known: &[(&str, Kind)]) -> String {
    let known: Vec<&str> = known.iter().map(|(field, _)| *field).collect();
    format!(
        "field {field} not found in type {name}; known are {}",
        known.join(", ")
    )
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value as f64, value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value as f64, value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(value, value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
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
        let mut all = BTreeMap::new();
        while let Some((name, value)) = fields.next_entry::<String, Node>()? {
            all.insert(name, value);
        }
        Ok(Node::Map(all))
    }
}
