//! Lines to bytes.

use kittiwake_journal::bytes::put_uvarint;

use super::column::Sink;
use super::group::Grouping;
use super::split::Span;
use super::{BlockError, Lines, Tokens};

/// Lines as they are, in one column of text.
pub(super) const PLAIN: u8 = 1;
/// Lines as templates and columns.
pub(super) const TEMPLATES: u8 = 2;

/// Fewer lines are written as they are.
const GROUPED_MIN: usize = 64;

/// Memory that encoding one block after the other uses again.
#[derive(Default)]
pub struct Scratch {
    head: Vec<u8>,
    bytes: Vec<u8>,
    items: Vec<Span>,
    lines: Grouping,
    values: Grouping,
    sink: Sink,
}

/// An encoded block.
pub struct Encoded<'a> {
    /// All of it, the head first.
    pub bytes: &'a [u8],
    /// Length of the head.
    pub head_bytes: usize,
    /// What an index of the block's lines needs.
    pub tokens: &'a Tokens,
}

/// Encodes up to [`super::ROWS_MAX`] lines.
pub fn encode<'a>(lines: &Lines, scratch: &'a mut Scratch) -> Result<Encoded<'a>, BlockError> {
    let text = lines.text.as_str();
    let items = &mut scratch.items;
    items.clear();
    let mut start = 0;
    for end in &lines.ends {
        items.push(Span::new(start, *end));
        start = *end;
    }
    let sink = &mut scratch.sink;
    sink.clear();
    let is_grouped = items.len() >= GROUPED_MIN && scratch.lines.split(text, items, true);
    let encoding = if is_grouped {
        scratch
            .lines
            .put(text, items, Some(&mut scratch.values), sink)?;
        TEMPLATES
    } else {
        sink.put_text(text, items)?;
        PLAIN
    };
    sink.tokens.finish();
    let head = &mut scratch.head;
    head.clear();
    head.push(encoding);
    sink.chunks.finish(head)?;
    put_uvarint(head, sink.directory.len() as u64);
    head.extend_from_slice(sink.chunks.compress(&sink.directory)?);
    let bytes = &mut scratch.bytes;
    bytes.clear();
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(&sink.chunks.bytes);
    Ok(Encoded {
        bytes,
        head_bytes: head.len(),
        tokens: &sink.tokens,
    })
}
