//! The series that the head knows: by number, by hash, by the bytes of requests, and by their
//! labels.
//!
//! A series is a metric name and a label set; the metrics of one target share the set. Each
//! pair of a name and a value is kept once, a set is a list of pairs, and so a million series
//! of twenty thousand targets take little more than two hashes each. A query resolves its
//! matchers on the pairs, so a regular expression runs once per value.

use std::collections::{BTreeSet, HashMap};

use hashbrown::HashTable;
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{Labels, Matcher, SeriesHash, SeriesHasher};
use roaring::RoaringBitmap;
use twox_hash::XxHash3_128;

use crate::dictionary::label_hash;

/// A series' number in the head. Numbers of series that ended are used again.
pub type SeriesRef = u32;
/// The number of a pair of label name and value.
pub(crate) type PairRef = u32;

/// Stands for a metric name that a series does not have, and for an unused place.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: SeriesHash,
    /// Hash of the bytes by which requests name the series; 0 when none is known.
    raw: u128,
    /// The pair of the metric name.
    name: PairRef,
    /// The label set; [`NONE`] when the place is free.
    set: u32,
}

#[derive(Debug)]
struct Pair {
    name: u32,
    uses: u32,
    value: Box<str>,
    hash: u128,
    /// The label sets that have it; of a metric name, the series.
    posting: RoaringBitmap,
}

/// The labels of a series without its metric name.
#[derive(Debug, Default)]
struct LabelSet {
    /// In order of label names.
    pairs: Box<[PairRef]>,
    series: Vec<SeriesRef>,
}

#[derive(Debug)]
struct LabelName {
    text: Box<str>,
    pairs: RoaringBitmap,
}

/// The hash of the bytes by which requests name a series, with their number on top: so many
/// bytes are looked at where the series is expected.
pub(crate) fn raw_hash(key: u64, raw: &[u8]) -> u128 {
    // This crate, unlike that of the other hashes, uses the widest instructions there are.
    let hash = XxHash3_128::oneshot_with_seed(key, raw);
    hash >> 16 | (raw.len().min(RAW_BYTES_MAX) as u128) << 112
}

const RAW_BYTES_MAX: usize = u16::MAX as usize;

/// All known series.
#[derive(Debug, Default)]
pub struct Registry {
    key: u64,
    slots: Vec<Slot>,
    free: Vec<SeriesRef>,
    by_hash: HashTable<SeriesRef>,
    by_raw: HashTable<SeriesRef>,
    pairs: Vec<Pair>,
    free_pairs: Vec<PairRef>,
    by_pair: HashTable<PairRef>,
    sets: Vec<LabelSet>,
    free_sets: Vec<u32>,
    by_set: HashTable<u32>,
    names: Vec<LabelName>,
    free_names: Vec<u32>,
    by_name: HashMap<Box<str>, u32>,
    scratch: Vec<PairRef>,
    /// The series that a log has introduced so far, in its order, while it is replayed: until
    /// its end they are not found by hash, and label sets without series stay.
    restored: Option<Vec<SeriesRef>>,
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

    /// One more than the largest number that was ever given.
    pub(crate) fn bound(&self) -> usize {
        self.slots.len()
    }

    /// The number of a series, if it is known.
    pub fn find(&self, labels: &Labels) -> Option<SeriesRef> {
        self.find_hash(SeriesHasher::labels(self.key, labels))
    }

    pub(crate) fn find_hash(&self, hash: SeriesHash) -> Option<SeriesRef> {
        let found = self
            .by_hash
            .find(hash.0 as u64, |s| self.slots[*s as usize].hash == hash);
        found.copied()
    }

    /// The series that came with these raw bytes before. `near` is where it is looked for
    /// first: requests name the same series in the same order.
    #[inline]
    pub(crate) fn find_raw(&self, raw: u128, near: SeriesRef) -> Option<(SeriesRef, SeriesHash)> {
        if let Some(slot) = self.slots.get(near as usize)
            && slot.raw == raw
            && slot.set != NONE
        {
            return Some((near, slot.hash));
        }
        let found = self
            .by_raw
            .find(raw as u64, |s| self.slots[*s as usize].raw == raw);
        found.map(|s| (*s, self.slots[*s as usize].hash))
    }

