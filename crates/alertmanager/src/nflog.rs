//! The log of notifications: what each receiver was told last of each group, so that nothing is
//! told twice.

use std::collections::{HashMap, HashSet};

/// What a receiver was told last of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, in ns.
    pub time_ns: i64,
    /// When it can be forgotten, in ns.
    pub expires_ns: i64,
    /// The alerts that fired, by their fingerprints.
    pub firing: Vec<u64>,
    /// The alerts that were over.
    pub resolved: Vec<u64>,
}

/// The newest entry of each group and integration.
#[derive(Debug, Default)]
pub struct NotificationLog {
    entries: HashMap<String, Entry>,
}

/// The key of an entry.
pub fn key(group_key: &str, receiver: &str, integration: &str) -> String {
    format!("{group_key}:{receiver}/{integration}")
}

impl NotificationLog {
    /// All entries with their keys.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(key, entry)| (key.as_str(), entry))
    }

    /// Sets an entry, unless there is a newer one.
    pub fn set(&mut self, key: String, entry: Entry) {
        let known = self.entries.get(&key);
        if known.is_none_or(|known| known.time_ns <= entry.time_ns) {
            self.entries.insert(key, entry);
        }
    }

    /// Whether a receiver is to be told of a group.
    pub fn needs_telling(
        &self,
        key: &str,
        firing: &[u64],
        resolved: &[u64],
        send_resolved: bool,
        (now_ns, repeat_ns): (i64, i64),
    ) -> bool {
        let Some(entry) = self.entries.get(key) else {
            return !firing.is_empty();
        };
        let are_known = |new: &[u64], known: &[u64]| {
            let known: HashSet<&u64> = known.iter().collect();
            new.iter().all(|hash| known.contains(hash))
        };
        if !are_known(firing, &entry.firing) {
            return true;
        }
        // That all is over clears the log, whether or not it is told.
        if firing.is_empty() {
            return !entry.firing.is_empty();
        }
        if send_resolved && !are_known(resolved, &entry.resolved) {
            return true;
        }
        entry.time_ns < now_ns.saturating_sub(repeat_ns)
    }

    /// Forgets what has expired.
    pub fn collect_garbage(&mut self, now_ns: i64) {
        self.entries.retain(|_, entry| entry.expires_ns > now_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_are_told() {
        let mut log = NotificationLog::default();
        let tell = |log: &NotificationLog, firing: &[u64], resolved: &[u64], now_ns| {
            log.needs_telling("k", firing, resolved, true, (now_ns, 100))
        };
        assert!(tell(&log, &[1], &[], 0) && !tell(&log, &[], &[1], 0));
        let entry = Entry {
            time_ns: 10,
            expires_ns: 500,
            firing: vec![1, 2],
            resolved: vec![],
        };
        log.set("k".to_owned(), entry.clone());
        assert!(!tell(&log, &[1], &[], 20) && tell(&log, &[3], &[], 20));
        assert!(tell(&log, &[1], &[2], 20));
        assert!(!log.needs_telling("k", &[1], &[2], false, (20, 100)));
        assert!(!tell(&log, &[1], &[], 110) && tell(&log, &[1], &[], 111));
        assert!(tell(&log, &[], &[1, 2], 20));
        log.set(
            "k".to_owned(),
            Entry {
                time_ns: 5,
                firing: vec![],
                ..entry
            },
        );
        assert!(
            tell(&log, &[], &[1, 2], 20),
            "an older entry does not count"
        );
        log.collect_garbage(500);
        assert_eq!(log.all().count(), 0);
    }
}
