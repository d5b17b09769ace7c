//! The labels of a block's series: texts, pairs of texts, and sets of pairs, each once.
//!
//! A series is a metric name and a label set; the metrics of one target share the set. All
//! three are sorted, so that numbers compare as what they stand for: series in order of
//! (name, set) are in order of their labels within each name.

use std::collections::HashMap;

use hashbrown::HashTable;
use kittiwake_journal::bytes::{Malformed, Reader, put_bytes, put_uvarint};
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{Labels, Matcher, SeriesHasher};
use xxhash_rust::xxh3::xxh3_64;

/// Stands for a metric name that a series does not have.
pub const NAMELESS: u32 = u32::MAX;

/// The sorted texts, pairs and label sets of a block.
#[derive(Debug, Default)]
pub struct Dictionary {
    text: String,
    ends: Vec<u32>,
    /// Name and value as numbers of texts.
    pairs: Vec<(u32, u32)>,
    set_ends: Vec<u32>,
    set_pairs: Vec<u32>,
    /// Of each pair; none before [`Dictionary::hash_pairs`].
    pair_hashes: Vec<u128>,
    key: u64,
}

impl Dictionary {
    /// A text by its number.
    pub fn text(&self, number: u32) -> &str {
        span(&self.text, &self.ends, number)
    }

    /// How many label sets there are.
    pub fn sets(&self) -> usize {
        self.set_ends.len()
    }

    /// How many texts there are.
    pub fn texts(&self) -> usize {
        self.ends.len()
    }

    /// About the memory it takes.
    pub fn bytes(&self) -> usize {
        self.text.len()
            + 4 * (self.ends.len() + self.set_ends.len() + self.set_pairs.len())
            + 8 * self.pairs.len()
            + 16 * self.pair_hashes.len()
    }

