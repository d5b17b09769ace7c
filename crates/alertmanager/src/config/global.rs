//! The section `global`: what receivers take where they say nothing themselves.

use std::path::PathBuf;
use std::time::Duration;

use kittiwake_config::{HttpSettings, Secret, TlsFields};
use serde_saphyr::Spanned;

use super::scalar::{HostPort, Interval, SecretUrl, Url};
use super::section::{not_both, section};

section! {
    /// The section `global`.
    Global {
        resolve_timeout: Interval = Interval(Duration::from_mins(5)),
        http_config: Option<Spanned<HttpSettings>> = None,
        jira_api_url: Option<Url> = None,
        smtp_from: String = "",
        smtp_hello: String = "localhost",
        smtp_smarthost: Option<HostPort> = None,
        smtp_auth_username: String = "",
        smtp_auth_password: Option<Secret> = None,
        smtp_auth_password_file: Option<PathBuf> = None,
        smtp_auth_secret: Option<Secret> = None,
        smtp_auth_identity: String = "",
        smtp_require_tls: bool = true,
        smtp_tls_config: Option<Spanned<TlsFields>> = None,
        slack_api_url: Option<SecretUrl> = None,
        slack_api_url_file: Option<PathBuf> = None,
        slack_app_token: Option<Secret> = None,
        slack_app_token_file: Option<PathBuf> = None,
        slack_app_url: Option<Url> = known("https://slack.com/api/chat.postMessage"),
        pagerduty_url: Option<Url> = known("https://events.pagerduty.com/v2/enqueue"),
        opsgenie_api_url: Option<Url> = known("https://api.opsgenie.com/"),
        opsgenie_api_key: Option<Secret> = None,
        opsgenie_api_key_file: Option<PathBuf> = None,
        wechat_api_url: Option<Url> = known("https://qyapi.weixin.qq.com/cgi-bin/"),
        wechat_api_secret: Option<Secret> = None,
        wechat_api_corp_id: String = "",
        victorops_api_url: Option<Url> =
            known("https://alert.victorops.com/integrations/generic/20131114/alert/"),
        victorops_api_key: Option<Secret> = None,
        victorops_api_key_file: Option<PathBuf> = None,
        telegram_api_url: Option<Url> = known("https://api.telegram.org"),
        webex_api_url: Option<Url> = known("https://webexapis.com/v1/messages"),
        rocketchat_api_url: Option<Url> = known("https://open.rocket.chat/"),
        rocketchat_token: Option<Secret> = None,
        rocketchat_token_file: Option<PathBuf> = None,
        rocketchat_token_id: Option<Secret> = None,
        rocketchat_token_id_file: Option<PathBuf> = None,
    }
}

fn known(address: &str) -> Option<Url> {
    Url::new(address).ok()
}

impl Default for Global {
    fn default() -> Self {
        let empty: Result<Self, serde::de::value::Error> = serde::Deserialize::deserialize(
            serde::de::value::MapDeserializer::new(std::iter::empty::<(&str, &str)>()),
        );
        // A map without entries has every default.
        empty.unwrap_or_else(|_| unreachable!("no field is needed"))
    }
}

impl Global {
    /// Refuses settings that exclude each other.
    pub(super) fn check(&self) -> Result<(), String> {
        let pairs = [
            (
                ("slack_app_token", self.slack_app_token.is_some()),
                ("slack_app_token_file", self.slack_app_token_file.is_some()),
            ),
            (
                ("slack_api_url", self.slack_api_url.is_some()),
                ("slack_api_url_file", self.slack_api_url_file.is_some()),
            ),
            (
                ("opsgenie_api_key", self.opsgenie_api_key.is_some()),
                (
                    "opsgenie_api_key_file",
                    self.opsgenie_api_key_file.is_some(),
                ),
            ),
            (
                ("victorops_api_key", self.victorops_api_key.is_some()),
                (
                    "victorops_api_key_file",
                    self.victorops_api_key_file.is_some(),
                ),
            ),
            (
                ("smtp_auth_password", self.smtp_auth_password.is_some()),
                (
                    "smtp_auth_password_file",
                    self.smtp_auth_password_file.is_some(),
                ),
            ),
            (
                ("rocketchat_token", self.rocketchat_token.is_some()),
                (
                    "rocketchat_token_file",
                    self.rocketchat_token_file.is_some(),
                ),
            ),
            (
                ("rocketchat_token_id", self.rocketchat_token_id.is_some()),
                (
                    "rocketchat_token_id_file",
                    self.rocketchat_token_id_file.is_some(),
                ),
            ),
        ];
        for (first, second) in pairs {
            not_both(first, second)?;
        }
        let has_token = self.slack_app_token.is_some() || self.slack_app_token_file.is_some();
        let has_url = self.slack_api_url.is_some() || self.slack_api_url_file.is_some();
        let same = self.slack_api_url.as_ref().map(|u| &u.0) == self.slack_app_url.as_ref();
        if has_token && has_url && !same {
            return Err("at most one of slack_app_token/slack_app_token_file & slack_api_url/slack_api_url_file must be configured".to_owned());
        }
        Ok(())
    }
}
