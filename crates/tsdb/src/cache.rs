//! What was read from blocks and may be wanted again, up to a number of bytes.
//!
//! There are two generations: what is used moves to the young one, and when that is full the
//! old one goes. So nothing is counted or linked per use, and the bound always holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A block's name in the cache, what kind of part of it, and which.
pub(crate) type Key = (u64, u8, u32);

#[derive(Debug)]
pub(crate) struct Cache<V> {
    generations: Mutex<Generations<V>>,
    bytes_max: usize,
    /// Of the hashes that parts of blocks are compared by.
    key: u64,
    next_block: AtomicU64,
}

#[derive(Debug)]
struct Generations<V> {
    young: HashTable<Held<V>>,
    old: HashTable<Held<V>>,
    young_bytes: usize,
    old_bytes: usize,
}

#[derive(Debug)]
struct Held<V> {
    key: Key,
    value: V,
    bytes: usize,
}

fn hash_of(key: Key) -> u64 {
    // Blocks are named by the program, so nobody can choose what collides.
    xxh3_64_with_seed(
        &key.0.to_le_bytes(),
        u64::from(key.1) << 32 | u64::from(key.2),
    )
}

impl<V: Clone> Cache<V> {
    pub(crate) fn new(bytes_max: usize, key: u64) -> Arc<Self> {
        Arc::new(Self {
            generations: Mutex::new(Generations {
                young: HashTable::new(),
                old: HashTable::new(),
                young_bytes: 0,
                old_bytes: 0,
            }),
            bytes_max,
            key,
            next_block: AtomicU64::new(0),
        })
    }

    /// A name for a block that no other has.
    pub(crate) fn name_block(&self) -> u64 {
        self.next_block.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn get(&self, key: Key) -> Option<V> {
        let mut generations = self.generations.lock();
        let hash = hash_of(key);
        if let Some(held) = generations.young.find(hash, |h| h.key == key) {
            return Some(held.value.clone());
        }
        let entry = generations.old.find_entry(hash, |h| h.key == key).ok()?;
        let (held, _) = entry.remove();
        generations.old_bytes -= held.bytes;
        let value = held.value.clone();
        generations.put(held, self.bytes_max);
        Some(value)
    }

    pub(crate) fn put(&self, key: Key, value: V, bytes: usize) {
        let mut generations = self.generations.lock();
        generations.put(Held { key, value, bytes }, self.bytes_max);
    }

    /// The key of hashes that are to be equal in all blocks that share this cache.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// Bytes that are held at most.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Lets go of all parts of a block.
    pub(crate) fn forget(&self, block: u64) {
        let mut generations = self.generations.lock();
        generations.old.retain(|h| h.key.0 != block);
        generations.young.retain(|h| h.key.0 != block);
        let sum = |parts: &HashTable<Held<V>>| parts.iter().map(|h| h.bytes).sum();
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
    fn put(&mut self, held: Held<V>, bytes_max: usize) {
        let (key, bytes) = (held.key, held.bytes);
        // What is larger than all is used once and read again.
        if bytes > bytes_max {
            return;
        }
        if self.young_bytes + bytes > bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
        self.young_bytes += bytes;
        let hash = hash_of(key);
        if let Some(there) = self.young.find_mut(hash, |h| h.key == key) {
            self.young_bytes -= there.bytes;
            *there = held;
        } else {
            self.young.insert_unique(hash, held, |h| hash_of(h.key));
        }
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
        let cache = Cache::new(100, 1);
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