    /// The pairs of a set, in order of names.
    pub fn set(&self, set: u32) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.set_numbers(set).iter();
        pairs
            .map(|p| self.pairs[*p as usize])
            .map(|(n, v)| (self.text(n), self.text(v)))
    }

    /// The labels of a series.
    pub fn labels(&self, name: u32, set: u32) -> Labels {
        if name == NAMELESS {
            return Labels::from_sorted(self.set(set));
        }
        let before = self.set(set).take_while(|(n, _)| *n < METRIC_NAME);
        let after = self.set(set).skip_while(|(n, _)| *n < METRIC_NAME);
        let name = [(METRIC_NAME, self.text(name))];
        Labels::from_sorted(before.chain(name).chain(after))
    }

    /// Prepares [`Dictionary::label_hash`].
    pub(crate) fn hash_pairs(&mut self, key: u64) {
        let pairs = self
            .pairs
            .iter()
            .map(|(n, v)| (self.text(*n), self.text(*v)));
        let hash = |(n, v): (&str, &str)| SeriesHasher::pair_hash(key, n.as_bytes(), v.as_bytes());
        self.pair_hashes = pairs.map(hash).collect();
        self.key = key;
    }

    /// A hash of the labels of a series, see [`label_hash`].
    pub(crate) fn label_hash(&self, name: Option<&str>, set: u32) -> u128 {
        let pairs = self.set_numbers(set).iter();
        let pairs = pairs.filter_map(|p| self.pair_hashes.get(*p as usize));
        label_hash(self.key, name, pairs.copied())
    }

    /// The sets that all matchers match; `None` when there is no matcher.
    pub fn select(&self, matchers: &[&Matcher]) -> Option<Vec<bool>> {
        if matchers.is_empty() {
            return None;
        }
        let mut matching = vec![true; self.sets()];
        for matcher in matchers {
            let name = self.find_text(matcher.name());
            let pairs = name.map_or(0..0, |n| self.pairs_named(n));
            let accepted: Vec<bool> = self.accepted(matcher, pairs.clone());
            let empty = matcher.matches_empty();
            for (set, matching) in matching.iter_mut().enumerate().filter(|(_, m)| **m) {
                let numbers = self.set_numbers(set as u32);
                let at = numbers.partition_point(|p| (*p as usize) < pairs.start);
                *matching = match numbers.get(at).map(|p| *p as usize) {
                    Some(pair) if pair < pairs.end => accepted[pair - pairs.start],
                    _ => empty,
                };
            }
        }
        Some(matching)
    }

    /// The number of the set with these pairs, in order of names.
    pub fn find_set<'a>(&self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<u32> {
        let mut numbers = Vec::new();
        for (name, value) in pairs {
            let pair = (self.find_text(name)?, self.find_text(value)?);
            numbers.push(self.pairs.binary_search(&pair).ok()? as u32);
        }
        let (mut from, mut to) = (0, self.sets());
        while from < to {
            let middle = usize::midpoint(from, to);
            match self.set_numbers(middle as u32).cmp(&numbers[..]) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
                std::cmp::Ordering::Equal => return Some(middle as u32),
            }
        }
        None
    }

    /// The number of a text.
    pub fn find_text(&self, text: &str) -> Option<u32> {
        let (mut from, mut to) = (0, self.ends.len() as u32);
        while from < to {
            let middle = u32::midpoint(from, to);
            match self.text(middle).cmp(text) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    fn set_numbers(&self, set: u32) -> &[u32] {
        let set = set as usize;
        let start = set.checked_sub(1).map_or(0, |s| self.set_ends[s]);
        let end = self.set_ends.get(set).copied().unwrap_or(start);
        &self.set_pairs[start as usize..end as usize]
    }

    fn pairs_named(&self, name: u32) -> std::ops::Range<usize> {
        let start = self.pairs.partition_point(|p| p.0 < name);
        start..self.pairs.partition_point(|p| p.0 <= name)
    }

    fn accepted(&self, matcher: &Matcher, pairs: std::ops::Range<usize>) -> Vec<bool> {
        let named = &self.pairs[pairs];
        let Some(literals) = matcher.literals() else {
            let values = named.iter().map(|p| self.text(p.1));
            return values.map(|v| matcher.matches(v)).collect();
        };
        let mut accepted = vec![false; named.len()];
        for text in literals.iter().filter_map(|l| self.find_text(l)) {
            if let Ok(at) = named.binary_search_by_key(&text, |p| p.1) {
                accepted[at] = true;
            }
        }
        accepted
    }

    /// ```text
    /// texts: count, then each | pairs: count, then name and value less those before |
    /// sets: count, then length and pairs, each less the one before
    /// ```
    /// A value is less the one before only under the same name.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_uvarint(out, self.ends.len() as u64);
        for number in 0..self.ends.len() {
            put_bytes(out, self.text(number as u32).as_bytes());
        }
        put_uvarint(out, self.pairs.len() as u64);
        let mut before = (0, 0);
        for (name, value) in &self.pairs {
            put_uvarint(out, u64::from(name - before.0));
            let base = if *name == before.0 { before.1 } else { 0 };
            put_uvarint(out, u64::from(value - base));
            before = (*name, *value);
        }
        put_uvarint(out, self.set_ends.len() as u64);
        for set in 0..self.set_ends.len() {
            let numbers = self.set_numbers(set as u32);
            put_uvarint(out, numbers.len() as u64);
            let mut before = 0;
            for pair in numbers {
                put_uvarint(out, u64::from(pair - before));
                before = *pair;
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut read = Self::default();
        for _ in 0..reader.count(1)? {
            let at = reader.position();
            let text = reader.text()?;
            if !read.ends.is_empty() && read.text(read.ends.len() as u32 - 1) >= text {
                return Err(malformed(at, "texts in order"));
            }
            read.text.push_str(text);
            read.ends.push(read.text.len() as u32);
        }
        let (texts, mut before) = (read.ends.len() as u64, (0_u64, 0_u64));
        for _ in 0..reader.count(2)? {
            let at = reader.position();
            let name = before.0.saturating_add(reader.uvarint()?);
            let base = if name == before.0 { before.1 } else { 0 };
            let value = base.saturating_add(reader.uvarint()?);
            if name >= texts || value >= texts || (before >= (name, value) && before != (0, 0)) {
                return Err(malformed(at, "pairs of texts in order"));
            }
            read.pairs.push((name as u32, value as u32));
            before = (name, value);
        }
        for _ in 0..reader.count(1)? {
            let mut before = 0_u64;
            for _ in 0..reader.count(1)? {
                let at = reader.position();
                let pair = before.saturating_add(reader.uvarint()?);
                let Some((name, _)) = usize::try_from(pair).ok().and_then(|p| read.pairs.get(p))
                else {
                    return Err(malformed(at, "the number of a pair"));
                };
                let set_start = read.set_ends.last().map_or(0, |e| *e as usize);
                let last = read.set_pairs[set_start..].last();
                if last.is_some_and(|p| read.pairs[*p as usize].0 >= *name) {
                    return Err(malformed(at, "a set in order of names"));
                }
                read.set_pairs.push(pair as u32);
                before = pair;
            }
            read.set_ends.push(read.set_pairs.len() as u32);
        }
        Ok(read)
    }
}

/// By what labels are known within a query: of the metric name and the hashes of the other
/// pairs in order of names, so that heads and blocks know it without putting labels together.
pub(crate) fn label_hash(key: u64, name: Option<&str>, rest: impl Iterator<Item = u128>) -> u128 {
    let mut hasher = SeriesHasher::new(key);
    rest.for_each(|pair| hasher.fold(pair));
    if let Some(name) = name {
        hasher.pair(METRIC_NAME.as_bytes(), name.as_bytes());
    }
    hasher.finish().0
}

/// Collects texts and sets in any order.
#[derive(Debug, Default)]
pub struct DictionaryBuilder {
    found: Dictionary,
    by_text: HashTable<u32>,
    by_pair: HashMap<(u32, u32), u32>,
    by_set: HashTable<u32>,
    numbers: Vec<u32>,
}

/// Where the numbers that a builder gave have gone.
#[derive(Debug)]
pub struct Renumbered {
    /// The sorted dictionary.
    pub dictionary: Dictionary,
    /// Per text as it was added, its number.
    pub texts: Vec<u32>,
    /// Per set as it was added, its number.
    pub sets: Vec<u32>,
}

impl DictionaryBuilder {
    /// Adds a text; gives its number for now.
    pub fn text(&mut self, text: &str) -> u32 {
        let hash = xxh3_64(text.as_bytes());
        let found = &mut self.found;
        if let Some(number) = self.by_text.find(hash, |t| found.text(*t) == text) {
            return *number;
        }
        let number = found.ends.len() as u32;
        found.text.push_str(text);
        found.ends.push(found.text.len() as u32);
        let found = &self.found;
        self.by_text
            .insert_unique(hash, number, |t| xxh3_64(found.text(*t).as_bytes()));
        number
    }

    /// Adds a set of pairs in order of names; gives its number for now.
    pub fn set<'a>(&mut self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u32 {
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.clear();
        for (name, value) in pairs {
            let pair = (self.text(name), self.text(value));
            let next = self.found.pairs.len() as u32;
            let number = *self.by_pair.entry(pair).or_insert(next);
            if number == next {
                self.found.pairs.push(pair);
            }
            numbers.push(number);
        }
        let hash = hash_of(&numbers);
        let found = &mut self.found;
        let known = self.by_set.find(hash, |s| found.set_numbers(*s) == numbers);
        let number = if let Some(known) = known {
            *known
        } else {
            let number = found.set_ends.len() as u32;
            found.set_pairs.extend_from_slice(&numbers);
            found.set_ends.push(found.set_pairs.len() as u32);
            self.by_set
                .insert_unique(hash, number, |s| hash_of(found.set_numbers(*s)));
            number
        };
        self.numbers = numbers;
        number
    }

    /// Sorts all.
    pub fn finish(self) -> Renumbered {
        drop((self.by_text, self.by_pair, self.by_set));
        let found = self.found;
        let mut dictionary = Dictionary::default();
        let (order, texts) = sorted(found.ends.len(), |a, b| found.text(a).cmp(found.text(b)));
        for old in order {
            dictionary.text.push_str(found.text(old));
            dictionary.ends.push(dictionary.text.len() as u32);
        }
        let renamed: Vec<(u32, u32)> = found
            .pairs
            .iter()
            .map(|(n, v)| (texts[*n as usize], texts[*v as usize]))
            .collect();
        let (order, pairs) = sorted(renamed.len(), |a, b| {
            renamed[a as usize].cmp(&renamed[b as usize])
        });
        dictionary.pairs = order.into_iter().map(|p| renamed[p as usize]).collect();
        let mut members = found.set_pairs.clone();
        for pair in &mut members {
            *pair = pairs[*pair as usize];
        }
        let renamed = Dictionary {
            set_pairs: members,
            set_ends: found.set_ends,
            ..Dictionary::default()
        };
        let (order, sets) = sorted(renamed.sets(), |a, b| {
            renamed.set_numbers(a).cmp(renamed.set_numbers(b))
        });
        for old in order {
            dictionary
                .set_pairs
                .extend_from_slice(renamed.set_numbers(old));
            dictionary.set_ends.push(dictionary.set_pairs.len() as u32);
        }
        Renumbered {
            dictionary,
            texts,
            sets,
        }
    }
}

/// The order of so many things, and the place of each in it.
fn sorted(len: usize, compare: impl Fn(u32, u32) -> std::cmp::Ordering) -> (Vec<u32>, Vec<u32>) {
    let mut order: Vec<u32> = (0..len as u32).collect();
    order.sort_unstable_by(|a, b| compare(*a, *b));
    let mut places = vec![0; len];
    for (place, old) in order.iter().enumerate() {
        places[*old as usize] = place as u32;
    }
    (order, places)
}

fn hash_of(numbers: &[u32]) -> u64 {
    numbers.iter().fold(numbers.len() as u64, |hash, number| {
        (hash.rotate_left(23) ^ u64::from(*number)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

fn span<'a>(text: &'a str, ends: &[u32], number: u32) -> &'a str {
    let number = number as usize;
    let start = number.checked_sub(1).map_or(0, |n| ends[n]);
    &text[start as usize..ends[number] as usize]
}

fn malformed(at: usize, wanted: &'static str) -> Malformed {
    Malformed { at, wanted }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kittiwake_model::{MatchOp, matcher};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn series_come_back_in_order_and_are_selected(
            series in proptest::collection::btree_set(
                ("[mn]{0,2}", proptest::collection::btree_map("[Aab]", "[xyz]{1,2}", 0..3)), 1..30),
            op in prop_oneof![Just(MatchOp::Equal), Just(MatchOp::NotRegex), Just(MatchOp::Regex)],
            value in prop_oneof!["[xyz]{0,2}", Just("x.*".to_owned())],
        ) {
            let mut builder = DictionaryBuilder::default();
            let mut added = Vec::new();
            for (name, set) in series.iter().rev() {
                let set = builder.set(set.iter().map(|(n, v)| (n.as_str(), v.as_str())));
                added.push((builder.text(name), set));
            }
            let done = builder.finish();
            let mut bytes = Vec::new();
            done.dictionary.encode(&mut bytes);
            let dictionary = Dictionary::decode(&mut Reader::new(&bytes)).unwrap();
            let mut numbers: Vec<(u32, u32)> = added
                .iter()
                .map(|(n, s)| (done.texts[*n as usize], done.sets[*s as usize]))
                .collect();
            numbers.sort_unstable();
            let mut want: Vec<(&str, Labels)> = series
                .iter()
                .map(|(n, set)| (n.as_str(), Labels::from_pairs(set).unwrap()))
                .collect();
            want.sort();
            let one = Matcher::new(op, "a", value).unwrap();
            let selected = dictionary.select(&[&one]).unwrap();
            let mut sets = BTreeSet::new();
            for ((name, set), (want_name, want)) in numbers.iter().zip(&want) {
                prop_assert_eq!(dictionary.text(*name), *want_name);
                let name = if want_name.is_empty() { NAMELESS } else { *name };
                let labels = dictionary.labels(name, *set);
                let mut whole = want.to_builder();
                let whole = whole.set(METRIC_NAME, want_name).build().unwrap();
                prop_assert_eq!(&labels, &whole);
                let is_selected = matcher::all_match(std::slice::from_ref(&one), &labels);
                prop_assert_eq!(selected[*set as usize], is_selected);
                prop_assert_eq!(dictionary.find_set(dictionary.set(*set)), Some(*set));
                sets.insert(set);
            }
            prop_assert_eq!(sets.len(), dictionary.sets());
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(0_u8..9, 0..80)) {
            if let Ok(dictionary) = Dictionary::decode(&mut Reader::new(&bytes)) {
                for set in 0..dictionary.sets() {
                    let _ = dictionary.labels(NAMELESS, set as u32);
                }
            }
        }
    }
}
