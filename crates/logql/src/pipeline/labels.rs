//! The labels of a line on its way: the stream's, the structured metadata, and what was parsed.

use kittiwake_model::Labels;

use super::{ERROR, ERROR_DETAILS, PRESERVE_ERROR};

/// Appended to a parsed label whose name is taken.
const SUFFIX: &str = "_extracted";

/// Where a label of a line comes from. The later beat the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    Stream,
    Metadata,
    Parsed,
}

/// What an aggregation needs of the labels, so that parsers can stop early. It shows: a line
/// that is broken behind what is needed has no error.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hints {
    /// Nothing is needed at all.
    pub(crate) none: bool,
    /// All that is needed; if empty, everything may be.
    pub(crate) required: Vec<String>,
}

impl Hints {
    /// Hints for labels that filters and formats read and an aggregation groups by.
    pub(crate) fn new(
        required: &[String],
        groups: &[String],
        is_without: bool,
        no_labels: bool,
        unwrapped: Option<&str>,
    ) -> Self {
        let mut hints: Vec<String> = Vec::new();
        for name in required
            .iter()
            .chain(groups)
            .map(String::as_str)
            .chain(unwrapped)
            .filter(|name| !name.is_empty())
        {
            hints.push(name.to_owned());
            if let Some(plain) = name.strip_suffix(SUFFIX) {
                hints.push(plain.to_owned());
            }
        }
        hints.sort();
        hints.dedup();
        if no_labels {
            return Self {
                none: hints.is_empty(),
                required: hints,
            };
        }
        if is_without || groups.is_empty() {
            return Self::default();
        }
        Self {
            none: false,
            required: hints,
        }
    }

    /// Whether a label may be needed.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.required.is_empty() || self.required.iter().any(|n| n == name)
    }

    /// Whether a label that starts so may be needed.
    pub(crate) fn wants_prefix(&self, prefix: &str) -> bool {
        self.required.is_empty() || self.required.iter().any(|n| n.starts_with(prefix))
    }
}

/// The labels of one line.
#[derive(Debug, Clone)]
pub(crate) struct LineLabels {
    base: Labels,
    added: [Vec<(String, String)>; 3],
    deleted: Vec<String>,
    extracted: Vec<String>,
    /// The kind of error that the line met, if one.
    pub(crate) error: String,
    /// More of it.
    pub(crate) error_details: String,
}

impl LineLabels {
    /// Labels of a stream's line with its structured metadata.
    pub(crate) fn new(base: Labels, metadata: &Labels) -> Self {
        let mut labels = Self {
            base,
            added: Default::default(),
            deleted: Vec::new(),
            extracted: Vec::new(),
            error: String::new(),
            error_details: String::new(),
        };
        for (name, value) in metadata {
            match name {
                ERROR => value.clone_into(&mut labels.error),
                ERROR_DETAILS => value.clone_into(&mut labels.error_details),
                _ if labels.base.get(name).is_some() => {
                    labels.set(Category::Metadata, &format!("{name}{SUFFIX}"), value);
                }
                _ => labels.set(Category::Metadata, name, value),
            }
        }
        labels
    }

    /// Whether nothing was added to, or taken from, the stream's labels.
    pub(crate) fn is_plain(&self) -> bool {
        self.added.iter().all(Vec::is_empty)
            && self.deleted.is_empty()
            && self.error.is_empty()
            && self.error_details.is_empty()
    }

    fn added(&self, category: Category) -> &Vec<(String, String)> {
        &self.added[category as usize]
    }

    fn has(&self, category: Category, name: &str) -> bool {
        self.added(category).iter().any(|(n, _)| n == name)
    }

