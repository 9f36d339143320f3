//! What the threads of a server share, and how connections come in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Instant;

use rustix::io::Errno;

use super::connection::Connection;
use super::handler::{ConnectionId, Handler, Wake, Waker};
use super::limits::Limits;
use super::listen::Listener;
use super::message::Peer;
use super::poller::Poller;
use super::pool::Pool;
use super::slots::Slots;
use super::socket::Socket;
use super::table::Table;
use crate::memory::BodyMemory;
use crate::turns::Turns;

/// Connections accepted before those that are open have their turn.
const BATCH: usize = 64;

/// What the server shares with those who make upstream calls.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Turns for what may block.
    pub turns: Arc<Turns>,
    /// For the bodies that are held at once.
    pub memory: Arc<BodyMemory>,
}

pub(super) struct Shared<H: Handler> {
    pub handler: Arc<H>,
    pub limits: Limits,
    pub slots: Arc<Slots>,
    pub poller: Arc<Poller>,
    pub table: Arc<Table<H::Parked>>,
    /// Turns for what may block.
    pub turns: Arc<Turns>,
    /// The budget of bodies.
    pub memory: Arc<BodyMemory>,
    /// The threads that may block.
    pub pool: Arc<Pool>,
    acceptors: Vec<Acceptor>,
    supervisor: OnceLock<Thread>,
}

/// A listener until the shutdown closes it.
struct Acceptor {
    listener: Mutex<Option<Listener>>,
    /// Left disarmed since the process has no descriptors left; the supervisor tries again.
    paused: AtomicBool,
}

impl Acceptor {
    fn lock(&self) -> MutexGuard<'_, Option<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a round of accepting ended.
enum Round {
    /// Nobody is waiting, or the others have their turn.
    Over,
    /// Descriptors or memory ran out.
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
        let pool = Arc::new(Pool::new(limits.blocking_threads));
        let Budget { turns, memory } = budget;
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

    /// A waker to be pointed at connections.
    pub fn waker(&self) -> Waker {
        let target: Arc<dyn Wake> = Arc::<Table<H::Parked>>::clone(&self.table);
        Waker { target, id: ConnectionId { index: 0, generation: 0 }, call: 0 }
    }

    /// Lets connections in.
    pub fn open(&self) -> Result<(), Errno> {
        for (number, acceptor) in self.acceptors.iter().enumerate() {
            if let Some(listener) = &*acceptor.lock() {
                self.poller.add_listener(listener, number)?;
            }
        }
        Ok(())
    }

    /// Accepts who waits at a listener, and arms it again.
    pub fn accept(&self, number: usize) {
        let acceptor = &self.acceptors[number];
        let listener = acceptor.lock();
        let Some(listener) = &*listener else { return };
        if let Round::Exhausted = self.accept_from(listener, BATCH) {
            acceptor.paused.store(true, Ordering::SeqCst);
            self.wake_supervisor();
        } else if let Err(error) = self.poller.arm_listener(listener, number) {
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
                // The one connection failed before it was accepted: accept(2), "error handling".
                Err(_) => {}
            }
        }
        Round::Over
    }

    /// Gives a connection a place, somebody else's if need be. Without one it is closed.
    fn admit(&self, socket: Socket, peer: Peer) {
        let place = self.table.reserve().or_else(|| {
            // Another worker may be quicker to take the place that becomes free.
            (0..3).find_map(|_| if self.table.evict(&self.limits) { self.table.reserve() } else { None })
        });
        if let Some((token, only)) = place {
            self.table.insert(Connection::new(token, socket, peer, Instant::now(), &self.limits));
            if only {
                self.wake_supervisor();
            }
        }
    }

    /// Whether a listener waits for descriptors.
    pub fn any_paused(&self) -> bool {
        self.acceptors.iter().any(|acceptor| acceptor.paused.load(Ordering::SeqCst))
    }

    /// Tries the paused listeners again.
    pub fn rearm_paused(&self) {
        for (number, acceptor) in self.acceptors.iter().enumerate() {
            if acceptor.paused.swap(false, Ordering::SeqCst)
                && let Some(listener) = &*acceptor.lock()
                && let Err(error) = self.poller.arm_listener(listener, number)
            {
                log::error!("cannot wait for connections: {error}");
            }
        }
    }

    /// Accepts who has come so far and closes the listeners.
    pub fn close(&self) {
        for acceptor in &self.acceptors {
            if let Some(listener) = acceptor.lock().take() {
                self.accept_from(&listener, self.limits.connections);
            }
        }
    }

    /// Makes the calling thread the one that is woken when there is something to keep.
    pub fn become_supervisor(&self) {
        // It is called once.
        let _ = self.supervisor.set(std::thread::current());
    }

    /// Has the supervisor look at once.
    pub fn wake_supervisor(&self) {
        if let Some(supervisor) = self.supervisor.get() {
            supervisor.unpark();
        }
    }
}
