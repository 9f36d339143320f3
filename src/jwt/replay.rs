//! Remembers signed requests for as long as they are valid.

use std::collections::{BTreeSet, HashSet};

use super::Rejection;
use crate::sync::Mutex;
use crate::value::hash::Digest;

/// A bounded memory that never evicts a valid request: when full, it rejects new ones.
pub struct Replays {
    capacity: usize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    all: HashSet<Digest>,
    by_end: BTreeSet<(u64, Digest)>,
}

impl Replays {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, seen: Mutex::default() }
    }

    /// Adds the hash of a request valid until `until`, inclusive. Fails if it is known already.
    pub fn enter(&self, request: Digest, until: u64, now: u64) -> Result<(), Rejection> {
        let mut seen = self.seen.lock();
        while let Some(first) = seen.by_end.first().copied().filter(|(end, _)| *end < now) {
            seen.by_end.remove(&first);
            seen.all.remove(&first.1);
        }
        if seen.all.contains(&request) {
            return Err(Rejection::RequestReplayed);
        }
        if seen.all.len() >= self.capacity {
            return Err(Rejection::ReplayMemoryFull);
        }
        seen.all.insert(request);
        seen.by_end.insert((until, request));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::hash::sha256;

    #[test]
    fn each_is_let_in_once_while_it_lives() {
        let replays = Replays::new(10);
        let one = sha256("one");
        assert_eq!(replays.enter(one, 20, 10), Ok(()));
        assert_eq!(replays.enter(one, 20, 10), Err(Rejection::RequestReplayed));
        assert_eq!(replays.enter(one, 20, 20), Err(Rejection::RequestReplayed));
        assert_eq!(replays.enter(one, 41, 21), Ok(()), "by then its time has been refused already");
    }

    #[test]
    fn a_full_memory_lets_nothing_in_until_something_has_ended() {
        let replays = Replays::new(2);
        assert_eq!(replays.enter(sha256("a"), 20, 10), Ok(()));
        assert_eq!(replays.enter(sha256("b"), 30, 10), Ok(()));
        assert_eq!(replays.enter(sha256("c"), 30, 20), Err(Rejection::ReplayMemoryFull));
        assert_eq!(replays.enter(sha256("c"), 30, 21), Ok(()));
    }
}
