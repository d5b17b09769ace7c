//! `/alertmanager/api/v2/silences` and single ones.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kittiwake_alertmanager::Alertmanager;
use kittiwake_alertmanager::engine::EngineError;
use kittiwake_alertmanager::matchers::Matcher;
use kittiwake_alertmanager::silence::{Silence, SilenceError, SilenceState};
use kittiwake_model::MatchOp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::alerts::{filters, posted_time};
use super::{Bad, MATCHERS_MAX, answer, aside, invalid, refused, time, wrong_type};
use crate::app::App;
use crate::body;
use crate::params::Params;

fn shown(silence: &Silence, now_ns: i64) -> Value {
    let matchers = silence.matchers.iter().map(|matcher| {
        let (is_equal, is_regex) = match matcher.op() {
            MatchOp::Equal => (true, false),
            MatchOp::NotEqual => (false, false),
            MatchOp::Regex => (true, true),
            MatchOp::NotRegex => (false, true),
        };
        json!({
            "isEqual": is_equal,
            "isRegex": is_regex,
            "name": matcher.name(),
            "value": matcher.value(),
        })
    });
    json!({
        "id": silence.id,
        "status": { "state": state(silence, now_ns).as_str() },
        "updatedAt": time(silence.updated_ns),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "endsAt": time(silence.ends_ns),
        "matchers": matchers.collect::<Vec<_>>(),
        "startsAt": time(silence.starts_ns),
    })
}

/// As the API sees it, an end is over at once.
fn state(silence: &Silence, now_ns: i64) -> SilenceState {
    if now_ns < silence.starts_ns {
        SilenceState::Pending
    } else if now_ns < silence.ends_ns {
        SilenceState::Active
    } else {
        SilenceState::Expired
    }
}

/// `GET /alertmanager/api/v2/silences`
pub(super) async fn list(State(app): State<App>, uri: Uri) -> Response {
    let list = move |alertmanager: &Alertmanager| {
        let wanted = match filters(&Params::of(&uri, &[])) {
            Ok(wanted) => wanted,
            Err(error) => return refused(StatusCode::BAD_REQUEST, error),
        };
        let now_ns = alertmanager.now_ns();
        let mut found: Vec<Arc<Silence>> = alertmanager.with(|engine| {
            let all = engine.silences().all();
            all.filter(|silence| wanted.iter().all(|m| silence.matchers.contains(m)))
                .cloned()
                .collect()
        });
        // Those that end next, those that start next, those that ended last.
        found.sort_by_key(|silence| {
            let state = state(silence, now_ns);
            let by = match state {
                SilenceState::Active => silence.ends_ns,
                SilenceState::Pending => silence.starts_ns,
                SilenceState::Expired => -silence.ends_ns,
            };
            (state, by)
        });
        answer(&found.iter().map(|silence| shown(silence, now_ns)).collect())
    };
    aside(&app, list).await
}

/// The identifier, if it is a UUID.
fn checked_id(id: &str) -> Result<String, Bad> {
    let is_uuid = id.len() == 36
        && id.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        });
    if is_uuid {
        return Ok(id.to_ascii_lowercase());
    }
    Err(format!("silenceID in path must be of type uuid: {id:?}"))
}

