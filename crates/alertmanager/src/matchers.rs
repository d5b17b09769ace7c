//! Matchers as Alertmanager writes them: any label name, quotes where they are needed, and the
//! older form as a fallback.
//!
//! A text is read both ways. Where only the older way can read it, or both can but see different
//! things, the older one counts, as in Alertmanager.

use std::cmp::Ordering;
use std::fmt;

use kittiwake_model::{Labels, MatchOp, quote};

/// Condition on a label.
#[derive(Debug, Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    test: kittiwake_model::Matcher,
}

impl Matcher {
    /// Makes a matcher; fails when an expression does not compile.
    pub fn new(op: MatchOp, name: &str, value: &str) -> Result<Self, String> {
        let is_regex = matches!(op, MatchOp::Regex | MatchOp::NotRegex);
        // There a dot is no newline, other than in Prometheus.
        let test = if is_regex && value.contains('.') && !matches!(value, ".*" | ".+") {
            format!("(?-s:{value})")
        } else {
            value.to_owned()
        };
        let test = kittiwake_model::Matcher::new(op, name, test).map_err(|e| e.to_string())?;
        Ok(Self {
            name: name.to_owned(),
            op,
            value: value.to_owned(),
            test,
        })
    }

    /// The label's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or the expression.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a value matches; a label that is missing is empty.
    pub fn matches(&self, value: &str) -> bool {
        self.test.matches(value)
    }

    /// Whether labels match.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or_default())
    }

    /// The order in which they stand in a route's key.
    pub fn order(&self, other: &Self) -> Ordering {
        let kind = |m: &Self| match m.op {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        };
        (&self.name, &self.value, kind(self)).cmp(&(&other.name, &other.value, kind(other)))
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.order(other) == Ordering::Equal
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(is_reserved) {
            return write!(f, "{}{}{}", quote(&self.name), self.op, quote(&self.value));
        }
        let value = self
            .value
            .replace('\\', "\\\\")
            .replace('\n', "\\n")
            .replace('"', "\\\"");
        write!(f, "{}{}\"{value}\"", self.name, self.op)
    }
}

/// Whether all match.
pub fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches_labels(labels))
}

/// Matchers as one text, in braces.
pub fn shown(matchers: &[Matcher]) -> String {
    let texts: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
    format!("{{{}}}", texts.join(","))
}

/// Reads one matcher.
pub fn parse_one(text: &str) -> Result<Matcher, String> {
    if text.starts_with('{') || text.ends_with('}') {
        return Err(format!("unexpected open or close brace: {text}"));
    }
    let new = parse_new(text).and_then(|mut found| match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err("no matchers".to_owned()),
        count => Err(format!("expected 1 matcher, found {count}")),
    });
    chosen(new, classic(text))
}

/// Reads matchers, in braces or without.
pub fn parse(text: &str) -> Result<Vec<Matcher>, String> {
    chosen(parse_new(text), parse_classic(text))
}

fn chosen<T: PartialEq>(new: Result<T, String>, old: Result<T, String>) -> Result<T, String> {
    match (new, old) {
        (Err(_), old) => old,
        (Ok(new), Ok(old)) if new != old => Ok(old),
        (Ok(new), _) => Ok(new),
    }
}

fn is_reserved(c: char) -> bool {
    c.is_whitespace() || "{}!=~,\\\"'`".contains(c)
}

fn is_classic_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

fn parse_classic(text: &str) -> Result<Vec<Matcher>, String> {
    let text = text.strip_prefix('{').unwrap_or(text);
    let text = text.strip_suffix('}').unwrap_or(text);
    let (mut is_quoted, mut is_escaped) = (false, false);
    let mut tokens = Vec::new();
    let mut token = String::new();
    for c in text.chars() {
        match c {
            ',' if !is_quoted => {
                tokens.push(std::mem::take(&mut token));
                continue;
            }
            '"' if is_escaped => is_escaped = false,
            '"' => is_quoted = !is_quoted,
            '\\' => is_escaped = !is_escaped,
            ',' => {}
            _ => is_escaped = false,
        }
        token.push(c);
    }
    let last = token.trim();
    if !last.is_empty() {
        tokens.push(last.to_owned());
    }
    tokens.iter().map(|token| classic(token)).collect()
}

fn operator(text: &str) -> Option<(MatchOp, &str)> {
    [
        ("=~", MatchOp::Regex),
        ("!~", MatchOp::NotRegex),
        ("!=", MatchOp::NotEqual),
        ("=", MatchOp::Equal),
    ]
    .iter()
    .find_map(|(sign, op)| Some((*op, text.strip_prefix(sign)?)))
}

