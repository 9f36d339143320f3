//! Where time comes from. Everything that judges an expiry takes a [`Clock`], so that tests move the
//! time instead of waiting for it.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::turns;

/// A source of time.
pub trait Clock: Send + Sync {
    /// Seconds since 1970-01-01T00:00:00Z: what tokens and certificates are judged by.
    fn unix(&self) -> u64;
    /// A moment that never runs backwards: what deadlines and durations are measured with.
    fn instant(&self) -> Instant;
    /// Waits. A clock that stands still moves on instead.
    fn sleep(&self, duration: Duration);
}

/// The machine's clock.
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
        // Whoever waits for time to pass needs no turn meanwhile.
        turns::pause();
        std::thread::sleep(duration);
    }
}

/// A clock that stands still until it is told to move: for tests.
#[derive(Debug)]
pub struct ManualClock {
    start: (u64, Instant),
    elapsed: Mutex<Duration>,
}

impl ManualClock {
    /// Starts at this many seconds since 1970.
    pub fn at(unix: u64) -> Self {
        Self { start: (unix, Instant::now()), elapsed: Mutex::new(Duration::ZERO) }
    }

    /// Moves the time on.
    pub fn advance(&self, by: Duration) {
        *self.elapsed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += by;
    }

    fn elapsed(&self) -> Duration {
        *self.elapsed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
