//! Alertmanager's configuration file.
//!
//! It is read in one step into a checked value. What Alertmanager 0.30 refuses is refused, with
//! the line; what it takes but cannot be done here (OAuth 2, proxies, roles of AWS) is refused
//! by name. Ways to notify that it doesn't have stand in a receiver's own section
//! `kittiwake`.

mod chat;
mod global;
mod interval;
mod paging;
mod receiver;
mod route;
mod scalar;
mod section;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kittiwake_config::{ConfigError, HttpClient, Located, Problem, read_file, without_secrets_in};
use serde::Deserialize;
use serde_saphyr::Spanned;

pub use chat::{
    Discord, Mattermost, MattermostAttachment, MattermostPriority, MattermostProps, Msteams,
    Msteamsv2, Rocketchat, RocketchatAction, Slack, SlackAction, SlackConfirm, SlackField,
    Telegram, Webex, Wechat,
};
pub use global::Global;
pub use interval::{TimeInterval, zone};
pub use paging::{
    Email, Gotify, Incidentio, Jira, JiraField, Matrix, Ntfy, Opsgenie, OpsgenieResponder,
    Pagerduty, PagerdutyImage, PagerdutyLink, Pushover, Sigv4, Sns, Threading, Victorops, Webhook,
};
pub use receiver::{Integration, Receiver, Way};
pub use route::{GroupBy, InhibitRule, Route, RouteOptions};
pub use scalar::{HostPort, Interval, SecretUrl, Timeout, Url};

/// The name of the receiver that is there without a file.
pub const DEFAULT_RECEIVER: &str = "default";

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// When an alert without an end counts as over.
    pub resolve_timeout: Duration,
    /// The root of the tree of routes.
    pub route: Route,
    /// What inhibits what.
    pub inhibit_rules: Vec<InhibitRule>,
    /// Who can be told.
    pub receivers: Vec<Receiver>,
    /// Named times.
    pub time_intervals: BTreeMap<String, Vec<TimeInterval>>,
    /// Patterns of files with templates.
    pub templates: Vec<PathBuf>,
    /// The file's text without its secrets.
    pub shown: String,
    /// What is read but not obeyed.
    pub warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    global: Option<Spanned<Global>>,
    route: Option<Spanned<route::RouteFields>>,
    inhibit_rules: Option<Vec<Spanned<route::InhibitFields>>>,
    receivers: Option<Vec<Spanned<receiver::ReceiverFields>>>,
    templates: Option<Vec<String>>,
    mute_time_intervals: Option<Vec<Spanned<Named>>>,
    time_intervals: Option<Vec<Spanned<Named>>>,
    tracing: Option<Spanned<serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: Option<String>,
    time_intervals: Option<Vec<TimeInterval>>,
}

fn refused(line: u64, text: impl Into<String>) -> Located {
    Located::new(line, Problem::Setting(text.into()))
}

impl Default for Config {
    /// One receiver without a way to notify.
    fn default() -> Self {
        let text = format!(
            "route:\n  receiver: {DEFAULT_RECEIVER}\nreceivers:\n- name: {DEFAULT_RECEIVER}\n"
        );
        let read = Self::parse(&text, Path::new("."));
        read.unwrap_or_else(|_| unreachable!("the text is right"))
    }
}

