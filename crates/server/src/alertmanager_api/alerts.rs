//! `/alertmanager/api/v2/alerts` and its groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use kittiwake_alertmanager::Alertmanager;
use kittiwake_alertmanager::alert::{Alert, Annotations, Fingerprint, labels_order};
use kittiwake_alertmanager::engine::{GroupView, Muting};
use kittiwake_alertmanager::matchers::{self, Matcher};
use kittiwake_alertmanager::template::pairs_json;
use kittiwake_model::{Labels, MatchOp, pattern};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Bad, MATCHERS_MAX, answer, aside, invalid, refused, time, wrong_type};
use crate::app::App;
use crate::body;
use crate::params::Params;

/// Which alerts are asked for.
struct Filter {
    matchers: Vec<Matcher>,
    receiver: Option<regex::Regex>,
    active: bool,
    silenced: bool,
    inhibited: bool,
    muted: bool,
}

impl Filter {
    fn of(uri: &Uri) -> Result<Self, Bad> {
        let params = Params::of(uri, &[]);
        let receiver = params.get("receiver").map(|text| {
            pattern::anchored(text).map_err(|e| format!("failed to parse receiver param: {e}"))
        });
        let flag = |name: &str| {
            const TRUE: [&str; 9] = [
                "true", "1", "yes", "ok", "y", "on", "selected", "checked", "t",
            ];
            let value = params.get(name).map(str::to_lowercase);
            value.is_none_or(|value| TRUE.contains(&value.as_str()))
        };
        Ok(Self {
            matchers: filters(&params)?,
            receiver: receiver.transpose()?,
            active: flag("active"),
            silenced: flag("silenced"),
            inhibited: flag("inhibited"),
            muted: flag("muted"),
        })
    }

    fn takes(&self, labels: &Labels, muting: &Muting) -> bool {
        let (silenced, inhibited) = (
            !muting.silenced_by.is_empty(),
            muting.inhibited_by.is_some(),
        );
        (self.active || silenced || inhibited)
            && (self.silenced || !silenced)
            && (self.inhibited || !inhibited)
            && self.matchers.iter().all(|m| matches(m, labels))
    }

    fn takes_receiver(&self, name: &str) -> bool {
        self.receiver.as_ref().is_none_or(|r| r.is_match(name))
    }
}

/// The matchers of the parameters `filter`.
pub(super) fn filters(params: &Params) -> Result<Vec<Matcher>, Bad> {
    if params.all_given("filter").count() > MATCHERS_MAX {
        return Err(format!("more than {MATCHERS_MAX} filters"));
    }
    params
        .all_given("filter")
        .map(matchers::parse_one)
        .collect()
}

/// A filter without a value asks whether there is such a label.
fn matches(matcher: &Matcher, labels: &Labels) -> bool {
    let value = labels.get(matcher.name());
    let is_presence = matcher.value().is_empty()
        && match matcher.op() {
            MatchOp::NotEqual | MatchOp::NotRegex => value.is_some(),
            MatchOp::Equal | MatchOp::Regex => value.is_none(),
        };
    is_presence || matcher.matches(value.unwrap_or_default())
}

fn shown(
    (fingerprint, alert): (Fingerprint, &Alert),
    receivers: &[String],
    muting: &Muting,
    muted_by: &[String],
) -> Value {
    let inhibited_by = muting.inhibited_by.map(|f| f.to_string());
    let is_suppressed =
        !muting.silenced_by.is_empty() || inhibited_by.is_some() || !muted_by.is_empty();
    let receivers = receivers.iter().map(|name| json!({ "name": name }));
    let mut value = json!({
        "annotations": pairs_json(alert.annotations.iter()),
        "endsAt": time(alert.ends_ns),
        "fingerprint": fingerprint.to_string(),
        "receivers": receivers.collect::<Vec<_>>(),
        "startsAt": time(alert.starts_ns),
        "status": {
            "inhibitedBy": inhibited_by.into_iter().collect::<Vec<_>>(),
            "mutedBy": muted_by,
            "silencedBy": muting.silenced_by,
            "state": if is_suppressed { "suppressed" } else { "active" },
        },
        "updatedAt": time(alert.updated_ns),
        "labels": pairs_json(alert.labels.iter()),
    });
    if !alert.generator_url.is_empty() {
        value["generatorURL"] = Value::from(alert.generator_url.as_str());
    }
    value
}

