//! A script as commands.

use kittiwake_model::Labels;

use crate::expected::{self, Expected};
use crate::number::duration_ms;
use kittiwake_promql::notation::{self, Value};

/// One series of a `load`, with the offsets of starts to their samples in ms where given.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) labels: Labels,
    pub(crate) values: Vec<Value>,
    pub(crate) starts: Vec<Option<i64>>,
}

#[derive(Debug)]
pub(crate) struct Eval {
    pub(crate) query: String,
    /// Start, end and step in ms; an instant has the same start and end.
    pub(crate) range: (i64, i64, i64),
    pub(crate) is_range: bool,
    pub(crate) expected: Expected,
}

#[derive(Debug)]
pub(crate) enum Command {
    Clear,
    Load {
        step_ms: i64,
        series: Vec<Loaded>,
        with_nhcb: bool,
    },
    Eval(Box<Eval>),
}

/// Commands with their lines, or what is wrong with them.
pub(crate) fn parse(text: &str) -> Vec<(usize, Result<Command, String>)> {
    // A comment ends a block as an empty line does.
    let lines: Vec<&str> = text
        .split('\n')
        .map(str::trim)
        .map(|line| if line.starts_with('#') { "" } else { line })
        .collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        if line.is_empty() {
            continue;
        }
        let number = at;
        let word = line.split([' ', '\t']).next().unwrap_or("");
        let word = word.to_ascii_lowercase();
        let rest = || {
            let end = lines[at..].iter().position(|line| line.is_empty());
            &lines[at..end.map_or(lines.len(), |end| at + end)]
        };
        let command = if word == "clear" {
            Ok(Command::Clear)
        } else if word.starts_with("load") {
            let block = rest();
            at += block.len();
            load(line, block)
        } else if word.starts_with("eval") {
            let block = rest();
            at += block.len();
            eval(line, block).map(|eval| Command::Eval(Box::new(eval)))
        } else {
            Err(format!("invalid command {line:?}"))
        };
        commands.push((number, command));
    }
    commands
}

fn load(line: &str, block: &[&str]) -> Result<Command, String> {
    let mut words = line.split_whitespace();
    let with_nhcb = match words.next() {
        Some("load") => false,
        Some("load_with_nhcb") => true,
        other => return Err(format!("invalid load command {other:?}")),
    };
    let step = words.next().ok_or("load has no step")?;
    if let Some(more) = words.next() {
        return Err(format!("unexpected {more:?} behind the step"));
    }
    let mut series = Vec::new();
    let mut starts: Option<(Labels, Vec<Option<i64>>)> = None;
    for line in block {
        let word = line.split_whitespace().next().unwrap_or("");
        if let Some(labels) = word.strip_suffix("@st") {
            if starts.is_some() {
                return Err("@st line has no following sample line".to_owned());
            }
            let offsets = start_offsets(&line[word.len()..])?;
            starts = Some((notation::labels(labels)?, offsets));
            continue;
        }
        let (labels, values) = notation::series(line)?;
        let starts = match starts.take() {
            None => Vec::new(),
            Some((of, offsets)) if of == labels && offsets.len() == values.len() => offsets,
            Some((of, _)) if of != labels => {
                return Err("@st metric does not match the following sample line".to_owned());
            }
            Some((_, offsets)) => {
                let (given, wanted) = (offsets.len(), values.len());
                return Err(format!("@st line has {given} values for {wanted} samples"));
            }
        };
        series.push(Loaded {
            labels,
            values,
            starts,
        });
    }
    if starts.is_some() {
        return Err("@st line has no following sample line".to_owned());
    }
    Ok(Command::Load {
        step_ms: duration_ms(step)?,
        series,
        with_nhcb,
    })
}

/// `-30s -30s-1mx3 _ _x2`: offsets of starts to their samples, in ms.
fn start_offsets(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut offsets = Vec::new();
    for item in text.split_whitespace() {
        let bad = || format!("invalid @st item {item:?}");
        let (expansion, times) = match item.rsplit_once('x') {
            Some((expansion, times)) => {
                (expansion, Some(times.parse::<usize>().map_err(|_| bad())?))
            }
            None => (item, None),
        };
        if expansion == "_" {
            offsets.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
            continue;
        }
        let signed = |text: &str| -> Result<i64, String> {
            let ms = duration_ms(text.trim_start_matches(['+', '-']))?;
            Ok(if text.starts_with('-') { -ms } else { ms })
        };
        let step = expansion[1..].find(['+', '-']).map(|at| at + 1);
        let (start, step) = match step {
            Some(at) => (signed(&expansion[..at])?, signed(&expansion[at..])?),
            None => (signed(expansion)?, 0),
        };
        let mut offset = start;
        for _ in 0..=times.unwrap_or(0) {
            offsets.push(Some(offset));
            offset += step;
        }
    }
    Ok(offsets)
}

/// The next word and what is behind it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn after<'t>(text: &'t str, wanted: &str) -> Result<&'t str, String> {
    match word(text) {
        (found, rest) if found == wanted => Ok(rest),
        (found, _) => Err(format!("expected {wanted:?}, found {found:?}")),
    }
}

fn eval(line: &str, block: &[&str]) -> Result<Eval, String> {
    let (command, rest) = word(line);
    let mode = command.strip_prefix("eval").unwrap_or("");
    let (kind, rest) = word(rest);
    let mut expected = Expected::default();
    match (mode, kind) {
        ("", _) => {}
        ("_fail", _) => expected.fails = true,
        ("_warn", _) => expected.must_warn = true,
        ("_info", _) => expected.must_inform = true,
        ("_ordered", "instant") => expected.is_ordered = true,
        _ => return Err(format!("invalid evaluation command {command:?}")),
    }
    let (mut range, query, is_range) = match kind {
        "instant" => {
            let (time, query) = word(after(rest, "at")?);
            let time_ms = duration_ms(time)?;
            ((time_ms, time_ms, 0), query, false)
        }
        "range" => {
            let (from, rest) = word(after(rest, "from")?);
            let (to, rest) = word(after(rest, "to")?);
            let (step, query) = word(after(rest, "step")?);
            let (from, to) = (duration_ms(from)?, duration_ms(to)?);
            if to < from {
                return Err("the end is before the start".to_owned());
            }
            ((from, to, duration_ms(step)?), query, true)
        }
        other => return Err(format!("invalid evaluation {other:?}")),
    };
    if query.is_empty() {
        return Err("no query".to_owned());
    }
    expected::parse(block, &mut expected, &mut range, is_range)?;
    Ok(Eval {
        query: query.to_owned(),
        range,
        is_range,
        expected,
    })
}
