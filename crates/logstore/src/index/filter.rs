//! Which blocks hold a variable: a static function from hashes to blocks.
//!
//! Up to 64 blocks share a group. A group is a table of 16-bit cells, laid out as a binary
//! fuse filter (Graf and Lemire, 2022): three cells that a hash picks, xored, give the bits
//! that were stored for it. Here they are a fingerprint of 10 bits and the number of a block of
//! the group, so one look-up tells the blocks themselves: at 18 bits per hash it is smaller
//! than a filter per block with one of 16 bits above it (27), and is probed in one place.
//! A hash of several blocks stands once for each, as its first, second, ... occurrence; they
//! are asked for until one is not there.
//!
//! What a table says of a hash that was never stored is noise: a block too many once in 1,024.

use kittiwake_journal::bytes::{Malformed, Reader, put_uvarint};

/// Blocks of a group at most.
pub(crate) const GROUP_BLOCKS_MAX: usize = 64;
/// Hashes of a group at most, which bounds what building it needs.
pub(crate) const GROUP_KEYS_MAX: usize = 400_000;
/// Cells that are read and checked together.
pub(crate) const PAGE_CELLS: usize = 2046;
/// Bytes of a page: its checksum, then its cells.
pub(crate) const PAGE_BYTES: usize = 4 + 2 * PAGE_CELLS;
/// Ways to lay out a table that are tried. Each succeeds nine times of ten at the least.
const SEEDS_MAX: u64 = 64;
const BLOCK_BITS: u32 = 6;

/// How the cells of a table are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    seed: u64,
    /// A power of two.
    segment_len: u32,
    segments: u32,
}

/// A hash of a block, to be stored.
pub(crate) type Key = (u64, u8);

