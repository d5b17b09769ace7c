//! Silences: alerts that match are not told while one is active.

use std::collections::HashMap;
use std::sync::Arc;

use kittiwake_model::{Labels, MatchOp};

use crate::matchers::{Matcher, all_match};

/// Where a silence is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SilenceState {
    /// It mutes.
    Active,
    /// It will.
    Pending,
    /// It did.
    Expired,
}

impl SilenceState {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Expired => "expired",
        }
    }
}

/// A silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// A UUID; empty for one that is to be made.
    pub id: String,
    /// Which alerts it mutes.
    pub matchers: Vec<Matcher>,
    /// From when on, in ns.
    pub starts_ns: i64,
    /// Until when, in ns.
    pub ends_ns: i64,
    /// When it was changed last, in ns.
    pub updated_ns: i64,
    /// Who made it.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

impl Silence {
    /// Where it is in its life.
    pub fn state(&self, now_ns: i64) -> SilenceState {
        if now_ns < self.starts_ns {
            SilenceState::Pending
        } else if now_ns > self.ends_ns {
            SilenceState::Expired
        } else {
            SilenceState::Active
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.matchers.is_empty() {
            return Err("at least one matcher required".to_owned());
        }
        if let Some(at) = self.matchers.iter().position(|m| m.name().is_empty()) {
            return Err(format!(
                "invalid label matcher {at}: invalid label name \"\""
            ));
        }
        let matches_empty = |matcher: &Matcher| match matcher.op() {
            MatchOp::Equal | MatchOp::Regex => matcher.matches(""),
            MatchOp::NotEqual | MatchOp::NotRegex => false,
        };
        if self.matchers.iter().all(matches_empty) {
            return Err("at least one matcher must not match the empty string".to_owned());
        }
        if self.ends_ns < self.starts_ns {
            return Err("end time must not be before start time".to_owned());
        }
        Ok(())
    }

    fn size_bytes(&self) -> usize {
        let matchers = self.matchers.iter();
        let matchers: usize = matchers.map(|m| m.name().len() + m.value().len() + 8).sum();
        matchers + self.id.len() + self.created_by.len() + self.comment.len() + 64
    }
}

/// Why a silence is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    /// There is none of this name.
    #[error("silence not found")]
    NotFound,
    /// It makes no sense, or is over a limit.
    #[error("{0}")]
    Refused(String),
}

/// Bounds of silences; 0 is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilenceLimits {
    /// How many, those that expired included.
    pub count_max: usize,
    /// Bytes of one.
    pub size_bytes_max: usize,
}

/// All silences.
#[derive(Debug, Default)]
pub struct Silences {
    by_id: HashMap<String, Arc<Silence>>,
    /// How long one is kept after its end, in ns.
    retention_ns: i64,
    limits: SilenceLimits,
}

