//! From what sources give to frames: batches are frozen into requests before they are
//! journalled, so a frame keeps its content for life.

use std::sync::Arc;
use std::time::Duration;

use kittiwake_sources::{Gathered, LineBatch, SampleBatch};
use kittiwake_wire::loki_push::PushEncoder;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::frame::{CursorChange, Frame, Kind};
use crate::queue::Queue;
use crate::series;
use crate::status::Status;

/// Bytes of lines after which a frame is closed.
const LINES_BYTES: usize = 512 << 10;
/// Lines that came are journalled after this time at the latest.
const LINGER: Duration = Duration::from_millis(50);
/// How often a full queue or disk is looked at again.
const FULL_WAIT: Duration = Duration::from_millis(250);

/// Lines on their way into a frame.
#[derive(Debug, Default)]
struct Open {
    encoder: PushEncoder,
    cursors: Vec<CursorChange>,
    /// When it is journalled at the latest, however lines go on coming.
    due: Option<Instant>,
}

/// Journals what comes until the sources are done.
pub(crate) async fn run(
    mut gathered: mpsc::Receiver<Gathered>,
    queue: Arc<Queue>,
    queue_bytes_max: u64,
    status: Arc<Status>,
) {
    let mut open = Open::default();
    loop {
        let next = match open.due {
            None => gathered.recv().await,
            // Looked at first: where lines go on coming, there is always one to receive.
            Some(due) if due <= Instant::now() => {
                open.close(&queue, &status).await;
                continue;
            }
            Some(due) => match timeout_at(due, gathered.recv()).await {
                Ok(next) => next,
                Err(_) => continue,
            },
        };
        match next {
            None => break,
            Some(Gathered::Samples(batch)) => {
                if queue.pending_bytes() >= queue_bytes_max {
                    // Newer figures come; lines would be lost for good.
                    status.drop_samples(batch.samples.len() as u64);
                } else {
                    samples(&batch, &queue, &status).await;
                }
            }
            Some(Gathered::Lines(batch)) => {
                if queue.pending_bytes() >= queue_bytes_max {
                    // Lines wait where they are: in their files.
                    status.set_full(true);
                    while queue.pending_bytes() >= queue_bytes_max {
                        tokio::time::sleep(FULL_WAIT).await;
                    }
                    status.set_full(false);
                }
                open.add(batch);
                if open.encoder.size_bytes() >= LINES_BYTES {
                    open.close(&queue, &status).await;
                }
            }
            Some(Gathered::Forget { cursor }) => open.cursors.push(CursorChange::Forget(cursor)),
        }
        if !open.is_empty() && open.due.is_none() {
            open.due = Some(Instant::now() + LINGER);
        }
    }
    open.close(&queue, &status).await;
}

async fn samples(batch: &SampleBatch, queue: &Queue, status: &Status) {
    for (count, body) in series::bodies(batch) {
        match body {
            Ok(body) => {
                let frame = Frame {
                    kind: Kind::Metrics,
                    cursors: Vec::new(),
                    body,
                };
                append(queue, &frame, status).await;
            }
            Err(error) => {
                tracing::error!(%error, "samples do not encode");
                status.drop_samples(count as u64);
            }
        }
    }
}

/// Appends a frame; while the disk is full it waits, and sources wait behind it.
async fn append(queue: &Queue, frame: &Frame, status: &Status) {
    let mut is_told = false;
    loop {
        match queue.append(frame) {
            Ok(_) => break,
            Err(error) => {
                if !is_told {
                    tracing::error!(%error, "cannot write to the journal, sources wait");
                    is_told = true;
                    status.set_full(true);
                }
                tokio::time::sleep(FULL_WAIT).await;
            }
        }
    }
    if is_told {
        tracing::info!("the journal takes frames again");
        status.set_full(false);
    }
}

impl Open {
    fn is_empty(&self) -> bool {
        self.encoder.is_empty() && self.cursors.is_empty()
    }

    fn add(&mut self, batch: LineBatch) {
        if !batch.entries.is_empty() {
            let entries = batch.entries.iter();
            self.encoder.stream(
                &batch.stream,
                entries.map(|e| (e.time_ns, e.line.as_str(), &e.metadata)),
            );
        }
        if let Some((key, value)) = batch.cursor {
            self.cursors.push(CursorChange::Set(key, value));
        }
    }

    async fn close(&mut self, queue: &Queue, status: &Status) {
        self.due = None;
        if self.is_empty() {
            return;
        }
        let body = if self.encoder.is_empty() {
            Ok(Vec::new())
        } else {
            self.encoder.finish()
        };
        let cursors = std::mem::take(&mut self.cursors);
        match body {
            Ok(body) => {
                let frame = Frame {
                    kind: Kind::Logs,
                    cursors,
                    body,
                };
                append(queue, &frame, status).await;
            }
            Err(error) => {
                tracing::error!(%error, "lines do not encode");
                status.drop_lines();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kittiwake_env::{SeededRng, SimClock, SimFs};
    use kittiwake_model::{Entry, Labels};

    use super::*;

    /// Lines that come faster than [`LINGER`] must not keep a frame open.
    #[tokio::test(start_paused = true)]
    async fn a_frame_is_closed_in_time_while_lines_go_on_coming() {
        let (fs, mut rng) = (SimFs::new(1), SeededRng::new(1));
        let clock = Arc::new(SimClock::new(0));
        let queue = Arc::new(Queue::open(Arc::new(fs), clock, &mut rng, "/q").unwrap());
        let (send, gathered) = mpsc::channel(16);
        let status = Arc::new(Status::default());
        let running = tokio::spawn(run(gathered, Arc::clone(&queue), 1 << 20, status));
        for time_ns in 0..100 {
            let entry = Entry {
                time_ns,
                line: "hello".to_owned(),
                metadata: Labels::empty(),
            };
            let lines = LineBatch {
                stream: Labels::empty(),
                entries: vec![entry],
                cursor: Some(("file".to_owned(), time_ns.to_le_bytes().to_vec())),
            };
            send.send(Gathered::Lines(lines)).await.unwrap();
            tokio::time::sleep(LINGER / 4).await;
            // All but what came within the last [`LINGER`].
            if time_ns >= 8 {
                let cursor = queue.cursors()["file"].clone().try_into().unwrap();
                assert!(i64::from_le_bytes(cursor) >= time_ns - 5, "at {time_ns}");
            }
        }
        drop(send);
        running.await.unwrap();
        assert_eq!(queue.cursors()["file"], 99_i64.to_le_bytes());
    }
}