    /// How many of the first bytes name this series, if they do as before.
    #[inline]
    pub(crate) fn expect_raw(&self, bytes: &[u8], near: SeriesRef) -> Option<(usize, SeriesHash)> {
        let slot = self.slots.get(near as usize).filter(|s| s.set != NONE)?;
        let len = (slot.raw >> 112) as usize;
        let raw = bytes.get(..len).filter(|_| len > 0)?;
        (raw_hash(self.key, raw) == slot.raw).then_some((len, slot.hash))
    }

    /// Remembers the bytes by which a request named a series; the ones before are forgotten.
    pub(crate) fn remember_raw(&mut self, series: SeriesRef, raw: u128) {
        let Some(slot) = self.slots.get(series as usize).copied() else {
            return;
        };
        if slot.raw == raw || raw == 0 || slot.set == NONE {
            return;
        }
        self.forget_raw(series);
        self.slots[series as usize].raw = raw;
        let slots = &self.slots;
        self.by_raw
            .insert_unique(raw as u64, series, |s| slots[*s as usize].raw as u64);
    }

    /// A series' hash, while it is known.
    pub fn hash(&self, series: SeriesRef) -> Option<SeriesHash> {
        let slot = self.slots.get(series as usize)?;
        (slot.set != NONE).then_some(slot.hash)
    }