/// `GET /alertmanager/api/v2/silence/{id}`
pub(super) async fn one(State(app): State<App>, Path(id): Path<String>) -> Response {
    let id = match checked_id(&id) {
        Ok(id) => id,
        Err(bad) => return invalid(StatusCode::UNPROCESSABLE_ENTITY, 601, bad),
    };
    let now_ns = app.alertmanager.now_ns();
    let found = app
        .alertmanager
        .with(|engine| engine.silences().get(&id).cloned());
    match found {
        Some(silence) => answer(&shown(&silence, now_ns)),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `DELETE /alertmanager/api/v2/silence/{id}`
pub(super) async fn expire(State(app): State<App>, Path(id): Path<String>) -> Response {
    let id = match checked_id(&id) {
        Ok(id) => id,
        Err(bad) => return invalid(StatusCode::UNPROCESSABLE_ENTITY, 601, bad),
    };
    let expire = move |alertmanager: &Alertmanager| match alertmanager.expire_silence(&id) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(EngineError::Silence(SilenceError::NotFound)) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    aside(&app, expire).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    id: Option<String>,
    matchers: Option<Vec<PostedMatcher>>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedMatcher {
    name: Option<String>,
    value: Option<String>,
    is_regex: Option<bool>,
    is_equal: Option<bool>,
}

impl Posted {
    /// What is missing first.
    fn missing(&self) -> Option<String> {
        let mut missing = None;
        let mut need = |is_there: bool, name: &str| {
            if !is_there {
                missing.get_or_insert_with(|| format!("{name} in body is required"));
            }
        };
        need(self.comment.is_some(), "comment");
        need(self.created_by.is_some(), "createdBy");
        need(self.ends_at.is_some(), "endsAt");
        need(self.matchers.is_some(), "matchers");
        need(self.starts_at.is_some(), "startsAt");
        for (at, matcher) in self.matchers.iter().flatten().enumerate() {
            need(
                matcher.is_regex.is_some(),
                &format!("matchers.{at}.isRegex"),
            );
            need(matcher.name.is_some(), &format!("matchers.{at}.name"));
            need(matcher.value.is_some(), &format!("matchers.{at}.value"));
        }
        missing
    }

    fn checked(self, now_ns: i64) -> Result<Silence, String> {
        let starts_ns = posted_time(self.starts_at.as_deref())?.unwrap_or(0);
        let ends_ns = posted_time(self.ends_at.as_deref())?.unwrap_or(0);
        if starts_ns >= ends_ns {
            return Err("Failed to create silence: start time must be before end time".to_owned());
        }
        if ends_ns < now_ns {
            return Err("Failed to create silence: end time can't be in the past".to_owned());
        }
        if self
            .matchers
            .as_ref()
            .is_some_and(|m| m.len() > MATCHERS_MAX)
        {
            return Err(format!(
                "invalid silence: more than {MATCHERS_MAX} matchers"
            ));
        }
        let mut matchers = Vec::new();
        for (at, posted) in self.matchers.into_iter().flatten().enumerate() {
            let op = match (
                posted.is_equal.unwrap_or(true),
                posted.is_regex.unwrap_or(false),
            ) {
                (true, false) => MatchOp::Equal,
                (false, false) => MatchOp::NotEqual,
                (true, true) => MatchOp::Regex,
                (false, true) => MatchOp::NotRegex,
            };
            let (name, value) = (
                posted.name.unwrap_or_default(),
                posted.value.unwrap_or_default(),
            );
            let made = Matcher::new(op, &name, &value);
            matchers.push(made.map_err(|e| {
                format!("invalid silence: invalid label matcher {at}: invalid regular expression {value:?}: {e}")
            })?);
        }
        Ok(Silence {
            id: self.id.unwrap_or_default(),
            matchers,
            starts_ns,
            ends_ns,
            updated_ns: now_ns,
            created_by: self.created_by.unwrap_or_default(),
            comment: self.comment.unwrap_or_default(),
        })
    }
}

/// `POST /alertmanager/api/v2/silences`
pub(super) async fn set(State(app): State<App>, request: Request<Body>) -> Response {
    if let Some(refusal) = wrong_type(request.headers()) {
        return refusal;
    }
    let body = match body::read(request.into_body(), body::FORM_BYTES_MAX).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let posted: Posted = match serde_json::from_slice(&body) {
        Ok(posted) => posted,
        Err(error) => {
            let text = format!("parsing silence body from \"\" failed, because {error}");
            return invalid(StatusCode::BAD_REQUEST, 400, text);
        }
    };
    if let Some(missing) = posted.missing() {
        return invalid(StatusCode::UNPROCESSABLE_ENTITY, 602, missing);
    }
    if posted.matchers.as_ref().is_some_and(Vec::is_empty) {
        let text = "matchers in body should have at least 1 items";
        return invalid(StatusCode::UNPROCESSABLE_ENTITY, 612, text);
    }
    let set = move |alertmanager: &Alertmanager| match posted.checked(alertmanager.now_ns()) {
        Ok(silence) => match alertmanager.set_silence(silence) {
            Ok(id) => answer(&json!({ "silenceID": id })),
            Err(error @ EngineError::Silence(SilenceError::Refused(_))) => {
                refused(StatusCode::BAD_REQUEST, error.to_string())
            }
            Err(error @ EngineError::Silence(SilenceError::NotFound)) => {
                refused(StatusCode::NOT_FOUND, error.to_string())
            }
            Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        Err(error) => refused(StatusCode::BAD_REQUEST, error),
    };
    aside(&app, set).await
}
