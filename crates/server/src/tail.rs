//! `/loki/api/v1/tail`: lines over a WebSocket as they arrive, after the newest of those that
//! are there.

use std::collections::HashSet;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use axum::extract::{FromRequestParts, Request, State, WebSocketUpgrade};
use axum::response::Response;
use kittiwake_logql::{self as logql, Expr, LogExpr};
use kittiwake_model::{Direction, EntryBatch, EntryId, FollowCursor, LogStore as _, StoreError};

use crate::app::App;
use crate::loki_api::{self, LokiProblem, push_stream};
use crate::params::Params;
use crate::reply::Problem;

/// Tails at once.
const TAILS_MAX: usize = 256;
/// How often arrivals are looked for.
const POLL: Duration = Duration::from_millis(100);
/// An idle connection is pinged after this time, so that a dead one is noticed.
const PING: Duration = Duration::from_secs(30);
/// A client that does not read for so long is let go.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// `/loki/api/v1/tail`
pub async fn tail(State(app): State<App>, request: Request) -> Result<Response, LokiProblem> {
    let (mut parts, _) = request.into_parts();
    let params = Params::of(&parts.uri, b"");
    let Expr::Log(expr) = loki_api::parse(params.required("query")?)? else {
        return Err(Problem::bad_data("only log queries can be tailed").into());
    };
    let limit = loki_api::limit(&params)?;
    let now_ns = app.now_ns();
    let start_ns = params
        .time_ns("start")?
        .unwrap_or(now_ns - 3_600_000_000_000);
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &())
        .await
        .map_err(|e| Problem::bad_data(format!("tail needs a WebSocket: {e}")))?;
    let place = app
        .tails
        .clone()
        .try_acquire_owned()
        .map_err(|_| Problem::unavailable(format!("{TAILS_MAX} tails are open already")))?;
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _place = place;
        // The client has gone, or the server stops: nothing is left to tell.
        let _ = run(app, socket, expr, start_ns, limit).await;
    }))
}

/// Places for tails.
pub fn places() -> std::sync::Arc<tokio::sync::Semaphore> {
    std::sync::Arc::new(tokio::sync::Semaphore::new(TAILS_MAX))
}

async fn run(
    app: App,
    mut socket: WebSocket,
    expr: LogExpr,
    start_ns: i64,
    limit: usize,
) -> Result<(), axum::Error> {
    // Followed first, then looked back: what arrives between is in both and sent once.
    let scan = expr.scan(start_ns, i64::MAX, Direction::Backward, limit);
    let Ok(mut follow) = app.logs.follow(&scan) else {
        return Ok(());
    };
    let store = app.logs.clone();
    let look_back = app.queries.run(None, move |context| {
        let mut cursor = store.scan(&scan, context)?;
        let (mut batch, mut found) = (EntryBatch::default(), Vec::new());
        while cursor.next_batch(&mut batch)? {
            for index in 0..batch.len() {
                let labels = batch.labels(index).clone();
                found.push((batch.id(index), labels, batch.entries[index].clone()));
            }
        }
        found.reverse();
        Ok(found)
    });
    let mut sent: HashSet<EntryId> = HashSet::new();
    match look_back.await {
        Ok(found) if !found.is_empty() => {
            sent = found.iter().map(|(id, ..)| *id).collect();
            let message = message(&expr, found, 0);
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
        let Ok((found, passed_over)) = arrived(follow.as_mut(), &mut sent) else {
            return Ok(());
        };
        if !found.is_empty() || passed_over > 0 {
            quiet = Duration::ZERO;
            send(
                &mut socket,
                Message::text(message(&expr, found, passed_over)),
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

type Found = Vec<(EntryId, kittiwake_model::Labels, kittiwake_model::Entry)>;

fn arrived(
    follow: &mut dyn FollowCursor,
    sent: &mut HashSet<EntryId>,
) -> Result<(Found, u64), StoreError> {
    let mut batch = EntryBatch::default();
    let passed_over = follow.poll(&mut batch)?;
    let mut found = Vec::new();
    for index in 0..batch.len() {
        // Only the first poll can find what was sent already.
        if !sent.contains(&batch.id(index)) {
            let labels = batch.labels(index).clone();
            found.push((batch.id(index), labels, batch.entries[index].clone()));
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
fn message(expr: &LogExpr, found: Found, passed_over: u64) -> String {
    let lines = found.into_iter().map(|(_, labels, entry)| (labels, entry));
    let streams = logql::group(expr, lines);
    let mut out = String::from(r#"{"streams":["#);
    for (index, stream) in streams.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_stream(&mut out, stream);
    }
    out.push_str(r#"],"dropped_entries":["#);
    for index in 0..passed_over.min(1000) {
        out.push_str(if index > 0 { "," } else { "" });
        out.push_str(r#"{"labels":{},"timestamp":"0"}"#);
    }
    out.push_str("]}");
    out
}
