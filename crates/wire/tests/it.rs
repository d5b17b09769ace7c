//! The OpenMetrics project's parser cases, where a copy of them is at hand: in
//! `openmetrics/parsers` under `$CONFORMANCE_DIR`, else in `../shared/conformance` beside the
//! workspace.

use std::error::Error;
use std::path::{Path, PathBuf};

use kittiwake_wire::exposition::{Format, Item, Parser};
use kittiwake_wire::json::Reader;

/// Most labels of a case.
const LABELS_MAX: usize = 64;

/// Cases about what this parser does not hold a text to: how families are grouped and
/// repeated, which samples, labels, values and exemplars belong to a type, and how long an
/// exemplar may be.
const OUT_OF_SCOPE: [&str; 14] = [
    "bad_clashing_names",
    "bad_counter_values",
    "bad_exemplar_complex_chars",
    "bad_exemplars_on_unallowed",
    "bad_grouping_or_ordering",
    "bad_histograms",
    "bad_info_and_stateset_values",
    "bad_metadata_in_wrong_place",
    "bad_missing_or_invalid_labels_for_a_type",
    "bad_repeated_metadata",
    "bad_stateset_info_values",
    // An exemplar that is too long.
    "bad_exemplars_6",
    // Units of types that have none.
    "bad_unit_6",
    "bad_unit_7",
];

fn directory() -> PathBuf {
    match std::env::var_os("CONFORMANCE_DIR") {
        Some(given) => PathBuf::from(given),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"),
    }
}

#[test]
fn open_metrics_cases_parse_or_do_not_as_they_say() -> Result<(), Box<dyn Error>> {
    let cases = directory().join("openmetrics/parsers");
    if !cases.is_dir() {
        eprintln!("not run: there is no {}", cases.display());
        return Ok(());
    }
    let (mut run, mut wrong) = (0, Vec::new());
    for case in std::fs::read_dir(&cases)? {
        let case = case?;
        let name = case.file_name().to_string_lossy().into_owned();
        if OUT_OF_SCOPE.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let should_parse = should_parse(&std::fs::read(case.path().join("test.json"))?)?;
        let result = parse(&std::fs::read(case.path().join("metrics"))?);
        run += 1;
        if result.is_ok() != should_parse {
            wrong.push(format!("{name}: {result:?}"));
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(run > 120, "only {run} cases");
    Ok(())
}

fn parse(text: &[u8]) -> Result<(), Box<dyn Error>> {
    for item in Parser::new(text, Format::OpenMetrics) {
        if let Item::Sample(sample) = item? {
            sample.labels(LABELS_MAX)?;
        }
    }
    Ok(())
}

fn should_parse(json: &[u8]) -> Result<bool, Box<dyn Error>> {
    let mut reader = Reader::new(json);
    reader.expect(b'{', "an object")?;
    let mut first = true;
    while let Some(key) = reader.next_key(&mut first)? {
        if key == "shouldParse" {
            return Ok(reader.scalar()? == b"true");
        }
        reader.skip_value()?;
    }
    Err("no member shouldParse".into())
}
