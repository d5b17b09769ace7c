//! Reading series for selectors, each once for all steps.

use kittiwake_model::{Columns, Labels, Matcher, Select, SelectHint, TimeRange, is_stale_nan};

use crate::ast::{At, Shift};
use crate::error::EvalError;
use crate::eval::Evaluator;

/// The steps of an evaluation, in ms, and the start and end of the whole query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) start_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) count: usize,
    pub(crate) query_start_ms: i64,
    pub(crate) query_end_ms: i64,
}

impl Steps {
    pub(crate) fn at(&self, index: usize) -> i64 {
        self.start_ms + self.step_ms * index as i64
    }

    /// The time at which a selector looks for a step.
    pub(crate) fn shifted(&self, index: usize, shift: Shift) -> i64 {
        let at = match shift.at {
            None => self.at(index),
            Some(At::Time(ms)) => ms,
            Some(At::Start) => self.query_start_ms,
            Some(At::End) => self.query_end_ms,
        };
        at.saturating_sub(shift.offset_ms)
    }
}

/// A series as it was read: float samples in order of time.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) labels: Labels,
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

impl Evaluator<'_> {
    /// Reads series with `first - back < time <= last`, over the times of all steps.
    pub(crate) fn read(
        &self,
        matchers: &[Matcher],
        shift: Shift,
        back_ms: i64,
        hint: SelectHint,
        mut each: impl FnMut(Raw) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let first = self.steps.shifted(0, shift);
        let last = self
            .steps
            .shifted(self.steps.count.saturating_sub(1), shift);
        let select = Select {
            matchers: matchers.to_vec(),
            range: TimeRange::new(first.saturating_sub(back_ms).saturating_add(1), last),
            step_ms: self.steps.step_ms,
            hint,
            limit: 0,
        };
        let mut cursor = self.store.select(&select, self.context)?;
        while let Some(labels) = cursor.next_series()? {
            self.context.check()?;
            let mut columns = Columns::default();
            while cursor.next_batch(&mut columns)? {}
            // Native histograms are not evaluated yet.
            for (index, _) in columns.histograms.iter().rev() {
                columns.times.remove(*index as usize);
                columns.values.remove(*index as usize);
            }
            if !columns.times.is_empty() {
                each(Raw {
                    labels,
                    times: columns.times,
                    values: columns.values,
                })?;
            }
        }
        Ok(())
    }

    /// For each step the newest sample that is not older than the lookback, with its time in
    /// ms; a stale marker ends a series.
    pub(crate) fn newest(&self, raw: &Raw, shift: Shift) -> Vec<Option<(i64, f64)>> {
        let mut end = 0;
        let steps = 0..self.steps.count;
        steps
            .map(|index| {
                let at = self.steps.shifted(index, shift);
                while end < raw.times.len() && raw.times[end] <= at {
                    end += 1;
                }
                let newest = end.checked_sub(1)?;
                let (time, value) = (raw.times[newest], raw.values[newest]);
                let is_seen = time > at.saturating_sub(self.options.lookback_ms);
                (is_seen && !is_stale_nan(value)).then_some((time, value))
            })
            .collect()
    }

    /// Calls `each` with the step and the bounds of its window in `times`, for the windows
    /// that are not empty.
    pub(crate) fn windows(
        &self,
        times: &[i64],
        shift: Shift,
        range_ms: i64,
        mut each: impl FnMut(usize, std::ops::Range<usize>, i64),
    ) {
        let (mut begin, mut end) = (0, 0);
        for index in 0..self.steps.count {
            let at = self.steps.shifted(index, shift);
            while end < times.len() && times[end] <= at {
                end += 1;
            }
            while begin < end && times[begin] <= at.saturating_sub(range_ms) {
                begin += 1;
            }
            if begin < end {
                each(index, begin..end, at);
            }
        }
    }
}
