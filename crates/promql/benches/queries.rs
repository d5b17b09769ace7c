//! Nanoseconds per sample of range queries over columns in memory: what the engine adds to a
//! store's reading.
//!
//! `cargo bench -p kittiwake-promql` measures over 10,400 series of 6 h at 15 s; anything else,
//! as `cargo test`, only runs it at a size that shows that it works.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use kittiwake_model::{
    Columns, Labels, Matcher, MetricsStore, QueryContext, Select, SeriesCursor, StoreError,
    TimeRange,
};
use kittiwake_promql::{Options, parse, range};

const STEP_MS: i64 = 15_000;

const QUERIES: [(&str, i64); 7] = [
    ("sum by (x) (rate(m_total[5m]))", 60_000),
    ("avg by (x) (m_total)", 60_000),
    ("topk(5, sum by (name) (rate(m_total[5m])))", 60_000),
    ("quantile(0.99, rate(m_total[5m]))", 60_000),
    ("max_over_time(m_total[1h])", 300_000),
    ("sum by (x) (avg_over_time(m_total[5m]))", 60_000),
    ("max_over_time(sum(rate(m_total[5m]))[30m:1m])", 300_000),
];

/// Series as columns; a cursor copies each when it is read, as from a cached block.
struct Series(Arc<Vec<(Labels, Columns)>>);

struct Cursor {
    all: Arc<Vec<(Labels, Columns)>>,
    next: usize,
    current: Option<usize>,
    range: TimeRange,
}

impl MetricsStore for Series {
    fn select(
        &self,
        select: &Select,
        _: &QueryContext,
    ) -> Result<Box<dyn SeriesCursor>, StoreError> {
        Ok(Box::new(Cursor {
            all: Arc::clone(&self.0),
            next: 0,
            current: None,
            range: select.range,
        }))
    }

    fn series(
        &self,
        _: &[Vec<Matcher>],
        _: TimeRange,
        _: usize,
        _: &QueryContext,
    ) -> Result<Vec<Labels>, StoreError> {
        Ok(self.0.iter().map(|(labels, _)| labels.clone()).collect())
    }
}

impl SeriesCursor for Cursor {
    fn next_series(&mut self) -> Result<Option<Labels>, StoreError> {
        let Some((labels, _)) = self.all.get(self.next) else {
            return Ok(None);
        };
        self.current = Some(self.next);
        self.next += 1;
        Ok(Some(labels.clone()))
    }

    fn next_batch(&mut self, into: &mut Columns) -> Result<bool, StoreError> {
        let Some(current) = self.current.take() else {
            return Ok(false);
        };
        let (times, values) = (&self.all[current].1.times, &self.all[current].1.values);
        let first = times.partition_point(|t| *t < self.range.start);
        let last = times.partition_point(|t| *t <= self.range.end);
        into.times.extend_from_slice(&times[first..last]);
        into.values.extend_from_slice(&values[first..last]);
        Ok(true)
    }
}

fn store(count: usize, samples: i64) -> Result<Series, Box<dyn Error>> {
    let mut all = Vec::with_capacity(count);
    for index in 0..count {
        let labels = Labels::from_pairs([
            ("__name__", "m_total".to_owned()),
            ("x", format!("host-{}", index % 26)),
            ("name", format!("svc-{index}")),
        ])?;
        let mut columns = Columns::default();
        for sample in 0..samples {
            columns.push(
                sample * STEP_MS,
                (sample * (1 + index as i64 % 7)) as f64 * 0.25,
            );
        }
        all.push((labels, columns));
    }
    Ok(Series(Arc::new(all)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let (count, samples) = if measure { (10_400, 1440) } else { (200, 120) };
    let store = store(count, samples)?;
    let options = Options::default();
    let end = samples * STEP_MS;
    for (query, step_ms) in QUERIES {
        let expr = parse(query)?;
        let context = QueryContext::default();
        let start = Instant::now();
        let answer = range(&expr, &store, 0, end, step_ms, &options, &context)?;
        let elapsed = start.elapsed();
        assert!(answer.stats.total_samples > 0);
        if measure {
            let total = (count as i64 * samples) as f64;
            println!(
                "{query}: {:.0} ms, {:.2} ns/sample",
                elapsed.as_secs_f64() * 1e3,
                elapsed.as_nanos() as f64 / total,
            );
        }
    }
    Ok(())
}
