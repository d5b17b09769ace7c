//! What the sections of a receiver have in common.

use kittiwake_config::HttpSettings;
use serde_saphyr::Spanned;

use super::global::Global;

/// The settings of one way to notify.
pub(super) trait Section {
    /// Refuses what makes no sense, and takes from the global settings what is not set here.
    fn complete(&mut self, global: &Global) -> Result<(), String>;

    /// Whether it tells of what is over.
    fn send_resolved(&self) -> bool;

    /// How to speak HTTP, taken out.
    fn http(&mut self) -> Option<Spanned<HttpSettings>>;
}

/// Makes a section: a struct whose fields have a default each, which also stands for null. Fields
/// that it doesn't have are refused.
macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($field:ident : $ty:ty = $default:expr),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        #[allow(missing_docs)] // The fields are those of the file.
        pub struct $name { $(pub $field: $ty),* }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Fields { $($field: Option<$ty>),* }
                let fields = Fields::deserialize(deserializer)?;
                Ok(Self { $($field: fields.$field.unwrap_or_else(|| $default.into())),* })
            }
        }
    };
}
pub(super) use section;

/// Makes a section one of a receiver: `complete` checks and completes it.
macro_rules! notifies {
    ($name:ident, $complete:expr) => {
        impl crate::config::section::Section for $name {
            fn complete(&mut self, global: &Global) -> Result<(), String> {
                let complete: fn(&mut Self, &Global) -> Result<(), String> = $complete;
                complete(self, global)
            }

            fn send_resolved(&self) -> bool {
                self.send_resolved
            }

            fn http(&mut self) -> Option<serde_saphyr::Spanned<kittiwake_config::HttpSettings>> {
                self.http_config.take()
            }
        }
    };
}
pub(super) use notifies;

/// Fails unless exactly one of two is set.
pub(super) fn one_of(first: (&str, bool), second: (&str, bool)) -> Result<(), String> {
    if !first.1 && !second.1 {
        return Err(format!(
            "one of {} or {} must be configured",
            first.0, second.0
        ));
    }
    not_both(first, second)
}

/// Fails if both of two are set.
pub(super) fn not_both(first: (&str, bool), second: (&str, bool)) -> Result<(), String> {
    if first.1 && second.1 {
        return Err(format!(
            "at most one of {} & {} must be configured",
            first.0, second.0
        ));
    }
    Ok(())
}
