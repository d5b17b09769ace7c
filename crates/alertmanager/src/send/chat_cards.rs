//! Chats that show cards: Discord, Microsoft Teams; and Webex.

use serde_json::{Value, json};

use super::{Sent, With, address, check, compact};
use crate::config::{Discord, Msteams, Msteamsv2, Webex};
use crate::template::cut;

/// Bytes of a message of Webex.
const WEBEX_BYTES_MAX: usize = 7439;

pub(super) async fn discord(with: &With<'_>, section: &Discord) -> Sent {
    const RED: u32 = 0x0099_2D22;
    const GREEN: u32 = 0x002E_CC71;
    let color = if with.is_firing() { RED } else { GREEN };
    let mut body = compact([
        ("username", Value::from(section.username.as_str())),
        ("avatar_url", Value::from(section.avatar_url.as_str())),
    ]);
    let content = cut(with.text(&section.content), 2000);
    body.insert("content".to_owned(), Value::from(content));
    let embed = json!({
        "title": cut(with.text(&section.title), 256),
        "description": cut(with.text(&section.message), 4096),
        "color": color,
    });
    body.insert("embeds".to_owned(), json!([embed]));
    let url = address(
        section.webhook_url.as_ref(),
        section.webhook_url_file.as_deref(),
    )?;
    check(&with.post(&url, &Value::from(body)).await?)
}

pub(super) async fn msteams(with: &With<'_>, section: &Msteams) -> Sent {
    let body = json!({
        "@context": "http://schema.org/extensions",
        "type": "MessageCard",
        "title": with.text(&section.title),
        "summary": with.text(&section.summary),
        "text": with.text(&section.text),
        "themeColor": if with.is_firing() { "8C1A1A" } else { "2DC72D" },
    });
    let url = address(
        section.webhook_url.as_ref(),
        section.webhook_url_file.as_deref(),
    )?;
    check(&with.post(&url, &body).await?)
}

pub(super) async fn msteamsv2(with: &With<'_>, section: &Msteamsv2) -> Sent {
    let title = json!({
        "type": "TextBlock",
        "text": with.text(&section.title),
        "weight": "Bolder",
        "size": "Medium",
        "wrap": true,
        "style": "heading",
        "color": if with.is_firing() { "Attention" } else { "Good" },
    });
    let text = json!({
        "type": "TextBlock",
        "text": with.text(&section.text),
        "wrap": true,
    });
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": [title, text],
        "msteams": { "width": "full" },
    });
    let body = json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    });
    let url = address(
        section.webhook_url.as_ref(),
        section.webhook_url_file.as_deref(),
    )?;
    check(&with.post(&url, &body).await?)
}

pub(super) async fn webex(with: &With<'_>, section: &Webex) -> Sent {
    let message = cut_bytes(with.text(&section.message));
    let mut body = compact([("roomId", Value::from(with.text(&section.room_id)))]);
    body.insert("markdown".to_owned(), Value::from(message));
    let url = section.api_url.as_ref().map_or("", |url| url.as_str());
    check(&with.post(url, &Value::from(body)).await?)
}

fn cut_bytes(text: String) -> String {
    const MARK: char = '…';
    if text.len() <= WEBEX_BYTES_MAX {
        return text;
    }
    let mut keep = WEBEX_BYTES_MAX - MARK.len_utf8();
    while !text.is_char_boundary(keep) {
        keep -= 1;
    }
    let mut short = text;
    short.truncate(keep);
    short.push(MARK);
    short
}
