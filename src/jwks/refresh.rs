//! Keeps the key set fresh on a thread of its own. Nobody waits here but by being called back.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use super::document::{self, MAX_BYTES};
use super::key_set::KeySet;
use super::schedule::History;
use super::settings::Settings;
use crate::clock::Clock;
use crate::outbound::{Exchange, OutRequest, Upstream};
use crate::url::Url;

/// The thread looks at the clock at least so often, which may have been set.
const LOOK: Duration = Duration::from_mins(1);

/// Called once when a fetch has ended.
type Wake = Box<dyn FnOnce() + Send>;

/// Whether it helps to wait for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A fetch is under way, or about to be; the caller will be called back.
    Wait,
    /// None is.
    NotNow {
        /// Seconds until the next one is planned.
        retry_after: u64,
    },
}

/// The keys of one authority.
pub struct Keys {
    settings: Settings,
    exchange: Arc<dyn Exchange>,
    clock: Arc<dyn Clock>,
    current: RwLock<Option<Arc<KeySet>>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    history: History,
    fetching: bool,
    demanded: bool,
    stopped: bool,
    waiting: Vec<Wake>,
}

impl Keys {
    /// Starts the thread, which fetches at once.
    pub fn start(settings: Settings, exchange: Arc<dyn Exchange>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let keys = Arc::new(Self::new(settings, exchange, clock));
        let own = Arc::clone(&keys);
        if let Err(error) = thread::Builder::new().name("keys".to_owned()).spawn(move || own.run()) {
            log::error!("no thread for signing keys: {error}");
        }
        keys
    }

    /// Fetches once, to see whether it can be done.
    ///
    /// # Errors
    /// What went wrong, and where.
    pub fn probe(
        settings: Settings,
        exchange: Arc<dyn Exchange>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<KeySet>, String> {
        Self::new(settings, exchange, clock).fetch()
    }

    fn new(settings: Settings, exchange: Arc<dyn Exchange>, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            exchange,
            clock,
            current: RwLock::new(None),
            state: Mutex::new(State { fetching: true, ..State::default() }),
            changed: Condvar::new(),
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// The keys to verify with, where there are any that still count.
    pub fn snapshot(&self) -> Option<Arc<KeySet>> {
        let set = self.current.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let history = History { fetched_at: Some(set.fetched_at()), ..History::default() };
        history.is_current(self.clock.unix()).then_some(set)
    }

    /// For a token whose key is unknown: a fetch at once, then at most one in the configured while.
    pub fn on_unknown_kid(&self, wake: Wake) -> Answer {
        let now = self.clock.unix();
        let mut state = self.lock();
        // A fetch that began before the token came may end without its key; it was not for this token.
        let begun = state.fetching && state.demanded;
        if !begun && !state.history.may_demand(now, self.settings.minimum.as_secs()) {
            return self.not_now(&state, now);
        }
        if !begun {
            state.history.demanded_at = Some(now);
            state.demanded = true;
            self.changed.notify_all();
        }
        state.waiting.push(wake);
        Answer::Wait
    }

    /// For a token that comes before there are keys: waits for the first fetch, while that is under way.
    pub fn on_missing(&self, wake: Wake) -> Answer {
        let now = self.clock.unix();
        let mut state = self.lock();
        if !state.fetching || state.history.failures > 0 {
            return self.not_now(&state, now);
        }
        state.waiting.push(wake);
        Answer::Wait
    }

    fn not_now(&self, state: &State, now: u64) -> Answer {
        let due = state.history.due_at(self.settings.refresh.as_secs());
        Answer::NotNow { retry_after: due.saturating_sub(now).clamp(1, 30) }
    }

    /// Seconds since the keys were fetched.
    pub fn age_seconds(&self) -> Option<u64> {
        let set = self.current.read().unwrap_or_else(PoisonError::into_inner);
        set.as_ref().map(|set| self.clock.unix().saturating_sub(set.fetched_at()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let mut state = self.lock();
            loop {
                if state.stopped {
                    return;
                }
                let now = self.clock.unix();
                let due = state.history.due_at(self.settings.refresh.as_secs());
                if state.demanded || now >= due {
                    break;
                }
                state.fetching = false;
                let pause = LOOK.min(Duration::from_secs(due - now));
                state = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
            }
            state.fetching = true;
            state.demanded = false;
            drop(state);
            self.fetch_once();
        }
    }

    fn fetch_once(&self) {
        let outcome = self.fetch();
        let now = self.clock.unix();
        match &outcome {
            Ok(set) => {
                log::info!("fetched {} signing keys ({} unusable)", set.len(), set.skipped());
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(set));
            }
            Err(error) => log::warn!("signing keys cannot be fetched: {error}"),
        }
        let waiting = {
            let mut state = self.lock();
            state.history.attempted_at = Some(now);
            if outcome.is_ok() {
                state.history.fetched_at = Some(now);
                state.history.failures = 0;
            } else {
                state.history.failures = state.history.failures.saturating_add(1);
            }
            state.fetching = state.demanded;
            // Who demanded a fetch while this one was under way waits for theirs.
            if state.demanded { Vec::new() } else { std::mem::take(&mut state.waiting) }
        };
        for wake in waiting {
            wake();
        }
    }

    fn fetch(&self) -> Result<Arc<KeySet>, String> {
        let settings = &self.settings;
        let body = self.get(&settings.metadata)?;
        let metadata = document::metadata(&body, &settings.metadata, settings.allow_insecure)?;
        let (keys, skipped) = document::keys(&self.get(&metadata.jwks_uri)?)?;
        let mut issuers = vec![metadata.issuer];
        if let Some(address) = &settings.metadata_v1 {
            match self.get(address).map(|body| document::issuer(&body)) {
                Ok(Some(issuer)) => issuers.push(issuer),
                // Tokens of version 2 do not need it, and the next fetch may have it.
                Ok(None) | Err(_) => log::info!("no issuer of version 1 tokens at {}", address.origin),
            }
        }
        issuers.dedup();
        if keys.is_empty() {
            return Err(format!("{} holds no usable key", metadata.jwks_uri.origin));
        }
        Ok(Arc::new(KeySet::new(keys, issuers, skipped, self.clock.unix())))
    }

    /// One retry after what passes: protocol page, section 6.1.
    fn get(&self, url: &Url) -> Result<Vec<u8>, String> {
        let request = || OutRequest {
            upstream: Upstream::Metadata,
            method: "GET".to_owned(),
            url: url.to_string(),
            headers: vec![("accept".to_owned(), String::from("application/json").into())],
            body: None,
            timeout: self.settings.timeout,
            max_body: MAX_BYTES,
        };
        let mut answer = self.exchange.send(request());
        if let Ok(response) = &answer
            && matches!(response.status, 408 | 503)
        {
            answer = self.exchange.send(request());
        }
        match answer {
            Ok(response) if response.status == 200 => Ok(response.body),
            Ok(response) => Err(format!("{} answered {}", url.origin, response.status)),
            Err(error) => Err(error.to_string()),
        }
    }
}
