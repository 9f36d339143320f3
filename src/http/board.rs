//! What is going on, in atomics that anybody may read at any time: the state of every connection, its deadline
//! and since when it waits. The worker that owns a connection writes its line of the board; the sweep, the
//! eviction, the drain and the metrics only look. So nothing on the way of a request counts up and down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::crew::Crew;
use super::handler::Token;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Idle,
    Head,
    Body,
    Handling,
    Parked,
    Writing,
    Lingering,
}

impl State {
    const ALL: [Self; 8] =
        [Self::Free, Self::Idle, Self::Head, Self::Body, Self::Handling, Self::Parked, Self::Writing, Self::Lingering];

    /// Whether it may be closed to admit another one: it holds no complete request.
    pub fn is_evictable(self) -> bool {
        matches!(self, Self::Idle | Self::Head | Self::Lingering)
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
pub struct Monitor(pub(super) Arc<Board>);

impl Monitor {
    /// Whether the shutdown has begun.
    pub fn draining(&self) -> bool {
        self.0.phase() >= Phase::Draining
    }

    /// The numbers of this moment.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Says how many workers the handler is blocking, so that others step in for them at once.
    pub fn workers_wait(&self, count: usize) {
        self.0.crew.replace(count);
    }
}

#[derive(Debug)]
struct Line {
    generation: AtomicU32,
    state: AtomicU8,
    /// Microseconds since the start; [`NEVER`] where there is none.
    deadline: AtomicU64,
    since: AtomicU64,
}

const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Board {
    started: Instant,
    lines: Box<[Line]>,
    pub crew: Crew,
    phase: AtomicU8,
    pub panics: AtomicU64,
    pub evictions: AtomicU64,
    /// Worker threads that have not ended.
    pub workers_alive: AtomicUsize,
}

impl Board {
    pub fn new(connections: usize, crew: Crew) -> Self {
        let line = |_| Line {
            generation: AtomicU32::new(0),
            state: AtomicU8::new(State::Free as u8),
            deadline: AtomicU64::new(NEVER),
            since: AtomicU64::new(NEVER),
        };
        Self {
            started: Instant::now(),
            lines: (0..connections).map(line).collect(),
            crew,
            phase: AtomicU8::new(Phase::Serving as u8),
            panics: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            workers_alive: AtomicUsize::new(0),
        }
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

    /// The token of whoever uses this place now.
    pub fn token(&self, index: u32) -> Token {
        Token { index, generation: self.lines[index as usize].generation.load(Ordering::Acquire) }
    }

    pub fn is_current(&self, token: Token) -> bool {
        self.token(token.index) == token
    }

    /// Voids every token of this place.
    pub fn retire(&self, token: Token) {
        let line = &self.lines[token.index as usize];
        line.deadline.store(NEVER, Ordering::Relaxed);
        line.since.store(NEVER, Ordering::Relaxed);
        line.state.store(State::Free as u8, Ordering::Relaxed);
        line.generation.store(token.generation.wrapping_add(1), Ordering::Release);
    }

    /// A worker has the connection: nothing is due.
    pub fn working(&self, token: Token, state: State) {
        let line = &self.lines[token.index as usize];
        line.deadline.store(NEVER, Ordering::Relaxed);
        line.since.store(NEVER, Ordering::Relaxed);
        line.state.store(state as u8, Ordering::Relaxed);
    }

    /// The connection waits.
    pub fn waiting(&self, token: Token, state: State, deadline: Instant, since: Instant) {
        let line = &self.lines[token.index as usize];
        line.deadline.store(self.stamp(deadline), Ordering::Relaxed);
        line.since.store(if state.is_evictable() { self.stamp(since) } else { NEVER }, Ordering::Relaxed);
        line.state.store(state as u8, Ordering::Relaxed);
    }

    fn stamp(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.started);
        u64::try_from(since.as_micros()).unwrap_or(NEVER - 1).min(NEVER - 1)
    }

    /// Those whose deadline has passed; each is named once.
    pub fn take_due(&self, now: Instant) -> impl Iterator<Item = Token> {
        let now = self.stamp(now);
        (0u32..).zip(&self.lines).filter_map(move |(index, line)| {
            let deadline = line.deadline.load(Ordering::Relaxed);
            let due = deadline <= now
                && line.deadline.compare_exchange(deadline, NEVER, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            due.then(|| self.token(index))
        })
    }

    /// The one that has waited longest of those behind `after`, and its place in that order.
    pub fn oldest_waiting(&self, after: Option<(u64, u32)>) -> Option<((u64, u32), Token)> {
        let place = |(index, line): (u32, &Line)| (line.since.load(Ordering::Relaxed), index);
        let waiting = (0u32..).zip(&self.lines).map(place).filter(|place| place.0 != NEVER && Some(*place) > after);
        waiting.min().map(|place| (place, self.token(place.1)))
    }

    /// Whether one waits for its next request since this moment or a later one.
    pub fn any_idle_since(&self, moment: Instant) -> bool {
        let moment = self.stamp(moment);
        let since = |line: &Line| line.since.load(Ordering::Relaxed);
        self.lines.iter().any(|line| state(line) == State::Idle && (moment..NEVER).contains(&since(line)))
    }

    /// Those in a state.
    pub fn all_in(&self, wanted: impl Fn(State) -> bool) -> impl Iterator<Item = Token> {
        (0u32..).zip(&self.lines).filter(move |(_, line)| wanted(state(line))).map(|(index, _)| self.token(index))
    }

    fn stats(&self) -> Stats {
        let workers_busy = self.crew.busy();
        let mut stats = Stats {
            workers_busy,
            workers_idle: self.crew.workers() - workers_busy,
            panics: self.panics.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            ..Stats::default()
        };
        for line in &self.lines {
            match state(line) {
                State::Free => {}
                State::Idle => stats.idle += 1,
                State::Head | State::Body => stats.reading += 1,
                State::Handling => stats.handling += 1,
                State::Parked => stats.parked += 1,
                State::Writing | State::Lingering => stats.writing += 1,
            }
        }
        stats
    }
}

fn state(line: &Line) -> State {
    State::ALL.get(usize::from(line.state.load(Ordering::Relaxed))).copied().unwrap_or(State::Free)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn board() -> (Board, Vec<Token>) {
        let board = Board::new(4, Crew::new(1, 1));
        let tokens = (0..4).map(|index| board.token(index)).collect();
        (board, tokens)
    }

    #[test]
    fn what_is_due_is_named_once() {
        let (board, tokens) = board();
        let before = board.started + Duration::from_micros(999_999);
        let soon = board.started + Duration::from_secs(1);
        board.waiting(tokens[1], State::Idle, soon, board.started);
        let due = |at| board.take_due(at).collect::<Vec<_>>();
        assert_eq!(due(before), []);
        assert_eq!(due(soon), [tokens[1]]);
        assert_eq!(due(soon), []);
    }

    #[test]
    fn the_longest_waiting_comes_first_and_those_with_a_request_never() {
        let (board, tokens) = board();
        let at = |secs| board.started + Duration::from_secs(secs);
        board.waiting(tokens[0], State::Idle, at(99), at(3));
        board.waiting(tokens[1], State::Parked, at(99), at(1));
        board.waiting(tokens[2], State::Head, at(99), at(2));
        board.waiting(tokens[3], State::Lingering, at(99), at(2));
        let mut order = Vec::new();
        let mut after = None;
        while let Some((place, token)) = board.oldest_waiting(after) {
            order.push(token.index);
            after = Some(place);
        }
        assert_eq!(order, [2, 3, 0]);
    }

    #[test]
    fn who_waits_since_when_is_known_of_the_idle_alone() {
        let (board, tokens) = board();
        let at = |secs| board.started + Duration::from_secs(secs);
        board.waiting(tokens[0], State::Idle, at(99), at(3));
        board.waiting(tokens[1], State::Parked, at(99), at(7));
        assert!(board.any_idle_since(at(3)) && !board.any_idle_since(at(4)));
    }

    #[test]
    fn a_retired_token_is_void() {
        let (board, tokens) = board();
        board.retire(tokens[0]);
        assert!(!board.is_current(tokens[0]));
        assert!(board.is_current(board.token(0)));
    }

    #[test]
    fn life_never_moves_back() {
        let (board, _) = board();
        for phase in [Phase::Finishing, Phase::Draining] {
            board.advance(phase);
            assert_eq!(board.phase(), Phase::Finishing);
        }
    }
}