/// Answers about the alerts that a request asks for.
async fn filtered(
    app: &App,
    uri: Uri,
    found: impl FnOnce(&Alertmanager, &Filter) -> Response + Send + 'static,
) -> Response {
    let work = move |alertmanager: &Alertmanager| match Filter::of(&uri) {
        Ok(filter) => found(alertmanager, &filter),
        Err(bad) => refused(StatusCode::BAD_REQUEST, bad),
    };
    aside(app, work).await
}

/// `GET /alertmanager/api/v2/alerts`
pub(super) async fn list(State(app): State<App>, uri: Uri) -> Response {
    let found = |alertmanager: &Alertmanager, filter: &Filter| {
        let now_ns = alertmanager.now_ns();
        let mut found = alertmanager.with(|engine| {
            let config = Arc::clone(engine.config());
            let mut found = Vec::new();
            for (fingerprint, alert) in engine.active(now_ns) {
                let routes = config.route.matching(&alert.labels);
                let receivers: Vec<String> =
                    routes.iter().map(|r| r.options.receiver.clone()).collect();
                if !receivers.iter().any(|name| filter.takes_receiver(name)) {
                    continue;
                }
                let muting = engine.muting(&alert.labels, now_ns);
                if filter.takes(&alert.labels, &muting) {
                    found.push((fingerprint, Arc::clone(alert), receivers, muting));
                }
            }
            found
        });
        found.sort_by_key(|(fingerprint, ..)| fingerprint.to_string());
        let found = found.iter().map(|(fingerprint, alert, receivers, muting)| {
            shown((*fingerprint, alert), receivers, muting, &[])
        });
        answer(&found.collect())
    };
    filtered(&app, uri, found).await
}

/// `GET /alertmanager/api/v2/alerts/groups`
pub(super) async fn groups(State(app): State<App>, uri: Uri) -> Response {
    let found = |alertmanager: &Alertmanager, filter: &Filter| {
        let now_ns = alertmanager.now_ns();
        let (groups, muting) = alertmanager.with(|engine| {
            let mut groups = engine.groups(now_ns);
            groups.retain(|group| filter.takes_receiver(&group.receiver));
            let mut muting = BTreeMap::new();
            for group in &mut groups {
                group.alerts.retain(|(fingerprint, alert)| {
                    let muting = muting
                        .entry(*fingerprint)
                        .or_insert_with(|| engine.muting(&alert.labels, now_ns));
                    filter.takes(&alert.labels, muting)
                });
            }
            groups.retain(|group| !group.alerts.is_empty());
            (groups, muting)
        });
        answer(&groups_json(groups, &muting, filter.muted))
    };
    filtered(&app, uri, found).await
}

fn groups_json(
    mut groups: Vec<GroupView>,
    muting: &BTreeMap<Fingerprint, Muting>,
    shows_muted: bool,
) -> Value {
    groups.sort_by(|a, b| {
        labels_order(&a.labels, &b.labels).then_with(|| a.receiver.cmp(&b.receiver))
    });
    let mut receivers: BTreeMap<Fingerprint, Vec<String>> = BTreeMap::new();
    for group in &groups {
        for (fingerprint, _) in &group.alerts {
            let names = receivers.entry(*fingerprint).or_default();
            names.push(group.receiver.clone());
            names.sort();
        }
    }
    let is_shown = |group: &&mut GroupView| shows_muted || group.muted_by.is_empty();
    let groups = groups.iter_mut().filter(is_shown).map(|group| {
        group.alerts.sort_by(|(_, a), (_, b)| a.order(b));
        let alerts = group.alerts.iter().map(|(fingerprint, alert)| {
            let muting = muting.get(fingerprint).cloned().unwrap_or_default();
            let receivers = receivers.get(fingerprint).cloned().unwrap_or_default();
            shown((*fingerprint, alert), &receivers, &muting, &group.muted_by)
        });
        json!({
            "alerts": alerts.collect::<Vec<_>>(),
            "labels": pairs_json(group.labels.iter()),
            "receiver": { "name": group.receiver },
        })
    });
    groups.collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    #[serde(rename = "generatorURL")]
    generator_url: Option<String>,
}

