//! Opsgenie.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::{Call, Failure, Sent, With, body_text, check_with, compact, json_bytes, secret};
use crate::config::Opsgenie;
use crate::template::cut;

/// The parts between commas that are not empty.
fn split(text: &str) -> Value {
    let parts = text.trim().split(',');
    parts.filter(|part| !part.is_empty()).collect()
}

fn responders(with: &With<'_>, section: &Opsgenie) -> Value {
    let mut all = Vec::new();
    for responder in &section.responders {
        let text = |template: &str| with.text(template);
        let (id, name, username) = (
            text(&responder.id),
            text(&responder.name),
            text(&responder.username),
        );
        let kind = text(&responder.r#type);
        if [&id, &name, &username, &kind].iter().all(|t| t.is_empty()) {
            continue;
        }
        if kind == "teams" {
            let teams = name.trim().split(',').filter(|team| !team.is_empty());
            all.extend(teams.map(|team| json!({ "name": team, "type": "team" })));
            continue;
        }
        let mut fields = compact([
            ("id", Value::from(id)),
            ("name", Value::from(name)),
            ("username", Value::from(username)),
        ]);
        fields.insert("type".to_owned(), Value::from(kind));
        all.push(Value::from(fields));
    }
    Value::from(all)
}

fn details(with: &With<'_>, section: &Opsgenie) -> Map<String, Value> {
    let common = with.notice.data.common_labels();
    let common = common.iter();
    let mut details: Map<String, Value> = common
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    for (name, template) in &section.details {
        details.insert(name.clone(), Value::from(with.text(template)));
    }
    details
}

pub(super) async fn opsgenie(with: &With<'_>, section: &Opsgenie) -> Sent {
    let url = section.api_url.as_ref();
    let url = url.ok_or_else(|| Failure::lasting("no address is set"))?;
    let alias = with.notice.key_hash();
    let by_alias = [("identifierType", "alias")];
    let text = |template: &str| Value::from(with.text(template));
    let mut requests = Vec::new();
    if with.is_firing() {
        let message = cut(with.text(&section.message), 130);
        let description = text(&section.description);
        let mut body = compact([
            ("description", description.clone()),
            ("responders", responders(with, section)),
            ("tags", split(&with.text(&section.tags))),
            ("note", text(&section.note)),
            ("priority", text(&section.priority)),
            ("entity", text(&section.entity)),
            ("actions", split(&with.text(&section.actions))),
        ]);
        body.insert("alias".to_owned(), Value::from(alias.as_str()));
        body.insert("message".to_owned(), Value::from(message.as_str()));
        body.insert("details".to_owned(), details(with, section).into());
        body.insert("source".to_owned(), text(&section.source));
        requests.push((Method::POST, url.with("v2/alerts", &[]), Value::from(body)));
        if section.update_alerts {
            for (what, value) in [
                ("message", Value::from(message)),
                ("description", description),
            ] {
                let url = url.with(&format!("v2/alerts/{alias}/{what}"), &by_alias);
                let body = compact([(what, value)]);
                requests.push((Method::PUT, url, Value::from(body)));
            }
        }
    } else {
        let url = url.with(&format!("v2/alerts/{alias}/close"), &by_alias);
        let body = json!({ "source": with.text(&section.source) });
        requests.push((Method::POST, url, body));
    }
    let key = secret(section.api_key.as_ref(), section.api_key_file.as_deref())?;
    let authorization = format!("GenieKey {}", with.text(&key));
    for (method, url, body) in requests {
        let call = Call {
            method,
            url: &url,
            headers: &[
                ("content-type", "application/json"),
                ("authorization", &authorization),
            ],
            body: json_bytes(&body),
        };
        check_with(&with.call(call).await?, &[429], body_text)?;
    }
    Ok(())
}
