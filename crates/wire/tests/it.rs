//! The OpenMetrics project's parser cases, where a copy of them is at hand: in
//! `openmetrics/parsers` under `$CONFORMANCE_DIR`, else in `../shared/conformance` beside the
//! workspace.

use std::error::Error;

use kittiwake_wire::exposition::{ExpositionError, Format, Options, read};
use kittiwake_wire::json::Reader;

#[test]
fn open_metrics_cases_parse_or_do_not_as_they_say() -> Result<(), Box<dyn Error>> {
    let Some(cases) = kittiwake_conformance::conformance("openmetrics/parsers") else {
        return Ok(());
    };
    let (mut run, mut wrong) = (0, Vec::new());
    for case in std::fs::read_dir(&cases)? {
        let case = case?;
        let name = case.file_name().to_string_lossy().into_owned();
        let should_parse = should_parse(&std::fs::read(case.path().join("test.json"))?)?;
        let result = parse(&std::fs::read(case.path().join("metrics"))?);
        run += 1;
        if result.is_ok() != should_parse {
            wrong.push(format!("{name}: {result:?}"));
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(run >= 211, "only {run} cases");
    Ok(())
}

fn parse(text: &[u8]) -> Result<(), ExpositionError> {
    let options = Options::default();
    read(text, Format::OpenMetrics, &options, &mut |_| Ok(()))
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
