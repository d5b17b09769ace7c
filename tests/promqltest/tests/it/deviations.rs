//! What is not as in Prometheus, for it is not defined there: `tests/deviations.md`.

use std::path::Path;

use kittiwake_promqltest::{Memory, run};

const SCRIPT: &str = r#"
load 1m
  odd{of="nan"} NaN
  odd{of="inf"} Inf
  same{i="2"} 1
  same{i="1"} 1
  down_bucket{le="1"} 3x3
  down_bucket{le="2"} 2x3
  down_bucket{le="+Inf"} 1x3

eval instant at 0 hour(odd)
  {of="nan"} NaN
  {of="inf"} NaN

eval instant at 0 limitk(1, same)
  same{i="1"} 1

eval range from 0 to 3m step 1m histogram_quantile(0.5, down_bucket)
  expect info regex: over 4 samples
  {} 0.5x3
"#;

#[test]
fn they_are_as_written() {
    let outcome = run(Path::new("deviations"), SCRIPT, &mut Memory::default());
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    assert_eq!(outcome.passed, 3);
}
