//! The bytes of a segment. All file names and all layouts of the journal are here.
//!
//! A segment is a header and frames without padding; integers are little-endian.
//!
//! | header byte | content |
//! |---|---|
//! | 0..8 | magic `KWJOURNL` |
//! | 8..12 | format version, 1 |
//! | 12..16 | the most bytes a frame's payload has in this segment |
//! | 16..24 | epoch: random, drawn when the journal that wrote this segment was opened |
//! | 24..32 | sequence of the first frame |
//! | 32..40 | when the segment was started, milliseconds since 1970 |
//! | 40..44 | zero |
//! | 44..48 | CRC-32C of bytes 0..44 |
//!
//! | frame byte | content |
//! |---|---|
//! | 0..4 | payload length |
//! | 4..8 | CRC-32C of bytes 44..48 of the header, bytes 0..4 and 8.. of the frame |
//! | 8..16 | sequence |
//! | 16.. | payload |
//!
//! The header's checksum goes into each frame's, so that stale disk content from another
//! segment is never taken for a frame. The sequence is stored so that frames behind a
//! damaged one can be told from chance.

use crate::Sequence;

pub(crate) const MAGIC: [u8; 8] = *b"KWJOURNL";
pub(crate) const VERSION: u32 = 1;
pub(crate) const HEADER_BYTES: u64 = 48;
pub(crate) const FRAME_HEADER_BYTES: u64 = 16;
/// No segment may ask its reader for a larger buffer, whatever its header says.
pub(crate) const FRAME_BYTES_CEILING: u32 = 256 << 20;

/// No journal counts this far; a name or header that does was not written by one.
pub(crate) const SEQUENCE_MAX: Sequence = 1 << 62;

/// A segment in use: `<sequence of its first frame>.seg`.
pub(crate) const SEGMENT_SUFFIX: &str = ".seg";
/// A damaged segment whose good start is still read: `<sequence>-<n>.bad`.
pub(crate) const BAD_SUFFIX: &str = ".bad";
/// A damaged segment whose frames were truncated; kept for whoever wants to look.
pub(crate) const ASIDE_SUFFIX: &str = ".aside";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) frame_bytes_max: u32,
    pub(crate) epoch: u64,
    pub(crate) base: Sequence,
    pub(crate) created_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    UnknownVersion(u32),
    Damaged,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.frame_bytes_max.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.base.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.created_ms.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header and the salt of its frames' checksums.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, u32), BadHeader> {
        Self::decode_any(bytes).ok_or(BadHeader::Damaged)?
    }

    fn decode_any(bytes: &[u8]) -> Option<Result<(Self, u32), BadHeader>> {
        if array(bytes, 0)? != MAGIC {
            return None;
        }
        let version = u32::from_le_bytes(array(bytes, 8)?);
        // A later version may be laid out differently, so its checksum cannot be asked. But a
        // header that is right but for its version number is a damaged one of ours.
        let body = bytes.get(..44)?;
        let sum = u32::from_le_bytes(array(bytes, 44)?);
        let (before, after) = (&body[..8], &body[12..]);
        let known = crc32c::crc32c_append(
            crc32c::crc32c_append(crc32c::crc32c(before), &VERSION.to_le_bytes()),
            after,
        );
        if version != VERSION {
            let error = if known == sum {
                BadHeader::Damaged
            } else {
                BadHeader::UnknownVersion(version)
            };
            return Some(Err(error));
        }
        let header = Self {
            frame_bytes_max: u32::from_le_bytes(array(bytes, 12)?),
            epoch: u64::from_le_bytes(array(bytes, 16)?),
            base: u64::from_le_bytes(array(bytes, 24)?),
            created_ms: i64::from_le_bytes(array(bytes, 32)?),
        };
        let sane = header.frame_bytes_max <= FRAME_BYTES_CEILING
            && (1..=SEQUENCE_MAX).contains(&header.base);
        if known != sum || !sane {
            return None;
        }
        Some(Ok((header, sum)))
    }
}

/// The first 16 bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) len: u32,
    pub(crate) crc: u32,
    pub(crate) sequence: Sequence,
}

