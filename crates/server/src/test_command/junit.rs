//! What came of tests, in the XML of JUnit.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Suite;

/// All files with their tests.
pub(super) fn text(suites: &[Suite]) -> String {
    let mut out = String::from("<testsuites>");
    for suite in suites {
        let failures: usize = suite.cases.iter().map(|(_, errors)| errors.len()).sum();
        // Writing to a text cannot fail.
        let _ = write!(
            out,
            "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"0\" timestamp=\"{}\">",
            escaped(&suite.file),
            suite.cases.len(),
            failures,
            u8::from(suite.aborted.is_some()),
            now()
        );
        if let Some(error) = &suite.aborted {
            let _ = write!(
                out,
                "<testcase name=\"\"><error>{}</error></testcase>",
                escaped(error)
            );
        }
        for (name, errors) in &suite.cases {
            let _ = write!(out, "<testcase name=\"{}\">", escaped(name));
            for error in errors {
                let _ = write!(out, "<failure>{}</failure>", escaped(error));
            }
            out.push_str("</testcase>");
        }
        out.push_str("</testsuite>");
    }
    out.push_str("</testsuites>");
    out
}

/// The time in whole seconds, without a zone.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    let mut text = String::new();
    let time_ns = i64::try_from(seconds)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000);
    kittiwake_wire::time::push_rfc3339(&mut text, time_ns);
    text.trim_end_matches('Z').to_owned()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&#34;"),
            '\n' => out.push_str("&#xA;"),
            '\t' => out.push_str("&#x9;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
