//! Large results: an entry a line, sent while they are found.

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use kittiwake_model::QueryContext;
use tokio::sync::mpsc;

use super::entries::push_entry;
use super::{Wanted, push_cursor};
use crate::app::App;
use crate::fair_queue::{ASKER, asker};
use crate::params::Params;
use crate::reply::{Problem, push_json_str};

/// Bytes that are sent at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that wait for the client at most; then the search waits, too.
const CHUNKS_MAX: usize = 4;

/// All that is found up to `limit`, if there is one; the last line has the cursor, or the error
/// that ended the search.
pub(super) fn streamed(app: &App, wanted: Wanted, params: &Params) -> Result<Response, Problem> {
    let limit = params.number("limit")?.unwrap_or(usize::MAX);
    if limit == 0 {
        return Err(Problem::bad_data("limit must be a positive value"));
    }
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let (store, queries) = (app.logs.clone(), app.queries.clone());
    let find = move |context: &QueryContext| {
        let mut out = Lines {
            text: String::new(),
            sender,
        };
        let (mut count, mut last) = (0, None);
        let page = wanted.page(if limit == usize::MAX { 0 } else { limit });
        wanted.each(store.as_ref(), &page, context, |batch, index| {
            count += 1;
            push_entry(&mut out.text, batch, index, Some(&wanted.search));
            last = Some(batch.id(index));
            out.end_line() && count < limit
        })?;
        out.text.push('{');
        push_cursor(&mut out.text, last.filter(|_| count == limit));
        out.text.push('}');
        out.end_line();
        out.send();
        Ok(())
    };
    // It runs while the answer is sent.
    let search = ASKER.scope(asker(), async move { queries.run(None, find).await });
    let body = Body::from_stream(chunks(receiver, search));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, body).into_response())
}

/// Lines on their way to the client.
struct Lines {
    text: String,
    sender: mpsc::Sender<Bytes>,
}

impl Lines {
    /// Ends a line; `false` when nobody reads any more.
    fn end_line(&mut self) -> bool {
        self.text.push('\n');
        self.text.len() < CHUNK_BYTES || self.send()
    }

    fn send(&mut self) -> bool {
        let text = std::mem::take(&mut self.text);
        self.sender.blocking_send(Bytes::from(text)).is_ok()
    }
}

/// The chunks of a search that runs while they are read: who stops reading ends it.
fn chunks(
    receiver: mpsc::Receiver<Bytes>,
    search: impl Future<Output = Result<(), Problem>> + Send + 'static,
) -> impl futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    struct State<F> {
        receiver: mpsc::Receiver<Bytes>,
        search: std::pin::Pin<Box<F>>,
        is_read: bool,
        ended: Option<Result<(), Problem>>,
    }
    let state = State {
        receiver,
        search: Box::pin(search),
        is_read: false,
        ended: None,
    };
    futures_util::stream::unfold(state, |mut state| async move {
        loop {
            tokio::select! {
                biased;
                chunk = state.receiver.recv(), if !state.is_read => match chunk {
                    Some(chunk) => return Some((Ok(chunk), state)),
                    None => state.is_read = true,
                },
                ended = &mut state.search, if state.ended.is_none() => state.ended = Some(ended),
                else => break,
            }
        }
        // An error is told once, as the last line.
        let problem = state.ended.replace(Ok(()))?.err()?;
        let mut line = String::from("{\"error\":");
        push_json_str(&mut line, &problem.message);
        line.push_str("}\n");
        Some((Ok(Bytes::from(line)), state))
    })
}
