//! WeChat, whose messages need a token that is asked for first.

use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Call, Failure, Sent, With, compact};
use crate::config::{Url, Wechat};

/// How long a token is used, in ns.
const TOKEN_NS: i64 = 2 * 3600 * 1_000_000_000;
/// The code of an answer that says that the token is no longer good.
const EXPIRED: i64 = 42001;

/// The token, and when it was given.
#[derive(Debug, Default)]
pub(super) struct Token(Mutex<Option<(String, i64)>>);

async fn token(with: &With<'_>, section: &Wechat, url: &Url) -> Sent<String> {
    let now_ns = with.notice.now_ns;
    // Who comes meanwhile waits for the token that is asked for.
    let mut known = with.sender.wechat.0.lock().await;
    if let Some((token, at_ns)) = &*known
        && now_ns.saturating_sub(*at_ns) <= TOKEN_NS
    {
        return Ok(token.clone());
    }
    let secret = section.api_secret.as_ref().map_or("", |s| s.expose());
    let (secret, id) = (with.text(secret), with.text(&section.corp_id));
    let url = url.with("gettoken", &[("corpid", &id), ("corpsecret", &secret)]);
    let call = Call {
        method: Method::GET,
        url: &url,
        headers: &[],
        body: Vec::new(),
    };
    let answer = with.call(call).await?;
    let told: Value = serde_json::from_slice(&answer.body)
        .map_err(|e| Failure::lasting(format!("no token: {e}")))?;
    let token = told["access_token"].as_str().unwrap_or_default().to_owned();
    if token.is_empty() {
        return Err(Failure::lasting(format!(
            "invalid APISecret for CorpID: {}",
            section.corp_id
        )));
    }
    *known = Some((token.clone(), now_ns));
    Ok(token)
}

pub(super) async fn wechat(with: &With<'_>, section: &Wechat) -> Sent {
    let url = section.api_url.as_ref();
    let url = url.ok_or_else(|| Failure::lasting("no address is set"))?;
    let token = token(with, section, url).await?;
    let said = json!({ "content": with.text(&section.message) });
    let none = json!({ "content": "" });
    let is_markdown = section.message_type == "markdown";
    let (text, markdown) = if is_markdown {
        (none, said)
    } else {
        (said, none)
    };
    let render = |template: &str| Value::from(with.text(template));
    let body = compact([
        ("text", text),
        ("touser", render(&section.to_user)),
        ("toparty", render(&section.to_party)),
        ("totag", render(&section.to_tag)),
        ("agentid", render(&section.agent_id)),
        ("safe", Value::from("0")),
        ("msgtype", Value::from(section.message_type.as_str())),
        ("markdown", markdown),
    ]);
    let url = url.with("message/send", &[("access_token", &token)]);
    let answer = with.post(&url, &Value::from(body)).await?;
    if answer.status.as_u16() != 200 {
        let code = answer.status.as_u16();
        return Err(Failure::passing(format!("unexpected status code {code}")));
    }
    let told: Value = serde_json::from_slice(&answer.body)
        .map_err(|e| Failure::passing(format!("its answer is no JSON: {e}")))?;
    let message = told["errmsg"].as_str().unwrap_or_default();
    match told["errcode"].as_i64().unwrap_or(0) {
        0 => Ok(()),
        EXPIRED => {
            *with.sender.wechat.0.lock().await = None;
            Err(Failure::passing(message))
        }
        _ => Err(Failure::lasting(message)),
    }
}
