//! A worker: waits on the epoll and moves ready connections on until they have to wait. It never
//! blocks, so it can take several events at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::acceptor::Shared;
use super::driver::Driver;
use super::handler::Handler;
use super::poller::{Event, Ready};
use super::slots::Phase;

/// Events taken from the kernel at once.
const EVENTS: usize = 16;

/// Runs until the server stops.
pub(super) fn work<H: Handler>(shared: &Arc<Shared<H>>, number: usize) {
    let mut driver = Driver::for_worker(Arc::clone(shared));
    let mut events = Vec::with_capacity(EVENTS);
    let mut ready = Vec::with_capacity(2 * EVENTS);
    while shared.slots.phase() != Phase::Stopped {
        shared.poller.wait(&mut events, &mut ready);
        shared.slots.set_busy(number, true);
        for event in ready.drain(..) {
            match event {
                Ready::Connection(id, event) => driver.visit(id, event),
                Ready::Visit(id) => driver.visit(id, Event::Ready),
                Ready::Listener(number) => shared.accept(number),
            }
        }
        shared.slots.set_busy(number, false);
    }
    // The wakeup reached only this worker, so it passes it on.
    shared.poller.wake();
    shared.slots.workers_alive.fetch_sub(1, Ordering::SeqCst);
    shared.wake_supervisor();
}
