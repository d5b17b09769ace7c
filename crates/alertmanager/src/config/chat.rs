//! Sections of receivers that post to chats.

use std::path::PathBuf;

use kittiwake_config::{HttpSettings, Secret};
use serde_saphyr::Spanned;

use super::global::Global;
use super::scalar::{SecretUrl, Timeout, Url};
use super::section::{not_both, notifies, one_of, section};

section! {
    /// `slack_configs`
    Slack {
        send_resolved: bool = false,
        http_config: Option<Spanned<HttpSettings>> = None,
        api_url: Option<SecretUrl> = None,
        api_url_file: Option<PathBuf> = None,
        app_token: Option<Secret> = None,
        app_token_file: Option<PathBuf> = None,
        app_url: Option<Url> = None,
        channel: String = "",
        username: String = r#"{{ template "slack.default.username" . }}"#,
        color: String = r#"{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}"#,
        title: String = r#"{{ template "slack.default.title" . }}"#,
        title_link: String = r#"{{ template "slack.default.titlelink" . }}"#,
        pretext: String = r#"{{ template "slack.default.pretext" . }}"#,
        text: String = r#"{{ template "slack.default.text" . }}"#,
        fields: Vec<SlackField> = Vec::new(),
        short_fields: bool = false,
        footer: String = r#"{{ template "slack.default.footer" . }}"#,
        fallback: String = r#"{{ template "slack.default.fallback" . }}"#,
        callback_id: String = r#"{{ template "slack.default.callbackid" . }}"#,
        icon_emoji: String = r#"{{ template "slack.default.iconemoji" . }}"#,
        icon_url: String = r#"{{ template "slack.default.iconurl" . }}"#,
        image_url: String = "",
        thumb_url: String = "",
        link_names: bool = false,
        mrkdwn_in: Vec<String> = Vec::new(),
        actions: Vec<SlackAction> = Vec::new(),
        timeout: Option<Timeout> = None,
    }
}

section! {
    /// A field of a Slack message.
    SlackField {
        title: String = "",
        value: String = "",
        short: Option<bool> = None,
    }
}

section! {
    /// An action of a Slack message.
    SlackAction {
        r#type: String = "",
        text: String = "",
        url: String = "",
        style: String = "",
        name: String = "",
        value: String = "",
        confirm: Option<SlackConfirm> = None,
    }
}

section! {
    /// What is asked before an action.
    SlackConfirm {
        text: String = "",
        title: String = "",
        ok_text: String = "",
        dismiss_text: String = "",
    }
}

fn check_field(of: &str, title: &str, value: &str) -> Result<(), String> {
    if title.is_empty() {
        return Err(format!("missing title in {of} field configuration"));
    }
    if value.is_empty() {
        return Err(format!("missing value in {of} field configuration"));
    }
    Ok(())
}

