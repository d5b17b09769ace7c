//! Reading: a scan pins what is there, and its index tells which blocks can have lines.

mod count;
mod cursor;
mod field;
mod plan;
mod source;

use std::collections::BTreeSet;
use std::sync::Arc;

use kittiwake_model::{
    Count, CountCursor, Direction, EntryCursor, FollowCursor, Labels, LogStore, Matcher,
    QueryContext, Scan, StoreError, TimeRange, matcher,
};

use crate::deletions::Deletion;
use crate::head::Generation;
use crate::store::{Placed, Store};

use plan::Plan;

/// Below so many rows it is not worth it to read on several threads.
const SPLIT_ROWS: u64 = 32 << 10;

/// What a scan sees: parts that overlap its range, oldest first, and all generations.
struct Pinned {
    parts: Vec<Placed>,
    generations: Vec<Arc<Generation>>,
    deletions: Vec<Arc<Deletion>>,
}

impl Store {
    fn pin(&self, range: TimeRange) -> Pinned {
        let state = self.state.read();
        let parts = state.parts.iter();
        let deletions = state.deletions.iter();
        Pinned {
            parts: parts
                .filter(|p| range.overlaps(p.meta.start, p.meta.end))
                .cloned()
                .collect(),
            generations: state.generations().map(Arc::clone).collect(),
            deletions: deletions.filter(|d| !d.is_done).cloned().collect(),
        }
    }
}

impl LogStore for Store {
    fn scan(
        &self,
        scan: &Scan,
        context: &QueryContext,
    ) -> Result<Box<dyn EntryCursor>, StoreError> {
        context.check()?;
        let mut range = scan.range;
        if let Some(after) = scan.after {
            match scan.direction {
                Direction::Forward => range.start = range.start.max(after.time_ns),
                Direction::Backward => range.end = range.end.min(after.time_ns),
            }
        }
        let pinned = self.pin(range);
        let plan = Plan::new(scan, range, pinned.deletions.clone(), context);
        Ok(Box::new(cursor::Cursor::new(scan, plan, pinned)?))
    }

    fn count(
        &self,
        count: &Count,
        context: &QueryContext,
    ) -> Result<Option<Box<dyn CountCursor>>, StoreError> {
        context.check()?;
        let pinned = self.pin(count.scan.range);
        let deletions = pinned.deletions.clone();
        let plan = Plan::new(&count.scan, count.scan.range, deletions, context);
        Ok(Some(Box::new(count::Cursor::new(count, plan, pinned))))
    }

    fn follow(&self, scan: &Scan) -> Result<Box<dyn FollowCursor>, StoreError> {
        Ok(self.arrivals.follow(scan))
    }

    fn streams(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        context: &QueryContext,
    ) -> Result<Vec<Labels>, StoreError> {
        let mut found: BTreeSet<Labels> = BTreeSet::new();
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let pinned = self.pin(range);
        for placed in &pinned.parts {
            let part = &placed.part;
            context.check()?;
            for run in part.blocks.iter().flat_map(|b| &b.runs) {
                let stream = &part.streams[run.stream];
                if range.overlaps(run.range.start, run.range.end)
                    && !found.contains(&stream.labels)
                    && matcher::any_match(selectors, &stream.labels)
                {
                    found.insert(stream.labels.clone());
                }
            }
        }
        for generation in &pinned.generations {
            context.check()?;
            let lines = generation.lines.read();
            for stream in &lines.streams {
                let all = stream.range();
                if range.overlaps(all.start, all.end)
                    && !found.contains(&stream.labels)
                    && matcher::any_match(selectors, &stream.labels)
                    && stream.rows.iter().any(|r| range.contains(r.time_ns))
                {
                    found.insert(stream.labels.clone());
                }
            }
        }
        context.count_series(found.len() as u64)?;
        Ok(found.into_iter().collect())
    }
}
