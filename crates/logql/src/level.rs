//! Which level a line has, by its labels, its fields or its words, as Loki tells it.

use kittiwake_model::Labels;

use crate::pipeline::json_scan::{Kind, Stop, each};
use crate::pipeline::logfmt::{Pairs, Scanned};

/// The label with the level.
pub const LEVEL: &str = "detected_level";
/// OTLP's number of a severity.
const SEVERITY_NUMBER: &str = "severity_number";
/// Fields that tell a level, the strongest first.
const FIELDS: [&str; 14] = [
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];
/// Words that tell a level; of several the first in the line counts.
const WORDS: [(&str, &str); 9] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("fatal", "fatal"),
    ("critical", "critical"),
    ("error", "error"),
    ("err", "error"),
    ("warning", "warn"),
    ("warn", "warn"),
    ("info", "info"),
];
/// Objects within each other that are looked into.
const JSON_DEPTH_MAX: usize = 2;

/// The known level that a text names.
fn known(text: &str) -> Option<&'static str> {
    let names: [(&str, &[&str]); 7] = [
        ("trace", &["trace", "trc"]),
        ("debug", &["debug", "dbg"]),
        ("info", &["info", "inf", "information"]),
        ("warn", &["warn", "wrn", "warning"]),
        ("error", &["error", "err"]),
        ("critical", &["critical"]),
        ("fatal", &["fatal"]),
    ];
    let named = names
        .iter()
        .find(|(_, all)| all.iter().any(|n| n.eq_ignore_ascii_case(text)));
    named.map(|(level, _)| *level)
}

/// A level in its usual spelling; one that is not known stays as it is.
pub fn normalized(text: &str) -> &str {
    known(text).unwrap_or(text)
}

/// The level that a stream's labels tell for all of its lines.
pub fn of_labels(labels: &Labels) -> Option<&str> {
    FIELDS
        .iter()
        .find_map(|name| labels.get(name))
        .map(normalized)
}

/// The level of a line of which the stream tells none.
pub fn of_line<'a>(metadata: &'a Labels, line: &str) -> &'a str {
    if let Some(level) = of_labels(metadata) {
        return level;
    }
    if let Some(number) = metadata.get(SEVERITY_NUMBER) {
        return match number.parse::<i64>() {
            Err(_) => "info",
            Ok(0) => "unknown",
            Ok(..=4) => "trace",
            Ok(..=8) => "debug",
            Ok(..=12) => "info",
            Ok(..=16) => "warn",
            Ok(..=20) => "error",
            Ok(..=24) => "fatal",
            Ok(_) => "unknown",
        };
    }
    let trimmed = line.trim();
    let field = if trimmed.starts_with('{') && trimmed.ends_with('}') {
        of_json(line)
    } else if line.contains('=') {
        of_logfmt(line)
    } else {
        None
    };
    field
        .and_then(|text| known(&text))
        .unwrap_or_else(|| of_words(line))
}

fn of_json(line: &str) -> Option<String> {
    fn walk(text: &str, depth: usize, found: &mut Option<String>) -> Result<(), Stop> {
        if depth >= JSON_DEPTH_MAX {
            return Ok(());
        }
        each(text, |key, raw, kind| match kind {
            Kind::Text if FIELDS.contains(&key) => {
                *found = Some(raw.to_owned());
                Err(Stop::Enough)
            }
            Kind::Object => walk(raw, depth + 1, found),
            _ => Ok(()),
        })
    }
    let mut found = None;
    let _ = walk(line, 0, &mut found);
    found
}

fn of_logfmt(line: &str) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    let mut pairs = Pairs::new(line);
    while let Some(scanned) = pairs.next() {
        // What cannot be read ends the search, as in Loki.
        let Scanned::Pair(key, value) = scanned else {
            break;
        };
        let place = FIELDS.iter().position(|f| f.eq_ignore_ascii_case(key));
        if let Some(place) = place
            && best.as_ref().is_none_or(|(p, _)| place < *p)
        {
            best = Some((place, value.into_owned()));
            if place == 0 {
                break;
            }
        }
    }
    best.map(|(_, value)| value)
}

fn of_words(line: &str) -> &'static str {
    let bytes = line.as_bytes();
    let mut before = OPENS;
    for (at, byte) in bytes.iter().enumerate() {
        let here = BYTES[usize::from(*byte)];
        if before & OPENS != 0
            && here & BEGINS != 0
            && let Some(level) = word_at(&bytes[at..])
        {
            return level;
        }
        before = here;
    }
    "unknown"
}

/// A byte after which a word may stand.
const OPENS: u8 = 1;
/// A byte that may stand behind a word.
const CLOSES: u8 = 2;
/// A byte with which a word begins.
const BEGINS: u8 = 4;

/// What each byte can be.
const BYTES: [u8; 256] = {
    const fn mark(table: &mut [u8; 256], bytes: &[u8], mark: u8) {
        let mut at = 0;
        while at < bytes.len() {
            table[bytes[at] as usize] |= mark;
            at += 1;
        }
    }
    let mut table = [0; 256];
    mark(&mut table, b" \t\n[({\"'=|", OPENS);
    mark(&mut table, b" \t\n[](){}:,!\"'=|", CLOSES);
    let mut at = 0;
    while at < WORDS.len() {
        let first = WORDS[at].0.as_bytes()[0];
        mark(&mut table, &[first, first.to_ascii_uppercase()], BEGINS);
        at += 1;
    }
    table
};

/// The level that the word at the start of a text tells.
fn word_at(text: &[u8]) -> Option<&'static str> {
    let closes = |byte: &u8| BYTES[usize::from(*byte)] & CLOSES != 0;
    let is_here = |(word, _): &&(&str, &str)| {
        let here = text.get(..word.len());
        here.is_some_and(|here| here.eq_ignore_ascii_case(word.as_bytes()))
            && text.get(word.len()).is_none_or(closes)
    };
    WORDS.iter().find(is_here).map(|(_, level)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_field_then_by_word() {
        let level = |line| of_line(&Labels::empty(), line).to_owned();
        for (line, want) in [
            ("{\"level\":\"WARNING\",\"msg\":\"error\"}", "warn"),
            ("{\"a\":{\"lvl\":\"dbg\"}}", "debug"),
            ("lvl=warn level=err", "error"),
            ("x=1 [error] late", "error"),
            ("081109 INFO dfs: ok", "info"),
            ("terror misc:error", "unknown"),
            ("WARN before ERROR", "warn"),
            ("", "unknown"),
        ] {
            assert_eq!(level(line), want, "{line}");
        }
        let metadata = Labels::from_pairs([("severity_number", "17")]).unwrap();
        assert_eq!(of_line(&metadata, ""), "error");
    }
}
