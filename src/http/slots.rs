//! What is going on, in atomics that anybody may read at any time: the state of every connection, its deadline
//! and since when it waits. The worker that owns a connection writes its slot of the slots; the sweep, the
//! eviction, the drain and the metrics only look. So nothing on the way of a request counts up and down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::handler::ConnectionId;

/// What a connection is doing.
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

    /// Which of those without a complete request are closed first to admit another connection; `None`: never.
    pub const fn eviction_class(self) -> Option<u8> {
        match self {
            Self::Idle | Self::Head | Self::Lingering => Some(0),
            Self::Body => Some(1),
            Self::Free | Self::Handling | Self::Parked | Self::Writing => None,
        }
    }

    /// Whether it may be closed to admit another one: it holds no complete request.
    pub const fn is_evictable(self) -> bool {
        self.eviction_class().is_some()
    }

    /// Whether the end waits for it.
    pub fn is_in_flight(self) -> bool {
        matches!(self, Self::Head | Self::Body | Self::Handling | Self::Parked | Self::Writing)
    }
}

/// How far the server's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    Serving,
    /// Nothing is accepted any more; what is in flight finishes.
    Draining,
    /// Nothing is in flight any more; idle connections are closed.
    Finishing,
    Stopped,
}

/// The numbers of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Workers that have something to do.
    pub workers_busy: usize,
    /// Workers that wait.
    pub workers_idle: usize,
    /// Connections between requests, or before the first.
    pub idle: usize,
    /// Connections of which a head or a body is arriving.
    pub reading: usize,
    /// Connections whose request a worker handles.
    pub handling: usize,
    /// Connections whose request waits to be woken.
    pub parked: usize,
    /// Connections whose answer is leaving, or has left and the end is not acknowledged.
    pub writing: usize,
    /// Handlers that panicked.
    pub panics: u64,
    /// Connections closed to admit others.
    pub evictions: u64,
}

/// Looks at a server from outside; cheap to clone.
#[derive(Clone, Debug)]
pub struct Monitor(pub(super) Arc<Slots>);

impl Monitor {
    /// Whether the shutdown has begun.
    pub fn draining(&self) -> bool {
        self.0.phase() >= Phase::Draining
    }

    /// The numbers of this moment.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }
}

/// Whether a worker has something to do. On a cache line of its own, since it is written with every event.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Busy(AtomicBool);

#[derive(Debug)]
struct Slot {
    generation: AtomicU32,
    state: AtomicU8,
    /// Microseconds since the start; [`NEVER`] where there is none.
    deadline: AtomicU64,
    since: AtomicU64,
}

/// In the order of eviction: class, since when, slot.
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
    /// Worker threads that have not ended.
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

    /// A worker begins or ends what it has to do.
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

    /// Life moves on, never back.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
    }

    /// The id of whoever uses this place now.
    pub fn id(&self, index: u32) -> ConnectionId {
        ConnectionId { index, generation: self.all[index as usize].generation.load(Ordering::Acquire) }
    }

    pub fn is_current(&self, id: ConnectionId) -> bool {
        self.id(id.index) == id
    }

    /// Voids every id of this slot.
    pub fn retire(&self, id: ConnectionId) {
        let slot = &self.all[id.index as usize];
        slot.deadline.store(NEVER, Ordering::Relaxed);
        slot.since.store(NEVER, Ordering::Relaxed);
        slot.state.store(ConnState::Free as u8, Ordering::Relaxed);
        slot.generation.store(id.generation.wrapping_add(1), Ordering::Release);
    }

    /// A worker has the connection: nothing is due.
    pub fn working(&self, id: ConnectionId, state: ConnState) {
        let slot = &self.all[id.index as usize];
        slot.deadline.store(NEVER, Ordering::Relaxed);
        slot.since.store(NEVER, Ordering::Relaxed);
        slot.state.store(state as u8, Ordering::Relaxed);
    }

    /// The connection waits.
    pub fn waiting(&self, id: ConnectionId, state: ConnState, deadline: Instant, since: Instant) {
        let slot = &self.all[id.index as usize];
        slot.deadline.store(self.stamp(deadline), Ordering::Relaxed);
        slot.since.store(if state.is_evictable() { self.stamp(since) } else { NEVER }, Ordering::Relaxed);
        slot.state.store(state as u8, Ordering::Relaxed);
    }

    fn stamp(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.started);
        u64::try_from(since.as_micros()).unwrap_or(NEVER - 1).min(NEVER - 1)
    }

    /// Those whose deadline has passed; each is named once.
    pub fn take_due(&self, now: Instant) -> impl Iterator<Item = ConnectionId> {
        let now = self.stamp(now);
        (0u32..).zip(&self.all).filter_map(move |(index, slot)| {
            let deadline = slot.deadline.load(Ordering::Relaxed);
            let due = deadline <= now
                && slot.deadline.compare_exchange(deadline, NEVER, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            due.then(|| self.id(index))
        })
    }

    /// The one to be closed first of those behind `after`, and its place in that order: by class, then by how long it
    /// has waited.
    pub fn next_to_evict(&self, after: Option<Place>) -> Option<(Place, ConnectionId)> {
        let place = |(index, slot): (u32, &Slot)| {
            let (class, since) = (state(slot).eviction_class()?, slot.since.load(Ordering::Relaxed));
            (since != NEVER).then_some((class, since, index))
        };
        let waiting = (0u32..).zip(&self.all).filter_map(place).filter(|place| Some(*place) > after);
        waiting.min().map(|place| (place, self.id(place.2)))
    }

    /// Whether one waits for its next request since this moment or a later one.
    pub fn any_idle_since(&self, moment: Instant) -> bool {
        let moment = self.stamp(moment);
        let since = |slot: &Slot| slot.since.load(Ordering::Relaxed);
        self.all.iter().any(|slot| state(slot) == ConnState::Idle && (moment..NEVER).contains(&since(slot)))
    }

    /// Those in a state.
    pub fn all_in(&self, wanted: impl Fn(ConnState) -> bool) -> impl Iterator<Item = ConnectionId> {
        (0u32..).zip(&self.all).filter(move |(_, slot)| wanted(state(slot))).map(|(index, _)| self.id(index))
    }

    /// Whether one is left.
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
