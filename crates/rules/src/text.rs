//! Labels and annotations of alerting rules: texts that may be templates.

use std::collections::BTreeMap;
use std::sync::Arc;

use kittiwake_model::Labels;
use kittiwake_template::{Limits, Template, Value};

use crate::functions::RuleFunctions;

/// What stands in front of each template, so that users can write `$labels`.
const VARIABLES: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
                         {{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// A text of a rule.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    /// As it stands.
    Plain(Arc<str>),
    /// With something to fill in.
    Template(Arc<Template>),
    /// A template that does not parse, with what is wrong; a checked rule has none.
    Broken(Arc<str>),
}

/// The name of a template of an alert, as errors have it.
fn template_name(alert: &str) -> String {
    format!("__alert_{alert}")
}

/// Whether a text parses; the error is worded as Go words it.
pub(crate) fn check(alert: &str, text: &str) -> Result<(), String> {
    match parse(alert, text) {
        Text::Broken(error) => Err(error.to_string()),
        _ => Ok(()),
    }
}

pub(crate) fn parse(alert: &str, text: &str) -> Text {
    if !text.contains("{{") {
        return Text::Plain(Arc::from(text));
    }
    let source = format!("{VARIABLES}{text}");
    match Template::parse(&source, &RuleFunctions::NAMED) {
        Ok(template) => Text::Template(Arc::new(template)),
        Err(error) => {
            let name = template_name(alert);
            Text::Broken(format!("template: {name}:{error}").into())
        }
    }
}

/// What a template computes with.
pub(crate) fn data(
    labels: &Labels,
    external_labels: &Labels,
    external_url: &str,
    value: Value,
) -> Value {
    let fields = [
        ("Labels".to_owned(), Value::texts(labels)),
        ("ExternalLabels".to_owned(), Value::texts(external_labels)),
        ("ExternalURL".to_owned(), Value::text(external_url)),
        ("Value".to_owned(), value),
    ];
    Value::Map(Arc::new(BTreeMap::from(fields)), false)
}

impl Text {
    /// Whether there is something to fill in.
    pub(crate) fn is_template(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// Fills in. What goes wrong is said in the text itself, since an alert with a bad
    /// description is better than none.
    /// `report` is called with what went wrong.
    pub(crate) fn expand(
        &self,
        alert: &str,
        data: &Value,
        functions: &RuleFunctions<'_>,
        report: &mut dyn FnMut(&str),
    ) -> String {
        let name = template_name(alert);
        let failed = match self {
            Self::Plain(text) => return text.to_string(),
            Self::Broken(error) => format!("error parsing template {name}: {error}"),
            Self::Template(template) => {
                let mut out = String::new();
                match template.render(data, functions, &Limits::default(), &mut out) {
                    Ok(()) => return out,
                    Err(error) => format!("error executing template {name}: {}", error.told(&name)),
                }
            }
        };
        report(&failed);
        format!("<error expanding template: {failed}>")
    }
}
