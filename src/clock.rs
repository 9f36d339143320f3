//! The source of time. Everything that checks an expiry takes a [`Clock`], so that tests advance
//! the time instead of waiting.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::sync::Mutex;
use crate::turns;

pub trait Clock: Send + Sync {
    /// Seconds since 1970-01-01T00:00:00Z, for the expiry of tokens and certificates.
    fn unix(&self) -> u64;
    /// Monotonic time, for deadlines and durations.
    fn instant(&self) -> Instant;
    /// Blocks; a manual clock advances instead.
    fn sleep(&self, duration: Duration);
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix(&self) -> u64 {
        // A clock before 1970 makes every token "not yet valid", which is the safe side.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) {
        // A sleeping thread needs no turn.
        turns::pause();
        std::thread::sleep(duration);
    }
}

/// A clock for tests: it advances only when told to.
#[derive(Debug)]
pub struct ManualClock {
    start: (u64, Instant),
    elapsed: Mutex<Duration>,
}

impl ManualClock {
    pub fn at(unix: u64) -> Self {
        Self { start: (unix, Instant::now()), elapsed: Mutex::new(Duration::ZERO) }
    }

    pub fn advance(&self, by: Duration) {
        *self.elapsed.lock() += by;
    }

    fn elapsed(&self) -> Duration {
        *self.elapsed.lock()
    }
}

impl Clock for ManualClock {
    fn unix(&self) -> u64 {
        self.start.0 + self.elapsed().as_secs()
    }

    fn instant(&self) -> Instant {
        self.start.1 + self.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}
