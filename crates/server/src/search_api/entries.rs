//! Entries and their ids as answers have them.

use kittiwake_logql::search::Search;
use kittiwake_model::{EntryBatch, EntryId, SeriesHash};

use crate::reply::{push_json_labels, push_json_str};

/// Appends an entry; with a search, also where in the line it is found.
pub(super) fn push_entry(
    out: &mut String,
    batch: &EntryBatch,
    index: usize,
    search: Option<&Search>,
) {
    let entry = &batch.entries[index];
    out.push_str(r#"{"time":""#);
    out.push_str(&entry.time_ns.to_string());
    out.push_str(r#"","line":"#);
    push_json_str(out, &entry.line);
    out.push_str(r#","labels":"#);
    push_json_labels(out, batch.labels(index));
    if !entry.metadata.is_empty() {
        out.push_str(r#","metadata":"#);
        push_json_labels(out, &entry.metadata);
    }
    let marks = search.map(|search| search.marks(&entry.line));
    let marks = marks.unwrap_or_default();
    if !marks.is_empty() {
        let pairs = marks.iter().map(|(start, end)| format!("[{start},{end}]"));
        let pairs: Vec<String> = pairs.collect();
        out.push_str(r#","highlights":["#);
        out.push_str(&pairs.join(","));
        out.push(']');
    }
    out.push_str(r#","id":"#);
    push_json_str(out, &write_id(batch.id(index)));
    out.push('}');
}

pub(super) fn write_id(id: EntryId) -> String {
    format!("{}-{:032x}-{}", id.time_ns, id.stream.0, id.ordinal)
}

pub(super) fn read_id(text: &str) -> Option<EntryId> {
    let mut from_end = text.rsplitn(3, '-');
    let ordinal = from_end.next()?.parse().ok()?;
    let stream = u128::from_str_radix(from_end.next()?, 16).ok()?;
    let time_ns = from_end.next()?.parse().ok()?;
    Some(EntryId {
        time_ns,
        stream: SeriesHash(stream),
        ordinal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back() {
        for time_ns in [0, -5, i64::MAX] {
            let id = EntryId {
                time_ns,
                stream: SeriesHash(0xab),
                ordinal: 3,
            };
            assert_eq!(read_id(&write_id(id)), Some(id));
        }
        for bad in ["", "1", "1-2", "x-2-3", "1-z-3"] {
            assert_eq!(read_id(bad), None, "{bad}");
        }
    }
}
