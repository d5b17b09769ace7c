//! Sections of receivers that page, ticket, mail or post anywhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kittiwake_config::{HttpSettings, Secret, TlsFields};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::global::Global;
use super::scalar::{HostPort, Interval, SecretUrl, Timeout, Url};
use super::section::{not_both, notifies, one_of, section};

section! {
    /// `webhook_configs`
    Webhook {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        url: Option<SecretUrl> = None,
        url_file: Option<PathBuf> = None,
        max_alerts: u64 = 0_u64,
        timeout: Option<Timeout> = None,
    }
}
notifies!(Webhook, |section, _| {
    one_of(
        ("url", section.url.is_some()),
        ("url_file", section.url_file.is_some()),
    )
});

section! {
    /// `incidentio_configs`
    Incidentio {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        url: Option<Url> = None,
        url_file: Option<PathBuf> = None,
        alert_source_token: Option<Secret> = None,
        alert_source_token_file: Option<PathBuf> = None,
        max_alerts: u64 = 0_u64,
        timeout: Option<Timeout> = None,
    }
}
notifies!(Incidentio, |section, _| {
    one_of(
        ("url", section.url.is_some()),
        ("url_file", section.url_file.is_some()),
    )?;
    let (token, file) = (
        section.alert_source_token.is_some(),
        section.alert_source_token_file.is_some(),
    );
    not_both(
        ("alert_source_token", token),
        ("alert_source_token_file", file),
    )?;
    let authorizes = section
        .http_config
        .as_ref()
        .map(|http| http.value.has_authorization());
    match (authorizes, token || file) {
        (Some(true), true) => Err("cannot specify alert_source_token or alert_source_token_file when using http_config.authorization".to_owned()),
        (Some(false), false) => Err("at least one of alert_source_token, alert_source_token_file or http_config.authorization must be configured".to_owned()),
        _ => Ok(()),
    }
});

section! {
    /// `email_configs`
    Email {
        send_resolved: bool = false,
        to: String = "",
        from: String = "",
        hello: String = "",
        smarthost: Option<HostPort> = None,
        auth_username: String = "",
        auth_password: Option<Secret> = None,
        auth_password_file: Option<PathBuf> = None,
        auth_secret: Option<Secret> = None,
        auth_identity: String = "",
        headers: BTreeMap<String, String> = BTreeMap::new(),
        html: String = r#"{{ template "email.default.html" . }}"#,
        text: String = "",
        require_tls: Option<bool> = None,
        tls_config: Option<Spanned<TlsFields>> = None,
        threading: Option<Threading> = None,
    }
}

section! {
    /// How mails of a group are threaded.
    Threading {
        enabled: bool = false,
        thread_by_date: String = "",
    }
}

