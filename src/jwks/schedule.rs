//! Decides when to fetch keys. Pure: no clock, thread or network.

use std::time::{Duration, Instant};

/// How long a set is used while its authority is down.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Delay after the first failure; doubles after each.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const RETRY_WITHOUT_SET: Duration = Duration::from_secs(30);
const RETRY_WITH_SET: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchReason {
    /// At start, as scheduled, or as a retry.
    Due,
    UnknownKey,
}

#[derive(Debug)]
pub struct Schedule {
    refresh: Duration,
    minimum: Duration,
    due: Instant,
    last_success: Option<Instant>,
    failures: u32,
    attempts: u64,
    last_forced: Option<Instant>,
    forced: bool,
    running: bool,
}

impl Schedule {
    /// The first fetch is due at once.
    pub const fn new(now: Instant, refresh: Duration, minimum: Duration) -> Self {
        Self {
            refresh,
            minimum,
            due: now,
            last_success: None,
            failures: 0,
            attempts: 0,
            last_forced: None,
            forced: false,
            running: false,
        }
    }

    pub fn wait(&self, now: Instant) -> Duration {
        if self.forced { Duration::ZERO } else { self.due.saturating_duration_since(now) }
    }

    pub const fn begin(&mut self) -> FetchReason {
        self.running = true;
        if std::mem::replace(&mut self.forced, false) { FetchReason::UnknownKey } else { FetchReason::Due }
    }

    pub fn end(&mut self, success: bool, now: Instant) {
        self.running = false;
        self.attempts += 1;
        if success {
            self.last_success = Some(now);
            self.failures = 0;
            self.due = now + self.refresh;
            return;
        }
        // A forced fetch does not change the schedule, or a stranger's `kid` could start the
        // retries.
        if self.due <= now {
            let most = if self.is_usable(now) { RETRY_WITH_SET } else { RETRY_WITHOUT_SET };
            self.due = now + FIRST_RETRY.saturating_mul(1 << self.failures.min(16)).min(most);
            self.failures += 1;
        }
    }

    /// Requests a fetch for an unknown `kid`. Returns true if there is a fetch to wait for: a
    /// running one, or a new one if the minimum interval has passed.
    pub fn force(&mut self, now: Instant) -> bool {
        if self.running || self.forced {
            return true;
        }
        if self.last_forced.is_some_and(|last| now.saturating_duration_since(last) < self.minimum) {
            return false;
        }
        self.last_forced = Some(now);
        self.forced = true;
        true
    }

    pub fn is_usable(&self, now: Instant) -> bool {
        self.last_success.is_some_and(|last| now.saturating_duration_since(last) < LIFETIME)
    }

    /// True until the fetch at start has ended.
    pub const fn is_first(&self) -> bool {
        self.attempts == 0
    }

    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.last_success.map(|last| now.saturating_duration_since(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const INTERVAL: Duration = Duration::from_hours(12);
    const FORCED_INTERVAL: Duration = Duration::from_secs(30);

    fn schedule(now: Instant) -> Schedule {
        Schedule::new(now, INTERVAL, FORCED_INTERVAL)
    }

    fn fetch(schedule: &mut Schedule, success: bool, now: Instant) {
        schedule.begin();
        schedule.end(success, now);
    }

    #[test]
    fn keys_are_fetched_at_start_and_every_twelve_hours() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        assert!(schedule.is_first());
        assert_eq!(schedule.wait(start), Duration::ZERO);
        fetch(&mut schedule, true, start);
        assert!(!schedule.is_first());
        assert_eq!(schedule.wait(start), INTERVAL);
        assert_eq!(schedule.wait(start + INTERVAL), Duration::ZERO);
    }

    #[test]
    fn without_a_set_retries_double_up_to_half_a_minute() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        let waits: Vec<_> = (0..8)
            .map(|_| {
                let now = schedule.due;
                fetch(&mut schedule, false, now);
                schedule.wait(now).as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        let now = schedule.due;
        fetch(&mut schedule, true, now);
        assert_eq!(schedule.wait(now), INTERVAL, "recovered");
    }

    #[test]
    fn the_last_set_is_kept_for_a_day() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        assert!(!schedule.is_usable(start));
        fetch(&mut schedule, true, start);
        for _ in 0..20 {
            let now = schedule.due;
            fetch(&mut schedule, false, now);
        }
        assert!(
            schedule.wait(schedule.due.checked_sub(RETRY_WITH_SET).unwrap()) == RETRY_WITH_SET,
            "every five minutes in the end"
        );
        assert!(schedule.is_usable((start + LIFETIME).checked_sub(SECOND).unwrap()));
        assert!(!schedule.is_usable(start + LIFETIME));
        assert!(!schedule.is_usable(start + LIFETIME + SECOND));
    }

    #[test]
    fn an_unknown_key_is_fetched_at_most_every_thirty_seconds() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        fetch(&mut schedule, true, start);
        assert!(schedule.force(start), "the fetch at start does not count");
        assert!(schedule.force(start), "joins the one to come");
        assert_eq!(schedule.begin(), FetchReason::UnknownKey);
        assert!(schedule.force(start), "joins the one that runs");
        schedule.end(true, start);
        assert!(!schedule.force(start));
        assert!(!schedule.force((start + FORCED_INTERVAL).checked_sub(SECOND).unwrap()));
        assert!(schedule.force(start + FORCED_INTERVAL));
        fetch(&mut schedule, true, start + FORCED_INTERVAL);
        assert!(!schedule.force(start + FORCED_INTERVAL + SECOND));
    }

    #[test]
    fn a_forced_fetch_that_fails_starts_no_retries() {
        let start = Instant::now();
        let mut schedule = schedule(start);
        fetch(&mut schedule, true, start);
        let later = start + SECOND;
        assert!(schedule.force(later));
        fetch(&mut schedule, false, later);
        assert_eq!(schedule.wait(later), INTERVAL.checked_sub(SECOND).unwrap());
        assert!(!schedule.force(later + SECOND));
    }
}
