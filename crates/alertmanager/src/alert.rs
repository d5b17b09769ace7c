//! Alerts, and how several reports of one become one.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use kittiwake_model::{Labels, quote};

/// Identifies an alert by its labels: FNV-1a over the sorted pairs, each part ended by 0xff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// That of labels.
    pub fn of(labels: &Labels) -> Self {
        Self::of_pairs(labels.iter())
    }

    /// That of pairs in order of names.
    pub fn of_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        const PRIME: u64 = 0x0100_0000_01b3;
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
            }
        };
        for (name, value) in pairs {
            for part in [name, value] {
                add(part.as_bytes());
                add(&[0xff]);
            }
        }
        Self(hash)
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What is said of an alert: texts by their names, in order. Other than a label, an annotation
/// may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotations(Arc<[(Box<str>, Box<str>)]>);

impl Annotations {
    /// Takes pairs in any order; of a name that comes twice, the last one counts.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let pairs = pairs.into_iter();
        let by_name: BTreeMap<Box<str>, Box<str>> = pairs
            .map(|(name, value)| (name.as_ref().into(), value.as_ref().into()))
            .collect();
        Self(by_name.into_iter().collect())
    }

    /// The pairs in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value)
    }
}

/// An alert as it was reported last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// What identifies it.
    pub labels: Labels,
    /// What is said of it.
    pub annotations: Annotations,
    /// When it began, in ns.
    pub starts_ns: i64,
    /// When it ends or ended, in ns.
    pub ends_ns: i64,
    /// Where it comes from.
    pub generator_url: String,
    /// When it was reported last, in ns.
    pub updated_ns: i64,
    /// Whether the end is no one's word but that of the time limit.
    pub is_timeout: bool,
}

impl Alert {
    /// Whether it is over.
    pub fn is_resolved_at(&self, now_ns: i64) -> bool {
        self.ends_ns <= now_ns
    }

    /// This one after a later report of the same alert.
    fn merged(self: &Arc<Self>, later: &Arc<Self>, now_ns: i64) -> Arc<Self> {
        if later.updated_ns < self.updated_ns {
            return later.merged(self, now_ns);
        }
        let mut merged = (**later).clone();
        merged.starts_ns = merged.starts_ns.min(self.starts_ns);
        let keeps_end = if later.is_resolved_at(now_ns) {
            self.is_resolved_at(now_ns)
        } else {
            !self.is_timeout
        };
        if keeps_end {
            merged.ends_ns = merged.ends_ns.max(self.ends_ns);
        }
        Arc::new(merged)
    }

    /// What is known of an alert after a further report of it.
    pub fn after(old: Option<&Arc<Self>>, new: Arc<Self>, now_ns: i64) -> Arc<Self> {
        let Some(old) = old else {
            return new;
        };
        let is_within = |ns: i64| ns > old.starts_ns && ns < old.ends_ns;
        if is_within(new.ends_ns) || is_within(new.starts_ns) {
            old.merged(&new, now_ns)
        } else {
            new
        }
    }

    /// The order in which alerts are told: by job, by instance, then by all labels.
    pub fn order(&self, other: &Self) -> Ordering {
        for name in ["job", "instance"] {
            match (self.labels.get(name), other.labels.get(name)) {
                (None, None) => {}
                (None, Some(_)) => return Ordering::Greater,
                (Some(_), None) => return Ordering::Less,
                (Some(a), Some(b)) if a != b => return a.cmp(b),
                _ => {}
            }
        }
        labels_order(&self.labels, &other.labels)
    }
}

/// Fewer labels come first; then the first pair that differs decides, where a label that is
/// missing comes first.
pub fn labels_order(a: &Labels, b: &Labels) -> Ordering {
    let by_count = a.len().cmp(&b.len());
    if by_count != Ordering::Equal {
        return by_count;
    }
    for ((name_a, value_a), (name_b, value_b)) in a.iter().zip(b.iter()) {
        match name_a.cmp(name_b) {
            // The other one has not the name that comes first.
            Ordering::Less => return Ordering::Greater,
            Ordering::Greater => return Ordering::Less,
            Ordering::Equal => {}
        }
        let by_value = value_a.cmp(value_b);
        if by_value != Ordering::Equal {
            return by_value;
        }
    }
    Ordering::Equal
}

/// Labels as they stand in the key of a group: `{a="b", c="d"}`.
pub fn labels_text(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={}", quote(value)))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn alert(starts_ns: i64, ends_ns: i64, updated_ns: i64) -> Arc<Alert> {
        Arc::new(Alert {
            labels: labels(&[("a", "b")]),
            annotations: Annotations::from_pairs::<&str, &str>([]),
            starts_ns,
            ends_ns,
            generator_url: String::new(),
            updated_ns,
            is_timeout: false,
        })
    }

    #[test]
    fn fingerprints_are_those_of_alertmanager() {
        // As its API shows it.
        let found = Fingerprint::of(&labels(&[]));
        assert_eq!(found.to_string(), "cbf29ce484222325");
    }

    #[test]
    fn reports_that_overlap_become_one() {
        let old = alert(10, 100, 1);
        let merged = Alert::after(Some(&old), alert(20, 50, 2), 30);
        assert_eq!((merged.starts_ns, merged.ends_ns), (10, 100));
        // It is over by now: the word of its end counts.
        let merged = Alert::after(Some(&old), alert(20, 50, 2), 60);
        assert_eq!((merged.starts_ns, merged.ends_ns), (10, 50));
        // A report that came late.
        let merged = Alert::after(Some(&alert(10, 100, 5)), alert(20, 120, 2), 30);
        assert_eq!((merged.starts_ns, merged.ends_ns), (10, 120));
        let apart = Alert::after(Some(&old), alert(200, 300, 2), 150);
        assert_eq!(apart.starts_ns, 200);
    }

    #[test]
    fn alerts_are_told_in_order() {
        let of = |pairs: &[(&str, &str)]| Alert {
            labels: labels(pairs),
            ..(*alert(0, 0, 0)).clone()
        };
        let mut all = [
            of(&[("a", "1")]),
            of(&[("job", "x"), ("instance", "2")]),
            of(&[("job", "x"), ("instance", "1"), ("z", "1")]),
            of(&[("a", "0")]),
            of(&[("job", "b")]),
        ];
        all.sort_by(Alert::order);
        let texts: Vec<String> = all.iter().map(|a| labels_text(&a.labels)).collect();
        assert_eq!(
            texts,
            [
                r#"{job="b"}"#,
                r#"{instance="1", job="x", z="1"}"#,
                r#"{instance="2", job="x"}"#,
                r#"{a="0"}"#,
                r#"{a="1"}"#
            ]
        );
    }
}
