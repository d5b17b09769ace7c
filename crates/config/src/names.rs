//! Which names labels and metrics may have.
//!
//! Prometheus 3 takes any text that is not empty; before, a name had to be an identifier, and a
//! configuration can still ask for that (`metric_name_validation_scheme: legacy`).

use serde::Deserialize;

/// Which label names are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameScheme {
    /// Any text that is not empty.
    #[default]
    Utf8,
    /// ASCII letters, digits and `_`, without a digit in front.
    Legacy,
}

impl NameScheme {
    /// Whether a label may have this name.
    pub fn label_is_valid(self, name: &str) -> bool {
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => {
                !name.is_empty()
                    && !name.starts_with(|c: char| c.is_ascii_digit())
                    && name.bytes().all(is_word)
            }
        }
    }

    /// Whether a template (`foo_${1}`) can become the name of a label.
    pub fn template_is_valid(self, template: &str) -> bool {
        match self {
            Self::Utf8 => !template.is_empty(),
            Self::Legacy => {
                let mut rest = template;
                while let Some(head) = rest.bytes().next() {
                    let used = if head == b'$' {
                        reference_len(rest)
                    } else {
                        usize::from(is_word(head))
                    };
                    if used == 0 {
                        return false;
                    }
                    rest = rest.get(used..).unwrap_or_default();
                }
                !template.is_empty() && !template.starts_with(|c: char| c.is_ascii_digit())
            }
        }
    }
}

/// Whether a byte may stand in a name by the old rule.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The length of the reference (`$name` or `${name}`) at the start of a text, 0 for none.
fn reference_len(text: &str) -> usize {
    let after = text.get(1..).unwrap_or_default();
    let inner = after.strip_prefix('{');
    let body = inner.unwrap_or(after);
    let words = body.bytes().take_while(|b| is_word(*b)).count();
    match (words, inner) {
        (0, _) => 0,
        (_, None) => 1 + words,
        (_, Some(_)) if body.as_bytes().get(words) == Some(&b'}') => words + 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_scheme_takes_identifiers_only() {
        for (name, legacy) in [
            ("a", true),
            ("_a9", true),
            ("__name__", true),
            ("9a", false),
            ("a-b", false),
            ("é", false),
            ("a.b", false),
            ("", false),
        ] {
            assert_eq!(NameScheme::Legacy.label_is_valid(name), legacy, "{name}");
            assert_eq!(NameScheme::Utf8.label_is_valid(name), !name.is_empty());
        }
    }

    #[test]
    fn templates_may_hold_references() {
        for (template, legacy) in [
            ("$1", true),
            ("${1}", true),
            ("foo_${name}_bar$2", true),
            ("a-$1", false),
            ("${1", false),
            ("$", false),
            ("${}", false),
            ("1$1", false),
        ] {
            assert_eq!(
                NameScheme::Legacy.template_is_valid(template),
                legacy,
                "{template}"
            );
        }
    }
}
