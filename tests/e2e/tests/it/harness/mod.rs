//! What the tests share: programs, containers, questions.

mod docker;
mod http;
mod oracles;
mod program;
mod random;

pub use docker::{Container, Engine};
#[allow(unused_imports, reason = "for the differential test")]
pub use http::Answer;
pub use http::Api;
#[allow(unused_imports, reason = "for the differential test")]
pub use oracles::Loki;
pub use oracles::{Alertmanager, Prometheus, node, oracle, says};
pub use program::{Collector, Program, Server, built, free_address};
pub use random::Random;

use std::time::{Duration, Instant};

/// Nothing waits longer; a busy machine gets there all the same.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Asks until there is something, and fails naming what was waited for.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
