//! Sending: what goes over the wire to each kind of receiver is what Alertmanager sends.

mod aws;
mod chat;
mod chat_cards;
mod hmac;
mod jira;
mod mail;
mod mime;
mod own;
mod paging;
mod smtp;
mod ticket;
mod wechat;

use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Uri};
use kittiwake_client::{Answer, Ask, Client};
use kittiwake_config::Secret;
use kittiwake_template::Value as TemplateValue;
use serde_json::{Map, Value};

use crate::config::{Integration, Receiver, SecretUrl, Way};
use crate::template::{Data, Renderer, Templates};

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a file with a secret.
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// Why a notification was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What happened.
    pub message: String,
    /// Whether it may go well another time.
    pub may_retry: bool,
    /// Whose fault it is, as Alertmanager counts it.
    pub reason: &'static str,
}

impl Failure {
    fn lasting(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            may_retry: false,
            reason: "other",
        }
    }

    fn passing(message: impl Into<String>) -> Self {
        Self {
            may_retry: true,
            ..Self::lasting(message)
        }
    }
}

type Sent<T = ()> = Result<T, Failure>;

/// One notification.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// What is told.
    pub data: &'a Data,
    /// The key of the group.
    pub group_key: &'a str,
    /// What texts are rendered with.
    pub templates: &'a Templates,
    /// Now, in ns.
    pub now_ns: i64,
}

impl Notice<'_> {
    /// The key of the group in a form that is short.
    fn key_hash(&self) -> String {
        use sha2::Digest as _;
        hmac::hex(&sha2::Sha256::digest(self.group_key.as_bytes()))
    }
}

/// Someone who is told in one way.
#[derive(Debug)]
pub struct Sender {
    /// The receiver that it belongs to.
    pub receiver: String,
    /// Its settings.
    pub integration: Integration,
    client: Client,
    wechat: wechat::Token,
}

impl Sender {
    /// The senders of a receiver.
    pub fn of(receiver: &Receiver) -> Vec<Self> {
        let integrations = receiver.integrations.iter();
        integrations
            .map(|integration| Self {
                receiver: receiver.name.clone(),
                client: Client::new(integration.http.clone()),
                integration: integration.clone(),
                wechat: wechat::Token::default(),
            })
            .collect()
    }

    /// Sends a notification once.
    pub async fn send(&self, notice: Notice<'_>) -> Sent {
        let value = notice.data.value();
        let with = With {
            sender: self,
            notice,
            value: &value,
        };
        match &self.integration.way {
            Way::Webhook(section) => paging::webhook(&with, section).await,
            Way::Incidentio(section) => paging::incidentio(&with, section).await,
            Way::Pagerduty(section) => paging::pagerduty(&with, section).await,
            Way::Victorops(section) => paging::victorops(&with, section).await,
            Way::Pushover(section) => paging::pushover(&with, section).await,
            Way::Opsgenie(section) => ticket::opsgenie(&with, section).await,
            Way::Jira(section) => jira::jira(&with, section).await,
            Way::Sns(section) => aws::sns(&with, section).await,
            Way::Slack(section) => chat::slack(&with, section).await,
            Way::Rocketchat(section) => chat::rocketchat(&with, section).await,
            Way::Mattermost(section) => chat::mattermost(&with, section).await,
            Way::Telegram(section) => chat::telegram(&with, section).await,
            Way::Webex(section) => chat_cards::webex(&with, section).await,
            Way::Discord(section) => chat_cards::discord(&with, section).await,
            Way::Msteams(section) => chat_cards::msteams(&with, section).await,
            Way::Msteamsv2(section) => chat_cards::msteamsv2(&with, section).await,
            Way::Wechat(section) => wechat::wechat(&with, section).await,
            Way::Email(section) => mail::email(&with, section).await,
            Way::Ntfy(section) => own::ntfy(&with, section).await,
            Way::Gotify(section) => own::gotify(&with, section).await,
            Way::Matrix(section) => own::matrix(&with, section).await,
        }
    }
}

/// What each way works with.
struct With<'a> {
    sender: &'a Sender,
    notice: Notice<'a>,
    value: &'a TemplateValue,
}

/// A request.
struct Call<'a> {
    method: Method,
    url: &'a str,
    headers: &'a [(&'static str, &'a str)],
    body: Vec<u8>,
}

