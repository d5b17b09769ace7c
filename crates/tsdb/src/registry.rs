//! The series that the head knows: by number, by hash, and by their labels.
//!
//! A series gets a small number when it first appears. A query resolves its matchers on the
//! dictionary of values, so a regular expression runs once per value, not once per series.

use std::collections::{BTreeMap, HashMap};

use kittiwake_model::{Labels, Matcher, SeriesHash, SeriesHasher};
use roaring::RoaringBitmap;

/// A series' number in the head. Numbers of series that ended are used again.
pub type SeriesRef = u32;

/// A known series.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its labels.
    pub labels: Labels,
    /// Its hash under the store's key.
    pub hash: SeriesHash,
}

/// All known series.
#[derive(Debug, Default)]
pub struct Registry {
    key: u64,
    series: Vec<Option<Known>>,
    free: Vec<SeriesRef>,
    by_hash: HashMap<SeriesHash, SeriesRef>,
    postings: BTreeMap<String, BTreeMap<String, RoaringBitmap>>,
    all: RoaringBitmap,
}

impl Registry {
    /// An empty registry under a store's key.
    pub fn new(key: u64) -> Self {
        Self {
            key,
            ..Self::default()
        }
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// The number of a series, if it is known.
    pub fn find(&self, labels: &Labels) -> Option<SeriesRef> {
        self.by_hash
            .get(&SeriesHasher::labels(self.key, labels))
            .copied()
    }

    /// A series by its number.
    pub fn get(&self, series: SeriesRef) -> Option<&Known> {
        self.series.get(series as usize)?.as_ref()
    }

    /// The number of a series, which becomes known if it was not; and whether it is new.
    pub fn insert(&mut self, labels: &Labels) -> (SeriesRef, bool) {
        let hash = SeriesHasher::labels(self.key, labels);
        if let Some(series) = self.by_hash.get(&hash) {
            return (*series, false);
        }
        let series = self.free.pop().unwrap_or(self.series.len() as SeriesRef);
        self.put(series, labels, hash);
        (series, true)
    }

    /// Puts a series back under the number that it had, as a log or checkpoint says. Whatever
    /// had that number ended before.
    pub fn restore(&mut self, series: SeriesRef, labels: &Labels) {
        self.remove(series);
        self.free.retain(|f| *f != series);
        let len = self.series.len() as SeriesRef;
        self.free.extend(len..series.max(len));
        self.put(series, labels, SeriesHasher::labels(self.key, labels));
    }

    /// Forgets a series; its number may be used again.
    pub fn remove(&mut self, series: SeriesRef) {
        let Some(known) = self.series.get_mut(series as usize).and_then(Option::take) else {
            return;
        };
        self.by_hash.remove(&known.hash);
        self.all.remove(series);
        for (name, value) in &known.labels {
            let Some(values) = self.postings.get_mut(name) else {
                continue;
            };
            if let Some(posting) = values.get_mut(value) {
                posting.remove(series);
                if posting.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.postings.remove(name);
            }
        }
        self.free.push(series);
    }

    /// The series that all matchers match.
    pub fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut found: Option<RoaringBitmap> = None;
        // Those that a missing label cannot satisfy name their series; the others take away.
        let (lacking, naming): (Vec<_>, Vec<_>) = matchers.iter().partition(|m| m.matches_empty());
        for matcher in naming {
            let matching = self.with_value(matcher, true);
            found = Some(match found {
                Some(so_far) => so_far & matching,
                None => matching,
            });
        }
        let mut found = found.unwrap_or_else(|| self.all.clone());
        for matcher in lacking {
            found -= self.with_value(matcher, false);
        }
        found
    }

