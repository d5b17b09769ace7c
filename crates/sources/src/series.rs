//! The label sets of what is collected again and again.
//!
//! A collection gives its samples in nearly the same order each time, so a set of series is a
//! list with a finger in it: the next sample is compared with the series under the finger, and
//! no label set is built, hashed or allocated while nothing changes. A series that a
//! collection does not give any more (a device that was pulled) ends with a stale marker.

use kittiwake_model::{Labels, LabelsBuilder, labels::METRIC_NAME, stale_nan};

/// Series that one set may hold; more are not collected, and counted.
pub const SERIES_MAX: usize = 20_000;

#[derive(Debug)]
struct Slot {
    name: Box<str>,
    values: Box<[Box<str>]>,
    labels: Labels,
    round: u64,
}

/// The series of one thing that is collected, with the labels that they have in common.
#[derive(Debug)]
pub struct SeriesSet {
    base: LabelsBuilder,
    slots: Vec<Slot>,
    at: usize,
    round: u64,
    refused: u64,
}

impl SeriesSet {
    /// A set whose series all carry these labels.
    pub fn new(base: LabelsBuilder) -> Self {
        Self {
            base,
            slots: Vec::new(),
            at: 0,
            round: 1,
            refused: 0,
        }
    }

    /// Appends a sample of the series with this name and, beside the common labels, these. A
    /// name has the same label names each time.
    pub fn push(
        &mut self,
        out: &mut Vec<(Labels, f64)>,
        name: &str,
        extra: &[(&str, &str)],
        value: f64,
    ) {
        let found = match self.slots.get(self.at) {
            Some(slot) if slot.is(name, extra) => Some(self.at),
            _ => self.slots.iter().position(|slot| slot.is(name, extra)),
        };
        let Some(index) = found.or_else(|| self.insert(name, extra)) else {
            self.refused += 1;
            return;
        };
        self.at = index + 1;
        if let Some(slot) = self.slots.get_mut(index)
            && slot.round != self.round
        {
            slot.round = self.round;
            out.push((slot.labels.clone(), value));
        }
    }

    /// Ends a collection: series that it did not give end with a stale marker.
    pub fn finish(&mut self, out: &mut Vec<(Labels, f64)>) {
        let round = self.round;
        self.slots.retain(|slot| {
            let given = slot.round == round;
            if !given {
                out.push((slot.labels.clone(), stale_nan()));
            }
            given
        });
        self.round += 1;
        self.at = 0;
    }

    /// Ends all series, each with a stale marker.
    pub fn end(&mut self, out: &mut Vec<(Labels, f64)>) {
        let ended = self.slots.drain(..);
        out.extend(ended.map(|slot| (slot.labels, stale_nan())));
        self.at = 0;
        self.round += 1;
    }

    /// How many samples were refused because the set was full or a label was not valid.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    fn insert(&mut self, name: &str, extra: &[(&str, &str)]) -> Option<usize> {
        if self.slots.len() >= SERIES_MAX {
            return None;
        }
        let mut builder = self.base.clone();
        builder.set(METRIC_NAME, name);
        for (label, value) in extra {
            builder.set(label, value);
        }
        let slot = Slot {
            name: name.into(),
            values: extra.iter().map(|(_, value)| (*value).into()).collect(),
            labels: builder.build().ok()?,
            round: 0,
        };
        let index = self.at.min(self.slots.len());
        self.slots.insert(index, slot);
        Some(index)
    }
}

impl Slot {
    fn is(&self, name: &str, extra: &[(&str, &str)]) -> bool {
        *self.name == *name
            && self.values.len() == extra.len()
            && self
                .values
                .iter()
                .zip(extra)
                .all(|(have, (_, want))| **have == **want)
    }
}

#[cfg(test)]
mod tests {
    use kittiwake_model::is_stale_nan;

    use super::*;

    fn set() -> SeriesSet {
        let mut base = LabelsBuilder::new();
        base.set("job", "node");
        SeriesSet::new(base)
    }

    #[test]
    fn a_series_that_is_not_given_any_more_ends_once() {
        let mut set = set();
        let mut out = Vec::new();
        set.push(&mut out, "a", &[("device", "x")], 1.0);
        set.push(&mut out, "a", &[("device", "y")], 2.0);
        set.finish(&mut out);
        assert_eq!(out.len(), 2);
        assert_eq!(out[0].0.get("job"), Some("node"));
        out.clear();
        set.push(&mut out, "a", &[("device", "y")], 3.0);
        set.finish(&mut out);
        assert_eq!(out[0].1, 3.0);
        assert_eq!(out[1].0.get("device"), Some("x"));
        assert!(is_stale_nan(out[1].1));
        out.clear();
        set.end(&mut out);
        assert_eq!(out.len(), 1);
        assert!(is_stale_nan(out[0].1));
    }

    #[test]
    fn order_does_not_matter_and_none_comes_twice() {
        let mut set = set();
        let mut out = Vec::new();
        for names in [["a", "b", "c"], ["c", "a", "b"], ["b", "b", "a"]] {
            out.clear();
            for name in names {
                set.push(&mut out, name, &[], 1.0);
            }
            set.finish(&mut out);
            let names: std::collections::BTreeSet<_> = out
                .iter()
                .map(|(l, _)| l.metric_name().unwrap().to_owned())
                .collect();
            assert_eq!(names.len(), out.len());
            assert_eq!(names.len(), 3);
        }
    }
}
