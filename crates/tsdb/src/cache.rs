//! What was read from blocks and may be wanted again, up to a number of bytes.
//!
//! There are two generations: what is used moves to the young one, and when that is full the
//! old one goes. So nothing is counted or linked per use, and the bound always holds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// A block's name in the cache, what kind of part of it, and which.
pub(crate) type Key = (u64, u8, u32);

#[derive(Debug)]
pub(crate) struct Cache<V> {
    generations: Mutex<Generations<V>>,
    bytes_max: usize,
    next_block: AtomicU64,
}

#[derive(Debug)]
struct Generations<V> {
    young: HashMap<Key, (V, usize)>,
    old: HashMap<Key, (V, usize)>,
    young_bytes: usize,
    old_bytes: usize,
}

impl<V: Clone> Cache<V> {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            generations: Mutex::new(Generations {
                young: HashMap::new(),
                old: HashMap::new(),
                young_bytes: 0,
                old_bytes: 0,
            }),
            bytes_max,
            next_block: AtomicU64::new(0),
        })
    }

    /// A name for a block that no other has.
    pub(crate) fn name_block(&self) -> u64 {
        self.next_block.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn get(&self, key: Key) -> Option<V> {
        let mut generations = self.generations.lock();
        if let Some((value, _)) = generations.young.get(&key) {
            return Some(value.clone());
        }
        let (value, bytes) = generations.old.remove(&key)?;
        generations.old_bytes -= bytes;
        generations.put(key, value.clone(), bytes, self.bytes_max);
        Some(value)
    }

    pub(crate) fn put(&self, key: Key, value: V, bytes: usize) {
        let mut generations = self.generations.lock();
        generations.put(key, value, bytes, self.bytes_max);
    }

    /// Lets go of all parts of a block.
    pub(crate) fn forget(&self, block: u64) {
        let mut generations = self.generations.lock();
        generations.old.retain(|key, _| key.0 != block);
        generations.young.retain(|key, _| key.0 != block);
        let sum = |parts: &HashMap<Key, (V, usize)>| parts.values().map(|p| p.1).sum();
        generations.young_bytes = sum(&generations.young);
        generations.old_bytes = sum(&generations.old);
    }

    /// Bytes held now, about.
    pub(crate) fn bytes(&self) -> usize {
        let generations = self.generations.lock();
        generations.young_bytes + generations.old_bytes
    }
}

impl<V> Generations<V> {
    fn put(&mut self, key: Key, value: V, bytes: usize, bytes_max: usize) {
        // What is larger than all is used once and read again.
        if bytes > bytes_max {
            return;
        }
        if self.young_bytes + bytes > bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
        if let Some((_, before)) = self.young.insert(key, (value, bytes)) {
            self.young_bytes -= before;
        }
        self.young_bytes += bytes;
        // A single part may take more than half.
        if self.young_bytes + self.old_bytes > bytes_max {
            self.old.clear();
            self.old_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_what_is_used_stays() {
        let cache = Cache::new(100);
        for part in 0..1000 {
            cache.put((0, 0, part), part, 10);
            assert!(cache.bytes() <= 100);
            if part > 0 {
                assert_eq!(cache.get((0, 0, 1)), (part >= 1).then_some(1));
            }
        }
        assert_eq!(cache.get((0, 0, 2)), None);
        for bytes in [51, 100, 3, 98] {
            cache.put((1, 0, 0), 7, bytes);
            assert!(cache.bytes() <= 100);
            assert_eq!(cache.get((1, 0, 0)), Some(7));
        }
        cache.put((1, 0, 1), 7, 101);
        assert_eq!(cache.get((1, 0, 1)), None, "too large to be kept");
        cache.forget(1);
        cache.forget(0);
        assert_eq!((cache.bytes(), cache.get((0, 0, 1))), (0, None));
    }
}
