//! How fast a body has to come in.

use std::time::{Duration, Instant};

/// A body must make this many bytes a second on average, after [`RATE_GRACE`].
const LEAST_RATE: u64 = 1024;
/// The same while other bodies wait for memory.
const LEAST_RATE_WHILE_SHORT: u64 = 64 * 1024;
const RATE_GRACE: Duration = Duration::from_secs(10);
/// How often the rate of a body that holds memory is looked at.
const RATE_PERIOD: Duration = Duration::from_secs(1);

pub(super) struct Arrival {
    began: Instant,
    /// When some of it came last.
    progress: Instant,
    /// Bytes.
    received: u64,
}

impl Arrival {
    pub const fn begin(now: Instant) -> Self {
        Self { began: now, progress: now, received: 0 }
    }

    pub const fn receive(&mut self, bytes: usize, now: Instant) {
        self.received += bytes as u64;
        self.progress = now;
    }

    /// Leaves out a time up to now in which nothing was read.
    pub fn excuse(&mut self, held_up: Duration, now: Instant) {
        self.began += held_up;
        self.progress = now;
    }

    /// When it is looked at again, or is overdue: it has to make progress, and not too slowly. `others_wait` for memory that
    /// it holds.
    pub fn deadline(&self, timeout: Duration, holds_memory: bool, others_wait: bool, now: Instant) -> Instant {
        let at_rate = |rate| self.began + RATE_GRACE.max(Duration::from_secs(self.received / rate));
        let due = (self.progress + timeout).min(at_rate(LEAST_RATE));
        match (holds_memory, others_wait) {
            (false, _) => due,
            (true, true) => due.min(at_rate(LEAST_RATE_WHILE_SHORT)),
            // Whether others wait by then will be seen then.
            (true, false) => due.min(at_rate(LEAST_RATE_WHILE_SHORT).max(now + RATE_PERIOD)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_to_come_and_not_too_slowly() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let timeout = Duration::from_secs(10);
        for (progress, received, holds_memory, others_wait, now, due) in [
            (0, 0, false, false, 0, 10),
            (7, 1, false, false, 7, 10),
            (11, 20 * 1024, false, false, 11, 20),
            (11, 1 << 20, false, false, 11, 21),
            (11, 1 << 20, true, true, 11, 16),
            (11, 1 << 19, true, true, 11, 10),
            (11, 1 << 19, true, false, 11, 12),
            (11, 1 << 30, true, true, 11, 21),
        ] {
            let arrival = Arrival { began, progress: at(progress), received };
            let expected = at(due);
            assert_eq!(
                arrival.deadline(timeout, holds_memory, others_wait, at(now)),
                expected,
                "{progress} {received} {holds_memory} {others_wait}"
            );
        }
    }
}
