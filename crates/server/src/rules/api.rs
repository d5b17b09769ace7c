//! `/api/v1/rules` and `/api/v1/alerts`, as Prometheus has them.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use kittiwake_model::Matcher;
use kittiwake_rules::{Alert, Group, Language, Manager, Rule, RuleKind};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::params::Params;
use crate::prometheus_api::params;
use crate::reply::{Problem, success};
use crate::series_api::series_selectors;
use crate::targets_api::parse_bool;

/// `/api/v1/alerts`
pub async fn alerts(State(app): State<App>) -> Response {
    success(&alerts_of(&app.rules, Language::PromQl).to_string())
}

/// `/api/v1/alertmanagers`
pub async fn alertmanagers(State(app): State<App>) -> Result<Response, Problem> {
    // Files that list them may be read anew.
    let found = tokio::task::spawn_blocking(move || app.alertmanagers.endpoints()).await;
    let found = found.map_err(|error| Problem::internal(error.to_string()))?;
    let of = |is_dropped: bool| -> Vec<Value> {
        let some = found.iter().filter(|one| one.is_dropped == is_dropped);
        some.map(|one| json!({ "url": one.url })).collect()
    };
    let (active, dropped) = (of(false), of(true));
    let data = json!({ "activeAlertmanagers": active, "droppedAlertmanagers": dropped });
    Ok(success(&data.to_string()))
}

/// `/api/v1/rules`
pub async fn rules(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let wanted = Wanted::read(&params)?;
    Ok(success(
        &wanted.groups(&app.rules, Language::PromQl)?.to_string(),
    ))
}

/// The alerts of all groups of a language that are pending or firing.
pub(super) fn alerts_of(manager: &Manager, language: Language) -> Value {
    let mut alerts = Vec::new();
    for group in manager.groups() {
        if group.language == language {
            alerts.extend(group.rules.iter().flat_map(alerts_json));
        }
    }
    json!({ "alerts": alerts })
}

/// Which groups and rules are asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    names: HashSet<String>,
    groups: HashSet<String>,
    files: HashSet<String>,
    matchers: Vec<Vec<Matcher>>,
    kind: Option<RuleKind>,
    excludes_alerts: bool,
    /// Groups of a page at most, and where it begins.
    page: Option<(usize, String)>,
}

fn invalid(name: &str, why: &str) -> Problem {
    Problem::bad_data(format!("invalid parameter {name:?}: {why}"))
}

impl Wanted {
    pub(super) fn read(params: &Params) -> Result<Self, Problem> {
        let set = |name: &str| params.all_given(name).map(str::to_owned).collect();
        let kind = params.get("type").unwrap_or("").to_ascii_lowercase();
        let kind = match kind.as_str() {
            "" => None,
            "alert" => Some(RuleKind::Alert),
            "record" => Some(RuleKind::Record),
            other => return Err(invalid("type", &format!("not supported value {other:?}"))),
        };
        let excludes_alerts = match params.get("exclude_alerts") {
            None | Some("") => false,
            Some(text) => parse_bool(text).ok_or_else(|| {
                let why = format!(
                    "error converting exclude_alerts: strconv.ParseBool: parsing {text:?}: invalid syntax"
                );
                invalid("exclude_alerts", &why)
            })?,
        };
        Ok(Self {
            names: set("rule_name[]"),
            groups: set("rule_group[]"),
            files: set("file[]"),
            matchers: series_selectors(params)?,
            kind,
            excludes_alerts,
            page: page(params)?,
        })
    }

    fn wants_group(&self, group: &Group) -> bool {
        (self.groups.is_empty() || self.groups.contains(&group.name))
            && (self.files.is_empty() || self.files.contains(&group.file))
    }

    fn wants_rule(&self, rule: &Rule) -> bool {
        let label = |name: &str| rule.labels.get(name).map_or("", String::as_str);
        let matches = |set: &Vec<Matcher>| set.iter().all(|m| m.matches(label(m.name())));
        (self.names.is_empty() || self.names.contains(&rule.name))
            && self.kind.is_none_or(|kind| kind == rule.kind)
            && (self.matchers.is_empty() || self.matchers.iter().any(matches))
    }

