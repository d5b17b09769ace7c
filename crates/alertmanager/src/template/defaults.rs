//! The templates that are there by themselves. Their names and what they render to are those of
//! Alertmanager, so that users' templates and receivers find what they know.

/// All but that of mails.
pub(super) const TEXT: &str = r#"
{{- define "__alertmanager" }}Alertmanager{{ end -}}
{{- define "__alertmanagerURL" }}{{ .ExternalURL }}/#/alerts?receiver={{ .Receiver | urlquery }}{{ end -}}
{{- define "__description" }}{{ end -}}

{{- define "__subject" -}}
[{{ .Status | toUpper }}{{ if eq .Status "firing" }}:{{ len .Alerts.Firing }}{{ end }}] {{ join " " .GroupLabels.SortedPairs.Values }}{{ " " }}
{{- if gt (len .CommonLabels) (len .GroupLabels) -}}
({{ with .CommonLabels.Remove .GroupLabels.Names }}{{ join " " .Values }}{{ end }})
{{- end }}{{ end -}}

{{- define "__text_alert_list" }}{{ range $alert := . -}}
Labels:
{{ template "kittiwake.pairs" $alert.Labels }}Annotations:
{{ template "kittiwake.pairs" $alert.Annotations }}Source: {{ $alert.GeneratorURL }}
{{ end }}{{ end -}}

{{- define "kittiwake.pairs" }}{{ range .SortedPairs }} - {{ .Name }} = {{ .Value }}
{{ end }}{{ end -}}

{{- define "__text_alert_list_markdown" }}{{ range $alert := . }}
Labels:
{{ template "kittiwake.items" $alert.Labels }}
Annotations:
{{ template "kittiwake.items" $alert.Annotations }}
Source: {{ $alert.GeneratorURL }}
{{ end }}
{{ end -}}

{{- define "kittiwake.items" }}{{ range .SortedPairs }}  - {{ .Name }} = {{ .Value }}
{{ end }}{{ end -}}

{{- define "kittiwake.text" }}
{{ with .Alerts.Firing }}
Alerts Firing:
{{ template "__text_alert_list" . }}
{{ end }}
{{ with .Alerts.Resolved }}
Alerts Resolved:
{{ template "__text_alert_list" . }}
{{ end }}
{{ end -}}

{{- define "kittiwake.text.tight" }}
{{ with .Alerts.Firing }}Alerts Firing:
{{ template "__text_alert_list" . }}{{ end }}
{{ with .Alerts.Resolved }}Alerts Resolved:
{{ template "__text_alert_list" . }}{{ end }}
{{- end -}}

{{- define "kittiwake.markdown" }}
{{ with .Alerts.Firing }}
# Alerts Firing:
{{ template "__text_alert_list_markdown" . }}
{{ end }}
{{ with .Alerts.Resolved }}
# Alerts Resolved:
{{ template "__text_alert_list_markdown" . }}
{{ end }}
{{ end -}}

{{- define "kittiwake.summary" }}{{ join " " .CommonAnnotations.SortedPairs.Values }}{{ end -}}

{{- define "kittiwake.default.message" -}}
{{ range .Alerts }}{{ .Status | toUpper }} {{ .Labels.SortedPairs.Values | join " " }}
{{ range .Annotations.SortedPairs }}  {{ .Name }}: {{ .Value }}
{{ end }}{{ end }}{{ end -}}

