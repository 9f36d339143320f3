//! The token cache: one mutex, held for look-ups and inserts only. One request per key is under way at
//! a time; whoever else wants the key's token subscribes to that [`Flight`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::access_token::AccessToken;
use super::error::Error;
use super::flight::{Flight, Wake};
use super::key::CacheKey;
use crate::clock::Clock;
use crate::lru::Lru;

/// A token is not served during its last five minutes, so that it does not expire
/// on its way; while the token service is down it is.
pub const EXPIRY_MARGIN: u64 = 300;

/// How long a permanent refusal is remembered.
const REFUSAL_MEMORY: Duration = Duration::from_secs(5);

/// How long a token in its last minutes is served without another attempt after one failed.
const STALE_PAUSE: Duration = Duration::from_secs(5);

/// How often what is over is looked for, so that it leaves although nobody asks for it.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// What an entry weighs beside its token and what is remembered: keys, links, counters.
const ENTRY_OVERHEAD: usize = 256;

/// How far a token's life has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// To be served.
    Fresh,
    /// To be served, and renewed meanwhile.
    RefreshDue,
    /// In its last minutes: served only while no other can be had.
    Expiring,
    /// Over.
    Expired,
}

/// The pure rule of expiry.
pub const fn freshness(now: u64, expires_at: u64, refresh_at: Option<u64>) -> Freshness {
    if now >= expires_at {
        return Freshness::Expired;
    }
    if now + EXPIRY_MARGIN >= expires_at {
        return Freshness::Expiring;
    }
    match refresh_at {
        Some(at) if now >= at => Freshness::RefreshDue,
        _ => Freshness::Fresh,
    }
}

/// How a caller wants to be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Skip the cached token and the memory of refusals.
    pub force: bool,
    /// Skip the cached token alone.
    pub anew: bool,
    /// The hash of the claims that the token must meet; implies `force`.
    pub claims: Option<[u8; 32]>,
}

impl Mode {
    const fn reads(self) -> bool {
        !self.force && self.claims.is_none()
    }
}

/// What a look-up found.
#[derive(Debug)]
pub enum Lookup {
    /// A token to be served.
    Hit(Arc<AccessToken>),
    /// A token to be served; the caller was given the lead of its renewal.
    HitAndRefresh(Arc<AccessToken>, Lead),
    /// Remembered: refused a moment ago, or throttled until later.
    Blocked(Error),
    /// Somebody's request is under way; the caller will be woken. `shared` tells whether its outcome is
    /// the caller's too, or the caller has to look again (it wanted other claims).
    Follow(Arc<Flight>, bool),
    /// The caller makes the request.
    Lead(Lead),
}

/// The duty to end a flight. Dropped without [`Lead::land`], it ends as abandoned, and the next caller leads.
#[derive(Debug)]
pub struct Lead {
    key: CacheKey,
    mode: Mode,
    generation: u64,
    flight: Arc<Flight>,
    cache: Arc<Cache>,
    landed: bool,
}

impl Lead {
    /// The cached token that does not meet the claims which are asked for: it was found revoked.
    pub fn revoked(&self) -> Option<Arc<AccessToken>> {
        self.mode.claims?;
        self.cache.lock().entries.get(&self.key)?.token.as_ref().map(|held| Arc::clone(&held.token))
    }

    /// Ends the flight: stores what is to be stored and wakes everyone. Returns what the caller answers,
    /// which is the old token where a new one could not be had for a passing reason.
    pub fn land(
        mut self,
        clock: &dyn Clock,
        outcome: Result<Arc<AccessToken>, Error>,
    ) -> Result<Arc<AccessToken>, Error> {
        self.landed = true;
        let outcome = self.cache.store(&self, clock, outcome);
        self.flight.finish(outcome.clone());
        outcome
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.landed {
            self.cache.lock().flights.remove(&self.key);
            // Those who wait ask for themselves, but not for a request that met a defect.
            self.flight.finish(Err(if std::thread::panicking() { Error::Defect } else { Error::Abandoned }));
        }
    }
}

#[derive(Debug, Default)]
struct Entry {
    token: Option<Held>,
    /// Until when no attempt is made, and what callers without a usable token are told.
    blocked: Option<Block>,
}

