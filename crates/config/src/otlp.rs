//! The section `otlp`: how metrics of OpenTelemetry become series.

use serde::Deserialize;

use crate::error::{Located, Problem};

/// What becomes of names and units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum TranslationStrategy {
    /// Underscores for what the old scheme doesn't know; suffixes for unit and type.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Names stay as they are; suffixes for unit and type.
    #[serde(rename = "NoUTF8EscapingWithSuffixes")]
    NoUtf8EscapingWithSuffixes,
    /// Underscores for what the old scheme doesn't know; no suffixes.
    UnderscoreEscapingWithoutSuffixes,
    /// Names stay as they are.
    NoTranslation,
}

impl TranslationStrategy {
    /// Whether names get suffixes for unit and type.
    pub fn has_suffixes(self) -> bool {
        matches!(
            self,
            Self::UnderscoreEscapingWithSuffixes | Self::NoUtf8EscapingWithSuffixes
        )
    }

    /// Whether characters that the old scheme doesn't know become underscores.
    pub fn escapes(self) -> bool {
        matches!(
            self,
            Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes
        )
    }
}

/// The checked section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Attributes of a resource that become labels of all its series.
    pub promote_resource_attributes: Vec<String>,
    /// Whether all do, but for `ignore_resource_attributes`.
    pub promote_all_resource_attributes: bool,
    /// Attributes that do not, when all others do.
    pub ignore_resource_attributes: Vec<String>,
    /// What becomes of names.
    pub translation_strategy: TranslationStrategy,
    /// Whether `service.name`, `service.namespace` and `service.instance.id` stay in
    /// `target_info` although they are in `job` and `instance`.
    pub keep_identifying_resource_attributes: bool,
    /// Whether explicit histograms become native ones with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Whether name and version of an instrumentation's scope become labels.
    pub promote_scope_metadata: bool,
    /// Whether labels that begin with one underscore get `key` in front.
    pub label_name_underscore_sanitization: bool,
    /// Whether several underscores in a row stay several.
    pub label_name_preserve_multiple_underscores: bool,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            promote_resource_attributes: Vec::new(),
            promote_all_resource_attributes: false,
            ignore_resource_attributes: Vec::new(),
            translation_strategy: TranslationStrategy::default(),
            keep_identifying_resource_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OtlpFields {
    promote_all_resource_attributes: Option<bool>,
    promote_resource_attributes: Option<Vec<String>>,
    ignore_resource_attributes: Option<Vec<String>>,
    #[serde(default, deserialize_with = "crate::scalar::empty_is_none")]
    translation_strategy: Option<TranslationStrategy>,
    keep_identifying_resource_attributes: Option<bool>,
    convert_histograms_to_nhcb: Option<bool>,
    promote_scope_metadata: Option<bool>,
    label_name_underscore_sanitization: Option<bool>,
    label_name_preserve_multiple_underscores: Option<bool>,
}

impl OtlpFields {
    pub(crate) fn check(self, line: u64) -> Result<OtlpConfig, Located> {
        let trimmed = |names: Option<Vec<String>>| -> Vec<String> {
            let names = names.unwrap_or_default();
            names.iter().map(|name| name.trim().to_owned()).collect()
        };
        let promote = trimmed(self.promote_resource_attributes);
        let ignore = trimmed(self.ignore_resource_attributes);
        let all = self.promote_all_resource_attributes.unwrap_or(false);
        let refuse = |field, value: &str, allowed| {
            let value = value.to_owned();
            Err(Located::new(
                line,
                Problem::Value {
                    field,
                    value,
                    allowed,
                },
            ))
        };
        if all && !promote.is_empty() {
            let allowed = "nothing beside promote_all_resource_attributes";
            return refuse("promote_resource_attributes", &promote[0], allowed);
        }
        if !all && !ignore.is_empty() {
            let allowed = "something only with promote_all_resource_attributes";
            return refuse("ignore_resource_attributes", &ignore[0], allowed);
        }
        for (field, list) in [
            ("promote_resource_attributes", &promote),
            ("ignore_resource_attributes", &ignore),
        ] {
            for (index, name) in list.iter().enumerate() {
                if name.is_empty() || list[..index].contains(name) {
                    return refuse(field, name, "names of attributes, each once");
                }
            }
        }
        Ok(OtlpConfig {
            promote_resource_attributes: promote,
            promote_all_resource_attributes: all,
            ignore_resource_attributes: ignore,
            translation_strategy: self.translation_strategy.unwrap_or_default(),
            keep_identifying_resource_attributes: self
                .keep_identifying_resource_attributes
                .unwrap_or(false),
            convert_histograms_to_nhcb: self.convert_histograms_to_nhcb.unwrap_or(false),
            promote_scope_metadata: self.promote_scope_metadata.unwrap_or(false),
            label_name_underscore_sanitization: self
                .label_name_underscore_sanitization
                .unwrap_or(true),
            label_name_preserve_multiple_underscores: self
                .label_name_preserve_multiple_underscores
                .unwrap_or(true),
        })
    }
}
