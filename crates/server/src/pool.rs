//! Where queries run: on worker threads, a bounded number at once; others wait in a bounded
//! queue, in which those who ask take turns. A query ends when its time is over or its client has gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use kittiwake_model::{Cancel, HeldMemory, MemoryPool, QueryContext};

use crate::active_queries::ActiveQueries;
use crate::fair_queue::{FairQueue, Full};
use crate::reply::Problem;

/// Queries that may wait.
const WAITING_MAX: usize = 256;
/// An answer of fewer bytes is not counted while it is fetched.
const ANSWER_BYTES_MIN: u64 = 64 << 10;

/// Bounds of queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Queries that run at once.
    pub running_max: usize,
    /// Time that a query may take, the wait included.
    pub timeout: Duration,
    /// Samples that a query may load; 0 is no limit.
    pub samples_max: u64,
    /// Memory of all queries together, in bytes.
    pub memory_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running_max: 20,
            timeout: Duration::from_mins(2),
            samples_max: 50_000_000,
            memory_bytes_max: 2 << 30,
        }
    }
}

/// The pool.
#[derive(Debug, Clone)]
pub struct QueryPool {
    limits: Limits,
    active: Arc<ActiveQueries>,
    queue: Arc<FairQueue>,
    memory: Arc<MemoryPool>,
}

/// Cancels a query when the request that asked for it is dropped.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// An answer's bytes, counted for as long as a client takes to fetch them.
struct Answer {
    bytes: Bytes,
    _held: HeldMemory,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Counts answers that wait for slow clients as memory of queries.
pub async fn hold_answers(State(pool): State<QueryPool>, request: Request, next: Next) -> Response {
    let answer = next.run(request).await;
    // What streams is made while it is fetched.
    let Some(len) = answer.body().size_hint().exact() else {
        return answer;
    };
    if len < ANSWER_BYTES_MIN {
        return answer;
    }
    let held = match pool.memory.hold(len) {
        Ok(held) => held,
        Err(error) => return Problem::from(error).into_response(),
    };
    let (head, body) = answer.into_parts();
    match body.collect().await {
        Ok(body) => {
            let bytes = body.to_bytes();
            let answer = Answer { bytes, _held: held };
            Response::from_parts(head, Body::from(Bytes::from_owner(answer)))
        }
        Err(error) => Problem::internal(error.to_string()).into_response(),
    }
}

impl QueryPool {
    /// A pool with these bounds, whose queries are noted in a log.
    pub fn new(limits: Limits, active: ActiveQueries) -> Self {
        Self {
            limits,
            active: Arc::new(active),
            queue: FairQueue::new(limits.running_max, WAITING_MAX),
            memory: MemoryPool::new(limits.memory_bytes_max),
        }
    }

    /// Runs a query of which nothing is noted, as [`Self::run_noted`] does.
    pub async fn run<T: Send + 'static>(
        &self,
        timeout: Option<Duration>,
        query: impl FnOnce(&QueryContext) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.run_noted(None, timeout, query).await
    }

    /// Runs a query with limits and a way to stop it. Its text and the time in ms are noted
    /// while it runs.
    pub async fn run_noted<T: Send + 'static>(
        &self,
        text: Option<(String, i64)>,
        timeout: Option<Duration>,
        query: impl FnOnce(&QueryContext) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let longest = self.limits.timeout;
        let timeout = timeout.unwrap_or(longest).min(longest);
        let deadline = Instant::now() + timeout;
        let place = match tokio::time::timeout_at(deadline.into(), self.queue.place()).await {
            Ok(Ok(place)) => place,
            Ok(Err(Full)) => {
                return Err(Problem::unavailable(
                    "too many queries are waiting already".to_owned(),
                ));
            }
            Err(_) => return Err(kittiwake_model::StoreError::TimedOut.into()),
        };
        let cancel = Cancel::default();
        let mut context = QueryContext::sharing(&self.memory);
        context.deadline = Some(deadline);
        context.cancel = cancel.clone();
        context.samples_max = self.limits.samples_max;
        let _cancel = CancelOnDrop(cancel);
        let active = Arc::clone(&self.active);
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            let _noted = text.map(|(text, now_ms)| active.begin(&text, now_ms));
            query(&context)
        });
        work.await
            .unwrap_or_else(|_| Err(Problem::internal("the query failed unexpectedly")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> QueryPool {
        let limits = Limits {
            running_max: 1,
            ..Limits::default()
        };
        QueryPool::new(limits, ActiveQueries::default())
    }

    #[tokio::test]
    async fn a_dropped_request_cancels_its_query() {
        let pool = one();
        let (started, wait) = tokio::sync::oneshot::channel();
        let (ended, seen) = std::sync::mpsc::channel();
        let request = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(None, move |context| {
                    let _ = started.send(());
                    while context.check().is_ok() {
                        std::thread::yield_now();
                    }
                    let _ = ended.send(());
                    Ok(())
                })
                .await
            }
        });
        wait.await.unwrap();
        request.abort();
        tokio::task::spawn_blocking(move || seen.recv().unwrap())
            .await
            .unwrap();
        // The place is free again.
        assert_eq!(pool.run(None, |_| Ok(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn time_spent_waiting_counts() {
        let pool = one();
        let hold = pool.queue.place().await.unwrap();
        let answer = pool.run(Some(Duration::from_millis(5)), |_| Ok(())).await;
        assert_eq!(answer.unwrap_err().kind, "timeout");
        drop(hold);
    }

    #[tokio::test]
    async fn answers_count_until_they_are_fetched() {
        use axum::routing::get;
        use tower::ServiceExt as _;

        let limits = Limits {
            memory_bytes_max: 1_000_000,
            ..Limits::default()
        };
        let pool = QueryPool::new(limits, ActiveQueries::default());
        let answers = axum::Router::new()
            .route("/small", get(async || "x".repeat(1000)))
            .route("/large", get(async || "x".repeat(600_000)))
            .layer(axum::middleware::from_fn_with_state(
                pool.clone(),
                hold_answers,
            ));
        let ask = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            answers.clone().oneshot(request).await.unwrap()
        };
        assert_eq!(ask("/small").await.status(), 200);
        let first = ask("/large").await;
        assert_eq!(pool.memory.held(), 600_000);
        assert_eq!(ask("/large").await.status(), 422);
        let body = first.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), 600_000);
        assert_eq!(pool.memory.held(), 600_000);
        drop(body);
        assert_eq!(pool.memory.held(), 0);
        assert_eq!(ask("/large").await.status(), 200);
    }
}
