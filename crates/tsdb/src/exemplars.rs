//! The newest exemplars of all series, and what is said of metric names.

use std::collections::{BTreeMap, HashMap, VecDeque};

use kittiwake_model::{Exemplar, Metadata};

use crate::registry::SeriesRef;

/// Metric names of which something is known, at most.
const NAMES_MAX: usize = 100_000;
/// What may be said of one name, in different words, at most.
const PER_NAME_MAX: usize = 10;

/// A ring: the oldest exemplar goes when there are too many.
#[derive(Debug, Default)]
pub(crate) struct Exemplars {
    ring: VecDeque<(SeriesRef, Exemplar)>,
    /// Per series how many there are, and the newest.
    newest: HashMap<SeriesRef, (u32, Exemplar)>,
}

impl Exemplars {
    /// Whether a series' newest exemplar is this one: exporters repeat it with each scrape.
    pub(crate) fn is_repeat(&self, series: SeriesRef, exemplar: &Exemplar) -> bool {
        self.newest.get(&series).is_some_and(|(_, newest)| {
            newest.time_ms == exemplar.time_ms
                && newest.value.to_bits() == exemplar.value.to_bits()
                && newest.labels == exemplar.labels
        })
    }

    pub(crate) fn push(&mut self, series: SeriesRef, exemplar: Exemplar, max: usize) {
        let newest = self
            .newest
            .entry(series)
            .or_insert_with(|| (0, exemplar.clone()));
        newest.0 += 1;
        if exemplar.time_ms >= newest.1.time_ms {
            newest.1 = exemplar.clone();
        }
        self.ring.push_back((series, exemplar));
        while self.ring.len() > max {
            let Some((oldest, _)) = self.ring.pop_front() else {
                return;
            };
            if let Some(left) = self.newest.get_mut(&oldest) {
                left.0 -= 1;
                if left.0 == 0 {
                    self.newest.remove(&oldest);
                }
            }
        }
    }

    /// Whether a series has any.
    pub(crate) fn has(&self, series: SeriesRef) -> bool {
        self.newest.contains_key(&series)
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SeriesRef, &Exemplar)> {
        self.ring
            .iter()
            .map(|(series, exemplar)| (*series, exemplar))
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }
}

/// What exporters say of metric names.
#[derive(Debug, Default)]
pub(crate) struct MetadataTable {
    names: BTreeMap<String, Vec<Metadata>>,
}

impl MetadataTable {
    /// Whether this would change nothing; also when there is no room.
    pub(crate) fn is_known(&self, name: &str, metadata: &Metadata) -> bool {
        match self.names.get(name) {
            Some(said) => said.contains(metadata),
            None => self.names.len() >= NAMES_MAX,
        }
    }

    pub(crate) fn put(&mut self, name: String, metadata: Metadata) {
        if self.is_known(&name, &metadata) {
            return;
        }
        let said = self.names.entry(name).or_default();
        if said.len() >= PER_NAME_MAX {
            said.remove(0);
        }
        said.push(metadata);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Metadata)> {
        let names = self.names.iter();
        names.flat_map(|(name, said)| said.iter().map(move |m| (name.as_str(), m)))
    }

    /// All that is known, or of one name.
    pub(crate) fn get(&self, name: Option<&str>) -> Vec<(String, Vec<Metadata>)> {
        match name {
            Some(name) => {
                let said = self.names.get(name).cloned();
                said.map(|s| (name.to_owned(), s)).into_iter().collect()
            }
            None => self
                .names
                .iter()
                .map(|(n, s)| (n.clone(), s.clone()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kittiwake_model::Labels;

    use super::*;

    #[test]
    fn the_oldest_exemplar_goes() {
        let mut ring = Exemplars::default();
        let at = |time_ms| Exemplar {
            labels: Labels::empty(),
            value: 1.0,
            time_ms,
        };
        for time in 0..5 {
            assert!(!ring.is_repeat(time as u32 % 2, &at(time)));
            ring.push(time as u32 % 2, at(time), 2);
            assert!(ring.is_repeat(time as u32 % 2, &at(time)));
        }
        let left: Vec<_> = ring.iter().map(|(s, e)| (s, e.time_ms)).collect();
        assert_eq!(left, [(1, 3), (0, 4)]);
        ring.push(1, at(9), 2);
        ring.push(1, at(10), 2);
        assert!(ring.has(1) && !ring.has(0) && ring.len() == 2);
    }

    #[test]
    fn what_is_said_of_a_name_is_bounded() {
        let mut table = MetadataTable::default();
        let help = |n: usize| Metadata {
            help: n.to_string(),
            ..Metadata::default()
        };
        for n in 0..20 {
            table.put("up".to_owned(), help(n));
            table.put("up".to_owned(), help(n));
        }
        let said = &table.get(Some("up"))[0].1;
        assert_eq!((said.len(), &said[9]), (PER_NAME_MAX, &help(19)));
        assert_eq!(table.iter().count(), PER_NAME_MAX);
        assert_eq!(table.get(None).len(), 1);
    }
}
