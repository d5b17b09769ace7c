//! Receivers: names for ways to notify.

use std::path::Path;
use std::time::Duration;

use kittiwake_config::{HttpClient, Located, Problem, TlsClient};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::chat::{
    Discord, Mattermost, Msteams, Msteamsv2, Rocketchat, Slack, Telegram, Webex, Wechat,
};
use super::global::Global;
use super::paging::{
    Email, Gotify, Incidentio, Jira, Matrix, Ntfy, Opsgenie, Pagerduty, Pushover, Sns, Victorops,
    Webhook,
};
use super::section::Section;

/// A name for ways to notify.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// The name.
    pub name: String,
    /// The ways, in the order in which they are told of.
    pub integrations: Vec<Integration>,
}

/// A way to notify.
#[derive(Debug, Clone)]
pub struct Integration {
    /// What it is called, like `slack`.
    pub kind: &'static str,
    /// Its place among those of its kind in the receiver.
    pub index: usize,
    /// Whether it tells of what is over.
    pub send_resolved: bool,
    /// How it speaks HTTP, or TLS alone for mail.
    pub http: HttpClient,
    /// Its own settings.
    pub way: Way,
}

impl Integration {
    /// How it is told of: `slack[0]`.
    pub fn name(&self) -> String {
        format!("{}[{}]", self.kind, self.index)
    }

    /// The longest that one attempt may take, if that is set.
    pub fn timeout(&self) -> Option<Duration> {
        let timeout = match &self.way {
            Way::Webhook(section) => section.timeout,
            Way::Incidentio(section) => section.timeout,
            Way::Pagerduty(section) => section.timeout,
            Way::Slack(section) => section.timeout,
            _ => None,
        };
        timeout.map(|t| t.0).filter(|t| !t.is_zero())
    }
}

/// Each section of a receiver's file, in the order in which they are built, with its name, the
/// name of the integration and its type.
macro_rules! ways {
    ({ $($field:ident $kind:literal $way:ident;)* } own { $($own:ident $own_kind:literal $own_way:ident;)* }) => {
        /// The settings of a way to notify.
        #[derive(Debug, Clone)]
        #[allow(missing_docs)] // The names say all.
        pub enum Way {
            $($way(Box<$way>),)*
            Email(Box<Email>),
            $($own_way(Box<$own_way>),)*
        }

        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct ReceiverFields {
            pub(super) name: Option<String>,
            email_configs: Option<Vec<Spanned<Email>>>,
            $($field: Option<Vec<Spanned<$way>>>,)*
            kittiwake: Option<OwnFields>,
        }

        /// Ways that Alertmanager has not.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct OwnFields {
            $($own: Option<Vec<Spanned<$own_way>>>,)*
        }

        impl ReceiverFields {
            fn integrations(self, context: &Context<'_>) -> Result<Vec<Integration>, Located> {
                let mut all = Vec::new();
                $(
                    for (index, section) in self.$field.into_iter().flatten().enumerate() {
                        let (done, section) = context.complete($kind, index, section)?;
                        all.push(done(Way::$way(Box::new(section))));
                    }
                )*
                let own = self.kittiwake.unwrap_or_default();
                $(
                    for (index, section) in own.$own.into_iter().flatten().enumerate() {
                        let (done, section) = context.complete($own_kind, index, section)?;
                        all.push(done(Way::$own_way(Box::new(section))));
                    }
                )*
                // Mails come second, as Alertmanager builds them.
                let mails = self.email_configs.into_iter().flatten().enumerate();
                let mails: Result<Vec<_>, _> =
                    mails.map(|(index, mail)| context.mail(index, mail)).collect();
                let after = all.iter().take_while(|i| i.kind == "webhook").count();
                all.splice(after..after, mails?);
                Ok(all)
            }
        }
    };
}

ways! {{
    webhook_configs "webhook" Webhook;
    pagerduty_configs "pagerduty" Pagerduty;
    opsgenie_configs "opsgenie" Opsgenie;
    wechat_configs "wechat" Wechat;
    slack_configs "slack" Slack;
    victorops_configs "victorops" Victorops;
    pushover_configs "pushover" Pushover;
    sns_configs "sns" Sns;
    telegram_configs "telegram" Telegram;
    discord_configs "discord" Discord;
    webex_configs "webex" Webex;
    msteams_configs "msteams" Msteams;
    msteamsv2_configs "msteamsv2" Msteamsv2;
    jira_configs "jira" Jira;
    incidentio_configs "incidentio" Incidentio;
    rocketchat_configs "rocketchat" Rocketchat;
    mattermost_configs "mattermost" Mattermost;
} own {
    ntfy_configs "ntfy" Ntfy;
    gotify_configs "gotify" Gotify;
    matrix_configs "matrix" Matrix;
}}

/// What sections are completed with.
pub(super) struct Context<'a> {
    pub global: &'a Global,
    pub http: &'a HttpClient,
    pub dir: &'a Path,
}

impl Context<'_> {
    fn complete<S: Section>(
        &self,
        kind: &'static str,
        index: usize,
        section: Spanned<S>,
    ) -> Result<(impl FnOnce(Way) -> Integration, S), Located> {
        let line = section.referenced.line();
        let mut section = section.value;
        section
            .complete(self.global)
            .map_err(|text| Located::new(line, Problem::Setting(text)))?;
        let send_resolved = section.send_resolved();
        let http = match section.http() {
            Some(http) => http.value.check(http.referenced.line(), self.dir)?,
            None => self.http.clone(),
        };
        let done = move |way| Integration {
            kind,
            index,
            send_resolved,
            http,
            way,
        };
        Ok((done, section))
    }

    fn mail(&self, index: usize, mail: Spanned<Email>) -> Result<Integration, Located> {
        let line = mail.referenced.line();
        let mut mail = mail.value;
        mail.complete(self.global)
            .map_err(|text| Located::new(line, Problem::Setting(text)))?;
        let tls = match mail.tls_config.take() {
            Some(tls) => tls.value.check(tls.referenced.line(), self.dir)?,
            None => TlsClient::default(),
        };
        Ok(Integration {
            kind: "email",
            index,
            send_resolved: mail.send_resolved,
            http: HttpClient {
                tls,
                ..HttpClient::default()
            },
            way: Way::Email(Box::new(mail)),
        })
    }

    pub(super) fn receiver(&self, receiver: Spanned<ReceiverFields>) -> Result<Receiver, Located> {
        let line = receiver.referenced.line();
        let fields = receiver.value;
        let name = fields.name.clone().unwrap_or_default();
        if name.is_empty() {
            let text = "missing name in receiver".to_owned();
            return Err(Located::new(line, Problem::Setting(text)));
        }
        Ok(Receiver {
            name,
            integrations: fields.integrations(self)?,
        })
    }
}
