//! Escaping of values by their place in HTML, as Go's `html/template` does it.
//!
//! Go works out the place of each value when a template is first used; here it is followed while
//! the text is written, which comes to the same for templates that Go accepts. Comments are
//! left out, a `<` that starts no tag is escaped, and a value that is unsafe in its place becomes
//! `ZgotmplZ`, as there.

use std::fmt::Write as _;

use crate::builtin::json_text;
use crate::value::{Mark, Value};

/// What stands in place of a value that is not safe where it would go.
const FAILSAFE: &str = "ZgotmplZ";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Text,
    /// Inside a tag, between attributes.
    Tag,
    /// Inside the name of an attribute.
    AttrName,
    AfterName,
    BeforeValue,
    /// Inside a value, up to this byte; 0: up to a space or `>`.
    Value(u8),
    Comment,
    /// Inside an element whose content is no HTML.
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Element {
    #[default]
    Other,
    Title,
    Textarea,
    Script,
    Style,
}

impl Element {
    fn of(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "title" => Self::Title,
            "textarea" => Self::Textarea,
            "script" => Self::Script,
            "style" => Self::Style,
            _ => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Other => "",
            Self::Title => "title",
            Self::Textarea => "textarea",
            Self::Script => "script",
            Self::Style => "style",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Content {
    #[default]
    Plain,
    Url,
    Css,
    Js,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum UrlPart {
    #[default]
    Start,
    Path,
    Query,
}

/// The place in the text that was written so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Escaper {
    state: State,
    element: Element,
    content: Content,
    url: UrlPart,
    /// The quote that is open in a style or a script.
    quote: u8,
}

impl Escaper {
    /// Takes text of the template, and gives what is written for it.
    pub(crate) fn text(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let used = self.step(rest, &mut out).clamp(1, rest.len());
            rest = rest.get(used..).unwrap_or_default();
        }
        out
    }

    /// Takes some of the text, and tells how many bytes.
    fn step(&mut self, rest: &str, out: &mut String) -> usize {
        if rest.is_empty() {
            return 0;
        }
        match self.state {
            State::Text => self.in_text(rest, out),
            State::Raw => self.in_raw(rest, out),
            State::Comment => match rest.find("-->") {
                Some(end) => {
                    self.state = State::Text;
                    end + 3
                }
                None => rest.len(),
            },
            State::Tag => self.in_tag(rest, out),
            State::AttrName => {
                let name = name_len(rest);
                out.push_str(&rest[..name]);
                self.state = State::AfterName;
                name + self.step(&rest[name..], out)
            }
            State::AfterName => {
                let spaces = spaces(rest);
                out.push_str(&rest[..spaces]);
                if spaces == rest.len() {
                    return spaces;
                }
                if rest[spaces..].starts_with('=') {
                    out.push('=');
                    self.state = State::BeforeValue;
                    return spaces + 1;
                }
                self.state = State::Tag;
                if spaces == 0 {
                    return self.in_tag(rest, out);
                }
                spaces
            }
            State::BeforeValue => self.before_value(rest, out),
            State::Value(delimiter) => self.in_value(delimiter, rest, out),
        }
    }

    fn in_text(&mut self, rest: &str, out: &mut String) -> usize {
        let Some(at) = rest.find('<') else {
            out.push_str(rest);
            return rest.len();
        };
        out.push_str(&rest[..at]);
        let tag = &rest[at..];
        if tag.starts_with("<!--") {
            self.state = State::Comment;
            return at + 4;
        }
        let is_doctype = tag
            .get(..9)
            .is_some_and(|t| t.eq_ignore_ascii_case("<!doctype"));
        if is_doctype {
            out.push('<');
            return at + 1;
        }
        let slash = usize::from(tag.as_bytes().get(1) == Some(&b'/'));
        let name = &tag[1 + slash..];
        let len = name
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-'))
            .count();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            out.push_str("&lt;");
            return at + 1;
        }
        out.push_str(&tag[..1 + slash + len]);
        self.element = if slash == 1 {
            Element::Other
        } else {
            Element::of(&name[..len])
        };
        self.state = State::Tag;
        at + 1 + slash + len
    }

    fn in_raw(&mut self, rest: &str, out: &mut String) -> usize {
        let close = format!("</{}", self.element.name());
        let end = rest
            .as_bytes()
            .windows(close.len())
            .position(|w| w.eq_ignore_ascii_case(close.as_bytes()));
        let len = end.unwrap_or(rest.len());
        let content = &rest[..len];
        if matches!(self.element, Element::Title | Element::Textarea) {
            out.push_str(&content.replace('<', "&lt;"));
        } else {
            self.quotes(content);
            out.push_str(content);
        }
        if end.is_some() {
            self.quote = 0;
            self.state = State::Text;
            return len + self.in_text(&rest[len..], out);
        }
        len
    }

