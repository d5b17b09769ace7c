//! Webhooks, incident.io, PagerDuty, VictorOps and Pushover.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::{Call, Failure, Sent, With, address, check, check_with, compact, json_bytes, secret};
use crate::config::{Incidentio, Pagerduty, Pushover, Victorops, Webhook};
use crate::template::{cut, rendered};

/// Bytes of a message to incident.io.
const INCIDENTIO_BYTES_MAX: usize = 512 * 1024;
/// Bytes of an event of PagerDuty.
const PAGERDUTY_BYTES_MAX: usize = 512_000;

fn message(with: &With<'_>, version: &str, alerts_max: u64) -> Value {
    let data = with.notice.data;
    let all = data.alerts.len() as u64;
    let told = match alerts_max {
        0 => all,
        most => all.min(most),
    };
    // What the first alerts have in common is told, as Alertmanager does.
    let shown = crate::template::Data {
        alerts: data.alerts[..told as usize].to_vec(),
        ..data.clone()
    };
    let mut message = shown.json(usize::MAX);
    message["version"] = Value::from(version);
    message["groupKey"] = Value::from(with.notice.group_key);
    message["truncatedAlerts"] = Value::from(all - told);
    message
}

pub(super) async fn webhook(with: &With<'_>, section: &Webhook) -> Sent {
    let body = message(with, "4", section.max_alerts);
    let url = address(section.url.as_ref(), section.url_file.as_deref())?;
    check(&with.post(&url, &body).await?)
}

pub(super) async fn incidentio(with: &With<'_>, section: &Incidentio) -> Sent {
    let mut body = message(with, "1", section.max_alerts);
    if json_bytes(&body).len() > INCIDENTIO_BYTES_MAX
        && let Some(alerts) = body["alerts"].as_array_mut()
    {
        alerts.truncate(1);
        tracing::warn!("alerts beyond the first are left out: incident.io takes no more");
    }
    let url = match &section.url {
        Some(url) => url.as_str().to_owned(),
        None => address(None, section.url_file.as_deref())?,
    };
    let token = secret(
        section.alert_source_token.as_ref(),
        section.alert_source_token_file.as_deref(),
    )?;
    let answer = with.post_bearing(&url, &body, &token).await?;
    check_with(&answer, &[429], |answer| {
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        let parts = [text("message"), text("error"), errors(&told, ", ")];
        let parts: Vec<String> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        parts.join(": ")
    })
}

fn errors(told: &Value, between: &str) -> String {
    let errors = told["errors"].as_array().into_iter().flatten();
    let errors: Vec<&str> = errors.filter_map(Value::as_str).collect();
    errors.join(between)
}

pub(super) async fn pagerduty(with: &With<'_>, section: &Pagerduty) -> Sent {
    let is_firing = with.is_firing();
    let action = if is_firing { "trigger" } else { "resolve" };
    let render = |text: &str| with.text(text);
    let details = section.details.iter();
    let details: Map<String, Value> = details
        .map(|(name, value)| (name.clone(), rendered(value, &render)))
        .collect();
    let is_v1 = section.service_key.is_some() || section.service_key_file.is_some();
    let text = |template: &str| Value::from(with.text(template));
    let summary = Value::from(cut(with.text(&section.description), 1024));
    let hash = with.notice.key_hash();
    let (url, retry, mut body) = if is_v1 {
        let key = secret(
            section.service_key.as_ref(),
            section.service_key_file.as_deref(),
        )?;
        let key = with.text(&key);
        if key.is_empty() {
            return Err(Failure::lasting("service key cannot be empty"));
        }
        let mut body = compact([
            ("service_key", Value::from(key)),
            ("event_type", Value::from(action)),
            ("incident_key", Value::from(hash)),
            ("description", summary),
            ("details", Value::from(details)),
            (
                "client",
                if is_firing {
                    text(&section.client)
                } else {
                    Value::Null
                },
            ),
            (
                "client_url",
                if is_firing {
                    text(&section.client_url)
                } else {
                    Value::Null
                },
            ),
        ]);
        // These stand in every event, whichever version.
        body.insert("event_action".to_owned(), Value::from(""));
        body.insert("payload".to_owned(), Value::Null);
        let url = "https://events.pagerduty.com/generic/2010-04-15/create_event.json";
        (url, 403, body)
    } else {
        let key = secret(
            section.routing_key.as_ref(),
            section.routing_key_file.as_deref(),
        )?;
        let key = with.text(&key);
        if key.is_empty() {
            return Err(Failure::lasting("routing key cannot be empty"));
        }
        let mut payload = compact([
            ("class", text(&section.class)),
            ("component", text(&section.component)),
            ("group", text(&section.group)),
            ("custom_details", Value::from(details)),
        ]);
        payload.insert("summary".to_owned(), summary);
        payload.insert("source".to_owned(), text(&section.source));
        payload.insert("severity".to_owned(), text(&section.severity));
        let images = section.images.iter().map(|image| {
            json!({
                "src": with.text(&image.src),
                "alt": with.text(&image.alt),
                "href": with.text(&image.href),
            })
        });
        let links = section
            .links
            .iter()
            .map(|link| json!({ "href": with.text(&link.href), "text": with.text(&link.text) }));
        let mut body = compact([
            ("client", text(&section.client)),
            ("client_url", text(&section.client_url)),
            ("routing_key", Value::from(key)),
            ("dedup_key", Value::from(hash)),
            ("images", images.filter(|i| i["src"] != "").collect()),
            ("links", links.filter(|l| l["href"] != "").collect()),
        ]);
        body.insert("event_action".to_owned(), Value::from(action));
        body.insert("payload".to_owned(), Value::from(payload));
        let url = section.url.as_ref().map_or("", |url| url.as_str());
        (url, 429, body)
    };
    if json_bytes(&Value::from(body.clone())).len() > PAGERDUTY_BYTES_MAX {
        let note = json!({
            "error": "Custom details have been removed because the original event exceeds the maximum size of 512KB"
        });
        if is_v1 {
            body.insert("details".to_owned(), note);
        } else if let Some(payload) = body.get_mut("payload") {
            payload["custom_details"] = note;
        }
    }
    let answer = with.post(url, &Value::from(body)).await?;
    check_with(&answer, &[retry], |answer| {
        if answer.status.as_u16() != 400 {
            return String::new();
        }
        let Ok(told) = serde_json::from_slice::<Value>(&answer.body) else {
            return String::new();
        };
        let message = told["message"].as_str().unwrap_or_default();
        format!("{message}: {}", errors(&told, ","))
    })
}

