//! The token cache: one mutex, held only for lookups and inserts. Each key has at most one request
//! in flight; other callers subscribe to its [`Flight`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::access_token::AccessToken;
use super::error::Error;
use super::flight::{Flight, Wake};
use super::key::CacheKey;
use crate::clock::Clock;
use crate::lru::Lru;
use crate::sync::Mutex;

/// Seconds before expiry in which a token is not served, so that it does not expire on its way.
/// While the token service is down, it is served until it expires.
pub const EXPIRY_MARGIN: u64 = 300;

/// How long a permanent refusal is remembered.
const REFUSAL_MEMORY: Duration = Duration::from_secs(5);

/// After a failed renewal, how long a token in its last minutes is served without another attempt.
const STALE_PAUSE: Duration = Duration::from_secs(5);

/// Interval for dropping expired entries that no caller asks for.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// The weight of an entry apart from its token and error: keys, links, counters.
const ENTRY_OVERHEAD: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    Fresh,
    /// Served, and renewed in the background.
    RefreshDue,
    /// In its last minutes: served only if there is no other.
    Expiring,
    Expired,
}

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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Skip the cached token and the remembered refusals.
    pub force: bool,
    /// Skip only the cached token.
    pub anew: bool,
    /// The hash of the claims that the token must meet; implies `force`.
    pub claims: Option<[u8; 32]>,
}

impl Mode {
    const fn reads(self) -> bool {
        !self.force && self.claims.is_none()
    }
}

#[derive(Debug)]
pub enum Lookup {
    Hit(Arc<AccessToken>),
    /// The caller also leads the token's renewal.
    HitAndRefresh(Arc<AccessToken>, Lead),
    /// Refused a moment ago, or throttled until later.
    Blocked(Error),
    /// Another caller's request is in flight, and this caller will be woken. If `shared` is false,
    /// that request has other claims, so the caller must look up again.
    Follow(Arc<Flight>, bool),
    Lead(Lead),
}

/// The obligation to complete a flight. If it is dropped without [`Lead::complete`], the flight
/// ends as abandoned, and the next caller leads.
#[derive(Debug)]
pub struct Lead {
    key: CacheKey,
    mode: Mode,
    generation: u64,
    flight: Arc<Flight>,
    cache: Arc<Cache>,
    completed: bool,
    /// The part of the time for the shared cache that the request has used already.
    pub spent: Duration,
}

impl Lead {
    pub(super) const fn key(&self) -> &CacheKey {
        &self.key
    }

    /// The token in memory, which is too old or not wanted.
    pub(super) fn held(&self) -> Option<Arc<AccessToken>> {
        self.cache.state.lock().entries.get(&self.key)?.token.as_ref().map(|held| Arc::clone(&held.token))
    }

    /// The cached token that was found revoked: it does not meet the requested claims.
    pub fn revoked(&self) -> Option<Arc<AccessToken>> {
        self.mode.claims?;
        self.held()
    }

    /// Completes the flight: stores the outcome and wakes all followers. Returns the caller's
    /// result, which is the old token if the failure is transient.
    pub fn complete(
        mut self,
        clock: &dyn Clock,
        outcome: Result<Arc<AccessToken>, Error>,
    ) -> Result<Arc<AccessToken>, Error> {
        self.completed = true;
        let outcome = self.cache.store(&self, clock, outcome);
        self.flight.finish(outcome.clone());
        outcome
    }
}

/// For what other replicas know.
#[cfg(feature = "shared-cache")]
impl Lead {
    /// True if a token that is known already would do.
    pub(super) const fn reads(&self) -> bool {
        self.mode.reads()
    }

    pub(super) const fn starts(&self) -> bool {
        self.mode.anew
    }

    /// Keeps a token in its last minutes, in case that there will be no other.
    pub(super) fn offer(&self, token: &Arc<AccessToken>, clock: &dyn Clock) {
        let mut state = self.cache.state.lock();
        let mut entry = state.entries.remove(&self.key).unwrap_or_default();
        entry.token = Some(CachedToken::new(token, clock));
        state.keep(self.key, entry, clock);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.completed {
            self.cache.state.lock().flights.remove(&self.key);
            // Followers make their own request, unless this one hit a bug.
            self.flight.finish(Err(if std::thread::panicking() { Error::Defect } else { Error::Abandoned }));
        }
    }
}

