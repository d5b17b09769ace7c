//! A set of rows of a block.

/// Rows of a block, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    bits: Vec<u64>,
    len: usize,
}

impl Rows {
    /// All of `len` rows.
    pub fn all(len: usize) -> Self {
        let mut rows = Self::none(len);
        rows.bits.fill(u64::MAX);
        rows.trim();
        rows
    }

    /// None of `len` rows.
    pub fn none(len: usize) -> Self {
        Self {
            bits: vec![0; len.div_ceil(64)],
            len,
        }
    }

    /// How many rows the block has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row is in the set.
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|b| *b == 0)
    }

    /// How many rows are in the set.
    pub fn count(&self) -> usize {
        self.bits.iter().map(|b| b.count_ones() as usize).sum()
    }

    /// Whether a row is in the set.
    pub fn contains(&self, row: usize) -> bool {
        self.bits
            .get(row / 64)
            .is_some_and(|bits| bits >> (row % 64) & 1 == 1)
    }

    /// Adds a row; one beyond the block is passed over.
    pub fn insert(&mut self, row: usize) {
        if row < self.len {
            self.bits[row / 64] |= 1 << (row % 64);
        }
    }

    /// Adds all rows of which `is_in` says so.
    pub fn insert_where(&mut self, is_in: impl Fn(usize) -> bool) {
        for (word, bits) in self.bits.iter_mut().enumerate() {
            let start = word * 64;
            for row in start..self.len.min(start + 64) {
                *bits |= u64::from(is_in(row)) << (row - start);
            }
        }
    }

    /// Adds the rows of a range.
    pub fn insert_range(&mut self, range: std::ops::Range<usize>) {
        let mut more = Self::all(self.len);
        more.clip(range);
        for (bits, more) in self.bits.iter_mut().zip(&more.bits) {
            *bits |= more;
        }
    }

    /// Takes a row out.
    pub fn remove(&mut self, row: usize) {
        if row < self.len {
            self.bits[row / 64] &= !(1 << (row % 64));
        }
    }

    /// Keeps what is also in the other set.
    pub fn intersect(&mut self, other: &Self) {
        for (bits, other) in self.bits.iter_mut().zip(&other.bits) {
            *bits &= other;
        }
    }

    /// Adds what is in the other set.
    pub fn unite(&mut self, other: &Self) {
        for (bits, other) in self.bits.iter_mut().zip(&other.bits) {
            *bits |= other;
        }
    }

    /// Takes out what is in the other set.
    pub fn subtract(&mut self, other: &Self) {
        for (bits, other) in self.bits.iter_mut().zip(&other.bits) {
            *bits &= !other;
        }
    }

    /// Keeps the rows of a range.
    pub fn clip(&mut self, range: std::ops::Range<usize>) {
        for (word, bits) in self.bits.iter_mut().enumerate() {
            let from = range.start.saturating_sub(word * 64);
            let to = range.end.saturating_sub(word * 64);
            let below = |n: usize| if n >= 64 { u64::MAX } else { (1 << n) - 1 };
            *bits &= below(to) & !below(from);
        }
    }

    /// The rows of the set, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        self.bits.iter().enumerate().flat_map(|(word, bits)| Ones {
            bits: *bits,
            base: word * 64,
        })
    }

    fn trim(&mut self) {
        if let (Some(last), 1..) = (self.bits.last_mut(), self.len % 64) {
            *last &= (1 << (self.len % 64)) - 1;
        }
    }
}

struct Ones {
    bits: u64,
    base: usize,
}

impl Iterator for Ones {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.bits == 0 {
            return None;
        }
        let bit = self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(self.base + bit)
    }
}

impl DoubleEndedIterator for Ones {
    fn next_back(&mut self) -> Option<usize> {
        if self.bits == 0 {
            return None;
        }
        let bit = 63 - self.bits.leading_zeros() as usize;
        self.bits &= !(1 << bit);
        Some(self.base + bit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_set(len in 0_usize..200, a: BTreeSet<u8>, b: BTreeSet<u8>, from in 0_usize..210, to in 0_usize..210) {
            let of = |set: &BTreeSet<u8>| {
                let mut rows = Rows::none(len);
                for row in set {
                    rows.insert(usize::from(*row));
                }
                rows
            };
            let list = |rows: &Rows| rows.iter().collect::<Vec<_>>();
            let model = |keep: &dyn Fn(usize) -> bool| (0..len).filter(|r| keep(*r)).collect::<Vec<_>>();
            let (has_a, has_b) = (|r: usize| a.contains(&(r as u8)), |r: usize| b.contains(&(r as u8)));
            prop_assert_eq!(list(&Rows::all(len)), model(&|_| true));
            let mut rows = of(&a);
            rows.intersect(&of(&b));
            prop_assert_eq!(list(&rows), model(&|r| has_a(r) && has_b(r)));
            let mut rows = of(&a);
            rows.subtract(&of(&b));
            prop_assert_eq!(list(&rows), model(&|r| has_a(r) && !has_b(r)));
            let mut rows = of(&a);
            rows.unite(&of(&b));
            prop_assert_eq!(list(&rows), model(&|r| has_a(r) || has_b(r)));
            let mut rows = of(&a);
            rows.insert_where(has_b);
            prop_assert_eq!(list(&rows), model(&|r| has_a(r) || has_b(r)));
            rows = of(&a);
            rows.clip(from..to);
            prop_assert_eq!(list(&rows), model(&|r| has_a(r) && (from..to).contains(&r)));
            prop_assert_eq!(rows.count(), list(&rows).len());
            prop_assert_eq!(rows.is_empty(), list(&rows).is_empty());
            let mut back: Vec<_> = rows.iter().rev().collect();
            back.reverse();
            prop_assert_eq!(back, list(&rows));
        }
    }
}
