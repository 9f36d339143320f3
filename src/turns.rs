//! Turns for slow work: upstream calls and decryptions. Each lane has its own queue and its own
//! bound, so that one slow upstream cannot hold up the others. All upstream lanes also share one
//! bound.
//!
//! A request waits without a thread: [`Turns::request`] calls back when its turn has come. Only
//! work that is already running and needs another lane midway blocks its thread ([`switch`]).

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::sync::Mutex;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Calls to one origin, by its text.
    Origin(Arc<str>),
    ManagedIdentity,
    /// Decryption of inbound tokens, bounded by processors rather than upstream calls.
    Decryption,
}

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub calls: usize,
    pub decryptions: usize,
}

impl Bounds {
    /// One origin may use at most three quarters of the calls, so that others are served while it
    /// hangs.
    const fn of(self, lane: &Lane) -> usize {
        match lane {
            Lane::Decryption => self.decryptions,
            _ if self.calls < 2 => 1,
            _ => self.calls * 3 / 4,
        }
    }
}

type Grant = Box<dyn FnOnce(Turn) + Send>;

struct Waiter {
    number: u64,
    grant: Grant,
}

#[derive(Default)]
struct Queue {
    active: usize,
    /// In order of arrival.
    waiting: VecDeque<Waiter>,
}

#[derive(Default)]
struct TurnsState {
    active_calls: usize,
    waiting: usize,
    arrivals: u64,
    lanes: HashMap<Lane, Queue>,
}

pub struct Turns {
    bounds: Bounds,
    state: Mutex<TurnsState>,
}

/// One turn, returned on drop.
pub struct Turn {
    turns: Arc<Turns>,
    lane: Lane,
}

/// A place in a queue, left on drop.
pub struct Place {
    turns: Arc<Turns>,
    lane: Lane,
    number: u64,
}

pub enum Requested {
    /// Available at once; the callback is dropped.
    Granted(Turn),
    /// The callback will be called, unless the place is dropped first.
    Queued(Place),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Turns {
    /// Bounds below one count as one.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        let bounds = Bounds { calls: bounds.calls.max(1), decryptions: bounds.decryptions.max(1) };
        Arc::new(Self { bounds, state: Mutex::default() })
    }

    /// Threads that may block at once. A request that waits for another lane midway keeps its thread.
    pub const fn threads(&self) -> usize {
        self.bounds.calls.saturating_mul(2).saturating_add(self.bounds.decryptions)
    }

