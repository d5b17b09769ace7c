//! Mails.

use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use kittiwake_client::client_config;
use kittiwake_template::time;
use sha2::{Digest as _, Sha256};

use super::hmac::hex;
use super::mime::{addresses, header_value, quoted_printable};
use super::smtp::{Account, Conversation};
use super::{Failure, Sent, With, secret};
use crate::config::{Email, zone};

pub(super) async fn email(with: &With<'_>, section: &Email) -> Sent {
    let smarthost = section
        .smarthost
        .as_ref()
        .ok_or_else(|| Failure::lasting("no smarthost is set"))?;
    let settings = &with.sender.integration.http.tls;
    let tls = client_config(settings)
        .map_err(|e| Failure::lasting(format!("parse TLS configuration: {e}")))?;
    let account = Account {
        host: &smarthost.host,
        port: &smarthost.port,
        hello: &section.hello,
        require_tls: section.require_tls.unwrap_or(true),
        tls: Arc::new(tls),
        tls_name: settings.server_name.as_deref().unwrap_or(&smarthost.host),
        username: &section.auth_username,
        password: secret(
            section.auth_password.as_ref(),
            section.auth_password_file.as_deref(),
        ),
        secret: section.auth_secret.as_ref().map_or("", |s| s.expose()),
        identity: &section.auth_identity,
    };
    let from = addresses(&with.text(&section.from))
        .map_err(|e| Failure::lasting(format!("parse 'from' addresses: {e}")))?;
    let [from] = from.as_slice() else {
        return Err(Failure::lasting(format!(
            "must be exactly one 'from' address (got: {})",
            from.len()
        )));
    };
    let to = addresses(&with.text(&section.to))
        .map_err(|e| Failure::lasting(format!("parse 'to' addresses: {e}")))?;
    let message = message(with, section);
    let mut conversation = Conversation::open(&account).await?;
    conversation.send(from, &to, &message).await?;
    conversation.quit().await;
    Ok(())
}

/// The mail with its headers.
fn message(with: &With<'_>, section: &Email) -> String {
    let now_ns = with.notice.now_ns;
    let mut text = String::new();
    // Writing to a string cannot fail, here and below.
    for (name, template) in &section.headers {
        let value = header_value(&with.text(template));
        let _ = write!(text, "{name}: {value}\r\n");
    }
    let digest = Sha256::digest(format!("{now_ns} {}", with.notice.group_key));
    let unique = hex(&digest);
    if !section.headers.contains_key("Message-Id") {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
        let host = host.unwrap_or_else(|_| "localhost.localdomain".to_owned());
        let _ = write!(
            text,
            "Message-Id: <{now_ns}.{}@{}>\r\n",
            &unique[..16],
            host.trim()
        );
    }
    if let Some(threading) = section.threading.as_ref().filter(|t| t.enabled) {
        let day = if threading.thread_by_date == "none" {
            String::new()
        } else {
            time::format("2006-01-02", now_ns, local_offset(now_ns))
        };
        let key = with.notice.key_hash();
        let root = format!("<alert-{}-{day}@alertmanager>", &key[..16]);
        let _ = write!(text, "References: {root}\r\nIn-Reply-To: {root}\r\n");
    }
    let date = time::format(
        "Mon, 02 Jan 2006 15:04:05 -0700",
        now_ns,
        local_offset(now_ns),
    );
    let boundary = &unique[..60];
    let _ = write!(
        text,
        "Date: {date}\r\nContent-Type: multipart/alternative;  boundary={boundary}\r\nMIME-Version: 1.0\r\n\r\n"
    );
    let parts = [
        ("plain", &section.text, false),
        // The preferred one comes last (RFC 2046, 5.1.4).
        ("html", &section.html, true),
    ];
    for (kind, template, is_html) in parts {
        if template.is_empty() {
            continue;
        }
        let body = if is_html {
            with.html(template)
        } else {
            with.text(template)
        };
        let _ = write!(
            text,
            "--{boundary}\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Type: text/{kind}; charset=UTF-8\r\n\r\n{}\r\n",
            quoted_printable(&body)
        );
    }
    let _ = write!(text, "--{boundary}--\r\n");
    text
}

/// Seconds by which the machine's zone is ahead of UTC.
fn local_offset(now_ns: i64) -> i32 {
    let time = Timestamp::from_nanosecond(i128::from(now_ns));
    let zone = zone("Local");
    match (time, zone) {
        (Ok(time), Ok(zone)) => zone.to_offset(time).seconds(),
        _ => 0,
    }
}
