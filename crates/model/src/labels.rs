//! Label sets: sorted by name, unique, immutable and cheap to share.
//!
//! A set is one allocation: its pairs packed with their lengths, so that a clone is a
//! reference count, equality is one comparison of memory, and a hash reads memory in order.
//! A label with an empty value is the same as no label, as in Prometheus; the builder drops it.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// Longest name or value that the packed form can hold, in bytes.
pub const LABEL_BYTES_MAX: usize = 16 << 20;

/// Why a label set cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Two labels of one set have the same name.
    #[error("duplicate label name {0:?}")]
    Duplicate(String),
    /// A label has no name.
    #[error("empty label name with value {0:?}")]
    EmptyName(String),
    /// A name or value is longer than [`LABEL_BYTES_MAX`].
    #[error("label {name:?} has {size_bytes} bytes, more than {LABEL_BYTES_MAX}")]
    TooLong {
        /// The label's name, cut to 64 bytes.
        name: String,
        /// The length of the part that is too long.
        size_bytes: usize,
    },
    /// Packed bytes that are not a label set.
    #[error("label set is damaged at byte {0}")]
    Damaged(usize),
}

/// An immutable set of labels, sorted by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Labels(Arc<[u8]>);

impl Labels {
    /// The set without labels.
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// Makes a set of pairs in any order. Labels with empty values are dropped.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, LabelError> {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        let mut packed = Vec::with_capacity(
            pairs
                .iter()
                .map(|(n, v)| n.as_ref().len() + v.as_ref().len() + 4)
                .sum(),
        );
        let mut last: Option<&str> = None;
        for (name, value) in &pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            if name.is_empty() {
                return Err(LabelError::EmptyName(value.to_owned()));
            }
            if last == Some(name) {
                return Err(LabelError::Duplicate(name.to_owned()));
            }
            last = Some(name);
            push_pair(&mut packed, name, value)?;
        }
        Ok(Self(Arc::from(packed)))
    }

    /// Makes a set of pairs that are in order of names already, no name twice, no empty part:
    /// pairs of a set that was checked before. Nothing is checked again.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut packed = Vec::with_capacity(256);
        for (name, value) in pairs {
            push_str(&mut packed, name);
            push_str(&mut packed, value);
        }
        Self(Arc::from(packed))
    }

    /// Takes packed bytes, as [`Labels::as_packed`] gave them, after checking them whole:
    /// lengths, UTF-8, order, no empty part.
    pub fn from_packed(bytes: &[u8]) -> Result<Self, LabelError> {
        let mut at = 0;
        let mut last: Option<&str> = None;
        while at < bytes.len() {
            let damaged = LabelError::Damaged(at);
            let Some((name, next)) = read_str(bytes, at) else {
                return Err(damaged);
            };
            let Some((value, next)) = read_str(bytes, next) else {
                return Err(damaged);
            };
            if name.is_empty() || value.is_empty() || last.is_some_and(|l| l >= name) {
                return Err(damaged);
            }
            last = Some(name);
            at = next;
        }
        Ok(Self(Arc::from(bytes)))
    }

    /// The packed form: for each pair, in order of names, the name's length as a varint, the
    /// name, the value's length as a varint, the value.
    pub fn as_packed(&self) -> &[u8] {
        &self.0
    }

    /// The pairs in order of names.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            bytes: &self.0,
            at: 0,
        }
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut at = 0;
        loop {
            let (one, next) = read_bytes(&self.0, at)?;
            if one == name.as_bytes() {
                return read_str(&self.0, next).map(|(value, _)| value);
            }
            at = read_bytes(&self.0, next)?.1;
        }
    }

    /// The value of the label `__name__`.
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A builder that starts with these labels.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder {
            pairs: self
                .iter()
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect(),
        }
    }

    /// These labels without the named ones.
    #[must_use]
    pub fn without(&self, drop: impl Fn(&str) -> bool) -> Self {
        self.filtered(|name| !drop(name))
    }

    /// Only the labels for which `keep` says so.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        let mut packed = Vec::with_capacity(self.0.len());
        let (mut at, bytes) = (0, &self.0);
        while let Some((name, next)) = read_str(bytes, at) {
            let Some((_, next)) = read_bytes(bytes, next) else {
                break;
            };
            if keep(name) {
                packed.extend_from_slice(&bytes[at..next]);
            }
            at = next;
        }
        if packed.len() == self.0.len() {
            self.clone()
        } else {
            Self(Arc::from(packed))
        }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

