//! How many workers may wait for upstreams: all but a few, so that whatever needs no upstream is
//! answered however slow they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The places.
#[derive(Debug)]
pub struct Permits {
    free: AtomicUsize,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub struct Permit(Arc<Permits>);

impl Permits {
    /// So many places.
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(places) })
    }

    /// A place, at once or not at all.
    pub fn acquire(self: &Arc<Self>) -> Option<Permit> {
        let take = |free: usize| free.checked_sub(1);
        self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok()?;
        Some(Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_said_and_they_come_back() {
        let permits = Permits::new(2);
        let first = permits.acquire();
        let second = permits.acquire();
        assert!(first.is_some() && second.is_some() && permits.acquire().is_none());
        drop(first);
        assert!(permits.acquire().is_some());
    }
}
