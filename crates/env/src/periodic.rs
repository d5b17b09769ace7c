//! Work on a thread of its own, again and again.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A thread that does some work at intervals. Dropped, it ends the work under way and is
/// joined.
#[derive(Debug)]
pub struct Periodic {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Periodic {
    /// Starts a thread of this name; the first work comes after the first interval.
    pub fn start(
        name: &str,
        every: Duration,
        mut work: impl FnMut() + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopping = Arc::clone(&stop);
        let body = move || {
            let (stopped, wake) = &*stopping;
            loop {
                {
                    let mut stopped = stopped.lock();
                    if !*stopped {
                        wake.wait_for(&mut stopped, every);
                    }
                    if *stopped {
                        return;
                    }
                }
                work();
            }
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Periodic {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
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
