//! The state, deadline and waiting time of every connection, in atomics that any thread can read.
//! Only the thread that owns a connection writes its slot. Deadlines, eviction, shutdown and
//! metrics read them, so a request updates no counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::handler::ConnectionId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnState {
    Free,
    Idle,
    Head,
    Body,
    Handling,
    Parked,
    Writing,
    Lingering,
}

impl ConnState {
    const ALL: [Self; 8] =
        [Self::Free, Self::Idle, Self::Head, Self::Body, Self::Handling, Self::Parked, Self::Writing, Self::Lingering];

    /// Order of eviction among connections without a complete request. `None`: never evicted.
    pub const fn eviction_class(self) -> Option<u8> {
        match self {
            Self::Idle | Self::Head | Self::Lingering => Some(0),
            Self::Body => Some(1),
            Self::Free | Self::Handling | Self::Parked | Self::Writing => None,
        }
    }

    /// True if it may be closed to make room: it holds no complete request.
    pub const fn is_evictable(self) -> bool {
        self.eviction_class().is_some()
    }

    /// True if the shutdown waits for it.
    pub fn is_in_flight(self) -> bool {
        matches!(self, Self::Head | Self::Body | Self::Handling | Self::Parked | Self::Writing)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    Serving,
    /// Accepts nothing more. Requests in flight finish.
    Draining,
    /// Nothing is in flight. Idle connections are closed.
    Finishing,
    Stopped,
}

/// A snapshot for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub workers_busy: usize,
    pub workers_idle: usize,
    /// Connections between requests, or before the first.
    pub idle: usize,
    /// Connections with a head or body arriving.
    pub reading: usize,
    pub handling: usize,
    /// Connections whose request waits to be woken.
    pub parked: usize,
    /// Connections whose answer is being sent, or was sent and is not acknowledged.
    pub writing: usize,
    pub panics: u64,
    pub evictions: u64,
}

/// A view of a server; cheap to clone.
#[derive(Clone, Debug)]
pub struct Monitor(pub(super) Arc<Slots>);

impl Monitor {
    /// True once the shutdown has begun.
    pub fn draining(&self) -> bool {
        self.0.phase() >= Phase::Draining
    }

    pub fn stats(&self) -> Stats {
        self.0.stats()
    }
}

/// True while a worker is busy. On its own cache line, because it is written with every event.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Busy(AtomicBool);

#[derive(Debug)]
struct Slot {
    generation: AtomicU32,
    state: AtomicU8,
    /// Microseconds since the start. [`NEVER`]: no deadline.
    deadline: AtomicU64,
    since: AtomicU64,
}

/// A place in the order of eviction: class, start of the wait, index.
pub(super) type Place = (u8, u64, u32);

const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Slots {
    started: Instant,
    all: Box<[Slot]>,
    workers: Box<[Busy]>,
    phase: AtomicU8,
    pub panics: AtomicU64,
    pub evictions: AtomicU64,
    pub workers_alive: AtomicUsize,
}

impl Slots {
    pub fn new(connections: usize, workers: usize) -> Self {
        let slot = |_| Slot {
            generation: AtomicU32::new(0),
            state: AtomicU8::new(ConnState::Free as u8),
            deadline: AtomicU64::new(NEVER),
            since: AtomicU64::new(NEVER),
        };
        Self {
            started: Instant::now(),
            all: (0..connections).map(slot).collect(),
            workers: (0..workers).map(|_| Busy::default()).collect(),
            phase: AtomicU8::new(Phase::Serving as u8),
            panics: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            workers_alive: AtomicUsize::new(0),
        }
    }