impl Silences {
    /// None yet.
    pub fn new(retention_ns: i64, limits: SilenceLimits) -> Self {
        Self {
            by_id: HashMap::new(),
            retention_ns,
            limits,
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Silence>> {
        self.by_id.values()
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Option<&Arc<Silence>> {
        self.by_id.get(id)
    }

    /// Puts back one that was kept.
    pub fn restore(&mut self, silence: Silence) {
        let newer = self.by_id.get(&silence.id);
        if newer.is_none_or(|known| known.updated_ns <= silence.updated_ns) {
            self.by_id.insert(silence.id.clone(), Arc::new(silence));
        }
    }

    /// Makes one or changes one, and gives its name. What would change history becomes a new
    /// silence, and the old one expires. `changed` gets all that is to be kept on disk, before
    /// it holds; when it fails, nothing has changed.
    pub fn set<E: From<SilenceError>>(
        &mut self,
        mut silence: Silence,
        now_ns: i64,
        new_id: impl FnOnce() -> String,
        changed: impl FnOnce(&[Arc<Silence>]) -> Result<(), E>,
    ) -> Result<String, E> {
        let refused = |text: String| E::from(SilenceError::Refused(text));
        silence
            .check()
            .map_err(|text| refused(format!("invalid silence: {text}")))?;
        let known = self.by_id.get(&silence.id).cloned();
        if !silence.id.is_empty() && known.is_none() {
            return Err(SilenceError::NotFound.into());
        }
        silence.updated_ns = now_ns;
        let mut all = Vec::new();
        let is_update = known
            .as_ref()
            .is_some_and(|known| can_update(known, &silence, now_ns));
        if !is_update {
            let (count, limit) = (self.by_id.len(), self.limits.count_max);
            if limit > 0 && count >= limit {
                return Err(refused(format!(
                    "exceeded maximum number of silences: {count} (limit: {limit})"
                )));
            }
            silence.id = new_id();
            silence.starts_ns = silence.starts_ns.max(now_ns);
            all.extend(
                known
                    .and_then(|known| expired(&known, now_ns))
                    .map(Arc::new),
            );
        }
        let (size, limit) = (silence.size_bytes(), self.limits.size_bytes_max);
        if limit > 0 && size > limit {
            return Err(refused(format!(
                "silence exceeded maximum size: {size} bytes (limit: {limit} bytes)"
            )));
        }
        let id = silence.id.clone();
        all.push(Arc::new(silence));
        changed(&all)?;
        for silence in all {
            self.by_id.insert(silence.id.clone(), silence);
        }
        Ok(id)
    }

    /// Ends one now.
    pub fn expire<E: From<SilenceError>>(
        &mut self,
        id: &str,
        now_ns: i64,
        changed: impl FnOnce(&[Arc<Silence>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let known = self.by_id.get(id).ok_or(SilenceError::NotFound)?;
        if let Some(silence) = expired(known, now_ns) {
            let silence = Arc::new(silence);
            changed(std::slice::from_ref(&silence))?;
            self.by_id.insert(silence.id.clone(), silence);
        }
        Ok(())
    }

    /// The names of those that mute labels, in order.
    pub fn muting(&self, labels: &Labels, now_ns: i64) -> Vec<String> {
        let active = self.by_id.values().filter(|silence| {
            silence.state(now_ns) == SilenceState::Active && all_match(&silence.matchers, labels)
        });
        let mut ids: Vec<String> = active.map(|silence| silence.id.clone()).collect();
        ids.sort();
        ids
    }

    /// Forgets those that ended long ago.
    pub fn collect_garbage(&mut self, now_ns: i64) {
        let retention_ns = self.retention_ns;
        self.by_id
            .retain(|_, silence| silence.ends_ns.saturating_add(retention_ns) > now_ns);
    }
}

fn can_update(known: &Silence, new: &Silence, now_ns: i64) -> bool {
    let second = |ns: i64| ns.div_euclid(1_000_000_000);
    known.matchers == new.matchers
        && match known.state(now_ns) {
            SilenceState::Active => {
                second(known.starts_ns) == second(new.starts_ns) && new.ends_ns >= now_ns
            }
            SilenceState::Pending => new.starts_ns >= now_ns,
            SilenceState::Expired => false,
        }
}

fn expired(silence: &Silence, now_ns: i64) -> Option<Silence> {
    let mut silence = silence.clone();
    match silence.state(now_ns) {
        SilenceState::Expired => return None,
        SilenceState::Active => silence.ends_ns = now_ns,
        SilenceState::Pending => (silence.starts_ns, silence.ends_ns) = (now_ns, now_ns),
    }
    silence.updated_ns = now_ns;
    Some(silence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(id: &str, starts_ns: i64, ends_ns: i64) -> Silence {
        Silence {
            id: id.to_owned(),
            matchers: crate::matchers::parse("a=b").unwrap(),
            starts_ns,
            ends_ns,
            updated_ns: 0,
            created_by: "me".to_owned(),
            comment: String::new(),
        }
    }

    fn set(
        silences: &mut Silences,
        silence: Silence,
        now_ns: i64,
        id: &str,
    ) -> Result<String, SilenceError> {
        silences.set(silence, now_ns, || id.to_owned(), |_| Ok(()))
    }

    #[test]
    fn what_would_change_history_becomes_a_new_one() {
        let second = 1_000_000_000;
        let mut silences = Silences::new(100 * second, SilenceLimits::default());
        set(&mut silences, silence("", 0, 50 * second), 10 * second, "1").unwrap();
        let made = silences.get("1").unwrap();
        assert_eq!(made.starts_ns, 10 * second);
        let later = silence("1", 10 * second, 60 * second);
        assert_eq!(set(&mut silences, later, 20 * second, "2").unwrap(), "1");
        let other = silence("1", 15 * second, 60 * second);
        assert_eq!(set(&mut silences, other, 20 * second, "2").unwrap(), "2");
        assert_eq!(silences.get("1").unwrap().ends_ns, 20 * second);
        let labels = Labels::from_pairs([("a", "b")]).unwrap();
        assert_eq!(silences.muting(&labels, 30 * second), ["2"]);
        silences
            .expire::<SilenceError>("2", 40 * second, |_| Ok(()))
            .unwrap();
        assert!(silences.muting(&labels, 41 * second).is_empty());
        silences.collect_garbage(120 * second);
        assert!(silences.get("1").is_none() && silences.get("2").is_some());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut silences = Silences::new(
            0,
            SilenceLimits {
                count_max: 1,
                size_bytes_max: 200,
            },
        );
        let of = |text: &str| Silence {
            matchers: crate::matchers::parse(text).unwrap(),
            ..silence("", 0, 10)
        };
        for (bad, want) in [
            (of(""), "at least one matcher required"),
            (
                of("a=~\".*\",b=\"\""),
                "at least one matcher must not match the empty string",
            ),
            (silence("", 10, 5), "end time must not be before start time"),
            (
                Silence {
                    comment: "x".repeat(300),
                    ..of("a=b")
                },
                "maximum size",
            ),
        ] {
            let error = set(&mut silences, bad, 0, "1").unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        let error = set(&mut silences, silence("7", 0, 1), 0, "1");
        assert_eq!(error, Err(SilenceError::NotFound));
        set(&mut silences, of("a=b"), 0, "1").unwrap();
        let error = set(&mut silences, of("a=c"), 0, "2")
            .unwrap_err()
            .to_string();
        assert!(error.contains("exceeded maximum number"), "{error}");
    }
}
