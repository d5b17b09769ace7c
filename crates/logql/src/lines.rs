//! Evaluating queries that give lines.

use std::collections::HashMap;

use kittiwake_model::{Direction, Entry, EntryBatch, Labels, LogStore, QueryContext};

use crate::ast::LogExpr;
use crate::error::EvalError;

/// Lines of one stream, in the order of the query.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamLines {
    /// The stream's labels and the lines' structured metadata.
    pub labels: Labels,
    /// The lines.
    pub entries: Vec<Entry>,
}

/// The first `limit` lines with `start <= time < end` in the given direction, by stream;
/// streams are in order of their labels.
pub fn lines(
    expr: &LogExpr,
    store: &dyn LogStore,
    start_ns: i64,
    end_ns: i64,
    direction: Direction,
    limit: usize,
    context: &QueryContext,
) -> Result<Vec<StreamLines>, EvalError> {
    // A range of no length still has its one instant, as in Loki.
    let last_ns = end_ns.saturating_sub(1).max(start_ns);
    let scan = expr.scan(start_ns, last_ns, direction, limit);
    let mut cursor = store.scan(&scan, context)?;
    let mut batch = EntryBatch::default();
    let mut found = Vec::new();
    while cursor.next_batch(&mut batch)? {
        context.check()?;
        let streams = &batch.streams;
        for (stream, entry) in batch.stream.iter().zip(batch.entries.drain(..)) {
            found.push((streams[*stream as usize].1.clone(), entry));
        }
    }
    Ok(group(expr, found))
}

/// Lines by what they are shown under: their stream's labels with their structured metadata.
/// Streams are in order of their labels, lines in the order given.
pub fn group(
    _expr: &LogExpr,
    lines: impl IntoIterator<Item = (Labels, Entry)>,
) -> Vec<StreamLines> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut streams: Vec<StreamLines> = Vec::new();
    for (labels, entry) in lines {
        let labels = with_metadata(&labels, &entry.metadata);
        let place = *places.entry(labels).or_insert_with_key(|labels| {
            streams.push(StreamLines {
                labels: labels.clone(),
                entries: Vec::new(),
            });
            streams.len() - 1
        });
        streams[place].entries.push(entry);
    }
    streams.sort_by(|a, b| a.labels.cmp(&b.labels));
    streams
}

/// Labels of a stream with a line's structured metadata; where both have a name, the stream's
/// stays and the other gets `_extracted`.
pub(crate) fn with_metadata(labels: &Labels, metadata: &Labels) -> Labels {
    if metadata.is_empty() {
        return labels.clone();
    }
    let mut builder = labels.to_builder();
    for (name, value) in metadata {
        if labels.get(name).is_some() {
            builder.set(&format!("{name}_extracted"), value);
        } else {
            builder.set(name, value);
        }
    }
    builder.build().unwrap_or_else(|_| labels.clone())
}
