//! The state that a server's threads share, and the accepting of connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Instant;

use rustix::io::Errno;

use super::connection::Connection;
use super::handler::{ConnectionId, Handler, Wake, Waker};
use super::listen::Listener;
use super::message::Peer;
use super::poller::Poller;
use super::pool::Pool;
use super::slots::Slots;
use super::socket::Socket;
use super::table::Table;
use crate::config::Limits;
use crate::memory::BodyMemory;
use crate::sync::Mutex;
use crate::turns::Turns;

/// Connections accepted from one listener before the worker turns to open connections.
const BATCH: usize = 64;

/// The part of the shared state that calls to upstreams use too.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Limits how many upstream calls run at once.
    pub turns: Arc<Turns>,
    /// Limits the bytes of bodies held at once.
    pub memory: Arc<BodyMemory>,
}

pub(super) struct Shared<H: Handler> {
    pub handler: Arc<H>,
    pub limits: Limits,
    pub slots: Arc<Slots>,
    pub poller: Arc<Poller>,
    pub table: Arc<Table<H::Parked>>,
    pub turns: Arc<Turns>,
    pub memory: Arc<BodyMemory>,
    pub pool: Arc<Pool>,
    acceptors: Vec<Acceptor>,
    supervisor: OnceLock<Thread>,
}

/// A listening socket, open until the shutdown.
struct Acceptor {
    listener: Mutex<Option<Listener>>,
    /// Left disarmed because the process ran out of descriptors. The supervisor tries again.
    paused: AtomicBool,
}

enum Round {
    /// Nothing left in the backlog, or the batch is full.
    Over,
    /// The process or the system ran out of descriptors or memory.
    Exhausted,
}

impl<H: Handler> Shared<H> {
    pub fn new(
        handler: Arc<H>,
        limits: Limits,
        budget: Budget,
        slots: Arc<Slots>,
        poller: Poller,
        listeners: Vec<Listener>,
    ) -> Self {
        let Budget { turns, memory } = budget;
        let pool = Arc::new(Pool::new(turns.threads()));
        let poller = Arc::new(poller);
        let table = Table::new(limits.connections, Arc::clone(&slots), Arc::clone(&poller));
        let acceptor = |listener| Acceptor { listener: Mutex::new(Some(listener)), paused: AtomicBool::new(false) };
        Self {
            handler,
            limits,
            slots,
            poller,
            table: Arc::new(table),
            turns,
            memory,
            pool,
            acceptors: listeners.into_iter().map(acceptor).collect(),
            supervisor: OnceLock::new(),
        }
    }

    /// A waker that belongs to no connection yet.
    pub fn waker(&self) -> Waker {
        let target: Arc<dyn Wake> = Arc::<Table<H::Parked>>::clone(&self.table);
        Waker { target, id: ConnectionId { index: 0, generation: 0 }, call: 0 }
    }

    /// Registers the listeners with the epoll.
    pub fn open(&self) -> Result<(), Errno> {
        for (number, acceptor) in self.acceptors.iter().enumerate() {
            if let Some(listener) = &*acceptor.listener.lock() {
                self.poller.add_listener(listener, number)?;
            }
        }
        Ok(())
    }

    /// Accepts waiting connections and arms the listener again.
    pub fn accept(&self, number: usize) {
        let acceptor = &self.acceptors[number];
        let listener = acceptor.listener.lock();
        let Some(listener) = &*listener else { return };
        if let Round::Exhausted = self.accept_from(listener, BATCH) {
            acceptor.paused.store(true, Ordering::SeqCst);
            self.wake_supervisor();
        } else {
            self.arm(listener, number);
        }
    }

    fn arm(&self, listener: &Listener, number: usize) {
        if let Err(error) = self.poller.arm_listener(listener, number) {
            log::error!("cannot wait for connections: {error}");
        }
    }

    fn accept_from(&self, listener: &Listener, most: usize) -> Round {
        for _ in 0..most {
            match listener.accept() {
                Ok((socket, peer)) => self.admit(socket, peer),
                Err(Errno::AGAIN) => return Round::Over,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    if !listener.has_waiting() {
                        return Round::Over;
                    }
                    if !self.table.evict(&self.limits) {
                        return Round::Exhausted;
                    }
                }
                // That connection failed before it was accepted ("Error handling" in accept(2)).
                Err(_) => {}
            }
        }
        Round::Over
    }

    /// Gives the connection a slot, evicting another if need be, or closes it.
    fn admit(&self, socket: Socket, peer: Peer) {
        let place = self.table.reserve().or_else(|| {
            // Another worker may take the freed slot first.
            (0..3).find_map(|_| if self.table.evict(&self.limits) { self.table.reserve() } else { None })
        });
        if let Some((id, only)) = place {
            self.table.insert(Connection::new(id, socket, peer, Instant::now(), &self.limits));
            if only {
                self.wake_supervisor();
            }
        }
    }

    pub fn any_paused(&self) -> bool {
        self.acceptors.iter().any(|acceptor| acceptor.paused.load(Ordering::SeqCst))
    }

    pub fn rearm_paused(&self) {
        for (number, acceptor) in self.acceptors.iter().enumerate() {
            if acceptor.paused.swap(false, Ordering::SeqCst)
                && let Some(listener) = &*acceptor.listener.lock()
            {
                self.arm(listener, number);
            }
        }
    }

    /// Accepts what is left in the backlog, then closes the listeners.
    pub fn close(&self) {
        for acceptor in &self.acceptors {
            if let Some(listener) = acceptor.listener.lock().take() {
                self.accept_from(&listener, self.limits.connections);
            }
        }
    }

    /// Registers the calling thread as the one that [`Self::wake_supervisor`] wakes.
    pub fn become_supervisor(&self) {
        // Only one thread calls this.
        let _ = self.supervisor.set(std::thread::current());
    }

    pub fn wake_supervisor(&self) {
        if let Some(supervisor) = self.supervisor.get() {
            supervisor.unpark();
        }
    }
}
