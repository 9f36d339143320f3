//! The life of a server: bind, start, drain, stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use super::acceptor::{Budget, Shared};
use super::handler::Handler;
use super::listen::{BindError, Listener};
use super::poller::Poller;
use super::slots::{Monitor, Phase, Slots, Stats};
use super::supervisor::supervise;
use super::worker::work;
use crate::config::Limits;
use crate::config::Listen;

/// A server that is bound and not started yet.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    listeners: Vec<Listener>,
    poller: Poller,
    monitor: Monitor,
}

impl Server {
    /// Binds the addresses. Connections wait in the backlog until the start.
    pub fn bind(listen: &[Listen], limits: &Limits) -> Result<Self, BindError> {
        let poller = Poller::new().map_err(|error| BindError::Poller(error.into()))?;
        let limits =
            Limits { workers: limits.workers.max(1), connections: limits.connections.max(1), ..limits.clone() };
        let monitor = Monitor(Arc::new(Slots::new(limits.connections, limits.workers)));
        Ok(Self { listeners: Listener::open_all(listen)?, limits, poller, monitor })
    }

    /// The TCP addresses, with the ports that the kernel chose.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(Listener::address).collect()
    }

    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    pub fn start<H: Handler>(self, handler: Arc<H>, budget: Budget) -> io::Result<Running> {
        let Self { limits, listeners, poller, monitor } = self;
        let workers = limits.workers;
        let shared = Arc::new(Shared::new(handler, limits, budget, Arc::clone(&monitor.0), poller, listeners));
        let started = Self::spawn(&shared, workers).and_then(|threads| {
            shared.open()?;
            Ok(threads)
        });
        match started {
            Ok((supervisor, workers)) => Ok(Running { monitor, supervisor, workers }),
            Err(error) => {
                monitor.0.advance(Phase::Stopped);
                shared.poller.wake();
                shared.wake_supervisor();
                Err(error)
            }
        }
    }

    fn spawn<H: Handler>(shared: &Arc<Shared<H>>, workers: usize) -> io::Result<(JoinHandle<()>, Vec<JoinHandle<()>>)> {
        let mut threads = Vec::with_capacity(workers);
        for number in 0..workers {
            let shared = Arc::clone(shared);
            shared.slots.workers_alive.fetch_add(1, Ordering::SeqCst);
            threads.push(thread::Builder::new().name(format!("worker-{number}")).spawn(move || work(&shared, number))?);
        }
        let shared = Arc::clone(shared);
        let supervisor = thread::Builder::new().name("supervisor".to_owned()).spawn(move || supervise(&shared))?;
        Ok((supervisor, threads))
    }
}

#[derive(Debug)]
pub struct Running {
    monitor: Monitor,
    supervisor: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Begins the shutdown: accepts what is in the backlog, closes the listeners and lets requests
    /// in flight finish.
    pub fn shutdown(&self) {
        self.monitor.0.advance(Phase::Draining);
        self.supervisor.thread().unpark();
    }

    pub fn draining(&self) -> bool {
        self.monitor.draining()
    }

    pub fn stats(&self) -> Stats {
        self.monitor.stats()
    }

    /// Waits for the end of the shutdown. False if calls were still running after
    /// `shutdown_timeout`, which are abandoned as the process ends.
    pub fn join(self) -> bool {
        let kept = self.supervisor.join().is_ok();
        let ended = self.monitor.0.workers_alive.load(Ordering::SeqCst) == 0 && !self.monitor.0.has_connections();
        ended && kept && self.workers.into_iter().all(|worker| worker.join().is_ok())
    }
}
