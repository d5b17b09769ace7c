//! From a scan to the rows of blocks that can be its answer.

use std::sync::Arc;

use kittiwake_model::{
    FieldFilter, LineFilter, Matcher, QueryContext, Scan, StoreError, TimeRange, matcher,
};

use crate::block::{Reader, Rows};
use crate::index::{Blocks, Wanted};
use crate::part::{Block, Part, PartError, Text, Times};

pub(super) fn failed(error: impl Into<PartError>) -> StoreError {
    StoreError::Failed(error.into().to_string())
}

/// What is asked for, whatever the block.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) selector: Vec<Matcher>,
    pub(super) filters: Vec<LineFilter>,
    pub(super) field_filters: Vec<FieldFilter>,
    pub(super) range: TimeRange,
    pub(super) context: QueryContext,
    wanted: Wanted,
    /// By field filter.
    fields_wanted: Vec<Wanted>,
}

/// What is asked of the blocks of one part.
#[derive(Debug)]
pub(super) struct PartPlan {
    pub(super) part: Arc<Part>,
    /// Per stream whether it is wanted.
    streams: Vec<bool>,
    filters: Vec<LineFilter>,
    /// Blocks that may have lines, in their order, each with the time of its wanted runs.
    pub(super) blocks: Vec<(usize, TimeRange)>,
}

/// The rows of a block that are wanted, and what was opened to find them.
pub(super) struct Found {
    pub(super) rows: Rows,
    pub(super) times: Times,
    /// Opened when there were filters.
    pub(super) text: Option<Reader<Text>>,
}

impl Plan {
    pub(super) fn new(scan: &Scan, range: TimeRange, context: &QueryContext) -> Self {
        Self {
            selector: scan.selector.clone(),
            filters: scan.filters.clone(),
            field_filters: scan.field_filters.clone(),
            range,
            context: context.clone(),
            wanted: Wanted::of(scan.filters.iter()),
            fields_wanted: scan
                .field_filters
                .iter()
                .map(|f| Wanted::of_field(&f.text))
                .collect(),
        }
    }

    /// The blocks of a part that may have lines.
    pub(super) fn part(&self, part: &Arc<Part>) -> Result<PartPlan, StoreError> {
        self.context.check()?;
        let streams: Vec<bool> = part
            .streams
            .iter()
            .map(|s| {
                self.range.overlaps(s.range.start, s.range.end)
                    && matcher::all_match(&self.selector, &s.labels)
            })
            .collect();
        self.context
            .count_series(streams.iter().filter(|wanted| **wanted).count() as u64)?;
        let range_of = |block: &Block| -> Option<TimeRange> {
            let wanted = block.runs.iter().filter(|r| streams[r.stream]);
            let start = wanted.clone().map(|r| r.range.start).min()?;
            Some(TimeRange::new(start, wanted.map(|r| r.range.end).max()?))
        };
        let mut ranges: Vec<Option<TimeRange>> = part.blocks.iter().map(range_of).collect();
        let mut within = Blocks::none(part.blocks.len());
        for (block, range) in ranges.iter_mut().enumerate() {
            *range = range.filter(|r| self.range.overlaps(r.start, r.end));
            if range.is_some() {
                within.insert(block);
            }
        }
        let mut filters = self.filters.clone();
        let mut found = part.candidates(&self.wanted, within).map_err(failed)?;
        for (field, wanted) in self.field_filters.iter().zip(&self.fields_wanted) {
            let mut labels = part.streams.iter().zip(&streams);
            let has_label = part.metadata_names.contains(&field.name)
                || labels.any(|(s, wanted)| *wanted && s.labels.get(&field.name).is_some());
            if !has_label {
                found = part.candidates(wanted, found).map_err(failed)?;
                let texts = vec![field.text.clone(), "\\".to_owned()];
                filters.push(LineFilter::Contains(texts));
            }
        }
        let blocks = found
            .iter()
            .filter_map(|block| Some((block, ranges[block]?)));
        Ok(PartPlan {
            blocks: blocks.collect(),
            part: Arc::clone(part),
            streams,
            filters,
        })
    }

    /// Whether a line of the head passes all filters.
    pub(super) fn accepts(
        &self,
        labels: &kittiwake_model::Labels,
        metadata: Option<&kittiwake_model::Labels>,
        text: &str,
    ) -> bool {
        self.filters.iter().all(|f| f.accepts(text))
            && self.field_filters.iter().all(|f| {
                labels.get(&f.name).is_some()
                    || metadata.is_some_and(|m| m.get(&f.name).is_some())
                    || f.accepts(text)
            })
    }
}

impl PartPlan {
    pub(super) fn is_wanted(&self, stream: usize) -> bool {
        self.streams[stream]
    }

    pub(super) fn has_filters(&self) -> bool {
        !self.filters.is_empty()
    }

    /// The wanted rows of a block.
    pub(super) fn find(&self, block: &Block, plan: &Plan) -> Result<Found, StoreError> {
        let times = self.part.times(block).map_err(failed)?;
        let mut rows = Rows::none(block.rows);
        let mut ranks = times.ranks();
        for (run, of) in block.runs() {
            if !self.streams[run.stream] || !plan.range.overlaps(run.range.start, run.range.end) {
                continue;
            }
            let mut of = of;
            if plan.range.start > run.range.start {
                let before = plan.range.start - 1;
                of.start = ranks.after(of.clone(), before).map_err(failed)?;
            }
            if plan.range.end < run.range.end {
                of.end = ranks.after(of.clone(), plan.range.end).map_err(failed)?;
            }
            rows.insert_range(of);
        }
        let mut text = None;
        if self.has_filters() && !rows.is_empty() {
            plan.context.count_lines(block.rows as u64)?;
            let mut reader = self.part.text(block).map_err(failed)?;
            for filter in &self.filters {
                reader.filter(filter, &mut rows).map_err(failed)?;
                if rows.is_empty() {
                    break;
                }
            }
            text = Some(reader);
        }
        Ok(Found { rows, times, text })
    }
}
