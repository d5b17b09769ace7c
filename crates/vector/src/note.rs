//! What is worth telling the user about values that went into a result.

/// One observation. The engine knows where in the query it belongs and how it is worded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A group has numbers and histograms: it has no result.
    MixedFloatsHistograms,
    /// The aggregation passes histograms over.
    HistogramIgnored,
    /// Histograms with exponential and custom buckets met; the name of the metric.
    MixedSchemas(String),
    /// One histogram was reset, another was not.
    ResetsCollide(HistogramOperation),
    /// Custom bounds differed.
    BoundsReconciled(HistogramOperation),
    /// The operator is not defined between these kinds of values.
    IncompatibleTypes(&'static str, &'static str),
    /// The operator is not defined between exponential and custom buckets.
    IncompatibleBuckets,
}

/// What was done with histograms when something was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum HistogramOperation {
    Add,
    Subtract,
    Aggregate,
}

/// Observations, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes(Vec<Note>);

impl Notes {
    /// Adds one.
    pub fn add(&mut self, note: Note) {
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|note| self.add(note));
    }
}

impl IntoIterator for Notes {
    type Item = Note;
    type IntoIter = std::vec::IntoIter<Note>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
