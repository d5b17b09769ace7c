//! `/api/search/tail`: what is found as it arrives, over a WebSocket or as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{Message, WebSocket};
use axum::extract::{FromRequestParts as _, Request, State, WebSocketUpgrade};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use kittiwake_model::{EntryBatch, FollowCursor, LogStore as _};
use tokio::sync::OwnedSemaphorePermit;

use super::Wanted;
use super::entries::push_entry;
use crate::app::App;
use crate::params::Params;
use crate::reply::Problem;
use crate::tail::{PING, POLL, SEND_TIMEOUT, place};

/// `/api/search/tail`: `query` and `selector` as in a search. Each message or event is
/// `{"entries":[…],"dropped":n}`.
pub async fn tail(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let wanted = Wanted::new(&app, &Params::of(&parts.uri, b""))?;
    let follower = Follower {
        follow: app.logs.follow(&wanted.scan)?,
        wanted,
        quiet: Duration::ZERO,
        app: app.clone(),
        _place: place(&app)?,
    };
    if !parts.headers.contains_key(header::UPGRADE) {
        return Ok(events(follower));
    }
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &())
        .await
        .map_err(|e| Problem::bad_data(format!("no WebSocket: {e}")))?;
    // The client has gone, or the server stops: nothing is left to tell.
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _ = serve(follower, socket).await;
    }))
}

/// One who follows.
struct Follower {
    follow: Box<dyn FollowCursor>,
    wanted: Wanted,
    quiet: Duration,
    app: App,
    _place: OwnedSemaphorePermit,
}

/// What comes next.
enum Next {
    Message(String),
    /// Nothing for a while.
    Quiet,
    /// The server stops.
    End,
}

impl Follower {
    async fn next(&mut self) -> Next {
        let mut stop = self.app.stop.clone();
        loop {
            tokio::select! {
                _ = stop.changed() => return Next::End,
                () = tokio::time::sleep(POLL) => {}
            }
            match self.poll() {
                Err(_) => return Next::End,
                Ok(Some(message)) => {
                    self.quiet = Duration::ZERO;
                    return Next::Message(message);
                }
                Ok(None) => self.quiet += POLL,
            }
            if self.quiet >= PING {
                self.quiet = Duration::ZERO;
                return Next::Quiet;
            }
        }
    }

    fn poll(&mut self) -> Result<Option<String>, kittiwake_model::StoreError> {
        let mut batch = EntryBatch::default();
        let dropped = self.follow.poll(&mut batch)?;
        let mut entries = String::new();
        for index in (0..batch.len()).filter(|index| self.wanted.finds(&batch, *index)) {
            if !entries.is_empty() {
                entries.push(',');
            }
            push_entry(&mut entries, &batch, index, Some(&self.wanted.search));
        }
        let has_news = !entries.is_empty() || dropped > 0;
        Ok(has_news.then(|| format!(r#"{{"entries":[{entries}],"dropped":{dropped}}}"#)))
    }
}

async fn serve(mut follower: Follower, mut socket: WebSocket) -> Result<(), axum::Error> {
    loop {
        let message = tokio::select! {
            next = follower.next() => match next {
                Next::Message(text) => Message::text(text),
                Next::Quiet => Message::Ping(Bytes::new()),
                Next::End => return socket.send(Message::Close(None)).await,
            },
            received = socket.recv() => match received {
                None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(()),
                Some(Ok(_)) => continue,
            },
        };
        let sent = tokio::time::timeout(SEND_TIMEOUT, socket.send(message));
        sent.await.map_err(axum::Error::new)??;
    }
}

fn events(follower: Follower) -> Response {
    // The first line shows proxies and browsers that there is an answer.
    let start = Some((Bytes::from(": following\n\n"), follower));
    let stream = futures_util::stream::unfold((start, None), |state| async move {
        let (start, running) = state;
        if let Some((first, follower)) = start {
            return Some((Ok::<_, Infallible>(first), (None, Some(follower))));
        }
        let mut follower: Follower = running?;
        let event = match follower.next().await {
            Next::Message(text) => format!("data: {text}\n\n"),
            Next::Quiet => ":\n\n".to_owned(),
            Next::End => return None,
        };
        Some((Ok(Bytes::from(event)), (None, Some(follower))))
    });
    let kinds = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (kinds, Body::from_stream(stream)).into_response()
}
