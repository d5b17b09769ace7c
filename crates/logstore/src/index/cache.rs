//! The words of parts that were asked last, up to a number of bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Words;

/// Bytes that are kept.
const BYTES_MAX: usize = 8 << 20;

/// Words of parts, the latest last.
#[derive(Debug, Default)]
pub(crate) struct WordsCache {
    kept: Mutex<VecDeque<(u64, Arc<Words>)>>,
    next: AtomicU64,
}

impl WordsCache {
    /// A name for a part that no other has.
    pub(crate) fn name_part(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The words of a part, read by `read` if they are not here.
    pub(crate) fn get<E>(
        &self,
        part: u64,
        read: impl FnOnce() -> Result<Words, E>,
    ) -> Result<Arc<Words>, E> {
        let found = {
            let mut kept = self.kept.lock();
            let place = kept.iter().position(|(p, _)| *p == part);
            place.and_then(|place| kept.remove(place))
        };
        let entry = match found {
            Some(entry) => entry,
            None => (part, Arc::new(read()?)),
        };
        let words = Arc::clone(&entry.1);
        let mut kept = self.kept.lock();
        kept.push_back(entry);
        let mut bytes: usize = kept.iter().map(|(_, w)| w.size_bytes()).sum();
        while bytes > BYTES_MAX && kept.len() > 1 {
            if let Some((_, oldest)) = kept.pop_front() {
                bytes -= oldest.size_bytes();
            }
        }
        Ok(words)
    }
}
