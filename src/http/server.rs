//! A server's life: bind, start, drain, end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use super::board::{Board, Monitor, Phase, Stats};
use super::crew::Crew;
use super::gate::Shared;
use super::handler::Handler;
use super::keeper::keep;
use super::limits::Limits;
use super::listen::{BindError, Listener};
use super::poller::Poller;
use super::worker::Worker;
use crate::config::Listen;

/// A server that has its addresses and serves nobody yet.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    listeners: Vec<Listener>,
    poller: Poller,
    monitor: Monitor,
}

impl Server {
    /// Takes the addresses. Connections wait in the kernel until the start.
    pub fn bind(listen: &[Listen], limits: &Limits) -> Result<Self, BindError> {
        let poller = Poller::new().map_err(|error| BindError::Poller(error.into()))?;
        let limits =
            Limits { workers: limits.workers.max(1), connections: limits.connections.max(1), ..limits.clone() };
        let crew = Crew::new(limits.workers, thread::available_parallelism().map_or(1, usize::from));
        let monitor = Monitor(Arc::new(Board::new(limits.connections, crew)));
        Ok(Self { listeners: Listener::open_all(listen)?, limits, poller, monitor })
    }

    /// The TCP addresses, with the ports that the kernel chose.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(Listener::address).collect()
    }

    /// What the handler needs to tell health and metrics.
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Starts the threads and serves.
    pub fn start<H: Handler>(self, handler: Arc<H>) -> io::Result<Running> {
        let Self { limits, listeners, poller, monitor } = self;
        let workers = limits.workers;
        let shared = Arc::new(Shared::new(handler, limits, Arc::clone(&monitor.0), poller, listeners));
        let started = Self::spawn(&shared, workers).and_then(|threads| {
            shared.open_gates()?;
            Ok(threads)
        });
        match started {
            Ok((keeper, workers)) => Ok(Running { monitor, keeper, workers }),
            Err(error) => {
                monitor.0.advance(Phase::Stopped);
                monitor.0.crew.dismiss();
                shared.poller.ring();
                shared.wake_keeper();
                Err(error)
            }
        }
    }

    fn spawn<H: Handler>(shared: &Arc<Shared<H>>, workers: usize) -> io::Result<(JoinHandle<()>, Vec<JoinHandle<()>>)> {
        let mut threads = Vec::with_capacity(workers);
        for number in 0..workers {
            let worker = Worker::new(Arc::clone(shared), number);
            shared.board.workers_alive.fetch_add(1, Ordering::SeqCst);
            threads.push(thread::Builder::new().name(format!("worker-{number}")).spawn(move || worker.run())?);
        }
        let shared = Arc::clone(shared);
        let keeper = thread::Builder::new().name("keeper".to_owned()).spawn(move || keep(&shared))?;
        Ok((keeper, threads))
    }
}

/// A server that serves.
#[derive(Debug)]
pub struct Running {
    monitor: Monitor,
    keeper: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Begins the end: who waits in the backlog is accepted, the listeners close, and what is in flight finishes.
    pub fn shutdown(&self) {
        self.monitor.0.advance(Phase::Draining);
        self.keeper.thread().unpark();
    }

    /// Whether the shutdown has begun.
    pub fn draining(&self) -> bool {
        self.monitor.draining()
    }

    /// The numbers of this moment.
    pub fn stats(&self) -> Stats {
        self.monitor.stats()
    }

    /// Waits for the end. Handlers that are still busy after `shutdown_timeout` are left behind, for the
    /// process is about to end: `false`.
    pub fn join(self) -> bool {
        let kept = self.keeper.join().is_ok();
        let ended = self.monitor.0.workers_alive.load(Ordering::SeqCst) == 0;
        ended && kept && self.workers.into_iter().all(|worker| worker.join().is_ok())
    }
}
