//! What every query carries, whatever it asks: time range, deadline, cancel flag, limits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// A range of time, both ends included. The unit is the port's: ms for metrics, ns for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// First instant.
    pub start: i64,
    /// Last instant.
    pub end: i64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self {
        start: i64::MIN,
        end: i64::MAX,
    };

    /// A range with both ends included; it is empty when `end < start`.
    pub const fn new(start: i64, end: i64) -> Self {
        Self { start, end }
    }

    /// Whether an instant lies in the range.
    pub const fn contains(&self, at: i64) -> bool {
        self.start <= at && at <= self.end
    }

    /// Whether the range has an instant in common with `first..=last`.
    pub const fn overlaps(&self, first: i64, last: i64) -> bool {
        first <= self.end && last >= self.start
    }

    /// Whether the range holds no instant.
    pub const fn is_empty(&self) -> bool {
        self.end < self.start
    }
}

/// Tells a running query that nobody waits for its answer any more.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the query to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a store could not answer, or not to the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The client has gone.
    #[error("query was canceled")]
    Cancelled,
    /// The time allowed for the query is over.
    #[error("query timed out")]
    TimedOut,
    /// A limit of the query was reached; the text names it.
    #[error("{0}")]
    LimitExceeded(String),
    /// The store failed or its data is damaged.
    #[error("store: {0}")]
    Failed(String),
}

/// Memory that all queries together may hold.
#[derive(Debug)]
pub struct MemoryPool {
    bytes_max: u64,
    bytes: AtomicU64,
}

impl MemoryPool {
    /// A pool of so many bytes.
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            bytes: AtomicU64::new(0),
        })
    }

    /// Bytes that are held now.
    pub fn held(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts bytes that outlive their query.
    pub fn hold(self: &Arc<Self>, bytes: u64) -> Result<HeldMemory, StoreError> {
        let held = HeldMemory {
            pool: Arc::clone(self),
            bytes,
        };
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.check(all).map(|()| held)
    }

    fn check(&self, all: u64) -> Result<(), StoreError> {
        if all <= self.bytes_max {
            return Ok(());
        }
        Err(StoreError::LimitExceeded(format!(
            "all queries together need more than {} bytes of memory; ask for less, or again \
             when others are done",
            self.bytes_max
        )))
    }
}

/// Bytes of a pool that are given back when this is dropped.
#[derive(Debug)]
pub struct HeldMemory {
    pool: Arc<MemoryPool>,
    bytes: u64,
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        self.pool.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The bounds of one query, shared by all that works on it.
#[derive(Debug, Clone)]
pub struct QueryContext {
    /// When the time is over, if ever.
    pub deadline: Option<Instant>,
    /// Set when the client has gone.
    pub cancel: Cancel,
    /// Samples (metrics) that the query may load; 0 is no limit.
    pub samples_max: u64,
    /// Series or streams that the query may touch; 0 is no limit.
    pub series_max: u64,
    /// Lines that the query may read; 0 is no limit.
    pub lines_max: u64,
    /// Bytes that the query may hold at once; 0 is no limit.
    pub memory_bytes_max: u64,
    used: Arc<Used>,
}

#[derive(Debug, Default)]
struct Used {
    samples: AtomicU64,
    series: AtomicU64,
    lines: AtomicU64,
    memory_bytes: AtomicU64,
    memory_bytes_peak: AtomicU64,
    pool: Option<Arc<MemoryPool>>,
}

impl Drop for Used {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            let held = self.memory_bytes.load(Ordering::Relaxed);
            pool.bytes.fetch_sub(held, Ordering::Relaxed);
        }
    }
}

impl Default for QueryContext {
    fn default() -> Self {
        Self {
            deadline: None,
            cancel: Cancel::default(),
            samples_max: 50_000_000,
            series_max: 1_000_000,
            lines_max: 0,
            memory_bytes_max: 1 << 30,
            used: Arc::default(),
        }
    }
}

impl QueryContext {
    /// The default bounds for a query that shares memory with others. What it holds at its end
    /// is given back then.
    pub fn sharing(pool: &Arc<MemoryPool>) -> Self {
        let mut used = Used::default();
        used.pool = Some(Arc::clone(pool));
        Self {
            used: Arc::new(used),
            ..Self::default()
        }
    }