impl SlackAction {
    fn check(&mut self) -> Result<(), String> {
        if self.r#type.is_empty() {
            return Err("missing type in Slack action configuration".to_owned());
        }
        if self.text.is_empty() {
            return Err("missing text in Slack action configuration".to_owned());
        }
        if self.url.is_empty() && self.name.is_empty() {
            return Err("missing name or url in Slack action configuration".to_owned());
        }
        if !self.url.is_empty() {
            self.name.clear();
            self.value.clear();
            self.confirm = None;
        }
        match &self.confirm {
            Some(confirm) if confirm.text.is_empty() => {
                Err("missing text in Slack confirmation configuration".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn complete_slack(section: &mut Slack, global: &Global) -> Result<(), String> {
    let has_own_url = section.api_url.is_some() || section.api_url_file.is_some();
    let has_own_token = section.app_token.is_some() || section.app_token_file.is_some();
    not_both(
        ("api_url", section.api_url.is_some()),
        ("api_url_file", section.api_url_file.is_some()),
    )?;
    not_both(
        ("app_token", section.app_token.is_some()),
        ("app_token_file", section.app_token_file.is_some()),
    )?;
    not_both(
        ("api_url/api_url_file", has_own_url),
        ("app_token/app_token_file", has_own_token),
    )?;
    for field in &section.fields {
        check_field("Slack", &field.title, &field.value)?;
    }
    section
        .actions
        .iter_mut()
        .try_for_each(SlackAction::check)?;
    if section.app_url.is_none() {
        section.app_url.clone_from(&global.slack_app_url);
    }
    let authorizes = section
        .http_config
        .as_ref()
        .is_some_and(|http| http.value.has_authorization());
    if !has_own_token && !authorizes && section.api_url.is_none() {
        section.app_token.clone_from(&global.slack_app_token);
        section
            .app_token_file
            .clone_from(&global.slack_app_token_file);
    }
    if !has_own_url {
        section.api_url.clone_from(&global.slack_api_url);
        section.api_url_file.clone_from(&global.slack_api_url_file);
    }
    let has_token = section.app_token.is_some() || section.app_token_file.is_some();
    if section.api_url.is_none() && section.api_url_file.is_none() && !has_token {
        return Err("no Slack API URL nor App token set either inline or in a file".to_owned());
    }
    if has_token {
        if authorizes {
            return Err("http authorization can't be set when using Slack App tokens".to_owned());
        }
        section.api_url = section.app_url.clone().map(SecretUrl);
    }
    Ok(())
}
notifies!(Slack, complete_slack);

/// A section whose address is a webhook's.
macro_rules! webhook_url {
    ($name:ident) => {
        notifies!($name, |section, _| {
            one_of(
                ("webhook_url", section.webhook_url.is_some()),
                ("webhook_url_file", section.webhook_url_file.is_some()),
            )
        });
    };
}

section! {
    /// `discord_configs`
    Discord {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        webhook_url: Option<SecretUrl> = None,
        webhook_url_file: Option<PathBuf> = None,
        content: String = "",
        title: String = r#"{{ template "discord.default.title" . }}"#,
        message: String = r#"{{ template "discord.default.message" . }}"#,
        username: String = "",
        avatar_url: String = "",
    }
}
webhook_url!(Discord);

section! {
    /// `msteams_configs`
    Msteams {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        webhook_url: Option<SecretUrl> = None,
        webhook_url_file: Option<PathBuf> = None,
        title: String = r#"{{ template "msteams.default.title" . }}"#,
        summary: String = r#"{{ template "msteams.default.summary" . }}"#,
        text: String = r#"{{ template "msteams.default.text" . }}"#,
    }
}
webhook_url!(Msteams);

section! {
    /// `msteamsv2_configs`
    Msteamsv2 {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        webhook_url: Option<SecretUrl> = None,
        webhook_url_file: Option<PathBuf> = None,
        title: String = r#"{{ template "msteamsv2.default.title" . }}"#,
        text: String = r#"{{ template "msteamsv2.default.text" . }}"#,
    }
}
webhook_url!(Msteamsv2);

section! {
    /// `mattermost_configs`
    Mattermost {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        webhook_url: Option<SecretUrl> = None,
        webhook_url_file: Option<PathBuf> = None,
        channel: String = "",
        username: String = "",
        text: String = r#"{{ template "mattermost.default.text" . }}"#,
        icon_url: String = "",
        icon_emoji: String = "",
        attachments: Vec<MattermostAttachment> = Vec::new(),
        r#type: String = "",
        props: Option<MattermostProps> = None,
        priority: Option<MattermostPriority> = None,
    }
}

section! {
    /// An attachment of a Mattermost message.
    MattermostAttachment {
        fallback: String = "",
        color: String = "",
        pretext: String = "",
        text: String = "",
        author_name: String = "",
        author_link: String = "",
        author_icon: String = "",
        title: String = "",
        title_link: String = "",
        fields: Vec<SlackField> = Vec::new(),
        thumb_url: String = "",
        footer: String = "",
        footer_icon: String = "",
        image_url: String = "",
    }
}

section! {
    /// Further properties of a Mattermost message.
    MattermostProps {
        card: String = "",
    }
}

section! {
    /// The priority of a Mattermost message.
    MattermostPriority {
        priority: String = "",
        requested_ack: bool = false,
        persistent_notifications: bool = false,
    }
}

fn complete_mattermost(section: &mut Mattermost, _: &Global) -> Result<(), String> {
    for field in section.attachments.iter().flat_map(|a| &a.fields) {
        check_field("Mattermost", &field.title, &field.value)?;
    }
    one_of(
        ("webhook_url", section.webhook_url.is_some()),
        ("webhook_url_file", section.webhook_url_file.is_some()),
    )
}
notifies!(Mattermost, complete_mattermost);

section! {
    /// `telegram_configs`
    Telegram {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        api_url: Option<Url> = None,
        bot_token: Option<Secret> = None,
        bot_token_file: Option<PathBuf> = None,
        chat_id: i64 = 0_i64,
        message_thread_id: i64 = 0_i64,
        message: String = r#"{{ template "telegram.default.message" . }}"#,
        disable_notifications: bool = false,
        parse_mode: String = "HTML",
    }
}

fn complete_telegram(section: &mut Telegram, global: &Global) -> Result<(), String> {
    if section.bot_token.is_none() && section.bot_token_file.is_none() {
        return Err("missing bot_token or bot_token_file on telegram_config".to_owned());
    }
    not_both(
        ("bot_token", section.bot_token.is_some()),
        ("bot_token_file", section.bot_token_file.is_some()),
    )?;
    if section.chat_id == 0 {
        return Err("missing chat_id on telegram_config".to_owned());
    }
    if !["", "Markdown", "MarkdownV2", "HTML"].contains(&section.parse_mode.as_str()) {
        return Err("unknown parse_mode on telegram_config, must be Markdown, MarkdownV2, HTML or empty string".to_owned());
    }
    if section.api_url.is_none() {
        section.api_url.clone_from(&global.telegram_api_url);
    }
    Ok(())
}
notifies!(Telegram, complete_telegram);

section! {
    /// `webex_configs`
    Webex {
        send_resolved: bool = true,
        http_config: Option<Spanned<HttpSettings>> = None,
        api_url: Option<Url> = None,
        message: String = r#"{{ template "webex.default.message" . }}"#,
        room_id: String = "",
    }
}

fn complete_webex(section: &mut Webex, global: &Global) -> Result<(), String> {
    if section.room_id.is_empty() {
        return Err("missing room_id on webex_config".to_owned());
    }
    let http = section.http_config.as_ref();
    if !http.is_some_and(|http| http.value.has_authorization()) {
        return Err("missing webex_configs.http_config.authorization".to_owned());
    }
    if section.api_url.is_none() {
        section.api_url.clone_from(&global.webex_api_url);
    }
    Ok(())
}
notifies!(Webex, complete_webex);

section! {
    /// `rocketchat_configs`
    Rocketchat {
        send_resolved: bool = false,
        http_config: Option<Spanned<HttpSettings>> = None,
        api_url: Option<Url> = None,
        token_id: Option<Secret> = None,
        token_id_file: Option<PathBuf> = None,
        token: Option<Secret> = None,
        token_file: Option<PathBuf> = None,
        channel: String = "",
        color: String = r#"{{ if eq .Status "firing" }}red{{ else }}green{{ end }}"#,
        title: String = r#"{{ template "rocketchat.default.title" . }}"#,
        title_link: String = r#"{{ template "rocketchat.default.titlelink" . }}"#,
        text: String = r#"{{ template "rocketchat.default.text" . }}"#,
        fields: Vec<SlackField> = Vec::new(),
        short_fields: bool = false,
        emoji: String = r#"{{ template "rocketchat.default.emoji" . }}"#,
        icon_url: String = r#"{{ template "rocketchat.default.iconurl" . }}"#,
        image_url: String = "",
        thumb_url: String = "",
        link_names: bool = false,
        actions: Vec<RocketchatAction> = Vec::new(),
    }
}

section! {
    /// An action of a Rocket.Chat message. Alertmanager names its fields in lower case, without
    /// underscores.
    RocketchatAction {
        r#type: String = "",
        text: String = "",
        url: String = "",
        imageurl: String = "",
        iswebview: bool = false,
        webviewheightratio: String = "",
        msg: String = "",
        msginchatwindow: bool = false,
        msgprocessingtype: String = "",
    }
}

fn complete_rocketchat(section: &mut Rocketchat, global: &Global) -> Result<(), String> {
    not_both(
        ("token", section.token.is_some()),
        ("token_file", section.token_file.is_some()),
    )?;
    not_both(
        ("token_id", section.token_id.is_some()),
        ("token_id_file", section.token_id_file.is_some()),
    )?;
    if section.api_url.is_none() {
        section.api_url.clone_from(&global.rocketchat_api_url);
    }
    if section.token_id.is_none() && section.token_id_file.is_none() {
        section.token_id.clone_from(&global.rocketchat_token_id);
        section
            .token_id_file
            .clone_from(&global.rocketchat_token_id_file);
        if section.token_id.is_none() && section.token_id_file.is_none() {
            return Err("no global Rocketchat TokenID set either inline or in a file".to_owned());
        }
    }
    if section.token.is_none() && section.token_file.is_none() {
        section.token.clone_from(&global.rocketchat_token);
        section.token_file.clone_from(&global.rocketchat_token_file);
        if section.token.is_none() && section.token_file.is_none() {
            return Err("no global Rocketchat Token set either inline or in a file".to_owned());
        }
    }
    Ok(())
}
notifies!(Rocketchat, complete_rocketchat);

section! {
    /// `wechat_configs`
    Wechat {
        send_resolved: bool = false,
        http_config: Option<Spanned<HttpSettings>> = None,
        api_secret: Option<Secret> = None,
        corp_id: String = "",
        message: String = r#"{{ template "wechat.default.message" . }}"#,
        api_url: Option<Url> = None,
        to_user: String = r#"{{ template "wechat.default.to_user" . }}"#,
        to_party: String = r#"{{ template "wechat.default.to_party" . }}"#,
        to_tag: String = r#"{{ template "wechat.default.to_tag" . }}"#,
        agent_id: String = r#"{{ template "wechat.default.agent_id" . }}"#,
        message_type: String = "text",
    }
}

fn complete_wechat(section: &mut Wechat, global: &Global) -> Result<(), String> {
    if section.message_type.is_empty() {
        "text".clone_into(&mut section.message_type);
    }
    if !["text", "markdown"].contains(&section.message_type.as_str()) {
        return Err(format!(
            "weChat message type {:?} does not match valid options ^(text|markdown)$",
            section.message_type
        ));
    }
    if section.api_url.is_none() {
        section.api_url.clone_from(&global.wechat_api_url);
    }
    section.api_url = section.api_url.take().map(Url::with_slash);
    if section.api_secret.is_none() {
        section.api_secret.clone_from(&global.wechat_api_secret);
        if section.api_secret.is_none() {
            return Err("no global Wechat ApiSecret set".to_owned());
        }
    }
    if section.corp_id.is_empty() {
        section.corp_id.clone_from(&global.wechat_api_corp_id);
        if section.corp_id.is_empty() {
            return Err("no global Wechat CorpID set".to_owned());
        }
    }
    Ok(())
}
notifies!(Wechat, complete_wechat);
