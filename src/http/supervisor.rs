//! The supervisor: the one thread that watches the clock for all connections. It has overdue ones
//! visited, retries what failed for want of descriptors or threads, and carries out the shutdown.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::acceptor::Shared;
use super::handler::Handler;
use super::slots::{ConnState, Phase};

/// How often the shutdown checks for requests in flight.
const DRAIN_PERIOD: Duration = Duration::from_millis(2);
/// A connection that was answered this recently may have its next request on the way, which closing
/// would lose.
const GRACE: Duration = Duration::from_millis(500);
/// Time for the workers to notice the end of the shutdown.
const LAST_ROUND: Duration = Duration::from_millis(100);

pub(super) fn supervise<H: Handler>(shared: &Shared<H>) {
    shared.become_supervisor();
    serve(shared);
    drain(shared);
}

/// The period of checking deadlines: an eighth of the shortest timeout bounds the delay.
fn sweep_period(shortest: Duration) -> Duration {
    (shortest / 8).clamp(Duration::from_millis(5), Duration::from_millis(100))
}

fn serve<H: Handler>(shared: &Shared<H>) {
    let limits = &shared.limits;
    let shortest = limits.head_timeout.min(limits.body_timeout).min(limits.write_timeout).min(limits.idle_timeout);
    let period = sweep_period(shortest);
    let mut swept = Instant::now();
    while shared.slots.phase() == Phase::Serving {
        if shared.table.open() > 0 || shared.any_paused() {
            thread::park_timeout(period);
        } else {
            thread::park();
        }
        if swept.elapsed() >= period {
            swept = Instant::now();
            visit_due(shared);
            shared.rearm_paused();
            shared.pool.retry();
        }
    }
}

fn drain<H: Handler>(shared: &Shared<H>) {
    let slots = &shared.slots;
    let began = Instant::now();
    let end = began + shared.limits.shutdown_timeout;
    shared.close();
    while shared.table.open() > 0 && Instant::now() < end {
        let settled = began.elapsed() >= GRACE || !slots.any_idle_since(began.checked_sub(GRACE).unwrap_or(began));
        if settled && slots.all_in(ConnState::is_in_flight).next().is_none() {
            slots.advance(Phase::Finishing);
        }
        if slots.phase() == Phase::Finishing {
            // Each is read once more before it is closed.
            let idle = |state| matches!(state, ConnState::Idle | ConnState::Lingering);
            slots.all_in(idle).for_each(|id| shared.poller.visit(id));
        }
        visit_due(shared);
        thread::park_timeout(DRAIN_PERIOD);
    }
    slots.advance(Phase::Stopped);
    shared.table.clear();
    shared.pool.stop();
    shared.poller.wake();
    let end = end.max(Instant::now() + LAST_ROUND);
    while slots.workers_alive.load(Ordering::SeqCst) > 0 && Instant::now() < end {
        thread::park_timeout(DRAIN_PERIOD);
    }
}

fn visit_due<H: Handler>(shared: &Shared<H>) {
    shared.slots.take_due(Instant::now()).for_each(|id| shared.poller.visit(id));
}
