//! Work on a thread of its own, again and again.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

#[derive(Debug, Default)]
struct Signals {
    is_stopped: bool,
    is_woken: bool,
}

/// Has a [`Periodic`] do its work at once.
#[derive(Debug, Clone, Default)]
pub struct Waker(Arc<(Mutex<Signals>, Condvar)>);

impl Waker {
    /// The work is done as soon as that under way ends.
    pub fn wake(&self) {
        self.0.0.lock().is_woken = true;
        self.0.1.notify_all();
    }

    fn stop(&self) {
        self.0.0.lock().is_stopped = true;
        self.0.1.notify_all();
    }

    /// Waits for the next work; false when it is not to be done any more.
    fn wait(&self, every: Duration) -> bool {
        let mut signals = self.0.0.lock();
        if !signals.is_stopped && !signals.is_woken {
            self.0.1.wait_for(&mut signals, every);
        }
        signals.is_woken = false;
        !signals.is_stopped
    }
}

/// A thread that does some work at intervals. Dropped, it ends the work under way and is
/// joined.
#[derive(Debug)]
pub struct Periodic {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Periodic {
    /// Starts a thread of this name; the first work comes after the first interval.
    pub fn start(
        name: &str,
        every: Duration,
        mut work: impl FnMut() + Send + 'static,
    ) -> std::io::Result<Self> {
        let waker = Waker::default();
        let waits = waker.clone();
        let body = move || {
            while waits.wait(every) {
                work();
            }
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)?;
        Ok(Self {
            waker,
            thread: Some(thread),
        })
    }

    /// What has the work done before its time.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

impl Drop for Periodic {
    fn drop(&mut self) {
        self.waker.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn works_until_dropped() {
        let (done, seen) = mpsc::channel();
        let periodic = Periodic::start("test", Duration::from_millis(1), move || {
            let _ = done.send(());
        })
        .unwrap();
        seen.recv().unwrap();
        seen.recv().unwrap();
        drop(periodic);
        // The thread is gone, and its end of the channel with it.
        assert!(seen.iter().count() < usize::MAX);
        assert!(seen.recv().is_err());
    }
}