    /// A series' labels, while it is known.
    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.hash(series)?;
        let pairs = self.pairs_of(series);
        Some(Labels::from_sorted(pairs.map(|p| self.pair(p))))
    }

    /// The pairs of a series in order of label names.
    pub(crate) fn pairs_of(&self, series: SeriesRef) -> impl Iterator<Item = PairRef> + '_ {
        let slot = self.slots[series as usize];
        self.in_order(slot.name, slot.set)
    }

    /// A metric name's pair, or [`NONE`], in its place among the pairs of a set.
    fn in_order(&self, name: PairRef, set: u32) -> impl Iterator<Item = PairRef> + '_ {
        let rest = self.set_pairs(set);
        // Nearly always the metric name is the first, but capitals sort before it.
        let before = match name {
            NONE => 0,
            _ => rest
                .iter()
                .take_while(|p| self.pair(**p).0 < METRIC_NAME)
                .count(),
        };
        let name = (name != NONE).then_some(name);
        let (head, tail) = rest.split_at(before);
        head.iter().copied().chain(name).chain(tail.iter().copied())
    }

    /// Name and value of a pair.
    pub(crate) fn pair(&self, pair: PairRef) -> (&str, &str) {
        let pair = &self.pairs[pair as usize];
        (&self.names[pair.name as usize].text, &pair.value)
    }

    /// A hash of a series' labels, as blocks have it (`dictionary::label_hash`).
    pub(crate) fn label_hash(&self, series: SeriesRef) -> u128 {
        let (name, set) = self.name_and_set(series);
        let name = (name != NONE).then(|| self.pair(name).1);
        let pairs = self.set_pairs(set).iter();
        let pairs = pairs.map(|p| self.pairs[*p as usize].hash);
        label_hash(self.key, name, pairs)
    }

    /// The metric name's pair and the label set of a series.
    pub(crate) fn name_and_set(&self, series: SeriesRef) -> (PairRef, u32) {
        let slot = self.slots[series as usize];
        (slot.name, slot.set)
    }

    /// The pairs of a label set.
    pub(crate) fn set(&self, set: u32) -> impl Iterator<Item = (&str, &str)> {
        self.set_pairs(set).iter().map(|p| self.pair(*p))
    }

    /// As [`Registry::set`], by numbers.
    pub(crate) fn set_pairs(&self, set: u32) -> &[PairRef] {
        self.sets.get(set as usize).map_or(&[][..], |s| &s.pairs)
    }

    /// The number of a series, which becomes known if it was not; and whether it is new.
    pub fn insert(&mut self, labels: &Labels) -> (SeriesRef, bool) {
        let mut hasher = SeriesHasher::new(self.key);
        let mut hashes = [0; 32];
        for (at, (name, value)) in labels.iter().enumerate() {
            let hash = SeriesHasher::pair_hash(self.key, name.as_bytes(), value.as_bytes());
            if let Some(place) = hashes.get_mut(at) {
                *place = hash;
            }
            hasher.fold(hash);
        }
        let hash = hasher.finish();
        if let Some(series) = self.find_hash(hash) {
            return (series, false);
        }
        let mut pairs = std::mem::take(&mut self.scratch);
        pairs.clear();
        for (at, (name, value)) in labels.iter().enumerate() {
            let hash = match hashes.get(at) {
                Some(hash) => *hash,
                None => SeriesHasher::pair_hash(self.key, name.as_bytes(), value.as_bytes()),
            };
            pairs.push(self.intern(name, value, hash));
        }
        let series = self.free.pop().unwrap_or(self.slots.len() as SeriesRef);
        let name = self.name_of(&pairs);
        let set = self.join_set(&pairs, name, series);
        self.put(series, name, set, hash);
        self.scratch = pairs;
        (series, true)
    }

    /// The number of a pair, which stays until it is given to [`Registry::let_go`].
    pub(crate) fn hold(&mut self, name: &str, value: &str) -> PairRef {
        let hash = SeriesHasher::pair_hash(self.key, name.as_bytes(), value.as_bytes());
        self.intern(name, value, hash)
    }

    /// Gives back what [`Registry::hold`] gave.
    pub(crate) fn let_go(&mut self, pair: PairRef) {
        self.release(pair);
    }

    /// The number of the label set of these pairs, which are held and have no metric name. It
    /// stays, also without series, until [`Registry::end_restore`]. `None`: they are no labels.
    pub(crate) fn hold_set(&mut self, pairs: &[PairRef]) -> Option<u32> {
        self.restored.get_or_insert_default();
        let hash = self.set_hash(pairs.iter().copied());
        let known = self.find_set(hash, pairs, NONE);
        if known.is_some() || !self.are_labels(pairs) {
            return known;
        }
        Some(self.add_set(hash, pairs.into(), false))
    }

    /// Makes a series known under the number that a log gives it, by a pair that is held and a
    /// set that [`Registry::hold_set`] gave. Whatever had that number ended before. `false`: the
    /// pair is no metric name. After the last one comes [`Registry::end_restore`].
    pub(crate) fn restore(&mut self, series: SeriesRef, name: Option<PairRef>, set: u32) -> bool {
        let name = name.unwrap_or(NONE);
        if name != NONE && self.pair(name).0 != METRIC_NAME {
            return false;
        }
        let mut hasher = SeriesHasher::new(self.key);
        for pair in self.in_order(name, set) {
            hasher.fold(self.pairs[pair as usize].hash);
        }
        let hash = hasher.finish();
        if self.hash(series) == Some(hash) {
            return true;
        }
        self.remove(series);
        self.sets[set as usize].series.push(series);
        self.put(series, name, set, hash);
        if name != NONE {
            self.pairs[name as usize].uses += 1;
        }
        true
    }

    /// Finds the numbers that are free once a log was replayed, which names them in any order,
    /// and lets go of label sets without series. Of two series with the same labels the one
    /// that the log named last stays.
    pub(crate) fn end_restore(&mut self) {
        let restored = self.restored.take().unwrap_or_default();
        let slots = &self.slots;
        self.by_hash
            .reserve(restored.len(), |s| slots[*s as usize].hash.0 as u64);
        for series in restored {
            let Some(hash) = self.hash(series) else {
                continue;
            };
            match self.find_hash(hash) {
                Some(known) if known == series => continue,
                Some(known) => self.remove(known),
                None => {}
            }
            self.index(series, hash);
        }
        let free: BTreeSet<u32> = self.free_sets.iter().copied().collect();
        for set in 0..self.sets.len() as u32 {
            if self.sets[set as usize].series.is_empty() && !free.contains(&set) {
                self.remove_set(set);
            }
        }
        let unused = self.slots.iter().enumerate().filter(|(_, s)| s.set == NONE);
        self.free = unused.map(|(number, _)| number as SeriesRef).collect();
    }

    fn are_labels(&self, pairs: &[PairRef]) -> bool {
        let mut before = "";
        pairs.iter().map(|p| self.pair(*p)).all(|(name, value)| {
            let is_after = before < name && name != METRIC_NAME && !value.is_empty();
            before = name;
            is_after
        })
    }

    /// Forgets a series; its number may be used again.
    pub fn remove(&mut self, series: SeriesRef) {
        let Some(slot) = self.slots.get(series as usize).copied() else {
            return;
        };
        if slot.set == NONE {
            return;
        }
        self.forget_raw(series);
        if let Ok(entry) = self
            .by_hash
            .find_entry(slot.hash.0 as u64, |s| *s == series)
        {
            entry.remove();
        }
        if slot.name != NONE {
            self.pairs[slot.name as usize].posting.remove(series);
            self.release(slot.name);
        }
        let set = &mut self.sets[slot.set as usize];
        if let Some(at) = set.series.iter().position(|s| *s == series) {
            set.series.swap_remove(at);
        }
        if set.series.is_empty() && self.restored.is_none() {
            self.remove_set(slot.set);
        }
        self.slots[series as usize] = UNUSED;
        self.free.push(series);
    }

    /// The series that all matchers match.
    pub fn select(&self, matchers: &[Matcher]) -> Vec<SeriesRef> {
        let (of_name, of_sets): (Vec<_>, Vec<_>) =
            matchers.iter().partition(|m| m.name() == METRIC_NAME);
        let sets = (!of_sets.is_empty()).then(|| self.select_sets(&of_sets));
        let names = (!of_name.is_empty()).then(|| self.select_names(&of_name));
        let in_names = |slot: &Slot| {
            names
                .as_ref()
                .is_none_or(|(names, nameless)| match slot.name {
                    NONE => *nameless,
                    name => names.contains(name),
                })
        };
        let mut found = Vec::new();
        if let Some(sets) = sets {
            for set in &sets {
                let series = self.sets[set as usize].series.iter();
                found.extend(series.filter(|s| in_names(&self.slots[**s as usize])));
            }
        } else if let Some((names, false)) = &names {
            for name in names {
                found.extend(&self.pairs[name as usize].posting);
            }
        } else {
            let slots = self.slots.iter().enumerate();
            let known = slots.filter(|(_, s)| s.set != NONE && in_names(s));
            found.extend(known.map(|(i, _)| i as SeriesRef));
        }
        found
    }

    /// All series' numbers.
    pub fn iter(&self) -> impl Iterator<Item = SeriesRef> + '_ {
        let slots = self.slots.iter().enumerate();
        slots
            .filter(|(_, s)| s.set != NONE)
            .map(|(i, _)| i as SeriesRef)
    }

    /// Metric names that all matchers accept, and whether they accept a missing one.
    fn select_names(&self, matchers: &[&Matcher]) -> (RoaringBitmap, bool) {
        let mut found = match matchers.first() {
            Some(first) => self.values(first, true),
            None => RoaringBitmap::new(),
        };
        let rest = matchers.get(1..).unwrap_or_default();
        for matcher in rest {
            found &= self.values(matcher, true);
        }
        (found, matchers.iter().all(|m| m.matches_empty()))
    }

    fn select_sets(&self, matchers: &[&Matcher]) -> RoaringBitmap {
        let mut found: Option<RoaringBitmap> = None;
        // Those that a missing label cannot satisfy name their sets; the others take away.
        let (lacking, naming): (Vec<_>, Vec<_>) = matchers.iter().partition(|m| m.matches_empty());
        for matcher in naming {
            let matching = self.sets_with(&self.values(matcher, true));
            found = Some(match found {
                Some(so_far) => so_far & matching,
                None => matching,
            });
        }
        let mut found = found.unwrap_or_else(|| {
            let sets = self.sets.iter().enumerate();
            sets.filter(|(_, s)| !s.series.is_empty())
                .map(|(i, _)| i as u32)
                .collect()
        });
        for matcher in lacking {
            found -= self.sets_with(&self.values(matcher, false));
        }
        found
    }

    fn sets_with(&self, pairs: &RoaringBitmap) -> RoaringBitmap {
        let mut found = RoaringBitmap::new();
        for pair in pairs {
            found |= &self.pairs[pair as usize].posting;
        }
        found
    }

    /// The pairs with the matcher's name whose value it accepts, or refuses.
    fn values(&self, matcher: &Matcher, accepted: bool) -> RoaringBitmap {
        let mut found = RoaringBitmap::new();
        let Some(name) = self.by_name.get(matcher.name()) else {
            return found;
        };
        if let Some(literals) = matcher.literals().filter(|_| accepted) {
            for value in literals {
                let name = matcher.name().as_bytes();
                let hash = SeriesHasher::pair_hash(self.key, name, value.as_bytes());
                if let Some(pair) = self.find_pair(hash) {
                    found.insert(pair);
                }
            }
            return found;
        }
        let pairs = self.names[*name as usize].pairs.iter();
        found.extend(pairs.filter(|p| matcher.matches(&self.pairs[*p as usize].value) == accepted));
        found
    }

    fn find_pair(&self, hash: u128) -> Option<PairRef> {
        let found = self
            .by_pair
            .find(hash as u64, |p| self.pairs[*p as usize].hash == hash);
        found.copied()
    }

    /// The number of a pair, with one use more.
    fn intern(&mut self, name: &str, value: &str, hash: u128) -> PairRef {
        if let Some(pair) = self.find_pair(hash) {
            self.pairs[pair as usize].uses += 1;
            return pair;
        }
        let name = self.intern_name(name);
        let pair = Pair {
            name,
            uses: 1,
            value: value.into(),
            hash,
            posting: RoaringBitmap::new(),
        };
        let number = if let Some(free) = self.free_pairs.pop() {
            self.pairs[free as usize] = pair;
            free
        } else {
            self.pairs.push(pair);
            self.pairs.len() as PairRef - 1
        };
        let pairs = &self.pairs;
        self.by_pair
            .insert_unique(hash as u64, number, |p| pairs[*p as usize].hash as u64);
        self.names[name as usize].pairs.insert(number);
        number
    }

    fn intern_name(&mut self, text: &str) -> u32 {
        if let Some(name) = self.by_name.get(text) {
            return *name;
        }
        let name = LabelName {
            text: text.into(),
            pairs: RoaringBitmap::new(),
        };
        let number = if let Some(free) = self.free_names.pop() {
            self.names[free as usize] = name;
            free
        } else {
            self.names.push(name);
            self.names.len() as u32 - 1
        };
        self.by_name.insert(text.into(), number);
        number
    }

    /// Gives back a use of a pair; one without uses is forgotten.
    fn release(&mut self, number: PairRef) {
        let pair = &mut self.pairs[number as usize];
        pair.uses -= 1;
        if pair.uses > 0 {
            return;
        }
        let hash = pair.hash as u64;
        pair.value = Box::default();
        pair.posting = RoaringBitmap::new();
        if let Ok(entry) = self.by_pair.find_entry(hash, |p| *p == number) {
            entry.remove();
        }
        let name = &mut self.names[pair.name as usize];
        name.pairs.remove(number);
        if name.pairs.is_empty() {
            self.by_name.remove(&name.text);
            name.text = Box::default();
            self.free_names.push(pair.name);
        }
        self.free_pairs.push(number);
    }

    /// Fills a place with a series, whose set has it already.
    fn put(&mut self, series: SeriesRef, name: PairRef, set: u32, hash: SeriesHash) {
        let index = series as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, UNUSED);
        }
        self.slots[index] = Slot {
            hash,
            raw: 0,
            name,
            set,
        };
        if name != NONE {
            let posting = &mut self.pairs[name as usize].posting;
            // Most series get a number above all others.
            if posting.try_push(series).is_err() {
                posting.insert(series);
            }
        }
        match &mut self.restored {
            Some(restored) => restored.push(series),
            None => self.index(series, hash),
        }
    }

    /// Makes a series known by its hash.
    fn index(&mut self, series: SeriesRef, hash: SeriesHash) {
        let slots = &self.slots;
        self.by_hash
            .insert_unique(hash.0 as u64, series, |s| slots[*s as usize].hash.0 as u64);
    }

    fn name_of(&self, pairs: &[PairRef]) -> PairRef {
        let is_name = |p: &&PairRef| self.pair(**p).0 == METRIC_NAME;
        pairs.iter().find(is_name).copied().unwrap_or(NONE)
    }

    fn find_set(&self, hash: u64, pairs: &[PairRef], name: PairRef) -> Option<u32> {
        let found = self.by_set.find(hash, |s| {
            let set = &self.sets[*s as usize].pairs;
            set.iter().copied().eq(rest(pairs, name))
        });
        found.copied()
    }

    /// Puts a series into the label set of its pairs without the metric name. Each pair has a
    /// use more than it needs, as [`Registry::intern`] gives it; a new set takes it.
    fn join_set(&mut self, pairs: &[PairRef], name: PairRef, series: SeriesRef) -> u32 {
        let hash = self.set_hash(rest(pairs, name));
        let set = match self.find_set(hash, pairs, name) {
            Some(set) => {
                for pair in rest(pairs, name) {
                    self.pairs[pair as usize].uses -= 1;
                }
                set
            }
            None => self.add_set(hash, rest(pairs, name).collect(), true),
        };
        self.sets[set as usize].series.push(series);
        set
    }

    /// A new label set without series. `are_used`: each pair has a use for it already.
    fn add_set(&mut self, hash: u64, pairs: Box<[PairRef]>, are_used: bool) -> u32 {
        let set = LabelSet {
            pairs,
            series: Vec::new(),
        };
        let number = if let Some(free) = self.free_sets.pop() {
            self.sets[free as usize] = set;
            free
        } else {
            self.sets.push(set);
            self.sets.len() as u32 - 1
        };
        for pair in &self.sets[number as usize].pairs {
            let pair = &mut self.pairs[*pair as usize];
            pair.posting.insert(number);
            pair.uses += u32::from(!are_used);
        }
        let (sets, all) = (&self.sets, &self.pairs);
        self.by_set.insert_unique(hash, number, |s| {
            fold(
                sets[*s as usize]
                    .pairs
                    .iter()
                    .map(|p| all[*p as usize].hash),
            )
        });
        number
    }

    fn remove_set(&mut self, number: u32) {
        let pairs = std::mem::take(&mut self.sets[number as usize].pairs);
        let hash = self.set_hash(pairs.iter().copied());
        if let Ok(entry) = self.by_set.find_entry(hash, |s| *s == number) {
            entry.remove();
        }
        for pair in &pairs {
            self.pairs[*pair as usize].posting.remove(number);
            self.release(*pair);
        }
        self.free_sets.push(number);
    }

    fn set_hash(&self, pairs: impl Iterator<Item = PairRef>) -> u64 {
        fold(pairs.map(|p| self.pairs[p as usize].hash))
    }

    fn forget_raw(&mut self, series: SeriesRef) {
        let raw = std::mem::take(&mut self.slots[series as usize].raw);
        if raw != 0
            && let Ok(entry) = self.by_raw.find_entry(raw as u64, |s| *s == series)
        {
            entry.remove();
        }
    }
}