/// A header's name with a capital letter at the start of each word.
fn canonical(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut chars = word.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first
            .into_iter()
            .chain(chars.map(|c| c.to_ascii_lowercase()))
            .collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

impl Email {
    pub(super) fn complete(&mut self, global: &Global) -> Result<(), String> {
        if self.to.is_empty() {
            return Err("missing to address in email config".to_owned());
        }
        let mut headers = BTreeMap::new();
        for (name, value) in std::mem::take(&mut self.headers) {
            let name = canonical(&name);
            if headers.contains_key(&name) {
                return Err(format!("duplicate header {name:?} in email config"));
            }
            headers.insert(name, value);
        }
        if self.threading.as_ref().is_some_and(|t| t.enabled) {
            for name in ["References", "In-Reply-To"] {
                if headers.contains_key(name) {
                    return Err(format!(
                        "conflicting configuration: threading.enabled conflicts with custom {name} header"
                    ));
                }
            }
        }
        if self.smarthost.is_none() {
            self.smarthost.clone_from(&global.smtp_smarthost);
            if self.smarthost.is_none() {
                return Err("no global SMTP smarthost set".to_owned());
            }
        }
        let take = |own: &mut String, from: &String| {
            if own.is_empty() {
                own.clone_from(from);
            }
        };
        take(&mut self.from, &global.smtp_from);
        if self.from.is_empty() {
            return Err("no global SMTP from set".to_owned());
        }
        take(&mut self.hello, &global.smtp_hello);
        take(&mut self.auth_username, &global.smtp_auth_username);
        take(&mut self.auth_identity, &global.smtp_auth_identity);
        if self.auth_password.is_none() && self.auth_password_file.is_none() {
            self.auth_password.clone_from(&global.smtp_auth_password);
            self.auth_password_file
                .clone_from(&global.smtp_auth_password_file);
        }
        if self.auth_secret.is_none() {
            self.auth_secret.clone_from(&global.smtp_auth_secret);
        }
        self.require_tls.get_or_insert(global.smtp_require_tls);
        if self.tls_config.is_none() {
            self.tls_config.clone_from(&global.smtp_tls_config);
        }
        let mut header = |name: &str, value: &str| {
            headers
                .entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
        };
        header("Subject", r#"{{ template "email.default.subject" . }}"#);
        header("To", &self.to);
        header("From", &self.from);
        self.headers = headers;
        Ok(())
    }
}

section! {
    /// `pagerduty_configs`
    Pagerduty {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        service_key: Option<Secret> = None,
        service_key_file: Option<PathBuf> = None,
        routing_key: Option<Secret> = None,
        routing_key_file: Option<PathBuf> = None,
        url: Option<Url> = None,
        client: String = r#"{{ template "pagerduty.default.client" . }}"#,
        client_url: String = r#"{{ template "pagerduty.default.clientURL" . }}"#,
        description: String = r#"{{ template "pagerduty.default.description" .}}"#,
        details: BTreeMap<String, Value> = BTreeMap::new(),
        images: Vec<PagerdutyImage> = Vec::new(),
        links: Vec<PagerdutyLink> = Vec::new(),
        source: String = "",
        severity: String = "error",
        class: String = "",
        component: String = "",
        group: String = "",
        timeout: Option<Timeout> = None,
    }
}

section! {
    /// A link of an incident.
    PagerdutyLink {
        href: String = "",
        text: String = "",
    }
}

section! {
    /// An image of an incident.
    PagerdutyImage {
        src: String = "",
        alt: String = "",
        href: String = "",
    }
}

notifies!(Pagerduty, |section, global| {
    let routing = section.routing_key.is_some() || section.routing_key_file.is_some();
    let service = section.service_key.is_some() || section.service_key_file.is_some();
    if !routing && !service {
        return Err("missing service or routing key in PagerDuty config".to_owned());
    }
    not_both(
        ("routing_key", section.routing_key.is_some()),
        ("routing_key_file", section.routing_key_file.is_some()),
    )?;
    not_both(
        ("service_key", section.service_key.is_some()),
        ("service_key_file", section.service_key_file.is_some()),
    )?;
    if section.source.is_empty() {
        section.source.clone_from(&section.client);
    }
    if section.severity.is_empty() {
        "error".clone_into(&mut section.severity);
    }
    for (name, text) in [
        ("firing", "{{ .Alerts.Firing | toJson }}"),
        ("resolved", "{{ .Alerts.Resolved | toJson }}"),
        ("num_firing", "{{ .Alerts.Firing | len }}"),
        ("num_resolved", "{{ .Alerts.Resolved | len }}"),
    ] {
        section
            .details
            .entry(name.to_owned())
            .or_insert_with(|| Value::from(text));
    }
    if section.url.is_none() {
        section.url.clone_from(&global.pagerduty_url);
    }
    Ok(())
});

section! {
    /// `opsgenie_configs`
    Opsgenie {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        api_key: Option<Secret> = None,
        api_key_file: Option<PathBuf> = None,
        api_url: Option<Url> = None,
        message: String = r#"{{ template "opsgenie.default.message" . }}"#,
        description: String = r#"{{ template "opsgenie.default.description" . }}"#,
        source: String = r#"{{ template "opsgenie.default.source" . }}"#,
        details: BTreeMap<String, String> = BTreeMap::new(),
        entity: String = "",
        responders: Vec<OpsgenieResponder> = Vec::new(),
        actions: String = "",
        tags: String = "",
        note: String = "",
        priority: String = "",
        update_alerts: bool = false,
    }
}

section! {
    /// Who is to respond.
    OpsgenieResponder {
        id: String = "",
        name: String = "",
        username: String = "",
        r#type: String = "",
    }
}

notifies!(Opsgenie, |section, global| {
    const TYPES: [&str; 5] = ["team", "teams", "user", "escalation", "schedule"];
    not_both(
        ("api_key", section.api_key.is_some()),
        ("api_key_file", section.api_key_file.is_some()),
    )?;
    for responder in &mut section.responders {
        if responder.id.is_empty() && responder.username.is_empty() && responder.name.is_empty() {
            return Err("opsGenieConfig responder has to have at least one of id, username or name specified".to_owned());
        }
        if responder.r#type.contains("{{") {
            crate::template::parse(&responder.r#type).map_err(|e| {
                format!("opsGenieConfig responder type is not a valid template: {e}")
            })?;
            continue;
        }
        responder.r#type = responder.r#type.to_lowercase();
        if !TYPES.contains(&responder.r#type.as_str()) {
            return Err(format!(
                "opsGenieConfig responder type {:?} does not match valid options ^({})$",
                responder.r#type,
                TYPES.join("|")
            ));
        }
    }
    if section.api_url.is_none() {
        section.api_url.clone_from(&global.opsgenie_api_url);
    }
    section.api_url = section.api_url.take().map(Url::with_slash);
    if section.api_key.is_none() && section.api_key_file.is_none() {
        section.api_key.clone_from(&global.opsgenie_api_key);
        section
            .api_key_file
            .clone_from(&global.opsgenie_api_key_file);
        if section.api_key.is_none() && section.api_key_file.is_none() {
            return Err("no global OpsGenie API Key set either inline or in a file".to_owned());
        }
    }
    Ok(())
});

