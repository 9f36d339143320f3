//! Keeps an authority's keys at hand. One thread of its own fetches them, so that no request ever waits on the network with a worker:
//! whoever needs keys that are about to come leaves a waker and is called back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::KeySet;
pub use super::fetch::{FetchError, Settings};
use super::schedule::{Reason, Schedule};
use crate::clock::Clock;
use crate::outbound::Exchange;

/// Called once, on the fetching thread or, where there is nothing to wait for any more, on the caller's before the call returns.
pub type Waker = Box<dyn FnOnce() + Send>;

/// Whether waiting helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshAnswer {
    /// The waker is called when a fetch has ended, well or not. Then look again.
    Wait,
    /// No fetch is to be expected soon: the waker was dropped. What is known is all there is.
    NotNow,
}

/// The keys of one authority.
pub struct Keys {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    exchange: Arc<dyn Exchange>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    schedule: Schedule,
    set: Option<Arc<KeySet>>,
    waiting: Vec<Waker>,
    stopped: bool,
}

impl Keys {
    /// Starts to fetch in the background.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(settings: Settings, exchange: Arc<dyn Exchange>, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let keys = Self::idle(settings, exchange, clock);
        let shared = Arc::clone(&keys.shared);
        thread::Builder::new().name("keys".to_owned()).spawn(move || shared.run())?;
        Ok(keys)
    }

    /// Fetches once, to see whether it can be done.
    ///
    /// # Errors
    /// What went wrong.
    pub fn probe(settings: &Settings, exchange: &dyn Exchange, now: u64) -> Result<KeySet, FetchError> {
        super::fetch::fetch(settings, exchange, None, now)
    }

    /// Never fetches: for whoever validates nothing, and tests, which fetch by hand.
    pub fn idle(settings: Settings, exchange: Arc<dyn Exchange>, clock: Arc<dyn Clock>) -> Self {
        let schedule = Schedule::new(clock.instant(), settings.refresh, settings.minimum);
        let state = Mutex::new(State { schedule, set: None, waiting: Vec::new(), stopped: false });
        Self { shared: Arc::new(Shared { settings, exchange, clock, state, changed: Condvar::new() }) }
    }

    /// The keys as of now. `None`: there are none yet, or the last ones are more than a day old.
    pub fn snapshot(&self) -> Option<Arc<KeySet>> {
        let state = self.shared.lock();
        state.usable(&*self.shared.clock)
    }

    /// A token names a key that is not in `seen`. Its keys may have been changed: they are fetched at once, but then at most every
    /// 30 seconds.
    pub fn on_unknown_kid(&self, seen: &Arc<KeySet>, waker: Waker) -> RefreshAnswer {
        let mut state = self.shared.lock();
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

    /// There is no [snapshot](Keys::snapshot). Waiting helps while the fetch at start is under way, not while the authority is down.
    pub fn on_missing(&self, waker: Waker) -> RefreshAnswer {
        let mut state = self.shared.lock();
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

    /// How long ago the keys were fetched. `None`: never.
    pub fn age_seconds(&self) -> Option<u64> {
        let now = self.shared.clock.instant();
        self.shared.lock().schedule.age(now).map(|age| age.as_secs())
    }

    /// Fetches no more and calls all wakers. A fetch under way ends unheard.
    pub fn stop(&self) {
        let mut state = self.shared.lock();
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

impl State {
    fn usable(&self, clock: &dyn Clock) -> Option<Arc<KeySet>> {
        self.set.clone().filter(|_| self.schedule.is_usable(clock.instant()))
    }
}

impl Shared {
    fn run(&self) {
        while let Some((reason, known)) = self.next() {
            // A defect met in one document must not end the keys of the whole process.
            if catch_unwind(AssertUnwindSafe(|| self.fetch(reason, known.as_deref()))).is_err() {
                log::error!("a fetch of signing keys met a defect");
                self.end(None);
            }
        }
    }

    /// Sleeps until a fetch is to begin. `None`: stopped.
    fn next(&self) -> Option<(Reason, Option<Arc<KeySet>>)> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let wait = state.schedule.wait(self.clock.instant());
            if wait.is_zero() {
                return Some((state.schedule.begin(), state.set.clone()));
            }
            (state, _) = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Only the outcome is entered under the lock.
    fn fetch(&self, reason: Reason, known: Option<&KeySet>) {
        // Ahead of need everything is asked for anew, the issuer of v1 tokens too.
        let known = known.filter(|_| reason == Reason::UnknownKey);
        let outcome = super::fetch::fetch(&self.settings, &*self.exchange, known, self.clock.unix());
        let authority = &self.settings.authority.metadata.origin;
        match &outcome {
            Ok(set) => log::info!("{} signing keys from {authority}, {} skipped", set.len(), set.skipped()),
            Err(error) => log::warn!("no signing keys from {authority}: {error}"),
        }
        self.end(outcome.ok());
    }

    fn end(&self, set: Option<KeySet>) {
        let mut state = self.lock();
        state.schedule.end(set.is_some(), self.clock.instant());
        if let Some(set) = set {
            state.set = Some(Arc::new(set));
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        wake(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waiting: Vec<Waker>) {
    for waker in waiting {
        waker();
    }
}

#[cfg(test)]
mod tests;