const UNUSED: Slot = Slot {
    hash: SeriesHash(0),
    raw: 0,
    name: NONE,
    set: NONE,
};

/// The pairs without that of the metric name.
fn rest(pairs: &[PairRef], name: PairRef) -> impl Iterator<Item = PairRef> + '_ {
    pairs.iter().copied().filter(move |p| *p != name)
}

fn fold(hashes: impl Iterator<Item = u128>) -> u64 {
    let mut hasher = SeriesHasher::new(0);
    for hash in hashes {
        hasher.fold(hash);
    }
    hasher.finish().0 as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kittiwake_model::{MatchOp, matcher};
    use proptest::prelude::*;

    use super::*;

    fn labels(map: &BTreeMap<String, String>) -> Labels {
        Labels::from_pairs(map).unwrap()
    }

    fn label_sets() -> impl Strategy<Value = Vec<BTreeMap<String, String>>> {
        let pairs = proptest::collection::btree_map("[Aabc]|__name__", "[xyz]{1,2}", 0..4);
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
        let one =
            (op, "[abcd]|__name__", value).prop_map(|(op, n, v)| Matcher::new(op, n, v).unwrap());
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
            for (at, set) in sets.iter().enumerate() {
                let (series, _) = registry.insert(&labels(set));
                registry.remember_raw(series, at as u128 + 1);
                prop_assert_eq!(registry.find(&labels(set)), Some(series));
                prop_assert_eq!(registry.find_raw(at as u128 + 1, 0).map(|s| s.0), Some(series));
                prop_assert_eq!(registry.labels(series), Some(labels(set)));
            }
            for series in removed {
                registry.remove(series);
            }
            let want: Vec<SeriesRef> = registry
                .iter()
                .filter(|s| matcher::all_match(&matchers, &registry.labels(*s).unwrap()))
                .collect();
            let mut got = registry.select(&matchers);
            got.sort_unstable();
            prop_assert_eq!(&got, &want);

            // A log read back in any order gives the same registry.
            let mut again = Registry::new(3);
            for series in registry.iter().collect::<Vec<_>>().into_iter().rev() {
                let labels = registry.labels(series).unwrap();
                let name = labels.metric_name().map(|name| again.hold(METRIC_NAME, name));
                let rest = labels.iter().filter(|(n, _)| *n != METRIC_NAME);
                let rest: Vec<PairRef> = rest.map(|(n, v)| again.hold(n, v)).collect();
                let set = again.hold_set(&rest).unwrap();
                prop_assert!(again.restore(series, name, set));
                prop_assert!(rest.is_empty() || !again.restore(99, rest.first().copied(), set));
                let reversed: Vec<PairRef> = rest.iter().rev().copied().collect();
                prop_assert!(rest.len() < 2 || again.hold_set(&reversed).is_none());
                prop_assert!(name.is_none_or(|name| again.hold_set(&[name]).is_none()));
                again.hold_set(&rest[..rest.len() / 2]);
                for pair in name.into_iter().chain(rest) {
                    again.let_go(pair);
                }
            }
            let mut got = again.select(&matchers);
            got.sort_unstable();
            prop_assert_eq!(got, want);
            again.end_restore();
            prop_assert_eq!(again.len(), registry.len());
            let fresh = Labels::from_pairs([("new", "1")]).unwrap();
            let (series, is_new) = again.insert(&fresh);
            prop_assert!(is_new && registry.labels(series).is_none());

            // Nothing stays behind of series that ended.
            for series in registry.iter().collect::<Vec<_>>() {
                registry.remove(series);
            }
            prop_assert!(registry.by_pair.is_empty() && registry.by_set.is_empty());
            prop_assert!(registry.by_raw.is_empty() && registry.by_name.is_empty());
        }
    }
}