fn classic(text: &str) -> Result<Matcher, String> {
    let bad = || format!("bad matcher format: {text}");
    let trimmed = text.trim();
    let end = trimmed
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .ok_or_else(bad)?;
    let (name, rest) = trimmed.split_at(end);
    if !is_classic_name(name) {
        return Err(bad());
    }
    let (op, raw) = operator(rest.trim_start()).ok_or_else(bad)?;
    let raw = raw.trim();
    let inner = raw.strip_prefix('"');
    let mut wants_quote = inner.is_some();
    let inner = inner.unwrap_or(raw);
    let unquoted = || format!("matcher value contains unescaped double quote: {raw}");
    let mut value = String::new();
    let mut chars = inner.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                None => value.push('\\'),
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
            },
            '"' if wants_quote && at + 1 == inner.len() => wants_quote = false,
            '"' => return Err(unquoted()),
            c => value.push(c),
        }
    }
    if wants_quote {
        return Err(unquoted());
    }
    Matcher::new(op, name, &value)
}

/// Reads matchers in the newer form.
fn parse_new(text: &str) -> Result<Vec<Matcher>, String> {
    let mut rest = text.trim_start();
    let has_brace = rest.starts_with('{');
    if has_brace {
        rest = rest[1..].trim_start();
    }
    let mut matchers = Vec::new();
    while !rest.is_empty() && !rest.starts_with('}') {
        let (name, after) = word(rest)?;
        let (op, after) = operator(after.trim_start())
            .ok_or("expected an operator such as '=', '!=', '=~' or '!~'")?;
        let (value, after) = word(after.trim_start())?;
        matchers.push(Matcher::new(op, &name, &value)?);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() || rest.starts_with('}') => break,
            None => return Err("expected a comma or close brace".to_owned()),
        }
    }
    if has_brace {
        rest = rest
            .strip_prefix('}')
            .ok_or("expected close brace")?
            .trim_start();
    }
    if rest.is_empty() {
        Ok(matchers)
    } else {
        Err(format!("{rest}: expected end of input"))
    }
}

/// A name or a value: quoted, or without reserved characters.
fn word(text: &str) -> Result<(String, &str), String> {
    if text.starts_with('"') {
        return quoted(text);
    }
    let end = text.find(is_reserved).unwrap_or(text.len());
    if end == 0 {
        return Err("expected a label name or value".to_owned());
    }
    let (word, rest) = text.split_at(end);
    Ok((word.to_owned(), rest))
}

/// A text in double quotes with Go's escapes.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut out = Vec::new();
    let mut chars = text.char_indices().skip(1);
    let invalid = || format!("{text}: invalid input");
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let word = String::from_utf8(out).map_err(|_| invalid())?;
                return Ok((word, &text[at + 1..]));
            }
            '\n' => return Err(invalid()),
            '\\' => {
                let (_, escape) = chars.next().ok_or_else(invalid)?;
                let mut code = |digits: usize, radix: u32| {
                    let mut number = 0;
                    for _ in 0..digits {
                        let (_, digit) = chars.next()?;
                        number = number * radix + digit.to_digit(radix)?;
                    }
                    Some(number)
                };
                let simple = match escape {
                    'a' => Some(7),
                    'b' => Some(8),
                    'f' => Some(12),
                    'n' => Some(10),
                    'r' => Some(13),
                    't' => Some(9),
                    'v' => Some(11),
                    '\\' | '"' => Some(escape as u8),
                    'x' => code(2, 16).and_then(|n| u8::try_from(n).ok()),
                    _ => None,
                };
                if let Some(byte) = simple {
                    out.push(byte);
                    continue;
                }
                let number = match escape {
                    'u' => code(4, 16),
                    'U' => code(8, 16),
                    _ => None,
                };
                let c = number.and_then(char::from_u32).ok_or_else(invalid)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err(format!("{text}: missing end \""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read() {
        for (text, want) in [
            ("foo=bar", "{foo=\"bar\"}"),
            (
                "{foo = \"bar\", dings != \"bums\", }",
                "{foo=\"bar\",dings!=\"bums\"}",
            ),
            ("foo=~\"b.*\"", "{foo=~\"b.*\"}"),
            ("a!~b", "{a!~\"b\"}"),
            ("{}", "{}"),
            ("", "{}"),
            ("foo=\"a\\nb\"", "{foo=\"a\\nb\"}"),
            // Only the older form reads these.
            ("foo=[a-z]+,x=a b", "{foo=\"[a-z]+\",x=\"a b\"}"),
            ("foo=~\"a\\d\"", "{foo=~\"a\\\\d\"}"),
            ("foo=", "{foo=\"\"}"),
            // Only the newer form reads these.
            ("\"a b\"=\"c\"", "{\"a b\"=\"c\"}"),
            ("föö=bär", "{föö=\"bär\"}"),
            ("foo.bar=1", "{foo.bar=\"1\"}"),
        ] {
            let found = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(shown(&found), want, "{text}");
        }
        for bad in [
            "foo",
            "=bar",
            "foo=~\"(\"",
            "foo==\"",
            "\"a b\"",
            "a b=c",
            "a=b,\"",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_one("a=b,c=d").unwrap().value(), "b,c=d");
        assert!(parse_one("{a=b}").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_answered_and_what_is_shown_reads_back(text in "[a-c{}=!~\",\\\\ nxé]{0,14}") {
            if let Ok(found) = parse(&text)
                && let Ok(again) = parse(&shown(&found))
            {
                prop_assert_eq!(found, again);
            }
            let _ = parse_one(&text);
        }
    }
}