    fn in_tag(&mut self, rest: &str, out: &mut String) -> usize {
        let spaces = spaces(rest);
        if spaces > 0 {
            out.push_str(&rest[..spaces]);
            return spaces;
        }
        let first = rest.chars().next().unwrap_or('>');
        match first {
            '>' => {
                out.push('>');
                self.state = if self.element == Element::Other {
                    State::Text
                } else {
                    State::Raw
                };
                1
            }
            '/' | '=' => {
                out.push(first);
                1
            }
            _ => {
                let name = name_len(rest).max(first.len_utf8());
                out.push_str(&rest[..name]);
                self.content = content_of(&rest[..name]);
                self.state = State::AfterName;
                name
            }
        }
    }

    fn before_value(&mut self, rest: &str, out: &mut String) -> usize {
        let spaces = spaces(rest);
        out.push_str(&rest[..spaces]);
        let delimiter = match rest.as_bytes().get(spaces) {
            None => return spaces,
            Some(quote @ (b'"' | b'\'')) => {
                out.push(char::from(*quote));
                *quote
            }
            Some(_) => 0,
        };
        self.start_value(delimiter);
        if delimiter == 0 {
            return spaces + self.in_value(0, &rest[spaces..], out);
        }
        spaces + 1
    }

    fn start_value(&mut self, delimiter: u8) {
        self.state = State::Value(delimiter);
        self.url = UrlPart::Start;
        self.quote = 0;
    }

    fn in_value(&mut self, delimiter: u8, rest: &str, out: &mut String) -> usize {
        let is_end = |b: &u8| match delimiter {
            0 => b.is_ascii_whitespace() || *b == b'>',
            quote => *b == quote,
        };
        let end = rest.bytes().position(|b| is_end(&b));
        let value = &rest[..end.unwrap_or(rest.len())];
        out.push_str(value);
        match self.content {
            Content::Url => {
                if value.contains(['?', '#']) {
                    self.url = UrlPart::Query;
                } else if self.url == UrlPart::Start && !value.trim().is_empty() {
                    self.url = UrlPart::Path;
                }
            }
            Content::Css | Content::Js => self.quotes(value),
            Content::Plain => {}
        }
        if end.is_none() {
            return rest.len();
        }
        self.state = State::Tag;
        if delimiter == 0 {
            return value.len() + self.in_tag(&rest[value.len()..], out);
        }
        out.push(char::from(delimiter));
        value.len() + 1
    }

    /// Follows the quotes of a style or a script.
    fn quotes(&mut self, text: &str) {
        let mut is_escaped = false;
        for byte in text.bytes() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' | b'\'' if self.quote == 0 => self.quote = byte,
                _ if byte == self.quote => self.quote = 0,
                _ => {}
            }
        }
    }

    /// A value, printed as `shown`, as it is written at this place. `escaped_by` is the last
    /// function of its pipeline.
    pub(crate) fn value(&mut self, value: &Value, shown: &str, escaped_by: &str) -> String {
        let mark = match value {
            Value::Marked(mark, _) => Some(*mark),
            _ => None,
        };
        match self.state {
            State::BeforeValue => self.start_value(0),
            State::Tag | State::AfterName => {
                self.state = State::AttrName;
                self.content = Content::Plain;
            }
            _ => {}
        }
        match self.state {
            State::Comment => String::new(),
            State::Text if mark == Some(Mark::Html) || escaped_by == "html" => shown.to_owned(),
            State::Text => html(shown),
            State::Raw => match self.element {
                Element::Script => self.js(value, shown),
                Element::Style => self.css(shown),
                _ => html(shown),
            },
            State::Tag | State::AttrName | State::AfterName => name_only(shown),
            State::BeforeValue => String::new(),
            State::Value(delimiter) => self.in_attribute(delimiter, value, shown, mark, escaped_by),
        }
    }

    fn in_attribute(
        &self,
        delimiter: u8,
        value: &Value,
        shown: &str,
        mark: Option<Mark>,
        escaped_by: &str,
    ) -> String {
        let text = match self.content {
            Content::Plain if mark == Some(Mark::Html) => without_tags(shown),
            Content::Plain => shown.to_owned(),
            Content::Url => self.url(shown, mark, escaped_by),
            Content::Css => self.css(shown),
            Content::Js => self.js(value, shown),
        };
        match (delimiter, escaped_by) {
            (0, _) => unquoted(&text),
            (_, "html") if self.content == Content::Plain => text,
            _ => html(&text),
        }
    }

    fn url(&self, text: &str, mark: Option<Mark>, escaped_by: &str) -> String {
        let is_safe = mark == Some(Mark::Url);
        match self.url {
            UrlPart::Start if !is_safe && !is_safe_url(text) => format!("#{FAILSAFE}"),
            UrlPart::Start | UrlPart::Path => url_escaped(text, true),
            UrlPart::Query if escaped_by == "urlquery" => text.to_owned(),
            UrlPart::Query => url_escaped(text, is_safe),
        }
    }

    fn css(&self, text: &str) -> String {
        if self.quote != 0 {
            return css_string(text);
        }
        let is_unsafe =
            text.contains(|c: char| "\0\"'()/;@[\\]`{}<>".contains(c)) || text.contains("--");
        let letters: String = text
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_ascii_lowercase();
        if is_unsafe || letters.contains("expression") || letters.contains("mozbinding") {
            return FAILSAFE.to_owned();
        }
        text.to_owned()
    }

    fn js(&self, value: &Value, shown: &str) -> String {
        if self.quote != 0 {
            return js_string(shown);
        }
        match value {
            Value::Nil => " null ".to_owned(),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => format!(" {shown} "),
            _ => json_text(shown),
        }
    }
}