impl Config {
    /// Reads a file.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = read_file(file)?;
        let dir = file.parent().unwrap_or(Path::new("."));
        Self::parse(&text, dir).map_err(|located| located.in_file(file))
    }

    /// Reads a text; files that it names are relative to `dir`.
    pub fn parse(text: &str, dir: &Path) -> Result<Self, Located> {
        if text.trim().is_empty() {
            return Err(refused(0, "no route provided in config"));
        }
        let fields: Fields = serde_saphyr::from_str(text)?;
        let mut warnings = Vec::new();
        if let Some(tracing) = &fields.tracing {
            let line = tracing.referenced.line();
            warnings.push(format!(
                "line {line}: tracing is not supported and left out"
            ));
        }
        let (line, global) = match fields.global {
            Some(global) => (global.referenced.line(), global.value),
            None => (0, Global::default()),
        };
        global.check().map_err(|text| refused(line, text))?;
        let http = match global.http_config.clone() {
            Some(http) => http.value.check(http.referenced.line(), dir)?,
            None => HttpClient::default(),
        };
        let context = receiver::Context {
            global: &global,
            http: &http,
            dir,
        };
        let mut receivers: Vec<Receiver> = Vec::new();
        for fields in fields.receivers.into_iter().flatten() {
            let line = fields.referenced.line();
            let receiver = context.receiver(fields)?;
            if receivers.iter().any(|known| known.name == receiver.name) {
                let name = &receiver.name;
                let text = format!("notification config name {name:?} is not unique");
                return Err(refused(line, text));
            }
            receivers.push(receiver);
        }
        let route = fields
            .route
            .ok_or_else(|| refused(0, "no route provided in config"))?;
        let route = Route::root(route)?;
        let time_intervals = intervals(fields.mute_time_intervals, fields.time_intervals)?;
        route.check(
            &|name| receivers.iter().any(|known| known.name == name),
            &|name| time_intervals.contains_key(name),
        )?;
        let inhibit_rules = fields.inhibit_rules.into_iter().flatten();
        Ok(Self {
            resolve_timeout: global.resolve_timeout.0,
            route,
            inhibit_rules: inhibit_rules
                .map(InhibitRule::of)
                .collect::<Result<_, _>>()?,
            receivers,
            time_intervals,
            templates: fields
                .templates
                .into_iter()
                .flatten()
                .map(|pattern| dir.join(pattern))
                .collect(),
            shown: without_secrets_in(text, &is_secret),
            warnings,
        })
    }

    /// A receiver by its name.
    pub fn receiver(&self, name: &str) -> Option<&Receiver> {
        self.receivers.iter().find(|receiver| receiver.name == name)
    }
}

fn intervals(
    muted: Option<Vec<Spanned<Named>>>,
    all: Option<Vec<Spanned<Named>>>,
) -> Result<BTreeMap<String, Vec<TimeInterval>>, Located> {
    let mut found = BTreeMap::new();
    for named in muted.into_iter().flatten().chain(all.into_iter().flatten()) {
        let line = named.referenced.line();
        let named = named.value;
        let name = named.name.unwrap_or_default();
        if name.is_empty() {
            return Err(refused(line, "missing name in time interval"));
        }
        let text = format!("time interval {name:?} is not unique");
        let times = named.time_intervals.unwrap_or_default();
        if found.insert(name, times).is_some() {
            return Err(refused(line, text));
        }
    }
    Ok(found)
}

/// Whether a field is a secret, by its name and that of the list or map that it stands in.
fn is_secret(within: &str, name: &str) -> bool {
    match name {
        "url" => matches!(
            within,
            "webhook_configs" | "ntfy_configs" | "gotify_configs" | "matrix_configs"
        ),
        "api_url" => within == "slack_configs",
        "slack_api_url" | "webhook_url" => true,
        "password" | "credentials" | "bearer_token" | "client_secret" | "secrets" | "key"
        | "secret_key" | "token" | "token_id" | "api_key" | "service_key" | "routing_key"
        | "user_key" | "api_secret" | "app_token" | "auth_password" | "auth_secret"
        | "bot_token" | "access_token" | "alert_source_token" => {
            // VictorOps' is no secret.
            !(name == "routing_key" && within == "victorops_configs")
        }
        name => {
            name.starts_with("smtp_auth_")
                && matches!(name, "smtp_auth_password" | "smtp_auth_secret")
                || matches!(
                    name,
                    "slack_app_token"
                        | "opsgenie_api_key"
                        | "victorops_api_key"
                        | "wechat_api_secret"
                        | "rocketchat_token"
                        | "rocketchat_token_id"
                )
        }
    }
}
