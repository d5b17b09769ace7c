//! `/loki/api/v1/tail`: lines over a WebSocket as they arrive, after the newest of those that
//! are there.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket};
use axum::extract::{FromRequestParts, Request, State, WebSocketUpgrade};
use axum::response::Response;
use kittiwake_logql::{self as logql, Expr, LineQuery, Window};
use kittiwake_model::{
    Direction, EntryBatch, EntryId, FollowCursor, LogStore as _, StoreError, each_entry,
};

use crate::app::App;
use crate::fair_queue::{ASKER, asker};
use crate::loki_api::{self, LokiProblem};
use crate::loki_streams::{by_stream, push_streams};
use crate::params::Params;
use crate::reply::Problem;

/// Tails at once.
const TAILS_MAX: usize = 256;
/// How often arrivals are looked for.
pub(crate) const POLL: Duration = Duration::from_millis(100);
/// An idle connection is pinged after this time, so that a dead one is noticed.
pub(crate) const PING: Duration = Duration::from_secs(30);
/// Lines that one tail holds back at most.
const HELD_MAX: usize = 10_000;
/// A client that does not read for so long is let go.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// `/loki/api/v1/tail`
pub async fn tail(State(app): State<App>, request: Request) -> Result<Response, LokiProblem> {
    let (mut parts, _) = request.into_parts();
    let params = Params::of(&parts.uri, b"");
    let Expr::Log(expr) = loki_api::parse(params.get("query").unwrap_or(""))? else {
        return Err(Problem::bad_data("only log queries can be tailed").into());
    };
    let query = LineQuery::new(&expr).map_err(loki_api::eval_problem)?;
    let by_category = loki_api::categorizes(&parts.headers);
    let delay = delay(&params)?;
    let limit = loki_api::limit(&params)?;
    let now_ns = app.now_ns();
    let start_ns = params
        .time_ns("start")?
        .unwrap_or(now_ns - 3_600_000_000_000);
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &())
        .await
        .map_err(|e| Problem::bad_data(format!("tail needs a WebSocket: {e}")))?;
    let (place, asker) = (place(&app)?, asker());
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _place = place;
        // The client has gone, or the server stops: nothing is left to tell.
        let tail = Tail {
            query,
            by_category,
            delay,
            start_ns,
            limit,
        };
        let _ = ASKER.scope(asker, tail.run(app, socket)).await;
    }))
}

/// Places for tails.
pub fn places() -> std::sync::Arc<tokio::sync::Semaphore> {
    std::sync::Arc::new(tokio::sync::Semaphore::new(TAILS_MAX))
}

/// A place for one more.
pub(crate) fn place(app: &App) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
    let taken = app.tails.clone().try_acquire_owned();
    taken.map_err(|_| Problem::unavailable(format!("{TAILS_MAX} tails are open already")))
}

/// What a client follows, and how.
struct Tail {
    query: LineQuery,
    by_category: bool,
    /// How long lines are held back, for late ones to come before them.
    delay: Duration,
    start_ns: i64,
    limit: usize,
}

/// Seconds of `delay_for`, at most five.
fn delay(params: &Params) -> Result<Duration, Problem> {
    let seconds = params.number("delay_for")?.unwrap_or(0);
    if seconds > 5 {
        return Err(Problem::bad_data("delay_for can't be greater than 5"));
    }
    Ok(Duration::from_secs(seconds as u64))
}

