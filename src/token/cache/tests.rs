use super::super::error::{TokenError, Unavailable};
use super::super::key::KeyBuilder;
use super::*;
use crate::clock::ManualClock;

const NOW: u64 = 1_000_000;

/// A clock that stands at this moment.
fn at(unix: u64) -> ManualClock {
    let clock = ManualClock::at(NOW);
    clock.advance(Duration::from_secs(unix - NOW));
    clock
}

fn token(text: &str, expires_at: u64, refresh_at: Option<u64>) -> Arc<AccessToken> {
    Arc::new(AccessToken::new(format!("Bearer {text}"), expires_at, refresh_at))
}

fn key(name: &str) -> CacheKey {
    CacheKey { request: KeyBuilder::new("test").text(name).finish(), user: None }
}

fn no_wake() -> Wake {
    Box::new(|| {})
}

fn look(cache: &Arc<Cache>, now: u64, mode: Mode) -> Lookup {
    cache.look_up(&key("k"), &at(now), mode, no_wake)
}

fn lead(cache: &Arc<Cache>, now: u64, mode: Mode) -> Lead {
    match look(cache, now, mode) {
        Lookup::Lead(lead) => lead,
        other => panic!("expected to lead, got {other:?}"),
    }
}

fn refused() -> Error {
    Error::Refused(Arc::new(TokenError { code: "invalid_grant".into(), ..TokenError::default() }))
}

fn throttled(retry_after: Option<u64>) -> Error {
    Error::Unavailable(Arc::new(Unavailable { cause: "down".into(), retry_after }))
}

const FORCE: Mode = Mode { force: true, anew: false, claims: None };
const CLAIMS: Mode = Mode { force: false, anew: false, claims: Some([1; 32]) };

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
    lead.complete(&at(NOW), Ok(token("t", NOW + 3600, None))).unwrap();
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
        lead(&cache, NOW, Mode::default()).complete(&at(NOW), Ok(token("old", NOW + 3600, None))).unwrap();
        lead(&cache, NOW, mode).complete(&at(NOW), Ok(token("new", NOW + 3600, None))).unwrap();
        let Lookup::Hit(found) = look(&cache, NOW, Mode::default()) else { panic!("expected a hit") };
        assert_eq!(found.token(), "new");
    }
}

#[test]
fn a_refusal_is_remembered_for_five_seconds_unless_forced() {
    let cache = Cache::new(10, 10_000);
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Err(refused())).unwrap_err();
    assert!(matches!(look(&cache, NOW + 4, Mode::default()), Lookup::Blocked(Error::Refused(_))));
    drop(lead(&cache, NOW + 4, FORCE));
    drop(lead(&cache, NOW + 5, Mode::default()));
}

#[test]
fn the_memory_of_a_refusal_lasts_to_the_millisecond() {
    let (cache, clock) = (Cache::new(10, 10_000), at(NOW));
    let look = || cache.look_up(&key("k"), &clock, Mode::default(), no_wake);
    clock.advance(Duration::from_millis(900));
    let Lookup::Lead(lead) = look() else { panic!("expected to lead") };
    lead.complete(&clock, Err(refused())).unwrap_err();
    clock.advance(Duration::from_millis(4999));
    assert!(matches!(look(), Lookup::Blocked(_)));
    clock.advance(Duration::from_millis(1));
    assert!(matches!(look(), Lookup::Lead(_)));
}

#[test]
fn a_reload_forgets_refusals_but_not_throttling() {
    let cache = Cache::new(10, 10_000);
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Err(refused())).unwrap_err();
    cache.forget_refusals();
    let under_way = lead(&cache, NOW, Mode::default());
    cache.forget_refusals();
    under_way.complete(&at(NOW), Err(refused())).unwrap_err();
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Err(throttled(Some(7)))).unwrap_err();
    cache.forget_refusals();
    assert!(matches!(look(&cache, NOW, Mode::default()), Lookup::Blocked(Error::Unavailable(_))));
}

#[test]
fn refused_claims_do_not_block_the_ordinary_token() {
    let cache = Cache::new(10, 10_000);
    lead(&cache, NOW, CLAIMS).complete(&at(NOW), Err(refused())).unwrap_err();
    drop(lead(&cache, NOW, Mode::default()));
}

#[test]
fn refused_claims_do_not_erase_an_earlier_refusal() {
    let cache = Cache::new(10, 10_000);
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Err(refused())).unwrap_err();
    lead(&cache, NOW + 1, CLAIMS).complete(&at(NOW + 1), Err(refused())).unwrap_err();
    assert!(matches!(look(&cache, NOW + 4, Mode::default()), Lookup::Blocked(Error::Refused(_))));
}

#[test]
fn a_forced_request_skips_pauses_the_service_did_not_ask_for() {
    let cache = Cache::new(10, 10_000);
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Ok(token("t", NOW + 3600, None))).unwrap();
    lead(&cache, NOW, FORCE).complete(&at(NOW), Err(throttled(None))).unwrap_err();
    for mode in [FORCE, CLAIMS] {
        drop(lead(&cache, NOW, mode));
    }
}

#[test]
fn a_throttle_holds_for_everyone_until_it_ends() {
    let cache = Cache::new(10, 10_000);
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Err(throttled(Some(7)))).unwrap_err();
    for mode in [Mode::default(), FORCE, CLAIMS] {
        assert!(matches!(look(&cache, NOW + 6, mode), Lookup::Blocked(Error::Unavailable(_))));
    }
    drop(lead(&cache, NOW + 7, Mode::default()));
}

