//! How many workers may wait for upstreams: all but a few, so that whatever needs no upstream is
//! answered however slow they are.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The places.
pub struct Permits {
    free: AtomicUsize,
    places: usize,
    /// Is told how many are taken, whenever that changes.
    taken: Box<dyn Fn(usize) + Send + Sync>,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub struct Permit(Arc<Permits>);

impl Permits {
    /// So many places. `taken` is told how many of them are taken, whenever that changes.
    pub fn new(places: usize, taken: impl Fn(usize) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(places), places, taken: Box::new(taken) })
    }

    /// A place, at once or not at all.
    pub fn acquire(self: &Arc<Self>) -> Option<Permit> {
        let take = |free: usize| free.checked_sub(1);
        let free = self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok()?;
        (self.taken)(self.places - free + 1);
        Some(Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let free = self.0.free.fetch_add(1, Ordering::AcqRel);
        (self.0.taken)(self.0.places - free - 1);
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits").field("free", &self.free).field("places", &self.places).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_said_and_they_come_back() {
        let permits = Permits::new(2, |_| ());
        let first = permits.acquire();
        let second = permits.acquire();
        assert!(first.is_some() && second.is_some() && permits.acquire().is_none());
        drop(first);
        assert!(permits.acquire().is_some());
    }

    #[test]
    fn each_change_is_told() {
        let (sender, told) = std::sync::mpsc::channel();
        let permits = Permits::new(2, move |taken| sender.send(taken).unwrap());
        let first = permits.acquire();
        let second = permits.acquire();
        let none = permits.acquire();
        drop((first, second, none));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 2, 1, 0]);
    }
}
