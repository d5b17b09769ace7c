//! The fields of an entry, of which the line's own are read when they are first asked for.

use std::cell::OnceCell;

use kittiwake_model::{Entry, Labels};

use crate::level::LEVEL;
use crate::pipeline::{Category, Hints, LineLabels, json, logfmt};

/// A line with all that is known of it.
#[derive(Debug)]
pub struct EntryFields<'a> {
    labels: &'a Labels,
    entry: &'a Entry,
    parsed: OnceCell<Vec<(String, String)>>,
}

impl<'a> EntryFields<'a> {
    /// An entry of a stream.
    pub fn new(labels: &'a Labels, entry: &'a Entry) -> Self {
        Self {
            labels,
            entry,
            parsed: OnceCell::new(),
        }
    }

    /// The text.
    pub fn line(&self) -> &'a str {
        &self.entry.line
    }

    /// All values of a field: the label's, the metadata's, the line's. Where nothing tells a
    /// `level`, it is the one that was detected.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let known = [self.labels.get(name), self.entry.metadata.get(name)];
        let is_known = known.iter().any(Option::is_some);
        let parsed = self.parsed();
        let dotted = name.replace('.', "_");
        let own: Vec<&str> = parsed
            .iter()
            .filter(|(n, _)| *n == dotted)
            .map(|(_, value)| value.as_str())
            .collect();
        let is_missing = name == "level" && !is_known && own.is_empty();
        let detected = self.entry.metadata.get(LEVEL).filter(|_| is_missing);
        known.into_iter().flatten().chain(own).chain(detected)
    }

    fn parsed(&self) -> &[(String, String)] {
        self.parsed.get_or_init(|| parsed(&self.entry.line))
    }
}

fn parsed(line: &str) -> Vec<(String, String)> {
    let mut labels = LineLabels::new(Labels::empty(), &Labels::empty());
    if line.trim_start().starts_with('{') {
        json::all(line, &mut labels, &Hints::default());
    } else if line.contains('=') {
        logfmt::all(line, false, false, &mut labels, &Hints::default());
    }
    labels.take(Category::Parsed)
}
