//! Keeps an authority's keys up to date. A dedicated thread fetches them, so that no worker blocks
//! on the network: a request that needs new keys leaves a waker and is called back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use super::KeySet;
pub use super::fetch::{FetchError, KeySettings};
use super::schedule::{FetchReason, Schedule};
use crate::clock::Clock;
use crate::outbound::Exchange;
use crate::sync::{Condvar, Mutex};

/// Called once: on the fetching thread or, if there is nothing to wait for, on the caller's thread
/// before the method returns.
pub type Waker = Box<dyn FnOnce() + Send>;

/// Whether waiting helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshAnswer {
    /// The waker is called after a fetch, successful or not. Then look again.
    Wait,
    /// No fetch is due soon, and the waker was dropped.
    NotNow,
}

pub struct Keys {
    shared: Arc<Shared>,
}

struct Shared {
    settings: KeySettings,
    exchange: Arc<dyn Exchange>,
    clock: Arc<dyn Clock>,
    state: Mutex<KeysState>,
    changed: Condvar,
}

struct KeysState {
    schedule: Schedule,
    set: Option<Arc<KeySet>>,
    waiting: Vec<Waker>,
    stopped: bool,
}

impl Keys {
    pub fn start(settings: KeySettings, exchange: Arc<dyn Exchange>, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let keys = Self::idle(settings, exchange, clock);
        let shared = Arc::clone(&keys.shared);
        thread::Builder::new().name("keys".to_owned()).spawn(move || shared.run())?;
        Ok(keys)
    }

    pub fn probe(settings: &KeySettings, exchange: &dyn Exchange) -> Result<KeySet, FetchError> {
        super::fetch::fetch(settings, exchange, None)
    }

    /// Without a thread: nothing is fetched. Tests fetch by hand.
    pub fn idle(settings: KeySettings, exchange: Arc<dyn Exchange>, clock: Arc<dyn Clock>) -> Self {
        let schedule = Schedule::new(clock.instant(), settings.refresh, settings.minimum);
        let state = Mutex::new(KeysState { schedule, set: None, waiting: Vec::new(), stopped: false });
        Self { shared: Arc::new(Shared { settings, exchange, clock, state, changed: Condvar::new() }) }
    }

    /// The current keys. `None` before the first success, and when the last one is more than a day
    /// old.
    pub fn snapshot(&self) -> Option<Arc<KeySet>> {
        let state = self.shared.state.lock();
        state.usable(&*self.shared.clock)
    }

    /// A token refers to a key that is not in `seen`, so the keys may have rotated. Fetches at
    /// once, but at most once per `RefreshInterval`.
    pub fn on_unknown_kid(&self, seen: &Arc<KeySet>, waker: Waker) -> RefreshAnswer {
        let mut state = self.shared.state.lock();
        if state.set.as_ref().is_some_and(|set| !Arc::ptr_eq(set, seen)) {
            drop(state);
            waker();
            return RefreshAnswer::Wait;
        }
        if state.stopped || !state.schedule.force(self.shared.clock.instant()) {
            return RefreshAnswer::NotNow;
        }
        state.waiting.push(waker);
        drop(state);
        self.shared.changed.notify_all();
        RefreshAnswer::Wait
    }

    /// There is no [snapshot](Keys::snapshot). Waiting helps during the fetch at start, but not
    /// while the authority is down.
    pub fn on_missing(&self, waker: Waker) -> RefreshAnswer {
        let mut state = self.shared.state.lock();
        if state.usable(&*self.shared.clock).is_some() {
            drop(state);
            waker();
            return RefreshAnswer::Wait;
        }
        if state.stopped || !state.schedule.is_first() {
            return RefreshAnswer::NotNow;
        }
        state.waiting.push(waker);
        RefreshAnswer::Wait
    }

    /// Seconds since the last successful fetch.
    pub fn age_seconds(&self) -> Option<u64> {
        let now = self.shared.clock.instant();
        self.shared.state.lock().schedule.age(now).map(|age| age.as_secs())
    }

    /// Stops fetching and calls all wakers. The result of a running fetch is dropped.
    pub fn stop(&self) {
        let mut state = self.shared.state.lock();
        state.stopped = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.shared.changed.notify_all();
        wake(waiting);
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop();
    }
}

impl KeysState {
    fn usable(&self, clock: &dyn Clock) -> Option<Arc<KeySet>> {
        self.set.clone().filter(|_| self.schedule.is_usable(clock.instant()))
    }
}

impl Shared {
    fn run(&self) {
        while let Some((reason, known)) = self.next() {
            // A bug that one document triggers must not stop key refreshes for good.
            if catch_unwind(AssertUnwindSafe(|| self.fetch(reason, known.as_deref()))).is_err() {
                log::error!("a bug interrupted a fetch of signing keys");
                self.end(None);
            }
        }
    }

    /// Sleeps until a fetch is due. `None`: stopped.
    fn next(&self) -> Option<(FetchReason, Option<Arc<KeySet>>)> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            let wait = state.schedule.wait(self.clock.instant());
            if wait.is_zero() {
                return Some((state.schedule.begin(), state.set.clone()));
            }
            state = self.changed.wait_timeout(state, wait);
        }
    }

    /// Holds the lock only to store the outcome.
    fn fetch(&self, reason: FetchReason, known: Option<&KeySet>) {
        // A scheduled fetch refreshes everything, including the v1 issuer.
        let known = known.filter(|_| reason == FetchReason::UnknownKey);
        let outcome = super::fetch::fetch(&self.settings, &*self.exchange, known);
        let authority = &self.settings.authority.metadata.origin;
        match &outcome {
            Ok(set) => log::info!("fetched {} signing keys from {authority}, skipped {}", set.len(), set.skipped()),
            Err(error) => log::warn!("failed to fetch signing keys from {authority}: {error}"),
        }
        self.end(outcome.ok());
    }

    fn end(&self, set: Option<KeySet>) {
        let mut state = self.state.lock();
        state.schedule.end(set.is_some(), self.clock.instant());
        if let Some(set) = set {
            state.set = Some(Arc::new(set));
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        wake(waiting);
    }
}

fn wake(waiting: Vec<Waker>) {
    for waker in waiting {
        waker();
    }
}

#[cfg(test)]
mod tests;
