//! Groups of LogQL, as Loki's ruler shows them.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use kittiwake_config::{format_duration, yaml_of};
use kittiwake_rules::{Group, Language, RuleKind};
use serde_json::{Map, Value, json};

use super::api::{Wanted, alerts_of};
use crate::app::App;
use crate::loki_api::LokiProblem;
use crate::prometheus_api::params;
use crate::reply::json as json_reply;

fn answer(data: &Value) -> Response {
    json_reply(format!(
        r#"{{"status":"success","data":{data},"errorType":"","error":""}}"#
    ))
}

/// `/prometheus/api/v1/rules`
pub async fn prometheus_rules(
    State(app): State<App>,
    request: Request<Body>,
) -> Result<Response, LokiProblem> {
    let params = params(request).await?;
    let wanted = Wanted::read(&params)?;
    Ok(answer(&wanted.groups(&app.rules, Language::LogQl)?))
}

/// `/prometheus/api/v1/alerts`
pub async fn prometheus_alerts(State(app): State<App>) -> Response {
    answer(&alerts_of(&app.rules, Language::LogQl))
}

/// `/loki/api/v1/rules`: all groups by file, in YAML.
pub async fn rules(State(app): State<App>) -> Response {
    let mut files: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for group in app.rules.groups() {
        if group.language == Language::LogQl {
            let shown = group_value(&group);
            files.entry(group.file.clone()).or_default().push(shown);
        }
    }
    if files.is_empty() {
        return none();
    }
    yaml(&json!(files))
}

/// `/loki/api/v1/rules/{file}` and `/loki/api/v1/rules/{file}/{group}`: the file's name is
/// written with its slashes escaped.
pub async fn rules_below(State(app): State<App>, Path(rest): Path<String>) -> Response {
    let mut shown = Vec::new();
    for group in app.rules.groups() {
        if group.language != Language::LogQl {
            continue;
        }
        if rest == group.file {
            shown.push(group_value(&group));
        } else if rest == format!("{}/{}", group.file, group.name) {
            return yaml(&group_value(&group));
        }
    }
    if shown.is_empty() {
        return none();
    }
    let mut files = Map::new();
    files.insert(rest, Value::Array(shown));
    yaml(&Value::Object(files))
}

/// Loki's answer when it has no rules.
fn none() -> Response {
    (StatusCode::NOT_FOUND, "no rule groups found\n").into_response()
}

fn yaml(value: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/yaml")];
    (kind, yaml_of(value)).into_response()
}

fn group_value(group: &Group) -> Value {
    let rules: Vec<Value> = group
        .rules
        .iter()
        .map(|rule| {
            let mut fields = Map::new();
            let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
            let kind = match rule.kind {
                RuleKind::Record => "record",
                RuleKind::Alert => "alert",
            };
            set(kind, Value::from(rule.name.as_str()));
            set("expr", Value::from(rule.query.text()));
            for (name, duration) in [
                ("for", rule.hold),
                ("keep_firing_for", rule.keep_firing_for),
            ] {
                if !duration.is_zero() {
                    set(name, Value::from(format_duration(duration)));
                }
            }
            for (name, texts) in [("labels", &rule.labels), ("annotations", &rule.annotations)] {
                if !texts.is_empty() {
                    set(name, json!(texts));
                }
            }
            Value::Object(fields)
        })
        .collect();
    let mut fields = json!({
        "name": group.name,
        "interval": format_duration(group.interval),
        "rules": rules,
    });
    if group.limit > 0 {
        fields["limit"] = Value::from(group.limit);
    }
    fields
}
