//! Both ports over plain memory: the simplest thing that answers right, for tests of engines
//! and as the reading against which stores are compared.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::logs::FollowCursor;
use crate::{
    Columns, Direction, Entry, EntryBatch, EntryCursor, EntryId, Histogram, Labels, LogStore,
    Matcher, MetricsStore, QueryContext, Scan, Select, SeriesCursor, SeriesHash, SeriesHasher,
    StoreError, TimeRange, matcher,
};

const KEY: u64 = 1;
const BATCH_LEN: usize = 1024;

#[derive(Debug, Clone)]
enum Value {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// Values by time, each with the time at which its counting began.
type Samples = BTreeMap<i64, (Value, i64)>;

/// Time series in memory.
#[derive(Debug, Default)]
pub struct MemoryMetrics {
    series: Mutex<BTreeMap<Labels, Samples>>,
}

impl MemoryMetrics {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores a float sample; a sample of the same time is replaced.
    pub fn append(&self, labels: &Labels, time_ms: i64, value: f64) {
        self.put(labels, time_ms, Value::Float(value), 0);
    }

    /// Stores a float sample whose counting began at `start_ms`; 0 is not known.
    pub fn append_from(&self, labels: &Labels, time_ms: i64, value: f64, start_ms: i64) {
        self.put(labels, time_ms, Value::Float(value), start_ms);
    }

    /// Stores a native histogram; a sample of the same time is replaced.
    pub fn append_histogram(&self, labels: &Labels, time_ms: i64, histogram: Histogram) {
        self.append_histogram_from(labels, time_ms, histogram, 0);
    }

    /// Stores a native histogram whose counting began at `start_ms`; 0 is not known.
    pub fn append_histogram_from(
        &self,
        labels: &Labels,
        time_ms: i64,
        histogram: Histogram,
        start_ms: i64,
    ) {
        let value = Value::Histogram(Arc::new(histogram));
        self.put(labels, time_ms, value, start_ms);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        lock(&self.series).clear();
    }

    fn put(&self, labels: &Labels, time_ms: i64, value: Value, start_ms: i64) {
        lock(&self.series)
            .entry(labels.clone())
            .or_default()
            .insert(time_ms, (value, start_ms));
    }
}

impl MetricsStore for MemoryMetrics {
    fn select(
        &self,
        select: &Select,
        context: &QueryContext,
    ) -> Result<Box<dyn SeriesCursor>, StoreError> {
        let mut found = Vec::new();
        for (labels, samples) in lock(&self.series).iter() {
            if select.limit > 0 && found.len() == select.limit {
                break;
            }
            if !matcher::all_match(&select.matchers, labels) || select.range.is_empty() {
                continue;
            }
            let mut columns = Columns::default();
            for (time_ms, (value, start_ms)) in samples.range(select.range.start..=select.range.end)
            {
                match value {
                    Value::Float(v) => columns.push(*time_ms, *v),
                    Value::Histogram(h) => columns.push_histogram(*time_ms, Arc::clone(h)),
                }
                columns.set_start(*start_ms);
            }
            if !columns.is_empty() {
                context.count_series(1)?;
                found.push((labels.clone(), columns));
            }
        }
        Ok(Box::new(MemorySeries {
            rest: found.into_iter(),
            current: None,
            context: context.clone(),
        }))
    }

    fn series(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
        _context: &QueryContext,
    ) -> Result<Vec<Labels>, StoreError> {
        Ok(lock(&self.series)
            .iter()
            .filter(|(labels, samples)| {
                matcher::any_match(selectors, labels)
                    && !range.is_empty()
                    && samples.range(range.start..=range.end).next().is_some()
            })
            .map(|(labels, _)| labels.clone())
            .take(if limit == 0 { usize::MAX } else { limit })
            .collect())
    }
}

/// So few series are read on one thread.
const SPLIT_MIN: usize = 64;

struct MemorySeries {
    rest: std::vec::IntoIter<(Labels, Columns)>,
    current: Option<Columns>,
    context: QueryContext,
}

impl SeriesCursor for MemorySeries {
    fn split(&mut self, parts: usize) -> Vec<Box<dyn SeriesCursor>> {
        if self.rest.len() <= SPLIT_MIN {
            return Vec::new();
        }
        let share = self.rest.len().div_ceil(parts.max(1));
        let shares = (0..parts).map(|_| {
            let share: Vec<_> = self.rest.by_ref().take(share).collect();
            Box::new(Self {
                rest: share.into_iter(),
                current: None,
                context: self.context.clone(),
            }) as Box<dyn SeriesCursor>
        });
        shares.collect()
    }

    fn next_series(&mut self) -> Result<Option<Labels>, StoreError> {
        Ok(self.rest.next().map(|(labels, columns)| {
            self.current = Some(columns);
            labels
        }))
    }