fn spaces(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_whitespace).count()
}

fn name_len(text: &str) -> usize {
    text.bytes()
        .take_while(|b| !b.is_ascii_whitespace() && !matches!(b, b'=' | b'>' | b'/'))
        .count()
}

/// What the value of an attribute is.
fn content_of(name: &str) -> Content {
    const URLS: [&str; 16] = [
        "action",
        "archive",
        "background",
        "cite",
        "classid",
        "codebase",
        "data",
        "formaction",
        "href",
        "icon",
        "longdesc",
        "manifest",
        "poster",
        "profile",
        "src",
        "usemap",
    ];
    let name = name.to_ascii_lowercase();
    let name = match name.split_once(':') {
        Some(("xmlns", _)) => return Content::Url,
        Some((_, local)) => local,
        None => name.strip_prefix("data-").unwrap_or(&name),
    };
    if name == "style" {
        Content::Css
    } else if URLS.contains(&name) || name == "xmlns" {
        Content::Url
    } else if name.starts_with("on") {
        Content::Js
    } else if ["src", "uri", "url"].iter().any(|part| name.contains(part)) {
        Content::Url
    } else {
        Content::Plain
    }
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_html(&mut out, c);
    }
    out
}

fn push_html(out: &mut String, c: char) {
    match c {
        '\0' => out.push('\u{fffd}'),
        '"' => out.push_str("&#34;"),
        '&' => out.push_str("&amp;"),
        '\'' => out.push_str("&#39;"),
        '+' => out.push_str("&#43;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => out.push(c),
    }
}

/// For a value without quotes.
fn unquoted(text: &str) -> String {
    if text.is_empty() {
        return FAILSAFE.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_whitespace() || c == '\u{b}' || c == '=' || c == '`' {
            // Writing to a string cannot fail.
            let _ = write!(out, "&#{};", c as u32);
        } else {
            push_html(&mut out, c);
        }
    }
    out
}

/// The text between the tags.
fn without_tags(text: &str) -> String {
    let mut out = String::new();
    let mut is_inside = false;
    for c in text.chars() {
        match c {
            '<' => is_inside = true,
            '>' if is_inside => is_inside = false,
            c if !is_inside => out.push(c),
            _ => {}
        }
    }
    out
}

fn name_only(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    let is_name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_name && content_of(&text) == Content::Plain {
        text
    } else {
        FAILSAFE.to_owned()
    }
}

fn is_safe_url(text: &str) -> bool {
    match text.split_once(':') {
        Some((scheme, _)) if !scheme.contains('/') => ["http", "https", "mailto"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known)),
        _ => true,
    }
}

/// Percent-encodes; what has a meaning in a URL stays when it is only to be `normal`.
fn url_escaped(text: &str, normal: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    for (at, byte) in bytes.iter().enumerate() {
        let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        let stays = match byte {
            b'-' | b'.' | b'_' | b'~' => true,
            b'!' | b'#' | b'$' | b'&' | b'*' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?'
            | b'@' | b'[' | b']' => normal,
            b'%' => normal && is_hex(at + 1) && is_hex(at + 2),
            byte => byte.is_ascii_alphanumeric(),
        };
        if stays {
            out.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02x}");
        }
    }
    out
}

fn css_string(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c > '\u{7f}' || " -_.,!$*=?#@^~|%".contains(c) {
            out.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\{:x} ", c as u32);
        }
    }
    out
}

/// A text inside the quotes of a script.
fn js_string(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '/' => out.push_str("\\/"),
            c if c < ' ' || "\"'&+<>`\u{2028}\u{2029}".contains(c) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}
