//! Configurations, alerts and silences by chance.
//!
//! Flushes come half a second after whole seconds, alerts and silences on whole seconds, and ends
//! that nobody tells a quarter after: so no two things happen at once, whose order would be
//! chance.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::harness::Random;

/// Kinds of receivers whose address can be chosen.
pub const KINDS: [&str; 16] = [
    "webhook",
    "slack",
    "discord",
    "msteams",
    "msteamsv2",
    "telegram",
    "pagerduty",
    "opsgenie",
    "victorops",
    "wechat",
    "webex",
    "sns",
    "jira",
    "rocketchat",
    "incidentio",
    "mattermost",
];
const SEVERITIES: [&str; 4] = ["critical", "warning", "info", "none"];
const NAMES: [&str; 6] = ["Down", "Slow", "Full", "Hot & <Bold>", "Größe", "Cert"];
const TEAMS: [&str; 3] = ["db", "web", "ops"];
const ALERTS: usize = 48;
/// Each second of the plan takes so many: nobody needs to be faster than a busy machine is.
pub const PACE: u64 = 2;

/// What is to be done.
pub enum Event {
    Alerts(Value),
    /// A silence by its number; one of the same number is changed.
    Silence(usize, Value),
    Expire(usize),
}

struct Alert {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    /// When it fires.
    from: u64,
    until: u64,
    /// Whether its end is told, or only that it is reported no more.
    tells_end: bool,
}

pub struct Plan {
    pub config: String,
    alerts: Vec<Alert>,
    features: BTreeMap<&'static str, usize>,
    /// The silence made last.
    last: Value,
}

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len() as u64) as usize]
}

/// The settings of one way to notify.
fn integration(random: &mut Random, kind: &str, place: &str) -> String {
    let resolved = if random.below(3) == 0 {
        "false"
    } else {
        "true"
    };
    let auth = "http_config: {authorization: {credentials: tok}}";
    let own = match kind {
        "webhook" => format!("url: {place}, max_alerts: {}", random.below(3)),
        "slack" => format!(
            "api_url: {place}, channel: '#{{{{ .GroupLabels.alertname | toLower }}}}', text: '{{{{ range .Alerts }}}}{{{{ .Annotations.summary }}}} {{{{ end }}}}', fields: [{{title: n, value: '{{{{ len .Alerts }}}}'}}], actions: [{{type: button, text: go, url: '{{{{ .ExternalURL }}}}'}}]"
        ),
        "discord" | "msteams" | "msteamsv2" => format!("webhook_url: {place}"),
        "telegram" => format!(
            "api_url: {place}, bot_token: B, chat_id: -12, message_thread_id: {}, parse_mode: {}",
            random.below(2),
            pick(random, &["HTML", "Markdown", "''"])
        ),
        "pagerduty" => format!(
            "url: {place}, routing_key: R, severity: '{{{{ .CommonLabels.severity }}}}', details: {{flag: 'yes', team: '{{{{ .CommonLabels.team }}}}'}}, links: [{{href: 'http://x/{{{{ .Status }}}}', text: t}}]"
        ),
        "opsgenie" => format!(
            "api_url: {place}, api_key: K, update_alerts: {}, tags: 'a,{{{{ .Status }}}},', priority: P{}, responders: [{{name: 'x,y', type: teams}}, {{username: '{{{{ .CommonLabels.team }}}}', type: user}}]",
            random.below(2) == 0,
            1 + random.below(5)
        ),
        "victorops" => format!(
            "api_url: {place}, api_key: K, routing_key: '{{{{ .Status }}}}', message_type: '{{{{ .CommonLabels.severity | toUpper }}}}', custom_fields: {{t: '{{{{ .CommonLabels.team }}}}'}}"
        ),
        "wechat" => format!(
            "api_url: {place}, api_secret: S, corp_id: C, to_user: u, agent_id: '7', message_type: {}",
            pick(random, &["text", "markdown"])
        ),
        "webex" => format!("api_url: {place}, room_id: r, {auth}"),
        "sns" => format!(
            "api_url: {place}, topic_arn: 'arn:aws:sns:us-east-2:1:t{}', sigv4: {{region: us-east-2, access_key: A, secret_key: S}}, attributes: {{sev: '{{{{ .Status }}}}'}}",
            pick(random, &["", ".fifo"])
        ),
        "jira" => format!(
            "api_url: {place}, project: P, issue_type: Bug, labels: ['{{{{ .Status }}}}'], reopen_transition: Reopen, resolve_transition: Close, reopen_duration: 1h, fields: {{customfield_1: {{value: '{{{{ .CommonLabels.team }}}}'}}, n: '{{{{ len .Alerts }}}}'}}"
        ),
        "rocketchat" => format!(
            "api_url: {place}, token: T, token_id: I, channel: '#c', fields: [{{title: a, value: '{{{{ .Status }}}}', short: true}}]"
        ),
        "incidentio" => format!(
            "url: {place}, alert_source_token: tok, http_config: {{follow_redirects: true}}"
        ),
        _ => format!(
            "webhook_url: {place}, channel: c, priority: {{priority: {}, requested_ack: true, persistent_notifications: true}}, attachments: [{{title: '{{{{ .Status }}}}', fields: [{{title: a, value: b}}]}}]",
            pick(random, &["urgent", "standard", "IMPORTANT", "x"])
        ),
    };
    format!("{{send_resolved: {resolved}, {own}}}")
}

