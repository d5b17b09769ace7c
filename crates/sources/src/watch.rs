//! Being told when something in a directory changes.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

type Waiting = Arc<Mutex<HashMap<WatchDescriptor, Arc<Notify>>>>;

/// Watches directories with one queue of the kernel for all of them.
#[derive(Debug, Clone)]
pub(crate) struct Watcher {
    watches: Watches,
    waiting: Waiting,
}

/// One watched directory; it is watched for as long as this lives.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Watcher,
    descriptor: WatchDescriptor,
    notify: Arc<Notify>,
}

impl Watch {
    /// Waits for the next change, or returns at once when there was one since the last call.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watcher.waiting.lock().remove(&self.descriptor);
        // Fails when the directory has gone, and the watch with it.
        let _ = self.watcher.watches.remove(self.descriptor.clone());
    }
}

impl Watcher {
    /// Starts watching; the second part must be run for changes to be told.
    pub(crate) fn start() -> io::Result<(Self, impl Future<Output = ()>)> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let waiting = Waiting::default();
        let events = inotify.into_event_stream(vec![0; 64 << 10])?;
        let run = run(events, Arc::clone(&waiting));
        Ok((Self { watches, waiting }, run))
    }

    /// Watches a directory for files that are written, made, renamed or removed.
    pub(crate) fn watch(&self, dir: &Path) -> io::Result<Watch> {
        let mask = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVE | WatchMask::DELETE;
        let mut waiting = self.waiting.lock();
        let descriptor = self.watches.clone().add(dir, mask)?;
        let notify = Arc::new(Notify::new());
        waiting.insert(descriptor.clone(), Arc::clone(&notify));
        drop(waiting);
        Ok(Watch {
            watcher: self.clone(),
            descriptor,
            notify,
        })
    }

    /// Runs `events` until cancelled.
    pub(crate) async fn until(events: impl Future<Output = ()>, cancel: CancellationToken) {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = events => {}
        }
    }
}

async fn run(mut events: EventStream<Vec<u8>>, waiting: Waiting) {
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let waiting = waiting.lock();
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    waiting.values().for_each(|notify| notify.notify_one());
                } else if let Some(notify) = waiting.get(&event.wd) {
                    notify.notify_one();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "changes of files are not told; logs are polled");
                return;
            }
        }
    }
}
