//! What templates compute with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kittiwake_model::calendar::civil;
use kittiwake_model::duration;

/// Where in HTML a text is safe as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Between tags.
    Html,
    /// As an address.
    Url,
}

/// A value of a template.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Go's untyped nil, and what is not there.
    #[default]
    Nil,
    /// A truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A real number.
    Float(f64),
    /// A text.
    Text(Arc<str>),
    /// A time in ns since 1970, with its zone's offset in seconds.
    Time(i64, i32),
    /// A span of time in ns.
    Duration(i64),
    /// A text that is known to be safe in some place of HTML.
    Marked(Mark, Arc<str>),
    /// A list.
    List(Arc<Vec<Value>>),
    /// Values by name. `true` where a name that is missing means an empty text (Go's
    /// `map[string]string` under `missingkey=zero`), else it is nil.
    Map(Arc<BTreeMap<String, Value>>, bool),
}

impl Value {
    /// Go's zero time, the start of the year 1.
    pub const ZERO_TIME: Self = Self::Time(i64::MIN, 0);

    /// A text.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Arc::from(text.as_ref()))
    }

    /// A map of texts, of which a missing one is empty.
    pub fn texts<N: Into<String>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let pairs = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), Self::text(value)));
        Self::Map(Arc::new(pairs.collect()), true)
    }

    /// A list.
    pub fn list(values: impl IntoIterator<Item = Value>) -> Self {
        Self::List(Arc::new(values.into_iter().collect()))
    }

    /// Whether it counts as true: not zero, not empty.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(truth) => *truth,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Time(..) => true,
            Self::Duration(ns) => *ns != 0,
            Self::Marked(_, text) => !text.is_empty(),
            Self::List(values) => !values.is_empty(),
            Self::Map(values, _) => !values.is_empty(),
        }
    }

    /// Go's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Time(..) => "time.Time",
            Self::Duration(_) => "time.Duration",
            Self::Marked(Mark::Html, _) => "template.HTML",
            Self::Marked(Mark::Url, _) => "template.URL",
            Self::List(_) => "[]interface {}",
            Self::Map(_, true) => "map[string]string",
            Self::Map(_, false) => "map[string]interface {}",
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Marked(_, text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    /// As Go's `%v` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<nil>"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => f.write_str(&crate::printf::general(*number, None)),
            Self::Text(text) | Self::Marked(_, text) => f.write_str(text),
            Self::Duration(ns) => f.write_str(&duration::text(*ns)),
            Self::Time(ns, offset) => f.write_str(&time_text(*ns, *offset)),
            Self::List(values) => {
                f.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        f.write_str(" ")?;
                    }
                    write!(f, "{value}")?;
                }
                f.write_str("]")
            }
            Self::Map(values, _) => {
                f.write_str("map[")?;
                for (index, (name, value)) in values.iter().enumerate() {
                    if index > 0 {
                        f.write_str(" ")?;
                    }
                    write!(f, "{name}:{value}")?;
                }
                f.write_str("]")
            }
        }
    }
}

/// A time as Go's `Time.String` writes it.
fn time_text(ns: i64, offset: i32) -> String {
    if ns == i64::MIN {
        return "0001-01-01 00:00:00 +0000 UTC".to_owned();
    }
    let local = i128::from(ns) + i128::from(offset) * 1_000_000_000;
    let days = local.div_euclid(86_400_000_000_000) as i64;
    let in_day = local.rem_euclid(86_400_000_000_000) as u64;
    let (year, month, day) = civil(days);
    let seconds = in_day / 1_000_000_000;
    let mut text = format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    let fraction = in_day % 1_000_000_000;
    if fraction > 0 {
        let digits = format!("{fraction:09}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    let minutes = offset.abs() / 60;
    let sign = if offset < 0 { '-' } else { '+' };
    let zone = format!("{sign}{:02}{:02}", minutes / 60, minutes % 60);
    text.push(' ');
    text.push_str(&zone);
    text.push(' ');
    text.push_str(if offset == 0 { "UTC" } else { &zone });
    text
}