impl Plan {
    pub fn new(random: &mut Random) -> Self {
        let mut plan = Self {
            config: String::new(),
            alerts: Vec::new(),
            features: BTreeMap::new(),
            last: Value::Null,
        };
        let mut receivers = String::new();
        for (at, kind) in KINDS.iter().enumerate() {
            let settings = integration(random, kind, &format!("BASE/r{at}/{kind}0"));
            let second = KINDS[random.below(KINDS.len() as u64) as usize];
            let _ = writeln!(receivers, "- name: r{at}");
            if second == *kind {
                let more = integration(random, kind, &format!("BASE/r{at}/{kind}1"));
                let _ = writeln!(receivers, "  {kind}_configs: [{settings}, {more}]");
            } else {
                let more = integration(random, second, &format!("BASE/r{at}/{second}0"));
                let _ = writeln!(
                    receivers,
                    "  {kind}_configs: [{settings}]\n  {second}_configs: [{more}]"
                );
            }
        }
        receivers.push_str("- name: flaky\n  webhook_configs: [{url: BASE/flaky/webhook0}]\n");
        receivers.push_str("- name: hang\n  webhook_configs: [{url: BASE/hang/webhook0}]\n");
        receivers.push_str("- name: nobody\n");
        let mut routes = String::new();
        for at in 0..KINDS.len() {
            plan.route(random, &mut routes, at, 2, 2);
        }
        for at in 0..KINDS.len() {
            // Each is told something.
            let (one, two) = (at, at + KINDS.len());
            let _ = writeln!(
                routes,
                "  - {{receiver: r{at}, matchers: ['n=~\"{one}|{two}\"'], continue: true}}"
            );
        }
        routes.push_str("  - {receiver: flaky, matchers: ['flaky=\"yes\"'], group_by: [alertname], continue: true}\n");
        routes.push_str("  - {receiver: hang, matchers: ['flaky=\"yes\"'], continue: true}\n");
        plan.config = format!(
            "global: {{resolve_timeout: @3250}}
route:
  receiver: r0
  group_by: [alertname]
  group_wait: @1500
  group_interval: @2000
  repeat_interval: @5000
  routes:
{routes}receivers:
{receivers}inhibit_rules:
- source_matchers: [severity=\"critical\"]
  target_matchers: ['severity=~\"warning|info\"']
  equal: [alertname, team]
- source_match: {{alertname: Down}}
  target_match_re: {{alertname: S.*}}
  equal: [instance]
time_intervals:
- name: always
  time_intervals: [{{times: [{{start_time: '00:00', end_time: '24:00'}}]}}]
- name: never
  time_intervals: [{{years: ['1990:1991'], location: Europe/Berlin}}]
"
        );
        plan.config = paced(&plan.config);
        for _ in 0..2 {
            plan.count("inhibit rule");
        }
        for at in 0..ALERTS {
            let alert = plan.alert(random, at);
            plan.alerts.push(alert);
        }
        plan
    }

    /// How often what took part.
    pub fn features(&self) -> String {
        format!("features: {:?}", self.features)
    }

    fn count(&mut self, feature: &'static str) {
        *self.features.entry(feature).or_default() += 1;
    }

    fn matcher(&mut self, random: &mut Random) -> String {
        match random.below(9) {
            0 => {
                self.count("match");
                format!("match: {{team: {}}}", pick(random, &TEAMS))
            }
            1 => {
                self.count("match_re");
                "match_re: {severity: crit.*|info}".to_owned()
            }
            2 => {
                self.count("matcher !=");
                format!("matchers: ['severity!=\"{}\"']", pick(random, &SEVERITIES))
            }
            3 => {
                self.count("matcher !~");
                "matchers: ['alertname!~\"D.*|Hot.*\"', 'team=~\".+\"']".to_owned()
            }
            4 => {
                self.count("matcher =~");
                "matchers: [alertname=~\"(Down|Slow|Cert)\"]".to_owned()
            }
            5 => {
                self.count("matcher of UTF-8");
                "matchers: ['\"müll.x\"=\"1\"']".to_owned()
            }
            6 => {
                self.count("matcher of a missing label");
                "matchers: ['extra=\"\"']".to_owned()
            }
            _ => {
                self.count("matcher =");
                format!("matchers: [\"team = {}\"]", pick(random, &TEAMS))
            }
        }
    }

    fn route(
        &mut self,
        random: &mut Random,
        out: &mut String,
        at: usize,
        indent: usize,
        depth: usize,
    ) {
        let space = " ".repeat(indent);
        let _ = writeln!(out, "{space}- receiver: r{}", at % KINDS.len());
        let _ = writeln!(out, "{space}  {}", self.matcher(random));
        // All come by here, or most receivers would be told nothing.
        if depth == 2 || random.below(2) == 0 {
            self.count("continue");
            let _ = writeln!(out, "{space}  continue: true");
        }
        match random.below(5) {
            0 => {
                self.count("group_by ...");
                let _ = writeln!(out, "{space}  group_by: ['...']");
            }
            1 => {
                self.count("group_by several");
                let _ = writeln!(out, "{space}  group_by: [team, severity, nothing]");
            }
            2 => {
                self.count("group_by one");
                let _ = writeln!(out, "{space}  group_by: [team]");
            }
            _ => self.count("group_by of above"),
        }
        if random.below(2) == 0 {
            self.count("timers");
            let (wait, interval, repeat) = (
                pick(random, &["@500", "@1500", "@2500"]),
                pick(random, &["@2000", "@3000", "@4000"]),
                pick(random, &["@5000", "@7000", "1h"]),
            );
            let _ = writeln!(
                out,
                "{space}  group_wait: {wait}\n{space}  group_interval: {interval}\n{space}  repeat_interval: {repeat}"
            );
        }
        match random.below(8) {
            0 => {
                self.count("mute interval");
                let _ = writeln!(
                    out,
                    "{space}  mute_time_intervals: [never, {}]",
                    pick(random, &["always", "never"])
                );
            }
            1 => {
                self.count("active interval");
                let _ = writeln!(
                    out,
                    "{space}  active_time_intervals: [{}]",
                    pick(random, &["always", "never"])
                );
            }
            _ => {}
        }
        if depth > 0 && random.below(3) == 0 {
            self.count("nested route");
            let _ = writeln!(out, "{space}  routes:");
            let below = random.below(KINDS.len() as u64) as usize;
            self.route(random, out, below, indent + 2, depth - 1);
        }
    }

    fn alert(&mut self, random: &mut Random, at: usize) -> Alert {
        let mut labels = BTreeMap::new();
        labels.insert("alertname", pick(random, &NAMES).to_owned());
        labels.insert("instance", format!("i{}", random.below(6)));
        labels.insert("severity", pick(random, &SEVERITIES).to_owned());
        labels.insert("team", pick(random, &TEAMS).to_owned());
        labels.insert("n", at.to_string());
        if random.below(4) == 0 {
            labels.insert("job", format!("j{}", random.below(3)));
        }
        if random.below(6) == 0 {
            labels.insert("müll.x", "1".to_owned());
        }
        if random.below(5) == 0 {
            labels.insert("extra", "+1 \"q\" \\ \n'".to_owned());
        }
        if at.is_multiple_of(24) {
            labels.insert("flaky", "yes".to_owned());
        }
        let mut annotations = BTreeMap::new();
        annotations.insert(
            "summary",
            format!("<b>{}</b> & it's {}%", at % 3, random.below(3)),
        );
        if random.below(3) == 0 {
            annotations.insert("empty", String::new());
        }
        // While the ends of alerts that inhibit are told, Alertmanager finds the others too
        // (tests/deviations.md).
        let inhibits = labels["severity"] == "critical" || labels["alertname"] == "Down";
        let tells_end = inhibits || random.below(3) > 0;
        self.count(if tells_end { "end told" } else { "end by time" });
        let from = random.below(14);
        Alert {
            labels,
            annotations,
            from,
            until: from + 3 + random.below(12),
            tells_end,
        }
    }

    /// What happens in a second.
    pub fn second(&mut self, second: u64, start: SystemTime, random: &mut Random) -> Vec<Event> {
        let at = |second: u64| time(start + Duration::from_secs(second * PACE));
        let mut alerts = Vec::new();
        for (number, alert) in self.alerts.iter().enumerate() {
            // Some fire once more after a while.
            let shift = if number % 4 == 0 && second >= alert.until + 4 {
                alert.until + 4 - alert.from
            } else {
                0
            };
            let (from, until) = (alert.from + shift, alert.until + shift);
            if second < from || second > until {
                continue;
            }
            let mut posted = json!({
                "labels": alert.labels,
                "annotations": alert.annotations,
                "startsAt": at(from),
                "generatorURL": format!("http://p/graph?g0.expr=up&n={number}"),
            });
            if second == until {
                if !alert.tells_end {
                    continue;
                }
                posted["endsAt"] = Value::from(at(until));
            } else if alert.tells_end {
                posted["endsAt"] = Value::from(at(second + 60));
            }
            alerts.push(posted);
        }
        let mut events = Vec::new();
        if !alerts.is_empty() {
            events.push(Event::Alerts(Value::from(alerts)));
        }
        let number = (second / 5) as usize;
        match second % 5 {
            2 => {
                self.count("silence");
                let (name, value, is_regex) = match random.below(3) {
                    0 => ("team", pick(random, &TEAMS), false),
                    1 => ("alertname", "D.*|C.*", true),
                    _ => ("instance", "i[0-2]", true),
                };
                let starts = second + if number.is_multiple_of(2) { 0 } else { 3 };
                let silence = json!({
                    "matchers": [
                        { "name": name, "value": value, "isRegex": is_regex },
                        { "name": "severity", "value": "none", "isRegex": false, "isEqual": number.is_multiple_of(3) },
                    ],
                    // On the server's side of now, so that both take it as it is.
                    "startsAt": time(start + Duration::from_millis((starts + 1) * 1000 * PACE)),
                    "endsAt": at(second + 5 + random.below(12)),
                    "createdBy": "me",
                    "comment": "<why>",
                });
                self.last = silence.clone();
                events.push(Event::Silence(number, silence));
            }
            3 if !self.last.is_null() => {
                // Longer, or of other alerts: then it is a new one.
                let mut silence = self.last.clone();
                silence["endsAt"] = Value::from(at(second + 6));
                if number.is_multiple_of(2) {
                    self.count("silence made longer");
                } else {
                    self.count("silence replaced");
                    silence["matchers"][0]["value"] = Value::from("web");
                }
                events.push(Event::Silence(number, silence));
            }
            4 if number % 3 == 1 => {
                self.count("silence expired");
                events.push(Event::Expire(number));
            }
            _ => {}
        }
        events
    }
}

/// A text with its times, `@` and ms, at the pace.
fn paced(text: &str) -> String {
    let mut parts = text.split('@');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (ms, rest) = part.split_at(digits);
        let ms: u64 = ms.parse().unwrap();
        let _ = write!(out, "{}ms{rest}", ms * PACE);
    }
    out
}

/// A time with ms.
fn time(at: SystemTime) -> String {
    let ms = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64;
    let (days, ms) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = kittiwake_model::calendar::civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1000 % 60,
        ms % 1000
    )
}
