//! The epoll that all workers wait on, and a list of connections to visit without an event: those
//! that were woken, are overdue, or have more to do.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, retry_on_intr};

use super::handler::ConnectionId;
use crate::sync::Mutex;

/// User data of the eventfd. No table is large enough to have this index.
const WAKEUP: u64 = u64::MAX;
/// Upper half of a listener's user data. The lower half is its number.
const LISTENER: u64 = 0xffff_fffe;

/// Bit of the upper half that marks a connection's upstream. The rest is the connection's user data.
const UPSTREAM: u64 = 1 << 63;

/// Visits that one worker takes at once.
const VISITS: usize = 8;

const ARRIVAL: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Connection(ConnectionId, Event),
    /// A visit without an event on its socket.
    Visit(ConnectionId),
    Listener(usize),
}

/// What the kernel reported about a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    #[default]
    None,
    /// The upstream of a pending answer is readable.
    Upstream,
    /// Readable or writable.
    Ready,
    /// The peer sends no more, or the connection is broken.
    End,
}

#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    /// An eventfd, edge-triggered: each write wakes one worker, and it never has to be reset.
    wakeup: OwnedFd,
    visits: Mutex<VecDeque<ConnectionId>>,
}

impl Poller {
    pub fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wakeup, EventData::new_u64(WAKEUP), EventFlags::IN | EventFlags::ET)?;
        Ok(Self { epoll, wakeup, visits: Mutex::default() })
    }

    /// Waits for something to do and appends it to `ready`, without clearing that.
    pub fn wait(&self, events: &mut Vec<epoll::Event>, ready: &mut Vec<Ready>) {
        events.clear();
        if retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(events), None)).is_err() {
            return;
        }
        for &epoll::Event { data, flags, .. } in &*events {
            match data.u64() {
                WAKEUP => self.take_visits(ready),
                data if data >> 32 == LISTENER => ready.push(Ready::Listener(low_half(data) as usize)),
                data if data & UPSTREAM != 0 => {
                    let id = ConnectionId { index: low_half((data & !UPSTREAM) >> 32), generation: low_half(data) };
                    ready.push(Ready::Connection(id, Event::Upstream));
                }
                data => {
                    let id = ConnectionId { index: low_half(data >> 32), generation: low_half(data) };
                    let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
                    ready.push(Ready::Connection(id, if ended { Event::End } else { Event::Ready }));
                }
            }
        }
    }

    /// Has a worker visit a connection.
    pub fn visit(&self, id: ConnectionId) {
        self.visits.lock().push_back(id);
        self.wake();
    }

    /// Takes some visits and wakes the next worker if there are more, to spread them over the
    /// workers.
    fn take_visits(&self, ready: &mut Vec<Ready>) {
        let mut visits = self.visits.lock();
        let taken = visits.len().min(VISITS);
        ready.extend(visits.drain(..taken).map(Ready::Visit));
        if !visits.is_empty() {
            drop(visits);
            self.wake();
        }
    }

    pub fn wake(&self) {
        // Fails only if the counter is full, and then a worker has been woken already.
        let _ = rustix::io::write(&self.wakeup, &1u64.to_ne_bytes());
    }

    /// Watches a connection for input. Edge-triggered, so it need not be armed again after each
    /// request.
    pub fn add(&self, socket: impl AsFd, id: ConnectionId) -> Result<(), Errno> {
        epoll::add(&self.epoll, socket, connection_data(id), ARRIVAL)
    }

    /// Also watches it for room to send. Reports at once if there is some.
    pub fn watch_for_room(&self, socket: impl AsFd, id: ConnectionId) -> Result<(), Errno> {
        epoll::modify(&self.epoll, socket, connection_data(id), ARRIVAL | EventFlags::OUT)
    }

    /// Watches an upstream for input, on behalf of a connection. Reports at once if there is some.
    pub fn watch_upstream(&self, socket: BorrowedFd<'_>, id: ConnectionId) -> Result<(), Errno> {
        let data = EventData::new_u64(connection_data(id).u64() | UPSTREAM);
        // Most were watched before, for another connection.
        match epoll::modify(&self.epoll, socket, data, ARRIVAL) {
            Err(Errno::NOENT) => epoll::add(&self.epoll, socket, data, ARRIVAL),
            watched => watched,
        }
    }

    pub fn add_listener(&self, socket: impl AsFd, number: usize) -> Result<(), Errno> {
        epoll::add(&self.epoll, socket, listener_data(number), EventFlags::IN | EventFlags::ONESHOT)
    }

    pub fn arm_listener(&self, socket: impl AsFd, number: usize) -> Result<(), Errno> {
        epoll::modify(&self.epoll, socket, listener_data(number), EventFlags::IN | EventFlags::ONESHOT)
    }
}

fn connection_data(id: ConnectionId) -> EventData {
    EventData::new_u64(u64::from(id.index) << 32 | u64::from(id.generation))
}

fn listener_data(number: usize) -> EventData {
    EventData::new_u64(LISTENER << 32 | number as u64)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
const fn low_half(data: u64) -> u32 {
    data as u32
}
