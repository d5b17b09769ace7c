//! A generated query: texts and the queries between them, so that it can be made smaller.

use std::collections::BTreeSet;

/// What a query gives, or which part of one it is. Floats and histograms are told apart, as most functions take one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    Scalar,
    Floats,
    Histograms,
    Matrix,
    Text,
    /// Lines.
    Log,
    Selector,
    /// A stage of a pipeline, which can be left out.
    Stage,
}

#[derive(Debug, Clone)]
pub enum Part {
    Text(String),
    Child(Node),
}

#[derive(Debug, Clone)]
pub struct Node {
    pub gives: Gives,
    pub parts: Vec<Part>,
    /// What of the language it uses itself.
    pub tags: Vec<String>,
}

impl Node {
    pub fn new(gives: Gives, text: impl Into<String>) -> Self {
        Self {
            gives,
            parts: vec![Part::Text(text.into())],
            tags: Vec::new(),
        }
    }

    /// A text in which `$` stands for each of the children.
    pub fn with(gives: Gives, text: &str, children: Vec<Self>) -> Self {
        let mut parts = Vec::new();
        let mut children = children.into_iter();
        for (index, between) in text.split('$').enumerate() {
            if index > 0 {
                parts.extend(children.next().map(Part::Child));
            }
            parts.push(Part::Text(between.to_owned()));
        }
        Self {
            gives,
            parts,
            tags: Vec::new(),
        }
    }

    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    pub fn text(&self) -> String {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Child(node) => node.text(),
        });
        parts.collect()
    }

    pub fn all_tags(&self) -> BTreeSet<String> {
        let mut tags: BTreeSet<String> = self.tags.iter().cloned().collect();
        for child in self.children() {
            tags.extend(child.all_tags());
        }
        tags
    }

    pub fn children(&self) -> impl Iterator<Item = &Self> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Child(node) => Some(node),
        })
    }

    fn descendants(&self) -> Vec<&Self> {
        let mut all: Vec<&Self> = self.children().collect();
        for child in self.children() {
            all.extend(child.descendants());
        }
        all
    }

    /// Smaller queries that it has in it, the smallest first.
    pub fn smaller(&self) -> Vec<Self> {
        let mut all: Vec<Self> = self.descendants().into_iter().cloned().collect();
        all.extend(self.reduced());
        all.sort_by_key(|node| node.text().len());
        let own = self.text().len();
        all.retain(|node| node.text().len() < own);
        all
    }

    /// The same with one part replaced by a smaller one of its type.
    fn reduced(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            let Part::Child(child) = part else { continue };
            let inner = child.descendants().into_iter();
            let mut instead: Vec<Self> = inner
                .filter(|node| node.gives == child.gives)
                .cloned()
                .collect();
            if child.gives == Gives::Scalar {
                instead.push(Self::new(Gives::Scalar, "1"));
            }
            if child.gives == Gives::Stage {
                instead.push(Self::new(Gives::Stage, ""));
            }
            instead.extend(child.reduced());
            for node in instead {
                let mut copy = self.clone();
                copy.parts[index] = Part::Child(node);
                all.push(copy);
            }
        }
        all
    }
}
