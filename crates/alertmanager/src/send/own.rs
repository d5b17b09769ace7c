//! Ways to notify that Alertmanager has not: ntfy, Gotify, Matrix.

use hyper::Method;
use serde_json::{Value, json};

use super::{Call, Sent, With, address, body_text, check, check_with, compact, json_bytes, secret};
use crate::config::{Gotify, Matrix, Ntfy};
use crate::template::cut;

/// Bytes of a message of ntfy, which makes a file of a longer one.
const NTFY_CHARS_MAX: usize = 1300;

pub(super) async fn ntfy(with: &With<'_>, section: &Ntfy) -> Sent {
    let text = |template: &str| Value::from(with.text(template));
    let tags = with.text(&section.tags);
    let tags: Vec<&str> = tags
        .split(',')
        .map(str::trim)
        .filter(|t| !t.is_empty())
        .collect();
    let priority = with.text(&section.priority);
    let mut body = compact([
        ("title", text(&section.title)),
        ("tags", json!(tags)),
        ("click", text(&section.click)),
    ]);
    body.insert("topic".to_owned(), Value::from(section.topic.as_str()));
    let message = cut(with.text(&section.message), NTFY_CHARS_MAX);
    body.insert("message".to_owned(), Value::from(message));
    if let Ok(number) = priority.trim().parse::<u8>() {
        body.insert("priority".to_owned(), Value::from(number));
    }
    let url = address(section.url.as_ref(), None)?;
    let token = secret(section.token.as_ref(), section.token_file.as_deref())?;
    let answer = with.post_bearing(&url, &Value::from(body), &token).await?;
    check_with(&answer, &[429], body_text)
}

pub(super) async fn gotify(with: &With<'_>, section: &Gotify) -> Sent {
    let priority = with.text(&section.priority).trim().parse::<i64>();
    let body = json!({
        "title": with.text(&section.title),
        "message": with.text(&section.message),
        "priority": priority.unwrap_or(5),
    });
    let url = address(section.url.as_ref(), None)?;
    let url = format!("{}/message", url.trim_end_matches('/'));
    let token = secret(section.token.as_ref(), section.token_file.as_deref())?;
    let headers = [("x-gotify-key", token.as_str())];
    check(&with.post_with(&url, &body, &headers).await?)
}

pub(super) async fn matrix(with: &With<'_>, section: &Matrix) -> Sent {
    let body = json!({ "msgtype": "m.text", "body": with.text(&section.message) });
    let url = address(section.url.as_ref(), None)?;
    let room = kittiwake_template::urlquery(&section.room_id);
    // The same event may be sent again: the server knows it by this name.
    let event = format!("{}-{}", with.notice.key_hash(), with.notice.now_ns);
    let url = format!(
        "{}/_matrix/client/v3/rooms/{room}/send/m.room.message/{event}",
        url.trim_end_matches('/')
    );
    let token = secret(
        section.access_token.as_ref(),
        section.access_token_file.as_deref(),
    )?;
    let authorization = format!("Bearer {token}");
    let call = Call {
        method: Method::PUT,
        url: &url,
        headers: &[
            ("content-type", "application/json"),
            ("authorization", &authorization),
        ],
        body: json_bytes(&body),
    };
    check_with(&with.call(call).await?, &[429], body_text)
}
