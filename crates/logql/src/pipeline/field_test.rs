//! Filters on one field of a line, which a store can try on the field alone.

use std::sync::atomic::{AtomicBool, Ordering};

use kittiwake_model::{FieldFormat, FieldTest, Labels};

use super::label_filter::CompiledFilter;
use super::labels::LineLabels;
use super::{Compiled, Hints, Pipeline};

/// A parser and filters on one label that it makes.
#[derive(Debug)]
pub(crate) struct OneField {
    pipeline: Pipeline,
    hints: Hints,
    format: FieldFormat,
    name: String,
    has_error: AtomicBool,
}

impl OneField {
    /// Nothing when the stages are anything else.
    pub(crate) fn of(pipeline: &Pipeline, hints: &Hints) -> Option<Self> {
        let (parser, filters) = pipeline.stages.split_first()?;
        let format = match parser {
            Compiled::Json => FieldFormat::Json,
            Compiled::Logfmt {
                strict: false,
                keep_empty: false,
            } => FieldFormat::Logfmt,
            _ => return None,
        };
        let mut names = Vec::new();
        for stage in filters {
            match stage {
                Compiled::Label(filter) => filter.names(&mut names)?,
                _ => return None,
            }
        }
        let name = names.pop()?;
        let is_field = !name.starts_with("__") && !name.ends_with("_extracted");
        (is_field && names.iter().all(|n| *n == name)).then(|| Self {
            pipeline: pipeline.clone(),
            hints: hints.clone(),
            format,
            name,
            has_error: AtomicBool::new(false),
        })
    }

    /// Whether a line met an error, which its labels would have told.
    pub(crate) fn has_error(&self) -> bool {
        self.has_error.load(Ordering::Relaxed)
    }
}

impl FieldTest for OneField {
    fn format(&self) -> FieldFormat {
        self.format
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn accepts(&self, value: Option<&str>) -> Option<bool> {
        // Parsers differ in what a field without a value is.
        if value == Some("") {
            return None;
        }
        let filters = self.pipeline.stages.iter().filter_map(|stage| match stage {
            Compiled::Label(filter) => Some(filter),
            _ => None,
        });
        for filter in filters {
            if !filter.accepts_value(value)? {
                return Some(false);
            }
        }
        Some(true)
    }

    fn accepts_line(&self, stream: &Labels, metadata: &Labels, line: &str) -> bool {
        let mut labels = LineLabels::new(stream.clone(), metadata);
        let kept = self.pipeline.run(0, line, &mut labels, &self.hints);
        if kept.is_some() && !(labels.error.is_empty() && labels.error_details.is_empty()) {
            self.has_error.store(true, Ordering::Relaxed);
        }
        kept.is_some()
    }
}

impl CompiledFilter {
    /// Adds the labels that are looked at; nothing when a value alone does not decide.
    fn names(&self, into: &mut Vec<String>) -> Option<()> {
        match self {
            Self::All | Self::Ip(..) => return None,
            Self::Text(matcher) => into.push(matcher.name().to_owned()),
            Self::Number(name, ..) | Self::Duration(name, ..) | Self::Bytes(name, ..) => {
                into.push(name.clone());
            }
            Self::And(left, right) | Self::Or(left, right) => {
                left.names(into)?;
                right.names(into)?;
            }
        }
        Some(())
    }
}
