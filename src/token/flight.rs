//! One request in flight, and everyone waiting for it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::access_token::AccessToken;
use super::error::Error;
use crate::sync::{Condvar, Mutex};

/// Called once, when the flight completes.
pub type Wake = Box<dyn FnOnce() + Send>;

pub type Outcome = Result<Arc<AccessToken>, Error>;

pub struct Flight {
    claims: Option<[u8; 32]>,
    state: Mutex<FlightState>,
    completed: Condvar,
}

struct FlightState {
    outcome: Option<Outcome>,
    waiting: Vec<Wake>,
}

impl Flight {
    pub(super) const fn new(claims: Option<[u8; 32]>) -> Self {
        Self {
            claims,
            state: Mutex::new(FlightState { outcome: None, waiting: Vec::new() }),
            completed: Condvar::new(),
        }
    }

    pub(super) const fn claims(&self) -> Option<[u8; 32]> {
        self.claims
    }

    /// Calls `wake` when the flight completes, or at once if it has.
    pub(super) fn subscribe(&self, wake: Wake) {
        let mut state = self.state.lock();
        if state.outcome.is_none() {
            state.waiting.push(wake);
        } else {
            drop(state);
            wake();
        }
    }

    pub(super) fn finish(&self, outcome: Outcome) {
        let waiting = {
            let mut state = self.state.lock();
            state.outcome = Some(outcome);
            std::mem::take(&mut state.waiting)
        };
        self.completed.notify_all();
        for wake in waiting {
            wake();
        }
    }

    pub fn outcome(&self) -> Option<Outcome> {
        self.state.lock().outcome.clone()
    }

    /// Blocks until the flight completes, for at most `limit`.
    pub(super) fn wait(&self, limit: Duration) -> Option<Outcome> {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock();
        loop {
            if let Some(outcome) = &state.outcome {
                return Some(outcome.clone());
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self.completed.wait_timeout(state, left);
        }
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("completed", &self.state.lock().outcome.is_some()).finish_non_exhaustive()
    }
}