/// A time in ns; none where there is no text, or only Go's zero one.
pub(super) fn posted_time(text: Option<&str>) -> Result<Option<i64>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let time: Timestamp = text
        .parse()
        .map_err(|e| format!("parsing time {text:?}: {e}"))?;
    if time.as_second() == -62_135_596_800 {
        return Ok(None);
    }
    let ns = time.as_nanosecond();
    // Times beyond what ns can tell are far enough.
    let ns = ns.clamp(i128::from(i64::MIN + 1), i128::from(i64::MAX));
    Ok(Some(ns as i64))
}

impl Posted {
    fn checked(self, now_ns: i64, timeout_ns: i64) -> Result<Alert, String> {
        let starts = posted_time(self.starts_at.as_deref())?;
        let ends = posted_time(self.ends_at.as_deref())?;
        let starts_ns = starts.or(ends).unwrap_or(now_ns);
        let is_timeout = ends.is_none();
        let ends_ns = ends.unwrap_or_else(|| now_ns.saturating_add(timeout_ns));
        if ends_ns < starts_ns {
            return Err("start time must be before end time".to_owned());
        }
        let labels = self.labels.unwrap_or_default();
        let labels: Vec<_> = labels.into_iter().filter(|(_, v)| !v.is_empty()).collect();
        if labels.is_empty() {
            return Err("at least one label pair required".to_owned());
        }
        let labels = Labels::from_pairs(labels).map_err(|e| format!("invalid label set: {e}"))?;
        let annotations = self.annotations.unwrap_or_default();
        if annotations.contains_key("") {
            return Err("invalid annotations: invalid name \"\"".to_owned());
        }
        Ok(Alert {
            labels,
            annotations: Annotations::from_pairs(annotations),
            starts_ns,
            ends_ns,
            generator_url: self.generator_url.unwrap_or_default(),
            updated_ns: now_ns,
            is_timeout,
        })
    }
}

/// `POST /alertmanager/api/v2/alerts`
pub(super) async fn put(State(app): State<App>, request: Request<Body>) -> Response {
    if let Some(refusal) = wrong_type(request.headers()) {
        return refusal;
    }
    let (parts, body) = request.into_parts();
    let body = match body::read(body, body::BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let encoding = body::token(&parts.headers, axum::http::header::CONTENT_ENCODING);
    let body = match body::decompress(&encoding, &body) {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let posted: Vec<Posted> = match serde_json::from_slice(&body) {
        Ok(posted) => posted,
        Err(error) => {
            let text = format!("parsing alerts body from \"\" failed, because {error}");
            return invalid(StatusCode::BAD_REQUEST, 400, text);
        }
    };
    if let Some(at) = posted.iter().position(|alert| alert.labels.is_none()) {
        let text = format!("{at}.labels in body is required");
        return invalid(StatusCode::UNPROCESSABLE_ENTITY, 602, text);
    }
    let times = posted.iter().flat_map(|a| [&a.starts_at, &a.ends_at]);
    let wrong = times
        .map(|t| posted_time(t.as_deref()))
        .find_map(Result::err);
    if let Some(error) = wrong {
        let text = format!("parsing alerts body from \"\" failed, because {error}");
        return invalid(StatusCode::BAD_REQUEST, 400, text);
    }
    let alertmanager = &app.alertmanager;
    let now_ns = alertmanager.now_ns();
    let timeout = alertmanager.config().resolve_timeout;
    let timeout_ns = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
    let mut alerts = Vec::with_capacity(posted.len());
    let mut problems = Vec::new();
    for alert in posted {
        match alert.checked(now_ns, timeout_ns) {
            Ok(alert) => alerts.push(alert),
            Err(problem) => problems.push(problem),
        }
    }
    let invalid = problems.len() as u64;
    alertmanager.with(|engine| {
        engine
            .stats()
            .add("alertmanager_alerts_invalid_total", &[], invalid);
    });
    match alertmanager.put(alerts) {
        Err(error) => return refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Ok(0) => {}
        Ok(dropped) => {
            let text = format!("{dropped} alerts were not taken: there are too many");
            return refused(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
    }
    if problems.is_empty() {
        StatusCode::OK.into_response()
    } else {
        refused(StatusCode::BAD_REQUEST, problems.join("; "))
    }
}
