//! The token cache: one mutex, held for look-ups and inserts only. One request per key is under way at
//! a time; whoever else wants the key's token subscribes to that [`Flight`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Error;
use super::flight::{Flight, Wake};
use super::key::CacheKey;
use crate::lru::Lru;
use crate::secret::Secret;

/// A token is not served during its last five minutes (contract, section 6), so that it does not expire
/// on its way; while the token service is down it is.
pub const EXPIRY_MARGIN: u64 = 300;

/// How long a permanent refusal is remembered, in seconds.
const REFUSAL_MEMORY: u64 = 5;

/// The longest `Retry-After` that is believed, in seconds: protocol page, section 8.2.
const MAX_THROTTLE: u64 = 3600;

/// How long a token in its last minutes is served without another attempt after one failed, in seconds.
const STALE_PAUSE: u64 = 5;

/// What an entry weighs beside its token: keys, links, counters.
const ENTRY_OVERHEAD: usize = 256;

/// A token as it is handed out.
#[derive(Debug)]
pub struct AccessToken {
    /// The whole header value: `Bearer <token>` or `PoP <token>`.
    pub header: Secret<String>,
    /// Unix seconds.
    pub expires_at: u64,
    /// Unix seconds from which it is renewed in the background.
    pub refresh_at: Option<u64>,
}

impl AccessToken {
    /// The value of an `Authorization` header.
    pub fn authorization(&self) -> &str {
        self.header.expose()
    }

    /// The token without its scheme.
    pub fn token(&self) -> &str {
        self.authorization().split_once(' ').map_or("", |(_, token)| token)
    }
}

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
    /// The caller would have to make the request, but may not.
    NoPermit,
}

/// The duty to end a flight. Dropped without [`Lead::land`], it ends as abandoned.
#[derive(Debug)]
pub struct Lead {
    key: CacheKey,
    mode: Mode,
    flight: Arc<Flight>,
    cache: Arc<Cache>,
    landed: bool,
}

impl Lead {
    /// The cached token that does not meet the claims which are asked for: it was found revoked.
    pub fn revoked(&self) -> Option<Arc<AccessToken>> {
        self.mode.claims?;
        self.cache.lock().entries.get(&self.key)?.token.clone()
    }

    /// Ends the flight: stores what is to be stored and wakes everyone. Returns what the caller answers,
    /// which is the old token where a new one could not be had for a passing reason.
    pub fn land(mut self, now: u64, outcome: Result<Arc<AccessToken>, Error>) -> Result<Arc<AccessToken>, Error> {
        self.landed = true;
        let outcome = self.cache.store(&self, now, outcome);
        self.flight.finish(outcome.clone());
        outcome
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.landed {
            self.cache.lock().flights.remove(&self.key);
            self.flight.finish(Err(Error::Abandoned));
        }
    }
}

#[derive(Debug, Default)]
struct Entry {
    token: Option<Arc<AccessToken>>,
    /// Until when no attempt is made, and what callers without a usable token are told.
    blocked: Option<Block>,
}

#[derive(Debug)]
struct Block {
    until: u64,
    error: Error,
}

impl Block {
    /// A refusal is skipped by a caller who forces; a throttle is not his to skip.
    const fn holds(&self, now: u64, mode: Mode) -> bool {
        now < self.until && (mode.reads() || matches!(self.error, Error::Unavailable(_)))
    }
}

