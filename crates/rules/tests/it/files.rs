//! Rule files: what loads, and what is said of what does not.

use std::path::Path;

use kittiwake_config::NameScheme;
use kittiwake_conformance::conformance;
use kittiwake_rules::file::Check;
use kittiwake_rules::{RuleFile, RuleKind};
use proptest::prelude::*;

use crate::engine::Memory;

fn load(file: &Path, names: NameScheme) -> Result<RuleFile, Vec<String>> {
    let engine = Memory::default();
    let check = Check {
        engine: &engine,
        names,
        ignores_unknown_fields: false,
    };
    let shown = |errors: Vec<kittiwake_rules::FileError>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    check.load(file).map_err(shown)
}

fn parse(text: &str) -> Result<RuleFile, String> {
    let engine = Memory::default();
    let check = Check {
        engine: &engine,
        names: NameScheme::Utf8,
        ignores_unknown_fields: false,
    };
    check.parse(text, Path::new("r.yml")).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        errors.join("\n")
    })
}

#[test]
fn prometheus_own_files() {
    let Some(dir) = conformance("prometheus/rulefmt") else {
        return;
    };
    let mut checked = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let names = if name.starts_with("legacy_") {
            NameScheme::Legacy
        } else {
            NameScheme::Utf8
        };
        let loaded = load(&path, names);
        let wanted = match name.as_str() {
            "duplicate_grp.bad.yaml" => "groupname: \"yolo\" is repeated in the same file",
            "bad_expr.bad.yaml" => "parse error",
            "record_and_alert.bad.yaml" => "only one of 'record' and 'alert' must be set",
            "no_rec_alert.bad.yaml" => "one of 'record' or 'alert' must be set",
            "noexpr.bad.yaml" => "field 'expr' must be set in rule",
            "invalid_record_name.bad.yaml" => {
                "braces present in the recording rule name; should it be in expr?: strawberry{flavor=\"sweet\"}"
            }
            "bad_field.bad.yaml" => "field annotation not found",
            "invalid_label_name.bad.yaml" => "invalid label name",
            "record_and_for.bad.yaml" => "invalid field 'for' in recording rule",
            "record_and_keep_firing_for.bad.yaml" => {
                "invalid field 'keep_firing_for' in recording rule"
            }
            "legacy_validation_annotation.bad.yaml" => "invalid annotation name: ins-tance",
            _ => "",
        };
        match loaded {
            Ok(_) => assert!(!name.contains(".bad."), "{name} was taken"),
            Err(errors) => {
                assert!(name.contains(".bad."), "{name}: {errors:?}");
                assert!(errors[0].contains(wanted), "{name}: {errors:?}");
                assert!(
                    errors[0].starts_with(&path.display().to_string()),
                    "{errors:?}"
                );
            }
        }
        checked += 1;
    }
    assert!(checked >= 16, "{checked}");
}

#[test]
fn aliases_and_merges_are_followed() {
    let Some(dir) = conformance("prometheus/rulefmt") else {
        return;
    };
    let file = load(&dir.join("test_aliases.yaml"), NameScheme::Utf8).unwrap();
    for group in &file.groups {
        let rules = &group.rules;
        assert_eq!(rules[3].name, "HighAlert2");
        assert_eq!(rules[3].labels["severity"], "critical");
        assert_eq!(rules[1].kind, RuleKind::Record);
        assert!(
            rules
                .iter()
                .all(|rule| rule.query.text() == rules[0].query.text())
        );
    }
    assert!(file.groups.len() >= 2);
}

#[test]
fn mistakes_name_their_place() {
    for (text, wanted) in [
        (
            "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up ==\n",
            "r.yml: 5:11: group \"g\", rule 1, \"A\": could not parse expression: 1:6: parse error: unexpected end of input",
        ),
        (
            "groups:\n- name: g\n  rules:\n  - record: a\n    alert: b\n    expr: '1'\n",
            "r.yml: 4:13: 5:12: group \"g\", rule 1, \"b\": only one of 'record' and 'alert' must be set",
        ),
        (
            "groups:\n- name: ''\n",
            "r.yml: 2:3: Groupname must not be empty",
        ),
        (
            "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: '1'\n    labels: {x: '{{ foo }}'}\n",
            "label \"x\": template: __alert_A:1: function \"foo\" not defined",
        ),
        ("groups:\n- name: g\n  interval: 5x\n", "r.yml: 3:13: "),
        (
            "groups:\n- name: g\n  type: sql\n",
            "r.yml: 3:9: type \"sql\" of a group is not known; use promql or logql",
        ),
        (
            "groups:\n- name: g\n  limits: 5\n",
            "r.yml: yaml: unmarshal errors:\n  line 3: field limits not found in type rulefmt.RuleGroup; known are name, type,",
        ),
        ("groups: [", "r.yml: "),
        (
            "groups:\n- name: g\n  rules:\n  - record: a\n    expr: '1'\n    expr: '2'\n",
            "r.yml: ",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn what_yaml_allows_is_taken() {
    let file = parse(
        "groups:\n- name: g\n  labels: {a: 1, b: true, c: 1.10}\n  limit: 3\n  query_offset: 0s\n  rules:\n  - alert: A\n    expr: 1\n    for: 1d\n    annotations: {x: }\n---\nother: {}\n",
    )
    .unwrap();
    assert!(file.has_more_documents);
    let group = &file.groups[0];
    assert_eq!(group.labels["a"], "1");
    assert_eq!(group.labels["b"], "true");
    assert_eq!(group.labels["c"], "1.10");
    assert_eq!((group.limit, group.interval), (3, None));
    assert_eq!(group.query_offset, Some(std::time::Duration::ZERO));
    assert_eq!(group.rules[0].annotations["x"], "");
    for empty in ["", "# nothing\n", "groups:\n", "groups: []\n", "---\n"] {
        assert!(parse(empty).unwrap().groups.is_empty(), "{empty:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in r#"(groups|name|rules|expr|alert|[ \n:{}\[\]"'|>&*a-z0-9-]){0,30}"#) {
        let _ = parse(&text);
    }
}
