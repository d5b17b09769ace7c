//! The search language: what a line must have, in any case of letters.
//!
//! | written | finds lines |
//! |---|---|
//! | `connection refused` | with both words |
//! | `"connection refused"` | with the phrase |
//! | `conn*refused` | with a run of characters that starts and ends so |
//! | `/time(d )?out/` | in which the expression matches |
//! | `level:error`, `path:"/a b"`, `pod:web-*`, `msg:/^GET/` | whose field is that |
//! | `status:>=500`, `took:>1.5s`, `size:<10KB` | whose field is more or less than that |
//! | `trace_id:*` | that have the field |
//! | `-debug`, `NOT debug` | without the word |
//! | `a OR b`, `a AND b`, `(a OR b) c` | |
//!
//! A field is a label of the stream, a piece of structured metadata, or what the line itself
//! has as JSON or logfmt.

mod fields;
mod matcher;
mod parser;

use kittiwake_model::{Entry, Labels, LineFilter};

pub use fields::EntryFields;
use matcher::{FieldTest, Text};

/// Parts of a query at most.
const PARTS_MAX: usize = 64;
/// Brackets within each other at most.
const DEPTH_MAX: usize = 32;
/// Bytes of a query at most.
const QUERY_BYTES_MAX: usize = 16 << 10;
/// Places of one line that are marked at most.
const MARKS_MAX: usize = 256;

/// A search that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at character {at}")]
pub struct SearchError {
    /// The character in the query, from 1.
    pub at: usize,
    /// What is wrong there.
    pub message: String,
}

/// A search, ready to run.
#[derive(Debug, Clone)]
pub struct Search(Node);

#[derive(Debug, Clone)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Text(Text),
    Field(String, FieldTest),
}

impl Search {
    /// Reads a search; an empty one finds everything.
    pub fn parse(query: &str) -> Result<Self, SearchError> {
        parser::parse(query).map(Self)
    }

    /// What a store can do of it. With `false` lines must pass [`Self::accepts`], too.
    pub fn filters(&self) -> (Vec<LineFilter>, bool) {
        let nodes = match &self.0 {
            Node::All(nodes) => nodes.as_slice(),
            node => std::slice::from_ref(node),
        };
        let filters: Vec<LineFilter> = nodes.iter().filter_map(Node::filter).collect();
        let is_all = filters.len() == nodes.len();
        (filters, is_all)
    }

    /// Whether a line is found.
    pub fn accepts(&self, labels: &Labels, entry: &Entry) -> bool {
        self.0.accepts(&EntryFields::new(labels, entry))
    }

    /// Where in a line what is searched for stands: start and end in UTF-16 code units, as
    /// browsers count, in order and apart from each other.
    pub fn marks(&self, line: &str) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        self.0.marks(line, &mut found);
        found.sort_unstable();
        let mut apart: Vec<(usize, usize)> = Vec::new();
        for (start, end) in found {
            match apart.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => apart.push((start, end)),
            }
        }
        in_utf16(line, &apart)
    }
}

/// Places in bytes as places in UTF-16 code units.
fn in_utf16(line: &str, places: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let (mut at, mut units) = (0, 0);
    let mut unit_of = |byte: usize| {
        units += line[at..byte].encode_utf16().count();
        at = byte;
        units
    };
    let pair = |(start, end): &(usize, usize)| (unit_of(*start), unit_of(*end));
    places.iter().map(pair).collect()
}

impl Node {
    fn filter(&self) -> Option<LineFilter> {
        match self {
            Self::Text(text) => Some(text.filter(false)),
            Self::Not(inner) => match inner.as_ref() {
                Self::Text(text) => Some(text.filter(true)),
                _ => None,
            },
            Self::Any(nodes) => {
                let texts = nodes.iter().map(|node| match node {
                    Self::Text(text) => Some(text.regex()),
                    _ => None,
                });
                texts.collect::<Option<Vec<_>>>().map(LineFilter::Matches)
            }
            Self::All(_) | Self::Field(..) => None,
        }
    }

    fn accepts(&self, entry: &EntryFields<'_>) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.accepts(entry)),
            Self::Any(nodes) => nodes.iter().any(|node| node.accepts(entry)),
            Self::Not(node) => !node.accepts(entry),
            Self::Text(text) => text.is_in(entry.line()),
            Self::Field(name, test) => entry.values(name).any(|value| test.accepts(value)),
        }
    }

    fn marks(&self, line: &str, found: &mut Vec<(usize, usize)>) {
        match self {
            Self::All(nodes) | Self::Any(nodes) => {
                for node in nodes {
                    node.marks(line, found);
                }
            }
            Self::Text(text) => text.marks(line, MARKS_MAX, found),
            Self::Not(_) | Self::Field(..) => {}
        }
    }
}

#[cfg(test)]
mod tests;
