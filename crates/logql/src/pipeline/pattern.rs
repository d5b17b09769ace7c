//! Patterns: literals with captures like `<name>` between them, `<_>` for what has no name.

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Literal(String),
    Capture(Option<String>),
}

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Node>);

impl Pattern {
    fn parse(text: &str) -> Self {
        let mut nodes = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(open) = rest.find('<') {
            let inside = &rest[open + 1..];
            let name_len = inside
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(inside.len());
            let is_capture = name_len > 0
                && inside[name_len..].starts_with('>')
                && !inside.starts_with(|c: char| c.is_ascii_digit());
            if !is_capture {
                literal.push_str(&rest[..=open]);
                rest = inside;
                continue;
            }
            literal.push_str(&rest[..open]);
            if !literal.is_empty() {
                nodes.push(Node::Literal(std::mem::take(&mut literal)));
            }
            let name = &inside[..name_len];
            nodes.push(Node::Capture((name != "_").then(|| name.to_owned())));
            rest = &inside[name_len + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            nodes.push(Node::Literal(literal));
        }
        Self(nodes)
    }

    fn has_neighbours(&self) -> bool {
        let is_capture = |node: &Node| matches!(node, Node::Capture(_));
        self.0.windows(2).any(|pair| pair.iter().all(is_capture))
    }

    fn names(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter_map(|node| match node {
                Node::Capture(Some(name)) => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// A pattern that gives labels.
    pub(crate) fn parser(text: &str) -> Result<Self, String> {
        let pattern = Self::parse(text);
        let mut names = pattern.names();
        if names.is_empty() {
            return Err("at least one capture is required".to_owned());
        }
        if pattern.has_neighbours() {
            return Err("found consecutive capture".to_owned());
        }
        names.sort_unstable();
        if let Some([name, _]) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("duplicate capture name ({name})"));
        }
        Ok(pattern)
    }

    /// A pattern that a line must look like.
    pub(crate) fn filter(text: &str) -> Result<Self, String> {
        let pattern = Self::parse(text);
        if !pattern.names().is_empty() {
            return Err("named captures are not allowed".to_owned());
        }
        if pattern.has_neighbours() {
            return Err("found consecutive capture".to_owned());
        }
        Ok(pattern)
    }

    /// What the captures with a name hold. Where a literal is missing, the capture before it
    /// takes the rest.
    pub(crate) fn captures<'a>(&'a self, line: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut found = Vec::new();
        let (mut rest, mut nodes) = (line, self.0.as_slice());
        if line.is_empty() {
            return found;
        }
        if let Some((Node::Literal(literal), others)) = nodes.split_first() {
            let Some(after) = rest.strip_prefix(literal.as_str()) else {
                return found;
            };
            (rest, nodes) = (after, others);
        }
        while let Some((Node::Capture(name), others)) = nodes.split_first() {
            let cut = match others.first() {
                Some(Node::Literal(literal)) => rest.find(literal.as_str()).map(|at| (at, literal)),
                _ => None,
            };
            let value = cut.map_or(rest, |(at, _)| &rest[..at]);
            if let Some(name) = name {
                found.push((name.as_str(), value));
            }
            let Some((at, literal)) = cut else { break };
            rest = &rest[at + literal.len()..];
            nodes = &others[1..];
        }
        found
    }

    /// Whether a whole line looks like this. Captures are never empty.
    pub(crate) fn matches_whole(&self, line: &str) -> bool {
        if line.is_empty() || self.0.is_empty() {
            return line.is_empty() && self.0.is_empty();
        }
        let mut at = 0;
        for (index, node) in self.0.iter().enumerate() {
            let Node::Literal(literal) = node else {
                continue;
            };
            match line[at..].find(literal.as_str()) {
                None => return false,
                Some(0) if index != 0 => return false,
                Some(found) => at += found + literal.len(),
            }
        }
        let ends_open = matches!(self.0.last(), Some(Node::Capture(_)));
        ends_open == (at != line.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_and_tests() {
        let pattern = Pattern::parser("<ip> - <_> \"<method> <path>\"").unwrap();
        assert_eq!(
            pattern.captures("1.2.3.4 - bob \"GET /a b\" x"),
            [("ip", "1.2.3.4"), ("method", "GET"), ("path", "/a b")]
        );
        assert_eq!(pattern.captures("none"), [("ip", "none")]);
        assert!(Pattern::parser("<a><b>").is_err());
        for (pattern, line, want) in [
            ("<_>foo<_>", "a foo b", true),
            ("<_>foo", "foo", false),
            ("foo", "foo", true),
            ("foo<_>", "foo", false),
            ("", "", true),
            ("<_> bar <_>", " bar ", false),
        ] {
            assert_eq!(
                Pattern::filter(pattern).unwrap().matches_whole(line),
                want,
                "{pattern}"
            );
        }
    }
}
