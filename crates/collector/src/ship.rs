//! Delivering frames: several requests under way, each repeated until the server has its data
//! on disk or refuses it for good.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kittiwake_env::{FsError, Rng, SystemRng};
use kittiwake_journal::{JournalError, Sequence};
use kittiwake_model::delivery::FrameNumber;
use kittiwake_wire::delivery;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::frame::{Frame, Kind};
use crate::queue::Queue;
use crate::split;
use crate::status::Status;

/// Requests under way at once.
const IN_FLIGHT_MAX: usize = 8;
const BACK_OFF_MIN: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Bytes of refused frames that are kept.
const ASIDE_BYTES_MAX: u64 = 64 << 20;

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// What the body is.
    pub kind: Kind,
    /// The body, compressed with snappy.
    pub body: Bytes,
    /// The headers that number it.
    pub headers: [(&'static str, String); 5],
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The data is on the server's disk.
    Stored,
    /// The server will never take it.
    Refused(String),
    /// The server takes only smaller ones.
    TooLarge,
    /// It may be taken later.
    Retry {
        /// What happened.
        reason: String,
        /// When the server said to come again.
        after: Option<Duration>,
    },
}

/// Where requests go.
#[async_trait]
pub trait Shipper: Send + Sync + 'static {
    /// Sends a request once.
    async fn ship(&self, request: Request) -> Outcome;
}

pub(crate) struct Shipping {
    pub(crate) queue: Arc<Queue>,
    pub(crate) shipper: Arc<dyn Shipper>,
    pub(crate) status: Arc<Status>,
    pub(crate) aside: PathBuf,
}

/// Ships until cancelled. What is under way then is given up: it comes again after the next
/// start.
pub(crate) async fn run(shipping: Arc<Shipping>, stop: CancellationToken) {
    let mut reader = shipping.queue.read();
    let mut under_way: JoinSet<()> = JoinSet::new();
    loop {
        // Registered before the look into the journal, so that no frame is missed.
        let grown = shipping.queue.grown.notified();
        tokio::pin!(grown);
        grown.as_mut().enable();
        while under_way.len() < IN_FLIGHT_MAX {
            let (sequence, bytes) = match reader.next() {
                None => break,
                Some(Ok(frame)) => frame,
                Some(Err(JournalError::Damaged {
                    first_lost, next, ..
                })) => {
                    tracing::error!(
                        first_lost,
                        next,
                        "frames of the journal are damaged and lost"
                    );
                    shipping.status.lost(next.saturating_sub(first_lost));
                    for lost in first_lost..next {
                        shipping.queue.settle(lost);
                    }
                    continue;
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "cannot read the journal");
                    tokio::time::sleep(BACK_OFF_MAX).await;
                    break;
                }
            };
            if shipping.queue.is_settled(sequence) {
                continue;
            }
            let epoch = reader.epoch().unwrap_or(0);
            let shipping = Arc::clone(&shipping);
            under_way.spawn(async move {
                match Frame::decode(&bytes) {
                    Ok(frame) => shipping.frame(sequence, epoch, frame).await,
                    Err(error) => {
                        tracing::error!(sequence, %error, "frame of the journal");
                        shipping.status.lost(1);
                    }
                }
                shipping.queue.settle(sequence);
            });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = under_way.join_next(), if !under_way.is_empty() => {}
            () = grown, if under_way.len() < IN_FLIGHT_MAX => {}
        }
    }
}

impl Shipping {
    /// Delivers a frame, whole or in parts.
    async fn frame(&self, sequence: Sequence, epoch: u64, frame: Frame) {
        if frame.body.is_empty() {
            return;
        }
        let whole = FrameNumber {
            sequence,
            part: 0,
            is_last: true,
        };
        let body = Bytes::from(frame.body);
        if self.deliver(frame.kind, whole, epoch, body.clone()).await {
            return;
        }
        // Always the same parts in the same order: a part keeps its number for life.
        let parts = split::parts(frame.kind, &body);
        let count = parts.len();
        for (index, part) in parts.into_iter().enumerate() {
            let number = FrameNumber {
                sequence,
                part: index as u32,
                is_last: index + 1 == count,
            };
            if !self.deliver(frame.kind, number, epoch, part.clone()).await {
                self.put_aside(number, &part, "too large for the server");
            }
        }
        if count == 0 {
            self.put_aside(whole, &body, "too large for the server");
        }
    }

    /// Sends until it is settled. False when the server takes only smaller ones.
    async fn deliver(&self, kind: Kind, number: FrameNumber, epoch: u64, body: Bytes) -> bool {
        let mut back_off = BACK_OFF_MIN;
        let mut is_told = false;
        loop {
            let first = self.queue.first().min(number.sequence);
            let request = Request {
                kind,
                body: body.clone(),
                headers: delivery::headers(self.queue.agent(), epoch, number, first),
            };
            match self.shipper.ship(request).await {
                Outcome::Stored => {
                    if is_told {
                        tracing::info!(sequence = number.sequence, "delivered at last");
                    }
                    self.status.delivered();
                    return true;
                }
                Outcome::Refused(reason) => {
                    self.put_aside(number, &body, &reason);
                    return true;
                }
                Outcome::TooLarge => return false,
                Outcome::Retry { reason, after } => {
                    self.status.retried();
                    // A server that restarts is no news; one that stays away is.
                    if !is_told && back_off >= Duration::from_secs(5) {
                        tracing::warn!(
                            sequence = number.sequence,
                            reason,
                            "cannot deliver, will go on trying"
                        );
                        is_told = true;
                    }
                    tokio::time::sleep(jitter(after.unwrap_or(back_off).min(BACK_OFF_MAX))).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
    }

    /// Keeps a refused body in a bounded folder.
    fn put_aside(&self, number: FrameNumber, body: &[u8], reason: &str) {
        self.status.put_aside();
        let kept = self.keep_aside(number, body);
        tracing::warn!(
            sequence = number.sequence,
            part = number.part,
            reason,
            kept = kept.as_ref().is_ok_and(|k| *k),
            folder = %self.aside.display(),
            "the server refused a frame"
        );
    }

    fn keep_aside(&self, number: FrameNumber, body: &[u8]) -> Result<bool, FsError> {
        use kittiwake_env::{Fs as _, RealFs};
        RealFs.create_dir_all(&self.aside)?;
        let there: u64 = RealFs.list(&self.aside)?.iter().map(|e| e.len).sum();
        if there + body.len() as u64 > ASIDE_BYTES_MAX {
            return Ok(false);
        }
        let name = format!("{:020}-{}.snappy", number.sequence, number.part);
        RealFs.write_atomic(&self.aside.join(name), &[body])?;
        Ok(true)
    }
}

/// Between half and all of a time, so that many senders do not come back at once.
fn jitter(time: Duration) -> Duration {
    let random = SystemRng::new().map_or(500, |mut rng| rng.below(1000));
    time.mul_f64(0.5 + random as f64 / 2000.0)
}