{{- define "slack.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "slack.default.username" }}{{ template "__alertmanager" . }}{{ end -}}
{{- define "slack.default.titlelink" }}{{ template "__alertmanagerURL" . }}{{ end -}}
{{- define "slack.default.fallback" }}{{ template "slack.default.title" . }} | {{ template "slack.default.titlelink" . }}{{ end -}}
{{- define "slack.default.callbackid" }}{{ end -}}
{{- define "slack.default.pretext" }}{{ end -}}
{{- define "slack.default.iconemoji" }}{{ end -}}
{{- define "slack.default.iconurl" }}{{ end -}}
{{- define "slack.default.text" }}{{ end -}}
{{- define "slack.default.footer" }}{{ end -}}

{{- define "pagerduty.default.description" }}{{ template "__subject" . }}{{ end -}}
{{- define "pagerduty.default.client" }}{{ template "__alertmanager" . }}{{ end -}}
{{- define "pagerduty.default.clientURL" }}{{ template "__alertmanagerURL" . }}{{ end -}}
{{- define "pagerduty.default.instances" }}{{ template "__text_alert_list" . }}{{ end -}}

{{- define "opsgenie.default.message" }}{{ template "__subject" . }}{{ end -}}
{{- define "opsgenie.default.description" }}{{ template "kittiwake.summary" . }}{{ template "kittiwake.text.tight" . }}{{ end -}}
{{- define "opsgenie.default.source" }}{{ template "__alertmanagerURL" . }}{{ end -}}

{{- define "wechat.default.message" }}{{ template "__subject" . }}
{{ template "kittiwake.summary" . }}{{ template "kittiwake.text.tight" . }}
AlertmanagerUrl:
{{ template "__alertmanagerURL" . }}{{ end -}}
{{- define "wechat.default.to_user" }}{{ end -}}
{{- define "wechat.default.to_party" }}{{ end -}}
{{- define "wechat.default.to_tag" }}{{ end -}}
{{- define "wechat.default.agent_id" }}{{ end -}}

{{- define "victorops.default.state_message" }}{{ template "kittiwake.summary" . }}{{ template "kittiwake.text.tight" . }}{{ end -}}
{{- define "victorops.default.entity_display_name" }}{{ template "__subject" . }}{{ end -}}
{{- define "victorops.default.monitoring_tool" }}{{ template "__alertmanager" . }}{{ end -}}

{{- define "pushover.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "pushover.default.message" }}{{ template "kittiwake.summary" . }}{{ template "kittiwake.text" . }}{{ end -}}
{{- define "pushover.default.url" }}{{ template "__alertmanagerURL" . }}{{ end -}}

{{- define "sns.default.subject" }}{{ template "__subject" . }}{{ end -}}
{{- define "sns.default.message" }}{{ template "kittiwake.summary" . }}{{ template "kittiwake.text" . }}{{ end -}}

{{- define "telegram.default.message" }}{{ template "kittiwake.text" . }}{{ end -}}

{{- define "discord.default.content" }}{{ end -}}
{{- define "discord.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "discord.default.message" }}{{ template "kittiwake.text" . }}{{ end -}}

{{- define "webex.default.message" }}{{ template "kittiwake.summary" . }}{{ template "kittiwake.text" . }}{{ end -}}

{{- define "msteams.default.summary" }}{{ template "__subject" . }}{{ end -}}
{{- define "msteams.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "msteams.default.text" }}{{ template "kittiwake.markdown" . }}{{ end -}}

{{- define "msteamsv2.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "msteamsv2.default.text" }}{{ template "kittiwake.markdown" . }}{{ end -}}

{{- define "jira.default.summary" }}{{ template "__subject" . }}{{ end -}}
{{- define "jira.default.description" }}{{ template "kittiwake.markdown" . }}{{ end -}}
{{- define "jira.default.priority" -}}
{{- $of := .Alerts.Firing }}{{ $found := "" -}}
{{- range $round := stringSlice "firing" "resolved" -}}
{{- if and (eq $round "resolved") (eq $found "") }}{{ $of = $.Alerts.Resolved }}{{ end -}}
{{- if eq $found "" }}{{ range $of -}}
{{- $severity := .Labels.severity -}}
{{- if eq $severity "critical" }}{{ $found = "High" -}}
{{- else if and (eq $severity "warning") (ne $found "High") }}{{ $found = "Medium" -}}
{{- else if and (eq $severity "info") (eq $found "") }}{{ $found = "Low" }}{{ end -}}
{{- end }}{{ end -}}
{{- end }}{{ $found }}{{ end -}}

{{- define "rocketchat.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "rocketchat.default.alias" }}{{ template "__alertmanager" . }}{{ end -}}
{{- define "rocketchat.default.titlelink" }}{{ template "__alertmanagerURL" . }}{{ end -}}
{{- define "rocketchat.default.emoji" }}{{ end -}}
{{- define "rocketchat.default.iconurl" }}{{ end -}}
{{- define "rocketchat.default.text" }}{{ end -}}

{{- define "mattermost.default.text" }}{{ template "kittiwake.markdown" . }}{{ end -}}
"#;

/// The style of all that is in a mail.
const BASE: &str = "font-family: Helvetica, Arial, sans-serif; font-size: 14px; margin: 0;";

/// The template of mails. It shows what Alertmanager's shows, in a page of its own make.
pub(super) fn mail() -> String {
    let alerts = |title: &str, of: &str| {
        format!(
            r#"{{{{ with .Alerts.{of} }}}}<h3 style="{BASE} padding: 20px 0 10px; font-size: 16px;">[{{{{ len . }}}}] {title}</h3>
{{{{ range . }}}}<table width="100%" style="{BASE} margin-bottom: 16px; border-top: 1px solid #ddd;"><tr><td style="padding: 10px 0;">
<strong>Labels</strong><br>
{{{{ range .Labels.SortedPairs }}}}{{{{ .Name }}}} = {{{{ .Value }}}}<br>
{{{{ end }}}}{{{{ with .Annotations }}}}<strong>Annotations</strong><br>
{{{{ range .SortedPairs }}}}{{{{ .Name }}}} = {{{{ .Value }}}}<br>
{{{{ end }}}}{{{{ end }}}}<a href="{{{{ .GeneratorURL }}}}" style="color: #2b6cb0;">Source</a>
</td></tr></table>
{{{{ end }}}}{{{{ end }}}}"#
        )
    };
    let bar = format!("{BASE} padding: 16px 20px; color: #fff; text-align: center;");
    format!(
        r#"{{{{- define "email.default.subject" }}}}{{{{ template "__subject" . }}}}{{{{ end -}}}}
{{{{- define "email.default.html" }}}}<!DOCTYPE html>
<html>
<head>
<meta http-equiv="Content-Type" content="text/html; charset=UTF-8">
<meta name="viewport" content="width=device-width">
<title>{{{{ template "__subject" . }}}}</title>
</head>
<body style="{BASE} background-color: #f4f5f7;">
<table width="100%" cellpadding="0" cellspacing="0" style="{BASE}"><tr><td align="center" style="padding: 20px;">
<table width="600" cellpadding="0" cellspacing="0" style="{BASE} max-width: 600px; background-color: #fff; border: 1px solid #ddd; text-align: left;">
<tr><td style="{bar} background-color: {{{{ if .Alerts.Firing }}}}#c53030{{{{ else }}}}#2f855a{{{{ end }}}};">
{{{{ len .Alerts }}}} alert{{{{ if gt (len .Alerts) 1 }}}}s{{{{ end }}}} for {{{{ range .GroupLabels.SortedPairs }}}}
{{{{ .Name }}}}={{{{ .Value }}}}
{{{{ end }}}}</td></tr>
<tr><td style="padding: 20px 30px;">
<a href="{{{{ template "__alertmanagerURL" . }}}}" style="{BASE} display: inline-block; padding: 10px 20px; background-color: #2b6cb0; color: #fff; text-decoration: none;">View in {{{{ template "__alertmanager" . }}}}</a>
{}
{}</td></tr>
</table>
<p style="{BASE} padding: 16px; font-size: 12px; color: #777;"><a href="{{{{ .ExternalURL }}}}" style="color: #777;">Sent by {{{{ template "__alertmanager" . }}}}</a></p>
</td></tr></table>
</body>
</html>
{{{{ end -}}}}
"#,
        alerts("Firing", "Firing"),
        alerts("Resolved", "Resolved"),
    )
}
