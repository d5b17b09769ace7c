use std::path::Path;

use kittiwake_promqltest::{Memory, Outcome, run};

fn outcome(text: &str) -> Outcome {
    run(Path::new("a.test"), text, &mut Memory::default())
}

#[test]
fn what_is_not_known_fails_with_its_line() {
    for (text, line) in [
        ("clear\nunload 5m\n", 2),
        ("load 5m extra\n  a 1\n", 1),
        ("\neval instant at 1m 1\n  expect nothing\n  1\n", 2),
        ("eval instant at 1m 1\n  expect warn because: x\n  1\n", 1),
        ("eval_slowly instant at 1m 1\n  1\n", 1),
        ("eval range from 1m to 0m step 1m 1\n", 1),
        ("load 5m\n  a@st 1s\n", 1),
        ("load 5m\n  a 1x\n", 1),
        ("load 5m\n  a {{shape:1}}\n", 1),
    ] {
        let outcome = outcome(text);
        assert_eq!(outcome.passed, 0, "{text}");
        assert_eq!(outcome.failures[0].line, line, "{text}");
    }
}

#[test]
fn a_small_script() {
    let text = "
load 1m
  a{x=\"1\"} 0+1x5
  a{x=\"2\"} _ 7 stale

# The newest sample counts.
eval instant at 5m a
  {__name__=\"a\", x=\"1\"} 5

eval range from 0 to 2m step 1m sum(a)
  {} 0 8 2

eval instant at 1m nope(a)
  expect fail msg: 1:1: parse error: unknown function with name \"nope\"

eval instant at 0 \"text\"
  expect string `text`
";
    let outcome = outcome(text);
    assert_eq!((outcome.passed, outcome.failures), (4, vec![]));
}