    /// Fails when the query was cancelled or its time is over. Cheap enough for each batch.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.cancel.is_cancelled() {
            return Err(StoreError::Cancelled);
        }
        if self.deadline.is_some_and(|d| Instant::now() >= d) {
            return Err(StoreError::TimedOut);
        }
        Ok(())
    }

    /// Counts loaded samples against the limit, and checks as [`QueryContext::check`] does.
    pub fn count_samples(&self, count: u64) -> Result<(), StoreError> {
        let used = self.used.samples.fetch_add(count, Ordering::Relaxed) + count;
        if self.samples_max > 0 && used > self.samples_max {
            return Err(StoreError::LimitExceeded(
                "query processing would load too many samples into memory in query execution"
                    .to_owned(),
            ));
        }
        self.check()
    }

    /// Counts touched series or streams against the limit.
    pub fn count_series(&self, count: u64) -> Result<(), StoreError> {
        let used = self.used.series.fetch_add(count, Ordering::Relaxed) + count;
        if self.series_max > 0 && used > self.series_max {
            return Err(StoreError::LimitExceeded(format!(
                "query touches more than {} series",
                self.series_max
            )));
        }
        Ok(())
    }

    /// Counts read lines against the limit, and checks as [`QueryContext::check`] does.
    pub fn count_lines(&self, count: u64) -> Result<(), StoreError> {
        let used = self.used.lines.fetch_add(count, Ordering::Relaxed) + count;
        if self.lines_max > 0 && used > self.lines_max {
            return Err(StoreError::LimitExceeded(format!(
                "query reads more than {} lines",
                self.lines_max
            )));
        }
        self.check()
    }

    /// Counts bytes that are held from now on against the limit.
    pub fn hold_memory(&self, bytes: u64) -> Result<(), StoreError> {
        let used = self.used.memory_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.used
            .memory_bytes_peak
            .fetch_max(used, Ordering::Relaxed);
        let pool = self.used.pool.as_deref();
        let all = pool.map_or(0, |p| p.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes);
        if self.memory_bytes_max > 0 && used > self.memory_bytes_max {
            return Err(StoreError::LimitExceeded(format!(
                "query needs more than {} bytes of memory",
                self.memory_bytes_max
            )));
        }
        pool.map_or(Ok(()), |pool| pool.check(all))
    }

    /// Bytes are no longer held.
    pub fn release_memory(&self, bytes: u64) {
        // No more than is held is released.
        let release = |used: u64| Some(used.saturating_sub(bytes));
        let before =
            self.used
                .memory_bytes
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, release);
        if let (Some(pool), Ok(before)) = (&self.used.pool, before) {
            pool.bytes.fetch_sub(bytes.min(before), Ordering::Relaxed);
        }
    }

    /// Most bytes that were held at once.
    pub fn memory_peak(&self) -> u64 {
        self.used.memory_bytes_peak.load(Ordering::Relaxed)
    }

    /// Samples loaded so far.
    pub fn samples(&self) -> u64 {
        self.used.samples.load(Ordering::Relaxed)
    }
}

/// Does each share of some work on a thread of its own, the first one on this. What came of them is
/// in the order of the shares; `failed` is the error of one that panicked.
pub fn on_threads<C: Send, T: Send, E: Send>(
    shares: Vec<C>,
    work: impl Fn(C) -> Result<T, E> + Sync,
    failed: impl Fn() -> E,
) -> Result<Vec<T>, E> {
    let mut shares = shares.into_iter();
    let Some(first) = shares.next() else {
        return Ok(Vec::new());
    };
    std::thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = shares
            .map(|share| scope.spawn(move || work(share)))
            .collect();
        let mut done = vec![work(first)?];
        for other in others {
            done.push(other.join().map_err(|_| failed())??);
        }
        Ok(done)
    })
}

/// Threads that one query works on at most.
pub fn threads_per_query() -> usize {
    // To ask the system means to read files.
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get().min(8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_share_memory_and_give_it_back() {
        let pool = MemoryPool::new(100);
        let (one, other) = (QueryContext::sharing(&pool), QueryContext::sharing(&pool));
        one.hold_memory(70).unwrap();
        let error = other.hold_memory(40).unwrap_err().to_string();
        assert!(error.contains("all queries together"), "{error}");
        one.release_memory(30);
        assert_eq!(pool.held(), 80);
        // What was refused is counted until its query ends.
        drop(other);
        assert_eq!(pool.held(), 40);
        one.release_memory(1000);
        drop(one);
        assert_eq!(pool.held(), 0);
        let answer = pool.hold(90).unwrap();
        assert!(pool.hold(20).is_err());
        assert_eq!(pool.held(), 90);
        drop(answer);
        assert_eq!(pool.held(), 0);
    }
}
