//! What an operator should know now, as Prometheus' page shows it: a list, and its changes as
//! server-sent events.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use kittiwake_wire::time::push_rfc3339;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::app::App;
use crate::reply::{push_json_str, success};

/// Changes that a slow follower may be behind.
const BEHIND_MAX: usize = 64;

/// What is to be known.
#[derive(Debug)]
pub struct Notifications {
    active: Mutex<BTreeMap<&'static str, i64>>,
    changes: broadcast::Sender<String>,
}

impl Default for Notifications {
    fn default() -> Self {
        Self {
            active: Mutex::default(),
            changes: broadcast::channel(BEHIND_MAX).0,
        }
    }
}

impl Notifications {
    /// Says something, unless it is said already.
    pub fn raise(&self, text: &'static str, now_ms: i64) {
        let mut active = self.active.lock();
        if !active.contains_key(text) {
            active.insert(text, now_ms);
            // Nobody has to follow.
            let _ = self.changes.send(json(text, now_ms, true));
        }
    }

    /// Takes it back.
    pub fn clear(&self, text: &'static str) {
        if let Some(time_ms) = self.active.lock().remove(text) {
            let _ = self.changes.send(json(text, time_ms, false));
        }
    }

    /// All as JSON, and what changes from then on.
    fn follow(&self) -> (Vec<String>, broadcast::Receiver<String>) {
        let active = self.active.lock();
        let all = active.iter().map(|(text, ms)| json(text, *ms, true));
        (all.collect(), self.changes.subscribe())
    }
}

fn json(text: &str, time_ms: i64, is_active: bool) -> String {
    let mut out = String::from("{\"text\":");
    push_json_str(&mut out, text);
    out.push_str(",\"date\":\"");
    push_rfc3339(&mut out, time_ms.saturating_mul(1_000_000));
    out.push_str("\",\"active\":");
    out.push_str(if is_active { "true}" } else { "false}" });
    out
}

/// `/api/v1/notifications`
pub async fn list(State(app): State<App>) -> Response {
    let (all, _) = app.notifications.follow();
    success(&format!("[{}]", all.join(",")))
}

/// `/api/v1/notifications/live`
pub async fn live(State(app): State<App>) -> Response {
    let (all, changes) = app.notifications.follow();
    let stop = app.stop.clone();
    let events = stream::unfold(
        (all.into_iter(), changes, stop),
        |(mut all, mut changes, mut stop)| async move {
            let text = match all.next() {
                Some(text) => text,
                None => loop {
                    tokio::select! {
                        change = changes.recv() => match change {
                            Ok(text) => break text,
                            Err(broadcast::error::RecvError::Lagged(_)) => {}
                            Err(broadcast::error::RecvError::Closed) => return None,
                        },
                        _ = stop.changed() => return None,
                    }
                },
            };
            let event = Ok::<_, Infallible>(Event::default().data(text));
            Some((event, (all, changes, stop)))
        },
    );
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}