section! {
    /// `victorops_configs`
    Victorops {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        api_key: Option<Secret> = None,
        api_key_file: Option<PathBuf> = None,
        api_url: Option<Url> = None,
        routing_key: String = "",
        message_type: String = "CRITICAL",
        state_message: String = r#"{{ template "victorops.default.state_message" . }}"#,
        entity_display_name: String = r#"{{ template "victorops.default.entity_display_name" . }}"#,
        monitoring_tool: String = r#"{{ template "victorops.default.monitoring_tool" . }}"#,
        custom_fields: BTreeMap<String, String> = BTreeMap::new(),
    }
}

notifies!(Victorops, |section, global| {
    const RESERVED: [&str; 7] = [
        "routing_key",
        "message_type",
        "state_message",
        "entity_display_name",
        "monitoring_tool",
        "entity_id",
        "entity_state",
    ];
    if section.routing_key.is_empty() {
        return Err("missing Routing key in VictorOps config".to_owned());
    }
    not_both(
        ("api_key", section.api_key.is_some()),
        ("api_key_file", section.api_key_file.is_some()),
    )?;
    for name in RESERVED {
        if section.custom_fields.contains_key(name) {
            return Err(format!(
                "victorOps config contains custom field {name} which cannot be used as it conflicts with the fixed/static fields"
            ));
        }
    }
    if section.api_url.is_none() {
        section.api_url.clone_from(&global.victorops_api_url);
    }
    section.api_url = section.api_url.take().map(Url::with_slash);
    if section.api_key.is_none() && section.api_key_file.is_none() {
        section.api_key.clone_from(&global.victorops_api_key);
        section
            .api_key_file
            .clone_from(&global.victorops_api_key_file);
        if section.api_key.is_none() && section.api_key_file.is_none() {
            return Err("no global VictorOps API Key set".to_owned());
        }
    }
    Ok(())
});

