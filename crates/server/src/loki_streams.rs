//! Lines as Loki's answers have them.

use kittiwake_logql::{self as logql, Line, StreamLines};
use kittiwake_model::{Direction, Labels};

use crate::reply::{push_json_labels, push_json_str};

/// The `data` of an answer with lines. With `by_category` lines stand under their streams'
/// labels alone, and all other labels beside the lines.
pub(crate) fn streams_data(
    streams: Vec<StreamLines>,
    by_category: bool,
    direction: Direction,
) -> String {
    let mut out = String::from(r#"{"resultType":"streams","#);
    let streams = if by_category {
        out.push_str(r#""encodingFlags":["categorize-labels"],"#);
        by_stream(streams, direction)
    } else {
        streams
    };
    out.push_str(r#""result":["#);
    push_streams(&mut out, &streams, by_category);
    out.push_str(r#"],"stats":{}}"#);
    out
}

/// The same lines under the labels of their streams, in order of time.
pub(crate) fn by_stream(streams: Vec<StreamLines>, direction: Direction) -> Vec<StreamLines> {
    let mut lines: Vec<Line> = streams.into_iter().flat_map(|s| s.lines).collect();
    match direction {
        Direction::Forward => lines.sort_by_key(|line| line.time_ns),
        Direction::Backward => lines.sort_by_key(|line| std::cmp::Reverse(line.time_ns)),
    }
    logql::group(lines.into_iter().map(|line| (line.stream.clone(), line)))
}

/// Appends `{"stream":{...},"values":[["ns","line"],...]},...`.
pub(crate) fn push_streams(out: &mut String, streams: &[StreamLines], by_category: bool) {
    for (index, stream) in streams.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(r#"{"stream":"#);
        push_json_labels(out, &stream.labels);
        out.push_str(r#","values":["#);
        for (index, line) in stream.lines.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str("[\"");
            out.push_str(&line.time_ns.to_string());
            out.push_str("\",");
            push_json_str(out, &line.text);
            if by_category {
                out.push(',');
                push_categories(out, &line.metadata, &line.parsed);
            }
            out.push(']');
        }
        out.push_str("]}");
    }
}

fn push_categories(out: &mut String, metadata: &Labels, parsed: &Labels) {
    out.push('{');
    for (name, labels) in [("structuredMetadata", metadata), ("parsed", parsed)] {
        if labels.is_empty() {
            continue;
        }
        if !out.ends_with('{') {
            out.push(',');
        }
        push_json_str(out, name);
        out.push(':');
        push_json_labels(out, labels);
    }
    out.push('}');
}