#[derive(Debug, Default)]
struct Entry {
    token: Option<CachedToken>,
    /// Suppresses attempts, and holds the error for callers without a usable token.
    blocked: Option<Block>,
}

impl Entry {
    /// Drops what has expired, and returns the weight of the rest; `None` if nothing is left.
    fn tidy(&mut self, clock: &dyn Clock) -> Option<usize> {
        self.token.take_if(|held| held.freshness(clock) == Freshness::Expired);
        self.blocked.take_if(|block| block.until <= clock.instant());
        let token = self.token.as_ref().map(|held| held.token.authorization().len());
        let refusal = self.blocked.as_ref().map(|block| block.error.weight());
        (token.is_some() || refusal.is_some())
            .then(|| ENTRY_OVERHEAD + token.unwrap_or_default() + refusal.unwrap_or_default())
    }
}

/// A token and its time of arrival, by calendar and by monotonic clock.
#[derive(Debug)]
struct CachedToken {
    token: Arc<AccessToken>,
    came: (u64, Instant),
}

impl CachedToken {
    fn new(token: &Arc<AccessToken>, clock: &dyn Clock) -> Self {
        Self { token: Arc::clone(token), came: (clock.unix(), clock.instant()) }
    }

    /// Uses the later of both clocks: if the calendar was ahead on arrival and was corrected since,
    /// it would serve the token for too long.
    fn freshness(&self, clock: &dyn Clock) -> Freshness {
        self.freshness_at(clock.instant(), clock)
    }

    fn freshness_at(&self, now: Instant, clock: &dyn Clock) -> Freshness {
        let (unix, instant) = self.came;
        let passed = now.saturating_duration_since(instant).as_secs();
        freshness(clock.unix().max(unix.saturating_add(passed)), self.token.expires_at, self.token.refresh_at)
    }
}

#[derive(Clone, Debug)]
struct Block {
    until: Instant,
    error: Error,
    reason: BlockReason,
    /// The configuration that made the request.
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockReason {
    Refused,
    Throttled,
    /// A recent attempt failed, and there is a usable token.
    Paused,
}

impl Block {
    /// A forced request skips what is remembered, except throttling. A refusal ends with the
    /// configuration that was refused.
    fn holds(&self, clock: &dyn Clock, mode: Mode, generation: u64) -> bool {
        let counts = match self.reason {
            BlockReason::Refused => mode.reads() && self.generation == generation,
            BlockReason::Paused => mode.reads(),
            BlockReason::Throttled => true,
        };
        counts && clock.instant() < self.until
    }
}

#[derive(Debug)]
struct CacheState {
    entries: Lru<CacheKey, Entry>,
    flights: HashMap<CacheKey, Arc<Flight>>,
    evicted: u64,
    generation: u64,
    tidied: Option<Instant>,
}

impl CacheState {
    fn keep(&mut self, key: CacheKey, mut entry: Entry, clock: &dyn Clock) {
        if let Some(weight) = entry.tidy(clock) {
            self.evicted += self.entries.insert(key, entry, weight) as u64;
        }
    }

    fn tidy(&mut self, clock: &dyn Clock) {
        self.tidied = Some(clock.instant());
        self.entries.weigh(|entry| entry.tidy(clock));
    }

