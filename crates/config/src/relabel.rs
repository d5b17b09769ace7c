//! Relabelling: rules that rename, add and drop labels, or drop what carries them.
//!
//! Targets go through them before they are scraped and samples before they are stored, so a
//! rule's expression is compiled once, when the file is read. The rules are Prometheus': an
//! expression must match the whole joined value, a label with an empty value is no label, and
//! `$1`, `${1}`, `${name}` are expanded as Go's `regexp` does.

use std::fmt;

use kittiwake_model::{LabelsBuilder, pattern};
use md5::{Digest, Md5};
use regex::{Captures, Regex};
use serde::{Deserialize, Deserializer};

use crate::names::NameScheme;

/// What stands between joined values when a rule doesn't say.
pub const SEPARATOR: &str = ";";
/// The expression when a rule doesn't give one.
pub const PATTERN: &str = "(.*)";
/// The replacement when a rule doesn't give one.
pub const REPLACEMENT: &str = "$1";

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Sets the target label to the expanded replacement if the expression matches.
    #[default]
    Replace,
    /// Drops what doesn't match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Drops unless the joined values equal the target label.
    KeepEqual,
    /// Drops if the joined values equal the target label.
    DropEqual,
    /// Sets the target label to the joined values' hash modulo `modulus`.
    HashMod,
    /// Copies labels whose names match to the expanded replacement.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names don't match.
    LabelKeep,
    /// Sets the target label to the joined values in lower case.
    Lowercase,
    /// Sets the target label to the joined values in upper case.
    Uppercase,
}

impl Action {
    /// Every action with the name it has in a file.
    pub const ALL: [(&'static str, Self); 11] = [
        ("replace", Self::Replace),
        ("keep", Self::Keep),
        ("drop", Self::Drop),
        ("keepequal", Self::KeepEqual),
        ("dropequal", Self::DropEqual),
        ("hashmod", Self::HashMod),
        ("labelmap", Self::LabelMap),
        ("labeldrop", Self::LabelDrop),
        ("labelkeep", Self::LabelKeep),
        ("lowercase", Self::Lowercase),
        ("uppercase", Self::Uppercase),
    ];

    /// The action of a name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, action)| *action)
    }

