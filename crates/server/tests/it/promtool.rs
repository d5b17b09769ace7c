//! `kittiwake check` and `kittiwake test` over the files that promtool's own tests use.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use kittiwake_conformance::conformance;

fn data() -> Option<PathBuf> {
    conformance("prometheus/promtool")
}

/// Exit code, standard output, standard error.
fn run(dir: &PathBuf, words: &[&str]) -> (i32, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_kittiwake"))
        .args(words)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        done.status.code().unwrap(),
        text(&done.stdout),
        text(&done.stderr),
    )
}

#[test]
fn tests_of_rules_end_as_with_promtool() {
    let Some(dir) = data() else { return };
    for (words, wanted, said) in [
        (&["unittest.yml"][..], 0, ""),
        (&["long-period.yml"], 0, ""),
        (
            &["bad-input-series.yml"],
            1,
            "unexpected character inside braces: '0'",
        ),
        (&["bad-promql.yml"], 1, "many-to-many matching not allowed"),
        (
            &["bad-rules-syntax-test.yml"],
            1,
            "bad-rules-syntax.yml: 7:15: group \"bad-syntax\", rule 1, \"x\": could not parse expression: 1:7: parse error: unexpected end of input",
        ),
        (
            &["bad-rules-error-test.yml"],
            1,
            "    rule: joined, time: 0s, err: found duplicate series",
        ),
        (
            &["failing.yml"],
            1,
            "    name: Failing test,\n    alertname: Test, time: 0s, \n        exp:[\n            0:\n              Labels:{alertname=\"Test\"}\n              Annotations:{}\n            ], \n        got:[]\n",
        ),
        (&["at-modifier-test.yml"], 0, ""),
        (&["negative-offset-test.yml"], 0, ""),
        (&["no-test-group-interval.yml"], 0, ""),
        (&["start-time-test.yml"], 0, ""),
        (
            &["rules_run.yml"],
            1,
            "exp: {__name__=\"test\"} 1E+00\n        got: {__name__=\"test\"} 0E+00",
        ),
        (
            &["--run", "correct", "--run", "wrong", "rules_run.yml"],
            1,
            "",
        ),
        (&["--run", "correct", "rules_run.yml"], 0, ""),
        (&["--run", "wrong", "rules_run.yml"], 1, ""),
        (
            &["rules_run_extrafields.yml"],
            1,
            "field namespace not found in type rulefmt.RuleGroup",
        ),
        (
            &["--ignore-unknown-fields", "rules_run_extrafields.yml"],
            0,
            "",
        ),
        (&["rules_run_no_fuzzy.yml"], 1, ""),
        (&["--run", "correct", "rules_run_fuzzy.yml"], 0, ""),
        (&["--run", "wrong", "rules_run_fuzzy.yml"], 1, ""),
        (&["unittest.yml", "failing.yml"], 1, ""),
        (&["--diff", "failing.yml"], 1, "diff: "),
        (&["not-there.yml"], 1, "not-there.yml"),
    ] {
        let (code, out, err) = run(&dir, &[&["test", "rules"], words].concat());
        assert_eq!(code, wanted, "{words:?}\n{out}{err}");
        assert!(err.contains(said), "{words:?}\n{err}");
        let is_mixed = words == ["unittest.yml", "failing.yml"];
        assert_eq!(
            out.contains("  SUCCESS\n"),
            code == 0 || is_mixed,
            "{words:?}\n{out}"
        );
    }
}

#[test]
fn what_came_of_tests_is_written_as_junit_does() {
    let Some(dir) = data() else { return };
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("junit.xml");
    let file = file.to_str().unwrap();
    let words = ["test", "rules", "--junit", file, "failing.yml", "no.yml"];
    assert_eq!(run(&dir, &words).0, 1);
    let text = std::fs::read_to_string(file).unwrap();
    assert!(
        text.starts_with(
            "<testsuites><testsuite name=\"failing.yml\" tests=\"2\" failures=\"4\" errors=\"0\""
        ),
        "{text}"
    );
    assert!(
        text.contains("<testcase name=\"Failing test\"><failure>    name: Failing test,&#xA;"),
        "{text}"
    );
    assert!(
        text.contains("name=\"no.yml\" tests=\"0\" failures=\"0\" errors=\"1\""),
        "{text}"
    );
}

#[test]
fn checks_of_rules_end_as_with_promtool() {
    let Some(dir) = data() else { return };
    for (words, wanted, out_said, err_said) in [
        (
            &["rules.yml"][..],
            0,
            "Checking rules.yml\n  SUCCESS: 5 rules found\n\n",
            "",
        ),
        (
            &["rules-bad.yml"],
            1,
            "",
            "annotation \"summary\": template: __alert_InstanceDown:1: undefined variable \"$label\"",
        ),
        (&["rules_large.yml"], 0, "", "lint error"),
        (
            &["rules_duplicates.yml"],
            0,
            "",
            "lint error 1 duplicate rule(s) found.\nMetric: job:test:count_over_time1m\nLabel(s):\nMight cause inconsistency while recording expressions\n",
        ),
        (
            &["--lint-fatal", "rules_duplicates.yml"],
            3,
            "",
            "lint error",
        ),
        (
            &["--lint=none", "--lint-fatal", "rules_duplicates.yml"],
            0,
            "SUCCESS: 5 rules",
            "",
        ),
        (
            &["rules_extrafields.yml"],
            1,
            "",
            "line 21: field ownership not found in type rulefmt.RuleGroup",
        ),
        (
            &["--ignore-unknown-fields", "rules_extrafields.yml"],
            0,
            "SUCCESS",
            "",
        ),
        (
            &["--lint-fatal", "prometheus-rules.lint.yml"],
            3,
            "",
            "\tseverity: page\n",
        ),
        (&["not-there.yml"], 1, "", "not-there.yml"),
    ] {
        let (code, out, err) = run(&dir, &[&["check", "rules"], words].concat());
        assert_eq!(code, wanted, "{words:?}\n{out}{err}");
        assert!(out.contains(out_said), "{words:?}\n{out}");
        assert!(err.contains(err_said), "{words:?}\n{err}");
    }
}