    fn next_batch(&mut self, into: &mut Columns) -> Result<bool, StoreError> {
        let Some(columns) = self.current.take() else {
            return Ok(false);
        };
        self.context.count_samples(columns.len() as u64)?;
        let base = into.len() as u32;
        if !columns.starts.is_empty() {
            into.starts.resize(into.times.len(), 0);
            into.starts.extend(columns.starts);
        } else if !into.starts.is_empty() {
            into.starts
                .resize(into.times.len() + columns.times.len(), 0);
        }
        into.times.extend(columns.times);
        into.values.extend(columns.values);
        into.histograms
            .extend(columns.histograms.into_iter().map(|(i, h)| (base + i, h)));
        Ok(true)
    }
}

#[derive(Debug, Clone)]
struct Stored {
    id: EntryId,
    labels: Labels,
    entry: Entry,
}

/// Log lines in memory.
#[derive(Debug, Default)]
pub struct MemoryLogs {
    arrived: Arc<Mutex<Vec<Stored>>>,
}

impl MemoryLogs {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores a line.
    pub fn append(&self, labels: &Labels, entry: Entry) {
        let stream = SeriesHasher::labels(KEY, labels);
        let mut arrived = lock(&self.arrived);
        let ordinal = arrived
            .iter()
            .filter(|s| s.id.stream == stream && s.id.time_ns == entry.time_ns)
            .count() as u32;
        let id = EntryId {
            time_ns: entry.time_ns,
            stream,
            ordinal,
        };
        arrived.push(Stored {
            id,
            labels: labels.clone(),
            entry,
        });
    }
}

impl LogStore for MemoryLogs {
    fn scan(
        &self,
        scan: &Scan,
        context: &QueryContext,
    ) -> Result<Box<dyn EntryCursor>, StoreError> {
        let mut found: Vec<Stored> = lock(&self.arrived)
            .iter()
            .filter(|s| {
                scan.range.contains(s.id.time_ns)
                    && scan.after.is_none_or(|after| match scan.direction {
                        Direction::Forward => s.id > after,
                        Direction::Backward => s.id < after,
                    })
                    && accepts(scan, s)
            })
            .cloned()
            .collect();
        found.sort_by_key(|s| s.id);
        if scan.direction == Direction::Backward {
            found.reverse();
        }
        if scan.limit > 0 {
            found.truncate(scan.limit);
        }
        context.count_lines(found.len() as u64)?;
        Ok(Box::new(MemoryEntries {
            rest: found.into_iter(),
        }))
    }

    fn follow(&self, scan: &Scan) -> Result<Box<dyn FollowCursor>, StoreError> {
        let seen = lock(&self.arrived).len();
        Ok(Box::new(MemoryFollow {
            arrived: Arc::clone(&self.arrived),
            seen,
            scan: scan.clone(),
        }))
    }

    fn streams(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        _context: &QueryContext,
    ) -> Result<Vec<Labels>, StoreError> {
        let streams: std::collections::BTreeSet<Labels> = lock(&self.arrived)
            .iter()
            .filter(|s| range.contains(s.id.time_ns) && matcher::any_match(selectors, &s.labels))
            .map(|s| s.labels.clone())
            .collect();
        Ok(streams.into_iter().collect())
    }
}

fn accepts(scan: &Scan, stored: &Stored) -> bool {
    matcher::all_match(&scan.selector, &stored.labels)
        && scan.filters.iter().all(|f| f.accepts(&stored.entry.line))
}

fn fill(into: &mut EntryBatch, entries: impl Iterator<Item = Stored>) {
    into.clear();
    for stored in entries {
        let SeriesHash(_) = stored.id.stream;
        into.push(
            stored.id.stream,
            &stored.labels,
            stored.id.ordinal,
            stored.entry,
        );
    }
}

struct MemoryEntries {
    rest: std::vec::IntoIter<Stored>,
}

impl EntryCursor for MemoryEntries {
    fn next_batch(&mut self, into: &mut EntryBatch) -> Result<bool, StoreError> {
        fill(into, self.rest.by_ref().take(BATCH_LEN));
        Ok(!into.is_empty())
    }
}

struct MemoryFollow {
    arrived: Arc<Mutex<Vec<Stored>>>,
    seen: usize,
    scan: Scan,
}

impl FollowCursor for MemoryFollow {
    fn poll(&mut self, into: &mut EntryBatch) -> Result<u64, StoreError> {
        let arrived = lock(&self.arrived);
        fill(
            into,
            arrived[self.seen..]
                .iter()
                .filter(|s| accepts(&self.scan, s))
                .cloned(),
        );
        self.seen = arrived.len();
        Ok(0)
    }
}

/// A panic of another holder cannot leave these maps half-changed, so its poison is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn selects_what_matches_in_range() {
        let store = MemoryMetrics::new();
        let a = labels(&[("__name__", "m"), ("a", "1")]);
        let b = labels(&[("__name__", "m"), ("a", "2")]);
        for t in 0..10 {
            store.append(&a, t, t as f64);
            store.append(&b, t, -(t as f64));
        }
        let select = Select::new(vec![Matcher::equal("a", "2")], TimeRange::new(3, 5));
        let mut cursor = store.select(&select, &QueryContext::default()).unwrap();
        assert_eq!(cursor.next_series().unwrap(), Some(b));
        let mut columns = Columns::default();
        while cursor.next_batch(&mut columns).unwrap() {}
        assert_eq!(columns.times, [3, 4, 5]);
        assert_eq!(columns.values, [-3.0, -4.0, -5.0]);
        assert_eq!(cursor.next_series().unwrap(), None);
    }

    #[test]
    fn scans_newest_first_and_goes_on_after_an_id() {
        let store = MemoryLogs::new();
        let stream = labels(&[("container", "c")]);
        for (t, line) in [(1, "one"), (2, "two"), (2, "two again"), (3, "three")] {
            let entry = Entry {
                time_ns: t,
                line: line.to_owned(),
                metadata: Labels::empty(),
            };
            store.append(&stream, entry);
        }
        let mut scan = Scan::new(
            vec![Matcher::equal("container", "c")],
            TimeRange::ALL,
            Direction::Backward,
        );
        scan.limit = 2;
        let mut batch = EntryBatch::default();
        let mut lines = Vec::new();
        loop {
            let mut cursor = store.scan(&scan, &QueryContext::default()).unwrap();
            if !cursor.next_batch(&mut batch).unwrap() {
                break;
            }
            lines.extend(batch.entries.iter().map(|e| e.line.clone()));
            scan.after = Some(batch.id(batch.len() - 1));
        }
        assert_eq!(lines, ["three", "two again", "two", "one"]);
    }
}
