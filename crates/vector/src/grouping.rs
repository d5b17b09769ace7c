//! Which labels make two series one group: `by`, `without`, `on`, `ignoring`.

use kittiwake_model::{Labels, labels::METRIC_NAME};

/// A rule that maps labels to the labels of their group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    /// Only these labels count: `by (…)`, `on (…)`.
    By(Vec<String>),
    /// All labels but these and the metric's name count: `without (…)`, `ignoring (…)`.
    Without(Vec<String>),
}

impl Grouping {
    /// The labels of the group that `labels` belong to.
    pub fn key(&self, labels: &Labels) -> Labels {
        match self {
            Self::By(names) => labels.filtered(|name| names.iter().any(|n| n == name)),
            Self::Without(names) => {
                labels.without(|name| name == METRIC_NAME || names.iter().any(|n| n == name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_keeps_the_name_only_when_asked_and_without_never()
    -> Result<(), Box<dyn std::error::Error>> {
        let labels = Labels::from_pairs([(METRIC_NAME, "up"), ("a", "1"), ("b", "2")])?;
        let a = Labels::from_pairs([("a", "1")])?;
        assert_eq!(Grouping::By(vec!["a".into()]).key(&labels), a);
        assert_eq!(Grouping::Without(vec!["b".into()]).key(&labels), a);
        Ok(())
    }
}
