//! Following what arrives: each follower has a bounded queue of the lines that it wants. A
//! follower that is too slow loses the oldest, and hears how many.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use kittiwake_model::{
    Entry, EntryBatch, FollowCursor, Labels, Scan, SeriesHash, StoreError, matcher,
};
use parking_lot::Mutex;

use crate::batch::Batch;

/// Lines that wait for a follower at most, and bytes of their text.
const QUEUE_LINES_MAX: usize = 10_000;
const QUEUE_BYTES_MAX: usize = 8 << 20;

#[derive(Debug)]
struct Waiting {
    hash: SeriesHash,
    labels: Labels,
    ordinal: u32,
    entry: Entry,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Waiting>,
    bytes: usize,
    passed_over: u64,
}

#[derive(Debug)]
struct Follower {
    scan: Scan,
    queue: Mutex<Queue>,
}

/// All followers of a store.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    followers: Mutex<Vec<Weak<Follower>>>,
}

struct Following {
    follower: Arc<Follower>,
}

impl Arrivals {
    pub(crate) fn follow(&self, scan: &Scan) -> Box<dyn FollowCursor> {
        let follower = Arc::new(Follower {
            scan: scan.clone(),
            queue: Mutex::default(),
        });
        self.followers.lock().push(Arc::downgrade(&follower));
        Box::new(Following { follower })
    }

    /// Gives the stored lines of a batch to those who want them.
    pub(crate) fn tell(&self, batch: &Batch, ordinals: &[Option<u32>], hashes: &[SeriesHash]) {
        let mut followers = self.followers.lock();
        if followers.is_empty() {
            return;
        }
        followers.retain(|weak| {
            let Some(follower) = weak.upgrade() else {
                return false;
            };
            for (run, hash) in batch.runs.iter().zip(hashes) {
                if !matcher::all_match(&follower.scan.selector, &run.labels) {
                    continue;
                }
                let mut queue = follower.queue.lock();
                for at in run.rows.clone() {
                    let Some(ordinal) = ordinals[at] else {
                        continue;
                    };
                    let row = &batch.rows[at];
                    let text = &batch.text[row.line.clone()];
                    if !follower.scan.filters.iter().all(|f| f.accepts(text)) {
                        continue;
                    }
                    queue.push(Waiting {
                        hash: *hash,
                        labels: run.labels.clone(),
                        ordinal,
                        entry: Entry {
                            time_ns: row.time_ns,
                            line: text.to_owned(),
                            metadata: row.metadata.clone().unwrap_or_else(Labels::empty),
                        },
                    });
                }
            }
            true
        });
    }
}

impl Queue {
    fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.entry.line.len();
        self.lines.push_back(waiting);
        while self.lines.len() > QUEUE_LINES_MAX || self.bytes > QUEUE_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.entry.line.len();
            self.passed_over += 1;
        }
    }
}

impl FollowCursor for Following {
    fn poll(&mut self, into: &mut EntryBatch) -> Result<u64, StoreError> {
        into.clear();
        let mut queue = self.follower.queue.lock();
        let lines = std::mem::take(&mut queue.lines);
        queue.bytes = 0;
        let passed_over = std::mem::take(&mut queue.passed_over);
        drop(queue);
        for waiting in lines {
            into.push(
                waiting.hash,
                &waiting.labels,
                waiting.ordinal,
                waiting.entry,
            );
        }
        Ok(passed_over)
    }
}