section! {
    /// `pushover_configs`
    Pushover {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        user_key: Option<Secret> = None,
        user_key_file: Option<PathBuf> = None,
        token: Option<Secret> = None,
        token_file: Option<PathBuf> = None,
        title: String = r#"{{ template "pushover.default.title" . }}"#,
        message: String = r#"{{ template "pushover.default.message" . }}"#,
        url: String = r#"{{ template "pushover.default.url" . }}"#,
        url_title: String = "",
        device: String = "",
        sound: String = "",
        priority: String = r#"{{ if eq .Status "firing" }}2{{ else }}0{{ end }}"#,
        retry: Timeout = Timeout(Duration::from_mins(1)),
        expire: Timeout = Timeout(Duration::from_hours(1)),
        ttl: Timeout = Timeout(Duration::ZERO),
        html: bool = false,
        monospace: bool = false,
    }
}

notifies!(Pushover, |section, _| {
    one_of(
        ("user_key", section.user_key.is_some()),
        ("user_key_file", section.user_key_file.is_some()),
    )?;
    one_of(
        ("token", section.token.is_some()),
        ("token_file", section.token_file.is_some()),
    )?;
    not_both(("monospace", section.monospace), ("html", section.html))
});

section! {
    /// `sns_configs`
    Sns {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        api_url: String = "",
        sigv4: Sigv4 = Sigv4::default(),
        topic_arn: String = "",
        phone_number: String = "",
        target_arn: String = "",
        subject: String = r#"{{ template "sns.default.subject" . }}"#,
        message: String = r#"{{ template "sns.default.message" . }}"#,
        attributes: BTreeMap<String, String> = BTreeMap::new(),
    }
}

section! {
    /// Who signs requests to AWS.
    #[derive(Default)]
    Sigv4 {
        region: String = "",
        access_key: String = "",
        secret_key: Option<Secret> = None,
        profile: String = "",
        role_arn: String = "",
        use_fips_sts_endpoint: bool = false,
        service_name: String = "",
    }
}