impl FrameHeader {
    pub(crate) fn of(salt: u32, sequence: Sequence, parts: &[&[u8]], len: u32) -> Self {
        let mut crc = frame_crc_start(salt, len, sequence);
        for part in parts {
            crc = crc32c::crc32c_append(crc, part);
        }
        Self { len, crc, sequence }
    }

    pub(crate) fn encode(self) -> [u8; FRAME_HEADER_BYTES as usize] {
        let mut bytes = [0; FRAME_HEADER_BYTES as usize];
        bytes[..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.crc.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sequence.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            len: u32::from_le_bytes(array(bytes, 0)?),
            crc: u32::from_le_bytes(array(bytes, 4)?),
            sequence: u64::from_le_bytes(array(bytes, 8)?),
        })
    }

    pub(crate) fn matches(self, salt: u32, payload: &[u8]) -> bool {
        let start = frame_crc_start(salt, self.len, self.sequence);
        crc32c::crc32c_append(start, payload) == self.crc
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_bytes(self) -> u64 {
        FRAME_HEADER_BYTES + u64::from(self.len)
    }
}

fn frame_crc_start(salt: u32, len: u32, sequence: Sequence) -> u32 {
    let mut head = [0; 16];
    head[..4].copy_from_slice(&salt.to_le_bytes());
    head[4..8].copy_from_slice(&len.to_le_bytes());
    head[8..].copy_from_slice(&sequence.to_le_bytes());
    crc32c::crc32c(&head)
}

pub(crate) fn segment_name(base: Sequence) -> String {
    format!("{base:020}{SEGMENT_SUFFIX}")
}

pub(crate) fn bad_name(base: Sequence, n: u32) -> String {
    format!("{base:020}-{n}{BAD_SUFFIX}")
}

/// What a file in the directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(Sequence),
    Bad(Sequence),
    Aside(Sequence),
}

impl Name {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if let Some(stem) = name.strip_suffix(SEGMENT_SUFFIX) {
            return Some(Self::Segment(parse_base(stem)?));
        }
        if let Some(stem) = name.strip_suffix(BAD_SUFFIX) {
            return Some(Self::Bad(parse_base(stem.split_once('-')?.0)?));
        }
        let stem = name.strip_suffix(ASIDE_SUFFIX)?;
        Some(Self::Aside(parse_base(stem.split_once('-')?.0)?))
    }
}

fn parse_base(digits: &str) -> Option<Sequence> {
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits
        .parse()
        .ok()
        .filter(|base| (1..=SEQUENCE_MAX).contains(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        frame_bytes_max: 7,
        epoch: 0x0102,
        base: 300,
        created_ms: 1_700_000_000_000,
    };

    #[test]
    fn a_header_is_these_bytes() {
        let bytes = HEADER.encode();
        assert_eq!(&bytes[..16], b"KWJOURNL\x01\0\0\0\x07\0\0\0");
        assert_eq!(&bytes[16..32], b"\x02\x01\0\0\0\0\0\0\x2c\x01\0\0\0\0\0\0");
        assert_eq!(Header::decode(&bytes).unwrap().0, HEADER);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_damage_and_not_a_new_version() {
        let good = HEADER.encode();
        for bit in 0..good.len() * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes), Err(BadHeader::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut bytes = HEADER.encode();
        bytes[8] = 2;
        bytes[45] ^= 1;
        assert_eq!(Header::decode(&bytes), Err(BadHeader::UnknownVersion(2)));
        assert_eq!(Header::decode(&bytes[..47]), Err(BadHeader::Damaged));
    }

    #[test]
    fn names_come_back() {
        assert_eq!(Name::parse(&segment_name(7)), Some(Name::Segment(7)));
        assert_eq!(
            Name::parse(&segment_name(SEQUENCE_MAX)),
            Some(Name::Segment(SEQUENCE_MAX))
        );
        assert_eq!(Name::parse(&bad_name(7, 3)), Some(Name::Bad(7)));
        for name in [
            "1.seg",
            "00000000000000000000.seg",
            "99999999999999999999.seg",
            "lock",
            ".seg",
        ] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }
}