impl Entry {
    /// Forgets what is over; what the rest weighs, where there is any.
    fn tidy(&mut self, clock: &dyn Clock) -> Option<usize> {
        self.token.take_if(|held| held.freshness(clock) == Freshness::Expired);
        self.blocked.take_if(|block| block.until <= clock.instant());
        let token = self.token.as_ref().map(|held| held.token.header.expose().len());
        let refusal = self.blocked.as_ref().map(|block| block.error.weight());
        (token.is_some() || refusal.is_some())
            .then(|| ENTRY_OVERHEAD + token.unwrap_or_default() + refusal.unwrap_or_default())
    }
}

/// A token and when it came, by the calendar and by the clock that nobody sets.
#[derive(Debug)]
struct Held {
    token: Arc<AccessToken>,
    came: (u64, Instant),
}

impl Held {
    fn new(token: &Arc<AccessToken>, clock: &dyn Clock) -> Self {
        Self { token: Arc::clone(token), came: (clock.unix(), clock.instant()) }
    }

    /// By whichever of the two is further: a calendar that was ahead when the token came and was set right since would
    /// serve it for too long.
    fn freshness(&self, clock: &dyn Clock) -> Freshness {
        let (unix, instant) = self.came;
        let passed = clock.instant().saturating_duration_since(instant).as_secs();
        freshness(clock.unix().max(unix.saturating_add(passed)), self.token.expires_at, self.token.refresh_at)
    }
}

#[derive(Clone, Debug)]
struct Block {
    until: Instant,
    error: Error,
    reason: Reason,
    /// Of the configuration that the request was made with.
    generation: u64,
}

/// Why no attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// The token service refused.
    Refused,
    /// It said when to come back.
    Throttled,
    /// It failed a moment ago, and there is a token that will do.
    Paused,
}

impl Block {
    /// Who forces skips what is remembered, and a refusal is forgotten with the configuration that was refused; a
    /// throttle is nobody's to skip.
    fn holds(&self, clock: &dyn Clock, mode: Mode, generation: u64) -> bool {
        let counts = match self.reason {
            Reason::Refused => mode.reads() && self.generation == generation,
            Reason::Paused => mode.reads(),
            Reason::Throttled => true,
        };
        counts && clock.instant() < self.until
    }
}

#[derive(Debug)]
struct State {
    entries: Lru<CacheKey, Entry>,
    flights: HashMap<CacheKey, Arc<Flight>>,
    evicted: u64,
    generation: u64,
    tidied: Option<Instant>,
}

impl State {
    fn tidy(&mut self, clock: &dyn Clock) {
        self.tidied = Some(clock.instant());
        self.entries.weigh(|entry| entry.tidy(clock));
    }

    fn tidy_now_and_then(&mut self, clock: &dyn Clock) {
        let due = |last: Instant| clock.instant().saturating_duration_since(last) >= TIDY_EVERY;
        if self.tidied.is_none_or(due) {
            self.tidy(clock);
        }
    }
}

/// Figures for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheFigures {
    /// Entries held.
    pub entries: usize,
    /// Bytes held.
    pub bytes: usize,
    /// Entries that had to leave since the start.
    pub evicted: u64,
}

/// The cache.
#[derive(Debug)]
pub struct Cache {
    state: Mutex<State>,
}