notifies!(Sns, |section, _| {
    let sigv4 = &section.sigv4;
    if sigv4.access_key.is_empty() != sigv4.secret_key.is_none() {
        return Err("must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config".to_owned());
    }
    for (name, value) in [("profile", &sigv4.profile), ("role_arn", &sigv4.role_arn)] {
        if !value.is_empty() {
            return Err(format!(
                "sigv4.{name} is not supported; give access_key and secret_key, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ));
        }
    }
    let missing = |text: &String| text.is_empty();
    let none = (missing(&section.target_arn) != missing(&section.topic_arn))
        != missing(&section.phone_number);
    if none {
        return Err(
            "must provide either a Target ARN, Topic ARN, or Phone Number for SNS config"
                .to_owned(),
        );
    }
    Ok(())
});

section! {
    /// `jira_configs`
    Jira {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        api_url: Option<Url> = None,
        api_type: String = "auto",
        project: String = "",
        summary: JiraField = JiraField::of(r#"{{ template "jira.default.summary" . }}"#),
        description: JiraField = JiraField::of(r#"{{ template "jira.default.description" . }}"#),
        labels: Vec<String> = Vec::new(),
        priority: String = r#"{{ template "jira.default.priority" . }}"#,
        issue_type: String = "",
        reopen_transition: String = "",
        resolve_transition: String = "",
        wont_fix_resolution: String = "",
        reopen_duration: Interval = Interval(Duration::ZERO),
        fields: BTreeMap<String, Value> = BTreeMap::new(),
    }
}

/// A field of an issue: a template, or an object with one.
#[derive(Debug, Clone)]
pub struct JiraField {
    /// The template.
    pub template: String,
    /// Whether it is written when an issue is updated.
    pub enable_update: bool,
}

impl JiraField {
    fn of(template: &str) -> Self {
        Self {
            template: template.to_owned(),
            enable_update: true,
        }
    }
}

impl<'de> serde::Deserialize<'de> for JiraField {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let error = |text: &str| serde::de::Error::custom(text.to_owned());
        let Value::Object(mut fields) = value else {
            let text = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            return Ok(Self::of(&text));
        };
        let template = match fields.remove("template") {
            Some(Value::String(text)) => text,
            None | Some(Value::Null) => String::new(),
            Some(_) => return Err(error("template must be a text")),
        };
        let enable_update = match fields.remove("enable_update") {
            Some(Value::Bool(truth)) => truth,
            None | Some(Value::Null) => true,
            Some(_) => return Err(error("enable_update must be true or false")),
        };
        match fields.keys().next() {
            Some(name) => Err(error(&format!(
                "unknown field `{name}`, expected `template` or `enable_update`"
            ))),
            None => Ok(Self {
                template,
                enable_update,
            }),
        }
    }
}

notifies!(Jira, |section, global| {
    if section.project.is_empty() {
        return Err("missing project in jira_config".to_owned());
    }
    if section.issue_type.is_empty() {
        return Err("missing issue_type in jira_config".to_owned());
    }
    if !["auto", "cloud", "datacenter"].contains(&section.api_type.as_str()) {
        return Err(
            "unknown api_type on jira_config, must be auto, cloud or datacenter".to_owned(),
        );
    }
    if section.api_url.is_none() {
        section.api_url.clone_from(&global.jira_api_url);
        if section.api_url.is_none() {
            return Err("no global Jira Cloud URL set".to_owned());
        }
    }
    Ok(())
});

section! {
    /// `kittiwake.ntfy_configs`: a topic of an ntfy server.
    Ntfy {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        url: Option<SecretUrl> = None,
        topic: String = "",
        title: String = r#"{{ template "__subject" . }}"#,
        message: String = r#"{{ template "kittiwake.default.message" . }}"#,
        priority: String = r#"{{ if eq .Status "firing" }}4{{ else }}3{{ end }}"#,
        tags: String = r#"{{ if eq .Status "firing" }}rotating_light{{ else }}white_check_mark{{ end }}"#,
        click: String = r#"{{ template "__alertmanagerURL" . }}"#,
        token: Option<Secret> = None,
        token_file: Option<PathBuf> = None,
    }
}
notifies!(Ntfy, |section, _| {
    if section.url.is_none() || section.topic.is_empty() {
        return Err("url and topic must be configured".to_owned());
    }
    not_both(
        ("token", section.token.is_some()),
        ("token_file", section.token_file.is_some()),
    )
});

section! {
    /// `kittiwake.gotify_configs`: an application of a Gotify server.
    Gotify {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        url: Option<SecretUrl> = None,
        token: Option<Secret> = None,
        token_file: Option<PathBuf> = None,
        title: String = r#"{{ template "__subject" . }}"#,
        message: String = r#"{{ template "kittiwake.default.message" . }}"#,
        priority: String = r#"{{ if eq .Status "firing" }}8{{ else }}4{{ end }}"#,
    }
}
notifies!(Gotify, |section, _| {
    if section.url.is_none() {
        return Err("url must be configured".to_owned());
    }
    one_of(
        ("token", section.token.is_some()),
        ("token_file", section.token_file.is_some()),
    )
});

section! {
    /// `kittiwake.matrix_configs`: a room of a Matrix home server.
    Matrix {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        url: Option<SecretUrl> = None,
        room_id: String = "",
        access_token: Option<Secret> = None,
        access_token_file: Option<PathBuf> = None,
        message: String = r#"{{ template "__subject" . }}
{{ template "kittiwake.default.message" . }}"#,
    }
}
notifies!(Matrix, |section, _| {
    if section.url.is_none() || section.room_id.is_empty() {
        return Err("url and room_id must be configured".to_owned());
    }
    one_of(
        ("access_token", section.access_token.is_some()),
        ("access_token_file", section.access_token_file.is_some()),
    )
});
