//! A model check of single flight and the queue for upstream calls: a few callers, every order of
//! their steps, and every way in which a request, a wait and a caller can end.
//!
//! Each step is one operation under one lock, of the cache or of the turns, so all orders are
//! covered. Cache, flights, tickets and turns are the real ones. The steps of the HTTP server
//! (`http::driver`, `http::table`) are reimplemented here.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::Ticket;
use super::super::error::{TokenError, Unavailable};
use super::super::key::{CacheKey, KeyBuilder};
use super::*;
use crate::clock::ManualClock;
use crate::turns::{self, Bounds, Lane, Place, Requested, Turn, Turns};

const PLAIN: Mode = Mode { force: false, anew: false, claims: None };
const CLAIMS: Mode = Mode { force: false, anew: false, claims: Some([1; 32]) };
const FORCE: Mode = Mode { force: true, anew: false, claims: None };

/// Events that must occur, or the check would prove nothing.
const LATE_TURN: &str = "a turn came for somebody who waits no more";
const LEADER_LATE: &str = "somebody was told that the leader's turn did not come";

/// One upstream call at a time, in any lane.
const BOUNDS: Bounds = Bounds { calls: 1, decryptions: 1 };

enum Stage {
    Asks,
    /// Leads, and has not requested a turn yet.
    Chosen(Lead),
    /// Leads, and waits for a turn.
    Queued(Lead, Place),
    Leads(Lead, Turn),
    /// Has an answer and still holds its turn, as another running call would.
    Holds(Turn),
    /// The turn did not come in time, which has not been noticed yet.
    Late(Lead),
    /// The caller is gone, and one of the two with it.
    Gone(Option<Lead>, Option<Place>),
    Waits(Ticket),
    Done,
}

/// The outcome of a leader's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Token,
    Outage,
    Refusal,
    /// A bug in the program.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The only step possible in this stage.
    Next,
    /// A thread takes up a granted turn.
    Turn,
    Ends(End),
    /// `QueueTimeout` has passed.
    Late,
    /// The caller is gone and leaves the queue first, as when it closes its connection.
    PlaceLeft,
    /// The caller is gone and drops the lead first, as when the whole connection is dropped.
    LeadLeft,
}

struct Caller {
    key: &'static str,
    mode: Mode,
    stage: Stage,
    woken: Arc<AtomicBool>,
    /// Granted, but not taken up.
    turn: Arc<Mutex<Option<Turn>>>,
    /// The number of completed requests when it came.
    came: Option<usize>,
}

/// The initial state.
struct Scene {
    callers: &'static [(&'static str, Mode)],
    ends: &'static [End],
    /// How a waiter may leave without a turn.
    leaves: &'static [Event],
    /// True if the turn is taken at first.
    taken: bool,
}

struct World {
    scene: &'static Scene,
    cache: Arc<Cache>,
    turns: Arc<Turns>,
    clock: ManualClock,
    callers: Vec<Caller>,
    /// Callers granted a turn since the last look.
    granted: Arc<Mutex<Vec<usize>>>,
    /// Callers waiting for a turn, in order of arrival.
    line: VecDeque<usize>,
    /// Completed requests, and the keys that have a token since.
    ended: usize,
    known: Vec<&'static str>,
    /// Events that occurred.
    seen: Vec<&'static str>,
}