    /// The name it has in a file.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, action)| *action == self);
        found.map_or("replace", |(name, _)| name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a rule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelabelError {
    /// The action is empty or unknown.
    #[error("unknown relabel action {0:?}; allowed: {names}", names = action_names())]
    Action(String),
    /// The expression doesn't compile.
    #[error("regex {pattern:?}: {reason}")]
    Regex {
        /// As written.
        pattern: String,
        /// What the compiler says.
        reason: String,
    },
    /// `hashmod` without a modulus.
    #[error("relabel action hashmod needs a modulus of 1 or more")]
    Modulus,
    /// An action that writes a label doesn't say which.
    #[error("relabel action {0} needs target_label")]
    NoTarget(Action),
    /// The target or replacement is no label name.
    #[error("{text:?} is invalid as {field} of relabel action {action}: not a label name")]
    Name {
        /// The rule's action.
        action: Action,
        /// `target_label` or `replacement`.
        field: &'static str,
        /// As written.
        text: String,
    },
    /// A replacement where none is used.
    #[error("relabel action {0} takes no replacement")]
    Replacement(Action),
    /// Fields that the action doesn't use.
    #[error("relabel action {action} takes only {allowed}")]
    Fields {
        /// The rule's action.
        action: Action,
        /// The fields that it takes.
        allowed: &'static str,
    },
}

fn action_names() -> String {
    Action::ALL.map(|(name, _)| name).join(", ")
}

/// One checked rule.
#[derive(Debug, Clone)]
pub struct RelabelConfig {
    /// The labels whose values are joined.
    pub source_labels: Vec<String>,
    /// What stands between them.
    pub separator: String,
    /// The label that is written; a template for `replace`. Empty if the action writes none.
    pub target_label: String,
    /// For `hashmod`.
    pub modulus: u64,
    /// What is written, with references to the expression's groups.
    pub replacement: String,
    /// What the rule does.
    pub action: Action,
    /// Which names `replace` may write; a target that expands to another is left out.
    pub names: NameScheme,
    pattern: String,
    regex: Regex,
}

impl RelabelConfig {
    /// The expression as written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

/// A rule as it stands in a file, before it is checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelabelRule {
    /// The labels whose values are joined.
    pub source_labels: Option<Vec<String>>,
    /// What stands between them; [`SEPARATOR`].
    #[serde(default, deserialize_with = "crate::scalar::null_is_zero")]
    pub separator: Option<String>,
    /// The label that is written.
    pub target_label: Option<String>,
    /// The expression; [`PATTERN`]. A key without a value is the empty expression.
    #[serde(default = "default_pattern", deserialize_with = "text_or_empty")]
    pub regex: String,
    /// For `hashmod`.
    pub modulus: Option<u64>,
    /// What is written; [`REPLACEMENT`].
    #[serde(default, deserialize_with = "crate::scalar::null_is_zero")]
    pub replacement: Option<String>,
    /// The action's name; `replace`. A key without a value is an error.
    #[serde(default = "default_action", deserialize_with = "text_or_empty")]
    pub action: String,
}

impl Default for RelabelRule {
    fn default() -> Self {
        Self {
            source_labels: None,
            separator: None,
            target_label: None,
            regex: default_pattern(),
            modulus: None,
            replacement: None,
            action: default_action(),
        }
    }
}

fn default_pattern() -> String {
    PATTERN.to_owned()
}

fn default_action() -> String {
    Action::default().name().to_owned()
}

fn text_or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

impl RelabelRule {
    /// Fills in the defaults, compiles the expression and checks that the fields fit the action.
    pub fn check(&self, names: NameScheme) -> Result<RelabelConfig, RelabelError> {
        let action = Action::from_name(&self.action)
            .ok_or_else(|| RelabelError::Action(self.action.clone()))?;
        let regex = pattern::anchored(&self.regex).map_err(|e| RelabelError::Regex {
            pattern: self.regex.clone(),
            reason: e.to_string(),
        })?;
        let text = |field: &Option<String>, default: &str| {
            field.clone().unwrap_or_else(|| default.to_owned())
        };
        let config = RelabelConfig {
            source_labels: self.source_labels.clone().unwrap_or_default(),
            separator: text(&self.separator, SEPARATOR),
            target_label: text(&self.target_label, ""),
            modulus: self.modulus.unwrap_or(0),
            replacement: text(&self.replacement, REPLACEMENT),
            action,
            names,
            pattern: self.regex.clone(),
            regex,
        };
        config.check()?;
        Ok(config)
    }
}

impl RelabelConfig {
    fn check(&self) -> Result<(), RelabelError> {
        use Action::{
            DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace,
            Uppercase,
        };
        let action = self.action;
        let bad_name = |field, text: &str| RelabelError::Name {
            action,
            field,
            text: text.to_owned(),
        };
        let plain =
            self.separator == SEPARATOR && self.modulus == 0 && self.replacement == REPLACEMENT;
        match action {
            HashMod if self.modulus == 0 => return Err(RelabelError::Modulus),
            Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual
                if self.target_label.is_empty() =>
            {
                return Err(RelabelError::NoTarget(action));
            }
            KeepEqual | DropEqual if !plain || self.pattern != PATTERN => {
                let allowed = "source_labels and target_label";
                return Err(RelabelError::Fields { action, allowed });
            }
            LabelDrop | LabelKeep
                if !plain || !self.source_labels.is_empty() || !self.target_label.is_empty() =>
            {
                let allowed = "regex";
                return Err(RelabelError::Fields { action, allowed });
            }
            Lowercase | Uppercase if self.replacement != REPLACEMENT => {
                return Err(RelabelError::Replacement(action));
            }
            _ => {}
        }
        let target_ok = match action {
            Replace if self.target_label.contains('$') => {
                self.names.template_is_valid(&self.target_label)
            }
            Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual => {
                self.names.label_is_valid(&self.target_label)
            }
            _ => true,
        };
        if !target_ok {
            return Err(bad_name("target_label", &self.target_label));
        }
        if action == LabelMap && !self.names.template_is_valid(&self.replacement) {
            return Err(bad_name("replacement", &self.replacement));
        }
        Ok(())
    }

    fn joined(&self, labels: &LabelsBuilder) -> String {
        let mut joined = String::new();
        for (i, name) in self.source_labels.iter().enumerate() {
            if i > 0 {
                joined.push_str(&self.separator);
            }
            joined.push_str(labels.get(name).unwrap_or_default());
        }
        joined
    }

    /// Applies the rule; false: dropped.
    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let joined = self.joined(labels);
        let target = self.target_label.as_str();
        match self.action {
            Action::Keep => return self.regex.is_match(&joined),
            Action::Drop => return !self.regex.is_match(&joined),
            Action::KeepEqual => return labels.get(target).unwrap_or_default() == joined,
            Action::DropEqual => return labels.get(target).unwrap_or_default() != joined,
            Action::Replace => {
                if let Some(captures) = self.regex.captures(&joined) {
                    let target = expand(target, &self.regex, &captures);
                    if self.names.label_is_valid(&target) {
                        let value = expand(&self.replacement, &self.regex, &captures);
                        labels.set(&target, &value);
                    }
                }
            }
            Action::HashMod => {
                labels.set(target, &(hash(&joined) % self.modulus.max(1)).to_string());
            }
            Action::Lowercase => {
                labels.set(target, &joined.to_lowercase());
            }
            Action::Uppercase => {
                labels.set(target, &joined.to_uppercase());
            }
            Action::LabelMap => self.map_names(labels),
            Action::LabelDrop => {
                labels.retain(|name, _| !self.regex.is_match(name));
            }
            Action::LabelKeep => {
                labels.retain(|name, _| self.regex.is_match(name));
            }
        }
        true
    }

    /// Two names may map to one; the later in order of names wins, whatever order the labels
    /// were set in.
    fn map_names(&self, labels: &mut LabelsBuilder) {
        let mut mapped: Vec<(String, String, String)> = labels
            .iter()
            .filter_map(|(name, value)| {
                let captures = self.regex.captures(name)?;
                let to = expand(&self.replacement, &self.regex, &captures);
                (!to.is_empty()).then(|| (name.to_owned(), to, value.to_owned()))
            })
            .collect();
        mapped.sort();
        for (_, to, value) in mapped {
            labels.set(&to, &value);
        }
    }
}

/// Applies rules in order. `None`: a rule dropped what carries the labels.
pub fn apply(rules: &[RelabelConfig], mut labels: LabelsBuilder) -> Option<LabelsBuilder> {
    for rule in rules {
        if !rule.apply(&mut labels) {
            return None;
        }
    }
    Some(labels)
}

/// The last eight bytes of the text's MD5 as a big-endian number: several servers share targets
/// by it, so it must agree with Prometheus'.
fn hash(text: &str) -> u64 {
    let digest = Md5::digest(text.as_bytes());
    digest
        .iter()
        .skip(8)
        .fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// Go's `Regexp.Expand`: `$name` takes the longest run of letters, digits and `_`, `$$` is a
/// dollar, a reference to no group is empty, and a dollar that starts no reference stays.
fn expand(template: &str, regex: &Regex, captures: &Captures<'_>) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = reference(after) {
            out.push_str(group(name, regex, captures));
            rest = tail;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The name of the reference whose dollar was just read, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (body, braced) = match text.strip_prefix('{') {
        Some(body) => (body, true),
        None => (text, false),
    };
    let end = body
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(body.len());
    let (name, tail) = body.split_at(end);
    let tail = if braced {
        tail.strip_prefix('}')?
    } else {
        tail
    };
    (!name.is_empty()).then_some((name, tail))
}

fn group<'t>(name: &str, regex: &Regex, captures: &Captures<'t>) -> &'t str {
    let number =
        name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    let found = if number {
        name.parse().ok().and_then(|i| captures.get(i))
    } else {
        regex
            .capture_names()
            .enumerate()
            .filter(|(_, n)| *n == Some(name))
            .find_map(|(i, _)| captures.get(i))
    };
    found.map_or("", |m| m.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(yaml: &str) -> Result<RelabelConfig, RelabelError> {
        let rule: RelabelRule = serde_saphyr::from_str(yaml).unwrap();
        rule.check(NameScheme::Utf8)
    }

    /// Labels and rules in, labels out: `a=1,b=2`; `-` when dropped.
    fn run(labels: &str, rules: &[&str]) -> String {
        let rules: Vec<_> = rules
            .iter()
            .map(|r| rule(&format!("{{{r}}}")).unwrap())
            .collect();
        let mut builder = LabelsBuilder::new();
        for pair in labels.split(',') {
            let (name, value) = pair.split_once('=').unwrap();
            builder.set(name, value);
        }
        let Some(out) = apply(&rules, builder) else {
            return "-".to_owned();
        };
        let pairs = out.build().unwrap();
        pairs
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect::<Vec<_>>()
            .join(",")
    }

    #[test]
    fn replace_writes_what_the_whole_match_gives() {
        let set =
            r#"source_labels: [a], regex: "f(.*)", target_label: d, replacement: "ch${1}-ch${1}""#;
        assert_eq!(run("a=foo,b=bar", &[set]), "a=foo,b=bar,d=choo-choo");
        // The expression must match all of the value.
        assert_eq!(run("a=xfoo", &[set]), "a=xfoo");
        let join = r#"source_labels: [a, b], regex: "f(.*);(.*)r", target_label: a, replacement: "b${1}${2}m""#;
        assert_eq!(run("a=foo,b=bar", &[join]), "a=boobam,b=bar");
        // A replacement that comes out empty removes the label; no match leaves it.
        assert_eq!(
            run("a=foo,b=1", &[r#"target_label: b, replacement: """#]),
            "a=foo"
        );
        assert_eq!(
            run(
                "a=foo",
                &[r#"source_labels: [x], regex: "x.*", target_label: a, replacement: y"#]
            ),
            "a=foo"
        );
        // A key without a value is the empty expression.
        assert_eq!(
            run("a=foo", &["regex: , replacement: static, target_label: b"]),
            "a=foo,b=static"
        );
        assert_eq!(
            run(
                "a=foo",
                &["source_labels: [a], regex: , replacement: no, target_label: b"]
            ),
            "a=foo"
        );
    }

    #[test]
    fn replace_expands_the_target_too() {
        let named = r#"source_labels: [a], regex: "(?P<key>[^=]+):(.*)", target_label: "x_${key}", replacement: "$2""#;
        assert_eq!(run("a=some:value", &[named]), "a=some:value,x_some=value");
        // A target that comes out empty is no name.
        assert_eq!(
            run("a=1", &[r#"source_labels: [a], target_label: "${9}""#]),
            "a=1"
        );
        assert_eq!(
            run(
                "a=1",
                &[r#"source_labels: [a], target_label: b, replacement: "$1x $$ $ ${1 ${1}x""#]
            ),
            "a=1,b= $ $ ${1 1x"
        );
    }

    #[test]
    fn keep_and_drop_decide() {
        assert_eq!(
            run("a=foo", &["source_labels: [a], regex: foo, action: drop"]),
            "-"
        );
        assert_eq!(
            run("a=foo", &["source_labels: [a], regex: fo, action: drop"]),
            "a=foo"
        );
        assert_eq!(
            run("a=foo", &["source_labels: [a], regex: foo, action: keep"]),
            "a=foo"
        );
        assert_eq!(
            run("a=foo", &["source_labels: [a], regex: bar, action: Keep"]),
            "-"
        );
        // A missing label joins as the empty value.
        assert_eq!(
            run(
                "a=foo",
                &["source_labels: [x, a], regex: ';foo', action: drop"]
            ),
            "-"
        );
        // What is dropped sees no later rule.
        assert_eq!(
            run(
                "a=1",
                &[
                    "source_labels: [a], regex: 1, action: drop",
                    "target_label: b, replacement: x"
                ]
            ),
            "-"
        );
    }

    #[test]
    fn equal_actions_compare_labels() {
        let keep = "source_labels: [__tmp_port], target_label: port, action: keepequal";
        assert_eq!(
            run("__tmp_port=1234,port=1234", &[keep]),
            "__tmp_port=1234,port=1234"
        );
        assert_eq!(run("__tmp_port=1234,port=5678", &[keep]), "-");
        let drop = "source_labels: [__tmp_port], target_label: port, action: dropequal";
        assert_eq!(run("__tmp_port=1234,port=1234", &[drop]), "-");
        assert_eq!(
            run("__tmp_port=1234,port=5678", &[drop]),
            "__tmp_port=1234,port=5678"
        );
    }

    #[test]
    fn hashmod_is_prometheus_number() {
        // md5("bar") = 37b51d194a7513e45b56f6524f2d51f2, its last eight bytes modulo 1000.
        let expected = 0x5b56_f652_4f2d_51f2_u64 % 1000;
        assert_eq!(
            run(
                "c=bar",
                &["source_labels: [c], target_label: d, action: hashmod, modulus: 1000"]
            ),
            format!("c=bar,d={expected}")
        );
        // md5("") = d41d8cd98f00b204e9800998ecf8427e.
        assert_eq!(hash(""), 0xe980_0998_ecf8_427e);
    }

    #[test]
    fn names_are_mapped_kept_and_dropped() {
        assert_eq!(
            run(
                "__meta_my_a=1,__meta_my_b=2,x=3",
                &[r#"regex: "__meta_my_(.+)", action: labelmap"#]
            ),
            "__meta_my_a=1,__meta_my_b=2,a=1,b=2,x=3"
        );
        assert_eq!(
            run(
                "b1=first,b2=second",
                &[r#"regex: "(b)\\d", action: labelmap"#]
            ),
            "b=second,b1=first,b2=second"
        );
        assert_eq!(
            run("b1=1,b2=2,c=3", &["regex: '(b.*)', action: labeldrop"]),
            "c=3"
        );
        assert_eq!(
            run("b1=1,b2=2,c=3", &["regex: '(b.*)', action: labelkeep"]),
            "b1=1,b2=2"
        );
    }

    #[test]
    fn case_is_changed() {
        assert_eq!(
            run(
                "foo=bAr123Foo",
                &[
                    "source_labels: [foo], target_label: lower, action: lowercase",
                    "source_labels: [foo], target_label: upper, action: uppercase",
                ]
            ),
            "foo=bAr123Foo,lower=bar123foo,upper=BAR123FOO"
        );
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        for (yaml, part) in [
            ("action: null", "allowed: replace, keep"),
            ("action: remove", "allowed: replace, keep"),
            ("regex: 'abc(def'", "abc(def"),
            ("regex: abc", "replace needs target_label"),
            (
                "source_labels: [a]\naction: hashmod\ntarget_label: b",
                "modulus",
            ),
            (
                "source_labels: [a]\naction: hashmod\nmodulus: 8",
                "target_label",
            ),
            ("action: labelmap\nreplacement: ''", "replacement"),
            ("action: labeldrop\nsource_labels: [a]", "takes only regex"),
            ("action: labelkeep\nseparator: ','", "takes only regex"),
            (
                "action: dropequal\ntarget_label: a\nregex: b",
                "takes only source_labels",
            ),
            (
                "action: lowercase\ntarget_label: a\nreplacement: b",
                "takes no replacement",
            ),
        ] {
            let error = rule(yaml).unwrap_err().to_string();
            assert!(error.contains(part), "{yaml}: {error}");
        }
        assert!(serde_saphyr::from_str::<RelabelRule>("source_label: [a]").is_err());
        let old = RelabelRule {
            target_label: Some("a.b".to_owned()),
            ..RelabelRule::default()
        };
        assert!(old.check(NameScheme::Utf8).is_ok());
        assert!(old.check(NameScheme::Legacy).is_err());
    }

    proptest! {
        #[test]
        fn any_template_expands(template in r"[$\{\}1a_x é]{0,12}") {
            let regex = pattern::anchored("(?P<a>.)(.*)").unwrap();
            let captures = regex.captures("été").unwrap();
            let out = expand(&template, &regex, &captures);
            if !template.contains('$') {
                prop_assert_eq!(out, template);
            }
        }
    }
}
