//! Slack and what is like it: Rocket.Chat, Mattermost, Telegram.

use serde_json::{Value, json};

use super::{Failure, Sent, With, address, check, check_with, compact, content_type, secret};
use crate::config::{Mattermost, Rocketchat, Slack, SlackAction, SlackField, Telegram};
use crate::template::cut;

/// Fields with their texts rendered; whether they are short is told of each.
fn fields(with: &With<'_>, fields: &[SlackField], short: Option<bool>) -> Value {
    let fields = fields.iter().map(|field| {
        let mut all = compact([
            ("title", Value::from(with.text(&field.title))),
            ("value", Value::from(with.text(&field.value))),
        ]);
        if let Some(short) = field.short.or(short) {
            all.insert("short".to_owned(), Value::from(short));
        }
        Value::from(all)
    });
    fields.collect()
}

fn action(with: &With<'_>, action: &SlackAction) -> Value {
    let text = |template: &str| Value::from(with.text(template));
    let confirm = action.confirm.as_ref().map_or(Value::Null, |confirm| {
        compact([
            ("title", text(&confirm.title)),
            ("text", text(&confirm.text)),
            ("ok_text", text(&confirm.ok_text)),
            ("dismiss_text", text(&confirm.dismiss_text)),
        ])
        .into()
    });
    compact([
        ("type", text(&action.r#type)),
        ("text", text(&action.text)),
        ("url", text(&action.url)),
        ("style", text(&action.style)),
        ("name", text(&action.name)),
        ("value", text(&action.value)),
        ("confirm", confirm),
    ])
    .into()
}

pub(super) async fn slack(with: &With<'_>, section: &Slack) -> Sent {
    let text = |template: &str| Value::from(with.text(template));
    let markdown_in: Value = if section.mrkdwn_in.is_empty() {
        json!(["fallback", "pretext", "text"])
    } else {
        json!(section.mrkdwn_in)
    };
    let actions = section.actions.iter().map(|a| action(with, a));
    let mut attachment = compact([
        ("title", Value::from(cut(with.text(&section.title), 1024))),
        ("title_link", text(&section.title_link)),
        ("pretext", text(&section.pretext)),
        (
            "fields",
            fields(with, &section.fields, Some(section.short_fields)),
        ),
        ("actions", actions.collect()),
        ("image_url", text(&section.image_url)),
        ("thumb_url", text(&section.thumb_url)),
        ("color", text(&section.color)),
        ("mrkdwn_in", markdown_in),
    ]);
    // These stand there even when they are empty.
    for (name, template) in [
        ("text", &section.text),
        ("fallback", &section.fallback),
        ("callback_id", &section.callback_id),
        ("footer", &section.footer),
    ] {
        attachment.insert(name.to_owned(), text(template));
    }
    let channel = with.text(&section.channel);
    let mut body = compact([
        ("channel", Value::from(channel.as_str())),
        ("username", text(&section.username)),
        ("icon_emoji", text(&section.icon_emoji)),
        ("icon_url", text(&section.icon_url)),
        ("link_names", Value::from(section.link_names)),
    ]);
    body.insert("attachments".to_owned(), json!([attachment]));
    let url = address(section.api_url.as_ref(), section.api_url_file.as_deref())?;
    let token = secret(
        section.app_token.as_ref(),
        section.app_token_file.as_deref(),
    )?;
    let answer = with.post_bearing(&url, &Value::from(body), &token).await?;
    let in_channel = |mut failure: Failure| {
        failure.message = format!("channel {channel:?}: {}", failure.message);
        failure
    };
    check(&answer).map_err(in_channel)?;
    // An answer with a good status may still tell of an error.
    let told = String::from_utf8_lossy(&answer.body);
    if content_type(&answer).starts_with("application/json") {
        is_ok(&told, "ok", "Slack").map_err(in_channel)
    } else if told == "ok" {
        Ok(())
    } else {
        let message = format!("received an error response from Slack: {told}");
        Err(in_channel(Failure::lasting(message)))
    }
}

/// Whether the JSON of an answer says that all is well.
fn is_ok(told: &str, field: &str, who: &str) -> Sent {
    let Ok(answer) = serde_json::from_str::<Value>(told) else {
        return Err(Failure::passing(format!(
            "could not unmarshal JSON response {told:?}"
        )));
    };
    if answer[field] == true {
        return Ok(());
    }
    let error = answer["error"].as_str().unwrap_or_default();
    let mut failure = Failure::lasting(format!("error response from {who}: {error}"));
    failure.reason = "clientError";
    Err(failure)
}

pub(super) async fn rocketchat(with: &With<'_>, section: &Rocketchat) -> Sent {
    let text = |template: &str| Value::from(with.text(template));
    let actions = section.actions.iter().map(|action| {
        let mut all = compact([
            ("type", Value::from("button")),
            ("text", text(&action.text)),
            ("url", text(&action.url)),
            ("msg", text(&action.msg)),
        ]);
        all.insert("is_webview".to_owned(), Value::from(false));
        all.insert("msg_in_chat_window".to_owned(), Value::from(false));
        Value::from(all)
    });
    let attachment = compact([
        ("title", Value::from(cut(with.text(&section.title), 1024))),
        ("title_link", text(&section.title_link)),
        ("text", text(&section.text)),
        ("image_url", text(&section.image_url)),
        ("thumb_url", text(&section.thumb_url)),
        ("color", text(&section.color)),
        (
            "fields",
            fields(with, &section.fields, Some(section.short_fields)),
        ),
        ("actions", actions.collect()),
    ]);
    let channel = with.text(&section.channel);
    let mut body = compact([
        ("channel", Value::from(channel.as_str())),
        ("emoji", text(&section.emoji)),
        ("avatar", text(&section.icon_url)),
    ]);
    body.insert("attachments".to_owned(), json!([attachment]));
    let url = section.api_url.as_ref();
    let url = url.map(|url| url.join("api/v1/chat.postMessage"));
    let token = secret(section.token.as_ref(), section.token_file.as_deref())?;
    let id = secret(section.token_id.as_ref(), section.token_id_file.as_deref())?;
    let headers = [("x-auth-token", token.as_str()), ("x-user-id", id.as_str())];
    let answer = with
        .post_with(&url.unwrap_or_default(), &Value::from(body), &headers)
        .await?;
    let in_channel = |mut failure: Failure| {
        failure.message = format!("channel {channel:?}: {}", failure.message);
        failure
    };
    check(&answer).map_err(in_channel)?;
    let told = String::from_utf8_lossy(&answer.body);
    is_ok(&told, "success", "Rocketchat").map_err(in_channel)
}

pub(super) async fn mattermost(with: &With<'_>, section: &Mattermost) -> Sent {
    let text = |template: &str| Value::from(with.text(template));
    let attachments = section.attachments.iter().map(|attachment| {
        Value::from(compact([
            ("fallback", text(&attachment.fallback)),
            ("color", text(&attachment.color)),
            ("pretext", text(&attachment.pretext)),
            ("text", text(&attachment.text)),
            ("author_name", text(&attachment.author_name)),
            ("author_link", text(&attachment.author_link)),
            ("author_icon", text(&attachment.author_icon)),
            ("title", text(&attachment.title)),
            ("title_link", text(&attachment.title_link)),
            ("fields", fields(with, &attachment.fields, None)),
            ("thumb_url", text(&attachment.thumb_url)),
            ("footer", text(&attachment.footer)),
            ("footer_icon", text(&attachment.footer_icon)),
            ("image_url", text(&attachment.image_url)),
        ]))
    });
    let priority = section.priority.as_ref().filter(|p| !p.priority.is_empty());
    let priority = priority.map_or(Value::Null, |priority| {
        let level = with.text(&priority.priority).to_lowercase();
        let level = match level.as_str() {
            "urgent" | "important" => level.as_str(),
            _ => "standard",
        };
        compact([
            ("priority", Value::from(level)),
            (
                "requested_ack",
                Value::from(priority.requested_ack && level != "standard"),
            ),
            (
                "persistent_notifications",
                Value::from(priority.persistent_notifications && level == "urgent"),
            ),
        ])
        .into()
    });
    let props = section.props.as_ref();
    let props = props.map_or(Value::Null, |props| {
        compact([("card", text(&props.card))]).into()
    });
    let mut body = compact([
        ("channel", text(&section.channel)),
        ("username", text(&section.username)),
        ("icon_url", text(&section.icon_url)),
        ("icon_emoji", text(&section.icon_emoji)),
        ("attachments", attachments.collect()),
        ("type", text(&section.r#type)),
        ("props", props),
        ("priority", priority),
    ]);
    let said = cut(with.text(&section.text), 16383);
    body.insert("text".to_owned(), Value::from(said));
    let url = address(
        section.webhook_url.as_ref(),
        section.webhook_url_file.as_deref(),
    )?;
    check(&with.post(&url, &Value::from(body)).await?)
}

pub(super) async fn telegram(with: &With<'_>, section: &Telegram) -> Sent {
    let message = if section.parse_mode == "HTML" {
        with.html(&section.message)
    } else {
        with.text(&section.message)
    };
    let token = secret(
        section.bot_token.as_ref(),
        section.bot_token_file.as_deref(),
    )
    .map_err(|failure| Failure::passing(failure.message))?;
    // Its library sends every value as a text.
    let mut body = compact([
        ("parse_mode", Value::from(section.parse_mode.as_str())),
        ("disable_web_page_preview", Value::from("true")),
    ]);
    body.insert("chat_id".to_owned(), section.chat_id.to_string().into());
    body.insert("text".to_owned(), Value::from(cut(message, 4096)));
    if section.disable_notifications {
        body.insert("disable_notification".to_owned(), Value::from("true"));
    }
    if section.message_thread_id != 0 {
        let thread = section.message_thread_id.to_string();
        body.insert("message_thread_id".to_owned(), Value::from(thread));
    }
    let base = section.api_url.as_ref().map_or("", |url| url.as_str());
    let url = format!("{base}/bot{token}/sendMessage");
    let answer = with.post(&url, &Value::from(body)).await?;
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if told["ok"] == true {
        return Ok(());
    }
    let said = told["description"].as_str().map(str::to_owned);
    let failed = check_with(&answer, &[], |_| said.clone().unwrap_or_default());
    let mut failure = failed.err().unwrap_or_else(|| {
        Failure::passing(
            said.clone()
                .unwrap_or_else(|| "no answer of the bot".to_owned()),
        )
    });
    failure.may_retry = true;
    Err(failure)
}
