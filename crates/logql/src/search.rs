//! The search language: words that must all occur, in any case of letters.
//!
//! `connection refused` finds lines with both words, `"connection refused"` those with the
//! phrase, `-debug` those without the word.

use kittiwake_model::{LineFilter, pattern};

/// Words of a query at most.
const WORDS_MAX: usize = 64;
/// Bytes of a query at most.
const QUERY_BYTES_MAX: usize = 16 << 10;

/// A search that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// A quoted phrase has no end.
    #[error("the quote at character {0} is not closed")]
    Unclosed(usize),
    /// Too many words or bytes.
    #[error("a search has at most {WORDS_MAX} words and {QUERY_BYTES_MAX} bytes")]
    TooLong,
    /// A word cannot be searched.
    #[error("{0}")]
    Word(String),
}

/// The filters of a search; none for an empty one.
pub fn parse(query: &str) -> Result<Vec<LineFilter>, SearchError> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(SearchError::TooLong);
    }
    let mut filters = Vec::new();
    let mut rest = query.trim_start();
    while !rest.is_empty() {
        if filters.len() == WORDS_MAX {
            return Err(SearchError::TooLong);
        }
        let at = query.len() - rest.len();
        // A lone dash is a word.
        let is_without =
            rest.len() > 1 && rest.starts_with('-') && !rest[1..].starts_with(char::is_whitespace);
        if is_without {
            rest = &rest[1..];
        }
        let text;
        if let Some(quoted) = rest.strip_prefix('"') {
            (text, rest) = phrase(quoted)
                .ok_or_else(|| SearchError::Unclosed(query[..at].chars().count() + 1))?;
        } else {
            let len = rest.find(char::is_whitespace).unwrap_or(rest.len());
            text = rest[..len].to_owned();
            rest = &rest[len..];
        }
        rest = rest.trim_start();
        if !text.is_empty() {
            filters.push(filter(&text, is_without)?);
        }
    }
    Ok(filters)
}

/// The phrase up to the closing quote, `\"` being a quote in it, and what follows.
fn phrase(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' if quoted[at + 1..].starts_with(['"', '\\']) => {
                if let Some((_, c)) = chars.next() {
                    text.push(c);
                }
            }
            c => text.push(c),
        }
    }
    None
}

fn filter(text: &str, is_without: bool) -> Result<LineFilter, SearchError> {
    let has_case = text.chars().any(char::is_alphabetic);
    if !has_case {
        let texts = vec![text.to_owned()];
        return Ok(if is_without {
            LineFilter::NotContains(texts)
        } else {
            LineFilter::Contains(texts)
        });
    }
    let folded = pattern::unanchored(&format!("(?i){}", regex::escape(text)))
        .map_err(|e| SearchError::Word(e.to_string()))?;
    Ok(if is_without {
        LineFilter::NotMatches(vec![folded])
    } else {
        LineFilter::Matches(vec![folded])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finds(query: &str, line: &str) -> bool {
        parse(query).unwrap().iter().all(|f| f.accepts(line))
    }

    #[test]
    fn words_phrases_and_exclusions() {
        let line = "2026 ERROR connection to db-1 refused (a.b) \"x\"";
        for (query, want) in [
            ("", true),
            ("error refused", true),
            ("error accepted", false),
            ("\"connection to\"", true),
            ("\"to connection\"", false),
            ("-debug error", true),
            ("-error", false),
            ("-\"db-1 refused\"", false),
            ("a.b", true),
            ("a.c", false),
            ("2026", true),
            ("\"\\\"x\\\"\"", true),
            ("-", true),
        ] {
            assert_eq!(finds(query, line), want, "{query}");
        }
        assert_eq!(parse("a \"b").unwrap_err(), SearchError::Unclosed(3));
        assert!(parse(&"a ".repeat(100)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_searched_or_refused(query in "\\PC{0,40}", line in "\\PC{0,40}") {
            if let Ok(filters) = parse(&query) {
                let _ = filters.iter().all(|f| f.accepts(&line));
            }
        }
    }
}
