//! When keys are fetched: pure rules over unix seconds.

/// A set is used for so long after it was fetched, while no newer one can be had (contract, section 7).
pub const LAST_GOOD: u64 = 24 * 3600;

/// Between attempts while they fail: doubled each time, up to the last.
const BACKOFF: (u64, u64) = (1, 30);

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The last good fetch.
    pub fetched_at: Option<u64>,
    /// Failures since.
    pub failures: u32,
    /// The last attempt.
    pub attempted_at: Option<u64>,
    /// The last fetch that an unknown key caused.
    pub demanded_at: Option<u64>,
}

impl History {
    /// When the next planned fetch is due. `refresh` is the life of a set in seconds.
    pub fn due_at(&self, refresh: u64) -> u64 {
        let planned = self.fetched_at.map_or(0, |at| at.saturating_add(refresh));
        if self.failures == 0 {
            return planned;
        }
        let pause = BACKOFF.0.checked_shl(self.failures - 1).unwrap_or(BACKOFF.1).min(BACKOFF.1);
        planned.max(self.attempted_at.unwrap_or(0).saturating_add(pause))
    }

    /// Whether an unknown key may cause a fetch now. The fetch at the start does not count.
    pub fn may_demand(&self, now: u64, minimum: u64) -> bool {
        self.demanded_at.is_none_or(|at| now >= at.saturating_add(minimum))
    }

    /// Whether the last good set still counts.
    pub fn is_current(&self, now: u64) -> bool {
        self.fetched_at.is_some_and(|at| now < at.saturating_add(LAST_GOOD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_set_is_renewed_after_its_life_and_used_for_a_day() {
        let history = History { fetched_at: Some(100), attempted_at: Some(100), ..History::default() };
        assert_eq!(history.due_at(43_200), 43_300);
        assert!(history.is_current(100 + LAST_GOOD - 1));
        assert!(!history.is_current(100 + LAST_GOOD));
    }

    #[test]
    fn failures_are_repeated_at_growing_intervals() {
        let due = |failures| History { failures, attempted_at: Some(1000), ..History::default() }.due_at(43_200);
        assert_eq!([1, 2, 3, 5, 6, 7, 40, 100].map(due), [1001, 1002, 1004, 1016, 1030, 1030, 1030, 1030]);
        assert_eq!(History::default().due_at(43_200), 0, "the first fetch is due at once");
    }

    #[test]
    fn unknown_keys_cause_a_fetch_at_once_and_then_not_for_a_while() {
        let mut history = History { fetched_at: Some(100), attempted_at: Some(100), ..History::default() };
        assert!(history.may_demand(100, 30));
        history.demanded_at = Some(100);
        assert!(!history.may_demand(129, 30));
        assert!(history.may_demand(130, 30));
    }
}