    /// The groups with those of their rules that are asked for.
    pub(super) fn groups(&self, manager: &Manager, language: Language) -> Result<Value, Problem> {
        let mut shown = Vec::new();
        let mut next = None;
        let token = self.page.as_ref().map_or("", |(_, token)| token.as_str());
        let mut is_begun = token.is_empty();
        for group in manager.groups() {
            is_begun = is_begun || token_of(&group) == token;
            if !is_begun || group.language != language || !self.wants_group(&group) {
                continue;
            }
            let rules = group.rules.iter().filter(|rule| self.wants_rule(rule));
            let rules: Vec<Value> = rules.map(|r| rule_json(r, self.excludes_alerts)).collect();
            if rules.is_empty() {
                continue;
            }
            if self
                .page
                .as_ref()
                .is_some_and(|(most, _)| shown.len() == *most)
            {
                next = Some(token_of(&group));
                break;
            }
            shown.push(group_json(&group, &rules));
        }
        if !is_begun {
            let why = format!("invalid group_next_token '{token}'. were rule groups changed?");
            return Err(invalid("group_next_token", &why));
        }
        let mut data = json!({ "groups": shown });
        if let Some(next) = next {
            data["groupNextToken"] = Value::from(next);
        }
        Ok(data)
    }
}

fn page(params: &Params) -> Result<Option<(usize, String)>, Problem> {
    let token = params.get("group_next_token").unwrap_or("");
    let most = match params.get("group_limit") {
        None | Some("") if token.is_empty() => return Ok(None),
        None | Some("") => {
            let why = "group_limit needs to be present in order to paginate over the groups";
            return Err(invalid("group_next_token", why));
        }
        Some(text) => text.parse::<i32>().map_err(|error| {
            let why = format!("group_limit needs to be a valid number: {error}");
            invalid("group_limit", &why)
        })?,
    };
    match usize::try_from(most) {
        Ok(most) if most > 0 => Ok(Some((most, token.to_owned()))),
        _ => Err(invalid(
            "group_limit",
            "group_limit needs to be greater than 0",
        )),
    }
}

fn token_of(group: &Group) -> String {
    use std::fmt::Write as _;
    let mut token = String::new();
    for byte in Sha256::digest(group.key().as_bytes()) {
        // Writing to a text cannot fail.
        let _ = write!(token, "{byte:02x}");
    }
    token
}

fn group_json(group: &Group, rules: &[Value]) -> Value {
    let figures = group.figures();
    json!({
        "name": group.name,
        "file": group.file,
        "rules": rules,
        "interval": seconds(group.interval),
        "limit": group.limit,
        "evaluationTime": seconds(figures.last_took),
        "lastEvaluation": time(figures.last_run_at_ns),
    })
}

fn rule_json(rule: &Rule, excludes_alerts: bool) -> Value {
    let status = rule.status();
    let mut fields = json!({
        "name": rule.name,
        "query": rule.query.text(),
        "labels": rule.labels,
        "health": status.health.as_str(),
        "evaluationTime": seconds(status.took),
        "lastEvaluation": time(status.evaluated_at_ns),
        "type": "recording",
    });
    if let Some(error) = status.last_error {
        fields["lastError"] = Value::from(error);
    }
    if rule.kind == RuleKind::Alert {
        fields["type"] = Value::from("alerting");
        fields["state"] = Value::from(rule.state().as_str());
        fields["duration"] = seconds(rule.hold);
        fields["keepFiringFor"] = seconds(rule.keep_firing_for);
        fields["annotations"] = json!(rule.annotations);
        fields["alerts"] = if excludes_alerts {
            Value::Null
        } else {
            Value::Array(alerts_json(rule))
        };
    }
    fields
}

fn alerts_json(rule: &Rule) -> Vec<Value> {
    rule.active_alerts().iter().map(alert_json).collect()
}

fn alert_json(alert: &Alert) -> Value {
    let labels: BTreeMap<&str, &str> = alert.labels.iter().collect();
    let mut fields = json!({
        "labels": labels,
        "annotations": *alert.annotations,
        "state": alert.state.as_str(),
        "activeAt": time(Some(alert.active_at_ns)),
        "value": exponent(alert.value, 'e'),
    });
    if let Some(since) = alert.keep_firing_since_ns {
        fields["keepFiringSince"] = Value::from(time(Some(since)));
    }
    fields
}

/// Seconds as Go writes them in JSON: whole ones without a fraction.
fn seconds(duration: Duration) -> Value {
    if duration.subsec_nanos() == 0 {
        Value::from(duration.as_secs())
    } else {
        Value::from(duration.as_secs_f64())
    }
}

/// A time as Go writes it in JSON; what never was is the year 1.
pub(super) fn time(time_ns: Option<i64>) -> String {
    let Some(time_ns) = time_ns else {
        return "0001-01-01T00:00:00Z".to_owned();
    };
    let mut text = String::new();
    kittiwake_wire::time::push_rfc3339(&mut text, time_ns);
    text
}

/// A number as Go's `%e` or `%E` writes it with the fewest digits.
pub(crate) fn exponent(value: f64, mark: char) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}{mark}{sign}{:02}", exponent.abs())
}
