//! Templates of notifications.

mod data;
mod defaults;
mod functions;
mod json;

use std::path::PathBuf;

use kittiwake_config::glob::matching_files;
use kittiwake_config::read_file;
use kittiwake_template::{Limits, Template, Value};

pub use data::{Data, Told, ZERO_TIME, pairs_json, rfc3339};
use functions::Set;
pub(crate) use json::rendered;

/// What a rendering may cost; a mail of thousands of alerts fits.
const LIMITS: Limits = Limits {
    output_bytes_max: 8 << 20,
    steps_max: 2_000_000,
};

/// Why templates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file cannot be read.
    #[error("{0}")]
    Read(String),
    /// A file does not parse.
    #[error("{}:{line}: {message}", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// Checks that a text parses.
pub fn parse(text: &str) -> Result<(), String> {
    Template::parse(text, &Set { now_ns: 0 })
        .map(|_| ())
        .map_err(|e| e.to_string())
}

/// The templates that texts of the configuration may call.
#[derive(Debug, Clone)]
pub struct Templates {
    all: Template,
}

impl Templates {
    /// The default ones, and those of files that patterns name. Later definitions win.
    pub fn load(patterns: &[PathBuf]) -> Result<Self, TemplateError> {
        let set = Set { now_ns: 0 };
        let mut all = Template::parse(defaults::TEXT, &set)
            .and_then(|text| Ok(Template::parse(&defaults::mail(), &set)?.within(&text)))
            .map_err(|e| TemplateError::Parse {
                file: "default templates".into(),
                line: e.line,
                message: e.message,
            })?;
        for pattern in patterns {
            let files = matching_files(pattern)
                .map_err(|e| TemplateError::Read(format!("{}: {e}", pattern.display())))?;
            for file in files {
                let text = read_file(&file).map_err(|e| TemplateError::Read(e.to_string()))?;
                let parsed = Template::parse(&text, &set).map_err(|e| TemplateError::Parse {
                    file: file.clone(),
                    line: e.line,
                    message: e.message,
                })?;
                let name = file.file_name().and_then(|name| name.to_str());
                all = parsed.called(name.unwrap_or_default()).within(&all);
            }
        }
        Ok(Self { all })
    }

    /// Renders texts for data, at a time.
    pub fn at<'a>(&'a self, value: &'a Value, now_ns: i64) -> Renderer<'a> {
        Renderer {
            templates: self,
            value,
            set: Set { now_ns },
        }
    }
}

/// Renders texts for data.
#[derive(Debug, Clone, Copy)]
pub struct Renderer<'a> {
    templates: &'a Templates,
    value: &'a Value,
    set: Set,
}

impl Renderer<'_> {
    /// A text. What fails is cut there, and says so: whoever is to be told must be told.
    pub fn text(&self, text: &str) -> String {
        self.render(text, false)
    }

    /// HTML.
    pub fn html(&self, text: &str) -> String {
        self.render(text, true)
    }

    fn render(&self, text: &str, is_html: bool) -> String {
        let mut out = String::new();
        if text.is_empty() {
            return out;
        }
        if !text.contains("{{") && !is_html {
            return text.to_owned();
        }
        let parsed = Template::parse(text, &self.set);
        let failed = match parsed {
            Err(error) => Some(error.to_string()),
            Ok(template) => {
                let template = template.within(&self.templates.all);
                let done = if is_html {
                    template.render_html(self.value, &self.set, &LIMITS, &mut out)
                } else {
                    template.render(self.value, &self.set, &LIMITS, &mut out)
                };
                done.err().map(|error| error.told(""))
            }
        };
        if let Some(error) = failed {
            tracing::warn!(
                template = text,
                error,
                "a template of a notification failed"
            );
            let error = if is_html {
                error.replace('&', "&amp;").replace('<', "&lt;")
            } else {
                error
            };
            out.push_str("[template failed: ");
            out.push_str(&error);
            out.push(']');
        }
        out
    }
}

/// As many characters as fit, the last one an ellipsis where some are left out.
pub(crate) fn cut(text: String, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text;
    }
    let keep = if chars_max <= 3 {
        chars_max
    } else {
        chars_max - 1
    };
    let mut short: String = text.chars().take(keep).collect();
    if chars_max > 3 {
        short.push('…');
    }
    short
}