    /// Active upstream calls, and waiting requests.
    pub fn figures(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.active_calls, state.waiting)
    }

    /// Takes a turn, or a place in the lane's queue. `grant` runs on the thread that returns the
    /// turn it receives.
    pub fn request(self: &Arc<Self>, lane: &Lane, grant: impl FnOnce(Turn) + Send + 'static) -> Requested {
        let mut state = self.state.lock();
        if self.is_free(&state, lane) {
            Self::take(&mut state, lane);
            drop(state);
            return Requested::Granted(Turn { turns: Arc::clone(self), lane: lane.clone() });
        }
        state.arrivals += 1;
        state.waiting += 1;
        let number = state.arrivals;
        let queue = state.lanes.entry(lane.clone()).or_default();
        queue.waiting.push_back(Waiter { number, grant: Box::new(grant) });
        Requested::Queued(Place { turns: Arc::clone(self), lane: lane.clone(), number })
    }

    /// True if a turn is available. There are no waiters for an available turn: it was granted to
    /// them when it was returned.
    fn is_free(&self, state: &TurnsState, lane: &Lane) -> bool {
        let in_lane = state.lanes.get(lane).map_or(0, |queue| queue.active);
        in_lane < self.bounds.of(lane) && (*lane == Lane::Decryption || state.active_calls < self.bounds.calls)
    }

    fn take(state: &mut TurnsState, lane: &Lane) {
        state.lanes.entry(lane.clone()).or_default().active += 1;
        state.active_calls += usize::from(*lane != Lane::Decryption);
    }

    /// Returns a turn, and grants what is now available to the longest waiters.
    fn give_back(self: &Arc<Self>, lane: &Lane) {
        let mut granted: Vec<(Grant, Turn)> = Vec::new();
        let mut state = self.state.lock();
        state.active_calls -= usize::from(*lane != Lane::Decryption);
        if let Some(queue) = state.lanes.get_mut(lane) {
            queue.active -= 1;
            if queue.active == 0 && queue.waiting.is_empty() {
                state.lanes.remove(lane);
            }
        }
        while state.waiting > 0 {
            let first = |(lane, queue): (&Lane, &Queue)| Some((queue.waiting.front()?.number, lane.clone()));
            let next = state
                .lanes
                .iter()
                .filter(|(lane, _)| self.is_free(&state, lane))
                .filter_map(first)
                .min_by_key(|(number, _)| *number);
            let Some((_, lane)) = next else { break };
            let Some(waiter) = state.lanes.get_mut(&lane).and_then(|queue| queue.waiting.pop_front()) else { break };
            state.waiting -= 1;
            Self::take(&mut state, &lane);
            granted.push((waiter.grant, Turn { turns: Arc::clone(self), lane }));
        }
        drop(state);
        for (grant, turn) in granted {
            grant(turn);
        }
    }

    /// Blocks this thread until it has a turn, for at most `limit`.
    pub fn wait(self: &Arc<Self>, lane: &Lane, limit: Duration) -> Result<Turn, Busy> {
        let (sender, receiver) = mpsc::channel();
        // Fails if the wait is over: the turn is then dropped, and so returned.
        match self.request(lane, move |turn| drop(sender.send(turn))) {
            Requested::Granted(turn) => Ok(turn),
            Requested::Queued(_place) => receiver.recv_timeout(limit).map_err(|_| Busy),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.give_back(&self.lane);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock();
        let Some(queue) = state.lanes.get_mut(&self.lane) else { return };
        let Ok(at) = queue.waiting.binary_search_by_key(&self.number, |waiter| waiter.number) else { return };
        let waiter = queue.waiting.remove(at);
        if queue.active == 0 && queue.waiting.is_empty() {
            state.lanes.remove(&self.lane);
        }
        state.waiting -= 1;
        drop(state);
        drop(waiter);
    }
}

struct ThreadTurn {
    turns: Arc<Turns>,
    turn: Option<Turn>,
    /// How long its request may still wait for turns.
    time_left: Duration,
}

thread_local! {
    static HELD: RefCell<Option<ThreadTurn>> = const { RefCell::new(None) };
}

/// Runs `work` on this thread with a turn, and returns the turn afterwards. `time_left` limits the
/// total time that the work may wait for other lanes; the remainder is returned with the result.
pub fn with_turn<R>(turn: Turn, time_left: Duration, work: impl FnOnce() -> R) -> (R, Duration) {
    /// Also returns the turn after a panic.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            drop(HELD.take());
        }
    }
    let turns = Arc::clone(&turn.turns);
    HELD.set(Some(ThreadTurn { turns, turn: Some(turn), time_left }));
    let reset = Reset;
    let result = work();
    let left = HELD.with_borrow(|held| held.as_ref().map_or(Duration::ZERO, |held| held.time_left));
    drop(reset);
    (result, left)
}

/// True if this thread works on a turn, and so may block.
pub fn may_block() -> bool {
    HELD.with_borrow(Option::is_some)
}

/// True if this thread has a turn on the lane.
pub fn has(lane: &Lane) -> bool {
    HELD.with_borrow(|held| held.as_ref().and_then(|held| held.turn.as_ref()).is_some_and(|turn| turn.lane == *lane))
}

/// Ensures that this thread has a turn on the lane, after returning its current one. Threads that
/// never had a turn (background renewals, key fetches) are not bounded.
pub fn switch(lane: &Lane) -> Result<(), Busy> {
    if !may_block() || has(lane) {
        return Ok(());
    }
    let Some(mut held) = HELD.take() else { return Ok(()) };
    held.turn = None;
    let start = Instant::now();
    let turn = held.turns.wait(lane, held.time_left);
    held.time_left = held.time_left.saturating_sub(start.elapsed());
    let outcome = turn.map(|turn| held.turn = Some(turn));
    HELD.set(Some(held));
    outcome
}