pub(super) async fn victorops(with: &With<'_>, section: &Victorops) -> Sent {
    let key = secret(section.api_key.as_ref(), section.api_key_file.as_deref())?;
    let tail = format!("{key}/{}", with.text(&section.routing_key));
    let url = section.api_url.as_ref().map(|url| url.with(&tail, &[]));
    let told = with.text(&section.message_type);
    let message_type = match (with.is_firing(), told.as_str()) {
        (false, _) => "RECOVERY",
        (true, "INFO" | "WARNING" | "CRITICAL") => &told,
        (true, _) => "CRITICAL",
    };
    let mut body = json!({
        "message_type": message_type,
        "entity_id": with.notice.key_hash(),
        "entity_display_name": with.text(&section.entity_display_name),
        "state_message": cut(with.text(&section.state_message), 20480),
        "monitoring_tool": with.text(&section.monitoring_tool),
    });
    for (name, template) in &section.custom_fields {
        body[name] = Value::from(with.text(template));
    }
    check(&with.post(&url.unwrap_or_default(), &body).await?)
}

pub(super) async fn pushover(with: &With<'_>, section: &Pushover) -> Sent {
    let token = secret(section.token.as_ref(), section.token_file.as_deref())?;
    let user = secret(section.user_key.as_ref(), section.user_key_file.as_deref())?;
    let message = if section.html {
        with.html(&section.message)
    } else {
        with.text(&section.message)
    };
    let message = cut(message, 1024);
    let message = match message.trim() {
        "" => "(no details)",
        message => message,
    };
    let seconds = |timeout: crate::config::Timeout| timeout.0.as_secs().to_string();
    // In order of their names, as Go puts them.
    let mut parameters = vec![
        ("device", with.text(&section.device)),
        ("expire", seconds(section.expire)),
    ];
    if section.html {
        parameters.push(("html", "1".to_owned()));
    }
    parameters.push(("message", message.to_owned()));
    if section.monospace {
        parameters.push(("monospace", "1".to_owned()));
    }
    parameters.extend([
        ("priority", with.text(&section.priority)),
        ("retry", seconds(section.retry)),
        ("sound", with.text(&section.sound)),
        ("title", cut(with.text(&section.title), 250)),
        ("token", with.text(&token)),
    ]);
    if section.ttl.0.as_secs() > 0 {
        parameters.push(("ttl", seconds(section.ttl)));
    }
    parameters.extend([
        ("url", cut(with.text(&section.url), 512)),
        ("url_title", with.text(&section.url_title)),
        ("user", with.text(&user)),
    ]);
    let query: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", kittiwake_template::urlquery(value)))
        .collect();
    let url = format!(
        "https://api.pushover.net/1/messages.json?{}",
        query.join("&")
    );
    let call = Call {
        method: Method::POST,
        url: &url,
        headers: &[("content-type", "text/plain")],
        body: Vec::new(),
    };
    check(&with.call(call).await?)
}
