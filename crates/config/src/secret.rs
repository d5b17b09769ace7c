//! Passwords and tokens: kept so that no log or error shows them.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A text that prints as `<secret>`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// It stands in the configuration.
    Inline(Secret),
    /// It stands in a file, which is read for each use, so that it can be changed.
    File(PathBuf),
}

impl SecretSource {
    /// The one that is given; an empty one counts as none, as in Prometheus.
    pub(crate) fn one_of(
        inline: Option<Secret>,
        file: Option<PathBuf>,
        dir: &Path,
    ) -> Option<Self> {
        let inline = inline.filter(|s| !s.0.is_empty()).map(Self::Inline);
        let file = file.filter(|f| !f.as_os_str().is_empty());
        inline.or_else(|| file.map(|f| Self::File(dir.join(f))))
    }
}