/// Returns this thread's turn while it waits for something else; [`switch`] takes a new one.
pub fn pause() {
    let turn = HELD.with_borrow_mut(|held| held.as_mut().and_then(|held| held.turn.take()));
    drop(turn);
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str) -> Lane {
        Lane::Origin(name.into())
    }

    fn turns(calls: usize) -> Arc<Turns> {
        Turns::new(Bounds { calls, decryptions: 1 })
    }

    fn granted(turns: &Arc<Turns>, lane: &Lane) -> Turn {
        match turns.request(lane, |_| ()) {
            Requested::Granted(turn) => turn,
            Requested::Queued(_) => panic!("no turn"),
        }
    }

    fn queued(turns: &Arc<Turns>, lane: &Lane, name: &'static str, log: &mpsc::Sender<(&'static str, Turn)>) -> Place {
        let log = log.clone();
        match turns.request(lane, move |turn| drop(log.send((name, turn)))) {
            Requested::Queued(place) => place,
            Requested::Granted(_) => panic!("it should wait"),
        }
    }

    #[test]
    fn one_origin_gets_three_quarters_of_the_turns() {
        let turns = turns(4);
        let (log, grants) = mpsc::channel();
        let slow: Vec<_> = (0..3).map(|_| granted(&turns, &lane("slow"))).collect();
        let _fourth = queued(&turns, &lane("slow"), "slow", &log);
        let other = granted(&turns, &lane("other"));
        assert_eq!(turns.figures(), (4, 1));
        drop(other);
        assert!(grants.try_recv().is_err(), "the turn of another origin is of no use to it");
        drop(slow);
        assert_eq!(grants.try_recv().unwrap().0, "slow");
    }

    #[test]
    fn those_who_wait_are_served_in_order() {
        let turns = turns(1);
        let (log, grants) = mpsc::channel();
        let first = granted(&turns, &lane("a"));
        let _places: Vec<_> = ["a", "b", "a"]
            .into_iter()
            .zip(["1", "2", "3"])
            .map(|(to, name)| queued(&turns, &lane(to), name, &log))
            .collect();
        drop(first);
        for expected in ["1", "2", "3"] {
            let (name, turn) = grants.try_recv().unwrap();
            assert_eq!(name, expected);
            assert!(grants.try_recv().is_err());
            drop(turn);
        }
        assert_eq!(turns.figures(), (0, 0));
        assert!(turns.state.lock().lanes.is_empty(), "nothing is left behind");
    }

    #[test]
    fn a_place_that_was_left_gets_no_turn() {
        let turns = turns(1);
        let (log, grants) = mpsc::channel();
        let first = granted(&turns, &lane("a"));
        let (left, kept) = (queued(&turns, &lane("a"), "left", &log), queued(&turns, &lane("a"), "kept", &log));
        drop(left);
        drop(first);
        assert_eq!(grants.try_recv().unwrap().0, "kept");
        drop(kept);
        assert_eq!(turns.figures(), (0, 0));
    }

    #[test]
    fn decryptions_are_bound_by_themselves_alone() {
        let turns = turns(1);
        let _call = granted(&turns, &lane("a"));
        let _decryption = granted(&turns, &Lane::Decryption);
        assert!(matches!(turns.request(&Lane::Decryption, |_| ()), Requested::Queued(_)));
        assert_eq!(turns.figures().0, 1);
    }

    #[test]
    fn a_thread_changes_lanes_and_gives_up_in_time() {
        let turns = turns(2);
        let turn = granted(&turns, &lane("a"));
        let (outcome, left) = with_turn(turn, Duration::from_millis(20), || {
            assert!(may_block() && has(&lane("a")));
            assert_eq!(switch(&lane("b")), Ok(()));
            assert!(has(&lane("b")) && turns.figures() == (1, 0));
            let _others = (granted(&turns, &lane("c")), ());
            pause();
            let _taken = granted(&turns, &lane("b"));
            switch(&lane("b"))
        });
        assert_eq!((outcome, left, turns.figures()), (Err(Busy), Duration::ZERO, (0, 0)));
        assert!(!may_block());
        assert_eq!(switch(&lane("a")), Ok(()), "a thread without a turn is not bound");
    }

    #[test]
    fn a_turn_comes_back_after_a_panic() {
        let turns = turns(1);
        let turn = granted(&turns, &lane("a"));
        let work = std::panic::AssertUnwindSafe(|| with_turn(turn, Duration::ZERO, || panic!("as asked")));
        assert!(std::panic::catch_unwind(work).is_err());
        assert_eq!(turns.figures(), (0, 0));
    }
}
