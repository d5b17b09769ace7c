//! What is known of all targets, for those who ask how scraping goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use kittiwake_model::{Labels, Metadata};
use parking_lot::Mutex;

/// How a target's last scrape went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LastScrape {
    /// When it began, in ms; 0: there was none yet.
    pub time_ms: i64,
    /// How long it took.
    pub seconds: f64,
    /// Why it failed; empty when it did not.
    pub error: String,
}

/// A target that is scraped.
#[derive(Debug)]
pub struct ActiveTarget {
    /// Its labels as discovered, before relabelling.
    pub discovered: BTreeMap<String, String>,
    /// Labels of all its series.
    pub labels: Labels,
    /// Its address.
    pub url: String,
    /// Time between two scrapes, as a duration's text.
    pub interval: String,
    /// Longest time for one.
    pub timeout: String,
    last: Mutex<LastScrape>,
    metadata: Mutex<BTreeMap<String, Metadata>>,
}

impl ActiveTarget {
    /// A target that has not been scraped yet.
    pub(super) fn new(
        discovered: BTreeMap<String, String>,
        target: &super::target::Target,
    ) -> Arc<Self> {
        Arc::new(Self {
            discovered,
            labels: target.labels.clone(),
            url: target.uri.to_string(),
            interval: kittiwake_config::format_duration(target.interval),
            timeout: kittiwake_config::format_duration(target.timeout),
            last: Mutex::default(),
            metadata: Mutex::default(),
        })
    }

    /// How its last scrape went.
    pub fn last(&self) -> LastScrape {
        self.last.lock().clone()
    }

    /// What it says of its metrics, by name.
    pub fn metadata(&self) -> BTreeMap<String, Metadata> {
        self.metadata.lock().clone()
    }

    pub(super) fn scraped(&self, last: LastScrape) {
        *self.last.lock() = last;
    }

    pub(super) fn describe(&self, name: &str, metadata: &Metadata) {
        self.metadata
            .lock()
            .insert(name.to_owned(), metadata.clone());
    }
}

/// The targets of one job.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    /// Those that are scraped.
    pub active: Vec<Arc<ActiveTarget>>,
    /// Those that a rule drops, as discovered.
    pub dropped: Vec<BTreeMap<String, String>>,
}

/// All targets, by the name of their job.
#[derive(Debug, Default)]
pub struct Targets(Mutex<BTreeMap<String, Pool>>);

impl Targets {
    /// All pools as they are now.
    pub fn pools(&self) -> BTreeMap<String, Pool> {
        self.0.lock().clone()
    }

    pub(super) fn set(&self, job: &str, pool: Pool) {
        self.0.lock().insert(job.to_owned(), pool);
    }

    pub(super) fn remove(&self, job: &str) {
        self.0.lock().remove(job);
    }
}
