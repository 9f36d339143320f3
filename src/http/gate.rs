//! What the threads of a server share, and how connections come in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Instant;

use rustix::io::Errno;

use super::board::Board;
use super::conn::Conn;
use super::handler::{Handler, Token, Wake, Waker};
use super::limits::Limits;
use super::listen::Listener;
use super::message::Peer;
use super::poller::Poller;
use super::socket::Socket;
use super::table::Table;

/// Connections accepted before those that are open have their turn.
const BATCH: usize = 64;

pub(super) struct Shared<H: Handler> {
    pub handler: Arc<H>,
    pub limits: Limits,
    pub board: Arc<Board>,
    pub poller: Arc<Poller>,
    pub table: Arc<Table<H::Parked>>,
    gates: Vec<Gate>,
    keeper: OnceLock<Thread>,
}

/// A listener until the shutdown closes it.
struct Gate {
    listener: Mutex<Option<Listener>>,
    /// Left disarmed since the process has no descriptors left; the keeper tries again.
    paused: AtomicBool,
}

impl Gate {
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
    pub fn new(handler: Arc<H>, limits: Limits, board: Arc<Board>, poller: Poller, listeners: Vec<Listener>) -> Self {
        let poller = Arc::new(poller);
        let table = Table::new(limits.connections, Arc::clone(&board), Arc::clone(&poller));
        let gate = |listener| Gate { listener: Mutex::new(Some(listener)), paused: AtomicBool::new(false) };
        Self {
            handler,
            limits,
            board,
            poller,
            table: Arc::new(table),
            gates: listeners.into_iter().map(gate).collect(),
            keeper: OnceLock::new(),
        }
    }

    /// A waker to be pointed at connections.
    pub fn waker(&self) -> Waker {
        let target: Arc<dyn Wake> = Arc::<Table<H::Parked>>::clone(&self.table);
        Waker { target, token: Token { index: 0, generation: 0 }, call: 0 }
    }

    /// Lets connections in.
    pub fn open_gates(&self) -> Result<(), Errno> {
        for (number, gate) in self.gates.iter().enumerate() {
            if let Some(listener) = &*gate.lock() {
                self.poller.add_listener(listener, number)?;
            }
        }
        Ok(())
    }

    /// Accepts who waits at a listener, and arms it again.
    pub fn accept(&self, number: usize) {
        let gate = &self.gates[number];
        let listener = gate.lock();
        let Some(listener) = &*listener else { return };
        if let Round::Exhausted = self.accept_from(listener, BATCH) {
            gate.paused.store(true, Ordering::SeqCst);
            self.wake_keeper();
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
            self.table.insert(Conn::new(token, socket, peer, Instant::now(), &self.limits));
            if only {
                self.wake_keeper();
            }
        }
    }

    /// Whether a listener waits for descriptors.
    pub fn any_paused(&self) -> bool {
        self.gates.iter().any(|gate| gate.paused.load(Ordering::SeqCst))
    }

    /// Tries the paused listeners again.
    pub fn rearm_paused(&self) {
        for (number, gate) in self.gates.iter().enumerate() {
            if gate.paused.swap(false, Ordering::SeqCst)
                && let Some(listener) = &*gate.lock()
                && let Err(error) = self.poller.arm_listener(listener, number)
            {
                log::error!("cannot wait for connections: {error}");
            }
        }
    }

    /// Accepts who has come so far and closes the listeners.
    pub fn close_gates(&self) {
        for gate in &self.gates {
            if let Some(listener) = gate.lock().take() {
                self.accept_from(&listener, self.limits.connections);
            }
        }
    }

    /// Makes the calling thread the one that is woken when there is something to keep.
    pub fn become_keeper(&self) {
        // It is called once.
        let _ = self.keeper.set(std::thread::current());
    }

    /// Has the keeper look at once.
    pub fn wake_keeper(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }

    /// A worker thread is about to end.
    pub fn worker_ended(&self) {
        self.board.workers_alive.fetch_sub(1, Ordering::SeqCst);
        self.wake_keeper();
    }
}
