//! From a scan to the rows of blocks that can be its answer.

use std::sync::Arc;

use kittiwake_model::{
    FieldFilter, LineFilter, Matcher, QueryContext, Scan, StoreError, TimeRange, matcher,
};

use crate::block::{Reader, Rows};
use crate::deletions::{self, Deletion};
use crate::index::{Blocks, Wanted};
use crate::part::{Block, Part, PartError, Text, Times};
use crate::store::Placed;

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
    deletions: Vec<Arc<Deletion>>,
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
    deletions: Vec<Arc<Deletion>>,
    /// Blocks that may have lines, in their order, each with the time of its wanted runs.
    pub(super) blocks: Vec<(usize, TimeRange)>,
}

/// The rows of a block that are wanted, and what was opened to find them.
pub(super) struct Found {
    pub(super) rows: Rows,
    /// Whether all rows of the wanted streams and times are among them.
    pub(super) is_whole: bool,
    pub(super) times: Times,
    /// Opened when there were filters.
    pub(super) text: Option<Reader<Text>>,
}

impl Plan {
    pub(super) fn new(
        scan: &Scan,
        range: TimeRange,
        deletions: Vec<Arc<Deletion>>,
        context: &QueryContext,
    ) -> Self {
        Self {
            deletions,
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

    /// Whether columns of texts are looked at to find the lines.
    pub(super) fn reads_text(&self) -> bool {
        !self.filters.is_empty() || !self.field_filters.is_empty()
    }

    /// The blocks of a part that may have lines.
    pub(super) fn part(&self, placed: &Placed) -> Result<PartPlan, StoreError> {
        self.context.check()?;
        let part = &placed.part;
        let deletions = self.deletions.iter();
        let deletions = deletions.filter(|d| d.concerns(&placed.meta, part));
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
            deletions: deletions.cloned().collect(),
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
        for (run, of) in block.runs() {
            if !self.streams[run.stream] || !plan.range.overlaps(run.range.start, run.range.end) {
                continue;
            }
            let within = times.within(of, run.range, plan.range);
            rows.insert_range(within.map_err(failed)?);
        }
        let hidden = deletions::hidden(&self.deletions, &self.part, block).map_err(failed)?;
        let is_whole = hidden.is_none() && self.filters.is_empty();
        if let Some(hidden) = hidden {
            rows.subtract(&hidden);
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
        Ok(Found {
            rows,
            is_whole,
            times,
            text,
        })
    }
}