    /// All series with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (SeriesRef, &Known)> {
        self.series
            .iter()
            .enumerate()
            .filter_map(|(i, k)| Some((i as SeriesRef, k.as_ref()?)))
    }

    fn put(&mut self, series: SeriesRef, labels: &Labels, hash: SeriesHash) {
        let index = series as usize;
        if self.series.len() <= index {
            self.series.resize(index + 1, None);
        }
        self.series[index] = Some(Known {
            labels: labels.clone(),
            hash,
        });
        self.by_hash.insert(hash, series);
        self.all.insert(series);
        for (name, value) in labels {
            if !self.postings.contains_key(name) {
                self.postings.insert(name.to_owned(), BTreeMap::new());
            }
            if let Some(values) = self.postings.get_mut(name) {
                if !values.contains_key(value) {
                    values.insert(value.to_owned(), RoaringBitmap::new());
                }
                if let Some(posting) = values.get_mut(value) {
                    posting.insert(series);
                }
            }
        }
    }

    /// The series that have the matcher's label with a value that it accepts, or refuses.
    fn with_value(&self, matcher: &Matcher, accepted: bool) -> RoaringBitmap {
        let Some(values) = self.postings.get(matcher.name()) else {
            return RoaringBitmap::new();
        };
        let mut found = RoaringBitmap::new();
        if let Some(literals) = matcher.literals().filter(|_| accepted) {
            for posting in literals.iter().filter_map(|l| values.get(l)) {
                found |= posting;
            }
            return found;
        }
        for (_, posting) in values
            .iter()
            .filter(|(v, _)| matcher.matches(v) == accepted)
        {
            found |= posting;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use kittiwake_model::{MatchOp, matcher};
    use proptest::prelude::*;

    use super::*;

    fn labels(map: &BTreeMap<String, String>) -> Labels {
        Labels::from_pairs(map).unwrap()
    }

    fn label_sets() -> impl Strategy<Value = Vec<BTreeMap<String, String>>> {
        let pairs = proptest::collection::btree_map("[abc]", "[xyz]{1,2}", 0..4);
        proptest::collection::vec(pairs, 0..30)
    }

    fn matchers() -> impl Strategy<Value = Vec<Matcher>> {
        let op = prop_oneof![
            Just(MatchOp::Equal),
            Just(MatchOp::NotEqual),
            Just(MatchOp::Regex),
            Just(MatchOp::NotRegex),
        ];
        let value = prop_oneof![
            "[xyz]{0,2}",
            Just("x.*".to_owned()),
            Just("x|y|".to_owned()),
            Just(".+".to_owned())
        ];
        let one = (op, "[abcd]", value).prop_map(|(op, n, v)| Matcher::new(op, n, v).unwrap());
        proptest::collection::vec(one, 0..4)
    }

    proptest! {
        #[test]
        fn select_agrees_with_matching_each_series(
            sets in label_sets(),
            removed in proptest::collection::vec(0_u32..30, 0..10),
            matchers in matchers(),
        ) {
            let mut registry = Registry::new(3);
            for set in &sets {
                let (series, _) = registry.insert(&labels(set));
                prop_assert_eq!(registry.find(&labels(set)), Some(series));
            }
            for series in removed {
                registry.remove(series);
            }
            let want: Vec<SeriesRef> = registry
                .iter()
                .filter(|(_, k)| matcher::all_match(&matchers, &k.labels))
                .map(|(s, _)| s)
                .collect();
            prop_assert_eq!(registry.select(&matchers).iter().collect::<Vec<_>>(), want);

            // A checkpoint read back in any order gives the same registry.
            let mut again = Registry::new(3);
            for (series, known) in registry.iter().collect::<Vec<_>>().into_iter().rev() {
                again.restore(series, &known.labels);
            }
            prop_assert_eq!(again.len(), registry.len());
            prop_assert_eq!(again.select(&matchers), registry.select(&matchers));
            let fresh = Labels::from_pairs([("new", "1")]).unwrap();
            let (series, is_new) = again.insert(&fresh);
            prop_assert!(is_new && registry.get(series).is_none());
        }
    }
}