#[test]
fn checks_of_configurations_end_as_with_promtool() {
    let Some(dir) = data() else { return };
    let missing_cert = "error checking client cert file \"nonexistent_cert_file.yml\": stat nonexistent_cert_file.yml: no such file or directory";
    for (words, wanted, out_said, err_said) in [
        (
            &["prometheus-config.good.yml"][..],
            0,
            " SUCCESS: prometheus-config.good.yml is valid prometheus config file syntax\n",
            "",
        ),
        (
            &["prometheus-aws-sd-empty-region.good.yml"],
            0,
            "WARNING: ec2_sd_configs of job",
            "",
        ),
        (
            &["prometheus-config.bad.yml"],
            1,
            "",
            "unknown field `not-prometheus`",
        ),
        (&["not-there.yml"], 1, "", "not-there.yml"),
        (
            &["--lint-fatal", "prometheus-config.lint.yml"],
            3,
            "SUCCESS: 1 rule files found",
            "lint error",
        ),
        (&["prometheus-config.lint.yml"], 0, "", "lint error"),
        (
            &[
                "--lint=all",
                "--lint-fatal",
                "prometheus-config.lint.too_long_scrape_interval.yml",
            ],
            3,
            "SUCCESS: 0 rules found",
            "too long scrape interval found, data point will be marked as stale - job: too_long_scrape_interval_test, interval: 10m",
        ),
        (
            &[
                "--lint-fatal",
                "prometheus-config.lint.too_long_scrape_interval.yml",
            ],
            0,
            "",
            "",
        ),
        (
            &["config_with_rule_files.yml"],
            1,
            "",
            "FAILED: \"non-existent-file.yml\" does not point to an existing file",
        ),
        (&["--syntax-only", "config_with_rule_files.yml"], 0, "", ""),
        (
            &["config_with_service_discovery_files.yml"],
            0,
            "WARNING: file \"nonexistent_file.yml\" for file_sd in scrape job \"prometheus\" does not exist",
            "",
        ),
        (
            &["--syntax-only", "config_with_service_discovery_files.yml"],
            0,
            "",
            "",
        ),
        (
            &["--agent", "config_with_rule_files.yml"],
            1,
            "",
            "field rule_files is not allowed in agent mode",
        ),
        (&["config_with_tls_files.yml"], 1, "", missing_cert),
        (&["--syntax-only", "config_with_tls_files.yml"], 0, "", ""),
        (
            &["authorization_credentials_file.bad.yml"],
            1,
            "",
            "error checking authorization credentials or bearer token file \"/random/file/which/does/not/exist.yml\": stat /random/file/which/does/not/exist.yml: no such file or directory",
        ),
        (
            &["--syntax-only", "authorization_credentials_file.bad.yml"],
            0,
            "",
            "",
        ),
        (&["authorization_credentials_file.good.yml"], 0, "", ""),
        (
            &["url_in_scrape_targetgroup_with_relabel_config.good.yml"],
            0,
            "",
            "",
        ),
        (
            &["url_in_scrape_targetgroup_with_relabel_config.bad.yml"],
            1,
            "",
            "FAILED: instance 0 in group 0: \"http://bad\" is not a valid hostname",
        ),
        (
            &[
                "--syntax-only",
                "url_in_scrape_targetgroup_with_relabel_config.bad.yml",
            ],
            1,
            "",
            "http://bad",
        ),
        (
            &["url_in_alert_targetgroup_with_relabel_config.good.yml"],
            0,
            "",
            "",
        ),
        (
            &["url_in_alert_targetgroup_with_relabel_config.bad.yml"],
            1,
            "",
            "FAILED: \"http://bad\" is not a valid hostname",
        ),
    ] {
        let (code, out, err) = run(&dir, &[&["check", "config"], words].concat());
        assert_eq!(code, wanted, "{words:?}\n{out}{err}");
        assert!(out.contains(out_said), "{words:?}\n{out}");
        assert!(err.contains(err_said), "{words:?}\n{err}");
    }
}

/// The rules that come with the program load, and each of their alerts has a test that passes.
#[test]
fn the_packs_of_rules_pass_their_tests() {
    let packs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../rules");
    let files = |dir: &PathBuf| {
        let entries = std::fs::read_dir(dir).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> = paths
            .filter(|path| path.extension().is_some_and(|e| e == "yml"))
            .collect();
        files.sort();
        files
    };
    let (rules, tests) = (files(&packs), files(&packs.join("tests")));
    assert!(rules.len() >= 5 && tests.len() >= 4);
    let names = |files: &[PathBuf]| -> Vec<String> {
        let names = files.iter();
        names.map(|file| file.display().to_string()).collect()
    };
    for (command, files) in [("check", names(&rules)), ("test", names(&tests))] {
        let mut words = vec![command, "rules"];
        words.extend(files.iter().map(String::as_str));
        let (code, out, err) = run(&packs, &words);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
    }
    let tested: Vec<String> = tests
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let tested = tested.concat();
    // A test of rules knows no logs.
    for file in rules.iter().filter(|file| !file.ends_with("logs.yml")) {
        let text = std::fs::read_to_string(file).unwrap();
        let alerts = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- alert: "));
        for alert in alerts {
            assert!(tested.contains(alert), "{alert} has no test");
        }
    }
}