impl World {
    fn new(scene: &'static Scene) -> Self {
        let turns = Turns::new(BOUNDS);
        let caller =
            |key, mode, stage| Caller { key, mode, stage, woken: Arc::default(), turn: Arc::default(), came: None };
        let mut callers: Vec<_> = scene.callers.iter().map(|(key, mode)| caller(*key, *mode, Stage::Asks)).collect();
        if scene.taken {
            let Requested::Granted(turn) = turns.request(&lane("elsewhere"), drop) else { panic!("all are free") };
            callers.push(caller("elsewhere", PLAIN, Stage::Holds(turn)));
        }
        Self {
            scene,
            cache: Cache::new(10, 10_000),
            turns,
            clock: ManualClock::at(1_000),
            callers,
            granted: Arc::default(),
            line: VecDeque::new(),
            ended: 0,
            known: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// All possible next steps.
    fn choices(&self) -> Vec<(usize, Event)> {
        let mut choices = Vec::new();
        for (who, caller) in self.callers.iter().enumerate() {
            let mut can = |event| choices.push((who, event));
            if caller.turn.lock().is_some() {
                can(Event::Turn);
            }
            match &caller.stage {
                Stage::Queued(..) => self.scene.leaves.iter().for_each(|event| can(*event)),
                Stage::Leads(..) => self.scene.ends.iter().for_each(|end| can(Event::Ends(*end))),
                Stage::Waits(_) if !caller.woken.load(Ordering::SeqCst) => {}
                Stage::Done => {}
                _ => can(Event::Next),
            }
        }
        // Progress must not depend on a timeout.
        let goes_on = choices.iter().any(|(_, event)| matches!(event, Event::Next | Event::Turn | Event::Ends(_)));
        let done = self.callers.iter().all(|caller| matches!(caller.stage, Stage::Done));
        assert!(goes_on || done, "somebody waits and nobody comes");
        choices
    }

    /// The shared state that a step touches: a key in the cache, and the turns.
    fn touches(&self, (who, event): (usize, Event)) -> (Option<&'static str>, bool) {
        let caller = &self.callers[who];
        let (cache, turns) = match (&caller.stage, event) {
            (Stage::Leads(..), Event::Ends(End::Lost)) => (true, true),
            (
                Stage::Asks | Stage::Late(_) | Stage::Gone(Some(_), _) | Stage::Leads(..),
                Event::Next | Event::Ends(_),
            )
            | (Stage::Queued(..), Event::LeadLeft) => (true, false),
            // The place no longer exists, and everything else belongs to the caller.
            (Stage::Queued(..), Event::Turn) | (Stage::Waits(_), Event::Next) => (false, false),
            _ => (false, true),
        };
        (cache.then_some(caller.key), turns)
    }

    /// True if two steps have the same result in either order.
    fn commute(&self, one: (usize, Event), other: (usize, Event)) -> bool {
        let ((key, turns), (other_key, other_turns)) = (self.touches(one), self.touches(other));
        one.0 != other.0 && (key.is_none() || key != other_key) && !(turns && other_turns)
    }

    fn step(&mut self, (who, event): (usize, Event)) {
        let stage = std::mem::replace(&mut self.callers[who].stage, Stage::Done);
        let next = match (stage, event) {
            (Stage::Asks, Event::Next) => self.look_up(who),
            (Stage::Waits(ticket), Event::Next) => match ticket.outcome() {
                Some(outcome) => {
                    if let Err(Error::Busy) = outcome {
                        self.seen.push(LEADER_LATE);
                    }
                    self.answered(who, &outcome)
                }
                None => Stage::Asks,
            },
            (Stage::Chosen(lead), Event::Next) => self.request_turn(who, lead),
            (stage, Event::Turn) => {
                let turn = self.callers[who].turn.lock().take().unwrap();
                match stage {
                    Stage::Queued(lead, place) => {
                        drop(place);
                        Stage::Leads(lead, turn)
                    }
                    stage => {
                        self.seen.push(LATE_TURN);
                        drop(turn);
                        stage
                    }
                }
            }
            (Stage::Queued(lead, place), Event::Late) => {
                self.leave(who, place);
                Stage::Late(lead)
            }
            (Stage::Late(lead), Event::Next) => {
                let outcome = lead.complete(&self.clock, Err(Error::Busy));
                assert!(matches!(outcome, Err(Error::Busy)), "{outcome:?}");
                self.answered(who, &outcome)
            }
            (Stage::Queued(lead, place), Event::PlaceLeft) => {
                self.leave(who, place);
                Stage::Gone(Some(lead), None)
            }
            (Stage::Queued(lead, place), Event::LeadLeft) => {
                drop(lead);
                Stage::Gone(None, Some(place))
            }
            (Stage::Gone(lead, place), Event::Next) => {
                drop(lead);
                if let Some(place) = place {
                    self.leave(who, place);
                }
                Stage::Done
            }
            (Stage::Leads(lead, turn), Event::Ends(end)) => self.end(who, lead, turn, end),
            (Stage::Holds(turn), Event::Next) => {
                drop(turn);
                Stage::Done
            }
            (_, event) => panic!("{event:?} cannot happen now"),
        };
        self.callers[who].stage = next;
        self.check();
    }

    fn look_up(&mut self, who: usize) -> Stage {
        let caller = &mut self.callers[who];
        let mode = caller.mode;
        caller.came.get_or_insert(self.ended);
        caller.woken.store(false, Ordering::SeqCst);
        let woken = Arc::clone(&caller.woken);
        let wake = move || -> Wake { Box::new(move || woken.store(true, Ordering::SeqCst)) };
        let key = CacheKey { request: KeyBuilder::new(caller.key).finish(), user: None };
        match self.cache.look_up(&key, &self.clock, mode, wake) {
            Lookup::Lead(lead) => {
                assert!(mode != PLAIN || !self.known.contains(&caller.key), "asks for what is there");
                Stage::Chosen(lead)
            }
            Lookup::Follow(flight, shared) => Stage::Waits(Ticket { flight, shared }),
            Lookup::Hit(token) => self.answered(who, &Ok(token)),
            Lookup::Blocked(error) => self.answered(who, &Err(error)),
            other @ Lookup::HitAndRefresh(..) => panic!("{other:?}"),
        }
    }

    fn request_turn(&mut self, who: usize, lead: Lead) -> Stage {
        let caller = &self.callers[who];
        let (turn, granted) = (Arc::clone(&caller.turn), Arc::clone(&self.granted));
        let grant = move |came| {
            granted.lock().push(who);
            assert!(turn.lock().replace(came).is_none(), "two turns for one");
        };
        match self.turns.request(&lane(caller.key), grant) {
            Requested::Granted(turn) => {
                assert!(self.line.is_empty(), "others came before");
                Stage::Leads(lead, turn)
            }
            Requested::Queued(place) => {
                self.line.push_back(who);
                Stage::Queued(lead, place)
            }
        }
    }

    fn leave(&mut self, who: usize, place: Place) {
        drop(place);
        self.line.retain(|other| *other != who);
    }

    fn end(&mut self, who: usize, lead: Lead, turn: Turn, end: End) -> Stage {
        let caller = &self.callers[who];
        self.ended += 1;
        let outcome = match end {
            End::Token => {
                self.known.push(caller.key);
                // The token records its claims and time of arrival.
                let claims = if caller.mode.claims.is_some() { "claims" } else { "plain" };
                let header = format!("Bearer {} {claims} {}", caller.key, self.ended);
                Ok(Arc::new(AccessToken::new(header, 5_000, None)))
            }
            End::Outage => Err(Error::Unavailable(Arc::new(Unavailable { cause: "down".into(), retry_after: None }))),
            End::Refusal => Err(Error::Refused(Arc::new(TokenError::default()))),
            End::Lost => {
                let work = || {
                    let _lead = lead;
                    resume_unwind(Box::new("as asked"))
                };
                let lost = catch_unwind(AssertUnwindSafe(|| turns::with_turn(turn, Duration::ZERO, work)));
                assert!(lost.is_err());
                return Stage::Done;
            }
        };
        let outcome = lead.complete(&self.clock, outcome);
        self.answered(who, &outcome);
        Stage::Holds(turn)
    }

    fn answered(&self, who: usize, outcome: &Result<Arc<AccessToken>, Error>) -> Stage {
        let caller = &self.callers[who];
        match outcome {
            Ok(token) => {
                let parts: Vec<_> = token.token().split(' ').collect();
                assert_eq!(parts[0], caller.key, "somebody else's token");
                assert!(caller.mode.claims.is_none() || parts[1] == "claims", "claims were asked for");
                let new = parts[2].parse::<usize>().unwrap() > caller.came.unwrap();
                assert!(caller.mode == PLAIN || new, "a new token was asked for");
            }
            Err(error) => assert!(!matches!(error, Error::Abandoned), "nobody asked for this caller"),
        }
        Stage::Done
    }

    /// Invariants after every step.
    fn check(&mut self) {
        for who in std::mem::take(&mut *self.granted.lock()) {
            assert_eq!(self.line.pop_front(), Some(who), "out of order");
        }
        for key in ["a", "b"] {
            let leads = |stage: &Stage| match stage {
                Stage::Chosen(_) | Stage::Queued(..) | Stage::Leads(..) | Stage::Late(_) => true,
                Stage::Gone(lead, _) => lead.is_some(),
                _ => false,
            };
            let leaders = self.callers.iter().filter(|caller| caller.key == key && leads(&caller.stage)).count();
            assert!(leaders <= 1, "two requests for one key");
        }
        let holds = |caller: &Caller| {
            let working = matches!(caller.stage, Stage::Leads(..) | Stage::Holds(_));
            usize::from(working) + usize::from(caller.turn.lock().is_some())
        };
        let held: usize = self.callers.iter().map(holds).sum();
        assert_eq!(self.turns.figures(), (held, self.line.len()), "turns and places are those of callers");
        assert!(held <= BOUNDS.calls, "more turns than there are");
        assert!(self.line.is_empty() || held == BOUNDS.calls, "somebody waits for a turn that is free");
    }

    /// Invariants at the end.
    fn check_end(self) -> Vec<&'static str> {
        assert_eq!(self.turns.figures(), (0, 0));
        assert_eq!(Arc::strong_count(&self.turns), 1, "a turn or a place is left");
        assert!(self.cache.state.lock().flights.is_empty(), "a request that nobody makes");
        self.seen
    }
}

fn lane(name: &str) -> Lane {
    Lane::Origin(name.into())
}

/// Explores all orders, and returns the number of ends and how often each event occurred.
///
/// Of steps that commute, only one order is tried: a step tried first "sleeps" until a dependent
/// one happens. Every state is still reached.
fn explore(scene: &'static Scene) -> (usize, BTreeMap<&'static str, usize>) {
    let (mut ends, mut seen) = (0, BTreeMap::new());
    // For each step, the choice taken and the number of choices.
    let mut path: Vec<(usize, usize)> = Vec::new();
    loop {
        let (mut world, mut asleep) = (World::new(scene), Vec::new());
        for depth in 0.. {
            let choices = world.choices();
            assert!(depth < 100, "round in circles");
            if choices.is_empty() {
                ends += 1;
                world.check_end().into_iter().for_each(|what| *seen.entry(what).or_default() += 1);
                break;
            }
            let awake: Vec<_> = choices.into_iter().filter(|choice| !asleep.contains(choice)).collect();
            if awake.is_empty() {
                break;
            }
            if depth == path.len() {
                path.push((0, awake.len()));
            }
            let taken = path[depth].0;
            asleep.extend(&awake[..taken]);
            asleep.retain(|other| world.commute(*other, awake[taken]));
            world.step(awake[taken]);
        }
        while path.pop_if(|(taken, of)| *taken + 1 == *of).is_some() {}
        match path.last_mut() {
            Some((taken, _)) => *taken += 1,
            None => return (ends, seen),
        }
    }
}

const ALL_ENDS: &[End] = &[End::Token, End::Outage, End::Refusal, End::Lost];
const ALL_LEAVES: &[Event] = &[Event::Late, Event::PlaceLeft, Event::LeadLeft];
const LATE: &[Event] = &[Event::Late];

/// Explores several scenes, and sums their results.
fn explore_all(scenes: &'static [Scene]) -> (usize, BTreeMap<&'static str, usize>) {
    let (mut ends, mut seen) = (0, BTreeMap::new());
    for scene in scenes {
        let (more, what) = explore(scene);
        ends += more;
        for (what, times) in what {
            *seen.entry(what).or_default() += times;
        }
    }
    (ends, seen)
}

#[test]
fn two_callers_wait_for_a_turn_in_every_way() {
    const fn scene(callers: &'static [(&'static str, Mode)]) -> Scene {
        Scene { callers, ends: ALL_ENDS, leaves: ALL_LEAVES, taken: true }
    }
    static SCENES: &[Scene] = &[
        scene(&[("a", PLAIN), ("a", PLAIN)]),
        scene(&[("a", PLAIN), ("a", CLAIMS)]),
        scene(&[("a", PLAIN), ("a", FORCE)]),
        scene(&[("a", FORCE), ("a", CLAIMS)]),
    ];
    let (ends, seen) = explore_all(SCENES);
    assert!(ends > 4_000, "{ends}");
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), [LATE_TURN, LEADER_LATE]);
}