#[derive(Debug)]
struct State {
    entries: Lru<CacheKey, Entry>,
    flights: HashMap<CacheKey, Arc<Flight>>,
    evicted: u64,
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
            state: Mutex::new(State { entries: Lru::new(entries, bytes), flights: HashMap::new(), evicted: 0 }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock can only come from a failed allocation; the maps are whole in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one decision about a key. `permit` is asked before a lead is given, `wake` before following.
    pub fn look_up(
        self: &Arc<Self>,
        key: &CacheKey,
        now: u64,
        mode: Mode,
        permit: impl FnOnce() -> bool,
        wake: impl FnOnce() -> Wake,
    ) -> Lookup {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut expiring = None;
        if let Some(entry) = state.entries.get(key) {
            if let Some(token) = entry.token.as_ref().filter(|_| mode.reads()) {
                match freshness(now, token.expires_at, token.refresh_at) {
                    Freshness::Fresh => return Lookup::Hit(Arc::clone(token)),
                    Freshness::RefreshDue => {
                        let token = Arc::clone(token);
                        let waits = entry.blocked.as_ref().is_some_and(|block| now < block.until);
                        if waits || state.flights.contains_key(key) {
                            return Lookup::Hit(token);
                        }
                        return Lookup::HitAndRefresh(token, self.lead(state, key, mode));
                    }
                    Freshness::Expiring => expiring = Some(Arc::clone(token)),
                    Freshness::Expired => {}
                }
            }
            if let Some(block) = entry.blocked.as_ref().filter(|block| block.holds(now, mode)) {
                return expiring.map_or_else(|| Lookup::Blocked(block.error.clone()), Lookup::Hit);
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
        if !permit() {
            return Lookup::NoPermit;
        }
        Lookup::Lead(self.lead(state, key, mode))
    }

    fn lead(self: &Arc<Self>, state: &mut State, key: &CacheKey, mode: Mode) -> Lead {
        let flight = Arc::new(Flight::new(mode.claims));
        state.flights.insert(*key, Arc::clone(&flight));
        Lead { key: *key, mode, flight, cache: Arc::clone(self), landed: false }
    }

    fn store(
        &self,
        lead: &Lead,
        now: u64,
        outcome: Result<Arc<AccessToken>, Error>,
    ) -> Result<Arc<AccessToken>, Error> {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.flights.remove(&lead.key);
        let (entry, outcome) = match outcome {
            Ok(token) => {
                if freshness(now, token.expires_at, None) == Freshness::Expired {
                    return Ok(token);
                }
                (Entry { token: Some(Arc::clone(&token)), blocked: None }, Ok(token))
            }
            Err(error) => {
                let old = state.entries.remove(&lead.key).unwrap_or_default();
                let token = old.token.filter(|token| freshness(now, token.expires_at, None) != Freshness::Expired);
                let blocked = block(&error, lead.mode, now, token.is_some());
                let answer = match (&error, &token) {
                    (Error::Unavailable(_), Some(token)) if lead.mode.reads() => Ok(Arc::clone(token)),
                    _ => Err(error),
                };
                if token.is_none() && blocked.is_none() {
                    return answer;
                }
                (Entry { token, blocked }, answer)
            }
        };
        let weight = ENTRY_OVERHEAD + entry.token.as_ref().map_or(0, |token| token.header.expose().len());
        let evicted = state.entries.insert(lead.key, entry, weight);
        state.evicted += evicted as u64;
        outcome
    }

    /// What it holds.
    pub fn figures(&self) -> CacheFigures {
        let state = self.lock();
        CacheFigures { entries: state.entries.len(), bytes: state.entries.weight(), evicted: state.evicted }
    }

    /// Forgets everything; flights under way go on.
    pub fn clear(&self) {
        self.lock().entries.clear();
    }
}

/// What is remembered of a failure.
fn block(error: &Error, mode: Mode, now: u64, has_token: bool) -> Option<Block> {
    let seconds = match error {
        // A refusal of certain claims says nothing about the key's ordinary token.
        Error::Refused(_) if mode.claims.is_none() => REFUSAL_MEMORY,
        Error::Unavailable(unavailable) => match unavailable.retry_after {
            Some(seconds) => seconds.min(MAX_THROTTLE),
            None if has_token => STALE_PAUSE,
            None => return None,
        },
        _ => return None,
    };
    Some(Block { until: now + seconds, error: error.clone() })
}

#[cfg(test)]
mod tests {
    use super::super::error::{OAuthRefusal, Unavailable};
    use super::super::key::KeyBuilder;
    use super::*;

    const NOW: u64 = 1_000_000;

    fn token(text: &str, expires_at: u64, refresh_at: Option<u64>) -> Arc<AccessToken> {
        Arc::new(AccessToken { header: Secret::new(format!("Bearer {text}")), expires_at, refresh_at })
    }

    fn key(name: &str) -> CacheKey {
        KeyBuilder::new("test").text(name).finish()
    }

    fn no_wake() -> Wake {
        Box::new(|| {})
    }

    fn look(cache: &Arc<Cache>, now: u64, mode: Mode) -> Lookup {
        cache.look_up(&key("k"), now, mode, || true, no_wake)
    }

    fn lead(cache: &Arc<Cache>, now: u64, mode: Mode) -> Lead {
        match look(cache, now, mode) {
            Lookup::Lead(lead) => lead,
            other => panic!("expected to lead, got {other:?}"),
        }
    }

    fn refused() -> Error {
        Error::Refused(Arc::new(OAuthRefusal { code: "invalid_grant".into(), ..OAuthRefusal::default() }))
    }

    fn throttled(retry_after: Option<u64>) -> Error {
        Error::Unavailable(Arc::new(Unavailable { cause: "down".into(), retry_after }))
    }

    const FORCE: Mode = Mode { force: true, claims: None };
    const CLAIMS: Mode = Mode { force: false, claims: Some([1; 32]) };

    #[test]
    fn freshness_turns_exactly_at_its_limits() {
        for (now, expected) in [
            (NOW, Freshness::Fresh),
            (NOW + 1799, Freshness::Fresh),
            (NOW + 1800, Freshness::RefreshDue),
            (NOW + 3299, Freshness::RefreshDue),
            (NOW + 3300, Freshness::Expiring),
            (NOW + 3599, Freshness::Expiring),
            (NOW + 3600, Freshness::Expired),
        ] {
            assert_eq!(freshness(now, NOW + 3600, Some(NOW + 1800)), expected, "{}", now - NOW);
        }
    }

    #[test]
    fn one_leads_and_the_others_share_the_outcome() {
        let cache = Cache::new(10, 10_000);
        let lead = lead(&cache, NOW, Mode::default());
        let Lookup::Follow(flight, true) = look(&cache, NOW, Mode::default()) else { panic!("expected to follow") };
        assert!(flight.outcome().is_none());
        lead.land(NOW, Ok(token("t", NOW + 3600, None))).unwrap();
        assert_eq!(flight.outcome().unwrap().unwrap().token(), "t");
        assert!(matches!(look(&cache, NOW, Mode::default()), Lookup::Hit(_)));
    }

    #[test]
    fn other_claims_wait_but_do_not_share() {
        let cache = Cache::new(10, 10_000);
        let _lead = lead(&cache, NOW, CLAIMS);
        assert!(matches!(look(&cache, NOW, Mode::default()), Lookup::Follow(_, false)));
        assert!(matches!(look(&cache, NOW, CLAIMS), Lookup::Follow(_, true)));
    }

    #[test]
    fn a_lost_leader_does_not_leave_the_others_waiting() {
        let cache = Cache::new(10, 10_000);
        let lead = lead(&cache, NOW, Mode::default());
        let Lookup::Follow(flight, _) = look(&cache, NOW, Mode::default()) else { panic!("expected to follow") };
        drop(lead);
        assert!(matches!(flight.outcome(), Some(Err(Error::Abandoned))));
        assert!(matches!(look(&cache, NOW, Mode::default()), Lookup::Lead(_)));
    }

    #[test]
    fn force_and_claims_skip_the_read_and_replace_the_entry() {
        for mode in [FORCE, CLAIMS] {
            let cache = Cache::new(10, 10_000);
            lead(&cache, NOW, Mode::default()).land(NOW, Ok(token("old", NOW + 3600, None))).unwrap();
            lead(&cache, NOW, mode).land(NOW, Ok(token("new", NOW + 3600, None))).unwrap();
            let Lookup::Hit(found) = look(&cache, NOW, Mode::default()) else { panic!("expected a hit") };
            assert_eq!(found.token(), "new");
        }
    }

    #[test]
    fn a_refusal_is_remembered_for_five_seconds_and_skipped_by_force() {
        let cache = Cache::new(10, 10_000);
        lead(&cache, NOW, Mode::default()).land(NOW, Err(refused())).unwrap_err();
        assert!(matches!(look(&cache, NOW + 4, Mode::default()), Lookup::Blocked(Error::Refused(_))));
        drop(lead(&cache, NOW + 4, FORCE));
        drop(lead(&cache, NOW + 5, Mode::default()));
    }

    #[test]
    fn a_refusal_of_claims_is_not_remembered_against_the_ordinary_token() {
        let cache = Cache::new(10, 10_000);
        lead(&cache, NOW, CLAIMS).land(NOW, Err(refused())).unwrap_err();
        drop(lead(&cache, NOW, Mode::default()));
    }

    #[test]
    fn a_throttle_holds_for_everyone_until_it_ends() {
        let cache = Cache::new(10, 10_000);
        lead(&cache, NOW, Mode::default()).land(NOW, Err(throttled(Some(7)))).unwrap_err();
        for mode in [Mode::default(), FORCE, CLAIMS] {
            assert!(matches!(look(&cache, NOW + 6, mode), Lookup::Blocked(Error::Unavailable(_))));
        }
        drop(lead(&cache, NOW + 7, Mode::default()));
    }

    #[test]
    fn an_outage_without_advice_is_not_remembered() {
        let cache = Cache::new(10, 10_000);
        lead(&cache, NOW, Mode::default()).land(NOW, Err(throttled(None))).unwrap_err();
        drop(lead(&cache, NOW, Mode::default()));
    }

    #[test]
    fn a_token_in_its_last_minutes_is_served_while_no_other_can_be_had() {
        let cache = Cache::new(10, 10_000);
        lead(&cache, NOW, Mode::default()).land(NOW, Ok(token("old", NOW + 200, None))).unwrap();
        let served = lead(&cache, NOW + 1, Mode::default()).land(NOW + 1, Err(throttled(None))).unwrap();
        assert_eq!(served.token(), "old");
        assert!(matches!(look(&cache, NOW + 2, Mode::default()), Lookup::Hit(_)), "not every caller tries again");
        lead(&cache, NOW + 150, FORCE).land(NOW + 150, Err(throttled(None))).unwrap_err();
        lead(&cache, NOW + 200, Mode::default()).land(NOW + 200, Err(throttled(None))).unwrap_err();
    }

    #[test]
    fn a_refused_renewal_does_not_take_the_token_away() {
        let cache = Cache::new(10, 10_000);
        lead(&cache, NOW, Mode::default()).land(NOW, Ok(token("t", NOW + 3600, Some(NOW + 10)))).unwrap();
        let Lookup::HitAndRefresh(_, renewal) = look(&cache, NOW + 10, Mode::default()) else { panic!("due") };
        assert!(matches!(look(&cache, NOW + 10, Mode::default()), Lookup::Hit(_)), "only one renews");
        renewal.land(NOW + 10, Err(refused())).unwrap_err();
        assert!(matches!(look(&cache, NOW + 11, Mode::default()), Lookup::Hit(_)));
    }

    #[test]
    fn without_a_permit_nobody_leads_but_hits_and_followers_are_served() {
        let cache = Cache::new(10, 10_000);
        let none = |name: &str| cache.look_up(&key(name), NOW, Mode::default(), || false, no_wake);
        assert!(matches!(none("k"), Lookup::NoPermit));
        let lead = lead(&cache, NOW, Mode::default());
        assert!(matches!(none("k"), Lookup::Follow(_, true)));
        lead.land(NOW, Ok(token("t", NOW + 3600, None))).unwrap();
        assert!(matches!(none("k"), Lookup::Hit(_)));
    }
}
