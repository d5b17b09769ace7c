//! Targets that are listed in files, which other programs write: JSON or YAML, by the name's end.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::{ConfigError, Located, Problem, read_file};
use crate::scalar::Texts;

/// Targets that one file or group may list.
pub const TARGETS_MAX: usize = 100_000;

/// Targets with the labels that they have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetGroup {
    /// Addresses, `host:port`.
    pub targets: Vec<String>,
    /// The labels of each.
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupFields {
    targets: Option<Vec<String>>,
    labels: Option<Texts>,
}

impl GroupFields {
    /// Checks a group. One whose addresses are relabelled before they are used may hold any.
    pub(crate) fn check(self, is_relabelled: bool) -> Result<TargetGroup, Problem> {
        let targets = self.targets.unwrap_or_default();
        let is_bad = |t: &&String| !is_relabelled && (t.contains('/') || t.is_empty());
        if let Some(address) = targets.iter().find(is_bad) {
            return Err(Problem::Value {
                field: "targets",
                value: address.clone(),
                allowed: "write HOST:PORT; the scheme and the path are fields of the job",
            });
        }
        if targets.len() > TARGETS_MAX {
            return Err(Problem::Value {
                field: "targets",
                value: targets.len().to_string(),
                allowed: "at most 100000 in one group",
            });
        }
        let labels = self.labels.unwrap_or_default().0;
        if labels.contains_key("") {
            return Err(Problem::Missing("the name of a label"));
        }
        Ok(TargetGroup { targets, labels })
    }
}

/// Reads the groups that a file lists.
pub fn read_target_groups(file: &Path) -> Result<Vec<TargetGroup>, ConfigError> {
    let text = read_file(file)?;
    let is_json = file
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("json"));
    parse_target_groups(&text, is_json).map_err(|located| located.in_file(file))
}

pub(crate) fn parse_target_groups(text: &str, is_json: bool) -> Result<Vec<TargetGroup>, Located> {
    let fields: Vec<Option<GroupFields>> = if is_json {
        serde_json::from_str(text).map_err(|e| {
            let line = u64::try_from(e.line()).unwrap_or(0);
            Located::new(line, Problem::Yaml(e.to_string()))
        })?
    } else if text.trim().is_empty() {
        Vec::new()
    } else {
        serde_saphyr::from_str(text)?
    };
    let groups = fields.into_iter().map(|group| {
        let group = group.ok_or(Problem::Missing("a target group"));
        group.and_then(|group| group.check(true))
    });
    groups
        .collect::<Result<_, _>>()
        .map_err(|problem| Located::new(0, problem))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let json = r#"[{"targets": ["a:1", "b:2"], "labels": {"env": "x"}}]"#;
        let yaml = "- targets: ['a:1', 'b:2']\n  labels:\n    env: x\n";
        let groups = parse_target_groups(json, true).unwrap();
        assert_eq!(groups, parse_target_groups(yaml, false).unwrap());
        assert_eq!(groups[0].targets, ["a:1", "b:2"]);
        assert_eq!(groups[0].labels["env"], "x");
    }

    #[test]
    fn mistakes_are_refused() {
        for (text, is_json) in [
            (r#"[{"target": ["a"]}]"#, true),
            ("[null]", true),
            ("- targets: a\n", false),
            ("-\n", false),
        ] {
            assert!(parse_target_groups(text, is_json).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in r#"[\[\]{}":,a-z \n-]{0,40}"#, is_json: bool) {
            let _ = parse_target_groups(&text, is_json);
        }
    }
}
