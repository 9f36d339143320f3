//! The one epoll on which all workers wait, and the list of connections that are to be visited though their
//! sockets say nothing: those that were woken, are overdue, or had their turn and want another.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, retry_on_intr};

use super::handler::Token;

/// Data of the bell; no table is large enough to have this index.
const BELL: u64 = u64::MAX;
/// Upper half of a listener's data, with the listener's number below.
const LISTENER: u64 = 0xffff_fffe;

const ARRIVAL: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

/// What a worker is to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Connection(Token, Event),
    /// Though its socket said nothing.
    Visit(Token),
    Listener(usize),
    Nothing,
}

/// What the kernel said about a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// Nothing.
    #[default]
    None,
    /// There may be bytes, or room for some.
    Ready,
    /// The other end will send no more, or the connection is broken: there is an end to be read.
    End,
}

#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    /// Rung by writing to it; edge-triggered, so one worker wakes per ring and nobody need reset it.
    bell: OwnedFd,
    visits: Mutex<VecDeque<Token>>,
}

impl Poller {
    pub fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), EventFlags::IN | EventFlags::ET)?;
        Ok(Self { epoll, bell, visits: Mutex::default() })
    }

    /// Waits until there is something to do. One event at a time: a worker that took several could be held up by
    /// the first while others are free.
    pub fn wait(&self, events: &mut Vec<epoll::Event>) -> Ready {
        events.clear();
        if retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(events), None)).is_err() {
            return Ready::Nothing;
        }
        let Some(&epoll::Event { data, flags, .. }) = events.first() else { return Ready::Nothing };
        match data.u64() {
            BELL => self.next_visit().map_or(Ready::Nothing, Ready::Visit),
            data if data >> 32 == LISTENER => Ready::Listener(low_half(data) as usize),
            data => {
                let token = Token { index: low_half(data >> 32), generation: low_half(data) };
                let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
                Ready::Connection(token, if ended { Event::End } else { Event::Ready })
            }
        }
    }

    /// Has some worker visit a connection.
    pub fn visit(&self, token: Token) {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner).push_back(token);
        self.ring();
    }

    /// Takes one visit and passes the bell on if there are more, so that they spread over the workers.
    fn next_visit(&self) -> Option<Token> {
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        let token = visits.pop_front();
        if !visits.is_empty() {
            self.ring();
        }
        token
    }

    /// Wakes one worker.
    pub fn ring(&self) {
        // A counter that is full rings as well, which is the only way to fail.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Watches a connection for what arrives. Edge-triggered, so that nothing need be said again after each request.
    pub fn add(&self, socket: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::add(&self.epoll, socket, connection_data(token), ARRIVAL)
    }

    /// Watches it for room to send too, and says so if there is some already.
    pub fn watch_for_room(&self, socket: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::modify(&self.epoll, socket, connection_data(token), ARRIVAL | EventFlags::OUT)
    }

    pub fn add_listener(&self, socket: impl AsFd, number: usize) -> Result<(), Errno> {
        epoll::add(&self.epoll, socket, listener_data(number), EventFlags::IN | EventFlags::ONESHOT)
    }

    pub fn arm_listener(&self, socket: impl AsFd, number: usize) -> Result<(), Errno> {
        epoll::modify(&self.epoll, socket, listener_data(number), EventFlags::IN | EventFlags::ONESHOT)
    }
}

fn connection_data(token: Token) -> EventData {
    EventData::new_u64(u64::from(token.index) << 32 | u64::from(token.generation))
}

fn listener_data(number: usize) -> EventData {
    EventData::new_u64(LISTENER << 32 | number as u64)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
const fn low_half(data: u64) -> u32 {
    data as u32
}