#[test]
fn an_outage_without_advice_is_not_remembered() {
    let cache = Cache::new(10, 10_000);
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Err(throttled(None))).unwrap_err();
    drop(lead(&cache, NOW, Mode::default()));
}

#[test]
fn an_expiring_token_is_served_while_renewal_fails() {
    let cache = Cache::new(10, 10_000);
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Ok(token("old", NOW + 200, None))).unwrap();
    let served = lead(&cache, NOW + 1, Mode::default()).complete(&at(NOW + 1), Err(throttled(None))).unwrap();
    assert_eq!(served.token(), "old");
    assert!(matches!(look(&cache, NOW + 2, Mode::default()), Lookup::Hit(_)), "not every caller tries again");
    lead(&cache, NOW + 150, FORCE).complete(&at(NOW + 150), Err(throttled(None))).unwrap_err();
    lead(&cache, NOW + 200, Mode::default()).complete(&at(NOW + 200), Err(throttled(None))).unwrap_err();
}

#[test]
fn a_token_in_its_last_minutes_does_not_hide_a_refusal() {
    let cache = Cache::new(10, 10_000);
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Ok(token("old", NOW + 200, None))).unwrap();
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Err(refused())).unwrap_err();
    assert!(matches!(look(&cache, NOW + 1, Mode::default()), Lookup::Blocked(Error::Refused(_))));
}

#[test]
fn a_session_that_starts_anew_reads_refusals_but_no_token() {
    let anew = Mode { anew: true, ..Mode::default() };
    let cache = Cache::new(10, 10_000);
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Ok(token("old", NOW + 3600, None))).unwrap();
    lead(&cache, NOW, anew).complete(&at(NOW), Err(refused())).unwrap_err();
    assert!(matches!(look(&cache, NOW + 1, anew), Lookup::Blocked(Error::Refused(_))));
    assert!(matches!(look(&cache, NOW + 1, Mode::default()), Lookup::Hit(_)));
}

#[test]
fn a_refused_renewal_does_not_take_the_token_away() {
    let cache = Cache::new(10, 10_000);
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Ok(token("t", NOW + 3600, Some(NOW + 10)))).unwrap();
    let Lookup::HitAndRefresh(_, renewal) = look(&cache, NOW + 10, Mode::default()) else { panic!("due") };
    assert!(matches!(look(&cache, NOW + 10, Mode::default()), Lookup::Hit(_)), "only one renews");
    renewal.complete(&at(NOW + 10), Err(refused())).unwrap_err();
    assert!(matches!(look(&cache, NOW + 11, Mode::default()), Lookup::Hit(_)));
}

#[test]
fn a_leader_that_gives_up_leaves_the_lead_to_the_next() {
    let cache = Cache::new(10, 10_000);
    let given_up = lead(&cache, NOW, Mode::default());
    let Lookup::Follow(flight, true) = look(&cache, NOW, Mode::default()) else { panic!("it follows") };
    drop(given_up);
    assert!(matches!(flight.outcome(), Some(Err(Error::Abandoned))));
    assert!(matches!(look(&cache, NOW, Mode::default()), Lookup::Lead(_)));
}

#[test]
fn a_refusal_weighs_what_it_holds_and_leaves_with_its_time() {
    let cache = Cache::new(10, 10_000);
    let refusal = TokenError { description: "d".repeat(3000), ..TokenError::default() };
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Err(Error::Refused(Arc::new(refusal)))).unwrap_err();
    let held = |now: u64| {
        let figures = cache.figures(&at(now));
        (figures.entries, figures.bytes > 3000)
    };
    assert_eq!(held(NOW + 4), (1, true));
    assert_eq!(held(NOW + 5), (0, false));
    // The entry stays with its token, and weighs no more than that.
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Ok(token("t", NOW + 3600, Some(NOW)))).unwrap();
    let light = cache.figures(&at(NOW)).bytes;
    let Lookup::HitAndRefresh(_, renewal) = look(&cache, NOW, Mode::default()) else { panic!("due") };
    renewal.complete(&at(NOW), Err(refused())).unwrap_err();
    assert!(cache.figures(&at(NOW)).bytes > light);
    assert_eq!(cache.figures(&at(NOW + 5)).bytes, light);
    assert_eq!(cache.figures(&at(NOW + 3600)).bytes, 0);
}

#[test]
fn what_is_over_leaves_although_nobody_asks_for_it() {
    let cache = Cache::new(10, 10_000);
    for name in ["a", "b", "c"] {
        let Lookup::Lead(lead) = cache.look_up(&key(name), &at(NOW), Mode::default(), no_wake) else { panic!("leads") };
        lead.complete(&at(NOW), Err(refused())).unwrap_err();
    }
    drop(lead(&cache, NOW + 10, Mode::default()));
    assert!(cache.state.lock().entries.len() == 0);
}

/// A clock whose calendar was set back by an hour.
struct SetBack(ManualClock);

impl Clock for SetBack {
    fn unix(&self) -> u64 {
        self.0.unix() - 3600
    }

    fn instant(&self) -> Instant {
        self.0.instant()
    }

    fn sleep(&self, duration: Duration) {
        self.0.sleep(duration);
    }
}

#[test]
fn a_token_ends_with_its_time_where_the_calendar_is_set_back() {
    let cache = Cache::new(10, 10_000);
    lead(&cache, NOW, Mode::default()).complete(&at(NOW), Ok(token("t", NOW + 3600, None))).unwrap();
    let look = |now: u64| cache.look_up(&key("k"), &SetBack(at(now)), Mode::default(), no_wake);
    assert!(matches!(look(NOW + 3299), Lookup::Hit(_)));
    assert!(matches!(look(NOW + 3300), Lookup::Lead(_)));
}
