//! One memory budget for all bodies held at once, requests and answers together. Small bodies are
//! free: the budget of a connection or call already covers them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use crate::sync::{Mutex, MutexGuard};

/// The first bytes of each body that do not count.
pub const FREE: usize = 64 * 1024;

type Wake = Box<dyn FnOnce() + Send>;

struct Waiter {
    number: u64,
    bytes: usize,
    wake: Wake,
}

#[derive(Default)]
struct Usage {
    used: usize,
    arrivals: u64,
    /// In order of arrival. Serving the first one first keeps large bodies from starving.
    waiting: VecDeque<Waiter>,
}

pub struct BodyMemory {
    bytes: usize,
    state: Mutex<Usage>,
}

/// A share of the budget, returned on drop.
pub struct Reservation {
    memory: Arc<BodyMemory>,
    /// Size of the body. Only the part beyond [`FREE`] is taken from the budget.
    covers: usize,
    counted: usize,
}

/// A place in the queue, left on drop.
pub struct Place {
    memory: Arc<BodyMemory>,
    number: u64,
}

/// A complete body with its share of the budget.
#[derive(Debug)]
pub struct HeldBody {
    /// Without transfer coding.
    pub bytes: Vec<u8>,
    /// `None` for a small body.
    pub reservation: Option<Reservation>,
}

impl From<Vec<u8>> for HeldBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, reservation: None }
    }
}

impl BodyMemory {
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, state: Mutex::default() })
    }

    pub fn used(&self) -> usize {
        self.state.lock().used
    }

    pub fn is_short(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }

    /// An empty reservation, to be grown later.
    pub fn nothing(self: &Arc<Self>) -> Reservation {
        Reservation { memory: Arc::clone(self), covers: 0, counted: 0 }
    }

    fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut state = self.state.lock();
        state.used -= bytes;
        self.serve(state);
    }

    /// Wakes as many waiters as fit. They retry, and may find that others were faster.
    fn serve(&self, mut state: MutexGuard<'_, Usage>) {
        let mut room = self.bytes.saturating_sub(state.used);
        let mut woken = Vec::new();
        while let Some(first) = state.waiting.front() {
            if first.bytes > room {
                break;
            }
            room -= first.bytes;
            woken.extend(state.waiting.pop_front());
        }
        drop(state);
        for waiter in woken {
            (waiter.wake)();
        }
    }
}

impl Reservation {
    /// Grows the reservation to cover `size` if there is room and nothing waits. On `false`, it is
    /// unchanged.
    pub fn grow_to(&mut self, size: usize) -> bool {
        self.take(size, false)
    }

    /// Like [`Self::grow_to`], for a waiter that was woken.
    pub fn grow_in_turn(&mut self, size: usize) -> bool {
        self.take(size, true)
    }

    fn take(&mut self, size: usize, in_turn: bool) -> bool {
        let more = size.saturating_sub(FREE).saturating_sub(self.counted);
        if more > 0 {
            let mut state = self.memory.state.lock();
            if state.used + more > self.memory.bytes || !in_turn && !state.waiting.is_empty() {
                return false;
            }
            state.used += more;
            self.counted += more;
        }
        self.covers = self.covers.max(size);
        true
    }

    pub const fn is_counted(&self) -> bool {
        self.counted > 0
    }

    pub const fn covers(&self) -> usize {
        self.covers
    }

    /// Calls `wake` when there may be room for a body of `size` bytes.
    pub fn wait(&self, size: usize, wake: impl FnOnce() + Send + 'static) -> Place {
        let bytes = size.saturating_sub(FREE).saturating_sub(self.counted);
        let mut state = self.memory.state.lock();
        state.arrivals += 1;
        let number = state.arrivals;
        state.waiting.push_back(Waiter { number, bytes, wake: Box::new(wake) });
        let place = Place { memory: Arc::clone(&self.memory), number };
        // Memory freed since the caller tried has woken no one.
        self.memory.serve(state);
        place
    }

    /// Like [`Self::grow_to`], but blocks this thread for up to `limit`. Returns whether there was
    /// room in time.
    pub fn wait_in_place(&mut self, size: usize, limit: Duration) -> bool {
        if self.grow_to(size) {
            return true;
        }
        let deadline = std::time::Instant::now() + limit;
        loop {
            let (sender, receiver) = mpsc::channel();
            let _place = self.wait(size, move || _ = sender.send(()));
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if receiver.recv_timeout(left).is_err() {
                return false;
            }
            if self.grow_in_turn(size) {
                return true;
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.release(self.counted);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.memory.state.lock();
        let Ok(at) = state.waiting.binary_search_by_key(&self.number, |waiter| waiter.number) else { return };
        let waiter = state.waiting.remove(at);
        // Waiters behind it may fit where it did not.
        self.memory.serve(state);
        drop(waiter);
    }
}

impl fmt::Debug for BodyMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyMemory").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("covers", &self.covers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn reserved(memory: &Arc<BodyMemory>, size: usize) -> Reservation {
        let mut reservation = memory.nothing();
        assert!(reservation.grow_to(size));
        reservation
    }

    #[test]
    fn the_first_64_kib_of_each_body_are_free() {
        let memory = BodyMemory::new(100);
        let _small: Vec<_> = (0..10).map(|_| reserved(&memory, FREE)).collect();
        let mut large = reserved(&memory, FREE + 60);
        assert_eq!(memory.used(), 60);
        assert!(large.grow_to(FREE + 100) && !large.grow_to(FREE + 101));
        drop(large);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn who_waits_is_woken_in_order_and_nobody_overtakes() {
        let memory = BodyMemory::new(100);
        let first = reserved(&memory, FREE + 80);
        let mut second = memory.nothing();
        assert!(!second.grow_to(FREE + 50));
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let place = second.wait(FREE + 50, move || _ = count.fetch_add(1, Ordering::SeqCst));
        assert!(memory.is_short() && !memory.nothing().grow_to(FREE + 1), "it would overtake");
        drop(first);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        drop(place);
        assert!(second.grow_in_turn(FREE + 50) && !memory.is_short());
    }

    #[test]
    fn a_place_that_was_left_holds_nobody_up() {
        let memory = BodyMemory::new(100);
        let _first = reserved(&memory, FREE + 80);
        let large = memory.nothing();
        let place = large.wait(FREE + 100, || panic!("there is no room"));
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let small = memory.nothing();
        let _small = small.wait(FREE + 10, move || _ = count.fetch_add(1, Ordering::SeqCst));
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        drop(place);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_thread_waits_in_place_until_its_limit() {
        let memory = BodyMemory::new(100);
        let first = reserved(&memory, FREE + 80);
        let mut second = memory.nothing();
        assert!(!second.wait_in_place(FREE + 50, Duration::from_millis(5)));
        let waiting = std::thread::spawn(move || second.wait_in_place(FREE + 50, Duration::from_mins(1)));
        while !memory.is_short() {
            std::thread::yield_now();
        }
        drop(first);
        assert!(waiting.join().unwrap());
    }
}