impl<'a> With<'a> {
    fn renderer(&self) -> Renderer<'a> {
        self.notice.templates.at(self.value, self.notice.now_ns)
    }

    fn text(&self, template: &str) -> String {
        self.renderer().text(template)
    }

    fn html(&self, template: &str) -> String {
        self.renderer().html(template)
    }

    fn is_firing(&self) -> bool {
        self.notice.data.is_firing()
    }

    async fn call(&self, call: Call<'_>) -> Sent<Answer> {
        // Addresses may hold secrets, so that no error shows them.
        let uri: Uri = call
            .url
            .parse()
            .map_err(|e| Failure::lasting(format!("the address is no URL: {e}")))?;
        let mut headers = HeaderMap::new();
        for (name, value) in call.headers {
            let name = HeaderName::from_static(name);
            let value = HeaderValue::from_str(value);
            let value = value.map_err(|_| {
                Failure::lasting(format!("{name} has characters that a header cannot hold"))
            })?;
            headers.insert(name, value);
        }
        let ask = Ask {
            method: call.method,
            uri,
            headers,
            body: Bytes::from(call.body),
            body_bytes_max: ANSWER_BYTES_MAX,
        };
        let answer = self.sender.client.send(ask).await;
        answer.map_err(|e| Failure::passing(e.to_string()))
    }

    /// Posts JSON.
    async fn post(&self, url: &str, body: &Value) -> Sent<Answer> {
        self.post_with(url, body, &[]).await
    }

    /// Posts with a token, when there is one.
    async fn post_bearing(&self, url: &str, body: &Value, token: &str) -> Sent<Answer> {
        if token.is_empty() {
            return self.post_with(url, body, &[]).await;
        }
        let authorization = format!("Bearer {token}");
        self.post_with(url, body, &[("authorization", &authorization)])
            .await
    }

    async fn post_with(
        &self,
        url: &str,
        body: &Value,
        headers: &[(&'static str, &str)],
    ) -> Sent<Answer> {
        let mut all = vec![(CONTENT_TYPE_NAME, "application/json")];
        all.extend_from_slice(headers);
        let body = json_bytes(body);
        let call = Call {
            method: Method::POST,
            url,
            headers: &all,
            body,
        };
        self.call(call).await
    }
}

const CONTENT_TYPE_NAME: &str = "content-type";

/// JSON with a line's end, as Go's encoder writes it.
fn json_bytes(body: &Value) -> Vec<u8> {
    let mut bytes = body.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// An object without the fields that are empty texts, empty lists, false or null.
fn compact<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    let is_there = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Number(_) => true,
    };
    let fields = fields.into_iter().filter(|(_, value)| is_there(value));
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Fails unless an answer is good; `details` tells more than the body does.
fn check_with(
    answer: &Answer,
    retry_statuses: &[u16],
    details: impl Fn(&Answer) -> String,
) -> Sent {
    let status = answer.status;
    if status.is_success() {
        return Ok(());
    }
    let details = details(answer);
    let code = status.as_u16();
    let message = if details.is_empty() {
        format!("unexpected status code {code}")
    } else {
        format!("unexpected status code {code}: {details}")
    };
    Err(Failure {
        message,
        may_retry: status.is_server_error() || retry_statuses.contains(&code),
        reason: match code / 100 {
            4 => "clientError",
            5 => "serverError",
            _ => "other",
        },
    })
}

fn body_text(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    text.chars().take(4096).collect()
}

/// Fails unless an answer is good; only faults of the server are worth another attempt.
fn check(answer: &Answer) -> Sent {
    check_with(answer, &[], body_text)
}

fn content_type(answer: &Answer) -> &str {
    let value = answer.headers.get(CONTENT_TYPE);
    value.and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// A secret, from its place or its file; a file's text is trimmed.
fn secret(inline: Option<&Secret>, file: Option<&Path>) -> Sent<String> {
    match (inline, file) {
        (Some(secret), _) => Ok(secret.expose().to_owned()),
        (None, Some(file)) => read_trimmed(file),
        (None, None) => Ok(String::new()),
    }
}

/// An address, from its place or its file.
fn address(inline: Option<&SecretUrl>, file: Option<&Path>) -> Sent<String> {
    match (inline, file) {
        (Some(url), _) => Ok(url.0.as_str().to_owned()),
        (None, Some(file)) => read_trimmed(file),
        (None, None) => Err(Failure::lasting("no address is set")),
    }
}

fn read_trimmed(file: &Path) -> Sent<String> {
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|f| f.take(SECRET_BYTES_MAX).read_to_string(&mut text))
        .map_err(|e| Failure::lasting(format!("{}: {e}", file.display())))?;
    Ok(text.trim().to_owned())
}