    fn tidy_now_and_then(&mut self, now: Instant, clock: &dyn Clock) {
        let due = |last: Instant| now.saturating_duration_since(last) >= TIDY_EVERY;
        if self.tidied.is_none_or(due) {
            self.tidy(clock);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheFigures {
    pub entries: usize,
    pub bytes: usize,
    pub evicted: u64,
}

#[derive(Debug)]
pub struct Cache {
    state: Mutex<CacheState>,
}

impl Cache {
    pub fn new(entries: usize, bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(CacheState {
                entries: Lru::new(entries, bytes),
                flights: HashMap::new(),
                evicted: 0,
                generation: 0,
                tidied: None,
            }),
        })
    }

    /// The single decision point for a key. `wake` is called only before following.
    pub fn look_up(
        self: &Arc<Self>,
        key: &CacheKey,
        clock: &dyn Clock,
        mode: Mode,
        wake: impl FnOnce() -> Wake,
    ) -> Lookup {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = clock.instant();
        state.tidy_now_and_then(now, clock);
        let mut expiring = None;
        if let Some(entry) = state.entries.get(key) {
            if let Some(held) = entry.token.as_ref().filter(|_| mode.reads() && !mode.anew) {
                let token = &held.token;
                match held.freshness_at(now, clock) {
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
                // A token in its last minutes is for outages; a refusal is a definite answer.
                return match expiring.filter(|_| block.reason != BlockReason::Refused) {
                    Some(token) => Lookup::Hit(token),
                    None => Lookup::Blocked(block.error.clone()),
                };
            }
        }
        if let Some(flight) = state.flights.get(key) {
            let shared = flight.claims() == mode.claims;
            let flight = Arc::clone(flight);
            // While the lock is held, the flight cannot be removed, and a completed flight is
            // removed first, so the subscription is never late.
            flight.subscribe(wake());
            return Lookup::Follow(flight, shared);
        }
        Lookup::Lead(self.lead(state, key, mode))
    }

    fn lead(self: &Arc<Self>, state: &mut CacheState, key: &CacheKey, mode: Mode) -> Lead {
        let flight = Arc::new(Flight::new(mode.claims));
        state.flights.insert(*key, Arc::clone(&flight));
        let (key, generation, cache) = (*key, state.generation, Arc::clone(self));
        Lead { key, mode, generation, flight, cache, completed: false, spent: Duration::ZERO }
    }

    fn store(
        &self,
        lead: &Lead,
        clock: &dyn Clock,
        outcome: Result<Arc<AccessToken>, Error>,
    ) -> Result<Arc<AccessToken>, Error> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.flights.remove(&lead.key);
        let (entry, outcome) = match outcome {
            Ok(token) => {
                let held = CachedToken::new(&token, clock);
                if held.freshness(clock) == Freshness::Expired {
                    return Ok(token);
                }
                (Entry { token: Some(held), blocked: None }, Ok(token))
            }
            Err(error) => {
                let old = state.entries.remove(&lead.key).unwrap_or_default();
                let token = old.token.filter(|held| held.freshness(clock) != Freshness::Expired);
                // Keep an earlier block if this failure says nothing about it.
                let blocked = block(&error, lead, clock, token.is_some())
                    .or(old.blocked.filter(|block| block.holds(clock, Mode::default(), state.generation)));
                let answer = match (&error, &token) {
                    (Error::Unavailable(_), Some(held)) if lead.mode.reads() => Ok(Arc::clone(&held.token)),
                    _ => Err(error),
                };
                (Entry { token, blocked }, answer)
            }
        };
        state.keep(lead.key, entry, clock);
        outcome
    }

    pub fn figures(&self, clock: &dyn Clock) -> CacheFigures {
        let mut state = self.state.lock();
        state.tidy(clock);
        CacheFigures { entries: state.entries.len(), bytes: state.entries.weight(), evicted: state.evicted }
    }

    /// Forgets all refusals, including those of requests in flight, since the new configuration may
    /// fix the cause.
    pub fn forget_refusals(&self) {
        self.state.lock().generation += 1;
    }
}

fn block(error: &Error, lead: &Lead, clock: &dyn Clock, has_token: bool) -> Option<Block> {
    let (reason, pause) = match error {
        // A refusal of specific claims says nothing about the key's ordinary token.
        Error::Refused(_) if lead.mode.claims.is_none() => (BlockReason::Refused, REFUSAL_MEMORY),
        Error::Unavailable(unavailable) => match unavailable.retry_after {
            Some(seconds) => (BlockReason::Throttled, Duration::from_secs(seconds)),
            None if has_token => (BlockReason::Paused, STALE_PAUSE),
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
