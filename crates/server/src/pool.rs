//! Where queries run: on worker threads, a bounded number at once, others wait in a bounded
//! queue. A query ends when its time is over or its client has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kittiwake_model::{Cancel, QueryContext};
use tokio::sync::Semaphore;

use crate::reply::Problem;

/// Queries that may wait.
const WAITING_MAX: usize = 256;
/// Time that a query may take, the wait included.
pub const QUERY_TIMEOUT: Duration = Duration::from_mins(2);

/// The pool.
#[derive(Debug, Clone)]
pub struct QueryPool {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// Cancels a query when the request that asked for it is dropped.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl QueryPool {
    /// A pool that runs so many queries at once.
    pub fn new(running_max: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running_max.max(1))),
            waiting: Arc::default(),
        }
    }

    /// Runs a query with limits and a way to stop it.
    pub async fn run<T: Send + 'static>(
        &self,
        timeout: Option<Duration>,
        query: impl FnOnce(&QueryContext) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let timeout = timeout.unwrap_or(QUERY_TIMEOUT).min(QUERY_TIMEOUT);
        let deadline = Instant::now() + timeout;
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Problem::unavailable(format!(
                "{WAITING_MAX} queries are waiting already"
            )));
        }
        let waiting = Waiting(&self.waiting);
        let permit =
            tokio::time::timeout_at(deadline.into(), Arc::clone(&self.running).acquire_owned());
        let permit = match permit.await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(Problem::unavailable("the server is stopping")),
            Err(_) => return Err(kittiwake_model::StoreError::TimedOut.into()),
        };
        drop(waiting);
        let cancel = Cancel::default();
        let mut context = QueryContext::default();
        context.deadline = Some(deadline);
        context.cancel = cancel.clone();
        let _cancel = CancelOnDrop(cancel);
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            query(&context)
        });
        work.await
            .unwrap_or_else(|_| Err(Problem::internal("the query failed unexpectedly")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_request_cancels_its_query() {
        let pool = QueryPool::new(1);
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
        let pool = QueryPool::new(1);
        let hold = pool.running.clone().acquire_owned().await.unwrap();
        let answer = pool.run(Some(Duration::from_millis(5)), |_| Ok(())).await;
        assert_eq!(answer.unwrap_err().kind, "timeout");
        drop(hold);
    }
}
