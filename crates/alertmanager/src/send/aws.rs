//! SNS, whose requests are signed (AWS Signature Version 4).

use hyper::{Method, Uri};
use kittiwake_template::time;
use sha2::{Digest as _, Sha256};

use super::hmac::{hex, hmac};
use super::{Call, Failure, Sent, With, body_text, check_with};
use crate::config::Sns;

/// Bytes of a message, and of a short one.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
const SMS_BYTES_MAX: usize = 1600;

/// Who signs.
struct Keys {
    access: String,
    secret: String,
    session: Option<String>,
    region: String,
}

impl Keys {
    fn of(section: &Sns) -> Sent<Self> {
        let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let sigv4 = &section.sigv4;
        let region = Some(sigv4.region.clone()).filter(|r| !r.is_empty());
        let region = region
            .or_else(|| env("AWS_REGION"))
            .or_else(|| env("AWS_DEFAULT_REGION"))
            .ok_or_else(|| {
                Failure::passing(
                    "region not configured in sns.sigv4.region or in default credentials chain",
                )
            })?;
        if let Some(secret) = &sigv4.secret_key {
            return Ok(Self {
                access: sigv4.access_key.clone(),
                secret: secret.expose().to_owned(),
                session: None,
                region,
            });
        }
        match (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")) {
            (Some(access), Some(secret)) => Ok(Self {
                access,
                secret,
                session: env("AWS_SESSION_TOKEN"),
                region,
            }),
            _ => Err(Failure::passing(
                "no credentials: set sigv4.access_key and sigv4.secret_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )),
        }
    }
}

/// As many whole characters as fit.
fn cut_bytes(text: &mut String, bytes_max: usize) -> bool {
    if text.len() <= bytes_max {
        return false;
    }
    let mut keep = bytes_max;
    while !text.is_char_boundary(keep) {
        keep -= 1;
    }
    text.truncate(keep);
    true
}

fn form(with: &With<'_>, section: &Sns) -> String {
    let text = |template: &str| with.text(template);
    let mut fields = vec![
        ("Action".to_owned(), "Publish".to_owned()),
        ("Version".to_owned(), "2010-03-31".to_owned()),
    ];
    let mut add = |name: &str, value: String| fields.push((name.to_owned(), value));
    if !section.topic_arn.is_empty() {
        let topic = text(&section.topic_arn);
        if topic.rsplit_once('.').is_some_and(|(_, end)| end == "fifo") {
            add("MessageDeduplicationId", with.notice.key_hash());
            add("MessageGroupId", with.notice.key_hash());
        }
        add("TopicArn", topic);
    }
    let mut bytes_max = MESSAGE_BYTES_MAX;
    if !section.phone_number.is_empty() {
        add("PhoneNumber", text(&section.phone_number));
        bytes_max = SMS_BYTES_MAX;
    }
    if !section.target_arn.is_empty() {
        add("TargetArn", text(&section.target_arn));
    }
    let mut message = text(&section.message);
    let attributes = section.attributes.iter();
    let mut attributes: Vec<(String, String)> = attributes
        .map(|(name, value)| (text(name), text(value)))
        .collect();
    if cut_bytes(&mut message, bytes_max) {
        attributes.push(("truncated".to_owned(), "true".to_owned()));
    }
    add("Message", message);
    if !section.subject.is_empty() {
        add("Subject", text(&section.subject));
    }
    for (at, (name, value)) in attributes.into_iter().enumerate() {
        let of = |part: &str| format!("MessageAttributes.entry.{}.{part}", at + 1);
        add(&of("Name"), name);
        add(&of("Value.DataType"), "String".to_owned());
        add(&of("Value.StringValue"), value);
    }
    fields.sort();
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", kittiwake_template::urlquery(value)))
        .collect();
    fields.join("&")
}

const FORM: &str = "application/x-www-form-urlencoded";

/// The header `Authorization` of a request to the root of a host.
fn signed(keys: &Keys, (host, path): (&str, &str), body: &str, now_ns: i64) -> (String, String) {
    let stamp = time::format("20060102T150405Z", now_ns, 0);
    let day = &stamp[..8];
    let mut headers = vec![
        ("content-type", FORM),
        ("host", host),
        ("x-amz-date", &stamp),
    ];
    if let Some(session) = &keys.session {
        headers.push(("x-amz-security-token", session));
    }
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}"))
        .collect();
    let lines = lines.join(
        "
",
    );
    let digest = hex(&Sha256::digest(body.as_bytes()));
    let request = format!("POST\n{path}\n\n{lines}\n\n{names}\n{digest}");
    let scope = format!("{day}/{}/sns/aws4_request", keys.region);
    let digest = hex(&Sha256::digest(request.as_bytes()));
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}");
    let mut key = format!("AWS4{}", keys.secret).into_bytes();
    for part in [day, &keys.region, "sns", "aws4_request"] {
        key = hmac::<Sha256>(&key, part.as_bytes());
    }
    let signature = hex(&hmac::<Sha256>(&key, to_sign.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        keys.access
    );
    (authorization, stamp)
}

pub(super) async fn sns(with: &With<'_>, section: &Sns) -> Sent {
    let keys = Keys::of(section)?;
    let base = with.text(&section.api_url);
    let base = if base.is_empty() {
        format!("https://sns.{}.amazonaws.com", keys.region)
    } else {
        base
    };
    let url = base.trim_end_matches('/');
    let uri: Uri = url
        .parse()
        .map_err(|e| Failure::lasting(format!("api_url is no URL: {e}")))?;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let body = form(with, section);
    let (authorization, stamp) = signed(&keys, (host, uri.path()), &body, with.notice.now_ns);
    let mut headers = vec![
        ("content-type", FORM),
        ("authorization", authorization.as_str()),
        ("x-amz-date", stamp.as_str()),
    ];
    if let Some(session) = &keys.session {
        headers.push(("x-amz-security-token", session));
    }
    let call = Call {
        method: Method::POST,
        url,
        headers: &headers,
        body: body.into_bytes(),
    };
    check_with(&with.call(call).await?, &[], body_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_torn() {
        let mut text = "aé".to_owned();
        assert!(cut_bytes(&mut text, 2) && text == "a");
        assert!(!cut_bytes(&mut text, 2));
    }

    #[test]
    fn a_signature_depends_on_all_that_is_signed() {
        let keys = |secret: &str| Keys {
            access: "AK".to_owned(),
            secret: secret.to_owned(),
            session: None,
            region: "r".to_owned(),
        };
        let at = 1_700_000_000_000_000_000;
        let (one, stamp) = signed(&keys("s"), ("h", "/"), "b", at);
        assert_eq!(stamp, "20231114T221320Z");
        assert!(one.starts_with(
            "AWS4-HMAC-SHA256 Credential=AK/20231114/r/sns/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature="
        ));
        assert_ne!(one, signed(&keys("t"), ("h", "/"), "b", at).0);
        assert_ne!(one, signed(&keys("s"), ("h", "/"), "c", at).0);
    }
}