#[test]
fn one_caller_asks_and_every_caller_is_answered() {
    static SCENES: &[Scene] = &[
        Scene { callers: &[("a", PLAIN); 3], ends: ALL_ENDS, leaves: ALL_LEAVES, taken: false },
        Scene { callers: &[("a", PLAIN), ("a", PLAIN), ("a", CLAIMS)], ends: ALL_ENDS, leaves: LATE, taken: false },
        Scene { callers: &[("a", PLAIN), ("a", CLAIMS), ("a", CLAIMS)], ends: ALL_ENDS, leaves: LATE, taken: false },
        Scene { callers: &[("a", PLAIN), ("a", FORCE), ("a", CLAIMS)], ends: ALL_ENDS, leaves: LATE, taken: false },
    ];
    let (ends, _) = explore_all(SCENES);
    assert!(ends > 10_000, "{ends}");
}

#[test]
fn three_callers_get_turns_in_order_and_leave_none() {
    const fn scene(callers: &'static [(&'static str, Mode)], leaves: &'static [Event]) -> Scene {
        Scene { callers, ends: &[End::Token], leaves, taken: true }
    }
    const ONE_KEY: &[(&str, Mode)] = &[("a", PLAIN), ("a", PLAIN), ("a", PLAIN)];
    const MODES: &[(&str, Mode)] = &[("a", PLAIN), ("a", FORCE), ("a", CLAIMS)];
    const TWO_KEYS: &[(&str, Mode)] = &[("a", PLAIN), ("a", PLAIN), ("b", PLAIN)];
    static SCENES: &[Scene] = &[
        scene(ONE_KEY, LATE),
        scene(ONE_KEY, &[Event::PlaceLeft]),
        scene(MODES, LATE),
        scene(MODES, &[Event::PlaceLeft]),
        scene(TWO_KEYS, LATE),
        scene(TWO_KEYS, &[Event::PlaceLeft]),
        // By far the most orders: a leaver that drops the lead first stays in the queue while the
        // next caller leads.
        scene(TWO_KEYS, &[Event::LeadLeft]),
    ];
    let (ends, seen) = explore_all(SCENES);
    assert!(ends > 20_000, "{ends}");
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), [LATE_TURN, LEADER_LATE]);
}
