//! Time, of the machine or set by a test.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time of day and a clock that only goes forward.
pub trait Clock: Send + Sync + Debug {
    /// Nanoseconds since 1970 in UTC; can jump when the machine's time is set.
    fn now_ns(&self) -> i64;

    /// Milliseconds since 1970 in UTC.
    fn now_ms(&self) -> i64 {
        self.now_ns().div_euclid(1_000_000)
    }

    /// Nanoseconds since some moment before the first call; never goes back.
    fn monotonic_ns(&self) -> u64;

    /// Blocks the calling thread.
    fn sleep(&self, duration: Duration);
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now_ns(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos)
            }
        }
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock that stands still until it is moved. Clones share their time.
#[derive(Debug, Clone, Default)]
pub struct SimClock {
    state: Arc<SimTime>,
}

#[derive(Debug, Default)]
struct SimTime {
    unix_ns: AtomicI64,
    monotonic_ns: AtomicU64,
}

impl SimClock {
    /// A clock that stands at `unix_ns`.
    pub fn new(unix_ns: i64) -> Self {
        let clock = Self::default();
        clock.set_ns(unix_ns);
        clock
    }

    /// Sets the time of day, as an administrator would; monotonic time is untouched.
    pub fn set_ns(&self, unix_ns: i64) {
        self.state.unix_ns.store(unix_ns, Ordering::SeqCst);
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.state.unix_ns.fetch_add(nanos as i64, Ordering::SeqCst);
        self.state.monotonic_ns.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ns(&self) -> i64 {
        self.state.unix_ns.load(Ordering::SeqCst)
    }

    fn monotonic_ns(&self) -> u64 {
        self.state.monotonic_ns.load(Ordering::SeqCst)
    }

    /// Returns at once, with the time moved on.
    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_time_moves_only_when_told() {
        let clock = SimClock::new(-1);
        assert_eq!(
            (clock.now_ns(), clock.now_ms(), clock.monotonic_ns()),
            (-1, -1, 0)
        );
        clock.clone().sleep(Duration::from_millis(3));
        assert_eq!(
            (clock.now_ns(), clock.monotonic_ns()),
            (2_999_999, 3_000_000)
        );
        clock.set_ns(7);
        assert_eq!((clock.now_ns(), clock.monotonic_ns()), (7, 3_000_000));
    }

    #[test]
    fn real_time_is_after_2020_and_goes_forward() {
        let clock = RealClock::new();
        assert!(clock.now_ms() > 1_577_836_800_000);
        let before = clock.monotonic_ns();
        clock.sleep(Duration::from_millis(1));
        assert!(clock.monotonic_ns() >= before + 1_000_000);
    }
}