fn murmur(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The key of a hash's n-th occurrence.
fn occurrence(hash: u64, n: u64) -> u64 {
    hash.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Layout {
    fn new(keys: usize, seed: u64) -> Self {
        let n = keys.max(2) as f64;
        let exponent = (n.ln() / 3.33_f64.ln() + 2.25).floor();
        let segment_len = 1_u32 << (exponent.clamp(2.0, 18.0) as u32);
        let factor = (0.875 + 0.25 * 1_000_000_f64.ln() / n.ln()).max(1.125);
        let cells = (n * factor).round() as u32;
        let segments = cells.div_ceil(segment_len).max(3) - 2;
        Self {
            seed,
            segment_len,
            segments,
        }
    }

    /// Cells of the table.
    pub(crate) fn cells(&self) -> usize {
        (self.segments as usize + 2) * self.segment_len as usize
    }

    /// Pages of the table.
    pub(crate) fn pages(&self) -> usize {
        self.cells().div_ceil(PAGE_CELLS)
    }

    fn hash(&self, key: u64) -> u64 {
        murmur(key.wrapping_add(self.seed))
    }

    fn places(&self, hash: u64) -> [usize; 3] {
        let len = u64::from(self.segment_len);
        let span = u128::from(u64::from(self.segments) * len);
        let first = ((u128::from(hash) * span) >> 64) as u64;
        let mask = len - 1;
        let second = (first + len) ^ ((hash >> 18) & mask);
        let third = (first + 2 * len) ^ (hash & mask);
        [first as usize, second as usize, third as usize]
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.seed.to_le_bytes());
        out.push(self.segment_len.trailing_zeros() as u8);
        put_uvarint(out, u64::from(self.segments));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = reader.position();
        let seed = reader.u64()?;
        let exponent = reader.u8()?;
        let segments = reader.uvarint()?;
        if exponent > 18 || segments == 0 || segments > 1 << 22 {
            return Err(Malformed {
                at,
                wanted: "the layout of a table of variables",
            });
        }
        Ok(Self {
            seed,
            segment_len: 1 << exponent,
            segments: segments as u32,
        })
    }

    /// The blocks that hold a hash, as bits. `cell` reads one cell.
    pub(crate) fn blocks<E>(
        &self,
        hash: u64,
        mut cell: impl FnMut(usize) -> Result<u16, E>,
    ) -> Result<u64, E> {
        let mut blocks = 0;
        for n in 0..GROUP_BLOCKS_MAX as u64 {
            let hash = self.hash(occurrence(hash, n));
            let mut value = 0;
            for place in self.places(hash) {
                value ^= cell(place)?;
            }
            if value >> BLOCK_BITS != fingerprint(hash) {
                break;
            }
            blocks |= 1 << (value & 63);
        }
        Ok(blocks)
    }
}

/// Bits that the places of a hash do not tell already.
fn fingerprint(hash: u64) -> u16 {
    (hash.wrapping_mul(0x9fb2_1c65_1e98_df25) >> 54) as u16
}

/// Lays out a table of the keys, which come in order of their hashes in the end. Nothing when
/// no way is found, which is not to be expected.
pub(crate) fn build(keys: &mut [Key]) -> Option<(Layout, Vec<u16>)> {
    keys.sort_unstable();
    (0..SEEDS_MAX).find_map(|n| {
        let layout = Layout::new(keys.len(), murmur(n + 1));
        fill(&layout, keys).map(|cells| (layout, cells))
    })
}

/// The hashes under a layout, each with the block it stands for.
fn hashed<'a>(layout: &'a Layout, keys: &'a [Key]) -> impl Iterator<Item = (u64, u8)> + 'a {
    let mut last = None;
    let mut n = 0;
    keys.iter().map(move |(key, block)| {
        n = if last == Some(*key) { n + 1 } else { 0 };
        last = Some(*key);
        (layout.hash(occurrence(*key, n)), *block)
    })
}

fn fill(layout: &Layout, keys: &[Key]) -> Option<Vec<u16>> {
    // Per cell how many hashes pick it, and all of them xored: with one left it is that one.
    let mut counts = vec![0_u8; layout.cells()];
    let mut hashes = vec![0_u64; layout.cells()];
    let mut values = vec![0_u8; layout.cells()];
    for (hash, block) in hashed(layout, keys) {
        for place in layout.places(hash) {
            counts[place] = counts[place].checked_add(1)?;
            hashes[place] ^= hash;
            values[place] ^= block;
        }
    }
    let mut alone: Vec<u32> = (0..counts.len() as u32)
        .filter(|place| counts[*place as usize] == 1)
        .collect();
    // A cell that is done keeps its hash; the cells are filled in the opposite order.
    let mut order: Vec<u32> = Vec::with_capacity(keys.len());
    while let Some(place) = alone.pop() {
        let at = place as usize;
        if counts[at] != 1 {
            continue;
        }
        counts[at] = 0;
        order.push(place);
        let (hash, value) = (hashes[at], values[at]);
        for other in layout.places(hash).into_iter().filter(|p| *p != at) {
            counts[other] -= 1;
            hashes[other] ^= hash;
            values[other] ^= value;
            if counts[other] == 1 {
                alone.push(other as u32);
            }
        }
    }
    if order.len() != keys.len() {
        return None;
    }
    drop((counts, alone));
    let mut cells = vec![0_u16; layout.cells()];
    for place in order.into_iter().rev() {
        let at = place as usize;
        let others = layout.places(hashes[at]).into_iter();
        let others = others.filter(|p| *p != at);
        let rest = others.fold(0, |all, p| all ^ cells[p]);
        let value = (fingerprint(hashes[at]) << BLOCK_BITS) | u16::from(values[at]);
        cells[at] = rest ^ value;
    }
    Some(cells)
}

/// Appends the cells as pages, each with its checksum.
pub(crate) fn put_pages(cells: &[u16], out: &mut Vec<u8>) {
    for page in cells.chunks(PAGE_CELLS) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        for cell in page {
            out.extend_from_slice(&cell.to_le_bytes());
        }
        out.resize(start + PAGE_BYTES, 0);
        let crc = crc32c::crc32c(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn blocks_of(layout: &Layout, cells: &[u16], hash: u64) -> u64 {
        let cell = |at: usize| Ok::<_, Infallible>(cells[at]);
        layout.blocks(hash, cell).unwrap()
    }

    #[test]
    fn strangers_rarely_have_a_block() {
        let mut keys: Vec<Key> = (0..50_000_u64)
            .map(|n| (murmur(n), (n % 64) as u8))
            .collect();
        let (layout, cells) = build(&mut keys).unwrap();
        assert!(cells.len() < 64_000, "{} cells", cells.len());
        let strangers = (1 << 40..(1 << 40) + 100_000_u64).map(murmur);
        let found = strangers.filter(|h| blocks_of(&layout, &cells, *h) != 0);
        assert!(found.count() < 200);
    }

    proptest! {
        #[test]
        fn every_block_of_a_hash_is_found(keys: Vec<(u16, u8)>) {
            let mut keys: Vec<Key> =
                keys.iter().map(|(hash, block)| (murmur(u64::from(*hash % 300)), block % 64)).collect();
            keys.sort_unstable();
            keys.dedup();
            let mut model: BTreeMap<u64, u64> = BTreeMap::new();
            for (hash, block) in &keys {
                *model.entry(*hash).or_default() |= 1 << block;
            }
            let (layout, cells) = build(&mut keys).unwrap();
            for (hash, blocks) in model {
                prop_assert_eq!(blocks_of(&layout, &cells, hash) & blocks, blocks);
            }
            let mut bytes = Vec::new();
            layout.put(&mut bytes);
            prop_assert_eq!(Layout::read(&mut Reader::new(&bytes)).unwrap(), layout);
        }

        #[test]
        fn any_layout_picks_cells_of_its_table(seed: u64, exponent in 0_u8..=18, segments in 1_u32..1000, hash: u64) {
            let layout = Layout { seed, segment_len: 1 << exponent, segments };
            prop_assert!(layout.places(layout.hash(hash)).iter().all(|p| *p < layout.cells()));
        }
    }
}