/// Hash tables would take their time for a few hundred bytes. The seed is of this process, so
/// that nobody can choose what collides.
static TABLE_SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0_u8));

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(xxh3_64_with_seed(&self.0, *TABLE_SEED));
    }
}

impl Ord for Labels {
    /// As the pairs compare.
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.0, &other.0);
        let equal = equal_bytes(a, b);
        // Whole texts before the first difference are the same, so only the one it lies in
        // is compared, and behind it nothing.
        let mut at = 0;
        loop {
            match (read_bytes(a, at), read_bytes(b, at)) {
                (Some((_, next)), Some(_)) if next <= equal => at = next,
                (Some((one, _)), Some((other, _))) => return one.cmp(other),
                (one, other) => return one.is_some().cmp(&other.is_some()),
            }
        }
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The pairs of a [`Labels`] in order of names.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value, next) = read_pair(self.bytes, self.at)?;
        self.at = next;
        Some((name, value))
    }
}

/// Collects changes to a label set.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// A builder without labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        if value.is_empty() {
            return self.remove(name);
        }
        match self.pairs.iter_mut().find(|(n, _)| n == name) {
            Some((_, v)) => value.clone_into(v),
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|(n, _)| n != name);
        self
    }

    /// Keeps only the labels for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.pairs.retain(|(n, v)| keep(n, v));
        self
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The pairs, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The label set.
    pub fn build(&self) -> Result<Labels, LabelError> {
        Labels::from_pairs(self.iter())
    }
}

/// The 128-bit keyed hash by which a store knows a series.
///
/// It is folded over the pairs in order of names, so that each protocol can compute it from
/// its own bytes without building a [`Labels`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesHash(pub u128);

/// A map by [`SeriesHash`]. They are spread evenly already, and senders cannot choose them.
pub type BySeriesHash<V> = HashMap<SeriesHash, V, BuildHasherDefault<Halves>>;

/// Takes a hash for what it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Halves(u64);