    pub fn set_busy(&self, worker: usize, busy: bool) {
        self.workers[worker].0.store(busy, Ordering::Relaxed);
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            2 => Phase::Finishing,
            _ => Phase::Stopped,
        }
    }

    /// Moves to a later phase, never back.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
    }

    pub fn id(&self, index: u32) -> ConnectionId {
        ConnectionId { index, generation: self.all[index as usize].generation.load(Ordering::Acquire) }
    }

    pub fn is_current(&self, id: ConnectionId) -> bool {
        self.id(id.index) == id
    }

    /// Makes every earlier id of this slot stale.
    pub fn retire(&self, id: ConnectionId) {
        self.set(id, ConnState::Free, NEVER, NEVER);
        self.all[id.index as usize].generation.store(id.generation.wrapping_add(1), Ordering::Release);
    }

    /// A thread has taken the connection, so it has no deadline.
    pub fn working(&self, id: ConnectionId, state: ConnState) {
        self.set(id, state, NEVER, NEVER);
    }

    /// The connection was put back.
    pub fn waiting(&self, id: ConnectionId, state: ConnState, deadline: Instant, since: Instant) {
        let since = if state.is_evictable() { self.stamp(since) } else { NEVER };
        self.set(id, state, self.stamp(deadline), since);
    }

    fn set(&self, id: ConnectionId, state: ConnState, deadline: u64, since: u64) {
        let slot = &self.all[id.index as usize];
        slot.deadline.store(deadline, Ordering::Relaxed);
        slot.since.store(since, Ordering::Relaxed);
        slot.state.store(state as u8, Ordering::Relaxed);
    }

    fn stamp(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.started);
        u64::try_from(since.as_micros()).unwrap_or(NEVER - 1).min(NEVER - 1)
    }

    /// Connections whose deadline has passed. Each is returned once.
    pub fn take_due(&self, now: Instant) -> impl Iterator<Item = ConnectionId> {
        let now = self.stamp(now);
        (0u32..).zip(&self.all).filter_map(move |(index, slot)| {
            let deadline = slot.deadline.load(Ordering::Relaxed);
            let due = deadline <= now
                && slot.deadline.compare_exchange(deadline, NEVER, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            due.then(|| self.id(index))
        })
    }

    /// The first candidate for eviction behind `after`, and its place in the order: by class, then
    /// by waiting time.
    pub fn next_to_evict(&self, after: Option<Place>) -> Option<(Place, ConnectionId)> {
        let place = |(index, slot): (u32, &Slot)| {
            let (class, since) = (state(slot).eviction_class()?, slot.since.load(Ordering::Relaxed));
            (since != NEVER).then_some((class, since, index))
        };
        let waiting = (0u32..).zip(&self.all).filter_map(place).filter(|place| Some(*place) > after);
        waiting.min().map(|place| (place, self.id(place.2)))
    }

    /// True if a connection has been idle since this time or later.
    pub fn any_idle_since(&self, moment: Instant) -> bool {
        let moment = self.stamp(moment);
        let since = |slot: &Slot| slot.since.load(Ordering::Relaxed);
        self.all.iter().any(|slot| state(slot) == ConnState::Idle && (moment..NEVER).contains(&since(slot)))
    }

    /// Connections in the wanted states.
    pub fn all_in(&self, wanted: impl Fn(ConnState) -> bool) -> impl Iterator<Item = ConnectionId> {
        (0u32..).zip(&self.all).filter(move |(_, slot)| wanted(state(slot))).map(|(index, _)| self.id(index))
    }

    pub fn has_connections(&self) -> bool {
        self.all_in(|state| state != ConnState::Free).next().is_some()
    }

    fn stats(&self) -> Stats {
        let workers_busy = self.workers.iter().filter(|worker| worker.0.load(Ordering::Relaxed)).count();
        let mut stats = Stats {
            workers_busy,
            workers_idle: self.workers.len() - workers_busy,
            panics: self.panics.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            ..Stats::default()
        };
        for slot in &self.all {
            match state(slot) {
                ConnState::Free => {}
                ConnState::Idle => stats.idle += 1,
                ConnState::Head | ConnState::Body => stats.reading += 1,
                ConnState::Handling => stats.handling += 1,
                ConnState::Parked => stats.parked += 1,
                ConnState::Writing | ConnState::Lingering => stats.writing += 1,
            }
        }
        stats
    }
}

fn state(slot: &Slot) -> ConnState {
    ConnState::ALL.get(usize::from(slot.state.load(Ordering::Relaxed))).copied().unwrap_or(ConnState::Free)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn slots() -> (Slots, Vec<ConnectionId>) {
        let slots = Slots::new(4, 1);
        let ids = (0..4).map(|index| slots.id(index)).collect();
        (slots, ids)
    }

    #[test]
    fn what_is_due_is_named_once() {
        let (slots, ids) = slots();
        let before = slots.started + Duration::from_micros(999_999);
        let soon = slots.started + Duration::from_secs(1);
        slots.waiting(ids[1], ConnState::Idle, soon, slots.started);
        let due = |at| slots.take_due(at).collect::<Vec<_>>();
        assert_eq!(due(before), []);
        assert_eq!(due(soon), [ids[1]]);
        assert_eq!(due(soon), []);
    }

    #[test]
    fn the_longest_waiting_slot_is_evicted_first_parked_never() {
        let (slots, ids) = slots();
        let at = |secs| slots.started + Duration::from_secs(secs);
        slots.waiting(ids[0], ConnState::Idle, at(99), at(3));
        slots.waiting(ids[1], ConnState::Parked, at(99), at(1));
        slots.waiting(ids[2], ConnState::Head, at(99), at(2));
        slots.waiting(ids[3], ConnState::Body, at(99), at(1));
        let mut order = Vec::new();
        let mut after = None;
        while let Some((place, id)) = slots.next_to_evict(after) {
            order.push(id.index);
            after = Some(place);
        }
        assert_eq!(order, [2, 0, 3], "those that send a body come last");
    }

    #[test]
    fn who_waits_since_when_is_known_of_the_idle_alone() {
        let (slots, ids) = slots();
        let at = |secs| slots.started + Duration::from_secs(secs);
        slots.waiting(ids[0], ConnState::Idle, at(99), at(3));
        slots.waiting(ids[1], ConnState::Parked, at(99), at(7));
        assert!(slots.any_idle_since(at(3)) && !slots.any_idle_since(at(4)));
    }

    #[test]
    fn a_retired_id_is_void() {
        let (slots, ids) = slots();
        slots.retire(ids[0]);
        assert!(!slots.is_current(ids[0]));
        assert!(slots.is_current(slots.id(0)));
    }

    #[test]
    fn life_never_moves_back() {
        let (slots, _) = slots();
        for phase in [Phase::Finishing, Phase::Draining] {
            slots.advance(phase);
            assert_eq!(slots.phase(), Phase::Finishing);
        }
    }
}
