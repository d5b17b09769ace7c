//! Lines to bytes.

use kittiwake_journal::bytes::put_uvarint;

use super::{BlockError, Lines, Tokens};

pub(super) const PLAIN: u8 = 1;
const ZSTD_LEVEL: i32 = 1;

/// Memory that encoding one block after the other uses again.
#[derive(Default)]
pub struct Scratch {
    bytes: Vec<u8>,
    tokens: Tokens,
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
    let out = &mut scratch.bytes;
    out.clear();
    scratch.tokens.clear();
    for row in 0..lines.len() {
        scratch.tokens.add_text(lines.line(row));
    }
    scratch.tokens.finish();
    let mut raw = Vec::with_capacity(lines.text.len() + lines.len() * 2);
    let mut start = 0;
    for end in &lines.ends {
        put_uvarint(&mut raw, (end - start) as u64);
        start = *end;
    }
    raw.extend_from_slice(lines.text.as_bytes());
    let packed = zstd::bulk::compress(&raw, ZSTD_LEVEL).map_err(BlockError::Compression)?;
    out.push(PLAIN);
    put_uvarint(out, raw.len() as u64);
    put_uvarint(out, packed.len() as u64);
    out.extend_from_slice(&crc32c::crc32c(&packed).to_le_bytes());
    let head_bytes = out.len();
    out.extend_from_slice(&packed);
    Ok(Encoded {
        bytes: &scratch.bytes,
        head_bytes,
        tokens: &scratch.tokens,
    })
}