impl Cache {
    /// With its bounds.
    pub fn new(entries: usize, bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                entries: Lru::new(entries, bytes),
                flights: HashMap::new(),
                evicted: 0,
                generation: 0,
                tidied: None,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock can only come from a failed allocation; the maps are whole in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one decision about a key. `wake` is made before following.
    pub fn look_up(
        self: &Arc<Self>,
        key: &CacheKey,
        clock: &dyn Clock,
        mode: Mode,
        wake: impl FnOnce() -> Wake,
    ) -> Lookup {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.tidy_now_and_then(clock);
        let mut expiring = None;
        if let Some(entry) = state.entries.get(key) {
            if let Some(held) = entry.token.as_ref().filter(|_| mode.reads() && !mode.anew) {
                let token = &held.token;
                match held.freshness(clock) {
                    Freshness::Fresh => return Lookup::Hit(Arc::clone(token)),
                    Freshness::RefreshDue => {
                        let token = Arc::clone(token);
                        let waits =
                            entry.blocked.as_ref().is_some_and(|block| block.holds(clock, mode, state.generation));
                        if waits || state.flights.contains_key(key) {
                            return Lookup::Hit(token);
                        }
                        return Lookup::HitAndRefresh(token, self.lead(state, key, mode));
                    }
                    Freshness::Expiring => expiring = Some(Arc::clone(token)),
                    Freshness::Expired => {}
                }
            }
            if let Some(block) = entry.blocked.as_ref().filter(|block| block.holds(clock, mode, state.generation)) {
                // A token in its last minutes is for an outage; a refusal is an answer.
                return match expiring.filter(|_| block.reason != Reason::Refused) {
                    Some(token) => Lookup::Hit(token),
                    None => Lookup::Blocked(block.error.clone()),
                };
            }
        }
        if let Some(flight) = state.flights.get(key) {
            let shared = flight.claims() == mode.claims;
            let flight = Arc::clone(flight);
            // Under the lock the flight cannot have been removed, and a finished one is removed first:
            // the subscription is always in time.
            flight.subscribe(wake());
            return Lookup::Follow(flight, shared);
        }
        Lookup::Lead(self.lead(state, key, mode))
    }

    fn lead(self: &Arc<Self>, state: &mut State, key: &CacheKey, mode: Mode) -> Lead {
        let flight = Arc::new(Flight::new(mode.claims));
        state.flights.insert(*key, Arc::clone(&flight));
        Lead { key: *key, mode, generation: state.generation, flight, cache: Arc::clone(self), landed: false }
    }

    fn store(
        &self,
        lead: &Lead,
        clock: &dyn Clock,
        outcome: Result<Arc<AccessToken>, Error>,
    ) -> Result<Arc<AccessToken>, Error> {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.flights.remove(&lead.key);
        let (mut entry, outcome) = match outcome {
            Ok(token) => {
                let held = Held::new(&token, clock);
                if held.freshness(clock) == Freshness::Expired {
                    return Ok(token);
                }
                (Entry { token: Some(held), blocked: None }, Ok(token))
            }
            Err(error) => {
                let old = state.entries.remove(&lead.key).unwrap_or_default();
                let token = old.token.filter(|held| held.freshness(clock) != Freshness::Expired);
                // What was remembered before stays so where this failure says nothing about it.
                let blocked = block(&error, lead, clock, token.is_some())
                    .or(old.blocked.filter(|block| block.holds(clock, Mode::default(), state.generation)));
                let answer = match (&error, &token) {
                    (Error::Unavailable(_), Some(held)) if lead.mode.reads() => Ok(Arc::clone(&held.token)),
                    _ => Err(error),
                };
                (Entry { token, blocked }, answer)
            }
        };
        if let Some(weight) = entry.tidy(clock) {
            state.evicted += state.entries.insert(lead.key, entry, weight) as u64;
        }
        outcome
    }

    /// What it holds.
    pub fn figures(&self, clock: &dyn Clock) -> CacheFigures {
        let mut state = self.lock();
        state.tidy(clock);
        CacheFigures { entries: state.entries.len(), bytes: state.entries.weight(), evicted: state.evicted }
    }

    /// Forgets every refusal, also of the requests under way: what was refused may be configured otherwise now.
    pub fn forget_refusals(&self) {
        self.lock().generation += 1;
    }
}

/// What is remembered of a failure.
fn block(error: &Error, lead: &Lead, clock: &dyn Clock, has_token: bool) -> Option<Block> {
    let (reason, pause) = match error {
        // A refusal of certain claims says nothing about the key's ordinary token.
        Error::Refused(_) if lead.mode.claims.is_none() => (Reason::Refused, REFUSAL_MEMORY),
        Error::Unavailable(unavailable) => match unavailable.retry_after {
            Some(seconds) => (Reason::Throttled, Duration::from_secs(seconds)),
            None if has_token => (Reason::Paused, STALE_PAUSE),
            None => return None,
        },
        _ => return None,
    };
    Some(Block { until: clock.instant() + pause, error: error.clone(), reason, generation: lead.generation })
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
