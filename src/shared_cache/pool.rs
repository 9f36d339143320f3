//! A few connections for all threads. A request takes one, or waits for one.

use std::time::Instant;

use redis::{Cmd, Value};

use super::connection::{Connection, Target};
use super::failure::Failure;
use crate::sync::{Condvar, Mutex};

/// Open at once.
const MOST: usize = 16;

/// Kept while idle: a store serves hundreds of replicas.
const KEPT: usize = 4;

pub struct Pool {
    target: Target,
    state: Mutex<PoolState>,
    returned: Condvar,
}

#[derive(Default)]
struct PoolState {
    /// The one used last is at the end.
    idle: Vec<Connection>,
    taken: usize,
}

/// A connection to be used, given back on drop.
struct Taken<'a> {
    pool: &'a Pool,
    /// `None`: not connected.
    connection: Option<Connection>,
}

impl Pool {
    pub fn new(target: Target) -> Self {
        Self { target, state: Mutex::default(), returned: Condvar::new() }
    }

    /// Asks on any connection. The server closes idle ones, so one that was kept is replaced once.
    pub fn ask(&self, commands: &[Cmd], deadline: Instant) -> Result<Vec<Value>, Failure> {
        let mut taken = self.take(deadline)?;
        if let Some(mut kept) = taken.connection.take() {
            match kept.ask(commands, deadline) {
                Ok(answers) => {
                    taken.connection = Some(kept);
                    return Ok(answers);
                }
                Err(failure @ Failure::Server(_)) if Instant::now() >= deadline => return Err(failure),
                // The others were opened to the same server, which is perhaps another one now.
                Err(Failure::Server(_)) => self.state.lock().idle.clear(),
                Err(failure) => return Err(failure),
            }
        }
        let mut connection = Connection::open(&self.target, deadline)?;
        let answers = connection.ask(commands, deadline)?;
        taken.connection = Some(connection);
        Ok(answers)
    }

    fn take(&self, deadline: Instant) -> Result<Taken<'_>, Failure> {
        let mut state = self.state.lock();
        while state.taken >= MOST {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // The others are waiting for the server, and will tell.
                return Err(Failure::Skipped);
            }
            state = self.returned.wait_timeout(state, left);
        }
        state.taken += 1;
        Ok(Taken { pool: self, connection: state.idle.pop() })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.taken -= 1;
        let connection = self.connection.take();
        if state.idle.len() < KEPT {
            state.idle.extend(connection);
        }
        drop(state);
        self.pool.returned.notify_one();
    }
}
