//! The keeper: the one thread that watches the clock for all connections. It has overdue ones visited, tries
//! listeners again that lacked descriptors, replaces workers that are blocked, and brings about the end.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::board::{Phase, State};
use super::crew::LOOK_PERIOD;
use super::gate::Shared;
use super::handler::Handler;

/// How often the end looks whether something is still in flight.
const DRAIN_PERIOD: Duration = Duration::from_millis(2);
/// What was answered this recently may be sending its next request already, and would lose it if the connection were closed.
const GRACE: Duration = Duration::from_millis(500);
/// For the workers to notice that all is over.
const LAST_ROUND: Duration = Duration::from_millis(100);

pub(super) fn keep<H: Handler>(shared: &Shared<H>) {
    shared.become_keeper();
    serve(shared);
    drain(shared);
}

/// How often deadlines are looked at: often enough that the shortest of them is kept within an eighth.
fn sweep_period(shortest: Duration) -> Duration {
    (shortest / 8).clamp(Duration::from_millis(5), Duration::from_millis(100))
}

fn serve<H: Handler>(shared: &Shared<H>) {
    let limits = &shared.limits;
    let shortest = limits.head_timeout.min(limits.body_timeout).min(limits.write_timeout).min(limits.idle_timeout);
    let period = sweep_period(shortest);
    let mut watch = shared.board.crew.watch();
    let mut swept = Instant::now();
    while shared.board.phase() == Phase::Serving {
        if shared.board.crew.look(&mut watch) {
            thread::park_timeout(LOOK_PERIOD);
        } else if shared.table.open() > 0 || shared.any_paused() {
            thread::park_timeout(period);
        } else {
            thread::park();
        }
        if swept.elapsed() >= period {
            swept = Instant::now();
            visit_due(shared);
            shared.rearm_paused();
        }
    }
}

fn drain<H: Handler>(shared: &Shared<H>) {
    let board = &shared.board;
    let began = Instant::now();
    let end = began + shared.limits.shutdown_timeout;
    let mut watch = board.crew.watch();
    shared.close_gates();
    while shared.table.open() > 0 && Instant::now() < end {
        let settled = began.elapsed() >= GRACE || !board.any_idle_since(began.checked_sub(GRACE).unwrap_or(began));
        if settled && board.all_in(State::is_in_flight).next().is_none() {
            board.advance(Phase::Finishing);
        }
        if board.phase() == Phase::Finishing {
            // Each is read once more before it is closed.
            let idle = |state| matches!(state, State::Idle | State::Lingering);
            board.all_in(idle).for_each(|token| shared.poller.visit(token));
        }
        visit_due(shared);
        board.crew.look(&mut watch);
        thread::park_timeout(DRAIN_PERIOD);
    }
    board.advance(Phase::Stopped);
    shared.table.clear();
    board.crew.dismiss();
    shared.poller.ring();
    let end = end.max(Instant::now() + LAST_ROUND);
    while board.workers_alive.load(Ordering::SeqCst) > 0 && Instant::now() < end {
        thread::park_timeout(DRAIN_PERIOD);
    }
}

fn visit_due<H: Handler>(shared: &Shared<H>) {
    shared.board.take_due(Instant::now()).for_each(|token| shared.poller.visit(token));
}