impl Hasher for Halves {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 ^= hash as u64 ^ (hash >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Folds label pairs into a [`SeriesHash`]. The key keeps senders from making collisions.
#[derive(Debug, Clone, Copy)]
pub struct SeriesHasher {
    key: u64,
    state: u128,
}

impl SeriesHasher {
    /// A hasher with a store's key.
    pub fn new(key: u64) -> Self {
        Self {
            key,
            state: u128::from(key),
        }
    }

    /// Folds one pair in. Pairs must come in order of names, without empty values.
    pub fn pair(&mut self, name: &[u8], value: &[u8]) {
        self.fold(Self::pair_hash(self.key, name, value));
    }

    /// The hash of one pair, for those who keep it beside the pair.
    pub fn pair_hash(key: u64, name: &[u8], value: &[u8]) -> u128 {
        let n = xxh3_128_with_seed(name, key);
        let v = xxh3_128_with_seed(value, key ^ 0x9e37_79b9_7f4a_7c15);
        n.rotate_left(41) ^ v
    }

    /// Folds in a pair by its [`SeriesHasher::pair_hash`].
    pub fn fold(&mut self, pair_hash: u128) {
        // Odd multipliers keep the fold a bijection of the state, so that order matters and
        // nothing cancels.
        self.state = (self.state.rotate_left(29) ^ pair_hash)
            .wrapping_mul(0x2d99_787f_ed39_5d34_0c7e_b1a1_9f7b_59ad);
    }

    /// The hash of the pairs so far.
    pub fn finish(self) -> SeriesHash {
        SeriesHash(self.state ^ (self.state >> 67))
    }

    /// The hash of a label set.
    pub fn labels(key: u64, labels: &Labels) -> SeriesHash {
        let mut hasher = Self::new(key);
        for (name, value) in labels {
            hasher.pair(name.as_bytes(), value.as_bytes());
        }
        hasher.finish()
    }
}

fn push_pair(packed: &mut Vec<u8>, name: &str, value: &str) -> Result<(), LabelError> {
    if value.is_empty() {
        return Ok(());
    }
    let size_bytes = name.len().max(value.len());
    if size_bytes > LABEL_BYTES_MAX {
        let name = name.chars().take(64).collect();
        return Err(LabelError::TooLong { name, size_bytes });
    }
    push_str(packed, name);
    push_str(packed, value);
    Ok(())
}

fn push_str(packed: &mut Vec<u8>, text: &str) {
    let mut len = text.len();
    while len >= 0x80 {
        packed.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    packed.push(len as u8);
    packed.extend_from_slice(text.as_bytes());
}

fn read_pair(bytes: &[u8], at: usize) -> Option<(&str, &str, usize)> {
    let (name, at) = read_str(bytes, at)?;
    let (value, at) = read_str(bytes, at)?;
    Some((name, value, at))
}

/// How many bytes at the start are the same.
fn equal_bytes(a: &[u8], b: &[u8]) -> usize {
    const WORD: usize = 16;
    let words = a.chunks_exact(WORD).zip(b.chunks_exact(WORD));
    let equal = words.take_while(|(a, b)| a == b).count() * WORD;
    let rest = a[equal..].iter().zip(&b[equal..]);
    equal + rest.take_while(|(a, b)| a == b).count()
}

fn read_str(bytes: &[u8], at: usize) -> Option<(&str, usize)> {
    let (text, next) = read_bytes(bytes, at)?;
    Some((std::str::from_utf8(text).ok()?, next))
}

fn read_bytes(bytes: &[u8], mut at: usize) -> Option<(&[u8], usize)> {
    let mut len = 0_usize;
    let mut shift = 0;
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
    let end = at.checked_add(len)?;
    Some((bytes.get(at..end)?, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pairs_are_sorted_and_empty_values_dropped() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", "")]).unwrap();
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
        assert_eq!(labels.get("c"), None);
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
    }

    #[test]
    fn duplicates_and_empty_names_are_refused() {
        let twice = Labels::from_pairs([("a", "1"), ("a", "2")]);
        assert_eq!(twice, Err(LabelError::Duplicate("a".to_owned())));
        assert_eq!(
            Labels::from_pairs([("", "1")]),
            Err(LabelError::EmptyName("1".to_owned()))
        );
    }

    #[test]
    fn a_shorter_set_sorts_before_its_extension() {
        let short = Labels::from_pairs([("a", "1")]).unwrap();
        let long = Labels::from_pairs([("a", "1"), ("b", "1")]).unwrap();
        let other = Labels::from_pairs([("a", "10")]).unwrap();
        assert!(short < long && long < other);
    }

    proptest! {
        #[test]
        fn packed_form_round_trips(map in proptest::collection::btree_map("[a-z_é]{1,9}", ".{1,200}", 0..12)) {
            let labels = Labels::from_pairs(&map).unwrap();
            prop_assert_eq!(Labels::from_packed(labels.as_packed()).unwrap(), labels.clone());
            prop_assert_eq!(Labels::from_sorted(&labels), labels.clone());
            let back: Vec<_> = labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(back, map.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn sets_compare_as_their_pairs_do(
            a in proptest::collection::btree_map("[a-c]{1,3}", "[a-cé]{1,40}", 0..4),
            b in proptest::collection::btree_map("[a-c]{1,3}", "[a-cé]{1,40}", 0..4),
            more in proptest::collection::btree_map("[a-d]{1,3}", "[a-c]{1,3}", 0..2),
        ) {
            let labels = |map| Labels::from_pairs(map).unwrap();
            let mut longer = a.clone();
            longer.extend(more);
            for (x, y) in [(&a, &b), (&a, &longer), (&longer, &b), (&a, &a)] {
                let want = x.iter().cmp(y.iter());
                prop_assert_eq!(labels(x).cmp(&labels(y)), want);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(labels) = Labels::from_packed(&bytes) {
                prop_assert_eq!(labels.as_packed(), &bytes[..]);
            }
        }

        #[test]
        fn hash_tells_sets_apart(a in proptest::collection::btree_map("[ab]{1,2}", "[ab]{1,2}", 0..4),
                                 b in proptest::collection::btree_map("[ab]{1,2}", "[ab]{1,2}", 0..4)) {
            let (x, y) = (Labels::from_pairs(&a).unwrap(), Labels::from_pairs(&b).unwrap());
            prop_assert_eq!(x == y, SeriesHasher::labels(7, &x) == SeriesHasher::labels(7, &y));
            if !x.is_empty() {
                prop_assert_ne!(SeriesHasher::labels(7, &x), SeriesHasher::labels(8, &x));
            }
        }
    }
}