impl Tail {
    async fn run(self, app: App, mut socket: WebSocket) -> Result<(), axum::Error> {
        // Followed first, then looked back: what arrives between is in both and sent once.
        let window = Window {
            start_ns: self.start_ns,
            end_ns: i64::MAX,
            direction: Direction::Backward,
            limit: self.limit,
            interval_ns: 0,
        };
        let scan = self.query.scan(&window);
        let (query, limit) = (self.query.clone(), self.limit);
        let Ok(mut follow) = app.logs.follow(&scan) else {
            return Ok(());
        };
        let store = app.logs.clone();
        let look_back = app.queries.run(None, move |context| {
            let mut found = Vec::new();
            each_entry(store.as_ref(), &scan, context, |batch, index| {
                if found.len() == limit {
                    return ControlFlow::Break(());
                }
                if let Some(shown) = query.show(batch.labels(index), &batch.entries[index]) {
                    found.push((batch.id(index), shown));
                }
                ControlFlow::Continue(())
            })?;
            found.reverse();
            Ok(found)
        });
        let mut sent: HashSet<EntryId> = HashSet::new();
        match look_back.await {
            Ok(found) if !found.is_empty() => {
                sent = found.iter().map(|(id, _)| *id).collect();
                let message = message(found, 0, self.by_category);
                send(&mut socket, Message::text(message)).await?;
            }
            Ok(_) => {}
            Err(problem) => {
                let close = axum::extract::ws::CloseFrame {
                    code: axum::extract::ws::close_code::ERROR,
                    reason: problem.message.chars().take(100).collect::<String>().into(),
                };
                return send(&mut socket, Message::Close(Some(close))).await;
            }
        }
        let mut held: VecDeque<(Instant, Found)> = VecDeque::new();
        let mut poll = tokio::time::interval(POLL);
        let mut quiet = Duration::ZERO;
        let mut stop = app.stop.clone();
        loop {
            tokio::select! {
                _ = stop.changed() => {
                    return send(&mut socket, Message::Close(None)).await;
                }
                message = socket.recv() => match message {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(()),
                    Some(Ok(_)) => continue,
                },
                _ = poll.tick() => {}
            }
            let Ok((found, passed_over)) = arrived(follow.as_mut(), &mut sent, &self.query) else {
                return Ok(());
            };
            let found = self.due(&mut held, found);
            if !found.is_empty() || passed_over > 0 {
                quiet = Duration::ZERO;
                send(
                    &mut socket,
                    Message::text(message(found, passed_over, self.by_category)),
                )
                .await?;
            } else {
                quiet += POLL;
                if quiet >= PING {
                    quiet = Duration::ZERO;
                    send(&mut socket, Message::Ping(bytes::Bytes::new())).await?;
                }
            }
        }
    }

    /// What was held back long enough. More than a bound is not held.
    fn due(&self, held: &mut VecDeque<(Instant, Found)>, arrived: Found) -> Found {
        if self.delay.is_zero() {
            return arrived;
        }
        if !arrived.is_empty() {
            held.push_back((Instant::now(), arrived));
        }
        let mut due = Vec::new();
        while let Some((since, _)) = held.front() {
            let lines: usize = held.iter().map(|(_, found)| found.len()).sum();
            if since.elapsed() < self.delay && lines <= HELD_MAX {
                break;
            }
            due.extend(held.pop_front().into_iter().flat_map(|(_, found)| found));
        }
        due.sort_by_key(|(id, _)| *id);
        due
    }
}

type Found = Vec<(EntryId, (kittiwake_model::Labels, logql::Line))>;

fn arrived(
    follow: &mut dyn FollowCursor,
    sent: &mut HashSet<EntryId>,
    query: &LineQuery,
) -> Result<(Found, u64), StoreError> {
    let mut batch = EntryBatch::default();
    let passed_over = follow.poll(&mut batch)?;
    let mut found = Vec::new();
    for index in 0..batch.len() {
        // Only the first poll can find what was sent already.
        if sent.contains(&batch.id(index)) {
            continue;
        }
        if let Some(shown) = query.show(batch.labels(index), &batch.entries[index]) {
            found.push((batch.id(index), shown));
        }
    }
    sent.clear();
    Ok((found, passed_over))
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), axum::Error> {
    match tokio::time::timeout(SEND_TIMEOUT, socket.send(message)).await {
        Ok(sent) => sent,
        Err(late) => Err(axum::Error::new(late)),
    }
}

/// One message: the lines by stream, and how many were passed over.
fn message(found: Found, passed_over: u64, by_category: bool) -> String {
    let mut streams = logql::group(found.into_iter().map(|(_, shown)| shown));
    let mut out = String::from("{");
    if by_category {
        streams = by_stream(streams, Direction::Forward);
        out.push_str(r#""encodingFlags":["categorize-labels"],"#);
    }
    out.push_str(r#""streams":["#);
    push_streams(&mut out, &streams, by_category);
    out.push_str(r#"],"dropped_entries":["#);
    for index in 0..passed_over.min(1000) {
        out.push_str(if index > 0 { "," } else { "" });
        out.push_str(r#"{"labels":{},"timestamp":"0"}"#);
    }
    out.push_str("]}");
    out
}
