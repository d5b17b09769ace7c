//! A set of blocks of a part.

/// Blocks of a part, as flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocks(Vec<bool>);

impl Blocks {
    pub(crate) fn none(len: usize) -> Self {
        Self(vec![false; len])
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.0.contains(&true)
    }

    pub(crate) fn contains(&self, block: usize) -> bool {
        self.0.get(block).copied().unwrap_or(false)
    }

    /// Adds a block; one that the part does not have is passed over.
    pub(crate) fn insert(&mut self, block: usize) {
        if let Some(flag) = self.0.get_mut(block) {
            *flag = true;
        }
    }

    pub(crate) fn unite(&mut self, other: &Self) {
        for (flag, other) in self.0.iter_mut().zip(&other.0) {
            *flag |= other;
        }
    }

    pub(crate) fn intersect(&mut self, other: &Self) {
        for (flag, other) in self.0.iter_mut().zip(&other.0) {
            *flag &= other;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        let flags = self.0.iter().enumerate();
        flags.filter_map(|(block, flag)| flag.then_some(block))
    }
}