    /// The value of a label, if it is there; it can be empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut added = self.added.iter().flatten();
        if let Some((_, value)) = added.find(|(n, _)| n == name) {
            return Some(value);
        }
        if self.deleted.iter().any(|d| d == name) {
            return None;
        }
        self.base.get(name)
    }

    /// Sets a label; one of a stronger category stays.
    pub(crate) fn set(&mut self, category: Category, name: &str, value: &str) {
        for weaker in &mut self.added[..category as usize] {
            weaker.retain(|(n, _)| n != name);
        }
        if category != Category::Parsed && self.has(Category::Parsed, name) {
            return;
        }
        let slots = &mut self.added[category as usize];
        match slots.iter_mut().find(|(n, _)| n == name) {
            Some((_, slot)) => value.clone_into(slot),
            None => slots.push((name.to_owned(), value.to_owned())),
        }
        if category == Category::Parsed && !self.extracted.iter().any(|n| n == name) {
            self.extracted.push(name.to_owned());
        }
    }

    /// Removes a label.
    pub(crate) fn delete(&mut self, name: &str) {
        for added in &mut self.added {
            added.retain(|(n, _)| n != name);
        }
        self.deleted.push(name.to_owned());
    }

    /// Takes what was added of a category.
    pub(crate) fn take(self, category: Category) -> Vec<(String, String)> {
        let [stream, metadata, parsed] = self.added;
        match category {
            Category::Stream => stream,
            Category::Metadata => metadata,
            Category::Parsed => parsed,
        }
    }

    /// Notes an error; a parser's beats earlier ones.
    pub(crate) fn set_error(&mut self, kind: &str, details: &str) {
        kind.clone_into(&mut self.error);
        if !details.is_empty() {
            details.clone_into(&mut self.error_details);
        }
    }

    /// Notes a parser's error; where the query asks for errors it is marked.
    pub(crate) fn parser_error(&mut self, kind: &str, details: &str, hints: &Hints) {
        self.set_error(kind, details);
        if hints.required.iter().any(|n| n == ERROR) {
            self.set(Category::Parsed, PRESERVE_ERROR, "true");
        }
    }

    /// The name under which a parsed label goes.
    pub(crate) fn parsed_name(&self, name: &str) -> String {
        if self.base.get(name).is_some() || self.has(Category::Metadata, name) {
            format!("{name}{SUFFIX}")
        } else {
            name.to_owned()
        }
    }

    /// Whether all that is needed was parsed already.
    pub(crate) fn has_all(&self, hints: &Hints) -> bool {
        !hints.required.is_empty() && hints.required.iter().all(|n| self.extracted.contains(n))
    }

    /// Whether a parser has nothing to do.
    pub(crate) fn needs_nothing(&self, hints: &Hints) -> bool {
        hints.none || self.has_all(hints)
    }

    /// Whether a label is still to be parsed, under the name given.
    pub(crate) fn is_wanted(&self, name: &str, hints: &Hints) -> bool {
        hints.wants(name) && !self.extracted.iter().any(|n| n == name)
    }

    /// Sets a label that a parser found, unless an earlier one found it.
    pub(crate) fn extract(&mut self, name: &str, value: &str, hints: &Hints) {
        if name.is_empty() {
            return;
        }
        let name = self.parsed_name(name);
        if self.is_wanted(&name, hints) {
            self.set(Category::Parsed, &name, value);
        }
    }

    /// All labels with their values, the errors among them.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        let mut all = self.of_stream();
        all.extend(self.added(Category::Metadata).iter().cloned());
        all.extend(self.parsed());
        all
    }

    fn of_stream(&self) -> Vec<(String, String)> {
        let mut found = Vec::with_capacity(self.base.len());
        for (name, value) in &self.base {
            let is_gone = self.deleted.iter().any(|d| d == name)
                || self.has(Category::Metadata, name)
                || self.has(Category::Parsed, name);
            if is_gone {
                continue;
            }
            let changed = self.added(Category::Stream).iter().find(|(n, _)| n == name);
            let value = changed.map_or(value, |(_, v)| v.as_str());
            found.push((name.to_owned(), value.to_owned()));
        }
        found
    }

    fn parsed(&self) -> Vec<(String, String)> {
        let mut found = self.added(Category::Parsed).clone();
        if !self.error.is_empty() {
            found.push((ERROR.to_owned(), self.error.clone()));
        }
        if !self.error_details.is_empty() {
            found.push((ERROR_DETAILS.to_owned(), self.error_details.clone()));
        }
        found
    }

    /// All of them as one set.
    pub(crate) fn result(&self) -> Labels {
        if self.is_plain() {
            return self.base.clone();
        }
        build(self.all())
    }

    /// The stream's, the structured metadata and what was parsed, each as a set.
    pub(crate) fn by_category(&self) -> [Labels; 3] {
        [
            build(self.of_stream()),
            build(self.added(Category::Metadata).clone()),
            build(self.parsed()),
        ]
    }
}

/// The pairs as a set. A label that is there without a value stays in it, as in Loki.
fn build(mut pairs: Vec<(String, String)>) -> Labels {
    pairs.sort();
    pairs.dedup_by(|later, earlier| later.0 == earlier.0);
    Labels::from_sorted(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
}

/// A name as a label: what is no letter, digit or `_` becomes `_`, and a digit at the start
/// gets one before it.
pub(crate) fn sanitized(name: &str) -> String {
    let name = name.trim();
    let mut out = String::with_capacity(name.len() + 1);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    push_sanitized(&mut out, name);
    out
}

/// Appends a part of a name, with what no label may have replaced.
pub(crate) fn push_sanitized(out: &mut String, part: &str) {
    for c in part.trim().chars() {
        let fits = c.is_ascii_alphanumeric() || c == '_';
        out.push(if fits { c } else { '_' });
    }
}
